//! Retention: what a login retrieved more than `retain_days` ago goes by the delete policy, at its next login or by a sweep
//! for those that do not come back.

use super::{
    Error, Maildrops,
    open::{STATE, leave_all, name_of},
    selection::DAY,
    source::Source,
};
use crate::{
    accounts::Account,
    config::{Policy, Retention},
    state::{Index, MailboxName, Marks, Unavailable, now},
    types::Uid,
};

/// What is due in one folder of a login: UIDs, and when each was retrieved (seconds since 1970).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The folder.
    pub folder: String,
    /// Ascending by UID.
    pub messages: Vec<(u32, u32)>,
}

/// The messages of `index` that `marks` has had for longer than `policy` retains them.
fn due(policy: &Policy, marks: &Marks, index: &Index, now: u32) -> Vec<(u32, u32)> {
    let Retention::Days(days) = policy.retention else {
        return Vec::new();
    };
    let is_hidden = |uid| policy.hides() && marks.hidden.binary_search(uid).is_ok();
    let retrieved = marks.retrieved.iter();
    retrieved
        .filter(|(uid, at)| is_over(*at, days, now) && index.holds(*uid) && !is_hidden(uid))
        .copied()
        .collect()
}

/// Whether `days` have passed since `at`.
fn is_over(at: u32, days: u32, now: u32) -> bool {
    u64::from(at) + u64::from(days) * u64::from(DAY) <= u64::from(now)
}

impl Source {
    /// What is due now.
    fn due(&self, now: u32) -> Vec<(u32, u32)> {
        due(&self.account.policy, &self.marks, &self.view.index, now)
    }

    /// Removes what is due. A failure is no reason to refuse the login: it is tried again at the next.
    pub(super) async fn retire(&mut self, now: u32) {
        let due: Vec<Uid> = self.due(now).into_iter().map(|(uid, _)| Uid(uid)).collect();
        if due.is_empty() {
            return;
        }
        match self.delete(&due).await {
            Ok(refused) => tracing::info!(
                login = self.account.login,
                mailbox = %self.name,
                removed = due.len() - refused.len(),
                refused = refused.len(),
                "retain_days are over"
            ),
            Err(error) => tracing::warn!(login = self.account.login, mailbox = %self.name, %error, "retain_days"),
        }
    }

    /// Notes when the messages of this session were delivered; the first time counts.
    pub(super) fn marks_with_retrieved(&self, now: u32) -> Option<Marks> {
        if !matches!(self.account.policy.retention, Retention::Days(_)) || self.mailbox.selected().uid_not_sticky {
            return None;
        }
        let known = |uid: &u32| self.marks.retrieved.binary_search_by_key(uid, |&(uid, _)| uid).is_ok();
        let mut fresh: Vec<u32> = self
            .retrieved
            .iter()
            .map(|uid| uid.0)
            .filter(|uid| !known(uid))
            .collect();
        if fresh.is_empty() {
            return None;
        }
        fresh.sort_unstable();
        fresh.dedup();
        let mut marks = self.marks.clone();
        marks.retrieved.extend(fresh.into_iter().map(|uid| (uid, now)));
        marks.retrieved.sort_unstable();
        Some(marks)
    }
}

impl Maildrops {
    /// The logins that have marks, with the mailboxes they concern.
    pub async fn marked(&self) -> Result<Vec<(String, MailboxName)>, Unavailable> {
        let all = self.shared.state.all_marks().await?;
        Ok(all.into_iter().map(|(login, mailbox, _)| (login, mailbox)).collect())
    }

    /// What a login of `account` would remove now because of `retain_days`; removes nothing.
    pub async fn due(&self, account: &Account) -> Result<Vec<Due>, Error> {
        let mut sources = self.sources(account).await?;
        let mut all = Vec::new();
        let mut failed = None;
        for source in &mut sources {
            match source.load_marks().await {
                Ok(()) => all.push(Due {
                    folder: source.name.folder.clone(),
                    messages: source.due(now()),
                }),
                Err(error) => failed = Some(error),
            }
        }
        leave_all(sources).await;
        failed.map_or(Ok(all), Err)
    }

    /// Removes what is due of `account`, as its next login would; asks the upstream only where state says that something
    /// may be. A session that has the maildrop open will have done so itself.
    pub async fn sweep(&self, account: &Account) -> Result<(), Error> {
        let Retention::Days(days) = account.policy.retention else {
            return Ok(());
        };
        let now = now();
        for folder in &account.policy.folders {
            let name = name_of(account, folder);
            let marks = self.shared.state.marks(&account.login, &name).await;
            let marks = marks.map_err(|_| STATE)?;
            let is_hidden = |uid: &u32| account.policy.hides() && marks.hidden.binary_search(uid).is_ok();
            let is_due = |(uid, at): &(u32, u32)| is_over(*at, days, now) && !is_hidden(uid);
            if marks.retrieved.iter().any(is_due) {
                return match self.open(account).await {
                    Ok(maildrop) => {
                        maildrop.abandon().await;
                        Ok(())
                    }
                    Err(Error::InUse) => Ok(()),
                    Err(error) => Err(error),
                };
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, OnDelete};

    fn policy(days: u32) -> Policy {
        let text = format!(
            "[upstream.home]\nhost = \"imap.example.org\"\nlogins = [\"*\"]\n[upstream.home.maildrop]\nretain_days = {days}\n"
        );
        let config = Config::parse(&text, std::path::Path::new("")).unwrap();
        Policy::clone(&config.upstreams[0].maildrop)
    }

    fn index(uids: &[u32]) -> Index {
        let mut index = Index::default();
        for &uid in uids {
            index.push(uid, 10, None, None);
        }
        index
    }

    #[test]
    fn days_after_it_was_retrieved() {
        let marks = Marks {
            retrieved: vec![(1, 0), (2, 5 * DAY), (3, 5 * DAY + 1), (9, 0)],
            ..Marks::default()
        };
        let index = index(&[1, 2, 3, 4]);
        let due = |policy: &Policy, marks: &Marks, now| -> Vec<u32> {
            due(policy, marks, &index, now)
                .into_iter()
                .map(|(uid, _)| uid)
                .collect()
        };
        assert_eq!(
            due(&policy(14), &marks, 19 * DAY),
            [1, 2],
            "9 is gone, 4 was never retrieved"
        );
        assert_eq!(due(&policy(14), &marks, 14 * DAY - 1), [0; 0]);
        let mut hiding = policy(14);
        hiding.on_delete = OnDelete::Hide;
        let hidden = Marks {
            hidden: vec![1],
            ..marks.clone()
        };
        assert_eq!(due(&hiding, &hidden, 19 * DAY), [2]);
        assert_eq!(
            due(&policy(14), &hidden, 19 * DAY),
            [1, 2],
            "hidden once, by another policy"
        );
    }
}
