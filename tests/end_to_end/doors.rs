//! How devices get in: certificates by host, certificates of devices, load balancers.

use std::{
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use tokio_rustls::rustls::ClientConfig;

use crate::support::{
    PASSWORD,
    answers::Answers,
    certificates::Certificates,
    gateway::{Gateway, Setup},
    mail,
    peer::Peer,
    pop::Pop,
    require_program,
    stream::Reader,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn mailbox() -> Peer {
    Peer::start(Answers::of([mail::simple(1), mail::simple(2)]))
}

/// Logs in as eva, fetches a message and leaves.
fn fetch(mut pop: Pop) {
    assert!(pop.try_log_in("eva", PASSWORD).starts_with("+OK"));
    assert_eq!(pop.retr(2).1, mail::simple(2));
    pop.quit();
}

#[test]
fn each_host_has_its_certificate() {
    let Some(openssl) = require_program("openssl") else {
        return;
    };
    let peer = mailbox();
    let hosts = ["pop.example.org", "pop.example.net"];
    let certificates = hosts.map(Certificates::of_host);
    let mut setup = Setup::new(peer.address())
        .listener("tls = \"implicit\"")
        .listener("tls = \"starttls\"");
    for certificates in &certificates {
        let (leaf, key) = (certificates.leaf_file(), certificates.key_file());
        setup = setup.table(&format!("[[tls]]\ncertificate = {leaf:?}\nkey = {key:?}"));
    }
    let gateway = setup.start();
    for (index, way) in [(0, &[][..]), (1, &["-starttls", "pop3"])] {
        let address = gateway.addresses()[index].to_string();
        for (name, expected) in [(hosts[0], 0), (hosts[1], 1), ("pop.example.com", 0)] {
            let output = Command::new(&openssl)
                .args([
                    "s_client",
                    "-connect",
                    &address,
                    "-servername",
                    name,
                    "-verify_return_error",
                ])
                .args(["-verify_hostname", hosts[expected], "-CAfile"])
                .arg(certificates[expected].authority_file())
                .args(way)
                .stdin(Stdio::null())
                .output()
                .unwrap();
            assert!(
                output.status.success(),
                "{name}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
}

/// Connects to a listener with TLS from the start (0), or with STLS (1).
fn connect(gateway: &Gateway, listener: usize, device: &Arc<ClientConfig>) -> Pop {
    match gateway.addresses()[listener] {
        address if listener == 0 => Pop::connect_tls(address, device.clone()),
        address => Pop::connect(address).stls(device.clone()),
    }
}

#[test]
fn two_hundred_devices_resume_their_sessions() {
    let certificates = Certificates::new();
    let peer = mailbox();
    let gateway = Setup::new(peer.address())
        .certificates(&certificates)
        .listener("tls = \"implicit\"")
        .listener("tls = \"starttls\"")
        .start();
    let devices: Vec<_> = (0..200).map(|_| certificates.client()).collect();
    for round in 0..2 {
        let resumed = devices.iter().enumerate().filter(|(index, device)| {
            let mut pop = connect(&gateway, index % 2, device);
            // What is said after STLS brings the tickets.
            pop.ok("CAPA");
            pop.lines();
            let is_resumed = pop.is_resumed();
            pop.quit();
            is_resumed
        });
        assert_eq!(resumed.count(), round * devices.len());
    }
}

#[test]
fn certificates_of_devices() {
    let (certificates, foreign) = (Certificates::new(), Certificates::new());
    let peer = mailbox();
    let ca = certificates.authority_file();
    let gateway = Setup::new(peer.address())
        .certificates(&certificates)
        .table(&format!("client_ca = {ca:?}"))
        .listener("tls = \"implicit\"\nclient_certificates = \"required\"")
        .listener("tls = \"starttls\"\nclient_certificates = \"optional\"")
        .start();
    let known = certificates.client_of(&certificates, "scanner\r\n7");
    for listener in [0, 1] {
        fetch(connect(&gateway, listener, &known));
        let session = &gateway.sessions(listener + 1)[listener];
        assert_eq!(session["certificate"], "CN=scanner\\r\\n7", "{session}");
        assert_eq!(session["end"], "quit");
    }
    fetch(connect(&gateway, 1, &certificates.client()));
    assert!(gateway.sessions(3)[2].get("certificate").is_none());

    for (listener, device) in [
        (0, certificates.client()),
        (0, certificates.client_of(&foreign, "scanner")),
        (1, certificates.client_of(&foreign, "scanner")),
    ] {
        let mut pop = Pop::open(gateway.addresses()[listener]);
        if listener == 1 {
            pop.expect("+OK");
            pop.ok("STLS");
        }
        let stream = pop.into_stream();
        let refused = stream
            .secure_client(device)
            .and_then(|stream| Reader::new(stream).line());
        assert!(refused.is_err(), "{refused:?}");
    }
    let ends: Vec<_> = gateway.sessions(6)[3..]
        .iter()
        .map(|session| session["end"].clone())
        .collect();
    assert_eq!(ends, ["handshake"; 3]);
    assert_eq!(peer.connections(), 3);
}

#[test]
fn a_certificate_that_ends_is_told_at_the_start_and_daily() {
    let peer = mailbox();
    for (days, message, word) in [
        (0, "a certificate ends soon", "in 0 days"),
        (29, "a certificate ends soon", "in 29 days"),
    ] {
        let certificates = Certificates::ending_in(days);
        let gateway = Setup::new(peer.address())
            .certificates(&certificates)
            .listener("tls = \"implicit\"")
            .start();
        let what = gateway.events(message, 1)[0]["what"].as_str().unwrap().to_owned();
        assert!(what.contains("leaf.pem expires on ") && what.contains(word), "{what}");
    }

    let certificates = Certificates::ending_in(31);
    let setup = Setup::new(peer.address())
        .certificates(&certificates)
        .listener("tls = \"implicit\"");
    let Some(setup) = setup.movable_clock() else { return };
    let gateway = setup.start();
    let mut told = 0;
    for day in 1..=33_u32 {
        gateway.pass(DAY * day + Duration::from_secs(60));
        // Whoever sleeps looks at the clock once something happens.
        drop(Pop::open(gateway.address()));
        let (message, count) = match day {
            0..=1 => continue,
            2..=31 => ("a certificate ends soon", day - 1),
            _ => ("a certificate is not valid", day - 31),
        };
        let events = gateway.events(message, count as usize);
        assert_eq!(events.len(), count as usize, "once a day");
        told += 1;
    }
    assert_eq!(told, 32);
    let what = gateway.events("a certificate is not valid", 2)[1]["what"].clone();
    assert!(what.as_str().unwrap().contains("devices refuse it"), "{what}");
}
