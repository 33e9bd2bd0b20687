//! Peers by address: how many places each may take, and which addresses belong to one peer.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use dashmap::{DashMap, Entry};

/// Counts the places that each address has taken, up to a limit.
#[derive(Debug)]
pub struct Places {
    per_address: AtomicUsize,
    taken: DashMap<IpAddr, usize>,
}

/// A place that an address has taken; it is free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Places {
    /// A counter by which each address may take `per_address` places at once.
    pub fn new(per_address: usize) -> Arc<Self> {
        Arc::new(Self {
            per_address: per_address.into(),
            taken: DashMap::new(),
        })
    }

    /// Changes how many places each address may take. Places that are taken stay taken.
    pub fn set_limit(&self, per_address: usize) {
        self.per_address.store(per_address, Ordering::Relaxed);
    }

    /// Takes a place for `address`; `None` if that address has as many as it may.
    pub fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let limit = self.per_address.load(Ordering::Relaxed);
        match self.taken.entry(address) {
            Entry::Occupied(entry) if *entry.get() >= limit => return None,
            Entry::Occupied(mut entry) => *entry.get_mut() += 1,
            Entry::Vacant(_) if limit == 0 => return None,
            Entry::Vacant(entry) => drop(entry.insert(1)),
        }
        Some(Place {
            places: self.clone(),
            address,
        })
    }

    /// Whether no place is taken.
    pub fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Entry::Occupied(mut entry) = self.places.taken.entry(self.address) {
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
