//! Verifies `[upstream.NAME]`.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Verifier,
    maildrop::{KeyPaths, of_preset},
    value::{Checked, Noted},
};
use crate::config::{
    OAuth2, Preset, State, Upstream, UpstreamTls,
    key::Layer,
    keys::{self, Maildrop},
    value::Host,
};
use crate::types::canonical;

/// Every upstream by name: the verified upstream, and the maildrop keys for its accounts.
pub(super) struct Upstreams(BTreeMap<String, (Checked<Arc<Upstream>>, Layer<Maildrop>)>);

impl Upstreams {
    pub(super) fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    pub(super) fn get(&self, name: &str) -> Option<&(Checked<Arc<Upstream>>, Layer<Maildrop>)> {
        self.0.get(name)
    }

    /// All upstreams; fails if any of them is wrong.
    pub(super) fn verified(self) -> Checked<Vec<Arc<Upstream>>> {
        self.0.into_values().map(|(upstream, _)| upstream).collect()
    }
}

impl Verifier<'_> {
    pub(super) fn upstreams(
        &mut self,
        upstreams: BTreeMap<String, keys::Upstream>,
        state: Option<&State>,
    ) -> Upstreams {
        let mut verified: Upstreams = Upstreams(BTreeMap::new());
        let mut forwarded: BTreeMap<String, String> = BTreeMap::new();
        for (name, upstream) in upstreams {
            let path = format!("upstream.{name}");
            // An environment variable could not tell these two names apart.
            let folded = |name: &str| name.to_ascii_lowercase().replace('-', "_");
            if let Some(twin) = verified.0.keys().find(|other| folded(other) == folded(&name)) {
                let what = format!("differs from [upstream.{twin}] only in case or `-` and `_`");
                self.wrong(&path, what, "rename one of them");
            }
            for login in &upstream.logins.0 {
                let pattern = canonical(login, None);
                if let Some(other) = forwarded.get(&pattern).filter(|other| **other != name) {
                    let what = format!("{login:?} is forwarded to [upstream.{other}] already");
                    let help = "a login goes to one upstream: the one with the most specific pattern";
                    self.wrong(&format!("{path}.logins"), what, help);
                }
                forwarded.insert(pattern, name.clone());
            }
            let checked = self.upstream(&path, &name, upstream, state);
            verified.0.insert(name, checked);
        }
        verified
    }

    fn upstream(
        &mut self,
        path: &str,
        name: &str,
        upstream: keys::Upstream,
        state: Option<&State>,
    ) -> (Checked<Arc<Upstream>>, Layer<Maildrop>) {
        let named = upstream.preset.map(|named| named.0);
        let host = match (upstream.host, named) {
            (Some(Host(host)), _) => Ok(host),
            (None, Some(preset)) => Ok(preset.host.clone()),
            // The preset is wrong, so its host is not known.
            (None, None) if self.sources.is_wrong(&format!("{path}.preset")) => Err(Noted),
            (None, None) => self.required(&format!("{path}.host"), None),
        };
        let preset = named.or_else(|| host.as_ref().ok().and_then(|host| Preset::at(host)));
        let tls = upstream
            .tls
            .unwrap_or_else(|| named.map_or(UpstreamTls::Implicit, |preset| preset.tls.into()));
        // 993 is the port of IMAP over TLS (RFC 8314 §7.3), 143 that of IMAP (RFC 9051 §2.1).
        let standard_port = match named {
            Some(preset) if tls == preset.tls.into() => preset.port,
            _ if matches!(tls, UpstreamTls::Implicit | UpstreamTls::Legacy) => 993,
            _ => 143,
        };
        if tls == UpstreamTls::Legacy {
            self.legacy_tls(&format!("{path}.tls"), tls);
        }
        let ca_file = upstream
            .ca_file
            .map(|file| self.readable(&format!("{path}.ca_file"), &file));
        let about_certificates = [
            ("ca_file", ca_file.is_some()),
            ("fingerprint", upstream.fingerprint.is_some()),
        ];
        for (key, is_given) in about_certificates {
            if is_given && tls == UpstreamTls::Off {
                let help = format!("set tls to \"implicit\" or \"starttls\", or leave {key} out");
                let what = "there is no certificate with tls = \"off\"";
                self.wrong(&format!("{path}.{key}"), what, &help);
            }
        }
        if upstream.proxy.as_ref().is_some_and(|proxy| proxy.login.is_some()) {
            self.note_literal(&format!("{path}.proxy"));
        }
        let logins = upstream.logins.0;
        let oauth2 = upstream.oauth2.map(|oauth2| {
            let path = format!("{path}.oauth2");
            let oauth2 = self.oauth2(&path, oauth2, preset)?;
            self.tokens_can_be_kept(&path, &oauth2, &logins, state);
            Ok(Arc::new(oauth2))
        });
        let connections_per_user = upstream
            .connections_per_user
            .or_else(|| preset?.connections_per_user)
            .unwrap_or(8);
        let layer = upstream.maildrop.over(&of_preset(preset));
        let paths = KeyPaths::of_upstream(path, &upstream.maildrop);
        let maildrop = self.maildrop(&paths, layer.read(), connections_per_user);
        if let Ok(maildrop) = &maildrop
            && let Some(separator) = &maildrop.folder_separator
            && let Some(login) = logins.iter().find(|login| login.contains(separator.as_str()))
        {
            let what = format!("{login:?} holds {separator:?}, the folder_separator");
            let help = "popgate would take such a login for one with a folder: choose another separator";
            self.wrong(&format!("{path}.logins"), what, help);
        }
        let verified = || {
            Ok(Arc::new(Upstream {
                name: name.to_owned(),
                host: host?,
                port: upstream.port.unwrap_or(standard_port),
                tls,
                ca_file: ca_file.transpose()?,
                fingerprint: upstream.fingerprint,
                auth: upstream.auth,
                proxy: upstream.proxy,
                pipelining: upstream.pipelining,
                logins,
                default_domain: upstream.default_domain.map(|domain| domain.0),
                connections_per_user,
                preset,
                oauth2: oauth2.transpose()?,
                maildrop: Arc::new(maildrop?),
            }))
        };
        (verified(), layer)
    }

    fn tokens_can_be_kept(&mut self, path: &str, oauth2: &OAuth2, logins: &[String], state: Option<&State>) {
        if !logins.is_empty() {
            let help =
                "give each login an [[account]]: the server takes tokens, so it cannot check a device's own password";
            self.wrong(path, "an upstream with OAuth2 takes no `logins`", help);
        }
        let Some(state) = state.filter(|_| oauth2.needs_consent()) else {
            return;
        };
        let is_kept = state.is_kept() || self.sources.is_wrong("state.dir") || self.sources.is_wrong("state.url");
        if !is_kept {
            let help =
                "write [state] with dir = \"/data\": without it everybody would have to sign in again after a restart";
            let what = match state.key {
                Some(_) => "needs `dir` in [state]",
                None => "needs `dir` in [state], and `key_file` (or `key`)",
            };
            self.wrong(path, what, help);
        } else if state.key.is_none() {
            let help = "popgate encrypts the tokens with this key; make one by: head -c 32 /dev/urandom | base64 > key, and name it by \
                        key_file = \"key\"";
            self.wrong(path, "needs `key_file` (or `key`) in [state]", help);
        }
    }
}
