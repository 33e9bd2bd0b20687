//! The gateway behaves in the same way on every make of server, with all names of folders and all capabilities.

use std::{
    collections::HashSet,
    net::TcpStream,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

use tempfile::TempDir;

use crate::support::{
    PASSWORD, PATIENCE,
    gateway::{Gateway, Setup},
    mail,
    pop::Pop,
    servers::{Make, Server, USER},
};

/// A module of tests for each server, and a test in it for each behaviour.
macro_rules! behaviours {
    ($behaviours:tt $($server:ident: $make:expr;)*) => {
        $(mod $server {
            use super::{Make, Server};

            tests! { $make, $behaviours }
        })*
    };
}

macro_rules! tests {
    ($make:expr, [$($behaviour:ident)*]) => {
        $(#[test]
        fn $behaviour() {
            let make: Make = $make;
            if let Some(server) = Server::start(make) {
                super::$behaviour(&server);
            }
        })*
    };
}

behaviours! {
    [
        log_in
        octets
        uidls_last
        new_mail
        new_mail_for_a_parked_connection
        expunge
        trash
        move_to_a_nested_folder
        move_to_a_folder_with_any_letters
        hide
        expunge_what_somebody_else_removed
        move_what_somebody_else_removed
        folder
        folder_by_its_own_name
        folder_by_login
        folder_with_any_letters
        merged_folders
        unseen_and_read
        marks_last_while_parked
        retain_days
    ]
    dovecot: Make::Dovecot("");
    dovecot_prefix: Make::DovecotPrefix;
    dovecot_bare: Make::DovecotCut("IMAP4rev1");
    dovecot_without_uidplus: Make::DovecotCut("IMAP4rev1 SASL-IR LITERAL+ MOVE SPECIAL-USE ESEARCH CONDSTORE QRESYNC ENABLE");
    dovecot_without_move: Make::DovecotCut("IMAP4rev1 SASL-IR LITERAL+ UIDPLUS SPECIAL-USE ESEARCH CONDSTORE QRESYNC ENABLE");
    dovecot_without_news: Make::DovecotCut("IMAP4rev1 SASL-IR LITERAL+ UIDPLUS MOVE SPECIAL-USE NAMESPACE");
    cyrus: Make::Cyrus;
    cyrus_slash: Make::CyrusSlash;
    courier: Make::Courier("IMAP4rev1 UIDPLUS CHILDREN NAMESPACE THREAD=ORDEREDSUBJECT THREAD=REFERENCES SORT QUOTA IDLE");
    courier_bare: Make::Courier("IMAP4rev1");
    mailutils: Make::Mailutils;
    pymap: Make::Pymap;
}

/// A server ends when its test ends, even by a panic.
#[test]
fn a_server_ends_when_its_test_panics() {
    for make in [
        Make::Dovecot(""),
        Make::Cyrus,
        Make::Courier("IMAP4rev1"),
        Make::Mailutils,
        Make::Pymap,
    ] {
        let mut address = None;
        let ended = catch_unwind(AssertUnwindSafe(|| {
            if let Some(server) = Server::start(make) {
                address = Some(server.upstream());
                server.look("INBOX", |_| panic!("as a test does that fails"));
            }
        }));
        if let Some(address) = address {
            assert!(ended.is_err());
            assert!(TcpStream::connect(address).is_err(), "{make:?} still listens");
        }
    }
}

type Mails = Vec<Vec<u8>>;

/// The numbers of simple mails; anything else fails.
fn numbers(mails: impl IntoIterator<Item = Vec<u8>>) -> Vec<usize> {
    let number = |mail: Vec<u8>| (0..10).find(|&number| mail == mail::simple(number));
    mails
        .into_iter()
        .map(|mail| number(mail.clone()).unwrap_or_else(|| panic!("another mail: {}", mail.escape_ascii())))
        .collect()
}

/// The numbers of the simple mails in a folder.
fn contents(server: &Server, folder: &str) -> Vec<usize> {
    numbers(server.contents(folder))
}

fn setup(server: &Server, keys: &[&str]) -> Setup {
    let setup = Setup::new(server.address());
    keys.iter().fold(setup, |setup, key| setup.maildrop(key))
}

fn start(server: &Server, keys: &[&str]) -> Gateway {
    setup(server, keys).start()
}

fn state(directory: &TempDir) -> String {
    format!("[state]\ndir = {:?}", directory.path())
}

/// Puts simple mails into INBOX.
fn deliver(server: &Server, numbers: &[usize]) {
    server.look("INBOX", |imap| {
        imap.append(&numbers.iter().copied().map(mail::simple).collect::<Mails>(), "")
    });
}

/// Puts a simple mail into a folder.
fn deliver_to(server: &Server, folder: &str, number: usize) {
    let (name, day) = (server.name(folder), u32::try_from(number).unwrap());
    server.look("INBOX", |imap| imap.append_to(&name, &mail::simple(number), day));
}

/// The messages that a session shows, by RETR.
fn shown(pop: &mut Pop) -> Vec<usize> {
    numbers((1..=pop.stat().0).map(|number| pop.retr(number).1))
}

/// The messages that a session of `login` shows.
fn seen(gateway: &Gateway, login: &str) -> Vec<usize> {
    let mut pop = Pop::log_in(gateway.address(), login);
    let shown = shown(&mut pop);
    pop.quit();
    shown
}

/// The numbers of the simple mails in INBOX that have a flag.
fn flagged(server: &Server, flag: &str) -> Vec<usize> {
    server.look("INBOX", |imap| {
        let flags = imap.flags();
        let bodies = imap.bodies().into_iter();
        numbers(
            bodies
                .filter(|(uid, _)| flags[uid].contains(flag))
                .map(|(_, body)| body),
        )
    })
}

/// Looks again and again until the result is `expected`, because the gateway may finish its work after the session.
fn eventually<T: PartialEq + std::fmt::Debug>(expected: &T, mut look: impl FnMut() -> T) {
    let deadline = Instant::now() + PATIENCE / 4;
    loop {
        let seen = look();
        if seen == *expected {
            return;
        }
        assert!(Instant::now() < deadline, "{seen:?}, not {expected:?}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn log_in(server: &Server) {
    let gateway = start(server, &[]);
    let mut pop = Pop::connect(gateway.address());
    let reply = pop.try_log_in(USER, "a wrong one");
    assert!(reply.starts_with("-ERR [AUTH]"), "{reply}");
    let reply = pop.try_log_in(USER, PASSWORD);
    assert!(reply.starts_with("+OK"), "{reply}");
    assert_eq!(pop.stat(), (0, 0));
    pop.quit();
}

/// Messages that every server takes as they are.
fn messages() -> Mails {
    let with = |body: &[u8]| [b"Subject: body\r\nFrom: a@example.org\r\n\r\n", body].concat();
    vec![
        mail::simple(1),
        with(b".\r\n..\r\n...\r\n.a\r\n \r\n.\r\n"),
        with(b"\xff\xfe\x80gr\xfc\xdfe\r\n\xc3\xa9\r\n"),
        with(&[&vec![b'x'; 100_000][..], b"\r\nend\r\n"].concat()),
        with(b""),
        with(&b"\r\n".repeat(50)),
        with(&b"A line of a longer message, so that it takes more than one packet.\r\n".repeat(5000)),
        with(b"From here on\r\n>From there on\r\n\r\nFrom a@example.org Mon Jan  1 00:00:00 2024\r\n"),
    ]
}

fn octets(server: &Server) {
    let messages = messages();
    server.look("INBOX", |imap| imap.append(&messages, ""));
    assert_eq!(server.contents("INBOX"), messages, "the server itself changes messages");
    let gateway = start(server, &[]);
    for _ in 0..2 {
        let mut pop = Pop::log_in(gateway.address(), USER);
        let sizes: Vec<_> = messages.iter().map(|message| message.len() as u64).collect();
        assert_eq!(pop.stat(), (sizes.len(), sizes.iter().sum()));
        let listed: Vec<_> = (1..)
            .zip(&sizes)
            .map(|(number, size)| format!("{number} {size}"))
            .collect();
        assert_eq!(pop.list("LIST"), listed);
        for (number, message) in (1..).zip(&messages) {
            let (octets, body) = pop.retr(number);
            assert_eq!((octets, &body), (message.len() as u64, message), "message {number}");
            for lines in [0, 1, 40, 1_000_000] {
                let top = mail::top(message, usize::try_from(lines).unwrap());
                assert_eq!(pop.top(number, lines), top, "TOP {number} {lines}");
            }
        }
        pop.quit();
    }
}

fn uidls_last(server: &Server) {
    deliver(server, &[1, 2, 3]);
    let gateway = start(server, &[]);
    let uidls = |gateway: &Gateway| {
        let mut pop = Pop::log_in(gateway.address(), USER);
        let uidls = pop.list("UIDL");
        pop.quit();
        let name = |line: &String| line.split(' ').nth(1).unwrap().to_owned();
        uidls.iter().map(name).collect::<Vec<_>>()
    };
    let first = uidls(&gateway);
    let expected = server.look("INBOX", |imap| {
        let selected = imap.command("SELECT INBOX");
        let mut told = selected.iter().filter_map(|line| line.text.split_once("[UIDVALIDITY "));
        let (validity, _) = told.next().unwrap().1.split_once(']').unwrap();
        let uids = imap.uids().into_iter();
        uids.map(|uid| format!("{validity}.{uid}")).collect::<Vec<_>>()
    });
    assert_eq!(first, expected);
    assert_eq!(first.iter().collect::<HashSet<_>>().len(), 3, "{first:?}");
    assert_eq!(uidls(&gateway), first);
    gateway.stop();
    // This gateway has no state of the first.
    let gateway = start(server, &[]);
    assert_eq!(uidls(&gateway), first);
    remove(server, 1);
    deliver(server, &[4]);
    let last = uidls(&gateway);
    assert_eq!(last[..2], first[1..]);
    assert!(!first.contains(&last[2]), "{first:?}, {last:?}");
}

fn new_mail(server: &Server) {
    polls(server, &start(server, &[]), |_| {});
}

fn new_mail_for_a_parked_connection(server: &Server) {
    let gateway = setup(server, &[]).limit("parked_seconds = 60").start();
    polls(server, &gateway, |session| {
        gateway.events("parked", session);
    });
}

/// Four sessions one after another, each with one more message.
fn polls(server: &Server, gateway: &Gateway, between: impl Fn(usize)) {
    for session in 1..=4 {
        deliver(server, &[session]);
        let mut pop = Pop::log_in(gateway.address(), USER);
        assert_eq!(pop.stat().0, session);
        assert_eq!(pop.retr(session).1, mail::simple(session));
        pop.quit();
        between(session);
    }
}

/// Removes a message as another client.
fn remove(server: &Server, number: usize) {
    server.look("INBOX", |imap| {
        imap.command(&format!("STORE {number} +FLAGS.SILENT (\\Deleted)"));
        imap.command("EXPUNGE");
    });
}

/// A device deletes the second and the fourth of five messages, and the fifth has another client's `\Deleted`. `left`:
/// the messages that must then be in INBOX.
fn delete_two_of_five(server: &Server, on_delete: &str, left: &[usize]) {
    deliver(server, &[1, 2, 3, 4, 5]);
    server.look("INBOX", |imap| {
        imap.command("STORE 5 +FLAGS (\\Deleted)");
    });
    assert_eq!(flagged(server, "\\Deleted"), [5], "the server itself forgets flags");
    let gateway = start(server, &[&format!("on_delete = \"{on_delete}\"")]);
    let mut pop = Pop::log_in(gateway.address(), USER);
    assert_eq!(pop.stat().0, 4);
    pop.ok("DELE 2");
    pop.ok("DELE 4");
    pop.quit();
    // QUIT has confirmed the deletion, so it holds at once.
    assert_eq!(contents(server, "INBOX"), left);
    assert_eq!(seen(&gateway, USER), [1, 3]);
    gateway.stop();
    assert_eq!(contents(server, "INBOX"), left);
    assert_eq!(flagged(server, "\\Deleted"), [5]);
}

fn expunge(server: &Server) {
    delete_two_of_five(server, "expunge", &[1, 3, 5]);
}

fn trash(server: &Server) {
    delete_two_of_five(server, "trash", &[1, 3, 5]);
    assert_eq!(contents(server, "Trash"), [2, 4]);
}

fn move_to_a_nested_folder(server: &Server) {
    delete_two_of_five(server, "move:Archive/2024", &[1, 3, 5]);
    assert_eq!(contents(server, "Archive/2024"), [2, 4]);
}

fn move_to_a_folder_with_any_letters(server: &Server) {
    delete_two_of_five(server, "move:Erledigt/Größe", &[1, 3, 5]);
    // The folder's name in modified UTF-7 (RFC 3501 §5.1.3).
    assert_eq!(contents(server, "Erledigt/Gr&APYA3w-e"), [2, 4]);
}

fn hide(server: &Server) {
    delete_two_of_five(server, "hide", &[1, 2, 3, 4, 5]);
}

/// A device deletes three messages, of which another client has removed one meanwhile. QUIT succeeds, because the
/// message is gone.
fn delete_what_somebody_else_removed(server: &Server, keys: &[&str]) {
    deliver(server, &[1, 2, 3, 4]);
    let gateway = start(server, keys);
    let mut pop = Pop::log_in(gateway.address(), USER);
    for number in 1..=3 {
        pop.ok(&format!("DELE {number}"));
    }
    remove(server, 2);
    pop.quit();
    assert_eq!(contents(server, "INBOX"), [4]);
    assert_eq!(seen(&gateway, USER), [4]);
}

fn expunge_what_somebody_else_removed(server: &Server) {
    delete_what_somebody_else_removed(server, &["on_delete = \"expunge\""]);
}

fn move_what_somebody_else_removed(server: &Server) {
    delete_what_somebody_else_removed(server, &["on_delete = \"move:Archive\""]);
    assert_eq!(contents(server, "Archive"), [1, 3]);
}

/// A device deletes the first of the two messages in `Lists/Work`.
fn delete_the_first(server: &Server, gateway: Gateway) {
    let mut pop = Pop::log_in(gateway.address(), USER);
    assert_eq!(shown(&mut pop), [2, 3]);
    pop.ok("DELE 1");
    pop.quit();
    // Waits until the gateway has finished its work in the background.
    gateway.stop();
    assert_eq!(contents(server, "Lists/Work"), [3]);
}

fn folder(server: &Server) {
    deliver(server, &[1]);
    deliver_to(server, "Lists/Work", 2);
    deliver_to(server, "Lists/Work", 3);
    delete_the_first(server, start(server, &["folder = \"Lists/Work\""]));
    assert_eq!(contents(server, "INBOX"), [1]);
    let gateway = start(server, &["folder = \"Lists/Nowhere\""]);
    let mut pop = Pop::connect(gateway.address());
    let reply = pop.try_log_in(USER, PASSWORD);
    assert!(reply.starts_with("-ERR [SYS/PERM]"), "{reply}");
}

/// The configured folder is the server's own name, with its prefix and separator.
fn folder_by_its_own_name(server: &Server) {
    deliver_to(server, "Lists/Work", 2);
    deliver_to(server, "Lists/Work", 3);
    let folder = format!("folder = \"{}\"", server.name("Lists/Work"));
    let on_delete = format!("on_delete = \"move:{}\"", server.name("Lists/Old"));
    delete_the_first(server, start(server, &[&folder, &on_delete]));
    assert_eq!(contents(server, "Lists/Old"), [2]);
}

fn folder_by_login(server: &Server) {
    deliver(server, &[1]);
    deliver_to(server, "Lists/Work", 2);
    let gateway = start(server, &["folder_separator = \"+\""]);
    assert_eq!(seen(&gateway, USER), [1]);
    assert_eq!(seen(&gateway, &format!("{USER}+Lists/Work")), [2]);
    assert_eq!(seen(&gateway, &format!("{USER}+inbox")), [1]);
    let mut pop = Pop::connect(gateway.address());
    let reply = pop.try_log_in(&format!("{USER}+Nowhere"), PASSWORD);
    assert!(reply.starts_with("-ERR [SYS/PERM]"), "{reply}");
}

fn folder_with_any_letters(server: &Server) {
    deliver_to(server, "Gr&APYA3w-e/M&APw-ll &- mehr", 2);
    let gateway = start(server, &["folder = \"Größe/Müll & mehr\""]);
    assert_eq!(seen(&gateway, USER), [2]);
}

fn merged_folders(server: &Server) {
    for (folder, number) in [("INBOX", 1), ("Lists/Work", 2), ("INBOX", 3), ("Lists/Work", 4)] {
        deliver_to(server, folder, number);
    }
    let gateway = start(server, &["folder = [\"INBOX\", \"Lists/Work\"]"]);
    let mut pop = Pop::log_in(gateway.address(), USER);
    let shown = shown(&mut pop);
    if keeps_dates(server) {
        assert_eq!(shown, [1, 2, 3, 4]);
    }
    for number in [2, 3] {
        let at = shown.iter().position(|&shown| shown == number).unwrap();
        pop.ok(&format!("DELE {}", at + 1));
    }
    pop.quit();
    assert_eq!(contents(server, "INBOX"), [1]);
    assert_eq!(contents(server, "Lists/Work"), [4]);
}

/// Whether the server keeps INTERNALDATE: some servers forget it when the session in which the message came has ended.
fn keeps_dates(server: &Server) -> bool {
    let dates = server.look("INBOX", |imap| imap.command("FETCH 1 (INTERNALDATE)"));
    dates.iter().any(|date| date.text.contains("Jan-2024"))
}

fn unseen_and_read(server: &Server) {
    deliver(server, &[1, 2, 3]);
    server.look("INBOX", |imap| {
        imap.command("STORE 2 +FLAGS (\\Seen)");
    });
    assert_eq!(flagged(server, "\\Seen"), [2], "the server itself forgets flags");
    let gateway = start(server, &["unseen_only = true", "on_retrieve = \"keep\""]);
    assert_eq!(seen(&gateway, USER), [1, 3]);
    gateway.stop();
    assert_eq!(flagged(server, "\\Seen"), [2]);

    let gateway = start(server, &["unseen_only = true"]);
    let mut pop = Pop::log_in(gateway.address(), USER);
    assert_eq!(pop.stat().0, 2);
    pop.top(2, 1);
    assert_eq!(pop.retr(1).1, mail::simple(1));
    pop.quit();
    eventually(&vec![1, 2], || flagged(server, "\\Seen"));
    assert_eq!(seen(&gateway, USER), [3]);
}

/// What a session has flagged or deleted is visible to other clients, although the upstream connection is parked.
fn marks_last_while_parked(server: &Server) {
    deliver(server, &[1, 2, 3]);
    let gateway = setup(server, &[]).limit("parked_seconds = 60").start();
    let mut pop = Pop::log_in(gateway.address(), USER);
    pop.retr(1);
    pop.retr(2);
    pop.ok("DELE 1");
    pop.quit();
    gateway.events("parked", 1);
    assert_eq!(contents(server, "INBOX"), [2, 3]);
    eventually(&vec![2], || flagged(server, "\\Seen"));
    assert_eq!(seen(&gateway, USER), [2, 3]);
}

fn retain_days(server: &Server) {
    deliver(server, &[1, 2, 3]);
    let directory = TempDir::new().unwrap();
    let setup = || setup(server, &["retain_days = 14", "on_delete = \"move:Old\""]).table(&state(&directory));
    let gateway = setup().start();
    let mut pop = Pop::log_in(gateway.address(), USER);
    pop.retr(2);
    pop.quit();
    gateway.stop();
    for (days, left, old) in [(13, vec![1, 2, 3], vec![]), (15, vec![1, 3], vec![2])] {
        let Some(ahead) = setup().days_ahead(days) else { return };
        let gateway = ahead.start();
        let mut pop = Pop::log_in(gateway.address(), USER);
        assert_eq!(pop.stat().0, left.len(), "{days} days later");
        pop.quit();
        gateway.stop();
        assert_eq!(contents(server, "INBOX"), left, "{days} days later");
        assert_eq!(contents(server, "Old"), old, "{days} days later");
    }
}
