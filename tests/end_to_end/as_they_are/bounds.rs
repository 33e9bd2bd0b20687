//! Bounds: a server that sends without end harms only its own sessions. It costs no memory, and other sessions go on.

use std::time::{Duration, Instant};

use super::{assert_served, at_once, mailbox};
use crate::support::{
    PASSWORD,
    answers::Answers,
    gateway::{Gateway, Setup},
    peer::{Peer, Step, Steps, chatter, flood, send},
    pop::Pop,
};

/// How much memory one session may add, whatever its server sends: many times what it needs.
const MEMORY: u64 = 48 << 20;

/// A gateway with `peer` as the upstream, and for the login `ida` with `good`, an upstream without faults.
fn beside(peer: &Peer, good: &Peer) -> Setup {
    let port = good.address().port();
    Setup::new(peer.address())
        .limit("upstream_seconds = 1")
        .level("info")
        .table(&format!(
            "[upstream.good]\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"off\"\nlogins = [\"ida\"]"
        ))
}

/// Asserts that a login fails at an endless answer to `command`, that another session is served meanwhile, and that
/// memory is bounded.
fn ends_in_an_error(setup: impl Fn(Setup) -> Setup, first: Answers, command: &str) {
    let (peer, good) = (Peer::start(first), Peer::start(mailbox()));
    let gateway = setup(beside(&peer, &good)).start();
    let before = gateway.memory("VmRSS");
    let mut pop = Pop::connect(gateway.address());
    pop.send(format!("USER eva\r\nPASS {PASSWORD}\r\n").as_bytes());
    pop.expect("+OK");
    peer.wait_for_connections(1);
    if !command.is_empty() {
        peer.wait_for(command);
    }
    assert_served(&gateway, "ida");
    pop.expect("-ERR [SYS/");
    assert_bounded(&gateway, before);
    pop.ok("CAPA");
}

#[track_caller]
fn assert_bounded(gateway: &Gateway, before: u64) {
    let most = gateway.memory("VmHWM");
    assert!(most < before + MEMORY, "{} MB more", (most - before) >> 20);
}

fn login(first: Answers, command: &str) {
    ends_in_an_error(|setup| setup, first, command);
}

#[test]
fn a_search_without_end() {
    at_once(
        [
            vec![send("* SEARCH"), flood(" 1")],
            vec![flood("* SEARCH 1 2 3\r\n")],
            vec![send("* ESEARCH UID ALL 1"), flood(",1:2")],
            vec![flood("* ESEARCH UID ALL 1:3\r\n")],
        ],
        |steps| login(mailbox().on("UID SEARCH", steps), "UID SEARCH"),
    );
}

/// A set of a few octets that stands for billions of messages.
#[test]
fn a_set_of_everything() {
    for found in [
        "* ESEARCH UID ALL 1:4294967295\r\n",
        "* ESEARCH UID ALL 4294967295:1,1:*\r\n",
    ] {
        let peer = Peer::start(mailbox().on("UID SEARCH", format!("{found}{{tag}} OK done\r\n")));
        let gateway = Setup::new(peer.address()).limit("upstream_seconds = 1").start();
        let before = gateway.memory("VmRSS");
        let reply = Pop::connect(gateway.address()).try_log_in("eva", PASSWORD);
        // Either all three messages are marked, or the login fails.
        assert!(
            reply.starts_with("+OK 0 ") || reply.starts_with("-ERR [SYS/"),
            "{reply}"
        );
        assert_bounded(&gateway, before);
    }
}

#[test]
fn vanished_without_end() {
    at_once(
        [
            ("SELECT", vec![flood("* VANISHED 1\r\n")]),
            ("UID FETCH", vec![flood("* VANISHED 1\r\n")]),
            ("UID SEARCH", vec![flood("* VANISHED 1\r\n")]),
            ("SELECT", vec![flood("* VANISHED (EARLIER) 1:4,7\r\n")]),
            ("SELECT", vec![send("* VANISHED 1"), flood(",1")]),
        ],
        |(command, steps)| login(mailbox().on(command, steps), command),
    );
}

#[test]
fn rows_without_end() {
    at_once(
        [
            "* 1 FETCH (UID 1 RFC822.SIZE 122)\r\n",
            "* 1 FETCH (FLAGS (\\Seen))\r\n",
            "* 1 FETCH (UID 0 RFC822.SIZE 122)\r\n",
            "* 1 FETCH (UID 1 RFC822.SIZE NIL)\r\n",
            "* 4294967295 FETCH (UID 4294967295 RFC822.SIZE 4294967295 FLAGS (\\Deleted))\r\n",
        ],
        |row| login(mailbox().on("UID FETCH", flood(row)), "UID FETCH"),
    );
}

#[test]
fn email_ids_without_end() {
    let row = format!("* 1 FETCH (UID 1 RFC822.SIZE 122 EMAILID (M{}))\r\n", "x".repeat(240));
    let first = mailbox()
        .capabilities("IMAP4rev1 SASL-IR AUTH=PLAIN UIDPLUS OBJECTID")
        .on("UID FETCH", flood(&row));
    ends_in_an_error(|setup| setup.maildrop("uidl = \"emailid\""), first, "UID FETCH");
}

#[test]
fn untagged_responses_without_end() {
    at_once(
        [
            "* OK [ALERT] still at it\r\n",
            "* 3 EXISTS\r\n",
            "* 1 EXPUNGE\r\n",
            "* CAPABILITY IMAP4rev1\r\n",
            "* FLAGS (\\Seen)\r\n",
            "* LIST () \"/\" a\r\n",
            "A9999 OK done\r\n",
            "+ go on\r\n",
            "\r\n",
        ],
        |line| login(mailbox().on("SELECT", flood(line)), "SELECT"),
    );
}

#[test]
fn before_the_login_without_end() {
    let capabilities = "* CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN\r\n";
    at_once(
        [
            ("", vec![send("* "), flood("x")]),
            ("", vec![flood("* 1 EXISTS\r\n")]),
            ("CAPABILITY", vec![flood("* OK hi\r\n")]),
            ("CAPABILITY", vec![flood("+ \r\n")]),
            ("CAPABILITY", vec![flood(capabilities)]),
            ("AUTHENTICATE", vec![flood("* OK hi\r\n")]),
            ("AUTHENTICATE", vec![flood("+ \r\n")]),
            ("AUTHENTICATE", vec![flood(capabilities)]),
        ],
        |(command, steps)| match command {
            "" => login(mailbox().greet(steps), ""),
            command => login(mailbox().on(command, steps), command),
        },
    );
}

#[test]
fn a_literal_that_nobody_asked_for() {
    at_once(
        [
            ("SELECT", "* LIST () \"/\" {99999999999}\r\n"),
            ("SELECT", "* 1 FETCH (UID 1 BODY[] {99999999999}\r\n"),
            ("UID FETCH", "* 1 FETCH (UID 1 X-THING {99999999999}\r\n"),
            ("UID FETCH", "* 1 FETCH (UID 1 BODY[] {99999999999}\r\n"),
            ("UID SEARCH", "* SEARCH {99999999999}\r\n"),
        ],
        |(command, head)| login(mailbox().on(command, vec![send(head), flood("x")]), command),
    );
}

/// The server sends slowly, but is never silent. The total time of an answer is limited too.
#[test]
fn an_answer_that_trickles_without_end() {
    at_once(
        ["", "CAPABILITY", "AUTHENTICATE", "SELECT", "UID FETCH", "UID SEARCH"],
        |command| match command {
            "" => login(mailbox().greet(vec![send("* OK "), chatter("x")]), ""),
            command => login(mailbox().on(command, chatter("* OK still at it\r\n")), command),
        },
    );
}

/// Asserts that an established session gets an error for `request`.
fn refused(answers: Answers, request: &str) {
    let (peer, good) = (Peer::start(answers), Peer::start(mailbox()));
    let gateway = beside(&peer, &good).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    let before = gateway.memory("VmRSS");
    pop.send(format!("{request}\r\n").as_bytes());
    pop.expect("-ERR [SYS/TEMP]");
    assert_bounded(&gateway, before);
    assert_served(&gateway, "ida");
}

#[test]
fn a_retrieval_without_end() {
    at_once(
        [
            vec![flood("* OK [ALERT] still at it\r\n")],
            vec![flood("* 2 FETCH (UID 2 FLAGS (\\Seen))\r\n")],
            vec![flood("* VANISHED 9\r\n")],
            vec![flood("* 2 FETCH (UID 2 BODY[] {3}\r\nxxx)\r\n")],
            vec![chatter("* OK still at it\r\n")],
            vec![send("* 2 FETCH (UID 2 X {9999999999}\r\n"), flood("x")],
        ],
        |steps| refused(mailbox().on("UID FETCH 1 (UID BODY", steps), "RETR 1"),
    );
}

/// A lost connection is replaced during RETR. Endless answers are bounded on the new connection too.
#[test]
fn reconnecting_without_end() {
    let endless = [
        flood("* OK still at it\r\n"),
        flood("* VANISHED 1\r\n"),
        chatter("* OK still at it\r\n"),
    ];
    let each = |command| endless.iter().map(move |step| (command, step.clone()));
    at_once(
        ["CAPABILITY", "AUTHENTICATE", "SELECT"].into_iter().flat_map(each),
        |(command, endless)| {
            let lost = mailbox().on("UID SEARCH", vec![send("* SEARCH\r\n{tag} OK\r\n"), Step::Close]);
            let peer = Peer::start_each(vec![lost, mailbox().on(command, endless)]);
            let gateway = Setup::new(peer.address())
                .limit("upstream_seconds = 1")
                .level("info")
                .start();
            let mut pop = Pop::log_in(gateway.address(), "eva");
            peer.wait_for_end(1);
            let before = gateway.memory("VmRSS");
            pop.err("RETR 1", "-ERR [SYS/TEMP]");
            assert_bounded(&gateway, before);
        },
    );
}

#[test]
fn a_quit_without_end() {
    let moves = "IMAP4rev1 SASL-IR AUTH=PLAIN UIDPLUS MOVE";
    let cases = [
        ("LIST", vec![flood("* LIST () \"/\" a\r\n")]),
        (
            "LIST",
            vec![flood(&format!("* LIST () \"/\" \"{}\"\r\n", "a".repeat(200)))],
        ),
        ("LIST", vec![send("* LIST () \"/\" {9999999999}\r\n"), flood("x")]),
        ("LIST", vec![chatter("* LIST () \"/\" a\r\n")]),
        ("UID MOVE", vec![flood("* 1 EXPUNGE\r\n")]),
        ("UID MOVE", vec![flood("* OK [COPYUID 1 2 3] moved\r\n")]),
        ("UID MOVE", vec![chatter("* OK moving\r\n")]),
    ];
    at_once(cases, |(command, endless)| {
        let peer = Peer::start(mailbox().capabilities(moves).on(command, endless));
        let gateway = Setup::new(peer.address())
            .limit("upstream_seconds = 1")
            .maildrop("on_delete = \"trash\"")
            .level("info")
            .start();
        let mut pop = Pop::log_in(gateway.address(), "eva");
        let before = gateway.memory("VmRSS");
        pop.ok("DELE 2");
        pop.err("QUIT", "-ERR [SYS/TEMP]");
        assert_bounded(&gateway, before);
    });
}

/// If a server answers LOGOUT without end, its connections are closed within seconds all the same, and none is left
/// open.
#[test]
fn a_good_bye_without_end() {
    const POLLS: usize = 60;
    let cases = [
        chatter("* OK wait for it\r\n"),
        flood("* OK wait for it\r\n"),
        Step::Silence,
    ];
    at_once(cases, |endless| {
        // A flood on 60 connections would test the machine, not the gateway.
        let polls = if matches!(endless, Step::Endless(_, pause) if pause.is_zero()) {
            4
        } else {
            POLLS
        };
        let peer = Peer::start(mailbox().on("LOGOUT", endless));
        let gateway = Setup::new(peer.address()).limit("upstream_seconds = 60").start();
        let before = gateway.descriptors();
        for poll in 0..polls {
            Pop::log_in(gateway.address(), &format!("user{poll}")).quit();
        }
        let since = Instant::now();
        peer.wait_for_end(polls);
        assert!(since.elapsed() < Duration::from_secs(8), "after {:?}", since.elapsed());
        assert!(
            gateway.descriptors() <= before + 2,
            "{} and {before}",
            gateway.descriptors()
        );
    });
}

/// A connection on which LOGOUT is under way still counts as one of its user's.
#[test]
fn a_good_bye_counts_as_the_users_connection() {
    let peer = Peer::start(mailbox().on("LOGOUT", chatter("* OK wait for it\r\n")));
    let gateway = Setup::new(peer.address()).upstream("connections_per_user = 3").start();
    let mut most = 0;
    for _ in 0..12 {
        let mut pop = Pop::connect(gateway.address());
        let reply = pop.try_log_in("eva", PASSWORD);
        assert!(
            reply.starts_with("+OK") || reply.starts_with("-ERR [SYS/TEMP]"),
            "{reply}"
        );
        most = most.max(peer.open_connections());
        pop.ok("QUIT");
    }
    assert!(most <= 3, "{most} connections at once");
}

/// If the device has gone, the gateway does not wait for the end of the server's chatter.
#[test]
fn an_upstream_that_chatters_to_nobody_is_left() {
    for steps in [
        vec![chatter("* OK still here\r\n")],
        vec![send("* 1 FETCH (UID 1 BODY[] {100000}\r\n"), chatter("x")],
    ] {
        let peer = Peer::start(mailbox().on("UID FETCH 1 (UID BODY", steps.steps()));
        let gateway = Setup::new(peer.address()).limit("upstream_seconds = 60").start();
        let mut pop = Pop::log_in(gateway.address(), "eva");
        pop.send(b"RETR 1\r\n");
        peer.wait_for("UID FETCH 1 (UID BODY");
        let since = Instant::now();
        pop.reset();
        peer.wait_for_end(1);
        assert!(since.elapsed() < Duration::from_secs(8), "after {:?}", since.elapsed());
    }
}
