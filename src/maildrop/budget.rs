//! What all sessions together may read ahead. It waits in sockets, which is memory of the kernel's, and is work for the
//! upstream that a device may never ask for.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Sessions that may read ahead as far as one may at all (`read_ahead_bytes`). Further ones ask for what their device
/// wants, and for no more.
const SESSIONS: u64 = 64;

/// Octets that are on their way to all sessions.
#[derive(Debug)]
pub(super) struct Budget {
    limit: u64,
    due: AtomicU64,
}

/// A session's part of it, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    due: u64,
}

impl Budget {
    /// For sessions of which each may have `read_ahead` octets on their way.
    pub(super) fn new(read_ahead: u64) -> Arc<Self> {
        Arc::new(Self {
            limit: read_ahead.saturating_mul(SESSIONS),
            due: AtomicU64::new(0),
        })
    }

    /// A session's.
    pub(super) fn share(self: &Arc<Self>) -> Share {
        Share {
            budget: self.clone(),
            due: 0,
        }
    }
}

impl Share {
    /// Octets on their way to this session.
    pub(super) fn due(&self) -> u64 {
        self.due
    }

    /// Octets that nobody has asked for yet. Sessions that ask at the same moment may each take the last of them.
    pub(super) fn left(&self) -> u64 {
        let Budget { limit, due } = &*self.budget;
        limit.saturating_sub(due.load(Ordering::Relaxed))
    }

    /// So many octets were asked for.
    pub(super) fn add(&mut self, octets: u64) {
        self.due += octets;
        self.budget.due.fetch_add(octets, Ordering::Relaxed);
    }

    /// So many have come, or will not.
    pub(super) fn subtract(&mut self, octets: u64) {
        self.due -= octets;
        self.budget.due.fetch_sub(octets, Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.subtract(self.due);
    }
}
