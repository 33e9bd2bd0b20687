//! What gateways that share a store exchange, and count together.

use crate::state::{GatewayName, Heard, Seated, Seats, StateStore, UpstreamUser};

for_every_shared_store! {
    each_hears_what_the_others_have_said_since_it_last_heard,
    what_is_said_is_forgotten_in_the_end,
    connections_of_all_gateways_count_together,
    connections_of_dead_gateways_do_not_count,
}

const A: GatewayName = [1; 16];
const B: GatewayName = [2; 16];
const C: GatewayName = [3; 16];

const EVA: UpstreamUser<'static> = UpstreamUser {
    upstream: "home",
    server: "imap.example.org:993",
    user: "eva",
};

async fn each_hears_what_the_others_have_said_since_it_last_heard(store: &dyn StateStore) {
    let say = async |gateway: &GatewayName, position: Option<&str>, words: Option<&str>| -> Heard {
        let heard = store.confer(gateway, position, words.map(str::as_bytes)).await;
        heard.unwrap()
    };
    let first = say(&A, None, Some("before")).await;
    assert_eq!(first.alive, [A]);
    let begun = say(&B, None, None).await;
    assert_eq!(begun.words, [b""; 0], "not what was said before");
    let mut alive = begun.alive;
    alive.sort();
    assert_eq!(alive, [A, B]);
    say(&A, Some(&first.position), Some("one")).await;
    say(&A, Some(&first.position), Some("two")).await;
    let heard = say(&B, Some(&begun.position), Some("three")).await;
    assert_eq!(heard.words, [b"one", b"two"]);
    let again = say(&B, Some(&heard.position), None).await;
    assert_eq!(again.words, [b""; 0]);
    assert_eq!(
        say(&B, Some(&begun.position), None).await.words,
        [b"one", b"two"],
        "if the answer was lost"
    );
    assert_eq!(
        say(&A, Some(&first.position), None).await.words,
        [b"three"],
        "not its own"
    );
}

async fn what_is_said_is_forgotten_in_the_end(store: &dyn StateStore) {
    let start = store.confer(&A, None, None).await.unwrap().position;
    for _ in 0..2000 {
        store.confer(&B, Some("0-0"), Some(&[7; 100])).await.unwrap();
    }
    let mut kept = 0;
    let mut position = start;
    loop {
        let heard = store.confer(&A, Some(&position), None).await.unwrap();
        if heard.words.is_empty() {
            break;
        }
        kept += heard.words.len();
        position = heard.position;
    }
    assert!((500..=700).contains(&kept), "{kept}");
}

/// Asks for `count` connections of `gateway`, if all gateways may have three.
async fn seat(store: &dyn StateStore, gateway: &GatewayName, count: usize, alive: &[GatewayName]) -> Seated {
    let seats = Seats {
        user: EVA,
        gateway,
        count,
        limit: 3,
        alive,
        is_complete: false,
    };
    store.seat(seats).await.unwrap()
}

async fn connections_of_all_gateways_count_together(store: &dyn StateStore) {
    let all = [A, B, C];
    let seat = async |gateway, count| seat(store, gateway, count, &all).await;
    assert_eq!(seat(&A, 1).await, Seated::Yes);
    assert_eq!(seat(&A, 2).await, Seated::Yes);
    assert_eq!(seat(&A, 2).await, Seated::Yes, "said twice");
    assert_eq!(seat(&B, 2).await, Seated::Full(vec![A]));
    assert_eq!(seat(&B, 1).await, Seated::Yes);
    let Seated::Full(mut others) = seat(&C, 1).await else {
        panic!()
    };
    others.sort();
    assert_eq!(others, [A, B]);
    assert_eq!(seat(&A, 1).await, Seated::Yes, "fewer");
    assert_eq!(seat(&C, 1).await, Seated::Yes);
    for gateway in &all {
        assert_eq!(seat(gateway, 0).await, Seated::Yes);
    }
    assert_eq!(seat(&B, 3).await, Seated::Yes);
    let other = Seats {
        user: UpstreamUser { user: "ida", ..EVA },
        gateway: &A,
        count: 3,
        limit: 3,
        alive: &all,
        is_complete: true,
    };
    assert_eq!(store.seat(other).await.unwrap(), Seated::Yes, "another user");
}

async fn connections_of_dead_gateways_do_not_count(store: &dyn StateStore) {
    assert_eq!(seat(store, &A, 3, &[A]).await, Seated::Yes);
    assert_eq!(
        seat(store, &B, 1, &[B]).await,
        Seated::Unknown,
        "it may be new, and not dead"
    );
    let certain = Seats {
        user: EVA,
        gateway: &B,
        count: 3,
        limit: 3,
        alive: &[B],
        is_complete: true,
    };
    assert_eq!(store.seat(certain).await.unwrap(), Seated::Yes);
    assert_eq!(seat(store, &A, 1, &[A, B]).await, Seated::Full(vec![B]));
}
