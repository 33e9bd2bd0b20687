//! OAuth2 tokens (RFC 6749) for upstreams that take no password. State keeps the tokens sealed. They are renewed before
//! they expire, one renewal at a time for each consent.

mod answer;
mod assertion;
mod error;
mod explanation;
mod http;
mod provider;
mod renewal;
mod sign_in;
mod status;
mod token;
mod vault;

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use dashmap::DashMap;
use tokio::sync::Mutex;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{provider::Provider, renewal::RenewalState, token::ConsentRecord, vault::Vault};
use crate::{
    config::{Grant, OAuthOptions},
    state::{Consent, MemoryStore, Renewer, StateStore, Unavailable, now},
};

pub use error::{Error, TokenRefusal};
pub use provider::SetupError;
pub use sign_in::{CodeSignIn, DeviceSignIn};
pub use status::{ConsentState, ConsentStatus, TextPart};
pub use token::{AccessToken, Issued};

/// After how many seconds without use a consent is renewed. Providers end consents that are not used: Google after six
/// months, Microsoft after 90 days.
const LONG_UNUSED: u32 = 7 * 24 * 3600;
/// Why a consent ends with its first access token, and what to do about it.
const NO_REFRESH_TOKEN: &str = "the provider gave no refresh token. Most providers give one if scopes has offline_access; Google \
     does if authorize_url ends with access_type=offline&prompt=consent. Then sign in once more";

/// The tokens of all upstreams that use OAuth2.
#[derive(Debug)]
pub struct Tokens {
    providers: HashMap<String, Provider>,
    store: Arc<dyn StateStore>,
    vault: Arc<Vault>,
    renewal_states: Arc<DashMap<Consent, Arc<Mutex<RenewalState>>>>,
    /// See [`Tokens::last_status`].
    statuses: Arc<DashMap<Consent, ConsentStatus>>,
    /// Renewals in flight. Each must be completed even if the session that needed it has ended, because a refresh token
    /// may be good for one use only.
    renewals: TaskTracker,
    /// Cancelled when the process shuts down.
    closing: CancellationToken,
}

/// What has happened to the tokens of a sign-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepOutcome {
    /// The tokens are kept, and replace the earlier ones.
    New,
    /// The new tokens have no refresh token. The earlier consent has one, and stays.
    Old,
    /// The tokens cannot be written yet. The gateway tries again and again until the process ends.
    Unwritten,
}

impl Tokens {
    /// Manages the tokens for the upstreams of `options`, and keeps them in `store`.
    pub fn new<'a>(options: impl Into<OAuthOptions<'a>>, store: Arc<dyn StateStore>) -> Result<Arc<Self>, SetupError> {
        let options = options.into();
        Ok(Self::of(providers(&options)?, store, Vault::new(options.key)?))
    }

    /// Manages the tokens for the upstreams of `options`, which are a new configuration. The new `Tokens` shares the
    /// store, its key and the renewals in flight with this one, so that no two renewals of a consent run at once.
    pub fn reconfigured<'a>(&self, options: impl Into<OAuthOptions<'a>>) -> Result<Arc<Self>, SetupError> {
        Ok(Arc::new(Self {
            providers: providers(&options.into())?,
            store: self.store.clone(),
            vault: self.vault.clone(),
            renewal_states: self.renewal_states.clone(),
            statuses: self.statuses.clone(),
            renewals: self.renewals.clone(),
            closing: self.closing.clone(),
        }))
    }

    fn of(providers: HashMap<String, Provider>, store: Arc<dyn StateStore>, vault: Vault) -> Arc<Self> {
        Arc::new(Self {
            providers,
            store,
            vault: Arc::new(vault),
            renewal_states: Arc::default(),
            statuses: Arc::default(),
            renewals: TaskTracker::new(),
            closing: CancellationToken::new(),
        })
    }

    /// Manages no tokens, for tests that need none.
    #[cfg(test)]
    pub(crate) fn none() -> Arc<Self> {
        Self::of(
            HashMap::new(),
            Arc::new(MemoryStore::default()),
            Vault::new(None).unwrap(),
        )
    }

    /// Waits until all renewals in flight have ended and all tokens are saved. Never returns if the disk stays full.
    pub async fn finish(&self) {
        self.closing.cancel();
        self.renewals.close();
        self.renewals.wait().await;
    }

    /// The consents whose tokens are in memory only, because they could not be saved.
    pub fn unsaved(&self) -> Vec<Consent> {
        let has_unsaved = |state: &Arc<Mutex<RenewalState>>| state.try_lock().is_ok_and(|state| state.has_unsaved());
        let consents = self.renewal_states.iter().filter(|entry| has_unsaved(entry.value()));
        consents.map(|entry| entry.key().clone()).collect()
    }

    fn renewal_state(&self, consent: &Consent) -> Arc<Mutex<RenewalState>> {
        self.renewal_states.entry(consent.clone()).or_default().clone()
    }

    fn provider(&self, consent: &Consent) -> Result<&Provider, Error> {
        let missing = || Error::Refused(TokenRefusal::ours("the upstream has no oauth2 in the configuration"));
        self.providers.get(&consent.upstream).ok_or_else(missing)
    }

    /// The consent that has the tokens for `name` at `upstream`. With `grant = "client-credentials"` the provider
    /// trusts the application itself, and one token serves all names.
    pub fn consent(&self, upstream: &str, name: &str) -> Consent {
        let is_shared = self
            .providers
            .get(upstream)
            .is_some_and(|provider| provider.config.grant == Grant::ClientCredentials);
        Consent {
            upstream: upstream.to_owned(),
            name: if is_shared { String::new() } else { name.to_owned() },
        }
    }

    /// An access token that is valid for long enough for a new session. Renews it if necessary.
    pub async fn access(self: &Arc<Self>, consent: &Consent) -> Result<AccessToken, Error> {
        match self.record(consent).await? {
            (_, record) if record.is_fresh(now()) => Ok(record.access()),
            _ => self.renewed(consent, None).await,
        }
    }

    /// An access token to use instead of `refused`, which the upstream has refused although it has not expired.
    pub async fn access_after(
        self: &Arc<Self>,
        consent: &Consent,
        refused: &AccessToken,
    ) -> Result<AccessToken, Error> {
        self.renewed(consent, Some(refused.clone())).await
    }

    /// Makes a trial: `Tokens` that have only what was `issued` for `consent`, in memory, until the mailbox has been
    /// opened with it. If the trial renews the access token, the new one is kept in the trial too.
    pub async fn trial(&self, consent: &Consent, issued: Issued) -> Result<Arc<Self>, Error> {
        let vault = Vault::new(None).map_err(|_| Error::State)?;
        let trial = Self::of(self.providers.clone(), Arc::new(MemoryStore::default()), vault);
        let signed_in = ConsentRecord {
            signed_in: now(),
            ..ConsentRecord::default()
        };
        trial.save(consent, None, &signed_in.renewed(issued, now())).await?;
        Ok(trial)
    }

    /// Keeps the tokens of `trial`, after somebody has signed in. They replace the earlier ones, unless the earlier
    /// consent still holds and has a refresh token, and `trial` has none.
    pub async fn keep(self: &Arc<Self>, consent: &Consent, trial: &Self) -> Result<KeepOutcome, Error> {
        let (_, fresh) = trial.record(consent).await?;
        loop {
            let sealed = self.sealed(consent).await?;
            let before = sealed.as_ref().and_then(|sealed| self.vault.open(consent, sealed).ok());
            if fresh.refresh.is_none()
                && before.is_some_and(|record| record.refresh.is_some() && record.lapsed.is_none())
            {
                return Ok(KeepOutcome::Old);
            }
            match self.save(consent, sealed.as_deref(), &fresh).await {
                Ok(Some(_)) => return Ok(KeepOutcome::New),
                Ok(None) => {}
                Err(_) => {
                    let state = self.renewal_state(consent).lock_owned().await;
                    self.save_later(consent, state, sealed, fresh, None);
                    return Ok(KeepOutcome::Unwritten);
                }
            }
        }
    }

    /// Asks the provider to revoke the token of `trial`. Returns whether the provider did.
    pub async fn revoke(&self, consent: &Consent, trial: &Self) -> bool {
        let (Ok(provider), Ok((_, record))) = (self.provider(consent), trial.record(consent).await) else {
            return false;
        };
        let token = record.refresh.as_ref().unwrap_or(&record.access);
        match provider.revoke(token).await {
            Ok(revoked) => revoked,
            Err(error) => {
                tracing::warn!(%consent, %error, "the provider did not revoke a token");
                false
            }
        }
    }

    /// Deletes the consent from state. Returns whether there was one.
    pub async fn forget(&self, consent: &Consent) -> Result<bool, Error> {
        loop {
            let sealed = self.sealed(consent).await?;
            match self.store.set_token(consent, sealed.as_deref(), None).await {
                Err(Unavailable::Changed) => {}
                Err(_) => return Err(Error::State),
                Ok(()) => {
                    self.note_status(consent, &ConsentRecord::default());
                    return Ok(sealed.is_some());
                }
            }
        }
    }

    /// The status of `consent`, without asking the provider.
    pub async fn status(&self, consent: &Consent) -> Result<ConsentStatus, Error> {
        let needs_consent = self.provider(consent)?.config.needs_consent();
        let status = match self.record(consent).await {
            Ok((_, record)) => ConsentStatus::of(&record, needs_consent, now()),
            Err(Error::SignIn(refusal)) => ConsentStatus::unreadable(&refusal),
            Err(error) => return Err(error),
        };
        self.statuses.insert(consent.clone(), status.clone());
        Ok(self.with_unwritable(status).await)
    }

    /// The status of `consent` when its record was last written, or read for [`Self::status`]. Does not ask state for
    /// the record, which takes long if the servers of state are away. `None` if this process has done neither yet.
    pub async fn last_status(&self, consent: &Consent) -> Option<ConsentStatus> {
        let status = self.statuses.get(consent).map(|status| status.value().clone())?;
        Some(self.with_unwritable(status).await)
    }

    async fn with_unwritable(&self, status: ConsentStatus) -> ConsentStatus {
        let unwritable = self.store.tokens_unwritable_since().await;
        status.unwritable_since(unwritable.ok().flatten())
    }

    /// Remembers the status of `record`, which was just written, for [`Self::last_status`].
    fn note_status(&self, consent: &Consent, record: &ConsentRecord) {
        // Without a provider nobody asks for the status.
        if let Ok(provider) = self.provider(consent) {
            let status = ConsentStatus::of(record, provider.config.needs_consent(), now());
            self.statuses.insert(consent.clone(), status);
        }
    }

    /// Repeats a token request that was in flight when the previous process was killed. The provider may have rotated
    /// the refresh token, and accepts the old one for some seconds only.
    pub async fn resume(self: &Arc<Self>, consent: &Consent) {
        if let Ok((_, record)) = self.record(consent).await
            && record.asked > 0
        {
            tracing::info!(%consent, "the gateway ended while it asked for a token: asking again");
            // The renewal logs its failure.
            let _ = self.renewed(consent, None).await;
        }
    }

    /// Renews a consent that has been unused for long, before the provider ends it.
    pub async fn keep_alive(self: &Arc<Self>, consent: &Consent) {
        if let Ok((_, record)) = self.record(consent).await
            && record.refresh.is_some()
            && record.lapsed.is_none()
            && record.obtained.saturating_add(LONG_UNUSED) < now()
        {
            // The renewal logs its failure, and the next sweep tries again.
            let _ = self.renewed(consent, None).await;
        }
    }

    async fn sealed(&self, consent: &Consent) -> Result<Option<Vec<u8>>, Error> {
        match self.store.token(consent).await {
            // A damaged record counts as missing, and is replaced.
            Err(Unavailable::Damaged) => Ok(None),
            sealed => sealed.map_err(|_| Error::State),
        }
    }

    /// The record of `consent`, sealed and opened. If it was sealed with another key, it counts as missing for a grant
    /// that needs no consent. For other grants this fails, and the record stays until the key is corrected.
    async fn record(&self, consent: &Consent) -> Result<(Option<Vec<u8>>, ConsentRecord), Error> {
        let sealed = self.sealed(consent).await?;
        let opened = sealed.as_ref().map(|octets| self.vault.open(consent, octets));
        match opened {
            Some(Err(_)) if self.provider(consent)?.config.needs_consent() => Err(Error::SignIn(TokenRefusal::ours(
                "what is kept was sealed with another key: is it the one that [state] names?",
            ))),
            Some(Ok(record)) => Ok((sealed, record)),
            Some(Err(_)) | None => Ok((sealed, ConsentRecord::default())),
        }
    }

    /// Saves `record` in place of the sealed record `followed`, and returns it sealed. If state no longer has
    /// `followed`, returns `None` and changes nothing.
    async fn save(
        &self,
        consent: &Consent,
        followed: Option<&[u8]>,
        record: &ConsentRecord,
    ) -> Result<Option<Vec<u8>>, Error> {
        let sealed = self.vault.seal(consent, record).map_err(|_| Error::State)?;
        match self.store.set_token(consent, followed, Some(&sealed)).await {
            Ok(()) => {
                self.note_status(consent, record);
                Ok(Some(sealed))
            }
            Err(Unavailable::Changed) => Ok(None),
            Err(_) => Err(Error::State),
        }
    }
}

fn providers(options: &OAuthOptions<'_>) -> Result<HashMap<String, Provider>, SetupError> {
    let upstreams = options.upstreams.iter();
    let with_tokens = upstreams.filter_map(|upstream| Some((upstream.name.clone(), upstream.oauth2.as_ref()?)));
    with_tokens
        .map(|(name, oauth2)| Ok((name, Provider::new(oauth2)?)))
        .collect()
}

/// Renews tokens for other processes, which must not renew them themselves and ask at the gateway's socket.
#[derive(Debug)]
pub struct AtTheSocket(pub Arc<Tokens>);

#[async_trait]
impl Renewer for AtTheSocket {
    async fn renew(&self, consent: &Consent, is_refused: bool) -> String {
        let Self(tokens) = self;
        let renewed = async {
            let refused = if is_refused {
                Some(tokens.record(consent).await?.1.access())
            } else {
                None
            };
            match refused {
                Some(refused) => tokens.access_after(consent, &refused).await,
                None => tokens.access(consent).await,
            }
        };
        // Serialising these types to memory cannot fail.
        serde_json::to_string(&renewed.await.map(drop)).unwrap_or_default()
    }
}

/// Turns [`Error::SignIn`] into [`Error::Refused`], for a request that uses no earlier consent: no consent has ended,
/// and another sign-in would not help.
fn without_consent(error: Error) -> Error {
    match error {
        Error::SignIn(refusal) => Error::Refused(refusal),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    #[tokio::test]
    async fn the_last_status_is_that_of_the_record_as_it_was_last_read_or_written() {
        let text = "[state]\ndir = \"d\"\nkey = \"0123456789abcdef0123456789abcdef\"\n\
                    [[account]]\nlogin = \"pbx\"\npassword = \"x\"\nupstream = \"home\"\nuser = \"eva\"\n\
                    [upstream.home]\nhost = \"imap.example.org\"\n\
                    [upstream.home.oauth2]\nclient_id = \"i\"\nclient_secret = \"s\"\ntoken_url = \"https://x/t\"\n\
                    device_url = \"https://x/d\"\n";
        let config = Config::parse(text, Path::new("")).unwrap();
        let tokens = Tokens::new(&config, Arc::new(MemoryStore::default())).unwrap();
        let consent = tokens.consent("home", "eva");
        assert_eq!(tokens.last_status(&consent).await, None, "nothing was read yet");
        let missing = tokens.status(&consent).await.unwrap();
        assert_eq!(tokens.last_status(&consent).await, Some(missing.clone()));
        let ended = ConsentRecord {
            lapsed: Some((now(), "invalid_grant".to_owned(), String::new())),
            ..ConsentRecord::default()
        };
        tokens.save(&consent, None, &ended).await.unwrap();
        let after_reload = tokens.reconfigured(&config).unwrap();
        let last = after_reload.last_status(&consent).await.unwrap();
        assert!(matches!(last.state, ConsentState::Ended { .. }), "{last:?}");
        assert_eq!(tokens.forget(&consent).await, Ok(true));
        assert_eq!(after_reload.last_status(&consent).await, Some(missing));
    }
}
