//! UIDL: the unique ids in every format, over restarts, over a change of UIDVALIDITY, and imported from another server.

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

/// A mail with a Message-ID, so that it can be recognised.
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

/// A server that sends its capabilities only after login, and only when asked.
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

/// Creates the folder anew, with another UIDVALIDITY, and with UIDs in another order.
fn replace(imap: &mut Imap, mails: &[(usize, u32)]) {
    imap.command("SELECT INBOX");
    imap.command("DELETE Scans");
    fill(imap, mails);
}

/// Fills the folder. `mails`: the number of each mail and its day of arrival.
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

    // A message with another day or size is another message. The names stay the same through a second change.
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
    // This message is deleted without having been retrieved, so it cannot be recognised later. Showing it once more is
    // better than hiding another message.
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
    // The file is not used for new mail, and names that were imported stay.
    imap.append_to("Scans", &with_id(1), 9);
    let gateway = start(dovecot.address(), &keys, &state);
    assert_eq!(names(&gateway, "eva"), ["old-one", "old-two", "3", "old-four", "5"]);
}

/// A server with these messages: the UID and the Message-ID of each, or no Message-ID if the text is empty.
fn identified(uid_validity: u32, messages: &[(u32, &str)]) -> Answers {
    let all = messages
        .iter()
        .map(|&(uid, _)| Message::new(uid, mail::simple(uid as usize)));
    let mut answers = Answers::new(all).uid_validity(uid_validity);
    let described = |&(uid, id): &(u32, &str)| {
        let field = match id {
            "" => "\r\n".to_owned(),
            id => format!("Message-ID: <{id}@example.org>\r\n\r\n"),
        };
        format!(
            "* 1 FETCH (UID {uid} RFC822.SIZE 122 INTERNALDATE \" 1-Jan-2024 00:00:00 +0000\" \
             BODY[HEADER.FIELDS (MESSAGE-ID)] {{{}}}\r\n{field})\r\n",
            field.len()
        )
    };
    let fields = "(UID RFC822.SIZE INTERNALDATE BODY.PEEK[HEADER.FIELDS (";
    // The answer has all messages, whichever set of them is asked for.
    for (uid, _) in messages {
        let told: String = messages.iter().map(described).collect();
        for set in [format!("{uid}"), format!("{uid}:"), format!("{uid},")] {
            let prefix = if set.ends_with(|c: char| c.is_ascii_digit()) {
                format!("UID FETCH {set} {fields}")
            } else {
                let last = messages.last().map_or(0, |&(uid, _)| uid);
                format!("UID FETCH {set}{last} {fields}")
            };
            answers = answers.on(&prefix, format!("{told}{{tag}} OK\r\n"));
        }
    }
    answers
}

/// The unique ids of a session with the mailbox `answers`. If `retrieves`, the session retrieves all messages.
fn names_at(answers: Answers, keys: &[&str], state: &TempDir, retrieves: bool) -> Vec<String> {
    let peer = Peer::start(answers);
    let gateway = start(peer.address(), keys, state);
    let found = names(&gateway, "eva");
    if retrieves {
        let mut pop = Pop::log_in(gateway.address(), "eva");
        for number in 1..=pop.stat().0 {
            pop.retr(number);
        }
        pop.quit();
    }
    gateway.stop();
    found
}

#[test]
fn email_ids_stay_when_uidvalidity_changes() {
    let with_id = |uid_validity, uid: u32| {
        let listing = format!("* 1 FETCH (UID {uid} RFC822.SIZE 9 EMAILID (M1))\r\n{{tag}} OK listed\r\n");
        identified(uid_validity, &[(uid, "a")])
            .capabilities("IMAP4rev1 SASL-IR AUTH=PLAIN UIDPLUS OBJECTID")
            .greet("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN UIDPLUS OBJECTID] ready\r\n")
            .on("UID FETCH 1:* (UID RFC822.SIZE EMAILID)", listing)
    };
    let state = TempDir::new().unwrap();
    let keys = ["uidl = \"emailid\""];
    assert_eq!(names_at(with_id(1000, 1), &keys, &state, true), ["M1"]);
    assert_eq!(names_at(with_id(2000, 5), &keys, &state, false), ["M1"]);
}

/// A name without UIDVALIDITY is never given to a second message, however often UIDVALIDITY changes and whichever
/// messages are removed meanwhile.
#[test]
fn a_uid_alone_never_comes_to_name_another_message() {
    let state = TempDir::new().unwrap();
    let keys = ["uidl = \"uid\""];
    let at = |answers, retrieves| names_at(answers, &keys, &state, retrieves);
    assert_eq!(at(identified(1000, &[(5, "a")]), true), ["5"]);
    assert_eq!(at(identified(2000, &[(5, "b"), (9, "a")]), true), ["2000.5", "5"]);
    assert_eq!(at(identified(3000, &[(1, "a"), (2, "b")]), true), ["5", "2000.5"]);
    // The messages with the earlier UIDs are gone.
    assert_eq!(at(identified(3000, &[(5, "c")]), true), ["3000.5"]);
    assert_eq!(at(identified(3000, &[(5, "c")]), false), ["3000.5"]);
}

#[test]
fn a_uid_alone_never_comes_to_name_another_message_that_nothing_tells_apart() {
    let state = TempDir::new().unwrap();
    let keys = ["uidl = \"uid\""];
    assert_eq!(names_at(identified(1000, &[(5, "")]), &keys, &state, true), ["5"]);
    assert_eq!(names_at(identified(2000, &[(5, "")]), &keys, &state, false), ["2000.5"]);
}

#[test]
fn a_uid_alone_never_comes_to_name_another_message_after_all_were_deleted() {
    let state = TempDir::new().unwrap();
    let peer = Peer::start(identified(1000, &[(5, "a")]));
    let gateway = start(peer.address(), &["uidl = \"uid\""], &state);
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.retr(1);
    pop.ok("DELE 1");
    pop.quit();
    gateway.stop();
    let keys = ["uidl = \"uid\""];
    assert_eq!(
        names_at(identified(2000, &[(5, "b")]), &keys, &state, false),
        ["2000.5"]
    );
}

/// UIDs in the file hold only for the UIDVALIDITY at the import. Messages that were found by Message-ID are recognised
/// under another UIDVALIDITY, even if they were not retrieved.
#[test]
fn names_from_another_server_stay_with_their_messages_when_uidvalidity_changes() {
    let state = TempDir::new().unwrap();
    let file = state.path().join("uidls.txt");
    std::fs::write(&file, "old-a\t<a@example.org>\nold-four\t4\n").unwrap();
    let import = format!("uidl_import = {file:?}");
    let at = |answers| names_at(answers, &[&import], &state, false);
    assert_eq!(at(identified(1000, &[(3, "a"), (4, "")])), ["old-a", "old-four"]);
    assert_eq!(at(identified(2000, &[(4, ""), (5, "a")])), ["2000.4", "old-a"]);
}
