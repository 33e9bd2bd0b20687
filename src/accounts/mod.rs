//! Who may log in: login and secret → [`Account`] or [`Denied`].
//!
//! A login is first looked up among `[[account]]`, octet for octet; such a login is never forwarded. Otherwise the
//! most specific of all `logins` patterns that match decides the upstream: the one with the most characters besides
//! `*`, then the one with the fewest `*`, then the one whose upstream comes first by name.

mod hash;
mod pattern;
mod throttle;

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use subtle::ConstantTimeEq;

use self::{hash::Hashing, pattern::Pattern, throttle::Throttle};
use crate::config::{self, Config, LocalSecret, Policy, Secret};

pub use hash::hash_password;

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
    pub policy: Arc<Policy>,
}

impl From<&config::Account> for Account {
    fn from(account: &config::Account) -> Self {
        Self {
            login: account.login.clone(),
            upstream: account.upstream.clone(),
            user: account.user.clone(),
            credential: Credential::Password(account.upstream_password.clone()),
            policy: account.maildrop.clone(),
        }
    }
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
pub struct Accounts {
    local: HashMap<String, Local>,
    /// The most specific first.
    forwarded: Vec<(Pattern, Arc<config::Upstream>)>,
    hashing: Hashing,
    /// A hash to verify where there is none, so that the time of a refusal does not tell which logins exist.
    decoy: Option<Arc<str>>,
    throttle: Throttle,
}

#[derive(Debug)]
struct Local {
    secret: Known,
    account: Account,
}

#[derive(Debug)]
enum Known {
    Password(Secret),
    Hash(Arc<str>),
}

impl Accounts {
    /// Accounts of `config`.
    pub fn new(config: &Config) -> Self {
        let local: HashMap<_, _> = config
            .accounts
            .iter()
            .map(|account| {
                let secret = match &account.secret {
                    LocalSecret::Password(password) => Known::Password(password.clone()),
                    LocalSecret::Hash(hash) => Known::Hash(hash.as_str().into()),
                };
                let account = Account::from(account);
                (account.login.clone(), Local { secret, account })
            })
            .collect();
        let mut forwarded: Vec<_> = config
            .upstreams
            .iter()
            .flat_map(|upstream| {
                upstream
                    .logins
                    .iter()
                    .map(|login| (Pattern::new(login), upstream.clone()))
            })
            .collect();
        forwarded.sort_by_key(|(pattern, _)| pattern.rank());
        let decoy = local.values().find_map(|local| match &local.secret {
            Known::Hash(hash) => Some(hash.clone()),
            Known::Password(_) => None,
        });
        Self {
            local,
            forwarded,
            hashing: Hashing::new(),
            decoy,
            throttle: Throttle::default(),
        }
    }

    /// Resolves `login`. For a login of the gateway's own the secret is verified here; for one that is
    /// forwarded the upstream decides, and the caller reports its refusal by [`Accounts::failed`].
    ///
    /// A login that is no UTF-8 or holds control characters is [`Denied::Wrong`]. Refusals by this function count
    /// towards the throttle by themselves.
    pub async fn authenticate(&self, login: &[u8], secret: Secret, peer: IpAddr) -> Result<Account, Denied> {
        if self.throttle.is_throttled(login, peer) {
            return Err(Denied::Throttled);
        }
        let account = self.resolve(login, secret).await;
        if account.is_none() {
            self.throttle.failed(login, peer);
        }
        account.ok_or(Denied::Wrong)
    }

    /// An upstream refused what `login` gave: counts towards the throttle.
    pub fn failed(&self, login: &[u8], peer: IpAddr) {
        self.throttle.failed(login, peer);
    }

    /// The upstream took what `login` gave: the throttle forgets.
    pub fn succeeded(&self, login: &[u8], peer: IpAddr) {
        self.throttle.succeeded(login, peer);
    }

    async fn resolve(&self, login: &[u8], secret: Secret) -> Option<Account> {
        // SASL PLAIN separates its parts by NUL (RFC 4616 §2): none may come from a device.
        let name = std::str::from_utf8(login)
            .ok()
            .filter(|name| !name.chars().any(char::is_control));
        if let Some(local) = name.and_then(|name| self.local.get(name)) {
            let right = match &local.secret {
                Known::Hash(hash) => self.hashing.verify(hash.clone(), secret).await,
                // The length shows in the time that this takes, the content does not.
                Known::Password(known) => {
                    let right = bool::from(known.expose().ct_eq(secret.expose()));
                    if !right {
                        self.spend_time(secret).await;
                    }
                    right
                }
            };
            return right.then(|| local.account.clone());
        }
        let forwarded = name.and_then(|name| {
            let upstream = self.forwarded.iter().find(|(pattern, _)| pattern.matches(name));
            upstream.map(|(_, upstream)| (name, upstream))
        });
        match forwarded {
            Some((name, upstream)) => Some(Account {
                login: name.to_owned(),
                upstream: upstream.clone(),
                user: name.to_owned(),
                credential: Credential::Password(secret),
                policy: upstream.maildrop.clone(),
            }),
            None => {
                self.spend_time(secret).await;
                None
            }
        }
    }

    /// What verifying a hash would have taken.
    async fn spend_time(&self, secret: Secret) {
        if let Some(hash) = &self.decoy {
            self.hashing.verify(hash.clone(), secret).await;
        }
    }
}

#[cfg(test)]
mod tests;
