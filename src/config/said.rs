//! What `check` says of policies and upstreams, key by key.

use super::{
    Policy, Upstream,
    key::{Key, Says, Table},
    keys,
};

impl Policy {
    /// Which messages are seen, besides the folders: "newest 5".
    pub fn seen(&self) -> Vec<String> {
        said(keys::Maildrop::KEYS, |says| match says {
            Says::Seen(words) => words(self),
            _ => None,
        })
    }

    /// What becomes of messages: "a delete removes for good".
    pub fn clauses(&self) -> Vec<String> {
        said(keys::Maildrop::KEYS, |says| match says {
            Says::Clause(words) => words(self),
            _ => None,
        })
    }
}

impl Upstream {
    /// How it is reached: "tls: implicit".
    pub fn reached(&self) -> Vec<String> {
        said(keys::Upstream::KEYS, |says| match says {
            Says::Reached(words) => words(self),
            _ => None,
        })
    }
}

/// The words for each of `keys` that has some, in their order.
fn said(keys: &[Key], words: impl Fn(Says) -> Option<String>) -> Vec<String> {
    keys.iter().filter_map(|key| words(key.says)).collect()
}
