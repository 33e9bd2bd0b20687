//! Argon2: slow and hungry for memory by design, so only a few at once.

use std::sync::Arc;

use argon2::{
    Argon2,
    password_hash::{Error, PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use tokio::sync::Semaphore;

use crate::config::Secret;

/// Verifications at once. Each takes what the hash asks for, 19 MiB by default, so that a flood of logins waits
/// rather than exhausts memory. The processor has no more to give anyway.
const AT_ONCE: usize = 2;

/// Verifies passwords against hashes, a few at once.
#[derive(Debug)]
pub(super) struct Hashing(Arc<Semaphore>);

impl Hashing {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }

    /// Whether `secret` is what `hash`, a PHC string, was made of.
    pub(super) async fn verify(&self, hash: Arc<str>, secret: Secret) -> bool {
        // The permit goes along: a session that is dropped meanwhile does not stop the computation.
        let Ok(permit) = self.0.clone().acquire_owned().await else {
            return false;
        };
        let verification = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let parsed = PasswordHash::new(&hash);
            parsed.is_ok_and(|parsed| Argon2::default().verify_password(secret.expose(), &parsed).is_ok())
        });
        verification.await.unwrap_or(false)
    }
}

/// The argon2id hash of `password` as a PHC string, for `password_hash`. Takes tens of milliseconds.
pub fn hash_password(password: &Secret) -> Result<String, Error> {
    Ok(Argon2::default().hash_password(password.expose())?.to_string())
}
