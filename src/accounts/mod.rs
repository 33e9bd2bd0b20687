//! Who may log in: login and secret → [`Account`] or [`Denied`].

use std::{net::IpAddr, sync::Arc};

use crate::config::{self, Config, Policy, Secret};

/// An upstream mailbox and how to reach it, as one login sees it.
#[derive(Debug, Clone)]
pub struct Account {
    /// The login a device gave.
    pub login: String,
    /// Where the mail lives.
    pub upstream: Arc<config::Upstream>,
    /// The user there.
    pub user: String,
    /// What proves it to the upstream.
    pub credential: Credential,
    /// What the maildrop shows and does.
    pub policy: Policy,
}

/// What proves to the upstream who the user is.
#[derive(Debug, Clone)]
pub enum Credential {
    /// A password.
    Password(Secret),
}

/// Why a login is refused before any upstream is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No such login, or a wrong secret; which of the two is not told.
    #[error("wrong login or password")]
    Wrong,
    /// Too many failures from this address for this login.
    #[error("too many failures, try later")]
    Throttled,
}

/// All logins of a configuration.
#[derive(Debug)]
pub struct Accounts {}

impl Accounts {
    /// Accounts of `config`.
    pub fn new(_config: &Config) -> Self {
        Self {}
    }

    /// Resolves `login`. For a login of the gateway's own the secret is verified here; for one that is
    /// forwarded the upstream decides, and the caller reports its refusal by [`Accounts::failed`].
    pub async fn authenticate(&self, _login: &[u8], _secret: Secret, _peer: IpAddr) -> Result<Account, Denied> {
        Err(Denied::Wrong)
    }

    /// An upstream refused what `login` gave: counts towards the throttle.
    pub fn failed(&self, _login: &[u8], _peer: IpAddr) {}

    /// The upstream took what `login` gave: the throttle forgets.
    pub fn succeeded(&self, _login: &[u8], _peer: IpAddr) {}
}
