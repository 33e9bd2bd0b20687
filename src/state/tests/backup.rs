//! Backups of a store that is in use, and how restoring changes the files of a directory.

use std::{fs, sync::Arc};

use tokio::{io::AsyncWriteExt, net::UnixStream};

use super::{Served, directory, index, mailbox};
use crate::state::{
    Backup, BackupWriter, Consent, Error, FileStore, Mailboxes, Marks, StateStore, Unavailable, database, restore,
    tokens,
};

fn marks(hidden: u32) -> Marks {
    Marks {
        uid_validity: 7,
        hidden: (1..=hidden).collect(),
        ..Marks::default()
    }
}

fn consent() -> Consent {
    Consent {
        upstream: "home".into(),
        name: "eva".into(),
    }
}

/// The octets of a backup of `store`. `between` runs after the first portion of parts.
async fn back_up(store: &dyn StateStore, between: impl AsyncFnOnce()) -> Result<Vec<u8>, Unavailable> {
    let mut writer = BackupWriter::begin(Vec::new(), 1).unwrap();
    let mut parts = store.parts().await?;
    let mut portion = parts.next().await?;
    between().await;
    while !portion.is_empty() {
        for part in portion {
            writer.add(part).unwrap();
        }
        portion = parts.next().await?;
    }
    Ok(writer.end().unwrap().0)
}

async fn keep(store: &dyn StateStore, count: u32) {
    for user in 0..30 {
        let (mailbox, login) = (mailbox(&user.to_string()), user.to_string());
        let kept = store.marks(&login, &mailbox).await.unwrap().uid_validity;
        store.set_index(&mailbox, index(count)).await;
        store.set_marks(&login, &mailbox, &marks(count), kept).await.unwrap();
    }
    let before = store.token(&consent()).await.unwrap();
    let token = count.to_string().into_bytes();
    store
        .set_token(&consent(), before.as_deref(), Some(&token))
        .await
        .unwrap();
}

async fn is_kept(store: &dyn StateStore, count: u32) {
    for user in 0..30 {
        let (mailbox, login) = (mailbox(&user.to_string()), user.to_string());
        assert_eq!(store.index(&mailbox).await, Some(index(count)), "{user}");
        assert_eq!(store.marks(&login, &mailbox).await, Ok(marks(count)), "{user}");
    }
    let token = count.to_string().into_bytes();
    assert_eq!(store.token(&consent()).await, Ok(Some(token)));
}

#[tokio::test]
async fn a_backup_is_of_one_moment() {
    let dir = directory();
    let store = Arc::new(FileStore::open(dir.path()).unwrap());
    keep(&*store, 9_000).await;
    let served = Served::new(store.clone(), dir.path()).await;
    for asked in [&*store as &dyn StateStore, &served.store] {
        let octets = back_up(asked, async || keep(&*store, 3_000).await).await.unwrap();
        let restored = directory();
        restore(restored.path(), &Backup::read(&octets[..]).unwrap()).unwrap();
        is_kept(&FileStore::open(restored.path()).unwrap(), 9_000).await;
        is_kept(&*store, 3_000).await;
        keep(&*store, 9_000).await;
    }
    served.end().await;
}

/// A process that asks for all parts and does not read them delays nobody, not even the end of the gateway.
#[tokio::test]
async fn whoever_asks_and_does_not_read_holds_nobody_up() {
    let dir = directory();
    let store = Arc::new(FileStore::open(dir.path()).unwrap());
    keep(&*store, 9_000).await;
    let served = Served::new(store.clone(), dir.path()).await;
    let mut silent = UnixStream::connect(dir.path().join("state.sock")).await.unwrap();
    silent.write_all(b"\"Parts\"\n").await.unwrap();
    silent.readable().await.unwrap();
    keep(&*store, 3_000).await;
    is_kept(&served.store, 3_000).await;
    let octets = back_up(&served.store, async || ()).await.unwrap();
    assert!(Backup::read(&octets[..]).is_ok());
    served.end().await;
    drop(store);
    is_kept(&FileStore::open(dir.path()).unwrap(), 3_000).await;
    drop(silent);
}

#[tokio::test]
async fn a_gateway_that_ends_leaves_no_half_backup() {
    let dir = directory();
    let store = Arc::new(FileStore::open(dir.path()).unwrap());
    keep(&*store, 9_000).await;
    let served = Served::new(store, dir.path()).await;
    let remote = served.store.clone();
    let backup = back_up(&remote, async || served.end().await).await;
    assert_eq!(backup, Err(Unavailable::Failed));
}

async fn backup_of(count: u32) -> Backup {
    let dir = directory();
    let store = FileStore::open(dir.path()).unwrap();
    keep(&store, count).await;
    Backup::read(&back_up(&store, async || ()).await.unwrap()[..]).unwrap()
}

#[tokio::test]
async fn what_was_there_is_left_beside() {
    let dir = directory();
    let store = FileStore::open(dir.path()).unwrap();
    keep(&store, 5).await;
    drop(store);
    let [records, tokens] = [database::FILE, tokens::FILE].map(|name| dir.path().join(name));
    let before = [fs::read(&records).unwrap(), fs::read(&tokens).unwrap()];
    // A command that was killed has left this.
    fs::write(dir.path().join("state.redb.new"), b"half").unwrap();
    let backup = backup_of(300).await;
    let mut names = Vec::new();
    for _ in 0..2 {
        let aside = restore(dir.path(), &backup).unwrap();
        assert_eq!(aside.len(), 2);
        names.extend(aside);
    }
    assert_eq!(fs::read(&names[0]).unwrap(), before[0]);
    assert_eq!(fs::read(&names[1]).unwrap(), before[1]);
    for name in &names {
        let name = name.file_name().unwrap().to_str().unwrap();
        assert!(
            name.starts_with("state.redb.before-") || name.starts_with("tokens.jsonl.before-"),
            "{name}"
        );
    }
    names.extend([records, tokens, dir.path().join("state.lock")]);
    names.sort();
    let mut there: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    there.sort();
    assert_eq!(there, names, "each has a name of its own, and nothing is left");
    is_kept(&FileStore::open(dir.path()).unwrap(), 300).await;
}

#[tokio::test]
async fn consents_that_a_backup_lacks_are_gone() {
    let dir = directory();
    let store = FileStore::open(dir.path()).unwrap();
    let empty = Backup::read(&back_up(&store, async || ()).await.unwrap()[..]).unwrap();
    keep(&store, 5).await;
    drop(store);
    restore(dir.path(), &empty).unwrap();
    let store = FileStore::open(dir.path()).unwrap();
    assert_eq!(store.token(&consent()).await, Ok(None));
    assert_eq!(store.all_marks().await.unwrap(), []);
}

#[tokio::test]
async fn a_damaged_file_is_no_reason_not_to_restore() {
    let dir = directory();
    fs::write(dir.path().join(database::FILE), b"a mere text").unwrap();
    fs::write(dir.path().join(tokens::FILE), b"another").unwrap();
    restore(dir.path(), &backup_of(3).await).unwrap();
    is_kept(&FileStore::open(dir.path()).unwrap(), 3).await;
}

#[tokio::test]
async fn nothing_changes_while_somebody_has_the_directory() {
    let dir = directory();
    let store = FileStore::open(dir.path()).unwrap();
    keep(&store, 5).await;
    let backup = backup_of(3).await;
    let before = fs::read_dir(dir.path()).unwrap().count();
    let error = restore(dir.path(), &backup).unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), before);
    is_kept(&store, 5).await;
}

/// This happens if root restores the state of a gateway that runs as another user.
#[tokio::test]
async fn restored_files_belong_to_the_owner_of_the_directory() {
    use std::os::unix::fs::{MetadataExt, chown};
    const NOBODY: u32 = 65_534;
    let dir = directory();
    if chown(dir.path(), Some(NOBODY), Some(NOBODY)).is_err() {
        return; // Only root can give files away.
    }
    for _ in 0..2 {
        restore(dir.path(), &backup_of(3).await).unwrap();
        let files: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap()).collect();
        assert!(files.len() >= 3, "{files:?}");
        for file in files {
            assert_eq!(file.metadata().unwrap().uid(), NOBODY, "{:?}", file.file_name());
        }
    }
}

#[tokio::test]
async fn restored_files_are_for_our_user_alone() {
    use std::os::unix::fs::PermissionsExt;
    let parent = directory();
    let dir = parent.path().join("made/for/it");
    restore(&dir, &backup_of(3).await).unwrap();
    let files = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
    for file in files.chain([dir.clone()]) {
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}: {mode:o}", file.display());
    }
}
