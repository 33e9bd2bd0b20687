//! Decides who may log in: resolves a login and its secret to an [`Account`], or refuses them with [`Denied`].
//!
//! Logins that differ only in the case of their domain are the same login (see [`canonical`]); a login without a domain gets
//! the upstream's `default_domain`. A login is first looked up among the `[[account]]`s; such a login is never forwarded.
//! Otherwise the most specific matching pattern decides, among those of `[[account]]` and of `logins`: the pattern with the
//! most characters besides `*`, then with the fewest `*`, then that of an `[[account]]`, then that of the upstream whose name
//! comes first.
//!
//! If a policy has a `folder_separator`, a login may also name a folder (`office+Invoices`); the rules above then apply to the
//! login without the folder. The whole login is looked up among the `[[account]]`s first, then the login without its folder,
//! and the patterns last.

mod folder;
mod hash;
mod passwords;
mod pattern;
mod queue;
mod response;
mod throttle;
mod token;

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use subtle::ConstantTimeEq;

use self::{
    folder::split,
    hash::{Asker, Hashing},
    passwords::PasswordsFile,
    pattern::Pattern,
    response::Responses,
    throttle::Throttle,
};
use crate::{
    config::{self, AccountsOptions, Credential, Expire, LocalSecret, Policy, Secret},
    proofs::RandomUnavailable,
    quotas::{Quotas, Word},
    types::{MailboxName, canonical, network},
};

pub use hash::hash_password;
pub use response::{Response, SCRAM_ITERATIONS, SecretsKnown, Signature};
pub use throttle::Attempt;

/// An upstream mailbox, the credential that opens it, and the policy of the login that leads to it.
#[derive(Debug, Clone)]
pub struct Account {
    /// The login in [`canonical`] form, without the folder that the device may have named.
    pub login: String,
    /// The IMAP server that holds the mailbox.
    pub upstream: Arc<config::Upstream>,
    /// The user at the upstream, in [`canonical`] form. All logins that lead to the same user share one mailbox.
    pub user: String,
    /// The credential with which the gateway logs in to the upstream.
    pub credential: Credential,
    /// Whether the credential is the device's own, so that the upstream decides whether it is right.
    pub is_forwarded: bool,
    /// What the maildrop shows and does. If the login named a folder, that folder is the policy's only one.
    pub policy: Arc<Policy>,
}

impl From<&config::Account> for Account {
    fn from(account: &config::Account) -> Self {
        Self {
            login: canonical(&account.login, None),
            upstream: account.upstream.clone(),
            user: canonical(&account.user, None),
            credential: account.credential.clone(),
            is_forwarded: false,
            policy: account.maildrop.clone(),
        }
    }
}

impl Account {
    /// The name of `folder` of this account in state.
    pub fn mailbox(&self, folder: &str) -> MailboxName {
        MailboxName {
            upstream: self.upstream.name.clone(),
            user: self.user.clone(),
            folder: folder.to_owned(),
        }
    }

    /// Whether this account's login belongs to `rule`, an `[[account]]` whose login may be a pattern.
    pub fn is_of(&self, rule: &config::Account) -> bool {
        self.upstream.name == rule.upstream.name && Pattern::new(&rule.login).matches(&self.login)
    }
}

/// Why a login is refused before any upstream is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The login does not exist, or the secret is wrong. The device does not learn which of the two.
    #[error("wrong login or password")]
    Wrong,
    /// Too many attempts failed, of this login or from this address or its network.
    #[error("too many failures, try later")]
    Throttled,
}

/// What a login resolves to.
#[derive(Debug)]
pub enum Lead {
    /// Nothing: no account or upstream takes this login.
    Nowhere,
    /// An upstream that verifies the device's own password, which is not given.
    NeedsPassword,
    /// This account.
    Account(Box<Account>),
}

/// All logins of a configuration.
#[derive(Debug)]
pub struct Accounts {
    /// The `[[account]]`s whose login is not a pattern, by their [`canonical`] login.
    local: HashMap<String, Local>,
    /// The `default_domain`s of all upstreams, each once.
    default_domains: BTreeSet<String>,
    /// The `folder_separator`s of `local`, each once, longer ones first.
    separators: Vec<String>,
    /// The patterns of `[[account]]` and of `logins`, the most specific first.
    patterns: Vec<(Pattern, PatternTarget)>,
    lasting: Lasting,
    /// The hash that is verified if a login has none, so that the time of a refusal does not reveal which logins exist.
    decoy: Option<Arc<str>>,
    secrets_known: SecretsKnown,
    expire: (Expire, bool),
}

/// What survives a reload of the configuration: recent results of verifications, counts of failures, and the key of the salts.
#[derive(Debug, Clone)]
struct Lasting {
    hashing: Arc<Hashing>,
    throttle: Arc<Throttle>,
    responses: Arc<Responses>,
}

#[derive(Debug)]
struct Local {
    secret: StoredSecret,
    account: Account,
}

#[derive(Debug)]
enum StoredSecret {
    Password(Secret),
    Hash(Arc<str>),
    File(Arc<PasswordsFile>),
}

/// What a login that matches a pattern resolves to.
#[derive(Debug)]
enum PatternTarget {
    /// An upstream that verifies the password.
    Forwarded(Arc<config::Upstream>),
    /// An `[[account]]` that is a rule for many mailboxes.
    Rule(Local),
}

impl PatternTarget {
    fn policy(&self) -> &Arc<Policy> {
        match self {
            Self::Forwarded(upstream) => &upstream.maildrop,
            Self::Rule(rule) => &rule.account.policy,
        }
    }

    fn default_domain(&self) -> Option<&str> {
        let upstream = match self {
            Self::Forwarded(upstream) => upstream,
            Self::Rule(rule) => &rule.account.upstream,
        };
        upstream.default_domain.as_deref()
    }
}

impl Local {
    fn new(account: &config::Account) -> Self {
        Self {
            secret: match &account.secret {
                LocalSecret::Password(password) => StoredSecret::Password(password.clone()),
                LocalSecret::Hash(hash) => StoredSecret::Hash(hash.as_str().into()),
                LocalSecret::File(path) => {
                    let default_domain = account.upstream.default_domain.clone();
                    StoredSecret::File(Arc::new(PasswordsFile::new(path.clone(), default_domain)))
                }
            },
            account: Account::from(account),
        }
    }

    /// The account of `login` under this rule: what `*` matches in the login replaces the `*` of `user` and `consent`.
    fn of(&self, login: &str) -> Account {
        let Account {
            login: rule,
            user,
            credential,
            ..
        } = &self.account;
        let (before, after) = rule.split_once('*').unwrap_or((rule, ""));
        let end = login.len().saturating_sub(after.len());
        let star = login.get(before.len()..end).unwrap_or_default();
        Account {
            login: login.to_owned(),
            user: user.replacen('*', star, 1),
            credential: match credential {
                Credential::OAuth2 { consent } => Credential::OAuth2 {
                    consent: consent.replacen('*', star, 1),
                },
                other => other.clone(),
            },
            ..self.account.clone()
        }
    }
}

/// The account, rule or upstream that a login resolves to, and the folder that the device named in it.
struct ResolvedLogin<'a> {
    /// The login without a folder.
    login: Cow<'a, str>,
    /// The folder that the login names; its name may be empty.
    folder: Option<&'a str>,
    owner: LoginOwner<'a>,
}

/// Who decides about a login: an `[[account]]`, an `[[account]]` whose login is a pattern, or an upstream.
enum LoginOwner<'a> {
    Local(&'a Local),
    Rule(&'a Local),
    Forwarded(&'a Arc<config::Upstream>),
}

impl ResolvedLogin<'_> {
    /// The account of a login that is forwarded to `upstream` with `secret`. Its policy does not have the named folder yet.
    fn forwarded(&self, upstream: &Arc<config::Upstream>, secret: Secret) -> Account {
        Account {
            login: self.login.clone().into_owned(),
            upstream: upstream.clone(),
            user: self.login.clone().into_owned(),
            credential: Credential::Password(secret),
            is_forwarded: true,
            policy: upstream.maildrop.clone(),
        }
    }

    /// `policy` with the named folder as its only one; unchanged if none is named, `None` if the folder's name is empty.
    fn policy(&self, policy: &Arc<Policy>) -> Option<Arc<Policy>> {
        match self.folder {
            None => Some(policy.clone()),
            Some("") => None,
            Some(folder) => Some(Arc::new(policy.with_folder(folder))),
        }
    }
}

impl Accounts {
    /// Collects the logins that `options` name. Fails if the system gives no random numbers.
    pub fn new<'a>(options: impl Into<AccountsOptions<'a>>) -> Result<Self, RandomUnavailable> {
        Self::of_gateway(options, None)
    }

    /// Like [`Accounts::new`], for a gateway: `quotas` tells other gateways of failed logins.
    pub fn of_gateway<'a>(
        options: impl Into<AccountsOptions<'a>>,
        quotas: Option<Quotas>,
    ) -> Result<Self, RandomUnavailable> {
        let options = options.into();
        let lasting = Lasting {
            hashing: Arc::new(Hashing::new(options.proof_lasts)?),
            throttle: Throttle::new(quotas)?,
            responses: Arc::new(Responses::new()?),
        };
        Ok(Self::of(&options, lasting))
    }

    /// Collects the logins of a configuration that replaces this one. Failures stay counted, and recent results of
    /// verifications stay known unless `options` change how long a right secret is remembered.
    pub fn reconfigured<'a>(&self, options: impl Into<AccountsOptions<'a>>) -> Result<Self, RandomUnavailable> {
        let options = options.into();
        let mut lasting = self.lasting.clone();
        if lasting.hashing.proof_lasts() != options.proof_lasts {
            lasting.hashing = Arc::new(Hashing::new(options.proof_lasts)?);
        }
        Ok(Self::of(&options, lasting))
    }

    fn of(options: &AccountsOptions<'_>, lasting: Lasting) -> Self {
        let own = |is_rule: bool| {
            options
                .accounts
                .iter()
                .filter(move |account| account.is_rule() == is_rule)
        };
        let local: HashMap<_, _> = own(false)
            .map(|account| (canonical(&account.login, None), Local::new(account)))
            .collect();
        let default_domains = options.upstreams.iter();
        let default_domains = default_domains.filter_map(|upstream| upstream.default_domain.clone());
        let rules = own(true).map(|account| (Pattern::new(&account.login), PatternTarget::Rule(Local::new(account))));
        let forwarded = options.upstreams.iter().flat_map(|upstream| {
            let logins = upstream.logins.iter();
            logins.map(|login| (Pattern::new(login), PatternTarget::Forwarded(upstream.clone())))
        });
        let mut patterns: Vec<_> = rules.chain(forwarded).collect();
        patterns.sort_by_key(|(pattern, _)| pattern.rank());
        let mut separators: Vec<_> = local
            .values()
            .filter_map(|local| local.account.policy.folder_separator.clone())
            .collect();
        separators.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        separators.dedup();
        let rules = patterns.iter().filter_map(|(_, target)| match target {
            PatternTarget::Rule(rule) => Some(rule),
            PatternTarget::Forwarded(_) => None,
        });
        let decoy = local.values().chain(rules).find_map(|local| match &local.secret {
            StoredSecret::Hash(hash) => Some(hash.clone()),
            StoredSecret::File(file) => file.any().map(Arc::from),
            StoredSecret::Password(_) => None,
        });
        let policies = local.values().map(|local| &local.account.policy);
        let expires: BTreeSet<Expire> = policies
            .chain(patterns.iter().map(|(_, target)| target.policy()))
            .map(|policy| policy.retention.expire())
            .collect();
        let expire = (expires.first().copied().unwrap_or(Expire::Never), expires.len() > 1);
        Self {
            local,
            default_domains: default_domains.collect(),
            separators,
            patterns,
            lasting,
            decoy,
            secrets_known: SecretsKnown::of(options),
            expire,
        }
    }

    /// Counts a failed login that another gateway reports.
    pub fn hear(&self, word: &Word) {
        if let Word::Failure { login, address } = word {
            self.lasting.throttle.count_failure_elsewhere(login, *address);
        }
    }

    /// The spelling by which `login` is known, however a device writes it: that of [`Account::login`]. A login that
    /// leads to no account only gets its domain in lower case.
    pub fn canonical_login(&self, login: &[u8]) -> String {
        match self.resolve(login) {
            Some(resolved) => resolved.login.into_owned(),
            None => canonical(&String::from_utf8_lossy(login), None),
        }
    }

    /// The shortest retention of all logins, and whether some logins keep mail longer.
    pub fn expire(&self) -> (Expire, bool) {
        self.expire
    }

    /// The account of `login` with the folder of `mailbox`, if its upstream credential is in the configuration. `None` for any
    /// other login, and if `login` does not lead to `mailbox`.
    pub fn stored(&self, login: &str, mailbox: &MailboxName) -> Option<Account> {
        let account = match self.resolve(login.as_bytes())?.owner {
            LoginOwner::Local(local) if local.account.login == login => local.account.clone(),
            LoginOwner::Rule(rule) => rule.of(login),
            LoginOwner::Local(_) | LoginOwner::Forwarded(_) => return None,
        };
        let folder = mailbox.folder.as_str();
        let policy = if account.policy.folders.iter().any(|own| own == folder) {
            account.policy.clone()
        } else if account.policy.folder_separator.is_some() {
            Arc::new(account.policy.with_folder(folder))
        } else {
            return None;
        };
        (account.mailbox(folder) == *mailbox).then_some(Account { policy, ..account })
    }

    /// The accounts whose upstream credential is in the configuration, sorted by login. A rule adds an account for each login
    /// of its `passwords_file`; without such a file its logins are not known.
    pub fn known(&self) -> Vec<Account> {
        let mut known: Vec<_> = self.local.values().map(|local| local.account.clone()).collect();
        for (pattern, target) in &self.patterns {
            if let PatternTarget::Rule(rule) = target
                && let StoredSecret::File(file) = &rule.secret
            {
                let logins = file.logins();
                let own = logins
                    .iter()
                    .filter(|login| pattern.matches(login) && !self.local.contains_key(*login));
                known.extend(own.map(|login| rule.of(login)));
            }
        }
        known.sort_by(|a, b| a.login.cmp(&b.login));
        known.dedup_by(|a, b| a.login == b.login);
        known
    }

    /// Resolves `login` for the operator: the secret of an `[[account]]` is not needed. `secret` is the password for an
    /// upstream that the login is forwarded to.
    pub async fn leads_to(&self, login: &str, secret: Option<Secret>) -> Lead {
        let Some(resolved) = self.resolve(login.as_bytes()) else {
            return Lead::Nowhere;
        };
        let account = match resolved.owner {
            LoginOwner::Local(local) => Some(local.account.clone()),
            LoginOwner::Rule(rule) => match &rule.secret {
                StoredSecret::File(file) if file.hash(&resolved.login).await.is_none() => None,
                _ => Some(rule.of(&resolved.login)),
            },
            LoginOwner::Forwarded(upstream) => match secret {
                Some(secret) => Some(resolved.forwarded(upstream, secret)),
                None => return Lead::NeedsPassword,
            },
        };
        let with_folder = account.and_then(|account| {
            let policy = resolved.policy(&account.policy)?;
            Some(Account { policy, ..account })
        });
        with_folder.map_or(Lead::Nowhere, |account| Lead::Account(Box::new(account)))
    }

    /// Resolves `login`. The gateway verifies the secret of an `[[account]]`; the upstream decides about a forwarded login. The
    /// caller reports to the [`Attempt`] how the login ended; an attempt that is refused here counts as failed.
    ///
    /// If the login has failed before, this waits before it verifies the secret; after too many failures it returns
    /// [`Denied::Throttled`] without verifying the secret. A login that is not valid UTF-8 or contains control characters is
    /// [`Denied::Wrong`].
    pub async fn authenticate(&self, login: &[u8], secret: Secret, peer: IpAddr) -> Result<(Account, Attempt), Denied> {
        let resolved = self.resolve(login);
        let (attempt, asker) = self.begin(login, resolved.as_ref(), &secret, peer).await?;
        let account = match &resolved {
            Some(resolved) => self.verify(resolved, secret, asker).await,
            None => {
                self.spend_time(secret, asker).await;
                None
            }
        };
        attempt.admit(account).await
    }

    /// Counts an attempt before it is made, and waits if the login has failed before.
    async fn begin<'a>(
        &self,
        login: &'a [u8],
        resolved: Option<&'a ResolvedLogin<'_>>,
        secret: &Secret,
        peer: IpAddr,
    ) -> Result<(Attempt, Asker<'a>), Denied> {
        let attempt = self.lasting.throttle.begin(&counted(login, resolved), secret, peer);
        let mut attempt = attempt.ok_or(Denied::Throttled)?;
        attempt.wait().await;
        let asker = Asker {
            login: resolved.map_or(login, |resolved| resolved.login.as_bytes()),
            address: network(peer),
            is_suspect: attempt.is_suspect(),
        };
        Ok((attempt, asker))
    }

    fn resolve<'a>(&'a self, login: &'a [u8]) -> Option<ResolvedLogin<'a>> {
        // SASL PLAIN separates its parts by NUL (RFC 4616 §2), so no device may send a NUL or another control character.
        let name = std::str::from_utf8(login)
            .ok()
            .filter(|name| !name.chars().any(char::is_control))?;
        if let Some(local) = self.own(name) {
            return Some(ResolvedLogin {
                login: local.account.login.as_str().into(),
                folder: None,
                owner: LoginOwner::Local(local),
            });
        }
        for separator in &self.separators {
            if let Some((login, folder)) = split(name, separator)
                && let Some(local) = self.own(&login)
                && local.account.policy.folder_separator.as_ref() == Some(separator)
            {
                return Some(ResolvedLogin {
                    login: local.account.login.as_str().into(),
                    folder: Some(folder),
                    owner: LoginOwner::Local(local),
                });
            }
        }
        let (login, folder, target) = self.patterns.iter().find_map(|(pattern, target)| {
            let separator = target.policy().folder_separator.as_deref();
            let (login, folder) = match separator.and_then(|separator| split(name, separator)) {
                Some((login, folder)) => (login, Some(folder)),
                None => (name.into(), None),
            };
            let whole = canonical(&login, target.default_domain());
            (pattern.matches(&whole) || pattern.matches(&login)).then_some((whole, folder, target))
        })?;
        // A login of an `[[account]]` is never forwarded, even if it names a folder or lacks its domain.
        (!self.local.contains_key(&login)).then_some(ResolvedLogin {
            login: login.into(),
            folder,
            owner: match target {
                PatternTarget::Forwarded(upstream) => LoginOwner::Forwarded(upstream),
                PatternTarget::Rule(rule) => LoginOwner::Rule(rule),
            },
        })
    }

    /// The `[[account]]` of `login`, which names no folder and may lack its domain.
    fn own(&self, login: &str) -> Option<&Local> {
        self.local.get(&canonical(login, None)).or_else(|| {
            let mut domains = self.default_domains.iter().filter(|_| !login.contains('@'));
            domains.find_map(|domain| {
                let local = self.local.get(&canonical(login, Some(domain)))?;
                (local.account.upstream.default_domain.as_ref() == Some(domain)).then_some(local)
            })
        })
    }

    async fn verify(&self, resolved: &ResolvedLogin<'_>, secret: Secret, asker: Asker<'_>) -> Option<Account> {
        let (known, account) = match resolved.owner {
            LoginOwner::Local(local) => (&local.secret, local.account.clone()),
            LoginOwner::Rule(rule) => (&rule.secret, rule.of(&resolved.login)),
            LoginOwner::Forwarded(upstream) => {
                let account = resolved.forwarded(upstream, secret);
                let policy = resolved.policy(&account.policy)?;
                return Some(Account { policy, ..account });
            }
        };
        let right = self.is_right(known, &resolved.login, secret, asker).await;
        let policy = resolved.policy(&account.policy).filter(|_| right)?;
        Some(Account { policy, ..account })
    }

    async fn is_right(&self, known: &StoredSecret, login: &str, secret: Secret, asker: Asker<'_>) -> bool {
        let hash = match known {
            StoredSecret::Hash(hash) => Some(hash.clone()),
            StoredSecret::File(file) => file.hash(login).await.map(Arc::from),
            // The time of this comparison reveals the length of the password, but not its content.
            StoredSecret::Password(known) if known.expose().ct_eq(secret.expose()).into() => return true,
            StoredSecret::Password(_) => None,
        };
        match hash {
            Some(hash) => self.lasting.hashing.verify(hash, secret, asker).await,
            None => {
                self.spend_time(secret, asker).await;
                false
            }
        }
    }

    /// Takes as long as the verification of a hash, so that an unknown login is not refused sooner than a known one.
    async fn spend_time(&self, secret: Secret, asker: Asker<'_>) {
        if let Some(hash) = &self.decoy {
            self.lasting.hashing.verify(hash.clone(), secret, asker).await;
        }
    }
}

/// The name under which the throttle counts an attempt: upstream and user of a forwarded login, otherwise the login. All
/// spellings and folders of a login have the same name, so varying them gives a device no more tries.
fn counted<'a>(login: &'a [u8], resolved: Option<&'a ResolvedLogin<'_>>) -> Cow<'a, [u8]> {
    match resolved {
        None => login.into(),
        Some(ResolvedLogin {
            owner: LoginOwner::Forwarded(upstream),
            login: user,
            ..
        }) => format!("{}\0{}", upstream.name, user.trim()).into_bytes().into(),
        Some(resolved) => resolved.login.as_bytes().into(),
    }
}

#[cfg(test)]
mod tests;
