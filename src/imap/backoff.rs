//! Pauses: for a while popgate does not log in as an upstream user, because the server has asked for that.

use std::time::Duration;

use dashmap::DashMap;
use tokio::time::Instant;

use super::{pause::Pause, slots::TrustLevel};

/// The first pause if the server does not say how long. Each further one is twice as long, up to
/// [`LONGEST_UNSPECIFIED`].
const FIRST: Duration = Duration::from_secs(30);
const LONGEST_UNSPECIFIED: Duration = Duration::from_secs(4 * 60);
/// The longest pause, even if the server asks for more: a device should find out within its next polls that the
/// upstream works again.
const LONGEST: Duration = Duration::from_secs(10 * 60);

/// The maximum number of pauses at one time. While there are so many, no pause begins for another user.
const PAUSES: usize = 65_536;

/// The pauses of one upstream's users, by trust level and user.
///
/// A server may ask for a pause because of wrong passwords. So a pause that a guess has caused holds only for guesses.
/// A pause that a proven login has caused holds for all logins of the user.
#[derive(Debug, Default)]
pub(super) struct Backoff(DashMap<(TrustLevel, String), Wait>);

#[derive(Debug)]
struct Wait {
    until: Instant,
    /// How long the last pause was for which the server gave no length.
    unspecified: Option<Duration>,
}

impl Wait {
    fn left(&self) -> Option<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// Whether the pause ended so long ago that a further one is not its continuation.
    fn is_past(&self) -> bool {
        self.until.elapsed() >= LONGEST
    }
}

impl Backoff {
    /// How long a login as `user` with `trust` must still wait; `None` if it need not.
    pub(super) fn left(&self, user: &str, trust: TrustLevel) -> Option<Duration> {
        let left = |trust| self.0.get(&(trust, user.to_owned()))?.left();
        match trust {
            TrustLevel::Proven => left(TrustLevel::Proven),
            TrustLevel::Guess => left(TrustLevel::Proven).max(left(TrustLevel::Guess)),
        }
    }

    /// How long the longest of all pauses still lasts; zero if there is none.
    pub(super) fn longest(&self) -> Duration {
        self.0.iter().filter_map(|wait| wait.left()).max().unwrap_or_default()
    }

    /// Begins or prolongs a pause, because the server has asked a login as `user` with `trust` for it. Returns how long
    /// the pause lasts from now on; `None` if it does not end later than before.
    pub(super) fn begin(&self, user: &str, trust: TrustLevel, pause: Pause) -> Option<Duration> {
        // Pauses that ended long ago are forgotten.
        self.0.retain(|_, wait| !wait.is_past());
        let key = (trust, user.to_owned());
        if self.0.len() >= PAUSES && !self.0.contains_key(&key) {
            return None;
        }
        let mut wait = self.0.entry(key).or_insert_with(|| Wait {
            until: Instant::now(),
            unspecified: None,
        });
        let length = match pause {
            Pause::For(suggested) => suggested.min(LONGEST),
            // The server may ask several logins at once for a pause: that counts as one time.
            Pause::Unspecified if wait.left().is_some() => return None,
            Pause::Unspecified => {
                let length = wait
                    .unspecified
                    .map_or(FIRST, |last| (2 * last).min(LONGEST_UNSPECIFIED));
                *wait.unspecified.insert(length)
            }
        };
        let until = Instant::now() + length;
        let is_longer = until > wait.until;
        wait.until = wait.until.max(until);
        is_longer.then_some(length)
    }

    /// Ends the pause of `user`, because the server serves the user again. A pause that guesses have caused goes on for
    /// guesses.
    pub(super) fn end(&self, user: &str) {
        self.0.remove(&(TrustLevel::Proven, user.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn seconds(backoff: &Backoff) -> Option<u64> {
        backoff.left("eva", TrustLevel::Proven).map(|left| left.as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn as_long_as_the_server_says_but_ten_minutes_at_most() {
        let backoff = Backoff::default();
        assert_eq!(seconds(&backoff), None);
        backoff.begin("eva", TrustLevel::Proven, Pause::For(Duration::from_millis(299_961)));
        assert_eq!(seconds(&backoff), Some(299));
        assert_eq!(backoff.left("ida", TrustLevel::Proven), None, "each user for itself");
        backoff.begin("eva", TrustLevel::Proven, Pause::For(Duration::from_secs(1)));
        backoff.begin("eva", TrustLevel::Proven, Pause::Unspecified);
        assert_eq!(seconds(&backoff), Some(299), "never shorter");
        advance(Duration::from_secs(300)).await;
        assert_eq!(seconds(&backoff), None);
        backoff.begin("eva", TrustLevel::Proven, Pause::For(Duration::from_secs(86_400)));
        assert_eq!(seconds(&backoff), Some(600));
        backoff.begin("ida", TrustLevel::Proven, Pause::For(Duration::ZERO));
        assert_eq!(backoff.left("ida", TrustLevel::Proven), None);
    }

    #[tokio::test(start_paused = true)]
    async fn longer_each_time_until_it_is_over() {
        let backoff = Backoff::default();
        for length in [30, 60, 120, 240, 240] {
            backoff.begin("eva", TrustLevel::Proven, Pause::Unspecified);
            backoff.begin("eva", TrustLevel::Proven, Pause::Unspecified);
            assert_eq!(seconds(&backoff), Some(length));
            advance(Duration::from_secs(length)).await;
            assert_eq!(seconds(&backoff), None);
        }
        backoff.end("eva");
        backoff.begin("eva", TrustLevel::Proven, Pause::Unspecified);
        assert_eq!(seconds(&backoff), Some(30), "forgotten on success");
        advance(Duration::from_secs(30) + LONGEST).await;
        backoff.begin("ida", TrustLevel::Proven, Pause::Unspecified);
        assert_eq!(backoff.0.len(), 1, "what is long past is forgotten too");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_that_guesses_bring_about_is_theirs() {
        let backoff = Backoff::default();
        let left = |trust| backoff.left("eva", trust).map(|left| left.as_secs());
        backoff.begin("eva", TrustLevel::Guess, Pause::Unspecified);
        assert_eq!((left(TrustLevel::Guess), left(TrustLevel::Proven)), (Some(30), None));
        backoff.end("eva");
        assert_eq!(left(TrustLevel::Guess), Some(30), "the owner's success does not end it");
        backoff.begin("eva", TrustLevel::Proven, Pause::For(Duration::from_secs(200)));
        assert_eq!(
            (left(TrustLevel::Guess), left(TrustLevel::Proven)),
            (Some(200), Some(200))
        );
        backoff.end("eva");
        assert_eq!((left(TrustLevel::Guess), left(TrustLevel::Proven)), (Some(30), None));
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let backoff = Backoff::default();
        for number in 0..PAUSES {
            let wait = Wait {
                until: Instant::now() + FIRST,
                unspecified: None,
            };
            backoff.0.insert((TrustLevel::Guess, number.to_string()), wait);
        }
        backoff.begin("one too many", TrustLevel::Guess, Pause::Unspecified);
        assert_eq!(backoff.0.len(), PAUSES);
        backoff.begin("7", TrustLevel::Guess, Pause::For(LONGEST));
        assert_eq!(
            backoff.left("7", TrustLevel::Guess),
            Some(LONGEST),
            "those that are known are kept up"
        );
    }
}
