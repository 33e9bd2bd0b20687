//! `[[account]]`

use std::{path::PathBuf, sync::Arc};

use super::Verifier;
use crate::config::{
    Account, Credential, LocalSecret, Passwords, Secret, Upstream, error::Error, file, nearest::suggest,
    passwords::whole_argon2,
};

impl Verifier<'_> {
    pub(super) fn accounts(
        &mut self,
        accounts: Vec<file::Account>,
        upstreams: &[Arc<Upstream>],
    ) -> Result<Vec<Account>, Error> {
        let mut verified: Vec<Account> = Vec::new();
        for (index, account) in accounts.into_iter().enumerate() {
            let path = format!("account[{index}]");
            let account = self.account(&path, account, upstreams)?;
            if verified.iter().any(|other| other.login == account.login) {
                let what = format!("{:?} is the login of an earlier [[account]] too", account.login);
                return Err(self.error(&format!("{path}.login"), what, "give each account a login of its own"));
            }
            verified.push(account);
        }
        Ok(verified)
    }

    fn account(&mut self, path: &str, account: file::Account, upstreams: &[Arc<Upstream>]) -> Result<Account, Error> {
        let key = |name: &str| format!("{path}.{name}");
        let login = self.text(&key("login"), account.login, "the name that the device gives")?;
        let password = self.secret(&key("password"), account.password, account.password_file)?;
        let secret = match (password, account.password_hash, account.passwords_file) {
            (Some(password), None, None) => LocalSecret::Password(password),
            (None, Some(hash), None) => LocalSecret::Hash(self.hash(&key("password_hash"), &hash)?),
            (None, None, Some(file)) => LocalSecret::File(self.passwords(&key("passwords_file"), &file)?),
            (None, None, None) => {
                let help = "the password that the device gives: `password_file`, `password` or `password_hash` \
                            (see popgate hash-password)";
                return Err(self.error(&key("password"), "is missing", help));
            }
            (_, None, Some(_)) | (None, Some(_), Some(_)) => {
                let what = "`password`, `password_file` or `password_hash` is given too";
                return Err(self.error(&key("passwords_file"), what, "give one of them"));
            }
            (Some(_), Some(_), _) => {
                let what = "`password` or `password_file` is given too";
                return Err(self.error(&key("password_hash"), what, "give one of them"));
            }
        };

        let names = || upstreams.iter().map(|upstream| upstream.name.as_str());
        let name = self.text(
            &key("upstream"),
            account.upstream,
            &format!("one of {}", names().collect::<Vec<_>>().join(", ")),
        )?;
        let Some(upstream) = upstreams.iter().find(|upstream| upstream.name == name).cloned() else {
            return Err(self.error(
                &key("upstream"),
                format!("there is no [upstream.{name}]"),
                suggest(&name, names().collect::<Vec<_>>()),
            ));
        };
        let user = match account.user {
            Some(user) => self.text(&key("user"), Some(user), "leave it out where it equals login")?,
            None => login.clone(),
        };
        if login.contains('*') {
            self.rule(path, &login, &secret, &upstream)?;
        }
        let password = self.secret(
            &key("upstream_password"),
            account.upstream_password,
            account.upstream_password_file,
        )?;
        let credential = self.credential(path, &user, &upstream, password, account.signed_in_as)?;
        let maildrop = self.maildrop(
            &key("maildrop"),
            account.maildrop,
            &upstream.maildrop,
            upstream.connections_per_user,
        )?;
        Ok(Account {
            login,
            secret,
            upstream,
            user,
            credential,
            maildrop: Arc::new(maildrop),
        })
    }

    /// A rule for many mailboxes: each login has a password of its own, and the application is trusted with all mailboxes.
    fn rule(&self, path: &str, login: &str, secret: &LocalSecret, upstream: &Upstream) -> Result<(), Error> {
        let key = |name: &str| format!("{path}.{name}");
        if login.matches('*').count() > 1 {
            let help = "one `*` stands for anything, such as in \"*@example.org\"";
            return Err(self.error(&key("login"), "holds more than one `*`", help));
        }
        if !matches!(secret, LocalSecret::File(_)) {
            let help = "a rule for many logins takes their passwords from a file of lines login:hash (see popgate hash-password)";
            return Err(self.error(&key("passwords_file"), "is missing", help));
        }
        if upstream.oauth2.as_ref().is_none_or(|oauth2| oauth2.needs_consent()) {
            let help = format!(
                "a login with `*` opens many mailboxes: [upstream.{}] needs an oauth2 with grant = \"client-credentials\" or \
                 \"service-account\", or name each login, or forward them by its `logins`",
                upstream.name
            );
            return Err(self.error(&key("login"), "has no meaning here", help));
        }
        Ok(())
    }

    fn passwords(&self, path: &str, file: &str) -> Result<PathBuf, Error> {
        let octets = self.read(path, file)?;
        let help = "write a line login:hash for each login, with what popgate hash-password prints";
        let parsed = match std::str::from_utf8(&octets) {
            Ok(text) => Passwords::parse(text).map(drop),
            Err(_) => Err("is no UTF-8".to_owned()),
        };
        match parsed {
            Ok(()) => self.readable(path, file),
            Err(what) => Err(self.error(path, format!("{file}: {what}"), help)),
        }
    }

    fn credential(
        &self,
        path: &str,
        user: &str,
        upstream: &Upstream,
        password: Option<Secret>,
        signed_in_as: Option<String>,
    ) -> Result<Credential, Error> {
        let key = |name: &str| format!("{path}.{name}");
        let host = &upstream.host;
        match (&upstream.oauth2, password) {
            (Some(_), Some(_)) => {
                let help = format!(
                    "[upstream.{}] has oauth2: popgate sign-in takes the place of the password",
                    upstream.name
                );
                Err(self.error(&key("upstream_password"), "has no meaning here", help))
            }
            (Some(_), None) => Ok(Credential::OAuth2 {
                consent: match signed_in_as {
                    Some(name) => self.text(&key("signed_in_as"), Some(name), "leave it out where it equals user")?,
                    None => user.to_owned(),
                },
            }),
            (None, _) if signed_in_as.is_some() => {
                let help = format!("nobody signs in at {host}: [upstream.{}] has no oauth2", upstream.name);
                Err(self.error(&key("signed_in_as"), "has no meaning here", help))
            }
            (None, Some(password)) => Ok(Credential::Password(password)),
            (None, None) => {
                let advice = match upstream.preset.map(|preset| preset.passwords.as_deref()) {
                    Some(Some(advice)) => format!(" ({advice})"),
                    Some(None) => format!(" (but {host} takes none: add [upstream.{}.oauth2])", upstream.name),
                    None => String::new(),
                };
                let help = format!(
                    "the password of {user} at {host}: `upstream_password_file` or `upstream_password`{advice}"
                );
                Err(self.error(&key("upstream_password"), "is missing", help))
            }
        }
    }

    fn hash(&self, path: &str, hash: &Secret) -> Result<String, Error> {
        let text = String::from_utf8_lossy(hash.expose());
        let help = "make one with popgate hash-password";
        whole_argon2(&text).map_err(|what| self.error(path, what, help))?;
        Ok(text.into_owned())
    }
}
