//! The risks of a valid configuration that a person should know: the warnings of `popgate check`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use super::{
    Account, ClientCertificates, Config, Listener, ListenerTls, Notify, OnDelete, OnRetrieve, Oversize, Policy,
    Retention, SharedMailbox, StateServer, Upstream, UpstreamTls,
};
use crate::types::canonical;

/// An autologout timer must be of at least 10 minutes (RFC 1939 §3).
const LEAST_IDLE: Duration = Duration::from_secs(600);

const BROKEN: &str = "TLS 1.0, TLS 1.1 and old ciphers are broken";

/// A key that has no effect because of the other keys.
struct UnusedKey {
    what: &'static str,
    is_unused: fn(&Policy) -> bool,
    /// Whether two policies have the same value of the key.
    is_same: fn(&Policy, &Policy) -> bool,
}

const UNUSED_KEYS: [UnusedKey; 2] = [
    UnusedKey {
        what: "trash_folder is given, but nothing has on_delete = \"trash\"",
        is_unused: |policy| policy.trash_folder.is_some() && policy.on_delete != OnDelete::Trash,
        is_same: |one, other| one.trash_folder == other.trash_folder,
    },
    UnusedKey {
        what: "oversize is given, but without max_octets no message is too large",
        is_unused: |policy| policy.view.oversize != Oversize::LeaveOut && policy.view.max_octets.is_none(),
        is_same: |one, other| one.view.oversize == other.view.oversize,
    },
];

impl Config {
    /// One sentence for each risk of the verified configuration.
    pub(super) fn risks(&self) -> Vec<String> {
        let mut risks = Vec::new();
        if self.limits.idle < LEAST_IDLE {
            risks.push(format!(
                "limits.idle_seconds is {}: RFC 1939 asks for 600 at least, and a slow device may lose its session",
                self.limits.idle.as_secs()
            ));
        }
        self.risks_of_web(&mut risks);
        self.risks_of_notices(&mut risks);
        self.risks_of_shared_state(&mut risks);
        if !self.tls.is_empty() && self.listeners.iter().all(|listener| listener.tls == ListenerTls::Off) {
            risks.push("[tls] names a certificate, but no [[listener]] uses it".into());
        }
        let asks = |listener: &Listener| listener.client_certificates != ClientCertificates::Off;
        if self.tls.iter().any(|tls| tls.client_ca.is_some()) && !self.listeners.iter().any(asks) {
            risks.push("[tls] has client_ca, but no [[listener]] has client_certificates".into());
        }
        risks.extend(self.listeners.iter().flat_map(Listener::risks));
        for upstream in &self.upstreams {
            if !upstream.is_private() {
                risks.push(format!(
                    "upstream.{}: tls = \"off\" sends passwords and mail to {} in plain text",
                    upstream.name, upstream.host
                ));
            }
            if upstream.tls == UpstreamTls::Legacy {
                risks.push(format!(
                    "upstream.{}: tls = \"legacy\": {}: whoever can change what is sent between popgate and {} may read \
                     passwords and mail; have the server updated",
                    upstream.name, BROKEN, upstream.host
                ));
            }
            risks.extend(upstream.risk_of_oauth2());
            if !self.is_used(upstream) {
                risks.push(format!(
                    "upstream.{} has no `logins` and no [[account]]: nothing uses it",
                    upstream.name
                ));
            }
        }
        risks.extend(self.risks_of_spelling());
        risks.extend(self.shared_mailboxes().iter().filter_map(SharedMailbox::risk));
        risks.extend(self.risks_of_policies());
        risks
    }

    /// popgate distinguishes logins and users by the case of the part before `@`, but not by the case of the domain. An
    /// upstream may compare names in another way.
    fn risks_of_spelling(&self) -> Vec<String> {
        let mut logins: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        // For each upstream and user (in lower case): the logins, each with its user as it is sent to the server.
        let mut users: BTreeMap<(&str, String), Vec<(&str, String)>> = BTreeMap::new();
        let mut risks = Vec::new();
        for Account {
            login, upstream, user, ..
        } in self.accounts.iter()
        {
            logins.entry(login.to_lowercase()).or_default().insert(login);
            let sent = canonical(user, None);
            if sent != *user {
                risks.push(format!(
                    "login {login}: `user` goes to the server as {sent}, with its domain in lower case"
                ));
            }
            let key = (upstream.name.as_str(), user.to_lowercase());
            users.entry(key).or_default().push((login, sent));
        }
        for logins in logins.into_values().filter(|logins| logins.len() > 1) {
            let logins: Vec<_> = logins.into_iter().collect();
            risks.push(format!(
                "login {}: they differ only in case, but are different logins: a device must write its own exactly",
                logins.join(", login ")
            ));
        }
        for user in users.into_values() {
            let (logins, spellings): (Vec<_>, BTreeSet<_>) = user.into_iter().unzip();
            if spellings.len() > 1 {
                let spellings: Vec<_> = spellings.into_iter().collect();
                risks.push(format!(
                    "login {}: `user` differs only in case ({}): popgate takes these for different users, whose sessions do not \
                     wait for each other; if the server takes them for one user, write them alike",
                    logins.join(", login "),
                    spellings.join(", ")
                ));
            }
        }
        risks
    }

    fn risks_of_web(&self, risks: &mut Vec<String>) {
        let Some(web) = &self.web else { return };
        let is_encrypted = |url: &String| url.starts_with("https:");
        if !web.address.ip().is_loopback() && !web.public_url.as_ref().is_some_and(is_encrypted) {
            risks.push(format!(
                "web.address {} takes its password in plain text: let it listen at 127.0.0.1, behind a proxy that speaks \
                 https, and name that in public_url",
                web.address
            ));
        }
        if !self.needs_sign_in() {
            risks.push("[web] serves a sign-in page, but nobody needs to sign in for any upstream".into());
        }
    }

    fn risks_of_notices(&self, risks: &mut Vec<String>) {
        let Notify { webhook, mail, .. } = &self.notify;
        if let Some(webhook) = webhook.as_ref().filter(|webhook| !webhook.is_private()) {
            risks.push(format!(
                "notify.webhook sends notices to {} in plain text, with the names of logins in them: use https",
                webhook.host()
            ));
        }
        if webhook.is_some() && !self.state.is_kept() {
            risks.push(
                "notify.webhook without `dir` in [state]: after a restart popgate sends notices again that it has already sent"
                    .into(),
            );
        }
        if *mail && !self.needs_sign_in() {
            risks.push("notify.mail warns of consents that end, but nobody needs to sign in for any upstream".into());
        }
    }

    fn risks_of_shared_state(&self, risks: &mut Vec<String>) {
        let Some(shared) = &self.state.shared else { return };
        let is_here = |server: &StateServer| is_loopback(&server.host);
        if !shared.url.is_tls && !shared.url.servers.all().iter().all(is_here) {
            risks.push(
                "state.url is without TLS: anybody between here and the server can read which messages devices have had, and the \
                 password: write rediss:// unless that network is yours alone"
                    .into(),
            );
        }
    }

    /// Whether a person must sign in for any of the upstreams.
    fn needs_sign_in(&self) -> bool {
        let mut oauth2 = self.upstreams.iter().filter_map(|upstream| upstream.oauth2.as_ref());
        oauth2.any(|oauth2| oauth2.needs_consent())
    }

    /// Lists each risk once, with all upstreams and logins that have it, because accounts share the keys of their
    /// upstream.
    fn risks_of_policies(&self) -> Vec<String> {
        let mut risks: Vec<(String, Vec<String>)> = Vec::new();
        let mut note = |who: String, what: String| match risks.iter_mut().find(|(known, _)| *known == what) {
            Some((_, concerned)) => concerned.push(who),
            None => risks.push((what, vec![who])),
        };
        for upstream in &self.upstreams {
            let who = || format!("upstream.{}", upstream.name);
            let policy = &upstream.maildrop;
            if !upstream.logins.is_empty() {
                for risk in policy.risks(upstream, self) {
                    note(who(), risk);
                }
                if policy.hides() || matches!(policy.retention, Retention::Days(_)) {
                    note(
                        who(),
                        "popgate takes forwarded logins that differ in case before the \"@\" for different ones: if the server takes \
                         Eva@example.org and eva@example.org for one user, each still has a view of its own"
                            .into(),
                    );
                }
                if let Retention::Days(_) = policy.retention {
                    note(
                        who(),
                        "retain_days is applied to forwarded logins when they log in again, not in between: \
                         popgate does not keep their passwords"
                            .into(),
                    );
                }
            }
            // A key of an upstream has an effect if it has one for any of its accounts.
            let accounts = || self.accounts_of(upstream);
            for UnusedKey {
                what,
                is_unused,
                is_same,
            } in &UNUSED_KEYS
            {
                if is_unused(policy) && accounts().all(|account| is_unused(&account.maildrop)) {
                    note(who(), (*what).into());
                }
                for account in accounts() {
                    if is_unused(&account.maildrop) && !is_same(&account.maildrop, policy) {
                        note(format!("login {}", account.login), (*what).into());
                    }
                }
            }
        }
        for account in self.accounts.iter() {
            for risk in account.maildrop.risks(&account.upstream, self) {
                note(format!("login {}", account.login), risk);
            }
        }
        risks
            .into_iter()
            .map(|(what, who)| format!("{}: {what}", who.join(", ")))
            .collect()
    }

    fn is_used(&self, upstream: &Upstream) -> bool {
        !upstream.logins.is_empty() || self.accounts_of(upstream).next().is_some()
    }

    fn accounts_of<'a>(&'a self, upstream: &Upstream) -> impl Iterator<Item = &'a Account> {
        let name = upstream.name.clone();
        self.accounts
            .iter()
            .filter(move |account| account.upstream.name == name)
    }
}

impl Upstream {
    /// Whether nobody can read what is sent to the upstream: it uses TLS, or is on this machine.
    pub fn is_private(&self) -> bool {
        self.tls != UpstreamTls::Off || is_loopback(&self.host)
    }

    fn risk_of_oauth2(&self) -> Option<String> {
        let preset = self.preset?;
        let name = &self.name;
        let Some(oauth2) = &self.oauth2 else {
            return preset.passwords.is_none().then(|| {
                format!(
                    "upstream.{name}: {} takes no passwords, only OAuth2: add [upstream.{name}.oauth2]",
                    self.host
                )
            });
        };
        let needed = match (preset.name.as_str(), oauth2.needs_consent()) {
            ("gmail", _) => "https://mail.google.com/",
            ("microsoft365" | "outlook", true) => "offline_access",
            _ => return None,
        };
        (!oauth2.scopes.iter().any(|scope| scope == needed)).then(|| {
            let why = match needed {
                "offline_access" => "the consent ends with its first token, after an hour",
                _ => "no token opens a mailbox",
            };
            format!("upstream.{name}.oauth2: scopes lack {needed:?}: without it {why}")
        })
    }
}

impl Policy {
    /// A sentence for each key that contradicts another key, or needs one.
    fn risks(&self, upstream: &Upstream, config: &Config) -> Vec<String> {
        let is_state_kept = config.state.is_kept();
        let mut risks: Vec<&str> = Vec::new();
        let is_hidden = self.on_delete == OnDelete::Hide;
        if is_hidden && !is_state_kept {
            risks.push(
                "on_delete = \"hide\" without `dir` in [state]: what was deleted comes back when popgate is restarted",
            );
        }
        if matches!(self.retention, Retention::Days(_)) && !is_state_kept {
            risks.push(
                "retain_days without `dir` in [state]: a restart of popgate forgets when messages were retrieved, and they \
                 stay",
            );
        }
        let is_gmail = upstream.preset.is_some_and(|preset| preset.name == "gmail");
        if self.on_delete == OnDelete::Expunge && is_gmail {
            risks.push(
                "on_delete = \"expunge\" on Gmail: EXPUNGE there may only archive, so that mail stays in \"All Mail\"; \
                 \"trash\" deletes",
            );
        }
        match self.retention {
            Retention::AfterRetrieve if is_hidden => risks.push(
                "delete_after_retrieve with on_delete = \"hide\" frees no space: what was retrieved is hidden from the \
                 login and stays on the server",
            ),
            Retention::Days(_) if is_hidden => risks.push(
                "retain_days with on_delete = \"hide\" frees no space: what was retrieved is hidden from the login later \
                 and stays on the server",
            ),
            Retention::Keep if self.view.unseen_only && self.on_retrieve == OnRetrieve::Keep => risks.push(
                "unseen_only with on_retrieve = \"keep\": mail that a device retrieves stays unread, and the device sees it again",
            ),
            _ => {}
        }
        let mut risks: Vec<String> = risks.into_iter().map(str::to_owned).collect();
        if let (OnDelete::MoveTo(folder), Some(_)) = (&self.on_delete, &self.folder_separator) {
            risks.push(format!(
                "a device may pick {folder:?} by folder_separator, and on_delete moves messages to that folder: messages there are \
                 never deleted, and QUIT answers [SYS/PERM]"
            ));
        }
        if self.wait >= config.limits.login {
            risks.push(format!(
                "wait_seconds is {}, and login_seconds {}: a login that waits so long is cut off before it hears [IN-USE]",
                self.wait.as_secs(),
                config.limits.login.as_secs()
            ));
        }
        if !self.uidl.distinguishes_validity() {
            risks.push(format!(
                "uidl = \"{}\": when the server numbers a folder anew (UIDVALIDITY), UIDLs come to mean other messages, \
                 and devices miss mail",
                self.uidl
            ));
        }
        risks
    }
}

impl Listener {
    fn risks(&self) -> impl Iterator<Item = String> {
        let balancers = self
            .proxy_protocol_from
            .iter()
            .find(|network| network.prefix_len() == 0);
        let forged = balancers.map(|everyone| {
            format!(
                "listener {}: proxy_protocol_from has {everyone}, so anybody can claim to have any address: name only the load \
                 balancers",
                self.address
            )
        });
        let broken = self.tls.is_legacy().then(|| {
            format!(
                "listener {}: tls = \"{}\": {BROKEN}: whoever can change what is sent on the way may read passwords; use this \
                 listener only for the devices that need it, on a network of their own",
                self.address, self.tls
            )
        });
        self.plain_text().into_iter().chain(forged).chain(broken)
    }

    fn plain_text(&self) -> Option<String> {
        let private = Self::private_networks();
        let open = self
            .allow
            .iter()
            .find(|allowed| !private.iter().any(|network| network.contains(*allowed)))?;
        let plain = match self.tls {
            ListenerTls::Off => "takes passwords in plain text",
            ListenerTls::StartTls | ListenerTls::LegacyStartTls if !self.require_tls => {
                "takes passwords before STLS (see require_tls)"
            }
            _ => return None,
        };
        Some(format!(
            "listener {} {plain} from {open}, which is not a private network",
            self.address
        ))
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
