//! Values that many callers need and that take time to find, such as a connection: one task finds the value for all of
//! them.

use std::sync::Arc;

use tokio::{sync::Mutex, time::Instant};

use super::failure::{Failure, Remedy};

/// A value, or the task that finds it.
#[derive(Debug)]
pub(super) struct Flight<T>(Arc<Mutex<Option<Landed<T>>>>);

/// What a task has found, and when.
#[derive(Debug)]
struct Landed<T> {
    result: Result<T, Failure>,
    at: Instant,
}

impl<T> Default for Flight<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone + Send + 'static> Flight<T> {
    /// The value. If it is not known, `find` finds it. All callers that wait meanwhile get the same result, and a
    /// failure too: otherwise each would wait for a failure of its own, one after the other. If this future is dropped,
    /// the task goes on for the others.
    pub(super) async fn get<F>(&self, find: impl FnOnce() -> F + Send) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        // Nearly always the value is known.
        if let Ok(landed) = self.0.try_lock()
            && let Some(Landed { result: Ok(value), .. }) = &*landed
        {
            return Ok(value.clone());
        }
        let asked = Instant::now();
        let mut landed = self.0.clone().lock_owned().await;
        match &*landed {
            Some(Landed { result: Ok(value), .. }) => return Ok(value.clone()),
            Some(Landed {
                result: Err(failure),
                at,
            }) if *at >= asked => return Err(failure.clone()),
            _ => {}
        }
        let finding = find();
        let task = tokio::spawn(async move {
            let result = finding.await;
            *landed = Some(Landed {
                result: result.clone(),
                at: Instant::now(),
            });
            result
        });
        task.await
            .unwrap_or_else(|_| Err(Failure::passing("the attempt was given up", Remedy::Reconnect)))
    }

    /// Forgets the value, unless it was found after `begun`.
    pub(super) async fn forget(&self, begun: Instant) {
        // A failure stays for those who wait for it.
        self.0
            .lock()
            .await
            .take_if(|landed| landed.result.is_ok() && landed.at <= begun);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use futures_util::future::join_all;
    use tokio::time::{advance, sleep, timeout};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_share_a_failure_and_the_next_caller_tries_again() {
        let flight = Flight::<u32>::default();
        let attempts = Arc::new(AtomicUsize::new(0));
        let failing = || {
            let attempts = attempts.clone();
            async move {
                attempts.fetch_add(1, Ordering::Relaxed);
                sleep(SECOND).await;
                Err::<u32, _>(Failure::wrong("no"))
            }
        };
        let begun = Instant::now();
        let results = join_all((0..20).map(|_| flight.get(failing))).await;
        assert!(results.iter().all(Result::is_err));
        assert_eq!(attempts.load(Ordering::Relaxed), 1);
        assert!(begun.elapsed() < SECOND * 2, "{:?}", begun.elapsed());
        advance(SECOND).await;
        assert_eq!(flight.get(|| async { Ok(7) }).await.ok(), Some(7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_waits_no_longer_stops_nothing() {
        let flight = Flight::<u32>::default();
        let slow = || async {
            sleep(SECOND).await;
            Ok::<u32, Failure>(7)
        };
        assert!(timeout(SECOND / 2, flight.get(slow)).await.is_err());
        let begun = Instant::now();
        let found = flight.get(|| async { Err(Failure::wrong("not asked")) }).await;
        assert_eq!(found.ok(), Some(7));
        assert!(begun.elapsed() < SECOND, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_that_is_newer_stays() {
        let flight = Flight::<u32>::default();
        let begun = Instant::now();
        advance(SECOND).await;
        assert_eq!(flight.get(|| async { Ok(7) }).await.ok(), Some(7));
        flight.forget(begun).await;
        assert_eq!(flight.get(|| async { Ok(8) }).await.ok(), Some(7));
        flight.forget(Instant::now()).await;
        assert_eq!(flight.get(|| async { Ok(8) }).await.ok(), Some(8));
    }
}
