//! Somebody consents: by a code typed at the provider's page (RFC 8628), or by a browser that is sent there and back.

use std::time::Duration;

use oauth2::{
    StandardDeviceAuthorizationResponse,
    url::{Url, form_urlencoded},
};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{Error, Issued, Refusal, Tokens, without_consent};
use crate::state::Consent;

/// A code for somebody to type in.
#[derive(Debug)]
pub struct DeviceSignIn(StandardDeviceAuthorizationResponse);

impl DeviceSignIn {
    /// Where it is typed in.
    pub fn url(&self) -> &str {
        self.0.verification_uri()
    }

    /// Where it is typed in already.
    pub fn url_with_code(&self) -> Option<&str> {
        let url = self.0.verification_uri_complete()?;
        Some(url.secret())
    }

    /// What is typed in.
    pub fn code(&self) -> &str {
        self.0.user_code().secret()
    }

    /// How long it may be.
    pub fn lifetime(&self) -> Duration {
        self.0.expires_in()
    }
}

/// A browser that was sent to the provider.
pub struct CodeSignIn {
    /// Where it is sent.
    pub url: String,
    state: String,
    verifier: Zeroizing<String>,
    redirect: String,
}

impl CodeSignIn {
    /// Whether the browser that came back, with this query of the redirect URL, is the one that was sent (RFC 6749 §10.12).
    pub fn is_answered_by(&self, query: &str) -> bool {
        let state = parameter(query, "state").unwrap_or_default();
        state.as_bytes().ct_eq(self.state.as_bytes()).into()
    }

    /// Whether the browser is to come back to this path, as far as a proxy has left it.
    pub fn comes_back_to(&self, path: &str) -> bool {
        Url::parse(&self.redirect).is_ok_and(|url| url.path().ends_with(path))
    }
}

impl std::fmt::Debug for CodeSignIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CodeSignIn")
            .field("redirect", &self.redirect)
            .finish_non_exhaustive()
    }
}

impl Tokens {
    /// Asks the provider of `consent`'s upstream for a code.
    pub async fn begin_device(&self, consent: &Consent) -> Result<DeviceSignIn, Error> {
        self.provider(consent)?.device_code().await.map(DeviceSignIn)
    }

    /// Waits until somebody has typed in the code, has declined, or has let it expire.
    pub async fn finish_device(&self, consent: &Consent, sign_in: &DeviceSignIn) -> Result<Issued, Error> {
        let provider = self.provider(consent)?;
        provider.device_token(&sign_in.0).await.map_err(without_consent)
    }

    /// Where to send somebody's browser, which is to come back to `redirect`.
    pub fn begin_code(&self, consent: &Consent, redirect: &str) -> Result<CodeSignIn, Error> {
        let (url, state, verifier) = self.provider(consent)?.authorize(redirect, &consent.name)?;
        Ok(CodeSignIn {
            url,
            state,
            verifier,
            redirect: redirect.to_owned(),
        })
    }

    /// The browser has come back, with this query.
    pub async fn finish_code(&self, consent: &Consent, sign_in: &CodeSignIn, query: &str) -> Result<Issued, Error> {
        if !sign_in.is_answered_by(query) {
            return Err(Error::Refused(Refusal::ours(
                "this is not the answer to the sign-in that was begun: begin again",
            )));
        }
        let provider = self.provider(consent)?;
        match parameter(query, "iss") {
            Some(issuer) if provider.is_issuer(&issuer) => {}
            None if provider.config.issuer.is_none() => {}
            _ => return Err(Error::another_provider()),
        }
        if let Some(code) = parameter(query, "error") {
            let description = parameter(query, "error_description");
            return Err(Error::Refused(Refusal::new(
                &code,
                description.as_ref().map(|text| text.as_str()),
            )));
        }
        let code = parameter(query, "code");
        let code = code.ok_or_else(|| Error::Refused(Refusal::ours("the provider sent no code along")))?;
        self.finish_with(consent, sign_in, &code).await
    }

    /// Somebody has copied `code` from the provider's page.
    pub async fn finish_with(&self, consent: &Consent, sign_in: &CodeSignIn, code: &str) -> Result<Issued, Error> {
        let provider = self.provider(consent)?;
        let issued = provider.exchange(code, &sign_in.redirect, &sign_in.verifier).await;
        issued.map_err(without_consent)
    }
}

fn parameter(query: &str, name: &str) -> Option<Zeroizing<String>> {
    form_urlencoded::parse(query.as_bytes())
        .find(|(key, _)| key == name)
        .map(|(_, value)| Zeroizing::new(value.into_owned()))
}
