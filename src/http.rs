//! HTTP to servers that the configuration names: over TLS that it trusts, and to no other server.

use std::{error::Error as _, time::Duration};

use reqwest::redirect::Policy;

use crate::tls;

/// How long a whole answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client that trusts what `tls` trusts and follows no redirect: what is sent is secret, and goes where the configuration
/// says (RFC 6819 §4.2.1, RFC 9700 §4.11).
pub(crate) fn client(tls: &tls::Connector) -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls.client_config())
        .redirect(Policy::none())
        .connect_timeout(PATIENCE / 2)
        .timeout(PATIENCE)
        .user_agent(concat!("popgate/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// The error with its causes, which say more than the error itself; the URL is left out.
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
