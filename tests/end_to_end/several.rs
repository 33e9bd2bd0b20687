//! Several gateways that share state: each knows what the others have done, and a maildrop is open in one of them only.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use crate::support::{
    PASSWORD,
    answers::Answers,
    gateway::{Gateway, Setup, account},
    mail,
    peer::{Gate, Peer, Step, send},
    pop::Pop,
    redis::Redis,
    require_program,
    web::{self, Web},
};

/// The locks that are held.
fn locks(redis: &Redis) -> Vec<String> {
    let answer = redis.say("KEYS *}:l*");
    answer
        .lines()
        .filter(|line| line.contains(':') && !line.starts_with('*'))
        .map(str::to_owned)
        .collect()
}

/// Gives all locks to a session of another gateway.
fn steal_locks(redis: &Redis) {
    let locks = locks(redis);
    assert_eq!(locks.len(), 2, "of the login and of the mailbox: {locks:?}");
    for lock in locks {
        assert!(redis.say(&format!("SET {lock} thief")).starts_with("+OK"));
    }
}

/// A gateway called `name`, with its state in `redis`.
fn start(redis: &Redis, name: &str, peer: &Peer, maildrop: &str) -> Gateway {
    setup(redis, name, peer).maildrop(maildrop).start()
}

fn setup(redis: &Redis, name: &str, peer: &Peer) -> Setup {
    Setup::new(peer.address())
        .limit("parked_seconds = 60")
        .table(&redis.table(name))
}

fn mailbox() -> Answers {
    Answers::of((1..=5).map(mail::simple))
}

fn try_log_in(gateway: &Gateway) -> (Pop, String) {
    let mut pop = Pop::connect(gateway.address());
    let reply = pop.try_log_in("eva", PASSWORD);
    (pop, reply)
}

#[test]
fn a_maildrop_is_open_in_one_of_them() {
    let Some(redis) = Redis::start() else { return };
    let peer = Peer::start(mailbox());
    let gateways = ["a", "b"].map(|name| start(&redis, name, &peer, ""));
    for round in 0..10 {
        let (here, there) = (&gateways[round % 2], &gateways[(round + 1) % 2]);
        // When QUIT is answered by `+OK`, the device can log in at another gateway at once.
        let pop = Pop::log_in(here.address(), "eva");
        let (_, reply) = try_log_in(there);
        assert!(reply.starts_with("-ERR [IN-USE]"), "{reply}");
        pop.quit();
    }
    assert_eq!(locks(&redis), [""; 0]);
    peer.assert_nothing_removed();
}

#[test]
fn what_one_hides_is_hidden_in_the_others_too() {
    let Some(redis) = Redis::start() else { return };
    let peer = Peer::start(mailbox());
    let gateways = ["a", "b"].map(|name| start(&redis, name, &peer, "on_delete = \"hide\""));
    for (round, left) in [5, 4, 3, 2, 1].into_iter().enumerate() {
        // From the second round on, each gateway has a parked connection, with the snapshot of that time.
        let mut pop = Pop::log_in(gateways[round % 2].address(), "eva");
        assert_eq!(pop.stat().0, left);
        pop.ok("DELE 1");
        pop.quit();
    }
    peer.assert_nothing_removed();
}

#[test]
fn who_has_lost_the_lock_removes_nothing() {
    for maildrop in ["", "on_delete = \"hide\"", "on_delete = \"move:Old\""] {
        let Some(redis) = Redis::start() else { return };
        let peer = Peer::start(mailbox());
        let gateway = start(&redis, "a", &peer, maildrop);
        let mut pop = Pop::log_in(gateway.address(), "eva");
        pop.ok("DELE 2");
        if maildrop.contains("hide") {
            let [lock] = locks(&redis).try_into().unwrap();
            redis.say(&format!("SET {lock} thief"));
        } else {
            steal_locks(&redis);
        }
        // The next renewal of the lease notices the loss, or the next write does.
        gateway.lines("lock of the maildrop was lost", 1);
        let reply = pop.command("QUIT");
        assert!(reply.starts_with("-ERR [SYS/TEMP] "), "{maildrop}: {reply}");
        peer.assert_nothing_removed();
        assert_eq!(peer.count("UID MOVE") + peer.count("UID COPY"), 0);
    }
}

#[test]
fn who_loses_the_lock_while_removing_says_nothing_more_upstream() {
    let Some(redis) = Redis::start() else { return };
    let gate = Gate::default();
    let stored = vec![Step::Wait(gate.clone()), send("{tag} OK stored\r\n")];
    let peer = Peer::start(mailbox().once("UID STORE", stored));
    let gateway = start(&redis, "a", &peer, "");
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.ok("DELE 2");
    pop.send(b"QUIT\r\n");
    peer.wait_for("UID STORE");
    steal_locks(&redis);
    let reply = pop.reply();
    assert!(reply.starts_with("-ERR [SYS/TEMP] "), "{reply}");
    gate.open();
    gateway.stop();
    assert_eq!(peer.count("UID EXPUNGE 2"), 0, "{:?}", peer.commands());
}

#[test]
fn the_maildrops_of_a_gateway_that_dies_are_free_after_the_lease() {
    let Some(redis) = Redis::start() else { return };
    let peer = Peer::start(mailbox());
    let dying = start(&redis, "a", &peer, "");
    let other = start(&redis, "b", &peer, "");
    let _pop = Pop::log_in(dying.address(), "eva");
    dying.signal("KILL");
    let begun = Instant::now();
    loop {
        let (pop, reply) = try_log_in(&other);
        if reply.starts_with("+OK") {
            pop.quit();
            break;
        }
        assert!(reply.starts_with("-ERR [IN-USE]"), "{reply}");
        assert!(begun.elapsed() < Duration::from_secs(30));
        // The lease ends only with time.
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(
        begun.elapsed() > Duration::from_secs(3),
        "not before: {:?}",
        begun.elapsed()
    );
}

/// The first seconds of `bench/crash`, which says what it counts.
#[test]
fn nothing_is_lost_if_gateways_are_killed_and_stopped() {
    let (Some(python), Some(_)) = (require_program("python3"), require_program("redis-server")) else {
        return;
    };
    let output = Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/bench/crash"))
        .args(["--together", "--rounds", "40", "--popgate"])
        .arg(env!("CARGO_BIN_EXE_popgate"))
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

/// All gateways are concerned alike: no load balancer should send devices elsewhere.
#[test]
fn without_the_servers_logins_wait_and_fail_for_a_while_and_the_gateway_is_degraded() {
    let Some(redis) = Redis::start() else { return };
    let peer = Peer::start(mailbox());
    let gateway = setup(&redis, "a", &peer).table(&web::table()).start();
    let web = Web::of(&gateway);
    assert_eq!(web.get("/readyz").json()["status"], "ready");
    drop(redis);
    let (_, reply) = try_log_in(&gateway);
    assert!(reply.starts_with("-ERR [SYS/TEMP] "), "{reply}");
    let answer = web.get("/readyz");
    assert_eq!(
        (answer.status, answer.json()["status"].as_str()),
        (200, Some("degraded"))
    );
    assert_eq!(
        answer.json()["degraded"]["state"],
        "state cannot be read or written, see the log"
    );
    assert_eq!(web.get("/readyz?strict").status, 503);
    gateway.lines("shared state cannot be read or written", 1);
    peer.assert_nothing_removed();
}

/// Twelve failures from one address are one too many, wherever they come.
#[test]
fn failed_logins_count_in_all_gateways() {
    let Some(redis) = Redis::start() else { return };
    let peer = Peer::start(mailbox());
    let setup = |name| {
        setup(&redis, name, &peer)
            .own_logins_only()
            .table(&account("pbx", "eva"))
    };
    let gateways = ["a", "b"].map(|name| setup(name).start());
    let guess =
        |gateway: &Gateway, number: usize| Pop::connect(gateway.address()).try_log_in("pbx", &format!("wrong{number}"));
    std::thread::scope(|scope| {
        for number in 0..11 {
            let first = &gateways[0];
            scope.spawn(move || assert!(guess(first, number).starts_with("-ERR [AUTH]")));
        }
    });
    // The other gateway hears of it within a second. Alone it would refuse the twelfth guess.
    let tried = (0..11).take_while(|&number| !guess(&gateways[1], number).starts_with("-ERR [LOGIN-DELAY]"));
    assert!(tried.count() < 6);
}

#[test]
fn an_upstream_that_wants_to_be_left_alone_is_left_alone_by_all() {
    let Some(redis) = Redis::start() else { return };
    let throttled = "{tag} BAD Request is throttled. Suggested Backoff Time: 299961 milliseconds\r\n";
    let peer = Peer::start(mailbox().once("AUTHENTICATE", send(throttled)));
    let gateways = ["a", "b"].map(|name| setup(&redis, name, &peer).table(&web::table()).start());
    let web = Web::of(&gateways[1]);
    let wanted = "-ERR [SYS/TEMP] upstream wants to be asked less, try later";
    // The owner, who has logged in before, and not a guess.
    assert_eq!(try_log_in(&gateways[0]).1, wanted);
    let begun = Instant::now();
    while web.metric("popgate_backoff_seconds{upstream=\"lab\"}") == Some(0.0) {
        assert!(begun.elapsed() < Duration::from_secs(10));
        // The other gateway hears of it twice a second.
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(try_log_in(&gateways[1]).1, wanted);
    assert_eq!(peer.connections(), 1);
}

/// How many connections were logged in at most, as the commands tell in their order.
fn most_at_once(peer: &Peer) -> usize {
    let (mut now, mut most) = (0, 0);
    for command in peer.commands() {
        match command.split(' ').next() {
            Some("AUTHENTICATE") => now += 1,
            Some("LOGOUT") => now -= 1,
            _ => {}
        }
        most = most.max(now);
    }
    most
}

#[test]
fn an_upstream_user_has_no_more_connections_than_one_gateway_may_have() {
    const DEVICES: usize = 5;
    let Some(redis) = Redis::start() else { return };
    let peer = Peer::start(mailbox());
    let setup = |name| {
        let setup = setup(&redis, name, &peer)
            .upstream("connections_per_user = 2")
            .maildrop("on_delete = \"hide\"");
        (0..DEVICES).fold(setup, |setup, number| {
            setup.table(&account(&format!("device{number}"), "eva"))
        })
    };
    let gateways = ["a", "b", "c"].map(|name| setup(name).start());
    std::thread::scope(|scope| {
        for number in 0..DEVICES {
            let gateways = &gateways;
            scope.spawn(move || {
                for round in 0..2 {
                    let begun = Instant::now();
                    loop {
                        let mut pop = Pop::connect(gateways[(number + round) % 3].address());
                        let reply = pop.try_log_in(&format!("device{number}"), PASSWORD);
                        if reply.starts_with("+OK") {
                            assert_eq!(pop.stat().0, 5);
                            pop.quit();
                            break;
                        }
                        assert!(reply.contains("connections_per_user"), "{reply}");
                        assert!(begun.elapsed() < Duration::from_secs(60), "it starves");
                    }
                }
            });
        }
    });
    assert_eq!(most_at_once(&peer), 2);
}

/// A gateway that has died has no connections any more, once the others miss it.
#[test]
fn connections_of_a_gateway_that_ends_do_not_count() {
    let Some(redis) = Redis::start() else { return };
    let peer = Peer::start(mailbox());
    let setup = |name| {
        let setup = setup(&redis, name, &peer).upstream("connections_per_user = 1");
        setup.start()
    };
    let [first, second] = ["a", "b"].map(setup);
    Pop::log_in(first.address(), "eva").quit();
    first.stop();
    let begun = Instant::now();
    Pop::log_in(second.address(), "eva").quit();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}
