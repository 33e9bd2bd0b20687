//! The redb file. One process at a time opens it, checks all of it, and begins a new one if it is damaged.

#[cfg(test)]
mod tests;

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::{self, PoisonError, RwLock},
    thread,
    time::{Duration, Instant, SystemTime},
};

use redb::{
    Builder, StorageBackend,
    backends::{FileBackend, InMemoryBackend},
};

use super::Error;

/// The file's name under `[state] dir`.
pub(super) const FILE: &str = "state.redb";
/// Locked by the process that uses the directory. Redb's own lock is not enough: it is on the file, which is renamed if
/// it is damaged.
const LOCK: &str = "state.lock";
/// Bytes of pages that redb caches. A session reads its records once, so a large cache would save no reads, and it
/// would hold memory while sessions are idle.
const CACHE: usize = 128 * 1024;
/// How long the file stays closed after a failure. Opening it reads all of it, so this is not done often.
const PAUSE: Duration = Duration::from_secs(30);
/// How long a gateway that starts waits if another process has the file. `popgate state`, for example, has it for a
/// moment.
const PATIENCE: Duration = Duration::from_secs(2);
/// The pause between two attempts in that time.
const STEP: Duration = Duration::from_millis(20);

/// A redb file in a directory that no other popgate uses as long as this lives.
#[derive(Debug)]
pub(super) struct Database {
    dir: PathBuf,
    prepare: Prepare,
    owner: Owner,
    handle: RwLock<Handle>,
    _lock: Option<File>,
}

/// Who owns the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// This process, the gateway: the file is made if missing, and set aside if damaged.
    Us,
    /// A gateway, which does not run now and may belong to another user. No file is made or renamed.
    Another,
}

/// Creates the tables that are missing. Fails if there are other tables with their names.
pub(super) type Prepare = fn(&redb::Database) -> Result<(), redb::Error>;

#[derive(Debug)]
enum Handle {
    Open(redb::Database),
    /// The file has failed, and is not opened again before this instant.
    Closed(Instant),
}

/// Why redb failed, by what can be done about it.
#[derive(Debug)]
pub(super) enum Failure {
    /// The content of the file is not what redb wrote.
    Damaged(String),
    /// Another process has the file.
    InUse,
    /// The file itself may be sound: no space, no permission, a broken disk.
    Io(io::Error),
}

impl Database {
    /// Locks `dir` and opens the file in it. If this process owns them (`Owner::Us`), creates both if they are missing,
    /// waits for two seconds at most while another process has the file, and sets the file aside (logged) if it is
    /// damaged or if `prepare` fails because other software has made it.
    pub(super) fn open(dir: &Path, prepare: Prepare, owner: Owner) -> Result<Self, Error> {
        match owner {
            Owner::Us => patiently(thread::sleep, || Self::take(dir, prepare, owner)),
            Owner::Another => Self::take(dir, prepare, owner),
        }
    }

    fn take(dir: &Path, prepare: Prepare, owner: Owner) -> Result<Self, Error> {
        if owner == Owner::Us {
            create_private(dir).map_err(|source| Error::Create {
                dir: dir.to_owned(),
                source,
            })?;
        }
        let lock = lock(dir, owner)?;
        Ok(Self {
            dir: dir.to_owned(),
            prepare,
            owner,
            handle: RwLock::new(Handle::Open(open_or_begin(dir, prepare, owner)?)),
            _lock: lock,
        })
    }

    /// Runs `work` on the database. `None` if that failed (logged). Blocks, so it must not run on the runtime's own
    /// threads.
    ///
    /// After a failure the file is closed, because redb refuses all work then. The first call after a pause opens it
    /// again; if it is found damaged then, it is set aside.
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
        // Several calls may fail at the same time: only one logs it.
        if let Handle::Open(database) = std::mem::replace(&mut *handle, Handle::Closed(Instant::now() + PAUSE)) {
            let error = failure.into_error(&self.dir);
            tracing::error!(%error, pause_seconds = PAUSE.as_secs(), "state cannot be read or written: mailboxes are listed anew meanwhile, and logins that hide or retain messages are refused");
            close(database);
        }
        None
    }

    /// Whether a failure has closed the file, and it has not been opened again since. Does not block.
    pub(super) fn is_closed(&self) -> bool {
        let handle = match self.handle.try_read() {
            Ok(handle) => handle,
            Err(sync::TryLockError::Poisoned(error)) => error.into_inner(),
            // The file is being closed or opened again. Opening reads all of it.
            Err(sync::TryLockError::WouldBlock) => return true,
        };
        matches!(&*handle, Handle::Closed(_))
    }

    /// Opens the file again if it was closed by a failure and the pause is over.
    fn reopen(&self) {
        let due = |handle: &Handle| matches!(handle, Handle::Closed(until) if *until <= Instant::now());
        if !due(&self.handle.read().unwrap_or_else(PoisonError::into_inner)) {
            return;
        }
        let mut handle = self.handle.write().unwrap_or_else(PoisonError::into_inner);
        if due(&handle) {
            *handle = match open_or_begin(&self.dir, self.prepare, self.owner) {
                Ok(database) => {
                    tracing::info!(dir = %self.dir.display(), "state can be read and written again");
                    Handle::Open(database)
                }
                Err(error) => {
                    tracing::error!(%error, "state still cannot be read or written");
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

/// Closes the file. This reads and writes, so it may fail too. Nothing is lost then: redb can open a file that was not
/// closed.
fn close(database: redb::Database) {
    if let Err(failure) = caught(|| Ok(database.close()?)) {
        tracing::debug!(?failure, "closing the state file");
    }
}

/// Repeats `attempt` while another process has the file, for [`PATIENCE`] at most. `pause` is called between the
/// attempts.
fn patiently<T>(mut pause: impl FnMut(Duration), mut attempt: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    let mut waited = Duration::ZERO;
    loop {
        match attempt() {
            Err(Error::InUse { .. }) if waited < PATIENCE => pause(STEP),
            result => return result,
        }
        waited += STEP;
    }
}

/// Opens the file in `dir`. If this process owns the file and the file is damaged, renames it and makes a new one. The
/// caller holds the lock of `dir`.
fn open_or_begin(dir: &Path, prepare: Prepare, owner: Owner) -> Result<redb::Database, Error> {
    let path = dir.join(FILE);
    let reason = match open_file(dir, prepare, owner) {
        Ok(database) => return Ok(database),
        Err(Failure::Damaged(reason)) if owner == Owner::Us => reason,
        Err(failure) => return Err(failure.into_error(dir)),
    };
    let aside = aside(&path);
    fs::rename(&path, &aside).map_err(|error| Failure::Io(error).into_error(dir))?;
    tracing::error!(
        file = %path.display(),
        aside = %aside.display(),
        reason,
        "the state file is damaged or not popgate's: it is set aside, and a new one begun. Mailboxes are listed anew, logins see again \
         what they have hidden, and retain_days counts from now. Consents are kept in another file (tokens.jsonl)"
    );
    open_file(dir, prepare, owner).map_err(|failure| failure.into_error(dir))
}

/// Opens the file in `dir`, or creates it if this process owns it. Checks every page, because redb trusts a file that
/// seems to have been closed properly, and may panic later if the file is damaged.
fn open_file(dir: &Path, prepare: Prepare, owner: Owner) -> Result<redb::Database, Failure> {
    let file = open_private(dir, FILE, owner).map_err(Failure::Io)?;
    if owner == Owner::Another {
        prove(&dir.join(FILE), prepare)?;
    }
    caught(|| {
        let database = build(FileBackend::new(file)?)?;
        prepare(&database)?;
        sync_names(dir);
        Ok(database)
    })
}

/// Checks a copy of the file in memory, because redb may write to a file that was left open before it finds the file
/// damaged.
fn prove(path: &Path, prepare: Prepare) -> Result<(), Failure> {
    let octets = fs::read(path).map_err(Failure::Io)?;
    caught(|| {
        let copy = InMemoryBackend::new();
        copy.set_len(octets.len() as u64)?;
        copy.write(0, &octets)?;
        prepare(&build(copy)?)
    })
}

fn build(backend: impl StorageBackend) -> Result<redb::Database, redb::Error> {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
    Ok(builder.create_with_backend(backend)?)
}

/// Runs `work`. If redb panics, which it may do if the file is damaged, that is a failure like any other.
pub(super) fn caught<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, Failure> {
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
            // A wrong length or offset in the file leads to these kinds; other kinds are not the file's fault.
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
        let path = dir.join(FILE);
        match self {
            Self::InUse => Error::InUse { dir: dir.to_owned() },
            Self::Io(source) => Error::Access { path, source },
            Self::Damaged(reason) => Error::Damaged { path, reason },
        }
    }
}

/// Makes `dir` if it is missing, and locks it: no other popgate can use it until the returned file is closed. While
/// another process has it, waits for two seconds at most.
pub(super) fn claim(dir: &Path) -> Result<Option<File>, Error> {
    patiently(thread::sleep, || {
        create_private(dir).map_err(|source| Error::Create {
            dir: dir.to_owned(),
            source,
        })?;
        lock(dir, Owner::Us)
    })
}

/// Makes a new database of this name in `dir`, which the caller has claimed, and lets `fill` write to it. Once this
/// returns `Ok`, the file's content is durable, but its name is not.
pub(super) fn make(
    dir: &Path,
    name: &str,
    fill: impl FnOnce(&redb::Database) -> Result<(), redb::Error>,
) -> Result<(), Error> {
    let path = dir.join(name);
    let made = caught(|| {
        let file = create_anew(&path)?;
        hand_over(dir, FILE, &file)?;
        let database = build(FileBackend::new(file.try_clone()?)?)?;
        fill(&database)?;
        database.close()?;
        Ok(file.sync_all()?)
    });
    made.map_err(|failure| failure.into_error(dir))
}

/// Locks `dir` until the returned file is closed, at the latest when the process ends. If another process owns `dir`
/// and the lock file is missing, makes none and returns `None`: redb's own lock is enough for a process that renames
/// nothing.
fn lock(dir: &Path, owner: Owner) -> Result<Option<File>, Error> {
    let path = dir.join(LOCK);
    let file = match open_private(dir, LOCK, owner) {
        Ok(file) => file,
        Err(error) if owner == Owner::Another && error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Access { path, source }),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(Error::Access { path, source }),
    }
}

/// Creates `dir` and its missing parents, for this process's user only. A directory that exists stays as it is.
pub fn create_private(dir: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// The name under which a damaged file is left beside a new one.
pub(super) fn aside(path: &Path) -> PathBuf {
    let seconds = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
    let mut aside = path.to_owned().into_os_string();
    aside.push(format!(".damaged-{seconds}"));
    aside.into()
}

/// Opens the file `name` in `dir`. If the file is missing and this process owns it, creates the file and hands it over.
/// A file that was there before is not handed over: the owner of `dir` may have given that name to any file.
fn open_private(dir: &Path, name: &str, owner: Owner) -> io::Result<File> {
    let path = dir.join(name);
    let mut options = private();
    options.read(true).write(true);
    match options.open(&path) {
        Err(error) if owner == Owner::Us && error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    match options.create_new(true).open(&path) {
        Ok(file) => {
            // If this fails, the file stays root's. The gateway then says which file it cannot open.
            let _ = hand_over(dir, name, &file);
            Ok(file)
        }
        // Another process has created it meanwhile.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options.create_new(false).open(&path),
        failed => failed,
    }
}

/// Creates a file at `path`. If there is one already, removes it instead of writing to it: `path` may be a link to any
/// file.
pub(super) fn create_anew(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => private().read(true).write(true).create_new(true).open(path),
    }
}

/// Copies the file `name` in `dir` to a new file `copy` in the same directory, which gets the same owner. Once this
/// returns `Ok`, the copy's content is durable, but its name is not.
pub(super) fn copy_private(dir: &Path, name: &str, copy: &Path) -> io::Result<()> {
    let mut original = private().read(true).open(dir.join(name))?;
    let mut copy = create_anew(copy)?;
    io::copy(&mut original, &mut copy)?;
    hand_over(dir, name, &copy)?;
    copy.sync_all()
}

/// Gives `file`, which this process has created and which is or will be `name` in `dir`, to the user who owns the file
/// that had this name before, or else to the owner of `dir`. Root may run a command for a gateway that runs as another
/// user, and the gateway must be able to use what the command has made.
#[cfg(unix)]
pub(super) fn hand_over(dir: &Path, name: &str, file: &File) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, fchown};
    let before = fs::symlink_metadata(dir.join(name)).or_else(|_| fs::metadata(dir))?;
    // If root owns the file of this name, it may be the very file that root has just made.
    let owner = if before.uid() == 0 { fs::metadata(dir)? } else { before };
    let now = file.metadata()?;
    if (now.uid(), now.gid()) == (owner.uid(), owner.gid()) || now.uid() != 0 {
        return Ok(());
    }
    fchown(file, Some(owner.uid()), Some(owner.gid()))
}

#[cfg(not(unix))]
pub(super) fn hand_over(_: &Path, _: &str, _: &File) -> io::Result<()> {
    Ok(())
}

/// Makes the names of the files in `dir` durable, on systems that can do that.
pub(super) fn sync_names(dir: &Path) {
    let _ = File::open(dir).and_then(|dir| dir.sync_all());
}

/// Options under which new files are created for this process's user only. A symbolic link is refused: the directory
/// belongs to the gateway's user, who must not be able to direct root to another file.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600).custom_flags(libc::O_NOFOLLOW);
    }
    options
}
