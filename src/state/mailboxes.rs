//! Reading, comparing, merging, renumbering and replacing the records of a mailbox. This is the same for every store.

use super::{
    Holding, Kept, MailboxName, Marks, Past, PendingMove, Renumbered, StateStore, Unavailable, Whose,
    records::{Renumbering, refuse},
};

/// How often a change is attempted if somebody else keeps changing the same record. Marks usually have one writer, the
/// session of their login; others write them only if UIDVALIDITY has changed, or to reset them. The past has many
/// writers: every session of the mailbox that retrieves something.
const ATTEMPTS: u32 = 50;

/// The records of mailboxes, for the sweep. (A session that has a maildrop open works with its
/// [`MailboxState`](super::MailboxState).)
#[async_trait::async_trait]
pub trait Mailboxes: StateStore {
    /// The marks of `login` in `mailbox`; empty if it has none.
    async fn marks(&self, login: &str, mailbox: &MailboxName) -> Result<Marks, Unavailable> {
        self.kept(mailbox, Whose::Login(login)).await?.marks_of(login)
    }

    /// Stores `marks`, which were made from marks with the UIDVALIDITY `followed` (0: there were none).
    /// [`Unavailable::Changed`] if the stored marks have another UIDVALIDITY: somebody has reset or renumbered them.
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

    /// Adds `past` to the stored past, because several sessions may add to it. [`Unavailable::Changed`] if the stored
    /// past has another UIDVALIDITY: the mailbox has been renumbered meanwhile.
    async fn set_past(&self, mailbox: &MailboxName, past: &Past) -> Result<(), Unavailable> {
        let add = |kept: &mut Kept| kept.add_past(past);
        amend(self, mailbox, Whose::Nobody, None, add).await.map(drop)
    }

    /// The removal from `mailbox` that has not been completed, if there is one: a move, or a removal without a copy.
    async fn pending_move(&self, mailbox: &MailboxName) -> Result<Option<PendingMove>, Unavailable> {
        Ok(self.kept(mailbox, Whose::Nobody).await?.pending)
    }

    /// Stores `pending`, or removes it (`None`).
    async fn set_pending_move(&self, mailbox: &MailboxName, pending: Option<&PendingMove>) -> Result<(), Unavailable> {
        let set = |kept: &mut Kept| {
            kept.pending = pending.cloned();
            Ok(())
        };
        amend(self, mailbox, Whose::Nobody, None, set).await.map(drop)
    }

    /// Applies a change of UIDVALIDITY from `from` to that of `past`. In one step, `past` replaces the stored past, the
    /// marks of all logins are translated by `uids` (marks without a new UID are dropped), and a pending move is
    /// removed. Does nothing if another session has done this already. [`Unavailable::Changed`] if the stored past has
    /// a third UIDVALIDITY.
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

/// Reads the records of `mailbox` (unless `known` has them), applies `edit`, and stores the result. Starts again if
/// somebody else has changed the records meanwhile. Returns the stored records.
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
            // An earlier attempt may have made the change although it failed.
            store.confirm(mailbox).await?;
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
    /// Applies `change` to the marks of `login`. Refused unless their UIDVALIDITY is `followed` (0: there were none).
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

    /// Adds `past` to `self.past`. Refused if that has another UIDVALIDITY.
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
