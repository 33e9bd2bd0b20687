//! Which messages a device sees: their folders, their order, and notices in the place of those that are too large.

use std::collections::HashSet;

use crate::support::{
    PASSWORD, answers::Answers, dovecot::Dovecot, gateway::Setup, imap::Imap, mail, peer::Peer, pop::Pop,
};

/// The numbers of the simple mails that a session shows, by RETR.
fn shown(pop: &mut Pop) -> Vec<usize> {
    (1..=pop.stat().0)
        .map(|number| mail::number(&pop.retr(number).1))
        .collect()
}

/// The messages that `login` sees with these keys.
fn seen(dovecot: &Dovecot, keys: &[&str], login: &str) -> Vec<usize> {
    let setup = keys
        .iter()
        .fold(Setup::new(dovecot.address()), |setup, key| setup.maildrop(key));
    let gateway = setup.maildrop("on_retrieve = \"keep\"").start();
    let mut pop = Pop::log_in(gateway.address(), login);
    let shown = shown(&mut pop);
    pop.quit();
    shown
}

/// A mailbox in which simple mail N arrived on day N: INBOX has 1, 3, 5 and 6, and Lists has 2 and 4.
fn two_folders(dovecot: &Dovecot) -> Imap {
    let mut imap = dovecot.imap("eva");
    for (folder, number) in [
        ("INBOX", 1),
        ("INBOX", 3),
        ("Lists", 2),
        ("Lists", 4),
        ("INBOX", 5),
        ("INBOX", 6),
    ] {
        imap.append_to(folder, &mail::simple(number), u32::try_from(number).unwrap());
    }
    imap
}

#[test]
fn folders_merge_in_order_of_arrival() {
    let Some(dovecot) = Dovecot::start() else { return };
    let mut imap = two_folders(&dovecot);
    let merged = "folder = [\"INBOX\", \"Lists\"]";
    assert_eq!(seen(&dovecot, &[merged], "eva"), [1, 2, 3, 4, 5, 6]);
    assert_eq!(
        seen(&dovecot, &[merged, "order = \"newest-first\""], "eva"),
        [6, 5, 4, 3, 2, 1]
    );
    assert_eq!(seen(&dovecot, &[merged, "newest = 3"], "eva"), [4, 5, 6]);

    // Each message is deleted in its own folder, and the next session uses what is known of both folders.
    let gateway = Setup::new(dovecot.address())
        .maildrop(merged)
        .limit("parked_seconds = 60")
        .start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    let names = pop.list("UIDL");
    let unique: HashSet<_> = names.iter().map(|line| line.split(' ').nth(1).unwrap()).collect();
    assert_eq!(unique.len(), 6, "{names:?}");
    pop.ok("DELE 2");
    pop.ok("DELE 3");
    pop.quit();
    gateway.events("parked", 2);
    let mut pop = Pop::log_in(gateway.address(), "eva");
    assert_eq!(shown(&mut pop), [1, 4, 5, 6]);
    let again = pop.list("UIDL");
    let name = |line: &String| line.split(' ').nth(1).unwrap().to_owned();
    assert_eq!(
        again.iter().map(name).collect::<Vec<_>>(),
        [0, 3, 4, 5].map(|at| name(&names[at]))
    );
    pop.quit();
    imap.eventually("1, 5 and 6 are left", |flags| flags.keys().eq(&[1, 3, 4]));
}

#[test]
fn a_device_picks_its_folder_by_its_login() {
    let Some(dovecot) = Dovecot::start() else { return };
    two_folders(&dovecot);
    let separated = "folder_separator = \"+\"";
    assert_eq!(seen(&dovecot, &[separated], "eva"), [1, 3, 5, 6]);
    assert_eq!(seen(&dovecot, &[separated], "eva+Lists"), [2, 4]);
    assert_eq!(seen(&dovecot, &[separated], "eva+inbox"), [1, 3, 5, 6]);
    let gateway = Setup::new(dovecot.address()).maildrop(separated).start();
    let mut pop = Pop::connect(gateway.address());
    let reply = pop.try_log_in("eva+Nowhere", PASSWORD);
    assert!(reply.starts_with("-ERR [SYS/PERM]"), "{reply}");
}

#[test]
fn unseen_and_recent_mail_only() {
    let Some(dovecot) = Dovecot::start() else { return };
    let mut imap = two_folders(&dovecot);
    imap.command("UID STORE 2 +FLAGS (\\Seen)");
    imap.append(&[mail::simple(7)], "");
    assert_eq!(seen(&dovecot, &["unseen_only = true"], "eva"), [1, 5, 6, 7]);
    assert_eq!(
        seen(&dovecot, &["within_days = 30"], "eva"),
        [7],
        "the others are years old"
    );
    assert_eq!(seen(&dovecot, &["unseen_only = true", "newest = 2"], "eva"), [6, 7]);

    // With the default `mark-read` a device sees each message once.
    let gateway = Setup::new(dovecot.address()).maildrop("unseen_only = true").start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.retr(1);
    pop.retr(3);
    pop.quit();
    imap.eventually("two more are read", |flags| {
        flags.values().filter(|flags| flags.contains("\\Seen")).count() == 3
    });
    let mut pop = Pop::log_in(gateway.address(), "eva");
    assert_eq!(shown(&mut pop), [5, 7]);
    pop.quit();
}

#[test]
fn what_is_too_large_is_left_out() {
    let Some(dovecot) = Dovecot::start() else { return };
    let large = [mail::simple(9), b"and more\r\n".repeat(100)].concat();
    dovecot.user_with("eva", &[mail::simple(1), large, mail::simple(2)]);
    assert_eq!(seen(&dovecot, &["max_octets = 500"], "eva"), [1, 2]);
}

#[test]
fn a_notice_stands_in_the_place_of_what_is_too_large() {
    let Some(dovecot) = Dovecot::start() else { return };
    let large = [mail::simple(9), b"and more\r\n".repeat(100)].concat();
    let mut imap = dovecot.user_with("eva", &[mail::simple(1), large.clone(), mail::simple(2)]);
    let start = |max: u32| {
        Setup::new(dovecot.address())
            .maildrop(&format!("max_octets = {max}"))
            .maildrop("oversize = \"notice\"")
    };
    let state = tempfile::TempDir::new().unwrap();
    let state_table = format!("[state]\ndir = {:?}", state.path());
    let gateway = start(500).table(&state_table).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    assert_eq!(pop.stat().0, 3);
    let sizes = pop.list("LIST");
    let (octets, notice) = pop.retr(2);
    assert_eq!(sizes[1], format!("2 {octets}"));
    assert_eq!(notice.len() as u64, octets);
    let text = String::from_utf8(notice).unwrap();
    assert!(
        text.contains("Subject: [too large] number 9\r\n") && text.contains(&large.len().to_string()),
        "{text}"
    );
    assert!(String::from_utf8(pop.top(2, 0)).unwrap().ends_with("\r\n\r\n"));
    assert_eq!(pop.retr(3).1, mail::simple(2));
    let names = pop.list("UIDL");
    pop.ok("DELE 2");
    pop.ok("DELE 1");
    pop.quit();
    assert_eq!(imap.uids(), [2, 3], "to delete a notice does not delete the message");

    let mut pop = Pop::log_in(gateway.address(), "eva");
    assert_eq!(pop.stat().0, 1, "the notice has been deleted");
    pop.quit();
    gateway.stop();
    let gateway = start(100_000).table(&state_table).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    assert_eq!(pop.retr(1).1, large);
    let name = pop.list("UIDL").remove(0);
    assert_ne!(
        name.split(' ').nth(1),
        names[1].split(' ').nth(1),
        "a notice is no message"
    );
    pop.quit();
}

/// Large mails with a large header must not fill the memory of sessions.
#[test]
fn a_notice_repeats_no_endless_subject() {
    let header = format!("From: Eva\r\nSubject: {}\r\n\r\n", "x".repeat(100_000));
    let described = format!(
        "* 1 FETCH (UID 1 RFC822.SIZE 5000 INTERNALDATE NIL BODY[HEADER.FIELDS (FROM SUBJECT DATE)] {{{}}}\r\n{header})\r\n\
         {{tag}} OK\r\n",
        header.len()
    );
    let answers = Answers::of([b"x".repeat(5000)]);
    let peer = Peer::start(answers.on(
        "UID FETCH 1 (UID RFC822.SIZE INTERNALDATE BODY.PEEK[HEADER.FIELDS (",
        described,
    ));
    let gateway = Setup::new(peer.address())
        .maildrop("max_octets = 4000")
        .maildrop("oversize = \"notice\"")
        .start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    let text = String::from_utf8(pop.retr(1).1).unwrap();
    assert!(
        text.starts_with("From: Eva\r\n") && text.len() < 6000,
        "{} octets",
        text.len()
    );
    pop.quit();
}

/// Arrival counts to the second, in every time zone: at a server in the west, it is still yesterday for some hours.
#[test]
fn recent_mail_is_what_came_within_so_many_times_24_hours() {
    let hours_ago = |hours| {
        let zone = chrono::FixedOffset::west_opt(11 * 3600).unwrap();
        let time = chrono::Utc::now() - chrono::TimeDelta::hours(hours);
        time.with_timezone(&zone).format("%e-%b-%Y %H:%M:%S %z").to_string()
    };
    let mut listing = String::new();
    for (uid, hours) in [(1, 49), (2, 47), (3, 1)] {
        let arrived = hours_ago(hours);
        listing += &format!("* {uid} FETCH (UID {uid} RFC822.SIZE 122 INTERNALDATE \"{arrived}\")\r\n");
    }
    // The server does not know when this message arrived.
    listing += "* 4 FETCH (UID 4 RFC822.SIZE 122 INTERNALDATE NIL)\r\n";
    let answers = Answers::of((1..=4).map(mail::simple));
    let peer = Peer::start(answers.on("UID FETCH 1:* (UID RFC822.SIZE INTERNALDATE)", listing + "{tag} OK\r\n"));
    let gateway = Setup::new(peer.address()).maildrop("within_days = 2").start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    assert_eq!(shown(&mut pop), [2, 3, 4]);
    pop.quit();
}
