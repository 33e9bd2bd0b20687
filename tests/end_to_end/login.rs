//! Logins at the upstream, from the greeting to the listing: the replies to the device, and where the password may
//! appear.

use crate::support::{
    PASSWORD,
    answers::Answers,
    certificates::Certificates,
    gateway::Setup,
    mail,
    peer::{Peer, Step, Steps, send},
    pop::Pop,
};

/// base64 of NUL eva NUL [`PASSWORD`]
const INITIAL: &str = "AGV2YQBrZXN0cmVsLTQyLUhvdmVyZmx5";

fn mailbox() -> Answers {
    Answers::of([mail::simple(1), mail::simple(2)])
}

/// Logs in as eva; returns the reply to PASS.
fn log_in(setup: Setup) -> String {
    let gateway = setup.start();
    let mut pop = Pop::connect(gateway.address());
    let reply = pop.try_log_in("eva", PASSWORD);
    if reply.starts_with("+OK") {
        assert_eq!(pop.stat().0, 2);
        pop.retr(2);
        pop.quit();
    } else {
        // The session goes on.
        assert!(pop.ok("CAPA").starts_with("+OK"));
    }
    reply
}

fn reply_of(answers: Answers) -> (String, Peer) {
    let peer = Peer::start(answers);
    (log_in(Setup::new(peer.address())), peer)
}

#[track_caller]
fn assert_code(reply: &str, code: &str) {
    assert!(reply.starts_with(&format!("-ERR [{code}] ")), "not [{code}]: {reply}");
}

#[test]
fn plain_with_an_initial_response() {
    let (reply, peer) = reply_of(mailbox());
    assert!(reply.starts_with("+OK"), "{reply}");
    assert_eq!(peer.count(&format!("AUTHENTICATE PLAIN {INITIAL}")), 1);
}

/// Two round trips after a greeting with capabilities: one for the login, one for everything else. The server answers a
/// flight only when it has received all of it.
#[test]
fn listing_takes_one_round_trip() {
    let expect = |prefix: &str| Step::Expect(prefix.into());
    let peer = Peer::play(vec![
        send("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN UIDPLUS ID] ready\r\n"),
        expect(&format!("AUTHENTICATE PLAIN {INITIAL}")),
        send("{tag} OK [CAPABILITY IMAP4rev1 UIDPLUS ID] welcome\r\n"),
        expect("ID (\"name\" \"popgate\""),
        expect("SELECT \"INBOX\""),
        expect("UID FETCH 1:* (UID RFC822.SIZE)"),
        expect("UID SEARCH DELETED"),
        send("* ID NIL\r\n{tag-3} OK\r\n* 1 EXISTS\r\n* OK [UIDVALIDITY 9]\r\n{tag-2} OK\r\n"),
        send("* 1 FETCH (UID 4 RFC822.SIZE 6)\r\n{tag-1} OK\r\n* SEARCH\r\n{tag} OK\r\n"),
        expect("UID FETCH 4 (UID BODY.PEEK[])"),
        send("* 1 FETCH (UID 4 BODY[] {6}\r\nA: 1\r\n)\r\n{tag} OK\r\n"),
        expect("UID STORE 4 +FLAGS.SILENT (\\Deleted)"),
        send("{tag} OK\r\n"),
        expect("UID EXPUNGE 4"),
        send("* 1 EXPUNGE\r\n{tag} OK\r\n"),
        Step::Silence,
    ]);
    let gateway = Setup::new(peer.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    assert_eq!(pop.list("UIDL"), ["1 9.4"]);
    assert_eq!(pop.retr(1), (6, b"A: 1\r\n".to_vec()));
    pop.ok("DELE 1");
    pop.quit();
}

#[test]
fn plain_without_an_initial_response() {
    // Only the line that `Step::Line` takes may contain the password.
    let (reply, peer) = reply_of(mailbox().capabilities("IMAP4rev1 AUTH=PLAIN UIDPLUS"));
    assert!(reply.starts_with("+OK"), "{reply}");
    assert_eq!(peer.commands()[1], "AUTHENTICATE PLAIN");
}

#[test]
fn login_where_plain_is_not_offered() {
    let (reply, peer) = reply_of(mailbox().capabilities("IMAP4rev1 AUTH=CRAM-MD5"));
    assert!(reply.starts_with("+OK"), "{reply}");
    assert_eq!(peer.count("AUTHENTICATE"), 0);
    assert_eq!(
        peer.count(&format!("LOGIN \"eva\" \"{PASSWORD}\"")),
        1,
        "{:?}",
        peer.commands()
    );
}

#[test]
fn capabilities_in_greeting_and_after_login() {
    let answers = mailbox()
        .greet("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hello\r\n")
        .on("CAPABILITY", "{tag} BAD asked for nothing\r\n")
        .on("AUTHENTICATE", "{tag} OK [CAPABILITY IMAP4rev1 UIDPLUS] in\r\n");
    let (reply, peer) = reply_of(answers);
    assert!(reply.starts_with("+OK"), "{reply}");
    assert_eq!(peer.count("CAPABILITY"), 0, "they were told");
}

#[test]
fn the_password_is_not_sent_where_login_is_disabled() {
    for capabilities in [
        "IMAP4rev1 LOGINDISABLED",
        "IMAP4rev1 STARTTLS LOGINDISABLED AUTH=XOAUTH2",
    ] {
        let (reply, peer) = reply_of(mailbox().capabilities(capabilities));
        assert_code(&reply, "SYS/PERM");
        assert_eq!(
            peer.count("LOGIN") + peer.count("AUTHENTICATE"),
            0,
            "{:?}",
            peer.commands()
        );
    }
}

#[test]
fn refusals_by_whose_fault_they_are() {
    for (answer, code) in [
        ("NO [AUTHENTICATIONFAILED] no", "AUTH"),
        ("NO [AUTHORIZATIONFAILED] no", "AUTH"),
        ("NO [EXPIRED] no", "AUTH"),
        ("NO Invalid login or password", "AUTH"),
        ("NO [UNAVAILABLE] the backend is down", "SYS/TEMP"),
        (
            "NO [UNAVAILABLE] Maximum number of connections from user+IP exceeded",
            "SYS/TEMP",
        ),
        ("NO [INUSE] locked", "SYS/TEMP"),
        ("NO [LIMIT] LOGIN Rate limit hit", "SYS/TEMP"),
        ("NO [SERVERBUG] oops", "SYS/TEMP"),
        ("NO [THROTTLED] slow down", "SYS/TEMP"),
        ("NO [OVERQUOTA] Account exceeded bandwidth limits", "SYS/TEMP"),
        ("NO [ALERT] Too many simultaneous connections. (Failure)", "SYS/TEMP"),
        (
            "BAD Request is throttled. Suggested Backoff Time: 5000 milliseconds",
            "SYS/TEMP",
        ),
    ] {
        let (reply, _peer) = reply_of(mailbox().on("AUTHENTICATE", format!("{{tag}} {answer}\r\n")));
        assert!(reply.starts_with(&format!("-ERR [{code}] ")), "{answer}: {reply}");
        assert!(
            !reply.contains("LOGIN Rate") && !reply.contains("backend"),
            "it repeats the upstream: {reply}"
        );
    }
}

#[test]
fn an_upstream_that_repeats_the_password_does_not_get_it_into_the_log() {
    // The log is searched when the gateway is dropped.
    let answer = format!("{{tag}} NO [AUTHENTICATIONFAILED] no user eva with {PASSWORD} ({INITIAL})\r\n");
    let (reply, _peer) = reply_of(mailbox().on("AUTHENTICATE", answer));
    assert_code(&reply, "AUTH");
    assert!(!reply.contains(PASSWORD) && !reply.contains(INITIAL));
}

#[test]
fn greetings_that_are_none() {
    for (greeting, code) in [
        ("* BYE too busy\r\n".steps(), "SYS/TEMP"),
        ("* BYE [UNAVAILABLE] later\r\n".steps(), "SYS/TEMP"),
        (vec![Step::Close], "SYS/TEMP"),
        (vec![Step::Reset], "SYS/TEMP"),
        (vec![send("* OK rea"), Step::Close], "SYS/TEMP"),
        ("220 smtp.example.org ESMTP\r\n".steps(), "SYS/TEMP"),
        ("* PREAUTH welcome, whoever you are\r\n".steps(), "SYS/PERM"),
    ] {
        let (reply, peer) = reply_of(mailbox().greet(greeting));
        assert_code(&reply, code);
        assert_eq!(
            peer.count("LOGIN") + peer.count("AUTHENTICATE"),
            0,
            "{:?}",
            peer.commands()
        );
    }
}

#[test]
fn nobody_listens() {
    let peer = Peer::start(mailbox());
    let address = peer.address();
    drop(peer);
    assert_code(&log_in(Setup::new(address)), "SYS/TEMP");
}

#[test]
fn silence_at_every_step_of_the_login() {
    for command in ["greeting", "CAPABILITY", "AUTHENTICATE", "SELECT", "UID FETCH"] {
        let answers = match command {
            "greeting" => mailbox().greet(Step::Silence),
            command => mailbox().on(command, Step::Silence),
        };
        let peer = Peer::start(answers);
        let reply = log_in(Setup::new(peer.address()).limit("upstream_seconds = 1"));
        assert!(reply.starts_with("-ERR [SYS/TEMP]"), "{command}: {reply}");
    }
}

#[test]
fn the_end_at_every_step_of_the_login() {
    for command in ["CAPABILITY", "AUTHENTICATE", "SELECT", "UID FETCH", "UID SEARCH"] {
        for end in [
            vec![Step::Close],
            vec![Step::Reset],
            vec![send("* BYE that is it\r\n"), Step::Close],
            vec![send("* "), Step::Close],
        ] {
            let (reply, _peer) = reply_of(mailbox().on(command, end));
            assert!(reply.starts_with("-ERR [SYS/TEMP]"), "{command}: {reply}");
        }
    }
}

#[test]
fn a_listing_that_is_cut_short_is_no_listing() {
    let cut = vec![send("* 1 FETCH (UID 1 RFC822.SIZE 100)\r\n* 2 FET"), Step::Close];
    let (reply, _peer) = reply_of(mailbox().on("UID FETCH", cut));
    assert_code(&reply, "SYS/TEMP");
    let (reply, _peer) = reply_of(mailbox().on("UID FETCH", "{tag} NO [SERVERBUG] sorry\r\n"));
    assert_code(&reply, "SYS/TEMP");
    let (reply, _peer) = reply_of(mailbox().on("UID FETCH", "{tag} OK nothing\r\n"));
    assert_code(&reply, "SYS/TEMP");
    let (reply, _peer) = reply_of(mailbox().on("UID SEARCH", "{tag} NO [SERVERBUG] sorry\r\n"));
    assert_code(&reply, "SYS/TEMP");
}

#[test]
fn folders_that_cannot_be_selected() {
    for (answer, code) in [
        ("NO [NONEXISTENT] no such mailbox", "SYS/PERM"),
        ("NO [NOPERM] not yours", "SYS/PERM"),
        ("NO no such mailbox", "SYS/PERM"),
        ("NO [UNAVAILABLE] later", "SYS/TEMP"),
        ("NO [INUSE] rebuilding", "SYS/TEMP"),
        ("NO Server Unavailable. 15", "SYS/TEMP"),
    ] {
        let (reply, _peer) = reply_of(mailbox().on("SELECT", format!("{{tag}} {answer}\r\n")));
        assert!(reply.starts_with(&format!("-ERR [{code}] ")), "{answer}: {reply}");
    }
}

#[test]
fn starttls_before_anything_is_told() {
    let certificates = Certificates::new();
    let peer = Peer::start(mailbox().starttls(certificates.server()));
    let setup = Setup::new(peer.address()).upstream_tls("starttls", Some(&certificates.authority_file()));
    let reply = log_in(setup);
    assert!(reply.starts_with("+OK"), "{reply}");
    let commands = peer.commands();
    assert_eq!(
        commands[..3],
        ["CAPABILITY", "STARTTLS", "CAPABILITY"],
        "asked again under TLS"
    );
}

#[test]
fn words_slipped_in_before_tls_are_an_attack() {
    let certificates = Certificates::new();
    let starttls = vec![
        send("{tag} OK begin\r\n* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n"),
        Step::Tls(certificates.server()),
    ];
    let answers = mailbox()
        .on("CAPABILITY", "* CAPABILITY IMAP4rev1 STARTTLS\r\n{tag} OK\r\n")
        .on("STARTTLS", starttls);
    let peer = Peer::start(answers);
    let setup = Setup::new(peer.address()).upstream_tls("starttls", Some(&certificates.authority_file()));
    assert_code(&log_in(setup), "SYS/TEMP");
    assert_eq!(
        peer.count("LOGIN") + peer.count("AUTHENTICATE"),
        0,
        "{:?}",
        peer.commands()
    );
}

#[test]
fn starttls_that_is_not_offered_or_refused_is_not_done_without() {
    for (capabilities, code) in [
        ("IMAP4rev1 AUTH=PLAIN", "SYS/PERM"),
        ("IMAP4rev1 STARTTLS AUTH=PLAIN", "SYS/TEMP"),
    ] {
        let answers = mailbox()
            .capabilities(capabilities)
            .on("STARTTLS", "{tag} NO not now\r\n");
        let peer = Peer::start(answers);
        let setup = Setup::new(peer.address()).upstream_tls("starttls", None);
        assert_code(&log_in(setup), code);
        assert_eq!(
            peer.count("LOGIN") + peer.count("AUTHENTICATE"),
            0,
            "{:?}",
            peer.commands()
        );
    }
}

#[test]
fn a_certificate_that_is_not_trusted_ends_it() {
    let (shown, trusted) = (Certificates::new(), Certificates::new());
    for authority in [None, Some(trusted.authority_file())] {
        let peer = Peer::start(mailbox().tls(shown.server()));
        let setup = Setup::new(peer.address()).upstream_tls("implicit", authority.as_deref());
        assert_code(&log_in(setup), "SYS/PERM");
        assert_eq!(peer.connections(), 1);
        assert_eq!(peer.commands(), Vec::<String>::new());
    }
    let peer = Peer::start(mailbox().tls(shown.server()));
    let reply = log_in(Setup::new(peer.address()).upstream_tls("implicit", Some(&shown.authority_file())));
    assert!(reply.starts_with("+OK"), "{reply}");
}

#[test]
fn one_octet_at_a_time() {
    let (reply, _peer) = reply_of(mailbox().trickle());
    assert!(reply.starts_with("+OK 2 messages"), "{reply}");
}

/// Odd answers that some servers are known for.
#[test]
fn odd_but_understandable() {
    let answers = mailbox()
        .greet("* ok ready.\r\n")
        .on(
            "CAPABILITY",
            "* CAPABILITY  IMAP4rev1 auth=plain  sasl-ir \r\n{tag} OK\r\n",
        )
        .on("ID", "* ID NIL\r\n{tag} BAD what?\r\n")
        .on(
            "SELECT",
            "*  2 EXISTS\r\n* 0 RECENT\r\n* NO something to worry about\r\n* OK [UIDVALIDITY 7]\r\n\r\n\
             * LIST () \"/\" {5}\r\nINBOX\r\n* STATUS INBOX (SIZE 3)\r\n{tag} ok [READ-WRITE]\r\n",
        )
        .on(
            "UID FETCH 1:*",
            "* 2 FETCH (RFC822.SIZE 120 UID 9 )\r\n* 1 FETCH (FLAGS (\\Seen))\r\n\
             * 1 fetch (uid 5 FLAGS (\\Seen $a) rfc822.size 99 MODSEQ (12))\r\n* 3 EXISTS\r\n{tag} OK\r\n",
        )
        .on(
            "UID SEARCH",
            "* ESEARCH (TAG \"x\") UID\r\n* SEARCH (MODSEQ 9)\r\n{tag} OK\r\n",
        );
    let peer = Peer::start(answers);
    let gateway = Setup::new(peer.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    assert_eq!(pop.list("LIST"), ["1 99", "2 120"], "by UID, the oldest first");
    assert_eq!(pop.list("UIDL"), ["1 7.5", "2 7.9"]);
    pop.quit();
}

#[test]
fn any_octets_in_a_password() {
    // NUL eva NUL, two blanks, ü in Latin-1 and UTF-8, a quote, a backslash, a blank
    let password = b"  \xfc\xc3\xbc\"\\ \t ";
    let peer = Peer::start(mailbox());
    let gateway = Setup::new(peer.address()).start();
    let mut pop = Pop::connect(gateway.address());
    pop.send(&[b"USER eva\r\nPASS ", &password[..], b"\r\n"].concat());
    pop.expect("+OK");
    pop.expect("+OK");
    assert_eq!(
        peer.count("AUTHENTICATE PLAIN AGV2YQAgIPzDvCJcIAkg"),
        1,
        "{:?}",
        peer.commands()
    );
    pop.quit();
}
