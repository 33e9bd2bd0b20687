//! Asks a running gateway at its own listeners whether it answers: the health check of a container.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};

use crate::{
    config::Listener,
    tls::{Connector, Disagreement, HandshakeError},
};

/// How long a listener may take to answer. The greeting does not wait for any upstream.
const PATIENCE: Duration = Duration::from_secs(3);

/// The longest reply line in octets (RFC 2449 §4).
const LINE: u64 = 512;

/// A listener to ask.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Door<'a> {
    /// The address that the listener is bound to.
    pub address: SocketAddr,
    /// Whether connections begin with TLS.
    pub implicit_tls: bool,
    /// The networks from which the listener expects PROXY headers.
    pub balancers: &'a [IpNet],
}

impl<'a> From<&'a Listener> for Door<'a> {
    fn from(listener: &'a Listener) -> Self {
        Self {
            address: listener.address,
            implicit_tls: listener.tls.is_implicit(),
            balancers: &listener.proxy_protocol_from,
        }
    }
}

/// A PROXY header of version 2 with the command LOCAL: the connection is the sender's own, not a proxied one.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// Connects to a listener, expects the `+OK` greeting (RFC 1939 §4), and leaves.
///
/// A listener on all addresses (`0.0.0.0`, `[::]`) is asked at the loopback address. Its certificate need not be valid
/// for this address: devices connect to the listener by another name.
///
/// # Errors
/// No connection, no answer within three seconds, or another answer than `+OK`.
pub(crate) async fn ask(door: Door<'_>) -> io::Result<()> {
    timeout(PATIENCE, talk(door))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer"))?
}

async fn talk(door: Door<'_>) -> io::Result<()> {
    let mut stream = TcpStream::connect(reachable(door.address)).await?;
    let ours = stream.local_addr()?.ip().to_canonical();
    if door.balancers.iter().any(|network| network.contains(&ours)) {
        stream.write_all(LOCAL).await?;
    }
    if !door.implicit_tls {
        return greet(stream).await;
    }
    // If this refused the certificate, the gateway would log a failed handshake for each health check.
    let connector = Connector::to_any_server().map_err(io::Error::other)?;
    let answer = match connector.connect("localhost", stream).await {
        Ok(stream) => greet(stream).await.map_err(HandshakeError::after_handshake),
        Err(error) => Err(error),
    };
    match answer {
        // A listener that shows a certificate which cannot be read, or asks for one, is alive too.
        Ok(())
        | Err(HandshakeError::Certificate(_) | HandshakeError::Disagreement(Disagreement::ClientCertificate(_))) => {
            Ok(())
        }
        Err(HandshakeError::Broken(error)) => Err(error),
        Err(error) => Err(io::Error::other(error)),
    }
}

async fn greet<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    (&mut stream).take(LINE).read_until(b'\n', &mut line).await?;
    if !line.starts_with(b"+OK") {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "its greeting is not +OK"));
    }
    // After QUIT the gateway does not log a dropped session. Whether the QUIT arrives makes no difference here.
    if stream.write_all(b"QUIT\r\n").await.is_ok() {
        let _ = tokio::io::copy(&mut stream.take(LINE), &mut tokio::io::sink()).await;
    }
    Ok(())
}

fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    address
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::{
        config::{Certificate, ClientCertificates},
        free_port::free_port,
        tls::Acceptor,
    };

    fn door(address: SocketAddr) -> Door<'static> {
        Door {
            address,
            implicit_tls: false,
            balancers: &[],
        }
    }

    fn tls(address: SocketAddr) -> Door<'static> {
        Door {
            implicit_tls: true,
            ..door(address)
        }
    }

    /// A listener that greets one device with `greeting`. The task returns what the device then sends.
    async fn peer(greeting: &'static [u8]) -> (SocketAddr, tokio::task::JoinHandle<Vec<u8>>) {
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(greeting).await.unwrap();
            let mut said = Vec::new();
            BufReader::new(stream).read_until(b'\n', &mut said).await.unwrap();
            said
        });
        (address, task)
    }

    #[tokio::test]
    async fn a_greeting_is_health_and_is_answered_by_quit() {
        let (address, said) = peer(b"+OK popgate\r\n").await;
        ask(door(address)).await.unwrap();
        assert_eq!(said.await.unwrap(), b"QUIT\r\n");
    }

    #[tokio::test]
    async fn anything_else_is_not() {
        for greeting in [&b"-ERR too many sessions\r\n"[..], b"* OK IMAP\r\n", b"\r\n"] {
            let (address, _said) = peer(greeting).await;
            assert_eq!(ask(door(address)).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }

    #[tokio::test]
    async fn a_closed_port_is_not() {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        assert!(ask(door(address)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let error = ask(door(listener.local_addr().unwrap())).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    /// An acceptor with a certificate that nobody trusts.
    fn acceptor(clients: ClientCertificates) -> (tempfile::TempDir, Acceptor) {
        let directory = tempfile::tempdir().unwrap();
        let signed = rcgen::generate_simple_self_signed(["mail.example.org".to_owned()]).unwrap();
        let certificate = directory.path().join("certificate.pem");
        let files = Certificate {
            key: directory.path().join("key.pem"),
            names: None,
            client_ca: Some(certificate.clone()),
            certificate,
        };
        std::fs::write(&files.certificate, signed.cert.pem()).unwrap();
        std::fs::write(&files.key, signed.signing_key.serialize_pem()).unwrap();
        let acceptor = Acceptor::load(&[files], clients, None).unwrap();
        (directory, acceptor)
    }

    #[tokio::test]
    async fn a_handshake_with_a_certificate_of_ones_own_is() {
        let (_directory, acceptor) = acceptor(ClientCertificates::Off);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (mut stream, _) = acceptor.accept(stream).await.unwrap();
            stream.write_all(b"+OK popgate\r\n").await.unwrap();
            let mut said = Vec::new();
            BufReader::new(stream).read_until(b'\n', &mut said).await.unwrap();
            said
        });
        ask(tls(address)).await.unwrap();
        assert_eq!(server.await.unwrap(), b"QUIT\r\n");

        let (plain, _said) = peer(b"+OK not TLS\r\n").await;
        assert!(ask(tls(plain)).await.is_err());
    }

    #[tokio::test]
    async fn a_listener_that_wants_a_certificate_is() {
        let (_directory, acceptor) = acceptor(ClientCertificates::Required);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            acceptor.accept(stream).await.map(|_| ())
        });
        ask(tls(address)).await.unwrap();
        assert!(server.await.unwrap().is_err(), "the health check has none to show");
    }
}
