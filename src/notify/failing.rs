//! Which logins and upstreams fail, and since when.
//!
//! Anybody may try any login with any secret, and no event is raised for such guesses. So a failure counts only if the
//! secret was right, or if the attempt came from the network where the login last succeeded: then the device's password
//! is not right any more. A failure of the upstream for everybody counts for the upstream, not for the login.

use std::{collections::HashMap, net::IpAddr};

use crate::types::network;

/// For how many seconds a login or upstream must have been failing before an event is raised.
const LONG: u32 = 3600;
/// The most logins whose success is remembered, and the most that are known to fail. More are not counted.
const MOST: usize = 10_000;

/// A login that a device tried.
#[derive(Debug, Clone, Copy)]
pub struct TriedLogin<'a> {
    /// The login, in the spelling of [`Account::login`](crate::accounts::Account::login).
    pub login: &'a str,
    /// The name of the upstream (`[upstream.NAME]`) that the login leads to, if it is known.
    pub upstream: Option<&'a str>,
    /// The address of the device.
    pub peer: IpAddr,
}

/// Why a login failed, with a reason for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The secret is wrong, or nobody knows whether it is right.
    Unproven(String),
    /// The secret was right, but the mailbox could not be opened.
    Login(String),
    /// The upstream is not available, whatever the login.
    Upstream(String),
    /// State cannot be read or written.
    State,
}

/// A login or upstream that has been failing for an hour: since when, in seconds since 1970, and why it failed the last
/// time.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LongFailure<'a> {
    Login(&'a str, u32, String),
    Upstream(&'a str, u32, String),
}

/// Since when logins and upstreams have been failing, in seconds since 1970.
#[derive(Debug, Default)]
pub(super) struct Failing {
    /// The network from which each login last succeeded.
    succeeded: HashMap<String, IpAddr>,
    logins: HashMap<String, u32>,
    upstreams: HashMap<String, u32>,
}

impl Failing {
    pub(super) fn note_success(&mut self, TriedLogin { login, upstream, peer }: TriedLogin<'_>) {
        self.logins.remove(login);
        if let Some(upstream) = upstream {
            self.upstreams.remove(upstream);
        }
        let has_room = self.succeeded.len() < MOST;
        match self.succeeded.get_mut(login) {
            Some(known) => *known = network(peer),
            None if has_room => drop(self.succeeded.insert(login.to_owned(), network(peer))),
            None => {}
        }
    }

    /// Notes that a login has failed; `now` in seconds since 1970. Returns the login or upstream if it has been failing
    /// for an hour.
    pub(super) fn note_failure<'a>(
        &mut self,
        TriedLogin { login, upstream, peer }: TriedLogin<'a>,
        fault: Fault,
        now: u32,
    ) -> Option<LongFailure<'a>> {
        let is_known = || self.succeeded.get(login) == Some(&network(peer));
        match (fault, upstream) {
            (Fault::Upstream(why), Some(upstream)) => {
                let since = since(&mut self.upstreams, upstream, now)?;
                Some(LongFailure::Upstream(upstream, since, why))
            }
            (Fault::Unproven(_), _) if !is_known() => None,
            (Fault::Unproven(why) | Fault::Login(why) | Fault::Upstream(why), _) => {
                let since = since(&mut self.logins, login, now)?;
                Some(LongFailure::Login(login, since, why))
            }
            (Fault::State, _) => None,
        }
    }
}

/// Since when `name` has been failing, if that is an hour or longer; otherwise `None`. Starts to count if `name` has
/// not been failing.
fn since(failing: &mut HashMap<String, u32>, name: &str, now: u32) -> Option<u32> {
    if let Some(&since) = failing.get(name) {
        return (now.saturating_sub(since) >= LONG).then_some(since);
    }
    if failing.len() < MOST {
        failing.insert(name.to_owned(), now);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 1, 7));
    const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    fn tried(login: &str, peer: IpAddr) -> TriedLogin<'_> {
        TriedLogin {
            login,
            upstream: Some("home"),
            peer,
        }
    }

    fn wrong() -> Fault {
        Fault::Unproven("wrong".into())
    }

    fn closed() -> Fault {
        Fault::Login("closed".into())
    }

    #[test]
    fn for_an_hour() {
        let mut failing = Failing::default();
        let mut fail = |now| failing.note_failure(tried("pbx", HOME), closed(), now);
        assert_eq!((fail(100), fail(100 + LONG - 1)), (None, None));
        assert_eq!(fail(100 + LONG), Some(LongFailure::Login("pbx", 100, "closed".into())));
        assert_eq!(
            fail(100 + 9 * LONG),
            Some(LongFailure::Login("pbx", 100, "closed".into()))
        );
        failing.note_success(tried("pbx", ELSEWHERE));
        assert_eq!(
            failing.note_failure(tried("pbx", HOME), closed(), 100 + 10 * LONG),
            None
        );
        assert_eq!(failing.logins, [("pbx".to_owned(), 100 + 10 * LONG)].into());
    }

    #[test]
    fn guesses_do_not_count() {
        let mut failing = Failing::default();
        for now in [0, LONG, 2 * LONG] {
            assert_eq!(failing.note_failure(tried("pbx", HOME), wrong(), now), None);
        }
        failing.note_success(tried("pbx", HOME));
        for now in [0, LONG, 2 * LONG] {
            assert_eq!(failing.note_failure(tried("pbx", ELSEWHERE), wrong(), now), None);
            assert_eq!(failing.note_failure(tried("eva", HOME), wrong(), now), None);
        }
        assert!(failing.logins.is_empty());
        assert_eq!(failing.note_failure(tried("pbx", HOME), wrong(), 5), None);
        let long = failing.note_failure(tried("pbx", HOME), wrong(), 5 + LONG);
        assert_eq!(
            long,
            Some(LongFailure::Login("pbx", 5, "wrong".into())),
            "it had the right password before"
        );
    }

    #[test]
    fn an_upstream_that_is_down_is_one_failure() {
        let down = || Fault::Upstream("down".into());
        let mut failing = Failing::default();
        for login in ["a", "b", "c"] {
            assert_eq!(failing.note_failure(tried(login, HOME), down(), 7), None);
        }
        let long = failing.note_failure(tried("d", ELSEWHERE), down(), 7 + LONG);
        assert_eq!(long, Some(LongFailure::Upstream("home", 7, "down".into())));
        failing.note_success(tried("e", HOME));
        assert_eq!(failing.note_failure(tried("d", HOME), down(), 8 + LONG), None);
        assert!(failing.logins.is_empty());
    }

    #[test]
    fn no_number_of_logins_fills_the_memory() {
        let mut failing = Failing::default();
        for number in 0..2 * MOST {
            let login = number.to_string();
            failing.note_success(tried(&login, HOME));
            failing.note_failure(tried(&login, HOME), closed(), 0);
        }
        assert_eq!((failing.succeeded.len(), failing.logins.len()), (MOST, MOST));
    }
}
