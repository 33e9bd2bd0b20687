//! Limits log lines about events that anybody can cause at will: at most one line a minute for each network.

use std::{net::IpAddr, time::Duration};

use dashmap::DashMap;
use tokio::time::Instant;

use crate::types::network;

/// How long the further events of a network are not logged.
const PAUSE: Duration = Duration::from_secs(60);
/// The most networks that are remembered. While there are more, events of the others are not logged.
const NETWORKS: usize = 4096;

/// Remembers which networks have caused an event in the last minute.
#[derive(Debug, Default)]
pub struct Quiet(DashMap<IpAddr, Said>);

#[derive(Debug)]
struct Said {
    at: Instant,
    /// How many events since then were not logged.
    suppressed: u64,
}

impl Quiet {
    /// Counts an event of `address`. If it is to be logged, returns how many events before it were not; otherwise
    /// `None`.
    pub fn admit(&self, address: IpAddr) -> Option<u64> {
        let network = network(address);
        if self.0.len() >= NETWORKS && !self.0.contains_key(&network) {
            self.0.retain(|_, said| said.at.elapsed() < PAUSE);
            if self.0.len() >= NETWORKS {
                return None;
            }
        }
        let mut first = false;
        let mut said = self.0.entry(network).or_insert_with(|| {
            first = true;
            Said {
                at: Instant::now(),
                suppressed: 0,
            }
        });
        if first {
            return Some(0);
        }
        if said.at.elapsed() < PAUSE {
            said.suppressed += 1;
            return None;
        }
        said.at = Instant::now();
        Some(std::mem::take(&mut said.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_network_is_heard_once_a_minute_with_what_it_did_meanwhile() {
        let quiet = Quiet::default();
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        assert_eq!(quiet.admit(one), Some(0));
        assert_eq!((quiet.admit(one), quiet.admit(one)), (None, None));
        assert_eq!(quiet.admit(other), Some(0));
        advance(PAUSE).await;
        assert_eq!(quiet.admit(one), Some(2));
        assert_eq!(quiet.admit(one), None);
        advance(PAUSE).await;
        assert_eq!(quiet.admit(one), Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn its_memory_is_bounded() {
        let quiet = Quiet::default();
        for n in 0..2 * NETWORKS {
            quiet.admit(Ipv4Addr::from(u32::try_from(n).unwrap()).into());
        }
        assert_eq!(quiet.0.len(), NETWORKS);
        assert_eq!(quiet.admit(IpAddr::from([10, 0, 0, 1])), None);
        advance(PAUSE).await;
        assert_eq!(quiet.admit(IpAddr::from([10, 0, 0, 1])), Some(0));
        assert_eq!(quiet.0.len(), 1);
    }
}
