//! What outlives a session: the index of every mailbox, what logins have done with its messages, tokens and notices. It
//! is kept in memory, in a file, or by servers that several gateways share.

#[cfg(test)]
mod altered;
mod backup;
#[cfg(unix)]
mod control;
mod database;
mod duty;
mod entries;
mod envelope;
mod file;
#[cfg(fuzzing)]
pub mod fuzzing;
mod gateways;
mod holding;
mod index;
mod kept;
mod lease;
mod lock;
mod mailbox_state;
mod mailboxes;
mod memory;
mod part;
mod records;
mod restore;
mod table;
mod term;
#[cfg(test)]
pub(crate) mod tests;
mod tokens;
mod valkey;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

#[cfg(test)]
pub(crate) use altered::{Access, Altered, Behaviour};
pub use backup::{Backup, BackupWriter, NoBackup, Tally};
#[cfg(unix)]
pub use control::{RemoteStore, serve};
pub use database::create_private;
pub use duty::{Duty, LASTS, OnDuty};
pub use entries::Entries;
pub use file::FileStore;
pub use gateways::{ALIVE, GatewayName, Heard, Seated, Seats, UpstreamUser};
pub use holding::{Entered, Holding, KeptDigest, KnownIndex, Renewed, Welcome};
pub use index::{Damage, Index};
pub use kept::{Kept, MarksReplaced, Replaced, Replacement, Whose};
pub use lease::{Lease, Leases, Tenure};
pub use mailbox_state::MailboxState;
pub use mailboxes::Mailboxes;
pub use memory::MemoryStore;
pub use part::{Kind, Part, Parts};
pub use records::{Former, Identity, Marks, Past, PendingMove, Renumbered};
pub use restore::{restore, restore_shared};
pub use valkey::ValkeyStore;

pub use crate::types::now;

use crate::types::MailboxName;

/// Remembers mailboxes between sessions. Indexes are a cache: if one is lost, the mailbox is listed again. All other
/// records are durable once a method has returned `Ok`, with two exceptions. A store in memory loses everything when
/// the gateway ends. A shared store that loses its server may lose notices, and changes whose loss only keeps mail for
/// longer (see `Replacement::is_precious`).
///
/// A store reads and replaces whole records. The changes that are made to records are the same for all stores: see
/// [`Mailboxes`].
#[async_trait]
pub trait StateStore: Send + Sync + fmt::Debug {
    /// Whether the store belongs to a gateway in another process and is asked by that gateway's socket. That gateway
    /// renews the tokens.
    fn is_remote(&self) -> bool {
        false
    }

    /// The index of `mailbox`; `None` if there is none, or if it is damaged or cannot be read (logged).
    async fn index(&self, mailbox: &MailboxName) -> Option<Arc<Index>>;

    /// Remembers `index`. Returns once the store has done what it can. A failure is logged and not returned, because
    /// the index is a cache.
    async fn set_index(&self, mailbox: &MailboxName, index: Arc<Index>);

    /// The records of `mailbox` at one moment, with the marks that `whose` asks for.
    async fn kept(&self, mailbox: &MailboxName, whose: Whose<'_>) -> Result<Kept, Unavailable>;

    /// Replaces records of `mailbox`, all or none. [`Unavailable::Changed`] if a stored record equals neither the old
    /// nor the new record of its replacement: somebody else has changed it.
    async fn replace(&self, mailbox: &MailboxName, replacement: Replacement) -> Result<(), Unavailable>;

    /// Makes sure that the replacements of `mailbox` that have failed here are durable if they were made: a replacement
    /// may have been made although it failed. Of failures in other processes, or before the start, this knows nothing.
    async fn confirm(&self, _mailbox: &MailboxName) -> Result<(), Unavailable> {
        Ok(())
    }

    /// How long a maildrop stays held if its lease is not renewed. `None` if one process has the store alone: then its
    /// own locks are enough, and the store is not asked for maildrops.
    fn lease(&self) -> Option<Duration> {
        None
    }

    /// The digest of `kept` as the store computes it; `None` if the store does not compare digests.
    fn digest(&self, _mailbox: &MailboxName, _login: &str, _kept: &Kept) -> Option<KeptDigest> {
        None
    }

    /// Takes the maildrop of `holding`, or renews its lease if it is held under that name already: calling it twice
    /// does no harm. If another session holds the maildrop, nothing of it is held under that name afterwards. If the digest
    /// of the records is not `known`, the answer contains the records.
    async fn enter(&self, _holding: &Holding, _known: Option<&KeptDigest>) -> Result<Entered, Unavailable> {
        Ok(Entered::Same)
    }

    /// Renews the leases of all `holdings`. Returns the result of each, in the same order.
    async fn extend(&self, holdings: &[&Holding]) -> Vec<Renewed> {
        vec![Renewed::Held; holdings.len()]
    }

    /// Gives the maildrop up if it is still held under that name, and remembers `index` for the next session. Returns
    /// once both are done.
    async fn leave(&self, _holding: &Holding, _index: Option<Arc<Index>>) -> Result<(), Unavailable> {
        Ok(())
    }

    /// [`StateStore::replace`] by a session that holds the maildrop. [`Unavailable::Lost`] if another session holds it
    /// by now. If no session holds it, this takes it again, because a store may lose locks in a failover.
    async fn replace_held(&self, holding: &Holding, replacement: Replacement) -> Result<(), Unavailable> {
        self.replace(&holding.mailbox, replacement).await
    }

    /// Takes `duty` under `name` for [`LASTS`], or renews it if it is held under that name already. Returns `false` if
    /// another gateway has it.
    async fn take_duty(&self, _duty: &Duty, _name: &[u8; 16]) -> Result<bool, Unavailable> {
        Ok(true)
    }

    /// Gives `duty` up if it is still held under `name`.
    async fn leave_duty(&self, _duty: &Duty, _name: &[u8; 16]) -> Result<(), Unavailable> {
        Ok(())
    }

    /// Sends `words` to the other gateways that share the store, and returns the words that they have sent since
    /// `position`. Without a position, returns no words, only the current position. Words may be lost or arrive twice:
    /// send only words for which that does no harm. `gateway` counts as alive for [`ALIVE`] from now on.
    async fn confer(
        &self,
        _gateway: &GatewayName,
        _position: Option<&str>,
        _words: Option<&[u8]>,
    ) -> Result<Heard, Unavailable> {
        Ok(Heard::default())
    }

    /// Removes the gateway from those that are alive.
    async fn retire(&self, _gateway: &GatewayName) -> Result<(), Unavailable> {
        Ok(())
    }

    /// Stores how many connections a gateway has as an upstream user, unless all gateways together would have more than
    /// the limit. A lower number than before is always stored.
    async fn seat(&self, _seats: Seats<'_>) -> Result<Seated, Unavailable> {
        Ok(Seated::Yes)
    }

    /// The marks of all logins.
    async fn all_marks(&self) -> Result<Vec<Marked>, Unavailable>;

    /// Deletes the marks of `login`, in all mailboxes or only in those whose folder is `folder`. Returns the number of
    /// mailboxes in which it had marks.
    async fn clear_marks(&self, login: &str, folder: Option<&str>) -> Result<usize, Unavailable> {
        mailboxes::clear_marks(self, login, folder).await
    }

    /// All records. Each record is complete, but not every store reads all records at one moment: see the store.
    async fn parts(&self) -> Result<Parts, Unavailable>;

    /// The sealed token of `consent`; `None` if there is none.
    async fn token(&self, consent: &Consent) -> Result<Option<Vec<u8>>, Unavailable>;

    /// Stores `token` for `consent`, or removes it (`None`). [`Unavailable::Changed`] if the stored token is not
    /// `followed`: somebody has signed in or has renewed it meanwhile.
    async fn set_token(
        &self,
        consent: &Consent,
        followed: Option<&[u8]>,
        token: Option<&[u8]>,
    ) -> Result<(), Unavailable>;

    /// Since when tokens cannot be written, in seconds since 1970; `None` if the last write succeeded. The gateway's own
    /// store knows this without asking its servers.
    async fn tokens_unwritable_since(&self) -> Result<Option<u32>, Unavailable>;

    /// The notices that `[notify]` has sent and that are not over yet, by name. Damaged ones are left out (logged).
    /// Fails if this process asks a gateway by its socket.
    async fn notices(&self) -> Result<Vec<(String, Vec<u8>)>, Unavailable> {
        Err(Unavailable::Failed)
    }

    /// The notice under `name`; `None` if there is none, or if it is damaged (logged).
    async fn notice(&self, name: &str) -> Result<Option<Vec<u8>>, Unavailable> {
        let mut all = self.notices().await?.into_iter();
        Ok(all.find(|(kept, _)| kept == name).map(|(_, notice)| notice))
    }

    /// Keeps a notice under `name`, or forgets it because it is over (`None`). [`Unavailable::Changed`] if the kept
    /// notice is neither `followed` nor `notice`: another gateway has changed it. A damaged one counts as missing.
    async fn set_notice(
        &self,
        _name: &str,
        _followed: Option<&[u8]>,
        _notice: Option<&[u8]>,
    ) -> Result<(), Unavailable> {
        Err(Unavailable::Failed)
    }

    /// Whether the last attempt to read or write the store failed (logged).
    fn has_failed(&self) -> bool {
        false
    }

    /// Asks the gateway that has the store to renew the token of `consent`; with `is_refused` even if the token has not
    /// expired, because an upstream refuses it. Returns the answer of that gateway's [`Renewer`].
    async fn renew(&self, _consent: &Consent, _is_refused: bool) -> Result<String, Unavailable> {
        Err(Unavailable::Failed)
    }
}

/// Renews tokens for other processes. State passes the answer on without interpreting it.
#[async_trait]
pub trait Renewer: Send + Sync + fmt::Debug {
    /// Renews the token of `consent`; with `is_refused` even if it has not expired, because an upstream refuses it.
    async fn renew(&self, consent: &Consent, is_refused: bool) -> String;
}

/// The name of a consent: the upstream, and the person who has given the consent. Both are as in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Consent {
    /// The upstream's name, as in `[upstream.NAME]`.
    pub upstream: String,
    /// The person who has signed in there; empty if the consent is the application's own.
    pub name: String,
}

impl fmt::Display for Consent {
    /// `UPSTREAM/NAME`, for the log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.upstream, self.name)
    }
}

/// A login, a mailbox, and the login's marks there; an error if the marks can't be read.
pub type Marked = (String, MailboxName, Result<Marks, Unavailable>);

/// Why the state did not do what it was asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Unavailable {
    /// The store can't be read or written (logged).
    #[error("the state cannot be read or written, see the log")]
    Failed,
    /// The record is damaged (logged).
    #[error("the record in state is damaged, see the log")]
    Damaged,
    /// Somebody else has changed the record meanwhile: marks were reset or renumbered, or a token or notice was replaced.
    #[error("the record in state was changed meanwhile")]
    Changed,
    /// The session does not hold its maildrop any more.
    #[error("the lock of the maildrop was lost: another session may have it")]
    Lost,
}

/// The store that the configuration asks for: shared servers, a file under `dir`, or memory. Reads the whole file to
/// check it, and blocks for up to two seconds if another process has it. If servers cannot be reached, it keeps trying
/// for about ten seconds.
pub async fn open(config: &crate::config::State) -> Result<Arc<dyn StateStore>, Error> {
    Ok(match (&config.shared, &config.dir) {
        (Some(shared), _) => Arc::new(ValkeyStore::open(shared.clone(), config.key.clone()).await?),
        (None, Some(dir)) => Arc::new(FileStore::open(dir)?),
        (None, None) => Arc::new(MemoryStore::default()),
    })
}

/// The store in `dir`, for a process other than the gateway. This is the file, or if a gateway has the file, that
/// gateway's store by its socket. If there is no file, the store is empty and no file is made, because it would belong
/// to the user of this process. For the same reason a damaged file is left as it is. No gateway can start while the
/// store has the file open: drop it soon.
pub fn reach(dir: &Path) -> Result<Arc<dyn StateStore>, Error> {
    if !has_file(dir)? {
        return Ok(Arc::new(MemoryStore::default()));
    }
    match FileStore::visit(dir) {
        Ok(store) => Ok(Arc::new(store)),
        #[cfg(unix)]
        Err(Error::InUse { dir }) => Ok(Arc::new(RemoteStore::new(&dir))),
        Err(error) => Err(error),
    }
}

/// The store that the configuration asks for, for a process other than the gateway: see [`reach`]. The store is empty
/// if state is in the gateway's memory only.
pub fn reach_configured(config: &crate::config::State) -> Result<Arc<dyn StateStore>, Error> {
    match (&config.shared, &config.dir) {
        (Some(shared), _) => Ok(Arc::new(ValkeyStore::visit(shared.clone())?)),
        (None, Some(dir)) => reach(dir),
        (None, None) => Ok(Arc::new(MemoryStore::default())),
    }
}

/// Fails if the servers of shared state cannot be used.
pub async fn inspect_shared(config: &crate::config::State) -> Result<(), Error> {
    match &config.shared {
        Some(shared) => ValkeyStore::visit(shared.clone())?.inspect(config.key.as_ref()).await,
        None => Ok(()),
    }
}

/// Fails if the store in `dir` can't be used, or if another process has it. During this check no other process can open
/// the store.
pub fn inspect(dir: &Path) -> Result<(), Error> {
    if has_file(dir)? {
        FileStore::visit(dir).map(drop)
    } else {
        Ok(())
    }
}

/// Like [`reach`], for a process that has something to store: if there is no file, it is made.
pub fn share(dir: &Path) -> Result<Arc<dyn StateStore>, Error> {
    if has_file(dir)? {
        reach(dir)
    } else {
        Ok(Arc::new(FileStore::open(dir)?))
    }
}

/// Whether there is a store in `dir`.
pub fn has_file(dir: &Path) -> Result<bool, Error> {
    let path = dir.join(database::FILE);
    path.try_exists().map_err(|source| Error::Access { path, source })
}

/// Does nothing: other processes ask the gateway by a Unix socket, which this system does not have.
#[cfg(not(unix))]
pub async fn serve(_: Arc<dyn StateStore>, _: Arc<dyn Renewer>, _: PathBuf, _: tokio_util::sync::CancellationToken) {}

/// Why state can't be kept where the configuration says.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory is not there and can't be made.
    #[error("state.dir: cannot create {}: {source} (create it, owned by the user that popgate runs as)", .dir.display())]
    Create {
        /// `[state] dir`
        dir: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file in the directory can't be read and written.
    #[error("state.dir: cannot use {}: {source} (popgate must be able to read and write all files there)", .path.display())]
    Access {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file is damaged, or other software has made it. A gateway that starts sets it aside.
    #[error(
        "state.dir: {} is damaged or not popgate's: {reason} (left as it is; start the gateway, which sets it aside and begins anew)",
        .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Servers that several gateways share cannot be used.
    #[error("state.url: {url}: {what}")]
    Shared {
        /// `[state] url`
        url: String,
        /// What is wrong, and how to mend it.
        what: String,
    },
    /// Another process has the directory.
    #[error("state.dir: another popgate is using {} (stop it, or give each a `dir` of its own)", .dir.display())]
    InUse {
        /// `[state] dir`
        dir: PathBuf,
    },
}
