//! Sealed tokens of consents.

use crate::state::{Consent, StateStore, Unavailable};

for_every_store! {
    a_token_is_kept_as_it_was_given,
    a_token_follows_the_one_that_was_read,
    consents_have_tokens_of_their_own,
}

fn consent(upstream: &str, name: &str) -> Consent {
    Consent {
        upstream: upstream.into(),
        name: name.into(),
    }
}

async fn a_token_is_kept_as_it_was_given(store: &dyn StateStore) {
    let consent = consent("home", "eva");
    assert_eq!(store.token(&consent).await, Ok(None));
    // Longer than a piece of the file.
    let sealed: Vec<u8> = (0..20_000u32).map(|n| n as u8).collect();
    store.set_token(&consent, None, Some(&sealed)).await.unwrap();
    assert_eq!(store.token(&consent).await, Ok(Some(sealed.clone())));
    store.set_token(&consent, Some(&sealed), None).await.unwrap();
    assert_eq!(store.token(&consent).await, Ok(None));
}

async fn a_token_follows_the_one_that_was_read(store: &dyn StateStore) {
    let consent = consent("home", "eva");
    store.set_token(&consent, None, Some(b"one")).await.unwrap();
    for followed in [None, Some(&b"zero"[..])] {
        let late = store.set_token(&consent, followed, Some(b"late")).await;
        assert_eq!(late, Err(Unavailable::Changed));
        let late = store.set_token(&consent, followed, None).await;
        assert_eq!(late, Err(Unavailable::Changed));
    }
    store.set_token(&consent, Some(b"one"), Some(b"two")).await.unwrap();
    assert_eq!(store.token(&consent).await, Ok(Some(b"two".to_vec())));
}

async fn consents_have_tokens_of_their_own(store: &dyn StateStore) {
    let (eva, other) = (consent("home", "eva"), consent("work", "eva"));
    store.set_token(&eva, None, Some(b"eva's")).await.unwrap();
    store.set_token(&other, None, Some(b"other")).await.unwrap();
    // Tokens are not listed among the marks.
    assert_eq!(store.all_marks().await, Ok(Vec::new()));
    assert_eq!(store.clear_marks("eva", None).await, Ok(0));
    assert_eq!(store.token(&eva).await, Ok(Some(b"eva's".to_vec())));
    assert_eq!(store.token(&other).await, Ok(Some(b"other".to_vec())));
}
