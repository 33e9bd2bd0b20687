//! TLS acceptors and connectors; only this file and its folder name rustls.

mod buffered;
mod handshake;
mod trust;

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwap;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{
        self, ClientConfig, ConfigBuilder, RootCertStore, ServerConfig, WantsVerifier,
        crypto::{CryptoProvider, aws_lc_rs},
    },
};

use x509_parser::{extensions::GeneralName, x509::X509Version};
use zeroize::Zeroizing;

use self::trust::{Named, Trust};
pub use self::{
    buffered::Buffered,
    handshake::{Disagreement, HandshakeError},
};
use crate::config::{Certificate, Fingerprint};

/// Our side of a device's connection.
pub type ServerStream<S> = tokio_rustls::server::TlsStream<S>;
/// Our side of a connection to an upstream.
pub type ClientStream<S> = tokio_rustls::client::TlsStream<Buffered<S>>;

/// What is wrong with a certificate, a key or a set of roots.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A PEM file could not be read.
    #[error("{}: {source}", .path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls_pki_types::pem::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {}", .path.display(), .what)]
    Unsuitable {
        /// The file.
        path: PathBuf,
        /// What it is, and what to do.
        what: &'static str,
    },
    /// The key is of another certificate.
    #[error("{}: is not the key of the certificate in {}", .key.display(), .certificate.display())]
    Mismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// The key is of a kind that is not supported, or the certificate is not one.
    #[error("{path}: {source}")]
    Rejected {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

/// Accepts TLS from devices; reads its certificate again when the files change.
pub struct Acceptor {
    files: Certificate,
    config: ArcSwap<ServerConfig>,
    seen: Mutex<Seen>,
}

struct Seen {
    checked: Instant,
    modified: [Option<SystemTime>; 2],
}

/// How often a handshake may look whether the files changed.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);

impl Acceptor {
    /// Reads certificate and key. Errors name the file.
    pub fn load(files: &Certificate) -> Result<Self, Error> {
        let modified = modified(files);
        Ok(Self {
            config: ArcSwap::new(server_config(files)?),
            files: files.clone(),
            seen: Mutex::new(Seen {
                checked: Instant::now(),
                modified,
            }),
        })
    }

    /// The TLS handshake, server side.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> io::Result<ServerStream<S>> {
        self.reload_if_changed();
        TlsAcceptor::from(self.config.load_full()).accept(stream).await
    }

    fn reload_if_changed(&self) {
        {
            let mut seen = self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if seen.checked.elapsed() < RELOAD_INTERVAL {
                return;
            }
            seen.checked = Instant::now();
            let modified = modified(&self.files);
            if modified == seen.modified {
                return;
            }
            seen.modified = modified;
        }
        // A renewal may be caught half-written: the old pair then serves on, and the next change is tried again.
        match server_config(&self.files) {
            Ok(config) => {
                self.config.store(config);
                tracing::info!(certificate = %self.files.certificate.display(), "certificate reloaded");
            }
            Err(error) => tracing::error!(%error, "certificate not reloaded, the old one stays in use"),
        }
    }
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acceptor")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

fn modified(files: &Certificate) -> [Option<SystemTime>; 2] {
    [&files.certificate, &files.key].map(|path| std::fs::metadata(path).and_then(|m| m.modified()).ok())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|source| Error::Pem {
            path: path.into(),
            source,
        })?;
    if certificates.is_empty() {
        Err(unsuitable(path, "certificate"))
    } else {
        Ok(certificates)
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    match PrivateKeyDer::from_pem_file(path) {
        Ok(key) => Ok(key),
        Err(rustls_pki_types::pem::Error::Io(source)) => Err(Error::Pem {
            path: path.into(),
            source: rustls_pki_types::pem::Error::Io(source),
        }),
        Err(_) => Err(unsuitable(path, "private key")),
    }
}

/// What a file that holds no `wanted` in PEM holds instead, in plain words.
fn unsuitable(path: &Path, wanted: &'static str) -> Error {
    let octets = Zeroizing::new(std::fs::read(path).unwrap_or_default());
    let has = |part: &str| memchr::memmem::find(&octets, part.as_bytes()).is_some();
    let what = match wanted {
        _ if octets.is_empty() => "is empty",
        // ASN.1 begins with a SEQUENCE.
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

/// For whom and how long a certificate is.
#[derive(Debug)]
pub struct Validity {
    /// Its hosts, or its subject.
    pub names: Vec<String>,
    /// Seconds since 1970.
    pub from: i64,
    /// Seconds since 1970.
    pub until: i64,
}

/// Of the first certificate in `path`.
pub fn validity(path: &Path) -> Result<Validity, Error> {
    let chain = certificates(path)?;
    let wrong = || unsuitable(path, "certificate");
    let (_, certificate) =
        x509_parser::parse_x509_certificate(chain.first().ok_or_else(wrong)?).map_err(|_| wrong())?;
    let hosts = certificate.subject_alternative_name().ok().flatten().map(|names| {
        let names = names.value.general_names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(octets) => match *octets {
                [a, b, c, d] => Some(IpAddr::from([*a, *b, *c, *d]).to_string()),
                octets => <[u8; 16]>::try_from(octets)
                    .ok()
                    .map(|octets| IpAddr::from(octets).to_string()),
            },
            _ => None,
        });
        names.collect::<Vec<_>>()
    });
    Ok(Validity {
        names: hosts
            .filter(|names| !names.is_empty())
            .unwrap_or_else(|| vec![certificate.subject().to_string()]),
        from: certificate.validity().not_before.timestamp(),
        until: certificate.validity().not_after.timestamp(),
    })
}

/// Whether the first certificate in `path` is of a version before 3.
fn is_old(path: &Path) -> bool {
    certificates(path).is_ok_and(|chain| {
        let first = chain
            .first()
            .and_then(|der| x509_parser::parse_x509_certificate(der).ok());
        first.is_some_and(|(_, certificate)| certificate.version() != X509Version::V3)
    })
}

fn server_config(files: &Certificate) -> Result<Arc<ServerConfig>, Error> {
    let chain = certificates(&files.certificate)?;
    let key = private_key(&files.key)?;
    let rejected = |source| match source {
        rustls::Error::InconsistentKeys(_) => Error::Mismatch {
            key: files.key.clone(),
            certificate: files.certificate.clone(),
        },
        rustls::Error::InvalidCertificate(_) if is_old(&files.certificate) => Error::Unsuitable {
            path: files.certificate.clone(),
            what: "is an X.509 certificate of version 1, which names no host: have one of version 3 made, with the host as its \
                   subjectAltName",
        },
        source => Error::Rejected {
            path: files.certificate.clone(),
            source,
        },
    };
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(rejected)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(rejected)?;
    Ok(Arc::new(config))
}

/// Connects to servers: trusts the system's roots (Mozilla's where the system has none) and an extra file's.
#[derive(Clone)]
pub struct Connector(Arc<ClientConfig>);

impl Connector {
    /// For any server whose certificate a root has issued for its name. `ca_file`: roots besides the system's.
    pub fn new(ca_file: Option<&Path>) -> Result<Self, Error> {
        let own = own_certificates(ca_file)?;
        let mut roots = system_roots();
        for certificate in own {
            roots.add(certificate).map_err(|source| rejected(ca_file, source))?;
        }
        let builder = client_builder(&provider())?;
        Ok(Self(Arc::new(
            builder.with_root_certificates(roots).with_no_client_auth(),
        )))
    }

    /// For one upstream. A certificate of `ca_file` is a root, and also trusted as it is if the server itself shows it. With
    /// a `fingerprint` only that certificate is trusted.
    pub fn to_upstream(ca_file: Option<&Path>, fingerprint: Option<Fingerprint>) -> Result<Self, Error> {
        let own = own_certificates(ca_file)?;
        let mut roots = system_roots();
        for certificate in &own {
            // A certificate that cannot be a root may still be the server's own, if its key can be read.
            match roots.add(certificate.clone()) {
                Err(source) if trust::public_key(certificate).is_none() => return Err(rejected(ca_file, source)),
                _ => {}
            }
        }
        let named = match fingerprint {
            Some(fingerprint) => Named::Only(fingerprint),
            None => Named::Besides(own),
        };
        let provider = provider();
        let trust = Trust::new(roots, named, &provider)
            .map_err(|error| rejected(ca_file, rustls::Error::General(error.to_string())))?;
        let config = client_builder(&provider)?
            // Dangerous is a verifier that does not verify; see `Trust`.
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(trust))
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }

    /// What an HTTP client takes.
    pub fn client_config(&self) -> ClientConfig {
        ClientConfig::clone(&self.0)
    }

    /// The TLS handshake, client side; the certificate must be valid for `host` (RFC 8314 §3), or be one that the
    /// configuration names.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        host: &str,
        stream: S,
    ) -> Result<ClientStream<S>, HandshakeError> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| HandshakeError::Broken(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        Ok(TlsConnector::from(self.0.clone())
            .connect(name, Buffered::new(stream))
            .await?)
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connector")
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn client_builder(provider: &Arc<CryptoProvider>) -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, Error> {
    ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|source| rejected(None, source))
}

fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

fn own_certificates(ca_file: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, Error> {
    ca_file.map_or_else(|| Ok(Vec::new()), certificates)
}

fn rejected(file: Option<&Path>, source: rustls::Error) -> Error {
    Error::Rejected {
        path: file.unwrap_or(Path::new("TLS")).into(),
        source,
    }
}

#[cfg(test)]
mod tests;
