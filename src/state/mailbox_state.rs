//! What a session knows of the records of its mailbox, and how it changes them.

use std::{sync::Arc, time::Duration};

use super::{
    Index, Kept, KeptDigest, KnownIndex, Lease, Leases, MailboxName, Marks, Past, PendingMove, Renumbered, StateStore,
    Tenure, Unavailable, Whose, mailboxes::amend_held,
};

/// The records of one mailbox, for one login. They are read when the session first needs them. If somebody else has
/// changed them since, the session's own change starts from the current records, so it undoes nobody's change.
#[derive(Debug)]
pub struct MailboxState {
    store: Arc<dyn StateStore>,
    mailbox: Arc<MailboxName>,
    login: String,
    /// The records as they were last read or written. In a box, because most sessions read nothing.
    kept: Option<Box<Kept>>,
    /// The digest that the records had when the session took the maildrop; `None` if the session does not know it, or
    /// has read the records since.
    digest: Option<KeptDigest>,
    /// What the store said about the index when the session took the maildrop; `None` if it said nothing.
    index: Option<KnownIndex>,
    /// The lease of the maildrop, while the session holds it.
    lease: Option<Box<Lease>>,
    /// Whether the store has saved the index when the maildrop was given up.
    is_index_kept: bool,
}

impl MailboxState {
    /// State of `login` in `mailbox`, for a session that does not hold the maildrop. Nothing is read yet.
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

    /// Takes the maildrop that `login` has in `mailbox`, and waits for it for `patience` at most. `None` if another
    /// session holds it. `is_private`: other logins may hold the mailbox at the same time. `known`: the digest of the
    /// records that the login's last session left in this process.
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

    /// Whether the records may differ from those that the login's last session left in this process.
    pub fn has_news(&self) -> bool {
        self.index.is_some()
    }

    /// The digest of the records. `None` if the store does not compare digests, or if nothing is known of the records.
    pub fn digest(&self) -> Option<KeptDigest> {
        match &self.kept {
            Some(kept) => self.store.digest(&self.mailbox, &self.login, kept),
            None => self.digest.clone(),
        }
    }

    /// Makes sure that the session holds the maildrop, and will hold it for some seconds. The [`Tenure`] tells when
    /// that ends. [`Unavailable::Lost`] if another session has the maildrop.
    pub async fn secured(&self) -> Result<Tenure, Unavailable> {
        match &self.lease {
            Some(lease) => lease.check().await.map(|()| lease.tenure()),
            None => Ok(Tenure::default()),
        }
    }

    /// Whether the store is shared and the session holds the maildrop there. Then the session must store what it is
    /// about to do before it does it.
    pub fn is_leased(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.holding().is_some())
    }

    /// Gives the maildrop up. Returns once the next session can have it. `index`: the index that [`MailboxState::save`]
    /// is to save afterwards. A shared store saves it with the same request.
    pub async fn leave(&mut self, index: Option<&Arc<Index>>) {
        if let Some(lease) = self.lease.take() {
            self.is_index_kept = lease.leave(index.cloned()).await;
        }
    }

    /// The index of the mailbox; `None` if there is none.
    pub async fn index(&self) -> Option<Arc<Index>> {
        match &self.index {
            Some(KnownIndex::Whole(index)) => Some(index.clone()),
            Some(KnownIndex::None) => None,
            Some(KnownIndex::Large) | None => self.store.index(&self.mailbox).await,
        }
    }

    /// Saves `index` for the next session. If the records have been read, also removes what they have of messages that
    /// are gone. A failure is logged.
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
            tracing::debug!(mailbox = %self.mailbox, %error, "records of messages that are gone are not removed from state");
        }
    }

    /// The marks of the login; empty if it has none.
    pub async fn marks(&mut self) -> Result<Marks, Unavailable> {
        let login = self.login.clone();
        self.kept().await?.marks_of(&login)
    }

    /// Applies `change` to the stored marks, whose UIDVALIDITY must be `followed` (0: there were none).
    /// [`Unavailable::Changed`] if they have another UIDVALIDITY: somebody has reset or renumbered them. Returns the
    /// new marks, which are durable.
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

    /// Identities and earlier names of the messages.
    pub async fn past(&mut self) -> Result<Past, Unavailable> {
        Ok(self.kept().await?.past.clone())
    }

    /// Adds `past` to the stored past. [`Unavailable::Changed`] if that has another UIDVALIDITY: the mailbox has been
    /// renumbered meanwhile.
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

    /// The removal that has not been completed, if there is one.
    pub async fn pending_move(&mut self) -> Result<Option<PendingMove>, Unavailable> {
        Ok(self.kept().await?.pending.clone())
    }

    /// Stores `pending`, or removes it (`None`). [`Unavailable::Lost`] if the pending move in a shared store is not the
    /// one that this session has read: only the holder of the maildrop writes it, so another session has held the
    /// maildrop meanwhile.
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

    /// If the change fails, `kept` becomes `None`: the records are read again when they are needed.
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
