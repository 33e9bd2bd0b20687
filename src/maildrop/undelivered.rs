//! Messages that exist upstream, but that the upstream does not deliver, for whatever reason.
//!
//! If a device gets `-ERR` for a message, it asks for the message again at each poll, and some devices never go on to
//! the next message. So a notice takes the message's place, under the message's UIDL, once the failure looks permanent.
//! It looks permanent after two sessions in which the upstream said that it has nothing to deliver. If the failure may
//! pass (a lost connection, a BYE, a literal that ends early, words such as "try again later"), it looks permanent
//! after three sessions over at least an hour. The message itself stays upstream. It does not count as retrieved, and
//! deleting the notice only hides the message. The gateway goes on asking for it: in each session if the upstream just
//! says NO, but only once a day if the attempt may break the connection.

use std::{collections::BTreeMap, sync::Arc};

use dashmap::DashMap;

use super::error::Error;
use crate::{
    imap,
    state::Index,
    types::{MailboxName, Uid, Uids},
};

/// How many messages of one mailbox are remembered. If more fail, the fault is the mailbox's and not that of single
/// messages.
const MOST: usize = 1000;
/// A notice comes after this many sessions in which the upstream said that it has nothing to deliver.
const LASTING_SESSIONS: u32 = 2;
/// A notice comes after this many sessions with any failures, if they are spread over [`PASSING_SECONDS`].
const PASSING_SESSIONS: u32 = 3;
/// The minimum time between the first failure and the last, in seconds.
const PASSING_SECONDS: u32 = 3600;
/// If asking for a message may break the connection, it is not asked for again for this many seconds.
const RETRY_AFTER: u32 = 24 * 3600;

/// The messages that were not delivered to earlier sessions. This is not stored: after a restart, notices come some
/// sessions later.
#[derive(Debug, Default)]
pub(super) struct Undelivered(DashMap<MailboxName, BTreeMap<MessageKey, Failures>>);

/// UIDVALIDITY, as state stores it, and UID.
type MessageKey = (u64, Uid);

/// The failures of one message. Times are in seconds since 1970.
#[derive(Debug, Clone, Default)]
struct Failures {
    first: u32,
    last: u32,
    sessions: u32,
    /// How many sessions failed because the upstream said that it has nothing to deliver.
    lasting: u32,
    /// Whether the content has begun and broken off, after the device got its `+OK`.
    broke_off: bool,
    /// When the notice was made, and its text: the message is not asked for again for [`RETRY_AFTER`].
    notice: Option<(u32, Arc<[u8]>)>,
}

/// Whether a failure to deliver a message is likely to last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// NO, BAD, NIL, or OK without data.
    Lasting,
    /// A lost connection, a BYE, a literal that ends early, or words that sound temporary.
    Passing,
}

impl FailureKind {
    /// The kind of `error`, with which a FETCH of the message has ended; `None` if the message is not to blame.
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
    fn note(&mut self, kind: FailureKind, now: u32) {
        if self.sessions == 0 {
            self.first = now;
        }
        self.last = now;
        self.sessions += 1;
        if kind == FailureKind::Lasting {
            self.lasting += 1;
        }
    }

    fn is_hopeless(&self) -> bool {
        self.lasting >= LASTING_SESSIONS
            || (self.sessions >= PASSING_SESSIONS && self.last.saturating_sub(self.first) >= PASSING_SECONDS)
    }
}

impl Undelivered {
    /// The messages of `index` that were not delivered to earlier sessions. They are fetched alone, so that no other
    /// message of a set fails with them. Forgets messages that are gone.
    pub(super) fn suspects(&self, mailbox: &MailboxName, index: &Index) -> Uids {
        let Some(mut messages) = self.0.get_mut(mailbox) else {
            return Uids::default();
        };
        messages.retain(|&(uid_validity, uid), _| uid_validity == index.uid_validity && index.entries.contains(uid));
        let suspects = messages.keys().map(|&(_, uid)| uid).collect();
        drop(messages);
        self.0.remove_if(mailbox, |_, messages| messages.is_empty());
        suspects
    }

    /// Notes that the message was not delivered in one more session.
    pub(super) fn note(&self, mailbox: &MailboxName, message: MessageKey, kind: FailureKind, now: u32) {
        self.change(mailbox, message, |failures| failures.note(kind, now));
    }

    /// Notes that the content of the message has begun and broken off.
    pub(super) fn note_broken_off(&self, mailbox: &MailboxName, message: MessageKey) {
        self.change(mailbox, message, |failures| failures.broke_off = true);
    }

    /// Keeps the notice that takes the message's place from `now` on.
    pub(super) fn set_notice(&self, mailbox: &MailboxName, message: MessageKey, notice: Arc<[u8]>, now: u32) {
        self.change(mailbox, message, |failures| failures.notice = Some((now, notice)));
    }

    fn change(&self, mailbox: &MailboxName, message: MessageKey, change: impl FnOnce(&mut Failures)) {
        let mut messages = self.0.entry(mailbox.clone()).or_default();
        if messages.len() < MOST || messages.contains_key(&message) {
            change(messages.entry(message).or_default());
        }
    }

    /// Whether the message has failed often enough for a notice.
    pub(super) fn is_hopeless(&self, mailbox: &MailboxName, message: MessageKey) -> bool {
        let messages = self.0.get(mailbox);
        messages.is_some_and(|messages| messages.get(&message).is_some_and(Failures::is_hopeless))
    }

    /// Whether to show a notice without asking for the message, because its content would probably break off again. One
    /// day after the last failure this becomes `false`, so that the message is asked for once more.
    pub(super) fn breaks_off(&self, mailbox: &MailboxName, message: MessageKey, now: u32) -> bool {
        self.0.get(mailbox).is_some_and(|messages| {
            messages.get(&message).is_some_and(|failures| {
                failures.broke_off && failures.is_hopeless() && now.saturating_sub(failures.last) < RETRY_AFTER
            })
        })
    }

    /// The notice in the message's place, for a day after it was made.
    pub(super) fn notice(&self, mailbox: &MailboxName, message: MessageKey, now: u32) -> Option<Arc<[u8]>> {
        let messages = self.0.get(mailbox)?;
        let (asked, notice) = messages.get(&message)?.notice.as_ref()?;
        (now.saturating_sub(*asked) < RETRY_AFTER).then(|| notice.clone())
    }

    /// Forgets the message's failures. Called when the message was delivered after all.
    pub(super) fn remove(&self, mailbox: &MailboxName, message: MessageKey) {
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

    const MESSAGE: MessageKey = (7, Uid(3));

    fn index(uid_validity: u64, uids: impl IntoIterator<Item = u32>) -> Index {
        Index {
            uid_validity,
            entries: uids.into_iter().map(|uid| (uid, 1)).collect(),
            ..Index::default()
        }
    }

    #[test]
    fn what_will_last_needs_two_sessions_and_what_may_pass_three_over_an_hour() {
        use FailureKind::{Lasting, Passing};
        // Of each failure: its kind, its time, and whether a notice is due then.
        let cases: [&[(FailureKind, u32, bool)]; 6] = [
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
            assert!(undelivered.suspects(&mailbox(), &index(7, [3])).is_empty());
            for &(kind, now, expected) in failures {
                undelivered.note(&mailbox(), MESSAGE, kind, now);
                assert_eq!(
                    undelivered.is_hopeless(&mailbox(), MESSAGE),
                    expected,
                    "{failures:?} at {now}"
                );
                assert!(!undelivered.breaks_off(&mailbox(), MESSAGE, now));
                assert_eq!(undelivered.suspects(&mailbox(), &index(7, [2, 3])), [3].into());
            }
            let (_, now, _) = failures[failures.len() - 1];
            undelivered.note_broken_off(&mailbox(), MESSAGE);
            assert!(undelivered.breaks_off(&mailbox(), MESSAGE, now + RETRY_AFTER - 1));
            assert!(
                !undelivered.breaks_off(&mailbox(), MESSAGE, now + RETRY_AFTER),
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
            undelivered
                .notice(&mailbox(), MESSAGE, 100 + RETRY_AFTER - 1)
                .as_deref(),
            Some(&b"notice"[..])
        );
        assert_eq!(undelivered.notice(&mailbox(), MESSAGE, 100 + RETRY_AFTER), None);
        assert_eq!(
            undelivered.notice(&mailbox(), (8, Uid(3)), 101),
            None,
            "another UIDVALIDITY"
        );
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let undelivered = Undelivered::default();
        for uid in 0..2 * MOST as u32 {
            undelivered.note(&mailbox(), (7, Uid(uid)), FailureKind::Lasting, 0);
        }
        assert_eq!(
            undelivered.suspects(&mailbox(), &index(7, 5..10)),
            [5, 6, 7, 8, 9].into()
        );
        undelivered.note(&mailbox(), (7, Uid(5000)), FailureKind::Lasting, 0);
        assert_eq!(undelivered.suspects(&mailbox(), &index(7, [9, 5000])), [9, 5000].into());
        assert!(undelivered.suspects(&mailbox(), &index(8, [9])).is_empty());
        assert!(undelivered.0.is_empty());
    }

    #[test]
    fn a_mailbox_of_nothing_but_trouble_is_bounded() {
        let undelivered = Undelivered::default();
        for uid in 0..2 * MOST as u32 {
            undelivered.note(&mailbox(), (7, Uid(uid)), FailureKind::Lasting, 0);
        }
        assert_eq!(undelivered.0.get(&mailbox()).unwrap().len(), MOST);
    }

    #[test]
    fn kinds() {
        let account = Account::from(&config("").accounts[0]);
        let of = |error| FailureKind::of(&Error::upstream(&account, error));
        assert_eq!(of(imap::Error::NoData("UID FETCH")), Some(FailureKind::Lasting));
        assert_eq!(of(imap::Error::ShortLiteral), Some(FailureKind::Passing));
        assert_eq!(of(imap::Error::Bye("going down".into())), Some(FailureKind::Passing));
        assert_eq!(of(imap::Error::Bye("too many simultaneous connections".into())), None);
        assert_eq!(FailureKind::of(&super::super::Refusal::Deleted.into()), None);
    }
}
