//! Assertions, which a client or a service account signs to prove its identity (RFC 7523).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use jsonwebtoken::{Algorithm, EncodingKey, Header, errors::ErrorKind};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::{
    config::{CertificateForm, ClientKey},
    types::{now, random_octets},
};

/// Seconds for which an assertion is valid. Providers accept up to an hour. If it were a few seconds only, assertions
/// would fail if clocks differ.
const LIFETIME: u64 = 300;

/// The claims of an assertion (RFC 7523 §3).
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    jti: String,
    iat: u64,
    nbf: u64,
    exp: u64,
}

/// The key cannot sign, although the configuration was checked.
#[derive(Debug, thiserror::Error)]
#[error("the private key cannot sign: {0}")]
pub(super) struct Unsigned(jsonwebtoken::errors::Error);

/// Signs that `issuer` acts for `subject` at the provider whose token URL is `audience`. `scopes`: what to ask for in
/// the assertion; `None` if the request itself has the scopes.
pub(super) fn assertion(
    key: &ClientKey,
    issuer: &str,
    subject: &str,
    audience: &str,
    scopes: Option<&[String]>,
) -> Result<Zeroizing<String>, Unsigned> {
    let pem = key.pem.expose();
    let (algorithm, signer) = match EncodingKey::from_rsa_pem(pem) {
        // https://learn.microsoft.com/entra/identity-platform/certificate-credentials
        Ok(signer) if key.thumbprint.is_some() && key.form == CertificateForm::Ps256 => (Algorithm::PS256, signer),
        Ok(signer) => (Algorithm::RS256, signer),
        Err(_) => (Algorithm::ES256, EncodingKey::from_ec_pem(pem).map_err(Unsigned)?),
    };
    let is_old_form = algorithm == Algorithm::RS256 && key.form == CertificateForm::Rs256;
    let header = Header {
        kid: key.key_id.clone(),
        x5t: key
            .old_thumbprint
            .filter(|_| is_old_form)
            .map(|digest| BASE64URL.encode(digest)),
        x5t_s256: key
            .thumbprint
            .filter(|_| !is_old_form)
            .map(|digest| BASE64URL.encode(digest)),
        ..Header::new(algorithm)
    };
    let now = u64::from(now());
    let unique = random_octets().map_err(|error| Unsigned(ErrorKind::Signing(error.to_string()).into()))?;
    let claims = Claims {
        iss: issuer,
        sub: subject,
        aud: audience,
        scope: scopes.map(|scopes| scopes.join(" ")),
        jti: BASE64URL.encode(unique),
        iat: now,
        nbf: now,
        exp: now + LIFETIME,
    };
    let signed = jsonwebtoken::encode(&header, &claims, &signer).map_err(Unsigned)?;
    Ok(Zeroizing::new(signed))
}
