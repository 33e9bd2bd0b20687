//! Private keys that sign assertions of an application or a service account (RFC 7523).

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RsaKeyPair};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use rustls_pki_types::PrivateKeyDer;
use zeroize::Zeroizing;

use crate::config::Secret;

/// A key for RS256 or ES256 (RFC 7518 §3.1).
pub(super) struct SigningKey {
    /// The private key in a form that the crate jsonwebtoken takes. (It does not take EC keys in the form of RFC 5915.)
    pub(super) pem: Secret,
    /// The public key, as a certificate contains it (RFC 3279 §2.3.1, RFC 5480 §2.2).
    public: Vec<u8>,
}

impl SigningKey {
    /// Prepares `key` for signing; `None` if it is neither RSA with at least 2048 bits nor EC P-256.
    pub(super) fn of(key: &PrivateKeyDer<'_>) -> Option<Self> {
        let der = key.secret_der();
        let (rsa, label) = match key {
            PrivateKeyDer::Pkcs1(_) => (RsaKeyPair::from_der(der), "RSA PRIVATE KEY"),
            _ => (RsaKeyPair::from_pkcs8(der), "PRIVATE KEY"),
        };
        if let Ok(rsa) = rsa {
            return Some(Self {
                pem: pem(label, der),
                public: rsa.public_key().as_ref().to_vec(),
            });
        }
        let ec = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, der).ok()?;
        Some(Self {
            pem: pem("PRIVATE KEY", ec.to_pkcs8v1().ok()?.as_ref()),
            public: ec.public_key().as_ref().to_vec(),
        })
    }

    /// Whether `certificate` (DER) contains the public key of this key.
    pub(super) fn is_certified_by(&self, certificate: &[u8]) -> bool {
        memchr::memmem::find(certificate, &self.public).is_some()
    }
}

/// Encodes `der` as PEM (RFC 7468).
fn pem(label: &str, der: &[u8]) -> Secret {
    let text = Zeroizing::new(BASE64.encode(der));
    let pem = format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", *text);
    Secret::from(pem.into_bytes())
}
