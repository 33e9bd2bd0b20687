//! `popgate doctor`: the steps of a login that works, and what it says about each fault of an upstream. The log and
//! `check` say the same.

use std::{collections::BTreeMap, fs, path::Path};

use tempfile::TempDir;

use crate::{
    connecting::OpenSsl,
    support::{
        PASSWORD,
        answers::Answers,
        certificates::Certificates,
        dovecot::Dovecot,
        gateway::{Gateway, Setup, account},
        mail,
        peer::{Peer, Step, send},
        pop::Pop,
        process::free_port,
    },
};

fn mailbox() -> Answers {
    Answers::of([mail::simple(1), mail::simple(2)])
}

/// The name of each step, and its result.
fn steps(printed: &str) -> Vec<(String, String)> {
    let lines = printed.lines().filter(|line| !line.starts_with([' ', 'p']));
    lines
        .filter_map(|line| {
            let (mark, rest) = line.split_at_checked(8)?;
            Some((rest.get(..24)?.trim().to_owned(), mark.trim().to_owned()))
        })
        .collect()
}

/// The step that failed, and the line of advice below it.
fn failure(printed: &str) -> (String, String) {
    let mut lines = printed.lines();
    let failed = lines.find_map(|line| line.strip_prefix("FAILED  "));
    let failed = failed.unwrap_or_else(|| panic!("nothing failed: {printed}"));
    let help = lines.next().and_then(|line| line.trim().strip_prefix("help: "));
    (failed.to_owned(), help.unwrap_or_default().to_owned())
}

/// Every file below `directory`, with its content.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.is_file());
    files
        .map(|path| (path.display().to_string(), fs::read(&path).unwrap()))
        .collect()
}

#[test]
fn a_login_that_works_is_left_as_it_was() {
    let Some(dovecot) = Dovecot::start() else { return };
    let mut imap = dovecot.imap("eva");
    imap.append(&[mail::simple(1), mail::simple(2), mail::simple(3)], "");
    let before = imap.flags();
    let state = TempDir::new().unwrap();
    let setup = Setup::new(dovecot.tls_address())
        .upstream_tls("implicit", Some(&dovecot.certificates().authority_file()))
        .host("localhost")
        .table(&format!("[state]\ndir = {:?}", state.path()))
        .table(&account("helpdesk", "eva"))
        .maildrop("on_delete = \"hide\"")
        .maildrop("unseen_only = true")
        .limit("parked_seconds = 900");
    let gateway = setup.start();
    let mut device = Pop::log_in(gateway.address(), "helpdesk");
    device.ok("DELE 2");
    device.quit();
    // Meanwhile a device's session holds the maildrop.
    let mut device = Pop::log_in(gateway.address(), "helpdesk");
    let kept = files(state.path());
    let (works, printed) = gateway.doctor("helpdesk", "");
    assert!(works, "{printed}");
    let steps = steps(&printed);
    assert!(steps.iter().all(|(_, mark)| mark == "ok"), "{printed}");
    let names = steps.into_iter().map(|(name, _)| name);
    let expected = [
        "DNS",
        "TLS",
        "greeting",
        "login",
        "SELECT INBOX",
        "listing",
        "delete",
        "RETR",
    ];
    let own: Vec<_> = names.filter(|name| !name.starts_with("TCP ")).collect();
    assert_eq!(own[..expected.len()], expected, "{printed}");
    assert_eq!(
        own[expected.len()..],
        [format!("listener {}", gateway.address())],
        "{printed}"
    );
    for words in [
        "TLS 1.3, certificate of localhost, 127.0.0.1 by CN=popgate test CA (chain of 1), valid until ",
        "as eva",
        "3 messages of ",
        "2 messages of ",
        "a delete hides the message from this login only",
        "not marked as read",
        "the gateway answers",
    ] {
        assert!(printed.contains(words), "no {words:?}: {printed}");
    }
    assert_eq!(files(state.path()), kept, "state is as it was");
    assert_eq!(device.stat().0, 2, "the device goes on");
    device.quit();
    assert_eq!(imap.flags(), before, "the mailbox is as it was");
    gateway.stop();
}

#[test]
fn delete_targets_are_looked_at_and_not_made() {
    let Some(dovecot) = Dovecot::start() else { return };
    let mut imap = dovecot.imap("eva");
    imap.append(&[mail::simple(1)], "");
    for (policy, words) in [
        ("on_delete = \"move:Done\"", "to Done, which the first delete makes"),
        ("on_delete = \"expunge\"", "a delete removes the message for good"),
    ] {
        let gateway = Setup::new(dovecot.address()).maildrop(policy).start();
        let (works, printed) = gateway.doctor("eva", PASSWORD);
        assert!(works && printed.contains(words), "{printed}");
        let gateway = Setup::new(dovecot.address())
            .own_logins_only()
            .table(&account("helpdesk", "eva"))
            .maildrop(policy)
            .start();
        let checked = gateway.check();
        assert!(
            checked.contains(": ok, 1 messages of ") || checked.contains(": ok, 1 message of "),
            "{checked}"
        );
        assert!(checked.contains(words), "{checked}");
    }
    assert!(!imap.try_select("Done"), "the folder was made");
}

/// The user has no right to delete, so `on_delete` cannot work: doctor says so before a device tries.
#[test]
fn a_user_who_may_not_delete_is_told_before_a_device_tries() {
    let answers = mailbox()
        .capabilities("IMAP4rev1 SASL-IR AUTH=PLAIN ID UIDPLUS ACL")
        .on("MYRIGHTS", "* MYRIGHTS INBOX lrs\r\n{tag} OK\r\n");
    let peer = Peer::start(answers);
    let gateway = Setup::new(peer.address()).table(&account("fax", "eva")).start();
    let (works, printed) = gateway.doctor("fax", "");
    let (step, advice) = failure(&printed);
    assert!(!works && step.starts_with("delete "), "{printed}");
    assert!(step.contains("may not remove messages from INBOX"), "{printed}");
    assert!(advice.contains("`on_delete` of [upstream.lab.maildrop]"), "{printed}");
    assert!(
        printed.contains("ok      RETR "),
        "the rest is tried all the same: {printed}"
    );
    peer.assert_nothing_removed();
    assert!(gateway.check().contains("may not remove messages from INBOX"));
}

#[test]
fn a_password_of_a_device_is_asked_for() {
    let peer = Peer::start(mailbox().on("AUTHENTICATE", "{tag} NO [AUTHENTICATIONFAILED] no\r\n"));
    let gateway = Setup::new(peer.address()).start();
    let (works, printed) = gateway.doctor("eva", "hunter2");
    let (step, advice) = failure(&printed);
    assert!(!works && step.starts_with("login "), "{printed}");
    assert!(advice.contains("password of the device"), "{printed}");
    assert!(!printed.contains("hunter2"), "{printed}");
    let (works, printed) = gateway.doctor("eva", "");
    assert!(!works && printed.contains("no password on standard input"), "{printed}");
    let gateway = Setup::new(peer.address())
        .own_logins_only()
        .table(&account("fax", "eva"))
        .start();
    let (works, printed) = gateway.doctor("fix", "");
    assert!(!works && printed.contains("match fix: popgate check"), "{printed}");
}

#[test]
fn a_listener_that_does_not_answer_fails_the_examination() {
    let peer = Peer::start(mailbox());
    let gateway = Setup::new(peer.address()).table(&account("fax", "eva")).start();
    let mut other = gateway.file_with_ports();
    let text = fs::read_to_string(&other).unwrap();
    let closed = free_port();
    other.set_file_name("other.toml");
    let address = gateway.address().to_string();
    fs::write(&other, text.replace(&address, &format!("127.0.0.1:{closed}"))).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_popgate"))
        .args(["doctor", "fax", "--config"])
        .arg(&other)
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{printed}");
    let (step, advice) = failure(&printed);
    assert!(
        step.starts_with("listener ") && advice.contains("popgate serve"),
        "{printed}"
    );
}

/// An upstream with a fault, the step that fails, words of the error, and words of the advice.
struct Fault<'a> {
    setup: Setup,
    step: &'a str,
    words: &'a str,
    advice: &'a str,
}

impl Fault<'_> {
    /// Asserts that doctor, the log and `check --connect` name the fault.
    #[track_caller]
    fn assert_told(self) {
        let Self {
            setup,
            step,
            words,
            advice,
        } = self;
        let setup = setup.table(&account("fax", "eva")).limit("upstream_seconds = 1");
        let gateway = setup.start();
        let (works, printed) = gateway.doctor("fax", "");
        let (failed, help) = failure(&printed);
        assert!(!works && failed.starts_with(step), "not {step}: {printed}");
        assert!(failed.contains(words), "not {words:?}: {printed}");
        assert!(help.contains(advice), "not {advice:?}: {printed}");
        assert!(
            printed.contains("ok      listener "),
            "the listener is asked all the same: {printed}"
        );
        let checked = gateway.check();
        let told = [step, words, advice].iter().all(|part| checked.contains(part));
        assert!(told, "{checked}");
        assert_logged(&gateway, words, advice);
    }
}

fn assert_logged(gateway: &Gateway, words: &str, advice: &str) {
    let reply = Pop::connect(gateway.address()).try_log_in("fax", PASSWORD);
    assert!(reply.starts_with("-ERR"), "{reply}");
    let event = &gateway.events("the upstream failed", 1)[0];
    let text = |field: &str| event[field].as_str().unwrap_or_default();
    assert!(text("error").contains(words), "not {words:?}: {event}");
    assert!(text("advice").contains(advice), "not {advice:?}: {event}");
}

#[test]
fn another_service_at_the_port() {
    for (greeting, words, key) in [
        ("+OK POP3 ready\r\n", "a POP3 server", "`port` of [upstream.lab]"),
        (
            "220 mail.example.org ESMTP\r\n",
            "an SMTP server",
            "`port` of [upstream.lab]",
        ),
        (
            "HTTP/1.1 400 Bad Request\r\n\r\n",
            "a web server",
            "`port` of [upstream.lab]",
        ),
        ("SSH-2.0-OpenSSH_9.9\r\n", "an SSH server", "`port` of [upstream.lab]"),
        (
            "* OK IMAP4rev1 ready\r\n",
            "an IMAP server without TLS",
            "set `tls` of [upstream.lab] to \"starttls\"",
        ),
    ] {
        for tls in ["implicit", "off", "starttls"] {
            if words.starts_with("an IMAP") && tls != "implicit" {
                continue;
            }
            let peer = Peer::play(vec![send(greeting), Step::Silence]);
            let setup = Setup::new(peer.address()).upstream_tls(tls, None);
            let step = if tls == "implicit" { "TLS" } else { "greeting" };
            Fault {
                setup,
                step,
                words,
                advice: key,
            }
            .assert_told();
        }
    }
}

#[test]
fn tls_where_none_is_expected() {
    let certificates = Certificates::new();
    // This server waits for a ClientHello, and popgate waits for a greeting.
    let waiting = Peer::start(mailbox().tls(certificates.server()));
    // This server answers by a TLS alert.
    let alert = Peer::play(vec![send([0x15, 3, 1, 0, 2, 2, 70]), Step::Close]);
    for (peer, words) in [(waiting, "does not greet"), (alert, "wants TLS")] {
        for tls in ["off", "starttls"] {
            Fault {
                setup: Setup::new(peer.address()).upstream_tls(tls, None),
                step: "greeting",
                words,
                advice: "set `tls` of [upstream.lab] to \"implicit\"",
            }
            .assert_told();
        }
    }
}

#[test]
fn greetings_and_logins_that_lead_nowhere() {
    let bye = "{tag} OK\r\n* BYE IMAP is for others\r\n";
    for (answers, step, words, advice) in [
        (
            mailbox().greet("* BYE not from here\r\n"),
            "greeting",
            "turns the connection away",
            "`connections_per_user` of [upstream.lab]",
        ),
        (
            mailbox().greet("* PREAUTH welcome\r\n"),
            "greeting",
            "PREAUTH",
            "`port` of [upstream.lab]",
        ),
        (
            mailbox().capabilities("IMAP4rev1 LOGINDISABLED"),
            "login",
            "LOGINDISABLED",
            "set `tls` of [upstream.lab]",
        ),
        (
            mailbox().on("AUTHENTICATE", vec![send(bye), Step::Close]),
            "SELECT INBOX",
            "BYE: IMAP is for others",
            "`connections_per_user` of [upstream.lab]",
        ),
        (
            mailbox().on(
                "AUTHENTICATE",
                "{tag} NO [ALERT] IMAP access is disabled for your domain.\r\n",
            ),
            "login",
            "IMAP access is disabled",
            "switch IMAP on",
        ),
        (
            mailbox().on("AUTHENTICATE", "{tag} NO [AUTHENTICATIONFAILED] no\r\n"),
            "login",
            "login refused",
            "check `user` and `upstream_password` of fax",
        ),
        (
            mailbox().on("SELECT", "{tag} NO [NONEXISTENT] no such folder\r\n"),
            "SELECT INBOX",
            "SELECT failed",
            "check `folder`",
        ),
    ] {
        let peer = Peer::start(answers);
        Fault {
            setup: Setup::new(peer.address()),
            step,
            words,
            advice,
        }
        .assert_told();
    }
}

#[test]
fn no_starttls() {
    let peer = Peer::start(mailbox());
    Fault {
        setup: Setup::new(peer.address()).upstream_tls("starttls", None),
        step: "STARTTLS",
        words: "offers no STARTTLS",
        advice: "set `tls` of [upstream.lab] to \"implicit\" with `port` 993",
    }
    .assert_told();
}

#[test]
fn certificates_that_are_not_trusted() {
    let (of_another, expired, own) = (
        Certificates::of_host("imap.example.org"),
        Certificates::expired(),
        Certificates::bridge(),
    );
    for (certificates, is_known, words, advice) in [
        (
            &of_another,
            true,
            "it is for imap.example.org, and not for the host",
            "set `host` of [upstream.lab]",
        ),
        (&expired, true, "expired", "`fingerprint` of [upstream.lab]"),
        (&own, false, "an authority's", "`ca_file` of [upstream.lab]"),
        (&of_another, false, "issued by nobody", "`ca_file` of [upstream.lab]"),
    ] {
        let peer = Peer::start(mailbox().tls(certificates.server()));
        let authority = certificates.authority_file();
        let setup = Setup::new(peer.address()).upstream_tls("implicit", is_known.then_some(authority.as_path()));
        Fault {
            setup,
            step: "TLS",
            words,
            advice,
        }
        .assert_told();
        assert_eq!(peer.count("LOGIN") + peer.count("AUTHENTICATE"), 0);
    }
}

#[test]
fn old_tls() {
    let certificates = Certificates::bridge();
    let Some(server) = OpenSsl::start(&certificates, &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]) else {
        return;
    };
    Fault {
        setup: Setup::new(server.address).upstream_tls("implicit", Some(&certificates.leaf_file())),
        step: "TLS",
        words: "no common way to encrypt",
        advice: "set `tls` of [upstream.lab] to \"legacy\"",
    }
    .assert_told();
}

#[test]
fn no_way_to_the_host() {
    let peer = Peer::start(mailbox());
    let address = peer.address();
    Fault {
        setup: Setup::new(address).host("imap.nowhere.invalid"),
        step: "DNS",
        words: "imap.nowhere.invalid cannot be resolved",
        advice: "`host` of [upstream.lab]",
    }
    .assert_told();
    drop(peer);
    Fault {
        setup: Setup::new(address),
        step: "TCP ",
        words: "refused",
        advice: "check `port` and `host` of [upstream.lab]",
    }
    .assert_told();
}
