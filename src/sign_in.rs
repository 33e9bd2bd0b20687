//! The end of a sign-in, on the page or at a terminal: what the provider issued is tried at the upstream, and then
//! kept.

use std::sync::Arc;

use crate::{
    accounts::Account,
    config::{self, Credential, MaildropOptions, SignInOptions},
    maildrop::{self, Maildrops, Refusal},
    oauth::{self, Issued, Outcome, Status, Tokens},
    state::{Consent, MemoryStore},
    types::Octets,
};

/// Why a sign-in came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The provider, or what the gateway keeps.
    #[error(transparent)]
    Token(#[from] oauth::Error),
    /// The upstream does not open the mailbox; what it said is in the log.
    #[error("the provider gave a token, but the mailbox does not open: {cause}{}", with_hints(.missing, *.fate))]
    Mailbox {
        /// Why.
        cause: maildrop::Error,
        /// Scopes that the provider did not grant.
        missing: Vec<String>,
        /// What became of the token.
        fate: Fate,
    },
    /// `[upstream.NAME.oauth2]`
    #[error("[upstream.….oauth2] {0}")]
    OAuth2(#[from] oauth::SetupError),
    /// `[upstream.NAME]`
    #[error(transparent)]
    Upstream(#[from] maildrop::SetupError),
}

/// What became of the token for a mailbox that does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is kept, because the trouble at the upstream is temporary.
    Kept,
    /// The provider has revoked it.
    Revoked,
    /// It is not kept, but stays valid at the provider.
    Left,
}

fn with_hints(missing: &[String], fate: Fate) -> String {
    let mut text = String::new();
    if !missing.is_empty() {
        text = format!(
            " (the provider did not grant {}: allow it when signing in, or where the application is registered)",
            missing.join(" and ")
        );
    }
    text.push_str(match fate {
        Fate::Kept => "; the consent is kept, and the next login of a device tries it",
        Fate::Revoked => "; the consent is revoked",
        Fate::Left => "; the consent is not kept, and may be withdrawn at the provider",
    });
    text
}

/// What a sign-in has come to.
#[derive(Debug)]
pub struct SignedIn {
    /// What the mailbox holds.
    pub opened: Opened,
    /// What is kept now.
    pub outcome: Outcome,
    /// Scopes that the provider did not grant.
    pub missing: Vec<String>,
    /// How the consent stands.
    pub status: Status,
}

impl SignedIn {
    /// What else somebody should know, in sentences.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if self.outcome == Outcome::Old {
            remarks.push(
                "The provider gave no refresh token this time: the earlier consent, which has one, stays.".to_owned(),
            );
        }
        if self.outcome == Outcome::Unwritten {
            remarks.push(
                "The consent cannot be written (is the disk full?): it is tried again until popgate ends.".to_owned(),
            );
        }
        if !self.missing.is_empty() {
            remarks.push(format!("The provider did not grant {}.", self.missing.join(" and ")));
        }
        remarks
    }
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

impl<'a> Candidate<'a> {
    /// As whom somebody is to sign in.
    pub fn person(&self) -> &'a str {
        self.consent
    }

    /// Whose tokens it uses.
    pub fn consent(&self, tokens: &Tokens) -> Consent {
        tokens.consent(&self.account.upstream.name, self.consent)
    }
}

/// The sign-ins that a configuration has.
#[derive(Debug, Clone)]
pub struct SignIns(SignInOptions);

impl SignIns {
    /// The sign-ins for the accounts of `options`.
    pub fn new(options: impl Into<SignInOptions>) -> Self {
        Self(options.into())
    }

    /// The accounts whose upstreams take tokens. Nobody signs in for a rule.
    pub fn candidates(&self) -> impl Iterator<Item = Candidate<'_>> {
        candidates(&self.0.accounts)
    }

    /// As [`complete`].
    pub async fn complete(
        &self,
        tokens: &Arc<Tokens>,
        candidate: Candidate<'_>,
        issued: Issued,
    ) -> Result<SignedIn, Error> {
        complete(self.0.maildrops.clone(), tokens, candidate, issued).await
    }
}

/// Those of `accounts` whose upstreams take tokens. Nobody signs in for a rule.
pub fn candidates(accounts: &[config::Account]) -> impl Iterator<Item = Candidate<'_>> {
    let accounts = accounts.iter().filter(|account| !account.is_rule());
    accounts.filter_map(|account| match &account.credential {
        Credential::OAuth2 { consent } => Some(Candidate {
            account,
            oauth2: account.upstream.oauth2.as_deref()?,
            consent,
        }),
        Credential::Password(_) | Credential::Token(_) => None,
    })
}

/// Messages and octets of a maildrop that could be opened.
pub type Opened = (u32, Octets);

/// Opens the mailbox of `candidate` with what was `issued`. If the mailbox opens, or fails to for a temporary reason,
/// the token is kept in `tokens`, as renewed by then. The trial shares nothing with a running gateway but the network.
pub async fn complete(
    options: impl Into<MaildropOptions>,
    tokens: &Arc<Tokens>,
    candidate: Candidate<'_>,
    issued: Issued,
) -> Result<SignedIn, Error> {
    let consent = candidate.consent(tokens);
    let missing = issued.missing(&candidate.oauth2.scopes);
    let missing = missing.into_iter().map(str::to_owned).collect();
    let trial = tokens.trial(&consent, issued).await?;
    match open(options, trial.clone(), candidate).await {
        Ok(opened) => Ok(SignedIn {
            opened,
            outcome: tokens.keep(&consent, &trial).await?,
            missing,
            status: tokens.status(&consent).await?,
        }),
        Err(Error::Mailbox { cause, .. }) => {
            let will_pass = matches!(cause.refusal(), Refusal::Unavailable(_) | Refusal::InUse);
            let is_new = !tokens.status(&consent).await?.is_good();
            let fate = match will_pass {
                true => {
                    tokens.keep(&consent, &trial).await?;
                    Fate::Kept
                }
                // Not while an earlier consent holds: some providers revoke all consents of the same person.
                false if is_new && tokens.revoke(&consent, &trial).await => Fate::Revoked,
                false => Fate::Left,
            };
            Err(Error::Mailbox { cause, missing, fate })
        }
        Err(other) => Err(other),
    }
}

/// Opens the mailbox of `candidate` with tokens of `tokens`, and closes it again.
pub async fn open(
    options: impl Into<MaildropOptions>,
    tokens: Arc<Tokens>,
    candidate: Candidate<'_>,
) -> Result<Opened, Error> {
    let maildrops = Maildrops::new(options, Arc::new(MemoryStore::default()), tokens.clone())?;
    let opened = maildrops.open(&Account::from(candidate.account)).await;
    let opened = opened.inspect_err(maildrop::Error::log);
    let opened = match opened {
        Ok(maildrop) => {
            let opened = maildrop.listing().stat();
            maildrop.abandon().await;
            Ok(opened)
        }
        Err(cause) => Err(Error::Mailbox {
            cause,
            missing: Vec::new(),
            fate: Fate::Left,
        }),
    };
    maildrops.finish().await;
    tokens.finish().await;
    opened
}
