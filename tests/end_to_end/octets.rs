//! The octets of messages: RETR and TOP must deliver what the upstream has.

use std::{collections::BTreeSet, path::Path};

use crate::support::{
    answers::{Answers, Message},
    corpora,
    dovecot::Dovecot,
    gateway::Setup,
    mail,
    peer::Peer,
    pop::Pop,
};

/// Compares every message by RETR and by TOP with its `BODY[]` in `upstream`.
fn compare(pop: &mut Pop, upstream: &[(String, Vec<u8>)]) {
    let sizes = pop.list("LIST");
    assert_eq!(sizes.len(), upstream.len());
    for (number, (name, octets)) in (1..).zip(upstream) {
        let (announced, body) = pop.retr(number);
        assert_eq!(announced, octets.len() as u64, "{name}: octets announced");
        assert!(
            body == mail::delivered(octets),
            "{name}: RETR differs{}",
            first_difference(&body, &mail::delivered(octets))
        );
    }
    for lines in [0, 1, 5, 100_000_000] {
        for (number, (name, octets)) in (1..).zip(upstream) {
            let (body, expected) = (pop.top(number, lines), mail::top(octets, lines as usize));
            assert!(
                body == expected,
                "{name}: TOP {lines} differs{}",
                first_difference(&body, &expected)
            );
        }
    }
}

fn first_difference(one: &[u8], other: &[u8]) -> String {
    let at = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let around = |octets: &[u8]| {
        let from = at.saturating_sub(20);
        octets[from..octets.len().min(at + 20)].escape_ascii().to_string()
    };
    format!(" at octet {at}: <{}> <{}>", around(one), around(other))
}

/// LIST counts octets as they are delivered, with two for each line end, the last one included. Devices compare this
/// with their own count.
#[test]
fn the_next_session_lists_what_was_delivered() {
    let messages = [
        &b"Subject: whole\r\n\r\none\r\n"[..],
        b"Subject: no end\r\n\r\none",
        b"Subject: bare\n\n.one\ntwo\n",
        b"Subject: both\n\none\r\ntwo\r",
    ];
    let peer = Peer::start(Answers::of(messages.map(<[u8]>::to_vec)));
    let gateway = Setup::new(peer.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    let before: Vec<u64> = sizes(&mut pop);
    assert_eq!(before, messages.map(|message| message.len() as u64));
    let mut delivered: Vec<u64> = (1..=3).map(|number| pop.retr(number).1.len() as u64).collect();
    // A TOP of the whole message counts as well.
    delivered.push(pop.top(4, 99_999_999).len() as u64);
    pop.quit();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    assert_eq!(sizes(&mut pop), delivered);
    assert_ne!(before, delivered);
    pop.quit();
}

fn sizes(pop: &mut Pop) -> Vec<u64> {
    let size = |line: &String| line.split(' ').nth(1).unwrap().parse().unwrap();
    pop.list("LIST").iter().map(size).collect()
}

#[test]
fn nasty_messages_of_a_real_server() {
    let Some(dovecot) = Dovecot::start() else { return };
    let nasty = mail::nasty();
    let messages: Vec<_> = nasty.iter().map(|(_, octets)| octets).collect();
    let mut imap = dovecot.user_with("eva", &messages);
    let names = nasty.iter().map(|(name, _)| (*name).to_owned());
    let upstream: Vec<_> = names.zip(imap.bodies().into_values()).collect();
    assert_eq!(upstream.len(), nasty.len());
    let gateway = Setup::new(dovecot.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    compare(&mut pop, &upstream);
    pop.quit();
}

/// A scripted upstream sends bare LF, bare CR and NUL as they are. A real server would have mended them.
#[test]
fn nasty_messages_untouched() {
    let mut nasty = mail::nasty();
    nasty.push(("NUL", b"Subject: nul\r\n\r\na\0b\r\n\0\r\n\0".to_vec()));
    nasty.push(("all octets", (0..=255u8).cycle().take(70_000).collect()));
    nasty.push((
        "LF only, large",
        b"Subject: lf\n\n"
            .iter()
            .copied()
            .chain(b".\n".iter().copied().cycle().take(200_000))
            .collect(),
    ));
    let upstream: Vec<_> = nasty
        .into_iter()
        .map(|(name, octets)| (name.to_owned(), octets))
        .collect();
    let peer = Peer::start(Answers::of(upstream.iter().map(|(_, octets)| octets.clone())));
    let gateway = Setup::new(peer.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    for (number, (name, octets)) in (1..).zip(&upstream) {
        let (announced, body) = pop.retr(number);
        assert_eq!(announced, octets.len() as u64, "{name}");
        assert!(
            body == mail::delivered(octets),
            "{name}: RETR differs{}",
            first_difference(&body, &mail::delivered(octets))
        );
        assert!(
            pop.top(number, 100_000_000) == body,
            "{name}: TOP of everything differs from RETR"
        );
    }
    pop.quit();
}

#[test]
fn an_empty_message() {
    let peer = Peer::start(Answers::of([&b""[..], b"Subject: x\r\n\r\ny\r\n"]));
    let gateway = Setup::new(peer.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    assert_eq!(pop.stat(), (2, 17));
    assert_eq!(pop.ok("LIST 1"), "+OK 1 0");
    assert_eq!(pop.retr(1), (0, Vec::new()));
    assert_eq!(pop.top(1, 0), b"");
    assert_eq!(pop.top(1, 7), b"");
    assert_eq!(pop.retr(2).0, 17);
    pop.quit();
}

#[test]
fn an_empty_message_of_a_real_server() {
    let Some(dovecot) = Dovecot::start() else { return };
    let mut imap = dovecot.user_with("eva", &[mail::simple(1)]);
    dovecot.drop_file("eva", b"");
    imap.eventually("the file is found", |flags| flags.len() == 2);
    let gateway = Setup::new(dovecot.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    assert_eq!(pop.retr(2), (0, Vec::new()));
    assert_eq!(pop.top(2, 1), b"");
    assert_eq!(pop.retr(1).1, mail::simple(1));
    pop.ok("DELE 2");
    pop.quit();
    assert_eq!(imap.uids(), [1]);
}

/// All mails of the corpora, which are real bounces with every kind of line end.
#[test]
fn real_mails_of_a_real_server() {
    let Some(directory) = corpora() else {
        return eprintln!(
            "\n!! SKIPPED real_mails_of_a_real_server: there is no shared/corpora beside the repository\n"
        );
    };
    let Some(dovecot) = Dovecot::start() else { return };
    let mut files = Vec::new();
    collect(&directory, &mut files);
    assert!(
        files.len() > 500,
        "only {} mails in {}",
        files.len(),
        directory.display()
    );
    let mut imap = dovecot.user_with("eva", &files.iter().map(|(_, octets)| octets).collect::<Vec<_>>());
    let names = files.into_iter().map(|(name, _)| name);
    let upstream: Vec<_> = names.zip(imap.bodies().into_values()).collect();
    let gateway = Setup::new(dovecot.address()).level("info").start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    let unique: BTreeSet<_> = pop.list("UIDL").into_iter().collect();
    assert_eq!(unique.len(), upstream.len());
    compare(&mut pop, &upstream);
    pop.quit();
}

/// The same mails from an upstream that sends them exactly as they are on disk.
#[test]
fn real_mails_untouched() {
    let Some(directory) = corpora() else {
        return eprintln!("\n!! SKIPPED real_mails_untouched: there is no shared/corpora beside the repository\n");
    };
    let mut files = Vec::new();
    collect(&directory, &mut files);
    let messages = (1..)
        .zip(&files)
        .map(|(uid, (_, octets))| Message::new(uid, octets.clone()));
    let peer = Peer::start(Answers::new(messages));
    let gateway = Setup::new(peer.address()).level("info").start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    for (number, (name, octets)) in (1..).zip(&files) {
        assert!(pop.retr(number).1 == mail::delivered(octets), "{name}");
    }
    pop.quit();
}

fn collect(directory: &Path, files: &mut Vec<(String, Vec<u8>)>) {
    let mut entries: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "eml") {
            files.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
}
