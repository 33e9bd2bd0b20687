//! The commands that an operator runs beside a gateway: `popgate sessions` and `popgate trace`.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::support::{
    PASSWORD,
    answers::Answers,
    certificates::Certificates,
    gateway::{Gateway, Setup, account},
    mail,
    peer::Peer,
    pop::Pop,
    process::Process,
};

fn gateway(peer: &Peer) -> Gateway {
    Setup::new(peer.address()).table("[state]\ndir = \"state\"").start()
}

#[test]
fn sessions_shows_who_is_here() {
    let peer = Peer::start(Answers::of([mail::simple(1)]));
    let gateway = gateway(&peer);
    let pop = Pop::log_in(gateway.address(), "eva");
    let silent = Pop::connect(gateway.address());
    let (code, said) = gateway.popgate(&["sessions", "--json"]);
    assert_eq!(code, Some(0), "{said}");
    let sessions: Vec<Value> = serde_json::from_str(&said).unwrap();
    assert_eq!(sessions.len(), 2, "{said}");
    assert_eq!(sessions[0]["login"], "eva");
    assert_eq!(sessions[0]["listener"], gateway.address().to_string());
    assert_eq!(sessions[1]["login"], Value::Null);
    pop.quit();
    drop(silent);
    gateway.sessions(2);
    let (code, said) = gateway.popgate(&["sessions"]);
    assert_eq!((code, said.as_str()), (Some(0), "0 sessions\n"));
}

#[test]
fn the_first_line_says_what_runs() {
    let (peer, certificates) = (Peer::start(Answers::of([mail::simple(1)])), Certificates::new());
    let gateway = Setup::new(peer.address())
        .certificates(&certificates)
        .listener("tls = \"off\"")
        .listener("tls = \"implicit\"")
        .table(&account("pbx", "eva"))
        .table("[state]\ndir = \"state\"")
        .start();
    let start = &gateway.events("popgate starts", 1)[0];
    assert_eq!(start["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(start["configuration"], gateway.file().display().to_string());
    assert_eq!(
        (&start["listeners"], &start["accounts"]),
        (&2.into(), &1.into()),
        "{start}"
    );
    assert!(start["state"].as_str().unwrap().ends_with("state"), "{start}");
    let certificate = &gateway.events("a certificate is valid", 1)[0]["what"];
    assert!(certificate.as_str().unwrap().contains("valid until "), "{certificate}");
}

#[test]
fn commands_say_what_a_gateway_without_a_directory_lacks() {
    let peer = Peer::start(Answers::of([mail::simple(1)]));
    let gateway = Setup::new(peer.address()).start();
    for arguments in [&["sessions"][..], &["trace", "eva"]] {
        let (code, said) = gateway.popgate(arguments);
        assert_ne!(code, Some(0));
        assert!(said.contains("[state] has no `dir`"), "{said}");
    }
}

#[test]
fn trace_shows_both_sides_and_no_secret() {
    let peer = Peer::start(Answers::of([mail::simple(1)]));
    let gateway = gateway(&peer);
    let trace = Command::new(env!("CARGO_BIN_EXE_popgate"))
        .args(["trace", "eva", "--config"])
        .arg(gateway.file())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut trace = Process(trace);
    let mut begun = String::new();
    BufReader::new(trace.0.stderr.take().unwrap())
        .read_line(&mut begun)
        .unwrap();
    assert!(begun.starts_with("tracing \"eva\""), "{begun}");

    let mut other = Pop::log_in(gateway.address(), "ida");
    other.retr(1);
    other.quit();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.retr(1);
    pop.ok("DELE 1");
    pop.quit();

    let lines = BufReader::new(trace.0.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let mut text = String::new();
    for line in lines {
        text += &format!("{line}\n");
        if line.contains("device   > +OK bye") {
            break;
        }
    }
    for part in [
        "device   < a login as \"eva\" from 127.0.0.1:",
        "device   > +OK 1 messages",
        "device   < RETR 1",
        "octets in answer to RETR>",
        "device   < DELE 1",
        "device   < QUIT",
        "upstream > AUTHENTICATE PLAIN <",
        "SELECT \"INBOX\"",
        "upstream < * 1 EXISTS",
        "UID EXPUNGE",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    let body = String::from_utf8(mail::simple(1)).unwrap();
    let body = body.lines().last().unwrap();
    for hidden in [PASSWORD, "\"ida\"", body] {
        assert!(!text.contains(hidden), "{hidden} in\n{text}");
    }
}
