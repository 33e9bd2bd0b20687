//! What a gateway does besides serving devices: it watches certificates and consents, and sweeps.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::configured::{Configured, InForce};
use crate::{
    config::Config,
    notify::Watched,
    oauth::ConsentState,
    pop3::Service,
    sign_in::candidates,
    state::{self, Duty, StateStore},
    tls::{Expiry, Validity},
};

/// How often to check when certificates expire.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// How often to read consents, which other gateways or other processes may have changed.
const CONSENTS: Duration = Duration::from_secs(60);
/// How often to sweep maildrops whose devices may not come back.
const SWEEP: Duration = Duration::from_secs(3600);

/// How often a gateway that does not sweep tries to take the sweep over.
const NEXT_SWEEPER: Duration = Duration::from_secs(60);

/// Starts all chores as tasks of `tasks`. They run until `shutdown`, with the configuration that is `current`.
pub(super) fn begin(current: &InForce, state: &Arc<dyn StateStore>, tasks: &TaskTracker, shutdown: &CancellationToken) {
    let until = |work: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
        let shutdown = shutdown.clone();
        tasks.spawn(async move { shutdown.run_until_cancelled(work).await });
    };
    until(Box::pin(look_at_certificates(current.clone())));
    until(Box::pin(look_at_consents(current.clone())));
    until(Box::pin(watch(current.clone())));
    until(Box::pin(keep_sweeping(current.clone(), state.clone())));
}

/// Logs at the start, once a day, and after each reload which certificates have expired or soon will.
async fn look_at_certificates(mut current: InForce) {
    let mut daily = tokio::time::interval(DAY);
    // A machine that was suspended for a week logs this once.
    daily.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = daily.tick() => {}
            changed = current.changed() => if changed.is_err() {
                return;
            },
        }
        let configured = current.borrow_and_update().clone();
        log_validity(&configured.config);
    }
}

fn log_validity(config: &Config) {
    for files in &config.tls {
        match Validity::of(&files.certificate).map(|validity| validity.at(state::now().into())) {
            Ok(Expiry::Valid(what)) => tracing::info!(what, "a certificate is valid"),
            Ok(Expiry::Ending(what)) => tracing::warn!(what, "a certificate ends soon"),
            Ok(Expiry::Invalid(what)) => tracing::error!(what, "a certificate is not valid"),
            Err(error) => tracing::error!(%error, "a certificate cannot be read"),
        }
    }
}

/// Watches certificates and consents that will end, so that people are told in time.
async fn watch(mut current: InForce) {
    loop {
        let Configured {
            config,
            tokens,
            notices,
            ..
        } = &*current.borrow_and_update().clone();
        let mut watched = Watched {
            certificates: config.tls.iter().map(|files| files.certificate.clone()).collect(),
            ..Watched::default()
        };
        for candidate in candidates(&config.accounts).filter(|candidate| candidate.oauth2.needs_consent()) {
            let logins = watched.consents.entry(candidate.consent(tokens)).or_default();
            logins.push(candidate.account.login.clone());
        }
        tokio::select! {
            () = notices.watch(watched) => {}
            changed = current.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

/// Reads all consents again and again, so that probes know them and need not wait for state. Logs at the start and
/// after each reload for which accounts somebody must sign in.
async fn look_at_consents(mut current: InForce) {
    let mut is_start = true;
    loop {
        let configured = current.borrow_and_update().clone();
        log_standing(&configured, is_start).await;
        is_start = false;
        loop {
            match timeout(CONSENTS, current.changed()).await {
                Ok(Ok(())) => break,
                Ok(Err(_)) => return,
                Err(_) => drop(configured.read_consents().await),
            }
        }
    }
}

/// Logs each consent that needs a person. At the start, also repeats the token requests that were under way when the
/// process before this one was killed.
async fn log_standing(configured: &Configured, is_start: bool) {
    let tokens = &configured.tokens;
    for (candidate, status) in configured.read_consents().await {
        if !candidate.oauth2.needs_consent() {
            continue;
        }
        let (login, consent) = (&candidate.account.login, candidate.consent(tokens));
        match status.state {
            ConsentState::Unreadable(_) => tracing::error!(
                login,
                %consent,
                "a consent cannot be opened with the key that [state] names"
            ),
            ConsentState::Ended { why, .. } => tracing::warn!(login, %consent, why, "a consent has ended"),
            ConsentState::Missing => tracing::warn!(login, %consent, "nobody has signed in yet"),
            ConsentState::Good | ConsentState::NotNeeded if is_start => {
                let tokens = tokens.clone();
                // The token request cannot wait for the next device: it may be too late then.
                tokio::spawn(async move { tokens.resume(&consent).await });
            }
            ConsentState::Good | ConsentState::NotNeeded => {}
        }
    }
}

/// Sweeps, unless another gateway that shares the store does.
async fn keep_sweeping(current: InForce, state: Arc<dyn StateStore>) {
    loop {
        // A failure has been logged.
        if let Ok(Some(duty)) = Duty::Sweep.take(&state, Duration::ZERO).await {
            tokio::select! {
                () = sweep(current.clone()) => {}
                () = duty.lapsed() => {}
            }
            duty.leave().await;
        }
        tokio::time::sleep(NEXT_SWEEPER).await;
    }
}

/// Once an hour, deletes messages past `retain_days` for every account whose upstream credential is stored, and renews
/// consents that have been unused for long. If this is cancelled, the next sweep continues.
async fn sweep(current: InForce) {
    let mut clock = tokio::time::interval(SWEEP);
    // After a sweep that took hours, the next one is not repeated for each hour that was missed.
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        let configured = current.borrow().clone();
        sweep_once(&configured.service).await;
        let tokens = &configured.tokens;
        for candidate in candidates(&configured.config.accounts) {
            tokens.keep_alive(&candidate.consent(tokens)).await;
        }
    }
}

async fn sweep_once(service: &Service) {
    // A failure of state has been logged.
    for (login, mailbox) in service.maildrops.marked().await.unwrap_or_default() {
        let Some(account) = service.accounts.stored(&login, &mailbox) else {
            continue;
        };
        if let Err(error) = service.maildrops.sweep(&account).await {
            let error = error.cause();
            tracing::warn!(login, %mailbox, %error, "messages whose retain_days are over were not removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::sync::watch;

    use super::{super::scene::Slow, *};

    #[tokio::test(start_paused = true)]
    async fn a_sweep_that_took_long_is_followed_by_one_sweep() {
        let text = "[upstream.home]\nhost = \"imap.example.org\"\nlogins = [\"*\"]\n";
        let config = Config::parse(text, Path::new("")).unwrap();
        let state = Arc::new(Slow::at_first(3 * SWEEP));
        let configured = Configured::new(config, state.clone(), None).await.unwrap();
        let (_sender, current) = watch::channel(Arc::new(configured));
        // The next sweep begins late, and the one after it an hour later.
        let _ = timeout(4 * SWEEP - Duration::from_secs(1), sweep(current)).await;
        assert_eq!(state.asked(), 2);
    }
}
