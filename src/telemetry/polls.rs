//! How each login fared last: for the status page.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

/// The most logins that are remembered. If there are more, the one that was not heard of for longest is forgotten.
const LOGINS: usize = 10_000;

/// How a login fared last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Poll {
    /// When it last logged in, and how many messages it saw.
    pub success: Option<(SystemTime, u32)>,
    /// When it last failed, and why in words. This is older than `success` if it has logged in since.
    pub failure: Option<(SystemTime, String)>,
}

impl Poll {
    /// When it was heard of last.
    pub(crate) fn last(&self) -> Option<SystemTime> {
        let success = self.success.map(|(at, _)| at);
        success.max(self.failure.as_ref().map(|(at, _)| *at))
    }

    /// Whether the last time was a failure.
    pub(crate) fn is_failing(&self) -> bool {
        self.success.map(|(at, _)| at) < self.failure.as_ref().map(|(at, _)| *at)
    }
}

/// How each login fared last, for logins that exist. A login that nobody has proven to exist is not remembered: anybody
/// can make up any number of them.
#[derive(Debug, Default)]
pub(crate) struct Polls(Mutex<BTreeMap<String, Poll>>);

/// The polls of this process.
pub(crate) fn polls() -> &'static Polls {
    static POLLS: Polls = Polls(Mutex::new(BTreeMap::new()));
    &POLLS
}

impl Polls {
    /// Notes that these logins exist: their failures are remembered even if they never succeeded.
    pub(crate) fn expect<'a>(&self, logins: impl IntoIterator<Item = &'a str>) {
        let mut all = self.lock();
        for login in logins {
            all.entry(login.to_owned()).or_default();
        }
    }

    /// Notes that `login` has logged in and seen this many messages.
    pub(crate) fn succeeded(&self, login: &str, messages: u32) {
        let mut all = self.lock();
        if all.len() >= LOGINS && !all.contains_key(login) {
            let oldest = all
                .iter()
                .min_by_key(|(_, poll)| poll.last())
                .map(|(login, _)| login.clone());
            oldest.and_then(|login| all.remove(&login));
        }
        all.entry(login.to_owned()).or_default().success = Some((SystemTime::now(), messages));
    }

    /// Notes that `login` has failed, for this reason. Does nothing if no such login is known.
    pub(crate) fn failed(&self, login: &str, reason: &str) {
        if let Some(poll) = self.lock().get_mut(login) {
            poll.failure = Some((SystemTime::now(), reason.to_owned()));
        }
    }

    /// How `login` fared last.
    pub(crate) fn of(&self, login: &str) -> Poll {
        self.lock().get(login).cloned().unwrap_or_default()
    }

    /// All logins, by name.
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
