//! `[upstream.NAME]`

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use super::{Verifier, maildrop::default_policy};
use crate::config::{
    Auth, Fingerprint, OAuth2, Preset, Proxy, Secret, State, Upstream, UpstreamTls, error::Error, file,
    nearest::suggest,
};

impl Verifier<'_> {
    pub(super) fn upstreams(
        &mut self,
        upstreams: BTreeMap<String, file::Upstream>,
        state: &State,
    ) -> Result<Vec<Arc<Upstream>>, Error> {
        if upstreams.is_empty() {
            let help = "add [upstream.home] with host = \"imap.example.org\" and logins = [\"*\"]";
            return Err(self.error("upstream", "there is none: popgate must know an IMAP server", help));
        }
        let mut verified: Vec<Arc<Upstream>> = Vec::new();
        for (name, upstream) in upstreams {
            let path = format!("upstream.{name}");
            // Variables could not tell them apart.
            let folded = |name: &str| name.to_ascii_lowercase().replace('-', "_");
            if let Some(twin) = verified.iter().find(|other| folded(&other.name) == folded(&name)) {
                let what = format!("differs from [upstream.{}] only in case or `-` and `_`", twin.name);
                return Err(self.error(&path, what, "rename one of them"));
            }
            let upstream = self.upstream(&path, name, upstream, state)?;
            for login in &upstream.logins {
                if let Some(other) = verified.iter().find(|other| other.logins.contains(login)) {
                    let what = format!("{login:?} is forwarded to [upstream.{}] already", other.name);
                    let help = "a login goes to one upstream: the one with the most specific pattern";
                    return Err(self.error(&format!("{path}.logins"), what, help));
                }
            }
            verified.push(Arc::new(upstream));
        }
        Ok(verified)
    }

    fn upstream(
        &mut self,
        path: &str,
        name: String,
        upstream: file::Upstream,
        state: &State,
    ) -> Result<Upstream, Error> {
        let key = |name: &str| format!("{path}.{name}");
        let named = match upstream.preset {
            Some(preset) => Some(self.preset(&key("preset"), &preset)?),
            None => None,
        };
        let host = upstream.host.or_else(|| Some(named?.host.clone()));
        let host = self.host(&key("host"), host)?;
        let preset = named.or_else(|| Preset::at(&host));
        let modes = [
            ("implicit", UpstreamTls::Implicit),
            ("starttls", UpstreamTls::StartTls),
            ("off", UpstreamTls::Off),
        ];
        let tls = self
            .word(&key("tls"), upstream.tls, &modes)?
            .unwrap_or_else(|| named.map_or(UpstreamTls::Implicit, |preset| preset.tls.into()));
        // RFC 8314 §7.3: 993 is IMAP over TLS; RFC 9051 §2.1: 143 is IMAP.
        let standard_port = match named {
            Some(preset) if tls == preset.tls.into() => preset.port.into(),
            _ if tls == UpstreamTls::Implicit => 993,
            _ => 143,
        };
        let port = self.number(&key("port"), upstream.port, standard_port, 1..=65535)? as u16;
        let ca_file = match upstream.ca_file {
            Some(file) => Some(self.readable(&key("ca_file"), &file)?),
            None => None,
        };
        let fingerprint = match &upstream.fingerprint {
            Some(text) => Some(Fingerprint::parse(text).ok_or_else(|| {
                let help = "write \"sha256:\" and 64 hexadecimal digits, as `openssl x509 -noout -fingerprint -sha256` prints them";
                self.error(&key("fingerprint"), "is not a SHA-256 fingerprint", help)
            })?),
            None => None,
        };
        if fingerprint.is_some() && tls == UpstreamTls::Off {
            let help = "set tls to \"implicit\" or \"starttls\", or leave fingerprint out";
            return Err(self.error(&key("fingerprint"), "there is no certificate with tls = \"off\"", help));
        }
        let mechanisms = [
            ("auto", Auth::Auto),
            ("plain", Auth::Plain),
            ("login", Auth::Login),
            ("login-command", Auth::LoginCommand),
            ("cram-md5", Auth::CramMd5),
            ("scram-sha-256", Auth::ScramSha256),
        ];
        let auth = self.word(&key("auth"), upstream.auth, &mechanisms)?.unwrap_or_default();
        let proxy = match &upstream.proxy {
            Some(url) => Some(self.proxy(&key("proxy"), url)?),
            None => None,
        };
        let logins = upstream.logins.unwrap_or_default();
        if logins
            .iter()
            .any(|login| login.is_empty() || login.chars().any(char::is_control))
        {
            let help = "write patterns such as \"*@example.org\", or \"*\" for every login";
            return Err(self.error(&key("logins"), "a login is empty or holds a control character", help));
        }
        let oauth2 = match upstream.oauth2 {
            Some(oauth2) => Some(self.oauth2(&key("oauth2"), oauth2, preset)?),
            None => None,
        };
        if let Some(oauth2) = &oauth2 {
            self.tokens_can_be_kept(&key("oauth2"), oauth2, &logins, state)?;
        }
        let connections_per_user = self.number(
            &key("connections_per_user"),
            upstream.connections_per_user,
            preset.and_then(|preset| preset.connections_per_user).unwrap_or(8),
            1..=10_000,
        )? as usize;
        let maildrop = self.maildrop(
            &key("maildrop"),
            upstream.maildrop,
            &default_policy(preset),
            connections_per_user,
        )?;
        if let Some(separator) = &maildrop.folder_separator
            && let Some(login) = logins.iter().find(|login| login.contains(separator.as_str()))
        {
            let what = format!("{login:?} holds {separator:?}, the folder_separator");
            let help = "such a login would be taken for one with a folder: choose another separator";
            return Err(self.error(&key("logins"), what, help));
        }
        Ok(Upstream {
            name,
            host,
            port,
            tls,
            ca_file,
            fingerprint,
            auth,
            proxy,
            pipelining: upstream.pipelining.unwrap_or(true),
            logins,
            connections_per_user,
            preset,
            oauth2: oauth2.map(Arc::new),
            maildrop: Arc::new(maildrop),
        })
    }

    fn preset(&self, path: &str, name: &str) -> Result<&'static Preset, Error> {
        let names = Preset::all().map(|preset| preset.name.as_str());
        Preset::named(name)
            .ok_or_else(|| self.error(path, format!("there is no preset {name:?}"), suggest(name, names)))
    }

    fn proxy(&self, path: &str, url: &Secret) -> Result<Proxy, Error> {
        let parsed = std::str::from_utf8(url.expose())
            .map_err(|_| "is not a URL")
            .and_then(Proxy::parse);
        parsed.map_err(|what| {
            self.error(
                path,
                what,
                "write \"socks5://127.0.0.1:1080\" or \"http://proxy.example.org:8080\"",
            )
        })
    }

    fn tokens_can_be_kept(&self, path: &str, oauth2: &OAuth2, logins: &[String], state: &State) -> Result<(), Error> {
        if !logins.is_empty() {
            let help =
                "whose mail a token opens must be told by an [[account]]: a device's own password proves nothing there";
            return Err(self.error(path, "an upstream with OAuth2 takes no `logins`", help));
        }
        if !oauth2.needs_consent() {
            return Ok(());
        }
        if state.dir.is_none() {
            let help =
                "write [state] with dir = \"/data\": without it everybody would have to sign in again after a restart";
            return Err(self.error(path, "needs `dir` in [state]", help));
        }
        if state.key.is_none() {
            let help = "what tokens are encrypted with there; make one by: head -c 32 /dev/urandom | base64 > key, and name it by \
                        key_file = \"key\"";
            return Err(self.error(path, "needs `key_file` (or `key`) in [state]", help));
        }
        Ok(())
    }

    fn host(&self, path: &str, host: Option<String>) -> Result<String, Error> {
        let host = self.text(path, host, "the name of the IMAP server, such as \"imap.example.org\"")?;
        let address = host.parse::<IpAddr>().is_ok();
        let help = match host.rsplit_once(':') {
            _ if address => return Ok(host),
            _ if host.contains("://") => "give the name alone, and the port by `port`, the encryption by `tls`",
            Some((_, port)) if port.parse::<u16>().is_ok() => "give the port by `port`",
            _ if host
                .bytes()
                .all(|octet| octet.is_ascii_alphanumeric() || b".-_".contains(&octet)) =>
            {
                return Ok(host);
            }
            _ => "a host name is made of letters, digits, `.` and `-` (an international name in its xn-- form)",
        };
        Err(self.error(path, format!("{host:?} is no host name or address"), help))
    }
}
