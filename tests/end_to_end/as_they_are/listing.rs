//! Listing: rows, UIDVALIDITYs and search results that are not as they should be. A faulty row costs at most its own
//! message.

use std::time::Duration;

use super::{assert_served, each, mailbox};
use crate::support::{
    PASSWORD,
    answers::{Answers, Message, is_listing},
    gateway::{Gateway, Setup},
    mail,
    peer::{Peer, Step},
    pop::Pop,
};

/// Three messages; `row` lists the second.
fn with_row(row: &str) -> Answers {
    Answers::new((1..=3).map(|uid| {
        let message = Message::new(uid, mail::simple(uid as usize));
        if uid == 2 { message.row(row) } else { message }
    }))
}

fn start(answers: Answers) -> (Gateway, Peer) {
    let peer = Peer::start(answers);
    (Setup::new(peer.address()).limit("upstream_seconds = 2").start(), peer)
}

fn unique_ids(gateway: &Gateway) -> Vec<String> {
    let mut pop = Pop::log_in(gateway.address(), "eva");
    let lines = pop.list("UIDL");
    pop.quit();
    lines
}

#[test]
fn uidvalidity_of_any_size() {
    each(
        [
            "0",
            "1",
            "4294967295",
            "4294967296",
            "9223372036854775807",
            "9223372036854775808",
        ],
        |&validity| {
            let state = tempfile::tempdir().unwrap();
            let peer = Peer::start(mailbox().validity(&format!("* OK [UIDVALIDITY {validity}] it is\r\n")));
            let expected = (1..=3).map(|uid| format!("{uid} {validity}.{uid}")).collect::<Vec<_>>();
            // Twice, because the result must be the same after a restart.
            for _ in 0..2 {
                let gateway = Setup::new(peer.address())
                    .table(&format!("[state]\ndir = {:?}", state.path()))
                    .start();
                assert_eq!(unique_ids(&gateway), expected);
                assert_served(&gateway, "eva");
                gateway.stop();
            }
        },
    );
}

/// A change in either half of a 64-bit UIDVALIDITY means another mailbox.
#[test]
fn uidvalidity_is_compared_in_full() {
    each(
        [("4294968296", "1000"), ("1000", "4294968296"), ("0", "4294967296")],
        |&(before, after)| {
            let of = |validity: &str| mailbox().validity(&format!("* OK [UIDVALIDITY {validity}]\r\n"));
            let lost = of(before).once("UID FETCH 1 (UID BODY", Step::Close);
            let peer = Peer::start_each(vec![lost, of(after)]);
            let gateway = Setup::new(peer.address()).start();
            let mut pop = Pop::log_in(gateway.address(), "eva");
            pop.ok("DELE 2");
            pop.err("RETR 1", "-ERR [SYS/TEMP]");
            pop.err("QUIT", "-ERR [SYS/TEMP]");
            gateway.stop();
            peer.assert_nothing_removed();
        },
    );
}

/// Without a valid UIDVALIDITY, either the login fails with a permanent error, or the next session shows other UIDLs.
#[test]
fn uidvalidity_that_is_missing() {
    each(
        ["", "* OK [UIDVALIDITY ] none\r\n", "* OK [UIDVALIDITY x]\r\n"],
        |&line| {
            let (gateway, _peer) = start(mailbox().validity(line));
            let mut pop = Pop::connect(gateway.address());
            let reply = pop.try_log_in("eva", PASSWORD);
            if reply.starts_with("+OK") {
                let first = pop.list("UIDL");
                assert_eq!((first.len(), pop.retr(3).1), (3, mail::simple(3)));
                pop.quit();
                assert_ne!(unique_ids(&gateway), first);
            } else {
                assert!(reply.starts_with("-ERR [SYS/PERM] "), "{reply}");
            }
        },
    );
}

/// Forms that break the grammar, but have one possible meaning only.
#[test]
fn rows_in_odd_forms() {
    let size = mail::simple(2).len();
    each(
        [
            format!("(RFC822.SIZE {size} UID 2)"),
            format!("(UID 2 RFC822.SIZE {size} )"),
            format!("( UID 2  RFC822.SIZE  {size})"),
            format!("(uid 2 rfc822.size {size})"),
            format!("((UID 2 RFC822.SIZE {size}))"),
            format!("(UID (2) RFC822.SIZE ({size}))"),
            format!("(UID 2 RFC822.SIZE \"{size}\")"),
            format!("(UID 0002 RFC822.SIZE 000{size})"),
            format!("(FLAGS (\\Seen \\*) UID 2 RFC822.SIZE {size})"),
            format!("(FLAGS (\\Seen [odd] $a(b) \"quoted word\" größe %foo) UID 2 RFC822.SIZE {size})"),
            format!("(FLAGS ({{3}}\r\na)b \\Seen) UID 2 RFC822.SIZE {size})"),
            format!("(UID 2 FLAGS () RFC822.SIZE {size})"),
            format!("(UID 2 FLAGS NIL RFC822.SIZE {size})"),
            format!("(UID 2 FLAGS \\Seen RFC822.SIZE {size})"),
            format!("(INTERNALDATE {{26}}\r\n 1-Jan-2024 00:00:00 +0000 UID 2 RFC822.SIZE {size})"),
            format!("(UID 2 X-GM-LABELS ({{5}}\r\na b)c \"x)\" \\\\Inbox) RFC822.SIZE {size})"),
            format!(
                "(UID 2 ENVELOPE (NIL \"RFC822.SIZE 7 UID 9)\" ((NIL NIL {{3}}\r\nUID \"b\")) NIL) RFC822.SIZE {size})"
            ),
            format!("(UID 2 MODSEQ (12) EMAILID (M2) THREADID NIL SAVEDATE NIL RFC822.SIZE {size})"),
        ],
        |items| {
            let (gateway, peer) = start(with_row(&format!("* 2 FETCH {items}\r\n")));
            let mut pop = Pop::log_in(gateway.address(), "eva");
            assert_eq!(pop.list("UIDL"), ["1 1000.1", "2 1000.2", "3 1000.3"], "{items}");
            assert_eq!(pop.ok("LIST 2"), format!("+OK 2 {size}"), "{items}");
            assert_eq!(pop.retr(2).1, mail::simple(2), "{items}");
            pop.quit();
            assert_eq!(peer.connections(), 1, "{items}");
        },
    );
}

#[test]
fn a_uid_of_zero_costs_that_row() {
    let (gateway, _peer) = start(with_row("* 2 FETCH (UID 0 RFC822.SIZE 122)\r\n"));
    for _ in 0..2 {
        let mut pop = Pop::log_in(gateway.address(), "eva");
        assert_eq!(pop.list("UIDL"), ["1 1000.1", "2 1000.3"]);
        assert_eq!(pop.retr(2).1, mail::simple(3));
        pop.quit();
    }
}

/// Rows that cannot be understood, or that do not come at all.
#[test]
fn a_row_that_is_none_costs_that_row() {
    each(
        [
            "* 2 FETCH (UID 99999999999999999999 RFC822.SIZE 122)\r\n",
            "* 2 FETCH (UID x RFC822.SIZE 122)\r\n",
            "* 2 FETCH (UID -2 RFC822.SIZE 122)\r\n",
            "* 2 FETCH (RFC822.SIZE 122)\r\n",
            "* 2 FETCH (UID 2 RFC822.SIZE 1\r\n",
            "* 2 FETCH (UID\r\n",
            "* 2 FETCH ()\r\n",
            "* 2 FETCH NIL\r\n",
            "* 2 FETCH\r\n",
            "* 2 FETCH (UID 2 FLAGS (\\Seen RFC822.SIZE 122)\r\n",
            "* 2 FETCH (UID 2 RFC822.SIZE 122))))\r\n",
            "* 2 FETCH (\"UID 2 RFC822.SIZE 122)\r\n",
            "* x FETCH (UID 2 RFC822.SIZE 122)\r\n",
            "* OK [HIGHESTMODSEQ x] no row\r\n",
            "",
        ],
        |&row| {
            let (gateway, _peer) = start(with_row(row));
            for _ in 0..2 {
                let mut pop = Pop::log_in(gateway.address(), "eva");
                let shown = pop.list("UIDL");
                let number_of = |uid: &str| shown.iter().position(|line| line.ends_with(uid)).map(|at| at + 1);
                for uid in [1, 3] {
                    let number = number_of(&format!(" 1000.{uid}")).unwrap_or_else(|| panic!("{row:?}: {shown:?}"));
                    assert_eq!(pop.retr(number).1, mail::simple(uid), "{row:?}");
                }
                pop.quit();
            }
        },
    );
}

/// If a size is missing or invalid, the gateway asks again for this message alone. If that does not help, it serves the
/// message nevertheless, and learns its size on delivery.
#[test]
fn a_size_that_is_none() {
    each(
        [
            "UID 2 RFC822.SIZE NIL",
            "UID 2 RFC822.SIZE -1",
            "UID 2 RFC822.SIZE 9.3e+06",
            "RFC822.SIZE 9.3e+06 UID 2",
            "UID 2 RFC822.SIZE 99999999999999999999",
            "UID 2 RFC822.SIZE \"\"",
            "UID 2 RFC822.SIZE",
            "UID 2 RFC822.SIZE ()",
            "UID 2",
        ],
        |&items| {
            let row = format!("* 2 FETCH ({items})\r\n");
            let (gateway, peer) = start(with_row(&row));
            let mut pop = Pop::log_in(gateway.address(), "eva");
            assert_eq!(pop.list("UIDL"), ["1 1000.1", "2 1000.2", "3 1000.3"], "{items}");
            let listed = pop.list("LIST");
            assert!(
                listed[1].starts_with("2 ") && listed[2] == format!("3 {}", mail::simple(3).len()),
                "{listed:?}"
            );
            assert_eq!(pop.retr(2).1, mail::simple(2), "{items}");
            assert_eq!(pop.retr(3).1, mail::simple(3), "{items}");
            pop.quit();
            assert_eq!(peer.connections(), 1, "{items}");
            peer.wait_for_end(1);
            let mut pop = Pop::log_in(gateway.address(), "eva");
            assert_eq!(pop.ok("LIST 2"), format!("+OK 2 {}", mail::simple(2).len()), "{items}");
            pop.quit();
        },
    );
}

#[test]
fn a_size_that_is_told_when_it_is_asked_for_alone() {
    let size = mail::simple(2).len();
    let alone = format!("* 2 FETCH (UID 2 RFC822.SIZE {size})\r\n{{tag}} OK done\r\n");
    let is_alone = |command: &str| is_listing(command) && command.starts_with("UID FETCH 2 ");
    let (gateway, _peer) = start(with_row("* 2 FETCH (UID 2 RFC822.SIZE NIL)\r\n").when(is_alone, alone));
    let mut pop = Pop::log_in(gateway.address(), "eva");
    assert_eq!(pop.ok("LIST 2"), format!("+OK 2 {size}"));
    pop.quit();
}

/// By RFC 3501 §6.4.8, `n:*` always contains the last message. Some servers refuse such a set if `n` is beyond the last
/// message.
#[test]
fn a_refusal_where_there_is_nothing_new() {
    each(
        [
            "{tag} NO No matching messages\r\n",
            "{tag} BAD Invalid messageset\r\n",
            "{tag} NO [NONEXISTENT] no such message\r\n",
            "* NO nothing there\r\n{tag} NO The specified message set is invalid.\r\n",
        ],
        |&answer| {
            let is_new = |command: &str| is_listing(command) && command.starts_with("UID FETCH 4:");
            for keys in [&["parked_seconds = 0"][..], &["parked_seconds = 60"]] {
                let peer = Peer::start(mailbox().when(is_new, answer));
                let setup = keys
                    .iter()
                    .fold(Setup::new(peer.address()), |setup, key| setup.limit(key));
                let gateway = setup.start();
                for _ in 0..3 {
                    assert_served(&gateway, "eva");
                }
                gateway.stop();
            }
        },
    );
}

/// Like before, but then a new message comes, and the set is answered.
#[test]
fn what_comes_after_nothing_new_is_shown() {
    let is_new = |command: &str| is_listing(command) && command.starts_with("UID FETCH 4:");
    let before = mailbox().when(is_new, "{tag} BAD Invalid messageset\r\n");
    let after = Answers::of((1..=4).map(mail::simple));
    let peer = Peer::start_each(vec![before.clone(), before, after]);
    let gateway = Setup::new(peer.address()).start();
    assert_served(&gateway, "eva");
    assert_served(&gateway, "eva");
    let mut pop = Pop::log_in(gateway.address(), "eva");
    assert_eq!((pop.stat().0, pop.retr(4).1), (4, mail::simple(4)));
    pop.quit();
}

/// If a server does not report new mail upon NOOP, a device that polls gets the mail within five minutes all the same.
#[test]
fn new_mail_that_noop_does_not_tell() {
    const MINUTE: Duration = Duration::from_secs(60);
    let four = Answers::of((1..=4).map(mail::simple));
    // The server shows the new mail by STATUS, by a new SELECT, and on another connection.
    let three = mailbox()
        .on("NOOP", "{tag} OK NOOP completed\r\n")
        .on("UID FETCH", four.clone().to("UID FETCH 1:* (UID RFC822.SIZE)"))
        .once("UID FETCH 1:", mailbox().to("UID FETCH 1:* (UID RFC822.SIZE)"))
        .on(
            "STATUS",
            "* STATUS INBOX (MESSAGES 4 UIDNEXT 5 UNSEEN 4 UIDVALIDITY 1000)\r\n{tag} OK done\r\n",
        )
        .on("SELECT", four.clone().to("SELECT"))
        .once("SELECT", mailbox().to("SELECT"));
    let peer = Peer::start_each(vec![three, four]);
    let setup = Setup::new(peer.address()).limit("parked_seconds = 900");
    let Some(setup) = setup.movable_clock() else { return };
    let gateway = setup.start();
    Pop::log_in(gateway.address(), "eva").quit();
    gateway.events("parked", 1);
    // One poll a minute.
    let shown: Vec<usize> = (1..=6)
        .map(|minute| {
            gateway.pass(minute * MINUTE);
            let mut pop = Pop::log_in(gateway.address(), "eva");
            let count = pop.stat().0;
            pop.quit();
            gateway.events("parked", minute as usize + 1);
            count
        })
        .collect();
    assert_eq!(shown.last(), Some(&4), "{shown:?}: {:?}", peer.commands());
    assert!(peer.count("NOOP") > 0, "{:?}", peer.commands());
}
