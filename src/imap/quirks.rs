//! What was found out about a server that deviates from the RFC, so that it need not be found out again at each login.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

/// How many messages one command lists at first, if the server hung up on one command for all of them.
const FIRST_PORTION: u32 = 1000;
/// How long it is remembered that a server takes one command at a time, or lists only in portions. The true cause may
/// have been a network failure.
const LASTS: Duration = Duration::from_secs(60 * 60);

/// The quirks of one upstream's server. They survive a reload of the configuration if the server stays the same.
#[derive(Debug, Default)]
pub(super) struct Quirks {
    /// Whether the server takes several commands at once, and since when that is known; no time if it is configured.
    pipelining: Mutex<(Pipelining, Option<Instant>)>,
    /// How many messages are listed by one command, and since when that is known.
    portion: Mutex<Option<(u32, Instant)>>,
    no_search: AtomicBool,
}

/// Whether a server takes several commands at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Pipelining {
    /// Not known yet. Several commands are tried, with little patience.
    #[default]
    Unknown,
    /// It takes several commands at once.
    Works,
    /// It fell silent or hung up when several commands were sent at once. Now one at a time is tried.
    Suspect,
    /// It takes one at a time.
    Fails,
}

impl Quirks {
    /// Nothing is known yet except `pipelining`, as the configuration has it.
    pub(super) fn new(pipelining: bool) -> Self {
        let quirks = Self::default();
        if !pipelining {
            *quirks.pipelining.lock().unwrap_or_else(PoisonError::into_inner) = (Pipelining::Fails, None);
        }
        quirks
    }

    pub(super) fn pipelining(&self) -> Pipelining {
        let (pipelining, since) = *self.pipelining.lock().unwrap_or_else(PoisonError::into_inner);
        match since {
            Some(since) if pipelining == Pipelining::Fails && since.elapsed() >= LASTS => Pipelining::Unknown,
            _ => pipelining,
        }
    }

    pub(super) fn set_pipelining(&self, pipelining: Pipelining) {
        let mut known = self.pipelining.lock().unwrap_or_else(PoisonError::into_inner);
        *known = (pipelining, Some(Instant::now()));
    }

    /// Whether several commands may be sent at once: they may until the server is suspected to take one at a time.
    pub(super) fn takes_several(&self) -> bool {
        matches!(self.pipelining(), Pipelining::Works | Pipelining::Unknown)
    }

    /// How many messages to list by one command; `None`: all of them.
    pub(super) fn portion(&self) -> Option<u32> {
        let portion = *self.portion.lock().unwrap_or_else(PoisonError::into_inner);
        portion
            .filter(|(_, since)| since.elapsed() < LASTS)
            .map(|(portion, _)| portion)
    }

    /// Notes that the server hangs up if one command lists more messages than this.
    pub(super) fn set_portion(&self, portion: u32) {
        *self.portion.lock().unwrap_or_else(PoisonError::into_inner) = Some((portion, Instant::now()));
    }

    /// Whether the server answers SEARCH. If not, flags are asked for instead.
    pub(super) fn has_search(&self) -> bool {
        !self.no_search.load(Relaxed)
    }

    pub(super) fn set_no_search(&self) {
        self.no_search.store(true, Relaxed);
    }
}

/// The next smaller portion to try on a server that hung up on `portion` (`None`: on all at once), if `left` messages
/// are still to be listed; `None` if there is no smaller one.
pub(super) fn smaller_portion(portion: Option<u32>, left: u32) -> Option<u32> {
    let mut smaller = portion.map_or(FIRST_PORTION, |portion| portion / 2);
    while smaller > 0 && smaller >= left {
        smaller /= 2;
    }
    Some(smaller).filter(|&portion| portion > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_shrink_to_one_message() {
        let mut tried = vec![smaller_portion(None, 5000).unwrap()];
        while let Some(portion) = smaller_portion(tried.last().copied(), 5000) {
            tried.push(portion);
        }
        assert_eq!(tried, [1000, 500, 250, 125, 62, 31, 15, 7, 3, 1]);
        assert_eq!(smaller_portion(None, 300), Some(250));
        assert_eq!(smaller_portion(None, 2), Some(1));
        assert_eq!((smaller_portion(None, 1), smaller_portion(None, 0)), (None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_portion_is_forgotten_after_a_while() {
        let quirks = Quirks::new(true);
        assert_eq!(quirks.portion(), None);
        quirks.set_portion(500);
        assert_eq!(quirks.portion(), Some(500));
        tokio::time::advance(LASTS).await;
        assert_eq!(quirks.portion(), None);
    }

    #[test]
    fn pipelining_is_unknown_unless_configured() {
        assert_eq!(Quirks::new(true).pipelining(), Pipelining::Unknown);
        let quirks = Quirks::new(false);
        assert_eq!(quirks.pipelining(), Pipelining::Fails);
        for state in [
            Pipelining::Unknown,
            Pipelining::Works,
            Pipelining::Suspect,
            Pipelining::Fails,
        ] {
            quirks.set_pipelining(state);
            assert_eq!(quirks.pipelining(), state);
        }
    }
}
