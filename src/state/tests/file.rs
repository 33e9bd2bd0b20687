//! What a file keeps, and files of other software.

use std::{fs, path::Path, sync::Arc};

use super::{directory, index, mailbox, set_aside};
use crate::state::{
    Damage, FileStore, Former, Identity, Index, MailboxName, Mailboxes, Marks, Past, PendingMove, StateStore,
    Unavailable,
    database::FILE,
    envelope,
    part::Kind,
    table::{Key, RECORDS},
};
use crate::types::Uid;

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
        entries: [(0, 1), (1, 1)].into(),
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

/// Octets of the file for each message, if `users` have `messages` each and get one more in each of `rounds`.
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

fn marks(hidden: u32) -> Marks {
    Marks {
        uid_validity: 7,
        hidden: (1..=hidden).collect(),
        ..Marks::default()
    }
}

#[tokio::test]
async fn marks_outlive_the_store_or_a_kill() {
    let dir = directory();
    let store = FileStore::open(dir.path()).unwrap();
    let past = Past {
        uid_validity: 7,
        first_uid_validity: 7,
        identities: [(1, Identity([1; 16]))].into(),
        former: [(
            1,
            Former {
                uid_validity: 6,
                uid: Uid(90),
            },
        )]
        .into(),
    };
    let pending = PendingMove {
        uid_validity: 7,
        uids: [1, 5].into(),
        target: "Trash".into(),
        target_uid_validity: 9,
        target_uid_next: Uid(44),
    };
    let mailbox = mailbox("a");
    store.set_marks("small", &mailbox, &marks(3), 0).await.unwrap();
    store.set_marks("large", &mailbox, &marks(50_000), 0).await.unwrap();
    store.set_marks("gone", &mailbox, &marks(5), 0).await.unwrap();
    store.set_past(&mailbox, &past).await.unwrap();
    store.set_pending_move(&mailbox, Some(&pending)).await.unwrap();
    store.clear_marks("gone", None).await.unwrap();

    let after_a_kill = directory();
    fs::copy(dir.path().join(FILE), after_a_kill.path().join(FILE)).unwrap();
    drop(store);
    for dir in [&dir, &after_a_kill] {
        let store = FileStore::open(dir.path()).unwrap();
        assert_eq!(store.marks("small", &mailbox).await, Ok(marks(3)));
        assert!(store.marks("large", &mailbox).await == Ok(marks(50_000)));
        assert_eq!(store.marks("gone", &mailbox).await, Ok(Marks::default()));
        assert_eq!(store.past(&mailbox).await, Ok(past.clone()));
        assert_eq!(store.pending_move(&mailbox).await, Ok(Some(pending.clone())));
    }
}

#[tokio::test]
async fn what_changes_nothing_writes_nothing() {
    let dir = directory();
    let store = FileStore::open(dir.path()).unwrap();
    let mailbox = mailbox("a");
    store.set_index(&mailbox, index(3)).await;
    let hidden = Marks {
        hidden: [3, 9, 12].into(),
        ..marks(0)
    };
    store.set_marks("tickets", &mailbox, &hidden, 0).await.unwrap();
    let file = || fs::read(dir.path().join(FILE)).unwrap();
    let before = file();
    store.set_index(&mailbox, index(3)).await;
    store.set_marks("tickets", &mailbox, &hidden, 7).await.unwrap();
    store
        .set_marks("tickets", &mailbox, &marks(1), 6)
        .await
        .expect_err("refused");
    store.set_pending_move(&mailbox, None).await.unwrap();
    assert_eq!(store.clear_marks("other", None).await, Ok(0));
    assert!(file() == before);
}

/// Removes pieces of the marks of login "hurt" from the file.
fn lose(dir: &Path, pieces: &[u32]) {
    let database = redb::Database::create(dir.join(FILE)).unwrap();
    let transaction = database.begin_write().unwrap();
    for &number in pieces {
        let mailbox = mailbox("a");
        let key = Key::marks("hurt", &mailbox).piece(number);
        let lost = transaction.open_table(RECORDS).unwrap().remove(key).unwrap().is_some();
        assert!(lost, "piece {number}");
    }
    transaction.commit().unwrap();
}

#[tokio::test]
async fn marks_that_lost_a_piece_are_refused_until_they_are_reset() {
    for pieces in [&[0][..], &[1], &[3], &[0, 1, 2]] {
        let dir = directory();
        let store = FileStore::open(dir.path()).unwrap();
        let mailbox = mailbox("a");
        store.set_marks("hurt", &mailbox, &marks(15_000), 0).await.unwrap();
        store.set_marks("sound", &mailbox, &marks(3), 0).await.unwrap();
        drop(store);
        lose(dir.path(), pieces);

        let store = FileStore::open(dir.path()).unwrap();
        let damaged = Unavailable::Damaged;
        assert_eq!(store.marks("hurt", &mailbox).await, Err(damaged));
        assert_eq!(
            store.set_marks("hurt", &mailbox, &marks(1), 0).await,
            Err(damaged),
            "nor written over"
        );
        let all = store.all_marks().await.unwrap();
        let expected = [
            ("hurt".to_owned(), mailbox.clone(), Err(damaged)),
            ("sound".to_owned(), mailbox.clone(), Ok(marks(3))),
        ];
        assert_eq!(all, expected);
        assert_eq!(store.clear_marks("hurt", None).await, Ok(1));
        assert_eq!(store.marks("hurt", &mailbox).await, Ok(Marks::default()));
        store.set_marks("hurt", &mailbox, &marks(2), 0).await.unwrap();
        assert_eq!(store.marks("hurt", &mailbox).await, Ok(marks(2)));
    }
}

#[test]
fn no_record_is_taken_for_one_of_another_kind() {
    let mailbox = mailbox("a");
    let names = [Kind::Marks, Kind::Past, Kind::Move].map(|kind| Key::of(kind, &mailbox).names());
    let sealed = envelope::seal(&names[1], &Past::default());
    assert!(envelope::open::<Past>(&names[1], &sealed).is_ok());
    for other in [names[0], names[2]] {
        assert_eq!(envelope::open::<Past>(&other, &sealed), Err(Damage::Checksum));
    }
}
