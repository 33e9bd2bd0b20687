//! Gateways that count together, over a real server.

use std::sync::Mutex;

use super::*;
use crate::state::tests::server::{Program, Server, key};

const EVA: UpstreamUser<'static> = UpstreamUser {
    upstream: "home",
    server: "imap.example.org:993",
    user: "eva",
};

/// A gateway, and the words that it has heard.
struct Member {
    quotas: Quotas,
    outbox: Outbox,
    position: Option<String>,
    heard: Mutex<Vec<Word>>,
}

impl Member {
    async fn new(store: &Arc<dyn StateStore>, key: Option<&Secret>) -> Self {
        let (quotas, outbox) = Quotas::join(store, key).unwrap().unwrap();
        let mut member = Self {
            quotas,
            outbox,
            position: None,
            heard: Mutex::default(),
        };
        member.beat().await;
        member
    }

    async fn beat(&mut self) -> Vec<Word> {
        let hear = |word| self.heard.lock().unwrap().push(word);
        self.position = self.quotas.beat(&mut self.outbox, self.position.take(), &hear).await;
        std::mem::take(&mut self.heard.lock().unwrap())
    }
}

async fn shared(server: &Server) -> Arc<dyn StateStore> {
    Arc::new(server.store().await)
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
    let Some(server) = Server::start(Program::Redis, &[]) else {
        return;
    };
    let (store, key) = (shared(&server).await, key());
    let (mut a, mut b) = (
        Member::new(&store, key.as_ref()).await,
        Member::new(&store, key.as_ref()).await,
    );
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
    let Some(server) = Server::start(Program::Redis, &[]) else {
        return;
    };
    let (store, key) = (shared(&server).await, key());
    let [mut a, mut b, mut c] = [
        Member::new(&store, key.as_ref()).await,
        Member::new(&store, key.as_ref()).await,
        Member::new(&store, key.as_ref()).await,
    ];
    // `a` has not heard of the others yet.
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
    let Some(server) = Server::start(Program::Redis, &[]) else {
        return;
    };
    let (store, key) = (shared(&server).await, key());
    let (mut a, mut b) = (
        Member::new(&store, key.as_ref()).await,
        Member::new(&store, key.as_ref()).await,
    );
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
    assert_eq!((heard, seat), (vec![], Seat::Unknown));
    assert_eq!(b.position, position, "it goes on where it was");
}

#[test]
fn words_of_a_later_version_end_what_is_understood() {
    let (words, mut outbox) = mpsc::channel(WAITING);
    let mut outbox = {
        words.try_send(failure(1)).unwrap();
        outbox.close();
        Outbox(outbox)
    };
    let mut told = outbox.take();
    told.push(200);
    let (word, rest) = postcard::take_from_bytes::<Word>(&told).unwrap();
    assert_eq!((word, rest), (failure(1), &[200][..]));
    assert!(postcard::take_from_bytes::<Word>(rest).is_err());
}
