//! `[[account]]`

use std::sync::Arc;

use super::{
    Verifier,
    maildrop::Place,
    upstream::Upstreams,
    value::{Checked, Noted},
};
use crate::config::{
    Account, Credential, LocalSecret, Secret, Upstream, hash::argon2_hash, key::Layer, keys, nearest::suggest,
};

impl Verifier<'_> {
    pub(super) fn accounts(&mut self, accounts: Vec<keys::Account>, upstreams: &Upstreams) -> Checked<Vec<Account>> {
        let mut logins: Vec<String> = Vec::new();
        let mut verified: Vec<Checked<Account>> = Vec::new();
        for (index, account) in accounts.into_iter().enumerate() {
            let path = format!("account[{index}]");
            if let Some(login) = &account.login {
                if logins.contains(login) {
                    let what = format!("{login:?} is the login of an earlier [[account]] too");
                    self.wrong(&format!("{path}.login"), what, "give each account a login of its own");
                }
                logins.push(login.clone());
            }
            verified.push(self.account(&path, account, upstreams));
        }
        verified.into_iter().collect()
    }

    fn account(&mut self, path: &str, account: keys::Account, upstreams: &Upstreams) -> Checked<Account> {
        let login = self.required(&format!("{path}.login"), account.login);
        let password = self.secret(&format!("{path}.password"), account.password, account.password_file);
        let secret = self.local_secret(path, password, account.password_hash);
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
        let credential = upstream_password.and_then(|password| {
            self.credential(
                path,
                user.as_deref().unwrap_or("the user"),
                &upstream,
                password,
                account.signed_in_as,
            )
        });
        let place = Place::of_account(path, &account.maildrop, &upstream.name);
        let maildrop = account.maildrop.over(defaults).read();
        let maildrop = self.maildrop(&place, maildrop, upstream.connections_per_user);
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
    ) -> Checked<LocalSecret> {
        let hash_path = format!("{path}.password_hash");
        match (password?, hash) {
            (Some(password), None) => Ok(LocalSecret::Password(password)),
            (None, Some(hash)) => match argon2_hash(&hash) {
                Ok(hash) => Ok(LocalSecret::Hash(hash)),
                Err(wrong) => Err(self.wrong(&hash_path, wrong.what, "make one with popgate hash-password")),
            },
            (None, None) if self.sources.is_wrong(&hash_path) => Err(Noted),
            (None, None) => self.required(&format!("{path}.password"), None),
            (Some(_), Some(_)) => {
                let what = "`password` or `password_file` is given too";
                Err(self.wrong(&hash_path, what, "give one of them"))
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
