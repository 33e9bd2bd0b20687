//! The keys of `[state]`.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use super::{Secret, StateUrl};

/// Where state that outlives a session is kept.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The directory of the state file. If there is neither a directory nor a server, state is kept in memory only.
    pub dir: Option<PathBuf>,
    /// The servers of shared state, instead of a directory.
    pub shared: Option<SharedState>,
    /// The key that seals tokens: at least 32 octets.
    pub key: Option<Secret>,
    /// The file that the key came from.
    pub key_file: Option<PathBuf>,
}

impl State {
    /// Whether state outlives the process.
    pub fn is_kept(&self) -> bool {
        self.dir.is_some() || self.shared.is_some()
    }
}

/// State in Valkey or Redis.
#[derive(Debug, Clone)]
pub struct SharedState {
    /// The servers, and how they are reached.
    pub url: StateUrl,
    /// The password of the user in `url`.
    pub password: Option<Secret>,
    /// PEM file of roots that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// The beginning of all key names.
    pub prefix: String,
    /// How many replicas must confirm a write that must not be lost.
    pub replicas: usize,
    /// Whether the server must write to its disk before it answers.
    pub fsync: bool,
    /// How long a maildrop stays locked if the lock is not renewed.
    pub lease: Duration,
    /// The name of this gateway among the gateways that share the store.
    pub replica: String,
    /// The host of each upstream, by its name: all gateways must have the same.
    pub upstreams: BTreeMap<String, String>,
}

impl SharedState {
    /// Whether all these keys of `[state]` have the same values. `upstreams` does not count: it comes from other
    /// tables.
    pub fn is_same(one: &Option<Self>, other: &Option<Self>) -> bool {
        fn parts(shared: &SharedState) -> impl PartialEq {
            let SharedState {
                url,
                password,
                ca_file,
                prefix,
                replicas,
                fsync,
                lease,
                replica,
                upstreams: _,
            } = shared;
            (url, password, ca_file, prefix, replicas, fsync, lease, replica)
        }
        one.as_ref().map(parts) == other.as_ref().map(parts)
    }

    /// A configuration with this `url`, and the defaults of all other keys.
    #[cfg(test)]
    pub(crate) fn of(url: &str) -> Self {
        use std::path::Path;

        let text = format!(
            "[upstream.home]\nhost = \"imap.example.org\"\nlogins = [\"*\"]\n[state]\nurl = \"{url}\"\nkey = \"{}\"",
            "k".repeat(40)
        );
        let config = super::Config::parse(&text, Path::new("/etc")).unwrap();
        config.state.shared.unwrap()
    }
}

/// The name of this machine; `popgate` if the system gives none.
pub(super) fn host_name() -> String {
    #[cfg(target_os = "linux")]
    let name = rustix::system::uname()
        .nodename()
        .to_str()
        .unwrap_or_default()
        .to_owned();
    #[cfg(not(target_os = "linux"))]
    let name = std::env::var("HOSTNAME")
        .or_else(|_| std::env::var("COMPUTERNAME"))
        .unwrap_or_default();
    if name.is_empty() { "popgate".to_owned() } else { name }
}
