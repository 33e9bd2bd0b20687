//! What a provider answers that gives a token (RFC 6749 §5.1). It is read liberally: the refresh token in it may be the only
//! one that is still good, so how the rest is written must not cost it.

use std::time::Duration;

use oauth2::{AccessToken, RefreshToken, Scope, TokenResponse, basic::BasicTokenType};
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use serde_json::Value;
use zeroize::Zeroizing;

use super::token::Issued;

/// An answer as far as it matters.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Answer {
    #[serde(deserialize_with = "there")]
    access_token: AccessToken,
    refresh_token: Option<RefreshToken>,
    #[serde(default, deserialize_with = "seconds")]
    expires_in: Option<u32>,
    /// How long the consent lasts: Google's of an application in Testing, Microsoft's of personal accounts.
    #[serde(default, deserialize_with = "seconds")]
    refresh_token_expires_in: Option<u32>,
}

impl TokenResponse for Answer {
    type TokenType = BasicTokenType;

    fn access_token(&self) -> &AccessToken {
        &self.access_token
    }

    fn token_type(&self) -> &BasicTokenType {
        // Nothing else was asked for.
        &BasicTokenType::Bearer
    }

    fn expires_in(&self) -> Option<Duration> {
        self.expires_in.map(|seconds| Duration::from_secs(seconds.into()))
    }

    fn refresh_token(&self) -> Option<&RefreshToken> {
        self.refresh_token.as_ref()
    }

    fn scopes(&self) -> Option<&Vec<Scope>> {
        None
    }
}

impl From<Answer> for Issued {
    fn from(answer: Answer) -> Self {
        let refresh = answer.refresh_token.map(|token| Zeroizing::new(token.into_secret()));
        Self {
            access: Zeroizing::new(answer.access_token.into_secret()),
            refresh: refresh.filter(|token| !token.is_empty()),
            lifetime: answer.expires_in,
            consent_lifetime: answer.refresh_token_expires_in,
        }
    }
}

fn there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<AccessToken, D::Error> {
    let token = AccessToken::deserialize(deserializer)?;
    match token.secret().is_empty() {
        true => Err(D::Error::custom("an empty token")),
        false => Ok(token),
    }
}

/// Some write numbers as strings. What is no time to come says nothing.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let seconds = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
    // `as` takes what is too long for as long as can be.
    Ok(seconds.filter(|seconds| *seconds >= 1.0).map(|seconds| seconds as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_as_providers_write_them() {
        for (text, expected) in [
            ("3600", Some(3600)),
            ("\"3599\"", Some(3599)),
            ("3599.9", Some(3599)),
            ("1e40", Some(u32::MAX)),
            ("18446744073709551616", Some(u32::MAX)),
            ("0", None),
            ("-1", None),
            ("\"soon\"", None),
            ("\"NaN\"", None),
            ("null", None),
            ("{}", None),
        ] {
            let text = format!("{{\"access_token\": \"a\", \"expires_in\": {text}}}");
            let answer: Answer = serde_json::from_str(&text).unwrap();
            assert_eq!(Issued::from(answer).lifetime, expected, "{text}");
        }
    }

    #[test]
    fn without_an_access_token_it_is_none() {
        for text in ["{}", "{\"access_token\": \"\"}", "{\"access_token\": null}"] {
            assert!(serde_json::from_str::<Answer>(text).is_err(), "{text}");
        }
        let answer: Answer = serde_json::from_str("{\"access_token\": \"a\", \"refresh_token\": \"\"}").unwrap();
        assert!(Issued::from(answer).refresh.is_none());
    }
}
