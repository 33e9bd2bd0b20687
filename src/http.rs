//! HTTP to the servers that the configuration names, and to no other: over TLS with the certificates that it trusts.

use std::{error::Error as _, time::Duration};

use reqwest::redirect::Policy;

use crate::tls;

/// How long a whole answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client that trusts the same certificates as `tls`. It follows no redirect: requests hold secrets, which must go
/// only where the configuration says (RFC 6819 §4.2.1, RFC 9700 §4.11).
pub(crate) fn client(tls: &tls::Connector) -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls.client_config())
        .redirect(Policy::none())
        .connect_timeout(PATIENCE / 2)
        .timeout(PATIENCE)
        .user_agent(concat!("popgate/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// The error with its causes, which say more than the error itself. The URL is left out, because it may hold a secret.
pub(crate) fn with_causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
