//! Messages that exist upstream and that the upstream does not deliver: OK without data, NIL, or NO and BAD to one message.
//!
//! A device that hears `-ERR` for a message asks for it again at each poll, and some never get beyond it. So a notice takes
//! the message's place, under its UIDL, but only where this will hardly pass: the upstream has answered for the whole of
//! that message alone, on a connection that stands, in two sessions, has told of nothing temporary, and finds the message
//! still. The message itself stays: it does not count as retrieved, and to delete the notice only hides it.

use std::collections::BTreeSet;

use dashmap::DashMap;

use super::{Error, notice, source::Source};
use crate::{
    imap,
    state::{MailboxName, Marks},
    types::Uid,
};

/// Of one mailbox more are not remembered: that is the mailbox's trouble, not its messages'.
const MOST: usize = 1000;

/// What was not delivered to an earlier session, by UIDVALIDITY and UID. It need not outlive the process: then a notice
/// comes a session later.
#[derive(Debug, Default)]
pub(super) struct Undelivered(DashMap<MailboxName, BTreeSet<(u64, Uid)>>);

impl Undelivered {
    fn has(&self, mailbox: &MailboxName, message: (u64, Uid)) -> bool {
        self.0.get(mailbox).is_some_and(|messages| messages.contains(&message))
    }

    fn add(&self, mailbox: &MailboxName, message: (u64, Uid)) {
        let mut messages = self.0.entry(mailbox.clone()).or_default();
        if messages.len() < MOST {
            messages.insert(message);
        }
    }

    fn remove(&self, mailbox: &MailboxName, message: (u64, Uid)) {
        if let Some(mut messages) = self.0.get_mut(mailbox) {
            messages.remove(&message);
        }
        self.0.remove_if(mailbox, |_, messages| messages.is_empty());
    }
}

impl Source {
    /// The upstream answered `error` for this message alone, once more. The notice for its place, or the error where it is
    /// not time for one.
    pub(super) async fn stand_in(&mut self, uid: Uid, octets: u32, error: &imap::Error) -> Result<Vec<u8>, Error> {
        let told = self.report(error);
        if self.mailbox.selected().uid_not_sticky || self.mailbox.is_broken() {
            return Err(told);
        }
        let message = (self.view.index.uid_validity, uid);
        let was_told = self.is_known_undelivered(uid);
        if !was_told && !self.shared.undelivered.has(&self.name, message) {
            self.undelivered.push(uid);
            self.shared.undelivered.add(&self.name, message);
        }
        // Another session on the mailbox may have met it at the same time.
        if self.undelivered.contains(&uid) {
            return Err(told);
        }
        // OK without data is also what is said of a message that somebody has removed meanwhile.
        if !self.mailbox.holds(uid).await.map_err(|error| self.report(&error))? {
            return Err(told);
        }
        let header = match self.mailbox.headers(&[uid], notice::FIELDS).await {
            Ok(headers) => headers.into_iter().next().map(|(_, header)| header),
            Err(error) if error.is_undelivered() => None,
            Err(error) => return Err(self.report(&error)),
        };
        if !was_told {
            self.keep_undelivered(uid).await.map_err(|_| told)?;
        }
        tracing::warn!(mailbox = %self.name, %uid, "the upstream does not deliver this message: a notice takes its place");
        Ok(notice::of_undelivered(
            &header.unwrap_or_default(),
            octets,
            &self.notice_place(uid),
        ))
    }

    /// Before the device has the notice, for it may DELE in a later session what it has never seen.
    async fn keep_undelivered(&mut self, uid: Uid) -> Result<(), Error> {
        let mut marks = self.marks.clone();
        marks.undelivered.push(uid.0);
        marks.undelivered.sort_unstable();
        self.keep_marks(marks).await
    }

    /// Whether the device has had a notice in the place of this message.
    pub(super) fn is_known_undelivered(&self, uid: Uid) -> bool {
        self.marks.undelivered.binary_search(&uid.0).is_ok()
    }

    /// The same, and never the message.
    pub(super) fn has_stand_in(&self, uid: Uid) -> bool {
        self.is_known_undelivered(uid) && !self.retrieved.contains(&uid)
    }

    /// A message was delivered after all.
    pub(super) fn note_delivered(&self, uid: Uid) {
        let message = (self.view.index.uid_validity, uid);
        self.shared.undelivered.remove(&self.name, message);
    }

    /// The login's marks without the messages of this session that were delivered after all; `None` where there are none.
    pub(super) fn marks_with_delivered(&self) -> Option<Marks> {
        let is_delivered = |uid: &u32| self.retrieved.contains(&Uid(*uid));
        self.marks.undelivered.iter().any(is_delivered).then(|| {
            let mut marks = self.marks.clone();
            marks.undelivered.retain(|uid| !is_delivered(uid));
            marks
        })
    }

    /// Messages whose notices were deleted.
    pub(super) fn given_up(&self) -> impl Iterator<Item = Uid> + '_ {
        let Marks {
            undelivered, noticed, ..
        } = &self.marks;
        let is_noticed = |uid: &&u32| noticed.binary_search(uid).is_ok();
        undelivered.iter().filter(is_noticed).map(|&uid| Uid(uid))
    }
}
