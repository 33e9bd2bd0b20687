//! Read-ahead for devices that fetch messages in a row: the octets are right whatever the device does next, few are
//! fetched in vain, and no memory is held for them.

use std::net::SocketAddr;

use tempfile::TempDir;

use crate::support::{
    answers::Answers,
    gateway::{Gateway, Setup},
    mail,
    peer::Peer,
    pop::Pop,
};

fn start(upstream: SocketAddr, state: &TempDir) -> Gateway {
    Setup::new(upstream)
        .table(&format!("[state]\ndir = {:?}", state.path()))
        .start()
}

/// A mailbox of `count` mails, and a gateway that has seen `eva` fetch `row` of them in a row.
fn experienced(count: usize, row: usize) -> (Vec<Vec<u8>>, Peer, Gateway, TempDir) {
    let mails: Vec<_> = (1..=count).map(mail::simple).collect();
    let peer = Peer::start(Answers::of(mails.clone()));
    let state = TempDir::new().unwrap();
    let gateway = start(peer.address(), &state);
    let mut pop = Pop::log_in(gateway.address(), "eva");
    for number in 1..=row {
        pop.retr(number);
    }
    pop.quit();
    gateway.stop();
    let gateway = start(peer.address(), &state);
    (mails, peer, gateway, state)
}

#[test]
fn a_row_is_asked_for_at_once() {
    let (mails, peer, gateway, _state) = experienced(30, 20);
    let mut pop = Pop::log_in(gateway.address(), "eva");
    for number in 1..=30 {
        assert_eq!(pop.retr(number).1, mails[number - 1]);
    }
    pop.quit();
    assert_eq!(
        peer.count("UID FETCH 1:20 (UID BODY.PEEK[])"),
        1,
        "{:?}",
        peer.commands()
    );
}

#[test]
fn any_order_is_served() {
    let (mails, _peer, gateway, _state) = experienced(30, 20);
    let mut pop = Pop::log_in(gateway.address(), "eva");
    for number in [1, 2, 15, 3, 2, 20, 19, 30, 1, 2, 3, 4, 4, 5] {
        assert_eq!(pop.retr(number).1, mails[number - 1], "{number}");
        assert_eq!(pop.top(number, 0), mail::top(&mails[number - 1], 0), "{number}");
    }
    pop.quit();
}

#[test]
fn deletes_in_between_go_with_quit() {
    let (mails, peer, gateway, _state) = experienced(30, 20);
    let mut pop = Pop::log_in(gateway.address(), "eva");
    for number in 1..=5 {
        assert_eq!(pop.retr(number).1, mails[number - 1]);
        pop.ok(&format!("DELE {number}"));
    }
    pop.ok("DELE 7");
    assert_eq!(pop.retr(6).1, mails[5]);
    assert_eq!(pop.retr(8).1, mails[7]);
    pop.quit();
    assert_eq!(
        peer.count("UID STORE 1:5,7 +FLAGS.SILENT (\\Deleted)"),
        1,
        "{:?}",
        peer.commands()
    );
    assert_eq!(peer.count("UID EXPUNGE 1:5,7"), 1, "{:?}", peer.commands());
}

#[test]
fn a_device_that_drops_in_the_middle_of_a_row() {
    let (mails, peer, gateway, _state) = experienced(30, 20);
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.retr(1);
    pop.ok("DELE 1");
    pop.retr(2);
    drop(pop);
    gateway.sessions(1);
    let mut pop = Pop::log_in(gateway.address(), "eva");
    assert_eq!(pop.retr(1).1, mails[0]);
    pop.quit();
    assert_eq!(peer.count("UID EXPUNGE"), 0);
}

#[test]
fn a_new_device_that_stops_has_cost_a_tenth_at_most() {
    let mails: Vec<_> = (1..=300).map(mail::simple).collect();
    let peer = Peer::start(Answers::of(mails));
    let gateway = Setup::new(peer.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    for number in 1..=150 {
        pop.retr(number);
    }
    pop.quit();
    let session = &gateway.sessions(1)[0];
    let (octets, wasted) = (session["octets"].as_u64().unwrap(), session["wasted"].as_u64().unwrap());
    assert!(wasted * 10 <= octets, "{wasted} of {octets}");
    let bodies = peer
        .commands()
        .iter()
        .filter(|command| command.contains("BODY.PEEK[]"))
        .count();
    assert!(
        bodies < 100,
        "{bodies} commands for 150 messages: nothing was read ahead"
    );
}

#[test]
fn messages_of_50_mb_take_no_memory() {
    const MB: u64 = 1024 * 1024;
    let line = [&b"abcdefghi ".repeat(70)[..], b"\r\n"].concat();
    let large = [
        &b"Subject: large\r\n\r\n"[..],
        &line.repeat(50 * MB as usize / line.len()),
    ]
    .concat();
    let peer = Peer::start(Answers::of([large.clone(), large.clone(), large.clone()]));
    let state = TempDir::new().unwrap();
    let gateway = start(peer.address(), &state);
    let mut pop = Pop::log_in(gateway.address(), "eva");
    for number in 1..=3 {
        pop.top(number, 0);
    }
    pop.quit();
    gateway.stop();

    let gateway = start(peer.address(), &state);
    let mut pop = Pop::log_in(gateway.address(), "eva");
    let before = gateway.memory("VmRSS");
    gateway.forget_peak_memory();
    for number in 1..=3 {
        assert!(pop.retr(number).1 == large, "the octets of {number} differ");
    }
    let grown = gateway.memory("VmHWM").saturating_sub(before);
    assert!(grown < 8 * MB, "{grown} octets");
    assert_eq!(
        peer.count("UID FETCH 1:2 (UID BODY.PEEK[])"),
        1,
        "{:?}",
        peer.commands()
    );
    pop.quit();
}
