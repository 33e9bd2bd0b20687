//! `popgate health`

use std::net::SocketAddr;

use super::Failure;
use crate::{config::ListenerTls, health};

/// Asks every listener; fails at the first that does not answer as it should.
pub(super) async fn run(listeners: impl IntoIterator<Item = (SocketAddr, ListenerTls)>) -> Result<(), Failure> {
    for (address, tls) in listeners {
        health::ask(address, tls == ListenerTls::Implicit)
            .await
            .map_err(|error| Failure::failed(format!("{address}: {error}")))?;
    }
    Ok(())
}
