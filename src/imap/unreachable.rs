//! Why there is no way to a host.

use std::{io, net::SocketAddr};

/// Why there is no connection; it may pass.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    /// DNS does not know the name, or does not answer.
    #[error("the name {host} cannot be resolved: {source} (is it spelled right, and is there DNS here?)")]
    Name {
        /// The name.
        host: String,
        /// What the resolver says.
        source: io::Error,
    },
    /// No address answered. Each that was tried, and why not.
    #[error("{}", list(.0))]
    Addresses(Vec<(SocketAddr, io::Error)>),
    /// The proxy answered, but did not connect. The text says who and why.
    #[error("{0}")]
    Proxy(String),
}

/// `a: reason; b: reason`
fn list(failures: &[(SocketAddr, io::Error)]) -> String {
    let words: Vec<_> = failures
        .iter()
        .map(|(address, error)| format!("{address}: {error}"))
        .collect();
    words.join("; ")
}
