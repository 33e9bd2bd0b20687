//! How many sessions there may be: at all, and from one address.

use std::{net::IpAddr, sync::Arc};

use dashmap::{DashMap, Entry};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Limits;

/// `sessions` and `sessions_per_address`.
#[derive(Debug)]
pub(super) struct Permits {
    sessions: Arc<Semaphore>,
    per_address: usize,
    addresses: DashMap<IpAddr, usize>,
}

/// Held by a session while it lives.
#[derive(Debug)]
pub(super) struct Permit {
    permits: Arc<Permits>,
    address: IpAddr,
    _session: OwnedSemaphorePermit,
}

impl Permits {
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            sessions: Arc::new(Semaphore::new(limits.sessions.min(Semaphore::MAX_PERMITS))),
            per_address: limits.sessions_per_address,
            addresses: DashMap::new(),
        })
    }

    /// `None`: there are too many sessions.
    pub(super) fn acquire(self: &Arc<Self>, address: IpAddr) -> Option<Permit> {
        let session = self.sessions.clone().try_acquire_owned().ok()?;
        match self.addresses.entry(address) {
            Entry::Occupied(entry) if *entry.get() >= self.per_address => return None,
            Entry::Occupied(mut entry) => *entry.get_mut() += 1,
            Entry::Vacant(_) if self.per_address == 0 => return None,
            Entry::Vacant(entry) => drop(entry.insert(1)),
        }
        Some(Permit {
            permits: self.clone(),
            address,
            _session: session,
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Entry::Occupied(mut entry) = self.permits.addresses.entry(self.address) {
            if *entry.get() > 1 {
                *entry.get_mut() -= 1;
            } else {
                entry.remove();
            }
        }
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
