//! State in a file. It outlives the gateway, however the gateway ends.

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt, io, mem,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use async_trait::async_trait;
use redb::ReadableDatabase;
use tokio::{
    sync::{Semaphore, oneshot},
    task,
};

use super::{
    Consent, Error, Index, Kept, MailboxName, Marked, Replaced, Replacement, StateStore, Unavailable, Whose,
    database::{Database, FILE, Owner, caught},
    part::{Kind, PORTION, Part, PartSender, Parts},
    table::{self, Key, RECORDS, Reading, Snapshot, Writing, logins, notices, octets, transact},
    tokens::{Sealed, TokenFile},
};
use crate::telemetry::metrics;

/// State in a redb file under `[state] dir`.
///
/// Changes that arrive during a write are collected, and share the next transaction. So the disk is synced once for
/// each transaction, however many devices poll or quit at the same time.
#[derive(Debug)]
pub struct FileStore {
    shared: Arc<Shared>,
    tokens: Arc<TokenFile>,
    /// Held by the call that writes. (If that call is dropped, the write goes on without it.)
    turn: tokio::sync::Mutex<()>,
    readers: Semaphore,
}

/// How many reads run at once. A read is short, but each needs a thread with a stack, and many devices may log in at
/// the same moment.
const READERS: usize = 2;

#[derive(Debug)]
struct Shared {
    database: Database,
    /// Indexes that were set and are not in the file yet.
    pending: Mutex<HashMap<MailboxName, Arc<Index>>>,
    /// Changes that are not in a transaction yet, in the order in which they were asked for.
    changes: Mutex<Vec<Change>>,
}

/// A change of records that a caller waits for. It shares its transaction with others, so a change that is refused must
/// not have written anything before.
struct Change(Box<dyn FnOnce(&mut Writing) -> Changed + Send>);

/// What to do once the change is in the file. An error makes the whole transaction fail.
type Changed = Result<Tell, redb::Error>;

/// Tells the waiting caller how the change went.
type Tell = Box<dyn FnOnce() + Send>;

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Change")
    }
}

impl FileStore {
    /// Opens the file in `dir`; both are created if missing. A file that is damaged, or that other software has made,
    /// is set aside (logged). Blocks for two seconds at most if another process has the file.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        Self::of(dir, Owner::Us)
    }

    /// Opens the file in `dir`, which belongs to another process. If it is missing or damaged, this fails and changes
    /// nothing.
    pub(super) fn visit(dir: &Path) -> Result<Self, Error> {
        Self::of(dir, Owner::Another)
    }

    fn of(dir: &Path, owner: Owner) -> Result<Self, Error> {
        let database = Database::open(dir, table::create, owner)?;
        let tokens = move_tokens(&database, dir, owner)?;
        Ok(Self {
            shared: Arc::new(Shared {
                database,
                pending: Mutex::default(),
                changes: Mutex::default(),
            }),
            tokens,
            turn: tokio::sync::Mutex::default(),
            readers: Semaphore::new(READERS),
        })
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Reading) -> Result<Result<T, Unavailable>, redb::Error> + Send + 'static,
    ) -> Result<T, Unavailable> {
        let _reader = self.readers.acquire().await.map_err(|_| Unavailable::Failed)?;
        let begun = Instant::now();
        let shared = self.shared.clone();
        let reading = move || {
            let read = shared
                .database
                .run(|database| work(&Reading(database.begin_read()?.open_table(RECORDS)?)));
            read.unwrap_or(Err(Unavailable::Failed))
        };
        let read = task::spawn_blocking(reading).await.unwrap_or(Err(Unavailable::Failed));
        metrics().state("read", begun.elapsed());
        read
    }

    /// Makes a change, which is durable once this returns `Ok`. If the caller drops this future before the change is in
    /// a transaction, nothing changes. After that, the change is made nevertheless.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writing) -> Result<Result<T, Unavailable>, redb::Error> + Send + 'static,
    ) -> Result<T, Unavailable> {
        let (tell, told) = oneshot::channel();
        let change = move |table: &mut Writing| -> Changed {
            if tell.is_closed() {
                return Ok(Box::new(|| ()));
            }
            let result = work(table)?;
            Ok(Box::new(move || drop(tell.send(result))))
        };
        self.shared.changes().push(Change(Box::new(change)));
        let turn = self.turn.lock().await;
        // If there are no changes, the call that had the turn before has written this one too.
        if !self.shared.changes().is_empty() {
            self.commit().await;
        }
        drop(turn);
        // If the transaction failed, the sender was dropped unused.
        told.await.unwrap_or(Err(Unavailable::Failed))
    }

    async fn commit(&self) {
        let begun = Instant::now();
        let shared = self.shared.clone();
        // This fails only if the runtime ends. The changes are dropped then, so that no caller waits for a write that
        // never happens.
        if task::spawn_blocking(move || shared.commit()).await.is_err() {
            self.shared.changes().clear();
        }
        metrics().state("write", begun.elapsed());
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

    /// If the caller drops this future while it waits, the next write saves the index.
    async fn set_index(&self, mailbox: &MailboxName, index: Arc<Index>) {
        self.shared.pending().insert(mailbox.clone(), index);
        let _turn = self.turn.lock().await;
        if self.shared.pending().is_empty() {
            return; // saved by the call that had the turn before
        }
        self.commit().await;
    }

    async fn kept(&self, mailbox: &MailboxName, whose: Whose<'_>) -> Result<Kept, Unavailable> {
        let mailbox = mailbox.clone();
        let login = match whose {
            Whose::Login(login) => Some(login.to_owned()),
            Whose::Nobody | Whose::All => None,
        };
        let is_all = whose == Whose::All;
        self.read(move |table| {
            let logins = if is_all {
                let all = logins(&table.0, Some(&mailbox))?;
                all.into_iter().map(|(login, _)| login).collect()
            } else {
                Vec::from_iter(login)
            };
            let mut kept = Kept {
                past: table
                    .get(Key::of(Kind::Past, &mailbox))?
                    .ok()
                    .flatten()
                    .unwrap_or_default(),
                pending: table.get(Key::of(Kind::Move, &mailbox))?.ok().flatten(),
                ..Kept::default()
            };
            for login in logins {
                if let Some(marks) = table.get(Key::marks(&login, &mailbox))?.transpose() {
                    kept.marks.insert(login, marks);
                }
            }
            Ok(Ok(kept))
        })
        .await
    }

    async fn replace(&self, mailbox: &MailboxName, replacement: Replacement) -> Result<(), Unavailable> {
        let mailbox = mailbox.clone();
        self.write(move |table| {
            let Replacement { past, pending, marks } = &replacement;
            let (past_key, move_key) = (Key::of(Kind::Past, &mailbox), Key::of(Kind::Move, &mailbox));
            // A damaged record counts as missing, as it does when it is read.
            let mut follows = match past {
                Some(past) => past.follows(&table.get(past_key)?.ok().flatten().unwrap_or_default()),
                None => true,
            };
            if let Some(pending) = pending {
                follows &= pending.follows(&table.get(move_key)?.ok().flatten());
            }
            for (login, marks) in marks {
                follows &= marks.follows(&table.get(Key::marks(login, &mailbox))?.transpose());
            }
            if !follows {
                return Ok(Err(Unavailable::Changed));
            }
            if let Some(Replaced { is: past, .. }) = past {
                table.set(past_key, past)?;
            }
            if let Some(Replaced { is: pending, .. }) = pending {
                match pending {
                    Some(pending) => table.set(move_key, pending)?,
                    None => table.remove(move_key)?,
                }
            }
            for (login, Replaced { is: marks, .. }) in marks {
                let key = Key::marks(login, &mailbox);
                match marks {
                    Some(Ok(marks)) => table.set(key, marks)?,
                    // Marks that could not be read stay as they are.
                    Some(Err(_)) => {}
                    None => table.remove(key)?,
                }
            }
            Ok(Ok(()))
        })
        .await
    }

    async fn all_marks(&self) -> Result<Vec<Marked>, Unavailable> {
        self.read(|table| {
            let mut all = Vec::new();
            for (login, mailbox) in logins(&table.0, None)? {
                let marks = table.get(Key::marks(&login, &mailbox))?.map(Option::unwrap_or_default);
                all.push((login, mailbox, marks));
            }
            Ok(Ok(all))
        })
        .await
    }

    async fn parts(&self) -> Result<Parts, Unavailable> {
        let shared = self.shared.clone();
        let reading = move || {
            let run = |database: &redb::Database| Ok(database.begin_read()?.open_table(RECORDS)?);
            shared.database.run(run)
        };
        let table = task::spawn_blocking(reading)
            .await
            .ok()
            .flatten()
            .ok_or(Unavailable::Failed)?;
        let tokens = self.tokens.all();
        let (sender, parts) = Parts::channel();
        // The receiver may be slow: neither a permit of `readers` nor a lock is held meanwhile.
        drop(task::spawn_blocking(move || send(&table, &tokens, &sender)));
        Ok(parts)
    }

    async fn token(&self, consent: &Consent) -> Result<Option<Vec<u8>>, Unavailable> {
        Ok(self.tokens.get(consent))
    }

    async fn set_token(
        &self,
        consent: &Consent,
        followed: Option<&[u8]>,
        token: Option<&[u8]>,
    ) -> Result<(), Unavailable> {
        self.tokens.set(consent, followed, token).await
    }

    async fn tokens_unwritable_since(&self) -> Result<Option<u32>, Unavailable> {
        Ok(self.tokens.unwritable_since())
    }

    async fn notices(&self) -> Result<Vec<(String, Vec<u8>)>, Unavailable> {
        self.read(|table| notices(&table.0).map(Ok)).await
    }

    async fn set_notice(&self, name: &str, followed: Option<&[u8]>, notice: Option<&[u8]>) -> Result<(), Unavailable> {
        let [followed, notice] = [followed, notice].map(|notice| notice.map(<[u8]>::to_vec));
        let name = name.to_owned();
        self.write(move |table| {
            let key = Key::notice(&name);
            // A damaged record counts as missing, as it does when it is read.
            let kept: Option<Vec<u8>> = table.get(key)?.ok().flatten();
            if kept != followed && kept != notice {
                return Ok(Err(Unavailable::Changed));
            }
            match &notice {
                Some(notice) => table.set(key, notice)?,
                None => table.remove(key)?,
            }
            Ok(Ok(()))
        })
        .await
    }

    fn has_failed(&self) -> bool {
        self.shared.database.is_closed()
    }
}

/// Opens the file of tokens. Tokens that an earlier version stored in the database are moved to this file.
fn move_tokens(database: &Database, dir: &Path, owner: Owner) -> Result<Arc<TokenFile>, Error> {
    let earlier = || {
        let found = database.run(|database| table::tokens(&database.begin_read()?.open_table(RECORDS)?));
        found.ok_or_else(|| Error::Access {
            path: dir.join(FILE),
            source: io::Error::other("the tokens that an earlier version kept there cannot be read"),
        })
    };
    let tokens = TokenFile::open(dir, owner, earlier)?;
    if owner == Owner::Us {
        // If this fails (logged), it is tried again at the next start.
        database.run(|database| {
            transact(database, |table| {
                for consent in table::tokens(&table.table)?.keys() {
                    table.remove(Key::token(consent))?;
                }
                Ok(())
            })
        });
    }
    Ok(tokens)
}

impl Shared {
    fn load(&self, mailbox: &MailboxName) -> Option<Arc<Index>> {
        let record = self.database.run(|database| {
            let table = database.begin_read()?.open_table(RECORDS)?;
            let record = octets(&table, Key::of(Kind::Index, mailbox))?;
            Ok((!record.is_empty()).then_some(record))
        })??;
        match Index::decode(mailbox, &record) {
            Ok(index) => Some(Arc::new(index)),
            Err(damage) => {
                tracing::warn!(%mailbox, %damage, "the stored index of a mailbox is damaged: the mailbox is listed anew");
                None
            }
        }
    }

    /// Writes all pending indexes and changes, in one transaction. Writes nothing if the file has the same records
    /// already.
    fn commit(&self) {
        let mut batch = Vec::new();
        let mut tells = Vec::new();
        let committed = self.database.run(|database| {
            transact(database, |table| {
                // The pending indexes are read only here, where redb lets no other write transaction run. So an older
                // index never replaces a newer one.
                batch.extend(
                    self.pending()
                        .iter()
                        .map(|(mailbox, index)| (mailbox.clone(), index.clone())),
                );
                let changes = mem::take(&mut *self.changes());
                for (mailbox, index) in &batch {
                    let Some(record) = index.encode(mailbox) else {
                        tracing::error!(%mailbox, "the UIDs of an index do not ascend: the index is not stored");
                        continue;
                    };
                    table.put(Key::of(Kind::Index, mailbox), &record)?;
                }
                for Change(change) in changes {
                    tells.push(change(table)?);
                }
                Ok(())
            })
        });
        match committed {
            Some(()) => {
                let mut pending = self.pending();
                for (mailbox, index) in &batch {
                    if pending.get(mailbox).is_some_and(|latest| Arc::ptr_eq(latest, index)) {
                        pending.remove(mailbox);
                    }
                }
                drop(pending);
                tells.into_iter().for_each(|tell| tell());
            }
            // Nothing may pile up while writes fail, for example because the disk is full.
            None => {
                self.pending().clear();
                self.changes().clear();
            }
        }
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<MailboxName, Arc<Index>>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changes(&self) -> MutexGuard<'_, Vec<Change>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends the parts of all records and tokens, until the receiver is gone.
fn send(table: &Snapshot, tokens: &Sealed, sender: &PartSender) {
    let sent = caught(|| {
        let mut parts = table::parts(table)?.chain(
            tokens
                .iter()
                .flat_map(|(consent, token)| Key::token(consent).parts(token).map(Ok)),
        );
        loop {
            let portion: Result<Vec<Part>, _> = parts.by_ref().take(PORTION).collect();
            let is_last = portion.as_ref().is_ok_and(Vec::is_empty);
            let portion = portion.map_err(|error| {
                tracing::error!(%error, "the state cannot be read for a backup");
                Unavailable::Failed
            });
            if sender.blocking_send(portion).is_err() || is_last {
                return Ok(());
            }
        }
    });
    if let Err(failure) = sent {
        tracing::error!(?failure, "the state cannot be read for a backup");
    }
}
