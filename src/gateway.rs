//! Composition root: configuration → parts; serve; drain.

use std::net::SocketAddr;

use tokio_util::sync::CancellationToken;

use crate::config::Config;

/// A configured gateway with its listeners bound.
#[derive(Debug)]
pub struct Gateway {}

impl Gateway {
    /// Builds the parts and binds every listener. Errors name the key at fault.
    pub async fn bind(_config: Config) -> Result<Self, Error> {
        Ok(Self {})
    }

    /// The bound addresses, in the order of `[[listener]]`.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        Vec::new()
    }

    /// Serves until `shutdown` is cancelled, then drains within `drain_seconds`.
    pub async fn run(self, _shutdown: CancellationToken) {}
}

/// Why a gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A listener's address could not be bound.
    #[error("[[listener]] address {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A certificate, key or root file.
    #[error(transparent)]
    Tls(#[from] crate::tls::Error),
}
