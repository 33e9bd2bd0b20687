//! A tiny in-memory IMAP server with sample mail, for `popgate demo`.
//!
//! It implements the part of IMAP4rev1 (RFC 3501) that clients need to read, move and delete mail, and refuses the rest
//! with proper errors. A `connection` does the I/O. A `session` turns one command into one reply, without I/O. All
//! sessions share one `store`.

mod command;
mod connection;
mod fetch;
mod flags;
mod list;
mod reply;
mod samples;
mod search;
mod selected;
mod sequence;
mod session;
mod store;
mod syntax;
#[cfg(test)]
mod tests;
mod view;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::task::AbortOnDropHandle;

use store::Store;

/// How long to wait after a failed accept, until the system has file descriptors and memory again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The running server; it stops when dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    _accepting: AbortOnDropHandle<()>,
}

impl Server {
    /// Listens on a free loopback port and serves the sample mail to user `demo`, password `demo`.
    ///
    /// Every start has fresh mail under a new UIDVALIDITY. Fails if the port cannot be bound.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let store = Arc::new(Mutex::new(Store::with_samples()));
        let accepting = tokio::spawn(accept(listener, store));
        Ok(Self {
            address,
            _accepting: AbortOnDropHandle::new(accepting),
        })
    }

    /// The address at which the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Accepts connections. Their tasks end when this future is dropped.
async fn accept(listener: TcpListener, store: Arc<Mutex<Store>>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    connections.spawn(connection::serve(socket, Arc::clone(&store)));
                }
                Err(error) => {
                    tracing::warn!(%error, "demo: cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}
