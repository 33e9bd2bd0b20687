//! The files that `popgate init` writes.

use std::path::PathBuf;

use super::answer::{ListenerChoice, MailProvider, Users};
use crate::config::{ListenerTls, Secret, toml_string};

/// The answers, in the form that the files need.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) users: Users,
    pub(super) provider: MailProvider,
    pub(super) listener: ListenerChoice,
    pub(super) certificate: Option<CertificateFiles>,
    /// `on_delete`
    pub(super) policy: String,
    /// `[state] dir`
    pub(super) state_dir: &'static str,
    pub(super) access: Access,
}

/// `[tls]`
#[derive(Debug)]
pub(super) struct CertificateFiles {
    pub(super) chain: PathBuf,
    pub(super) key: PathBuf,
}

/// Who logs in to the IMAP server, and how.
#[derive(Debug)]
pub(super) enum Access {
    /// Each device, with its user's own password.
    Forwarded,
    /// The gateway, with the password `upstream`.
    Password { device: Hash, upstream: Secret },
    /// The gateway, with access tokens.
    OAuth2 {
        device: Hash,
        client_id: String,
        client_secret: Option<Secret>,
        /// The tenant, if it is not the preset's.
        tenant: Option<String>,
        /// The key that seals tokens in state.
        key: Secret,
    },
}

/// `password_hash`
#[derive(Debug)]
pub(super) struct Hash(pub(super) String);

const KEY_FILE: &str = "state-key";
const UPSTREAM_PASSWORD_FILE: &str = "upstream-password";
const CLIENT_SECRET_FILE: &str = "client-secret";
/// Names of all files that [`Draft::secrets`] may have.
pub(super) const SECRET_FILES: [&str; 3] = [KEY_FILE, UPSTREAM_PASSWORD_FILE, CLIENT_SECRET_FILE];

impl Draft {
    /// The files besides `gateway.toml`, by name, with their content.
    pub(super) fn secrets(&self) -> Vec<(&'static str, &Secret)> {
        match &self.access {
            Access::Forwarded => Vec::new(),
            Access::Password { upstream, .. } => vec![(UPSTREAM_PASSWORD_FILE, upstream)],
            Access::OAuth2 { client_secret, key, .. } => {
                let secret = client_secret.iter().map(|secret| (CLIENT_SECRET_FILE, secret));
                [(KEY_FILE, key)].into_iter().chain(secret).collect()
            }
        }
    }

    /// The text of `gateway.toml`.
    pub(super) fn text(&self) -> String {
        [
            "# Written by popgate init. popgate check says in words what it does; popgate check --keys lists all keys.\n\n".into(),
            self.state(),
            self.listener(),
            self.upstream(),
            self.account(),
        ]
        .concat()
    }

    fn state(&self) -> String {
        let mut text =
            "# What popgate remembers: what devices have fetched, deleted and hidden. No mail.\n[state]\n".to_owned();
        text += &key("dir", self.state_dir);
        if matches!(self.access, Access::OAuth2 { .. }) {
            text += &key("key_file", KEY_FILE);
        }
        text
    }

    fn listener(&self) -> String {
        let mut text = String::new();
        if let Some(CertificateFiles { chain, key: file }) = &self.certificate {
            text += "\n[tls]\n";
            text += &key("certificate", &chain.to_string_lossy());
            text += &key("key", &file.to_string_lossy());
        }
        text += "\n# Where devices connect.\n[[listener]]\n";
        text += &key("address", &self.listener.address.to_string());
        text += &key("tls", &self.listener.tls.to_string());
        if self.listener.tls == ListenerTls::StartTls {
            text += "require_tls = true\n";
        }
        text
    }

    fn upstream(&self) -> String {
        let name = self.provider.name();
        let mut text = format!("\n# The IMAP server that holds the mail.\n[upstream.{name}]\n");
        match &self.provider {
            MailProvider::Known(preset) => text += &key("preset", &preset.name),
            MailProvider::Other { host, port, tls } => {
                text += &key("host", host);
                text += &format!("port = {port}\n");
                text += &key("tls", &tls.to_string());
            }
        }
        if let Users::Every(pattern) = &self.users {
            text += &format!("logins = [{}]\n", toml_string(pattern));
        }
        if let Access::OAuth2 {
            client_id,
            client_secret,
            tenant,
            ..
        } = &self.access
        {
            text += &format!("\n[upstream.{name}.oauth2]\n");
            text += &key("client_id", client_id);
            if client_secret.is_some() {
                text += &key("client_secret_file", CLIENT_SECRET_FILE);
            }
            if let Some(tenant) = tenant {
                text += &key("tenant", tenant);
            }
        }
        text += &format!("\n[upstream.{name}.maildrop]\n");
        text + &key("on_delete", &self.policy)
    }

    fn account(&self) -> String {
        let (Users::One(login), Access::Password { device, .. } | Access::OAuth2 { device, .. }) =
            (&self.users, &self.access)
        else {
            return String::new();
        };
        let mut text = "\n# What the device logs in with. Without `user`, the user at the IMAP server is the login.\n[[account]]\n".to_owned();
        text += &key("login", login);
        text += &key("password_hash", &device.0);
        text += &key("upstream", self.provider.name());
        if matches!(self.access, Access::Password { .. }) {
            text += &key("upstream_password_file", UPSTREAM_PASSWORD_FILE);
        }
        text
    }
}

/// A line of TOML: `name = "value"`.
fn key(name: &str, value: &str) -> String {
    format!("{name} = {}\n", toml_string(value))
}
