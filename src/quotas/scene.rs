//! For unit tests: a store that gateways share, of which only the count of connections matters.

use std::{
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;

use super::Quotas;
use crate::{
    state::{
        Consent, Index, Kept, Marked, MemoryStore, Parts, Replacement, Seated, Seats, StateStore, Unavailable, Whose,
    },
    types::MailboxName,
};

/// What becomes of a question about connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Fate {
    #[default]
    Answered,
    /// The store does what it is asked, and the answer is lost.
    AnswerLost,
    /// The store does what it is asked, and does not answer.
    AnswerPending,
    /// The store has not got the question, and does not answer.
    QuestionPending,
}

/// What the store of [`quotas`] counts of one user, and how it behaves.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counted {
    pub(crate) ours: usize,
    /// The connections at other gateways.
    pub(crate) others: usize,
    pub(crate) fate: Fate,
}

#[derive(Debug, Default)]
struct Store {
    records: MemoryStore,
    counted: Arc<Mutex<Counted>>,
}

/// The part of a gateway in a store that counts the connections of one user, and what the store counts.
pub(crate) fn quotas() -> (Quotas, Arc<Mutex<Counted>>) {
    let store = Store::default();
    let counted = store.counted.clone();
    let store: Arc<dyn StateStore> = Arc::new(store);
    let quotas = Quotas::join(&store, None).unwrap().unwrap();
    (quotas, counted)
}

#[async_trait]
impl StateStore for Store {
    fn lease(&self) -> Option<Duration> {
        Some(Duration::from_secs(60))
    }
    async fn seat(&self, seats: Seats<'_>) -> Result<Seated, Unavailable> {
        let (fate, is_seated) = {
            let mut counted = self.counted.lock().unwrap();
            let is_heard = counted.fate != Fate::QuestionPending;
            let is_seated = seats.count <= counted.ours || seats.count + counted.others <= seats.limit;
            if is_heard && is_seated {
                counted.ours = seats.count;
            }
            (counted.fate, is_seated)
        };
        match fate {
            Fate::Answered if is_seated => Ok(Seated::Yes),
            Fate::Answered => Ok(Seated::Full(Vec::new())),
            Fate::AnswerLost => Err(Unavailable::Failed),
            Fate::AnswerPending | Fate::QuestionPending => pending().await,
        }
    }
    async fn index(&self, mailbox: &MailboxName) -> Option<Arc<Index>> {
        self.records.index(mailbox).await
    }
    async fn set_index(&self, mailbox: &MailboxName, index: Arc<Index>) {
        self.records.set_index(mailbox, index).await;
    }
    async fn kept(&self, mailbox: &MailboxName, whose: Whose<'_>) -> Result<Kept, Unavailable> {
        self.records.kept(mailbox, whose).await
    }
    async fn replace(&self, mailbox: &MailboxName, replacement: Replacement) -> Result<(), Unavailable> {
        self.records.replace(mailbox, replacement).await
    }
    async fn all_marks(&self) -> Result<Vec<Marked>, Unavailable> {
        self.records.all_marks().await
    }
    async fn parts(&self) -> Result<Parts, Unavailable> {
        self.records.parts().await
    }
    async fn token(&self, consent: &Consent) -> Result<Option<Vec<u8>>, Unavailable> {
        self.records.token(consent).await
    }
    async fn set_token(&self, consent: &Consent, was: Option<&[u8]>, is: Option<&[u8]>) -> Result<(), Unavailable> {
        self.records.set_token(consent, was, is).await
    }
    async fn tokens_unwritable_since(&self) -> Result<Option<u32>, Unavailable> {
        self.records.tokens_unwritable_since().await
    }
}
