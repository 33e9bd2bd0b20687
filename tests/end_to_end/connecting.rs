//! Connections to the upstream: proxies, certificates that the configuration names, and servers with which TLS fails.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::support::{
    PASSWORD,
    answers::Answers,
    certificates::Certificates,
    gateway::{Gateway, Setup},
    mail,
    peer::{Gate, Peer, Step, send},
    pop::Pop,
    process::Process,
    proxy::{Kind, Manner, Proxy},
    require_program,
};

const KINDS: [Kind; 2] = [Kind::Socks5, Kind::Http];

fn mailbox() -> Answers {
    Answers::of([mail::simple(1), mail::simple(2)])
}

/// Logs in and fetches a message.
fn fetch(setup: Setup) {
    let gateway = setup.start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    assert_eq!(pop.stat().0, 2);
    assert_eq!(pop.retr(2).1, mail::simple(2));
    pop.quit();
}

/// The reply to a login that fails, and the reason in the log.
fn refusal(gateway: &Gateway) -> (String, String) {
    let reply = Pop::connect(gateway.address()).try_log_in("eva", PASSWORD);
    let events = gateway.events("the upstream failed", 1);
    (reply, said(&events[0]))
}

fn said(event: &Value) -> String {
    event["error"].as_str().unwrap().to_owned()
}

#[track_caller]
fn assert_refusal(setup: Setup, code: &str, words: &str) -> String {
    let gateway = setup.start();
    let (reply, text) = refusal(&gateway);
    assert!(
        reply.starts_with(&format!("-ERR [{code}] ")),
        "not [{code}]: {reply}; {text}"
    );
    assert!(text.contains(words), "not {words:?}: {text}");
    let advice = gateway.check();
    assert!(
        advice.contains("upstream.lab at") && advice.contains(": failed\n"),
        "{advice}"
    );
    assert!(!advice.contains(PASSWORD), "{advice}");
    advice
}

#[test]
fn through_a_proxy_that_resolves_the_name() {
    for kind in KINDS {
        for (insists_on, login) in [
            (None, String::new()),
            (Some(("joe", PASSWORD)), format!("joe:{PASSWORD}@")),
        ] {
            let peer = Peer::start(mailbox());
            let proxy = Proxy::start(kind, insists_on, Manner::Connect(peer.address()));
            let name = "imap.nowhere.invalid";
            fetch(Setup::new(peer.address()).host(name).upstream(&proxy.key(&login)));
            assert_eq!(proxy.asked(), [format!("{name}:{}", peer.address().port())]);
        }
    }
}

#[test]
fn through_a_proxy_with_tls() {
    let certificates = Certificates::new();
    for kind in KINDS {
        for (mode, answers) in [
            ("implicit", mailbox().tls(certificates.server())),
            ("starttls", mailbox().starttls(certificates.server())),
        ] {
            let peer = Peer::start(answers);
            let proxy = Proxy::start(kind, None, Manner::Connect(peer.address()));
            let setup = Setup::new(peer.address()).upstream_tls(mode, Some(&certificates.authority_file()));
            fetch(setup.host("localhost").upstream(&proxy.key("")));
            assert_eq!(proxy.asked().len(), 1, "{kind:?} {mode}");
        }
    }
}

#[test]
fn what_a_proxy_refuses_lasts_and_what_it_fails_to_do_may_pass() {
    let cases = [
        (2, "403 Forbidden", "SYS/PERM", "does not allow"),
        (7, "405 Method Not Allowed", "SYS/PERM", "not able"),
        (4, "502 Bad Gateway", "SYS/TEMP", "does not know its name"),
        (6, "504 Gateway Timeout", "SYS/TEMP", "did not answer it"),
        (1, "503 Service Unavailable", "SYS/TEMP", "failed to connect"),
    ];
    for kind in KINDS {
        for (reply, line, code, words) in cases {
            let proxy = Proxy::start(kind, None, Manner::Refuse(reply, line));
            let setup = Setup::new(proxy.address())
                .host("imap.nowhere.invalid")
                .upstream(&proxy.key(""));
            let advice = assert_refusal(setup, code, words);
            assert_eq!(advice.contains("what the proxy allows"), code == "SYS/PERM", "{advice}");
        }
    }
}

#[test]
fn a_proxy_that_wants_another_login_says_so() {
    for kind in KINDS {
        for (login, words) in [
            ("", "wants a user and a password"),
            ("joe:wrong-42@", "does not take the user"),
        ] {
            let proxy = Proxy::start(kind, Some(("joe", PASSWORD)), Manner::Hang);
            let setup = Setup::new(proxy.address()).upstream(&proxy.key(login));
            let advice = assert_refusal(setup, "SYS/PERM", words);
            assert!(!advice.contains("wrong-42") && !advice.contains("joe"), "{advice}");
            assert!(advice.contains(&proxy.address().to_string()), "{advice}");
        }
    }
}

#[test]
fn a_proxy_of_the_other_kind_says_so() {
    let http = Proxy::start(Kind::Http, None, Manner::Hang);
    let key = http.key("").replace("http://", "socks5://");
    assert_refusal(
        Setup::new(http.address()).upstream(&key),
        "SYS/PERM",
        "does not speak SOCKS 5",
    );

    // A SOCKS proxy hangs up on HTTP. An overloaded HTTP proxy would hang up too, so the error counts as temporary.
    let socks = Proxy::start(Kind::Socks5, None, Manner::Hang);
    let key = socks.key("").replace("socks5://", "http://");
    let words = "closed the connection (is it a proxy, and of the kind that `proxy` says?)";
    assert_refusal(Setup::new(socks.address()).upstream(&key), "SYS/TEMP", words);
}

#[test]
fn a_proxy_that_hangs_or_is_not_there() {
    for kind in KINDS {
        let proxy = Proxy::start(kind, None, Manner::Hang);
        let setup = Setup::new(proxy.address())
            .upstream(&proxy.key(""))
            .limit("upstream_seconds = 1");
        assert_refusal(
            setup,
            "SYS/TEMP",
            &format!("the proxy at {}: no answer", proxy.address()),
        );
        let key = proxy.key("");
        let address = proxy.address();
        drop(proxy);
        assert_refusal(
            Setup::new(address).upstream(&key),
            "SYS/TEMP",
            &format!("the proxy at {address}: {address}: "),
        );
    }
}

#[test]
fn a_name_or_a_port_where_nobody_is() {
    let peer = Peer::start(mailbox());
    let address = peer.address();
    let unknown = Setup::new(address).host("imap.nowhere.invalid");
    assert_refusal(unknown, "SYS/TEMP", "the name imap.nowhere.invalid cannot be resolved");
    drop(peer);
    assert_refusal(Setup::new(address), "SYS/TEMP", &format!("{address}: "));
}

/// `preset = "protonbridge"`, with the certificate that the bridge exports.
#[test]
fn protons_bridge() {
    let certificates = Certificates::bridge();
    for key in [
        format!("ca_file = {:?}", certificates.leaf_file()),
        format!("fingerprint = {:?}", certificates.fingerprint()),
    ] {
        let peer = Peer::start(mailbox().starttls(certificates.server()));
        let setup = Setup::new(peer.address()).upstream_of_preset("protonbridge");
        fetch(setup.upstream(&key));
        let commands = peer.commands();
        assert_eq!(commands[..3], ["CAPABILITY", "STARTTLS", "CAPABILITY"]);
    }
}

#[test]
fn a_certificate_that_nobody_named_is_told_by_its_fingerprint() {
    let (shown, other) = (Certificates::bridge(), Certificates::bridge());
    for (key, words) in [
        (String::new(), "an authority's (CA:TRUE)"),
        (format!("ca_file = {:?}", other.leaf_file()), "certificate not trusted"),
        (
            format!("fingerprint = {:?}", other.fingerprint()),
            "not the one that `fingerprint` names",
        ),
    ] {
        let peer = Peer::start(
            mailbox()
                .starttls(shown.server())
                .on("CAPABILITY", "* CAPABILITY IMAP4rev1 STARTTLS\r\n{tag} OK\r\n"),
        );
        let setup = Setup::new(peer.address())
            .upstream_of_preset("protonbridge")
            .upstream(&key);
        let advice = assert_refusal(setup, "SYS/PERM", words);
        let digits = shown
            .fingerprint()
            .replace("sha256:", "")
            .replace(':', "")
            .to_ascii_lowercase();
        assert!(advice.contains(&digits), "{advice}");
        assert!(advice.contains("ca_file") && advice.contains("fingerprint"), "{advice}");
        assert_eq!(peer.count("LOGIN") + peer.count("AUTHENTICATE"), 0);
    }
}

#[test]
fn plain_text_at_a_port_for_tls_is_no_passing_trouble() {
    let peer = Peer::start(mailbox());
    let setup = Setup::new(peer.address()).upstream_tls("implicit", None);
    let advice = assert_refusal(setup, "SYS/PERM", "what the server sends is not TLS");
    assert!(
        advice.contains("set `tls` of [upstream.lab] to \"starttls\""),
        "{advice}"
    );
}

#[test]
fn a_handshake_that_breaks_off_may_pass() {
    // The server ends the connection after the gateway's ClientHello.
    for end in [Step::Close, Step::Reset] {
        let peer = Peer::play(vec![Step::Line, end]);
        let setup = Setup::new(peer.address()).upstream_tls("implicit", None);
        assert_refusal(setup, "SYS/TEMP", "cannot connect");
    }
    let peer = Peer::play(vec![Step::Wait(Gate::default())]);
    let setup = Setup::new(peer.address())
        .upstream_tls("implicit", None)
        .limit("upstream_seconds = 1");
    assert_refusal(setup, "SYS/TEMP", "no answer to the TLS handshake for 1 seconds");
}

#[test]
fn alerts_say_what_to_change() {
    for (description, code) in [
        (40, "SYS/PERM"),
        (70, "SYS/PERM"),
        (71, "SYS/PERM"),
        (116, "SYS/PERM"),
        (80, "SYS/TEMP"),
    ] {
        let alert = [0x15, 3, 3, 0, 2, 2, description];
        let peer = Peer::play(vec![send(alert), Step::Silence]);
        let setup = Setup::new(peer.address()).upstream_tls("implicit", None);
        assert_refusal(setup, code, "received fatal alert");
    }
}

/// The server of OpenSSL, `openssl s_server`.
pub struct OpenSsl {
    pub address: SocketAddr,
    _process: Process,
}

impl OpenSsl {
    pub fn start(certificates: &Certificates, options: &[&str]) -> Option<Self> {
        let program = require_program("openssl")?;
        let child = Command::new(program)
            .args(["s_server", "-accept", "127.0.0.1:0", "-cert"])
            .arg(certificates.leaf_file())
            .arg("-key")
            .arg(certificates.key_file())
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut process = Process(child.unwrap());
        let lines = BufReader::new(process.0.stdout.as_mut().unwrap()).lines();
        let address = lines
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("ACCEPT ")?.parse().ok())
            .expect("openssl says where it listens");
        Some(Self {
            address,
            _process: process,
        })
    }
}

#[test]
fn servers_of_old_tls() {
    let certificates = Certificates::bridge();
    for options in [
        &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"][..],
        &["-tls1", "-cipher", "ALL:@SECLEVEL=0"],
        // RSA key exchange
        &["-tls1_2", "-cipher", "AES128-GCM-SHA256:AES128-SHA"],
        // CBC
        &["-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA"],
    ] {
        let Some(server) = OpenSsl::start(&certificates, options) else {
            return;
        };
        let setup = Setup::new(server.address).upstream_tls("implicit", Some(&certificates.leaf_file()));
        let advice = assert_refusal(setup, "SYS/PERM", "no common way to encrypt");
        assert!(advice.contains("must be updated"), "{advice}");
    }
}
