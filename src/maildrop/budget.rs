//! Limits what all sessions together read ahead. These octets wait in sockets, so they take the kernel's memory, and
//! the upstream may have sent them for nothing.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// How many sessions may use up their own limit (`read_ahead_bytes`) at once. Further sessions ask only for what their
/// device wants.
const SESSIONS: u64 = 64;

/// The octets in flight to all sessions, and their limit.
#[derive(Debug)]
pub(super) struct Budget {
    limit: u64,
    in_flight: AtomicU64,
}

/// A session's part of the budget. It is given back when this is dropped.
#[derive(Debug)]
pub(super) struct BudgetShare {
    budget: Arc<Budget>,
    in_flight: u64,
}

impl Budget {
    /// A budget for sessions that may each have `read_ahead` octets in flight.
    pub(super) fn new(read_ahead: u64) -> Arc<Self> {
        Arc::new(Self {
            limit: read_ahead.saturating_mul(SESSIONS),
            in_flight: AtomicU64::new(0),
        })
    }

    /// A new session's share, which is empty.
    pub(super) fn share(self: &Arc<Self>) -> BudgetShare {
        BudgetShare {
            budget: self.clone(),
            in_flight: 0,
        }
    }
}

impl BudgetShare {
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// How many octets of the budget are left. If sessions ask at the same moment, each may take the last octets, so
    /// the limit may be exceeded.
    pub(super) fn left(&self) -> u64 {
        let Budget { limit, in_flight } = &*self.budget;
        limit.saturating_sub(in_flight.load(Ordering::Relaxed))
    }

    /// Notes that `octets` were asked for.
    pub(super) fn add(&mut self, octets: u64) {
        self.in_flight += octets;
        self.budget.in_flight.fetch_add(octets, Ordering::Relaxed);
    }

    /// Notes that `octets` have come, or will not come.
    pub(super) fn subtract(&mut self, octets: u64) {
        self.in_flight -= octets;
        self.budget.in_flight.fetch_sub(octets, Ordering::Relaxed);
    }
}

impl Drop for BudgetShare {
    fn drop(&mut self) {
        self.subtract(self.in_flight);
    }
}
