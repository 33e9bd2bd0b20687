//! Verification of Argon2 hashes, which takes much time and memory by design. So only a few hashes are computed at once, and
//! recent results are remembered.

use std::{net::IpAddr, sync::Arc, time::Duration};

use argon2::{
    Argon2,
    password_hash::{Error, PasswordHasher, PasswordVerifier, phc::PasswordHash},
};

use super::queue::{Queue, QueuePermit};
use crate::{
    config::Secret,
    proofs::{KeyedHash, RandomUnavailable, Recent, Tag},
};

/// How many verifications run at once. Each takes the memory that the hash asks for, 19 MiB by default: a flood of logins waits
/// rather than exhausts memory. More at once would gain nothing, because the processor is the limit.
const AT_ONCE: usize = 2;
/// How long a secret that was wrong is not verified again, counted from its last use.
const WRONG_FOR: Duration = Duration::from_secs(30);

/// Verifies passwords against hashes, a few at once.
#[derive(Debug)]
pub(super) struct Hashing {
    proof_lasts: Duration,
    queue: Arc<Queue>,
    key: KeyedHash,
    right: Recent,
    wrong: Recent,
}

/// The login and the address for which a secret is verified.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker<'a> {
    pub(super) login: &'a [u8],
    pub(super) address: IpAddr,
    /// Whether a login from this address has failed lately.
    pub(super) is_suspect: bool,
}

impl Hashing {
    /// A secret that was right is not verified again for `proof_lasts`, counted from its last use.
    pub(super) fn new(proof_lasts: Duration) -> Result<Self, RandomUnavailable> {
        Ok(Self {
            proof_lasts,
            queue: Queue::new(AT_ONCE),
            key: KeyedHash::new()?,
            right: Recent::new(proof_lasts),
            wrong: Recent::new(WRONG_FOR),
        })
    }

    /// How long a secret that was right is not verified again.
    pub(super) fn proof_lasts(&self) -> Duration {
        self.proof_lasts
    }

    /// Whether `hash`, a PHC string, was made from `secret`. The result is remembered for this login and this hash
    /// only. So a result for an old hash does not count for a new one. For an unknown login the hash of another login
    /// is verified; how long that takes does not depend on the results for the other login.
    pub(super) async fn verify(&self, hash: Arc<str>, secret: Secret, asker: Asker<'_>) -> bool {
        let tag = self.key.tag([asker.login, hash.as_bytes(), secret.expose()]);
        let is_right = match self.known(&tag) {
            Some(is_right) => is_right,
            None => {
                let permit = self.queue.acquire(asker.address, asker.is_suspect).await;
                // Another session of the same device may have verified the same secret while this one waited.
                match self.known(&tag) {
                    Some(is_right) => is_right,
                    None => compute(hash, secret, permit).await,
                }
            }
        };
        let known = if is_right { &self.right } else { &self.wrong };
        known.insert(tag);
        is_right
    }

    fn known(&self, tag: &Tag) -> Option<bool> {
        let is_right = self.right.contains(tag);
        (is_right || self.wrong.contains(tag)).then_some(is_right)
    }
}

async fn compute(hash: Arc<str>, secret: Secret, permit: QueuePermit) -> bool {
    // The computation goes on if the session is dropped meanwhile, so it holds the permit.
    let verification = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let parsed = PasswordHash::new(&hash);
        parsed.is_ok_and(|parsed| Argon2::default().verify_password(secret.expose(), &parsed).is_ok())
    });
    verification.await.unwrap_or(false)
}

/// The argon2id hash of `password` as a PHC string, for `password_hash`. Takes tens of milliseconds.
///
/// ```
/// let hash = popgate::accounts::hash_password(&"a password".into()).unwrap();
/// assert!(hash.starts_with("$argon2id$v=19$"));
/// ```
pub fn hash_password(password: &Secret) -> Result<String, Error> {
    Ok(Argon2::default().hash_password(password.expose())?.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use futures_util::FutureExt;

    use super::*;

    const LASTS: Duration = Duration::from_secs(900);

    fn asker(login: &str) -> Asker<'_> {
        Asker {
            login: login.as_bytes(),
            address: [10, 0, 0, 1].into(),
            is_suspect: false,
        }
    }

    /// Returns the result, and whether the hash was computed: then it took more than a tenth of `time`, the duration of one
    /// computation.
    async fn verify(hashing: &Hashing, hash: &Arc<str>, login: &str, secret: &str, time: Duration) -> (bool, bool) {
        let begun = Instant::now();
        let is_right = hashing.verify(hash.clone(), secret.into(), asker(login)).await;
        (is_right, begun.elapsed() > time / 10)
    }

    #[tokio::test]
    async fn what_is_known_is_not_computed_again() {
        let begun = Instant::now();
        let hash: Arc<str> = hash_password(&"own".into()).unwrap().into();
        let time = begun.elapsed();
        let other: Arc<str> = hash_password(&"own".into()).unwrap().into();
        let hashing = Hashing::new(LASTS).unwrap();
        for (hash, login, secret, expected) in [
            (&hash, "pbx", "own", (true, true)),
            (&hash, "pbx", "own", (true, false)),
            (&hash, "pbx", "wrong", (false, true)),
            (&hash, "pbx", "wrong", (false, false)),
            (&hash, "nobody", "own", (true, true)),
            (&other, "pbx", "own", (true, true)),
            (&other, "pbx", "wrong", (false, true)),
        ] {
            assert_eq!(
                verify(&hashing, hash, login, secret, time).await,
                expected,
                "{login}, {secret}"
            );
        }
        let hashing = Hashing::new(Duration::ZERO).unwrap();
        for _ in 0..2 {
            let verified = verify(&hashing, &hash, "pbx", "own", time).await;
            assert_eq!(verified, (true, true), "nothing is parked, nothing is remembered");
        }
    }

    /// A device that disconnects while it waits for its turn causes no computation.
    #[tokio::test]
    async fn nothing_is_computed_for_who_is_gone() {
        let hash: Arc<str> = hash_password(&"own".into()).unwrap().into();
        let hashing = Hashing::new(LASTS).unwrap();
        let address = [10, 0, 0, 1].into();
        let permits = [
            hashing.queue.acquire(address, false).await,
            hashing.queue.acquire(address, false).await,
        ];
        for number in 0..100 {
            let secret = number.to_string();
            let verification = hashing.verify(hash.clone(), secret.as_str().into(), asker("pbx"));
            assert!(verification.now_or_never().is_none());
        }
        drop(permits);
        let permit = hashing.queue.acquire(address, false).now_or_never();
        assert!(permit.is_some(), "nobody waits any more");
    }
}
