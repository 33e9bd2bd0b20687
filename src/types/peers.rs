//! Peers by address: how many permits each may hold, and which addresses belong to one peer.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use dashmap::{DashMap, Entry};

/// Gives each address permits, up to a limit. All addresses of one [`network`] count as one.
#[derive(Debug)]
pub struct AddressLimiter {
    per_address: AtomicUsize,
    /// How many permits each network holds.
    held: DashMap<IpAddr, usize>,
}

/// A permit that an address holds; it is given back when this is dropped.
#[derive(Debug)]
pub struct AddressPermit {
    limiter: Arc<AddressLimiter>,
    network: IpAddr,
}

impl AddressLimiter {
    /// A limiter by which each address may hold `per_address` permits at once.
    pub fn new(per_address: usize) -> Arc<Self> {
        Arc::new(Self {
            per_address: per_address.into(),
            held: DashMap::new(),
        })
    }

    /// Changes how many permits each address may hold. Permits that are held stay valid.
    pub fn set_limit(&self, per_address: usize) {
        self.per_address.store(per_address, Ordering::Relaxed);
    }

    /// A permit for `address`; `None` if its network has as many as it may.
    pub fn acquire(self: &Arc<Self>, address: IpAddr) -> Option<AddressPermit> {
        let network = network(address);
        let limit = self.per_address.load(Ordering::Relaxed);
        match self.held.entry(network) {
            Entry::Occupied(entry) if *entry.get() >= limit => return None,
            Entry::Occupied(mut entry) => *entry.get_mut() += 1,
            Entry::Vacant(_) if limit == 0 => return None,
            Entry::Vacant(entry) => drop(entry.insert(1)),
        }
        Some(AddressPermit {
            limiter: self.clone(),
            network,
        })
    }

    /// Whether no address holds a permit.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

impl Drop for AddressPermit {
    fn drop(&mut self) {
        if let Entry::Occupied(mut entry) = self.limiter.held.entry(self.network) {
            if *entry.get() > 1 {
                *entry.get_mut() -= 1;
            } else {
                entry.remove();
            }
        }
    }
}

/// The address by which a peer is counted. For IPv6 this is the /64, because a peer that has one address of a /64 has
/// them all.
pub fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_a_network_share_its_permits() {
        let limiter = AddressLimiter::new(2);
        let acquire = |address: &str| limiter.acquire(address.parse().unwrap());
        let held = [acquire("2001:db8:0:1::1").unwrap(), acquire("2001:db8:0:1::2").unwrap()];
        assert!(acquire("2001:db8:0:1:ffff::3").is_none());
        let other = acquire("2001:db8:0:2::1").unwrap();
        let (first, second) = (acquire("192.0.2.1").unwrap(), acquire("::ffff:192.0.2.1").unwrap());
        assert!(acquire("192.0.2.1").is_none());
        assert!(acquire("192.0.2.2").is_some());
        drop((held, other, first, second));
        assert!(limiter.is_empty());
    }
}
