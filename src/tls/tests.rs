//! Handshakes in memory: which servers a connector trusts, and what it says of the others.

use std::{net::Ipv4Addr, path::PathBuf};

use ::aws_lc_rs::digest::{SHA256, digest};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair, PKCS_ECDSA_P384_SHA384,
    PKCS_ED25519, PKCS_RSA_SHA256, PublicKeyData, SanType, SignatureAlgorithm, date_time_ymd,
};
use rustls_pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig, SupportedProtocolVersion,
        sign::{CertifiedKey, SingleCertAndKey},
        version::{TLS12, TLS13},
    },
};

use super::{trust::public_key, *};
use crate::types::Spoken;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];
const LOOPBACK: &str = "127.0.0.1";

/// A certificate and a key. Only an honest server has the key of its certificate.
struct Shown {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

impl Shown {
    fn leaf(&self) -> &CertificateDer<'static> {
        &self.chain[0]
    }

    fn fingerprint(&self) -> Fingerprint {
        Fingerprint(digest(&SHA256, self.leaf()).as_ref().try_into().unwrap())
    }

    fn config(&self, version: &'static SupportedProtocolVersion) -> Arc<ServerConfig> {
        let provider = provider();
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        let key = provider.key_provider.load_private_key(key).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            // This resolver does not check whether the key belongs to the certificate.
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::new(
                self.chain.clone(),
                key,
            ))));
        Arc::new(config)
    }

    /// Whether `connector` accepts a server at `host` that shows this certificate.
    async fn tried(
        &self,
        connector: &Connector,
        host: &str,
        version: &'static SupportedProtocolVersion,
    ) -> Result<(), HandshakeError> {
        let (ours, theirs) = tokio::io::duplex(4096);
        let acceptor = TlsAcceptor::from(self.config(version));
        let serve = async {
            if let Ok(mut stream) = acceptor.accept(theirs).await {
                stream.write_all(b"hello").await.unwrap();
                stream.shutdown().await.unwrap();
            }
        };
        let ask = async {
            let mut text = String::new();
            connector
                .connect(host, ours)
                .await?
                .read_to_string(&mut text)
                .await
                .unwrap();
            assert_eq!(text, "hello");
            Ok(())
        };
        tokio::join!(serve, ask).1
    }

    /// Asserts that `connector` accepts the server, in both versions of TLS.
    async fn is_trusted(&self, connector: &Connector, host: &str) {
        for version in VERSIONS {
            self.tried(connector, host, version).await.unwrap();
        }
    }

    /// Asserts that `connector` refuses the server, in both versions of TLS. Returns the error text of one of them.
    async fn is_not_trusted(&self, connector: &Connector, host: &str) -> String {
        let mut said = String::new();
        for version in VERSIONS {
            match self.tried(connector, host, version).await {
                Err(HandshakeError::Certificate(distrust)) => said = distrust.to_string(),
                other => panic!("{other:?}"),
            }
        }
        said
    }

    fn self_signed(params: &CertificateParams) -> Self {
        Self::self_signed_by(&rcgen::PKCS_ECDSA_P256_SHA256, params)
    }

    fn self_signed_by(algorithm: &'static SignatureAlgorithm, params: &CertificateParams) -> Self {
        let key = KeyPair::generate_for(algorithm).unwrap();
        Self {
            chain: vec![params.self_signed(&key).unwrap().der().clone()],
            key,
        }
    }
}

/// A certificate like the one that Proton's bridge makes for itself: an authority that is also the server.
fn bridge() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, LOOPBACK);
    params
        .subject_alt_names
        .push(SanType::IpAddress(Ipv4Addr::LOCALHOST.into()));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

/// Certificates that no root has issued.
fn odd() -> Vec<(&'static str, Shown)> {
    let plain = CertificateParams::default();
    let mut expired = bridge();
    expired.not_after = date_time_ymd(1999, 12, 31);
    let mut to_come = bridge();
    to_come.not_before = date_time_ymd(3000, 1, 1);
    let mut strange = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
    strange.set_criticality(true);
    let mut critical = bridge();
    critical.custom_extensions.push(strange);
    let mut first_version = Shown::self_signed(&bridge());
    first_version.chain = vec![version_1(first_version.leaf())];
    vec![
        ("CA:TRUE", Shown::self_signed(&bridge())),
        ("no name at all", Shown::self_signed(&plain)),
        (
            "another name",
            Shown::self_signed(&CertificateParams::new(["nas.local".to_owned()]).unwrap()),
        ),
        ("expired", Shown::self_signed(&expired)),
        ("not valid yet", Shown::self_signed(&to_come)),
        ("a critical extension", Shown::self_signed(&critical)),
        ("version 1", first_version),
        ("RSA", Shown::self_signed_by(&PKCS_RSA_SHA256, &bridge())),
        ("P-384", Shown::self_signed_by(&PKCS_ECDSA_P384_SHA384, &bridge())),
        ("Ed25519", Shown::self_signed_by(&PKCS_ED25519, &bridge())),
    ]
}

/// The same certificate without version and extensions (RFC 5280 §4.1). Its signature is then wrong, but nobody checks
/// it.
fn version_1(certificate: &[u8]) -> CertificateDer<'static> {
    fn parts(mut der: &[u8]) -> Vec<&[u8]> {
        let mut parts = Vec::new();
        while !der.is_empty() {
            let (head, length) = match der[1] {
                short @ 0..=0x7f => (2, usize::from(short)),
                0x81 => (3, usize::from(der[2])),
                _ => (4, usize::from(der[2]) << 8 | usize::from(der[3])),
            };
            let (part, rest) = der.split_at(head + length);
            parts.push(part);
            der = rest;
        }
        parts
    }
    fn content(der: &[u8]) -> &[u8] {
        let head = if der[1] < 0x80 {
            2
        } else {
            2 + usize::from(der[1] & 0x7f)
        };
        &der[head..]
    }
    fn sequence(parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[0x30, 0x82], &length[..], &content].concat()
    }
    let outer = parts(content(certificate));
    let inner = parts(content(outer[0]));
    assert_eq!((inner.len(), inner[0][0], inner[7][0]), (8, 0xa0, 0xa3));
    sequence(&[&sequence(&inner[1..7]), outer[1], outer[2]]).into()
}

/// A PEM file of certificates.
fn file(certificates: &[&CertificateDer<'_>]) -> (TempDir, PathBuf) {
    use base64::prelude::{BASE64_STANDARD, Engine};
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.pem");
    let blocks: Vec<_> = certificates
        .iter()
        .map(|der| {
            let text = BASE64_STANDARD.encode(der);
            format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
        })
        .collect();
    std::fs::write(&path, blocks.concat()).unwrap();
    (directory, path)
}

fn trusting(certificates: &[&CertificateDer<'_>]) -> Connector {
    let (_directory, path) = file(certificates);
    Connector::to_upstream(Some(&path), None).unwrap()
}

#[tokio::test]
async fn a_certificate_named_by_ca_file_is_trusted_as_it_is() {
    let other = Shown::self_signed(&bridge());
    for (kind, shown) in odd() {
        println!("{kind}");
        let connector = trusting(&[other.leaf(), shown.leaf()]);
        shown.is_trusted(&connector, LOOPBACK).await;
        shown.is_trusted(&connector, "imap.example.org").await;
        shown.is_not_trusted(&trusting(&[other.leaf()]), LOOPBACK).await;
    }
}

#[tokio::test]
async fn a_certificate_named_by_its_fingerprint_is_trusted_as_it_is() {
    for (kind, shown) in odd() {
        println!("{kind}");
        let connector = Connector::to_upstream(None, Some(shown.fingerprint())).unwrap();
        shown.is_trusted(&connector, LOOPBACK).await;
        shown.is_trusted(&connector, "imap.example.org").await;
    }
}

#[tokio::test]
async fn beside_a_fingerprint_nothing_else_is_trusted() {
    let (named, other) = (Shown::self_signed(&bridge()), Shown::self_signed(&bridge()));
    let (_directory, path) = file(&[other.leaf()]);
    let connector = Connector::to_upstream(Some(&path), Some(named.fingerprint())).unwrap();
    let said = other.is_not_trusted(&connector, LOOPBACK).await;
    for part in [named.fingerprint(), other.fingerprint()] {
        assert!(said.contains(&part.to_string()), "{said}");
    }
}

/// The health check asks listeners whose certificates are for other names, or for nobody.
#[tokio::test]
async fn a_connector_to_any_server_refuses_no_certificate() {
    let connector = Connector::to_any_server().unwrap();
    for (kind, shown) in odd() {
        println!("{kind}");
        shown.is_trusted(&connector, LOOPBACK).await;
        shown.is_trusted(&connector, "localhost").await;
    }
}

/// Anyone can copy a certificate; only its key proves who owns it.
#[tokio::test]
async fn a_copied_certificate_without_its_key_is_worth_nothing() {
    for (kind, shown) in odd() {
        println!("{kind}");
        let algorithm = shown.key.algorithm();
        let connectors = [
            trusting(&[shown.leaf()]),
            Connector::to_upstream(None, Some(shown.fingerprint())).unwrap(),
        ];
        for key in [
            KeyPair::generate_for(algorithm).unwrap(),
            KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap(),
        ] {
            let thief = Shown {
                chain: shown.chain.clone(),
                key,
            };
            for connector in &connectors {
                for version in VERSIONS {
                    let outcome = thief.tried(connector, LOOPBACK, version).await;
                    assert!(outcome.is_err(), "{kind}, {version:?}");
                }
            }
        }
        // If the key is of the same kind, the error says why.
        let thief = Shown {
            chain: shown.chain.clone(),
            key: KeyPair::generate_for(algorithm).unwrap(),
        };
        let said = thief.is_not_trusted(&connectors[0], LOOPBACK).await;
        assert!(said.contains("could not prove"), "{said}");
    }
}

#[tokio::test]
async fn an_authority_of_ones_own_vouches_for_names() {
    let key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, "an authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_certificate = authority.self_signed(&key).unwrap().der().clone();
    let issuer = Issuer::new(authority, key);
    let issued = |names: &[&str]| {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        Shown {
            chain: vec![leaf.der().clone()],
            key,
        }
    };
    let connector = trusting(&[&authority_certificate]);
    let shown = issued(&["imap.example.org"]);
    shown.is_trusted(&connector, "imap.example.org").await;
    let said = shown.is_not_trusted(&connector, "imap.example.com").await;
    assert!(said.contains("imap.example.org"), "{said}");
    assert!(said.contains(&shown.fingerprint().to_string()), "{said}");

    let stranger = Shown::self_signed(&CertificateParams::new(["imap.example.org".to_owned()]).unwrap());
    let said = stranger.is_not_trusted(&connector, "imap.example.org").await;
    assert!(said.contains("issued by nobody"), "{said}");
}

/// The connector to a provider's token server trusts roots and names only.
#[tokio::test]
async fn an_ordinary_connector_names_no_certificate() {
    let shown = Shown::self_signed(&bridge());
    let (_directory, path) = file(&[shown.leaf()]);
    shown
        .is_not_trusted(&Connector::new(Some(&path)).unwrap(), LOOPBACK)
        .await;
}

#[test]
fn a_file_of_something_else_is_an_error() {
    let (_directory, path) = file(&[&CertificateDer::from(&b"\x30\x03\x02\x01\x01"[..])]);
    for error in [
        Connector::new(Some(&path)).err(),
        Connector::to_upstream(Some(&path), None).err(),
    ] {
        let text = error.unwrap().to_string();
        assert!(text.contains("ca.pem"), "{text}");
    }
}

#[test]
fn the_key_of_a_certificate_is_found() {
    for (kind, shown) in odd() {
        let key = public_key(shown.leaf()).unwrap();
        assert_eq!(key.as_ref(), shown.key.subject_public_key_info(), "{kind}");
        for end in 0..shown.leaf().len() {
            assert!(public_key(&shown.leaf()[..end]).is_none(), "{kind} {end}");
        }
    }
}

proptest::proptest! {
    #[test]
    fn whatever_is_no_certificate_has_no_key_or_one_inside(octets in proptest::collection::vec(0_u8.., 0..200)) {
        if let Some(key) = public_key(&octets) {
            let key = key.as_ref();
            proptest::prop_assert!(memchr::memmem::find(&octets, key).is_some());
        }
    }
}

/// The error if a server sends these octets instead of a handshake, then closes.
async fn answered(octets: &[u8]) -> HandshakeError {
    let (ours, mut theirs) = tokio::io::duplex(4096);
    let serve = async {
        theirs.read_exact(&mut [0; 5]).await.unwrap();
        theirs.write_all(octets).await.unwrap();
        theirs.shutdown().await.unwrap();
        // Wait until the client side has closed.
        tokio::io::copy(&mut theirs, &mut tokio::io::sink()).await.unwrap();
    };
    let connector = Connector::to_upstream(None, None).unwrap();
    let ask = async { connector.connect("imap.example.org", ours).await.map(drop).unwrap_err() };
    tokio::join!(serve, ask).1
}

#[tokio::test]
async fn plain_text_where_tls_is_expected() {
    for (text, expected) in [
        ("* OK IMAP4rev1 ready\r\n", Spoken::Imap),
        ("+OK POP3 ready\r\n", Spoken::Pop3),
        ("HTTP/1.1 400 Bad Request\r\n\r\n", Spoken::Http),
        ("SSH-2.0-x\r\n", Spoken::Ssh),
        ("whatever\r\n", Spoken::Unknown),
    ] {
        let error = answered(text.as_bytes()).await;
        assert!(
            matches!(error, HandshakeError::Disagreement(Disagreement::NotTls(spoken)) if spoken == expected),
            "{text}: {error:?}"
        );
    }
}

#[tokio::test]
async fn alerts_that_last_and_alerts_that_pass() {
    let alert = |description: u8| [0x15, 3, 3, 0, 2, 2, description];
    for (description, expected) in [
        (40, "HandshakeFailure"),
        (70, "ProtocolVersion"),
        (71, "InsufficientSecurity"),
        (116, "CertificateRequired"),
        (112, "unrecognized_name"),
        (47, "IllegalParameter"),
    ] {
        let error = answered(&alert(description)).await;
        assert!(matches!(error, HandshakeError::Disagreement(_)), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    for description in [80, 90, 0, 20, 21] {
        let error = answered(&alert(description)).await;
        assert!(matches!(error, HandshakeError::Broken(_)), "{description}: {error:?}");
    }
    let error = answered(b"").await;
    assert!(matches!(error, HandshakeError::Broken(_)), "{error:?}");
}

/// A ServerHello (RFC 5246 §7.4.1.3) with an old version and cipher suite.
#[tokio::test]
async fn servers_of_another_age() {
    for (minor, suite) in [(1, [0, 0x2f]), (2, [0, 0x2f]), (3, [0, 0x2f]), (3, [0xc0, 0x13])] {
        let hello = [&[3, minor][..], &[7; 32], &[0], &suite, &[0]].concat();
        let length = u8::try_from(hello.len()).unwrap();
        let octets = [&[0x16, 3, minor, 0, length + 4, 2, 0, 0, length], &hello[..]].concat();
        let error = answered(&octets).await;
        assert!(
            matches!(error, HandshakeError::Disagreement(_)),
            "{minor} {suite:?}: {error:?}"
        );
    }
}
