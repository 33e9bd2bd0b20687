//! Verifies the passwords that browsers send: one at a time for each address, with a pause after a wrong one. Other
//! addresses are not delayed.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::http::HeaderMap;
use dashmap::DashMap;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until},
};

use crate::types::network;

/// For how long after a wrong password no other password from the same address is tried, even if the client disconnects
/// without waiting for the answer.
pub(super) const PENALTY: Duration = Duration::from_secs(1);
/// The most addresses that have a turn of their own. All further addresses share one turn.
const ADDRESSES: usize = 4096;

/// The address at the other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

/// When the next password from an address may be tried.
type Turn = Arc<Mutex<Instant>>;

pub(super) struct Guesses {
    turns: DashMap<IpAddr, Turn>,
    /// The turn of all addresses that have none of their own.
    shared: Turn,
    /// Whether a proxy on this machine names its client in `X-Forwarded-For`.
    behind_proxy: bool,
}

impl Guesses {
    pub(super) fn new(behind_proxy: bool) -> Self {
        Self {
            turns: DashMap::new(),
            shared: Arc::new(Mutex::new(Instant::now())),
            behind_proxy,
        }
    }

    /// Waits for the turn of the client's address, and then compares its password by `compare`. Returns whether the
    /// password was right.
    pub(super) async fn is_right(&self, peer: Peer, headers: &HeaderMap, compare: impl FnOnce() -> bool) -> bool {
        let turn = self.turn(self.address(peer, headers));
        let mut next = turn.lock().await;
        if *next > Instant::now() {
            sleep_until(*next).await;
        }
        let right = compare();
        if !right {
            *next = Instant::now() + PENALTY;
        }
        right
    }

    fn turn(&self, address: IpAddr) -> Turn {
        if self.turns.len() >= ADDRESSES {
            let now = Instant::now();
            let is_due = |turn: &Turn| turn.try_lock().is_ok_and(|next| *next <= now);
            self.turns.retain(|_, turn| !is_due(turn));
        }
        if self.turns.len() >= ADDRESSES && !self.turns.contains_key(&address) {
            return self.shared.clone();
        }
        let fresh = || Arc::new(Mutex::new(Instant::now()));
        self.turns.entry(address).or_insert_with(fresh).clone()
    }

    /// The address by which a client is counted: the proxy's client if there is a proxy, and the /64 of an IPv6
    /// address.
    fn address(&self, Peer(peer): Peer, headers: &HeaderMap) -> IpAddr {
        let forwarded = || {
            let last = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
            last.rsplit(',').next()?.trim().parse::<IpAddr>().ok()
        };
        let peer = peer.to_canonical();
        let client = if self.behind_proxy && peer.is_loopback() {
            forwarded()
        } else {
            None
        };
        network(client.unwrap_or(peer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(forwarded: &str) -> HeaderMap {
        let name = axum::http::HeaderName::from_static("x-forwarded-for");
        HeaderMap::from_iter([(name, forwarded.parse().unwrap())])
    }

    #[tokio::test]
    async fn what_a_proxy_on_this_machine_tells_counts() {
        let of = |behind_proxy, peer: &str| {
            let peer = Peer(peer.parse().unwrap());
            let told = headers("6.6.6.6, 10.0.0.9");
            Guesses::new(behind_proxy).address(peer, &told).to_string()
        };
        assert_eq!(of(true, "127.0.0.1"), "10.0.0.9");
        assert_eq!(of(true, "::ffff:127.0.0.1"), "10.0.0.9");
        assert_eq!(of(true, "10.0.0.1"), "10.0.0.1", "anybody can write such a header");
        assert_eq!(of(false, "127.0.0.1"), "127.0.0.1");
        assert_eq!(of(true, "2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let guesses = Guesses::new(false);
        // The last address gets no turn of its own any more.
        for number in 0..=ADDRESSES as u32 {
            let peer = Peer(IpAddr::V4((number + 1).into()));
            assert!(!guesses.is_right(peer, &HeaderMap::new(), || false).await);
        }
        assert_eq!(guesses.turns.len(), ADDRESSES);
        tokio::time::advance(PENALTY * 20).await;
        assert!(
            guesses
                .is_right(Peer([1, 2, 3, 4].into()), &HeaderMap::new(), || true)
                .await
        );
        assert_eq!(guesses.turns.len(), 1);
    }
}
