//! The streams that a connection to an upstream runs on: TCP, TLS, compression.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use crate::tls::{self, ClientStream};

/// A stream of octets to an upstream and from it.
pub trait Io: AsyncRead + AsyncWrite + Send + Sync + Unpin {
    /// Sets whether closing resets the connection. A reset tells the server at once that nothing more is read.
    fn set_reset_on_close(&self, _: bool) {}
}

impl Io for TcpStream {
    fn set_reset_on_close(&self, reset: bool) {
        // An error means that the socket is gone already: it needs no reset.
        let _ = socket2::SockRef::from(self).set_linger(reset.then_some(Duration::ZERO));
    }
}

impl Io for Box<dyn Io> {
    fn set_reset_on_close(&self, reset: bool) {
        (**self).set_reset_on_close(reset);
    }
}

impl<S: Io> Io for ClientStream<S> {
    fn set_reset_on_close(&self, reset: bool) {
        tls::under_upstream(self).set_reset_on_close(reset);
    }
}

/// Takes the place of a connection that is being wrapped in another layer, or that was cut.
impl Io for tokio::io::Empty {}

#[cfg(test)]
impl Io for tokio::io::DuplexStream {}
