//! Old TLS, by OpenSSL, for old devices and servers: TLS 1.0 and 1.1, RSA key exchange and CBC suites, which rustls
//! lacks. Only this file names OpenSSL; `legacy_absent.rs` takes its place if popgate is built without the feature
//! `legacy-tls`.

use std::{io, net::IpAddr, pin::Pin, sync::Arc};

use openssl::{
    error::ErrorStack,
    ex_data::Index,
    ssl::{
        self, NameType, SniError, Ssl, SslContext, SslContextBuilder, SslMethod, SslOptions, SslVerifyMode, SslVersion,
    },
    x509::X509,
};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    Agreed, Agreement, Buffered, Disagreement, HandshakeError,
    hosts::{HostMap, Hosts},
    pem::{self, Error},
    trust::Trust,
};
use crate::{config::Certificate, types::Spoken};

/// The cipher suites up to TLS 1.2, the best first. Security level 0 allows short keys, and the SHA-1 signatures that
/// TLS 1.0 and 1.1 need.
const SUITES: &str = "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:RSA+AESGCM:RSA+AES:!aNULL:!eNULL:!AESCCM:@SECLEVEL=0";
/// The key exchange groups that rustls has too. Others cost the gateway up to 250 ms for each handshake (ffdhe8192).
const GROUPS: &str = "X25519:P-256:P-384";
/// Connects to old servers although they do not know how to renegotiate safely (RFC 5746). popgate never renegotiates.
/// (`SSL_OP_LEGACY_SERVER_CONNECT`, which the openssl crate does not name.)
const LEGACY_SERVER_CONNECT: SslOptions = SslOptions::from_bits_retain(0x4);
/// How many TLS sessions are kept for devices to resume.
const SESSIONS: i32 = 1024;

/// A TLS connection, as server or client.
pub(crate) type Stream<S> = tokio_openssl::SslStream<S>;

/// The transport under `stream`.
pub(super) fn transport<S>(stream: &Stream<S>) -> &S {
    stream.get_ref()
}

pub(super) fn transport_mut<S>(stream: &mut Stream<S>) -> &mut S {
    stream.get_mut()
}

/// The outcome of a handshake with a server.
pub(super) fn agreement<S>(stream: &Stream<S>) -> Agreement {
    let chain = stream.ssl().peer_cert_chain();
    let leaf = chain
        .and_then(|chain| chain.iter().next())
        .and_then(|leaf| leaf.to_der().ok());
    Agreement::new(
        version(stream),
        leaf.as_deref(),
        chain.map_or(0, openssl::stack::StackRef::len),
    )
}

/// The TLS version, as rustls writes it.
fn version<S>(stream: &Stream<S>) -> String {
    match stream.ssl().version_str() {
        "TLSv1" => "TLSv1_0".to_owned(),
        version => version.replace('.', "_"),
    }
}

/// Accepts TLS from old devices, and from newer ones too.
pub(super) struct Acceptor {
    hosts: Hosts<SslContext>,
    /// The index in an [`Ssl`] under which the SNI callback finds the certificates.
    index: Index<Ssl, Arc<HostMap<SslContext>>>,
}

impl Acceptor {
    pub(super) fn load(files: &[Certificate]) -> Result<Self, Error> {
        let index = Ssl::new_ex_index().map_err(|error| Error::Library(error.to_string()))?;
        Ok(Self {
            hosts: Hosts::load(files, move |files| server_context(files, index))?,
            index,
        })
    }

    pub(super) async fn accept<S>(&self, stream: S) -> io::Result<(Stream<S>, Agreed)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let hosts = self.hosts.current();
        let mut ssl = Ssl::new(hosts.by_name(None))?;
        ssl.set_ex_data(self.index, hosts);
        let mut stream = Stream::new(ssl, stream)?;
        Pin::new(&mut stream).accept().await.map_err(plain)?;
        let agreed = Agreed {
            version: version(&stream),
            client: None,
        };
        Ok((stream, agreed))
    }
}

fn server_context(files: &Certificate, index: Index<Ssl, Arc<HostMap<SslContext>>>) -> Result<SslContext, Error> {
    // The files are read in the same way as for rustls, so that errors have the same words.
    let chain = pem::pair(files, &super::provider())?.cert;
    let key = pem::private_key(&files.key)?;
    let made = || {
        let mut builder = context(SslMethod::tls_server())?;
        let mut chain = chain.iter();
        if let Some(leaf) = chain.next() {
            builder.set_certificate(&*X509::from_der(leaf)?)?;
        }
        for other in chain {
            builder.add_extra_chain_cert(X509::from_der(other)?)?;
        }
        builder.set_private_key(&*openssl::pkey::PKey::private_key_from_der(key.secret_der())?)?;
        builder.check_private_key()?;
        // OpenSSL never changes its ticket keys. Sessions are kept here instead, and not for long.
        builder.set_options(SslOptions::NO_TICKET | SslOptions::CIPHER_SERVER_PREFERENCE);
        builder.set_session_cache_size(SESSIONS);
        builder.set_session_id_context(b"popgate")?;
        builder.set_servername_callback(move |ssl, _| {
            let name = ssl.servername(NameType::HOST_NAME).map(str::to_owned);
            let context = ssl.ex_data(index).map(|hosts| hosts.by_name(name.as_deref()).clone());
            match context.map(|context| ssl.set_ssl_context(&context)) {
                Some(Ok(())) => Ok(()),
                _ => Err(SniError::NOACK),
            }
        });
        Ok(builder.build())
    };
    made().map_err(|error: ErrorStack| Error::Library(format!("{}: {error}", files.certificate.display())))
}

/// Connects to an old server.
pub(super) struct Connector {
    context: SslContext,
    trust: Arc<Trust>,
}

impl Connector {
    pub(super) fn new(trust: Arc<Trust>) -> Result<Self, Error> {
        let made = || {
            let mut builder = context(SslMethod::tls_client())?;
            // `Trust` judges the certificate after the handshake, before any data is sent.
            builder.set_verify(SslVerifyMode::NONE);
            builder.set_options(LEGACY_SERVER_CONNECT);
            Ok(builder.build())
        };
        let context = made().map_err(|error: ErrorStack| Error::Library(error.to_string()))?;
        Ok(Self { context, trust })
    }

    pub(super) async fn connect<S>(&self, host: &str, stream: S) -> Result<Stream<Buffered<S>>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let broken = |error: ErrorStack| HandshakeError::Broken(error.into());
        let mut ssl = Ssl::new(&self.context).map_err(broken)?;
        if host.parse::<IpAddr>().is_err() {
            ssl.set_hostname(host).map_err(broken)?;
        }
        let mut stream = Stream::new(ssl, Buffered::new(stream)).map_err(broken)?;
        let connected = Pin::new(&mut stream).connect().await;
        connected.map_err(|error| failure(error, stream.get_ref().spoken()))?;
        let ssl = stream.ssl();
        let chain = ssl.peer_cert_chain().into_iter().flatten();
        let chain: Vec<_> = chain
            .map(|certificate| certificate.to_der().map(CertificateDer::from))
            .collect::<Result<_, _>>()
            .map_err(broken)?;
        self.trust.judge(&chain, host)?;
        Ok(stream)
    }
}

fn context(method: SslMethod) -> Result<SslContextBuilder, ErrorStack> {
    let mut builder = SslContextBuilder::new(method)?;
    builder.set_cipher_list(SUITES)?;
    builder.set_groups_list(GROUPS)?;
    builder.set_min_proto_version(Some(SslVersion::TLS1))?;
    builder.set_options(SslOptions::NO_COMPRESSION | SslOptions::NO_RENEGOTIATION);
    Ok(builder)
}

fn plain(error: ssl::Error) -> io::Error {
    error.into_io_error().unwrap_or_else(io::Error::other)
}

/// Classifies the error of a handshake with a server that speaks `spoken`.
fn failure(error: ssl::Error, spoken: Spoken) -> HandshakeError {
    let Some(stack) = error.ssl_error() else {
        return HandshakeError::Broken(plain(error));
    };
    let reasons: Vec<_> = stack.errors().iter().filter_map(|error| error.reason()).collect();
    let reason = reasons.join("; ");
    let is_any = |parts: &[&str]| parts.iter().any(|part| reason.contains(part));
    if is_any(&["wrong version number", "packet length too long", "http request"]) {
        Disagreement::NotTls(spoken).into()
    } else if is_any(&[
        "unsupported protocol",
        "handshake failure",
        "protocol version",
        "no ciphers available",
        "insufficient security",
    ]) {
        Disagreement::NothingOldInCommon(reason).into()
    } else if is_any(&["certificate required"]) {
        Disagreement::ClientCertificate(reason).into()
    } else {
        HandshakeError::Broken(io::Error::other(reason))
    }
}
