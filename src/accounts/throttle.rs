//! Slows down guessing: too many failures of one login from one address are answered without being tried.

use std::{collections::hash_map::RandomState, hash::BuildHasher, net::IpAddr, sync::Mutex, time::Duration};

use dashmap::DashMap;
use tokio::time::Instant;

/// A window opens with a failure and lasts so long.
const WINDOW: Duration = Duration::from_secs(60);
/// Failures that a window bears; more throttle until it ends.
const FAILURES: u32 = 10;
/// Windows remembered at once (some 5 MB). Where so many are open, new ones are not counted: `sessions_per_address`
/// and the upstream's own limits hold such a flood.
const WINDOWS: usize = 65_536;

/// How often a full table may be searched for windows that have ended.
const PURGE_INTERVAL: Duration = Duration::from_secs(1);

/// Counts failures by address and login.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    windows: DashMap<Key, Window>,
    hasher: RandomState,
    purged: Mutex<Option<Instant>>,
}

/// A login counts by its keyed hash: a key has one size, whatever a device sends.
type Key = (IpAddr, u64);

#[derive(Debug)]
struct Window {
    since: Instant,
    failures: u32,
}

impl Window {
    fn is_open(&self) -> bool {
        self.since.elapsed() < WINDOW
    }
}

impl Throttle {
    /// Whether more than [`FAILURES`] happened within the current window.
    pub(super) fn is_throttled(&self, login: &[u8], peer: IpAddr) -> bool {
        let window = self.windows.get(&self.key(login, peer));
        window.is_some_and(|window| window.is_open() && window.failures > FAILURES)
    }

    /// Counts a failure.
    pub(super) fn failed(&self, login: &[u8], peer: IpAddr) {
        if self.windows.len() >= WINDOWS {
            self.purge();
        }
        let key = self.key(login, peer);
        if self.windows.len() >= WINDOWS && !self.windows.contains_key(&key) {
            return;
        }
        let fresh = || Window {
            since: Instant::now(),
            failures: 0,
        };
        let mut window = self.windows.entry(key).or_insert_with(fresh);
        if !window.is_open() {
            *window = fresh();
        }
        window.failures = window.failures.saturating_add(1);
    }

    /// Forgets the failures.
    pub(super) fn succeeded(&self, login: &[u8], peer: IpAddr) {
        self.windows.remove(&self.key(login, peer));
    }

    fn purge(&self) {
        let mut purged = self.purged.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if purged.is_none_or(|at| at.elapsed() >= PURGE_INTERVAL) {
            self.windows.retain(|_, window| window.is_open());
            *purged = Some(Instant::now());
        }
    }

    fn key(&self, login: &[u8], peer: IpAddr) -> Key {
        (peer.to_canonical(), self.hasher.hash_one(login))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[tokio::test(start_paused = true)]
    async fn more_than_ten_failures_throttle_until_the_window_ends() {
        let throttle = Throttle::default();
        for _ in 0..FAILURES {
            throttle.failed(b"jane", PEER);
        }
        assert!(!throttle.is_throttled(b"jane", PEER));
        throttle.failed(b"jane", PEER);
        assert!(throttle.is_throttled(b"jane", PEER));
        assert!(!throttle.is_throttled(b"john", PEER), "another login");
        assert!(!throttle.is_throttled(b"jane", [10, 0, 0, 1].into()), "another address");
        tokio::time::advance(WINDOW - Duration::from_millis(1)).await;
        assert!(throttle.is_throttled(b"jane", PEER));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!throttle.is_throttled(b"jane", PEER));
        throttle.failed(b"jane", PEER);
        assert!(!throttle.is_throttled(b"jane", PEER), "a new window counts anew");
    }

    #[tokio::test(start_paused = true)]
    async fn success_forgets() {
        let throttle = Throttle::default();
        for _ in 0..=FAILURES {
            throttle.failed(b"jane", PEER);
        }
        throttle.succeeded(b"jane", PEER);
        assert!(!throttle.is_throttled(b"jane", PEER));
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_purged() {
        let throttle = Throttle::default();
        for number in 0..WINDOWS + 100 {
            throttle.failed(&number.to_be_bytes(), PEER);
        }
        assert_eq!(throttle.windows.len(), WINDOWS);
        tokio::time::advance(WINDOW).await;
        throttle.failed(b"jane", PEER);
        assert_eq!(throttle.windows.len(), 1);
    }

    #[test]
    fn a_mapped_address_is_the_same_address() {
        let throttle = Throttle::default();
        let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
        for _ in 0..=FAILURES {
            throttle.failed(b"jane", PEER);
        }
        assert!(throttle.is_throttled(b"jane", mapped.into()));
    }
}
