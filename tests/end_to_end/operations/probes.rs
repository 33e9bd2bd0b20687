//! /livez and /readyz, as container runtimes and load balancers use them.

use serde_json::json;

use crate::support::{
    answers::Answers,
    certificates::Certificates,
    gateway::{Gateway, Setup},
    mail,
    peer::Peer,
    pop::Pop,
    web::{self, Web},
};

fn peer() -> Peer {
    Peer::start(Answers::of([mail::simple(1)]))
}

fn with_certificate(peer: &Peer, certificates: &Certificates) -> Gateway {
    Setup::new(peer.address())
        .certificates(certificates)
        .listener("tls = \"implicit\"")
        .table(&web::table())
        .start()
}

#[test]
fn a_gateway_that_serves_is_alive_and_ready() {
    let peer = peer();
    let gateway = Setup::new(peer.address()).table(&web::table()).start();
    let web = Web::of(&gateway);
    for (path, status) in [("/livez", "ok"), ("/readyz", "ready"), ("/readyz?strict", "ready")] {
        let answer = web.get(path);
        assert_eq!(
            (answer.status, answer.json()),
            (200, json!({ "status": status })),
            "{path}"
        );
        assert_eq!(answer.field("content-type"), Some("application/json"));
        assert_eq!(answer.field("cache-control"), Some("no-store"));
    }
}

/// A probe may use any host name, and has no password. The page needs both.
#[test]
fn probes_answer_by_any_name_and_without_a_password() {
    let peer = peer();
    let gateway = Setup::new(peer.address())
        .table(&format!(
            "{}\npublic_url = \"https://mail.example.org/popgate\"",
            web::table()
        ))
        .start();
    let web = Web::of(&gateway);
    for host in [
        "mail.example.org",
        "popgate.cluster.local",
        "10.0.0.7:8080",
        "evil.example",
    ] {
        for path in ["/livez", "/readyz", "/metrics"] {
            assert_eq!(web.get_as(host, path).status, 200, "{host}{path}");
            assert_eq!(web.get_as(host, &format!("/popgate{path}")).status, 200, "{host}{path}");
        }
    }
    assert_eq!(web.get_as("evil.example", "/").status, 421);
    assert_eq!(web.get_as("mail.example.org", "/").status, 303, "to the login");
}

#[test]
fn a_certificate_that_ends_soon_is_told_and_one_that_has_ended_is_not_ready() {
    let peer = peer();
    let certificates = Certificates::ending_in(10);
    let gateway = with_certificate(&peer, &certificates);
    let web = Web::of(&gateway);
    let answer = web.get("/readyz");
    assert_eq!(answer.status, 200);
    let told = answer.json();
    assert_eq!(told["status"], "degraded");
    let what = told["degraded"]["certificate localhost"].as_str().unwrap();
    assert!(what.contains("in 10 days: have it renewed"), "{what}");
    for strict in ["/readyz?strict", "/readyz?strict=1", "/readyz?a=b&strict"] {
        let answer = web.get(strict);
        assert_eq!((answer.status, answer.json()), (503, told.clone()));
    }
    assert_eq!(web.get("/readyz?strictly").status, 200);

    // The file cannot be read any more. Devices still get the certificate that was read before.
    let file = certificates.leaf_file();
    std::fs::remove_file(&file).unwrap();
    let told = web.get("/readyz").json();
    let part = format!("certificate {}", file.display());
    let what = told["degraded"][&part].as_str().unwrap_or_else(|| panic!("{told}"));
    assert!(what.contains("devices get the one that was read last"), "{what}");
    Pop::connect_tls(gateway.address(), certificates.client()).quit();

    let certificates = Certificates::expired();
    let gateway = with_certificate(&peer, &certificates);
    let web = Web::of(&gateway);
    let answer = web.get("/readyz");
    assert_eq!((answer.status, &answer.json()["status"]), (503, &json!("not ready")));
    let what = answer.json()["failing"]["certificate localhost"].to_string();
    assert!(what.contains("expired on 2015-01-01"), "{what}");
    assert_eq!(web.get("/livez").status, 200, "a restart would not help");
    assert_eq!(
        web.metric("popgate_unhealthy{part=\"certificate localhost\",severity=\"failing\"}"),
        Some(1.0)
    );
    assert!(web.metric("popgate_certificate_expiry_seconds{name=\"localhost\"}") < Some(0.0));
}

/// During a drain `/readyz` fails, so that Kubernetes sends no more devices. Sessions go on, so `/livez` fails only after
/// the last one: HAProxy would close them. Then the gateway waits until a load balancer has heard it.
#[test]
fn a_drain_is_not_ready_while_a_session_goes_on() {
    let peer = peer();
    let mut gateway = Setup::new(peer.address()).table(&web::table()).start();
    let web = Web::of(&gateway);
    let mut pop = Pop::log_in(gateway.address(), "eva");
    gateway.signal("TERM");
    gateway.events("draining", 1);
    let answer = web.get("/readyz");
    let told = answer.json();
    assert_eq!((answer.status, &told["status"]), (503, &json!("not ready")));
    assert!(
        told["failing"]["drain"].as_str().unwrap().contains("takes no new ones"),
        "{told}"
    );
    assert_eq!(web.get("/livez").status, 200);
    assert_eq!(pop.retr(1).1, mail::simple(1));
    pop.quit();
    let answer = std::iter::repeat_with(|| web.get("/livez")).find(|answer| answer.status != 200);
    let answer = answer.unwrap();
    assert_eq!((answer.status, answer.json()), (503, json!({ "status": "ending" })));
    assert_eq!(gateway.wait().code(), Some(0));
}
