//! Messages that exist upstream and that the upstream does not deliver, whatever the reason.
//!
//! A device that hears `-ERR` for a message asks for it again at each poll, and some never get beyond it. So a notice takes the
//! message's place, under its UIDL, once it will hardly pass: the message was asked for and did not come in two sessions if
//! the upstream said that it has none to give, or in three sessions over an hour if it may pass (a cut, a BYE, a literal
//! that ends early, words such as "try again later"). The message itself stays: it does not count as retrieved, and to delete
//! the notice only hides it. It is asked for again: in each session if the upstream says no, and once a day if that may cost the
//! connection.

use std::{collections::BTreeMap, sync::Arc};

use dashmap::DashMap;

use super::error::Error;
use crate::{
    imap,
    types::{MailboxName, Uid, Uids},
};

/// Messages of one mailbox that are remembered; more are that mailbox's trouble and not its messages'.
const MOST: usize = 1000;
/// Sessions in which a message that the upstream says it can't deliver must fail.
const LASTING_SESSIONS: u32 = 2;
/// Sessions in which a message must fail for reasons that may pass.
const PASSING_SESSIONS: u32 = 3;
/// Seconds between the first and the last of these sessions.
const PASSING_SECONDS: u32 = 3600;
/// Seconds in which a message whose notice was shown is not asked for again.
const NOT_AGAIN: u32 = 24 * 3600;

/// What was not delivered to earlier sessions. It need not outlive the process: a notice comes some sessions later then.
#[derive(Debug, Default)]
pub(super) struct Undelivered(DashMap<MailboxName, BTreeMap<Key, Failures>>);

/// UIDVALIDITY and UID.
type Key = (u64, Uid);

/// How a message has failed to come; times are seconds since 1970.
#[derive(Debug, Clone, Default)]
struct Failures {
    first: u32,
    last: u32,
    sessions: u32,
    /// Sessions in which the upstream said that it has nothing to give.
    lasting: u32,
    /// Its content began and broke off, when the device had been told that it comes.
    broke_off: bool,
    /// The notice, and when the message was last asked for.
    notice: Option<(u32, Arc<[u8]>)>,
}

/// Whether a failure to deliver a message will last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// NO, BAD, NIL, or OK without data.
    Lasting,
    /// A cut, a BYE, a literal that ends early, or words that sound temporary.
    Passing,
}

impl Kind {
    /// The kind of `error`, which a FETCH of the message has ended with; `None` if it is no fault of the message.
    pub(super) fn of(error: &Error) -> Option<Self> {
        let error = error.imap()?;
        if error.asks_for_a_pause() {
            return None;
        }
        match error {
            imap::Error::ShortLiteral => Some(Self::Passing),
            error if error.is_undelivered() => Some(Self::Lasting),
            _ => Some(Self::Passing),
        }
    }
}

impl Failures {
    fn note(&mut self, kind: Kind, now: u32) {
        if self.sessions == 0 {
            self.first = now;
        }
        self.last = now;
        self.sessions += 1;
        if kind == Kind::Lasting {
            self.lasting += 1;
        }
    }

    fn is_hopeless(&self) -> bool {
        self.lasting >= LASTING_SESSIONS
            || (self.sessions >= PASSING_SESSIONS && self.last.saturating_sub(self.first) >= PASSING_SECONDS)
    }
}

impl Undelivered {
    /// The messages of a UIDVALIDITY that earlier sessions asked for in vain: they are asked for alone, so that they spoil no
    /// other's delivery.
    pub(super) fn suspects(&self, mailbox: &MailboxName, uid_validity: u64) -> Uids {
        let messages = self.0.get(mailbox);
        let keys = messages.iter().flat_map(|messages| messages.keys());
        keys.filter(|key| key.0 == uid_validity).map(|key| key.1).collect()
    }

    /// Another session has failed to get the message.
    pub(super) fn note(&self, mailbox: &MailboxName, message: Key, kind: Kind, now: u32) {
        self.change(mailbox, message, |failures| failures.note(kind, now));
    }

    /// The content of the message has begun and broken off.
    pub(super) fn note_broken_off(&self, mailbox: &MailboxName, message: Key) {
        self.change(mailbox, message, |failures| failures.broke_off = true);
    }

    /// Keeps the notice in the place of a message that was asked for just now.
    pub(super) fn set_notice(&self, mailbox: &MailboxName, message: Key, notice: Arc<[u8]>, now: u32) {
        self.change(mailbox, message, |failures| failures.notice = Some((now, notice)));
    }

    fn change(&self, mailbox: &MailboxName, message: Key, change: impl FnOnce(&mut Failures)) {
        let mut messages = self.0.entry(mailbox.clone()).or_default();
        if messages.len() < MOST || messages.contains_key(&message) {
            change(messages.entry(message).or_default());
        }
    }

    /// Whether it is time for a notice.
    pub(super) fn is_hopeless(&self, mailbox: &MailboxName, message: Key) -> bool {
        let messages = self.0.get(mailbox);
        messages.is_some_and(|messages| messages.get(&message).is_some_and(Failures::is_hopeless))
    }

    /// Whether it is time for a notice and the message is not to be asked for: it would begin and break off again. After a day
    /// it is asked for once more.
    pub(super) fn breaks_off(&self, mailbox: &MailboxName, message: Key, now: u32) -> bool {
        self.0.get(mailbox).is_some_and(|messages| {
            messages.get(&message).is_some_and(|failures| {
                failures.broke_off && failures.is_hopeless() && now.saturating_sub(failures.last) < NOT_AGAIN
            })
        })
    }

    /// The notice in the place of a message that was asked for within the last day.
    pub(super) fn notice(&self, mailbox: &MailboxName, message: Key, now: u32) -> Option<Arc<[u8]>> {
        let messages = self.0.get(mailbox)?;
        let (asked, notice) = messages.get(&message)?.notice.as_ref()?;
        (now.saturating_sub(*asked) < NOT_AGAIN).then(|| notice.clone())
    }

    /// The message was delivered after all.
    pub(super) fn remove(&self, mailbox: &MailboxName, message: Key) {
        if let Some(mut messages) = self.0.get_mut(mailbox) {
            messages.remove(&message);
        }
        self.0.remove_if(mailbox, |_, messages| messages.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::{super::scene::config, *};
    use crate::accounts::Account;

    fn mailbox() -> MailboxName {
        MailboxName {
            upstream: "home".into(),
            user: "eva".into(),
            folder: "INBOX".into(),
        }
    }

    const MESSAGE: Key = (7, Uid(3));

    #[test]
    fn what_will_last_needs_two_sessions_and_what_may_pass_three_over_an_hour() {
        use Kind::{Lasting, Passing};
        // Each failure: its kind and when it came; then whether it is time for a notice.
        let cases: [&[(Kind, u32, bool)]; 6] = [
            &[(Lasting, 0, false), (Lasting, 1, true)],
            &[(Passing, 0, false), (Lasting, 1, false), (Lasting, 2, true)],
            &[(Passing, 0, false), (Passing, 3000, false), (Passing, 3600, true)],
            &[(Passing, 0, false), (Passing, 9000, false), (Passing, 9001, true)],
            &[
                (Passing, 100, false),
                (Passing, 101, false),
                (Passing, 102, false),
                (Passing, 3699, false),
                (Passing, 3700, true),
            ],
            &[(Lasting, 0, false), (Passing, 4000, false), (Passing, 4001, true)],
        ];
        for failures in cases {
            let undelivered = Undelivered::default();
            assert!(undelivered.suspects(&mailbox(), 7).is_empty());
            for &(kind, now, expected) in failures {
                undelivered.note(&mailbox(), MESSAGE, kind, now);
                assert_eq!(
                    undelivered.is_hopeless(&mailbox(), MESSAGE),
                    expected,
                    "{failures:?} at {now}"
                );
                assert!(!undelivered.breaks_off(&mailbox(), MESSAGE, now));
                assert_eq!(undelivered.suspects(&mailbox(), 7), [3].into());
                assert!(undelivered.suspects(&mailbox(), 8).is_empty());
            }
            let (_, now, _) = failures[failures.len() - 1];
            undelivered.note_broken_off(&mailbox(), MESSAGE);
            assert!(undelivered.breaks_off(&mailbox(), MESSAGE, now + NOT_AGAIN - 1));
            assert!(
                !undelivered.breaks_off(&mailbox(), MESSAGE, now + NOT_AGAIN),
                "the next try"
            );
            undelivered.remove(&mailbox(), MESSAGE);
            assert!(undelivered.0.is_empty());
        }
    }

    #[test]
    fn a_notice_stands_for_a_day() {
        let undelivered = Undelivered::default();
        assert_eq!(undelivered.notice(&mailbox(), MESSAGE, 50), None);
        undelivered.set_notice(&mailbox(), MESSAGE, b"notice"[..].into(), 100);
        assert_eq!(
            undelivered.notice(&mailbox(), MESSAGE, 100 + NOT_AGAIN - 1).as_deref(),
            Some(&b"notice"[..])
        );
        assert_eq!(undelivered.notice(&mailbox(), MESSAGE, 100 + NOT_AGAIN), None);
        assert_eq!(
            undelivered.notice(&mailbox(), (8, Uid(3)), 101),
            None,
            "another UIDVALIDITY"
        );
    }

    #[test]
    fn a_mailbox_of_nothing_but_trouble_is_bounded() {
        let undelivered = Undelivered::default();
        for uid in 0..2 * MOST as u32 {
            undelivered.note(&mailbox(), (7, Uid(uid)), Kind::Lasting, 0);
        }
        assert_eq!(undelivered.0.get(&mailbox()).unwrap().len(), MOST);
    }

    #[test]
    fn kinds() {
        let account = Account::from(&config("").accounts[0]);
        let of = |error| Kind::of(&Error::upstream(&account, error));
        assert_eq!(of(imap::Error::NoData("UID FETCH")), Some(Kind::Lasting));
        assert_eq!(of(imap::Error::ShortLiteral), Some(Kind::Passing));
        assert_eq!(of(imap::Error::Bye("going down".into())), Some(Kind::Passing));
        assert_eq!(of(imap::Error::Bye("too many simultaneous connections".into())), None);
        assert_eq!(Kind::of(&super::super::Refusal::Deleted.into()), None);
    }
}
