//! Encryption under keys that are derived from a secret of the configuration.

use aws_lc_rs::{hkdf, rand};
use chacha20poly1305::{
    Key, XChaCha20Poly1305, XNonce,
    aead::{Aead, KeyInit, Payload},
};
use zeroize::Zeroizing;

use super::RandomUnavailable;

/// Octets of a nonce: enough that two random nonces are never equal in practice.
const NONCE: usize = 24;

/// Encrypts and decrypts with XChaCha20-Poly1305. The sealed form is a nonce of 24 octets and the ciphertext, which is
/// 16 octets longer than the plain text.
pub struct Sealer(XChaCha20Poly1305);

impl Sealer {
    /// A sealer whose key is derived from `secret` and `purpose` (HKDF with SHA-256). Sealers with different purposes
    /// cannot open what the others have sealed. Without a secret the key is random, so only this sealer can open what
    /// it has sealed.
    pub fn new(secret: Option<&[u8]>, purpose: &[&[u8]]) -> Result<Self, RandomUnavailable> {
        let mut key = Zeroizing::new([0; 32]);
        match secret {
            Some(secret) => hkdf::Salt::new(hkdf::HKDF_SHA256, &[])
                .extract(secret)
                .expand(purpose, hkdf::HKDF_SHA256)
                .and_then(|derived| derived.fill(&mut *key)),
            None => rand::fill(&mut *key),
        }
        .map_err(|_| RandomUnavailable)?;
        Ok(Self(XChaCha20Poly1305::new(&Key::from(*key))))
    }

    /// Seals `plain`, bound to `context`: the result opens only with an equal context.
    pub fn seal(&self, plain: &[u8], context: &[u8]) -> Result<Vec<u8>, RandomUnavailable> {
        let mut nonce = [0; NONCE];
        rand::fill(&mut nonce).map_err(|_| RandomUnavailable)?;
        let payload = Payload {
            msg: plain,
            aad: context,
        };
        // Encryption fails only for plain texts of hundreds of gigabytes.
        let sealed = self.0.encrypt(&XNonce::from(nonce), payload);
        Ok([&nonce[..], &sealed.map_err(|_| RandomUnavailable)?].concat())
    }

    /// Opens what was sealed under the same key with the same context. `None` if `sealed` is anything else, or is
    /// damaged.
    pub fn open(&self, sealed: &[u8], context: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, msg) = sealed.split_first_chunk::<NONCE>()?;
        let plain = self.0.decrypt(&XNonce::from(*nonce), Payload { msg, aad: context });
        plain.ok().map(Zeroizing::new)
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer(…)")
    }
}
