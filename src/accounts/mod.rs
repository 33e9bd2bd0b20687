//! Who may log in: login and secret → [`Account`] or [`Denied`].
//!
//! A login is first looked up among `[[account]]`, octet for octet; such a login is never forwarded. Otherwise the
//! most specific of all `logins` patterns that match decides the upstream: the one with the most characters besides
//! `*`, then the one with the fewest `*`, then the one whose upstream comes first by name.
//!
//! Where a policy has a `folder_separator`, a login may name a folder too: what counts then is the login without it. A
//! login of the gateway's own that is given whole comes first, then those with a folder, then the patterns.

mod folder;
mod hash;
mod pattern;
mod throttle;

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use subtle::ConstantTimeEq;

use self::{folder::split, hash::Hashing, pattern::Pattern, throttle::Throttle};
use crate::{
    config::{self, AccountsOptions, Credential, Expire, LocalSecret, Policy, Secret},
    proofs::RandomUnavailable,
};

pub use hash::hash_password;
pub use throttle::Attempt;

/// An upstream mailbox and how to reach it, as one login sees it.
#[derive(Debug, Clone)]
pub struct Account {
    /// The login a device gave, without the folder that it may have picked.
    pub login: String,
    /// Where the mail lives.
    pub upstream: Arc<config::Upstream>,
    /// The user there.
    pub user: String,
    /// What proves it to the upstream.
    pub credential: Credential,
    /// The credential is what the device gave: the upstream decides whether it is right.
    pub is_forwarded: bool,
    /// What the maildrop shows and does; where a device picked a folder, that one is its only folder.
    pub policy: Arc<Policy>,
}

impl From<&config::Account> for Account {
    fn from(account: &config::Account) -> Self {
        Self {
            login: account.login.clone(),
            upstream: account.upstream.clone(),
            user: account.user.clone(),
            credential: account.credential.clone(),
            is_forwarded: false,
            policy: account.maildrop.clone(),
        }
    }
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
    /// Each `folder_separator` of `local` once, longer ones first.
    separators: Vec<String>,
    /// The most specific first.
    forwarded: Vec<(Pattern, Arc<config::Upstream>)>,
    hashing: Hashing,
    /// A hash to verify where there is none, so that the time of a refusal does not tell which logins exist.
    decoy: Option<Arc<str>>,
    throttle: Arc<Throttle>,
    expire: (Expire, bool),
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

/// Whom a login means.
struct Meant<'a> {
    /// The login without a folder.
    login: Cow<'a, str>,
    /// The folder that it names.
    folder: Option<&'a str>,
    mailbox: Owner<'a>,
}

/// Whose mailbox it is.
enum Owner<'a> {
    Local(&'a Local),
    Forwarded(&'a Arc<config::Upstream>),
}

impl Meant<'_> {
    /// The policy for the folder that was named; `None` if its name is empty.
    fn policy(&self, policy: &Arc<Policy>) -> Option<Arc<Policy>> {
        match self.folder {
            None => Some(policy.clone()),
            Some("") => None,
            Some(folder) => Some(Arc::new(policy.with_folder(folder))),
        }
    }
}

impl Accounts {
    /// Of what `options` name. Fails if the system gives no random numbers.
    pub fn new<'a>(options: impl Into<AccountsOptions<'a>>) -> Result<Self, RandomUnavailable> {
        let options = options.into();
        let local: HashMap<_, _> = options
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
        let mut forwarded: Vec<_> = options
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
        let mut separators: Vec<_> = local
            .values()
            .filter_map(|local| local.account.policy.folder_separator.clone())
            .collect();
        separators.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        separators.dedup();
        let decoy = local.values().find_map(|local| match &local.secret {
            Known::Hash(hash) => Some(hash.clone()),
            Known::Password(_) => None,
        });
        let policies = local.values().map(|local| &local.account.policy);
        let expires: BTreeSet<Expire> = policies
            .chain(forwarded.iter().map(|(_, upstream)| &upstream.maildrop))
            .map(|policy| policy.retention.expire())
            .collect();
        let expire = (expires.first().copied().unwrap_or(Expire::Never), expires.len() > 1);
        Ok(Self {
            local,
            separators,
            forwarded,
            hashing: Hashing::new(),
            decoy,
            throttle: Throttle::new()?,
            expire,
        })
    }

    /// The shortest time that mail stays which a device leaves, and whether it stays longer for some logins.
    pub fn expire(&self) -> (Expire, bool) {
        self.expire
    }

    /// The account of a login whose password for the upstream the configuration holds, for one of its folders; `None` for
    /// any other.
    pub fn stored(&self, login: &str, folder: &str) -> Option<Account> {
        let account = &self.local.get(login)?.account;
        let is_own = account.policy.folders.iter().any(|own| own == folder);
        let policy = match is_own {
            true => account.policy.clone(),
            false if account.policy.folder_separator.is_some() => Arc::new(account.policy.with_folder(folder)),
            false => return None,
        };
        Some(Account {
            policy,
            ..account.clone()
        })
    }

    /// Resolves `login`. For a login of the gateway's own the secret is verified here; for one that is
    /// forwarded the upstream decides. The caller tells the [`Attempt`] what came of it; one that is refused here has failed.
    ///
    /// After failures of the login it waits before it looks at the secret, and after too many it does not look. A login that
    /// is no UTF-8 or holds control characters is [`Denied::Wrong`].
    pub async fn authenticate(&self, login: &[u8], secret: Secret, peer: IpAddr) -> Result<(Account, Attempt), Denied> {
        let meant = self.meant(login);
        let attempt = self.throttle.begin(counted(login, meant.as_ref()), &secret, peer);
        let attempt = attempt.ok_or(Denied::Throttled)?;
        if !attempt.delay().is_zero() {
            tokio::time::sleep(attempt.delay()).await;
        }
        let account = match &meant {
            Some(meant) => self.verify(meant, secret).await,
            None => {
                self.spend_time(secret).await;
                None
            }
        };
        match account {
            Some(account) => Ok((account, attempt)),
            None => {
                attempt.failed();
                Err(Denied::Wrong)
            }
        }
    }

    fn meant<'a>(&'a self, login: &'a [u8]) -> Option<Meant<'a>> {
        // SASL PLAIN separates its parts by NUL (RFC 4616 §2): none may come from a device.
        let name = std::str::from_utf8(login)
            .ok()
            .filter(|name| !name.chars().any(char::is_control))?;
        if let Some(local) = self.local.get(name) {
            return Some(Meant {
                login: name.into(),
                folder: None,
                mailbox: Owner::Local(local),
            });
        }
        for separator in &self.separators {
            if let Some((login, folder)) = split(name, separator)
                && let Some(local) = self.local.get(login.as_ref())
                && local.account.policy.folder_separator.as_ref() == Some(separator)
            {
                return Some(Meant {
                    login,
                    folder: Some(folder),
                    mailbox: Owner::Local(local),
                });
            }
        }
        let (login, folder, upstream) = self.forwarded.iter().find_map(|(pattern, upstream)| {
            let separator = upstream.maildrop.folder_separator.as_deref();
            let (login, folder) = match separator.and_then(|separator| split(name, separator)) {
                Some((login, folder)) => (login, Some(folder)),
                None => (name.into(), None),
            };
            pattern.matches(&login).then_some((login, folder, upstream))
        })?;
        // A folder does not make a login of the gateway's own one that is forwarded.
        (!self.local.contains_key(login.as_ref())).then_some(Meant {
            login,
            folder,
            mailbox: Owner::Forwarded(upstream),
        })
    }

    async fn verify(&self, meant: &Meant<'_>, secret: Secret) -> Option<Account> {
        match meant.mailbox {
            Owner::Local(local) => {
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
                let policy = meant.policy(&local.account.policy).filter(|_| right)?;
                Some(Account {
                    policy,
                    ..local.account.clone()
                })
            }
            Owner::Forwarded(upstream) => Some(Account {
                policy: meant.policy(&upstream.maildrop)?,
                login: meant.login.clone().into_owned(),
                upstream: upstream.clone(),
                user: meant.login.clone().into_owned(),
                credential: Credential::Password(secret),
                is_forwarded: true,
            }),
        }
    }

    /// What verifying a hash would have taken.
    async fn spend_time(&self, secret: Secret) {
        if let Some(hash) = &self.decoy {
            self.hashing.verify(hash.clone(), secret).await;
        }
    }
}

/// What the throttle counts by: the login without a folder, so that nobody gets more tries by naming others.
fn counted<'a>(login: &'a [u8], meant: Option<&'a Meant<'_>>) -> &'a [u8] {
    meant.map_or(login, |meant| meant.login.as_bytes())
}

#[cfg(test)]
mod tests;
