//! Devices that go while their session waits for an upstream: the session ends, and gives up its lock and connections.

use std::time::{Duration, Instant};

use crate::support::{
    PASSWORD,
    answers::{Answers, body_of},
    certificates::Certificates,
    gateway::{Gateway, Setup},
    mail,
    peer::{Gate, Peer, Step, chatter, send},
    pop::Pop,
};

/// What an upstream sends to show that it is alive.
const CHATTER: &str = "* OK still here\r\n";

fn mailbox() -> Answers {
    Answers::of((1..=3).map(mail::simple))
}

/// How long the gateway may take to notice that a device has gone. Far less than any time-out.
const SOON: Duration = Duration::from_secs(5);

/// Asserts that the session without a device has ended, and that the next one gets in.
fn assert_released(gateway: &Gateway, since: Instant) {
    assert_eq!(gateway.sessions(1)[0]["end"], "dropped");
    let mut next = Pop::log_in(gateway.address(), "eva");
    assert!(since.elapsed() < SOON, "after {:?}", since.elapsed());
    assert_eq!(next.retr(2).1, mail::simple(2));
    next.quit();
}

/// The upstream chatters before the content, within it, and after it.
#[test]
fn a_message_that_chatters_is_not_waited_for() {
    let long = format!(
        "* 1 FETCH (UID 1 BODY[] {{100000}}\r\n{}",
        "half a line\r\n".repeat(4000)
    );
    let whole = "* 1 FETCH (UID 1 BODY[] {6}\r\nA: 1\r\n";
    for steps in [
        vec![chatter(CHATTER)],
        vec![send(long), chatter("x")],
        vec![send(whole), chatter(" ")],
        vec![send(whole), send(")\r\n"), chatter(CHATTER)],
    ] {
        let first = mailbox().on("UID FETCH 1 (UID BODY", steps);
        let peer = Peer::start_each(vec![first, mailbox()]);
        let gateway = Setup::new(peer.address()).limit("upstream_seconds = 60").start();
        let mut pop = Pop::log_in(gateway.address(), "eva");
        pop.send(b"RETR 1\r\n");
        peer.wait_for("UID FETCH 1 (UID BODY");
        let since = Instant::now();
        pop.reset();
        assert_released(&gateway, since);
    }
}

#[test]
fn a_message_that_chatters_is_not_waited_for_over_tls() {
    let certificates = Certificates::new();
    let first = mailbox().on("UID FETCH 1 (UID BODY", chatter(CHATTER));
    let peer = Peer::start_each(vec![first, mailbox()]);
    let gateway = Setup::new(peer.address())
        .certificates(&certificates)
        .listener("tls = \"off\"")
        .listener("tls = \"implicit\"")
        .start();
    let mut pop = Pop::connect_tls(gateway.addresses()[1], certificates.client());
    assert!(pop.try_log_in("eva", PASSWORD).starts_with("+OK"));
    pop.send(b"RETR 1\r\nNOOP\r\n");
    peer.wait_for("UID FETCH 1 (UID BODY");
    let since = Instant::now();
    pop.reset();
    assert_released(&gateway, since);
}

#[test]
fn a_login_that_chatters_is_not_waited_for() {
    for command in ["AUTHENTICATE", "SELECT", "UID FETCH"] {
        let first = mailbox().on(command, chatter(CHATTER));
        let peer = Peer::start_each(vec![first, mailbox()]);
        let gateway = Setup::new(peer.address()).start();
        let mut pop = Pop::connect(gateway.address());
        pop.ok("USER eva");
        pop.send(format!("PASS {PASSWORD}\r\n").as_bytes());
        peer.wait_for(command);
        let since = Instant::now();
        pop.reset();
        assert_released(&gateway, since);
        peer.wait_for_end(2);
        assert!(since.elapsed() < SOON, "after {:?}", since.elapsed());
    }
}

/// Like `printf 'USER …\r\nQUIT\r\n' | nc`: the device sends everything, closes its sending direction, and reads.
#[test]
fn a_device_that_has_sent_all_it_wants_is_answered() {
    let gate = Gate::default();
    let slow = vec![Step::Wait(gate.clone()), send(body_of(1, b"A: 1\r\n"))];
    let peer = Peer::start(mailbox().on("UID FETCH 1 (UID BODY", slow));
    let gateway = Setup::new(peer.address()).start();
    let mut pop = Pop::connect(gateway.address());
    pop.send(format!("USER eva\r\nPASS {PASSWORD}\r\nRETR 1\r\nDELE 2\r\nQUIT\r\n").as_bytes());
    pop.shut_down();
    peer.wait_for("UID FETCH 1 (UID BODY");
    gate.open();
    pop.expect("+OK");
    pop.expect("+OK");
    pop.expect("+OK 6");
    assert_eq!(pop.body().unwrap(), b"A: 1\r\n");
    pop.expect("+OK");
    pop.expect("+OK");
    pop.closed();
    assert_eq!(peer.count("UID EXPUNGE 2"), 1);
}

/// Once the device has sent QUIT, its messages are removed (RFC 1939 §6), even if it does not wait for the reply.
#[test]
fn what_a_quit_deletes_goes_though_nobody_waits_for_the_reply() {
    let gate = Gate::default();
    let steps = vec![Step::Wait(gate.clone()), send("{tag} OK done\r\n")];
    let peer = Peer::start(mailbox().on("UID STORE 2", steps));
    let gateway = Setup::new(peer.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.ok("DELE 2");
    pop.send(b"QUIT\r\n");
    peer.wait_for("UID STORE 2");
    pop.reset();
    gate.open();
    peer.wait_for("UID EXPUNGE 2");
    gateway.stop();
}

/// Many upstreams delay a refusal. A client that leaves before the answer has made a guess nevertheless.
#[test]
fn who_does_not_wait_for_the_answer_guesses_no_faster() {
    let peer = Peer::start(mailbox().on("AUTHENTICATE", chatter(CHATTER)));
    let gateway = Setup::new(peer.address()).start();
    for guess in 1..=11 {
        let mut pop = Pop::connect(gateway.address());
        pop.ok("USER eva");
        pop.send(b"PASS wrong\r\n");
        peer.wait_for_count("AUTHENTICATE", guess);
        pop.reset();
        gateway.sessions(guess);
    }
    let reply = Pop::connect(gateway.address()).try_log_in("eva", PASSWORD);
    assert!(reply.starts_with("-ERR [LOGIN-DELAY]"), "{reply}");
}
