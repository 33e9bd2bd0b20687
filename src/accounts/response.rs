//! Logins by a challenge, where the device proves that it knows the secret without sending it: APOP, CRAM-MD5 and
//! SCRAM-SHA-256. The gateway must know the secret itself (`password` or `password_file` of an `[[account]]`): a response
//! cannot be verified for a login whose secret is hashed or which is forwarded.

use std::{net::IpAddr, num::NonZeroU32, sync::Arc};

use subtle::ConstantTimeEq;
use tokio::task;

use super::{Account, Accounts, Attempt, Denied, LoginOwner, ResolvedLogin, StoredSecret, queue::Queue};
use crate::{
    challenge::{SCRAM_OCTETS, ScramKeys, apop, hmac_md5},
    config::{self, AccountsOptions, LocalSecret, Secret},
    proofs::{KeyedHash, RandomUnavailable},
    types::network,
};

/// Iterations of SCRAM-SHA-256, the minimum of RFC 7677 §4: an old device must compute them at each login. More iterations
/// would protect stored keys only, but the gateway stores the secret itself.
pub const SCRAM_ITERATIONS: NonZeroU32 = NonZeroU32::MIN.saturating_add(4095);

/// How many SCRAM verifications run at once. Each takes a core for about a millisecond.
const AT_ONCE: usize = 2;

/// A device's response to a challenge.
#[derive(Debug, Clone)]
pub enum Response {
    /// RFC 1939 §7
    Apop {
        /// The challenge that the gateway sent.
        challenge: String,
        /// The digest that the device sent.
        digest: [u8; 16],
    },
    /// RFC 2195
    CramMd5 {
        /// The challenge that the gateway sent.
        challenge: String,
        /// The digest that the device sent.
        digest: [u8; 16],
    },
    /// RFC 7677
    ScramSha256 {
        /// RFC 5802 §3: `AuthMessage`.
        signed: String,
        /// RFC 5802 §3: `ClientProof`.
        proof: [u8; SCRAM_OCTETS],
    },
}

/// How the gateway proves to a device that it knows the secret too (RFC 5802 §3: `ServerSignature`).
pub type Signature = Vec<u8>;

/// For how many logins the gateway knows the secret itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretsKnown {
    /// For none: no response can be verified.
    None,
    /// For some: the responses of others are refused.
    Some,
    /// For all.
    All,
}

impl SecretsKnown {
    pub(super) fn of(options: &AccountsOptions<'_>) -> Self {
        let is_known = |account: &config::Account| matches!(account.secret, LocalSecret::Password(_));
        let is_forwarded = options.upstreams.iter().any(|upstream| !upstream.logins.is_empty());
        if !options.accounts.iter().any(is_known) {
            Self::None
        } else if is_forwarded || !options.accounts.iter().all(is_known) {
            Self::Some
        } else {
            Self::All
        }
    }
}

/// The result of verifying a right response.
struct Proved {
    /// Present for SCRAM only.
    signature: Option<Signature>,
}

/// Verifies responses; those of SCRAM a few at once.
#[derive(Debug)]
pub(super) struct Responses {
    hash: KeyedHash,
    queue: Arc<Queue>,
}

impl Responses {
    pub(super) fn new() -> Result<Self, RandomUnavailable> {
        Ok(Self {
            hash: KeyedHash::new()?,
            queue: Queue::new(AT_ONCE),
        })
    }

    fn salt(&self, login: &[u8]) -> [u8; 16] {
        self.hash.tag([b"salt", login])
    }

    /// Verifies that `response` was made with `secret`; `None` if it was not. Takes the same time if there is no secret.
    async fn verify(&self, login: &[u8], response: &Response, secret: Option<&Secret>, peer: IpAddr) -> Option<Proved> {
        let candidate = secret.cloned().unwrap_or_else(|| "nobody's".into());
        let is_digest = |right: [u8; 16], digest: &[u8; 16]| right.ct_eq(digest).into();
        let (is_right, signature) = match response {
            Response::Apop { challenge, digest } => {
                let right = apop(challenge.as_bytes(), candidate.expose());
                (is_digest(right, digest), None)
            }
            Response::CramMd5 { challenge, digest } => {
                let right = hmac_md5(candidate.expose(), challenge.as_bytes());
                (is_digest(right, digest), None)
            }
            Response::ScramSha256 { signed, proof } => {
                let (signed, proof, salt) = (signed.clone(), *proof, self.salt(login));
                // The throttle is asked later, so nobody is a suspect yet. But each network waits its turn.
                let permit = self.queue.acquire(network(peer), false).await;
                let verification = task::spawn_blocking(move || {
                    // The computation goes on if the session is dropped meanwhile, so it holds the permit.
                    let _permit = permit;
                    let keys = ScramKeys::new(candidate.expose(), &salt, SCRAM_ITERATIONS);
                    let signature = keys.signature(signed.as_bytes()).as_ref().to_vec();
                    (keys.is_proof(&proof, signed.as_bytes()), Some(signature))
                });
                verification.await.ok()?
            }
        };
        (is_right && secret.is_some()).then_some(Proved { signature })
    }

    /// The octets by which the throttle counts a wrong response, in place of a secret. They are a keyed hash, so no device can
    /// send them as a password.
    fn guess(&self, response: &Response) -> Secret {
        let octets = match response {
            Response::Apop { digest, .. } | Response::CramMd5 { digest, .. } => &digest[..],
            Response::ScramSha256 { proof, .. } => &proof[..],
        };
        self.hash.tag([b"guess", octets]).to_vec().into()
    }
}

impl ResolvedLogin<'_> {
    /// The secret of the login, if the gateway knows it.
    fn secret(&self) -> Option<&Secret> {
        match self.owner {
            LoginOwner::Local(local) | LoginOwner::Rule(local) => match &local.secret {
                StoredSecret::Password(secret) => Some(secret),
                StoredSecret::Hash(_) | StoredSecret::File(_) => None,
            },
            LoginOwner::Forwarded(_) => None,
        }
    }
}

impl Accounts {
    /// For how many logins a response can be verified.
    pub fn secrets_known(&self) -> SecretsKnown {
        self.secrets_known
    }

    /// The salt with which SCRAM hashes the password of `login`. A login that does not exist has a salt too, so that the salt
    /// does not reveal it. All salts change when the gateway restarts.
    pub fn salt(&self, login: &[u8]) -> [u8; 16] {
        self.lasting.responses.salt(login)
    }

    /// Like [`Accounts::authenticate`], with a response instead of the secret. Answer and time are the same if the
    /// login does not exist, if the gateway does not know its secret, and if the response is wrong. The response is
    /// verified before the throttle is asked.
    pub async fn authenticate_response(
        &self,
        login: &[u8],
        response: &Response,
        peer: IpAddr,
    ) -> Result<(Account, Attempt, Option<Signature>), Denied> {
        let resolved = self.resolve(login);
        let known = resolved.as_ref().and_then(ResolvedLogin::secret);
        let proved = self.lasting.responses.verify(login, response, known, peer).await;
        // The throttle counts a right response as the secret that made it, and each wrong response as a guess of its own.
        let secret = match (known, &proved) {
            (Some(secret), Some(_)) => secret.clone(),
            _ => self.lasting.responses.guess(response),
        };
        let (attempt, asker) = self.begin(login, resolved.as_ref(), &secret, peer).await?;
        let (account, signature) = match (&resolved, proved) {
            (Some(resolved), Some(Proved { signature })) => (self.verify(resolved, secret, asker).await, signature),
            _ => {
                self.spend_time(secret, asker).await;
                (None, None)
            }
        };
        let (account, attempt) = attempt.admit(account).await?;
        Ok((account, attempt, signature))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn who_sends_many_responses_waits_for_others() {
        let responses = Responses::new().unwrap();
        let [many, one] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(IpAddr::from);
        let response = Response::ScramSha256 {
            signed: "n=x".into(),
            proof: [0; 32],
        };
        let places = [
            responses.queue.acquire(many, false).await,
            responses.queue.acquire(many, false).await,
        ];
        let waiting = |peer| {
            let mut verification = Box::pin(responses.verify(b"x", &response, None, peer));
            assert!(verification.as_mut().now_or_never().is_none());
            verification
        };
        let guesses: Vec<_> = (0..20).map(|_| waiting(many)).collect();
        let honest = waiting(one);
        drop(places);
        let verified = tokio::time::timeout(Duration::from_secs(30), honest).await;
        assert!(verified.is_ok_and(|proved| proved.is_none()));
        drop(guesses);
    }
}
