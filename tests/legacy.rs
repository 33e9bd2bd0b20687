//! Old TLS, for which popgate must be built with the feature `legacy-tls`: TLS 1.0 and RSA with CBC suites, to devices and to
//! upstreams.

#![cfg(feature = "legacy-tls")]
#![allow(clippy::unwrap_used)] // a panic is how a test fails

#[allow(dead_code, unused_imports)] // other tests use more of it
#[path = "end_to_end/support/mod.rs"]
mod support;

use std::{
    io::Write,
    net::SocketAddr,
    pin::Pin,
    process::{Command, Stdio},
};

use openssl::ssl::{Ssl, SslContext, SslFiletype, SslMethod, SslVersion};
use support::{
    PASSWORD, answers::Answers, certificates::Certificates, gateway::Setup, mail, peer::Peer, pop::Pop,
    process::Process, require_program,
};

/// What devices of old know: TLS 1.0, and a key exchange by RSA or with elliptic curves, each with CBC.
const OLD: [(&str, &str); 4] = [
    ("-tls1", "AES128-SHA:@SECLEVEL=0"),
    ("-tls1", "ECDHE-RSA-AES128-SHA:@SECLEVEL=0"),
    ("-tls1_1", "AES256-SHA:@SECLEVEL=0"),
    ("-tls1_2", "AES128-SHA256:@SECLEVEL=0"),
];

fn mailbox() -> Peer {
    Peer::start(Answers::of([mail::simple(1), mail::simple(2)]))
}

/// A session of `openssl s_client`: what it printed, and whether there was one.
fn session(address: SocketAddr, options: &[&str]) -> Option<(String, bool)> {
    let openssl = require_program("openssl")?;
    let mut child = Command::new(openssl)
        .args(["s_client", "-connect", &address.to_string(), "-ign_eof", "-crlf"])
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let commands = format!("USER eva\nPASS {PASSWORD}\nSTAT\nQUIT\n");
    // A client whose handshake fails reads nothing.
    let _ = child.stdin.take().unwrap().write_all(commands.as_bytes());
    let output = child.wait_with_output().unwrap();
    Some((
        String::from_utf8_lossy(&output.stdout).into_owned(),
        output.status.success(),
    ))
}

#[test]
fn devices_of_old() {
    let certificates = Certificates::bridge();
    let peer = mailbox();
    let allow = "allow = [\"127.0.0.0/8\"]";
    let gateway = Setup::new(peer.address())
        .certificates(&certificates)
        .listener(&format!("tls = \"legacy-implicit\"\n{allow}"))
        .listener(&format!("tls = \"legacy-starttls\"\nrequire_tls = true\n{allow}"))
        .listener("tls = \"implicit\"")
        .start();
    let mut sessions = 0;
    for (index, way) in [(0, &[][..]), (1, &["-starttls", "pop3"])] {
        for (version, suites) in OLD {
            let address = gateway.addresses()[index];
            let options = [&[version, "-cipher", suites], way].concat();
            let Some((text, is_ok)) = session(address, &options) else {
                return;
            };
            assert!(is_ok && text.contains("\n+OK 2 "), "{options:?}: {text}");
            let suite = suites.split(':').next().unwrap();
            assert!(text.contains(&format!("Cipher is {suite}")), "{text}");
            sessions += 1;
            let version = version.replace("-tls", "TLSv");
            let logged = gateway.sessions(sessions)[sessions - 1]["tls"].clone();
            assert!(logged == version || logged == format!("{version}_0"), "{logged}");
        }
    }
    // rustls stays for everybody else.
    for (version, suites) in OLD {
        let (_, is_ok) = session(gateway.addresses()[2], &[version, "-cipher", suites]).unwrap();
        assert!(!is_ok, "{version} {suites}");
    }
    let warnings = gateway.events(
        "a listener with old TLS: whoever can change what is sent on the way may read passwords",
        2,
    );
    assert_eq!(warnings.len(), 2);
}

/// A newer device is served as well, with the certificate of the host that it asks for.
#[test]
fn newer_devices_at_the_same_door() {
    let (first, second) = (Certificates::new(), Certificates::of_host("localhost"));
    let peer = mailbox();
    let mut setup = Setup::new(peer.address()).listener("tls = \"legacy-implicit\"\nallow = [\"127.0.0.1\"]");
    for (certificates, name) in [(&first, "pop.example.org"), (&second, "localhost")] {
        let (leaf, key) = (certificates.leaf_file(), certificates.key_file());
        setup = setup.table(&format!(
            "[[tls]]\ncertificate = {leaf:?}\nkey = {key:?}\nnames = [{name:?}]"
        ));
    }
    let gateway = setup.start();
    let mut pop = Pop::connect_tls(gateway.address(), second.client());
    assert!(pop.try_log_in("eva", PASSWORD).starts_with("+OK"));
    assert_eq!(pop.retr(2).1, mail::simple(2));
    pop.quit();
    assert_eq!(gateway.sessions(1)[0]["tls"], "TLSv1_3");
    let said = gateway.check();
    assert!(said.contains("has no RSA key"), "{said}");
    assert!(
        said.contains("tls = \"legacy-implicit\": TLS 1.0, TLS 1.1 and old ciphers are broken"),
        "{said}"
    );
}

/// Speaks old TLS in front of an upstream that speaks plain text.
struct OldUpstream {
    address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

impl OldUpstream {
    fn before(peer: &Peer, certificates: &Certificates, version: SslVersion, suites: &str) -> Self {
        let mut context = SslContext::builder(SslMethod::tls_server()).unwrap();
        context
            .set_certificate_file(certificates.leaf_file(), SslFiletype::PEM)
            .unwrap();
        context
            .set_private_key_file(certificates.key_file(), SslFiletype::PEM)
            .unwrap();
        context.set_cipher_list(suites).unwrap();
        context.set_min_proto_version(Some(version)).unwrap();
        context.set_max_proto_version(Some(version)).unwrap();
        let context = context.build();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let upstream = peer.address();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let ssl = Ssl::new(&context).unwrap();
                tokio::spawn(async move {
                    let mut stream = tokio_openssl::SslStream::new(ssl, stream).unwrap();
                    if Pin::new(&mut stream).accept().await.is_ok() {
                        let mut plain = tokio::net::TcpStream::connect(upstream).await.unwrap();
                        let _ = tokio::io::copy_bidirectional(&mut stream, &mut plain).await;
                    }
                });
            }
        });
        Self {
            address,
            _runtime: runtime,
        }
    }
}

#[test]
fn upstreams_of_old() {
    let certificates = Certificates::bridge();
    for (version, suites) in [
        (SslVersion::TLS1, "AES128-SHA:@SECLEVEL=0"),
        (SslVersion::TLS1, "ECDHE-RSA-AES128-SHA:@SECLEVEL=0"),
        (SslVersion::TLS1_1, "AES256-SHA:@SECLEVEL=0"),
        (SslVersion::TLS1_2, "AES128-SHA:@SECLEVEL=0"),
    ] {
        let peer = mailbox();
        let upstream = OldUpstream::before(&peer, &certificates, version, suites);
        for trusted in [
            format!("ca_file = {:?}", certificates.authority_file()),
            format!("fingerprint = {:?}", certificates.fingerprint()),
        ] {
            let setup = Setup::new(upstream.address)
                .upstream_tls("legacy", None)
                .upstream(&trusted);
            let gateway = setup.start();
            let mut pop = Pop::log_in(gateway.address(), "eva");
            assert_eq!(pop.retr(2).1, mail::simple(2));
            pop.quit();
            let warning =
                "an upstream with old TLS: whoever can change what is sent on the way may read passwords and mail";
            assert_eq!(gateway.events(warning, 1)[0]["upstream"], "lab");
        }
        // The usual way there fails, and says what to do.
        let trusted = certificates.authority_file();
        let gateway = Setup::new(upstream.address)
            .upstream_tls("implicit", Some(&trusted))
            .start();
        assert!(
            Pop::connect(gateway.address())
                .try_log_in("eva", PASSWORD)
                .starts_with("-ERR [SYS/PERM]")
        );
        assert!(gateway.check().contains("to \"legacy\""), "{}", gateway.check());
    }
}

/// Old TLS does not make an unknown certificate trusted.
#[test]
fn an_upstream_of_old_that_is_not_trusted() {
    let (shown, other) = (Certificates::bridge(), Certificates::bridge());
    let peer = mailbox();
    let upstream = OldUpstream::before(&peer, &shown, SslVersion::TLS1, "AES128-SHA:@SECLEVEL=0");
    for key in [
        String::new(),
        format!("ca_file = {:?}", other.authority_file()),
        format!("fingerprint = {:?}", other.fingerprint()),
    ] {
        let gateway = Setup::new(upstream.address)
            .upstream_tls("legacy", None)
            .upstream(&key)
            .start();
        assert!(
            Pop::connect(gateway.address())
                .try_log_in("eva", PASSWORD)
                .starts_with("-ERR [SYS/PERM]")
        );
        let advice = gateway.check();
        assert!(advice.contains("fingerprint"), "{advice}");
    }
    assert_eq!(peer.commands(), Vec::<String>::new());
}

#[test]
fn plain_text_and_the_end_in_the_place_of_a_handshake() {
    let certificates = Certificates::bridge();
    let peer = mailbox();
    let trusted = certificates.authority_file();
    let gateway = Setup::new(peer.address())
        .upstream_tls("legacy", Some(&trusted))
        .start();
    let reply = Pop::connect(gateway.address()).try_log_in("eva", PASSWORD);
    assert!(reply.starts_with("-ERR [SYS/PERM]"), "{reply}");
    let error = gateway.events("the upstream failed", 1)[0]["error"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(error.contains("what the server sends is not TLS"), "{error}");
}

/// OpenSSL's own server.
#[test]
fn openssl_as_the_upstream() {
    let Some(openssl) = require_program("openssl") else {
        return;
    };
    let certificates = Certificates::bridge();
    let child = Command::new(openssl)
        .args([
            "s_server",
            "-accept",
            "127.0.0.1:0",
            "-tls1",
            "-cipher",
            "AES128-SHA:@SECLEVEL=0",
            "-cert",
        ])
        .arg(certificates.leaf_file())
        .arg("-key")
        .arg(certificates.key_file())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut server = Process(child);
    let lines = std::io::BufRead::lines(std::io::BufReader::new(server.0.stdout.as_mut().unwrap()));
    let address: SocketAddr = lines
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("ACCEPT ")?.parse().ok())
        .expect("openssl says where it listens");
    // It sends what is written to its standard input.
    let greeting = b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] ready\r\n";
    server.0.stdin.as_mut().unwrap().write_all(greeting).unwrap();
    let gateway = Setup::new(address)
        .upstream_tls("legacy", Some(&certificates.authority_file()))
        .start();
    let said = gateway.check();
    assert!(said.contains("ok, it answers"), "{said}");
    assert!(said.contains("warning: upstream.lab: tls = \"legacy\""), "{said}");
}
