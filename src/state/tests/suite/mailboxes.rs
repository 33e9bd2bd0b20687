//! The records of mailboxes, and what happens to them and to marks if UIDs change.

use std::sync::Arc;

use super::{at, full_marks, hidden, inbox, index, keep, marks, past, pending};
use crate::{
    state::{Kept, Mailboxes, Marks, Past, PendingMove, StateStore, Unavailable, Whose, mailboxes::amend},
    types::{Uid, Uids},
};

for_every_store! {
    an_index_comes_back,
    the_past_comes_back,
    what_two_sessions_add_to_the_past_is_kept,
    a_pending_move_comes_back_until_there_is_none,
    all_logins_of_a_mailbox_are_renumbered_and_no_other,
    two_sessions_renumber_once,
    renumbering_what_has_another_uid_validity_is_refused,
    a_replacement_follows_what_was_read,
    a_replacement_said_twice_is_done_once,
    two_writers_keep_the_changes_of_both,
}

async fn an_index_comes_back(store: &dyn StateStore) {
    assert_eq!(store.index(&inbox()).await, None);
    for uids in [&[1, 2, 9][..], &[], &[2, 9, 10]] {
        store.set_index(&inbox(), Arc::new(index(uids))).await;
        assert_eq!(store.index(&inbox()).await, Some(Arc::new(index(uids))));
    }
}

async fn the_past_comes_back(store: &dyn StateStore) {
    assert_eq!(store.past(&inbox()).await, Ok(Past::default()));
    let known = past(&[(1, 1), (2, 2)], &[(1, 90), (7, 91)]);
    store.set_past(&inbox(), &known).await.unwrap();
    assert_eq!(store.past(&inbox()).await, Ok(known.clone()));
    assert_eq!(store.past(&at("home", "eva", "inbox")).await, Ok(Past::default()));
    // A session that began before UIDVALIDITY changed ends after another session has renumbered.
    let late = Past {
        uid_validity: 6,
        ..Past::default()
    };
    assert_eq!(store.set_past(&inbox(), &late).await, Err(Unavailable::Changed));
    assert_eq!(store.past(&inbox()).await, Ok(known));
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
        uids: [5].into(),
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
    let pairs = [(1, Uid(30)), (2, Uid(20)), (4, Uid(10))];
    store.renumber(&inbox(), &now, 7, &pairs.into()).await.unwrap();

    let renumbered = Marks {
        uid_validity: 8,
        hidden: [20, 30].into(),
        noticed: Uids::default(),
        undelivered: Uids::default(),
        retrieved: [(10, 200), (30, 100)].into(),
        imported: [(20, "two".into())].into(),
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
    store.renumber(&inbox(), &now, 7, &[(1, Uid(30))].into()).await.unwrap();
    // The first session goes on. The second session has found the same change of UIDVALIDITY, and stores its result
    // only after that.
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
    store.renumber(&inbox(), &now, 7, &[(1, Uid(30))].into()).await.unwrap();
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
        store.renumber(&inbox(), &now, 7, &[(1, Uid(30))].into()).await,
        Err(Unavailable::Changed)
    );
    assert_eq!(store.past(&inbox()).await, Ok(newest));
    assert_eq!(hidden(store, "a", &inbox()).await, [1]);
}

async fn a_replacement_follows_what_was_read(store: &dyn StateStore) {
    let read = store.kept(&inbox(), Whose::Login("a")).await.unwrap();
    assert_eq!(read, Kept::default());
    let mut wanted = read.clone();
    wanted.pending = Some(pending());
    wanted.marks.insert("a".to_owned(), Ok(marks(&[2])));
    keep(store, "a", &inbox(), &marks(&[1])).await;
    let late = store.replace(&inbox(), read.replacement(&wanted)).await;
    assert_eq!(late, Err(Unavailable::Changed));
    let now = store.kept(&inbox(), Whose::All).await.unwrap();
    let a_s = [("a".to_owned(), Ok(marks(&[1])))].into();
    assert_eq!((&now.pending, &now.marks), (&None, &a_s), "all or nothing");
    // Marks of another login make no difference.
    keep(store, "b", &inbox(), &marks(&[1])).await;
    wanted.past = past(&[(1, 1)], &[]);
    store.replace(&inbox(), now.replacement(&wanted)).await.unwrap();
    wanted.marks.insert("b".to_owned(), Ok(marks(&[1])));
    assert_eq!(store.kept(&inbox(), Whose::All).await, Ok(wanted));
    // The records of another mailbox are not touched.
    let other = at("home", "eva", "INBOX/a");
    assert_eq!(store.kept(&other, Whose::All).await, Ok(Kept::default()));
}

/// If an answer is lost, the same request may be sent again.
async fn a_replacement_said_twice_is_done_once(store: &dyn StateStore) {
    keep(store, "a", &inbox(), &marks(&[1])).await;
    let before = store.kept(&inbox(), Whose::All).await.unwrap();
    let after = Kept {
        past: past(&[(1, 1)], &[]),
        pending: Some(pending()),
        marks: [("b".to_owned(), Ok(marks(&[2])))].into(),
    };
    for _ in 0..2 {
        store.replace(&inbox(), before.replacement(&after)).await.unwrap();
        assert_eq!(store.kept(&inbox(), Whose::All).await.as_ref(), Ok(&after));
    }
}

/// Two logins that hide messages use one mailbox at the same time, one of them twice.
async fn two_writers_keep_the_changes_of_both(store: &dyn StateStore) {
    let write = async |login: &'static str, uids: [u32; 5]| {
        for uid in uids {
            let add = |kept: &mut Kept| {
                let followed = kept.marks_of(login)?.uid_validity;
                kept.change_marks(login, &inbox(), followed, |mut marks| {
                    marks.uid_validity = 7;
                    marks.hidden.add(Uid(uid));
                    marks
                })
            };
            amend(store, &inbox(), Whose::Login(login), None, add).await.unwrap();
        }
    };
    tokio::join!(
        write("a", [1, 2, 3, 4, 5]),
        write("a", [11, 12, 13, 14, 15]),
        write("b", [21, 22, 23, 24, 25])
    );
    assert_eq!(hidden(store, "a", &inbox()).await, [1, 2, 3, 4, 5, 11, 12, 13, 14, 15]);
    assert_eq!(hidden(store, "b", &inbox()).await, [21, 22, 23, 24, 25]);
}
