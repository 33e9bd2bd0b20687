//! What a room of the house gets of the configuration: no more than it needs.

use std::sync::Arc;

use super::{Account, Config, Secret, Upstream};

/// Who may log in.
#[derive(Debug, Clone, Copy)]
pub struct AccountsOptions<'a> {
    /// `[[account]]`
    pub accounts: &'a [Account],
    /// Those whose `logins` are forwarded.
    pub upstreams: &'a [Arc<Upstream>],
}

impl<'a> From<&'a Config> for AccountsOptions<'a> {
    fn from(config: &'a Config) -> Self {
        Self {
            accounts: &config.accounts,
            upstreams: &config.upstreams,
        }
    }
}

/// Where tokens come from, and how they are kept.
#[derive(Debug, Clone, Copy)]
pub struct OAuthOptions<'a> {
    /// Those that have `oauth2`.
    pub upstreams: &'a [Arc<Upstream>],
    /// What tokens are sealed with.
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
