//! HTTP with a provider: over TLS that the configuration trusts, and never more than a provider has to say.

use std::{error::Error as _, pin::Pin, time::Duration};

use oauth2::{AsyncHttpClient, HttpRequest, HttpResponse};
use reqwest::{header::RETRY_AFTER, redirect::Policy};

use crate::tls;

/// Until the whole answer is here.
const PATIENCE: Duration = Duration::from_secs(20);
/// Octets of an answer; tokens of large organisations have some tens of thousands.
const LONGEST: usize = 1024 * 1024;

/// A client of one provider.
#[derive(Debug, Clone)]
pub(super) struct Http(reqwest::Client);

/// No answer that says anything about the request.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// No connection, a certificate that is not trusted, or silence.
    #[error("{0}")]
    Transport(String),
    /// The provider has troubles, or was asked too often.
    #[error("HTTP status {status}")]
    Status {
        status: u16,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// An answer without end.
    #[error("an answer of more than {LONGEST} octets")]
    TooLong,
}

impl Http {
    pub(super) fn new(tls: &tls::Connector) -> Result<Self, Failure> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls.client_config())
            // What is sent is secret: it goes where the configuration says (RFC 6819 §4.2.1, RFC 9700 §4.11).
            .redirect(Policy::none())
            .timeout(PATIENCE)
            .user_agent(concat!("popgate/", env!("CARGO_PKG_VERSION")))
            .build();
        client.map(Self).map_err(transport)
    }

    pub(super) async fn send(&self, request: HttpRequest) -> Result<HttpResponse, Failure> {
        let request = request.try_into().map_err(transport)?;
        let mut answer = self.0.execute(request).await.map_err(transport)?;
        let status = answer.status();
        if status.is_server_error() || status.as_u16() == 429 {
            let header = answer.headers().get(RETRY_AFTER);
            let seconds = header.and_then(|value| value.to_str().ok()?.trim().parse().ok());
            return Err(Failure::Status {
                status: status.as_u16(),
                retry_after: seconds.map(Duration::from_secs),
            });
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(transport)? {
            if body.len() + chunk.len() > LONGEST {
                return Err(Failure::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        let mut response = HttpResponse::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = std::mem::take(answer.headers_mut());
        Ok(response)
    }
}

impl<'c> AsyncHttpClient<'c> for Http {
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, Failure>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.send(request))
    }
}

/// With the cause, which is what tells.
fn transport(error: reqwest::Error) -> Failure {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    Failure::Transport(text)
}
