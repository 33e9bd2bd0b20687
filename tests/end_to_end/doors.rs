//! How devices connect: certificates by host name, certificates of devices, load balancers.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio_rustls::rustls::ClientConfig;

use crate::support::{
    PASSWORD,
    answers::Answers,
    certificates::Certificates,
    gateway::{Gateway, Setup, account},
    mail,
    peer::Peer,
    pop::Pop,
    process::{Process, free_port, greets},
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

/// Connects to the listener with TLS from the first octet (0), or to the one with STLS (1).
fn connect(gateway: &Gateway, listener: usize, device: &Arc<ClientConfig>) -> Pop {
    match gateway.addresses()[listener] {
        address if listener == 0 => Pop::connect_tls(address, device.clone()),
        address => Pop::connect(address).stls(device.clone()),
    }
}

#[test]
fn a_session_is_resumed_at_any_gateway_with_the_same_key() {
    let certificates = Certificates::new();
    let peer = mailbox();
    let start = |key: &str| {
        Setup::new(peer.address())
            .certificates(&certificates)
            .listener("tls = \"implicit\"")
            .table(&format!("[state]\nkey = \"{}\"", key.repeat(40)))
            .start()
    };
    let gateways = ["k", "k", "x"].map(start);
    let device = certificates.client();
    for (gateway, expected) in [(0, false), (1, true), (0, true), (2, false)] {
        let mut pop = connect(&gateways[gateway], 0, &device);
        pop.ok("CAPA");
        pop.lines();
        assert_eq!(pop.is_resumed(), expected, "{gateway}");
        pop.quit();
    }
}

/// Another `[state] key` needs a restart: until then it is in force nowhere.
#[test]
fn a_reload_leaves_the_key_of_session_tickets_as_it_is() {
    let certificates = Certificates::new();
    let peer = mailbox();
    let setup = |key: &str| {
        Setup::new(peer.address())
            .certificates(&certificates)
            .listener("tls = \"implicit\"")
            .table(&format!("[state]\ndir = \"state\"\nkey = \"{}\"", key.repeat(40)))
    };
    let gateway = setup("k").start();
    let device = certificates.client();
    let is_resumed = || {
        let mut pop = connect(&gateway, 0, &device);
        pop.ok("CAPA");
        pop.lines();
        let is_resumed = pop.is_resumed();
        pop.quit();
        is_resumed
    };
    assert!(!is_resumed());
    let said = gateway.reload(&setup("x"));
    assert!(said.contains("[state] key has changed: this needs a restart"), "{said}");
    assert!(is_resumed(), "by the key before");
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
            // The session tickets come with the first reply after STLS.
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
    let known = certificates.client_of(&certificates, "tickets\r\n7");
    for listener in [0, 1] {
        fetch(connect(&gateway, listener, &known));
        let session = &gateway.sessions(listener + 1)[listener];
        // The name is unchanged, because JSON quotes it.
        assert_eq!(session["certificate"], "CN=tickets\r\n7", "{session}");
        assert_eq!(session["end"], "quit");
    }
    fetch(connect(&gateway, 1, &certificates.client()));
    assert!(gateway.sessions(3)[2].get("certificate").is_none());

    for (listener, device) in [
        (0, certificates.client()),
        (0, certificates.client_of(&foreign, "tickets")),
        (1, certificates.client_of(&foreign, "tickets")),
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
    gateway.events("a certificate is valid", 1);
    let mut told = 0;
    for day in 1..=33_u32 {
        gateway.pass(DAY * day + Duration::from_secs(60));
        // The gateway notices that its clock was moved only when something happens.
        drop(Pop::open(gateway.address()));
        let (message, count) = match day {
            0..=1 => {
                gateway.events("a certificate is valid", 2);
                continue;
            }
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

/// The address of the load balancer. Devices that connect directly are at 127.0.0.1.
const BALANCER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A PROXY header of version 1 for a device at `address`.
fn text(address: &str) -> Vec<u8> {
    format!("PROXY TCP4 {address} 10.0.0.1 4711 110\r\n").into_bytes()
}

/// A PROXY header of version 2.
fn binary(address: &str) -> Vec<u8> {
    let address: Ipv4Addr = address.parse().unwrap();
    let signature = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c";
    [
        &signature[..],
        &address.octets(),
        &[10, 0, 0, 1],
        &4711_u16.to_be_bytes(),
        &[0, 110],
    ]
    .concat()
}

/// Connects as the load balancer, and sends `octets`.
fn through_balancer(address: SocketAddr, octets: &[u8]) -> Pop {
    let mut pop = Pop::open_from(BALANCER, address);
    pop.send(octets);
    pop
}

fn behind_a_balancer(upstream: &Peer) -> Setup {
    Setup::new(upstream.address()).limit("sessions_per_address = 1")
}

const DOOR: &str = "proxy_protocol_from = [\"127.0.0.2\"]\nallow = [\"192.0.2.0/24\", \"127.0.0.1\"]";

#[test]
fn a_load_balancer_tells_whose_connection_it_is() {
    let peer = mailbox();
    let gateway = behind_a_balancer(&peer).listener(DOOR).start();
    for (index, header) in [text("192.0.2.7"), binary("192.0.2.8")].iter().enumerate() {
        // The header comes in one packet with the device's octets, or octet by octet.
        let mut pop = if index == 0 {
            through_balancer(gateway.address(), &[header, &b"CAPA\r\n"[..]].concat())
        } else {
            let mut pop = Pop::open_from(BALANCER, gateway.address());
            header.iter().chain(b"CAPA\r\n").for_each(|octet| pop.send(&[*octet]));
            pop
        };
        pop.expect("+OK popgate ready");
        pop.expect("+OK");
        pop.lines();
        // The limit per address counts by the device's address.
        let mut second = through_balancer(gateway.address(), header);
        second.expect("-ERR [SYS/TEMP] too many sessions");
        fetch(pop);
        let session = &gateway.sessions(index + 1)[index];
        assert_eq!(session["peer"], format!("192.0.2.{}:4711", 7 + index), "{session}");
    }
    for header in [text("198.51.100.1"), binary("198.51.100.1")] {
        let mut pop = through_balancer(gateway.address(), &header);
        pop.expect("-ERR [SYS/PERM] not allowed from this address");
        pop.closed();
    }
    // A device that does not come through the load balancer needs no header.
    fetch(Pop::connect(gateway.address()));
}

/// Failures count by the device's address, not by the load balancer's.
#[test]
fn guesses_through_a_load_balancer_are_its_devices() {
    let peer = Peer::start(Answers::of([mail::simple(1)]));
    let gateway = Setup::new(peer.address())
        .own_logins_only()
        .table(&account("eva", "eva"))
        .listener(DOOR)
        .start();
    let try_from = |device: &str| {
        let mut pop = through_balancer(gateway.address(), &text(device));
        pop.expect("+OK");
        let begun = Instant::now();
        let reply = pop.try_log_in("eva", "not-the-password");
        assert!(reply.starts_with("-ERR [AUTH]"), "{reply}");
        begun.elapsed()
    };
    let guesser: Vec<_> = (0..3).map(|_| try_from("192.0.2.7")).collect();
    let honest = try_from("192.0.2.200");
    assert!(honest < guesser[2], "{honest:?} {guesser:?}");
}

#[test]
fn a_load_balancer_asks_whether_the_listener_answers() {
    let peer = mailbox();
    let gateway = behind_a_balancer(&peer).listener(DOOR).start();
    let local = [&b"\r\n\r\n\0\r\nQUIT\n\x20"[..], &[0; 3]].concat();
    for (index, header) in [&local[..], b"PROXY UNKNOWN\r\n"].into_iter().enumerate() {
        let mut pop = through_balancer(gateway.address(), header);
        pop.expect("+OK popgate ready");
        pop.quit();
        let peer = gateway.sessions(index + 1)[index]["peer"].as_str().unwrap().to_owned();
        assert!(peer.starts_with("127.0.0.2:"), "{peer}");
    }
}

#[test]
fn a_load_balancer_without_a_header_is_not_served() {
    let peer = mailbox();
    let gateway = behind_a_balancer(&peer).listener(DOOR).start();
    for octets in [&b"CAPA\r\n"[..], b"\x16\x03\x01\x02\0", b"PROXY TCP9 a b\r\n"] {
        let mut pop = through_balancer(gateway.address(), octets);
        assert_eq!(pop.rest(), b"");
    }
    let mut waiting = through_balancer(gateway.address(), b"PROXY TCP4 192.0.2.7");
    assert_eq!(waiting.rest(), b"", "late");
    let events = gateway.events(
        "connection closed: whoever is in `proxy_protocol_from` must send a PROXY header first",
        4,
    );
    assert!(events[0]["balancer"].as_str().unwrap().starts_with("127.0.0.2:"));
    assert_eq!(events[3]["error"], "no whole PROXY header came in time");
}

#[test]
fn a_header_from_elsewhere_closes_the_connection() {
    let peer = mailbox();
    let gateway = Setup::new(peer.address())
        .listener(DOOR)
        .listener("tls = \"off\"")
        .start();
    let mut sessions = 0;
    for &address in gateway.addresses() {
        for header in [text("192.0.2.7"), binary("192.0.2.7")] {
            let mut pop = Pop::connect(address);
            pop.send(&[&header[..], b"CAPA\r\n"].concat());
            assert!(!String::from_utf8_lossy(&pop.rest()).contains("+OK"));
            sessions += 1;
            let session = &gateway.sessions(sessions)[sessions - 1];
            assert_eq!(session["end"], "proxy-header", "{session}");
            assert!(session["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
        }
    }
}

#[test]
fn the_header_comes_before_tls() {
    let certificates = Certificates::new();
    let peer = mailbox();
    let gateway = behind_a_balancer(&peer)
        .certificates(&certificates)
        .listener(&format!("tls = \"implicit\"\n{DOOR}"))
        .listener(&format!("tls = \"starttls\"\n{DOOR}"))
        .start();
    for (index, header) in [text("192.0.2.7"), binary("192.0.2.7")].iter().enumerate() {
        let mut pop = through_balancer(gateway.addresses()[index], header);
        if index == 1 {
            pop.expect("+OK");
            pop.ok("STLS");
        }
        let mut pop = pop.secure(certificates.client());
        if index == 0 {
            pop.expect("+OK");
        }
        fetch(pop);
        let session = &gateway.sessions(index + 1)[index];
        assert_eq!(session["peer"], "192.0.2.7:4711");
        assert_eq!(session["tls"], "TLSv1_3");
    }
    // At a TLS listener, a header from another address fails, because it is not a ClientHello.
    let mut pop = Pop::open(gateway.address());
    pop.send(&text("192.0.2.7"));
    pop.drain();
    assert_eq!(gateway.sessions(3)[2]["end"], "handshake");
}

#[test]
fn a_gateway_behind_a_load_balancer_is_asked_for_its_health() {
    let peer = mailbox();
    let gateway = Setup::new(peer.address())
        .listener("proxy_protocol_from = [\"127.0.0.0/8\"]")
        .start();
    let text = std::fs::read_to_string(gateway.file()).unwrap();
    let file = gateway.file().with_file_name("health.toml");
    std::fs::write(&file, text.replace("127.0.0.1:0", &gateway.address().to_string())).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_popgate"))
        .args(["health", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// HAProxy, with a header of either version.
#[test]
fn behind_haproxy() {
    let Some(haproxy) = require_program("haproxy") else {
        return;
    };
    let peer = mailbox();
    let gateway = Setup::new(peer.address())
        .listener("proxy_protocol_from = [\"127.0.0.1\"]")
        .start();
    for (index, version) in ["send-proxy", "send-proxy-v2"].into_iter().enumerate() {
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let file = directory.path().join("haproxy.cfg");
        let text = format!(
            "defaults\n mode tcp\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n\
             listen pop3\n bind 127.0.0.1:{port}\n server popgate {} {version} source 127.0.0.1\n",
            gateway.address()
        );
        std::fs::write(&file, text).unwrap();
        let child = Command::new(&haproxy)
            .args(["-db", "-f"])
            .arg(&file)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut haproxy = Process(child);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        assert!(greets(address, &mut haproxy.0), "haproxy does not listen");
        let device = Ipv4Addr::new(127, 0, 0, 77);
        fetch(Pop::connect_from(device, address));
        // The first of every two sessions is the test's, which asked whether HAProxy listens.
        let session = gateway.sessions(2 + 2 * index);
        let is_of_device = |session: &Value| session["peer"].as_str().unwrap().starts_with("127.0.0.77:");
        assert_eq!(
            session.iter().filter(|session| is_of_device(session)).count(),
            1 + index,
            "{session:?}"
        );
    }
}

/// A ticket key is used for new tickets for six hours, and is accepted for six hours more.
#[test]
fn the_keys_of_tickets_change() {
    const HOUR: Duration = Duration::from_secs(3600);
    let certificates = Certificates::new();
    let peer = mailbox();
    let setup = Setup::new(peer.address())
        .certificates(&certificates)
        .listener("tls = \"implicit\"");
    let Some(setup) = setup.movable_clock() else { return };
    let gateway = setup.start();
    let [old, young, other] = [(); 3].map(|()| certificates.client());
    let is_resumed = |device: &Arc<ClientConfig>| {
        let pop = connect(&gateway, 0, device);
        let is_resumed = pop.is_resumed();
        pop.quit();
        is_resumed
    };
    assert!(!is_resumed(&old));
    gateway.pass(HOUR * 7);
    assert!(!is_resumed(&young));
    gateway.pass(HOUR * 14);
    assert!(!is_resumed(&other));
    assert!(is_resumed(&young), "by the key before");
    assert!(!is_resumed(&old), "by no key any more");
    assert!(is_resumed(&old), "by the new key");
}
