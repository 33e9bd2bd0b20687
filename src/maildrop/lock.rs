//! One session a maildrop (RFC 1939 §4: the exclusive-access lock).

use std::sync::Arc;

use dashmap::DashSet;

use crate::types::MailboxName;

/// The maildrops that sessions hold.
#[derive(Debug, Clone, Default)]
pub struct Locks(Arc<DashSet<Key>>);

/// What is locked: two logins that lead to the same folder of the same user share it, unless each has a view of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// The folder.
    pub mailbox: MailboxName,
    /// Whose view, where it is nobody else's.
    pub login: Option<String>,
}

/// Held while it lives.
#[derive(Debug)]
pub struct Lock {
    locks: Locks,
    key: Key,
}

impl Locks {
    /// `None` while another session holds the maildrop.
    pub fn acquire(&self, key: Key) -> Option<Lock> {
        self.0.insert(key.clone()).then(|| Lock {
            locks: self.clone(),
            key,
        })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.locks.0.remove(&self.key);
    }
}
