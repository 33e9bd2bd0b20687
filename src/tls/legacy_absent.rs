//! Takes the place of `legacy.rs` if popgate is built without the feature `legacy-tls`: its types have no values.

use std::{
    convert::Infallible,
    io,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Agreed, Agreement, Buffered, HandshakeError, pem::Error, trust::Trust};
use crate::config::Certificate;

/// A TLS connection, as server or client, which cannot exist here.
#[derive(Debug)]
pub struct Stream<S>(Infallible, PhantomData<S>);

pub(super) fn transport<S>(stream: &Stream<S>) -> &S {
    match stream.0 {}
}

pub(super) fn transport_mut<S>(stream: &mut Stream<S>) -> &mut S {
    match stream.0 {}
}

pub(super) fn agreement<S>(stream: &Stream<S>) -> Agreement {
    match stream.0 {}
}

pub(super) struct Acceptor(Infallible);

impl Acceptor {
    pub(super) fn load(_: &[Certificate]) -> Result<Self, Error> {
        Err(Error::NotBuilt)
    }

    pub(super) async fn accept<S>(&self, _: S) -> io::Result<(Stream<S>, Agreed)> {
        match self.0 {}
    }
}

pub(super) struct Connector(Infallible);

impl Connector {
    pub(super) fn new(_: Arc<Trust>) -> Result<Self, Error> {
        Err(Error::NotBuilt)
    }

    pub(super) async fn connect<S>(&self, _: &str, _: S) -> Result<Stream<Buffered<S>>, HandshakeError> {
        match self.0 {}
    }
}

impl<S: Unpin> AsyncRead for Stream<S> {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.0 {}
    }
}

impl<S: Unpin> AsyncWrite for Stream<S> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        match self.0 {}
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0 {}
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0 {}
    }
}
