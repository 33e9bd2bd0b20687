//! Logging in: mechanisms that are offered but do not work, servers with only one mechanism, and refusals that a new
//! password would not mend.

use super::{assert_served, each, mailbox};
use crate::support::{
    PASSWORD,
    answers::Answers,
    gateway::Setup,
    peer::{Peer, Step, Steps, chatter, send},
    pop::Pop,
};

/// base64 of eva, and of [`PASSWORD`].
const EVA: &str = "ZXZh";
const PASSWORD_BASE64: &str = "a2VzdHJlbC00Mi1Ib3ZlcmZseQ==";
/// A challenge of CRAM-MD5 (RFC 2195), in base64, and the one response to it.
const CHALLENGE: &str = "PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UuZXhhbXBsZS5vcmc+";
const CRAM_RESPONSE: &str = "ZXZhIDg4ODAwNzdmZWZlZDI3NDkxMzFjMzc3NTM1NTA5NTM2";

/// Gives `answer` to every mechanism and to LOGIN.
fn refusing_all(answer: &str) -> Answers {
    mailbox().on("AUTHENTICATE", answer).on("LOGIN", answer)
}

/// A server with all of the older mechanisms.
fn mechanisms(capabilities: &'static str) -> Answers {
    let unknown = "{tag} BAD unknown mechanism\r\n";
    let login = vec![
        send("+ VXNlcm5hbWU6\r\n"),
        Step::Line,
        send("+ UGFzc3dvcmQ6\r\n"),
        Step::Line,
        send("{tag} OK logged in\r\n"),
    ];
    let cram = vec![
        send(format!("+ {CHALLENGE}\r\n")),
        Step::Line,
        send("{tag} OK logged in\r\n"),
    ];
    let plain = vec![send("+ \r\n"), Step::Line, send("{tag} OK logged in\r\n")];
    mailbox()
        .capabilities(capabilities)
        .on("AUTHENTICATE", unknown)
        .on("AUTHENTICATE PLAIN", plain)
        .on("AUTHENTICATE LOGIN", login)
        .on("AUTHENTICATE CRAM-MD5", cram)
}

#[test]
fn plain_that_is_offered_and_answered_bad_is_followed_by_login() {
    each(
        ["IMAP4rev1 SASL-IR AUTH=PLAIN UIDPLUS", "IMAP4rev1 AUTH=PLAIN UIDPLUS"],
        |&capabilities| {
            for answer in [
                "{tag} BAD Command Argument Error. 11\r\n",
                "{tag} BAD Unknown command\r\n",
                "{tag} BAD [CLIENTBUG] invalid arguments\r\n",
            ] {
                let peer = Peer::start(mailbox().capabilities(capabilities).on("AUTHENTICATE", answer));
                let gateway = Setup::new(peer.address()).start();
                assert_served(&gateway, "eva");
                assert_eq!(peer.count("LOGIN"), 1, "{:?}", peer.commands());
            }
        },
    );
    // Here the server refuses PLAIN only after its continuation request.
    let late = vec![send("+ \r\n"), Step::Line, send("{tag} BAD what was that?\r\n")];
    let peer = Peer::start(
        mailbox()
            .capabilities("IMAP4rev1 AUTH=PLAIN UIDPLUS")
            .on("AUTHENTICATE", late),
    );
    let gateway = Setup::new(peer.address()).start();
    assert_served(&gateway, "eva");
}

#[test]
fn login_after_plain_is_tried_once_and_its_refusal_counts() {
    let answers = mailbox()
        .on("AUTHENTICATE", "{tag} BAD Unknown command\r\n")
        .on("LOGIN", "{tag} NO [AUTHENTICATIONFAILED] Invalid credentials\r\n");
    let peer = Peer::start(answers);
    let gateway = Setup::new(peer.address()).start();
    let reply = Pop::connect(gateway.address()).try_log_in("eva", PASSWORD);
    assert!(reply.starts_with("-ERR [AUTH]"), "{reply}");
    assert_eq!(
        (peer.count("AUTHENTICATE"), peer.count("LOGIN")),
        (1, 1),
        "{:?}",
        peer.commands()
    );
}

/// A refused password is not tried by another mechanism: the server would count two wrong guesses, and would lock the
/// owner out sooner.
#[test]
fn a_refusal_of_the_password_is_final() {
    for answer in [
        "{tag} NO [AUTHENTICATIONFAILED] Invalid credentials\r\n",
        "{tag} NO Invalid login or password\r\n",
    ] {
        let peer = Peer::start(mailbox().on("AUTHENTICATE", answer));
        let gateway = Setup::new(peer.address()).start();
        let reply = Pop::connect(gateway.address()).try_log_in("eva", PASSWORD);
        assert!(reply.starts_with("-ERR [AUTH]"), "{reply}");
        assert_eq!(peer.count("LOGIN"), 0, "{:?}", peer.commands());
    }
}

/// Exchange answers BAD if a client asks too often. It has not checked the password, so the gateway does not try LOGIN.
#[test]
fn a_pause_that_is_asked_for_by_bad_is_no_reason_for_login() {
    let throttled = "{tag} BAD Request is throttled. Suggested Backoff Time: 299961 milliseconds\r\n";
    let peer = Peer::start(mailbox().on("AUTHENTICATE", throttled));
    let gateway = Setup::new(peer.address()).start();
    let reply = Pop::connect(gateway.address()).try_log_in("eva", PASSWORD);
    assert!(reply.starts_with("-ERR [SYS/TEMP]"), "{reply}");
    assert_eq!(peer.count("LOGIN"), 0, "{:?}", peer.commands());
}

#[test]
fn the_only_mechanism_is_login() {
    let peer = Peer::start(mechanisms("IMAP4rev1 LOGINDISABLED AUTH=LOGIN UIDPLUS"));
    let gateway = Setup::new(peer.address()).start();
    assert_served(&gateway, "eva");
    assert_eq!(peer.lines(), [EVA, PASSWORD_BASE64]);
}

#[test]
fn the_only_mechanism_is_cram_md5() {
    let peer = Peer::start(mechanisms("IMAP4rev1 LOGINDISABLED AUTH=CRAM-MD5 UIDPLUS"));
    let gateway = Setup::new(peer.address()).start();
    assert_served(&gateway, "eva");
    assert_eq!(peer.lines(), [CRAM_RESPONSE]);
}

/// SCRAM begins with `n,,n=eva,r=…` (RFC 5802 §7), and ends at an invalid answer of the server.
#[test]
fn the_only_mechanism_is_scram() {
    let answer = vec![
        send("+ \r\n"),
        Step::Line,
        send("+ bm9uc2Vuc2U=\r\n"),
        Step::Line,
        send("{tag} NO no\r\n"),
    ];
    let answers =
        mechanisms("IMAP4rev1 LOGINDISABLED AUTH=SCRAM-SHA-256 UIDPLUS").on("AUTHENTICATE SCRAM-SHA-256", answer);
    let peer = Peer::start(answers);
    let gateway = Setup::new(peer.address()).limit("upstream_seconds = 2").start();
    let reply = Pop::connect(gateway.address()).try_log_in("eva", PASSWORD);
    assert!(reply.starts_with("-ERR "), "{reply}");
    assert_eq!(peer.count("AUTHENTICATE SCRAM-SHA-256"), 1, "{:?}", peer.commands());
    // base64 of `n,,n=eva,r=`
    assert!(peer.lines()[0].starts_with("biwsbj1ldmEscj"), "{:?}", peer.lines());
}

/// The key `auth` chooses the mechanism, even against the usual order.
#[test]
fn auth_chooses_the_mechanism() {
    const ALL: &str = "IMAP4rev1 AUTH=PLAIN AUTH=LOGIN AUTH=CRAM-MD5 AUTH=SCRAM-SHA-256 UIDPLUS";
    each(
        [
            ("plain", "AUTHENTICATE PLAIN"),
            ("login", "AUTHENTICATE LOGIN"),
            ("login-command", "LOGIN "),
            ("cram-md5", "AUTHENTICATE CRAM-MD5"),
        ],
        |&(auth, command)| {
            let peer = Peer::start(mechanisms(ALL));
            let gateway = Setup::new(peer.address())
                .upstream(&format!("auth = \"{auth}\""))
                .start();
            assert_served(&gateway, "eva");
            assert_eq!(
                (peer.count(command), peer.count("AUTHENTICATE") + peer.count("LOGIN")),
                (1, 1),
                "{:?}",
                peer.commands()
            );
        },
    );
    let peer = Peer::start(mechanisms(ALL));
    let gateway = Setup::new(peer.address()).upstream("auth = \"scram-sha-256\"").start();
    let reply = Pop::connect(gateway.address()).try_log_in("eva", PASSWORD);
    assert!(reply.starts_with("-ERR "), "it speaks no SCRAM: {reply}");
    assert_eq!(peer.count("AUTHENTICATE SCRAM-SHA-256"), 1, "{:?}", peer.commands());
}

/// Octets beyond ASCII are sent as a literal (RFC 3501 §4.3). The gateway waits for a continuation request, unless the
/// server has LITERAL+ (RFC 7888).
#[test]
fn a_password_beyond_ascii_where_there_is_login_only() {
    let password = format!("{PASSWORD}-größer \"\\");
    each(
        ["IMAP4rev1", "IMAP4rev1 LITERAL+", "IMAP4rev1 LITERAL-"],
        |&capabilities| {
            for user in ["eva", "jürgen"] {
                let answers = mailbox()
                    .capabilities(capabilities)
                    .on("AUTHENTICATE", "{tag} BAD unknown command\r\n");
                let peer = Peer::start(answers);
                let gateway = Setup::new(peer.address()).start();
                let mut pop = Pop::connect(gateway.address());
                let reply = pop.try_log_in(user, &password);
                assert!(reply.starts_with("+OK"), "{capabilities}: {reply}");
                pop.quit();
                let commands = peer.commands();
                let login: Vec<&str> = commands
                    .iter()
                    .map(String::as_str)
                    .filter(|command| command.starts_with("LOGIN"))
                    .collect();
                assert_eq!(login.len(), 1, "{commands:?}");
                let of_literal = |text: &str, plus: &str| format!("{{{}{plus}}}\r\n{text}", text.len());
                let forms = ["", "+"].map(|plus| of_literal(&password, plus));
                assert!(forms.iter().any(|form| login[0].ends_with(form.as_str())), "{login:?}");
                let is_unasked = login[0].contains("+}");
                assert!(
                    !is_unasked || capabilities.contains("LITERAL"),
                    "not offered: {login:?}"
                );
                if !user.is_ascii() {
                    let forms = ["", "+"].map(|plus| format!("LOGIN {} ", of_literal(user, plus)));
                    assert!(
                        forms.iter().any(|form| login[0].starts_with(form.as_str())),
                        "{login:?}"
                    );
                }
            }
        },
    );
}

/// If a new password would not help, the reply must not make the device ask for one.
#[test]
fn refusals_that_no_password_mends() {
    each(
        [
            "NO [CONTACTADMIN] Your account has been suspended",
            "NO [ALERT] Your account is not enabled for IMAP use. Please visit your Gmail settings page and enable your account \
         for IMAP access. (Failure)",
            "NO [ALERT] IMAP access is disabled for your domain. Please contact your domain administrator for questions about \
         this feature. (Failure)",
            "NO [ALERT] You are yet to enable IMAP for your account. Please contact your administrator",
            "NO IMAP access is disabled for this account",
            "NO [AUTHENTICATIONFAILED] IMAP is disabled for this mailbox",
            "NO IMAP4 is not enabled for this user",
            "NO [ALERT] Please log in via your web browser: https://support.example.com/mail/accounts/answer/78754 (Failure)",
            "NO [WEBALERT https://accounts.example.com/signin/continue?sarp=1] Web login required.",
            "NO [WEBALERT https://accounts.example.com/signin/continue?sarp=1] Invalid credentials",
            "NO [ALERT] Web login required: https://support.example.com/mail/accounts/answer/78754 (Failure)",
        ],
        |&answer| {
            for answers in [
                refusing_all(&format!("{{tag}} {answer}\r\n")),
                refusing_all(&format!("{{tag}} {answer}\r\n")).capabilities("IMAP4rev1 UIDPLUS"),
            ] {
                let peer = Peer::start(answers);
                let gateway = Setup::new(peer.address()).start();
                let reply = Pop::connect(gateway.address()).try_log_in("eva", PASSWORD);
                assert!(reply.starts_with("-ERR [SYS/PERM] "), "{answer}: {reply}");
                assert!(
                    !reply.contains("example.com") && !reply.contains("suspended"),
                    "it repeats the upstream: {reply}"
                );
                assert_eq!(
                    peer.count("AUTHENTICATE") + peer.count("LOGIN"),
                    1,
                    "asked again: {:?}",
                    peer.commands()
                );
            }
        },
    );
}

/// Such refusals do not count as wrong guesses: once IMAP is enabled, the login works at once.
#[test]
fn a_refusal_that_no_password_mends_is_no_guess() {
    let refusal = refusing_all("{tag} NO [ALERT] IMAP access is disabled for your domain. (Failure)\r\n");
    let mut each = vec![refusal; 12];
    each.push(mailbox());
    let peer = Peer::start_each(each);
    let gateway = Setup::new(peer.address()).start();
    for _ in 0..12 {
        let reply = Pop::connect(gateway.address()).try_log_in("eva", PASSWORD);
        assert!(reply.starts_with("-ERR [SYS/PERM] "), "{reply}");
    }
    assert_served(&gateway, "eva");
}

/// If a server asks or talks without end during the login, the gateway gives up.
#[test]
fn a_login_without_end() {
    for answer in [
        vec![chatter("+ \r\n")],
        vec![chatter("* OK almost there\r\n")],
        vec![send("+ \r\n"), Step::Line, chatter("+ \r\n")],
    ] {
        let peer = Peer::start(
            mailbox()
                .capabilities("IMAP4rev1 AUTH=PLAIN")
                .on("AUTHENTICATE", answer.steps()),
        );
        let gateway = Setup::new(peer.address()).limit("upstream_seconds = 1").start();
        let reply = Pop::connect(gateway.address()).try_log_in("eva", PASSWORD);
        assert!(reply.starts_with("-ERR [SYS/TEMP]"), "{reply}");
    }
}
