//! The maildrops that the sessions of this process hold. Within the process sessions wait for each other in a fair
//! queue. In a store that other processes use too, each maildrop is held under a lease, which one task renews for all
//! sessions.

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    future::pending,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    time::{Instant, sleep},
};
use tokio_util::task::TaskTracker;

use super::{
    Entered, Holding, Index, KeptDigest, MailboxName, Renewed, StateStore, Unavailable, Welcome,
    lock::{Lock, Locks},
    term::{PART, Term},
};
use crate::types;

/// The pause before a shared store is asked again for a maildrop that a session of another process holds.
const AGAIN: Duration = Duration::from_millis(200);

/// Gives each maildrop to one session at a time.
#[derive(Debug, Clone)]
pub struct Leases(Arc<Table>);

#[derive(Debug)]
struct Table {
    store: Arc<dyn StateStore>,
    locks: Locks,
    /// What is held in a shared store.
    held: Mutex<Held>,
    /// Tasks that give up maildrops in the background, for sessions that did not wait.
    leaving: TaskTracker,
}

#[derive(Debug, Default)]
struct Held {
    /// By the random name of the holding.
    entries: HashMap<[u8; 16], Arc<Entry>>,
    /// Whether the task that renews the entries is running.
    is_renewing: bool,
}

/// A maildrop of a shared store that a session holds.
#[derive(Debug)]
struct Entry {
    holding: Holding,
    /// How long the session may rely on the maildrop.
    term: Term,
    /// Whether the maildrop has been given up. Locked while the maildrop is taken again or given up, so that it is not
    /// taken again after its session has left.
    has_left: tokio::sync::Mutex<bool>,
}

/// A maildrop that a session holds while this lives. Dropping it gives the maildrop up in the background: see
/// [`Lease::leave`].
#[derive(Debug)]
pub struct Lease {
    /// `None` if the store is not shared.
    entry: Option<Arc<Entry>>,
    table: Arc<Table>,
    /// Released after the maildrop has been given up in the store.
    lock: Option<Lock>,
}

impl Leases {
    /// Gives out maildrops whose records are in `store`.
    pub fn new(store: Arc<dyn StateStore>) -> Self {
        Self(Arc::new(Table {
            store,
            locks: Locks::default(),
            held: Mutex::default(),
            leaving: TaskTracker::new(),
        }))
    }

    pub(super) fn store(&self) -> &Arc<dyn StateStore> {
        &self.0.store
    }

    /// Takes the maildrop that `login` has in `mailbox`. Waits for `patience` at most, behind the sessions of this
    /// process that wait for it already. Returns `None` if another session still holds the maildrop then. If the digest
    /// of the records is not `known`, a shared store returns the records too.
    ///
    /// Two logins that lead to the same folder of the same user exclude each other, unless one of them hides messages
    /// for itself only (`is_private`: `hide`). Two sessions of one login always exclude each other.
    pub(super) async fn enter(
        &self,
        mailbox: &Arc<MailboxName>,
        login: &str,
        is_private: bool,
        patience: Duration,
        known: Option<&KeptDigest>,
    ) -> Result<Option<(Lease, Option<Box<Welcome>>)>, Unavailable> {
        let begun = Instant::now();
        let table = &self.0;
        let Some(lock) = table.locks.hold(mailbox, login, is_private, patience).await else {
            return Ok(None);
        };
        let mut lease = Lease {
            entry: None,
            table: table.clone(),
            lock: Some(lock),
        };
        let Some(length) = table.store.lease() else {
            return Ok(Some((lease, None)));
        };
        let holding = Holding {
            mailbox: mailbox.clone(),
            login: login.to_owned(),
            is_private,
            name: random_name()?,
        };
        let entry = lease.entry.insert(Arc::new(Entry::new(holding)));
        loop {
            let asked = Instant::now();
            let welcome = match table.store.enter(&entry.holding, known).await {
                Ok(Entered::Same) => None,
                Ok(Entered::New(welcome)) => Some(welcome),
                Ok(Entered::Busy) => {
                    let left = patience.saturating_sub(begun.elapsed());
                    if left.is_zero() {
                        lease.entry = None;
                        return Ok(None);
                    }
                    sleep(AGAIN.min(left)).await;
                    continue;
                }
                // If only the answer was lost, the store counts the maildrop as held. Dropping the lease gives the
                // maildrop up there, in the background. The lock is released before that: so the next session of this
                // process finds out that the store fails, and is not told that the maildrop is in use.
                Err(error) => {
                    lease.lock = None;
                    return Err(error);
                }
            };
            entry.term.renewed(asked, length);
            table.add(entry);
            return Ok(Some((lease, welcome)));
        }
    }

    /// Waits until all maildrops that sessions have left are given up.
    pub async fn finish(&self) {
        self.0.leaving.close();
        self.0.leaving.wait().await;
    }
}

/// A random name, by which a store distinguishes one holder from all others.
pub(super) fn random_name() -> Result<[u8; 16], Unavailable> {
    types::random_octets().map_err(|error| {
        tracing::error!("{error}: maildrops cannot be locked");
        Unavailable::Failed
    })
}

/// Tells when a session can no longer rely on its maildrop.
#[derive(Debug, Clone, Default)]
pub struct Tenure(Option<Arc<Entry>>);

impl Tenure {
    /// Returns when another session has the maildrop, or when the lease was not renewed in time. Never returns if the
    /// store is not shared.
    pub async fn lapsed(&self) {
        match &self.0 {
            Some(entry) => entry.term.ended().await,
            None => pending().await,
        }
    }
}

impl Lease {
    /// The holding as the store knows it; `None` if the store is not shared.
    pub(super) fn holding(&self) -> Option<&Holding> {
        self.entry.as_ref().map(|entry| &entry.holding)
    }

    /// Makes sure that the session holds the maildrop, and will hold it for some seconds. Asks the store only if the
    /// lease was not renewed in time. [`Unavailable::Lost`] if another session has the maildrop.
    pub async fn check(&self) -> Result<(), Unavailable> {
        let Some(entry) = &self.entry else {
            return Ok(());
        };
        if !entry.term.holds() && !entry.term.is_lost() {
            Box::pin(self.table.renew(std::slice::from_ref(entry))).await;
        }
        if entry.term.is_lost() {
            Err(Unavailable::Lost)
        } else if entry.term.holds() {
            Ok(())
        } else {
            Err(Unavailable::Failed)
        }
    }

    /// The [`Tenure`] of the session, which tells when the maildrop is lost.
    pub fn tenure(&self) -> Tenure {
        Tenure(self.entry.clone())
    }

    /// Gives the maildrop up, and returns once the store has been told. A shared store remembers `index` with the same
    /// request. Returns whether the store has remembered it.
    pub(super) async fn leave(mut self, index: Option<Arc<Index>>) -> bool {
        let Some(entry) = &self.entry else {
            return false;
        };
        let has_index = index.is_some();
        // On the heap, so that sessions without a shared store need no memory for this future.
        let left = Box::pin(self.table.leave(entry, index)).await;
        self.entry = None;
        left && has_index
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(entry) = self.entry.take() else {
            return;
        };
        let lock = self.lock.take();
        let table = self.table.clone();
        let leave = async move {
            table.leave(&entry, None).await;
            drop(lock);
        };
        if let Ok(runtime) = Handle::try_current() {
            self.table.leaving.spawn_on(leave, &runtime);
        }
    }
}

impl Entry {
    fn new(holding: Holding) -> Self {
        Self {
            holding,
            term: Term::new(),
            has_left: tokio::sync::Mutex::default(),
        }
    }

    fn lose(&self) {
        if self.term.lose() {
            let Holding { mailbox, login, .. } = &self.holding;
            tracing::warn!(login, %mailbox, "the lock of the maildrop was lost to another session; this one removes nothing");
        }
    }
}

impl Table {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the background task renew `entry` from now on, and starts that task if necessary.
    fn add(self: &Arc<Self>, entry: &Arc<Entry>) {
        let mut held = self.held();
        held.entries.insert(entry.holding.name, entry.clone());
        if !mem::replace(&mut held.is_renewing, true) {
            drop(held);
            tokio::spawn(self.clone().keep_renewing());
        }
    }

    /// Renews all held maildrops until none is held.
    async fn keep_renewing(self: Arc<Self>) {
        let Some(length) = self.store.lease() else {
            return;
        };
        loop {
            sleep(length / PART).await;
            let entries: Vec<Arc<Entry>> = {
                let mut held = self.held();
                held.is_renewing = !held.entries.is_empty();
                if !held.is_renewing {
                    return;
                }
                held.entries.values().cloned().collect()
            };
            self.renew(&entries).await;
        }
    }

    async fn renew(&self, entries: &[Arc<Entry>]) {
        let Some(length) = self.store.lease() else {
            return;
        };
        let asked = Instant::now();
        let holdings: Vec<&Holding> = entries.iter().map(|entry| &entry.holding).collect();
        let renewed = self.store.extend(&holdings).await;
        for (entry, renewed) in entries.iter().zip(renewed) {
            match renewed {
                Renewed::Held => entry.term.renewed(asked, length),
                Renewed::Free => self.take_again(entry, length).await,
                Renewed::Lost => entry.lose(),
                // The lease lasts until its end, and may be renewed before.
                Renewed::Unknown => {}
            }
        }
    }

    /// Takes a maildrop again that the store has lost, or of which the lease has ended.
    async fn take_again(&self, entry: &Entry, length: Duration) {
        let has_left = entry.has_left.lock().await;
        if *has_left {
            return;
        }
        let asked = Instant::now();
        match self.store.enter(&entry.holding, None).await {
            Ok(Entered::Busy) => entry.lose(),
            Ok(Entered::Same | Entered::New(_)) => entry.term.renewed(asked, length),
            // The term stays as it is: the next renewal may still come in time.
            Err(_) => {}
        }
    }

    /// Gives the maildrop up in the store, and stops renewing it. Returns whether the store has been told.
    async fn leave(&self, entry: &Entry, index: Option<Arc<Index>>) -> bool {
        let mut has_left = entry.has_left.lock().await;
        *has_left = true;
        let left = self.store.leave(&entry.holding, index).await;
        self.held().entries.remove(&entry.holding.name);
        if let Err(error) = &left {
            let Holding { mailbox, login, .. } = &entry.holding;
            tracing::debug!(login, %mailbox, %error, "the lock of the maildrop cannot be given up: it ends with its lease");
        }
        left.is_ok()
    }
}
