//! The log's one line for each session: outcome, level, reason, and what the session did.

use std::{
    io::Write,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::support::{
    PASSWORD,
    answers::{Answers, Message},
    gateway::{Gateway, Setup},
    mail,
    peer::{Gate, Peer, Step, send},
    pop::Pop,
    require_program,
};

fn mailbox() -> Answers {
    Answers::of((1..=3).map(mail::simple))
}

/// The line of the last of `count` sessions. Asserts its outcome and level, and the names by which operators filter.
#[track_caller]
fn line(gateway: &Gateway, count: usize, outcome: &str, level: &str) -> Value {
    let line = gateway.sessions(count)[count - 1].clone();
    assert_eq!(
        (&line["outcome"], &line["level"]),
        (&outcome.into(), &level.into()),
        "{line}"
    );
    assert_eq!(line["listener"], gateway.address().to_string(), "{line}");
    assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    assert_eq!(line["tls"], "none", "{line}");
    assert!(
        line["seconds"]
            .as_f64()
            .is_some_and(|seconds| (0.0..60.0).contains(&seconds)),
        "{line}"
    );
    for number in ["retrieved", "retrieved_octets", "deleted"] {
        assert!(line[number].is_u64(), "{number} in {line}");
    }
    assert_eq!(
        line["reason"].is_string(),
        level == "WARN",
        "a warning says why: {line}"
    );
    line
}

/// Like [`line`], for a session of eva: also asserts what the session saw.
#[track_caller]
fn line_of_eva(gateway: &Gateway, count: usize, outcome: &str, level: &str) -> Value {
    let line = line(gateway, count, outcome, level);
    let octets: usize = (1..=3).map(|number| mail::simple(number).len()).sum();
    for (name, value) in [
        ("login", "eva".into()),
        ("upstream", "lab".into()),
        ("user", "eva".into()),
        ("messages", 3.into()),
        ("octets", Value::from(octets)),
    ] {
        assert_eq!(line[name], value, "{name} in {line}");
    }
    line
}

fn fails(gateway: &Gateway, code: &str) -> Pop {
    let mut pop = Pop::connect(gateway.address());
    let reply = pop.try_log_in("eva", PASSWORD);
    assert!(reply.starts_with(&format!("-ERR [{code}]")), "{reply}");
    pop
}

#[test]
fn who_takes_mail_is_ok_and_who_takes_none_is_empty() {
    let peer = Peer::start(mailbox());
    let gateway = Setup::new(peer.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.retr(1);
    pop.retr(3);
    pop.ok("DELE 1");
    // Asking for a message that does not exist is the device's mistake.
    pop.err("RETR 1", "-ERR");
    pop.quit();
    let told = line_of_eva(&gateway, 1, "ok", "INFO");
    let octets = mail::simple(1).len() + mail::simple(3).len();
    assert_eq!(
        (&told["retrieved"], &told["retrieved_octets"], &told["deleted"]),
        (&2.into(), &octets.into(), &1.into())
    );
    let mut poll = Pop::log_in(gateway.address(), "eva");
    poll.list("UIDL");
    poll.quit();
    let told = line_of_eva(&gateway, 2, "empty", "INFO");
    assert_eq!((&told["retrieved"], &told["deleted"]), (&0.into(), &0.into()));
}

#[test]
fn a_refused_login_is_auth_and_then_throttled() {
    let peer = Peer::start(mailbox().on("AUTHENTICATE", "{tag} NO [AUTHENTICATIONFAILED] no\r\n"));
    let gateway = Setup::new(peer.address()).start();
    let mut pop = fails(&gateway, "AUTH");
    pop.ok("QUIT");
    let told = line(&gateway, 1, "auth", "WARN");
    assert_eq!((&told["login"], &told["upstream"]), (&"eva".into(), &Value::Null));
    assert_eq!(told["reason"], "login refused: NO [AUTHENTICATIONFAILED] no");
    drop(fails(&gateway, "AUTH"));
    line(&gateway, 2, "auth", "WARN");
    // At once, because one after the other they would take half a minute.
    let mut guessers: Vec<_> = (0..12)
        .map(|number| {
            let mut pop = Pop::connect(gateway.address());
            pop.send(format!("USER eva\r\nPASS wrong{number}\r\n").as_bytes());
            pop.expect("+OK");
            pop
        })
        .collect();
    let throttled = guessers.iter_mut().map(Pop::reply);
    let throttled = throttled
        .filter(|reply| reply.starts_with("-ERR [LOGIN-DELAY]"))
        .count();
    drop(guessers);
    let told = gateway.sessions(14);
    let told: Vec<_> = told.iter().filter(|line| line["outcome"] == "throttled").collect();
    assert!(throttled > 0 && told.len() == throttled, "{told:?}");
    let refused: Vec<_> = gateway.events("login refused", 14);
    assert_eq!(refused.len(), 14, "one line for each, for fail2ban");
    for line in told {
        assert_eq!((&line["level"], &line["login"]), (&"WARN".into(), &"eva".into()));
        assert!(line["reason"].is_string());
    }
}

#[test]
fn a_second_session_is_in_use() {
    let peer = Peer::start(mailbox());
    let gateway = Setup::new(peer.address()).start();
    let first = Pop::log_in(gateway.address(), "eva");
    drop(fails(&gateway, "IN-USE"));
    let told = line(&gateway, 1, "in-use", "WARN");
    assert_eq!(told["login"], "eva");
    first.quit();
    // If a later login of the session succeeds, the session has no failure.
    let first = Pop::log_in(gateway.address(), "eva");
    let mut second = fails(&gateway, "IN-USE");
    first.quit();
    assert!(second.try_log_in("eva", PASSWORD).starts_with("+OK"));
    second.quit();
    line_of_eva(&gateway, 4, "empty", "INFO");
}

#[test]
fn an_upstream_that_fails_is_temp_or_perm_with_its_words() {
    for (command, answer, code, outcome, words) in [
        (
            "AUTHENTICATE",
            "{tag} NO [UNAVAILABLE] back at noon\r\n",
            "SYS/TEMP",
            "temp",
            "back at noon",
        ),
        (
            "SELECT",
            "{tag} NO [NONEXISTENT] no such folder\r\n",
            "SYS/PERM",
            "perm",
            "no such folder",
        ),
    ] {
        let peer = Peer::start(mailbox().on(command, answer));
        let gateway = Setup::new(peer.address()).start();
        drop(fails(&gateway, code));
        let told = line(&gateway, 1, outcome, "WARN");
        assert!(told["reason"].as_str().unwrap().contains(words), "{told}");
        assert_eq!(told["login"], "eva");
    }
    // A failure within a session that goes on is a warning nevertheless.
    let peer = Peer::start(mailbox().on("UID FETCH 2 (UID BODY", "{tag} NO [UNAVAILABLE] disk asleep\r\n"));
    let gateway = Setup::new(peer.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.err("RETR 2", "-ERR [SYS/TEMP]");
    pop.retr(3);
    pop.quit();
    let told = line_of_eva(&gateway, 1, "temp", "WARN");
    assert!(told["reason"].as_str().unwrap().contains("disk asleep"), "{told}");
    assert_eq!(told["retrieved"], 1);
}

#[test]
fn a_message_that_breaks_off_is_temp() {
    let broken = "* 1 FETCH (UID 1 BODY[] {5000}\r\nSubject: half\r\n";
    let answer = vec![send(broken), Step::Close];
    let messages = (1..=3).map(|uid| Message::new(uid, mail::simple(uid as usize)));
    let peer = Peer::start(Answers::new(messages).on("UID FETCH 1 (UID BODY", answer));
    let gateway = Setup::new(peer.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.send(b"RETR 1\r\n");
    pop.broken_off();
    let told = line_of_eva(&gateway, 1, "temp", "WARN");
    assert_eq!(told["retrieved"], 0);
}

#[test]
fn a_quit_that_removes_some_is_partial() {
    let peer = Peer::start(mailbox().on("UID STORE", "{tag} NO nope\r\n"));
    let gateway = Setup::new(peer.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.ok("DELE 2");
    pop.err("QUIT", "-ERR [SYS/TEMP] 1 of 1");
    let told = line_of_eva(&gateway, 1, "temp", "WARN");
    assert_eq!((&told["deleted"], &told["removed"]), (&1.into(), &0.into()));

    // The server removes one message of two, and answers OK.
    let peer = Peer::start(mailbox().on("UID SEARCH UID", "* SEARCH 3\r\n{tag} OK\r\n").on(
        "UID FETCH 2:3 (UID FLAGS)",
        "* 2 FETCH (UID 3 FLAGS (\\Deleted))\r\n{tag} OK\r\n",
    ));
    let gateway = Setup::new(peer.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.ok("DELE 2");
    pop.ok("DELE 3");
    pop.err("QUIT", "-ERR [SYS/PERM] 1 of 2");
    let told = line_of_eva(&gateway, 1, "partial", "WARN");
    assert_eq!((&told["deleted"], &told["removed"]), (&2.into(), &1.into()));
}

#[test]
fn sessions_without_a_farewell_end_as_what_ended_them() {
    let peer = Peer::start(mailbox());
    let gateway = Setup::new(peer.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.ok("DELE 1");
    drop(pop);
    let told = line_of_eva(&gateway, 1, "dropped", "INFO");
    assert_eq!((&told["deleted"], &told["removed"]), (&1.into(), &0.into()));

    let gateway = Setup::new(peer.address()).limit("session_seconds = 1").start();
    Pop::log_in(gateway.address(), "eva").closed();
    line_of_eva(&gateway, 1, "timeout", "INFO");

    let mut gateway = Setup::new(peer.address()).limit("drain_seconds = 0").start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    gateway.signal("TERM");
    pop.closed();
    assert_eq!(gateway.wait().code(), Some(0));
    line_of_eva(&gateway, 1, "shutdown", "INFO");

    let Some(setup) = Setup::new(peer.address()).movable_clock() else {
        return;
    };
    let gateway = setup.start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    // When this login is over, the first session waits for its next command.
    Pop::log_in(gateway.address(), "ida").quit();
    gateway.pass(Duration::from_secs(605));
    // The gateway notices that its clock was moved only when something happens.
    drop(Pop::open(gateway.address()));
    pop.closed();
    let told = gateway.sessions(3);
    let told = told.iter().find(|line| line["login"] == "eva").unwrap();
    assert_eq!(
        (&told["outcome"], &told["level"]),
        (&"idle".into(), &"INFO".into()),
        "{told}"
    );
}

/// A session that is cut off by a shutdown in the middle of a command has its line too.
#[test]
fn a_session_that_is_cut_off_is_shutdown() {
    let gate = Gate::default();
    let peer = Peer::start(mailbox().on("UID STORE", vec![Step::Wait(gate.clone()), send("{tag} OK\r\n")]));
    let mut gateway = Setup::new(peer.address()).limit("drain_seconds = 0").start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.ok("DELE 2");
    pop.send(b"QUIT\r\n");
    peer.wait_for("UID STORE");
    gateway.signal("TERM");
    pop.closed();
    gateway.wait();
    gate.open();
    let told = line_of_eva(&gateway, 1, "shutdown", "INFO");
    assert_eq!((&told["end"], &told["removed"]), (&"aborted".into(), &0.into()));
}

/// Connections that send nothing, such as health checks and port scans, are logged at debug level only.
#[test]
fn who_says_nothing_is_for_debugging_only() {
    let peer = Peer::start(mailbox());
    let gateway = Setup::new(peer.address()).limit("login_seconds = 1").start();
    drop(Pop::open(gateway.address()));
    line(&gateway, 1, "dropped", "DEBUG");
    let mut health = Pop::connect(gateway.address());
    health.ok("CAPA");
    health.lines();
    health.quit();
    line(&gateway, 2, "empty", "DEBUG");
    Pop::connect(gateway.address()).closed();
    line(&gateway, 3, "timeout", "DEBUG");

    let (code, said) = gateway.popgate(&["health", "--help"]);
    assert_eq!(code, Some(0), "{said}");
    let gateway = Setup::new(peer.address()).level("info").start();
    drop(Pop::open(gateway.address()));
    Pop::connect(gateway.address()).quit();
    Pop::log_in(gateway.address(), "eva").quit();
    assert_eq!(gateway.sessions(1).len(), 1, "of the login only");
}

/// An operator counts outcomes by jq.
#[test]
fn jq_tells_how_sessions_went() {
    let Some(jq) = require_program("jq") else { return };
    let peer = Peer::start(mailbox());
    let gateway = Setup::new(peer.address()).level("info").start();
    Pop::log_in(gateway.address(), "eva").quit();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.retr(2);
    pop.quit();
    drop(Pop::log_in(gateway.address(), "eva"));
    let log = gateway.lines("session ended", 3).join("\n");
    let ask = |filter: &str| {
        let mut jq = Command::new(&jq)
            .args(["-r", filter])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        jq.stdin.take().unwrap().write_all(log.as_bytes()).unwrap();
        let output = jq.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let outcomes = ask("select(.message==\"session ended\") | .outcome");
    assert_eq!(outcomes.lines().collect::<Vec<_>>(), ["empty", "ok", "dropped"]);
    let octets = ask("select(.message==\"session ended\" and .login==\"eva\" and .retrieved>0) | .retrieved_octets");
    assert_eq!(octets.trim(), mail::simple(2).len().to_string());
}
