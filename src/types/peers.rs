//! Peers by address: how many permits each may hold, and which addresses belong to one peer.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use dashmap::{DashMap, Entry};

/// Gives each address permits, up to a limit.
#[derive(Debug)]
pub struct AddressLimiter {
    per_address: AtomicUsize,
    held: DashMap<IpAddr, usize>,
}

/// A permit that an address holds; it is given back when this is dropped.
#[derive(Debug)]
pub struct AddressPermit {
    limiter: Arc<AddressLimiter>,
    address: IpAddr,
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

    /// A permit for `address`; `None` if that address has as many as it may.
    pub fn acquire(self: &Arc<Self>, address: IpAddr) -> Option<AddressPermit> {
        let limit = self.per_address.load(Ordering::Relaxed);
        match self.held.entry(address) {
            Entry::Occupied(entry) if *entry.get() >= limit => return None,
            Entry::Occupied(mut entry) => *entry.get_mut() += 1,
            Entry::Vacant(_) if limit == 0 => return None,
            Entry::Vacant(entry) => drop(entry.insert(1)),
        }
        Some(AddressPermit {
            limiter: self.clone(),
            address,
        })
    }

    /// Whether `address` has as many permits as it may.
    pub fn is_full(&self, address: IpAddr) -> bool {
        let held = self.held.get(&address).map_or(0, |held| *held);
        held >= self.per_address.load(Ordering::Relaxed)
    }

    /// Whether no permit is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

impl Drop for AddressPermit {
    fn drop(&mut self) {
        if let Entry::Occupied(mut entry) = self.limiter.held.entry(self.address) {
            if *entry.get() > 1 {
                *entry.get_mut() -= 1;
            } else {
                entry.remove();
            }
        }
    }
}

/// The address by which a peer is counted. For IPv6 this is the /64, because a peer that has one address of a /64 has them
/// all.
pub fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}
