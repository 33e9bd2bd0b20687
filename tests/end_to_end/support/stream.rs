//! A blocking connection, plain or TLS, whose reads fail after [`PATIENCE`].

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream},
    sync::Arc,
};

use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, HandshakeKind, ServerConfig, ServerConnection, StreamOwned, pki_types::ServerName,
};

use super::PATIENCE;

/// Either end of a connection.
pub enum Stream {
    /// TCP.
    Plain(TcpStream),
    /// TLS, with our side as the client.
    Client(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// TLS, with our side as the server.
    Server(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Stream {
    /// Connects in plain text.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::accept(TcpStream::connect_timeout(&address, PATIENCE)?)
    }

    /// Connects in plain text from `source`, which may be any address of 127.0.0.0/8.
    pub fn connect_from(source: Ipv4Addr, address: SocketAddr) -> io::Result<Self> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        socket.connect_timeout(&address.into(), PATIENCE)?;
        Self::accept(socket.into())
    }

    /// Takes an accepted connection.
    pub fn accept(tcp: TcpStream) -> io::Result<Self> {
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_write_timeout(Some(PATIENCE))?;
        tcp.set_nodelay(true)?;
        Ok(Self::Plain(tcp))
    }

    /// The TCP socket of the connection.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Client(tls) => &tls.sock,
            Self::Server(tls) => &tls.sock,
        }
    }

    /// Does the whole TLS handshake as the client.
    pub fn secure_client(self, config: Arc<ClientConfig>) -> io::Result<Self> {
        let mut tcp = self.into_plain();
        let name = ServerName::try_from("localhost").unwrap();
        let mut tls = ClientConnection::new(config, name).map_err(io::Error::other)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp)?;
        }
        Ok(Self::Client(Box::new(StreamOwned::new(tls, tcp))))
    }

    /// Does the whole TLS handshake as the server.
    pub fn secure_server(self, config: Arc<ServerConfig>) -> io::Result<Self> {
        let mut tcp = self.into_plain();
        let mut tls = ServerConnection::new(config).map_err(io::Error::other)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp)?;
        }
        Ok(Self::Server(Box::new(StreamOwned::new(tls, tcp))))
    }

    /// Whether the TLS handshake resumed an earlier session.
    pub fn is_resumed(&self) -> bool {
        match self {
            Self::Client(tls) => tls.conn.handshake_kind() == Some(HandshakeKind::Resumed),
            Self::Plain(_) | Self::Server(_) => false,
        }
    }

    fn into_plain(self) -> TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Client(_) | Self::Server(_) => panic!("TLS inside TLS"),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.read(buf),
            Self::Client(tls) => tls.read(buf),
            Self::Server(tls) => tls.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.write(buf),
            Self::Client(tls) => tls.write(buf),
            Self::Server(tls) => tls.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.flush(),
            Self::Client(tls) => tls.flush(),
            Self::Server(tls) => tls.flush(),
        }
    }
}

/// Copies octets in both directions until both connections have ended. They may be silent for any time.
pub fn splice(one: &TcpStream, other: &TcpStream) -> io::Result<()> {
    let copy = |from: &TcpStream, to: &TcpStream| {
        from.set_read_timeout(None)?;
        let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
        Ok::<_, io::Error>(std::thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        }))
    };
    for direction in [copy(one, other)?, copy(other, one)?] {
        let _ = direction.join();
    }
    Ok(())
}

/// Reads with a buffer, so that a line can be taken without losing the octets after it.
pub struct Reader {
    /// The connection; write to it directly.
    pub stream: Stream,
    buffer: Vec<u8>,
    used: usize,
}

impl Reader {
    pub fn new(stream: Stream) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            used: 0,
        }
    }

    /// Octets that have been read but not taken.
    pub fn pending(&self) -> &[u8] {
        &self.buffer[self.used..]
    }

    /// Reads more octets; returns 0 at the end.
    pub fn fill(&mut self) -> io::Result<usize> {
        if self.used > 0 {
            self.buffer.drain(..self.used);
            self.used = 0;
        }
        let mut octets = [0; 64 * 1024];
        let read = self.stream.read(&mut octets)?;
        self.buffer.extend_from_slice(&octets[..read]);
        Ok(read)
    }

    /// Reads the next line with its LF; at the end of the stream, whatever is left.
    pub fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut scanned = 0;
        loop {
            let pending = self.pending();
            if let Some(at) = memchr::memchr(b'\n', &pending[scanned..]) {
                return self.take(scanned + at + 1);
            }
            scanned = pending.len();
            if self.fill()? == 0 {
                return self.take(scanned);
            }
        }
    }

    /// Reads exactly `count` octets.
    pub fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.pending().len() < count {
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let taken = self.pending()[..count].to_vec();
        self.used += count;
        Ok(taken)
    }

    /// Does the TLS handshake as the client. Octets that were read before are lost, as RFC 2595 demands.
    pub fn secure(self, config: Arc<ClientConfig>) -> io::Result<Self> {
        Ok(Self::new(self.stream.secure_client(config)?))
    }
}
