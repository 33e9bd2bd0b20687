//! Completes a sign-in from the web page or from a terminal: tries the provider's new token at the upstream, and then
//! keeps it.

use std::sync::Arc;

use crate::{
    accounts::Account,
    config::{self, Credential, MaildropOptions, SignInOptions},
    maildrop::{self, Maildrops, Refusal},
    oauth::{self, ConsentState, ConsentStatus, Issued, KeepOutcome, Tokens},
    state::{Consent, MemoryStore},
    types::Octets,
};

/// Why a sign-in failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The provider gave no token, or state cannot be read or written.
    #[error(transparent)]
    Token(#[from] oauth::Error),
    /// The upstream does not open the mailbox; its answer is in the log.
    #[error("the provider gave a token, but the mailbox does not open: {cause}{}", with_hints(.missing, *.fate))]
    Mailbox {
        cause: maildrop::Error,
        /// Scopes that the provider did not grant.
        missing: Vec<String>,
        fate: Fate,
    },
    /// `[upstream.NAME.oauth2]` cannot be used.
    #[error("[upstream.….oauth2] {0}")]
    OAuth2(#[from] oauth::SetupError),
    /// `[upstream.NAME]` cannot be used.
    #[error(transparent)]
    Upstream(#[from] maildrop::SetupError),
}

/// What became of the token for a mailbox that does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The token is kept, because the problem at the upstream is temporary.
    Kept,
    /// The token cannot be written yet. It is lost if this process ends before.
    Unwritten,
    /// The provider has revoked the token.
    Revoked,
    /// The token is not kept, but stays valid at the provider.
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
        Fate::Unwritten => "; the consent cannot be written yet, see the log",
        Fate::Revoked => "; the consent is revoked",
        Fate::Left => "; the consent is not kept, and may be withdrawn at the provider",
    });
    text
}

/// The result of a sign-in after which the mailbox has opened.
#[derive(Debug)]
pub(crate) struct SignedIn {
    pub opened: Opened,
    /// Whether the new tokens are kept.
    pub outcome: KeepOutcome,
    /// Scopes that the provider did not grant.
    pub missing: Vec<String>,
    /// The status of the consent after the sign-in; `None` if state cannot be read.
    pub status: Option<ConsentStatus>,
}

impl SignedIn {
    /// What else the person should know, a sentence each.
    pub(crate) fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if self.outcome == KeepOutcome::Old {
            remarks.push(
                "The provider gave no refresh token this time: the earlier consent, which has one, stays.".to_owned(),
            );
        }
        if self.outcome == KeepOutcome::Unwritten {
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

/// An account whose upstream uses OAuth2.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'a> {
    pub account: &'a config::Account,
    /// How the account's upstream gets tokens.
    pub oauth2: &'a config::OAuth2,
    consent: &'a str,
}

impl<'a> Candidate<'a> {
    /// The user as whom somebody must sign in.
    pub(crate) fn person(&self) -> &'a str {
        self.consent
    }

    /// The consent whose tokens the account uses.
    pub(crate) fn consent(&self, tokens: &Tokens) -> Consent {
        tokens.consent(&self.account.upstream.name, self.consent)
    }
}

/// The accounts of a configuration that somebody can sign in for.
#[derive(Debug, Clone)]
pub(crate) struct SignIns(SignInOptions);

impl SignIns {
    pub(crate) fn new(options: impl Into<SignInOptions>) -> Self {
        Self(options.into())
    }

    pub(crate) fn candidates(&self) -> impl Iterator<Item = Candidate<'_>> {
        candidates(&self.0.accounts)
    }

    /// Calls [`complete`] with the options of this configuration.
    pub(crate) async fn complete(
        &self,
        tokens: &Arc<Tokens>,
        candidate: Candidate<'_>,
        issued: Issued,
    ) -> Result<SignedIn, Error> {
        complete(self.0.maildrops.clone(), tokens, candidate, issued).await
    }
}

/// The accounts among `accounts` whose upstreams use OAuth2. Nobody signs in for a rule.
pub(crate) fn candidates(accounts: &[config::Account]) -> impl Iterator<Item = Candidate<'_>> {
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

/// How many messages and octets the maildrop holds.
pub(crate) type Opened = (u32, Octets);

/// Opens the mailbox of `candidate` with the token that the provider has `issued`. Keeps the token in `tokens` if the
/// mailbox opens, or if the reason why it does not open is temporary. If the token was renewed during this trial, the
/// renewed one is kept. The trial shares nothing with a running gateway but the network.
pub(crate) async fn complete(
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
        Ok(opened) => keep(tokens, &consent, &trial, opened, missing).await,
        Err(Error::Mailbox { cause, .. }) => {
            let fate = decide(tokens, &consent, &trial, cause.refusal()).await;
            Err(Error::Mailbox { cause, missing, fate })
        }
        Err(other) => Err(other),
    }
}

/// Keeps the token of `trial`, with which the mailbox has opened.
async fn keep(
    tokens: &Arc<Tokens>,
    consent: &Consent,
    trial: &Tokens,
    opened: Opened,
    missing: Vec<String>,
) -> Result<SignedIn, Error> {
    Ok(SignedIn {
        opened,
        outcome: tokens.keep(consent, trial).await?,
        missing,
        // The sign-in has succeeded, even if its status cannot be read now.
        status: tokens.status(consent).await.ok(),
    })
}

/// Decides what becomes of the token of `trial`, with which the mailbox does not open; `refusal` is the reason. A
/// failure of state is not returned, because it would hide that reason; state has logged it.
async fn decide(tokens: &Arc<Tokens>, consent: &Consent, trial: &Tokens, refusal: &Refusal) -> Fate {
    if matches!(refusal, Refusal::Unavailable(_) | Refusal::InUse) {
        return match tokens.keep(consent, trial).await {
            Ok(KeepOutcome::New) => Fate::Kept,
            Ok(KeepOutcome::Unwritten) => Fate::Unwritten,
            Ok(KeepOutcome::Old) | Err(_) => Fate::Left,
        };
    }
    // A token is not revoked while an earlier consent may hold, also one that cannot be read for now: some providers
    // revoke all consents of the same person.
    let is_over = |status: ConsentStatus| matches!(status.state, ConsentState::Missing | ConsentState::Ended { .. });
    let is_new = tokens.status(consent).await.is_ok_and(is_over);
    if is_new && tokens.revoke(consent, trial).await {
        Fate::Revoked
    } else {
        Fate::Left
    }
}

/// Opens the mailbox of `candidate` with the tokens in `tokens`, and closes it again.
pub(crate) async fn open(
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

#[cfg(test)]
mod tests {
    use std::{
        path::Path,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use async_trait::async_trait;

    use super::*;
    use crate::{
        config::Config,
        maildrop::Reason,
        state::{Access, Altered, Behaviour, Unavailable},
    };

    /// State whose tokens can be read `reads` times. Later reads fail.
    #[derive(Debug)]
    struct Unreadable {
        reads: AtomicUsize,
    }

    #[async_trait]
    impl Behaviour for Unreadable {
        async fn before(&self, access: Access<'_>) -> Result<(), Unavailable> {
            if access != Access::Token {
                return Ok(());
            }
            let one_less = |reads: usize| reads.checked_sub(1);
            let read = self.reads.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
            read.map(drop).map_err(|_| Unavailable::Failed)
        }
    }

    /// Tokens in state that can be read only `reads` times, a consent, and the trial of a token for it.
    async fn trial(reads: usize) -> (Arc<Tokens>, Consent, Arc<Tokens>) {
        let text = "[state]\ndir = \"data\"\nkey = \"0123456789abcdef0123456789abcdef\"\n\
                    [upstream.home]\nhost = \"imap.example.org\"\n\
                    [upstream.home.oauth2]\nclient_id = \"id\"\ndevice_url = \"https://x/d\"\n\
                    token_url = \"https://x/t\"\n\
                    [[account]]\nlogin = \"pbx\"\npassword = \"p\"\nupstream = \"home\"\nuser = \"eva\"\n";
        let config = Config::parse(text, Path::new("")).unwrap();
        let state = Altered::new(Unreadable { reads: reads.into() });
        let tokens = Tokens::new(&config, Arc::new(state)).unwrap();
        let consent = tokens.consent("home", "eva");
        let trial = tokens.trial(&consent, Issued::invented()).await.unwrap();
        (tokens, consent, trial)
    }

    #[tokio::test]
    async fn a_sign_in_whose_status_cannot_be_read_has_succeeded() {
        for (reads, has_status) in [(1, false), (2, true)] {
            let (tokens, consent, trial) = trial(reads).await;
            let signed_in = keep(&tokens, &consent, &trial, (3, Octets(30)), Vec::new()).await;
            let signed_in = signed_in.unwrap();
            assert_eq!((signed_in.outcome, signed_in.opened.0), (KeepOutcome::New, 3));
            assert_eq!(signed_in.status.is_some(), has_status);
        }
    }

    /// The reason why the mailbox does not open is what the person must hear: no failure of state replaces it.
    #[tokio::test]
    async fn a_token_is_left_while_state_cannot_be_read() {
        let down = Refusal::Unavailable(Reason::Refused);
        for (refusal, reads, expected) in [
            (&down, 0, Fate::Left),
            (&down, 1, Fate::Kept),
            (&Refusal::Denied, 0, Fate::Left),
        ] {
            let (tokens, consent, trial) = trial(reads).await;
            assert_eq!(decide(&tokens, &consent, &trial, refusal).await, expected, "{refusal}");
        }
    }
}
