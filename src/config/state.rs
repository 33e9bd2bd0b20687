//! `[state]`

use std::{path::PathBuf, time::Duration};

use super::{Secret, StateUrl};

/// What outlives a session.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// Directory of the state file; without it, and without servers, state lives in memory only.
    pub dir: Option<PathBuf>,
    /// The servers of state that several gateways share, instead of a directory.
    pub shared: Option<SharedState>,
    /// What tokens are sealed with there: at least 32 octets.
    pub key: Option<Secret>,
    /// The file that the key came from.
    pub key_file: Option<PathBuf>,
}

impl State {
    /// Whether it outlives the process.
    pub fn is_kept(&self) -> bool {
        self.dir.is_some() || self.shared.is_some()
    }
}

/// State in Valkey or Redis.
#[derive(Debug, Clone)]
pub struct SharedState {
    /// The servers.
    pub url: StateUrl,
    /// Of the user in `url`.
    pub password: Option<Secret>,
    /// Roots besides the system's.
    pub ca_file: Option<PathBuf>,
    /// How the names of all keys begin.
    pub prefix: String,
    /// How many replicas of the server must confirm what must not be lost.
    pub replicas: usize,
    /// Whether the server must write to its disk before it answers.
    pub fsync: bool,
    /// How long a maildrop stays locked that is not renewed.
    pub lease: Duration,
    /// What this gateway is called among the others.
    pub replica: String,
}

impl SharedState {
    /// Whether both are the same, with all their keys.
    pub fn is_same(one: &Option<Self>, other: &Option<Self>) -> bool {
        let parts = |shared: &Self| {
            let password = shared.password.as_ref().map(|password| password.expose().to_vec());
            let Self {
                url,
                password: _,
                ca_file,
                prefix,
                replicas,
                fsync,
                lease,
                replica,
            } = shared.clone();
            (url, password, ca_file, prefix, replicas, fsync, lease, replica)
        };
        one.as_ref().map(parts) == other.as_ref().map(parts)
    }

    /// With the defaults of all keys but `url`; for tests.
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

/// The name of this machine.
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
