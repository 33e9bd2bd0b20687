//! State in a file: kept when the gateway ends, however it ends.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use redb::{ReadableDatabase, ReadableTable, Table, TableDefinition};
use tokio::{sync::Semaphore, task};

use super::{Error, Index, MailboxName, StateStore, database::Database};

/// Upstream, user, folder and the number of a piece → that piece of a record of [`Index::encode`].
const INDEXES: TableDefinition<Key, &[u8]> = TableDefinition::new("indexes");
type Key<'a> = (&'a str, &'a str, &'a str, u32);

/// Octets of a piece: with its key it fills a page of redb's (4 KiB). Larger values take twice the pages of the
/// next smaller power of two, and a message that has come changes the first and the last piece only.
const PIECE: usize = 3_800;

/// Indexes in a redb file under `[state] dir`.
///
/// Saves that come while one is being written gather, and go into the next transaction together: the disk is waited
/// for once a transaction, however many devices poll.
#[derive(Debug)]
pub struct FileStore {
    shared: Arc<Shared>,
    /// Held by whoever saves.
    turn: tokio::sync::Mutex<()>,
    readers: Semaphore,
}

/// Reads at once. A read is short, but each takes a thread with a stack, and many devices may log in at the same moment.
const READERS: usize = 2;

#[derive(Debug)]
struct Shared {
    database: Database,
    /// Set, and not in the file yet.
    pending: Mutex<HashMap<MailboxName, Arc<Index>>>,
}

impl FileStore {
    /// Opens the file in `dir`; both are created if missing. A damaged or foreign file is set aside (logged).
    pub fn open(dir: &Path) -> Result<Self, Error> {
        Ok(Self {
            shared: Arc::new(Shared {
                database: Database::open(dir, create_tables)?,
                pending: Mutex::default(),
            }),
            turn: tokio::sync::Mutex::default(),
            readers: Semaphore::new(READERS),
        })
    }
}

#[async_trait]
impl StateStore for FileStore {
    async fn index(&self, mailbox: &MailboxName) -> Option<Arc<Index>> {
        if let Some(index) = self.shared.pending().get(mailbox) {
            return Some(index.clone());
        }
        let _reader = self.readers.acquire().await.ok()?;
        let (shared, mailbox) = (self.shared.clone(), mailbox.clone());
        task::spawn_blocking(move || shared.load(&mailbox)).await.ok()?
    }

    /// A caller that goes away while it waits leaves its index to the next save.
    async fn set_index(&self, mailbox: &MailboxName, index: Arc<Index>) {
        self.shared.pending().insert(mailbox.clone(), index);
        let _turn = self.turn.lock().await;
        if self.shared.pending().is_empty() {
            return; // saved by whoever had the turn before
        }
        let shared = self.shared.clone();
        // Fails only where the runtime ends, and what is logged has been logged.
        let _ = task::spawn_blocking(move || shared.save()).await;
    }
}

impl Shared {
    fn load(&self, mailbox: &MailboxName) -> Option<Arc<Index>> {
        let record = self.database.run(|database| {
            let table = database.begin_read()?.open_table(INDEXES)?;
            let mut record = Vec::new();
            for piece in table.range(key(mailbox, 0)..=key(mailbox, u32::MAX))? {
                record.extend_from_slice(piece?.1.value());
            }
            Ok((!record.is_empty()).then_some(record))
        })??;
        match Index::decode(mailbox, &record) {
            Ok(index) => Some(Arc::new(index)),
            Err(damage) => {
                tracing::warn!(%mailbox, %damage, "what was kept of a mailbox is damaged: it is listed anew");
                None
            }
        }
    }

    /// Writes what is pending, in one transaction; none where the file holds the same already.
    fn save(&self) {
        let mut batch = Vec::new();
        let saved = self.database.run(|database| {
            let transaction = database.begin_write()?;
            // Read only now that no other save can be under way, so that an older index never follows a newer one.
            batch.extend(
                self.pending()
                    .iter()
                    .map(|(mailbox, index)| (mailbox.clone(), index.clone())),
            );
            let mut table = transaction.open_table(INDEXES)?;
            let mut changed = false;
            for (mailbox, index) in &batch {
                let Some(record) = index.encode(mailbox) else {
                    tracing::error!(%mailbox, "UIDs of an index do not ascend: not kept");
                    continue;
                };
                changed |= write(&mut table, mailbox, &record)?;
            }
            drop(table);
            if changed {
                transaction.commit()?;
            } else {
                transaction.abort()?;
            }
            Ok(())
        });
        let mut pending = self.pending();
        match saved {
            Some(()) => {
                for (mailbox, index) in &batch {
                    if pending.get(mailbox).is_some_and(|latest| Arc::ptr_eq(latest, index)) {
                        pending.remove(mailbox);
                    }
                }
            }
            // Nothing may pile up while the disk is full.
            None => pending.clear(),
        }
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<MailboxName, Arc<Index>>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn create_tables(database: &redb::Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(INDEXES)?;
    Ok(transaction.commit()?)
}

/// Makes the pieces of `record` those of `mailbox`. Whether they were not before.
fn write(table: &mut Table<Key, &[u8]>, mailbox: &MailboxName, record: &[u8]) -> Result<bool, redb::Error> {
    let mut changed = false;
    let mut number = 0;
    for piece in record.chunks(PIECE) {
        let key = key(mailbox, number);
        if table.get(key)?.is_none_or(|kept| kept.value() != piece) {
            table.insert(key, piece)?;
            changed = true;
        }
        number += 1;
    }
    while table.remove(key(mailbox, number))?.is_some() {
        changed = true;
        number += 1;
    }
    Ok(changed)
}

fn key(mailbox: &MailboxName, piece: u32) -> Key<'_> {
    (&mailbox.upstream, &mailbox.user, &mailbox.folder, piece)
}
