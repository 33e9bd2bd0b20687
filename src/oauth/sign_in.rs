//! Two ways to consent: a person types in a code at the provider's page (RFC 8628), or a browser is sent to the
//! provider and back (RFC 6749 §4.1).

use std::time::Duration;

use oauth2::{
    StandardDeviceAuthorizationResponse,
    url::{Url, form_urlencoded},
};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{Error, Issued, TokenRefusal, Tokens, without_consent};
use crate::state::Consent;

/// A sign-in by a device code, which somebody must type in.
#[derive(Debug)]
pub struct DeviceSignIn(StandardDeviceAuthorizationResponse);

impl DeviceSignIn {
    /// The URL of the page where the code is typed in.
    pub fn url(&self) -> &str {
        self.0.verification_uri()
    }

    /// The URL of a page where the code is already filled in, if the provider has one.
    pub fn url_with_code(&self) -> Option<&str> {
        let url = self.0.verification_uri_complete()?;
        Some(url.secret())
    }

    /// The code that is typed in.
    pub fn code(&self) -> &str {
        self.0.user_code().secret()
    }

    /// How long the code is valid.
    pub fn lifetime(&self) -> Duration {
        self.0.expires_in()
    }
}

/// A sign-in in a browser, which is sent to the provider and comes back with a code.
pub struct CodeSignIn {
    /// The URL that the browser is sent to.
    pub url: String,
    state: String,
    verifier: Zeroizing<String>,
    redirect: String,
}

impl CodeSignIn {
    /// Whether `query`, which a browser has brought back to the redirect URL, is the answer to this sign-in: its
    /// `state` must be the one that was sent (RFC 6749 §10.12).
    pub fn is_answered_by(&self, query: &str) -> bool {
        let state = parameter(query, "state").unwrap_or_default();
        state.as_bytes().ct_eq(self.state.as_bytes()).into()
    }

    /// Whether `path` is the path of the redirect URL. A proxy may have removed the start of `path`.
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

    /// Waits until somebody has typed in the code or declined, or until the code has expired.
    pub async fn finish_device(&self, consent: &Consent, sign_in: &DeviceSignIn) -> Result<Issued, Error> {
        let provider = self.provider(consent)?;
        provider.device_token(&sign_in.0).await.map_err(without_consent)
    }

    /// Begins a sign-in in a browser; the provider sends the browser back to `redirect`.
    pub fn begin_code(&self, consent: &Consent, redirect: &str) -> Result<CodeSignIn, Error> {
        let (url, state, verifier) = self.provider(consent)?.authorize(redirect, &consent.name)?;
        Ok(CodeSignIn {
            url,
            state,
            verifier,
            redirect: redirect.to_owned(),
        })
    }

    /// Finishes a sign-in after the browser has come back with `query`. Fails if `query` belongs to another sign-in, is
    /// from another provider (RFC 9207), or reports an error.
    pub async fn finish_code(&self, consent: &Consent, sign_in: &CodeSignIn, query: &str) -> Result<Issued, Error> {
        if !sign_in.is_answered_by(query) {
            return Err(Error::Refused(TokenRefusal::ours(
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
            return Err(Error::Refused(TokenRefusal::new(
                &code,
                description.as_ref().map(|text| text.as_str()),
            )));
        }
        let code = parameter(query, "code");
        let code = code.ok_or_else(|| Error::Refused(TokenRefusal::ours("the provider sent no code along")))?;
        self.finish_with(consent, sign_in, &code).await
    }

    /// Finishes a sign-in with the authorization code `code`. The code comes from the answer, or a person has copied it
    /// from the provider's page.
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
