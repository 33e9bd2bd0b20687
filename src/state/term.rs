//! How long a session may rely on what a shared store has granted.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// A lease is renewed when a quarter of it has passed, and nothing relies on its last quarter. So one renewal may fail
/// without harm.
pub(super) const PART: u32 = 4;

/// The time in which a session may rely on its lease. It ends unless the lease is renewed, and at once if another
/// holder turns up.
#[derive(Debug)]
pub(super) struct Term {
    /// When it ends: a quarter of the lease's length before the store ends the lease.
    until: Mutex<Instant>,
    lost: CancellationToken,
}

impl Term {
    /// A term that has ended: nothing is granted yet.
    pub(super) fn new() -> Self {
        Self {
            until: Mutex::new(Instant::now()),
            lost: CancellationToken::new(),
        }
    }

    /// Notes that the store has granted a lease of this `length`, at `asked` or later.
    pub(super) fn renewed(&self, asked: Instant, length: Duration) {
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        *until = (asked + length - length / PART).max(*until);
    }

    /// Notes that another holder has turned up. Returns `false` if that was noted before.
    pub(super) fn lose(&self) -> bool {
        let is_new = !self.is_lost();
        self.lost.cancel();
        is_new
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Whether the session may rely on the lease now.
    pub(super) fn holds(&self) -> bool {
        !self.is_lost() && Instant::now() < self.until()
    }

    /// Returns when the session can no longer rely on the lease. Looks at the clock whenever it is polled, because the
    /// machine may have been suspended.
    pub(super) async fn ended(&self) {
        loop {
            let until = self.until();
            let mut timer = pin!(sleep_until(until));
            let is_over = poll_fn(|cx| {
                if Instant::now() < until {
                    timer.as_mut().poll(cx)
                } else {
                    Poll::Ready(())
                }
            });
            tokio::select! {
                biased;
                () = self.lost.cancelled() => return,
                () = is_over => {}
            }
            if self.until() <= until {
                return;
            }
        }
    }

    fn until(&self) -> Instant {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
