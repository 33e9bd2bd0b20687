//! `popgate check --retention`: what `retain_days` would remove now.

use std::{
    io::{self, Write},
    sync::Arc,
};

use super::{super::day, Failure};
use crate::{
    accounts::{Account, Accounts},
    config::{Config, OnDelete, Policy, Retention},
    maildrop::{DueMessages, Maildrops},
    oauth::Tokens,
    state::StateStore,
};

/// Lists for each login what `retain_days` would remove now, according to `state`; removes nothing. Returns whether
/// every account could be asked.
pub(super) async fn run(
    config: &Config,
    state: Arc<dyn StateStore>,
    tokens: Arc<Tokens>,
    out: &mut impl Write,
) -> Result<bool, Failure> {
    let maildrops = Maildrops::new(config, state, tokens).map_err(Failure::wrong)?;
    let mut all_asked = true;
    let accounts = Accounts::new(config).map_err(Failure::failed)?;
    for account in all(&accounts, &maildrops).await? {
        if !matches!(account.policy.retention, Retention::Days(_)) {
            continue;
        }
        match maildrops.due(&account).await {
            Ok(due) => report(&account, &due, out)?,
            Err(error) => {
                all_asked = false;
                writeln!(out, "{}: failed: {}", account.login, error.cause())?;
                if let Some(advice) = error.advice() {
                    writeln!(out, "  help: {advice}")?;
                }
            }
        }
    }
    let forwards = |policy: &Policy| matches!(policy.retention, Retention::Days(_));
    for upstream in config.upstreams.iter().filter(|upstream| forwards(&upstream.maildrop)) {
        if !upstream.logins.is_empty() {
            let logins = upstream.logins.join(", ");
            writeln!(
                out,
                "{logins}: not listed, as popgate does not keep their passwords; their next login removes what is due"
            )?;
        }
    }
    maildrops.finish().await;
    Ok(all_asked)
}

/// The accounts that the gateway can log in to by itself. A folder that a device has picked by `folder_separator` adds
/// the account with that folder.
async fn all(accounts: &Accounts, maildrops: &Maildrops) -> Result<Vec<Account>, Failure> {
    let mut all = accounts.known();
    for (login, mailbox) in maildrops.marked().await.map_err(Failure::failed)? {
        all.extend(accounts.stored(&login, &mailbox));
    }
    let whose = |account: &Account| (account.login.clone(), account.policy.folders.clone());
    all.sort_by_key(whose);
    all.dedup_by_key(|account| whose(account));
    Ok(all)
}

fn report(account: &Account, due: &[DueMessages], out: &mut impl Write) -> io::Result<()> {
    let login = &account.login;
    if due.iter().all(|due| due.messages.is_empty()) {
        let of = match &account.policy.folder_separator {
            Some(_) => format!(" of {}", account.policy.folders.join(" and ")),
            None => String::new(),
        };
        return writeln!(out, "{login}: nothing{of} would be removed now");
    }
    let how = match &account.policy.on_delete {
        OnDelete::Expunge => "expunge".to_owned(),
        OnDelete::Trash => "to Trash".to_owned(),
        OnDelete::MoveTo(folder) => format!("to {folder}"),
        OnDelete::Hide => "hidden from this login".to_owned(),
    };
    for DueMessages { folder, messages } in due.iter().filter(|due| !due.messages.is_empty()) {
        let count = match messages.len() {
            1 => "1 message".to_owned(),
            count => format!("{count} messages"),
        };
        writeln!(out, "{login}: {count} of {folder} would be removed now ({how})")?;
        for (uid, &at) in messages.iter() {
            writeln!(out, "  UID {uid}, retrieved on {}", day(at))?;
        }
    }
    Ok(())
}
