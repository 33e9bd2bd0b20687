//! The parts that are built from a configuration. A reload builds new ones; a session keeps the parts that it began
//! with.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use tokio::sync::watch;

use super::Error;
use crate::{
    accounts::Accounts,
    config::Config,
    maildrop::Maildrops,
    notify::Notices,
    oauth::{AtTheSocket, ConsentStatus, Tokens},
    pop3::Service,
    quotas::Quotas,
    sign_in::{Candidate, candidates},
    state::{Consent, Renewer, StateStore},
};

/// How many consents are read from state at the same time.
const AT_ONCE: usize = 64;

/// The configuration that is in force.
pub(super) type InForce = watch::Receiver<Arc<Configured>>;

/// A configuration and its parts.
#[derive(Debug)]
pub(super) struct Configured {
    pub(super) config: Config,
    pub(super) tokens: Arc<Tokens>,
    pub(super) notices: Notices,
    pub(super) service: Arc<Service>,
}

impl Configured {
    /// Builds the first parts, with `state` and with what several gateways count together.
    pub(super) async fn new(config: Config, state: Arc<dyn StateStore>, quotas: Option<Quotas>) -> Result<Self, Error> {
        let tokens = Tokens::new(&config, state.clone())?;
        let notices = Notices::open(&config, state.clone(), tokens.clone()).await?;
        let service = Service {
            accounts: Accounts::of_gateway(&config, quotas.clone())?,
            maildrops: Maildrops::of_gateway(notices.clone(), quotas, &config, state, tokens.clone())?,
            limits: config.limits.clone(),
        };
        Ok(Self {
            config,
            tokens,
            notices,
            service: Arc::new(service),
        })
    }

    /// Builds the parts of the next configuration, which share everything that has not changed with these parts. Reads
    /// files.
    pub(super) fn succeeded_by(&self, config: Config) -> Result<Self, Error> {
        let tokens = self.tokens.reconfigured(&config)?;
        let service = Service {
            accounts: self.service.accounts.reconfigured(&config)?,
            maildrops: self.service.maildrops.reconfigured(&config, tokens.clone())?,
            limits: config.limits.clone(),
        };
        Ok(Self {
            config,
            tokens,
            notices: self.notices.clone(),
            service: Arc::new(service),
        })
    }

    /// Reads the consents of all accounts from state, many at once: a request takes long if the servers of state are
    /// away. Leaves out those whose record cannot be read (logged).
    pub(super) async fn read_consents(&self) -> Vec<(Candidate<'_>, ConsentStatus)> {
        let reading = candidates(&self.config.accounts).map(|candidate| async move {
            let consent = candidate.consent(&self.tokens);
            let status = self.tokens.status(&consent).await.ok()?;
            Some((candidate, status))
        });
        let reading: Vec<_> = reading.collect();
        let read: Vec<_> = stream::iter(reading).buffered(AT_ONCE).collect().await;
        read.into_iter().flatten().collect()
    }

    /// The consents of all accounts as they were last read or written, so that nobody waits for state. Leaves out
    /// those that have not been read yet.
    pub(super) async fn last_consents(&self) -> Vec<(Candidate<'_>, ConsentStatus)> {
        let mut consents = Vec::new();
        for candidate in candidates(&self.config.accounts) {
            if let Some(status) = self.tokens.last_status(&candidate.consent(&self.tokens)).await {
                consents.push((candidate, status));
            }
        }
        consents
    }
}

/// Renews tokens for other processes, with the configuration in force.
#[derive(Debug)]
pub(super) struct RenewsAsConfigured(pub(super) InForce);

#[async_trait]
impl Renewer for RenewsAsConfigured {
    async fn renew(&self, consent: &Consent, is_refused: bool) -> String {
        let tokens = self.0.borrow().tokens.clone();
        AtTheSocket(tokens).renew(consent, is_refused).await
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use tokio::time::timeout;

    use super::{super::scene::Slow, *};

    #[tokio::test(start_paused = true)]
    async fn not_all_consents_are_read_at_the_same_time() {
        let mut text = "[state]\ndir = \"d\"\nkey = \"0123456789abcdef0123456789abcdef\"\n\
                        [upstream.home]\nhost = \"imap.example.org\"\n\
                        [upstream.home.oauth2]\nclient_id = \"i\"\nclient_secret = \"s\"\ntoken_url = \"https://x/t\"\n\
                        device_url = \"https://x/d\"\n"
            .to_owned();
        for number in 0..3 * AT_ONCE {
            text.push_str(&format!(
                "[[account]]\nlogin = \"pbx{number}\"\npassword = \"x\"\nupstream = \"home\"\nuser = \"eva{number}\"\n"
            ));
        }
        let config = Config::parse(&text, Path::new("")).unwrap();
        let state = Arc::new(Slow::at_first(Duration::from_secs(3600)));
        let configured = Configured::new(config, state.clone(), None).await.unwrap();
        let reading = timeout(Duration::from_secs(1), configured.read_consents()).await;
        assert!(reading.is_err(), "the first request takes long");
        assert_eq!(state.asked() as usize, AT_ONCE);
        assert_eq!(configured.read_consents().await.len(), 3 * AT_ONCE);
    }
}
