//! Remembers which writes may have been made without a confirmation of the replicas.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// The keys with a write that must not be lost and that has not been confirmed: it is under way or has failed. The
/// server may have made it nevertheless. Only keys of mailboxes are ever asked for; failures of tokens, of which there
/// are few, stay.
#[derive(Debug, Default)]
pub(super) struct Unconfirmed(Mutex<Doubts>);

#[derive(Debug, Default)]
struct Doubts {
    /// How many writes have failed.
    failures: u64,
    keys: HashMap<Vec<u8>, Doubt>,
}

/// Why a key is in doubt: writes are under way, or have failed.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Doubt {
    /// How many writes are under way.
    under_way: usize,
    /// The number of the last write that has failed, in the order in which writes fail.
    last_failure: Option<u64>,
}

/// A write that has begun. It has failed unless it is confirmed before it is dropped.
#[derive(Debug)]
pub(super) struct Write<'a> {
    unconfirmed: &'a Unconfirmed,
    key: &'a [u8],
    is_confirmed: bool,
}

impl Write<'_> {
    /// The replicas have confirmed the write.
    pub(super) fn confirmed(mut self) {
        self.is_confirmed = true;
    }
}

impl Drop for Write<'_> {
    fn drop(&mut self) {
        self.unconfirmed.change(self.key, |doubt, failures| {
            doubt.under_way -= 1;
            if !self.is_confirmed {
                *failures += 1;
                doubt.last_failure = Some(*failures);
            }
        });
    }
}

impl Unconfirmed {
    /// A write to `key` begins.
    pub(super) fn begin<'a>(&'a self, key: &'a [u8]) -> Write<'a> {
        self.change(key, |doubt, _| doubt.under_way += 1);
        Write {
            unconfirmed: self,
            key,
            is_confirmed: false,
        }
    }

    /// The doubt about `key`; `None` if all writes to `key` were confirmed.
    pub(super) fn of(&self, key: &[u8]) -> Option<Doubt> {
        self.with(|doubts| doubts.keys.get(key).copied())
    }

    /// Ends the doubt about the writes that had failed when [`Self::of`] returned `known`: a later write was confirmed,
    /// and replicas have all writes before that one. A write that is still under way stays in doubt, because that write
    /// may reach the server later. (A failed write whose connection was lost may do so too. Nobody notices that.)
    pub(super) fn settle(&self, key: &[u8], known: Doubt) {
        self.change(key, |doubt, _| {
            if doubt.last_failure == known.last_failure {
                doubt.last_failure = None;
            }
        });
    }

    /// Calls `change` with the doubt about `key` and with the count of failures. Then removes the doubt if no write is
    /// under way and no failure is left.
    fn change(&self, key: &[u8], change: impl FnOnce(&mut Doubt, &mut u64)) {
        self.with(|doubts| {
            let doubt = doubts.keys.entry(key.to_vec()).or_default();
            change(doubt, &mut doubts.failures);
            if doubt.under_way == 0 && doubt.last_failure.is_none() {
                doubts.keys.remove(key);
            }
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut Doubts) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_is_confirmed_leaves_no_doubt() {
        let unconfirmed = Unconfirmed::default();
        let write = unconfirmed.begin(b"a");
        assert!(unconfirmed.of(b"a").is_some() && unconfirmed.of(b"b").is_none());
        write.confirmed();
        assert!(unconfirmed.of(b"a").is_none());
    }

    #[test]
    fn a_confirmation_is_of_no_other_write() {
        // Another write begins while this one is under way, and fails.
        let unconfirmed = Unconfirmed::default();
        let first = unconfirmed.begin(b"a");
        drop(unconfirmed.begin(b"a"));
        first.confirmed();
        assert!(unconfirmed.of(b"a").is_some());

        // A write has failed before the one that is confirmed.
        unconfirmed.begin(b"a").confirmed();
        assert!(unconfirmed.of(b"a").is_some());

        // One fails while all that failed before are being confirmed.
        let known = unconfirmed.of(b"a").unwrap();
        drop(unconfirmed.begin(b"a"));
        unconfirmed.settle(b"a", known);
        let known = unconfirmed.of(b"a").unwrap();
        unconfirmed.settle(b"a", known);
        assert!(unconfirmed.of(b"a").is_none());

        // A write is under way during the confirmation. That write may reach the server after the confirmation.
        let write = unconfirmed.begin(b"a");
        let known = unconfirmed.of(b"a").unwrap();
        unconfirmed.settle(b"a", known);
        assert!(unconfirmed.of(b"a").is_some());
        write.confirmed();
        assert!(unconfirmed.of(b"a").is_none());
    }
}
