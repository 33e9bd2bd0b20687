//! Renews tokens: one renewal at a time for each consent, in steps that can be interrupted without losing the refresh
//! token.
//!
//! 1. The gateway saves that it is going to ask the provider.
//! 2. It asks. If the answer is lost, it asks again at once: the provider may have rotated the refresh token, and
//!    accepts the old one for some seconds more.
//! 3. It saves the answer. Only then does it use the new token, because the first use may retire the old refresh token.
//!
//! Of several gateways that share a store, one renews a consent at a time ([`Duty::Renewal`]).

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::OwnedMutexGuard,
    time::{Instant, sleep, timeout},
};

use super::{
    AccessToken, Error, Issued, TokenRefusal, Tokens, provider::Provider, token::ConsentRecord, without_consent,
};
use crate::{
    config::Grant,
    state::{Consent, Duty, OnDuty, now},
    telemetry::metrics,
};

/// How long the provider is not asked again after a failure. Sessions that wait for the same token get the same error.
const PAUSE: Duration = Duration::from_secs(5);
/// The longest pause that a provider can ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// If an upstream refuses a token this soon after it has replaced a refused one, a new token would be refused as well.
const RECENT: Duration = Duration::from_secs(60);
/// How long a session waits for a token. The renewal continues after that.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait for another gateway that renews the same token.
const PATIENCE_WITH_OTHERS: Duration = Duration::from_secs(10);
/// Pauses before a request whose answer was lost is repeated, in milliseconds. Providers accept a rotated refresh token
/// for 10 to 60 seconds more.
const AGAIN: [u64; 8] = [100, 250, 500, 1_000, 2_000, 4_000, 8_000, 16_000];
/// Pauses before another try to save a token: the first, the longest, and the one while the gateway shuts down.
const SAVE_AGAIN: Duration = Duration::from_secs(1);
const SAVE_AGAIN_AT_MOST: Duration = Duration::from_secs(60);
const SAVE_AGAIN_AT_THE_END: Duration = Duration::from_millis(200);

/// What earlier renewals of a consent's token have noted. Only the renewal that has locked it may ask the provider.
#[derive(Debug, Default)]
pub(super) struct RenewalState {
    /// The error of the last try, and when the next try may be made.
    failed: Option<(Instant, Error)>,
    /// When a new token last replaced one that an upstream had refused.
    replaced: Option<Instant>,
    unsaved: Option<Unsaved>,
}

/// A record that could not be saved yet.
#[derive(Debug)]
struct Unsaved {
    /// The sealed record that it replaces.
    followed: Option<Vec<u8>>,
    record: ConsentRecord,
    /// Until the record is saved, no other gateway may ask the provider, because it knows only the old refresh token.
    _duty: Option<OnDuty>,
}

impl RenewalState {
    pub(super) fn has_unsaved(&self) -> bool {
        self.unsaved.is_some()
    }
}

impl Tokens {
    /// Renews the token in a task of its own, which goes on if the caller stops waiting. `refused`: the token that the
    /// upstream has refused, if that is why a new one is needed.
    pub(super) async fn renewed(
        self: &Arc<Self>,
        consent: &Consent,
        refused: Option<AccessToken>,
    ) -> Result<AccessToken, Error> {
        let state = self.renewal_state(consent);
        let (tokens, consent) = (self.clone(), consent.clone());
        let renewal = self.renewals.spawn(async move {
            let state = state.lock_owned().await;
            tokens.renew(&consent, state, refused).await
        });
        match timeout(PATIENCE, renewal).await {
            Ok(Ok(renewed)) => renewed,
            Ok(Err(error)) if error.is_panic() => Err(Error::unavailable("popgate itself failed, see the log")),
            Ok(Err(_)) => Err(Error::unavailable("the gateway is shutting down")),
            Err(_) => Err(Error::unavailable("it has not answered yet")),
        }
    }

    async fn renew(
        self: Arc<Self>,
        consent: &Consent,
        mut state: OwnedMutexGuard<RenewalState>,
        refused: Option<AccessToken>,
    ) -> Result<AccessToken, Error> {
        self.save_unsaved(consent, &mut state).await?;
        let mut duty = None;
        loop {
            let (sealed, record) = self.record(consent).await?;
            let now = now();
            // The renewal before this one, or another gateway, may have renewed the token already.
            let is_refused = refused.as_ref().is_some_and(|token| *token == record.access());
            let is_recent = state.replaced.is_some_and(|at| at.elapsed() < RECENT);
            if record.is_fresh(now) && record.asked == 0 && (!is_refused || is_recent) {
                leave(duty).await;
                return Ok(record.access());
            }
            let fallback = |error: Error| match error {
                // The token has not expired yet: there is time to try again.
                Error::Unavailable { .. } if record.is_valid(now) && !is_refused => Ok(record.access()),
                error => Err(error),
            };
            match &state.failed {
                Some((until, error)) if *until > Instant::now() => {
                    leave(duty).await;
                    return fallback(error.clone());
                }
                _ => {}
            }
            // The store belongs to a gateway in another process, which alone renews: if two processes do, one makes the
            // other's refresh token invalid (RFC 9700 §4.14.2).
            if self.store.is_remote() {
                return self.renewed_by_the_gateway(consent, refused.is_some()).await;
            }
            let Some(duty) = duty.take() else {
                let taken = Duty::Renewal(consent.clone())
                    .take(&self.store, PATIENCE_WITH_OTHERS)
                    .await;
                match taken.map_err(|_| Error::State)? {
                    // The token is read again, because it may have been renewed meanwhile.
                    Some(taken) => duty = Some(taken),
                    None => return fallback(Error::unavailable("another gateway is asking it for the same token")),
                }
                continue;
            };
            let due = DueRenewal {
                sealed,
                record: record.clone(),
                is_refused,
            };
            let renewed = self.renew_on_duty(consent, state, due, duty).await;
            return renewed.or_else(fallback);
        }
    }

    /// Asks the provider for a token, saves it, and returns it.
    async fn renew_on_duty(
        self: &Arc<Self>,
        consent: &Consent,
        mut state: OwnedMutexGuard<RenewalState>,
        DueRenewal {
            sealed,
            record,
            is_refused,
        }: DueRenewal,
        duty: OnDuty,
    ) -> Result<AccessToken, Error> {
        let asked = match self.announced(consent, sealed, &record).await {
            Ok((sealed, asking)) => {
                let asked = tokio::select! {
                    biased;
                    asked = self.ask(consent, &asking) => asked,
                    () = duty.lapsed() => Err(Error::unavailable("another gateway may be asking it by now").lost()),
                };
                metrics().token_refresh(&consent.upstream, word(&asked));
                if let Err(error) = &asked {
                    self.note(consent, sealed.as_deref(), &asking, error).await;
                }
                asked.map(|issued| (sealed, issued))
            }
            Err(error) => Err(error),
        };
        let result = match asked {
            Ok((sealed, issued)) => {
                state.failed = None;
                state.replaced = is_refused.then(Instant::now);
                let renewed = record.renewed(issued, now());
                match self.save(consent, sealed.as_deref(), &renewed).await {
                    Ok(Some(_)) => Ok(renewed.access()),
                    // Somebody has signed in meanwhile: the new consent is used.
                    Ok(None) => match self.record(consent).await {
                        Ok((_, record)) if record.is_valid(now()) => Ok(record.access()),
                        Ok(_) => Err(Error::unavailable("the consent was changed meanwhile")),
                        Err(error) => Err(error),
                    },
                    Err(error) => {
                        self.save_later(consent, state, sealed, renewed, Some(duty));
                        return Err(error);
                    }
                }
            }
            Err(error) => {
                state.failed = match &error {
                    Error::Unavailable { retry_after, .. } => Some((*retry_after).clamp(PAUSE, LONGEST_PAUSE)),
                    Error::Refused(_) => Some(PAUSE),
                    Error::SignIn(_) | Error::State | Error::Elsewhere => None,
                }
                .map(|pause| (Instant::now() + pause, error.clone()));
                Err(error)
            }
        };
        duty.leave().await;
        result
    }

    async fn renewed_by_the_gateway(&self, consent: &Consent, is_refused: bool) -> Result<AccessToken, Error> {
        let answer = self.store.renew(consent, is_refused).await;
        let answer = answer.map_err(|_| Error::Elsewhere)?;
        serde_json::from_str::<Result<(), Error>>(&answer).unwrap_or(Err(Error::Elsewhere))?;
        let (_, record) = self.record(consent).await?;
        Ok(record.access())
    }

    /// Saves that the provider will be asked, if its answer may have a new refresh token in it. If this cannot be
    /// saved, the provider must not be asked. Returns the record as it is then, sealed and opened.
    async fn announced(
        &self,
        consent: &Consent,
        sealed: Option<Vec<u8>>,
        record: &ConsentRecord,
    ) -> Result<(Option<Vec<u8>>, ConsentRecord), Error> {
        let may_rotate = record.refresh.is_some() && record.lapsed.is_none();
        if !may_rotate || record.asked > 0 || !self.provider(consent)?.config.needs_consent() {
            return Ok((sealed, record.clone()));
        }
        let asking = ConsentRecord {
            asked: now(),
            ..record.clone()
        };
        match self.save(consent, sealed.as_deref(), &asking).await? {
            Some(sealed) => Ok((Some(sealed), asking)),
            None => Err(Error::unavailable("the consent was changed meanwhile")),
        }
    }

    async fn ask(&self, consent: &Consent, record: &ConsentRecord) -> Result<Issued, Error> {
        let provider = self.provider(consent)?;
        if provider.config.needs_consent() {
            if let Some((_, code, description)) = &record.lapsed {
                return Err(Error::SignIn(TokenRefusal::new(code, Some(description))));
            }
            if record.access.is_empty() {
                return Err(Error::SignIn(TokenRefusal::ours("nobody has signed in yet")));
            }
        }
        tracing::debug!(%consent, "asking for a token");
        match (&provider.config.grant, &record.refresh) {
            (Grant::ClientCredentials, _) => provider.client_credentials().await.map_err(without_consent),
            (Grant::ServiceAccount, _) => provider.service_account(&consent.name).await.map_err(without_consent),
            (_, Some(refresh)) => refreshed(provider, refresh).await,
            (_, None) => Err(Error::SignIn(TokenRefusal::ours(super::NO_REFRESH_TOKEN))),
        }
    }

    /// Saves a failure, so that people see it in the status of the consent. Does not log it again if it repeats the
    /// last one.
    async fn note(&self, consent: &Consent, sealed: Option<&[u8]>, record: &ConsentRecord, error: &Error) {
        let mut noted = record.clone();
        match error {
            Error::SignIn(refusal) => {
                noted.asked = 0;
                if record.lapsed.is_none() && !record.access.is_empty() {
                    noted.lapsed = Some((now(), refusal.code.clone(), refusal.description.clone()));
                    tracing::error!(%consent, %error, "the consent has ended: somebody must sign in again (popgate sign-in)");
                }
            }
            Error::State | Error::Elsewhere => return,
            Error::Refused(_) | Error::Unavailable { .. } => {
                // If the answer is lost, `asked` stays set: the next start must ask again at once.
                if !error.is_lost() {
                    noted.asked = 0;
                }
                let text = error.to_string();
                if record.trouble.as_ref().is_none_or(|(_, known)| *known != text) {
                    tracing::warn!(%consent, %error, "popgate got no token");
                    noted.trouble = Some((now(), text));
                }
            }
        }
        if noted != *record {
            // If this cannot be saved (which is logged), the next try finds the failure again.
            let _ = self.save(consent, sealed, &noted).await;
        }
    }

    /// Tries to save `record` in the background, until that succeeds or the process ends.
    pub(super) fn save_later(
        self: &Arc<Self>,
        consent: &Consent,
        mut state: OwnedMutexGuard<RenewalState>,
        followed: Option<Vec<u8>>,
        record: ConsentRecord,
        duty: Option<OnDuty>,
    ) {
        state.unsaved = Some(Unsaved {
            followed,
            record,
            _duty: duty,
        });
        drop(state);
        let (tokens, consent) = (self.clone(), consent.clone());
        self.renewals.spawn(async move {
            let state = tokens.renewal_state(&consent);
            let mut pause = SAVE_AGAIN;
            loop {
                let pause_now = if tokens.closing.is_cancelled() {
                    SAVE_AGAIN_AT_THE_END
                } else {
                    pause
                };
                tokio::select! {
                    () = sleep(pause_now) => {}
                    () = tokens.closing.cancelled(), if !tokens.closing.is_cancelled() => {}
                }
                pause = (pause * 2).min(SAVE_AGAIN_AT_MOST);
                if tokens.save_unsaved(&consent, &mut *state.lock().await).await.is_ok() {
                    return;
                }
            }
        });
    }

    async fn save_unsaved(&self, consent: &Consent, state: &mut RenewalState) -> Result<(), Error> {
        let Some(unsaved) = state.unsaved.take() else {
            return Ok(());
        };
        // If state no longer has `followed`, somebody has signed in meanwhile, and the new consent stays.
        let saved = self.save(consent, unsaved.followed.as_deref(), &unsaved.record).await;
        if saved.is_err() {
            state.unsaved = Some(unsaved);
        }
        saved.map(drop)
    }
}

/// A token that is due for renewal, as state keeps it.
struct DueRenewal {
    sealed: Option<Vec<u8>>,
    record: ConsentRecord,
    /// The upstream refuses the access token.
    is_refused: bool,
}

async fn leave(duty: Option<OnDuty>) {
    if let Some(duty) = duty {
        duty.leave().await;
    }
}

/// The label of a metric for how a request for a token ended.
fn word(outcome: &Result<Issued, Error>) -> &'static str {
    match outcome {
        Ok(_) => "ok",
        Err(Error::SignIn(_)) => "sign-in",
        Err(Error::Refused(_)) => "refused",
        Err(Error::Unavailable { .. } | Error::State | Error::Elsewhere) => "unavailable",
    }
}

/// Asks for a new access token (RFC 6749 §6). Once an answer is lost, any further failure leads to another try soon,
/// because a later request with the same refresh token may come too late, and then the provider ends the consent (RFC
/// 9700 §4.14.2).
async fn refreshed(provider: &Provider, refresh: &str) -> Result<Issued, Error> {
    let mut is_lost = false;
    let mut pauses = AGAIN.iter();
    loop {
        let error = match provider.refresh(refresh).await {
            Err(error @ Error::Unavailable { .. }) => error,
            done => return done,
        };
        is_lost |= error.is_lost();
        let Some(pause) = pauses.next().filter(|_| is_lost) else {
            return Err(if is_lost { error.lost() } else { error });
        };
        tracing::warn!(%error, "the provider's answer is lost: asking again");
        sleep(Duration::from_millis(*pause)).await;
    }
}
