//! Upstreams that behave like those of large providers, and what a device gets from them.

use crate::support::{
    PASSWORD,
    answers::{Answers, Message},
    gateway::{Gateway, Setup},
    mail,
    peer::{Peer, Step, send},
    pop::Pop,
};

const THROTTLED: &str = "BAD Request is throttled. Suggested Backoff Time: 299961 milliseconds";
const NOT_CONNECTED: &str = "BAD User is authenticated but not connected.";

/// Three messages on Exchange. It lists the size before the UID, and that size is not the one of the message that it
/// sends.
fn exchange() -> Answers {
    let sizes = (1..=3).map(|number| {
        let size = mail::simple(number).len() + 1000 * number;
        format!("* {number} FETCH (RFC822.SIZE {size} UID {number})\r\n")
    });
    let listed: String = sizes.collect();
    let select = "* 3 EXISTS\r\n* 0 RECENT\r\n* FLAGS (\\Seen \\Answered \\Flagged \\Deleted \\Draft $MDNSent)\r\n\
                  * OK [PERMANENTFLAGS (\\Seen \\Answered \\Flagged \\Deleted \\Draft $MDNSent)] Permanent flags\r\n\
                  * OK [UNSEEN 1] Is the first unseen message\r\n* OK [UIDVALIDITY 14] UIDVALIDITY value\r\n\
                  * OK [UIDNEXT 4] The next unique identifier value\r\n{tag} OK [READ-WRITE] SELECT completed.\r\n";
    Answers::of((1..=3).map(mail::simple))
        .greet("* OK The Microsoft Exchange IMAP4 service is ready. [QQBNADAAUABSADAA]\r\n")
        .capabilities(
            "IMAP4 IMAP4rev1 AUTH=PLAIN AUTH=XOAUTH2 SASL-IR UIDPLUS MOVE ID UNSELECT CHILDREN IDLE NAMESPACE LITERAL+",
        )
        .on("AUTHENTICATE", "{tag} OK AUTHENTICATE completed.\r\n")
        .on("ID", "* ID (\"name\" \"Microsoft.Exchange.Imap4.Imap4Server\" \"version\" \"15.20\")\r\n{tag} OK ID completed\r\n")
        .on("SELECT", select)
        .on("UID FETCH 1:* (UID RFC822.SIZE)", format!("{listed}{{tag}} OK FETCH completed.\r\n"))
}

/// Two messages at Gmail, which sends all its capabilities only after login.
fn gmail() -> Answers {
    let before = "* CAPABILITY IMAP4rev1 UNSELECT IDLE NAMESPACE QUOTA ID XLIST CHILDREN X-GM-EXT-1 XYZZY SASL-IR \
                  AUTH=XOAUTH2 AUTH=PLAIN AUTH=PLAIN-CLIENTTOKEN AUTH=OAUTHBEARER\r\n{tag} OK Thats all she wrote! 7mb\r\n";
    let after = "* CAPABILITY IMAP4rev1 UNSELECT IDLE NAMESPACE QUOTA ID XLIST CHILDREN X-GM-EXT-1 UIDPLUS \
                 COMPRESS=DEFLATE ENABLE MOVE CONDSTORE ESEARCH UTF8=ACCEPT LIST-EXTENDED LIST-STATUS LITERAL- SPECIAL-USE \
                 APPENDLIMIT=35651584\r\n{tag} OK eva@example.org authenticated (Success)\r\n";
    Answers::of((1..=2).map(mail::simple))
        .greet("* OK Gimap ready for requests from 192.0.2.7 7mb\r\n")
        .on("CAPABILITY", before)
        .on("AUTHENTICATE", after)
}

fn try_log_in(gateway: &Gateway, user: &str) -> String {
    Pop::connect(gateway.address()).try_log_in(user, PASSWORD)
}

#[track_caller]
fn assert_code(reply: &str, code: &str, why: &str) {
    assert!(reply.starts_with(&format!("-ERR [{code}] ")), "{why}: {reply}");
}

#[test]
fn exchange_from_login_to_quit() {
    let peer = Peer::start(exchange());
    let gateway = Setup::new(peer.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    let size = |number: usize| mail::simple(number).len();
    let listed = (1..=3).map(|number| format!("{number} {}", size(number) + 1000 * number));
    assert_eq!(pop.list("LIST"), listed.collect::<Vec<_>>());
    assert_eq!(pop.list("UIDL"), ["1 14.1", "2 14.2", "3 14.3"]);
    for number in 1..=3 {
        assert_eq!(pop.retr(number), (size(number) as u64, mail::simple(number)));
    }
    pop.quit();
    peer.wait_for_end(1);
    // The gateway has learned the sizes of what was sent.
    let mut again = Pop::log_in(gateway.address(), "eva");
    assert_eq!(again.ok("LIST 1"), format!("+OK 1 {}", size(1)));
    again.ok("DELE 2");
    again.quit();
    assert_eq!(peer.count("UID EXPUNGE 2"), 1);
}

#[test]
fn what_passes_is_temporary_wherever_it_is_said() {
    for answer in [
        THROTTLED,
        "NO Server Unavailable. 15",
        "NO [THROTTLED] slow down",
        "NO [OVERQUOTA] Account exceeded command or bandwidth limits.",
        "NO [LIMIT] FETCH Rate limit hit",
        "NO [UNAVAILABLE] Temporary System Error",
    ] {
        let tagged = format!("{{tag}} {answer}\r\n");
        for command in ["AUTHENTICATE", "SELECT"] {
            let peer = Peer::start(exchange().on(command, tagged.as_str()));
            let gateway = Setup::new(peer.address()).start();
            assert_code(&try_log_in(&gateway, "eva"), "SYS/TEMP", answer);
        }
        let peer = Peer::start(exchange().once("UID FETCH 2 (UID BODY", tagged.as_str()));
        let gateway = Setup::new(peer.address()).start();
        let mut pop = Pop::log_in(gateway.address(), "eva");
        pop.ok("DELE 3");
        let reply = pop.err("RETR 2", "-ERR [SYS/TEMP] ");
        assert!(!reply.contains("299961"), "{reply}");
        assert_eq!(pop.retr(2).1, mail::simple(2), "the session lives on");
        pop.quit();
        assert_eq!(peer.connections(), 1, "on the same connection");
        assert_eq!(peer.count("UID EXPUNGE"), 1, "{:?}", peer.commands());
        assert_eq!(peer.count("UID EXPUNGE 3"), 1);
    }
}

#[test]
fn a_throttled_quit_says_so_and_loses_nothing() {
    let tagged = format!("{{tag}} {THROTTLED}\r\n");
    for (command, removal) in [("UID STORE 1 +FLAGS", "UID EXPUNGE"), ("UID EXPUNGE", "EXPUNGE")] {
        let peer = Peer::start(exchange().on(command, tagged.as_str()));
        let gateway = Setup::new(peer.address()).start();
        let mut pop = Pop::log_in(gateway.address(), "eva");
        pop.ok("DELE 1");
        pop.err("QUIT", "-ERR [SYS/TEMP]");
        gateway.stop();
        assert_eq!(peer.count(removal), 0, "{:?}", peer.commands());
        assert_eq!(
            peer.count("UID STORE 1 -FLAGS.SILENT (\\Deleted)"),
            1,
            "{:?}",
            peer.commands()
        );
    }
}

#[test]
fn a_connection_that_exchange_closes_is_replaced() {
    for farewell in [
        "* BYE Connection is closed. 13\r\n",
        "* BYE Session invalidated - AccessTokenExpired\r\n",
    ] {
        let closing = exchange().once("UID FETCH 1 (UID BODY", vec![send(farewell), Step::Close]);
        let peer = Peer::start_each(vec![closing, exchange()]);
        let gateway = Setup::new(peer.address()).start();
        let mut pop = Pop::log_in(gateway.address(), "eva");
        assert_eq!(pop.retr(1).1, mail::simple(1));
        pop.quit();
        assert_eq!(peer.connections(), 2);
    }
}

/// If the server has asked for a pause for a user, the gateway does not log in for that time, and the device gets the
/// reason at once.
#[test]
fn a_throttled_upstream_is_not_asked_again() {
    for (answer, then) in [
        (format!("{{tag}} {THROTTLED}\r\n"), Vec::new()),
        (
            "{tag} NO [ALERT] Too many simultaneous connections. (Failure)\r\n".into(),
            Vec::new(),
        ),
        ("{tag} NO [THROTTLED]\r\n".into(), Vec::new()),
        (
            "{tag} NO [OVERQUOTA] Account exceeded command or bandwidth limits.\r\n".into(),
            Vec::new(),
        ),
        ("{tag} NO [LIMIT] LOGIN Rate limit hit\r\n".into(), Vec::new()),
        ("* BYE Too many simultaneous connections\r\n".into(), vec![Step::Close]),
    ] {
        for command in ["AUTHENTICATE", "SELECT"] {
            let steps = [vec![send(&answer)], then.clone()].concat();
            let peer = Peer::start(exchange().on(command, steps));
            let gateway = Setup::new(peer.address()).start();
            for _ in 0..3 {
                let reply = try_log_in(&gateway, "eva");
                assert_eq!(
                    reply, "-ERR [SYS/TEMP] upstream wants to be asked less, try later",
                    "{answer}"
                );
            }
            assert_eq!(peer.connections(), 1, "{answer}");
            assert_code(&try_log_in(&gateway, "ida"), "SYS/TEMP", &answer);
            assert_eq!(peer.connections(), 2, "another user's case is another");
        }
    }
}

#[test]
fn a_throttled_upstream_is_asked_again_when_its_time_is_over() {
    let answer = "{tag} BAD Request is throttled. Suggested Backoff Time: 1 milliseconds\r\n";
    let peer = Peer::start_each(vec![exchange().on("AUTHENTICATE", answer), exchange()]);
    let gateway = Setup::new(peer.address()).start();
    assert_code(&try_log_in(&gateway, "eva"), "SYS/TEMP", answer);
    Pop::log_in(gateway.address(), "eva").quit();
    assert_eq!(peer.connections(), 2);
}

#[test]
fn what_is_parked_serves_while_logins_wait() {
    let answer = format!("{{tag}} {THROTTLED}\r\n");
    let peer = Peer::start(exchange().once("UID FETCH 1 (UID BODY", answer));
    let gateway = Setup::new(peer.address()).limit("parked_seconds = 60").start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.err("RETR 1", "-ERR [SYS/TEMP]");
    pop.quit();
    gateway.events("parked", 1);
    let mut pop = Pop::log_in(gateway.address(), "eva");
    assert_eq!(pop.retr(1).1, mail::simple(1));
    assert_code(
        &Pop::connect(gateway.address()).try_log_in("eva", "another"),
        "SYS/TEMP",
        "a new connection",
    );
    pop.quit();
    assert_eq!(peer.connections(), 1);
}

#[test]
fn a_login_that_leads_to_no_mailbox_is_for_somebody_to_mend() {
    let unsafe_login = "NO SELECT Unsafe Login. Please contact kefu@188.com for help";
    for (command, answer, advice) in [
        ("AUTHENTICATE", NOT_CONNECTED, "licence"),
        ("SELECT", NOT_CONNECTED, "licence"),
        ("SELECT", unsafe_login, "authorisation code"),
    ] {
        let peer = Peer::start(exchange().on(command, format!("{{tag}} {answer}\r\n")));
        let gateway = Setup::new(peer.address()).start();
        assert_eq!(
            try_log_in(&gateway, "eva"),
            "-ERR [SYS/PERM] upstream says that this user has no mailbox it may use, see the log"
        );
        let event = &gateway.events("the upstream failed", 1)[0];
        assert!(event["advice"].as_str().unwrap().contains(advice), "{event}");
    }
}

/// Exchange gives this answer too if it has lost the mailbox, although the connection still stands.
#[test]
fn a_connection_without_its_mailbox_is_replaced() {
    let tagged = format!("{{tag}} {NOT_CONNECTED}\r\n");
    for command in ["UID FETCH 1 (UID BODY", "UID STORE 3 +FLAGS"] {
        let peer = Peer::start_each(vec![exchange().on(command, tagged.as_str()), exchange()]);
        let gateway = Setup::new(peer.address()).start();
        let mut pop = Pop::log_in(gateway.address(), "eva");
        assert_eq!(pop.retr(1).1, mail::simple(1));
        pop.ok("DELE 3");
        pop.quit();
        assert_eq!((peer.connections(), peer.count("UID EXPUNGE 3")), (2, 1));
    }
}

#[test]
fn gmail_moves_to_its_trash_whatever_that_is_called() {
    for (listed, folder) in [
        ("\"[Gmail]/Trash\"", "[Gmail]/Trash"),
        ("\"[Gmail]/Papierkorb\"", "[Gmail]/Papierkorb"),
        // ゴミ箱
        ("\"[Gmail]/&MLQw33ux-\"", "[Gmail]/&MLQw33ux-"),
    ] {
        let list = format!(
            "* LIST (\\HasNoChildren) \"/\" \"INBOX\"\r\n* LIST (\\HasChildren \\Noselect) \"/\" \"[Gmail]\"\r\n\
             * LIST (\\All \\HasNoChildren) \"/\" \"[Gmail]/All Mail\"\r\n\
             * LIST (\\HasNoChildren \\Trash) \"/\" {listed}\r\n{{tag}} OK Success\r\n"
        );
        let peer = Peer::start(gmail().on("LIST", list));
        let gateway = Setup::new(peer.address()).maildrop("on_delete = \"trash\"").start();
        let mut pop = Pop::log_in(gateway.address(), "eva");
        assert_eq!(pop.retr(2).1, mail::simple(2));
        pop.ok("DELE 1");
        pop.quit();
        assert_eq!(
            peer.count(&format!("UID MOVE 1 \"{folder}\"")),
            1,
            "{:?}",
            peer.commands()
        );
        assert_eq!(peer.count("CAPABILITY"), 1, "told after login");
        assert_eq!(peer.count("COMPRESS"), 0, "not on one's own machine");
    }
}

#[test]
fn gmail_that_is_throttled_at_quit_has_removed_nothing() {
    for answer in [
        "NO [THROTTLED] slow down (Failure)",
        "NO [OVERQUOTA] Account exceeded command or bandwidth limits.",
    ] {
        let list = "* LIST (\\HasNoChildren \\Trash) \"/\" \"[Gmail]/Bin\"\r\n{tag} OK Success\r\n";
        let answers = gmail().on("LIST", list).on("UID MOVE", format!("{{tag}} {answer}\r\n"));
        let peer = Peer::start(answers);
        let gateway = Setup::new(peer.address()).maildrop("on_delete = \"trash\"").start();
        let mut pop = Pop::log_in(gateway.address(), "eva");
        pop.ok("DELE 1");
        pop.err("QUIT", "-ERR [SYS/TEMP] 1 of 1 messages not removed");
        gateway.stop();
        peer.assert_nothing_removed();
    }
}

/// Netease requires ID. Any server that offers ID gets one, with arguments, because Exchange refuses an ID without
/// them.
#[test]
fn who_we_are_is_told_before_select_where_it_may_be() {
    let id = format!(
        "ID (\"name\" \"popgate\" \"version\" \"{}\")",
        env!("CARGO_PKG_VERSION")
    );
    for answer in [
        "* ID NIL\r\n{tag} OK ID completed\r\n",
        "{tag} BAD what?\r\n",
        "{tag} NO not you\r\n",
    ] {
        let peer = Peer::start(exchange().on("ID", answer));
        let gateway = Setup::new(peer.address()).start();
        Pop::log_in(gateway.address(), "eva").quit();
        let commands = peer.commands();
        let at = |prefix: &str| commands.iter().position(|command| command.starts_with(prefix));
        assert_eq!(peer.count(&id), 1, "{commands:?}");
        assert!(at("AUTHENTICATE") < at("ID") && at("ID") < at("SELECT"), "{commands:?}");
    }
    let peer = Peer::start(exchange().capabilities("IMAP4rev1 AUTH=PLAIN SASL-IR"));
    let gateway = Setup::new(peer.address()).start();
    Pop::log_in(gateway.address(), "eva").quit();
    assert_eq!(peer.count("ID"), 0, "it is not offered");
}

/// iCloud's capabilities before login are not those after it.
#[test]
fn what_icloud_can_do_is_asked_after_login() {
    let after = "* CAPABILITY XAPPLEPUSHSERVICE IMAP4rev1 UIDPLUS MOVE ID ESEARCH\r\n{tag} OK done\r\n";
    let answers = Answers::new([Message::new(7, mail::simple(1))])
        .greet("* OK [CAPABILITY st0s2 XAPPLEPUSHSERVICE IMAP4 IMAP4rev1 SASL-IR AUTH=ATOKEN AUTH=PLAIN] p44 hello\r\n")
        .on("CAPABILITY", after)
        .on("AUTHENTICATE", "{tag} OK user eva logged in\r\n");
    let peer = Peer::start(answers);
    let gateway = Setup::new(peer.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.ok("DELE 1");
    pop.quit();
    assert_eq!((peer.count("CAPABILITY"), peer.count("UID EXPUNGE 7")), (1, 1));
}
