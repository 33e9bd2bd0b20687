//! For unit tests of any room: state in memory that a test alters.

use std::{fmt, ops::Deref, sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{
    Consent, Entered, Holding, Index, Kept, KeptDigest, Marked, MemoryStore, Parts, Renewed, Replacement, Seated,
    Seats, StateStore, Unavailable, Whose,
};
use crate::types::MailboxName;

/// What records are asked for.
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
pub(crate) trait Alteration: fmt::Debug + Send + Sync {
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

/// State in memory that behaves as its alteration wants.
#[derive(Debug, Default)]
pub(crate) struct Altered<A> {
    records: MemoryStore,
    alteration: A,
}

impl<A> Altered<A> {
    /// Empty state.
    pub(crate) fn new(alteration: A) -> Self {
        Self {
            records: MemoryStore::default(),
            alteration,
        }
    }
}

/// The alteration, with what a test wants to know of it.
impl<A> Deref for Altered<A> {
    type Target = A;

    fn deref(&self) -> &A {
        &self.alteration
    }
}

#[async_trait]
impl<A: Alteration> StateStore for Altered<A> {
    async fn index(&self, mailbox: &MailboxName) -> Option<Arc<Index>> {
        self.alteration.before(Access::Index).await.ok()?;
        self.records.index(mailbox).await
    }

    async fn set_index(&self, mailbox: &MailboxName, index: Arc<Index>) {
        if self.alteration.before(Access::SetIndex).await.is_ok() {
            self.records.set_index(mailbox, index).await;
        }
    }

    async fn kept(&self, mailbox: &MailboxName, whose: Whose<'_>) -> Result<Kept, Unavailable> {
        self.alteration.before(Access::Kept).await?;
        self.records.kept(mailbox, whose).await
    }

    async fn replace(&self, mailbox: &MailboxName, replacement: Replacement) -> Result<(), Unavailable> {
        self.alteration.before(Access::Replace).await?;
        self.records.replace(mailbox, replacement).await
    }

    fn lease(&self) -> Option<Duration> {
        self.alteration.lease()
    }

    async fn enter(&self, holding: &Holding, _: Option<&KeptDigest>) -> Result<Entered, Unavailable> {
        self.alteration.enter(holding).await
    }

    async fn extend(&self, holdings: &[&Holding]) -> Vec<Renewed> {
        self.alteration.extend(holdings).await
    }

    async fn leave(&self, holding: &Holding, _: Option<Arc<Index>>) -> Result<(), Unavailable> {
        self.alteration.leave(holding).await
    }

    async fn seat(&self, seats: Seats<'_>) -> Result<Seated, Unavailable> {
        self.alteration.seat(seats).await
    }

    async fn all_marks(&self) -> Result<Vec<Marked>, Unavailable> {
        self.alteration.before(Access::AllMarks).await?;
        self.records.all_marks().await
    }

    async fn parts(&self) -> Result<Parts, Unavailable> {
        self.alteration.before(Access::Parts).await?;
        self.records.parts().await
    }

    async fn token(&self, consent: &Consent) -> Result<Option<Vec<u8>>, Unavailable> {
        self.alteration.before(Access::Token).await?;
        self.records.token(consent).await
    }

    async fn set_token(
        &self,
        consent: &Consent,
        followed: Option<&[u8]>,
        token: Option<&[u8]>,
    ) -> Result<(), Unavailable> {
        self.alteration.before(Access::SetToken).await?;
        self.records.set_token(consent, followed, token).await
    }

    async fn tokens_unwritable_since(&self) -> Result<Option<u32>, Unavailable> {
        self.alteration.before(Access::TokensUnwritableSince).await?;
        self.records.tokens_unwritable_since().await
    }

    async fn notices(&self) -> Result<Vec<(String, Vec<u8>)>, Unavailable> {
        self.alteration.before(Access::Notices).await?;
        self.records.notices().await
    }

    async fn set_notice(&self, name: &str, followed: Option<&[u8]>, notice: Option<&[u8]>) -> Result<(), Unavailable> {
        self.alteration.before(Access::SetNotice(name)).await?;
        self.records.set_notice(name, followed, notice).await
    }

    fn has_failed(&self) -> bool {
        self.alteration.has_failed()
    }
}
