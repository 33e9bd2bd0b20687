//! Help for unit tests: a state that takes its time.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::sleep;

use crate::state::{Access, Altered, Behaviour, Unavailable};

/// State of which the first request for a token or for the marks of all logins takes long.
#[derive(Debug)]
pub(super) struct Slow {
    /// How long the next request takes; `None` after the first.
    delay: Mutex<Option<Duration>>,
    asked: AtomicU32,
}

impl Slow {
    /// The first request takes this long.
    pub(super) fn at_first(delay: Duration) -> Altered<Self> {
        Altered::new(Self {
            delay: Mutex::new(Some(delay)),
            asked: AtomicU32::new(0),
        })
    }

    /// How many requests for a token or for the marks of all logins there were.
    pub(super) fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Behaviour for Slow {
    async fn before(&self, access: Access<'_>) -> Result<(), Unavailable> {
        if matches!(access, Access::Token | Access::AllMarks) {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let delay = self.delay.lock().unwrap().take();
            if let Some(delay) = delay {
                sleep(delay).await;
            }
        }
        Ok(())
    }
}
