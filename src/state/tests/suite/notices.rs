//! Notices that `[notify]` remembers.

use crate::state::{FileStore, MemoryStore, StateStore, Unavailable, tests::directory};

/// Every store that a gateway has itself must pass this.
async fn are_kept_by_name(store: &dyn StateStore) {
    assert_eq!(store.notices().await, Ok(Vec::new()));
    // Longer than a piece of the file.
    let long: Vec<u8> = (0..20_000u32).map(|n| n as u8).collect();
    for (name, notice) in [("b", &b"two"[..]), ("a", b"one"), ("", b""), ("a b\n\u{fc}", &long)] {
        store.set_notice(name, None, Some(notice)).await.unwrap();
    }
    store.set_notice("b", Some(b"two"), Some(b"new")).await.unwrap();
    store.set_notice("", Some(b""), None).await.unwrap();
    store.set_notice("never there", None, None).await.unwrap();
    let kept = store.notices().await.unwrap();
    let expected = [("a", &b"one"[..]), ("a b\n\u{fc}", &long), ("b", b"new")];
    assert_eq!(kept, expected.map(|(name, notice)| (name.to_owned(), notice.to_vec())));
    for (name, expected) in [("b", Some(b"new".to_vec())), ("never there", None)] {
        assert_eq!(store.notice(name).await, Ok(expected), "{name}");
    }
    // Notices are not listed among the marks.
    assert_eq!(store.all_marks().await, Ok(Vec::new()));
    assert!(!store.has_failed());
}

/// So does this.
async fn follow_what_was_read(store: &dyn StateStore) {
    store.set_notice("a", None, Some(b"one")).await.unwrap();
    for followed in [None, Some(&b"zero"[..])] {
        for late in [Some(&b"late"[..]), None] {
            let late = store.set_notice("a", followed, late).await;
            assert_eq!(late, Err(Unavailable::Changed), "{followed:?}");
        }
        // The same change may come twice, because its first answer was lost.
        store.set_notice("a", followed, Some(b"one")).await.unwrap();
    }
    store.set_notice("a", Some(b"one"), Some(b"two")).await.unwrap();
    assert_eq!(store.notice("a").await, Ok(Some(b"two".to_vec())));
    let gone = store.set_notice("b", Some(b"one"), Some(b"two")).await;
    assert_eq!(gone, Err(Unavailable::Changed), "another has forgotten it");
    for _ in 0..2 {
        store.set_notice("a", Some(b"two"), None).await.unwrap();
    }
    assert_eq!(store.notices().await, Ok(Vec::new()));
    assert!(!store.has_failed(), "to be late is no failure of the store");
}

#[cfg(unix)]
for_every_shared_store! {
    are_kept_by_name,
    follow_what_was_read,
}

#[tokio::test]
async fn in_memory() {
    are_kept_by_name(&MemoryStore::default()).await;
    follow_what_was_read(&MemoryStore::default()).await;
}

#[tokio::test]
async fn in_a_file_they_follow_what_was_read() {
    let directory = directory();
    follow_what_was_read(&FileStore::open(directory.path()).unwrap()).await;
}

#[tokio::test]
async fn in_a_file_and_when_it_is_opened_again() {
    let directory = directory();
    are_kept_by_name(&FileStore::open(directory.path()).unwrap()).await;
    let store = FileStore::open(directory.path()).unwrap();
    assert_eq!(store.notices().await.unwrap().len(), 3);
}
