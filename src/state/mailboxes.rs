//! Reading, comparing, merging, renumbering and replacing the records of a mailbox. This is the same for every store.

use super::{
    Holding, Kept, MailboxName, Marks, Past, PendingMove, Renumbered, StateStore, Unavailable, Whose,
    records::{Renumbering, refuse},
};

/// How often a change is tried again because somebody else has changed the same record meanwhile. Marks have one
/// writer, the session of their login; others write them if UIDVALIDITY has changed or if somebody resets them. The
/// past has many writers: every session of the mailbox that retrieves something.
const ATTEMPTS: u32 = 50;

/// The records of mailboxes, for sweeps and for the commands of other processes. (A session that has a maildrop open
/// works with its [`MailboxState`](super::MailboxState).)
#[async_trait::async_trait]
pub trait Mailboxes: StateStore {
    /// What `login` has done with the messages of `mailbox`; empty marks if it has done nothing.
    async fn marks(&self, login: &str, mailbox: &MailboxName) -> Result<Marks, Unavailable> {
        self.kept(mailbox, Whose::Login(login)).await?.marks_of(login)
    }

    /// Keeps `marks`, which were made from marks with the UIDVALIDITY `followed` (0: there were none). Refused if the
    /// kept marks have another UIDVALIDITY by now: somebody has reset or renumbered them.
    async fn set_marks(
        &self,
        login: &str,
        mailbox: &MailboxName,
        marks: &Marks,
        followed: u64,
    ) -> Result<(), Unavailable> {
        let set = |kept: &mut Kept| kept.change_marks(login, mailbox, followed, |_| marks.clone());
        amend(self, mailbox, Whose::Login(login), None, set).await.map(drop)
    }

    /// Identities and earlier names of the messages of `mailbox`.
    async fn past(&self, mailbox: &MailboxName) -> Result<Past, Unavailable> {
        Ok(self.kept(mailbox, Whose::Nobody).await?.past)
    }

    /// Adds `past` to the kept one, because several sessions may add to it. Refused if the kept one has another
    /// UIDVALIDITY: then the mailbox has been renumbered meanwhile.
    async fn set_past(&self, mailbox: &MailboxName, past: &Past) -> Result<(), Unavailable> {
        let add = |kept: &mut Kept| kept.add_past(past);
        amend(self, mailbox, Whose::Nobody, None, add).await.map(drop)
    }

    /// The removal from `mailbox`, by a move or for good, that has not been completed.
    async fn pending_move(&self, mailbox: &MailboxName) -> Result<Option<PendingMove>, Unavailable> {
        Ok(self.kept(mailbox, Whose::Nobody).await?.pending)
    }

    /// Keeps `pending`, or forgets it (`None`).
    async fn set_pending_move(&self, mailbox: &MailboxName, pending: Option<&PendingMove>) -> Result<(), Unavailable> {
        let set = |kept: &mut Kept| {
            kept.pending = pending.cloned();
            Ok(())
        };
        amend(self, mailbox, Whose::Nobody, None, set).await.map(drop)
    }

    /// Follows a change of UIDVALIDITY from `from` to that of `past`. At once `past` replaces the kept one, the marks
    /// of all logins are translated by `uids` (marks without a new UID are dropped), and a pending move is forgotten.
    /// Does nothing if another session has done so already. Refused if the kept past has a third UIDVALIDITY.
    async fn renumber(
        &self,
        mailbox: &MailboxName,
        past: &Past,
        from: u64,
        uids: &Renumbered,
    ) -> Result<(), Unavailable> {
        let renumber = |kept: &mut Kept| kept.renumber(past, from, uids);
        amend(self, mailbox, Whose::All, None, renumber).await.map(drop)
    }
}

impl<S: StateStore + ?Sized> Mailboxes for S {}

/// See [`StateStore::clear_marks`].
pub(super) async fn clear_marks<S: StateStore + ?Sized>(
    store: &S,
    login: &str,
    folder: Option<&str>,
) -> Result<usize, Unavailable> {
    let mut cleared = 0;
    for (other, mailbox, _) in store.all_marks().await? {
        if other == login && folder.is_none_or(|folder| folder == mailbox.folder) {
            let forget = |kept: &mut Kept| {
                kept.marks.remove(login);
                Ok(())
            };
            amend(store, &mailbox, Whose::Login(login), None, forget).await?;
            cleared += 1;
        }
    }
    Ok(cleared)
}

/// Reads the records of `mailbox` (unless `known` has them), lets `edit` change them, and keeps the changed ones.
/// Starts again if somebody else has changed them meanwhile. Returns the records as they are kept then.
pub(super) async fn amend<S: StateStore + ?Sized>(
    store: &S,
    mailbox: &MailboxName,
    whose: Whose<'_>,
    known: Option<Kept>,
    edit: impl Fn(&mut Kept) -> Result<(), Unavailable> + Send,
) -> Result<Kept, Unavailable> {
    amend_held(store, mailbox, whose, None, known, edit).await
}

/// Like [`amend`], for a session that holds the maildrop if there is a `holding`.
pub(super) async fn amend_held<S: StateStore + ?Sized>(
    store: &S,
    mailbox: &MailboxName,
    whose: Whose<'_>,
    holding: Option<&Holding>,
    known: Option<Kept>,
    edit: impl Fn(&mut Kept) -> Result<(), Unavailable> + Send,
) -> Result<Kept, Unavailable> {
    let mut before = match known {
        Some(known) => known,
        None => store.kept(mailbox, whose).await?,
    };
    for _ in 0..ATTEMPTS {
        let mut after = before.clone();
        edit(&mut after)?;
        let replacement = before.replacement(&after);
        if replacement.is_empty() {
            return Ok(before);
        }
        let replaced = match holding {
            Some(holding) => store.replace_held(holding, replacement).await,
            None => store.replace(mailbox, replacement).await,
        };
        match replaced {
            Ok(()) => return Ok(after),
            Err(Unavailable::Changed) => before = store.kept(mailbox, whose).await?,
            Err(error) => return Err(error),
        }
    }
    tracing::warn!(%mailbox, "the state of a mailbox changes too often: a change is not stored");
    Err(Unavailable::Changed)
}

impl Kept {
    /// Replaces the marks of `login` by what `change` makes of them. Refused unless their UIDVALIDITY is `followed` (0:
    /// there were none).
    pub(super) fn change_marks(
        &mut self,
        login: &str,
        mailbox: &MailboxName,
        followed: u64,
        change: impl FnOnce(Marks) -> Marks,
    ) -> Result<(), Unavailable> {
        let marks = self.marks_of(login)?;
        if marks.uid_validity != followed {
            return Err(refuse(login, mailbox));
        }
        self.marks.insert(login.to_owned(), Ok(change(marks)));
        Ok(())
    }

    /// Adds `past` to the known one. Refused if that has another UIDVALIDITY.
    pub(super) fn add_past(&mut self, past: &Past) -> Result<(), Unavailable> {
        let mut past = past.clone();
        if self.past.uid_validity != 0 && !past.merge(&self.past) {
            return Err(Unavailable::Changed);
        }
        self.past = past;
        Ok(())
    }

    /// See [`Mailboxes::renumber`]. `self` must have the marks of all logins.
    pub(super) fn renumber(&mut self, past: &Past, from: u64, uids: &Renumbered) -> Result<(), Unavailable> {
        match Renumbering::of(&self.past, from, past.uid_validity) {
            Renumbering::Due => {}
            Renumbering::Done => return Ok(()),
            Renumbering::Late => return Err(Unavailable::Changed),
        }
        self.past = past.clone();
        self.pending = None;
        for marks in self.marks.values_mut().flatten() {
            if marks.uid_validity == from {
                marks.renumber(past.uid_validity, uids);
            }
        }
        Ok(())
    }
}
