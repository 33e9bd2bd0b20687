//! How many sessions there may be: in all, and from one address.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{
    config::Limits,
    types::{AddressLimiter, AddressPermit},
};

/// Enforces `sessions` and `sessions_per_address`.
#[derive(Debug)]
pub(super) struct Permits {
    limit: AtomicUsize,
    sessions: AtomicUsize,
    addresses: Arc<AddressLimiter>,
}

/// Held by a session while it lives.
#[derive(Debug)]
pub(super) struct Permit {
    _address: AddressPermit,
    _session: Counted,
}

/// Why there is no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// The network of the address has as many sessions as it may: `sessions_per_address`.
    Network,
    /// There are as many sessions as there may be in all: `sessions`.
    Gateway,
}

/// One of [`Permits::sessions`].
#[derive(Debug)]
struct Counted(Arc<Permits>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Permits {
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            limit: limits.sessions.into(),
            sessions: AtomicUsize::new(0),
            addresses: AddressLimiter::new(limits.sessions_per_address),
        })
    }

    /// Sets the limits for sessions that begin from now on. Sessions that hold a permit keep it.
    pub(super) fn set_limits(&self, limits: &Limits) {
        self.limit.store(limits.sessions, Ordering::Relaxed);
        self.addresses.set_limit(limits.sessions_per_address);
    }

    /// A permit for a session from `address`. A network that has too many does not take the place of another network's
    /// session, not even for a moment.
    pub(super) fn acquire(self: &Arc<Self>, address: IpAddr) -> Result<Permit, Full> {
        let address = self.addresses.acquire(address).ok_or(Full::Network)?;
        let limit = self.limit.load(Ordering::Relaxed);
        let one_more = |sessions| (sessions < limit).then_some(sessions + 1);
        self.sessions
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .map_err(|_| Full::Gateway)?;
        Ok(Permit {
            _address: address,
            _session: Counted(self.clone()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::pop3::tests::limits;

    #[test]
    fn limits_hold_and_are_given_back() {
        let address = |n| IpAddr::from(Ipv4Addr::new(10, 0, 0, n));
        let permits = Permits::new(&Limits {
            sessions: 3,
            sessions_per_address: 2,
            ..limits()
        });
        let first = permits.acquire(address(1)).unwrap();
        let second = permits.acquire(address(1)).unwrap();
        assert!(permits.acquire(address(1)).is_err());
        let third = permits.acquire(address(2)).unwrap();
        assert!(permits.acquire(address(3)).is_err());
        drop(first);
        let fourth = permits.acquire(address(1)).unwrap();
        drop((second, third, fourth));
        assert!(permits.addresses.is_empty());
        assert_eq!(permits.sessions.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_full_network_is_told_from_a_full_gateway() {
        let address = |n| IpAddr::from(Ipv4Addr::new(10, 0, 0, n));
        let permits = Permits::new(&Limits {
            sessions: 3,
            sessions_per_address: 2,
            ..limits()
        });
        let mut held = vec![permits.acquire(address(1)).unwrap()];
        held.push(permits.acquire(address(1)).unwrap());
        assert_eq!(permits.acquire(address(1)).err(), Some(Full::Network));
        held.push(permits.acquire(address(2)).unwrap());
        assert_eq!(permits.acquire(address(1)).err(), Some(Full::Network));
        assert_eq!(
            [2, 3].map(|n| permits.acquire(address(n)).err()),
            [Some(Full::Gateway); 2]
        );
        drop(held);
        assert!(permits.acquire(address(1)).is_ok());
    }

    #[test]
    fn other_limits_count_those_who_are_there() {
        let address = |n| IpAddr::from(Ipv4Addr::new(10, 0, 0, n));
        let most = |sessions, sessions_per_address| Limits {
            sessions,
            sessions_per_address,
            ..limits()
        };
        let permits = Permits::new(&most(2, 2));
        let first = permits.acquire(address(1)).unwrap();
        let second = permits.acquire(address(1)).unwrap();
        permits.set_limits(&most(3, 1));
        assert!(permits.acquire(address(1)).is_err());
        let third = permits.acquire(address(2)).unwrap();
        assert!(permits.acquire(address(3)).is_err());
        permits.set_limits(&most(1, 1));
        drop((first, third));
        assert!(permits.acquire(address(2)).is_err());
        drop(second);
        assert!(permits.acquire(address(2)).is_ok());
    }
}
