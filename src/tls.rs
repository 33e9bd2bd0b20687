//! TLS acceptors and connectors; only this file and its folder name rustls.

mod acceptor;
mod buffered;
mod handshake;
mod hosts;
mod leaf;
#[cfg_attr(not(feature = "legacy-tls"), path = "tls/legacy_absent.rs")]
mod legacy;
mod pem;
mod tickets;
mod trust;
mod validity;

use std::{io, path::Path, sync::Arc};

use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        self, ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier,
        crypto::{CryptoProvider, aws_lc_rs},
    },
};

use tokio_util::either::Either;

use self::trust::{Pinned, Trust};
pub(crate) use self::{
    acceptor::{AcceptError, Acceptor, Agreed},
    buffered::Buffered,
    handshake::{Disagreement, Distrust, Flaw, HandshakeError},
    leaf::Agreement,
    pem::Error,
    validity::{Expiry, Validity},
};
use crate::config::Fingerprint;

/// Our side of a device's connection: by rustls, or by OpenSSL for old devices.
pub(crate) type ServerStream<S> = Either<tokio_rustls::server::TlsStream<S>, legacy::Stream<S>>;
/// Our side of a connection to an upstream: by rustls, or by OpenSSL for old servers.
pub(crate) type ClientStream<S> = Either<tokio_rustls::client::TlsStream<Buffered<S>>, legacy::Stream<Buffered<S>>>;

/// The transport under the TLS stream of a device.
pub(crate) fn under_device<S>(stream: &mut ServerStream<S>) -> &mut S {
    match stream {
        Either::Left(stream) => stream.get_mut().0,
        Either::Right(stream) => legacy::transport_mut(stream),
    }
}

/// The transport under the TLS stream of an upstream.
pub(crate) fn under_upstream<S>(stream: &ClientStream<S>) -> &S {
    match stream {
        Either::Left(stream) => stream.get_ref().0.get_ref(),
        Either::Right(stream) => legacy::transport(stream).get_ref(),
    }
}

/// The outcome of the handshake with an upstream: TLS version and certificate.
pub(crate) fn agreement<S>(stream: &ClientStream<S>) -> Agreement {
    match stream {
        Either::Left(stream) => {
            let connection = stream.get_ref().1;
            let version = connection.protocol_version().and_then(|version| version.as_str());
            let chain = connection.peer_certificates().unwrap_or_default();
            let leaf = chain.first().map(AsRef::as_ref);
            Agreement::new(version.unwrap_or("TLS").to_owned(), leaf, chain.len())
        }
        Either::Right(stream) => legacy::agreement(stream),
    }
}

/// Connects to TLS servers. Trusts the system's roots (Mozilla's if the system has none) and those of an extra file.
#[derive(Clone)]
pub(crate) struct Connector {
    config: Arc<ClientConfig>,
    /// Takes the place of rustls if the upstream has old TLS.
    legacy: Option<Arc<legacy::Connector>>,
}

impl Connector {
    /// A connector to any server whose certificate a root has issued for its name. `ca_file`: more roots besides the
    /// system's.
    pub(crate) fn new(ca_file: Option<&Path>) -> Result<Self, Error> {
        let own = own_certificates(ca_file)?;
        let mut roots = system_roots();
        for certificate in own {
            roots.add(certificate).map_err(|source| rejected(ca_file, source))?;
        }
        let builder = client_builder(&provider())?;
        Ok(Self::from(builder.with_root_certificates(roots).with_no_client_auth()))
    }

    /// A connector to one upstream. A certificate in `ca_file` is a root; it is also trusted as it is if the server
    /// itself shows it. With a `fingerprint`, only the certificate with that fingerprint is trusted.
    pub(crate) fn to_upstream(ca_file: Option<&Path>, fingerprint: Option<Fingerprint>) -> Result<Self, Error> {
        Self::trusting(trust(ca_file, fingerprint)?)
    }

    /// Like [`Self::to_upstream`], for an upstream with old TLS. Fails if popgate was built without the feature
    /// `legacy-tls`.
    pub(crate) fn to_legacy_upstream(ca_file: Option<&Path>, fingerprint: Option<Fingerprint>) -> Result<Self, Error> {
        let trust = trust(ca_file, fingerprint)?;
        let legacy = legacy::Connector::new(trust.clone())?;
        Ok(Self {
            legacy: Some(Arc::new(legacy)),
            ..Self::trusting(trust)?
        })
    }

    /// A connector to any server, whichever certificate it shows: for connections on which nothing secret is sent.
    pub(crate) fn to_any_server() -> Result<Self, Error> {
        Self::trusting(verifier(system_roots(), Pinned::Any, None)?)
    }

    fn trusting(trust: Arc<Trust>) -> Result<Self, Error> {
        let config = client_builder(&provider())?
            // rustls calls every custom verifier dangerous, because it might not verify; see `Trust`.
            .dangerous()
            .with_custom_certificate_verifier(trust)
            .with_no_client_auth();
        Ok(Self::from(config))
    }

    /// The configuration in the form that an HTTP client takes.
    pub(crate) fn client_config(&self) -> ClientConfig {
        ClientConfig::clone(&self.config)
    }

    /// Does the TLS handshake as the client. The certificate must be valid for `host` (RFC 8314 §3), or be one that the
    /// configuration names.
    pub(crate) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        host: &str,
        stream: S,
    ) -> Result<ClientStream<S>, HandshakeError> {
        if let Some(legacy) = &self.legacy {
            return legacy.connect(host, stream).await.map(Either::Right);
        }
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| HandshakeError::Broken(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let connector = TlsConnector::from(self.config.clone());
        match connector.connect(name, Buffered::new(stream)).into_fallible().await {
            Ok(stream) => Ok(Either::Left(stream)),
            Err((error, stream)) => Err(HandshakeError::of(error, stream.spoken())),
        }
    }
}

impl From<ClientConfig> for Connector {
    fn from(config: ClientConfig) -> Self {
        Self {
            config: Arc::new(config),
            legacy: None,
        }
    }
}

/// Reads which servers an upstream's connector trusts.
fn trust(ca_file: Option<&Path>, fingerprint: Option<Fingerprint>) -> Result<Arc<Trust>, Error> {
    let own = own_certificates(ca_file)?;
    let mut roots = system_roots();
    for certificate in &own {
        // A certificate that cannot be a root may still be the server's own, if its key can be read.
        match roots.add(certificate.clone()) {
            Err(source) if trust::public_key(certificate).is_none() => return Err(rejected(ca_file, source)),
            _ => {}
        }
    }
    let pinned = match fingerprint {
        Some(fingerprint) => Pinned::Only(fingerprint),
        None => Pinned::Besides(own),
    };
    verifier(roots, pinned, ca_file)
}

fn verifier(roots: RootCertStore, pinned: Pinned, ca_file: Option<&Path>) -> Result<Arc<Trust>, Error> {
    let trust = Trust::new(roots, pinned, &provider());
    trust
        .map(Arc::new)
        .map_err(|error| rejected(ca_file, rustls::Error::General(error.to_string())))
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
    ca_file.map_or_else(|| Ok(Vec::new()), pem::certificates)
}

fn rejected(file: Option<&Path>, source: rustls::Error) -> Error {
    Error::Rejected {
        path: file.unwrap_or(Path::new("TLS")).into(),
        source,
    }
}

#[cfg(test)]
mod tests;
