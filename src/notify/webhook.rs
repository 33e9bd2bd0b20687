//! Sends events to the webhook: by POST, as JSON, and signed if the configuration has a secret.

use aws_lc_rs::hmac;
use serde_json::json;

use super::{book::Record, event::EventKind};
use crate::{
    config::{Notify, Secret, Webhook},
    http, tls,
    types::hex,
};

/// The header that carries the signature.
const SIGNATURE: &str = "X-Popgate-Signature";

/// Sends events to one URL.
#[derive(Debug)]
pub(super) struct Sender {
    client: reqwest::Client,
    webhook: Webhook,
    secret: Option<Secret>,
}

/// Why an event was not sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The webhook did not answer.
    #[error("{0}")]
    NoAnswer(String),
    /// The status of the answer is not one of success (2xx).
    #[error("HTTP status {0}")]
    Status(u16),
}

/// Why the webhook cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// `webhook_ca_file` cannot be used.
    #[error("[notify] webhook_ca_file: {0}")]
    Tls(#[from] tls::Error),
    /// The HTTP client cannot be made.
    #[error("[notify] webhook: {0}")]
    Http(String),
}

impl Sender {
    /// `None` if `notify` names no webhook.
    pub(super) fn new(notify: &Notify) -> Result<Option<Self>, SetupError> {
        let Some(webhook) = notify.webhook.clone() else {
            return Ok(None);
        };
        let tls = tls::Connector::new(notify.webhook_ca_file.as_deref())?;
        let client = http::client(&tls).map_err(|error| SetupError::Http(http::with_causes(error)))?;
        Ok(Some(Self {
            client,
            webhook,
            secret: notify.webhook_secret.clone(),
        }))
    }

    /// The host of the webhook, for the log: the rest of the URL is kept secret.
    pub(super) fn host(&self) -> &str {
        self.webhook.host()
    }

    /// Sends an event; `now` in seconds since 1970. Fails unless the status of the answer is one of success (2xx).
    pub(super) async fn send(&self, record: &Record, now: u32) -> Result<(), Failure> {
        let body = body(record);
        let url = String::from_utf8_lossy(self.webhook.expose());
        let mut request = self.client.post(&*url).header("Content-Type", "application/json");
        if let Some(secret) = &self.secret {
            request = request.header(SIGNATURE, signature(secret, now, &body));
        }
        let answer = request.body(body).send().await;
        let status = answer
            .map_err(|error| Failure::NoAnswer(http::with_causes(error)))?
            .status();
        if status.is_success() {
            Ok(())
        } else {
            Err(Failure::Status(status.as_u16()))
        }
    }
}

/// The JSON that is sent for an event.
fn body(record: &Record) -> Vec<u8> {
    let event = &record.event;
    let mut object = json!({
        "id": record.id(),
        "event": event.key.kind,
        "at": rfc3339(record.since),
        "text": event.text,
    });
    if let Some(upstream) = &event.upstream {
        object["upstream"] = json!(upstream);
    }
    if !event.logins.is_empty() {
        object["logins"] = json!(event.logins);
    }
    if let Some(person) = &event.person {
        object["user"] = json!(person);
    }
    if let Some(ends) = event.ends {
        object["ends"] = json!(rfc3339(ends));
    }
    if event.key.kind == EventKind::CertificateEnding {
        object["file"] = json!(event.key.subject);
    }
    object.to_string().into_bytes()
}

/// Formats a time (seconds since 1970) as in RFC 3339.
fn rfc3339(seconds: u32) -> String {
    let time = chrono::DateTime::from_timestamp(seconds.into(), 0).unwrap_or_default();
    time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

/// The value of [`SIGNATURE`]. The signature covers the time, so that a receiver can refuse a request that somebody
/// sends again later.
fn signature(secret: &Secret, now: u32, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose());
    let mut context = hmac::Context::with_key(&key);
    context.update(format!("{now}.").as_bytes());
    context.update(body);
    format!("t={now},v1={}", hex(context.sign().as_ref()))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{book::Book, event::Event},
        *,
    };
    use crate::state::Consent;

    #[test]
    fn a_signature_that_others_compute_too() {
        // printf '1700000000.{"event":"state-failing"}' | openssl dgst -sha256 -hmac 'a secret'
        let signature = signature(&"a secret".into(), 1_700_000_000, br#"{"event":"state-failing"}"#);
        assert_eq!(
            signature,
            "t=1700000000,v1=931f9bbf23125338068fca651be679012c9e688876889caa309c4360672e8957"
        );
    }

    #[test]
    fn what_is_sent() {
        let consent = Consent {
            upstream: "gmail".into(),
            name: "office@example.org".into(),
        };
        let events = [
            Event::consent_ending(&consent, &["pbx".into(), "fax".into()], 1_796_292_000, None),
            Event::certificate_ending("/c.pem".as_ref(), "certificate ends"),
            Event::login_failing("pbx", None, 0, "wrong"),
            Event::state_failing(),
        ];
        let mut book = Book::new(Vec::new(), true);
        for event in events {
            book.raise(event, 1_795_000_000);
        }
        let sent = book.unsent().map(|record| {
            let body: serde_json::Value = serde_json::from_slice(&body(record)).unwrap();
            serde_json::to_string_pretty(&body).unwrap()
        });
        insta::assert_snapshot!(sent.collect::<Vec<_>>().join("\n"));
    }
}
