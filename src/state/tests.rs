//! The store in a file, as the gateway uses it: what it keeps, and what it makes of a damaged file.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use proptest::{collection, prelude::*, strategy::ValueTree, test_runner::TestRunner};
use tempfile::TempDir;

use super::{FileStore, Index, MailboxName, StateStore, database::FILE};

fn mailbox(user: &str) -> MailboxName {
    MailboxName {
        upstream: "home".into(),
        user: user.into(),
        folder: "INBOX".into(),
    }
}

fn index(count: u32) -> Arc<Index> {
    Arc::new(Index {
        uid_validity: 7,
        modseq: 1 << 40,
        row: count / 2,
        entries: (1..=count).map(|uid| (uid * 3, 1_000 + uid)).collect(),
        ..Index::default()
    })
}

/// In memory where the system offers that: these tests write thousands of small files.
fn directory() -> TempDir {
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

/// Users and the messages of each, as `sound_file` keeps them.
const KEPT: [(&str, u32); 4] = [("small", 3), ("alike", 3), ("middling", 700), ("large", 9_000)];

/// The octets of a file with [`KEPT`] in it, closed well or left as by `kill -9`.
async fn sound_file(closed: bool) -> Vec<u8> {
    let dir = directory();
    let store = FileStore::open(dir.path()).unwrap();
    for (user, count) in KEPT {
        store.set_index(&mailbox(user), index(count)).await;
    }
    if closed {
        drop(store);
        return fs::read(dir.path().join(FILE)).unwrap();
    }
    fs::read(dir.path().join(FILE)).unwrap()
}

/// Opens a directory with `octets` as its file: everything kept is known exactly or not at all, and the store works.
/// How many were known.
async fn survives(octets: &[u8], case: &str) -> usize {
    let dir = directory();
    fs::write(dir.path().join(FILE), octets).unwrap();
    let store = FileStore::open(dir.path()).unwrap_or_else(|error| panic!("{case}: {error}"));
    let mut known = 0;
    for (user, count) in KEPT {
        if let Some(found) = store.index(&mailbox(user)).await {
            assert_eq!(found, index(count), "{case}: {user}");
            known += 1;
        }
    }
    store.set_index(&mailbox("small"), index(5)).await;
    assert_eq!(store.index(&mailbox("small")).await, Some(index(5)), "{case}");
    known
}

#[tokio::test]
async fn indexes_outlive_the_store() {
    let dir = directory();
    let dir = dir.path().join("made/for/it");
    let store = FileStore::open(&dir).unwrap();
    assert_eq!(store.index(&mailbox("a")).await, None);
    store.set_index(&mailbox("a"), index(3)).await;
    store.set_index(&mailbox("b"), index(100_000)).await;
    store.set_index(&mailbox("a"), index(4)).await;
    drop(store);
    let store = FileStore::open(&dir).unwrap();
    assert_eq!(store.index(&mailbox("a")).await, Some(index(4)));
    assert_eq!(store.index(&mailbox("b")).await, Some(index(100_000)));
    let other_folder = MailboxName {
        folder: "Archive".into(),
        ..mailbox("a")
    };
    assert_eq!(store.index(&other_folder).await, None);
}

#[tokio::test]
async fn what_was_set_is_in_the_file_after_a_kill() {
    assert_eq!(survives(&sound_file(false).await, "left open").await, KEPT.len());
    assert_eq!(survives(&sound_file(true).await, "closed").await, KEPT.len());
}

#[tokio::test]
async fn an_index_that_is_none_is_not_kept() {
    let dir = directory();
    let store = FileStore::open(dir.path()).unwrap();
    let wrong = Index {
        entries: vec![(2, 1), (1, 1)],
        ..Index::default()
    };
    store.set_index(&mailbox("a"), Arc::new(wrong)).await;
    assert_eq!(store.index(&mailbox("a")).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_saves_keeps_the_last_of_each() {
    let dir = directory();
    let store = Arc::new(FileStore::open(dir.path()).unwrap());
    let mut savers = tokio::task::JoinSet::new();
    for user in 0..50 {
        let store = store.clone();
        savers.spawn(async move {
            let mailbox = mailbox(&user.to_string());
            for count in 1..=10 {
                store.set_index(&mailbox, index(count)).await;
                assert_eq!(store.index(&mailbox).await, Some(index(count)));
            }
        });
    }
    while let Some(saver) = savers.join_next().await {
        saver.unwrap();
    }
    drop(store);
    let store = FileStore::open(dir.path()).unwrap();
    for user in 0..50 {
        assert_eq!(store.index(&mailbox(&user.to_string())).await, Some(index(10)));
    }
}

#[tokio::test]
async fn the_same_index_again_writes_nothing() {
    let dir = directory();
    let store = FileStore::open(dir.path()).unwrap();
    store.set_index(&mailbox("a"), index(1_000)).await;
    let before = fs::read(dir.path().join(FILE)).unwrap();
    store.set_index(&mailbox("a"), index(1_000)).await;
    assert!(fs::read(dir.path().join(FILE)).unwrap() == before);
    store.set_index(&mailbox("a"), index(1_001)).await;
    assert!(fs::read(dir.path().join(FILE)).unwrap() != before);
}

/// Octets of the file a message, where `users` have `messages` each and get one more `rounds` times.
async fn octets_a_message(users: u32, messages: u32, rounds: u32) -> f64 {
    let dir = directory();
    let store = FileStore::open(dir.path()).unwrap();
    for round in 0..=rounds {
        for user in 0..users {
            store
                .set_index(&mailbox(&user.to_string()), index(messages + round))
                .await;
        }
    }
    drop(store);
    fs::metadata(dir.path().join(FILE)).unwrap().len() as f64 / f64::from(users * (messages + rounds))
}

#[tokio::test]
async fn eight_octets_a_message_on_disk() {
    for (users, messages, rounds) in [(1, 100_000, 0), (1, 100_000, 30), (10, 30_000, 3), (300, 1_000, 3)] {
        let octets = octets_a_message(users, messages, rounds).await;
        assert!(
            octets <= 8.0,
            "{octets} with {messages} messages for each of {users} users"
        );
    }
}

#[tokio::test]
async fn an_index_may_shrink_and_grow_over_pieces() {
    let dir = directory();
    let store = FileStore::open(dir.path()).unwrap();
    store.set_index(&mailbox("b"), index(2_000)).await;
    for count in [5_000, 1, 0, 4_000, 4_001, 950] {
        store.set_index(&mailbox("a"), index(count)).await;
        assert_eq!(store.index(&mailbox("a")).await, Some(index(count)));
    }
    assert_eq!(store.index(&mailbox("b")).await, Some(index(2_000)));
}

#[tokio::test]
async fn a_foreign_file_is_set_aside_whole() {
    let texts: [(&str, Vec<u8>); 4] = [
        ("text", b"From alice Mon Jan  1 00:00:00 2024\n".repeat(3_000)),
        ("one octet", b"x".to_vec()),
        ("zeros", vec![0; 100_000]),
        ("SQLite", [&b"SQLite format 3\0"[..], &[0x10; 8_192]].concat()),
    ];
    for (name, octets) in texts {
        let dir = directory();
        fs::write(dir.path().join(FILE), &octets).unwrap();
        let store = FileStore::open(dir.path()).unwrap();
        store.set_index(&mailbox("a"), index(3)).await;
        drop(store);
        let aside = set_aside(dir.path());
        assert_eq!(aside.len(), 1, "{name}");
        assert!(fs::read(&aside[0]).unwrap() == octets, "{name} is changed");
        let store = FileStore::open(dir.path()).unwrap();
        assert_eq!(store.index(&mailbox("a")).await, Some(index(3)), "{name}");
        assert_eq!(set_aside(dir.path()), aside, "{name}");
    }
}

#[tokio::test]
async fn a_redb_file_of_other_software_is_set_aside() {
    let dir = directory();
    let table: redb::TableDefinition<u32, &str> = redb::TableDefinition::new("records");
    let other = redb::Database::create(dir.path().join(FILE)).unwrap();
    let transaction = other.begin_write().unwrap();
    transaction.open_table(table).unwrap().insert(1, "theirs").unwrap();
    transaction.commit().unwrap();
    drop(other);
    let store = FileStore::open(dir.path()).unwrap();
    store.set_index(&mailbox("a"), index(3)).await;
    assert_eq!(store.index(&mailbox("a")).await, Some(index(3)));
    assert_eq!(set_aside(dir.path()).len(), 1);
}

#[tokio::test]
async fn an_empty_file_is_a_new_one() {
    assert_eq!(survives(b"", "empty").await, 0);
}

#[tokio::test]
async fn a_truncated_file_is_known_exactly_or_not_at_all() {
    for closed in [true, false] {
        let file = sound_file(closed).await;
        // Every tenth of its length, every tenth octet of the header, and lengths that no page ends at.
        let tenths = (0..10).map(|tenth| file.len() * tenth / 10);
        let header = (1..4_096).step_by(10);
        let lengths = tenths.chain(header).chain((4_096..file.len()).step_by(997));
        for length in lengths.chain([file.len() - 1]) {
            survives(
                &file[..length],
                &format!("cut at {length} of {}, closed: {closed}", file.len()),
            )
            .await;
        }
    }
}

#[tokio::test]
async fn damage_within_a_file_is_known_exactly_or_not_at_all() {
    let files = [sound_file(true).await, sound_file(false).await];
    // Headers and roots are in the first pages: half of the flips go there.
    let place = prop_oneof![0..512_usize, 0..usize::MAX];
    let damage = (0..files.len(), collection::vec((place, 1..=255_u8), 1..4));
    let mut runner = TestRunner::deterministic();
    let mut known = Vec::new();
    for _ in 0..300 {
        let (which, flips) = damage.new_tree(&mut runner).unwrap().current();
        let mut octets = files[which].clone();
        for &(place, bits) in &flips {
            let place = place % octets.len();
            octets[place] ^= bits;
        }
        known.push(survives(&octets, &format!("file {which}, {flips:?}")).await);
    }
    assert!(
        known.contains(&0) && known.contains(&KEPT.len()),
        "one-sided damage: {known:?}"
    );
}

#[tokio::test]
async fn damage_under_an_open_store_never_gives_a_wrong_index() {
    let file = sound_file(false).await;
    for page in 1..file.len() / 4_096 {
        let dir = directory();
        let path = dir.path().join(FILE);
        fs::write(&path, &file).unwrap();
        let store = FileStore::open(dir.path()).unwrap();
        let mut octets = fs::read(&path).unwrap();
        octets[page * 4_096..][..4_096].fill(0xa5);
        fs::write(&path, &octets).unwrap();
        for (user, count) in KEPT {
            let found = store.index(&mailbox(user)).await;
            assert!(found.is_none_or(|found| found == index(count)), "{user}, page {page}");
        }
        drop(store);
        survives(&fs::read(&path).unwrap(), &format!("page {page}")).await;
    }
}
