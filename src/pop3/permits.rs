//! How many sessions there may be: at all, and from one address.

use std::{net::IpAddr, sync::Arc};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    config::Limits,
    types::{Place, Places, network},
};

/// `sessions` and `sessions_per_address`.
#[derive(Debug)]
pub(super) struct Permits {
    sessions: Arc<Semaphore>,
    addresses: Arc<Places>,
}

/// Held by a session while it lives.
#[derive(Debug)]
pub(super) struct Permit {
    _place: Place,
    _session: OwnedSemaphorePermit,
}

impl Permits {
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            sessions: Arc::new(Semaphore::new(limits.sessions.min(Semaphore::MAX_PERMITS))),
            addresses: Places::new(limits.sessions_per_address),
        })
    }

    /// `None`: there are too many sessions.
    pub(super) fn acquire(&self, address: IpAddr) -> Option<Permit> {
        let session = self.sessions.clone().try_acquire_owned().ok()?;
        Some(Permit {
            _place: self.addresses.take(network(address))?,
            _session: session,
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
        assert!(permits.acquire(address(1)).is_none());
        let third = permits.acquire(address(2)).unwrap();
        assert!(permits.acquire(address(3)).is_none());
        drop(first);
        let fourth = permits.acquire(address(1)).unwrap();
        drop((second, third, fourth));
        assert!(permits.addresses.is_empty());
        assert_eq!(permits.sessions.available_permits(), 3);
    }
}
