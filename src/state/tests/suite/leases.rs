//! Which session holds a maildrop of a store that several gateways share.

use std::sync::Arc;

use super::{full_marks, hidden, inbox, index, marks, past, pending};
use crate::state::{
    Consent, Duty, Entered, Holding, Kept, KnownIndex, Mailboxes, Renewed, StateStore, Unavailable, Whose,
    tests::index as long_index,
};

for_every_shared_store! {
    a_maildrop_is_held_by_one_name,
    logins_that_hide_hold_one_mailbox_together,
    leases_are_renewed_by_their_holders_only,
    only_who_holds_it_gives_it_up,
    who_has_lost_the_maildrop_writes_nothing,
    who_enters_is_told_what_has_changed,
    the_index_comes_with_the_maildrop,
    all_that_is_said_may_be_said_twice_and_late,
    an_index_grows_and_shrinks_over_pieces,
    a_duty_has_one_gateway,
}

fn holding(name: u8, login: &str, is_private: bool) -> Holding {
    Holding {
        mailbox: inbox().into(),
        login: login.into(),
        is_private,
        name: [name; 16],
    }
}

fn is_held(entered: &Entered) -> bool {
    !matches!(entered, Entered::Busy)
}

async fn enter(store: &dyn StateStore, holding: &Holding) -> bool {
    is_held(&store.enter(holding, None).await.unwrap())
}

async fn a_maildrop_is_held_by_one_name(store: &dyn StateStore) {
    let (a, b) = (holding(1, "pbx", false), holding(2, "fax", false));
    assert!(enter(store, &a).await);
    assert!(enter(store, &a).await, "said twice");
    assert!(!enter(store, &b).await);
    assert!(!enter(store, &holding(3, "pbx", false)).await);
    assert!(
        !enter(store, &holding(4, "pbx", true)).await,
        "the same login, whatever its policy"
    );
    store.leave(&a, None).await.unwrap();
    assert!(enter(store, &b).await);
    let elsewhere = Holding {
        mailbox: super::at("home", "eva", "Lists").into(),
        ..holding(5, "pbx", false)
    };
    assert!(enter(store, &elsewhere).await);
}

async fn logins_that_hide_hold_one_mailbox_together(store: &dyn StateStore) {
    let (pbx, fax, ticket) = (
        holding(1, "pbx", true),
        holding(2, "fax", true),
        holding(3, "ticket", false),
    );
    for holding in [&pbx, &fax, &ticket] {
        assert!(enter(store, holding).await, "{holding:?}");
    }
    assert!(!enter(store, &holding(4, "pbx", true)).await);
    assert!(!enter(store, &holding(5, "other", false)).await);
    store.leave(&pbx, None).await.unwrap();
    assert!(!enter(store, &holding(6, "pbx", false)).await, "the mailbox is held");
    assert!(
        enter(store, &holding(6, "pbx", true)).await,
        "and nothing was taken half"
    );
}

async fn leases_are_renewed_by_their_holders_only(store: &dyn StateStore) {
    let (a, b) = (holding(1, "pbx", false), holding(2, "fax", true));
    let late = holding(3, "pbx", false);
    assert!(enter(store, &a).await);
    let renewed = store.extend(&[&a, &b, &late]).await;
    assert_eq!(renewed, [Renewed::Held, Renewed::Free, Renewed::Lost]);
    assert!(enter(store, &b).await, "to renew what is free takes nothing");
    store.leave(&a, None).await.unwrap();
    assert_eq!(store.extend(&[&a]).await, [Renewed::Free]);
    assert_eq!(store.extend(&[]).await, []);
}

async fn only_who_holds_it_gives_it_up(store: &dyn StateStore) {
    let (a, late) = (holding(1, "pbx", false), holding(2, "pbx", false));
    assert!(enter(store, &a).await);
    store.leave(&late, Some(Arc::new(index(&[1])))).await.unwrap();
    assert!(!enter(store, &late).await);
    assert_eq!(store.index(&inbox()).await, None, "nor does it write");
}

async fn who_has_lost_the_maildrop_writes_nothing(store: &dyn StateStore) {
    let (a, b) = (holding(1, "pbx", false), holding(2, "fax", false));
    assert!(enter(store, &a).await);
    let none = Kept::default();
    let mut first = none.clone();
    first.pending = Some(pending());
    store.replace_held(&a, none.replacement(&first)).await.unwrap();
    let lost = store.replace_held(&b, first.replacement(&none)).await;
    assert_eq!(lost, Err(Unavailable::Lost));
    assert_eq!(store.pending_move(&inbox()).await, Ok(Some(pending())));
    // Nobody holds the maildrop any more, as after a failover: it is taken again.
    store.leave(&a, None).await.unwrap();
    let mut second = first.clone();
    second.marks.insert("pbx".into(), Ok(marks(&[1])));
    store.replace_held(&a, first.replacement(&second)).await.unwrap();
    assert!(!enter(store, &b).await);
    // A write without a lock needs only the expected record.
    store.set_past(&inbox(), &past(&[(1, 1)], &[])).await.unwrap();
    // A replacement that is refused takes no locks.
    store.leave(&a, None).await.unwrap();
    let changed = store.replace_held(&b, none.replacement(&first)).await;
    assert_eq!(changed, Ok(()), "it is so already");
    store.leave(&b, None).await.unwrap();
    let mut third = none.clone();
    third.marks.insert("pbx".into(), Ok(marks(&[9])));
    let changed = store.replace_held(&b, none.replacement(&third)).await;
    assert_eq!(changed, Err(Unavailable::Changed));
    assert!(enter(store, &a).await);
    assert_eq!(hidden(store, "pbx", &inbox()).await, [1]);
}

async fn who_enters_is_told_what_has_changed(store: &dyn StateStore) {
    let pbx = holding(1, "pbx", true);
    let Entered::New(welcome) = store.enter(&pbx, None).await.unwrap() else {
        panic!("nothing was known");
    };
    assert_eq!((&welcome.kept, &welcome.index), (&Kept::default(), &KnownIndex::None));
    let same = async |kept: &Kept| {
        let digest = store.digest(&inbox(), "pbx", kept).unwrap();
        matches!(store.enter(&pbx, Some(&digest)).await.unwrap(), Entered::Same)
    };
    assert!(same(&welcome.kept).await);
    let mut kept = Kept {
        past: past(&[(1, 1)], &[(2, 2)]),
        pending: Some(pending()),
        marks: [("pbx".to_owned(), Ok(full_marks()))].into(),
    };
    store
        .replace_held(&pbx, Kept::default().replacement(&kept))
        .await
        .unwrap();
    assert!(!same(&Kept::default()).await);
    assert!(same(&kept).await);
    // Marks of another login make no difference.
    super::keep(store, "fax", &inbox(), &marks(&[5])).await;
    assert!(same(&kept).await);
    assert_eq!(store.kept(&inbox(), Whose::Login("pbx")).await.as_ref(), Ok(&kept));
    store.set_past(&inbox(), &past(&[(9, 9)], &[])).await.unwrap();
    assert!(!same(&kept).await);
    kept.past = store.past(&inbox()).await.unwrap();
    assert!(same(&kept).await);
    store.clear_marks("pbx", None).await.unwrap();
    let Entered::New(welcome) = store.enter(&pbx, None).await.unwrap() else {
        panic!("marks were reset");
    };
    kept.marks.clear();
    assert_eq!(welcome.kept, kept);
}

async fn the_index_comes_with_the_maildrop(store: &dyn StateStore) {
    let pbx = holding(1, "pbx", false);
    for (saved, told) in [
        (index(&[1, 2, 9]).into(), Some(true)),
        (long_index(50_000), Some(false)),
        (long_index(50_001), Some(false)),
        (index(&[]).into(), Some(true)),
    ] {
        assert!(enter(store, &pbx).await);
        store.leave(&pbx, Some(Arc::clone(&saved))).await.unwrap();
        let Entered::New(welcome) = store.enter(&pbx, None).await.unwrap() else {
            panic!("nothing was known");
        };
        let expected = if told == Some(true) {
            KnownIndex::Whole(saved.clone())
        } else {
            KnownIndex::Large
        };
        assert!(welcome.index == expected);
        assert!(store.index(&inbox()).await == Some(saved));
    }
}

/// Answers are lost, and requests arrive late.
async fn all_that_is_said_may_be_said_twice_and_late(store: &dyn StateStore) {
    let (a, b) = (holding(1, "pbx", false), holding(2, "pbx", false));
    let none = Kept::default();
    let mut hides = none.clone();
    hides.marks.insert("pbx".into(), Ok(marks(&[1])));
    let mut more = none.clone();
    more.marks.insert("pbx".into(), Ok(marks(&[1, 2])));
    for _ in 0..2 {
        assert!(enter(store, &a).await);
        store.replace_held(&a, none.replacement(&hides)).await.unwrap();
        store.replace_held(&a, none.replacement(&hides)).await.unwrap();
        store.leave(&a, None).await.unwrap();
        store.leave(&a, None).await.unwrap();
    }
    assert!(enter(store, &b).await);
    store.replace_held(&b, hides.replacement(&more)).await.unwrap();
    // All requests that the first session has ever sent arrive again, in every order.
    for late in 0..6 {
        for said in [late % 3, (late + 1 + late / 3) % 3, (late + 2 - late / 3) % 3] {
            match said {
                0 => assert!(!enter(store, &a).await),
                1 => {
                    let lost = store.replace_held(&a, none.replacement(&hides)).await;
                    assert_eq!(lost, Err(Unavailable::Lost));
                }
                _ => store.leave(&a, None).await.unwrap(),
            }
        }
    }
    assert_eq!(store.extend(&[&b]).await, [Renewed::Held]);
    assert_eq!(hidden(store, "pbx", &inbox()).await, [1, 2]);
    store.leave(&b, None).await.unwrap();
    let late = store.replace_held(&a, none.replacement(&hides)).await;
    assert_eq!(
        late,
        Err(Unavailable::Changed),
        "nobody holds it, but it follows from nothing that is kept"
    );
    assert_eq!(hidden(store, "pbx", &inbox()).await, [1, 2]);
}

async fn an_index_grows_and_shrinks_over_pieces(store: &dyn StateStore) {
    for count in [1_u32, 20_000, 100_000, 20_001, 50_000, 16_000, 10, 16_500] {
        store.set_index(&inbox(), long_index(count)).await;
        assert!(store.index(&inbox()).await == Some(long_index(count)), "{count}");
    }
}

async fn a_duty_has_one_gateway(store: &dyn StateStore) {
    let renewal = |name: &str| {
        Duty::Renewal(Consent {
            upstream: "home".into(),
            name: name.into(),
        })
    };
    let (a, b) = ([1; 16], [2; 16]);
    for duty in [renewal("eva"), renewal("ida"), Duty::Sweep, Duty::Notices] {
        assert_eq!(store.take_duty(&duty, &a).await, Ok(true));
        assert_eq!(store.take_duty(&duty, &a).await, Ok(true), "renewed");
        assert_eq!(store.take_duty(&duty, &b).await, Ok(false));
        store.leave_duty(&duty, &b).await.unwrap();
        assert_eq!(store.take_duty(&duty, &b).await, Ok(false), "not given up by another");
    }
    store.leave_duty(&renewal("eva"), &a).await.unwrap();
    assert_eq!(store.take_duty(&renewal("eva"), &b).await, Ok(true));
    assert_eq!(store.take_duty(&renewal("ida"), &b).await, Ok(false), "each for itself");
}
