//! For unit tests: state in memory whose behaviour the test changes.

use std::{fmt, ops::Deref, sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{
    Consent, Entered, Holding, Index, Kept, KeptDigest, Marked, MemoryStore, Parts, Renewed, Replacement, Seated,
    Seats, StateStore, Unavailable, Whose,
};
use crate::types::MailboxName;

/// An access to records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access<'a> {
    Index,
    SetIndex,
    Kept,
    Replace,
    AllMarks,
    Parts,
    Token,
    SetToken,
    TokensUnwritableSince,
    Notices,
    /// With the name of the notice.
    SetNotice(&'a str),
}

/// How state behaves otherwise than state in memory.
#[async_trait]
pub(crate) trait Behaviour: fmt::Debug + Send + Sync {
    /// Called before each access to records. An error is the answer of the store.
    async fn before(&self, _access: Access<'_>) -> Result<(), Unavailable> {
        Ok(())
    }

    /// See [`StateStore::has_failed`].
    fn has_failed(&self) -> bool {
        false
    }

    /// See [`StateStore::lease`].
    fn lease(&self) -> Option<Duration> {
        None
    }

    /// See [`StateStore::enter`].
    async fn enter(&self, _holding: &Holding) -> Result<Entered, Unavailable> {
        Ok(Entered::Same)
    }

    /// See [`StateStore::extend`].
    async fn extend(&self, holdings: &[&Holding]) -> Vec<Renewed> {
        vec![Renewed::Held; holdings.len()]
    }

    /// See [`StateStore::leave`].
    async fn leave(&self, _holding: &Holding) -> Result<(), Unavailable> {
        Ok(())
    }

    /// See [`StateStore::seat`].
    async fn seat(&self, _seats: Seats<'_>) -> Result<Seated, Unavailable> {
        Ok(Seated::Yes)
    }
}

/// State in memory that behaves as its behaviour wants.
#[derive(Debug, Default)]
pub(crate) struct Altered<A> {
    records: MemoryStore,
    behaviour: A,
}

impl<A> Altered<A> {
    /// Empty state.
    pub(crate) fn new(behaviour: A) -> Self {
        Self {
            records: MemoryStore::default(),
            behaviour,
        }
    }
}

impl<A> Deref for Altered<A> {
    type Target = A;

    fn deref(&self) -> &A {
        &self.behaviour
    }
}

#[async_trait]
impl<A: Behaviour> StateStore for Altered<A> {
    async fn index(&self, mailbox: &MailboxName) -> Option<Arc<Index>> {
        self.behaviour.before(Access::Index).await.ok()?;
        self.records.index(mailbox).await
    }

    async fn set_index(&self, mailbox: &MailboxName, index: Arc<Index>) {
        if self.behaviour.before(Access::SetIndex).await.is_ok() {
            self.records.set_index(mailbox, index).await;
        }
    }

    async fn kept(&self, mailbox: &MailboxName, whose: Whose<'_>) -> Result<Kept, Unavailable> {
        self.behaviour.before(Access::Kept).await?;
        self.records.kept(mailbox, whose).await
    }

    async fn replace(&self, mailbox: &MailboxName, replacement: Replacement) -> Result<(), Unavailable> {
        self.behaviour.before(Access::Replace).await?;
        self.records.replace(mailbox, replacement).await
    }

    fn lease(&self) -> Option<Duration> {
        self.behaviour.lease()
    }

    async fn enter(&self, holding: &Holding, _: Option<&KeptDigest>) -> Result<Entered, Unavailable> {
        self.behaviour.enter(holding).await
    }

    async fn extend(&self, holdings: &[&Holding]) -> Vec<Renewed> {
        self.behaviour.extend(holdings).await
    }

    async fn leave(&self, holding: &Holding, _: Option<Arc<Index>>) -> Result<(), Unavailable> {
        self.behaviour.leave(holding).await
    }

    async fn seat(&self, seats: Seats<'_>) -> Result<Seated, Unavailable> {
        self.behaviour.seat(seats).await
    }

    async fn all_marks(&self) -> Result<Vec<Marked>, Unavailable> {
        self.behaviour.before(Access::AllMarks).await?;
        self.records.all_marks().await
    }

    async fn parts(&self) -> Result<Parts, Unavailable> {
        self.behaviour.before(Access::Parts).await?;
        self.records.parts().await
    }

    async fn token(&self, consent: &Consent) -> Result<Option<Vec<u8>>, Unavailable> {
        self.behaviour.before(Access::Token).await?;
        self.records.token(consent).await
    }

    async fn set_token(
        &self,
        consent: &Consent,
        followed: Option<&[u8]>,
        token: Option<&[u8]>,
    ) -> Result<(), Unavailable> {
        self.behaviour.before(Access::SetToken).await?;
        self.records.set_token(consent, followed, token).await
    }

    async fn tokens_unwritable_since(&self) -> Result<Option<u32>, Unavailable> {
        self.behaviour.before(Access::TokensUnwritableSince).await?;
        self.records.tokens_unwritable_since().await
    }

    async fn notices(&self) -> Result<Vec<(String, Vec<u8>)>, Unavailable> {
        self.behaviour.before(Access::Notices).await?;
        self.records.notices().await
    }

    async fn set_notice(&self, name: &str, followed: Option<&[u8]>, notice: Option<&[u8]>) -> Result<(), Unavailable> {
        self.behaviour.before(Access::SetNotice(name)).await?;
        self.records.set_notice(name, followed, notice).await
    }

    fn has_failed(&self) -> bool {
        self.behaviour.has_failed()
    }
}
