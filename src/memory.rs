//! After a burst of sessions, returns the memory that it has left free to the system.

use std::time::Duration;

use crate::telemetry::activity;

/// How often to check whether sessions have begun or ended. So a steady flow of sessions costs one scan of the heap in
/// this time.
const PAUSE: Duration = Duration::from_secs(1);

/// Calls `give_back` within [`PAUSE`] after sessions have begun or ended. Never returns.
pub(crate) async fn give_back_after_bursts(give_back: fn()) {
    let mut before = activity();
    loop {
        tokio::time::sleep(PAUSE).await;
        let now = activity();
        if now != before {
            give_back();
            before = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::advance;

    use super::*;
    use crate::telemetry::Presence;

    static CALLS: AtomicUsize = AtomicUsize::new(0);

    /// Other tests of the process may begin sessions meanwhile, so this only shows that each change leads to a call.
    #[tokio::test(start_paused = true)]
    async fn memory_is_given_back_after_sessions_begin_and_end() {
        let work = tokio::spawn(give_back_after_bursts(|| {
            CALLS.fetch_add(1, Ordering::Relaxed);
        }));
        tokio::task::yield_now().await;
        for expected in 1..=2 {
            let presence = Presence::new("test".into(), ([192, 0, 2, 7], 4711).into());
            drop(presence);
            advance(2 * PAUSE).await;
            tokio::task::yield_now().await;
            assert!(CALLS.load(Ordering::Relaxed) >= expected);
        }
        work.abort();
    }
}
