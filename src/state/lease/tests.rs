//! Leases over a store that several processes share.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use async_trait::async_trait;
use tokio::task::yield_now;

use super::*;
use crate::state::{Altered, Behaviour, MemoryStore};

const LEASE: Duration = Duration::from_secs(20);
const SECOND: Duration = Duration::from_secs(1);

/// The name of the holder, and until when it holds the maildrop, by login.
type Holders = HashMap<String, ([u8; 16], Instant)>;

/// State that knows who holds which maildrop, as all processes see it.
#[derive(Debug, Default)]
struct Shared {
    held: Mutex<Holders>,
    is_away: AtomicBool,
    left: AtomicU32,
}

impl Shared {
    fn reached(&self) -> Result<MutexGuard<'_, Holders>, Unavailable> {
        if self.is_away.load(Ordering::Relaxed) {
            return Err(Unavailable::Failed);
        }
        let mut held = self.held.lock().unwrap();
        held.retain(|_, (_, until)| *until > Instant::now());
        Ok(held)
    }
}

#[async_trait]
impl Behaviour for Shared {
    fn lease(&self) -> Option<Duration> {
        Some(LEASE)
    }
    async fn enter(&self, holding: &Holding) -> Result<Entered, Unavailable> {
        let mut held = self.reached()?;
        match held.get(&holding.login) {
            Some((name, _)) if *name != holding.name => Ok(Entered::Busy),
            _ => {
                held.insert(holding.login.clone(), (holding.name, Instant::now() + LEASE));
                Ok(Entered::Same)
            }
        }
    }
    async fn extend(&self, holdings: &[&Holding]) -> Vec<Renewed> {
        let Ok(mut held) = self.reached() else {
            return vec![Renewed::Unknown; holdings.len()];
        };
        let extend = |holding: &&Holding| match held.get_mut(&holding.login) {
            Some((name, until)) if *name == holding.name => {
                *until = Instant::now() + LEASE;
                Renewed::Held
            }
            Some(_) => Renewed::Lost,
            None => Renewed::Free,
        };
        holdings.iter().map(extend).collect()
    }
    async fn leave(&self, holding: &Holding) -> Result<(), Unavailable> {
        let mut held = self.reached()?;
        self.left.fetch_add(1, Ordering::Relaxed);
        if held.get(&holding.login).is_some_and(|(name, _)| *name == holding.name) {
            held.remove(&holding.login);
        }
        Ok(())
    }
}

fn inbox() -> MailboxName {
    MailboxName {
        upstream: "home".into(),
        user: "eva".into(),
        folder: "INBOX".into(),
    }
}

/// Two processes that share a store.
fn two() -> (Arc<Altered<Shared>>, Leases, Leases) {
    let store = Arc::new(Altered::<Shared>::default());
    (store.clone(), Leases::new(store.clone()), Leases::new(store))
}

async fn enter(leases: &Leases, patience: Duration) -> Option<Lease> {
    let entered = leases.enter(&inbox().into(), "pbx", true, patience, None).await;
    entered.unwrap().map(|(lease, _)| lease)
}

#[tokio::test(start_paused = true)]
async fn one_session_at_a_time_in_all_processes() {
    let (_, here, there) = two();
    let lease = enter(&here, Duration::ZERO).await.unwrap();
    assert!(enter(&here, Duration::ZERO).await.is_none());
    assert!(enter(&there, Duration::ZERO).await.is_none());
    let begun = Instant::now();
    assert!(enter(&there, SECOND).await.is_none());
    assert_eq!(begun.elapsed(), SECOND, "no longer than it may wait");
    assert!(!lease.leave(None).await, "there is no index to be kept");
    assert!(enter(&there, Duration::ZERO).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_session_waits_for_another_process() {
    let (_, here, there) = two();
    let lease = enter(&here, Duration::ZERO).await.unwrap();
    let waiting = tokio::spawn(async move {
        let begun = Instant::now();
        enter(&there, 5 * SECOND).await.unwrap();
        begun.elapsed()
    });
    tokio::time::sleep(SECOND + Duration::from_millis(50)).await;
    lease.leave(None).await;
    assert_eq!(waiting.await.unwrap(), SECOND + Duration::from_millis(200));
}

#[tokio::test(start_paused = true)]
async fn a_lease_lasts_as_long_as_its_session() {
    let (store, here, there) = two();
    let lease = enter(&here, Duration::ZERO).await.unwrap();
    for _ in 0..60 {
        tokio::time::sleep(SECOND).await;
        lease.check().await.unwrap();
        assert!(enter(&there, Duration::ZERO).await.is_none());
    }
    drop(lease);
    here.finish().await;
    assert_eq!(store.left.load(Ordering::Relaxed), 1, "dropping it tells the store");
    assert!(here.0.held().entries.is_empty());
    assert!(enter(&there, Duration::ZERO).await.is_some());
    tokio::time::sleep(LEASE).await;
    assert!(!here.0.held().is_renewing, "nothing is left to be renewed");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_hangs_up_while_it_asks_leaves_nothing() {
    let (store, here, there) = two();
    let held = enter(&there, Duration::ZERO).await.unwrap();
    let waiting = {
        let here = here.clone();
        tokio::spawn(async move { enter(&here, 60 * SECOND).await.is_some() })
    };
    yield_now().await;
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    here.finish().await;
    assert_eq!(store.left.load(Ordering::Relaxed), 1, "in case that it was granted");
    held.check().await.unwrap();
}

/// The process is suspended for longer than the lease, or cannot reach the store.
#[tokio::test(start_paused = true)]
async fn a_lease_that_is_not_renewed_lapses_before_another_can_have_it() {
    let (store, here, there) = two();
    let lease = enter(&here, Duration::ZERO).await.unwrap();
    store.is_away.store(true, Ordering::Relaxed);
    let begun = Instant::now();
    lease.tenure().lapsed().await;
    assert_eq!(begun.elapsed(), 15 * SECOND, "with a margin");
    assert_eq!(lease.check().await, Err(Unavailable::Failed));
    store.is_away.store(false, Ordering::Relaxed);
    assert!(enter(&there, Duration::ZERO).await.is_none());
    lease.check().await.unwrap();
    tokio::time::timeout(60 * SECOND, lease.tenure().lapsed())
        .await
        .unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn who_has_lost_the_maildrop_is_told() {
    let (store, here, there) = two();
    let lease = enter(&here, Duration::ZERO).await.unwrap();
    // A failover loses the lease, and another session is faster.
    store.held.lock().unwrap().clear();
    let other = enter(&there, Duration::ZERO).await.unwrap();
    let begun = Instant::now();
    lease.tenure().lapsed().await;
    assert!(begun.elapsed() <= 5 * SECOND, "{:?}", begun.elapsed());
    assert_eq!(lease.check().await, Err(Unavailable::Lost));
    lease.leave(None).await;
    other.check().await.unwrap();
    assert!(enter(&here, Duration::ZERO).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_a_store_has_forgotten_is_taken_again() {
    let (store, here, there) = two();
    let lease = enter(&here, Duration::ZERO).await.unwrap();
    store.held.lock().unwrap().clear();
    tokio::time::sleep(6 * SECOND).await;
    assert!(enter(&there, Duration::ZERO).await.is_none());
    lease.check().await.unwrap();
    // But the maildrop is not taken again after its session has left.
    let entry = lease.entry.clone().unwrap();
    lease.leave(None).await;
    here.0.renew(&[entry]).await;
    assert!(enter(&there, Duration::ZERO).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_store_of_one_process_is_not_asked() {
    let leases = Leases::new(Arc::new(MemoryStore::default()));
    let lease = enter(&leases, Duration::ZERO).await.unwrap();
    assert!(lease.holding().is_none());
    lease.check().await.unwrap();
    tokio::time::timeout(3600 * SECOND, lease.tenure().lapsed())
        .await
        .unwrap_err();
    assert!(enter(&leases, Duration::ZERO).await.is_none());
    lease.leave(None).await;
    assert!(enter(&leases, Duration::ZERO).await.is_some());
}
