//! HTTP with a provider: over TLS with the certificates that the configuration trusts, and with answers of limited
//! size.

use std::time::{Duration, SystemTime};

use oauth2::{HttpRequest, HttpResponse, url::form_urlencoded};
use reqwest::header::RETRY_AFTER;
use serde_json::Value;
use zeroize::Zeroizing;

use super::{answer, assertion::Unsigned};
use crate::{config::Secret, http, tls};

/// The most octets of an answer. Tokens of large organisations have some tens of thousands.
const LONGEST: usize = 1024 * 1024;

/// The HTTP client for one provider.
#[derive(Debug, Clone)]
pub(super) struct Http {
    client: reqwest::Client,
    /// The application's secret, which must not get into the log.
    secret: Option<Secret>,
}

/// Why there is no answer to a request, or none that can be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// There was no connection, or the certificate is not trusted: the request was not sent.
    #[error("{0}")]
    Unsent(String),
    /// The request was sent, but no whole answer came.
    #[error("{0}")]
    Lost(String),
    /// The provider has a problem of its own (5xx), or was asked too often (429).
    #[error("HTTP status {status}")]
    Status {
        status: u16,
        /// How long the provider does not want to be asked, if it says so.
        retry_after: Option<Duration>,
    },
    /// The answer is too long.
    #[error("an answer of more than {LONGEST} octets")]
    TooLong,
    /// The provider granted the request, but its answer is neither JSON nor a form.
    #[error("its answer is not valid in OAuth2")]
    Unreadable,
    /// The request was not sent, because it could not be signed.
    #[error(transparent)]
    Unsigned(#[from] Unsigned),
}

impl Failure {
    /// Whether the provider may have granted the request, although its answer did not arrive. A status of 502 or 504
    /// comes from a proxy in front of the provider, and says nothing about the provider itself.
    pub(super) fn is_lost(&self) -> bool {
        match self {
            Self::Lost(_) | Self::TooLong | Self::Unreadable => true,
            Self::Status { status, .. } => matches!(status, 502 | 504),
            Self::Unsent(_) | Self::Unsigned(_) => false,
        }
    }
}

impl Http {
    pub(super) fn new(tls: &tls::Connector, secret: Option<Secret>) -> Result<Self, Failure> {
        let client = http::client(tls);
        client.map(|client| Self { client, secret }).map_err(unsent)
    }

    pub(super) async fn send(&self, request: HttpRequest) -> Result<HttpResponse, Failure> {
        let mut secrets = secrets(request.body());
        if let Some(secret) = &self.secret {
            secrets.push(Zeroizing::new(String::from_utf8_lossy(secret.expose()).into_owned()));
        }
        let request = request.try_into().map_err(unsent)?;
        let mut answer = self
            .client
            .execute(request)
            .await
            .map_err(|error| if error.is_connect() { unsent(error) } else { lost(error) })?;
        let status = answer.status();
        if status.is_server_error() || status.as_u16() == 429 {
            let header = answer.headers().get(RETRY_AFTER);
            return Err(Failure::Status {
                status: status.as_u16(),
                retry_after: header.and_then(|value| delay(value.to_str().ok()?.trim())),
            });
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(lost)? {
            if body.len() + chunk.len() > LONGEST {
                return Err(Failure::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        let mut response = HttpResponse::new(body);
        *response.status_mut() = status;
        readable(response, &secrets)
    }
}

/// Returns an answer in the form of the RFCs and, if it is an error, without `secrets`.
fn readable(mut answer: HttpResponse, secrets: &[Zeroizing<String>]) -> Result<HttpResponse, Failure> {
    if answer.status().is_success() {
        answer = answer::regular(&answer).ok_or(Failure::Unreadable)?;
    }
    // Some providers send an error with a status of success: only now the status says what the answer is.
    if !answer.status().is_success() {
        *answer.body_mut() = without(answer.body(), secrets);
    }
    Ok(answer)
}

/// The secret values of a form: all values except those of fields that are known not to be secret.
fn secrets(form: &[u8]) -> Vec<Zeroizing<String>> {
    const OPEN: [&str; 5] = [
        "client_assertion_type",
        "client_id",
        "grant_type",
        "redirect_uri",
        "scope",
    ];
    form_urlencoded::parse(form)
        .filter(|(name, value)| !OPEN.contains(&&**name) && !value.is_empty())
        .map(|(_, value)| Zeroizing::new(value.into_owned()))
        .collect()
}

/// Removes `secrets` from the body of an error, because the body is logged, and some providers repeat the request in
/// it. JSON is parsed before, because it may have an escape in the place of any character (RFC 8259 §7).
fn without(body: &[u8], secrets: &[Zeroizing<String>]) -> Vec<u8> {
    let text = String::from_utf8_lossy(body);
    let redacted = match serde_json::from_str::<Value>(&text) {
        Ok(mut answer) => {
            redact_json(&mut answer, secrets);
            answer.to_string()
        }
        Err(_) => redact(&text, secrets),
    };
    redacted.into_bytes()
}

fn redact_json(answer: &mut Value, secrets: &[Zeroizing<String>]) {
    match answer {
        Value::String(text) => *text = redact(text, secrets),
        Value::Array(values) => values.iter_mut().for_each(|value| redact_json(value, secrets)),
        Value::Object(fields) => fields.values_mut().for_each(|value| redact_json(value, secrets)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Replaces each of `secrets`, as it is and as the form of a request has it.
fn redact(text: &str, secrets: &[Zeroizing<String>]) -> String {
    let mut text = text.to_owned();
    for secret in secrets {
        let encoded: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        text = text.replace(&**secret, "…").replace(&encoded, "…");
    }
    text
}

/// Parses `Retry-After`: seconds, or a date (RFC 9110 §10.2.3). `None` if it is neither, or a date in the past.
fn delay(text: &str) -> Option<Duration> {
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(text)
            .ok()?
            .duration_since(SystemTime::now())
            .ok(),
    }
}

fn unsent(error: reqwest::Error) -> Failure {
    Failure::Unsent(http::with_causes(error))
}

fn lost(error: reqwest::Error) -> Failure {
    Failure::Lost(http::with_causes(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_repeats_no_secret() {
        let secrets = secrets(b"grant_type=refresh_token&refresh_token=a%2Bb%2Fc&client_id=an+id");
        for (repeated, expected) in [
            ("a+b/c", "…"),
            ("a+b\\/c", "…"),
            ("a\\u002Bb\\u002fc", "…"),
            ("\\u0061+b/c", "…"),
            (
                "refresh_token=a%2Bb%2Fc&client_id=an+id",
                "refresh_token=…&client_id=an+id",
            ),
        ] {
            let fields = format!("\"error_description\": \"{repeated}\", \"all\": [\"{repeated}\"]");
            let body = format!("{{\"error\": \"invalid_grant\", {fields}}}");
            for status in [200_u16, 400] {
                let mut answer = HttpResponse::new(body.clone().into_bytes());
                *answer.status_mut() = status.try_into().unwrap();
                let answer = readable(answer, &secrets).unwrap();
                assert_eq!(answer.status().as_u16(), 400);
                let answer: Value = serde_json::from_slice(answer.body()).unwrap();
                assert_eq!(answer["error"], "invalid_grant");
                assert_eq!(answer["error_description"], expected);
                assert_eq!(answer["all"][0], expected);
            }
        }
        assert_eq!(without(b"<p>a+b/c, a%2Bb%2Fc</p>", &secrets), "<p>…, …</p>".as_bytes());
    }

    #[test]
    fn a_delay_is_told_in_seconds_or_by_a_date() {
        assert_eq!(delay("120"), Some(Duration::from_secs(120)));
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(120));
        let left = delay(&date).unwrap_or_default().as_secs();
        assert!((100..=120).contains(&left), "{date}: {left}");
        for nothing in ["Wed, 21 Oct 2015 07:28:00 GMT", "soon", "-1", ""] {
            assert_eq!(delay(nothing), None, "{nothing}");
        }
    }
}
