//! Logins of the configuration's `[[account]]`s, and limits on sessions and connections.

use std::{io::Write, process::Stdio};

use crate::support::{
    PASSWORD,
    answers::Answers,
    certificates::Certificates,
    gateway::Setup,
    mail,
    peer::{Gate, Peer, Step, send},
    pop::Pop,
};

fn peer() -> Peer {
    Peer::start(Answers::of((1..=3).map(mail::simple)))
}

/// The hash that `popgate hash-password` prints for a password.
fn hashed(password: &str) -> String {
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_popgate"))
        .arg("hash-password")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(format!("{password}\n").as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn several_logins_of_one_mailbox() {
    let peer = peer();
    let account = |login: &str, secret: &str| {
        format!(
            "[[account]]\nlogin = \"{login}\"\n{secret}\nupstream = \"lab\"\nuser = \"eva\"\nupstream_password = \"{PASSWORD}\""
        )
    };
    let gateway = Setup::new(peer.address())
        .table(&account("tickets", "password = \"paper jam\""))
        .table(&account(
            "alarm",
            &format!("password_hash = '{}'", hashed("fire drill")),
        ))
        .start();
    let log_in = |login: &str, password: &str| {
        let mut pop = Pop::connect(gateway.address());
        (pop.try_log_in(login, password), pop)
    };

    let (reply, tickets) = log_in("tickets", "paper jam");
    assert!(reply.starts_with("+OK 3"), "{reply}");
    let (reply, _) = log_in("alarm", "fire drill");
    assert!(reply.starts_with("-ERR [IN-USE]"), "it is the same mailbox: {reply}");
    tickets.quit();
    let (reply, alarm) = log_in("alarm", "fire drill");
    assert!(reply.starts_with("+OK 3"), "{reply}");
    alarm.quit();

    let asked = peer.connections();
    for (login, password) in [
        ("tickets", "paper"),
        ("tickets", "paper jam "),
        ("alarm", "paper jam"),
        ("alarm", PASSWORD),
    ] {
        let (reply, _) = log_in(login, password);
        assert!(reply.starts_with("-ERR [AUTH]"), "{login}: {reply}");
    }
    assert_eq!(
        peer.connections(),
        asked,
        "the upstream is not asked about logins of ours"
    );
    assert_eq!(peer.count("AUTHENTICATE PLAIN AGV2YQBr"), asked, "always eva");
}

#[test]
fn one_listener_of_each_kind() {
    let (peer, certificates) = (peer(), Certificates::new());
    let gateway = Setup::new(peer.address())
        .certificates(&certificates)
        .listener("tls = \"off\"")
        .listener("tls = \"starttls\"")
        .listener("tls = \"implicit\"")
        .listener("tls = \"off\"\nallow = [\"10.0.0.0/8\"]")
        .start();
    let [plain, starttls, implicit, elsewhere] = gateway.addresses()[..] else {
        panic!()
    };
    let mut sessions = vec![
        Pop::connect(plain),
        Pop::connect(starttls),
        Pop::connect(starttls).stls(certificates.client()),
        Pop::connect_tls(implicit, certificates.client()),
    ];
    for (user, pop) in ["a", "b", "c", "d"].iter().zip(&mut sessions) {
        assert!(pop.try_log_in(user, PASSWORD).starts_with("+OK 3"));
        assert_eq!(pop.retr(3).1, mail::simple(3));
    }
    for pop in sessions {
        pop.quit();
    }
    let mut refused = Pop::open(elsewhere);
    refused.expect("-ERR [SYS/PERM]");
    refused.closed();
    let versions: Vec<_> = gateway
        .sessions(4)
        .iter()
        .map(|session| session["tls"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        versions.iter().filter(|version| *version == "none").count(),
        2,
        "{versions:?}"
    );
}

#[test]
fn who_does_not_log_in_is_shown_the_door() {
    let peer = peer();
    let gateway = Setup::new(peer.address()).limit("login_seconds = 1").start();
    let mut idle = Pop::connect(gateway.address());
    idle.ok("USER eva");
    idle.closed();
    assert_eq!(gateway.sessions(1)[0]["end"], "login-timeout");
    assert_eq!(peer.connections(), 0);
}

#[test]
fn so_many_and_no_more() {
    let peer = peer();
    let gateway = Setup::new(peer.address()).limit("sessions = 2").start();
    let first = Pop::log_in(gateway.address(), "eva");
    let mut second = Pop::log_in(gateway.address(), "ida");
    let mut third = Pop::open(gateway.address());
    third.expect("-ERR [SYS/TEMP]");
    third.closed();
    first.quit();
    gateway.sessions(1);
    Pop::log_in(gateway.address(), "uta").quit();
    second.ok("NOOP");
}

/// An HTTP request, a port scan, or TLS at a plain listener does no harm.
#[test]
fn nonsense_at_the_door() {
    let (peer, certificates) = (peer(), Certificates::new());
    let gateway = Setup::new(peer.address())
        .certificates(&certificates)
        .listener("tls = \"off\"")
        .listener("tls = \"implicit\"")
        .start();
    for address in gateway.addresses() {
        for nonsense in [
            &b""[..],
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"GET / HTTP/1.1\r\n\r\n",
            &[0xff; 100_000],
        ] {
            let mut pop = Pop::open(*address);
            pop.send_unwanted(nonsense);
            pop.shut_down();
            pop.drain();
        }
    }
    gateway.sessions(8);
    Pop::log_in(gateway.address(), "eva").quit();
}

/// A listing made before the lock could show messages that the session before it is just removing.
#[test]
fn the_maildrop_is_taken_before_it_is_listed() {
    let gate = Gate::default();
    let peer = Peer::start(Answers::of([mail::simple(1)]).once(
        "SELECT",
        vec![
            Step::Wait(gate.clone()),
            send("* 0 EXISTS\r\n* OK [UIDVALIDITY 1] it is\r\n{tag} OK done\r\n"),
        ],
    ));
    let gateway = Setup::new(peer.address()).start();
    let mut first = Pop::connect(gateway.address());
    first.ok("USER eva");
    first.send(format!("PASS {PASSWORD}\r\n").as_bytes());
    peer.wait_for("SELECT");
    let mut second = Pop::connect(gateway.address());
    let reply = second.try_log_in("eva", PASSWORD);
    assert!(reply.starts_with("-ERR [IN-USE]"), "{reply}");
    gate.open();
    first.expect("+OK");
    first.quit();
}
