//! UIDL: the names of messages in every format, over restarts, over a change of UIDVALIDITY, and from another server.

use tempfile::TempDir;

use crate::support::{
    answers::{Answers, Message},
    dovecot::Dovecot,
    gateway::{Gateway, Setup},
    imap::Imap,
    mail,
    peer::Peer,
    pop::Pop,
};

/// A mail that can be known again.
fn with_id(number: usize) -> Vec<u8> {
    let mut mail = format!("Message-ID: <{number}@example.org>\r\n").into_bytes();
    mail.extend(mail::simple(number));
    mail
}

/// The unique-ids that a session of `login` shows.
fn names(gateway: &Gateway, login: &str) -> Vec<String> {
    let mut pop = Pop::log_in(gateway.address(), login);
    let lines = pop.list("UIDL");
    pop.quit();
    lines
        .iter()
        .map(|line| line.split(' ').nth(1).unwrap().to_owned())
        .collect()
}

fn start(upstream: std::net::SocketAddr, keys: &[&str], state: &TempDir) -> Gateway {
    let setup = Setup::new(upstream).table(&format!("[state]\ndir = {:?}", state.path()));
    keys.iter().fold(setup, |setup, key| setup.maildrop(key)).start()
}

#[test]
fn formats() {
    let peer =
        Peer::start(Answers::new([5, 300].map(|uid| Message::new(uid, mail::simple(1)))).uid_validity(1_700_000_000));
    for (format, expected) in [
        ("validity.uid", ["1700000000.5", "1700000000.300"]),
        ("uid", ["5", "300"]),
        ("dovecot", ["000000056553f100", "0000012c6553f100"]),
        ("cyrus", ["1700000000.5", "1700000000.300"]),
        ("courier", ["UID5-1700000000", "UID300-1700000000"]),
        ("%v-%u", ["1700000000-5", "1700000000-300"]),
        ("emailid", ["1700000000.5", "1700000000.300"]),
    ] {
        let gateway = Setup::new(peer.address())
            .maildrop(&format!("uidl = \"{format}\""))
            .start();
        assert_eq!(names(&gateway, "eva"), expected, "{format}");
    }
}

#[test]
fn email_ids_where_the_server_has_them() {
    let listing = "* 1 FETCH (UID 1 RFC822.SIZE 9 EMAILID (M6d99ac))\r\n* 2 FETCH (UID 2 EMAILID (M7) RFC822.SIZE 9)\r\n\
                   * 3 FETCH (UID 3 RFC822.SIZE 9 EMAILID (M7))\r\n{tag} OK listed\r\n";
    let answers = Answers::of((1..=3).map(mail::simple))
        .capabilities("IMAP4rev1 SASL-IR AUTH=PLAIN UIDPLUS OBJECTID")
        .greet("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN UIDPLUS OBJECTID] ready\r\n")
        .on("UID FETCH 1:* (UID RFC822.SIZE EMAILID)", listing);
    let peer = Peer::start(answers);
    let state = TempDir::new().unwrap();
    for _ in 0..2 {
        let gateway = start(peer.address(), &["uidl = \"emailid\""], &state);
        assert_eq!(
            names(&gateway, "eva"),
            ["M6d99ac", "M7", "1000.3"],
            "a copy has a name of its own"
        );
        gateway.stop();
    }
    assert_eq!(
        peer.count("UID FETCH 1:* (UID RFC822.SIZE EMAILID)"),
        1,
        "{:?}",
        peer.commands()
    );
}

/// A server that tells only after login, and only when asked, what it can do.
#[test]
fn email_ids_that_are_offered_after_login() {
    let listing = "* 1 FETCH (UID 1 RFC822.SIZE 9 EMAILID (M1))\r\n{tag} OK listed\r\n";
    let answers = Answers::of([mail::simple(1)])
        .capabilities("IMAP4rev1 SASL-IR AUTH=PLAIN UIDPLUS OBJECTID")
        .greet("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\r\n")
        .on("UID FETCH 1:* (UID RFC822.SIZE EMAILID)", listing);
    let peer = Peer::start(answers);
    let gateway = Setup::new(peer.address()).maildrop("uidl = \"emailid\"").start();
    assert_eq!(names(&gateway, "eva"), ["M1"], "{:?}", peer.commands());
    assert_eq!(peer.count("CAPABILITY"), 1);
}

/// The folder anew: another UIDVALIDITY, and UIDs in another order.
fn replace(imap: &mut Imap, mails: &[(usize, u32)]) {
    imap.command("SELECT INBOX");
    imap.command("DELETE Scans");
    fill(imap, mails);
}

/// Mail number and day of arrival of each.
fn fill(imap: &mut Imap, mails: &[(usize, u32)]) {
    for &(number, day) in mails {
        imap.append_to("Scans", &with_id(number), day);
    }
}

#[test]
fn messages_are_known_again_when_uidvalidity_changes() {
    let Some(dovecot) = Dovecot::start() else { return };
    let mut imap = dovecot.imap("eva");
    fill(&mut imap, &[(1, 1), (2, 2), (3, 3), (4, 4), (4, 4), (5, 5)]);
    let state = TempDir::new().unwrap();
    let scans = "folder = \"Scans\"";
    let gateway = start(dovecot.address(), &[scans], &state);
    let mut pop = Pop::log_in(gateway.address(), "eva");
    // 1 to 4 have been downloaded, 5 has not.
    for number in 1..=5 {
        pop.retr(number);
    }
    pop.quit();
    let before = names(&gateway, "eva");
    gateway.stop();

    replace(&mut imap, &[(9, 9), (3, 3), (2, 2), (1, 1), (4, 4), (4, 4), (5, 5)]);
    let mut again = Vec::new();
    for _ in 0..2 {
        let gateway = start(dovecot.address(), &[scans], &state);
        again = names(&gateway, "eva");
        gateway.stop();
        assert_eq!(again[1..4], [before[2].clone(), before[1].clone(), before[0].clone()]);
        let new: Vec<_> = [0, 4, 5, 6].map(|at| &again[at]).into();
        assert!(
            new.iter().all(|name| !before.contains(name)),
            "new, ambiguous or unknown: {new:?}"
        );
    }

    // A message of another day or size is another message; and the names stay through a second change.
    let gateway = start(dovecot.address(), &[scans], &state);
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.retr(1);
    pop.quit();
    gateway.stop();
    replace(&mut imap, &[(1, 1), (2, 7), (9, 9)]);
    let gateway = start(dovecot.address(), &[scans], &state);
    let third = names(&gateway, "eva");
    assert_eq!((&third[0], &third[2]), (&before[0], &again[0]));
    assert!(!before.contains(&third[1]) && !again.contains(&third[1]));
}

#[test]
fn what_was_hidden_stays_hidden_when_uidvalidity_changes() {
    let Some(dovecot) = Dovecot::start() else { return };
    let mut imap = dovecot.imap("eva");
    fill(&mut imap, &[(1, 1), (2, 2), (3, 3)]);
    let state = TempDir::new().unwrap();
    let keys = ["folder = \"Scans\"", "on_delete = \"hide\""];
    let gateway = start(dovecot.address(), &keys, &state);
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.retr(1);
    pop.retr(2);
    pop.ok("DELE 2");
    // Deleted unseen: nothing tells it again, and showing it once more is better than hiding another.
    pop.ok("DELE 3");
    pop.quit();
    gateway.stop();
    replace(&mut imap, &[(3, 3), (2, 2), (1, 1)]);
    let gateway = start(dovecot.address(), &keys, &state);
    let mut pop = Pop::log_in(gateway.address(), "eva");
    let shown: Vec<_> = (1..=pop.stat().0).map(|number| pop.retr(number).1).collect();
    assert_eq!(shown, [with_id(3), with_id(1)]);
    pop.quit();
}

#[test]
fn names_come_from_another_server() {
    let Some(dovecot) = Dovecot::start() else { return };
    let mut imap = dovecot.imap("eva");
    fill(&mut imap, &[(1, 1), (2, 2), (3, 3), (4, 4)]);
    let state = TempDir::new().unwrap();
    let file = state.path().join("uidls.txt");
    std::fs::write(&file, "old-one\t<1@example.org>\nold-two\t2@example.org\nold-four\t4\n").unwrap();
    let import = format!("uidl_import = {file:?}");
    let keys = ["folder = \"Scans\"", "uidl = \"uid\"", &import];
    let gateway = start(dovecot.address(), &keys, &state);
    assert_eq!(names(&gateway, "eva"), ["old-one", "old-two", "3", "old-four"]);
    gateway.stop();
    // New mail is not looked for in the file, and what was found once stays.
    imap.append_to("Scans", &with_id(1), 9);
    let gateway = start(dovecot.address(), &keys, &state);
    assert_eq!(names(&gateway, "eva"), ["old-one", "old-two", "3", "old-four", "5"]);
}
