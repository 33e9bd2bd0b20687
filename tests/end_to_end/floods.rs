//! Connections that keep the gateway waiting, and devices that do not read: they take little memory, and are closed
//! soon.

use std::net::Ipv4Addr;

use crate::support::{
    PASSWORD,
    answers::Answers,
    certificates::Certificates,
    gateway::Setup,
    mail,
    peer::{Gate, Peer, Step, send},
    pop::Pop,
};

const MB: u64 = 1 << 20;

/// The first half of a ClientHello.
const HALF_HANDSHAKE: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

fn mailbox() -> Answers {
    Answers::of([mail::simple(1), mail::simple(2)])
}

/// Such connections once took 90 MB, and were not closed when their time to log in was over.
#[test]
fn fifty_connections_that_pipeline_and_do_not_read() {
    let peer = Peer::start(mailbox());
    let gateway = Setup::new(peer.address())
        .limit("login_seconds = 3")
        .limit("unauthenticated_per_address = 100")
        // Logs sessions without a login too, but not their many commands.
        .level("info,popgate::pop3::summary=debug")
        .start();
    gateway.forget_peak_memory();
    let before = gateway.memory("VmRSS");
    for farewell in ["", "QUIT\r\n"] {
        let connections: Vec<_> = (0..50)
            .map(|_| {
                let mut pop = Pop::open(gateway.address());
                pop.send_as_much_as_fits(&[&b"CAPA\r\n".repeat(2000)[..], farewell.as_bytes()].concat());
                pop
            })
            .collect();
        let sessions = gateway.sessions(if farewell.is_empty() { 50 } else { 100 });
        let ends: Vec<_> = sessions
            .iter()
            .map(|session| session["end"].as_str().unwrap())
            .collect();
        assert!(
            ends.iter().all(|end| ["login-timeout", "quit"].contains(end)),
            "{ends:?}"
        );
        drop(connections);
    }
    let grown = gateway.memory("VmHWM").saturating_sub(before);
    println!("grown by {} KB", grown / 1024);
    assert!(grown < 8 * MB, "{grown} octets");
    Pop::log_in(gateway.address(), "eva").quit();
}

#[test]
fn the_oldest_that_has_not_logged_in_gives_way() {
    let (peer, certificates) = (Peer::start(mailbox()), Certificates::new());
    for limit in ["unauthenticated = 3", "unauthenticated_per_address = 3"] {
        let gateway = Setup::new(peer.address())
            .certificates(&certificates)
            .listener("tls = \"off\"")
            .listener("tls = \"starttls\"")
            .limit(limit)
            .start();
        let [plain, starttls] = gateway.addresses()[..] else {
            panic!()
        };
        let mut inside = Pop::log_in(plain, "ida");
        let mut half = Pop::connect(starttls);
        half.ok("STLS");
        half.send(HALF_HANDSHAKE);
        let mut silent: Vec<_> = (0..3).map(|_| Pop::connect(plain)).collect();
        half.closed();
        let mut last = Pop::connect(plain);
        silent[0].expect("-ERR [SYS/TEMP]");
        silent[0].closed();
        for pop in silent[1..].iter_mut().chain([&mut last, &mut inside]) {
            pop.ok("CAPA");
            pop.lines();
        }
        let ends: Vec<_> = gateway
            .sessions(2)
            .iter()
            .map(|session| session["end"].clone())
            .collect();
        assert_eq!(ends, ["gave-way", "gave-way"], "{limit}");
        assert!(last.try_log_in("eva", PASSWORD).starts_with("+OK"));
    }
}

/// A device that has sent its password waits for the gateway, so its connection is not closed in favour of others.
#[test]
fn a_login_under_way_gives_way_to_nobody() {
    let gate = Gate::default();
    let peer = Peer::start(mailbox().once(
        "AUTHENTICATE",
        vec![Step::Wait(gate.clone()), send("{tag} OK logged in\r\n")],
    ));
    let gateway = Setup::new(peer.address())
        .limit("unauthenticated_per_address = 2")
        .start();
    let mut honest = Pop::connect(gateway.address());
    honest.ok("USER eva");
    honest.send(format!("PASS {PASSWORD}\r\n").as_bytes());
    peer.wait_for("AUTHENTICATE");
    let _silent: Vec<_> = (0..12).map(|_| Pop::connect(gateway.address())).collect();
    gateway.sessions(10);
    gate.open();
    honest.expect("+OK");
    honest.quit();
}

/// Silent connections take all sessions: when a further connection is refused, the oldest silent one is closed too, so
/// that the next finds room.
#[test]
fn silence_does_not_hold_all_sessions() {
    let peer = Peer::start(mailbox());
    let gateway = Setup::new(peer.address()).limit("sessions = 2").start();
    let mut silent: Vec<_> = (1..=2)
        .map(|number| Pop::connect_from(Ipv4Addr::new(127, 1, 0, number), gateway.address()))
        .collect();
    let mut refused = Pop::open(gateway.address());
    refused.expect("-ERR [SYS/TEMP]");
    refused.closed();
    silent[0].expect("-ERR [SYS/TEMP]");
    silent[0].closed();
    gateway.sessions(1);
    Pop::log_in(gateway.address(), "eva").quit();
}

/// An address that has all its sessions is refused. That closes nobody else's connection.
#[test]
fn who_has_all_its_sessions_takes_none_of_others() {
    let peer = Peer::start(mailbox());
    let gateway = Setup::new(peer.address()).limit("sessions_per_address = 1").start();
    let from = |number| Ipv4Addr::new(127, 1, 0, number);
    let mut silent = Pop::connect_from(from(1), gateway.address());
    let mut inside = Pop::connect_from(from(2), gateway.address());
    assert!(inside.try_log_in("eva", PASSWORD).starts_with("+OK"));
    Pop::open_from(from(2), gateway.address()).expect("-ERR [SYS/TEMP]");
    // It gives way a second after it has come: the silent one would have left before it.
    let mut later = Pop::connect_from(from(3), gateway.address());
    Pop::open_from(from(3), gateway.address()).expect("-ERR [SYS/TEMP]");
    later.expect("-ERR [SYS/TEMP]");
    later.closed();
    silent.ok("CAPA");
    silent.lines();
    inside.quit();
}

#[test]
fn a_session_has_a_longest_time_and_deletes_nothing_at_its_end() {
    let peer = Peer::start(mailbox());
    let gateway = Setup::new(peer.address()).limit("session_seconds = 1").start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.ok("DELE 1");
    pop.closed();
    let session = &gateway.sessions(1)[0];
    assert_eq!(
        (&session["end"], &session["removed"]),
        (&"session-timeout".into(), &0.into())
    );
    peer.assert_nothing_removed();
    assert_eq!(Pop::log_in(gateway.address(), "eva").stat().0, 2);
}

/// A device asks for 30 MB and does not read them.
#[test]
fn a_device_that_does_not_read_is_dropped_after_a_minute() {
    let large = b"Subject: large\r\n\r\n0123456789\r\n".repeat(1 << 20);
    let peer = Peer::start(Answers::of([large]));
    let Some(setup) = Setup::new(peer.address()).movable_clock() else {
        return;
    };
    let gateway = setup.start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.send(b"RETR 1\r\n");
    pop.leave_unread(b"Subject: large");
    gateway.pass(std::time::Duration::from_secs(30));
    // The gateway notices that its clock was moved only when something happens.
    let mut other = Pop::log_in(gateway.address(), "ida");
    assert_eq!(other.stat().0, 1);
    gateway.pass(std::time::Duration::from_secs(95));
    other.ok("NOOP");
    assert_eq!(gateway.sessions(1)[0]["end"], "slow");
    other.quit();
}
