//! SIGTERM: the gateway accepts no more connections. Devices that have connected may log in for a few seconds, and
//! sessions go on until QUIT or until `drain_seconds` are over. Then replies that have begun are finished and QUITs commit. All other sessions are dropped, and delete nothing.

use std::time::{Duration, Instant};

use crate::support::{
    PASSWORD,
    answers::Answers,
    dovecot::Dovecot,
    gateway::Setup,
    mail,
    peer::{Gate, Peer, Step, send},
    pop::Pop,
};

fn mailbox() -> Answers {
    Answers::of((1..=3).map(mail::simple))
}

#[test]
fn sessions_go_on_and_nobody_else_comes_in() {
    let Some(dovecot) = Dovecot::start() else { return };
    let mut imap = dovecot.user_with("eva", &[mail::simple(1), mail::simple(2)]);
    let mut gateway = Setup::new(dovecot.address()).start();
    let mut marked = Pop::log_in(gateway.address(), "eva");
    marked.ok("DELE 1");
    let mut before_login = Pop::connect(gateway.address());
    before_login.ok("USER ida");
    let asked = Instant::now();
    gateway.signal("TERM");
    before_login.closed();
    gateway.events("draining", 1);
    assert!(
        std::net::TcpStream::connect(gateway.address()).is_err(),
        "it still accepts"
    );
    assert_eq!(marked.retr(2).1, mail::simple(2));
    marked.quit();
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(
        asked.elapsed() < Duration::from_secs(10),
        "nothing was to be waited for"
    );
    let sessions = gateway.sessions(2);
    let ends: Vec<_> = sessions
        .iter()
        .map(|session| (&session["end"], &session["removed"]))
        .collect();
    assert_eq!(ends, [(&"shutdown".into(), &0.into()), (&"quit".into(), &1.into())]);
    assert_eq!(imap.uids(), [2]);
}

/// A load balancer sends devices until it finds the port closed. None of them may notice the end.
#[test]
fn who_has_connected_before_the_end_is_served() {
    const DEVICES: usize = 20;
    let peer = Peer::start(mailbox());
    let mut gateway = Setup::new(peer.address()).start();
    let address = gateway.address();
    let mut greeted: Vec<_> = (0..DEVICES).map(|_| Pop::connect(address)).collect();
    greeted[0].ok("USER device0");
    gateway.signal("STOP");
    // These wait in the backlog of the kernel.
    let waiting: Vec<_> = (0..DEVICES).map(|_| Pop::open(address)).collect();
    gateway.signal("TERM");
    gateway.signal("CONT");
    let waiting = waiting.into_iter().map(|mut pop| {
        pop.expect("+OK popgate ready");
        pop
    });
    greeted.extend(waiting.collect::<Vec<_>>());
    for (number, mut pop) in greeted.into_iter().enumerate() {
        let reply = pop.try_log_in(&format!("device{number}"), PASSWORD);
        assert!(reply.starts_with("+OK"), "{number}: {reply}");
        assert_eq!(pop.stat().0, 3);
        pop.quit();
    }
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(std::net::TcpStream::connect(address).is_err(), "it still accepts");
}

#[test]
fn an_idle_session_is_dropped_without_deletes_in_the_end() {
    let Some(dovecot) = Dovecot::start() else { return };
    let mut imap = dovecot.user_with("eva", &[mail::simple(1), mail::simple(2)]);
    let mut gateway = Setup::new(dovecot.address()).limit("drain_seconds = 1").start();
    let mut marked = Pop::log_in(gateway.address(), "eva");
    marked.ok("DELE 1");
    let asked = Instant::now();
    gateway.signal("TERM");
    marked.closed();
    assert_eq!(gateway.wait().code(), Some(0));
    let took = asked.elapsed();
    assert!(
        (Duration::from_millis(900)..Duration::from_secs(10)).contains(&took),
        "{took:?}"
    );
    let session = &gateway.sessions(1)[0];
    assert!(session["end"] == "shutdown" && session["removed"] == 0, "{session}");
    let flags = imap.flags();
    assert!(
        flags.len() == 2 && flags.values().all(|flags| !flags.contains("\\Deleted")),
        "{flags:?}"
    );
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let peer = Peer::start(mailbox());
    let mut gateway = Setup::new(peer.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.ok("DELE 1");
    gateway.signal("TERM");
    gateway.events("draining", 1);
    let asked = Instant::now();
    gateway.signal("TERM");
    pop.closed();
    assert_eq!(gateway.wait().code(), Some(1));
    assert!(asked.elapsed() < Duration::from_secs(10));
    assert_eq!(peer.count("UID EXPUNGE"), 0);
}

#[test]
fn a_quit_under_way_commits() {
    let gate = Gate::default();
    let peer = Peer::start(mailbox().once("UID STORE", vec![Step::Wait(gate.clone()), send("{tag} OK stored\r\n")]));
    let mut gateway = Setup::new(peer.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.ok("DELE 2");
    pop.send(b"QUIT\r\n");
    peer.wait_for("UID STORE");
    gateway.signal("TERM");
    gateway.events("draining", 1);
    gate.open();
    pop.expect("+OK");
    pop.closed();
    assert_eq!(gateway.wait().code(), Some(0));
    assert_eq!(peer.count("UID EXPUNGE 2"), 1);
    assert_eq!(gateway.sessions(1)[0]["removed"], 1);
}

#[test]
fn a_message_under_way_is_finished() {
    let gate = Gate::default();
    let message = mail::simple(1);
    let (first, second) = message.split_at(40);
    let answer = vec![
        send(format!("* 1 FETCH (UID 1 BODY[] {{{}}}\r\n", message.len())),
        send(first),
        Step::Wait(gate.clone()),
        send(second),
        send(")\r\n{tag} OK fetched\r\n"),
    ];
    let peer = Peer::start(mailbox().on("UID FETCH 1 (UID BODY.PEEK[])", answer));
    let mut gateway = Setup::new(peer.address()).limit("drain_seconds = 0").start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.ok("DELE 2");
    pop.send(b"RETR 1\r\n");
    pop.expect("+OK");
    gateway.signal("TERM");
    gateway.events("draining", 1);
    gate.open();
    assert_eq!(pop.body().as_deref(), Ok(&message[..]));
    pop.closed();
    assert_eq!(gateway.wait().code(), Some(0));
    assert_eq!(peer.count("UID EXPUNGE"), 0, "{:?}", peer.commands());
}

#[test]
fn what_does_not_end_in_time_is_dropped() {
    let peer = Peer::start(mailbox().on("UID STORE", Step::Silence));
    let mut gateway = Setup::new(peer.address()).limit("drain_seconds = 1").start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.ok("DELE 2");
    pop.send(b"QUIT\r\n");
    peer.wait_for("UID STORE");
    let asked = Instant::now();
    gateway.signal("TERM");
    pop.closed();
    assert_eq!(gateway.wait().code(), Some(0));
    let took = asked.elapsed();
    assert!(
        (Duration::from_millis(900)..Duration::from_secs(10)).contains(&took),
        "{took:?}"
    );
    assert_eq!(peer.count("UID EXPUNGE"), 0);
}

#[test]
fn a_killed_gateway_deletes_nothing() {
    let Some(dovecot) = Dovecot::start() else { return };
    let mut imap = dovecot.user_with("eva", &[mail::simple(1), mail::simple(2)]);
    let mut gateway = Setup::new(dovecot.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.retr(1);
    pop.ok("DELE 1");
    gateway.signal("KILL");
    gateway.wait();
    let flags = imap.flags();
    assert!(
        flags.len() == 2 && flags.values().all(|flags| !flags.contains("\\Deleted")),
        "{flags:?}"
    );
}

#[test]
fn sigint_ends_it_too() {
    let peer = Peer::start(mailbox());
    let mut gateway = Setup::new(peer.address()).start();
    gateway.signal("INT");
    assert_eq!(gateway.wait().code(), Some(0));
}
