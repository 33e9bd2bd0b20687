//! Shared state if servers fail, are replaced, or have settings that do not suit.

mod model;

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream as Socket},
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::*;
use crate::{
    free_port::free_port,
    state::{
        Mailboxes, Marks, Past,
        tests::{
            directory, index as long_index,
            server::{Program, Server, key, open},
        },
    },
};

const BOTH: [Program; 2] = [Program::Redis, Program::Valkey];

fn mailbox(user: &str) -> MailboxName {
    MailboxName {
        upstream: "home".into(),
        user: user.into(),
        folder: "INBOX".into(),
    }
}

fn hides(uid: u32) -> Marks {
    Marks {
        uid_validity: 7,
        hidden: [uid].into(),
        ..Marks::default()
    }
}

fn consent() -> Consent {
    Consent {
        upstream: "home".into(),
        name: "eva".into(),
    }
}

fn holding(name: u8) -> Holding {
    Holding {
        mailbox: mailbox("eva").into(),
        login: "pbx".into(),
        is_private: false,
        name: [name; 16],
    }
}

/// Sends a command in one line. Returns the server's answer as it is on the wire, when the connection is closed.
fn say(port: u16, command: &str) -> String {
    let mut socket = Socket::connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.write_all(format!("{command}\r\n").as_bytes()).unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

/// Repeats a command until its answer has `expected`.
fn wait_for(port: u16, command: &str, expected: &str) {
    let begun = Instant::now();
    loop {
        let answer = say(port, command);
        if answer.contains(expected) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{command}: {answer}");
        // Another process must do something first, and sends no event.
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn replica_of(primary: &Server) -> Server {
    let address = format!("127.0.0.1 {}", primary.port);
    let replica = primary.beside(|_| vec!["--replicaof".into(), address.clone()]);
    wait_for(replica.port, "INFO replication", "master_link_status:up");
    replica
}

fn options(url: &str) -> SharedState {
    SharedState::of(url)
}

async fn error(options: SharedState) -> String {
    match ValkeyStore::open(options, key()).await {
        Ok(_) => "none".into(),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn a_failover_of_sentinels_loses_nothing_that_was_confirmed() {
    for program in BOTH {
        let Some(primary) = Server::start(program, &[]) else {
            continue;
        };
        let replica = replica_of(&primary);
        let sentinels: Vec<Server> = (0..3).map(|_| primary.sentinel(2)).collect();
        for sentinel in &sentinels {
            wait_for(sentinel.port, "INFO sentinel", "slaves=1,sentinels=3");
        }
        let addresses: Vec<String> = sentinels.iter().map(Server::address).collect();
        let url = format!("redis+sentinel://127.0.0.1:1,{}/popgate", addresses.join(","));
        let store = SharedState {
            replicas: 1,
            ..options(&url)
        };
        let store = ValkeyStore::open(store, key()).await.unwrap();
        assert!(matches!(store.enter(&holding(1), None).await, Ok(Entered::New(_))));
        for user in 0..20 {
            store
                .set_marks("pbx", &mailbox(&user.to_string()), &hides(user), 0)
                .await
                .unwrap();
        }
        drop(primary);
        // Like every login, this waits until the replica has taken over.
        for user in 0..20 {
            let marks = store.marks("pbx", &mailbox(&user.to_string())).await;
            assert_eq!(marks, Ok(hides(user)), "{program:?}");
        }
        wait_for(replica.port, "INFO replication", "role:master");
        let held = store.extend(&[&holding(1)]).await;
        assert!(
            matches!(held[..], [Renewed::Held | Renewed::Free]),
            "the lock, or nobody's: {held:?}"
        );
        let unconfirmed = store.set_marks("pbx", &mailbox("0"), &hides(99), 7).await;
        assert_eq!(unconfirmed, Err(Unavailable::Failed), "there is no replica any more");
    }
}

/// All connections are dead then, and the first request that notices this may use any of them.
#[tokio::test]
async fn a_primary_that_restarts_before_its_sentinels_notice_is_found_again() {
    for program in BOTH {
        let Some(mut primary) = Server::start(program, &[]) else {
            continue;
        };
        let _replica = replica_of(&primary);
        // One Sentinel alone cannot have a quorum of two, so it names the same primary for ever.
        let sentinel = primary.sentinel(2);
        let url = format!("redis+sentinel://{}/popgate", sentinel.address());
        let mut stores = Vec::new();
        for replicas in [0, 1] {
            let store = SharedState {
                replicas,
                ..options(&url)
            };
            let store = ValkeyStore::open(store, key()).await.unwrap();
            store.set_token(&consent(), None, Some(b"one")).await.unwrap();
            stores.push(store);
        }
        primary.restart();
        wait_for(primary.port, "INFO replication", "state=online");
        for store in stores {
            let set = store.set_token(&consent(), None, Some(b"one")).await;
            assert_eq!(set, Ok(()), "{program:?}, {} replicas", store.0.options.replicas);
            assert_eq!(store.token(&consent()).await, Ok(Some(b"one".to_vec())));
        }
    }
}

/// The servers accept connections and never answer.
#[tokio::test]
async fn callers_do_not_queue_for_servers_that_do_not_answer() {
    let silent: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let addresses: Vec<String> = silent
        .iter()
        .map(|listener| listener.local_addr().unwrap().to_string())
        .collect();
    let store = ValkeyStore::visit(options(&format!("redis+sentinel://{}/popgate", addresses.join(",")))).unwrap();
    let asking = (0..20).map(|user| {
        let store = store.clone();
        async move { store.marks("pbx", &mailbox(&user.to_string())).await }
    });
    // A request is given up after 10 seconds. One after the other, they would take minutes.
    let answers = tokio::time::timeout(Duration::from_secs(20), join_all(asking)).await;
    for answer in answers.expect("the requests end together") {
        assert_eq!(answer, Err(Unavailable::Failed));
    }
}

/// The settings of a node. Nodes talk to each other at a port of their own.
fn in_cluster() -> [String; 4] {
    ["--cluster-enabled", "yes", "--cluster-port", &free_port().to_string()].map(str::to_owned)
}

/// Makes two nodes of one cluster know each other.
fn meet(one: &Server, other: &Server) {
    let answer = say(other.port, "CONFIG GET cluster-port");
    let port = answer.lines().nth(4).unwrap();
    let meet = format!("CLUSTER MEET 127.0.0.1 {} {port}", other.port);
    assert!(say(one.port, &meet).starts_with("+OK"));
}

/// Three nodes, each with a third of the slots.
fn cluster(program: Program) -> Option<[Server; 3]> {
    let first = Server::start(program, &in_cluster().each_ref().map(String::as_str))?;
    let another = || first.beside(|_| in_cluster().into());
    let (second, third) = (another(), another());
    let nodes = [first, second, third];
    for (node, range) in nodes.iter().zip(["0 5460", "5461 10922", "10923 16383"]) {
        assert!(say(node.port, &format!("CLUSTER ADDSLOTSRANGE {range}")).starts_with("+OK"));
        if node.port != nodes[0].port {
            meet(&nodes[0], node);
        }
    }
    for node in &nodes {
        wait_for(node.port, "CLUSTER INFO", "cluster_known_nodes:3");
        wait_for(node.port, "CLUSTER INFO", "cluster_state:ok");
    }
    Some(nodes)
}

#[tokio::test]
async fn a_cluster_of_three_nodes_has_all_records() {
    for program in BOTH {
        let Some(nodes) = cluster(program) else { continue };
        let store = open(&format!("redis-cluster://127.0.0.1:1,{}", nodes[1].address())).await;
        for user in 0..30 {
            let mailbox = mailbox(&user.to_string());
            store.set_marks("pbx", &mailbox, &hides(user), 0).await.unwrap();
            let holding = Holding {
                mailbox: mailbox.clone().into(),
                ..holding(1)
            };
            assert!(matches!(store.enter(&holding, None).await, Ok(Entered::New(_))));
            store.leave(&holding, Some(Index::default().into())).await.unwrap();
            assert_eq!(store.index(&mailbox).await, Some(Index::default().into()));
        }
        let consent = Consent {
            upstream: "home".into(),
            name: "eva".into(),
        };
        store.set_token(&consent, None, Some(b"one")).await.unwrap();
        assert_eq!(store.token(&consent).await, Ok(Some(b"one".to_vec())));
        assert_eq!(store.all_marks().await.unwrap().len(), 30);
        let mut count = 0;
        let mut parts = store.parts().await.unwrap();
        while let Some(some) = Some(parts.next().await.unwrap()).filter(|some| !some.is_empty()) {
            count += some.len();
        }
        assert_eq!(count, 30 + 30 + 1);
        for node in &nodes {
            let size = say(node.port, "DBSIZE");
            assert!(!size.starts_with(":0"), "{program:?}: each has some");
        }
    }
}

/// Begins to move `slot` to another node: the node that had it answers ASK for a key that it does not have. Returns
/// which node had the slot and which node is to have it.
fn begin_to_move(nodes: &[Server; 3], slot: u16) -> (usize, usize) {
    let had = usize::from(slot > 5460) + usize::from(slot > 10_922);
    let has = (had + 1) % 3;
    let (from, to) = (id(&nodes[had]), id(&nodes[has]));
    say(nodes[has].port, &format!("CLUSTER SETSLOT {slot} IMPORTING {from}"));
    say(nodes[had].port, &format!("CLUSTER SETSLOT {slot} MIGRATING {to}"));
    (had, has)
}

/// The name of a node of a cluster.
fn id(node: &Server) -> String {
    let answer = say(node.port, "CLUSTER MYID");
    answer.lines().nth(1).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_write_to_a_slot_that_moves_waits_for_replicas_too() {
    for program in BOTH {
        let Some(nodes) = cluster(program) else { continue };
        let url = format!("redis-cluster://{}", nodes[0].address());
        let store = SharedState {
            replicas: 1,
            ..options(&url)
        };
        let store = ValkeyStore::open(store, key()).await.unwrap();
        let token = store.0.keys.token(&consent());
        let (_, has) = begin_to_move(&nodes, keys::slot(&token));
        let set = store.set_token(&consent(), None, Some(b"one")).await;
        assert_eq!(set, Err(Unavailable::Failed), "{program:?}: there is no replica");
        let replica = nodes[has].beside(|_| in_cluster().into());
        meet(&replica, &nodes[has]);
        // It is refused until the nodes know each other.
        wait_for(replica.port, &format!("CLUSTER REPLICATE {}", id(&nodes[has])), "+OK");
        wait_for(nodes[has].port, "INFO replication", "state=online");
        assert_eq!(
            store.set_token(&consent(), None, Some(b"one")).await,
            Ok(()),
            "{program:?}"
        );
    }
}

/// The store knows which node had a slot. That node tells it which node has the slot now.
#[tokio::test]
async fn slots_that_move_are_followed() {
    for program in BOTH {
        let Some(nodes) = cluster(program) else { continue };
        let store = open(&format!("redis-cluster://{}", nodes[0].address())).await;
        let eva = mailbox("eva");
        assert_eq!(store.marks("pbx", &eva).await, Ok(Marks::default()));
        let slot = keys::slot(&store.0.keys.mailbox(&eva));
        // First the slot is being moved: the store must ask the other node for a key that has been moved already.
        let (had, has) = begin_to_move(&nodes, slot);
        let to = id(&nodes[has]);
        assert_eq!(store.marks("pbx", &eva).await, Ok(Marks::default()));
        store.set_marks("pbx", &eva, &hides(1), 0).await.unwrap();
        for node in [has, had, 3 - had - has] {
            say(nodes[node].port, &format!("CLUSTER SETSLOT {slot} NODE {to}"));
        }
        assert_eq!(store.marks("pbx", &eva).await, Ok(hides(1)));
        store.set_marks("pbx", &eva, &hides(2), 7).await.unwrap();
        let key = String::from_utf8(store.0.keys.mailbox(&eva)).unwrap();
        assert!(say(nodes[has].port, &format!("EXISTS {key}")).starts_with(":1"));
    }
}

#[tokio::test]
async fn a_server_that_stops_for_a_moment_is_waited_for() {
    let Some(server) = Server::start(Program::Redis, &[]) else {
        return;
    };
    let store = server.store().await;
    store.set_marks("pbx", &mailbox("eva"), &hides(1), 0).await.unwrap();
    server.signal("STOP");
    let asking = tokio::spawn({
        let store = store.clone();
        async move { store.marks("pbx", &mailbox("eva")).await }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!asking.is_finished());
    server.signal("CONT");
    assert_eq!(asking.await.unwrap(), Ok(hides(1)));
    // If the server closes connections, new ones are made.
    say(server.port, "CLIENT KILL TYPE normal SKIPME yes");
    assert_eq!(store.marks("pbx", &mailbox("eva")).await, Ok(hides(1)));
    assert!(!store.has_failed());
    // The server may forget the scripts.
    say(server.port, "SCRIPT FLUSH");
    store.set_marks("pbx", &mailbox("eva"), &hides(2), 7).await.unwrap();
}

#[tokio::test]
async fn what_must_not_be_lost_waits_for_replicas() {
    for program in BOTH {
        let Some(primary) = Server::start(program, &[]) else {
            continue;
        };
        let url = format!("redis://{}", primary.address());
        let store = SharedState {
            replicas: 1,
            ..options(&url)
        };
        let store = ValkeyStore::open(store, key()).await.unwrap();
        let eva = mailbox("eva");
        assert_eq!(
            store.set_marks("pbx", &eva, &hides(1), 0).await,
            Err(Unavailable::Failed)
        );
        assert!(store.has_failed());
        store.set_index(&eva, Index::default().into()).await;
        let saved = store.index(&eva).await;
        assert_eq!(saved, Some(Index::default().into()), "an index waits for nobody");
        assert!(store.has_failed(), "logins that hide messages still fail");
        // The primary has this record already, from the write that no replica has confirmed. So only the confirmation is
        // missing.
        assert_eq!(
            store.set_marks("pbx", &eva, &hides(1), 7).await,
            Err(Unavailable::Failed)
        );
        let _replica = replica_of(&primary);
        store.set_marks("pbx", &eva, &hides(1), 7).await.unwrap();
        let unconfirmed = store.0.unconfirmed.of(&store.0.keys.mailbox(&eva));
        assert!(unconfirmed.is_none(), "{unconfirmed:?}");
        let writing = (0..50).map(|user| {
            let store = store.clone();
            async move {
                store
                    .set_marks("pbx", &mailbox(&user.to_string()), &hides(user), 0)
                    .await
            }
        });
        for written in join_all(writing).await {
            written.unwrap();
        }
        assert!(!store.has_failed());
    }
}

#[tokio::test]
async fn a_user_with_a_password_is_asked_for_it() {
    for program in BOTH {
        let settings = [
            "--user",
            "default",
            "off",
            "--user",
            "popgate",
            "on",
            ">hunter2",
            "~popgate:*",
            "+@all",
        ];
        let Some(server) = Server::start(program, &settings) else {
            continue;
        };
        let url = format!("redis://popgate@{}", server.address());
        let with = |password: &str| SharedState {
            password: Some(password.into()),
            ..options(&format!("redis://{}", server.address()))
        };
        let of_user = |password: &str| {
            let mut options = with(password);
            options.url.user = Some("popgate".into());
            options
        };
        ValkeyStore::open(of_user("hunter2"), key()).await.unwrap();
        let wrong = error(of_user("hunter3")).await;
        assert!(wrong.starts_with(&format!("state.url: {url}: ")), "{wrong}");
        assert!(
            wrong.contains("check the user in `url` of [state]") && !wrong.contains("hunter"),
            "{wrong}"
        );
        let none = error(options(&format!("redis://{}", server.address()))).await;
        assert!(none.contains("check the user in `url` of [state]"), "{none}");
        let mut elsewhere = of_user("hunter2");
        elsewhere.prefix = "other".into();
        let refused = error(elsewhere).await;
        assert!(
            refused.contains("let the ACL user of `url` in [state] use all keys under `prefix`"),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn tls_is_spoken_with_a_server_whose_certificate_is_known() {
    let dir = directory();
    let file = |name: &str| dir.path().join(name);
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let server_key = KeyPair::generate().unwrap();
    let parameters = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = parameters.signed_by(&server_key, &Issuer::new(ca, ca_key)).unwrap();
    std::fs::write(file("ca.pem"), ca_certificate.pem()).unwrap();
    std::fs::write(file("server.pem"), certificate.pem()).unwrap();
    std::fs::write(file("server.key"), server_key.serialize_pem()).unwrap();
    let path = |name: &str| file(name).display().to_string();
    let Some(plain) = Server::start(Program::Redis, &[]) else {
        return;
    };
    let server = plain.beside(|port| {
        let settings = [
            ("--port", "0".to_owned()),
            ("--tls-port", port.to_string()),
            ("--tls-cert-file", path("server.pem")),
            ("--tls-key-file", path("server.key")),
            ("--tls-ca-cert-file", path("ca.pem")),
            ("--tls-auth-clients", "no".to_owned()),
        ];
        settings
            .into_iter()
            .flat_map(|(name, value)| [name.to_owned(), value])
            .collect()
    });
    let url = format!("rediss://localhost:{}", server.port);
    let trusting = SharedState {
        ca_file: Some(file("ca.pem")),
        ..options(&url)
    };
    let store = ValkeyStore::open(trusting, key()).await.unwrap();
    store.set_marks("pbx", &mailbox("eva"), &hides(1), 0).await.unwrap();
    assert_eq!(store.marks("pbx", &mailbox("eva")).await, Ok(hides(1)));
}

#[tokio::test]
async fn servers_and_gateways_that_do_not_suit_are_refused() {
    for program in BOTH {
        let Some(evicting) = Server::start(program, &["--maxmemory-policy", "allkeys-lru"]) else {
            continue;
        };
        let url = |server: &Server| format!("redis://{}", server.address());
        let evicts = error(options(&url(&evicting))).await;
        assert!(evicts.ends_with("set maxmemory-policy noeviction there"), "{evicts}");
        let server = evicting.beside(|_| Vec::new());
        let lazy = SharedState {
            fsync: true,
            ..options(&url(&server))
        };
        let lazy = error(lazy).await;
        assert!(
            lazy.contains("set appendonly yes and appendfsync always there"),
            "{lazy}"
        );
        let replica = replica_of(&server);
        let replica = error(options(&url(&replica))).await;
        assert!(replica.contains("is a replica and takes no writes"), "{replica}");
        let named = |name: &str| SharedState {
            replica: name.into(),
            ..options(&url(&server))
        };
        ValkeyStore::open(named("a"), key()).await.unwrap();
        ValkeyStore::open(named("b"), key()).await.unwrap();
        let other = ValkeyStore::open(named("c"), Some("x".repeat(40).as_str().into())).await;
        let other = other.unwrap_err().to_string();
        assert!(other.contains("the gateway \"a\" has another key"), "{other}");
        assert!(say(server.port, "HEXISTS popgate:replicas c").starts_with(":0"));
        assert!(say(server.port, "HEXISTS popgate:replicas a").starts_with(":1"));
        let announced = || say(server.port, "HGET popgate:replicas a");
        let before = announced();
        let second = ValkeyStore::open(named("a"), Some("x".repeat(40).as_str().into())).await;
        let second = second.unwrap_err().to_string();
        assert!(second.contains("the gateway \"b\" has another key"), "{second}");
        assert_eq!(announced(), before, "the first gateway of this name runs");
    }
}

#[tokio::test]
async fn gateways_with_different_keys_are_refused_even_if_they_start_together() {
    for program in BOTH {
        let Some(server) = Server::start(program, &[]) else {
            continue;
        };
        let start = async |name: &str, key: &str| {
            let options = SharedState {
                replica: name.into(),
                ..options(&format!("redis://{}", server.address()))
            };
            ValkeyStore::open(options, Some(key.into())).await
        };
        let (one, other) = ("x".repeat(40), "y".repeat(40));
        let started = tokio::join!(start("a", &one), start("b", &other));
        assert!(started.0.is_err() || started.1.is_err(), "{program:?}");
    }
}

/// The answer to a request may have been lost, and the time of the locks nearly over.
#[tokio::test]
async fn who_takes_a_maildrop_again_holds_it_for_a_whole_lease() {
    for program in BOTH {
        let Some(server) = Server::start(program, &[]) else {
            continue;
        };
        let store = server.store().await;
        let locks = store.0.keys.held(&holding(1)).locks;
        let name = |lock: &[u8]| String::from_utf8(lock.to_vec()).unwrap();
        for lost in [vec![], vec![&locks[0]], vec![&locks[1]]] {
            assert!(!matches!(store.enter(&holding(1), None).await, Ok(Entered::Busy)));
            for lock in &locks {
                say(server.port, &format!("PEXPIRE {} 5000", name(lock)));
            }
            for lock in lost {
                say(server.port, &format!("DEL {}", name(lock)));
            }
            assert!(!matches!(store.enter(&holding(1), None).await, Ok(Entered::Busy)));
            for lock in &locks {
                let left = say(server.port, &format!("PTTL {}", name(lock)));
                let left: u128 = left.trim_matches([':', '\r', '\n']).parse().unwrap();
                assert!(left > 10_000, "{program:?}: {left}");
            }
            store.leave(&holding(1), None).await.unwrap();
        }
    }
}

/// An index that is too large for the request that gives the maildrop up is saved before.
#[tokio::test]
async fn a_large_index_is_saved_only_by_the_holder_and_keeps_no_lock() {
    for program in BOTH {
        let Some(server) = Server::start(program, &[]) else {
            continue;
        };
        let store = server.store().await;
        let eva = mailbox("eva");
        let enter = async |name| store.enter(&holding(name), None).await;
        let is_free = |answer: Result<Entered, Unavailable>| matches!(answer, Ok(Entered::New(_)));

        assert!(is_free(enter(1).await));
        for lock in store.0.keys.held(&holding(1)).locks {
            say(server.port, &format!("DEL {}", String::from_utf8(lock).unwrap()));
        }
        assert!(is_free(enter(2).await));
        store.leave(&holding(1), Some(long_index(100_000))).await.unwrap();
        assert_eq!(store.index(&eva).await, None, "{program:?}: the maildrop was lost");
        store.leave(&holding(2), Some(long_index(100_000))).await.unwrap();
        assert_eq!(store.index(&eva).await, Some(long_index(100_000)));

        assert!(is_free(enter(3).await));
        say(server.port, "ACL SETUSER default -type");
        store.leave(&holding(3), Some(long_index(100_001))).await.unwrap();
        say(server.port, "ACL SETUSER default +type");
        assert!(is_free(enter(4).await), "{program:?}");
        assert_eq!(store.index(&eva).await, Some(long_index(100_000)), "was not saved");
    }
}

/// A damaged record counts as missing, as in a file. Damaged marks are an error, and are not overwritten.
#[tokio::test]
async fn damaged_records_are_replaced_and_damaged_marks_are_not() {
    let Some(server) = Server::start(Program::Redis, &[]) else {
        return;
    };
    let store = server.store().await;
    let eva = mailbox("eva");
    store.set_past(&eva, &Past::of(7)).await.unwrap();
    store.set_marks("pbx", &eva, &hides(1), 0).await.unwrap();
    let hash = String::from_utf8(store.0.keys.mailbox(&eva)).unwrap();
    assert!(say(server.port, &format!("HSET {hash} p damaged k:pbx damaged")).starts_with(":0"));
    assert_eq!(store.past(&eva).await, Ok(Past::default()));
    store.set_past(&eva, &Past::of(8)).await.unwrap();
    assert_eq!(store.past(&eva).await, Ok(Past::of(8)));
    assert_eq!(store.marks("pbx", &eva).await, Err(Unavailable::Damaged));
    assert_eq!(
        store.set_marks("pbx", &eva, &hides(2), 7).await,
        Err(Unavailable::Damaged)
    );
    assert_eq!(store.clear_marks("pbx", None).await, Ok(1));
    assert_eq!(store.marks("pbx", &eva).await, Ok(Marks::default()));
    // When the last record of a mailbox is removed, its key is removed too.
    let mut none = store.kept(&eva, Whose::All).await.unwrap();
    let before = none.clone();
    none.past = Past::default();
    store.replace(&eva, before.replacement(&none)).await.unwrap();
    assert!(say(server.port, &format!("EXISTS {hash}")).starts_with(":0"));
    let index = Index {
        entries: [(1, 1)].into(),
        ..Index::default()
    };
    store.set_index(&eva, index.into()).await;
    assert!(say(server.port, &format!("APPEND {hash}:i x")).starts_with(':'));
    assert_eq!(store.index(&eva).await, None);
}

#[tokio::test]
async fn a_damaged_notice_is_replaced() {
    let Some(server) = Server::start(Program::Redis, &[]) else {
        return;
    };
    let store = server.store().await;
    let hash = String::from_utf8(store.0.keys.notices()).unwrap();
    assert!(say(server.port, &format!("HSET {hash} a damaged")).starts_with(":1"));
    assert_eq!(store.notice("a").await, Ok(None));
    let follows = store.set_notice("a", Some(b"one"), Some(b"two")).await;
    assert_eq!(follows, Err(Unavailable::Changed));
    store.set_notice("a", None, Some(b"new")).await.unwrap();
    assert_eq!(store.notice("a").await, Ok(Some(b"new".to_vec())));
}
