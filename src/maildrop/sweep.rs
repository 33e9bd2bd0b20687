//! The sweep: retention for logins whose device does not come back.

use super::{Error, Maildrops, Refusal, open::leave_all, retention};
use crate::{
    accounts::Account,
    config::Retention,
    state::{Mailboxes, Unavailable, now},
    types::{MailboxName, UidMap},
};

/// The messages of one folder whose `retain_days` are over for a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueMessages {
    /// The folder, as configured.
    pub folder: String,
    /// When each message was retrieved, in seconds since 1970.
    pub messages: UidMap<u32>,
}

impl Maildrops {
    /// Each login that has marks, with the mailbox that they are for.
    pub async fn marked(&self) -> Result<Vec<(String, MailboxName)>, Unavailable> {
        let all = self.shared.state.all_marks().await?;
        Ok(all.into_iter().map(|(login, mailbox, _)| (login, mailbox)).collect())
    }

    /// The messages that a login of `account` would remove now because of `retain_days`. Removes nothing.
    pub async fn due(&self, account: &Account) -> Result<Vec<DueMessages>, Error> {
        let mut folders = self.hold(account).await?;
        let mut all = Vec::new();
        let mut failed = None;
        for folder in &mut folders {
            match folder.read_marks().await {
                Ok(()) => all.push(DueMessages {
                    folder: folder.name().to_owned(),
                    messages: folder.due(now()),
                }),
                Err(error) => {
                    if let Some(earlier) = failed.replace(error) {
                        earlier.log();
                    }
                }
            }
        }
        leave_all(folders).await;
        failed.map_or(Ok(all), Err)
    }

    /// Removes the messages of `account` whose `retain_days` are over, as the account's next login would. Asks the
    /// upstream only if some may be due according to the marks in state. If a session has the maildrop open, does
    /// nothing: that session has done it at its login.
    pub async fn sweep(&self, account: &Account) -> Result<(), Error> {
        if !matches!(account.policy.retention, Retention::Days(_)) {
            return Ok(());
        }
        let now = now();
        for folder in &account.policy.folders {
            let name = account.mailbox(folder);
            let marks = self.shared.state.marks(&account.login, &name).await?;
            if !retention::may_be_due(&account.policy, &marks, now) {
                continue;
            }
            return match self.open(account).await {
                Ok(maildrop) => {
                    maildrop.abandon().await;
                    Ok(())
                }
                Err(error) if *error.refusal() == Refusal::InUse => Ok(()),
                Err(error) => Err(error),
            };
        }
        Ok(())
    }
}
