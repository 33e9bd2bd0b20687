//! Limits how many connections there may be that have not logged in, and chooses the one to close if there are too
//! many.
//!
//! A connection is counted while the gateway waits for it: for a handshake or for a command. While the gateway verifies
//! a secret, the connection is not counted and is not closed.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::permits::Full;
use crate::{config::Limits, types::network};

/// How long a connection may stay, however many come after it. A device that sends its login at once can log in, and an
/// attacker that connects again and again cannot push it out sooner.
const GRACE: Duration = Duration::from_secs(1);

/// Enforces `unauthenticated` and `unauthenticated_per_address`.
#[derive(Debug)]
pub(super) struct Newcomers {
    silent: Mutex<Silent>,
}

/// The connections that are counted: those that the gateway waits for.
#[derive(Debug, Default)]
struct Silent {
    limit: usize,
    per_network: usize,
    next: u64,
    count: usize,
    /// By network (see [`network`]), and by the order in which they came.
    networks: HashMap<IpAddr, BTreeMap<u64, Arc<EvictionSignal>>>,
    /// The connections, by network and number, that were told to give way and have not ended yet, with the network for
    /// which each of them makes room.
    leaving: BTreeMap<(IpAddr, u64), IpAddr>,
}

/// Asks a connection to give way.
#[derive(Debug, Default)]
struct EvictionSignal {
    is_set: AtomicBool,
    changed: Notify,
}

/// One connection that has not logged in; it is forgotten when this is dropped.
#[derive(Debug)]
pub(super) struct Newcomer {
    newcomers: Arc<Newcomers>,
    network: IpAddr,
    number: u64,
    entered: Instant,
    signal: Arc<EvictionSignal>,
}

impl Newcomers {
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        let newcomers = Self {
            silent: Mutex::default(),
        };
        newcomers.set_limits(limits);
        Arc::new(newcomers)
    }

    /// Sets the limits. They take effect when the next connection comes.
    pub(super) fn set_limits(&self, limits: &Limits) {
        let mut silent = self.lock();
        silent.limit = limits.unauthenticated;
        silent.per_network = limits.unauthenticated_per_address;
    }

    /// Counts a connection. If there are too many of its network, the oldest of that network gives way. If there are
    /// too many in all, the oldest of the network that has the most gives way.
    pub(super) fn enter(self: &Arc<Self>, peer: IpAddr) -> Newcomer {
        let mut silent = self.lock();
        let newcomer = Newcomer {
            newcomers: self.clone(),
            network: network(peer),
            number: silent.next,
            entered: Instant::now(),
            signal: Arc::default(),
        };
        silent.next += 1;
        silent.add(&newcomer);
        newcomer
    }

    /// Makes room for a connection of `peer`, which was refused because sessions are `full`: the oldest of its network
    /// gives way. If there is none, and the gateway is full, the oldest of the network that has the most gives way.
    /// While one is about to leave for this network, nobody else gives way for it: otherwise anyone could disconnect
    /// others by connecting too often.
    pub(super) fn make_room(&self, peer: IpAddr, full: Full) {
        let (network, mut silent) = (network(peer), self.lock());
        if silent.is_about_to_get_room(network) || silent.evict(network, network) {
            return;
        }
        match full {
            // No other network can make this room.
            Full::Network => {}
            Full::Gateway => silent.evict_any(network),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Silent> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Silent {
    fn add(&mut self, newcomer: &Newcomer) {
        let here = self.networks.entry(newcomer.network).or_default();
        here.insert(newcomer.number, newcomer.signal.clone());
        let is_crowded = here.len() > self.per_network;
        self.count += 1;
        if is_crowded {
            self.evict(newcomer.network, newcomer.network);
        }
        if self.count > self.limit {
            self.evict_any(newcomer.network);
        }
    }

    /// Whether a connection of `network`, or one that leaves for it, is about to end.
    fn is_about_to_get_room(&self, network: IpAddr) -> bool {
        let mut own = self.leaving.range((network, 0)..=(network, u64::MAX));
        own.next().is_some() || self.leaving.values().any(|for_network| *for_network == network)
    }

    /// Evicts the oldest connection of `network`, to make room for one of `for_network`. Returns `false` if there is
    /// none.
    fn evict(&mut self, network: IpAddr, for_network: IpAddr) -> bool {
        let oldest = self.networks.get(&network).and_then(|here| here.keys().next().copied());
        let Some((number, signal)) = oldest.and_then(|number| Some((number, self.remove(network, number)?))) else {
            return false;
        };
        self.leaving.insert((network, number), for_network);
        signal.is_set.store(true, Ordering::Relaxed);
        signal.changed.notify_one();
        true
    }

    /// Evicts the oldest connection of the network that has the most, to make room for one of `for_network`.
    fn evict_any(&mut self, for_network: IpAddr) {
        let size = |here: &BTreeMap<u64, _>| (here.len(), here.keys().next().copied().map(Reverse));
        let largest = self.networks.iter().max_by_key(|(_, here)| size(here));
        if let Some(network) = largest.map(|(network, _)| *network) {
            self.evict(network, for_network);
        }
    }

    fn remove(&mut self, network: IpAddr, number: u64) -> Option<Arc<EvictionSignal>> {
        let here = self.networks.get_mut(&network)?;
        let signal = here.remove(&number)?;
        if here.is_empty() {
            self.networks.remove(&network);
        }
        self.count -= 1;
        Some(signal)
    }

    /// Forgets a connection that has ended, or that the gateway does not wait for any more.
    fn forget(&mut self, newcomer: &Newcomer) {
        self.remove(newcomer.network, newcomer.number);
        self.leaving.remove(&(newcomer.network, newcomer.number));
    }
}

impl Newcomer {
    /// Notes that the device has sent a login and a secret: until [`Self::end_trial`] the connection gives way to
    /// nobody.
    pub(super) fn begin_trial(&self) {
        self.newcomers.lock().forget(self);
        self.signal.is_set.store(false, Ordering::Relaxed);
    }

    /// Notes that the login was refused: the connection is counted again, and is as old as it was before.
    pub(super) fn end_trial(&self) {
        self.newcomers.lock().add(self);
    }

    /// Ready when the connection must give way.
    pub(super) fn must_leave(&self) -> impl Future<Output = ()> + use<> {
        let (signal, until) = (self.signal.clone(), self.entered + GRACE);
        async move {
            loop {
                signal.changed.notified().await;
                if signal.is_set.load(Ordering::Relaxed) {
                    sleep_until(until).await;
                }
                // The device may have sent a secret meanwhile.
                if signal.is_set.load(Ordering::Relaxed) {
                    return;
                }
            }
        }
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        self.newcomers.lock().forget(self);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use futures_util::FutureExt;
    use tokio::time::advance;

    use super::*;
    use crate::pop3::tests::limits;

    fn newcomers(limit: usize, per_address: usize) -> Arc<Newcomers> {
        Newcomers::new(&Limits {
            unauthenticated: limit,
            unauthenticated_per_address: per_address,
            ..limits()
        })
    }

    fn address(number: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, number).into()
    }

    fn is_evicted(newcomer: &Newcomer) -> bool {
        newcomer.signal.is_set.load(Ordering::Relaxed)
    }

    fn evicted(newcomers: &[Newcomer]) -> Vec<usize> {
        let all = newcomers.iter().enumerate();
        all.filter_map(|(at, newcomer)| is_evicted(newcomer).then_some(at))
            .collect()
    }

    fn is_empty(newcomers: &Newcomers) -> bool {
        let silent = newcomers.lock();
        silent.count == 0 && silent.networks.is_empty()
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_of_an_address_gives_way() {
        let newcomers = newcomers(100, 2);
        let mut here: Vec<_> = (0..2).map(|_| newcomers.enter(address(1))).collect();
        let _elsewhere = newcomers.enter(address(2));
        assert!(!here.iter().any(is_evicted));
        here.extend((0..3).map(|_| newcomers.enter(address(1))));
        assert_eq!(evicted(&here), [0, 1, 2]);
        drop(here.pop());
        here.push(newcomers.enter(address(1)));
        assert_eq!(evicted(&here), [0, 1, 2], "one has gone by itself");
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_of_ipv6_is_its_64() {
        let newcomers = newcomers(100, 2);
        let peer = |net: u16, host: u16| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 1, net, 0, 0, 0, host));
        let here: Vec<_> = (0..4).map(|host| newcomers.enter(peer(1, host))).collect();
        let next = newcomers.enter(peer(2, 1));
        assert_eq!((evicted(&here), is_evicted(&next)), (vec![0, 1], false));
        let mapped: Vec<_> = (0..2)
            .flat_map(|_| [Ipv4Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.to_ipv6_mapped().into()])
            .map(|peer| newcomers.enter(peer))
            .collect();
        assert_eq!(evicted(&mapped), [0, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn of_all_the_oldest_of_the_address_with_most_gives_way() {
        let newcomers = newcomers(4, 3);
        let from =
            |numbers: &[u8]| -> Vec<_> { numbers.iter().map(|number| newcomers.enter(address(*number))).collect() };
        let crowd = from(&[1, 2, 2, 2, 3]);
        assert_eq!(evicted(&crowd), [1], "not the one that is alone");
        let more = from(&[4, 5]);
        assert_eq!(evicted(&crowd), [0, 1, 2], "all are alone: the oldest");
        drop((crowd, more));
        assert!(is_empty(&newcomers));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_speaks_at_once_is_heard() {
        let newcomers = newcomers(1, 1);
        let first = newcomers.enter(address(1));
        let mut leaving = Box::pin(first.must_leave());
        advance(GRACE / 2).await;
        let second = newcomers.enter(address(1));
        assert!(leaving.as_mut().now_or_never().is_none(), "in the first second");
        first.begin_trial();
        advance(GRACE).await;
        assert!(leaving.as_mut().now_or_never().is_none(), "while its secret is tried");
        assert!(!is_evicted(&second));
        first.end_trial();
        assert!(leaving.as_mut().now_or_never().is_some(), "it is the oldest still");
        drop(first);
        assert!(!is_evicted(&second));
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_way_does_so_after_a_second() {
        let newcomers = newcomers(1, 1);
        let begun = Instant::now();
        let first = newcomers.enter(address(1));
        let second = newcomers.enter(address(1));
        first.must_leave().await;
        assert_eq!(begun.elapsed(), GRACE);
        drop(first);
        newcomers.make_room(address(9), Full::Gateway);
        second.must_leave().await;
        assert!(is_empty(&newcomers), "there was no room");
    }

    #[tokio::test(start_paused = true)]
    async fn room_in_a_network_is_made_by_that_network() {
        let newcomers = newcomers(100, 100);
        let elsewhere = newcomers.enter(address(2));
        newcomers.make_room(address(1), Full::Network);
        let here: Vec<_> = (0..2).map(|_| newcomers.enter(address(1))).collect();
        newcomers.make_room(address(1), Full::Network);
        assert_eq!((evicted(&here), is_evicted(&elsewhere)), (vec![0], false));
        here.iter().for_each(Newcomer::begin_trial);
        newcomers.make_room(address(1), Full::Network);
        assert!(!is_evicted(&elsewhere), "all of the network have sent a secret");
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_gives_way_one_at_a_time() {
        let newcomers = newcomers(100, 100);
        let elsewhere = newcomers.enter(address(2));
        let mut here: Vec<_> = (0..4).map(|_| newcomers.enter(address(1))).collect();
        for _ in 0..2 {
            newcomers.make_room(address(1), Full::Gateway);
            newcomers.make_room(address(1), Full::Network);
        }
        assert_eq!(evicted(&here), [0], "it is about to leave");
        drop(here.remove(0));
        newcomers.make_room(address(1), Full::Network);
        assert_eq!(evicted(&here), [0], "one has left");
        here[0].begin_trial();
        newcomers.make_room(address(1), Full::Gateway);
        assert_eq!(evicted(&here), [1], "one has logged in instead");
        assert!(!is_evicted(&elsewhere));
        drop((here, elsewhere));
        assert!(is_empty(&newcomers) && newcomers.lock().leaving.is_empty());
    }
}
