//! Wrong passwords slow down the client that guesses, not the owner. And connections that should end do end.

use std::{net::Ipv4Addr, time::Instant};

use crate::support::{
    PASSWORD,
    answers::Answers,
    gateway::{Gateway, Setup, account},
    mail,
    peer::{Peer, Step, Steps, chatter},
    pop::Pop,
};

/// base64 of NUL eva NUL [`PASSWORD`]
const RIGHT: &str = "AUTHENTICATE PLAIN AGV2YQBrZXN0cmVsLTQyLUhvdmVyZmx5";

/// A mailbox that answers every password of eva's but [`PASSWORD`] by `about_wrong`.
fn mailbox(about_wrong: impl Steps) -> Answers {
    Answers::of([mail::simple(1)])
        .on("AUTHENTICATE", about_wrong)
        .on(RIGHT, "{tag} OK logged in\r\n")
}

/// Sends a login with a wrong password, from an address of its own, and does not wait for the answer.
fn begin_guess(gateway: &Gateway, number: u8) -> Pop {
    let mut pop = Pop::connect_from(Ipv4Addr::new(127, 1, 0, number), gateway.address());
    pop.send(format!("USER eva\r\nPASS wrong{number}\r\n").as_bytes());
    pop.expect("+OK");
    pop
}

fn guess(gateway: &Gateway, user: &str, password: &str) -> String {
    Pop::connect(gateway.address()).try_log_in(user, password)
}

/// How many of `replies` are a refusal with this response code.
fn refusals(replies: &[String], code: &str) -> usize {
    let start = format!("-ERR [{code}]");
    replies.iter().filter(|reply| reply.starts_with(&start)).count()
}

/// How many logins with a wrong password have reached the upstream.
fn wrong(peer: &Peer) -> usize {
    peer.count("AUTHENTICATE") - peer.count(RIGHT)
}

/// Once the first 8 guessers held all connections, and the owner did not get in until the upstream had refused them.
#[test]
fn twenty_four_guessers_do_not_lock_the_owner_out() {
    for (limit, parked, logins) in [(8, 0, 6), (8, 60, 6), (2, 0, 6), (1, 0, 2), (1, 60, 6)] {
        let peer = Peer::start(mailbox(Step::Silence));
        let gateway = Setup::new(peer.address())
            .limit(&format!("parked_seconds = {parked}"))
            .upstream(&format!("connections_per_user = {limit}"))
            .start();
        Pop::log_in(gateway.address(), "eva").quit();
        if parked > 0 {
            gateway.events("parked", 1);
        }
        let _guessers: Vec<_> = (1..=24).map(|number| begin_guess(&gateway, number)).collect();
        peer.wait_for("AUTHENTICATE PLAIN AGV2YQB3");
        for _ in 0..logins {
            let begun = Instant::now();
            Pop::log_in(gateway.address(), "eva").quit();
            assert!(begun.elapsed().as_secs() < 10, "{limit}: {:?}", begun.elapsed());
        }
        assert!(wrong(&peer) <= 2 + logins, "{limit}: {:?}", peer.commands());
        if limit > 1 && parked > 0 {
            assert_eq!(peer.count(RIGHT), 1, "what is parked is left alone");
        }
    }
}

#[test]
fn a_pause_that_a_wrong_password_provokes_is_not_the_owners() {
    for answer in [
        "{tag} NO [LIMIT] LOGIN Rate limit hit\r\n",
        "{tag} BAD Request is throttled. Suggested Backoff Time: 299961 milliseconds\r\n",
    ] {
        let peer = Peer::start(mailbox(answer));
        let gateway = Setup::new(peer.address()).start();
        Pop::log_in(gateway.address(), "eva").quit();
        for number in 0..3 {
            let reply = guess(&gateway, "eva", &format!("wrong{number}"));
            assert!(reply.starts_with("-ERR [SYS/TEMP]"), "{reply}");
        }
        assert_eq!(wrong(&peer), 1, "guesses wait");
        Pop::log_in(gateway.address(), "eva").quit();
        let reply = guess(&gateway, "eva", "wrong9");
        assert!(reply.starts_with("-ERR [SYS/TEMP]"), "guesses still wait: {reply}");
        assert_eq!((wrong(&peer), peer.count(RIGHT)), (1, 2));
    }
}

#[test]
fn fifty_guesses_at_once_are_eleven_whatever_the_spelling() {
    let peer = Peer::start(mailbox("{tag} NO [AUTHENTICATIONFAILED] no\r\n"));
    let gateway = Setup::new(peer.address()).start();
    Pop::log_in(gateway.address(), "eva").quit();
    let spellings = ["eva", "EVA", "Eva", "eVa", "evA"];
    let mut guessers: Vec<_> = (0..50)
        .map(|number| {
            let mut pop = Pop::connect(gateway.address());
            pop.ok(&format!("USER {}", spellings[number % spellings.len()]));
            pop.send(format!("PASS wrong{number}\r\n").as_bytes());
            pop
        })
        .collect();
    let begun = Instant::now();
    Pop::log_in(gateway.address(), "eva").quit();
    assert!(
        begun.elapsed().as_secs() < 3,
        "the owner does not wait: {:?}",
        begun.elapsed()
    );
    let replies: Vec<_> = guessers.iter_mut().map(Pop::reply).collect();
    let count = |code| refusals(&replies, code);
    assert_eq!((count("AUTH"), count("LOGIN-DELAY")), (11, 39), "{replies:?}");
    assert_eq!(wrong(&peer), 11);
    let reply = guess(&gateway, "Eva", "wrong");
    assert!(reply.starts_with("-ERR [LOGIN-DELAY]"), "{reply}");
    Pop::log_in(gateway.address(), "eva").quit();
}

/// A flood of made-up logins neither allows more guesses nor locks out others.
#[test]
fn a_flood_of_made_up_logins() {
    let peer = Peer::start(mailbox("{tag} NO [AUTHENTICATIONFAILED] no\r\n"));
    let account = format!(
        "[[account]]\nlogin = \"tickets\"\npassword = \"paper jam\"\nupstream = \"lab\"\nuser = \"eva\"\n\
         upstream_password = \"{PASSWORD}\""
    );
    let gateway = Setup::new(peer.address())
        .limit("bad_commands = 10000")
        .own_logins_only()
        .table(&account)
        .start();
    assert!(guess(&gateway, "tickets", "paper jam").starts_with("+OK"));
    let mut pop = Pop::connect(gateway.address());
    let replies: Vec<_> = (0..2000)
        .map(|number| pop.try_log_in(&format!("made{number}"), "up"))
        .collect();
    let count = |code| refusals(&replies, code);
    assert_eq!((count("AUTH"), count("LOGIN-DELAY")), (101, 1899));
    let reply = guess(&gateway, "tickets", "wrong");
    assert!(
        reply.starts_with("-ERR [LOGIN-DELAY]"),
        "from the same address: {reply}"
    );
    let right = guess(&gateway, "tickets", "paper jam");
    assert!(right.starts_with("+OK"), "a secret that was right: {right}");
    let mut elsewhere = Pop::connect_from(Ipv4Addr::new(127, 1, 0, 1), gateway.address());
    let reply = elsewhere.try_log_in("tickets", "wrong");
    assert!(reply.starts_with("-ERR [AUTH]"), "elsewhere: {reply}");
}

#[test]
fn a_wrong_password_is_not_asked_about_twice() {
    let peer = Peer::start(mailbox("{tag} NO [AUTHENTICATIONFAILED] no\r\n"));
    let gateway = Setup::new(peer.address()).start();
    for _ in 0..3 {
        let reply = guess(&gateway, "eva", "wrong");
        assert!(reply.starts_with("-ERR [AUTH]"), "{reply}");
    }
    let reply = guess(&gateway, "eva", "another");
    assert!(reply.starts_with("-ERR [AUTH]"), "{reply}");
    assert_eq!(wrong(&peer), 2);
}

/// If the user may have one connection, the one parked with the old password must not keep the new password out.
#[test]
fn a_new_password_gets_in_while_the_old_ones_connection_waits() {
    let peer = Peer::start(Answers::of([mail::simple(1)]));
    let gateway = Setup::new(peer.address())
        .limit("parked_seconds = 900")
        .upstream("connections_per_user = 1")
        .start();
    Pop::log_in(gateway.address(), "eva").quit();
    gateway.events("parked", 1);
    let begun = Instant::now();
    let mut pop = Pop::connect(gateway.address());
    let reply = pop.try_log_in("eva", "new");
    assert!(reply.starts_with("+OK"), "{reply}");
    assert!(begun.elapsed().as_secs() < 3);
    pop.quit();
    let commands = peer.commands();
    let at = |prefix: &str| commands.iter().rposition(|command| command.starts_with(prefix));
    assert!(at("LOGOUT") < at("AUTHENTICATE"), "one after the other: {commands:?}");
}

/// Once each poll left a connection open for as long as the server went on sending.
#[test]
fn a_server_that_does_not_come_to_an_end_with_logout() {
    const LIMIT: usize = 8;
    const POLLS: usize = 24;
    let talking = chatter("* OK just a moment\r\n");
    let peer = Peer::start(Answers::of([mail::simple(1)]).on("LOGOUT", talking));
    let gateway = Setup::new(peer.address())
        .upstream(&format!("connections_per_user = {LIMIT}"))
        .start();
    let before = gateway.descriptors();
    for _ in 0..POLLS {
        Pop::log_in(gateway.address(), "eva").quit();
        // One more than the upstream connections: the device's, which may not be closed yet.
        let now = gateway.descriptors();
        assert!(now <= before + LIMIT + 1, "{now}, before {before}");
    }
    peer.wait_for_end(POLLS);
    assert_eq!(peer.connections(), POLLS);
}

/// Another login of the same mailbox waits until the parked connection that makes room for it is closed.
#[test]
fn what_gives_way_is_closed_before_another_is_opened() {
    let talking = chatter("* OK just a moment\r\n");
    let peer = Peer::start_each(vec![
        Answers::of([mail::simple(1)]).on("LOGOUT", talking),
        Answers::of([mail::simple(1)]),
    ]);
    let gateway = Setup::new(peer.address())
        .limit("parked_seconds = 60")
        .upstream("connections_per_user = 1")
        .table(&account("fax", "eva"))
        .table(&account("pbx", "eva"))
        .start();
    Pop::log_in(gateway.address(), "fax").quit();
    gateway.events("parked", 1);
    let begun = Instant::now();
    Pop::log_in(gateway.address(), "pbx").quit();
    assert!((2..8).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    peer.wait_for_end(1);
}
