//! Prometheus itself accepts the metrics, and scrapes a running gateway.

use std::{
    fs,
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    PATIENCE,
    answers::Answers,
    certificates::Certificates,
    gateway::{Gateway, Setup},
    mail,
    peer::Peer,
    pop::Pop,
    process::{Process, free_port},
    require_program,
    web::{self, Web},
};

/// A gateway after two sessions.
fn gateway(peer: &Peer, certificates: &Certificates, state: &TempDir) -> Gateway {
    let gateway = Setup::new(peer.address())
        .certificates(certificates)
        .listener("tls = \"off\"")
        .table(&web::table())
        .table(&format!("[state]\ndir = {:?}", state.path()))
        .start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.retr(1);
    pop.ok("DELE 1");
    pop.quit();
    Pop::log_in(gateway.address(), "ida").quit();
    gateway.sessions(2);
    gateway
}

#[test]
fn promtool_has_no_complaint_of_the_metrics() {
    let Some(promtool) = require_program("promtool") else {
        return;
    };
    let (peer, state) = (
        Peer::start(Answers::of([mail::simple(1)])),
        tempfile::tempdir().unwrap(),
    );
    let certificates = Certificates::ending_in(10);
    let gateway = gateway(&peer, &certificates, &state);
    let text = Web::of(&gateway).get("/metrics").body;
    let mut check = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    check.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success() && said.is_empty(), "{said}\n{text}");
}

/// Prometheus with one target; stopped when dropped.
struct Prometheus {
    web: Web,
    _process: Process,
    _directory: TempDir,
}

impl Prometheus {
    /// Starts Prometheus for `target`. `None` if it is not installed.
    fn watching(target: SocketAddr) -> Option<Self> {
        let program = require_program("prometheus")?;
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("prometheus.yml");
        let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/docker/alerts.yml");
        let config = format!(
            "global:\n  scrape_interval: 100ms\n  scrape_timeout: 100ms\n  evaluation_interval: 100ms\n\
             rule_files: [{rules:?}]\nscrape_configs:\n  - job_name: popgate\n    static_configs:\n      - targets: [\"{target}\"]\n"
        );
        fs::write(&file, config).unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let process = Command::new(program)
            .arg("--config.file")
            .arg(&file)
            .arg("--storage.tsdb.path")
            .arg(directory.path().join("data"))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Some(Self {
            web: Web::at(address),
            _process: Process(process),
            _directory: directory,
        })
    }

    /// Asks for `path` again and again until the answer is `enough`, because Prometheus scrapes in its own time.
    #[track_caller]
    fn wait(&self, path: &str, enough: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        let mut last = None;
        while Instant::now() < deadline {
            if let Some(answer) = self
                .web
                .try_get("localhost", path)
                .filter(|answer| answer.status == 200)
            {
                let answer = answer.json();
                if enough(&answer) {
                    return answer;
                }
                last = Some(answer);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{path}: {last:?}")
    }
}

#[test]
fn prometheus_scrapes_a_gateway() {
    let (peer, state) = (
        Peer::start(Answers::of([mail::simple(1)])),
        tempfile::tempdir().unwrap(),
    );
    let certificates = Certificates::ending_in(10);
    let gateway = gateway(&peer, &certificates, &state);
    let Some(prometheus) = Prometheus::watching(Web::of(&gateway).address()) else {
        return;
    };
    let targets = prometheus.wait("/api/v1/targets", |answer| {
        answer["data"]["activeTargets"][0]["health"] == "up"
    });
    assert_eq!(targets["data"]["activeTargets"][0]["lastError"], "", "{targets}");
    for (query, expected) in [
        ("popgate_messages_retrieved_total", "1"),
        ("popgate_build_info", "1"),
        ("sum(popgate_sessions_total)", "2"),
        ("popgate_sessions_total%7Boutcome%3D%22empty%22%7D", "1"),
        ("popgate_session_seconds_bucket%7Ble%3D%22%2BInf%22%7D", "2"),
    ] {
        let path = format!("/api/v1/query?query={query}");
        prometheus.wait(&path, |answer| answer["data"]["result"][0]["value"][1] == expected);
    }
    // The rules are loaded, and one of them fires: the certificate ends in ten days.
    prometheus.wait("/api/v1/alerts", |answer| {
        let alerts = answer["data"]["alerts"].as_array().into_iter().flatten();
        let mut names = alerts.map(|alert| &alert["labels"]["alertname"]);
        names.any(|name| name == "PopgateCertificateEnding")
    });
}
