//! Verifies `[[account]]`.

use std::{collections::HashSet, path::PathBuf, sync::Arc};

use super::{
    Verifier,
    maildrop::KeyPaths,
    upstream::Upstreams,
    value::{Checked, Noted},
};
use crate::config::{
    Account, Credential, LocalSecret, Passwords, Secret, Upstream, hash::argon2_hash, key::Layer, keys,
    nearest::suggest, value::FileName,
};
use crate::types::canonical;

const PASSWORDS_OF_A_RULE: &str = "a login with `*` takes the passwords from a file with a line login:hash for each login (see popgate hash-password)";

impl Verifier<'_> {
    pub(super) fn accounts(&mut self, accounts: Vec<keys::Account>, upstreams: &Upstreams) -> Checked<Vec<Account>> {
        let mut logins = HashSet::new();
        let mut verified: Vec<Checked<Account>> = Vec::new();
        for (index, account) in accounts.into_iter().enumerate() {
            let path = format!("account[{index}]");
            if let Some(login) = &account.login
                && !logins.insert(canonical(login, None))
            {
                let what = format!("{login:?} is the login of an earlier [[account]] too");
                self.wrong(&format!("{path}.login"), what, "give each account a login of its own");
            }
            verified.push(self.account(&path, account, upstreams));
        }
        verified.into_iter().collect()
    }

    fn account(&mut self, path: &str, account: keys::Account, upstreams: &Upstreams) -> Checked<Account> {
        let login = self.required(&format!("{path}.login"), account.login);
        let password = self.secret(&format!("{path}.password"), account.password, account.password_file);
        let is_rule = login.as_ref().is_ok_and(|login| login.contains('*'));
        let file = account
            .passwords_file
            .map(|file| (file, default_domain(account.upstream.as_deref(), upstreams)));
        let secret = self.local_secret(path, password, account.password_hash, file, is_rule);
        let upstream_password = self.secret(
            &format!("{path}.upstream_password"),
            account.upstream_password,
            account.upstream_password_file,
        );
        let (upstream, defaults) = self.upstream_of(path, account.upstream, upstreams)?;
        let user = match (account.user, &login) {
            (Some(user), _) => Ok(user),
            (None, Ok(login)) => Ok(login.clone()),
            (None, Err(noted)) => Err(*noted),
        };
        let rule = match &login {
            Ok(login) if is_rule => self.rule(path, login, secret.as_ref().ok(), &upstream),
            _ => Ok(()),
        };
        let credential = upstream_password.and_then(|password| {
            self.credential(
                path,
                user.as_deref().unwrap_or("the user"),
                &upstream,
                password,
                account.signed_in_as,
            )
        });
        let paths = KeyPaths::of_account(path, &account.maildrop, &upstream.name);
        let maildrop = account.maildrop.over(defaults).read();
        let maildrop = self.maildrop(&paths, maildrop, upstream.connections_per_user);
        rule?;
        Ok(Account {
            login: login?,
            secret: secret?,
            user: user?,
            credential: credential?,
            maildrop: Arc::new(maildrop?),
            upstream,
        })
    }

    fn local_secret(
        &mut self,
        path: &str,
        password: Checked<Option<Secret>>,
        hash: Option<Secret>,
        file: Option<(FileName, Option<&str>)>,
        is_rule: bool,
    ) -> Checked<LocalSecret> {
        let hash_path = format!("{path}.password_hash");
        let file_path = format!("{path}.passwords_file");
        match (password?, hash, file) {
            (Some(password), None, None) => Ok(LocalSecret::Password(password)),
            (None, None, Some((file, default_domain))) => {
                self.passwords(&file_path, &file, default_domain).map(LocalSecret::File)
            }
            (None, Some(hash), None) => match argon2_hash(&hash) {
                Ok(hash) => Ok(LocalSecret::Hash(hash)),
                Err(wrong) => Err(self.wrong(&hash_path, wrong.what, "make one with popgate hash-password")),
            },
            (None, None, None) if self.sources.is_wrong(&hash_path) || self.sources.is_wrong(&file_path) => Err(Noted),
            (None, None, None) if is_rule => Err(self.missing(&file_path, PASSWORDS_OF_A_RULE)),
            (None, None, None) => self.required(&format!("{path}.password"), None),
            (_, None, Some(_)) | (None, Some(_), Some(_)) => {
                let what = "`password`, `password_file` or `password_hash` is given too";
                Err(self.wrong(&file_path, what, "give one of them"))
            }
            (Some(_), Some(_), _) => {
                let what = "`password` or `password_file` is given too";
                Err(self.wrong(&hash_path, what, "give one of them"))
            }
        }
    }

    /// Verifies a rule for many mailboxes. Each login must have a password of its own, and the provider must trust the
    /// application with all mailboxes.
    fn rule(&mut self, path: &str, login: &str, secret: Option<&LocalSecret>, upstream: &Upstream) -> Checked<()> {
        let key = |name: &str| format!("{path}.{name}");
        if login.matches('*').count() > 1 {
            let help = "one `*` stands for anything, such as in \"*@example.org\"";
            return Err(self.wrong(&key("login"), "holds more than one `*`", help));
        }
        if upstream.oauth2.as_ref().is_none_or(|oauth2| oauth2.needs_consent()) {
            let otherwise = match upstream.oauth2 {
                Some(_) => "give each login an [[account]]",
                None => "give each login an [[account]], or let `logins` of the upstream forward them",
            };
            let help = format!(
                "a login with `*` opens many mailboxes: [upstream.{}] needs an oauth2 with grant = \"client-credentials\" or \
                 \"service-account\"; or {otherwise}",
                upstream.name
            );
            return Err(self.wrong(&key("login"), "has no meaning here", help));
        }
        match secret {
            Some(LocalSecret::Password(_) | LocalSecret::Hash(_)) => {
                Err(self.missing(&key("passwords_file"), PASSWORDS_OF_A_RULE))
            }
            Some(LocalSecret::File(_)) | None => Ok(()),
        }
    }

    fn passwords(&mut self, path: &str, name: &FileName, default_domain: Option<&str>) -> Checked<PathBuf> {
        let octets = self.read(path, name)?;
        let parsed = match std::str::from_utf8(&octets) {
            Ok(text) => Passwords::parse(text, default_domain).map(drop),
            Err(_) => Err("is not UTF-8".to_owned()),
        };
        match parsed {
            Ok(()) => Ok(self.directory.join(&name.0)),
            Err(what) => {
                let help = "write a line login:hash for each login, with what popgate hash-password prints";
                Err(self.wrong(path, format!("{}: {what}", name.0), help))
            }
        }
    }

    fn upstream_of<'u>(
        &mut self,
        path: &str,
        name: Option<String>,
        upstreams: &'u Upstreams,
    ) -> Checked<(Arc<Upstream>, &'u Layer<keys::Maildrop>)> {
        let path = format!("{path}.upstream");
        let names = upstreams.names();
        let Some(name) = name else {
            return Err(self.missing(&path, format!("one of {}", names.join(", "))));
        };
        match upstreams.get(&name) {
            Some((upstream, defaults)) => Ok((upstream.clone()?, defaults)),
            None => Err(self.wrong(&path, format!("there is no [upstream.{name}]"), suggest(&name, names))),
        }
    }

    fn credential(
        &mut self,
        path: &str,
        user: &str,
        upstream: &Upstream,
        password: Option<Secret>,
        signed_in_as: Option<String>,
    ) -> Checked<Credential> {
        let host = &upstream.host;
        let name = &upstream.name;
        match (&upstream.oauth2, password) {
            (Some(_), Some(_)) => {
                let help = format!("[upstream.{name}] has oauth2: popgate sign-in takes the place of the password");
                Err(self.wrong(&format!("{path}.upstream_password"), "has no meaning here", help))
            }
            (Some(_), None) => Ok(Credential::OAuth2 {
                consent: signed_in_as.unwrap_or_else(|| user.to_owned()),
            }),
            (None, _) if signed_in_as.is_some() => {
                let help = format!("nobody signs in at {host}: [upstream.{name}] has no oauth2");
                Err(self.wrong(&format!("{path}.signed_in_as"), "has no meaning here", help))
            }
            (None, Some(password)) => Ok(Credential::Password(password)),
            (None, None) => {
                let advice = match upstream.preset.map(|preset| preset.passwords.as_deref()) {
                    Some(Some(advice)) => format!(" ({advice})"),
                    Some(None) => format!(" (but {host} takes none: add [upstream.{name}.oauth2])"),
                    None => String::new(),
                };
                let help = format!(
                    "the password of {user} at {host}: `upstream_password_file` or `upstream_password`{advice}"
                );
                Err(self.missing(&format!("{path}.upstream_password"), help))
            }
        }
    }
}

/// The domain that `upstream` gives to logins without one; `None` too if the upstream is unknown or wrong.
fn default_domain<'u>(upstream: Option<&str>, upstreams: &'u Upstreams) -> Option<&'u str> {
    let (upstream, _) = upstreams.get(upstream?)?;
    upstream.as_ref().ok()?.default_domain.as_deref()
}
