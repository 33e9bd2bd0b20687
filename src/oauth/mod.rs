//! Tokens for upstreams that take no password (RFC 6749): kept sealed in state, renewed ahead of their end, one renewal at a
//! time for each consent.

mod answer;
mod assertion;
mod error;
mod explanation;
mod http;
mod provider;
mod sign_in;
mod status;
mod token;
mod vault;

use std::{collections::HashMap, sync::Arc, time::Duration};

use dashmap::DashMap;
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::Instant,
};
use tokio_util::task::TaskTracker;

use self::{provider::Provider, token::Kept, vault::Vault};
use crate::{
    config::{Grant, OAuthOptions},
    state::{Consent, StateStore, Unavailable, now},
};

pub use error::{Error, Refusal};
pub use provider::SetupError;
pub use sign_in::{CodeSignIn, DeviceSignIn};
pub use status::Status;
pub use token::{AccessToken, Issued};
pub use vault::RandomUnavailable;

/// A provider that failed is left alone for so long; the sessions that wait for the same token hear the same.
const PAUSE: Duration = Duration::from_secs(5);
/// However long it asks to be left alone.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// An access token that was given less than so many seconds ago and is refused: another would be refused too.
const RECENT: u32 = 60;
/// Providers forget consents that are not used: Google's after six months, Microsoft's after 90 days.
const LONG_UNUSED: u32 = 7 * 24 * 3600;

/// The tokens of all upstreams that want some.
#[derive(Debug)]
pub struct Tokens {
    providers: HashMap<String, Provider>,
    store: Arc<dyn StateStore>,
    vault: Vault,
    turns: DashMap<Consent, Arc<Mutex<Turn>>>,
    /// What was begun must end, also where the session that needed it has gone: a refresh token may be good for one use.
    renewals: TaskTracker,
}

/// The right to renew a consent's token.
#[derive(Debug, Default)]
struct Turn {
    /// The last try failed: not before this is it tried again.
    failed: Option<(Instant, Error)>,
    /// What was given and could not be saved: with what it follows.
    unsaved: Option<(Option<Vec<u8>>, Kept)>,
}

impl Tokens {
    /// For the upstreams of `options`; what they give is kept in `store`. Errors name what is wrong.
    pub fn new<'a>(options: impl Into<OAuthOptions<'a>>, store: Arc<dyn StateStore>) -> Result<Arc<Self>, SetupError> {
        let options = options.into();
        let mut providers = HashMap::new();
        for upstream in options.upstreams {
            if let Some(oauth2) = &upstream.oauth2 {
                providers.insert(upstream.name.clone(), Provider::new(oauth2)?);
            }
        }
        Ok(Arc::new(Self {
            providers,
            store,
            vault: Vault::new(options.key)?,
            turns: DashMap::new(),
            renewals: TaskTracker::new(),
        }))
    }

    /// Of no upstream, for tests that need none.
    #[cfg(test)]
    pub(crate) fn none() -> Arc<Self> {
        Arc::new(Self {
            providers: HashMap::new(),
            store: Arc::new(crate::state::MemoryStore::default()),
            vault: Vault::new(None).unwrap(),
            turns: DashMap::new(),
            renewals: TaskTracker::new(),
        })
    }

    /// Waits for renewals under way.
    pub async fn finish(&self) {
        self.renewals.close();
        self.renewals.wait().await;
    }

    fn provider(&self, consent: &Consent) -> Result<&Provider, Error> {
        let missing = || Error::Refused(Refusal::ours("the upstream has no oauth2 in the configuration"));
        self.providers.get(&consent.upstream).ok_or_else(missing)
    }

    /// Under which consent tokens for `name` at `upstream` are kept: where the application itself is trusted one token
    /// serves all.
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

    /// A token that lasts for a session to come, renewed if need be.
    pub async fn access(self: &Arc<Self>, consent: &Consent) -> Result<AccessToken, Error> {
        match self.kept(consent).await? {
            (_, kept) if kept.is_fresh(now()) => Ok(kept.access()),
            _ => self.renewed(consent, None).await,
        }
    }

    /// Another token than `refused`, which an upstream did not take though its time is not over.
    pub async fn access_after(
        self: &Arc<Self>,
        consent: &Consent,
        refused: &AccessToken,
    ) -> Result<AccessToken, Error> {
        self.renewed(consent, Some(refused.clone())).await
    }

    async fn renewed(self: &Arc<Self>, consent: &Consent, refused: Option<AccessToken>) -> Result<AccessToken, Error> {
        let turn = self.turns.entry(consent.clone()).or_default().clone();
        let (tokens, consent) = (self.clone(), consent.clone());
        let renewal = async move {
            let turn = turn.lock_owned().await;
            tokens.renew(&consent, turn, refused).await
        };
        let ended = Error::unavailable("the gateway is shutting down");
        self.renewals.spawn(renewal).await.unwrap_or(Err(ended))
    }

    async fn renew(
        &self,
        consent: &Consent,
        mut turn: OwnedMutexGuard<Turn>,
        refused: Option<AccessToken>,
    ) -> Result<AccessToken, Error> {
        if let Some((followed, kept)) = turn.unsaved.take()
            && let Err(error) = self.save(consent, followed.as_deref(), &kept).await
        {
            turn.unsaved = Some((followed, kept));
            return Err(error);
        }
        let (sealed, kept) = self.kept(consent).await?;
        let now = now();
        // Whoever had the turn before may have done it.
        let is_refused = |kept: &Kept| refused.as_ref().is_some_and(|token| *token == kept.access());
        if kept.is_fresh(now) && (!is_refused(&kept) || now < kept.obtained.saturating_add(RECENT)) {
            return Ok(kept.access());
        }
        let fallback = |error: Error| match error {
            // Ahead of its end there is time to try again.
            Error::Unavailable { .. } if kept.is_valid(now) && !is_refused(&kept) => Ok(kept.access()),
            error => Err(error),
        };
        match &turn.failed {
            Some((until, error)) if *until > Instant::now() => return fallback(error.clone()),
            _ => {}
        }
        match self.ask(consent, &kept).await {
            Ok(issued) => {
                turn.failed = None;
                let renewed = kept.renewed(issued, now);
                // A refresh token that was rotated is saved before anything that came with it is used.
                match self.save(consent, sealed.as_deref(), &renewed).await {
                    Ok(true) => Ok(renewed.access()),
                    // Somebody has signed in meanwhile: that counts.
                    Ok(false) => match self.kept(consent).await? {
                        (_, kept) if kept.is_valid(now) => Ok(kept.access()),
                        _ => Err(Error::unavailable("the consent was changed meanwhile")),
                    },
                    Err(error) => {
                        turn.unsaved = Some((sealed, renewed));
                        Err(error)
                    }
                }
            }
            Err(error) => {
                self.note(consent, sealed.as_deref(), &kept, &error).await;
                turn.failed = match &error {
                    Error::Unavailable { retry_after, .. } => Some((*retry_after).clamp(PAUSE, LONGEST_PAUSE)),
                    Error::Refused(_) => Some(PAUSE),
                    Error::SignIn(_) | Error::State | Error::Elsewhere => None,
                }
                .map(|pause| (Instant::now() + pause, error.clone()));
                fallback(error)
            }
        }
    }

    async fn ask(&self, consent: &Consent, kept: &Kept) -> Result<Issued, Error> {
        let provider = self.provider(consent)?;
        if provider.config.needs_consent() {
            if let Some((_, code, description)) = &kept.lapsed {
                return Err(Error::SignIn(Refusal::new(code, Some(description))));
            }
            if kept.access.is_empty() {
                return Err(Error::SignIn(Refusal::ours("nobody has signed in yet")));
            }
        }
        // Of two that renew, one loses its token to the other (RFC 9700 §4.14.2).
        if self.store.is_shared() {
            return Err(Error::Elsewhere);
        }
        tracing::debug!(%consent, "asking for a token");
        match (&provider.config.grant, &kept.refresh) {
            (Grant::ClientCredentials, _) => provider.client_credentials().await.map_err(without_consent),
            (Grant::ServiceAccount, _) => provider.service_account(&consent.name).await.map_err(without_consent),
            (_, Some(refresh)) => provider.refresh(refresh).await,
            (_, None) => Err(Error::SignIn(Refusal::ours(
                "the provider gave no refresh token, so the consent ended with its first token: do scopes ask for one?",
            ))),
        }
    }

    /// A failure is kept for people to see; the first of its kind is told loudly.
    async fn note(&self, consent: &Consent, sealed: Option<&[u8]>, kept: &Kept, error: &Error) {
        let mut noted = kept.clone();
        match error {
            Error::SignIn(refusal) if kept.lapsed.is_none() && !kept.access.is_empty() => {
                noted.lapsed = Some((now(), refusal.code.clone(), refusal.description.clone()));
                tracing::error!(%consent, %error, "the consent has ended: somebody must sign in again (popgate sign-in)");
            }
            Error::SignIn(_) | Error::State | Error::Elsewhere => return,
            Error::Refused(_) | Error::Unavailable { .. } => {
                let text = error.to_string();
                if kept.trouble.as_ref().is_some_and(|(_, told)| *told == text) {
                    return;
                }
                tracing::warn!(%consent, %error, "no token");
                noted.trouble = Some((now(), text));
            }
        }
        // Where it can't be kept (which is logged) it is found out again.
        let _ = self.save(consent, sealed, &noted).await;
    }

    /// Somebody has signed in: `issued` takes the place of whatever was kept.
    pub async fn keep(&self, consent: &Consent, issued: Issued) -> Result<(), Error> {
        let fresh = Kept {
            signed_in: now(),
            ..Kept::default()
        };
        let fresh = fresh.renewed(issued, now());
        loop {
            let sealed = self.sealed(consent).await?;
            if self.save(consent, sealed.as_deref(), &fresh).await? {
                return Ok(());
            }
        }
    }

    /// Forgets the consent; returns whether there was one.
    pub async fn forget(&self, consent: &Consent) -> Result<bool, Error> {
        loop {
            let sealed = self.sealed(consent).await?;
            match self.store.set_token(consent, sealed.as_deref(), None).await {
                Err(Unavailable::Changed) => {}
                done => return done.map(|()| sealed.is_some()).map_err(|_| Error::State),
            }
        }
    }

    /// How `consent` stands, as far as is known here.
    pub async fn status(&self, consent: &Consent) -> Result<Status, Error> {
        match self.kept(consent).await {
            Ok((_, kept)) => Ok(Status::of(&kept)),
            Err(Error::SignIn(refusal)) => Ok(Status::unreadable(&refusal)),
            Err(error) => Err(error),
        }
    }

    /// Renews what has not been used for so long that its provider might forget it.
    pub async fn keep_alive(self: &Arc<Self>, consent: &Consent) {
        if let Ok((_, kept)) = self.kept(consent).await
            && kept.refresh.is_some()
            && kept.lapsed.is_none()
            && kept.obtained.saturating_add(LONG_UNUSED) < now()
        {
            // A failure was told of in the log, and is tried again.
            let _ = self.renewed(consent, None).await;
        }
    }

    async fn sealed(&self, consent: &Consent) -> Result<Option<Vec<u8>>, Error> {
        match self.store.token(consent).await {
            // It is replaced as if there were none.
            Err(Unavailable::Damaged) => Ok(None),
            sealed => sealed.map_err(|_| Error::State),
        }
    }

    /// What is kept, sealed and opened. What was sealed with another key is nothing where nobody has to sign in; else it is
    /// left for who puts the key right.
    async fn kept(&self, consent: &Consent) -> Result<(Option<Vec<u8>>, Kept), Error> {
        let sealed = self.sealed(consent).await?;
        let opened = sealed.as_ref().map(|octets| self.vault.open(consent, octets));
        match opened {
            Some(Err(_)) if self.provider(consent)?.config.needs_consent() => Err(Error::SignIn(Refusal::ours(
                "what is kept was sealed with another key: is it the one that [state] names?",
            ))),
            Some(Ok(kept)) => Ok((sealed, kept)),
            Some(Err(_)) | None => Ok((sealed, Kept::default())),
        }
    }

    /// Whether it was saved: not where what is kept is not `followed` any more.
    async fn save(&self, consent: &Consent, followed: Option<&[u8]>, kept: &Kept) -> Result<bool, Error> {
        let sealed = self.vault.seal(consent, kept).map_err(|_| Error::State)?;
        match self.store.set_token(consent, followed, Some(&sealed)).await {
            Ok(()) => Ok(true),
            Err(Unavailable::Changed) => Ok(false),
            Err(_) => Err(Error::State),
        }
    }
}

/// Where nobody has consented, no consent has ended: a sign-in mends nothing.
fn without_consent(error: Error) -> Error {
    match error {
        Error::SignIn(refusal) => Error::Refused(refusal),
        other => other,
    }
}
