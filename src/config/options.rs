//! Parts of the configuration: each module of the crate gets no more than it needs.

use std::{sync::Arc, time::Duration};

use super::{Account, Config, Notify, Secret, Upstream};

/// Who may log in.
#[derive(Debug, Clone, Copy)]
pub struct AccountsOptions<'a> {
    /// `[[account]]`
    pub accounts: &'a [Account],
    /// The upstreams, some of which have `logins` that are forwarded.
    pub upstreams: &'a [Arc<Upstream>],
    /// How long a secret that was verified by a hash need not be verified again: `parked_seconds`.
    pub proof_lasts: Duration,
}

impl<'a> From<&'a Config> for AccountsOptions<'a> {
    fn from(config: &'a Config) -> Self {
        Self {
            accounts: &config.accounts,
            upstreams: &config.upstreams,
            proof_lasts: config.limits.parked_for,
        }
    }
}

/// Which upstreams there are, and how maildrops use them.
#[derive(Debug, Clone)]
pub struct MaildropOptions {
    /// The upstreams that have the mail.
    pub upstreams: Vec<Arc<Upstream>>,
    /// `upstream_seconds`
    pub silence: Duration,
    /// `parked_seconds`
    pub parked: Duration,
    /// `read_ahead_bytes`
    pub read_ahead: u64,
}

impl From<&Config> for MaildropOptions {
    fn from(config: &Config) -> Self {
        Self {
            upstreams: config.upstreams.clone(),
            silence: config.limits.upstream,
            parked: config.limits.parked_for,
            read_ahead: config.limits.read_ahead,
        }
    }
}

/// Who may sign in, and what trying out a sign-in needs.
#[derive(Debug, Clone)]
pub struct SignInOptions {
    /// `[[account]]`
    pub accounts: Arc<[Account]>,
    /// What opening a mailbox needs.
    pub maildrops: MaildropOptions,
}

impl From<&Config> for SignInOptions {
    fn from(config: &Config) -> Self {
        Self {
            accounts: config.accounts.clone(),
            maildrops: config.into(),
        }
    }
}

/// Where access tokens come from, and how they are stored.
#[derive(Debug, Clone, Copy)]
pub struct OAuthOptions<'a> {
    /// The upstreams, some of which have `oauth2`.
    pub upstreams: &'a [Arc<Upstream>],
    /// The key that seals tokens.
    pub key: Option<&'a Secret>,
}

impl<'a> From<&'a Config> for OAuthOptions<'a> {
    fn from(config: &'a Config) -> Self {
        Self {
            upstreams: &config.upstreams,
            key: config.state.key.as_ref(),
        }
    }
}

/// How people hear that they must act.
#[derive(Debug, Clone, Default)]
pub struct NotifyOptions {
    /// `[notify]`
    pub notify: Notify,
    /// The URL of the sign-in page, if there is one.
    pub page: Option<String>,
    /// Whether state outlives the process.
    pub is_kept: bool,
}

impl From<&Config> for NotifyOptions {
    fn from(config: &Config) -> Self {
        let page = config.web.as_ref().map(|web| {
            let address = || format!("http://{}", web.address);
            web.public_url.clone().unwrap_or_else(address)
        });
        Self {
            notify: config.notify.clone(),
            page,
            is_kept: config.state.is_kept(),
        }
    }
}
