//! Limits log lines about events that anybody can cause at will: at most one line a minute for each network.

use std::{net::IpAddr, time::Duration};

use dashmap::DashMap;
use tokio::time::Instant;

use crate::types::network;

/// For how long further events of a network are not logged.
const PAUSE: Duration = Duration::from_secs(60);
/// The most networks that are remembered. While there are more, events of the others are not logged.
const NETWORKS: usize = 4096;

/// Remembers when an event of each network was last logged.
#[derive(Debug, Default)]
pub(crate) struct LogLimiter(DashMap<IpAddr, LastLogged>);

#[derive(Debug)]
struct LastLogged {
    at: Instant,
    /// How many events since then were not logged.
    suppressed: u64,
}

impl LogLimiter {
    /// Counts an event of `address`. Returns `None` if the event must not be logged; otherwise how many events of the
    /// same network were not logged since the last one that was.
    pub(crate) fn admit(&self, address: IpAddr) -> Option<u64> {
        let network = network(address);
        if self.0.len() >= NETWORKS && !self.0.contains_key(&network) {
            self.0.retain(|_, last| last.at.elapsed() < PAUSE);
            if self.0.len() >= NETWORKS {
                return None;
            }
        }
        let mut first = false;
        let mut last = self.0.entry(network).or_insert_with(|| {
            first = true;
            LastLogged {
                at: Instant::now(),
                suppressed: 0,
            }
        });
        if first {
            return Some(0);
        }
        if last.at.elapsed() < PAUSE {
            last.suppressed += 1;
            return None;
        }
        last.at = Instant::now();
        Some(std::mem::take(&mut last.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_network_is_heard_once_a_minute_with_what_it_did_meanwhile() {
        let limiter = LogLimiter::default();
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        assert_eq!(limiter.admit(one), Some(0));
        assert_eq!((limiter.admit(one), limiter.admit(one)), (None, None));
        assert_eq!(limiter.admit(other), Some(0));
        advance(PAUSE).await;
        assert_eq!(limiter.admit(one), Some(2));
        assert_eq!(limiter.admit(one), None);
        advance(PAUSE).await;
        assert_eq!(limiter.admit(one), Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn its_memory_is_bounded() {
        let limiter = LogLimiter::default();
        for n in 0..2 * NETWORKS {
            limiter.admit(Ipv4Addr::from(u32::try_from(n).unwrap()).into());
        }
        assert_eq!(limiter.0.len(), NETWORKS);
        assert_eq!(limiter.admit(IpAddr::from([10, 0, 0, 1])), None);
        advance(PAUSE).await;
        assert_eq!(limiter.admit(IpAddr::from([10, 0, 0, 1])), Some(0));
        assert_eq!(limiter.0.len(), 1);
    }
}
