//! What outlives a session: the index of every mailbox, in a file or in memory.

mod database;
mod file;
mod index;
mod memory;
#[cfg(test)]
mod tests;

use std::{fmt, io, path::PathBuf, sync::Arc};

use async_trait::async_trait;

pub use file::FileStore;
pub use index::{Damage, Index};
pub use memory::MemoryStore;

/// Which mailbox: names as configured.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MailboxName {
    /// The upstream's name, as in `[upstream.NAME]`.
    pub upstream: String,
    /// Whom the upstream knows.
    pub user: String,
    /// The folder.
    pub folder: String,
}

impl fmt::Display for MailboxName {
    /// For the log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.upstream, self.user, self.folder)
    }
}

/// Remembers mailboxes between sessions. Nothing in it is needed: what is lost is asked of the upstream again.
#[async_trait]
pub trait StateStore: Send + Sync + fmt::Debug {
    /// What is known of `mailbox`; `None` where nothing is, or where what was kept proved damaged (logged).
    async fn index(&self, mailbox: &MailboxName) -> Option<Arc<Index>>;

    /// Remembers `index`, and returns once it is kept as well as the store can. A failure is logged, never an error:
    /// the index is a cache.
    async fn set_index(&self, mailbox: &MailboxName, index: Arc<Index>);
}

/// The store that the configuration asks for: a file under `dir`, or memory. Reads the whole file, to prove it sound.
pub fn open(config: &crate::config::State) -> Result<Arc<dyn StateStore>, Error> {
    Ok(match &config.dir {
        Some(dir) => Arc::new(FileStore::open(dir)?),
        None => Arc::new(MemoryStore::default()),
    })
}

/// Why the state can't be kept where the configuration says. A damaged file is no reason: it is set aside.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory is not there and can't be made.
    #[error("state.dir: cannot create {}: {source} (create it, owned by the user that popgate runs as)", .dir.display())]
    Create {
        /// `[state] dir`
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file in the directory can't be read and written.
    #[error("state.dir: cannot use {}: {source} (popgate must be able to read and write all files there)", .path.display())]
    Access {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has it.
    #[error("state.dir: another popgate is using {} (stop it, or give each a `dir` of its own)", .dir.display())]
    InUse {
        /// `[state] dir`
        dir: PathBuf,
    },
}
