//! `popgate check --retention`: what `retain_days` would remove now.

use std::io::{self, Write};

use super::{super::day, Failure, explain, tokens};
use crate::{
    accounts::{Account, Accounts},
    config::{Config, OnDelete, Policy, Retention},
    maildrop::{Due, Maildrops},
    state,
};

/// Lists by login what would go; removes nothing. Fails where state or an upstream can't be asked.
pub(super) async fn run(config: &Config, out: &mut impl Write) -> Result<(), Failure> {
    let Some(dir) = &config.state.dir else {
        return Err(Failure::wrong(
            "[state] has no `dir`: what was retrieved when is known to the running gateway only, until it ends",
        ));
    };
    let state = state::reach(dir).map_err(Failure::failed)?;
    let tokens = tokens::of(config, state.clone())?;
    let maildrops = Maildrops::new(config, state, tokens.clone()).map_err(Failure::wrong)?;
    let mut failures = 0;
    let accounts = Accounts::new(config).map_err(Failure::failed)?;
    for account in accounts.known() {
        if !matches!(account.policy.retention, Retention::Days(_)) {
            continue;
        }
        match maildrops.due(&account).await {
            Ok(due) => tell(&account, &due, out)?,
            Err(error) => {
                failures += 1;
                error.log();
                let outcome = explain(error.refusal(), &account.upstream, Some(&account));
                writeln!(out, "{}: {outcome}", account.login)?;
            }
        }
    }
    let forwards = |policy: &Policy| matches!(policy.retention, Retention::Days(_));
    for upstream in config.upstreams.iter().filter(|upstream| forwards(&upstream.maildrop)) {
        if !upstream.logins.is_empty() {
            let logins = upstream.logins.join(", ");
            writeln!(
                out,
                "{logins}: not known here, as each brings its own password; its next login tells"
            )?;
        }
    }
    maildrops.finish().await;
    tokens.finish().await;
    match failures {
        0 => Ok(()),
        _ => Err(Failure::failed("not every account could be asked, see above")),
    }
}

fn tell(account: &Account, due: &[Due], out: &mut impl Write) -> io::Result<()> {
    let login = &account.login;
    if due.iter().all(|due| due.messages.is_empty()) {
        return writeln!(out, "{login}: nothing would go now");
    }
    let how = match &account.policy.on_delete {
        OnDelete::Expunge => "expunge".to_owned(),
        OnDelete::Trash => "to Trash".to_owned(),
        OnDelete::MoveTo(folder) => format!("to {folder}"),
        OnDelete::Hide => "hidden from this login".to_owned(),
    };
    for Due { folder, messages } in due.iter().filter(|due| !due.messages.is_empty()) {
        let count = match messages.len() {
            1 => "1 message".to_owned(),
            count => format!("{count} messages"),
        };
        writeln!(out, "{login}: {count} of {folder} would go now ({how})")?;
        for (uid, &at) in messages.iter() {
            writeln!(out, "  UID {uid}, retrieved on {}", day(at))?;
        }
    }
    Ok(())
}
