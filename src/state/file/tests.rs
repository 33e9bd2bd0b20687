//! Changes share transactions.

use tokio::task::{JoinHandle, yield_now};

use super::*;
use crate::state::{Mailboxes, Marks};

const LOGINS: u32 = 20;

fn mailbox() -> MailboxName {
    MailboxName {
        upstream: "home".into(),
        user: "eva".into(),
        folder: "INBOX".into(),
    }
}

fn marks(hidden: u32) -> Marks {
    Marks {
        uid_validity: 7,
        hidden: [hidden].into(),
        ..Marks::default()
    }
}

fn open() -> (tempfile::TempDir, Arc<FileStore>) {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(FileStore::open(dir.path()).unwrap());
    (dir, store)
}

/// Starts a write of marks for each of [`LOGINS`] logins. The writes wait for their turn.
async fn queue(store: &Arc<FileStore>) -> Vec<JoinHandle<Result<(), Unavailable>>> {
    let mut waiting = Vec::new();
    for login in 0..LOGINS {
        let store = store.clone();
        waiting.push(tokio::spawn(async move {
            let marks = Replaced {
                // Every fifth write expects marks that are not there, so it is refused.
                was: (login % 5 == 0).then(|| Ok(marks(6))),
                is: Some(Ok(marks(login))),
            };
            let replacement = Replacement {
                marks: [(login.to_string(), marks)].into(),
                ..Replacement::default()
            };
            store.replace(&mailbox(), replacement).await
        }));
    }
    while store.shared.changes().len() < LOGINS as usize {
        yield_now().await;
    }
    waiting
}

#[tokio::test]
async fn what_waits_shares_a_transaction_and_none_spoils_another() {
    let (_dir, store) = open();
    let turn = store.turn.lock().await;
    let waiting = queue(&store).await;
    store.shared.commit();
    assert!(store.shared.changes().is_empty());
    assert_eq!(store.all_marks().await.unwrap().len(), LOGINS as usize * 4 / 5);
    drop(turn);
    for (login, waits) in (0..).zip(waiting) {
        let (told, kept) = match login % 5 {
            0 => (Err(Unavailable::Changed), Marks::default()),
            _ => (Ok(()), marks(login)),
        };
        assert_eq!(waits.await.unwrap(), told, "{login}");
        assert_eq!(store.marks(&login.to_string(), &mailbox()).await, Ok(kept), "{login}");
    }
}

#[tokio::test]
async fn whoever_goes_away_before_its_turn_changes_nothing() {
    let (_dir, store) = open();
    let turn = store.turn.lock().await;
    let waiting = queue(&store).await;
    waiting[3].abort();
    while !waiting[3].is_finished() {
        yield_now().await;
    }
    drop(turn);
    for (login, waits) in (0..).zip(waiting) {
        assert_eq!(waits.await.is_ok(), login != 3, "{login}");
    }
    assert_eq!(store.marks("3", &mailbox()).await, Ok(Marks::default()));
    assert_eq!(store.marks("4", &mailbox()).await, Ok(marks(4)));
}

#[tokio::test]
async fn a_transaction_that_fails_is_told_to_all_who_share_it() {
    let (_dir, store) = open();
    let turn = store.turn.lock().await;
    let waiting = queue(&store).await;
    let fails = |_: &mut Writing| Err(redb::Error::Corrupted("said so".into()));
    store.shared.changes().push(Change(Box::new(fails)));
    store.shared.commit();
    assert!(store.shared.changes().is_empty());
    drop(turn);
    for waits in waiting {
        assert_eq!(waits.await.unwrap(), Err(Unavailable::Failed));
    }
}

fn consent() -> Consent {
    Consent {
        upstream: "home".into(),
        name: "eva".into(),
    }
}

#[tokio::test]
async fn a_damaged_database_costs_no_token() {
    let (dir, store) = open();
    store.set_token(&consent(), None, Some(b"sealed")).await.unwrap();
    drop(store);
    std::fs::write(dir.path().join(FILE), "damaged".repeat(1_000)).unwrap();
    let store = FileStore::open(dir.path()).unwrap();
    assert_eq!(store.token(&consent()).await, Ok(Some(b"sealed".to_vec())));
}

/// Earlier versions kept tokens in the database.
#[tokio::test]
async fn tokens_of_an_earlier_version_move_out_of_the_database() {
    let (dir, store) = open();
    let kept = store
        .write(|table| table.set(Key::token(&consent()), &b"sealed".to_vec()).map(Ok))
        .await;
    kept.unwrap();
    drop(store);
    let visited = FileStore::visit(dir.path()).unwrap();
    assert_eq!(visited.token(&consent()).await, Ok(Some(b"sealed".to_vec())));
    drop(visited);
    let store = FileStore::open(dir.path()).unwrap();
    assert_eq!(store.token(&consent()).await, Ok(Some(b"sealed".to_vec())));
    let left = store.read(|table| Ok(Ok(table::tokens(&table.0)?.len()))).await;
    assert_eq!(left, Ok(0), "a forgotten token must not come back");
    store.set_token(&consent(), Some(b"sealed"), None).await.unwrap();
    drop(store);
    assert_eq!(FileStore::open(dir.path()).unwrap().token(&consent()).await, Ok(None));
}
