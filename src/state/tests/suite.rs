//! What every store promises: in memory, in a file, and a running gateway's by its socket.

use std::sync::Arc;

use super::{Served, directory};
use crate::state::{
    FileStore, Former, Identity, Index, MailboxName, Marks, MemoryStore, Past, PendingMove, StateStore, Unavailable,
};

macro_rules! for_every_store {
    ($($test:ident,)*) => {
        mod memory {
            $(#[tokio::test]
            async fn $test() {
                super::$test(&super::MemoryStore::default()).await;
            })*
        }
        mod file {
            $(#[tokio::test]
            async fn $test() {
                let dir = super::directory();
                super::$test(&super::FileStore::open(dir.path()).unwrap()).await;
            })*
        }
        mod remote {
            $(#[tokio::test]
            async fn $test() {
                let dir = super::directory();
                let store = super::FileStore::open(dir.path()).unwrap();
                let served = super::Served::new(super::Arc::new(store), dir.path()).await;
                super::$test(&served.store).await;
                served.end().await;
            })*
        }
    };
}

for_every_store! {
    an_index_comes_back,
    marks_come_back,
    marks_are_one_login_s_in_one_mailbox,
    marks_that_were_reset_are_not_brought_back,
    marks_that_were_renumbered_are_not_brought_back,
    marks_that_another_began_are_not_written_over,
    all_marks_are_found_however_names_resemble_each_other,
    a_login_is_forgotten_in_all_folders_or_in_one,
    the_past_comes_back,
    what_two_sessions_add_to_the_past_is_kept,
    a_pending_move_comes_back_until_there_is_none,
    all_logins_of_a_mailbox_are_renumbered_and_no_other,
    two_sessions_renumber_once,
    renumbering_what_has_another_uid_validity_is_refused,
    what_is_gone_is_forgotten,
    what_came_after_the_index_stays,
    other_uid_validities_are_not_pruned,
    large_marks_shrink_and_grow,
}

fn at(upstream: &str, user: &str, folder: &str) -> MailboxName {
    MailboxName {
        upstream: upstream.into(),
        user: user.into(),
        folder: folder.into(),
    }
}

fn inbox() -> MailboxName {
    at("home", "eva", "INBOX")
}

/// Of UIDVALIDITY 7.
fn marks(hidden: &[u32]) -> Marks {
    Marks {
        uid_validity: 7,
        hidden: hidden.to_vec(),
        ..Marks::default()
    }
}

fn full_marks() -> Marks {
    Marks {
        uid_validity: 7,
        hidden: vec![1, 2, 9],
        noticed: vec![3, u32::MAX],
        retrieved: vec![(1, 100), (4, 200)],
        imported: vec![(2, "two".into()), (9, "nïne\n\"".into())],
        import: u64::MAX,
    }
}

/// Of UIDVALIDITY 7.
fn past(identities: &[(u32, u8)], former: &[(u32, u32)]) -> Past {
    Past {
        uid_validity: 7,
        identities: identities
            .iter()
            .map(|&(uid, octet)| (uid, Identity([octet; 16])))
            .collect(),
        former: former
            .iter()
            .map(|&(now, uid)| (now, Former { uid_validity: 6, uid }))
            .collect(),
    }
}

fn pending() -> PendingMove {
    PendingMove {
        uid_validity: 7,
        uids: vec![1, 5, 6],
        target: "Trash".into(),
        target_uid_validity: 9,
        target_uid_next: 44,
    }
}

/// Of UIDVALIDITY 7.
fn index(uids: &[u32]) -> Index {
    let mut index = Index {
        uid_validity: 7,
        ..Index::default()
    };
    for &uid in uids {
        index.push(uid, 1_000, Some(1_700_000_000), Some("M1".into()));
    }
    index
}

async fn keep(store: &dyn StateStore, login: &str, mailbox: &MailboxName, marks: &Marks) {
    let kept = store.marks(login, mailbox).await.unwrap().uid_validity;
    store.set_marks(login, mailbox, marks, kept).await.unwrap();
}

async fn hidden(store: &dyn StateStore, login: &str, mailbox: &MailboxName) -> Vec<u32> {
    store.marks(login, mailbox).await.unwrap().hidden
}

async fn an_index_comes_back(store: &dyn StateStore) {
    assert_eq!(store.index(&inbox()).await, None);
    for uids in [&[1, 2, 9][..], &[], &[2, 9, 10]] {
        store.set_index(&inbox(), Arc::new(index(uids))).await;
        assert_eq!(store.index(&inbox()).await, Some(Arc::new(index(uids))));
    }
}

async fn marks_come_back(store: &dyn StateStore) {
    assert_eq!(store.marks("scanner", &inbox()).await, Ok(Marks::default()));
    store.set_marks("scanner", &inbox(), &full_marks(), 0).await.unwrap();
    assert_eq!(store.marks("scanner", &inbox()).await, Ok(full_marks()));
    store.set_marks("scanner", &inbox(), &marks(&[1]), 7).await.unwrap();
    assert_eq!(store.marks("scanner", &inbox()).await, Ok(marks(&[1])));
    let changed = Marks {
        uid_validity: 8,
        ..marks(&[5])
    };
    store.set_marks("scanner", &inbox(), &changed, 7).await.unwrap();
    assert_eq!(store.marks("scanner", &inbox()).await, Ok(changed));
}

async fn marks_are_one_login_s_in_one_mailbox(store: &dyn StateStore) {
    keep(store, "scanner", &inbox(), &marks(&[1])).await;
    for login in ["", "s", "Scanner", "scanner ", "scanner2"] {
        assert_eq!(store.marks(login, &inbox()).await, Ok(Marks::default()), "{login}");
    }
    for other in [
        at("home", "eva", "inbox"),
        at("home", "ev", "aINBOX"),
        at("homee", "va", "INBOX"),
    ] {
        assert_eq!(store.marks("scanner", &other).await, Ok(Marks::default()), "{other}");
    }
    assert_eq!(store.past(&inbox()).await, Ok(Past::default()));
    assert_eq!(store.pending_move(&inbox()).await, Ok(None));
    assert_eq!(store.index(&inbox()).await, None);
}

async fn marks_that_were_reset_are_not_brought_back(store: &dyn StateStore) {
    keep(store, "scanner", &inbox(), &marks(&[1])).await;
    assert_eq!(store.clear_marks("scanner", None).await, Ok(1));
    let late = store.set_marks("scanner", &inbox(), &marks(&[1, 2]), 7).await;
    assert_eq!(late, Err(Unavailable::Changed));
    assert_eq!(store.marks("scanner", &inbox()).await, Ok(Marks::default()));
    assert_eq!(store.all_marks().await, Ok(vec![]));
    store.set_marks("scanner", &inbox(), &marks(&[3]), 0).await.unwrap();
    assert_eq!(hidden(store, "scanner", &inbox()).await, [3]);
}

async fn marks_that_were_renumbered_are_not_brought_back(store: &dyn StateStore) {
    keep(store, "scanner", &inbox(), &marks(&[1])).await;
    store.set_past(&inbox(), &past(&[(1, 1)], &[])).await.unwrap();
    let now = Past {
        uid_validity: 8,
        ..past(&[(10, 1)], &[])
    };
    store.renumber(&inbox(), &now, 7, &[(1, 10)]).await.unwrap();
    let late = store.set_marks("scanner", &inbox(), &marks(&[1, 2]), 7).await;
    assert_eq!(late, Err(Unavailable::Changed));
    assert_eq!(hidden(store, "scanner", &inbox()).await, [10]);
}

async fn marks_that_another_began_are_not_written_over(store: &dyn StateStore) {
    keep(store, "scanner", &inbox(), &marks(&[1])).await;
    let late = store.set_marks("scanner", &inbox(), &marks(&[2]), 0).await;
    assert_eq!(late, Err(Unavailable::Changed));
    assert_eq!(hidden(store, "scanner", &inbox()).await, [1]);
}

async fn all_marks_are_found_however_names_resemble_each_other(store: &dyn StateStore) {
    let mut expected = Vec::new();
    let names = ["", "a", "a/b", "ab", "b", "ä"];
    for (upstream, user) in [("a", "a"), ("a", "ab"), ("aa", "b"), ("ab", "a")] {
        for folder in names {
            // Other records of the same mailbox, which are no marks.
            let mailbox = at(upstream, user, folder);
            store.set_index(&mailbox, Arc::new(index(&[1]))).await;
            store.set_past(&mailbox, &past(&[(1, 1)], &[])).await.unwrap();
            store.set_pending_move(&mailbox, Some(&pending())).await.unwrap();
            for login in names {
                let marks = marks(&[expected.len() as u32 + 1]);
                keep(store, login, &mailbox, &marks).await;
                expected.push((login.to_owned(), mailbox.clone(), Ok(marks)));
            }
        }
    }
    let mut all = store.all_marks().await.unwrap();
    all.sort_by_key(|(_, _, marks)| marks.as_ref().unwrap().hidden.clone());
    assert_eq!(all, expected);
}

async fn a_login_is_forgotten_in_all_folders_or_in_one(store: &dyn StateStore) {
    let folders = ["a", "a/b", "ab"];
    for user in ["eva", "ida"] {
        for folder in folders {
            for login in ["a", "ab", "b"] {
                keep(store, login, &at("home", user, folder), &marks(&[1])).await;
            }
        }
    }
    let left = async |login: &str| {
        let mut left = Vec::new();
        for user in ["eva", "ida"] {
            for folder in folders {
                if hidden(store, login, &at("home", user, folder)).await == [1] {
                    left.push(format!("{user}/{folder}"));
                }
            }
        }
        left.join(" ")
    };
    assert_eq!(store.clear_marks("c", None).await, Ok(0));
    assert_eq!(store.clear_marks("a", Some("b")).await, Ok(0));
    assert_eq!(store.clear_marks("a", Some("a")).await, Ok(2));
    assert_eq!(left("a").await, "eva/a/b eva/ab ida/a/b ida/ab");
    assert_eq!(store.clear_marks("a", None).await, Ok(4));
    assert_eq!(store.clear_marks("a", None).await, Ok(0));
    assert_eq!(left("a").await, "");
    for other in ["ab", "b"] {
        assert_eq!(left(other).await, "eva/a eva/a/b eva/ab ida/a ida/a/b ida/ab");
    }
}

async fn the_past_comes_back(store: &dyn StateStore) {
    assert_eq!(store.past(&inbox()).await, Ok(Past::default()));
    let known = past(&[(1, 1), (2, 2)], &[(1, 90), (7, 91)]);
    store.set_past(&inbox(), &known).await.unwrap();
    assert_eq!(store.past(&inbox()).await, Ok(known));
    assert_eq!(store.past(&at("home", "eva", "inbox")).await, Ok(Past::default()));
    let other = Past {
        uid_validity: 8,
        ..Past::default()
    };
    store.set_past(&inbox(), &other).await.unwrap();
    assert_eq!(store.past(&inbox()).await, Ok(other), "what went before is of no use");
}

async fn what_two_sessions_add_to_the_past_is_kept(store: &dyn StateStore) {
    store.set_past(&inbox(), &past(&[(2, 2)], &[(2, 90)])).await.unwrap();
    store
        .set_past(&inbox(), &past(&[(1, 1), (2, 2)], &[(2, 90)]))
        .await
        .unwrap();
    store
        .set_past(&inbox(), &past(&[(2, 2), (3, 3)], &[(2, 90)]))
        .await
        .unwrap();
    let both = past(&[(1, 1), (2, 2), (3, 3)], &[(2, 90)]);
    assert_eq!(store.past(&inbox()).await, Ok(both));
}

async fn a_pending_move_comes_back_until_there_is_none(store: &dyn StateStore) {
    assert_eq!(store.pending_move(&inbox()).await, Ok(None));
    store.set_pending_move(&inbox(), None).await.unwrap();
    store.set_pending_move(&inbox(), Some(&pending())).await.unwrap();
    assert_eq!(store.pending_move(&inbox()).await, Ok(Some(pending())));
    let fewer = PendingMove {
        uids: vec![5],
        ..pending()
    };
    store.set_pending_move(&inbox(), Some(&fewer)).await.unwrap();
    assert_eq!(store.pending_move(&inbox()).await, Ok(Some(fewer)));
    assert_eq!(store.pending_move(&at("home", "eva", "Sent")).await, Ok(None));
    store.set_pending_move(&inbox(), None).await.unwrap();
    assert_eq!(store.pending_move(&inbox()).await, Ok(None));
}

async fn all_logins_of_a_mailbox_are_renumbered_and_no_other(store: &dyn StateStore) {
    let others = [
        at("home", "eva", "INBO"),
        at("home", "eva", "INBOX/a"),
        at("home", "ev", "INBOX"),
        at("work", "eva", "INBOX"),
    ];
    for mailbox in others.iter().chain([&inbox()]) {
        store.set_past(mailbox, &past(&[(1, 1)], &[])).await.unwrap();
        store.set_pending_move(mailbox, Some(&pending())).await.unwrap();
        for login in ["a", "ab"] {
            keep(store, login, mailbox, &full_marks()).await;
        }
    }
    let older = Marks {
        uid_validity: 5,
        ..full_marks()
    };
    keep(store, "older", &inbox(), &older).await;
    let now = Past {
        uid_validity: 8,
        ..past(&[(30, 1)], &[(30, 1)])
    };
    let pairs = [(1, 30), (2, 20), (4, 10)];
    store.renumber(&inbox(), &now, 7, &pairs).await.unwrap();

    let renumbered = Marks {
        uid_validity: 8,
        hidden: vec![20, 30],
        noticed: vec![],
        retrieved: vec![(10, 200), (30, 100)],
        imported: vec![(20, "two".into())],
        import: u64::MAX,
    };
    for login in ["a", "ab"] {
        assert_eq!(store.marks(login, &inbox()).await.as_ref(), Ok(&renumbered), "{login}");
        for other in &others {
            assert_eq!(store.marks(login, other).await, Ok(full_marks()), "{login} {other}");
        }
    }
    assert_eq!(
        store.marks("older", &inbox()).await,
        Ok(older),
        "of no use, and no harm"
    );
    assert_eq!(store.past(&inbox()).await, Ok(now));
    assert_eq!(store.pending_move(&inbox()).await, Ok(None));
    for other in &others {
        assert_eq!(store.past(other).await, Ok(past(&[(1, 1)], &[])), "{other}");
        assert_eq!(store.pending_move(other).await, Ok(Some(pending())), "{other}");
    }
}

async fn two_sessions_renumber_once(store: &dyn StateStore) {
    store.set_past(&inbox(), &past(&[(1, 1)], &[])).await.unwrap();
    keep(store, "a", &inbox(), &marks(&[1, 2])).await;
    let now = Past {
        uid_validity: 8,
        ..past(&[(30, 1)], &[])
    };
    store.renumber(&inbox(), &now, 7, &[(1, 30)]).await.unwrap();
    // The first goes on to work before the second, which found the same, comes to keep it.
    let known = Past {
        uid_validity: 8,
        ..past(&[(30, 1), (31, 2)], &[])
    };
    let pending = PendingMove {
        uid_validity: 8,
        ..pending()
    };
    store.set_past(&inbox(), &known).await.unwrap();
    store.set_pending_move(&inbox(), Some(&pending)).await.unwrap();
    store.renumber(&inbox(), &now, 7, &[(1, 30)]).await.unwrap();
    assert_eq!(store.past(&inbox()).await, Ok(known));
    assert_eq!(store.pending_move(&inbox()).await, Ok(Some(pending)));
    assert_eq!(hidden(store, "a", &inbox()).await, [30]);
}

async fn renumbering_what_has_another_uid_validity_is_refused(store: &dyn StateStore) {
    let newest = Past {
        uid_validity: 9,
        ..past(&[(5, 1)], &[(5, 1)])
    };
    store.set_past(&inbox(), &newest).await.unwrap();
    keep(store, "a", &inbox(), &marks(&[1])).await;
    let now = Past {
        uid_validity: 8,
        ..past(&[(30, 1)], &[])
    };
    assert_eq!(
        store.renumber(&inbox(), &now, 7, &[(1, 30)]).await,
        Err(Unavailable::Changed)
    );
    assert_eq!(store.past(&inbox()).await, Ok(newest));
    assert_eq!(hidden(store, "a", &inbox()).await, [1]);
}

async fn what_is_gone_is_forgotten(store: &dyn StateStore) {
    let other = at("home", "eva", "INBOX/a");
    for mailbox in [inbox(), other.clone()] {
        store
            .set_past(&mailbox, &past(&[(1, 1), (2, 2)], &[(2, 90), (4, 91)]))
            .await
            .unwrap();
        store.set_pending_move(&mailbox, Some(&pending())).await.unwrap();
        keep(store, "a", &mailbox, &full_marks()).await;
        keep(store, "ab", &mailbox, &marks(&[4, 5, 6])).await;
    }
    store.prune(&inbox(), &index(&[2, 5, 9, u32::MAX])).await.unwrap();
    let left = Marks {
        hidden: vec![2, 9],
        noticed: vec![u32::MAX],
        retrieved: vec![],
        ..full_marks()
    };
    assert_eq!(store.marks("a", &inbox()).await, Ok(left));
    assert_eq!(hidden(store, "ab", &inbox()).await, [5]);
    assert_eq!(store.past(&inbox()).await, Ok(past(&[(2, 2)], &[(2, 90)])));
    assert_eq!(
        store.pending_move(&inbox()).await,
        Ok(Some(pending())),
        "whoever finishes it asks the upstream"
    );
    assert_eq!(store.marks("a", &other).await, Ok(full_marks()));
    assert_eq!(hidden(store, "ab", &other).await, [4, 5, 6]);
    assert_eq!(
        store.past(&other).await,
        Ok(past(&[(1, 1), (2, 2)], &[(2, 90), (4, 91)]))
    );
}

/// A session that began before a message came must not forget what another has done with it since.
async fn what_came_after_the_index_stays(store: &dyn StateStore) {
    keep(store, "a", &inbox(), &full_marks()).await;
    store
        .set_past(&inbox(), &past(&[(1, 1), (9, 9)], &[(1, 90), (9, 91)]))
        .await
        .unwrap();
    store.prune(&inbox(), &index(&[2, 4, 5])).await.unwrap();
    let left = Marks {
        hidden: vec![2, 9],
        noticed: vec![u32::MAX],
        retrieved: vec![(4, 200)],
        ..full_marks()
    };
    assert_eq!(store.marks("a", &inbox()).await, Ok(left.clone()));
    assert_eq!(store.past(&inbox()).await, Ok(past(&[(9, 9)], &[(9, 91)])));
    store.prune(&inbox(), &index(&[])).await.unwrap();
    assert_eq!(store.marks("a", &inbox()).await, Ok(left));
}

async fn other_uid_validities_are_not_pruned(store: &dyn StateStore) {
    let other = Marks {
        uid_validity: 6,
        ..full_marks()
    };
    let earlier = Past {
        uid_validity: 6,
        ..past(&[(1, 1)], &[(1, 90)])
    };
    keep(store, "a", &inbox(), &other).await;
    store.set_past(&inbox(), &earlier).await.unwrap();
    store.prune(&inbox(), &index(&[u32::MAX])).await.unwrap();
    assert_eq!(store.marks("a", &inbox()).await, Ok(other));
    assert_eq!(store.past(&inbox()).await, Ok(earlier));
}

async fn large_marks_shrink_and_grow(store: &dyn StateStore) {
    let beside = at("home", "eva", "INBOX/a");
    keep(store, "a", &beside, &full_marks()).await;
    keep(store, "b", &inbox(), &full_marks()).await;
    for count in [100_000_u32, 10, 50_000, 0, 100_000, 3_790, 3_791] {
        let many = Marks {
            uid_validity: 7,
            hidden: (1..=count).collect(),
            retrieved: (1..=count / 10).map(|uid| (uid, 1_700_000_000 + uid)).collect(),
            ..Marks::default()
        };
        keep(store, "a", &inbox(), &many).await;
        assert!(store.marks("a", &inbox()).await == Ok(many), "{count}");
    }
    assert_eq!(store.marks("a", &beside).await, Ok(full_marks()));
    assert_eq!(store.marks("b", &inbox()).await, Ok(full_marks()));
    assert_eq!(store.clear_marks("a", None).await, Ok(2));
    assert_eq!(
        store.all_marks().await,
        Ok(vec![("b".into(), inbox(), Ok(full_marks()))])
    );
}
