//! What a session knows of the records of its mailbox, and changes in them.

use std::{sync::Arc, time::Duration};

use super::{
    Index, Kept, KeptDigest, KnownIndex, Lease, Leases, MailboxName, Marks, Past, PendingMove, Renumbered, StateStore,
    Tenure, Unavailable, Whose, mailboxes::amend_held,
};

/// The records of one mailbox, for one login. They are read when they are first asked for; a change is made to what is kept at
/// that moment, so that what other logins have kept meanwhile stays.
#[derive(Debug)]
pub struct MailboxState {
    store: Arc<dyn StateStore>,
    mailbox: Arc<MailboxName>,
    login: String,
    /// As they were read or written last. In a box: most sessions read nothing.
    kept: Option<Box<Kept>>,
    /// The records have this digest, as far as is known.
    digest: Option<KeptDigest>,
    /// What the store has told of the index when the maildrop was taken; `None` if it has told nothing.
    index: Option<KnownIndex>,
    /// The maildrop, while the session holds it.
    lease: Option<Box<Lease>>,
    /// Whether the index was kept as the maildrop was given up.
    is_index_kept: bool,
}

impl MailboxState {
    /// Of `login` in `mailbox`, which it does not hold; nothing is read yet.
    pub fn new(store: Arc<dyn StateStore>, mailbox: Arc<MailboxName>, login: String) -> Self {
        Self {
            store,
            mailbox,
            login,
            kept: None,
            digest: None,
            index: None,
            lease: None,
            is_index_kept: false,
        }
    }

    /// Takes the maildrop that `login` has in `mailbox`; waits for it for `patience` at most. `None` if another session holds it.
    /// `is_private`: other logins may hold the mailbox meanwhile. `known`: the digest of the records that the login's last session
    /// has left here.
    pub async fn enter(
        leases: &Leases,
        mailbox: Arc<MailboxName>,
        login: String,
        is_private: bool,
        patience: Duration,
        known: Option<KeptDigest>,
    ) -> Result<Option<Self>, Unavailable> {
        let entering = leases.enter(&mailbox, &login, is_private, patience, known.as_ref());
        let Some((lease, welcome)) = entering.await? else {
            return Ok(None);
        };
        let mut state = Self::new(leases.store().clone(), mailbox, login);
        state.lease = Some(lease.into());
        match welcome {
            Some(welcome) => {
                state.kept = Some(welcome.kept.into());
                state.index = Some(welcome.index);
            }
            None => state.digest = known,
        }
        Ok(Some(state))
    }

    /// Whether the records may be others than the login's last session has left here.
    pub fn has_news(&self) -> bool {
        self.index.is_some()
    }

    /// The digest of the records; `None` if the store compares none, or if nothing is known of them.
    pub fn digest(&self) -> Option<KeptDigest> {
        match &self.kept {
            Some(kept) => self.store.digest(&self.mailbox, &self.login, kept),
            None => self.digest.clone(),
        }
    }

    /// Makes sure that the session holds the maildrop, and will for some seconds; returns what tells how long.
    /// [`Unavailable::Lost`] if another session has it.
    pub async fn secured(&self) -> Result<Tenure, Unavailable> {
        match &self.lease {
            Some(lease) => lease.check().await.map(|()| lease.tenure()),
            None => Ok(Tenure::default()),
        }
    }

    /// Whether the store is shared and the session holds the maildrop there: what it is about to do must be kept first.
    pub fn is_leased(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.holding().is_some())
    }

    /// Gives the maildrop up to its next session; returns once that can have it. `index`: what [`MailboxState::save`] is to save
    /// afterwards, so that a shared store can remember it with the same message.
    pub async fn leave(&mut self, index: Option<&Arc<Index>>) {
        if let Some(lease) = self.lease.take() {
            self.is_index_kept = lease.leave(index.cloned()).await;
        }
    }

    /// What is known of the messages; `None` where nothing is.
    pub async fn index(&self) -> Option<Arc<Index>> {
        match &self.index {
            Some(KnownIndex::Whole(index)) => Some(index.clone()),
            Some(KnownIndex::None) => None,
            Some(KnownIndex::Large) | None => self.store.index(&self.mailbox).await,
        }
    }

    /// Remembers `index` for the next session, and forgets what is kept of messages that it has lost, as far as that has been
    /// read. A failure is logged.
    pub async fn save(&mut self, index: Arc<Index>) {
        if !self.is_index_kept {
            self.store.set_index(&self.mailbox, index.clone()).await;
        }
        if self.kept.is_none() {
            return;
        }
        let login = self.login.clone();
        let prune = move |kept: &mut Kept| {
            kept.past.prune(&index);
            if let Some(Ok(marks)) = kept.marks.get_mut(&login) {
                marks.prune(&index);
            }
            Ok(())
        };
        if let Err(error) = self.change(prune).await {
            tracing::debug!(mailbox = %self.mailbox, %error, "what is kept of messages that are gone stays");
        }
    }

    /// What the login has done; empty marks where that is nothing.
    pub async fn marks(&mut self) -> Result<Marks, Unavailable> {
        let login = self.login.clone();
        self.kept().await?.marks_of(&login)
    }

    /// Makes the marks what `change` makes of those that are kept, whose UIDVALIDITY is `followed` (0: there were none).
    /// Refused where they have another by now: somebody has reset or renumbered them. Returns the new marks, which are durable.
    pub async fn change_marks(
        &mut self,
        followed: u64,
        change: impl Fn(Marks) -> Marks + Send + Sync,
    ) -> Result<Marks, Unavailable> {
        let (login, mailbox) = (self.login.clone(), self.mailbox.clone());
        self.change(move |kept| kept.change_marks(&login, &mailbox, followed, &change))
            .await?;
        self.marks().await
    }

    /// What the messages are and were.
    pub async fn past(&mut self) -> Result<Past, Unavailable> {
        Ok(self.kept().await?.past.clone())
    }

    /// Adds `past` to what is kept. Refused where that is of another UIDVALIDITY: then it has been renumbered meanwhile.
    pub async fn add_past(&mut self, past: &Past) -> Result<(), Unavailable> {
        self.change(|kept| kept.add_past(past)).await
    }

    /// See [`Mailboxes::renumber`](super::Mailboxes::renumber).
    pub async fn renumber(&mut self, past: &Past, from: u64, uids: &Renumbered) -> Result<(), Unavailable> {
        let renumber = |kept: &mut Kept| kept.renumber(past, from, uids);
        self.amend(Whose::All, None, renumber).await?;
        let login = &self.login;
        if let Some(kept) = &mut self.kept {
            kept.marks.retain(|whose, _| whose == login);
        }
        Ok(())
    }

    /// The removal that has not come to its end.
    pub async fn pending_move(&mut self) -> Result<Option<PendingMove>, Unavailable> {
        Ok(self.kept().await?.pending.clone())
    }

    /// Keeps `pending`, or that there is none. [`Unavailable::Lost`] if a shared store keeps another by now than was read: only who
    /// holds the maildrop writes that, so somebody else has held it meanwhile.
    pub async fn set_pending_move(&mut self, pending: Option<&PendingMove>) -> Result<(), Unavailable> {
        let known = if self.is_leased() {
            Some(self.kept().await?.pending.clone())
        } else {
            None
        };
        self.change(|kept| {
            if known.as_ref().is_some_and(|known| kept.pending != *known) && kept.pending.as_ref() != pending {
                return Err(Unavailable::Lost);
            }
            kept.pending = pending.cloned();
            Ok(())
        })
        .await
    }

    async fn kept(&mut self) -> Result<&Kept, Unavailable> {
        let kept = match self.kept.take() {
            Some(kept) => kept,
            None => self.store.kept(&self.mailbox, Whose::Login(&self.login)).await?.into(),
        };
        Ok(self.kept.insert(kept))
    }

    async fn change(&mut self, edit: impl Fn(&mut Kept) -> Result<(), Unavailable> + Send) -> Result<(), Unavailable> {
        let (known, login) = (self.kept.take().map(|kept| *kept), self.login.clone());
        self.amend(Whose::Login(&login), known, edit).await
    }

    /// What this has read is no more to be relied upon if the change fails.
    async fn amend(
        &mut self,
        whose: Whose<'_>,
        known: Option<Kept>,
        edit: impl Fn(&mut Kept) -> Result<(), Unavailable> + Send,
    ) -> Result<(), Unavailable> {
        (self.kept, self.digest) = (None, None);
        let holding = self.lease.as_deref().and_then(Lease::holding);
        // On the heap: most sessions change nothing.
        let amending = Box::pin(amend_held(&*self.store, &self.mailbox, whose, holding, known, edit));
        let kept = amending.await?;
        self.kept = Some(kept.into());
        Ok(())
    }
}
