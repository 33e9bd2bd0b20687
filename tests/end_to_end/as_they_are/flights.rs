//! Commands sent together: servers that answer them in any order, take only one at a time, or hang up on a long answer.

use std::sync::{Arc, Mutex};

use super::{assert_served, each, mailbox};
use crate::support::{
    PASSWORD,
    answers::{Answers, Message, contains, is_listing},
    gateway::Setup,
    mail,
    peer::{Peer, Step, Steps, send},
    pop::Pop,
};

/// The number of orders in which five commands can be completed. Fewer commands go through each order several times.
const ORDERS: usize = 2 * 3 * 4 * 5;

#[test]
fn completions_in_any_order() {
    let each = (0..ORDERS).map(|permutation| mailbox().permuted(permutation)).collect();
    let peer = Peer::start_each(each);
    let gateway = Setup::new(peer.address()).limit("upstream_seconds = 2").start();
    for order in 0..ORDERS {
        // A new user each time, so that nothing is known of the mailbox.
        let mut pop = Pop::log_in(gateway.address(), &format!("user{order}"));
        assert_eq!(pop.list("UIDL"), ["1 1000.1", "2 1000.2", "3 1000.3"], "order {order}");
        assert_eq!(pop.retr(3).1, mail::simple(3));
        pop.quit();
    }
    assert_eq!(peer.connections(), ORDERS, "a connection was given up");
}

/// One command of the flight is refused, and its answer comes last or first.
#[test]
fn a_refusal_out_of_order() {
    let refusing = |permutation| {
        mailbox()
            .permuted(permutation)
            .on(
                "SELECT",
                vec![send(""), send("{tag} NO [NONEXISTENT] no such mailbox\r\n")],
            )
            .on("UID", vec![send(""), send("{tag} BAD no mailbox selected\r\n")])
    };
    let peer = Peer::start_each((0..ORDERS).map(refusing).collect());
    let gateway = Setup::new(peer.address()).limit("upstream_seconds = 2").start();
    for order in 0..ORDERS {
        let reply = Pop::connect(gateway.address()).try_log_in(&format!("user{order}"), PASSWORD);
        assert!(reply.starts_with("-ERR [SYS/PERM]"), "order {order}: {reply}");
    }
}

/// The messages that a FETCH of bodies asks for.
fn asked(command: &str, last: u32) -> Vec<u32> {
    match command.split(' ').collect::<Vec<_>>()[..] {
        ["UID", "FETCH", set, ..] if command.contains("BODY.PEEK[]") => {
            (1..=last).filter(|&uid| contains(set, uid, last)).collect()
        }
        _ => Vec::new(),
    }
}

fn row(uid: u32) -> Vec<u8> {
    let octets = mail::simple(uid as usize);
    let head = format!("* {uid} FETCH (UID {uid} BODY[] {{{}}}\r\n", octets.len());
    [head.as_bytes(), &octets, b")\r\n"].concat()
}

/// A server that answers two FETCHes at once: it sends the last message of the first only when the second has come, and
/// completes the second first.
fn interleaving(count: u32, newest_first: bool) -> Answers {
    let kept = Arc::new(Mutex::new(None));
    Answers::of((1..=count).map(|number| mail::simple(number as usize))).answer(move |command| {
        let mut uids = asked(command, count);
        let last = uids.pop()?;
        let mut kept = kept.lock().unwrap();
        let mut before: Vec<_> = uids.iter().map(|&uid| row(uid)).collect();
        let Some(uid) = kept.take() else {
            if before.is_empty() || last == count {
                let whole = [before.concat(), row(last)].concat();
                return Some(vec![send(whole), send("{tag} OK done\r\n")]);
            }
            *kept = Some(last);
            return Some(before.concat().steps());
        };
        before.push(row(last));
        let at = if newest_first { 1 } else { 0 };
        before.insert(at, row(uid));
        Some(vec![
            send(before.concat()),
            send("{tag} OK done\r\n{tag-1} OK done\r\n"),
        ])
    })
}

#[test]
fn two_fetches_answered_at_once() {
    const COUNT: u32 = 24;
    for newest_first in [false, true] {
        // After the first session the gateway expects that the device fetches everything.
        let known = Answers::of((1..=COUNT).map(|number| mail::simple(number as usize)));
        let peer = Peer::start_each(vec![known, interleaving(COUNT, newest_first)]);
        let gateway = Setup::new(peer.address())
            .limit("upstream_seconds = 2")
            .limit("read_ahead_bytes = 1000")
            .start();
        for _ in 0..2 {
            let mut pop = Pop::log_in(gateway.address(), "eva");
            for number in 1..=COUNT as usize {
                assert_eq!(pop.retr(number).1, mail::simple(number), "newest first: {newest_first}");
            }
            pop.quit();
            peer.wait_for_end(1);
        }
        let under_way_together = peer
            .commands_of(1)
            .iter()
            .filter(|command| asked(command, COUNT).len() > 1)
            .count();
        assert!(
            under_way_together > 1,
            "nothing was read ahead: {:?}",
            peer.commands_of(1)
        );
        assert_eq!(peer.connections(), 2, "a connection was given up");
    }
}

/// What a server that takes one command at a time does with a command that comes together with another.
fn about_the_rest() -> [Vec<Step>; 4] {
    [
        "{tag} BAD Command received in Invalid state.\r\n".steps(),
        "{tag} NO one command at a time\r\n".steps(),
        // The command is ignored.
        Vec::new(),
        vec![send("* BYE protocol error\r\n"), Step::Close],
    ]
}

#[test]
fn one_command_at_a_time_and_remembered() {
    for steps in about_the_rest() {
        let peer = Peer::start(mailbox().one_at_a_time(steps));
        let gateway = Setup::new(peer.address()).limit("upstream_seconds = 1").start();
        assert_served(&gateway, "eva");
        // The gateway remembers this for the upstream: the next login makes no extra connection, whichever user it is.
        for user in ["eva", "ida"] {
            let before = peer.connections();
            assert_served(&gateway, user);
            assert_eq!(peer.connections(), before + 1, "{:?}", peer.commands());
            assert_eq!(peer.pipelined(before), 0, "{:?}", peer.commands_of(before));
        }
    }
}

#[test]
fn one_command_at_a_time_to_the_end() {
    for steps in about_the_rest() {
        let peer = Peer::start(mailbox().one_at_a_time(steps));
        let gateway = Setup::new(peer.address())
            .limit("upstream_seconds = 1")
            .limit("parked_seconds = 60")
            .start();
        // Reading ahead, marking as read and deleting work the same way, on a parked connection.
        assert_served(&gateway, "eva");
        gateway.events("parked", 1);
        let connection = peer.connections() - 1;
        let before = peer.pipelined(connection);
        let mut pop = Pop::log_in(gateway.address(), "eva");
        for number in 1..=3 {
            assert_eq!(pop.retr(number).1, mail::simple(number));
        }
        pop.ok("DELE 1");
        pop.ok("DELE 3");
        pop.quit();
        assert_eq!(peer.pipelined(connection), before, "{:?}", peer.commands_of(connection));
        let expunged = peer
            .commands()
            .into_iter()
            .filter(|command| command.starts_with("UID EXPUNGE"));
        assert!(expunged.count() > 0, "{:?}", peer.commands());
    }
}

#[test]
fn pipelining_that_is_switched_off() {
    let peer = Peer::start(mailbox());
    let gateway = Setup::new(peer.address()).upstream("pipelining = false").start();
    assert_served(&gateway, "eva");
    assert_eq!(peer.pipelined(0), 0, "{:?}", peer.commands());
    assert_eq!(peer.connections(), 1);
}

/// How often each message was listed, if the server answers a FETCH with at most `most_rows` rows.
fn listed(peer: &Peer, count: u32, most_rows: usize) -> Vec<usize> {
    let mut times = vec![0; count as usize];
    for command in peer.commands().iter().filter(|command| is_listing(command)) {
        let set = command.split(' ').nth(2).unwrap();
        let rows = (1..=count).filter(|&uid| contains(set, uid, count)).take(most_rows);
        rows.for_each(|uid| times[uid as usize - 1] += 1);
    }
    times
}

#[test]
fn a_server_that_hangs_up_on_a_fetch_of_many() {
    each(
        [(3000, 600, 4, true), (250, 100, 3, false), (1500, 1000, 3, true)],
        |&(count, most_rows, connections, is_proven)| {
            let messages = (1..=count).map(|uid| Message::new(uid, mail::simple(uid as usize)));
            let peer = Peer::start(Answers::new(messages).most_rows(most_rows));
            let gateway = Setup::new(peer.address()).limit("upstream_seconds = 5").start();
            let mut pop = Pop::log_in(gateway.address(), "eva");
            assert_eq!(pop.stat().0, count as usize);
            let uidls = pop.list("UIDL");
            assert!(
                uidls
                    .iter()
                    .zip(1..)
                    .all(|(line, uid)| *line == format!("{uid} 1000.{uid}"))
            );
            assert_eq!(pop.retr(count as usize).1, mail::simple(count as usize));
            pop.quit();
            // The gateway keeps the rows that have come. It asks again only for the row in which the connection ended.
            let times = listed(&peer, count, most_rows);
            assert!(times.iter().all(|&times| times == 1), "{times:?} {:?}", peer.commands());
            assert!(peer.connections() <= connections, "{} connections", peer.connections());
            // If smaller portions were seen to work, the gateway remembers that for the upstream: the next login needs
            // one connection.
            let before = peer.connections();
            let mut pop = Pop::log_in(gateway.address(), "ida");
            assert_eq!(pop.stat().0, count as usize);
            pop.quit();
            assert!(
                !is_proven || peer.connections() == before + 1,
                "{:?}",
                peer.commands_of(before)
            );
        },
    );
}

/// If a server hangs up on every portion, the gateway gives up after a few tries.
#[test]
fn a_server_that_always_hangs_up_is_an_error() {
    let messages = (1..=50).map(|uid| Message::new(uid, mail::simple(uid as usize)));
    let peer = Peer::start(Answers::new(messages).most_rows(0));
    let gateway = Setup::new(peer.address()).start();
    let reply = Pop::connect(gateway.address()).try_log_in("eva", PASSWORD);
    assert!(reply.starts_with("-ERR [SYS/TEMP]"), "{reply}");
    assert!(peer.connections() <= 12, "{} connections", peer.connections());
}
