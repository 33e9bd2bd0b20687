//! What `check` says of policies and upstreams, key by key.

use super::{
    Policy, Upstream,
    key::{Says, Table},
    keys,
};

impl Policy {
    /// Which messages are seen, besides the folders: "newest 5".
    pub fn seen(&self) -> Vec<String> {
        let keys = keys::Maildrop::KEYS.iter();
        keys.filter_map(|key| match key.says {
            Says::Seen(words) => words(self),
            _ => None,
        })
        .collect()
    }

    /// What becomes of messages: "a delete removes for good".
    pub fn clauses(&self) -> Vec<String> {
        let keys = keys::Maildrop::KEYS.iter();
        keys.filter_map(|key| match key.says {
            Says::Clause(words) => words(self),
            _ => None,
        })
        .collect()
    }
}

impl Upstream {
    /// How it is reached: "tls: implicit".
    pub fn reached(&self) -> Vec<String> {
        let keys = keys::Upstream::KEYS.iter();
        keys.filter_map(|key| match key.says {
            Says::Reached(words) => words(self),
            _ => None,
        })
        .collect()
    }
}
