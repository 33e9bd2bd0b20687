//! The sessions that have not ended.

use std::{
    net::SocketAddr,
    sync::{
        Arc, LazyLock, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use dashmap::DashMap;
use serde::{Deserialize, Serialize};

/// A session that has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ActiveSession {
    /// The session's number; the log has it as `id` of the session's span.
    pub id: u64,
    /// The address of the listener.
    pub listener: String,
    pub peer: SocketAddr,
    /// The login, once the device has logged in.
    pub login: Option<String>,
    /// The version of TLS; `None` if there is no TLS.
    pub tls: Option<String>,
    /// When the session began, in seconds since 1970.
    pub since: u64,
}

static SESSIONS: LazyLock<DashMap<u64, Arc<Facts>>> = LazyLock::new(DashMap::new);

#[derive(Debug)]
struct Facts {
    listener: Arc<str>,
    peer: SocketAddr,
    since: SystemTime,
    login: OnceLock<String>,
    tls: OnceLock<String>,
}

/// The number of the next session.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A session's entry in the list of sessions. Dropping it removes the entry.
#[derive(Debug)]
pub(crate) struct Presence {
    id: u64,
    facts: Arc<Facts>,
}

impl Presence {
    /// Adds a session that begins now: of the device `peer` at `listener`.
    pub(crate) fn new(listener: Arc<str>, peer: SocketAddr) -> Self {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let facts = Arc::new(Facts {
            listener,
            peer,
            since: SystemTime::now(),
            login: OnceLock::new(),
            tls: OnceLock::new(),
        });
        SESSIONS.insert(id, facts.clone());
        Self { id, facts }
    }

    /// The session's number, which no other session of this process has.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Notes the device's login. Only the first call has an effect, because a device logs in once in a session.
    pub(crate) fn set_login(&self, login: &str) {
        let _ = self.facts.login.set(login.to_owned());
    }

    pub(crate) fn set_tls(&self, version: &str) {
        let _ = self.facts.tls.set(version.to_owned());
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        SESSIONS.remove(&self.id);
    }
}

/// A pair of numbers that changes whenever a session begins or ends: the number of the next session, and how many
/// sessions there are.
pub(crate) fn activity() -> (u64, usize) {
    (NEXT.load(Ordering::Relaxed), SESSIONS.len())
}

/// All sessions that have not ended, the oldest first.
pub(crate) fn sessions() -> Vec<ActiveSession> {
    let mut all: Vec<_> = SESSIONS
        .iter()
        .map(|entry| active_session(*entry.key(), entry.value()))
        .collect();
    all.sort_unstable_by_key(|session| session.id);
    all
}

fn active_session(id: u64, facts: &Facts) -> ActiveSession {
    let since = facts.since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    ActiveSession {
        id,
        listener: facts.listener.to_string(),
        peer: facts.peer,
        login: facts.login.get().cloned(),
        tls: facts.tls.get().cloned(),
        since: since.as_secs(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_listed_until_it_ends() {
        let peer = SocketAddr::from(([192, 0, 2, 7], 4711));
        let presence = Presence::new("test".into(), peer);
        let mine = || sessions().into_iter().find(|session| session.id == presence.id());
        assert_eq!(mine().unwrap().login, None);
        presence.set_tls("TLSv1_3");
        presence.set_login("fax");
        let session = mine().unwrap();
        assert_eq!(
            (session.login.as_deref(), session.tls.as_deref()),
            (Some("fax"), Some("TLSv1_3"))
        );
        assert_eq!((session.listener.as_str(), session.peer), ("test", peer));
        let id = presence.id();
        drop(presence);
        assert!(sessions().iter().all(|session| session.id != id));
    }
}
