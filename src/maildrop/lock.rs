//! One session a maildrop (RFC 1939 §4: the exclusive-access lock).

use std::sync::Arc;

use dashmap::DashSet;

use crate::accounts::Account;

/// The maildrops that sessions hold.
#[derive(Debug, Clone, Default)]
pub struct Locks(Arc<DashSet<Key>>);

/// What is locked: two logins that lead to the same folder of the same user share it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    upstream: String,
    user: String,
    folder: String,
}

/// Held while it lives.
#[derive(Debug)]
pub struct Lock {
    locks: Locks,
    key: Key,
}

impl Locks {
    /// Whether a session holds the maildrop.
    pub fn is_held(&self, account: &Account) -> bool {
        self.0.contains(&key(account))
    }

    /// `None` while another session holds the maildrop.
    pub fn acquire(&self, account: &Account) -> Option<Lock> {
        let key = key(account);
        self.0.insert(key.clone()).then(|| Lock {
            locks: self.clone(),
            key,
        })
    }
}

fn key(account: &Account) -> Key {
    Key {
        upstream: account.upstream.name.clone(),
        user: account.user.clone(),
        folder: account.policy.folder.clone(),
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.locks.0.remove(&self.key);
    }
}
