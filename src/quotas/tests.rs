//! Gateways that count together, over a real server.

use super::*;
use crate::state::tests::server::{Program, Server, key};

const EVA: UpstreamUser<'static> = UpstreamUser {
    upstream: "home",
    server: "imap.example.org:993",
    user: "eva",
};

/// A gateway, and the position up to which it has read words.
struct Member {
    quotas: Quotas,
    position: Option<String>,
}

impl Member {
    async fn new(store: &Arc<dyn StateStore>, key: Option<&Secret>) -> Self {
        let mut member = Self {
            quotas: Quotas::join(store, key).unwrap().unwrap(),
            position: None,
        };
        member.beat().await;
        member
    }

    async fn beat(&mut self) -> Vec<Word> {
        let heard = std::sync::Mutex::new(Vec::new());
        let hear = |word| heard.lock().unwrap().push(word);
        self.position = self.quotas.beat(self.position.take(), &hear).await;
        heard.into_inner().unwrap()
    }
}

/// `N` gateways with the same key, which have joined one after the other, the server that they share, and its store.
/// `None` if there is no server.
async fn members<const N: usize>() -> Option<([Member; N], Server, Arc<dyn StateStore>)> {
    let server = Server::start(Program::Redis, &[])?;
    let store: Arc<dyn StateStore> = Arc::new(server.store().await);
    let mut members = Vec::new();
    for _ in 0..N {
        members.push(Member::new(&store, key().as_ref()).await);
    }
    Some((members.try_into().ok()?, server, store))
}

fn failure(number: u32) -> Word {
    Word::Failure {
        login: format!("login{number}").into_bytes(),
        address: [127, 0, 0, 1].into(),
    }
}

#[tokio::test]
async fn a_gateway_alone_counts_alone() {
    let store: Arc<dyn StateStore> = Arc::new(crate::state::MemoryStore::default());
    assert!(Quotas::join(&store, None).unwrap().is_none());
}

#[tokio::test]
async fn words_reach_the_others_who_have_the_same_key() {
    let Some(([mut a, mut b], _server, store)) = members().await else {
        return;
    };
    let mut stranger = Member::new(&store, Some(&Secret::from("another key"))).await;
    let pause = Word::Pause {
        upstream: "home".into(),
        user: "eva".into(),
        is_guess: true,
        length: Duration::from_millis(1500),
    };
    a.quotas.tell(failure(1));
    a.quotas.tell(pause.clone());
    assert_eq!(a.beat().await, []);
    assert_eq!(b.beat().await, [failure(1), pause]);
    assert_eq!(b.beat().await, [], "once");
    assert_eq!(stranger.beat().await, []);
}

#[tokio::test]
async fn who_is_asked_to_yield_is_the_only_one_to_hear_it() {
    let Some(([mut a, mut b, mut c], _server, _)) = members().await else {
        return;
    };
    // `a` does not know yet that the others are alive.
    assert_eq!(b.quotas.seat(EVA, 2, 3).await, Seat::Granted);
    assert_eq!(a.quotas.seat(EVA, 1, 3).await, Seat::Granted);
    assert_eq!(a.quotas.seat(EVA, 2, 3).await, Seat::Full(vec![b.quotas.0.name]));
    a.quotas.ask_to_yield(b.quotas.0.name, EVA);
    a.beat().await;
    assert!(matches!(&b.beat().await[..], [Word::Yield { user, .. }] if user == "eva"));
    assert_eq!(c.beat().await, []);
    assert_eq!(b.quotas.seat(EVA, 1, 3).await, Seat::Granted);
    assert_eq!(a.quotas.seat(EVA, 2, 3).await, Seat::Granted);
}

#[tokio::test]
async fn a_flood_is_told_in_part_and_a_failing_store_stops_nobody() {
    let Some(([mut a, mut b], server, _)) = members().await else {
        return;
    };
    for number in 0..100_000 {
        a.quotas.tell(failure(number));
    }
    a.beat().await;
    let heard = b.beat().await.len();
    assert!((100..=WAITING).contains(&heard), "{heard}");
    let position = b.position.clone();
    drop(server);
    let alone = a.quotas.clone();
    a.quotas.tell(failure(1));
    let (_, heard, seat) = tokio::join!(a.beat(), b.beat(), alone.seat(EVA, 1, 3));
    assert_eq!((heard, seat), (vec![], Seat::Uncounted));
    assert_eq!(b.position, position, "it goes on where it was");
}

#[test]
fn words_of_a_later_version_end_what_is_understood() {
    let (words, mut outbox) = mpsc::channel(WAITING);
    words.try_send(failure(1)).unwrap();
    let mut told = waiting(&mut outbox);
    told.push(200);
    let (word, rest) = postcard::take_from_bytes::<Word>(&told).unwrap();
    assert_eq!((word, rest), (failure(1), &[200][..]));
    assert!(postcard::take_from_bytes::<Word>(rest).is_err());
}
