//! How `check` describes policies and upstreams, key by key.

use super::{
    Policy, Upstream,
    key::{Key, Says, Table},
    keys,
};

impl Policy {
    /// Which messages a login sees, besides the folders: "newest 5".
    pub fn describe_view(&self) -> Vec<String> {
        descriptions(keys::Maildrop::KEYS, |says| match says {
            Says::Seen(words) => words(self),
            _ => None,
        })
    }

    /// What happens to messages: "a delete removes for good".
    pub fn describe_effects(&self) -> Vec<String> {
        descriptions(keys::Maildrop::KEYS, |says| match says {
            Says::Clause(words) => words(self),
            _ => None,
        })
    }
}

impl Upstream {
    /// How popgate reaches the upstream: "tls: implicit".
    pub fn describe_connection(&self) -> Vec<String> {
        descriptions(keys::Upstream::KEYS, |says| match says {
            Says::Reached(words) => words(self),
            _ => None,
        })
    }
}

/// The descriptions of `keys`, in the same order. A key with nothing to say is left out.
fn descriptions(keys: &[Key], words: impl Fn(Says) -> Option<String>) -> Vec<String> {
    keys.iter().filter_map(|key| words(key.says)).collect()
}
