//! The memory of a session: a message is never held whole, and a large mailbox takes a few octets for each message.

use std::time::Instant;

use crate::support::{
    answers::{Answers, Message},
    gateway::Setup,
    mail,
    peer::Peer,
    pop::Pop,
};

const MB: u64 = 1 << 20;

/// 30 MB of text whose lines begin with a dot.
fn large() -> Vec<u8> {
    let line = [&b"."[..], &b"abcdefghi ".repeat(70), b"\r\n"].concat();
    let text = line.repeat(30 * MB as usize / line.len() + 1);
    [&b"Subject: large\r\n\r\n"[..], &text].concat()
}

#[test]
fn a_message_of_30_mb() {
    let large = large();
    let peer = Peer::start(Answers::of([mail::simple(1), large.clone()]));
    let gateway = Setup::new(peer.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.retr(1);
    let before = gateway.memory("VmRSS");
    gateway.forget_peak_memory();
    let (octets, body) = pop.retr(2);
    let retr = gateway.memory("VmHWM").saturating_sub(before);
    assert_eq!(octets, large.len() as u64);
    assert!(body == large, "the octets differ");

    // A TOP of the whole message takes no more memory.
    gateway.forget_peak_memory();
    assert!(pop.top(2, 100_000_000) == large, "the octets differ");
    let top = gateway.memory("VmHWM").saturating_sub(before);
    println!("grown by {} KB for RETR, {} KB for TOP", retr / 1024, top / 1024);
    assert!(retr < 8 * MB && top < 8 * MB, "RETR: {retr}, TOP: {top} octets");
    pop.quit();
}

/// A device sends all commands before it reads anything. The commands wait, and messages do not pile up in memory.
#[test]
fn a_device_that_does_not_read() {
    let large = large();
    let peer = Peer::start(Answers::of([large.clone(), large]));
    let gateway = Setup::new(peer.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    let before = gateway.memory("VmRSS");
    gateway.forget_peak_memory();
    pop.send(b"RETR 1\r\nRETR 2\r\n");
    pop.send(&b"NOOP\r\n".repeat(5_000));
    for _ in 0..2 {
        pop.expect("+OK");
        pop.body().expect("a whole message");
    }
    for _ in 0..5_000 {
        pop.expect("+OK");
    }
    let grown = gateway.memory("VmHWM").saturating_sub(before);
    println!("grown by {} KB", grown / 1024);
    assert!(grown < 8 * MB, "{grown} octets");
    pop.quit();
}

#[test]
fn a_hundred_thousand_messages() {
    const COUNT: u32 = 100_000;
    let messages = (1..=COUNT).map(|number| {
        let mut message = Message::new(number * 3, &b""[..]);
        message.size = 1000 + number as usize;
        message
    });
    let peer = Peer::start(Answers::new(messages));
    let gateway = Setup::new(peer.address()).start();
    let begun = Instant::now();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    let octets = (1..=u64::from(COUNT)).map(|number| 1000 + number).sum();
    assert_eq!(pop.stat(), (COUNT as usize, octets));
    let sizes = pop.list("LIST");
    assert_eq!(sizes.len(), COUNT as usize);
    assert_eq!(sizes[99_999], "100000 101000");
    let unique = pop.list("UIDL");
    assert_eq!(unique.len(), COUNT as usize);
    assert_eq!(unique[99_999], "100000 1000.300000");
    for number in (1..=COUNT).step_by(1000) {
        pop.ok(&format!("DELE {number}"));
    }
    assert_eq!(pop.stat().0, COUNT as usize - 100);
    pop.quit();
    let peak = gateway.memory("VmHWM");
    assert!(peak < 64 * MB, "{} KB", peak / 1024);
    println!("100,000 messages: {} KB, {:?}", peak / 1024, begun.elapsed());
}

/// An idle session takes two sockets and little else.
#[test]
fn a_thousand_idle_sessions() {
    const SESSIONS: u64 = 1_000;
    // The test itself has two sockets for each session: as the device and as the upstream.
    let files = rlimit::increase_nofile_limit(2 * SESSIONS + 200).unwrap();
    assert!(files >= 2 * SESSIONS + 200, "the system allows {files} files only");
    let peer = Peer::start(Answers::of((1..=20).map(mail::simple)));
    let gateway = Setup::new(peer.address()).start();
    let before = gateway.memory("VmRSS");
    let sessions: Vec<_> = (0..SESSIONS)
        .map(|number| {
            let mut pop = Pop::log_in(gateway.address(), &format!("user{number}"));
            assert_eq!(pop.stat().0, 20);
            pop
        })
        .collect();
    let each = gateway.memory("VmRSS").saturating_sub(before) / SESSIONS;
    println!("{each} octets a session");
    assert!(each < 40 * 1024, "{each} octets a session");
    for mut pop in sessions {
        assert_eq!(pop.retr(7).1, mail::simple(7));
        pop.quit();
    }
}
