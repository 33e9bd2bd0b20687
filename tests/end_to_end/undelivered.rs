//! Messages that the upstream has but does not deliver: a notice takes their place, and the messages themselves stay as
//! they are.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tempfile::TempDir;

use crate::support::{
    answers::{Answers, body_of},
    gateway::{Gateway, Setup},
    mail,
    peer::{Gate, Peer, Step, Steps, send},
    pop::Pop,
};

const WITHOUT_DATA: &str = "{tag} OK FETCH completed.\r\n";
const BODY: &str = "UID FETCH 2 (UID BODY";
const FIELDS: &str = "UID FETCH 2 (UID RFC822.SIZE INTERNALDATE BODY.PEEK[HEADER.FIELDS (FROM TO SUBJECT DATE)])";

/// Three messages. `answer` is the answer to any request for content of the second, which exists and whose header can
/// be fetched.
fn mailbox(answer: impl Steps) -> Answers {
    known().on(BODY, answer)
}

/// Three messages; the second exists, and its header can be fetched.
fn known() -> Answers {
    let header = "From: a2@example.org\r\nTo: b@example.org\r\nSubject: number 2\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\n\r\n";
    let fields = format!(
        "* 2 FETCH (BODY[HEADER.FIELDS (FROM TO SUBJECT DATE)] {{{}}}\r\n{header} UID 2)\r\n{{tag}} OK done\r\n",
        header.len()
    );
    Answers::of((1..=3).map(mail::simple))
        .on("UID SEARCH UID 2", "* SEARCH 2\r\n{tag} OK done\r\n")
        .on(FIELDS, fields)
}

fn start(peer: &Peer, state: &TempDir) -> Gateway {
    setup(peer, state).start()
}

fn setup(peer: &Peer, state: &TempDir) -> Setup {
    Setup::new(peer.address()).table(&format!("[state]\ndir = {:?}", state.path()))
}

/// A session that asks for the second message in vain.
fn in_vain(gateway: &Gateway) {
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.err("RETR 2", "-ERR [SYS/TEMP]");
    pop.quit();
}

/// Sends RETR 2, which must bring a notice.
fn notice(pop: &mut Pop) -> String {
    let (octets, notice) = pop.retr(2);
    assert_eq!(octets, notice.len() as u64);
    let notice = String::from_utf8(notice).unwrap();
    assert!(notice.contains("\r\nSubject: [not delivered] "), "{notice}");
    notice
}

/// After a session in vain, another session gets a notice in the second message's place, and the third message. Then
/// the gateway is stopped.
fn a_notice_and_a_message(gateway: Gateway) {
    in_vain(&gateway);
    let mut pop = Pop::log_in(gateway.address(), "eva");
    notice(&mut pop);
    assert_eq!(pop.retr(3).1, mail::simple(3));
    pop.quit();
    gateway.stop();
}

/// Commands that change the second message.
fn changes(peer: &Peer) -> Vec<String> {
    let concerns = |set: &str| set.split(',').any(|part| ["2", "1:2", "1:3", "2:3"].contains(&part));
    let is_change = |command: &String| match command.split(' ').collect::<Vec<_>>()[..] {
        ["UID", "STORE" | "EXPUNGE" | "MOVE" | "COPY", set, ..] => concerns(set),
        ["EXPUNGE" | "CLOSE", ..] => true,
        _ => false,
    };
    peer.commands().into_iter().filter(is_change).collect()
}

/// A session still flags what it retrieved, while later sessions of the login show a notice and park their connection. The
/// connection of the first is parked after them, and knows nothing of the notice. A session on it removes the notice, and
/// not the message.
#[test]
fn a_connection_that_is_parked_late_tells_nothing_of_notices() {
    let flagged = Gate::default();
    let slow = mailbox(WITHOUT_DATA).on(
        "UID STORE 1 +FLAGS.SILENT (\\Seen)",
        vec![Step::Wait(flagged.clone()), send("{tag} OK done\r\n")],
    );
    let peer = Peer::start_each(vec![slow, mailbox(WITHOUT_DATA)]);
    let state = tempfile::tempdir().unwrap();
    let gateway = setup(&peer, &state).limit("parked_seconds = 60").start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    assert_eq!(pop.retr(1).1, mail::simple(1));
    pop.quit();
    peer.wait_for("UID STORE 1 +FLAGS.SILENT (\\Seen)");
    in_vain(&gateway);
    gateway.events("parked", 1);
    let mut pop = Pop::log_in(gateway.address(), "eva");
    notice(&mut pop);
    pop.quit();
    gateway.events("parked", 2);
    flagged.open();
    gateway.events("parked", 3);
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.ok("DELE 2");
    pop.quit();
    gateway.stop();
    assert_eq!(peer.connections(), 2, "{:?}", peer.commands());
    assert_eq!(changes(&peer), [""; 0]);
}

#[test]
fn a_notice_from_the_second_session_on() {
    for answer in [
        WITHOUT_DATA,
        "* 2 FETCH (UID 2)\r\n{tag} OK FETCH completed.\r\n",
        "* 2 FETCH (UID 2 BODY[] NIL)\r\n{tag} OK FETCH completed.\r\n",
        "* 2 FETCH (UID 2 BODY[] \"\")\r\n{tag} OK FETCH completed.\r\n",
        "{tag} NO The requested message could not be converted to an RFC-822 compatible format.\r\n",
        "{tag} BAD Command Error. 11\r\n",
    ] {
        let peer = Peer::start(mailbox(answer));
        let state = tempfile::tempdir().unwrap();
        let gateway = start(&peer, &state);
        let mut pop = Pop::log_in(gateway.address(), "eva");
        let (listed, named) = (pop.list("LIST"), pop.list("UIDL"));
        pop.err("RETR 2", "-ERR [SYS/TEMP]");
        assert_eq!(peer.count(BODY), 2, "it is asked for once more at once");
        pop.err("RETR 2", "-ERR [SYS/TEMP]");
        assert_eq!(pop.retr(3).1, mail::simple(3), "{answer}");
        pop.quit();

        let mut pop = Pop::log_in(gateway.address(), "eva");
        assert_eq!((pop.list("LIST"), pop.list("UIDL")), (listed, named));
        let text = notice(&mut pop);
        assert!(
            text.starts_with("From: a2@example.org\r\nTo: b@example.org\r\nDate: "),
            "{text}"
        );
        assert!(text.contains("[not delivered] number 2\r\n"), "{text}");
        assert!(text.contains(&format!(" {} octets ", mail::simple(2).len())), "{text}");
        assert_eq!(pop.top(2, 1), mail::top(text.as_bytes(), 1));
        assert_eq!(notice(&mut pop), text);
        assert_eq!(pop.retr(1).1, mail::simple(1));
        pop.quit();
        gateway.stop();
        assert_eq!(changes(&peer), [""; 0]);
    }
}

#[test]
fn a_header_that_is_not_delivered_either() {
    for answer in [WITHOUT_DATA, "{tag} NO not that either\r\n"] {
        let peer = Peer::start(mailbox(WITHOUT_DATA).on(FIELDS, answer));
        let gateway = Setup::new(peer.address()).start();
        in_vain(&gateway);
        let mut pop = Pop::log_in(gateway.address(), "eva");
        let text = notice(&mut pop);
        assert!(text.starts_with("From: popgate <"), "{text}");
        assert!(text.contains("\r\nDate: ") && text.contains("(no subject)"), "{text}");
        pop.quit();
    }
}

#[test]
fn top_of_what_is_not_delivered() {
    let header = mail::top(&mail::simple(2), 0);
    let literal = format!("* 2 FETCH (UID 2 BODY[HEADER] {{{}}}\r\n", header.len());
    let answer = [literal.as_bytes(), &header, b")\r\n{tag} OK done\r\n"].concat();
    let peer = Peer::start(mailbox(WITHOUT_DATA).on("UID FETCH 2 (UID BODY.PEEK[HEADER])", answer));
    let gateway = Setup::new(peer.address()).start();
    for session in 1..=2 {
        let mut pop = Pop::log_in(gateway.address(), "eva");
        assert_eq!(pop.top(2, 0), header, "the header can be had");
        if session == 1 {
            pop.err("TOP 2 5", "-ERR [SYS/TEMP]");
        } else {
            let top = String::from_utf8(pop.top(2, 1)).unwrap();
            assert!(top.contains("Subject: [not delivered] number 2"), "{top}");
            assert_eq!(top.as_bytes(), mail::top(notice(&mut pop).as_bytes(), 1));
        }
        pop.quit();
    }
}

/// Perhaps the server only fails to take the message apart, so TOP fetches the whole message.
#[test]
fn top_from_the_whole_message() {
    let long = [mail::simple(2), b"more\r\n".repeat(1000)].concat();
    let answers =
        Answers::of([mail::simple(1), long.clone()]).on("UID FETCH 2 (UID BODY.PEEK[HEADER] BODY", WITHOUT_DATA);
    let peer = Peer::start(answers);
    let gateway = Setup::new(peer.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    assert_eq!(pop.top(2, 4), mail::top(&long, 4));
    pop.quit();
}

#[test]
fn deleting_the_notice_deletes_no_message() {
    for policy in [
        "on_delete = \"expunge\"",
        "on_delete = \"move:Old\"",
        "on_delete = \"hide\"",
    ] {
        let peer = Peer::start(mailbox(WITHOUT_DATA));
        let state = tempfile::tempdir().unwrap();
        let gateway = setup(&peer, &state).maildrop(policy).start();
        in_vain(&gateway);
        let mut pop = Pop::log_in(gateway.address(), "eva");
        notice(&mut pop);
        pop.quit();
        gateway.stop();

        // A device that leaves mail for some days deletes it without retrieving it again.
        let gateway = setup(&peer, &state).maildrop(policy).start();
        let mut pop = Pop::log_in(gateway.address(), "eva");
        pop.ok("DELE 2");
        pop.quit();
        let mut pop = Pop::log_in(gateway.address(), "eva");
        assert_eq!(pop.stat().0, 2);
        assert_eq!(pop.retr(2).1, mail::simple(3));
        pop.quit();
        // The message is hidden from the login that deleted the notice.
        let mut pop = Pop::log_in(gateway.address(), "ida");
        assert_eq!(pop.stat().0, 3);
        pop.quit();
        gateway.stop();
        assert_eq!(changes(&peer), [""; 0], "{policy}");
    }
}

#[test]
fn a_notice_does_not_count_as_the_message() {
    let peer = Peer::start(mailbox(WITHOUT_DATA));
    let state = tempfile::tempdir().unwrap();
    let gateway = setup(&peer, &state).maildrop("delete_after_retrieve = true").start();
    a_notice_and_a_message(gateway);
    assert_eq!((peer.count("UID EXPUNGE 3"), changes(&peer)), (1, Vec::new()));
}

#[test]
fn retention_lets_it_be() {
    let peer = Peer::start(mailbox(WITHOUT_DATA));
    let state = tempfile::tempdir().unwrap();
    let setup = || {
        setup(&peer, &state)
            .maildrop("retain_days = 14")
            .maildrop("on_retrieve = \"keep\"")
    };
    let gateway = setup().start();
    a_notice_and_a_message(gateway);
    let Some(later) = setup().days_ahead(15) else { return };
    let gateway = later.start();
    Pop::log_in(gateway.address(), "eva").quit();
    gateway.stop();
    assert_eq!((peer.count("UID EXPUNGE 3"), changes(&peer)), (1, Vec::new()));
}

#[test]
fn a_message_that_somebody_has_removed_gets_no_notice() {
    let peer = Peer::start(mailbox(WITHOUT_DATA).on("UID SEARCH UID 2", "* SEARCH\r\n{tag} OK done\r\n"));
    let gateway = Setup::new(peer.address()).start();
    for _ in 0..3 {
        in_vain(&gateway);
    }
    assert_eq!(peer.count("UID SEARCH UID 2"), 2, "{:?}", peer.commands());
}

#[test]
fn what_passes_gets_no_notice() {
    for answer in [
        "{tag} NO Server Unavailable. 15\r\n".steps(),
        "{tag} NO [UNAVAILABLE] try later\r\n".steps(),
        "{tag} NO [SERVERBUG] Internal error occurred\r\n".steps(),
        "{tag} NO [INUSE] locked\r\n".steps(),
        vec![send("* BYE Connection is closed. 13\r\n"), Step::Close],
        vec![Step::Close],
    ] {
        let peer = Peer::start(mailbox(answer));
        let gateway = Setup::new(peer.address()).start();
        for _ in 0..3 {
            in_vain(&gateway);
        }
        assert_eq!(peer.count("UID SEARCH UID 2"), 0, "{:?}", peer.commands());
    }
    for answer in [
        "{tag} BAD Request is throttled. Suggested Backoff Time: 299961 milliseconds\r\n",
        "{tag} NO [OVERQUOTA] Account exceeded command or bandwidth limits.\r\n",
    ] {
        let peer = Peer::start(mailbox(answer));
        let gateway = Setup::new(peer.address()).limit("parked_seconds = 60").start();
        for session in 1..=3 {
            in_vain(&gateway);
            gateway.events("parked", session);
        }
        assert_eq!((peer.connections(), peer.count("UID SEARCH UID 2")), (1, 0));
    }
}

/// A gateway whose clock can be moved. With two seconds for the upstream, it soon notices that a literal has ended
/// early.
fn with_clock(peer: &Peer) -> Option<Gateway> {
    let setup = Setup::new(peer.address()).limit("upstream_seconds = 2");
    Some(setup.movable_clock()?.start())
}

#[test]
fn what_does_not_pass_for_an_hour_gets_a_notice() {
    for answer in [
        "{tag} NO [SERVERBUG] Internal error occurred\r\n".steps(),
        "{tag} NO Server Unavailable, try again later\r\n".steps(),
        vec![send("* BYE Connection is closed. 13\r\n"), Step::Close],
        vec![Step::Close],
    ] {
        let peer = Peer::start(mailbox(answer));
        let Some(gateway) = with_clock(&peer) else { return };
        for _ in 0..3 {
            in_vain(&gateway);
        }
        gateway.pass(Duration::from_secs(3700));
        let mut pop = Pop::log_in(gateway.address(), "eva");
        let text = notice(&mut pop);
        assert!(text.contains("number 2\r\n"), "{text}");
        assert_eq!(pop.retr(3).1, mail::simple(3), "what lies behind it is reached");
        pop.quit();
        let asked = peer.count(BODY);
        let mut pop = Pop::log_in(gateway.address(), "eva");
        assert_eq!(notice(&mut pop), text);
        assert_eq!(pop.retr(3).1, mail::simple(3));
        pop.ok("DELE 2");
        pop.quit();
        assert_eq!(peer.count(BODY), asked, "the next try is tomorrow's");
        let mut pop = Pop::log_in(gateway.address(), "eva");
        assert_eq!(pop.stat().0, 2);
        pop.quit();
        gateway.stop();
        assert_eq!(changes(&peer), [""; 0]);
    }
}

#[test]
fn the_next_day_it_is_tried_again() {
    let is_good = Arc::new(AtomicBool::new(false));
    let switch = is_good.clone();
    let answers = Answers::of((1..=3).map(mail::simple)).answer(move |command| {
        let is_cut = command.starts_with(BODY) && !switch.load(Ordering::Relaxed);
        is_cut.then(|| vec![Step::Close])
    });
    let peer = Peer::start(answers);
    let Some(gateway) = with_clock(&peer) else { return };
    for hours in [0, 1, 2] {
        gateway.pass(Duration::from_secs(hours * 3700));
        let mut pop = Pop::log_in(gateway.address(), "eva");
        if hours < 2 {
            pop.err("RETR 2", "-ERR [SYS/TEMP]");
        } else {
            notice(&mut pop);
        }
        pop.quit();
    }
    is_good.store(true, Ordering::Relaxed);
    gateway.pass(Duration::from_secs(26 * 3700));
    let mut pop = Pop::log_in(gateway.address(), "eva");
    assert_eq!(pop.retr(2).1, mail::simple(2));
    pop.quit();
}

/// If a content breaks off, the session ends without the dot.
#[test]
fn a_content_that_breaks_off_each_time_gets_a_notice() {
    for rest in [vec![Step::Close], vec![send("\r\n{tag} OK fetched\r\n")]] {
        let begun = send("* 2 FETCH (UID 2 BODY[] {500}\r\nSubject: half\r\n");
        let peer = Peer::start(mailbox([vec![begun], rest].concat()));
        let Some(gateway) = with_clock(&peer) else { return };
        for session in 1..=3 {
            gateway.pass(Duration::from_secs((session - 1) * 1850));
            let mut pop = Pop::log_in(gateway.address(), "eva");
            pop.send(b"RETR 2\r\n");
            assert!(!pop.rest().ends_with(b"\r\n.\r\n"), "it must not pass for whole");
        }
        let mut pop = Pop::log_in(gateway.address(), "eva");
        notice(&mut pop);
        assert_eq!(pop.retr(3).1, mail::simple(3));
        pop.quit();
    }
}

#[test]
fn what_was_delivered_after_all_is_a_message_like_any() {
    let good = || Answers::of((1..=3).map(mail::simple));
    let bad = || mailbox(WITHOUT_DATA);
    // The message is delivered in between, so the next failure counts as the first again.
    let peer = Peer::start_each(vec![bad(), good(), bad(), bad()]);
    let gateway = Setup::new(peer.address()).start();
    in_vain(&gateway);
    let mut pop = Pop::log_in(gateway.address(), "eva");
    assert_eq!(pop.retr(2).1, mail::simple(2));
    pop.quit();
    in_vain(&gateway);
    let mut pop = Pop::log_in(gateway.address(), "eva");
    notice(&mut pop);
    pop.quit();

    // The message is delivered after a notice, and then it is deleted.
    let peer = Peer::start_each(vec![bad(), bad(), good()]);
    let gateway = Setup::new(peer.address()).start();
    in_vain(&gateway);
    let mut pop = Pop::log_in(gateway.address(), "eva");
    notice(&mut pop);
    pop.quit();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    assert_eq!(pop.retr(2).1, mail::simple(2));
    pop.quit();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.ok("DELE 2");
    pop.quit();
    assert_eq!(peer.count("UID EXPUNGE 2"), 1);
}

/// If the message was asked for in a set, the others of the set are delivered all the same. Later it is left out of
/// sets.
#[test]
fn read_ahead_goes_around_it() {
    let two = [body_of(1, &mail::simple(1)), body_of(3, &mail::simple(3))].map(|answer| {
        let tagged = answer.len() - "{tag} OK fetched\r\n".len();
        answer[..tagged].to_vec()
    });
    let set = [two.concat(), WITHOUT_DATA.into()].concat();
    let is_bad = Arc::new(AtomicBool::new(false));
    let switch = is_bad.clone();
    let answers = known().answer(move |command| match switch.load(Ordering::Relaxed) {
        true if command.starts_with("UID FETCH 1:3 (UID BODY") => Some(set.clone().steps()),
        true if command.starts_with(BODY) => Some(WITHOUT_DATA.steps()),
        _ => None,
    });
    let peer = Peer::start(answers);
    let gateway = Setup::new(peer.address()).start();
    // After the first session the gateway knows that the device fetches in a row.
    let mut pop = Pop::log_in(gateway.address(), "eva");
    (1..=3).for_each(|number| assert_eq!(pop.retr(number).1, mail::simple(number)));
    pop.quit();
    peer.wait_for_end(1);
    is_bad.store(true, Ordering::Relaxed);
    for session in 2..=4 {
        let mut pop = Pop::log_in(gateway.address(), "eva");
        assert_eq!(pop.retr(1).1, mail::simple(1));
        if session == 2 {
            pop.err("RETR 2", "-ERR [SYS/TEMP]");
        } else {
            notice(&mut pop);
        }
        assert_eq!(pop.retr(3).1, mail::simple(3));
        pop.quit();
        peer.wait_for_end(session);
    }
    assert_eq!(
        (
            peer.count("UID FETCH 1:3 (UID BODY"),
            peer.count("UID FETCH 1,3 (UID BODY")
        ),
        (1, 2),
        "{:?}",
        peer.commands()
    );
}
