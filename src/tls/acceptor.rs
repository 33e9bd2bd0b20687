//! Accepts TLS from devices.

use std::{fmt, io, path::Path, sync::Arc};

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
};
use crate::config::{Certificate, ClientCertificates, Listener};

/// Accepts TLS from devices, with the certificate of the host that a device asks for; reads certificates again when their
/// files change.
pub struct Acceptor(Library);

/// Which library speaks TLS.
enum Library {
    Rustls(Hosts<Arc<ServerConfig>>),
    /// For old devices.
    OpenSsl(legacy::Acceptor),
}

impl Acceptor {
    /// Reads certificates and keys, and with them the roots of `clients`. Errors name the file.
    pub fn load(files: &[Certificate], clients: ClientCertificates) -> Result<Self, Error> {
        let hosts = Hosts::load(files, move |files| server_config(files, clients))?;
        Ok(Self(Library::Rustls(hosts)))
    }

    /// The same for `listener`. Old devices are not asked for certificates; their listeners need the feature `legacy-tls`.
    pub fn for_listener(files: &[Certificate], listener: &Listener) -> Result<Self, Error> {
        if listener.tls.is_legacy() {
            legacy::Acceptor::load(files).map(Library::OpenSsl).map(Self)
        } else {
            Self::load(files, listener.client_certificates)
        }
    }

    /// The TLS handshake, server side. If it fails the error says why in words.
    pub async fn accept<S>(&self, stream: S) -> io::Result<(ServerStream<S>, Agreed)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let accepted = self.shake_hands(stream).await;
        accepted.map_err(|error| io::Error::new(error.kind(), device_words(&error)))
    }

    async fn shake_hands<S>(&self, stream: S) -> io::Result<(ServerStream<S>, Agreed)>
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
        let hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await?;
        let config = hosts.shown().by_name(hello.client_hello().server_name()).clone();
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

/// What both sides have agreed on in a handshake.
#[derive(Debug)]
pub struct Agreed {
    /// The version of TLS, for logs.
    pub version: String,
    /// The subject of the device's certificate, if the device has shown one.
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

fn server_config(files: &Certificate, clients: ClientCertificates) -> Result<Arc<ServerConfig>, Error> {
    let provider = provider();
    let pair = pem::pair(files, &provider)?;
    let rejected = |source| rejected(Some(&files.certificate), source);
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(rejected)?;
    let builder = match (clients, &files.client_ca) {
        (ClientCertificates::Off, _) => builder.with_no_client_auth(),
        (ClientCertificates::Optional | ClientCertificates::Required, Some(roots)) => {
            builder.with_client_cert_verifier(client_verifier(roots, clients)?)
        }
        (ClientCertificates::Optional | ClientCertificates::Required, None) => return Err(Error::NoClientCa),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    // Each configuration has its own keys for tickets: a ticket of one listener is not good at another that asks for more.
    config.ticketer = Ticketer::new().map_err(rejected)?;
    Ok(Arc::new(config))
}

fn client_verifier(path: &Path, clients: ClientCertificates) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in pem::certificates(path)? {
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
