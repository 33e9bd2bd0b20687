//! The end of a sign-in, at whatever page or terminal: what the provider gave is tried at the upstream, and then kept.

use std::sync::Arc;

use crate::{
    accounts::Account,
    config::{self, Config, Credential},
    maildrop::{self, Maildrops, Octets},
    oauth::{self, Issued, Tokens},
    state::{Consent, MemoryStore},
};

/// Why a sign-in came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The provider, or what the gateway keeps.
    #[error(transparent)]
    Token(#[from] oauth::Error),
    /// The upstream does not open the mailbox; what it said is in the log.
    #[error("the provider gave a token, but the mailbox does not open: {0}")]
    Mailbox(#[from] maildrop::Error),
    /// `[upstream.NAME.oauth2]`
    #[error("[upstream.….oauth2] {0}")]
    OAuth2(#[from] oauth::SetupError),
    /// `[upstream.NAME]`
    #[error(transparent)]
    Upstream(#[from] maildrop::SetupError),
}

/// An account whose upstream takes tokens.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The account.
    pub account: &'a config::Account,
    /// What its upstream asks for tokens.
    pub oauth2: &'a config::OAuth2,
    consent: &'a str,
}

impl Candidate<'_> {
    /// Whose tokens it uses.
    pub fn consent(&self, tokens: &Tokens) -> Consent {
        tokens.consent(&self.account.upstream.name, self.consent)
    }
}

/// The sign-ins that a configuration has.
#[derive(Debug, Clone)]
pub struct SignIns(Arc<Config>);

impl SignIns {
    /// Of `config`.
    pub fn new(config: Arc<Config>) -> Self {
        Self(config)
    }

    /// The accounts whose upstreams take tokens.
    pub fn candidates(&self) -> impl Iterator<Item = Candidate<'_>> {
        candidates(&self.0)
    }

    /// As [`complete`].
    pub async fn complete(&self, tokens: &Tokens, candidate: Candidate<'_>, issued: Issued) -> Result<Opened, Error> {
        complete(&self.0, tokens, candidate, issued).await
    }
}

/// The accounts of `config` whose upstreams take tokens.
pub fn candidates(config: &Config) -> impl Iterator<Item = Candidate<'_>> {
    config.accounts.iter().filter_map(|account| match &account.credential {
        Credential::OAuth2 { consent } => Some(Candidate {
            account,
            oauth2: account.upstream.oauth2.as_deref()?,
            consent,
        }),
        Credential::Password(_) => None,
    })
}

/// Messages and octets of a maildrop that could be opened.
pub type Opened = (u32, Octets);

/// Opens the mailbox of `candidate` with what was `issued`, and keeps that if this works. Nothing of a running gateway is used
/// for the trial but its network.
pub async fn complete(
    config: &Config,
    tokens: &Tokens,
    candidate: Candidate<'_>,
    issued: Issued,
) -> Result<Opened, Error> {
    let trial = Tokens::new(config, Arc::new(MemoryStore::default()))?;
    let consent = candidate.consent(tokens);
    trial.keep(&consent, issued.clone()).await?;
    let opened = open(config, trial, candidate).await?;
    tokens.keep(&consent, issued).await?;
    Ok(opened)
}

/// Opens the mailbox of `candidate` with tokens of `tokens`, and closes it again.
pub async fn open(config: &Config, tokens: Arc<Tokens>, candidate: Candidate<'_>) -> Result<Opened, Error> {
    let maildrops = Maildrops::new(config, Arc::new(MemoryStore::default()), tokens.clone())?;
    let maildrop = maildrops.open(&Account::from(candidate.account)).await?;
    let opened = maildrop.listing().stat();
    maildrop.abandon().await;
    maildrops.finish().await;
    tokens.finish().await;
    Ok(opened)
}
