//! The index of a mailbox over a restart: only new messages are listed, and the session shows exactly the messages that
//! exist.

use tempfile::TempDir;

use crate::support::{
    answers::{Answers, CAPABILITIES, Message},
    dovecot::Dovecot,
    gateway::{Gateway, Setup},
    mail,
    peer::Peer,
    pop::Pop,
};

const QRESYNC: &str = "IMAP4rev1 SASL-IR AUTH=PLAIN UIDPLUS ENABLE CONDSTORE QRESYNC";

fn start(upstream: std::net::SocketAddr, state: &TempDir) -> Gateway {
    Setup::new(upstream)
        .table(&format!("[state]\ndir = {:?}", state.path()))
        .start()
}

/// The unique ids that a session shows. Then the gateway ends, so that its index is on disk.
fn unique_ids(upstream: std::net::SocketAddr, state: &TempDir) -> Vec<String> {
    let gateway = start(upstream, state);
    let mut pop = Pop::log_in(gateway.address(), "eva");
    let lines = pop.list("UIDL");
    let sizes = pop.list("LIST");
    assert_eq!(lines.len(), sizes.len());
    pop.quit();
    gateway.stop();
    lines
        .iter()
        .map(|line| line.split(' ').nth(1).unwrap().to_owned())
        .collect()
}

/// One session with the mailbox `first`, then one with `second`. Returns what the second session shows.
fn second_session(first: Answers, second: Answers) -> (Vec<String>, Peer) {
    let state = TempDir::new().unwrap();
    let peer = Peer::start_each(vec![first, second]);
    unique_ids(peer.address(), &state);
    (unique_ids(peer.address(), &state), peer)
}

fn mailbox(uids: &[u32]) -> Answers {
    Answers::new(uids.iter().map(|&uid| Message::new(uid, mail::simple(uid as usize))))
}

fn select(exists: usize, uid_validity: u32, modseq: u64, more: &str) -> String {
    format!(
        "* {exists} EXISTS\r\n* OK [UIDVALIDITY {uid_validity}]\r\n* OK [HIGHESTMODSEQ {modseq}]\r\n{more}{{tag}} OK done\r\n"
    )
}

#[test]
fn only_what_is_new_is_listed() {
    let (shown, peer) = second_session(mailbox(&[1, 2, 5]), mailbox(&[1, 2, 5, 6, 9]));
    assert_eq!(shown, ["1000.1", "1000.2", "1000.5", "1000.6", "1000.9"]);
    assert_eq!(
        peer.count("UID FETCH 1:* (UID RFC822.SIZE)"),
        1,
        "{:?}",
        peer.commands()
    );
    assert_eq!(
        peer.count("UID FETCH 6:* (UID RFC822.SIZE)"),
        1,
        "{:?}",
        peer.commands()
    );
}

#[test]
fn what_vanished_is_found_by_counting() {
    let (shown, peer) = second_session(mailbox(&[1, 2, 5]), mailbox(&[1, 5, 7]));
    assert_eq!(shown, ["1000.1", "1000.5", "1000.7"]);
    assert_eq!(peer.count("UID FETCH 1:7 (UID)"), 1, "{:?}", peer.commands());
    let (shown, _) = second_session(mailbox(&[1, 2, 5]), mailbox(&[]));
    assert!(shown.is_empty());
}

#[test]
fn what_vanished_is_told_by_qresync() {
    const MODSEQ: u64 = 90_060_115_205_545_359;
    let first = mailbox(&[1, 2, 5])
        .capabilities(QRESYNC)
        .on("SELECT", select(3, 7, MODSEQ, ""));
    let again = format!("SELECT \"INBOX\" (QRESYNC (7 {MODSEQ}))");
    let vanished = "* VANISHED (EARLIER) 2,4:5\r\n* 1 FETCH (UID 1 FLAGS (\\Seen) MODSEQ (12))\r\n";
    let second = mailbox(&[1, 7])
        .capabilities(QRESYNC)
        .on("SELECT", "{tag} NO that is not what was expected\r\n")
        .on(&again, select(2, 7, MODSEQ + 5, vanished));
    let (shown, peer) = second_session(first, second);
    assert_eq!(shown, ["7.1", "7.7"]);
    assert_eq!(peer.count("ENABLE QRESYNC"), 1, "{:?}", peer.commands());
    assert!(
        !peer.commands().iter().any(|command| command.ends_with("(UID)")),
        "{:?}",
        peer.commands()
    );
}

#[test]
fn a_qresync_that_is_none_is_done_without() {
    let known = || {
        mailbox(&[1, 2, 5])
            .capabilities(QRESYNC)
            .on("SELECT", select(3, 7, 90, ""))
    };
    // The server refuses the QRESYNC that it offers.
    let refuses = mailbox(&[1, 5])
        .capabilities(QRESYNC)
        .on("SELECT", select(2, 7, 95, ""))
        .on("SELECT \"INBOX\" (QRESYNC", "{tag} BAD what?\r\n");
    assert_eq!(second_session(known(), refuses).0, ["7.1", "7.5"]);
    // The server does not report all messages that vanished.
    let conceals = mailbox(&[1, 5])
        .capabilities(QRESYNC)
        .on("SELECT", select(2, 7, 95, ""));
    assert_eq!(second_session(known(), conceals).0, ["7.1", "7.5"]);
}

#[test]
fn another_uid_validity_is_another_mailbox() {
    let other = Answers::new([Message::new(1, mail::simple(8)), Message::new(2, mail::simple(9))]).uid_validity(1001);
    let (shown, peer) = second_session(mailbox(&[1, 2, 5]), other);
    assert_eq!(shown, ["1001.1", "1001.2"]);
    assert_eq!(
        peer.count("UID FETCH 1:* (UID RFC822.SIZE)"),
        2,
        "{:?}",
        peer.commands()
    );
}

#[test]
fn the_size_that_was_delivered_is_listed_the_next_time() {
    let mut lying = Message::new(3, mail::simple(3));
    let octets = lying.octets.len();
    lying.size = octets + 17;
    let answers = Answers::new([lying]).capabilities(CAPABILITIES);
    let state = TempDir::new().unwrap();
    let peer = Peer::start(answers);
    let gateway = start(peer.address(), &state);
    let mut pop = Pop::log_in(gateway.address(), "eva");
    assert_eq!(pop.list("LIST"), [format!("1 {}", octets + 17)]);
    assert_eq!(pop.retr(1).0, octets as u64);
    assert_eq!(pop.list("LIST"), [format!("1 {}", octets + 17)], "a listing is frozen");
    pop.quit();
    gateway.stop();
    let gateway = start(peer.address(), &state);
    let mut pop = Pop::log_in(gateway.address(), "eva");
    assert_eq!(pop.list("LIST"), [format!("1 {octets}")]);
    pop.quit();
}

#[test]
fn a_real_server_that_changed_meanwhile() {
    let Some(dovecot) = Dovecot::start() else { return };
    let mails: Vec<_> = (1..=8).map(mail::simple).collect();
    let mut imap = dovecot.user_with("eva", &mails[..6]);
    let state = TempDir::new().unwrap();
    assert_eq!(unique_ids(dovecot.address(), &state).len(), 6);
    imap.command("UID STORE 2,5 +FLAGS (\\Deleted)");
    imap.command("UID EXPUNGE 2");
    imap.append(&mails[6..], "");
    for _ in 0..2 {
        let gateway = start(dovecot.address(), &state);
        let mut pop = Pop::log_in(gateway.address(), "eva");
        let shown: Vec<_> = (1..=pop.stat().0).map(|number| pop.retr(number).1).collect();
        assert_eq!(shown, [1, 3, 4, 6, 7, 8].map(|number| mails[number - 1].clone()));
        pop.quit();
        gateway.stop();
    }
}

#[test]
fn a_state_file_that_is_none_is_set_aside() {
    let state = TempDir::new().unwrap();
    let peer = Peer::start(mailbox(&[1, 2, 5]));
    let shown = unique_ids(peer.address(), &state);
    for entry in std::fs::read_dir(state.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.metadata().unwrap().len() > 0 {
            std::fs::write(&path, b"this is something else").unwrap();
        }
    }
    assert_eq!(unique_ids(peer.address(), &state), shown);
}
