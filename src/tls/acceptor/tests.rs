//! Handshakes in memory: which certificates devices are shown, and which they must show.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, HandshakeKind, SupportedProtocolVersion,
        version::{TLS12, TLS13},
    },
};

use super::*;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// A certificate authority for servers and devices.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    directory: TempDir,
}

/// A certificate with its key.
type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "an authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), certificate.pem()).unwrap();
        Self {
            certificate: certificate.der().clone(),
            issuer: Issuer::new(params, key),
            directory,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn issue(&self, names: &[&str]) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).unwrap();
        params.distinguished_name.push(DnType::CommonName, names[0].clone());
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// Writes a `[[tls]]` with a certificate for `names`.
    fn files(&self, names: &[&str]) -> Certificate {
        let (certificate, key) = self.issue(names);
        let files = Certificate {
            certificate: self.file(&format!("{}.pem", names[0])),
            key: self.file(&format!("{}.key", names[0])),
            names: None,
            client_ca: Some(self.file("ca.pem")),
        };
        std::fs::write(&files.certificate, certificate.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }

    fn device(&self, name: &str) -> Identity {
        let (certificate, key) = self.issue(&[name]);
        (
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
    }

    /// The TLS configuration of a device, with its own store of sessions.
    fn client(&self, version: &'static SupportedProtocolVersion, shows: Option<Identity>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match shows {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
            None => builder.with_no_client_auth(),
        })
    }
}

/// What the device saw of the handshake.
#[derive(Debug)]
struct Seen {
    certificate: CertificateDer<'static>,
    is_resumed: bool,
}

/// Connects a device to `name`; returns what each side saw.
async fn visit(acceptor: &Acceptor, device: &Arc<ClientConfig>, name: &str) -> io::Result<(Seen, Agreed)> {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let serve = async {
        let (mut stream, agreed) = acceptor.accept(theirs).await.map_err(io::Error::other)?;
        stream.write_all(b"+").await?;
        stream.shutdown().await?;
        io::Result::Ok(agreed)
    };
    let ask = async {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut stream = TlsConnector::from(device.clone()).connect(name, ours).await?;
        // The tickets of TLS 1.3 come before the first octet of data.
        stream.read_u8().await?;
        let session = stream.get_ref().1;
        io::Result::Ok(Seen {
            certificate: session.peer_certificates().unwrap()[0].clone().into_owned(),
            is_resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
        })
    };
    let (agreed, seen) = tokio::join!(serve, ask);
    Ok((seen?, agreed?))
}

#[tokio::test]
async fn each_host_has_its_certificate_and_others_get_the_first() {
    let authority = Authority::new();
    let (first, second) = (
        ["one.example.org", "pop.example.com"],
        ["*.example.org", "two.example.net"],
    );
    let mut named = authority.files(&["pop.example.com", "named.example.net"]);
    named.names = Some(vec!["named.example.net".into()]);
    let files = [authority.files(&first), authority.files(&second), named];
    let acceptor = Acceptor::load(&files, ClientCertificates::Off, None).unwrap();
    let leaf = |files: &Certificate| pem::certificates(&files.certificate).unwrap().remove(0);
    for (name, files) in [
        ("one.example.org", &files[0]),
        ("two.example.org", &files[1]),
        ("Two.EXAMPLE.net", &files[1]),
        ("named.example.net", &files[2]),
        // `names` replaces the names in the certificate.
        ("pop.example.com", &files[0]),
    ] {
        for version in VERSIONS {
            let (seen, agreed) = visit(&acceptor, &authority.client(version, None), name).await.unwrap();
            assert_eq!(seen.certificate, leaf(files), "{name}");
            assert_eq!(agreed.client, None);
            assert!(agreed.version.starts_with("TLSv1_"));
        }
    }
    for unknown in ["127.0.0.1", "example.org", "a.b.example.org"] {
        let Library::Rustls(hosts) = &acceptor.0 else { panic!() };
        let shown = hosts.current();
        assert!(
            Arc::ptr_eq(shown.by_name(Some(unknown)), shown.by_name(None)),
            "{unknown}"
        );
    }
}

#[tokio::test]
async fn two_hundred_devices_resume_their_sessions() {
    const DEVICES: usize = 200;
    let authority = Authority::new();
    let acceptor = Acceptor::load(&[authority.files(&["localhost"])], ClientCertificates::Off, None).unwrap();
    for version in VERSIONS {
        let devices: Vec<_> = (0..DEVICES).map(|_| authority.client(version, None)).collect();
        for round in 0..3 {
            let mut resumed = 0;
            for device in &devices {
                let (seen, _) = visit(&acceptor, device, "localhost").await.unwrap();
                resumed += usize::from(seen.is_resumed);
            }
            assert_eq!(
                resumed,
                if round == 0 { 0 } else { DEVICES },
                "{version:?}, round {round}"
            );
        }
    }
}

#[tokio::test]
async fn gateways_with_the_same_secret_resume_each_others_sessions() {
    let authority = Authority::new();
    let files = [authority.files(&["localhost"])];
    let load = |secret: &str| Acceptor::load(&files, ClientCertificates::Off, Some(&Secret::from(secret))).unwrap();
    let (one, other, stranger) = (load("secret"), load("secret"), load("another secret"));
    for version in VERSIONS {
        for (next, expected) in [(&other, true), (&stranger, false)] {
            let device = authority.client(version, None);
            visit(&one, &device, "localhost").await.unwrap();
            let (seen, _) = visit(next, &device, "localhost").await.unwrap();
            assert_eq!(seen.is_resumed, expected, "{version:?}");
        }
    }
}

#[tokio::test]
async fn certificates_of_devices() {
    let (ours, other) = (Authority::new(), Authority::new());
    let files = [ours.files(&["localhost"])];
    for version in VERSIONS {
        let none = || ours.client(version, None);
        let good = || ours.client(version, Some(ours.device("tickets.example.org")));
        let foreign = || ours.client(version, Some(other.device("tickets.example.org")));
        for (clients, [of_none, of_good, of_foreign]) in [
            (ClientCertificates::Off, [Some(None), Some(None), Some(None)]),
            (
                ClientCertificates::Optional,
                [Some(None), Some(Some("CN=tickets.example.org")), None],
            ),
            (
                ClientCertificates::Required,
                [None, Some(Some("CN=tickets.example.org")), None],
            ),
        ] {
            let acceptor = Acceptor::load(&files, clients, None).unwrap();
            for (device, expected) in [(none(), of_none), (good(), of_good), (foreign(), of_foreign)] {
                // The second connection resumes the session by a ticket.
                for _ in 0..2 {
                    let outcome = visit(&acceptor, &device, "localhost").await;
                    let client = outcome.as_ref().ok().map(|(_, agreed)| agreed.client.as_deref());
                    assert_eq!(client, expected, "{clients} {version:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_ticket_opens_no_door_that_asks_for_more() {
    let authority = Authority::new();
    let files = [authority.files(&["localhost"])];
    let secret = Secret::from("a secret");
    for shared in [None, Some(&secret)] {
        let open = Acceptor::load(&files, ClientCertificates::Optional, shared).unwrap();
        let guarded = Acceptor::load(&files, ClientCertificates::Required, shared).unwrap();
        for version in VERSIONS {
            let device = authority.client(version, None);
            visit(&open, &device, "localhost").await.unwrap();
            assert!(visit(&open, &device, "localhost").await.unwrap().0.is_resumed);
            assert!(visit(&guarded, &device, "localhost").await.is_err());
        }
    }
}

#[test]
fn what_is_missing_is_told() {
    let authority = Authority::new();
    let mut files = authority.files(&["localhost"]);
    let error = Acceptor::load(&[], ClientCertificates::Off, None).unwrap_err();
    assert!(matches!(error, Error::NoCertificate));
    files.client_ca = None;
    let error = Acceptor::load(&[files.clone()], ClientCertificates::Required, None).unwrap_err();
    assert!(matches!(error, Error::NoClientCa));
    files.client_ca = Some(files.key.clone());
    let error = Acceptor::load(&[files], ClientCertificates::Optional, None).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("localhost.key: holds a private key and no certificate (expected BEGIN CERTIFICATE)")
    );
}

#[test]
fn a_key_of_another_certificate_of_the_chain() {
    let authority = Authority::new();
    let (files, other) = (authority.files(&["localhost"]), authority.files(&["other"]));
    let read = |files: &Certificate| std::fs::read_to_string(&files.certificate).unwrap();
    std::fs::write(&files.certificate, read(&other) + &read(&files)).unwrap();
    let error = Acceptor::load(&[files], ClientCertificates::Off, None)
        .unwrap_err()
        .to_string();
    assert!(
        error.ends_with("it belongs to one further down in that file, which must come first"),
        "{error}"
    );
}
