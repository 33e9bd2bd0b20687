//! Refused and dropped connections: the log has the reason in words, at most once a minute for each address.

use std::{
    net::Ipv4Addr,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::support::{
    answers::Answers,
    certificates::Certificates,
    gateway::{Gateway, Setup},
    mail,
    peer::Peer,
    pop::Pop,
    require_program,
};

fn peer() -> Peer {
    Peer::start(Answers::of([mail::simple(1)]))
}

const OLD_TLS: &str = "the device speaks TLS 1.1 or older, or TLS 1.2 without `signature_algorithms`";

/// An address for each device.
fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 1, 0, number)
}

#[track_caller]
fn is_refusal(line: &Value, gateway: &Gateway, level: &str, reason: &str) {
    assert_eq!(
        (&line["outcome"], &line["level"]),
        (&"refused".into(), &level.into()),
        "{line}"
    );
    assert_eq!(line["reason"], reason, "{line}");
    assert_eq!(line["listener"], gateway.address().to_string(), "{line}");
    assert!(line["peer"].as_str().unwrap().starts_with("127.1.0."), "{line}");
}

#[test]
fn who_is_not_allowed_is_told_once_a_minute_for_each_address() {
    let peer = peer();
    let setup = Setup::new(peer.address()).listener("tls = \"off\"\nallow = [\"127.0.0.1\"]");
    let Some(setup) = setup.movable_clock() else { return };
    let gateway = setup.start();
    let knock = |number| {
        let mut pop = Pop::open_from(address(number), gateway.address());
        pop.expect("-ERR [SYS/PERM]");
        pop.closed();
    };
    for (times, number) in [(3, 1), (1, 2)] {
        (0..times).for_each(|_| knock(number));
    }
    gateway.pass(std::time::Duration::from_secs(61));
    knock(1);
    let lines = gateway.events("connection refused", 5);
    for (line, level) in lines.iter().zip(["WARN", "DEBUG", "DEBUG", "WARN", "WARN"]) {
        is_refusal(line, &gateway, level, "not in `allow`");
    }
    assert_eq!(lines[4]["suppressed"], 2, "{}", lines[4]);
}

#[test]
fn too_many_sessions_are_refused() {
    let peer = peer();
    let gateway = Setup::new(peer.address()).limit("sessions_per_address = 1").start();
    let mut inside = Pop::connect_from(address(3), gateway.address());
    assert!(inside.try_log_in("eva", crate::support::PASSWORD).starts_with("+OK"));
    let mut other = Pop::open_from(address(3), gateway.address());
    other.expect("-ERR [SYS/TEMP]");
    is_refusal(
        &gateway.events("connection refused", 1)[0],
        &gateway,
        "WARN",
        "too many sessions",
    );
    inside.quit();
}

#[test]
fn who_sends_nonsense_is_shown_the_door() {
    let peer = peer();
    let gateway = Setup::new(peer.address())
        .limit("bad_commands = 2")
        .limit("unauthenticated = 1")
        .start();
    let mut pop = Pop::connect_from(address(1), gateway.address());
    pop.err("XYZZY", "-ERR");
    pop.err("XYZZY", "-ERR");
    pop.closed();
    let mut pop = Pop::connect_from(address(2), gateway.address());
    pop.send(&[b'x'; 5000]);
    pop.drain();
    let mut oldest = Pop::connect_from(address(3), gateway.address());
    let _newest = Pop::connect_from(address(4), gateway.address());
    oldest.expect("-ERR [SYS/TEMP]");
    let lines = gateway.sessions(3);
    // These connections get a last reply, and then wait until the device closes them.
    for (number, reason) in (1..).zip([
        "too many bad commands",
        "a line that is too long",
        "too many connections that have not logged in",
    ]) {
        let peer = format!("{}:", address(number));
        let line = lines
            .iter()
            .find(|line| line["peer"].as_str().unwrap().starts_with(&peer));
        is_refusal(line.unwrap(), &gateway, "WARN", reason);
    }
}

fn with_tls(peer: &Peer, certificates: &Certificates) -> Gateway {
    Setup::new(peer.address())
        .certificates(certificates)
        .listener("tls = \"implicit\"")
        .start()
}

/// A ClientHello of TLS 1.1 (RFC 4346 §7.4.1.2): no extensions, one cipher suite.
fn hello_of_tls_1_1() -> Vec<u8> {
    let mut hello = vec![3, 2];
    hello.extend([7; 32]); // random
    hello.push(0); // no session
    hello.extend([0, 2, 0xc0, 0x13, 1, 0]); // ECDHE_RSA_WITH_AES_128_CBC_SHA, no compression
    let mut record = vec![0x16, 3, 1, 0, u8::try_from(hello.len() + 4).unwrap()];
    record.extend([1, 0, 0, u8::try_from(hello.len()).unwrap()]);
    record.extend(hello);
    record
}

#[test]
fn a_handshake_that_fails_says_why() {
    let (peer, certificates) = (peer(), Certificates::new());
    let gateway = with_tls(&peer, &certificates);
    for (number, octets) in (1..).zip([
        &hello_of_tls_1_1()[..],
        b"USER eva\r\nPASS 1234\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"",
    ]) {
        let mut pop = Pop::open_from(address(number), gateway.address());
        pop.send(octets);
        pop.shut_down();
        pop.drain();
        gateway.sessions(usize::from(number));
    }
    let lines = gateway.sessions(4);
    for (line, reason) in lines.iter().zip([
        OLD_TLS,
        "what the device sends is not TLS",
        "what the device sends is not TLS",
    ]) {
        is_refusal(line, &gateway, "WARN", reason);
    }
    assert_eq!(
        (&lines[3]["level"], &lines[3]["login"]),
        (&"DEBUG".into(), &Value::Null),
        "a bare probe: {}",
        lines[3]
    );
}

/// OpenSSL as a device: one with old TLS, and one that trusts no certificate.
#[test]
fn what_openssl_can_not_do_is_told() {
    let Some(openssl) = require_program("openssl") else {
        return;
    };
    let (peer, certificates) = (peer(), Certificates::new());
    let gateway = with_tls(&peer, &certificates);
    for options in [
        &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"][..],
        &["-verify_return_error", "-no-CAfile", "-no-CApath"],
    ] {
        let output = Command::new(&openssl)
            .args(["s_client", "-connect"])
            .arg(gateway.address().to_string())
            .args(options)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(!output.status.success());
    }
    let lines = gateway.sessions(2);
    for (line, (level, reason)) in lines.iter().zip([
        ("WARN", OLD_TLS),
        // DEBUG, because this is the second refusal of one address within a minute.
        (
            "DEBUG",
            "the device does not trust the gateway's certificate (UnknownCA)",
        ),
    ]) {
        assert_eq!(
            (&line["outcome"], &line["level"], &line["reason"]),
            (&"refused".into(), &level.into(), &reason.into()),
            "{line}"
        );
    }
}
