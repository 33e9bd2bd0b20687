//! What logins have done.

use std::sync::Arc;

use super::{at, full_marks, hidden, inbox, index, keep, marks, past, pending};
use crate::{
    state::{Mailboxes, Marks, Past, StateStore, Unavailable},
    types::Uid,
};

for_every_store! {
    marks_come_back,
    marks_are_one_login_s_in_one_mailbox,
    marks_that_were_reset_are_not_brought_back,
    marks_that_were_renumbered_are_not_brought_back,
    marks_that_another_began_are_not_written_over,
    all_marks_are_found_however_names_resemble_each_other,
    a_login_is_forgotten_in_all_folders_or_in_one,
    large_marks_shrink_and_grow,
}

async fn marks_come_back(store: &dyn StateStore) {
    assert_eq!(store.marks("tickets", &inbox()).await, Ok(Marks::default()));
    store.set_marks("tickets", &inbox(), &full_marks(), 0).await.unwrap();
    assert_eq!(store.marks("tickets", &inbox()).await, Ok(full_marks()));
    store.set_marks("tickets", &inbox(), &marks(&[1]), 7).await.unwrap();
    assert_eq!(store.marks("tickets", &inbox()).await, Ok(marks(&[1])));
    let changed = Marks {
        uid_validity: 8,
        ..marks(&[5])
    };
    store.set_marks("tickets", &inbox(), &changed, 7).await.unwrap();
    assert_eq!(store.marks("tickets", &inbox()).await, Ok(changed));
}

async fn marks_are_one_login_s_in_one_mailbox(store: &dyn StateStore) {
    keep(store, "tickets", &inbox(), &marks(&[1])).await;
    for login in ["", "t", "Tickets", "tickets ", "tickets2"] {
        assert_eq!(store.marks(login, &inbox()).await, Ok(Marks::default()), "{login}");
    }
    for other in [
        at("home", "eva", "inbox"),
        at("home", "ev", "aINBOX"),
        at("homee", "va", "INBOX"),
    ] {
        assert_eq!(store.marks("tickets", &other).await, Ok(Marks::default()), "{other}");
    }
    assert_eq!(store.past(&inbox()).await, Ok(Past::default()));
    assert_eq!(store.pending_move(&inbox()).await, Ok(None));
    assert_eq!(store.index(&inbox()).await, None);
}

async fn marks_that_were_reset_are_not_brought_back(store: &dyn StateStore) {
    keep(store, "tickets", &inbox(), &marks(&[1])).await;
    assert_eq!(store.clear_marks("tickets", None).await, Ok(1));
    let late = store.set_marks("tickets", &inbox(), &marks(&[1, 2]), 7).await;
    assert_eq!(late, Err(Unavailable::Changed));
    assert_eq!(store.marks("tickets", &inbox()).await, Ok(Marks::default()));
    assert_eq!(store.all_marks().await, Ok(vec![]));
    store.set_marks("tickets", &inbox(), &marks(&[3]), 0).await.unwrap();
    assert_eq!(hidden(store, "tickets", &inbox()).await, [3]);
}

async fn marks_that_were_renumbered_are_not_brought_back(store: &dyn StateStore) {
    keep(store, "tickets", &inbox(), &marks(&[1])).await;
    store.set_past(&inbox(), &past(&[(1, 1)], &[])).await.unwrap();
    let now = Past {
        uid_validity: 8,
        ..past(&[(10, 1)], &[])
    };
    store.renumber(&inbox(), &now, 7, &[(1, Uid(10))].into()).await.unwrap();
    let late = store.set_marks("tickets", &inbox(), &marks(&[1, 2]), 7).await;
    assert_eq!(late, Err(Unavailable::Changed));
    assert_eq!(hidden(store, "tickets", &inbox()).await, [10]);
}

async fn marks_that_another_began_are_not_written_over(store: &dyn StateStore) {
    keep(store, "tickets", &inbox(), &marks(&[1])).await;
    let late = store.set_marks("tickets", &inbox(), &marks(&[2]), 0).await;
    assert_eq!(late, Err(Unavailable::Changed));
    assert_eq!(hidden(store, "tickets", &inbox()).await, [1]);
}

async fn all_marks_are_found_however_names_resemble_each_other(store: &dyn StateStore) {
    let mut expected = Vec::new();
    let names = ["", "a", "a/b", "ab", "b", "ä"];
    for (upstream, user) in [("a", "a"), ("a", "ab"), ("aa", "b"), ("ab", "a")] {
        for folder in names {
            // Other records of the same mailbox.
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
    all.sort_by_key(|(_, _, marks)| marks.as_ref().unwrap().hidden.to_vec());
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
