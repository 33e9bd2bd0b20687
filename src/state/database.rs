//! The redb file: opened by one process at a time, proved sound, and begun anew where it is damaged.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
    time::{Duration, Instant, SystemTime},
};

use redb::{Builder, backends::FileBackend};

use super::Error;

/// The file's name under `[state] dir`.
pub(super) const FILE: &str = "state.redb";
/// Locked by the process that uses the directory: redb's own lock is on the file, which gets renamed if damaged.
const LOCK: &str = "state.lock";
/// Bytes of pages that redb holds: records are read once a session, so a large cache would gain nothing.
const CACHE: usize = 1024 * 1024;
/// How long the state stays unknown after a failure, before the file is opened again: opening reads all of it.
const PAUSE: Duration = Duration::from_secs(30);

/// A redb file in a directory that is ours as long as this lives.
#[derive(Debug)]
pub(super) struct Database {
    dir: PathBuf,
    prepare: Prepare,
    handle: RwLock<Handle>,
    _lock: File,
}

/// Creates the tables that are missing, and fails where others bear their names.
pub(super) type Prepare = fn(&redb::Database) -> Result<(), redb::Error>;

#[derive(Debug)]
enum Handle {
    Open(redb::Database),
    /// It failed; not to be opened again before this instant.
    Closed(Instant),
}

/// Why redb did not do what was asked, told apart by what helps.
#[derive(Debug)]
enum Failure {
    /// What the file holds is not what redb wrote.
    Damaged(String),
    /// Another process has the file.
    InUse,
    /// The file may be as good as ever: no space, no permission, a broken disk.
    Io(io::Error),
}

impl Database {
    /// Takes `dir`, which is created if missing, and opens the file in it. A damaged file is set aside (logged), and so
    /// is one that `prepare` finds to be somebody else's.
    pub(super) fn open(dir: &Path, prepare: Prepare) -> Result<Self, Error> {
        create_private(dir).map_err(|source| Error::Create {
            dir: dir.to_owned(),
            source,
        })?;
        let lock = lock(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            prepare,
            handle: RwLock::new(Handle::Open(open_or_begin(dir, prepare)?)),
            _lock: lock,
        })
    }

    /// Runs `work` on the database; `None` if that failed (logged). Blocks: not for the runtime's own threads.
    ///
    /// After a failure the file is closed, since redb refuses all work after one, and opened again in the first call
    /// after a pause; what proves damaged then is set aside.
    pub(super) fn run<T>(&self, work: impl FnOnce(&redb::Database) -> Result<T, redb::Error>) -> Option<T> {
        self.reopen();
        let handle = self.handle.read().unwrap_or_else(PoisonError::into_inner);
        let Handle::Open(database) = &*handle else {
            return None;
        };
        let failure = match caught(|| work(database)) {
            Ok(value) => return Some(value),
            Err(failure) => failure,
        };
        drop(handle);
        let mut handle = self.handle.write().unwrap_or_else(PoisonError::into_inner);
        // Others may have failed at the same time: one says so.
        if let Handle::Open(database) = std::mem::replace(&mut *handle, Handle::Closed(Instant::now() + PAUSE)) {
            let error = failure.into_error(&self.dir);
            tracing::error!(%error, pause_seconds = PAUSE.as_secs(), "state failed: mailboxes are listed anew meanwhile, and logins that hide or retain are refused");
            close(database);
        }
        None
    }

    /// Opens the file again if it was closed by a failure and the pause is over.
    fn reopen(&self) {
        let due = |handle: &Handle| matches!(handle, Handle::Closed(until) if *until <= Instant::now());
        if !due(&self.handle.read().unwrap_or_else(PoisonError::into_inner)) {
            return;
        }
        let mut handle = self.handle.write().unwrap_or_else(PoisonError::into_inner);
        if due(&handle) {
            *handle = match open_or_begin(&self.dir, self.prepare) {
                Ok(database) => {
                    tracing::info!(dir = %self.dir.display(), "state is open again");
                    Handle::Open(database)
                }
                Err(error) => {
                    tracing::error!(%error, "state is still closed");
                    Handle::Closed(Instant::now() + PAUSE)
                }
            };
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let handle = self.handle.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Handle::Open(database) = std::mem::replace(handle, Handle::Closed(Instant::now())) {
            close(database);
        }
    }
}

/// Closing reads and writes, so it can fail as well. Nothing is lost then: opening copes with a file left open.
fn close(database: redb::Database) {
    if let Err(failure) = caught(|| Ok(database.close()?)) {
        tracing::debug!(?failure, "closing the state file");
    }
}

/// Opens the file under `dir`; a damaged one is renamed and a new one begun. The caller holds the lock of `dir`.
fn open_or_begin(dir: &Path, prepare: Prepare) -> Result<redb::Database, Error> {
    let path = dir.join(FILE);
    let reason = match open_file(&path, prepare) {
        Ok(database) => return Ok(database),
        Err(Failure::Damaged(reason)) => reason,
        Err(failure) => return Err(failure.into_error(dir)),
    };
    let seconds = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
    let aside = dir.join(format!("{FILE}.damaged-{seconds}"));
    fs::rename(&path, &aside).map_err(|error| Failure::Io(error).into_error(dir))?;
    tracing::error!(
        file = %path.display(),
        aside = %aside.display(),
        reason,
        "the state file is damaged or not popgate's: set aside, a new one begun; mailboxes are listed anew, and what logins have hidden they see again"
    );
    open_file(&path, prepare).map_err(|failure| failure.into_error(dir))
}

/// Opens or creates the file and checks every page of it, as redb trusts a file blindly (and may panic later) that
/// seems to have been closed.
fn open_file(path: &Path, prepare: Prepare) -> Result<redb::Database, Failure> {
    let file = private()
        .read(true)
        .write(true)
        .create(true)
        .open(path)
        .map_err(Failure::Io)?;
    caught(|| {
        let database = Builder::new()
            .set_cache_size(CACHE)
            .set_check_integrity_on_open(true)
            .create_with_backend(FileBackend::new(file)?)?;
        prepare(&database)?;
        // A file just made outlives a power failure only with its name; not every system has such a call.
        if let Some(dir) = path.parent() {
            let _ = File::open(dir).and_then(|dir| dir.sync_all());
        }
        Ok(database)
    })
}

/// Runs `work`; redb's panics on a damaged file are failures like others.
fn caught<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, Failure> {
    match panic::catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(Failure::from),
        Err(_) => Err(Failure::Damaged("redb panicked on it".into())),
    }
}

impl From<redb::Error> for Failure {
    fn from(error: redb::Error) -> Self {
        use io::ErrorKind::{FileTooLarge, InvalidData, InvalidInput, UnexpectedEof};
        match error {
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => Self::InUse,
            // What a lying length or offset in the file leads to; any other kind is not the file's fault.
            redb::Error::Io(error)
                if !matches!(error.kind(), FileTooLarge | InvalidData | InvalidInput | UnexpectedEof) =>
            {
                Self::Io(error)
            }
            redb::Error::PreviousIo | redb::Error::DatabaseClosed => Self::Io(io::Error::other(error)),
            error => Self::Damaged(error.to_string()),
        }
    }
}

impl Failure {
    fn into_error(self, dir: &Path) -> Error {
        let source = match self {
            Self::InUse => return Error::InUse { dir: dir.to_owned() },
            Self::Io(source) => source,
            Self::Damaged(reason) => io::Error::new(io::ErrorKind::InvalidData, reason),
        };
        Error::Access {
            path: dir.join(FILE),
            source,
        }
    }
}

/// Keeps every other popgate out of `dir` until the file returned is closed, by whatever end of the process.
fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join(LOCK);
    let locked = private()
        .write(true)
        .create(true)
        .open(&path)
        .and_then(|file| match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        });
    match locked {
        Ok(Some(file)) => Ok(file),
        Ok(None) => Err(Error::InUse { dir: dir.to_owned() }),
        Err(source) => Err(Error::Access { path, source }),
    }
}

/// Creates `dir` and what is missing above it, for our user only. One that is there stays as it is.
fn create_private(dir: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// Files that are created are for our user only.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

#[cfg(test)]
mod tests {
    use redb::{ReadableDatabase, TableDefinition};

    use super::*;

    const TABLE: TableDefinition<u32, u32> = TableDefinition::new("test");

    fn open(dir: &Path) -> Result<Database, Error> {
        Database::open(dir, |_| Ok(()))
    }

    fn insert(database: &Database, number: u32) -> Option<()> {
        database.run(|database| {
            let transaction = database.begin_write()?;
            transaction.open_table(TABLE)?.insert(number, number)?;
            Ok(transaction.commit()?)
        })
    }

    fn get(database: &Database, number: u32) -> Option<u32> {
        database.run(|database| {
            let value = database.begin_read()?.open_table(TABLE)?.get(number)?;
            Ok(value.map_or(0, |value| value.value()))
        })
    }

    fn end_pause(database: &Database) {
        *database.handle.write().unwrap() = Handle::Closed(Instant::now());
    }

    #[test]
    fn a_failure_closes_the_file_for_a_pause() {
        let dir = tempfile::tempdir().unwrap();
        let database = open(dir.path()).unwrap();
        insert(&database, 1).unwrap();

        assert_eq!(
            database.run(|_| Err::<(), _>(redb::Error::Corrupted("said so".into()))),
            None
        );
        assert_eq!(get(&database, 1), None);
        end_pause(&database);
        assert_eq!(get(&database, 1), Some(1), "sound after all");

        assert_eq!(
            database.run(|_| -> Result<(), redb::Error> { panic!("as redb may") }),
            None
        );
        assert_eq!(insert(&database, 2), None);
        end_pause(&database);
        assert_eq!(insert(&database, 3), Some(()));
        assert_eq!(
            [1, 2, 3].map(|number| get(&database, number)),
            [Some(1), Some(0), Some(3)]
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing set aside");
    }

    #[test]
    fn a_panic_within_a_transaction_takes_back_what_it_wrote() {
        let dir = tempfile::tempdir().unwrap();
        let database = open(dir.path()).unwrap();
        insert(&database, 1).unwrap();
        let panicked = database.run(|database| {
            let transaction = database.begin_write()?;
            transaction.open_table(TABLE)?.insert(1, 2)?;
            if get_in(&transaction)? == 2 {
                panic!("as redb may");
            }
            Ok(transaction.commit()?)
        });
        assert_eq!(panicked, None);
        end_pause(&database);
        assert_eq!(get(&database, 1), Some(1));
    }

    fn get_in(transaction: &redb::WriteTransaction) -> Result<u32, redb::Error> {
        use redb::ReadableTable;
        Ok(transaction.open_table(TABLE)?.get(1)?.map_or(0, |value| value.value()))
    }

    #[test]
    fn one_process_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path()).unwrap();
        insert(&first, 1).unwrap();
        let second = open(dir.path()).unwrap_err();
        assert!(matches!(second, Error::InUse { .. }), "{second}");
        assert_eq!(get(&first, 1), Some(1));
        drop(first);
        assert_eq!(get(&open(dir.path()).unwrap(), 1), Some(1));
    }

    #[test]
    fn a_file_that_other_software_has_open_is_not_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let other = redb::Database::create(dir.path().join(FILE)).unwrap();
        let error = open(dir.path()).unwrap_err();
        assert!(matches!(error, Error::InUse { .. }), "{error}");
        drop(other);
        open(dir.path()).unwrap();
    }

    #[test]
    fn a_directory_that_cannot_be_used_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let occupied = dir.path().join("occupied");
        fs::write(&occupied, "").unwrap();
        let error = open(&occupied.join("state")).unwrap_err().to_string();
        assert!(error.starts_with("state.dir: cannot create /"), "{error}");
        assert!(error.contains("/occupied/state: "), "{error}");

        fs::create_dir(dir.path().join(FILE)).unwrap();
        let error = open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("/state.redb: "), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn what_is_created_is_for_our_user_only() {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("state");
        let _database = open(&dir).unwrap();
        assert_eq!(mode(&dir), 0o700);
        assert_eq!(mode(&dir.join(FILE)), 0o600);
        assert_eq!(mode(&dir.join(LOCK)), 0o600);
    }
}
