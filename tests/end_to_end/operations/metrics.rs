//! /metrics after real sessions.

use std::net::Ipv4Addr;

use crate::support::{
    PASSWORD,
    answers::Answers,
    certificates::Certificates,
    gateway::Setup,
    mail,
    peer::{Peer, Step},
    pop::Pop,
    web::{self, Web},
};

/// base64 of NUL eva NUL [`PASSWORD`]
const RIGHT: &str = "AUTHENTICATE PLAIN AGV2YQBrZXN0cmVsLTQyLUhvdmVyZmx5";

#[track_caller]
fn shows(web: &Web, expected: &[(&str, f64)]) {
    let text = web.get("/metrics").body;
    for (series, expected) in expected {
        let line = text.lines().find(|line| line.starts_with(&format!("{series} ")));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        assert_eq!(value, Some(*expected), "{series} in\n{text}");
    }
}

#[test]
fn sessions_are_counted_by_what_they_did() {
    let mails: Vec<_> = (1..=3).map(mail::simple).collect();
    let peer = Peer::start(
        Answers::of(mails.clone())
            .on("AUTHENTICATE", "{tag} NO [AUTHENTICATIONFAILED] no\r\n")
            .on(RIGHT, "{tag} OK logged in\r\n"),
    );
    let state = tempfile::tempdir().unwrap();
    let gateway = Setup::new(peer.address())
        .limit("parked_seconds = 60")
        .table(&web::table())
        .table(&format!("[state]\ndir = {:?}", state.path()))
        .start();
    let (web, listener) = (Web::of(&gateway), gateway.address());
    let device = Ipv4Addr::new(127, 9, 8, 7);

    let mut pop = Pop::connect_from(device, listener);
    assert!(pop.try_log_in("eva", PASSWORD).starts_with("+OK"));
    shows(
        &web,
        &[
            (&format!("popgate_sessions{{listener=\"{listener}\"}}"), 1.0),
            ("popgate_upstream_connections{upstream=\"lab\",state=\"busy\"}", 1.0),
        ],
    );
    pop.retr(1);
    pop.retr(2);
    pop.ok("DELE 1");
    pop.err("XYZZY", "-ERR");
    pop.quit();
    gateway.events("parked", 1);
    let mut empty = Pop::connect_from(device, listener);
    assert!(empty.try_log_in("eva", PASSWORD).starts_with("+OK"));
    empty.quit();
    let mut wrong = Pop::connect_from(device, listener);
    assert!(wrong.try_log_in("eva", "guess").starts_with("-ERR [AUTH]"));
    wrong.quit();
    gateway.sessions(3);
    gateway.events("parked", 2);
    let octets = mails[0].len() + mails[1].len();
    shows(
        &web,
        &[
            (&format!("popgate_sessions{{listener=\"{listener}\"}}"), 0.0),
            (
                &format!("popgate_sessions_total{{listener=\"{listener}\",outcome=\"ok\"}}"),
                1.0,
            ),
            (
                &format!("popgate_sessions_total{{listener=\"{listener}\",outcome=\"empty\"}}"),
                1.0,
            ),
            (
                &format!("popgate_sessions_total{{listener=\"{listener}\",outcome=\"auth\"}}"),
                1.0,
            ),
            ("popgate_session_seconds_count", 3.0),
            ("popgate_commands_total{verb=\"RETR\",ok=\"true\"}", 2.0),
            ("popgate_commands_total{verb=\"PASS\",ok=\"false\"}", 1.0),
            ("popgate_commands_total{verb=\"?\",ok=\"false\"}", 1.0),
            ("popgate_messages_retrieved_total", 2.0),
            ("popgate_octets_retrieved_total", octets as f64),
            ("popgate_messages_deleted_total{policy=\"expunge\"}", 1.0),
            ("popgate_logins_total{upstream=\"lab\",outcome=\"ok\"}", 2.0),
            ("popgate_logins_total{upstream=\"lab\",outcome=\"auth\"}", 1.0),
            ("popgate_upstream_connections{upstream=\"lab\",state=\"busy\"}", 0.0),
            ("popgate_upstream_connections{upstream=\"lab\",state=\"parked\"}", 1.0),
            ("popgate_upstream_errors_total{upstream=\"lab\",kind=\"denied\"}", 1.0),
            ("popgate_backoff_seconds{upstream=\"lab\"}", 0.0),
            (
                concat!("popgate_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"),
                1.0,
            ),
        ],
    );
    for at_least_one in [
        "popgate_upstream_command_seconds_count{upstream=\"lab\",command=\"STORE\"}",
        "popgate_upstream_command_seconds_count{upstream=\"lab\",command=\"FETCH\"}",
        "popgate_upstream_command_seconds_count{upstream=\"lab\",command=\"EXPUNGE\"}",
        "popgate_state_seconds_count{operation=\"read\"}",
        "popgate_state_seconds_count{operation=\"write\"}",
    ] {
        assert!(
            web.metric(at_least_one) >= Some(1.0),
            "{at_least_one} in\n{}",
            web.get("/metrics").body
        );
    }

    let answer = web.get("/metrics");
    assert_eq!(
        (answer.status, answer.field("content-type")),
        (200, Some("text/plain; version=0.0.4; charset=utf-8"))
    );
    for secret in ["eva", "127.9.8.7", "guess", PASSWORD] {
        assert!(!answer.body.contains(secret), "{secret} in\n{}", answer.body);
    }
}

#[test]
fn what_upstreams_do_is_counted_by_kind() {
    let peer = Peer::start_each(vec![
        Answers::of([mail::simple(1)]).on("AUTHENTICATE", Step::Close),
        Answers::of([mail::simple(1)]).on(
            "AUTHENTICATE",
            "{tag} BAD Request is throttled. Suggested Backoff Time: 299961 milliseconds\r\n",
        ),
    ]);
    let gateway = Setup::new(peer.address()).table(&web::table()).start();
    let web = Web::of(&gateway);
    for _ in 0..3 {
        let reply = Pop::connect(gateway.address()).try_log_in("eva", PASSWORD);
        assert!(reply.starts_with("-ERR [SYS/TEMP]"), "{reply}");
    }
    gateway.sessions(3);
    let text = web.get("/metrics").body;
    let count = |kind: &str| {
        web.metric(&format!(
            "popgate_upstream_errors_total{{upstream=\"lab\",kind=\"{kind}\"}}"
        ))
    };
    assert!(count("lost") >= Some(1.0), "{text}");
    assert!(count("paused") >= Some(1.0), "{text}");
    assert_eq!(
        web.metric("popgate_logins_total{upstream=\"lab\",outcome=\"temp\"}"),
        Some(3.0)
    );
    // The server asked for a pause after guesses. Logins with a proven password do not wait for it, but the metric
    // shows it.
    let left = web.metric("popgate_backoff_seconds{upstream=\"lab\"}").unwrap();
    assert!((250.0..=300.0).contains(&left), "{left}");
}

#[test]
fn certificates_and_refusals_are_counted() {
    let (peer, certificates) = (
        Peer::start(Answers::of([mail::simple(1)])),
        Certificates::ending_in(100),
    );
    let gateway = Setup::new(peer.address())
        .certificates(&certificates)
        .listener("tls = \"implicit\"\nallow = [\"127.0.0.2/32\"]")
        .table(&web::table())
        .start();
    let (web, listener) = (Web::of(&gateway), gateway.address());
    let left = web
        .metric("popgate_certificate_expiry_seconds{name=\"localhost\"}")
        .unwrap();
    assert!((99.0 * 86400.0..101.0 * 86400.0).contains(&left), "{left}");
    Pop::open(listener).closed();
    gateway.events("connection refused", 1);
    shows(
        &web,
        &[
            (
                &format!("popgate_sessions_total{{listener=\"{listener}\",outcome=\"refused\"}}"),
                1.0,
            ),
            ("popgate_session_seconds_count", 0.0),
        ],
    );
}
