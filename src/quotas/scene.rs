//! For unit tests: a store that gateways share, of which only the count of connections matters.

use std::{
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;

use super::Quotas;
use crate::state::{Altered, Behaviour, Seated, Seats, StateStore, Unavailable};

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

/// See [`quotas`].
#[derive(Debug, Default)]
struct Store {
    counted: Arc<Mutex<Counted>>,
}

/// The part of a gateway in a store that counts the connections of one user, and what the store counts.
pub(crate) fn quotas() -> (Quotas, Arc<Mutex<Counted>>) {
    let store = Store::default();
    let counted = store.counted.clone();
    let store: Arc<dyn StateStore> = Arc::new(Altered::new(store));
    let quotas = Quotas::join(&store, None).unwrap().unwrap();
    (quotas, counted)
}

#[async_trait]
impl Behaviour for Store {
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
}
