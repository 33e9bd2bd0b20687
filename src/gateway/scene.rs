//! Help for unit tests: a state that takes its time.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::sleep;

use crate::{
    state::{Consent, Index, Kept, Marked, MemoryStore, Parts, Replacement, StateStore, Unavailable, Whose},
    types::MailboxName,
};

/// State in memory. The first request for a token or for the marks of all logins takes long.
#[derive(Debug)]
pub(super) struct Slow {
    records: MemoryStore,
    /// How long the next request takes; `None` after the first.
    delay: Mutex<Option<Duration>>,
    asked: AtomicU32,
}

impl Slow {
    /// The first request takes this long.
    pub(super) fn at_first(delay: Duration) -> Self {
        Self {
            records: MemoryStore::default(),
            delay: Mutex::new(Some(delay)),
            asked: AtomicU32::new(0),
        }
    }

    /// How many requests for a token or for the marks of all logins there were.
    pub(super) fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }

    async fn take_time(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let delay = self.delay.lock().unwrap().take();
        if let Some(delay) = delay {
            sleep(delay).await;
        }
    }
}

#[async_trait]
impl StateStore for Slow {
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
        self.take_time().await;
        self.records.all_marks().await
    }
    async fn parts(&self) -> Result<Parts, Unavailable> {
        self.records.parts().await
    }
    async fn token(&self, consent: &Consent) -> Result<Option<Vec<u8>>, Unavailable> {
        self.take_time().await;
        self.records.token(consent).await
    }
    async fn set_token(&self, consent: &Consent, was: Option<&[u8]>, is: Option<&[u8]>) -> Result<(), Unavailable> {
        self.records.set_token(consent, was, is).await
    }
    async fn tokens_unwritable_since(&self) -> Result<Option<u32>, Unavailable> {
        self.records.tokens_unwritable_since().await
    }
}
