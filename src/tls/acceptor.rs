//! Accepts TLS from devices.

use std::{fmt, io, path::Path, sync::Arc};

use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{
    LazyConfigAcceptor,
    rustls::{
        self, RootCertStore, ServerConfig,
        crypto::aws_lc_rs::Ticketer,
        server::{WebPkiClientVerifier, danger::ClientCertVerifier},
        sign::SingleCertAndKey,
    },
};

use tokio_util::either::Either;

use super::{
    ServerStream,
    handshake::device_words,
    hosts::Hosts,
    legacy,
    pem::{self, Error},
    provider, rejected,
    tickets::{Demands, SharedTickets},
};
use crate::config::{Certificate, ClientCertificates, Listener, Secret};

/// Accepts TLS from devices, with the certificate of the host that a device asks for (SNI). Reads certificates again
/// when their files change.
pub struct Acceptor(Library);

/// The library that speaks TLS with the devices of an acceptor.
enum Library {
    Rustls(Hosts<Arc<ServerConfig>>),
    /// OpenSSL, for old devices.
    OpenSsl(legacy::Acceptor),
}

impl Acceptor {
    /// Reads certificates, their keys, and the roots that `clients` needs. Errors name the file.
    ///
    /// `shared`: the secret of all gateways that open each other's session tickets. Without it, only this acceptor
    /// opens its tickets.
    pub fn load(files: &[Certificate], clients: ClientCertificates, shared: Option<&Secret>) -> Result<Self, Error> {
        let shared = shared.cloned();
        let hosts = Hosts::load(files, move |files| server_config(files, clients, shared.as_ref()))?;
        Ok(Self(Library::Rustls(hosts)))
    }

    /// Makes the acceptor of `listener`. One for old devices needs the feature `legacy-tls`. It asks them for no
    /// certificates, and they can resume their sessions at this acceptor only.
    pub fn for_listener(files: &[Certificate], listener: &Listener, shared: Option<&Secret>) -> Result<Self, Error> {
        if listener.tls.is_legacy() {
            legacy::Acceptor::load(files).map(Library::OpenSsl).map(Self)
        } else {
            Self::load(files, listener.client_certificates, shared)
        }
    }

    /// Does the TLS handshake as the server.
    pub async fn accept<S>(&self, stream: S) -> Result<(ServerStream<S>, Agreed), AcceptError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let hosts = match &self.0 {
            Library::Rustls(hosts) => hosts,
            Library::OpenSsl(legacy) => {
                let (stream, agreed) = legacy.accept(stream).await?;
                return Ok((Either::Right(stream), agreed));
            }
        };
        let hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream);
        let hello = hello.await.map_err(AcceptError::before_hello)?;
        let config = hosts.current().by_name(hello.client_hello().server_name()).clone();
        let stream = hello.into_stream(config).await?;
        let session = stream.get_ref().1;
        let agreed = Agreed {
            version: session
                .protocol_version()
                .map_or_else(String::new, |version| format!("{version:?}")),
            client: session.peer_certificates().and_then(|chain| subject(chain.first()?)),
        };
        Ok((Either::Left(stream), agreed))
    }
}

/// Why the handshake with a device failed.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The device closed or lost the connection before its ClientHello. It may only have checked whether the port is
    /// open.
    #[error("the device closed the connection before the TLS handshake")]
    Silent,
    /// The handshake failed, for this reason.
    #[error("{0}")]
    Failed(String),
}

impl AcceptError {
    /// The error of a device that sent no ClientHello, or one that rustls does not understand.
    fn before_hello(error: io::Error) -> Self {
        match error.get_ref() {
            Some(inner) if inner.is::<rustls::Error>() => error.into(),
            _ => Self::Silent,
        }
    }
}

impl From<io::Error> for AcceptError {
    fn from(error: io::Error) -> Self {
        Self::Failed(device_words(&error))
    }
}

/// What both sides agreed on in the handshake.
#[derive(Debug)]
pub struct Agreed {
    /// The version of TLS, for logs.
    pub version: String,
    /// The subject of the device's certificate, if the device showed one.
    pub client: Option<String>,
}

fn subject(certificate: &[u8]) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(certificate.subject().to_string())
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Acceptor")
    }
}

fn server_config(
    files: &Certificate,
    clients: ClientCertificates,
    shared: Option<&Secret>,
) -> Result<Arc<ServerConfig>, Error> {
    let provider = provider();
    let pair = pem::pair(files, &provider)?;
    let rejected = |source| rejected(Some(&files.certificate), source);
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(rejected)?;
    let mut demands = Demands::of(clients, &pair.cert);
    let builder = match (clients, &files.client_ca) {
        (ClientCertificates::Off, _) => builder.with_no_client_auth(),
        (ClientCertificates::Optional | ClientCertificates::Required, Some(path)) => {
            let roots = pem::certificates(path)?;
            demands.add(&roots);
            builder.with_client_cert_verifier(client_verifier(path, roots, clients)?)
        }
        (ClientCertificates::Optional | ClientCertificates::Required, None) => return Err(Error::NoClientCa),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    // A ticket of one listener is not valid at another that demands more.
    config.ticketer = match shared {
        Some(secret) => Arc::new(SharedTickets::new(secret, demands)),
        None => Ticketer::new().map_err(rejected)?,
    };
    Ok(Arc::new(config))
}

fn client_verifier(
    path: &Path,
    certificates: Vec<CertificateDer<'static>>,
    clients: ClientCertificates,
) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate).map_err(|source| rejected(Some(path), source))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let builder = match clients {
        ClientCertificates::Required => builder,
        ClientCertificates::Optional | ClientCertificates::Off => builder.allow_unauthenticated(),
    };
    builder
        .build()
        .map_err(|error| rejected(Some(path), rustls::Error::General(error.to_string())))
}

#[cfg(test)]
mod tests;
