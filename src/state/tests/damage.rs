//! A file after a kill, and how damaged files are treated.

use std::{fs, path::Path};

use proptest::{collection, prelude::*, strategy::ValueTree, test_runner::TestRunner};

use super::{directory, index, mailbox, set_aside};
use crate::state::{
    Error, FileStore, Former, Identity, Mailboxes, Marks, Past, PendingMove, StateStore, Unavailable, database::FILE,
};
use crate::types::Uid;

/// Users, and how many messages each has, as `sound_file` keeps them.
const KEPT: [(&str, u32); 4] = [("small", 3), ("alike", 3), ("middling", 700), ("large", 9_000)];

/// The marks of the login with the same name as the user.
fn marks(count: u32) -> Marks {
    Marks {
        uid_validity: 7,
        hidden: (1..=count).map(|uid| uid * 3).collect(),
        noticed: [3].into(),
        undelivered: [3].into(),
        retrieved: (1..=count / 20).map(|uid| (uid * 3, 1_700_000_000 + uid)).collect(),
        imported: [(3, "old".into())].into(),
        import: 1 << 60,
    }
}

fn past(count: u32) -> Past {
    Past {
        uid_validity: 7,
        first_uid_validity: 6,
        identities: (1..=count / 20)
            .map(|uid| (uid * 3, Identity([uid as u8; 16])))
            .collect(),
        former: [(
            3,
            Former {
                uid_validity: 6,
                uid: Uid(90),
            },
        )]
        .into(),
    }
}

fn pending(count: u32) -> PendingMove {
    PendingMove {
        uid_validity: 7,
        uids: [count].into(),
        target: "Trash".into(),
        target_uid_validity: 9,
        target_uid_next: Uid(44),
    }
}

async fn keep(store: &dyn StateStore) {
    for (user, count) in KEPT {
        let mailbox = mailbox(user);
        store.set_index(&mailbox, index(count)).await;
        store.set_past(&mailbox, &past(count)).await.unwrap();
        store.set_pending_move(&mailbox, Some(&pending(count))).await.unwrap();
        store.set_marks(user, &mailbox, &marks(count), 0).await.unwrap();
    }
}

/// The octets of a file with [`KEPT`] in it, closed properly or left as by `kill -9`.
async fn sound_file(closed: bool) -> Vec<u8> {
    let dir = directory();
    let store = FileStore::open(dir.path()).unwrap();
    keep(&store).await;
    // If the header of a file that was left open is damaged, redb cannot tell whether the last transaction was
    // completed, and undoes it. So the last transaction is one that no test looks at.
    store.set_index(&mailbox("last"), index(1)).await;
    if closed {
        drop(store);
        return fs::read(dir.path().join(FILE)).unwrap();
    }
    fs::read(dir.path().join(FILE)).unwrap()
}

/// Checks that every record is read exactly as it was stored. If one is not, there must be an error, unless the record
/// is an index, or `is_new`: the file was set aside with a message in the log, or there was none. Returns how many
/// indexes were read.
async fn exact_or_told(store: &dyn StateStore, is_new: bool, case: &str) -> usize {
    let mut known = 0;
    for (user, count) in KEPT {
        let mailbox = mailbox(user);
        if let Some(found) = store.index(&mailbox).await {
            assert!(found == index(count), "{case}: {user}");
            known += 1;
        }
        match store.marks(user, &mailbox).await {
            Ok(found) if is_new => assert_eq!(found, Marks::default(), "{case}: {user}"),
            Ok(found) => assert!(found == marks(count), "{case}: {user} {}", found.hidden.len()),
            Err(error) => assert_ne!(error, Unavailable::Changed, "{case}: {user}"),
        }
        match store.pending_move(&mailbox).await {
            Ok(found) if is_new => assert_eq!(found, None, "{case}: {user}"),
            Ok(found) => assert_eq!(found, Some(pending(count)), "{case}: {user}"),
            Err(error) => assert_ne!(error, Unavailable::Changed, "{case}: {user}"),
        }
        if let Ok(found) = store.past(&mailbox).await {
            let is_kept = found == past(count);
            assert!(
                is_kept || found == Past::default(),
                "{case}: {user} {}",
                found.identities.len()
            );
        }
    }
    known
}

fn is_new(dir: &Path, octets: &[u8]) -> bool {
    octets.is_empty() || !set_aside(dir).is_empty()
}

/// A process other than the gateway finds the records, or says that the file is damaged and leaves it as it is.
async fn is_left(octets: &[u8], case: &str) {
    let dir = directory();
    fs::write(dir.path().join(FILE), octets).unwrap();
    match FileStore::visit(dir.path()) {
        Ok(store) => drop(exact_or_told(&store, octets.is_empty(), case).await),
        Err(Error::Damaged { .. }) => assert!(fs::read(dir.path().join(FILE)).unwrap() == octets, "{case}"),
        Err(error) => panic!("{case}: {error}"),
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "{case}");
}

/// Opens a directory with `octets` as its file: every record is known exactly or not at all, and the store works.
/// Returns how many indexes were known.
async fn survives(octets: &[u8], case: &str) -> usize {
    is_left(octets, case).await;
    let dir = directory();
    fs::write(dir.path().join(FILE), octets).unwrap();
    let store = FileStore::open(dir.path()).unwrap_or_else(|error| panic!("{case}: {error}"));
    let known = exact_or_told(&store, is_new(dir.path(), octets), case).await;
    store.set_index(&mailbox("small"), index(5)).await;
    assert_eq!(store.index(&mailbox("small")).await, Some(index(5)), "{case}");
    store.clear_marks("small", None).await.unwrap();
    store.set_marks("small", &mailbox("small"), &marks(5), 0).await.unwrap();
    assert_eq!(store.marks("small", &mailbox("small")).await, Ok(marks(5)), "{case}");
    known
}

#[tokio::test]
async fn what_was_set_is_in_the_file_after_a_kill() {
    assert_eq!(survives(&sound_file(false).await, "left open").await, KEPT.len());
    assert_eq!(survives(&sound_file(true).await, "closed").await, KEPT.len());
}

#[tokio::test]
async fn an_empty_file_is_a_new_one() {
    assert_eq!(survives(b"", "empty").await, 0);
}

#[tokio::test]
async fn a_truncated_file_is_known_exactly_or_not_at_all() {
    for closed in [true, false] {
        let file = sound_file(closed).await;
        // Cuts at every tenth of the length, at every tenth octet of the header, and at lengths at which no page ends.
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
async fn damage_under_an_open_store_never_gives_a_wrong_record() {
    let file = sound_file(false).await;
    for page in 1..file.len() / 4_096 {
        let dir = directory();
        let path = dir.path().join(FILE);
        fs::write(&path, &file).unwrap();
        let store = FileStore::open(dir.path()).unwrap();
        let mut octets = fs::read(&path).unwrap();
        octets[page * 4_096..][..4_096].fill(0xa5);
        fs::write(&path, &octets).unwrap();
        exact_or_told(&store, false, &format!("page {page}, open")).await;
        drop(store);
        survives(&fs::read(&path).unwrap(), &format!("page {page}")).await;
    }
}
