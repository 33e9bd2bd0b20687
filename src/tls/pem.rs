//! Certificates and keys in PEM files; errors say in plain words what is wrong with a file.

use std::path::{Path, PathBuf};

use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};
use tokio_rustls::rustls::{self, crypto::CryptoProvider, sign::CertifiedKey};
use x509_parser::x509::X509Version;
use zeroize::Zeroizing;

use crate::{config::Certificate, types::read_file};

/// What is wrong with a certificate, a key or a set of roots.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no `[tls]`.
    #[error("there is no [tls] with `certificate` and `key`")]
    NoCertificate,
    /// Old TLS is configured, but popgate was built without it.
    #[error("popgate was built without old TLS (the cargo feature `legacy-tls`)")]
    NotBuilt,
    /// An error of OpenSSL, in its own words.
    #[error("{0}")]
    Library(String),
    /// A listener asks for client certificates, but no `client_ca` says which are valid.
    #[error("client_certificates needs `client_ca` in [tls]")]
    NoClientCa,
    /// A PEM file could not be read.
    #[error("{}: {source}", .path.display())]
    Pem { path: PathBuf, source: pem::Error },
    /// A file does not contain what it should, such as a certificate in the place of a key.
    #[error("{}: {}", .path.display(), .what)]
    Unsuitable {
        path: PathBuf,
        /// What is wrong with the file, and what to do.
        what: &'static str,
    },
    /// The key belongs to another certificate.
    #[error("{}: is not the key of the certificate in {}: {}", .key.display(), .certificate.display(), .remedy)]
    Mismatch {
        key: PathBuf,
        certificate: PathBuf,
        remedy: &'static str,
    },
    /// The kind of key is not supported, or the certificate cannot be parsed.
    #[error("{}: {source}", .path.display())]
    Rejected { path: PathBuf, source: rustls::Error },
}

/// Reads all certificates of a file. Fails if there is none.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let pem = |source| Error::Pem {
        path: path.into(),
        source,
    };
    let octets = read_file(path).map_err(|error| pem(pem::Error::Io(error)))?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&octets)
        .collect::<Result<_, _>>()
        .map_err(pem)?;
    if certificates.is_empty() {
        Err(unsuitable(path, "certificate"))
    } else {
        Ok(certificates)
    }
}

pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let octets = read_file(path).map(Zeroizing::new).map_err(|source| Error::Pem {
        path: path.into(),
        source: pem::Error::Io(source),
    })?;
    PrivateKeyDer::from_pem_slice(&octets).map_err(|_| unsuitable(path, "private key"))
}

/// The error for a file without a `wanted` in PEM; says in plain words what the file has instead.
pub(super) fn unsuitable(path: &Path, wanted: &'static str) -> Error {
    let octets = Zeroizing::new(read_file(path).unwrap_or_default());
    let has = |part: &str| memchr::memmem::find(&octets, part.as_bytes()).is_some();
    let what = match wanted {
        _ if octets.is_empty() => "is empty",
        // DER begins with the tag of an ASN.1 SEQUENCE.
        _ if octets.starts_with(b"\x30") && !octets.is_ascii() => {
            "is in DER, and popgate reads PEM: openssl converts it (-inform der)"
        }
        "private key" if has("ENCRYPTED") => {
            "the key is encrypted with a passphrase, which nobody could type in: openssl pkey -in KEY -out PLAIN writes one without"
        }
        "private key" if has("BEGIN CERTIFICATE") => {
            "holds a certificate and no private key (expected BEGIN PRIVATE KEY)"
        }
        "certificate" if has("PRIVATE KEY") => "holds a private key and no certificate (expected BEGIN CERTIFICATE)",
        "private key" => "holds no private key (expected BEGIN PRIVATE KEY)",
        _ => "holds no certificate (expected BEGIN CERTIFICATE)",
    };
    Error::Unsuitable {
        path: path.into(),
        what,
    }
}

/// Reads the chain and the key of `files`. Fails if they do not belong together.
pub(super) fn pair(files: &Certificate, provider: &CryptoProvider) -> Result<CertifiedKey, Error> {
    let chain = certificates(&files.certificate)?;
    let key = private_key(&files.key)?;
    let mismatch = || {
        let is_below = chain
            .iter()
            .skip(1)
            .any(|certificate| CertifiedKey::from_der(vec![certificate.clone()], key.clone_key(), provider).is_ok());
        Error::Mismatch {
            key: files.key.clone(),
            certificate: files.certificate.clone(),
            remedy: if is_below {
                "it belongs to one further down in that file, which must come first"
            } else {
                "name the key that the certificate was issued for"
            },
        }
    };
    CertifiedKey::from_der(chain.clone(), key.clone_key(), provider).map_err(|source| match source {
        rustls::Error::InconsistentKeys(_) => mismatch(),
        rustls::Error::InvalidCertificate(_) if is_old(&chain) => Error::Unsuitable {
            path: files.certificate.clone(),
            what: "is an X.509 certificate of version 1, which names no host: have one of version 3 made, with the host as its \
                   subjectAltName",
        },
        source => Error::Rejected {
            path: files.certificate.clone(),
            source,
        },
    })
}

/// Whether the first certificate of `chain` is older than X.509 v3.
fn is_old(chain: &[CertificateDer<'_>]) -> bool {
    let first = chain
        .first()
        .and_then(|der| x509_parser::parse_x509_certificate(der).ok());
    first.is_some_and(|(_, certificate)| certificate.version() != X509Version::V3)
}
