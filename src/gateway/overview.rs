//! The gateway as the web page and the probes see it.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::{
    configured::{Configured, InForce},
    listeners::Listeners,
};
use crate::{
    accounts,
    config::{Certificate, Listener},
    doctor::{Doctor, Step, examine_listeners},
    oauth::{ConsentState, ConsentStatus},
    sign_in::Candidate,
    state::{self, StateStore},
    telemetry::{metrics, troubles},
    tls::{Expiry, Validity},
    web::{AccountSummary, Health, Overview},
};

/// The gateway's parts that can be looked at: the configuration in force, the listeners, and state.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) current: InForce,
    pub(super) listeners: Arc<Mutex<Listeners>>,
    pub(super) state: Arc<dyn StateStore>,
    pub(super) shutdown: CancellationToken,
}

impl Watch {
    fn configured(&self) -> Arc<Configured> {
        self.current.borrow().clone()
    }

    /// The open listeners, with the ports that they are really bound to.
    async fn open(&self) -> Vec<Listener> {
        let addresses = self.listeners.lock().await.addresses();
        let configured = self.configured();
        let open = configured.config.listeners.iter().zip(addresses);
        open.map(|(listener, address)| Listener {
            address,
            ..listener.clone()
        })
        .collect()
    }

    /// What is wrong with the gateway, given the state of its certificates and consents.
    fn judge(&self, validities: &[Named], statuses: &[(Candidate<'_>, ConsentStatus)]) -> Health {
        let mut health = Health {
            failing: troubles().all(),
            ..Health::default()
        };
        if self.shutdown.is_cancelled() {
            let reason = "the gateway is being stopped: it serves sessions under way, and takes no new ones";
            health.failing.insert("drain".to_owned(), reason.to_owned());
        }
        if self.state.has_failed() {
            let reason = "state cannot be read or written, see the log".to_owned();
            // Servers that several gateways share fail for all of them: it does not help to send devices elsewhere.
            let is_shared = self.state.lease().is_some();
            let unhealthy = if is_shared {
                &mut health.degraded
            } else {
                &mut health.failing
            };
            unhealthy.insert("state".to_owned(), reason);
        }
        let now = i64::from(state::now());
        for (name, validity) in validities {
            let part = format!("certificate {name}");
            match validity.as_ref().map(|validity| validity.at(now)) {
                Ok(Expiry::Valid(_)) => {}
                Ok(Expiry::Ending(what)) => {
                    health.degraded.insert(part, what);
                }
                Ok(Expiry::Invalid(what)) => {
                    health.failing.insert(part, what);
                }
                Err(error) => {
                    let what = format!("{error}; devices get the one that was read last");
                    health.degraded.insert(part, what);
                }
            }
        }
        // Probes show only how many logins are concerned. The page says which.
        let mut ended = HashMap::<&str, usize>::new();
        for (candidate, status) in statuses {
            if status.is_alarming() {
                *ended.entry(&candidate.account.upstream.name).or_default() += 1;
            }
        }
        for (upstream, count) in ended {
            let ended = match count {
                1 => "a consent has ended".to_owned(),
                count => format!("{count} consents have ended"),
            };
            let reason = format!("{ended}, or tokens cannot be kept: popgate sign-in --list");
            health.degraded.insert(format!("consents of {upstream}"), reason);
        }
        health
    }
}

#[async_trait]
impl Overview for Watch {
    async fn health(&self) -> Health {
        let configured = self.configured();
        let statuses = configured.last_consents().await;
        self.judge(&validities(&configured.config.tls).await, &statuses)
    }

    async fn measure(&self) {
        let configured = self.configured();
        metrics().set_backoff(configured.service.maildrops.pauses());
        let statuses = configured.last_consents().await;
        let consents = statuses.iter().map(|(candidate, status)| {
            let upstream = candidate.account.upstream.name.as_str();
            (upstream, consent_state(status))
        });
        metrics().set_consents(consents);
        let validities = validities(&configured.config.tls).await;
        let Health { failing, degraded } = self.judge(&validities, &statuses);
        let now = i64::from(state::now());
        let certificates = validities.into_iter().filter_map(|(name, validity)| {
            let validity = validity.ok()?;
            Some((name, validity.until() - now))
        });
        metrics().set_certificates(certificates);
        let failing = failing.keys().map(|part| (part.as_str(), "failing"));
        let degraded = degraded.keys().map(|part| (part.as_str(), "degraded"));
        metrics().set_unhealthy(failing.chain(degraded));
    }

    async fn listeners(&self) -> Vec<(String, String)> {
        let listeners = self.open().await;
        listeners
            .iter()
            .map(|listener| (listener.address.to_string(), listener.tls.to_string()))
            .collect()
    }

    fn accounts(&self) -> Vec<AccountSummary> {
        let configured = self.configured();
        let maildrops = &configured.service.maildrops;
        let accounts = configured.config.accounts.iter();
        accounts
            .map(|account| AccountSummary {
                login: account.login.clone(),
                mailbox: format!("{} at {}", account.user, account.upstream.host),
                is_stored: !account.is_rule(),
                pause: maildrops.pause_of(&account.upstream.name, &account.user),
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
        examine_listeners(&self.open().await, &mut report).await;
        Some(steps)
    }
}

/// The word of a metric for the state of a consent.
fn consent_state(status: &ConsentStatus) -> &'static str {
    match status.state {
        ConsentState::Good | ConsentState::NotNeeded => "good",
        ConsentState::Missing => "missing",
        ConsentState::Ended { .. } => "ended",
        ConsentState::Unreadable(_) => "unreadable",
    }
}

/// The first name of a certificate, or else its file; and its validity, or why the certificate cannot be read.
type Named = (String, Result<Validity, String>);

/// Reads the validity of each certificate from its file, so that a renewed file counts at once.
async fn validities(files: &[Certificate]) -> Vec<Named> {
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

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use tokio::{sync::watch, time::timeout};

    use super::{super::scene::Slow, *};
    use crate::{config::Config, quotas::Word, state::MemoryStore};

    async fn watch_of(text: &str, state: Arc<dyn StateStore>) -> Watch {
        let config = Config::parse(text, Path::new("")).unwrap();
        let configured = Configured::new(config, state.clone(), None).await.unwrap();
        Watch {
            current: watch::channel(Arc::new(configured)).1,
            listeners: Arc::new(Mutex::new(Listeners::new(Vec::new(), None))),
            state,
            shutdown: CancellationToken::new(),
        }
    }

    /// Probes of Kubernetes wait one second by default, and requests to servers that are away take ten.
    #[tokio::test(start_paused = true)]
    async fn probes_do_not_wait_for_state() {
        let text = "[state]\ndir = \"d\"\nkey = \"0123456789abcdef0123456789abcdef\"\n\
                    [[account]]\nlogin = \"pbx\"\npassword = \"x\"\nupstream = \"home\"\nuser = \"eva\"\n\
                    [upstream.home]\nhost = \"imap.example.org\"\n\
                    [upstream.home.oauth2]\nclient_id = \"i\"\nclient_secret = \"s\"\ntoken_url = \"https://x/t\"\n\
                    device_url = \"https://x/d\"\n";
        let watch = watch_of(text, Arc::new(Slow::at_first(Duration::from_secs(3600)))).await;
        let asked = async {
            watch.measure().await;
            watch.health().await
        };
        let health = timeout(Duration::from_secs(1), asked).await;
        let health = health.expect("an answer at once");
        assert!(health.degraded.is_empty(), "{health:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_that_of_the_accounts_own_user() {
        let account = |login: &str, user: &str| {
            format!(
                "[[account]]\nlogin = \"{login}\"\npassword = \"x\"\nupstream = \"home\"\nuser = \"{user}\"\n\
                 upstream_password = \"y\"\n"
            )
        };
        let text = format!(
            "[upstream.home]\nhost = \"imap.example.org\"\n{}{}",
            account("pbx", "eva@EXAMPLE.org"),
            account("fax", "ida@example.org")
        );
        let watch = watch_of(&text, Arc::new(MemoryStore::default())).await;
        watch.configured().service.maildrops.hear(&Word::Pause {
            upstream: "home".to_owned(),
            user: "eva@example.org".to_owned(),
            is_guess: false,
            length: Duration::from_secs(30),
        });
        let accounts = watch.accounts();
        let pauses = accounts.iter().map(|account| (account.login.as_str(), account.pause));
        let expected = [("pbx", Duration::from_secs(30)), ("fax", Duration::ZERO)];
        assert_eq!(pauses.collect::<Vec<_>>(), expected);
    }
}
