//! Deleting: a MOVE that is offered but does not work, and messages that another client has removed meanwhile.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use super::each;
use crate::support::{
    answers::{Answers, CAPABILITIES, Message, contains},
    gateway::{Gateway, Setup},
    mail,
    peer::{Peer, Step, send},
    pop::Pop,
};

const MOVES: &str = "IMAP4rev1 SASL-IR AUTH=PLAIN UIDPLUS MOVE";
const BARE: &str = "IMAP4rev1 SASL-IR AUTH=PLAIN";
const STATUS: &str = "* STATUS \"Old\" (MESSAGES 0 UIDVALIDITY 9 UIDNEXT 4)\r\n{tag} OK\r\n";

/// A mailbox whose removals change later answers, and from which another client has removed some messages since it was
/// listed.
#[derive(Clone)]
struct Shared {
    /// The UIDs of the messages that exist.
    there: Arc<Mutex<BTreeSet<u32>>>,
    flagged: Arc<Mutex<BTreeSet<u32>>>,
    moved: Arc<Mutex<BTreeSet<u32>>>,
    /// The answer to a set with a message that is gone; `None`: the command is carried out on the others.
    refusal: Option<&'static str>,
}

impl Shared {
    fn new(gone: &[u32], refusal: Option<&'static str>) -> Self {
        Self {
            there: Arc::new(Mutex::new((1..=3).filter(|uid| !gone.contains(uid)).collect())),
            flagged: Arc::default(),
            moved: Arc::default(),
            refusal,
        }
    }

    /// The answers of the first connection, which lists all three messages once, and those of all later connections,
    /// which show the mailbox as it is.
    fn answers(&self, capabilities: &'static str) -> Vec<Answers> {
        let rows: String = (1..=3)
            .map(|uid| format!("* {uid} FETCH (UID {uid} RFC822.SIZE {})\r\n", mail::simple(uid).len()))
            .collect();
        let shared = self.clone();
        let now = Answers::new((1..=3).map(|uid| Message::new(uid, mail::simple(uid as usize))))
            .capabilities(capabilities)
            .on("STATUS", STATUS)
            .answer(move |command| shared.to(command));
        let before = now.clone().once("UID FETCH 1:", rows + "{tag} OK done\r\n").once(
            "SELECT",
            "* 3 EXISTS\r\n* OK [UIDVALIDITY 1000] it is\r\n{tag} OK done\r\n",
        );
        vec![before, now]
    }

    fn to(&self, command: &str) -> Option<Vec<Step>> {
        let words: Vec<&str> = command.split(' ').collect();
        let (mut there, mut flagged) = (self.there.lock().unwrap(), self.flagged.lock().unwrap());
        let of = |uids: &BTreeSet<u32>, set: &str| -> BTreeSet<u32> {
            let last = uids.last().copied().unwrap_or(0);
            uids.iter().copied().filter(|&uid| contains(set, uid, last)).collect()
        };
        let names_gone = |set: &str| (1..=3).any(|uid| contains(set, uid, 3) && !there.contains(&uid));
        let refused = |set: &str| self.refusal.filter(|_| names_gone(set));
        let done = |data: String| Some(vec![Step::Send(data.into_bytes()), send("{tag} OK done\r\n")]);
        let found = |uids: BTreeSet<u32>| {
            let words: String = uids.iter().map(|uid| format!(" {uid}")).collect();
            done(format!("* SEARCH{words}\r\n"))
        };
        match words[..] {
            ["SELECT", ..] => done(format!("* {} EXISTS\r\n* OK [UIDVALIDITY 1000] it is\r\n", there.len())),
            ["UID", "STORE" | "COPY" | "MOVE" | "EXPUNGE", set, ..] if refused(set).is_some() => {
                Some(vec![send(format!("{{tag}} {}\r\n", self.refusal?))])
            }
            ["UID", "STORE", set, "+FLAGS.SILENT" | "+FLAGS", flags] if flags.contains("\\Deleted") => {
                flagged.extend(of(&there, set));
                done(String::new())
            }
            ["UID", "STORE", set, "-FLAGS.SILENT" | "-FLAGS", flags] if flags.contains("\\Deleted") => {
                let unflagged = of(&there, set);
                flagged.retain(|uid| !unflagged.contains(uid));
                done(String::new())
            }
            ["UID", "EXPUNGE", set] => {
                let expunged: BTreeSet<u32> = of(&there, set).intersection(&flagged).copied().collect();
                there.retain(|uid| !expunged.contains(uid));
                done(String::new())
            }
            ["EXPUNGE"] => {
                there.retain(|uid| !flagged.contains(uid));
                done(String::new())
            }
            ["UID", "COPY", set, ..] => {
                self.moved.lock().unwrap().extend(of(&there, set));
                done(String::new())
            }
            ["UID", "MOVE", set, ..] => {
                let moved = of(&there, set);
                there.retain(|uid| !moved.contains(uid));
                self.moved.lock().unwrap().extend(moved);
                done(String::new())
            }
            ["UID", "SEARCH", "UID", set] => found(of(&there, set)),
            ["UID", "SEARCH", "DELETED"] => found(flagged.intersection(&there).copied().collect()),
            ["UID", "FETCH", set, ..] => {
                let fetched = of(&there, set);
                let rows = (1..).zip(&*there).filter(|(_, uid)| fetched.contains(uid));
                let row = |(number, uid): (usize, &u32)| {
                    let flags = if flagged.contains(uid) { "\\Deleted" } else { "" };
                    let size = mail::simple(*uid as usize).len();
                    format!("* {number} FETCH (UID {uid} FLAGS ({flags}) RFC822.SIZE {size})\r\n")
                };
                done(rows.map(row).collect())
            }
            _ => None,
        }
    }

    fn left(&self) -> Vec<u32> {
        self.there.lock().unwrap().iter().copied().collect()
    }

    fn moved(&self) -> Vec<u32> {
        self.moved.lock().unwrap().iter().copied().collect()
    }
}

fn start(peer: &Peer, policy: &str) -> Gateway {
    Setup::new(peer.address())
        .maildrop(&format!("on_delete = \"{policy}\""))
        .start()
}

fn delete(gateway: &Gateway, numbers: &[usize]) {
    let mut pop = Pop::log_in(gateway.address(), "eva");
    for number in numbers {
        pop.ok(&format!("DELE {number}"));
    }
    pop.quit();
}

/// What servers answer to a set of which some messages are gone.
const REFUSALS: [Option<&str>; 5] = [
    None,
    Some("NO [EXPUNGEISSUED] Some of the requested messages no longer exist"),
    Some("NO Some of the requested messages no longer exist."),
    Some("NO [NONEXISTENT] no such message"),
    Some("BAD Invalid message number"),
];

#[test]
fn one_of_three_that_is_gone_lets_the_others_go() {
    each(REFUSALS, |&refusal| {
        for (capabilities, policy) in [
            (CAPABILITIES, "expunge"),
            (BARE, "expunge"),
            (MOVES, "expunge"),
            (MOVES, "move:Old"),
            (CAPABILITIES, "move:Old"),
            (BARE, "move:Old"),
        ] {
            let shared = Shared::new(&[2], refusal);
            let peer = Peer::start_each(shared.answers(capabilities));
            let gateway = start(&peer, policy);
            delete(&gateway, &[1, 2, 3]);
            assert_eq!(gateway.sessions(1)[0]["end"], "quit");
            gateway.stop();
            assert_eq!(shared.left(), [0; 0], "{policy} {refusal:?}: {:?}", peer.commands());
            if policy != "expunge" {
                assert_eq!(shared.moved(), [1, 3], "{policy} {refusal:?}: {:?}", peer.commands());
            }
        }
    });
}

/// Two devices delete the same mail. The second gets `+OK` too, because the mail is gone.
#[test]
fn what_somebody_else_has_removed_is_removed() {
    each(REFUSALS, |&refusal| {
        for (capabilities, policy) in [
            (CAPABILITIES, "expunge"),
            (BARE, "expunge"),
            (MOVES, "move:Old"),
            (BARE, "move:Old"),
        ] {
            let shared = Shared::new(&[2], refusal);
            let peer = Peer::start_each(shared.answers(capabilities));
            let gateway = start(&peer, policy);
            delete(&gateway, &[2]);
            // The next session finds the messages that are left.
            let mut pop = Pop::log_in(gateway.address(), "eva");
            assert_eq!(pop.list("UIDL"), ["1 1000.1", "2 1000.3"], "{policy} {refusal:?}");
            pop.quit();
            gateway.stop();
            assert_eq!(shared.left(), [1, 3], "{policy} {refusal:?}: {:?}", peer.commands());
        }
    });
}

#[test]
fn all_that_is_deleted_is_gone() {
    each(REFUSALS, |&refusal| {
        let shared = Shared::new(&[1, 2, 3], refusal);
        let peer = Peer::start_each(shared.answers(CAPABILITIES));
        delete(&start(&peer, "expunge"), &[1, 2, 3]);
    });
}

/// A refusal does not mean that the message is gone: it still exists, so the device gets an error.
#[test]
fn what_is_there_and_cannot_be_removed_is_told() {
    each(
        [
            (CAPABILITIES, "UID STORE"),
            (CAPABILITIES, "UID EXPUNGE"),
            (BARE, "EXPUNGE"),
        ],
        |&(capabilities, command)| {
            let shared = Shared::new(&[2], REFUSALS[1]);
            let answers = shared.answers(capabilities).into_iter();
            let unremovable = answers.map(|answers| answers.on(command, "{tag} NO [NOPERM] not by you\r\n"));
            let peer = Peer::start_each(unremovable.collect());
            let gateway = start(&peer, "expunge");
            let mut pop = Pop::log_in(gateway.address(), "eva");
            pop.ok("DELE 1");
            pop.ok("DELE 2");
            pop.err("QUIT", "-ERR [SYS/");
            gateway.stop();
            assert_eq!(shared.left(), [1, 3]);
        },
    );
}

#[test]
fn move_that_is_offered_and_refused_is_copy_and_remove() {
    each(
        [
            "{tag} BAD Unknown command MOVE\r\n",
            "{tag} BAD Command Argument Error. 11\r\n",
            "{tag} NO MOVE is not supported\r\n",
            "{tag} NO [CANNOT] not to that folder\r\n",
        ],
        |&answer| {
            for capabilities in [MOVES, "IMAP4rev1 SASL-IR AUTH=PLAIN MOVE"] {
                for policy in ["move:Old", "trash"] {
                    let shared = Shared::new(&[], None);
                    let answers = shared.answers(capabilities).into_iter().map(|answers| {
                        let listed = answers.on("LIST", "* LIST (\\Trash) \"/\" \"Old\"\r\n{tag} OK\r\n");
                        listed.on("UID MOVE", answer)
                    });
                    let peer = Peer::start_each(answers.collect());
                    let gateway = start(&peer, policy);
                    delete(&gateway, &[2]);
                    gateway.stop();
                    assert_eq!(
                        (shared.left(), shared.moved()),
                        (vec![1, 3], vec![2]),
                        "{answer}: {:?}",
                        peer.commands()
                    );
                    assert_eq!(peer.count("UID COPY 2 \"Old\""), 1, "{:?}", peer.commands());
                }
            }
        },
    );
}

/// If COPY does not work either, nothing is removed.
#[test]
fn neither_move_nor_copy() {
    let shared = Shared::new(&[], None);
    let answers = shared.answers(MOVES).into_iter().map(|answers| {
        let refused = answers.on("UID MOVE", "{tag} BAD Unknown command MOVE\r\n");
        refused.on("UID COPY", "{tag} NO [OVERQUOTA] full\r\n")
    });
    let peer = Peer::start_each(answers.collect());
    let gateway = start(&peer, "move:Old");
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.ok("DELE 2");
    pop.err("QUIT", "-ERR [SYS/TEMP] 1 of 1 messages not removed");
    gateway.stop();
    assert_eq!(shared.left(), [1, 2, 3]);
}

/// GNU imap4d shows changed flags to other clients only after CHECK (RFC 3501 §6.4.1) or the end of the session. A
/// parked connection must not keep them hidden for a quarter of an hour.
#[test]
fn flags_are_committed_when_a_connection_waits() {
    let peer = Peer::start(super::mailbox().capabilities(BARE));
    let gateway = Setup::new(peer.address()).limit("parked_seconds = 60").start();
    super::assert_served(&gateway, "eva");
    gateway.events("parked", 1);
    let commands = peer.commands();
    let at = |prefix: &str| commands.iter().rposition(|command| command.starts_with(prefix));
    let (flagged, checked) = (at("UID STORE"), at("CHECK"));
    assert!(flagged.is_some() && flagged < checked, "{commands:?}");
    // A session that changes no flags sends no CHECK.
    Pop::log_in(gateway.address(), "eva").quit();
    gateway.events("parked", 2);
    assert_eq!(
        (peer.count("CHECK"), peer.connections()),
        (1, 1),
        "{:?}",
        peer.commands()
    );
}
