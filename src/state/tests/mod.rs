//! The stores as the gateway uses them.

#[cfg(unix)]
mod backup;
mod damage;
mod file;
mod gone;
mod killed;
#[cfg(unix)]
pub(crate) mod server;
#[cfg(unix)]
mod socket;
mod suite;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use tempfile::TempDir;
use tokio::task::{self, JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{Consent, Index, MailboxName, RemoteStore, Renewer, StateStore};

fn mailbox(user: &str) -> MailboxName {
    MailboxName {
        upstream: "home".into(),
        user: user.into(),
        folder: "INBOX".into(),
    }
}

pub(super) fn index(count: u32) -> Arc<Index> {
    Arc::new(Index {
        uid_validity: 7,
        modseq: 1 << 40,
        row: count / 2,
        listed: count * 3,
        entries: (1..=count).map(|uid| (uid * 3, 1_000 + uid)).collect(),
        ..Index::default()
    })
}

/// A directory in memory if the system has one: these tests write thousands of small files.
pub(super) fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    tempfile::tempdir_in(&parent).or_else(|_| tempfile::tempdir()).unwrap()
}

fn set_aside(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.to_string_lossy().contains(".damaged-"))
        .collect()
}

/// A renewer whose answer is the request itself.
#[derive(Debug)]
struct Echo;

#[async_trait::async_trait]
impl Renewer for Echo {
    async fn renew(&self, consent: &Consent, is_refused: bool) -> String {
        format!("{consent} {is_refused}")
    }
}

/// A store that is served by a socket in this process, on the only thread of a test.
struct Served {
    store: RemoteStore,
    shutdown: CancellationToken,
    answering: JoinHandle<()>,
}

impl Served {
    async fn new(store: Arc<dyn StateStore>, dir: &Path) -> Self {
        let shutdown = CancellationToken::new();
        let answering = tokio::spawn(super::serve(store, Arc::new(Echo), dir.to_owned(), shutdown.clone()));
        // The task listens as soon as this one waits.
        task::yield_now().await;
        Self {
            store: RemoteStore::new(dir),
            shutdown,
            answering,
        }
    }

    async fn end(self) {
        self.shutdown.cancel();
        self.answering.await.unwrap();
    }
}
