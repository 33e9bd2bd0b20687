//! What a certificate says: its hosts, its issuer and how long it is valid.

use std::net::IpAddr;

use chrono::DateTime;
use x509_parser::extensions::GeneralName;

/// rsaEncryption (RFC 3279 §2.3.1).
const RSA: &str = "1.2.840.113549.1.1.1";

/// What a certificate says of itself, as far as popgate needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// The hosts of the certificate, or its subject if it names no hosts.
    pub names: Vec<String>,
    /// The distinguished name of the issuer.
    pub issuer: String,
    /// From when on the certificate is valid, in seconds since 1970.
    pub from: i64,
    /// When the certificate expires, in seconds since 1970.
    pub until: i64,
    /// Whether the certificate has an RSA key, the only kind that old devices know.
    pub has_rsa_key: bool,
}

impl Leaf {
    /// Parses a certificate in DER; `None` if that is not possible.
    pub(super) fn of(der: &[u8]) -> Option<Self> {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
        let hosts = certificate.subject_alternative_name().ok().flatten();
        let hosts: Vec<String> = hosts
            .iter()
            .flat_map(|names| names.value.general_names.iter().filter_map(host))
            .collect();
        Some(Self {
            names: if hosts.is_empty() {
                vec![certificate.subject().to_string()]
            } else {
                hosts
            },
            issuer: certificate.issuer().to_string(),
            from: certificate.validity().not_before.timestamp(),
            until: certificate.validity().not_after.timestamp(),
            has_rsa_key: certificate.public_key().algorithm.algorithm.to_id_string() == RSA,
        })
    }

    /// The day on which the certificate expires, UTC.
    pub fn end(&self) -> String {
        day(self.until)
    }
}

fn host(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(octets) => match *octets {
            [a, b, c, d] => Some(IpAddr::from([*a, *b, *c, *d]).to_string()),
            octets => <[u8; 16]>::try_from(octets)
                .ok()
                .map(|octets| IpAddr::from(octets).to_string()),
        },
        _ => None,
    }
}

/// The day (UTC) of `time`, in seconds since 1970.
pub(super) fn day(time: i64) -> String {
    DateTime::from_timestamp(time, 0)
        .unwrap_or_default()
        .date_naive()
        .to_string()
}

/// The outcome of a handshake with a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreement {
    /// The TLS version, such as `TLSv1_3`.
    pub version: String,
    /// What the server's certificate says; `None` if it cannot be read.
    pub leaf: Option<Leaf>,
    /// How many certificates the server has sent.
    pub chain: usize,
}

impl Agreement {
    pub(super) fn new(version: String, leaf: Option<&[u8]>, chain: usize) -> Self {
        Self {
            version,
            leaf: leaf.and_then(Leaf::of),
            chain,
        }
    }
}
