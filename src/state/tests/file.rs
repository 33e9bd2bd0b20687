//! What a file keeps of indexes, and other software's files.

use std::{fs, sync::Arc};

use super::{directory, index, mailbox, set_aside};
use crate::state::{FileStore, Index, MailboxName, StateStore, database::FILE};

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
