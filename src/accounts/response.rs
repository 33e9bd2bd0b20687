//! Logins that prove their secret without showing it: APOP, CRAM-MD5 and SCRAM-SHA-256. The secret must be known for that
//! (`password` or `password_file` of an `[[account]]`): no response of a hashed or forwarded login can be verified.

use std::{net::IpAddr, num::NonZeroU32, sync::Arc};

use subtle::ConstantTimeEq;
use tokio::{sync::Semaphore, task};

use super::{Account, Accounts, Attempt, Denied, Known, Meant, Owner};
use crate::{
    challenge::{SCRAM_OCTETS, ScramKeys, apop, hmac_md5},
    config::{self, AccountsOptions, LocalSecret, Secret},
    proofs::{KeyedHash, RandomUnavailable},
};

/// Iterations of SCRAM-SHA-256, the minimum of RFC 7677 §4: an old device must compute them at each login. More iterations
/// would protect stored keys only, but the gateway stores the secret itself.
pub const SCRAM_ITERATIONS: NonZeroU32 = NonZeroU32::MIN.saturating_add(4095);

/// SCRAM verifications at once: each takes a core for a millisecond.
const AT_ONCE: usize = 2;

/// What a device has answered to a challenge.
#[derive(Debug, Clone)]
pub enum Response {
    /// RFC 1939 §7
    Apop {
        /// What the gateway asked.
        challenge: String,
        /// What the device answered.
        digest: [u8; 16],
    },
    /// RFC 2195
    CramMd5 {
        /// What the gateway asked.
        challenge: String,
        /// What the device answered.
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

/// A response that is right.
struct Proved {
    /// Present for SCRAM only.
    signature: Option<Signature>,
}

/// What verifies responses.
#[derive(Debug)]
pub(super) struct Responses {
    hash: KeyedHash,
    at_once: Arc<Semaphore>,
}

impl Responses {
    pub(super) fn new() -> Result<Self, RandomUnavailable> {
        Ok(Self {
            hash: KeyedHash::new()?,
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
        })
    }

    fn salt(&self, login: &[u8]) -> [u8; 16] {
        self.hash.tag([b"salt", login])
    }

    /// Whether `response` was made with `secret`. Takes as long if there is no secret.
    async fn verify(&self, login: &[u8], response: &Response, secret: Option<&Secret>) -> Option<Proved> {
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
                let permit = self.at_once.clone().acquire_owned().await.ok()?;
                let verification = task::spawn_blocking(move || {
                    // A session that is dropped meanwhile does not stop the computation.
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

    /// What the throttle counts a wrong response as, in place of a secret. No device can send it as a password.
    fn guess(&self, response: &Response) -> Secret {
        let octets = match response {
            Response::Apop { digest, .. } | Response::CramMd5 { digest, .. } => &digest[..],
            Response::ScramSha256 { proof, .. } => &proof[..],
        };
        self.hash.tag([b"guess", octets]).to_vec().into()
    }
}

impl Meant<'_> {
    /// The secret, if the gateway knows it.
    fn secret(&self) -> Option<&Secret> {
        match self.mailbox {
            Owner::Local(local) | Owner::Rule(local) => match &local.secret {
                Known::Password(secret) => Some(secret),
                Known::Hash(_) | Known::File(_) => None,
            },
            Owner::Forwarded(_) => None,
        }
    }
}

impl Accounts {
    /// For how many logins a response can be verified.
    pub fn secrets_known(&self) -> SecretsKnown {
        self.secrets_known
    }

    /// The salt with which SCRAM hashes the password of `login`. A login that does not exist has a salt too. All salts change
    /// when the gateway restarts.
    pub fn salt(&self, login: &[u8]) -> [u8; 16] {
        self.lasting.responses.salt(login)
    }

    /// Like [`Accounts::authenticate`], by a response. It is refused alike, and in the same time, if the login does not
    /// exist, if its secret is not known here, and if the response is wrong.
    pub async fn authenticate_response(
        &self,
        login: &[u8],
        response: &Response,
        peer: IpAddr,
    ) -> Result<(Account, Attempt, Option<Signature>), Denied> {
        let meant = self.meant(login);
        let known = meant.as_ref().and_then(Meant::secret);
        let proved = self.lasting.responses.verify(login, response, known).await;
        // A right response counts as the secret that made it; a wrong one is a guess of its own.
        let secret = match (known, &proved) {
            (Some(secret), Some(_)) => secret.clone(),
            _ => self.lasting.responses.guess(response),
        };
        let (attempt, asker) = self.begin(login, meant.as_ref(), &secret, peer).await?;
        let (account, signature) = match (&meant, proved) {
            (Some(meant), Some(Proved { signature })) => (self.verify(meant, secret, asker).await, signature),
            _ => {
                self.spend_time(secret, asker).await;
                (None, None)
            }
        };
        let (account, attempt) = attempt.admit(account).await?;
        Ok((account, attempt, signature))
    }
}
