//! What a session forgets about messages that are gone, when it saves its index. This is the same for every store.

use std::sync::Arc;

use super::suite::{at, full_marks, hidden, inbox, index, keep, marks, past, pending};
use crate::{
    state::{Index, MailboxState, Mailboxes, Marks, MemoryStore, Past, StateStore},
    types::UidMap,
};

/// A session of `login` reads the records, and saves `index`.
async fn save(store: &Arc<dyn StateStore>, login: &str, index: &Index) {
    let mut state = MailboxState::new(store.clone(), inbox().into(), login.to_owned());
    state.marks().await.unwrap();
    state.save(Arc::new(index.clone())).await;
    assert_eq!(store.index(&inbox()).await.as_deref(), Some(index));
}

#[tokio::test]
async fn what_is_gone_is_forgotten() {
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
    let store = &store;
    let other = at("home", "eva", "INBOX/a");
    for mailbox in [inbox(), other.clone()] {
        store
            .set_past(&mailbox, &past(&[(1, 1), (2, 2)], &[(2, 90), (4, 91)]))
            .await
            .unwrap();
        store.set_pending_move(&mailbox, Some(&pending())).await.unwrap();
        keep(&**store, "a", &mailbox, &full_marks()).await;
        keep(&**store, "ab", &mailbox, &marks(&[4, 5, 6])).await;
    }
    save(store, "a", &index(&[2, 5, 9, u32::MAX])).await;
    let left = Marks {
        hidden: [2, 9].into(),
        noticed: [u32::MAX].into(),
        undelivered: [u32::MAX].into(),
        retrieved: UidMap::default(),
        ..full_marks()
    };
    assert_eq!(store.marks("a", &inbox()).await, Ok(left));
    assert_eq!(
        hidden(&**store, "ab", &inbox()).await,
        [4, 5, 6],
        "until it leaves the mailbox itself"
    );
    save(store, "ab", &index(&[2, 5, 9, u32::MAX])).await;
    assert_eq!(hidden(&**store, "ab", &inbox()).await, [5]);
    assert_eq!(store.past(&inbox()).await, Ok(past(&[(2, 2)], &[(2, 90)])));
    assert_eq!(
        store.pending_move(&inbox()).await,
        Ok(Some(pending())),
        "whoever finishes it asks the upstream"
    );
    assert_eq!(store.marks("a", &other).await, Ok(full_marks()));
    assert_eq!(hidden(&**store, "ab", &other).await, [4, 5, 6]);
    assert_eq!(
        store.past(&other).await,
        Ok(past(&[(1, 1), (2, 2)], &[(2, 90), (4, 91)]))
    );
}

/// If a session began before a message came, it must not forget what another session has done with that message since.
#[tokio::test]
async fn what_came_after_the_index_stays() {
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
    let store = &store;
    keep(&**store, "a", &inbox(), &full_marks()).await;
    store
        .set_past(&inbox(), &past(&[(1, 1), (9, 9)], &[(1, 90), (9, 91)]))
        .await
        .unwrap();
    save(store, "a", &index(&[2, 4, 5])).await;
    let left = Marks {
        hidden: [2, 9].into(),
        noticed: [u32::MAX].into(),
        undelivered: [u32::MAX].into(),
        retrieved: [(4, 200)].into(),
        ..full_marks()
    };
    assert_eq!(store.marks("a", &inbox()).await, Ok(left.clone()));
    assert_eq!(store.past(&inbox()).await, Ok(past(&[(9, 9)], &[(9, 91)])));
    save(store, "a", &index(&[])).await;
    assert_eq!(store.marks("a", &inbox()).await, Ok(left));
}

#[tokio::test]
async fn what_has_another_uid_validity_stays() {
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
    let store = &store;
    let other = Marks {
        uid_validity: 6,
        ..full_marks()
    };
    let earlier = Past {
        uid_validity: 6,
        ..past(&[(1, 1)], &[(1, 90)])
    };
    keep(&**store, "a", &inbox(), &other).await;
    store.set_past(&inbox(), &earlier).await.unwrap();
    save(store, "a", &index(&[u32::MAX])).await;
    assert_eq!(store.marks("a", &inbox()).await, Ok(other));
    assert_eq!(store.past(&inbox()).await, Ok(earlier));
}
