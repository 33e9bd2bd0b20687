//! Remembers which writes may have been made without a confirmation of the replicas.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// The keys with a write that must not be lost and that has not been confirmed: it is under way or has failed. The
/// server may have made it nevertheless. Only keys of mailboxes are ever asked for; notes of tokens, of which there are
/// few, stay.
#[derive(Debug, Default)]
pub(super) struct Unconfirmed(Mutex<Notes>);

#[derive(Debug, Default)]
struct Notes {
    count: u64,
    /// The number of the last note of each key.
    last: HashMap<Vec<u8>, u64>,
}

/// A note of a key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Note {
    number: u64,
    /// Whether the key had no note before.
    is_alone: bool,
}

impl Unconfirmed {
    /// Notes that a write to `key` begins or has failed.
    pub(super) fn note(&self, key: &[u8]) -> Note {
        self.with(|notes| {
            notes.count += 1;
            let before = notes.last.insert(key.to_vec(), notes.count);
            Note {
                number: notes.count,
                is_alone: before.is_none(),
            }
        })
    }

    /// The last note of `key`, if any.
    pub(super) fn of(&self, key: &[u8]) -> Option<Note> {
        self.with(|notes| {
            let number = *notes.last.get(key)?;
            Some(Note { number, is_alone: true })
        })
    }

    /// Forgets `note`: its write, or a later one to the same server, was confirmed. The note stays if the key had a note
    /// before it or has a newer one, because those writes are not known to be confirmed.
    pub(super) fn forget(&self, key: &[u8], note: Note) {
        self.with(|notes| {
            if note.is_alone && notes.last.get(key) == Some(&note.number) {
                notes.last.remove(key);
            }
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut Notes) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_is_confirmed_is_forgotten() {
        let unconfirmed = Unconfirmed::default();
        let note = unconfirmed.note(b"a");
        assert!(unconfirmed.of(b"a").is_some() && unconfirmed.of(b"b").is_none());
        unconfirmed.forget(b"a", note);
        assert!(unconfirmed.of(b"a").is_none());
    }

    #[test]
    fn a_confirmation_forgets_no_other_write() {
        // Another write begins while this one is under way, and fails.
        let unconfirmed = Unconfirmed::default();
        let first = unconfirmed.note(b"a");
        unconfirmed.note(b"a");
        unconfirmed.note(b"a");
        unconfirmed.forget(b"a", first);
        assert!(unconfirmed.of(b"a").is_some());

        // One has failed before.
        let second = unconfirmed.note(b"a");
        unconfirmed.forget(b"a", second);
        assert!(unconfirmed.of(b"a").is_some());

        // One fails while all that failed before are being confirmed.
        let known = unconfirmed.of(b"a").unwrap();
        unconfirmed.note(b"a");
        unconfirmed.forget(b"a", known);
        let known = unconfirmed.of(b"a").unwrap();
        unconfirmed.forget(b"a", known);
        assert!(unconfirmed.of(b"a").is_none());
    }
}
