//! The gateway as its page and its probes see it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::configured::{Configured, InForce};
use crate::{
    accounts,
    config::{Certificate, Listener},
    doctor::{Doctor, Step},
    oauth::{Standing, Status},
    sign_in::{Candidate, candidates},
    state::{self, StateStore},
    telemetry::{metrics, troubles},
    tls::{Expiry, Validity},
    web::{Account, Health, Overview},
};

/// Looks at the configuration in force.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) current: InForce,
    pub(super) state: Arc<dyn StateStore>,
    pub(super) shutdown: CancellationToken,
}

impl Watch {
    fn configured(&self) -> Arc<Configured> {
        self.current.borrow().clone()
    }
}

#[async_trait]
impl Overview for Watch {
    async fn health(&self) -> Health {
        let configured = self.configured();
        let mut health = Health {
            failing: troubles().all(),
            ..Health::default()
        };
        if self.shutdown.is_cancelled() {
            let reason = "the gateway is being stopped: it serves sessions under way, and takes no new ones";
            health.failing.insert("drain".to_owned(), reason.to_owned());
        }
        if self.state.has_failed() {
            let reason = "state cannot be read or written, see the log";
            health.failing.insert("state".to_owned(), reason.to_owned());
        }
        for (name, validity) in validities(&configured.config.tls).await {
            let now = state::now().into();
            let problem = match validity.map(|validity| validity.at(now)) {
                Ok(Expiry::Valid(_)) => continue,
                Ok(Expiry::Ending(what)) => {
                    health.degraded.insert(format!("certificate {name}"), what);
                    continue;
                }
                Ok(Expiry::Invalid(what)) => what,
                Err(error) => error,
            };
            health.failing.insert(format!("certificate {name}"), problem);
        }
        // A login is not for everybody's eyes: how many, and the page says which.
        let mut ended = HashMap::<&str, usize>::new();
        for (candidate, status) in statuses(&configured).await {
            if status.is_alarming() {
                *ended.entry(&candidate.account.upstream.name).or_default() += 1;
            }
        }
        for (upstream, count) in ended {
            let reason = format!("{count} consents have ended, or tokens cannot be kept: popgate sign-in --list");
            health.degraded.insert(format!("consents of {upstream}"), reason);
        }
        health
    }

    async fn measure(&self) {
        let configured = self.configured();
        for (upstream, pause) in configured.service.maildrops.pauses() {
            metrics().set_backoff(upstream, pause);
        }
        let statuses = statuses(&configured).await;
        let consents = statuses.iter().map(|(candidate, status)| {
            let upstream = candidate.account.upstream.name.as_str();
            (upstream, standing(status))
        });
        metrics().set_consents(consents);
        for (name, validity) in validities(&configured.config.tls).await {
            if let Ok(validity) = validity {
                metrics().set_certificate(&name, validity.until() - i64::from(state::now()));
            }
        }
    }

    async fn listeners(&self) -> Vec<(String, String)> {
        let configured = self.configured();
        let listeners = configured.config.listeners.iter();
        listeners
            .map(|listener| (listener.address.to_string(), listener.tls.to_string()))
            .collect()
    }

    fn accounts(&self) -> Vec<Account> {
        let configured = self.configured();
        let pauses: HashMap<&str, Duration> = configured.service.maildrops.pauses().collect();
        let accounts = configured.config.accounts.iter();
        accounts
            .map(|account| Account {
                login: account.login.clone(),
                mailbox: format!("{} at {}", account.user, account.upstream.host),
                is_stored: !account.is_rule(),
                pause: pauses.get(account.upstream.name.as_str()).copied().unwrap_or_default(),
            })
            .collect()
    }

    async fn examine(&self, login: &str) -> Option<Vec<Step>> {
        let configured = self.configured();
        let mut accounts = configured.config.accounts.iter();
        let account = accounts.find(|account| account.login == login && !account.is_rule())?;
        let mut steps = Vec::new();
        let mut report = |step| steps.push(step);
        let doctor = Doctor::new(&configured.service.maildrops);
        doctor.examine(&accounts::Account::from(account), &mut report).await;
        let listeners: &[Listener] = &configured.config.listeners;
        doctor.examine_listeners(listeners, &mut report).await;
        Some(steps)
    }
}

/// A metric's word for how a consent stands.
fn standing(status: &Status) -> &'static str {
    match status.standing {
        Standing::Good | Standing::NotNeeded => "good",
        Standing::Missing => "missing",
        Standing::Ended { .. } => "ended",
        Standing::Unreadable(_) => "unreadable",
    }
}

/// How the consents of all accounts stand, as far as state can be read.
async fn statuses(configured: &Configured) -> Vec<(Candidate<'_>, Status)> {
    let mut all = Vec::new();
    for candidate in candidates(&configured.config.accounts) {
        if let Ok(status) = configured.tokens.status(&candidate.consent(&configured.tokens)).await {
            all.push((candidate, status));
        }
    }
    all
}

/// The validity of each certificate, by its first name; or why it cannot be read.
async fn validities(files: &[Certificate]) -> Vec<(String, Result<Validity, String>)> {
    let files: Vec<_> = files.iter().map(|files| files.certificate.clone()).collect();
    let reading = move || {
        let read = |file: std::path::PathBuf| match Validity::of(&file) {
            Ok(validity) => {
                let name = validity.names().first().cloned();
                (name.unwrap_or_else(|| file.display().to_string()), Ok(validity))
            }
            Err(error) => (file.display().to_string(), Err(error.to_string())),
        };
        files.into_iter().map(read).collect()
    };
    tokio::task::spawn_blocking(reading).await.unwrap_or_default()
}
