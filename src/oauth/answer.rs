//! The answers of a provider (RFC 6749 §5, RFC 8628 §3.2). They are parsed liberally: an answer may have the only
//! refresh token that is still valid, so an error elsewhere in the answer must not lose that token.

use std::time::Duration;

use oauth2::{
    AccessToken, HttpResponse, RefreshToken, Scope, TokenResponse,
    basic::BasicTokenType,
    http::{HeaderValue, StatusCode, header},
    url::form_urlencoded,
};
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::token::Issued;

/// The fields of an answer that the gateway uses.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct TokenAnswer {
    #[serde(deserialize_with = "there")]
    access_token: AccessToken,
    refresh_token: Option<RefreshToken>,
    #[serde(default, deserialize_with = "seconds")]
    expires_in: Option<u32>,
    /// For how many seconds the consent lasts. Google says this for an application in Testing, Microsoft for personal
    /// accounts.
    #[serde(default, deserialize_with = "seconds")]
    refresh_token_expires_in: Option<u32>,
    /// The scopes that were granted, if the answer names them.
    #[serde(default, deserialize_with = "words")]
    scope: Option<Vec<String>>,
}

impl TokenResponse for TokenAnswer {
    type TokenType = BasicTokenType;

    fn access_token(&self) -> &AccessToken {
        &self.access_token
    }

    fn token_type(&self) -> &BasicTokenType {
        // The gateway asks for no other type.
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

impl From<TokenAnswer> for Issued {
    fn from(answer: TokenAnswer) -> Self {
        let refresh = answer.refresh_token.map(|token| Zeroizing::new(token.into_secret()));
        Self {
            access: Zeroizing::new(answer.access_token.into_secret()),
            refresh: refresh.filter(|token| !token.is_empty()),
            lifetime: answer.expires_in,
            consent_lifetime: answer.refresh_token_expires_in,
            granted: answer.scope,
        }
    }
}

fn there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<AccessToken, D::Error> {
    let token = AccessToken::deserialize(deserializer)?;
    if token.secret().is_empty() {
        Err(D::Error::custom("an empty token"))
    } else {
        Ok(token)
    }
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    Value::deserialize(deserializer).map(|value| number(&value))
}

/// Parses the scopes. Some providers send them as a list, which is in no RFC.
fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    let own = |words: &str| {
        words
            .split([' ', ','])
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()
    };
    Ok(match Value::deserialize(deserializer)? {
        Value::String(words) => Some(own(&words)),
        Value::Array(words) => Some(words.iter().filter_map(Value::as_str).map(str::to_owned).collect()),
        _ => None,
    })
}

/// A number of seconds, which some providers send as a string. `None` if it is less than one.
fn number(value: &Value) -> Option<u32> {
    let seconds = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
    // `as` turns a number that is too large into the largest one.
    seconds.filter(|seconds| *seconds >= 1.0).map(|seconds| seconds as u32)
}

/// For how many seconds a device code is valid if the answer does not say so, although RFC 8628 §3.2 requires it. This
/// is the usual value.
const CODE_LIFETIME: u32 = 900;

/// Rewrites a successful answer in the form of the RFCs: JSON with the right content type, numbers as numbers, and the
/// status of an error if it is an error. `None` if the answer cannot be parsed.
pub(super) fn regular(answer: &HttpResponse) -> Option<HttpResponse> {
    let mut object = object(answer.body())?;
    let is_error = object.contains_key("error")
        && !["access_token", "device_code"]
            .iter()
            .any(|key| object.contains_key(*key));
    if object.contains_key("device_code") {
        let lifetime = object.get("expires_in").and_then(number).unwrap_or(CODE_LIFETIME);
        object.insert("expires_in".into(), lifetime.into());
        match object.get("interval").and_then(number) {
            Some(interval) => drop(object.insert("interval".into(), interval.into())),
            None => drop(object.remove("interval")),
        }
        // Google's name for this field.
        if let Some(url) = object.remove("verification_url") {
            object.entry("verification_uri").or_insert(url);
        }
        object.retain(|_, value| !value.is_null());
    }
    let mut regular = HttpResponse::new(serde_json::to_vec(&object).ok()?);
    *regular.status_mut() = if is_error {
        StatusCode::BAD_REQUEST
    } else {
        StatusCode::OK
    };
    let json = HeaderValue::from_static("application/json");
    regular.headers_mut().insert(header::CONTENT_TYPE, json);
    Some(regular)
}

/// Parses the fields of an answer: JSON, or a form, which providers sent before there was JSON.
fn object(body: &[u8]) -> Option<Map<String, Value>> {
    if let Ok(object) = serde_json::from_slice(body) {
        return Some(object);
    }
    let form: Map<String, Value> = form_urlencoded::parse(body)
        .map(|(key, value)| (key.into_owned(), value.into_owned().into()))
        .collect();
    (form.contains_key("access_token") || form.contains_key("error")).then_some(form)
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
            let answer: TokenAnswer = serde_json::from_str(&text).unwrap();
            assert_eq!(Issued::from(answer).lifetime, expected, "{text}");
        }
    }

    fn regular_of(body: &str) -> Option<(u16, Value)> {
        let answer = regular(&HttpResponse::new(body.into()))?;
        Some((answer.status().as_u16(), serde_json::from_slice(answer.body()).unwrap()))
    }

    #[test]
    fn numbers_of_a_device_code_as_providers_write_them() {
        for (lifetime, interval, expected) in [
            ("\"600\"", "\"7\"", (600, Some(7))),
            ("600.5", "7.0", (600, Some(7))),
            ("null", "null", (900, None)),
            ("\"soon\"", "0", (900, None)),
        ] {
            let body = format!(
                "{{\"device_code\": \"d\", \"verification_url\": \"u\", \"verification_uri_complete\": null, \
                 \"expires_in\": {lifetime}, \"interval\": {interval}}}"
            );
            let (status, answer) = regular_of(&body).unwrap();
            assert_eq!((status, &answer["verification_uri"]), (200, &Value::from("u")));
            assert!(answer.get("verification_uri_complete").is_none());
            let found = (
                answer["expires_in"].as_u64().unwrap(),
                answer.get("interval").and_then(Value::as_u64),
            );
            assert_eq!(found, expected, "{body}");
        }
    }

    #[test]
    fn an_error_is_one_whatever_its_status() {
        let (status, answer) = regular_of("{\"error\": \"invalid_grant\"}").unwrap();
        assert_eq!((status, &answer["error"]), (400, &Value::from("invalid_grant")));
        assert_eq!(regular_of("error=invalid_grant&error_description=gone").unwrap().0, 400);
        let (status, answer) = regular_of("access_token=a&expires_in=3600&scope=one,two").unwrap();
        let token: TokenAnswer = serde_json::from_value(answer).unwrap();
        let issued = Issued::from(token);
        assert_eq!((status, issued.lifetime), (200, Some(3600)));
        assert_eq!(issued.granted.unwrap(), ["one", "two"]);
        for unreadable in ["", "<h1>Hello</h1>", "{\"access_token\": ", "[]", "\"x\""] {
            assert_eq!(regular_of(unreadable), None, "{unreadable}");
        }
    }

    #[test]
    fn without_an_access_token_it_is_none() {
        for text in ["{}", "{\"access_token\": \"\"}", "{\"access_token\": null}"] {
            assert!(serde_json::from_str::<TokenAnswer>(text).is_err(), "{text}");
        }
        let answer: TokenAnswer = serde_json::from_str("{\"access_token\": \"a\", \"refresh_token\": \"\"}").unwrap();
        assert!(Issued::from(answer).refresh.is_none());
    }
}
