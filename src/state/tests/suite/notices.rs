//! Notices that `[notify]` remembers.

use crate::state::{FileStore, MemoryStore, StateStore, tests::directory};

/// Every store that a gateway has itself must pass this.
async fn are_kept_by_name(store: &dyn StateStore) {
    assert_eq!(store.notices().await, Ok(Vec::new()));
    // Longer than a piece of the file.
    let long: Vec<u8> = (0..20_000u32).map(|n| n as u8).collect();
    for (name, notice) in [("b", &b"two"[..]), ("a", b"one"), ("", b""), ("a b\n\u{fc}", &long)] {
        store.set_notice(name, Some(notice)).await.unwrap();
    }
    store.set_notice("b", Some(b"new")).await.unwrap();
    store.set_notice("", None).await.unwrap();
    store.set_notice("never there", None).await.unwrap();
    let kept = store.notices().await.unwrap();
    let expected = [("a", &b"one"[..]), ("a b\n\u{fc}", &long), ("b", b"new")];
    assert_eq!(kept, expected.map(|(name, notice)| (name.to_owned(), notice.to_vec())));
    // Notices are not listed among the marks.
    assert_eq!(store.all_marks().await, Ok(Vec::new()));
    assert!(!store.has_failed());
}

#[cfg(unix)]
for_every_shared_store! {
    are_kept_by_name,
}

#[tokio::test]
async fn in_memory() {
    are_kept_by_name(&MemoryStore::default()).await;
}

#[tokio::test]
async fn in_a_file_and_when_it_is_opened_again() {
    let directory = directory();
    are_kept_by_name(&FileStore::open(directory.path()).unwrap()).await;
    let store = FileStore::open(directory.path()).unwrap();
    assert_eq!(store.notices().await.unwrap().len(), 3);
}
