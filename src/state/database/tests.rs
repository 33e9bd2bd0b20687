//! The file: how it fails, how it is shared, and how another process opens it.

use std::{
    any::Any,
    sync::{Arc, mpsc},
};

use redb::{ReadableDatabase, TableDefinition};

use super::*;

const TABLE: TableDefinition<u32, u32> = TableDefinition::new("test");

fn open(dir: &Path) -> Result<Database, Error> {
    Database::take(dir, |_| Ok(()), Owner::Us)
}

fn visit(dir: &Path) -> Result<Database, Error> {
    Database::open(dir, |_| Ok(()), Owner::Another)
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
fn whoever_has_it_for_a_moment_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let directory = || -> Box<dyn Any> { Box::new(lock(dir.path(), Owner::Us).unwrap()) };
    let file = || -> Box<dyn Any> { Box::new(redb::Database::create(dir.path().join(FILE)).unwrap()) };
    for hold in [&directory as &dyn Fn() -> Box<dyn Any>, &file] {
        let mut holder = Some(hold());
        let mut pauses = 0;
        let goes = |_| {
            pauses += 1;
            if pauses == 3 {
                holder.take();
            }
        };
        patiently(goes, || open(dir.path())).unwrap();
        assert_eq!(pauses, 3);
    }
}

#[test]
fn whoever_keeps_it_is_not_waited_for_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let _first = open(dir.path()).unwrap();
    let mut waited = Duration::ZERO;
    let error = patiently(|pause| waited += pause, || open(dir.path())).unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    assert_eq!(waited, PATIENCE);
}

#[test]
fn what_fails_otherwise_fails_at_once() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(FILE)).unwrap();
    patiently(|_| panic!("waits"), || open(dir.path())).unwrap_err();
}

#[test]
fn a_visitor_makes_and_renames_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let names = || fs::read_dir(dir.path()).unwrap().count();
    assert!(matches!(visit(dir.path()), Err(Error::Access { .. })));
    assert_eq!(names(), 0);
    insert(&open(dir.path()).unwrap(), 1).unwrap();
    fs::remove_file(dir.path().join(LOCK)).unwrap();
    let database = visit(dir.path()).unwrap();
    assert_eq!(get(&database, 1), Some(1));
    assert!(matches!(open(dir.path()), Err(Error::InUse { .. })));
    fs::remove_file(dir.path().join(LOCK)).unwrap();
    fs::write(dir.path().join(FILE), "under its feet".repeat(1_000)).unwrap();
    assert_eq!(
        database.run(|_| Err::<(), _>(redb::Error::Corrupted("so".into()))),
        None
    );
    end_pause(&database);
    assert_eq!(get(&database, 1), None);
    drop(database);
    assert!(matches!(visit(dir.path()), Err(Error::Damaged { .. })));
    assert_eq!(names(), 1);
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

/// As by `popgate sign-in` before the gateway's first start.
#[cfg(unix)]
#[test]
fn what_root_creates_is_for_the_owner_of_the_directory() {
    use std::os::unix::fs::{MetadataExt, chown};
    let dir = tempfile::tempdir().unwrap();
    let owner = |path: &Path| fs::metadata(path).map(|file| (file.uid(), file.gid())).unwrap();
    if owner(dir.path()).0 != 0 {
        eprintln!("\n!! SKIPPED: only root can do this\n");
        return;
    }
    chown(dir.path(), Some(1234), Some(1235)).unwrap();
    drop(open(dir.path()).unwrap());
    for name in [LOCK, FILE] {
        assert_eq!(owner(&dir.path().join(name)), (1234, 1235), "{name}");
    }
}

/// A link that the gateway's user has made must not direct root to another file.
#[cfg(unix)]
#[test]
fn links_to_other_files_are_not_followed() {
    use std::os::unix::fs::{MetadataExt, chown, symlink};
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let target = elsewhere.path().join("shadow");
    fs::write(&target, "secret").unwrap();
    let owner = |path: &Path| fs::metadata(path).map(|file| (file.uid(), file.gid())).unwrap();
    let before = owner(&target);
    if before.0 == 0 {
        chown(dir.path(), Some(1234), Some(1235)).unwrap();
    }
    let is_untouched = || owner(&target) == before && fs::read(&target).unwrap() == b"secret";
    let link = |name: &str, target: &Path| {
        let path = dir.path().join(name);
        let _ = fs::remove_file(&path);
        symlink(target, path).unwrap();
    };
    let missing = elsewhere.path().join("missing");
    for name in [LOCK, FILE] {
        for target in [&target, &missing] {
            link(name, target);
            let error = open(dir.path()).unwrap_err();
            assert!(matches!(error, Error::Access { .. }), "{name}: {error}");
        }
        fs::remove_file(dir.path().join(name)).unwrap();
        assert!(is_untouched(), "{name}");
    }
    link("new", &target);
    make(dir.path(), "new", |_| Ok(())).unwrap();
    link("copy", &target);
    copy_private(dir.path(), "new", &dir.path().join("copy")).unwrap();
    assert!(!missing.exists() && is_untouched());
    link("new", &target);
    copy_private(dir.path(), "new", &dir.path().join("copy")).unwrap_err();
}

/// A file that belongs to root may have got its name by a link.
#[cfg(unix)]
#[test]
fn root_keeps_files_that_it_has_not_created() {
    use std::os::unix::fs::{MetadataExt, chown};
    let dir = tempfile::tempdir().unwrap();
    if fs::metadata(dir.path()).unwrap().uid() != 0 {
        eprintln!("\n!! SKIPPED: only root can do this\n");
        return;
    }
    chown(dir.path(), Some(1234), Some(1235)).unwrap();
    for name in [LOCK, FILE] {
        File::create(dir.path().join(name)).unwrap();
    }
    drop(open(dir.path()).unwrap());
    for name in [LOCK, FILE] {
        assert_eq!(fs::metadata(dir.path().join(name)).unwrap().uid(), 0, "{name}");
    }
}

#[test]
fn whether_it_is_closed_is_told_while_it_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let database = Arc::new(open(dir.path()).unwrap());
    assert!(!database.is_closed());
    let opening = database.handle.write().unwrap();
    let (sender, told) = mpsc::channel();
    let asked = database.clone();
    thread::spawn(move || sender.send(asked.is_closed()));
    assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(true));
    drop(opening);
    assert!(!database.is_closed());
}
