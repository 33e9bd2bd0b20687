//! Searching: messages with a flag are found however a server answers SEARCH, and whatever revision of IMAP it has.

use super::each;
use crate::support::{
    answers::{Answers, Message},
    gateway::Setup,
    mail,
    peer::Peer,
    pop::Pop,
};

/// Five messages, of which `uids` have the flags `flags`.
fn marked(flags: &'static str, uids: &[u32]) -> Answers {
    Answers::new((1..=5).map(|uid| {
        let message = Message::new(uid, mail::simple(uid as usize));
        if uids.contains(&uid) {
            message.flags(flags)
        } else {
            message
        }
    }))
}

/// Asserts that two sessions see the messages `uids`. The second session knows the mailbox.
fn assert_shown(answers: Answers, key: &str, uids: &[u32], why: &str) {
    let peer = Peer::start(answers);
    let setup = Setup::new(peer.address()).limit("upstream_seconds = 2");
    let gateway = if key.is_empty() { setup } else { setup.maildrop(key) }.start();
    let expected: Vec<_> = (1..)
        .zip(uids)
        .map(|(number, uid)| format!("{number} 1000.{uid}"))
        .collect();
    for _ in 0..2 {
        let mut pop = Pop::log_in(gateway.address(), "eva");
        assert_eq!(pop.list("UIDL"), expected, "{why}");
        pop.quit();
    }
    gateway.stop();
}

/// Answers to SEARCH that are of no use: refusals, or a result that cannot be understood.
const NO_SEARCHES: [&str; 4] = [
    "{tag} NO SEARCH is not supported\r\n",
    "{tag} BAD Unknown command\r\n",
    "{tag} NO [CANNOT] not here\r\n",
    "* SEARCH two and four\r\n{tag} OK done\r\n",
];

#[test]
fn a_search_that_is_refused_or_odd_is_replaced_by_flags() {
    each(NO_SEARCHES, |&answer| {
        let answers = || marked("\\Deleted", &[2, 4]).on("UID SEARCH", answer);
        assert_shown(answers(), "", &[1, 3, 5], answer);
        let seen = marked("\\Answered \\Seen", &[2, 4]).on("UID SEARCH", answer);
        assert_shown(seen, "unseen_only = true", &[1, 3, 5], answer);
    });
}

/// ESEARCH (RFC 4731): a set in several parts in any order, or no set at all.
#[test]
fn esearch_instead_of_search() {
    each(
        [
            ("(TAG \"{tag}\") UID ALL 2,4:5", &[1, 3][..]),
            ("(TAG \"{tag}\") UID COUNT 3 ALL 2,5:4", &[1, 3]),
            ("(TAG \"{tag}\") UID ALL 5,2,4 COUNT 3", &[1, 3]),
            ("(TAG {tag}) UID MIN 2 MAX 5 ALL 2,4,5 MODSEQ 12", &[1, 3]),
            ("(tag \"{tag}\") uid all 2,4:5", &[1, 3]),
            ("UID ALL 2,4:5", &[1, 3]),
            ("(TAG \"{tag}\") UID X-THING (7 (8)) ALL 2:2", &[1, 3, 4, 5]),
            ("(TAG \"{tag}\") UID", &[1, 2, 3, 4, 5]),
            ("(TAG \"{tag}\") UID COUNT 0", &[1, 2, 3, 4, 5]),
        ],
        |&(found, shown)| {
            let answer = format!("* ESEARCH {found}\r\n{{tag}} OK done\r\n");
            let answers = marked("", &[])
                .capabilities("IMAP4rev1 SASL-IR AUTH=PLAIN UIDPLUS ESEARCH")
                .on("UID SEARCH", answer);
            assert_shown(answers, "", shown, found);
        },
    );
}

/// IMAP4rev2. It contains several extensions, which the server need not name (RFC 9051 appendix E).
fn rev2() -> Answers {
    marked("\\Deleted", &[2])
        .capabilities("IMAP4rev2 AUTH=PLAIN")
        .validity("* OK [UIDVALIDITY 1000] it is\r\n* LIST () \"/\" INBOX\r\n")
        .on("UID SEARCH", "* ESEARCH (TAG \"{tag}\") UID ALL 2\r\n{tag} OK done\r\n")
        .on("EXPUNGE", "{tag} BAD that would take what others have marked\r\n")
}

#[test]
fn imap4rev2_alone() {
    assert_shown(rev2(), "", &[1, 3, 4, 5], "somebody else's \\Deleted");
    let peer = Peer::start(rev2());
    let gateway = Setup::new(peer.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.ok("DELE 1");
    pop.quit();
    let commands = peer.commands();
    assert_eq!(peer.count("UID EXPUNGE 1"), 1, "{commands:?}");
    assert!(
        !commands
            .iter()
            .any(|command| command == "EXPUNGE" || command == "CLOSE"),
        "{commands:?}"
    );
    assert_eq!(peer.count("UID STORE 2"), 0, "{commands:?}");
    // RFC 9051 §7.2.1, §6.4.8.
    let peer = Peer::start(rev2().on("STATUS", "* STATUS \"Old\" (UIDVALIDITY 9 UIDNEXT 4)\r\n{tag} OK\r\n"));
    let gateway = Setup::new(peer.address()).maildrop("on_delete = \"move:Old\"").start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.ok("DELE 1");
    pop.quit();
    assert_eq!(
        (peer.count("UID MOVE 1"), peer.count("UID COPY")),
        (1, 0),
        "{:?}",
        peer.commands()
    );
}
