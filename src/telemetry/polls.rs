//! The last success and the last failure of each login, for the status page.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

/// The most logins that are remembered. A further login that succeeds replaces the one whose last success or failure is
/// the oldest. The logins of the configuration are added without a limit.
const LOGINS: usize = 10_000;

/// The last success and the last failure of a login.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Poll {
    /// When the login last succeeded, and how many messages the device saw.
    pub success: Option<(SystemTime, u32)>,
    /// When the login last failed, and the reason in words. A later success leaves this as it is.
    pub failure: Option<(SystemTime, String)>,
}

impl Poll {
    /// The time of the last success or failure, whichever came later.
    pub(crate) fn last(&self) -> Option<SystemTime> {
        let success = self.success.map(|(at, _)| at);
        success.max(self.failure.as_ref().map(|(at, _)| *at))
    }

    /// Whether the login has failed since its last success.
    pub(crate) fn is_failing(&self) -> bool {
        self.success.map(|(at, _)| at) < self.failure.as_ref().map(|(at, _)| *at)
    }
}

/// The polls of logins that exist, by [`crate::accounts::Account::login`]. A login is known to exist if the
/// configuration names it, or if it has succeeded. Others are not remembered, because anybody can invent any number of
/// them.
#[derive(Debug, Default)]
pub(crate) struct Polls(Mutex<BTreeMap<String, Poll>>);

/// The polls of this process.
pub(crate) fn polls() -> &'static Polls {
    static POLLS: Polls = Polls(Mutex::new(BTreeMap::new()));
    &POLLS
}

impl Polls {
    /// Notes that these logins exist: their failures are remembered even before the first success.
    pub(crate) fn expect<'a>(&self, logins: impl IntoIterator<Item = &'a str>) {
        let mut all = self.lock();
        for login in logins {
            all.entry(login.to_owned()).or_default();
        }
    }

    /// Notes that `login` has succeeded, and that the device saw this many messages.
    pub(crate) fn succeeded(&self, login: &str, messages: u32) {
        let mut all = self.lock();
        if all.len() >= LOGINS && !all.contains_key(login) {
            // Logins that are expected and have not come yet stay.
            let oldest = all
                .iter()
                .filter(|(_, poll)| poll.last().is_some())
                .min_by_key(|(_, poll)| poll.last())
                .map(|(login, _)| login.clone());
            oldest.and_then(|login| all.remove(&login));
        }
        all.entry(login.to_owned()).or_default().success = Some((SystemTime::now(), messages));
    }

    /// Notes that `login` has failed. Does nothing if the login is not known to exist.
    pub(crate) fn failed(&self, login: &str, reason: &str) {
        if let Some(poll) = self.lock().get_mut(login) {
            poll.failure = Some((SystemTime::now(), reason.to_owned()));
        }
    }

    /// The last success and failure of `login`, both `None` if the login is not known.
    pub(crate) fn of(&self, login: &str) -> Poll {
        self.lock().get(login).cloned().unwrap_or_default()
    }

    /// All logins, in the order of their names.
    pub(crate) fn all(&self) -> Vec<(String, Poll)> {
        self.lock()
            .iter()
            .map(|(login, poll)| (login.clone(), poll.clone()))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Poll>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_unknown_logins_are_not_kept() {
        let polls = Polls::default();
        polls.failed("guess", "wrong");
        assert!(polls.all().is_empty());
        polls.expect(["fax"]);
        polls.failed("fax", "wrong");
        assert!(polls.of("fax").is_failing());
        polls.succeeded("fax", 3);
        assert!(!polls.of("fax").is_failing());
        assert_eq!(polls.of("fax").success.unwrap().1, 3);
        polls.failed("fax", "later");
        assert_eq!(polls.of("fax").failure.unwrap().1, "later");
        assert!(polls.of("fax").is_failing());
    }

    #[test]
    fn its_memory_is_bounded() {
        let polls = Polls::default();
        for n in 0..LOGINS + 10 {
            polls.succeeded(&n.to_string(), 0);
        }
        assert_eq!(polls.all().len(), LOGINS);
        assert_eq!(polls.of("0"), Poll::default());
    }
}
