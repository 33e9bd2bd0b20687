//! Two gateways that share a store, each with a ledger of its own, over a real server.

use super::*;
use crate::state::{
    Consent, MemoryStore,
    tests::server::{Program, Server},
};

/// Two gateways, of which the first has the duty, and their server. `None` if there is no server.
async fn two() -> Option<(Ledger, Ledger, Server)> {
    let server = Server::start(Program::Redis, &[])?;
    let store: Arc<dyn StateStore> = Arc::new(server.store().await);
    let (a, b) = (Ledger::open(store.clone(), true).await, Ledger::open(store, true).await);
    a.keep_up().await;
    b.keep_up().await;
    assert!(a.is_on_duty() && !b.is_on_duty());
    Some((a, b, server))
}

/// Makes `to` take the duty over from `from`.
async fn hand_over(from: &Ledger, to: &Ledger) {
    from.hand_over();
    assert!(!from.is_on_duty());
    // The server hears of it in the background.
    while !to.is_on_duty() {
        to.keep_up().await;
    }
}

fn ending() -> Event {
    let consent = Consent {
        upstream: "home".into(),
        name: "eva".into(),
    };
    Event::consent_ending(&consent, &["pbx".into()], 5000, None)
}

fn certificate() -> Event {
    Event::certificate_ending("/c.pem".as_ref(), "certificate ends")
}

/// Notes that the next event was sent. Returns when it began, and its id.
async fn send(ledger: &Ledger) -> (u32, String) {
    let record = ledger.next_unsent().unwrap();
    ledger.mark_sent(&record.event.key, &record.id());
    ledger.save().await.unwrap();
    (record.since, record.id())
}

async fn delete(ledger: &Ledger, id: &str, login: &str) {
    let key = ending().key;
    let deleting = ledger.change_marks(&key, id, login, |marks| marks.is_deleted = true);
    deleting.await.unwrap();
}

#[tokio::test]
async fn what_several_see_is_sent_by_one() {
    let Some((a, b, _server)) = two().await else {
        return;
    };
    assert!(b.book().raise(certificate(), 100));
    b.save().await.unwrap();
    assert!(b.next_unsent().is_none(), "it is not on duty");
    assert!(a.book().raise(certificate(), 200));
    assert!(a.next_unsent().is_none(), "another may have told of it: state knows");
    a.save().await.unwrap();
    assert_eq!(send(&a).await.0, 100, "the event of the first who saw it");
    assert!(a.next_unsent().is_none());
    hand_over(&a, &b).await;
    assert!(b.next_unsent().is_none(), "it is sent");
}

#[tokio::test]
async fn whoever_takes_over_sends_what_is_left() {
    let Some((a, b, _server)) = two().await else {
        return;
    };
    a.book().raise(ending(), 100);
    a.save().await.unwrap();
    let id = a.next_unsent().unwrap().id();
    // The gateway ends before it sends the event. Another may not send what the store does not hold.
    a.book().raise(certificate(), 100);
    hand_over(&a, &b).await;
    assert_eq!(send(&b).await, (100, id));
    assert!(a.next_unsent().is_none() && b.next_unsent().is_none());
}

#[tokio::test]
async fn mails_are_the_same_and_are_deleted_everywhere() {
    let Some((a, b, _server)) = two().await else {
        return;
    };
    a.raise(ending());
    a.save().await.unwrap();
    b.keep_up().await;
    let record = b.consent_of("pbx").await.unwrap();
    assert_eq!(a.consent_of("pbx").await.as_ref(), Some(&record));
    delete(&b, &record.id(), "pbx").await;
    // What the other writes of the event, without having heard of this, keeps it.
    assert_eq!(send(&a).await.1, record.id());
    delete(&a, &record.id(), "fax").await;
    b.keep_up().await;
    for ledger in [&a, &b] {
        let record = ledger.consent_of("pbx").await.unwrap();
        assert!(record.marks("pbx").is_deleted && record.marks("fax").is_deleted);
        assert_eq!(ledger.read(|book| book.unsent().count()), 0);
    }
    a.resolve(&ending().key);
    a.save().await.unwrap();
    assert!(b.consent_of("pbx").await.is_none(), "at once");
    b.keep_up().await;
    assert!(b.read(|book| book.get(&ending().key).is_none() && book.is_saved()));
}

#[tokio::test]
async fn a_mail_is_deleted_whatever_the_book_knows() {
    let Some((a, b, _server)) = two().await else {
        return;
    };
    a.book().raise(ending(), 100);
    a.save().await.unwrap();
    b.keep_up().await;
    a.resolve(&ending().key);
    a.save().await.unwrap();
    a.book().raise(ending(), 200);
    a.save().await.unwrap();
    let id = b.consent_of("pbx").await.unwrap().id();
    assert_ne!(b.read(|book| book.get(&ending().key).unwrap().id()), id);
    delete(&b, &id, "pbx").await;
    assert!(a.consent_of("pbx").await.unwrap().marks("pbx").is_deleted);
}

#[tokio::test]
async fn what_one_alone_sees_is_told_once() {
    let Some((a, b, _server)) = two().await else {
        return;
    };
    let key = certificate().key;
    b.raise(certificate());
    b.save().await.unwrap();
    a.keep_up().await;
    let all_is_well = || a.retain(EventKind::CertificateEnding, &BTreeSet::new());
    all_is_well();
    a.save().await.unwrap();
    send(&a).await;
    all_is_well();
    a.save().await.unwrap();
    assert_eq!(
        a.store.notices().await,
        Ok(Vec::new()),
        "if the other dies, nobody else ends it"
    );
    b.keep_up().await;
    b.raise(certificate());
    b.save().await.unwrap();
    a.keep_up().await;
    assert!(a.next_unsent().is_none(), "it still sees the same");
    b.resolve(&key);
    b.raise(certificate());
    b.save().await.unwrap();
    a.keep_up().await;
    send(&a).await;
}

#[tokio::test]
async fn each_tells_that_the_store_fails() {
    let Some((a, b, _server)) = two().await else {
        return;
    };
    for ledger in [&a, &b] {
        ledger.raise(Event::state_failing());
        ledger.save().await.unwrap();
        assert!(ledger.can_write().await);
        send(ledger).await;
        assert!(ledger.next_unsent().is_none());
    }
    assert_eq!(a.store.notices().await, Ok(Vec::new()));
}

#[tokio::test]
async fn a_trial_of_another_version_is_replaced() {
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
    let ledger = Ledger::open(store.clone(), true).await;
    store
        .set_notice(TRIAL, None, Some(b"of another version"))
        .await
        .unwrap();
    for _ in 0..2 {
        assert!(ledger.can_write().await);
        assert_eq!(store.notices().await, Ok(Vec::new()), "nothing stays behind");
    }
}

#[tokio::test]
async fn any_number_of_events_may_have_been_begun_by_another() {
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
    let a = Ledger::open(store.clone(), true).await;
    let b = Ledger::open(store, true).await;
    for (ledger, since) in [(&a, 100), (&b, 200)] {
        for number in 0..3 * ATTEMPTS {
            let file = format!("/{number}.pem");
            let event = Event::certificate_ending(file.as_ref(), "certificate ends");
            assert!(ledger.book().raise(event, since));
        }
        assert_eq!(ledger.save().await, Ok(()));
    }
    b.read(|book| assert!(book.is_saved() && book.unsent().all(|record| record.since == 100)));
}

#[tokio::test]
async fn failed_logins_do_not_make_gateways_read_all_consents_of_a_shared_store() {
    let alone = Ledger::open(Arc::new(MemoryStore::default()), true).await;
    assert!(alone.checks_consents(true) && alone.checks_consents(false));
    let Some((a, b, _server)) = two().await else {
        return;
    };
    assert!(a.checks_consents(true) && !a.checks_consents(false));
    assert!(!b.checks_consents(true) && !b.checks_consents(false));
}
