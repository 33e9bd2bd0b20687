//! What a session knows of the records of its mailbox, and changes in them.

use std::sync::Arc;

use super::{
    Index, Kept, MailboxName, Marks, Past, PendingMove, Renumbered, StateStore, Unavailable, Whose, mailboxes::amend,
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
}

impl MailboxState {
    /// Of `login` in `mailbox`; nothing is read yet.
    pub fn new(store: Arc<dyn StateStore>, mailbox: Arc<MailboxName>, login: String) -> Self {
        Self {
            store,
            mailbox,
            login,
            kept: None,
        }
    }

    /// What is known of the messages; `None` where nothing is.
    pub async fn index(&self) -> Option<Arc<Index>> {
        self.store.index(&self.mailbox).await
    }

    /// Remembers `index` for the next session, and forgets what is kept of messages that it has lost, as far as that has been
    /// read. A failure is logged.
    pub async fn save(&mut self, index: Arc<Index>) {
        self.store.set_index(&self.mailbox, index.clone()).await;
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
        let mut kept = amend(&*self.store, &self.mailbox, Whose::All, None, renumber).await?;
        kept.marks.retain(|login, _| *login == self.login);
        self.kept = Some(kept.into());
        Ok(())
    }

    /// The removal that has not come to its end.
    pub async fn pending_move(&mut self) -> Result<Option<PendingMove>, Unavailable> {
        Ok(self.kept().await?.pending.clone())
    }

    /// Keeps `pending`, or that there is none.
    pub async fn set_pending_move(&mut self, pending: Option<&PendingMove>) -> Result<(), Unavailable> {
        self.change(|kept| {
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

    /// What this has read is no more to be relied upon if the change fails.
    async fn change(&mut self, edit: impl Fn(&mut Kept) -> Result<(), Unavailable> + Send) -> Result<(), Unavailable> {
        let (known, whose) = (self.kept.take().map(|kept| *kept), Whose::Login(&self.login));
        let kept = amend(&*self.store, &self.mailbox, whose, known, edit).await?;
        self.kept = Some(kept.into());
        Ok(())
    }
}
