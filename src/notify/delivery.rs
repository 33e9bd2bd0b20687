//! Sends events to the webhook. Repeats each until the webhook accepts it or a day has passed.

use std::{collections::HashMap, time::Duration};

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{ledger::Ledger, webhook::Sender};
use crate::state::now;

/// The first pause after a failure; each further failure doubles it.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);
/// How long a request in flight may take when the gateway shuts down.
const AT_THE_END: Duration = Duration::from_secs(5);
/// For how long popgate tries to send an event.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// Saves the book and sends its events until `closing` is cancelled. A request in flight then gets a moment to finish.
pub(super) async fn deliver(ledger: &Ledger, sender: Option<&Sender>, closing: &CancellationToken) {
    let mut tries = Tries::default();
    while !closing.is_cancelled() {
        // If this fails, the next review finds the book unsaved.
        let _ = ledger.save().await;
        if let Some(sender) = sender
            && tries.is_time()
            && send_next(ledger, sender, &mut tries, closing).await
        {
            continue;
        }
        let resume = tries.resume.filter(|_| ledger.next_unsent().is_some());
        tokio::select! {
            () = closing.cancelled() => {}
            () = ledger.changed() => {}
            () = sleep_until(resume.unwrap_or_else(Instant::now)), if resume.is_some() => {}
        }
    }
}

/// Counts failures to send, and says when to try again.
#[derive(Debug, Default)]
struct Tries {
    /// Failures since the last success.
    failures: u32,
    /// Nothing is sent before this instant.
    resume: Option<Instant>,
    /// When each event that has failed was first tried, by id.
    first: HashMap<String, Instant>,
}

impl Tries {
    fn is_time(&self) -> bool {
        self.resume.is_none_or(|resume| resume <= Instant::now())
    }

    fn note_success(&mut self, id: &str) {
        self.first.remove(id);
        (self.failures, self.resume) = (0, None);
    }

    /// Returns whether to give up on the event, because it has been tried for long enough.
    fn note_failure(&mut self, id: &str) -> bool {
        let now = Instant::now();
        self.resume = Some(now + pause(self.failures));
        self.failures += 1;
        let first = *self.first.entry(id.to_owned()).or_insert(now);
        let is_over = now.duration_since(first) >= PATIENCE;
        if is_over {
            self.first.remove(id);
        }
        is_over
    }
}

/// The pause after a failure that follows `failures` others.
fn pause(failures: u32) -> Duration {
    PAUSE.saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST_PAUSE)
}

/// Tries to send the next event; returns whether there was one.
async fn send_next(ledger: &Ledger, sender: &Sender, tries: &mut Tries, closing: &CancellationToken) -> bool {
    let Some(record) = ledger.next_unsent() else {
        tries.first.clear();
        return false;
    };
    let (key, id) = (&record.event.key, record.id());
    let sent = tokio::select! {
        sent = sender.send(&record, now()) => sent,
        () = ending(closing) => return true,
    };
    match sent {
        Ok(()) => {
            tracing::debug!(event = %key.kind, host = sender.host(), "the webhook has taken a notice");
            tries.note_success(&id);
            ledger.mark_sent(key, &id);
        }
        Err(error) if tries.note_failure(&id) => {
            tracing::error!(
                event = %key.kind,
                text = record.event.text,
                host = sender.host(),
                %error,
                "the webhook has not taken a notice for a day: it is not sent any more"
            );
            ledger.mark_sent(key, &id);
        }
        Err(error) => {
            tracing::warn!(event = %key.kind, host = sender.host(), %error, "the webhook does not take a notice: popgate tries again");
            ledger.postpone(key);
        }
    }
    true
}

/// Waits until the gateway shuts down, and then a moment more, so that a request in flight can finish.
async fn ending(closing: &CancellationToken) {
    closing.cancelled().await;
    sleep(AT_THE_END).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound() {
        let seconds: Vec<_> = (0..12).map(|failures| pause(failures).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]);
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_is_tried_for_a_day() {
        let mut tries = Tries::default();
        let mut failures = 0;
        while !tries.note_failure("a") {
            failures += 1;
            assert!(!tries.is_time());
            sleep_until(tries.resume.unwrap()).await;
            assert!(tries.is_time());
        }
        assert!((100..120).contains(&failures), "{failures}");
        assert!(!tries.note_failure("a"), "told again, it is another event");
        tries.note_success("a");
        assert!(tries.is_time() && tries.first.is_empty());
    }
}
