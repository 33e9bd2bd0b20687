//! QUIT: `+OK` only if the upstream has confirmed everything, and nothing is removed that the device has not deleted.

use crate::support::{
    PASSWORD,
    answers::Answers,
    gateway::{Gateway, Setup},
    mail,
    peer::{Gate, Peer, Step, send},
    pop::Pop,
};

fn mailbox() -> Answers {
    Answers::of((1..=5).map(mail::simple))
}

/// A session that has marked the messages `marked` as deleted.
fn session(peer: &Peer, marked: &[usize]) -> (Gateway, Pop) {
    let gateway = Setup::new(peer.address()).limit("upstream_seconds = 2").start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    for number in marked {
        pop.ok(&format!("DELE {number}"));
    }
    (gateway, pop)
}

/// The commands after the listing.
fn afterwards(peer: &Peer) -> Vec<String> {
    let commands = peer.commands();
    let at = commands
        .iter()
        .rposition(|command| command.starts_with("UID SEARCH DELETED"))
        .unwrap();
    commands[at + 1..].to_vec()
}

#[test]
fn exactly_what_was_marked() {
    let peer = Peer::start(mailbox());
    let (gateway, pop) = session(&peer, &[4, 2]);
    pop.quit();
    assert_eq!(
        afterwards(&peer)[..2],
        ["UID STORE 2,4 +FLAGS.SILENT (\\Deleted)", "UID EXPUNGE 2,4"]
    );
    assert_eq!(gateway.sessions(1)[0]["removed"], 2);
}

#[test]
fn nothing_where_nothing_is_marked() {
    let peer = Peer::start(mailbox());
    let (gateway, mut pop) = session(&peer, &[2]);
    pop.ok("RSET");
    pop.quit();
    gateway.stop();
    peer.assert_nothing_removed();
}

#[test]
fn a_refusal_is_told_in_numbers() {
    for (command, answer, code) in [
        ("UID STORE", "{tag} NO nope\r\n", "[SYS/TEMP]"),
        ("UID STORE", "{tag} BAD nope\r\n", "[SYS/TEMP]"),
        ("UID EXPUNGE", "{tag} NO [NOPERM] nope\r\n", "[SYS/PERM]"),
        ("UID EXPUNGE", "{tag} BAD nope\r\n", "[SYS/TEMP]"),
    ] {
        let peer = Peer::start(mailbox().on(command, answer));
        let (gateway, mut pop) = session(&peer, &[1, 3, 5]);
        assert_eq!(
            pop.command("QUIT"),
            format!("-ERR {code} 3 of 3 messages not removed"),
            "{command} {answer}"
        );
        pop.closed();
        assert_eq!(gateway.sessions(1)[0]["removed"], 0);
        if command == "UID EXPUNGE" {
            // Otherwise the next session would not show them.
            assert_eq!(
                peer.count("UID STORE 1,3,5 -FLAGS.SILENT (\\Deleted)"),
                1,
                "{:?}",
                peer.commands()
            );
        }
    }
}

#[test]
fn a_connection_lost_at_the_commit_is_tried_once_more() {
    for end in [Step::Close, Step::Reset] {
        for command in ["UID STORE", "UID EXPUNGE"] {
            let peer = Peer::start_each(vec![mailbox().on(command, end.clone()), mailbox()]);
            let (_gateway, pop) = session(&peer, &[2]);
            pop.quit();
            assert_eq!(peer.connections(), 2, "{command}");
            let commands = peer.commands();
            assert_eq!(
                commands.iter().filter(|line| *line == "UID EXPUNGE 2").count(),
                if command == "UID STORE" { 1 } else { 2 }
            );
        }
    }
}

#[test]
fn a_commit_that_stays_unconfirmed_is_no_success() {
    for (command, steps) in [
        ("UID STORE", vec![Step::Close]),
        ("UID EXPUNGE", vec![Step::Reset]),
        ("UID EXPUNGE", vec![send("* BYE the disk is full\r\n"), Step::Close]),
        ("UID STORE", vec![Step::Silence]),
        ("UID EXPUNGE", vec![send("* 2 EXPUNGE\r\n"), Step::Silence]),
        ("UID EXPUNGE", vec![send("P999 OK not yours\r\n"), Step::Close]),
    ] {
        let peer = Peer::start(mailbox().on(command, steps));
        let (gateway, mut pop) = session(&peer, &[2]);
        pop.err("QUIT", "-ERR [SYS/TEMP]");
        pop.closed();
        assert_eq!(gateway.sessions(1)[0]["removed"], 0);
    }
}

/// The device gets one reply, but the log says why each folder failed.
#[test]
fn each_folder_that_fails_is_in_the_log() {
    let peer = Peer::start(mailbox().on("UID STORE", vec![Step::Close]));
    let gateway = Setup::new(peer.address())
        .maildrop("folder = [\"INBOX\", \"Lists\"]")
        .start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    for number in 1..=10 {
        pop.ok(&format!("DELE {number}"));
    }
    pop.err("QUIT", "-ERR [SYS/TEMP]");
    gateway.events("the upstream failed", 2);
}

#[test]
fn another_mailbox_in_its_place_is_left_alone() {
    let lost = mailbox().on("UID STORE", Step::Close);
    let peer = Peer::start_each(vec![lost, mailbox().uid_validity(7)]);
    let (gateway, mut pop) = session(&peer, &[2]);
    pop.err("QUIT", "-ERR [SYS/TEMP]");
    gateway.stop();
    assert_eq!(peer.count("UID STORE"), 1, "{:?}", peer.commands());
    assert_eq!(peer.count("UID EXPUNGE"), 0);
}

#[test]
fn a_read_only_folder_can_be_read_only() {
    let select = "* 5 EXISTS\r\n* OK [UIDVALIDITY 1000]\r\n{tag} OK [READ-ONLY] selected\r\n";
    let peer = Peer::start(mailbox().on("SELECT", select));
    let (gateway, mut pop) = session(&peer, &[2]);
    assert_eq!(pop.retr(1).1, mail::simple(1));
    pop.err("QUIT", "-ERR [SYS/PERM]");
    pop.closed();
    gateway.stop();
    assert_eq!(peer.count("UID STORE"), 0, "{:?}", peer.commands());

    let peer = Peer::start(mailbox().on("SELECT", select));
    let (_gateway, mut pop) = session(&peer, &[]);
    pop.retr(1);
    pop.quit();
}

#[test]
fn without_uidplus_only_ours_is_expunged() {
    let bare = || mailbox().capabilities("IMAP4rev1 AUTH=PLAIN SASL-IR");
    // Another client has flagged 4 as `\Deleted` before, and 5 since.
    let answers = bare()
        .on("UID SEARCH DELETED", "* SEARCH 5 2 4\r\n{tag} OK\r\n")
        .once("UID SEARCH DELETED", "* SEARCH 4\r\n{tag} OK\r\n");
    let peer = Peer::start(answers);
    let (_gateway, mut pop) = session(&peer, &[2]);
    assert_eq!(pop.stat().0, 3, "what is marked is not shown");
    pop.quit();
    let commands = peer.commands();
    let from = commands
        .iter()
        .position(|command| command.starts_with("UID STORE"))
        .unwrap();
    assert_eq!(
        commands[from..][..5],
        [
            "UID STORE 2 +FLAGS.SILENT (\\Deleted)",
            "UID SEARCH DELETED",
            "UID STORE 4:5 -FLAGS.SILENT (\\Deleted)",
            "EXPUNGE",
            "UID STORE 4:5 +FLAGS.SILENT (\\Deleted)",
        ]
    );

    // If another client's `\Deleted` cannot be removed, no EXPUNGE is sent.
    let answers = bare()
        .on("UID SEARCH DELETED", "* SEARCH 2 4\r\n{tag} OK\r\n")
        .once("UID SEARCH DELETED", "* SEARCH 4\r\n{tag} OK\r\n")
        .on("UID STORE 4 -FLAGS", "{tag} NO not yours\r\n");
    let peer = Peer::start(answers);
    let (_gateway, mut pop) = session(&peer, &[2]);
    assert_eq!(pop.command("QUIT"), "-ERR [SYS/TEMP] 1 of 1 messages not removed");
    assert_eq!(peer.count("EXPUNGE"), 0, "{:?}", peer.commands());

    // EXPUNGE is refused: the other client's `\Deleted` is restored all the same.
    let answers = bare()
        .on("UID SEARCH DELETED", "* SEARCH 2 4\r\n{tag} OK\r\n")
        .once("UID SEARCH DELETED", "* SEARCH 4\r\n{tag} OK\r\n")
        .on("EXPUNGE", "{tag} NO not now\r\n");
    let peer = Peer::start(answers);
    let (_gateway, mut pop) = session(&peer, &[2]);
    assert_eq!(pop.command("QUIT"), "-ERR [SYS/TEMP] 1 of 1 messages not removed");
    assert_eq!(
        peer.count("UID STORE 4 +FLAGS.SILENT (\\Deleted)"),
        1,
        "{:?}",
        peer.commands()
    );
}

#[test]
fn a_device_that_leaves_without_quit_deletes_nothing() {
    for ending in ["drop", "half", "shutdown"] {
        let peer = Peer::start(mailbox());
        let (gateway, mut pop) = session(&peer, &[1, 2]);
        match ending {
            "half" => {
                pop.send(b"QUI");
                pop.shut_down();
                pop.closed();
            }
            "shutdown" => {
                pop.shut_down();
                pop.closed();
            }
            _ => {}
        }
        drop(pop);
        assert_eq!(gateway.sessions(1)[0]["end"], "dropped", "{ending}");
        gateway.stop();
        assert_eq!(
            peer.count("UID STORE") + peer.count("UID EXPUNGE"),
            0,
            "{ending}: {:?}",
            peer.commands()
        );
    }
}

/// The device sends RETR, DELE and QUIT in one write, and goes before it has read the message.
#[test]
fn a_message_that_the_device_cannot_have_read_is_not_removed() {
    let gate = Gate::default();
    let body = b"Subject: large\r\n\r\n"
        .iter()
        .copied()
        .chain(b"text\r\n".iter().copied().cycle().take(30 << 20));
    let large: Vec<u8> = body.collect();
    let answers = Answers::of([large]).on("UID STORE", vec![Step::Wait(gate.clone()), send("{tag} OK stored\r\n")]);
    let peer = Peer::start(answers);
    let (gateway, mut pop) = session(&peer, &[]);
    pop.send(b"RETR 1\r\nDELE 1\r\nQUIT\r\n");
    pop.expect("+OK");
    drop(pop);
    assert_eq!(gateway.sessions(1)[0]["end"], "dropped");
    gate.open();
    gateway.stop();
    assert_eq!(
        peer.count("UID STORE 1 +FLAGS.SILENT (\\Deleted)"),
        0,
        "{:?}",
        peer.commands()
    );
}

/// Outlook polls again while its last session is still ending.
#[test]
fn a_login_may_wait_for_the_end_of_the_last_session() {
    let gate = Gate::default();
    let slow = vec![Step::Wait(gate.clone()), send("* 1 EXPUNGE\r\n{tag} OK\r\n")];
    let peer = Peer::start(Answers::of([1, 2].map(mail::simple)).once("UID EXPUNGE", slow));
    let gateway = Setup::new(peer.address()).maildrop("wait_seconds = 20").start();
    let mut last = Pop::log_in(gateway.address(), "eva");
    last.ok("DELE 1");
    last.send(b"QUIT\r\n");
    peer.wait_for("UID EXPUNGE");
    let mut next = Pop::connect(gateway.address());
    next.ok("USER eva");
    next.send(format!("PASS {PASSWORD}\r\n").as_bytes());
    // This login has another mailbox, so it does not wait.
    Pop::log_in(gateway.address(), "adam").quit();
    peer.wait_for_count("AUTHENTICATE", 3);
    gate.open();
    last.expect("+OK");
    next.expect("+OK");
    next.quit();
}
