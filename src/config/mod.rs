//! The configuration: `gateway.toml`, environment and secret files → [`Config`], made of final types.

mod environment;
mod error;
mod hash;
mod import;
mod key;
#[allow(rustdoc::broken_intra_doc_links)] // its texts are those of gateway.toml, where [state] is a table
mod keys;
mod load;
mod log;
mod nearest;
mod notify;
mod oauth2;
mod options;
mod passwords;
mod policy;
mod preset;
mod reach;
mod reference;
mod risk;
mod said;
mod secret;
mod shared;
mod source;
mod state;
mod state_url;
mod strict;
mod syntax;
mod uidl;
mod unit;
mod value;
mod verify;
mod words;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

pub use error::Error;
pub use import::UidlImport;
pub use load::Loaded;
pub use log::{Log, LogFormat};
pub use notify::{Notify, Webhook};
pub use oauth2::{CertificateForm, ClientAuthentication, ClientKey, ClientProof, Grant, OAuth2};
pub use options::{AccountsOptions, MaildropOptions, NotifyOptions, OAuthOptions, SignInOptions};
pub use passwords::Passwords;
pub use policy::{Expire, Nul, OnDelete, OnRetrieve, Order, Oversize, Policy, Retention, View};
pub use preset::Preset;
pub use reach::{Auth, Fingerprint, Proxy, ProxyKind};
pub use reference::{example, keys_as_json, keys_as_markdown, keys_as_text};
pub use secret::Secret;
pub use shared::Shared;
pub use state::{SharedState, State};
pub use state_url::{StateServer, StateServers, StateUrl};
pub use uidl::{UidlFormat, UidlNumber, UidlPiece, UidlSource, UidlTemplate, is_uidl};

use self::words::words;

/// The whole configuration, verified: every name resolves and every file named by `…_file` was read.
#[derive(Debug)]
pub struct Config {
    /// `[state]`
    pub state: State,
    /// `[log]`
    pub log: Log,
    /// `[limits]`
    pub limits: Limits,
    /// `[web]`: the sign-in page, where there is one.
    pub web: Option<Web>,
    /// `[notify]`
    pub notify: Notify,
    /// `[tls]` or `[[tls]]`: the first is for devices that ask for none of the names.
    pub tls: Vec<Certificate>,
    /// `[[listener]]`
    pub listeners: Vec<Listener>,
    /// `[upstream.NAME]`
    pub upstreams: Vec<Arc<Upstream>>,
    /// `[[account]]`
    pub accounts: Arc<[Account]>,
}

/// `[web]`: the sign-in page.
#[derive(Debug, Clone)]
pub struct Web {
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// What browsers call it, without a slash at the end: `https://mail.example.org/popgate`. Default: `http://` and the address.
    pub public_url: Option<String>,
    /// Who may enter.
    pub admin_password: Secret,
}

/// `[limits]`
#[derive(Debug, Clone)]
pub struct Limits {
    /// Sessions at once.
    pub sessions: usize,
    /// Sessions at once from one address.
    pub sessions_per_address: usize,
    /// Connections at once that have not logged in and are silent.
    pub unauthenticated: usize,
    /// The same from one address.
    pub unauthenticated_per_address: usize,
    /// Time until authenticated.
    pub login: Duration,
    /// Silence of a device after which the session ends without UPDATE (RFC 1939 §3: at least 600 s).
    pub idle: Duration,
    /// The longest session; it ends without UPDATE.
    pub session: Duration,
    /// Silence of the upstream inside a command.
    pub upstream: Duration,
    /// Bad commands after which a session is closed.
    pub bad_commands: u32,
    /// Octets read ahead per session.
    pub read_ahead: u64,
    /// How long an upstream connection waits for the device's next session; zero = never.
    pub parked: Duration,
    /// Time for sessions to finish after SIGTERM.
    pub drain: Duration,
}

/// `[tls]`, or one `[[tls]]`: PEM files, read again when they change.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// Certificate chain, leaf first.
    pub certificate: PathBuf,
    /// Private key.
    pub key: PathBuf,
    /// For which host names it is shown, in lower case; `*.` stands for one label. Default: those in the certificate.
    pub names: Option<Vec<String>>,
    /// Roots of the certificates that devices show.
    pub client_ca: Option<PathBuf>,
}

/// `[[listener]]`: one POP3 endpoint.
///
/// Without any, there is one at `0.0.0.0:110` with `tls = "off"`.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// TLS mode.
    pub tls: ListenerTls,
    /// With `starttls`: no USER, PASS or AUTH before STLS.
    pub require_tls: bool,
    /// Who may connect; default for `tls = "off"`: loopback and private networks, else everyone.
    pub allow: Vec<ipnet::IpNet>,
    /// Whether devices show certificates.
    pub client_certificates: ClientCertificates,
    /// Load balancers, whose connections begin with a PROXY header.
    pub proxy_protocol_from: Vec<ipnet::IpNet>,
    /// Whether APOP and CRAM-MD5 are offered.
    pub apop: bool,
}

words! {
    /// TLS mode of a listener.
    pub enum ListenerTls {
        /// Plain text only.
        Off = "off" | "none" | "no" | "false" | "plain",
        /// Plain text until STLS (RFC 2595).
        StartTls = "starttls" | "start-tls" | "stls",
        /// TLS from the first octet (RFC 8314).
        Implicit = "implicit" | "ssl" | "tls" | "ssl/tls" | "pop3s" | "on" | "yes" | "true",
        /// As `starttls`, for old devices: TLS 1.0 and newer, by OpenSSL.
        LegacyStartTls = "legacy-starttls",
        /// As `implicit`, for old devices: TLS 1.0 and newer, by OpenSSL.
        LegacyImplicit = "legacy-implicit",
    }

    /// Whether the devices of a listener show certificates of their own.
    pub enum ClientCertificates {
        /// The listener asks for none.
        Off = "off" | "none" | "no" | "false",
        /// A certificate that is shown must be good.
        Optional = "optional" | "request",
        /// A device without a good certificate is not served.
        Required = "required" | "require" | "yes" | "true" | "on",
    }

    /// TLS mode of an upstream.
    pub enum UpstreamTls {
        /// TLS from the first octet, port 993.
        Implicit = "implicit" | "ssl" | "tls" | "ssl/tls" | "imaps" | "on" | "yes" | "true",
        /// STARTTLS before any login.
        StartTls = "starttls" | "start-tls" | "start_tls",
        /// Plain text.
        Off = "off" | "none" | "no" | "false" | "plain",
        /// TLS from the first octet, for old servers: TLS 1.0 and newer, by OpenSSL.
        Legacy = "legacy",
    }
}

/// Whether popgate was built with the cargo feature `legacy-tls`.
const HAS_LEGACY_TLS: bool = cfg!(feature = "legacy-tls");

impl ListenerTls {
    /// Whether TLS comes before everything else.
    pub fn is_implicit(self) -> bool {
        matches!(self, Self::Implicit | Self::LegacyImplicit)
    }

    /// Whether STLS is offered.
    pub fn is_starttls(self) -> bool {
        matches!(self, Self::StartTls | Self::LegacyStartTls)
    }

    /// Whether OpenSSL serves it, for old devices.
    pub fn is_legacy(self) -> bool {
        matches!(self, Self::LegacyStartTls | Self::LegacyImplicit)
    }
}

/// `[upstream.NAME]`: one IMAP host.
#[derive(Debug)]
pub struct Upstream {
    /// NAME.
    pub name: String,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// TLS mode.
    pub tls: UpstreamTls,
    /// PEM file of roots trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// The certificate that is trusted, whatever its name; no other is then.
    pub fingerprint: Option<Fingerprint>,
    /// How a password is given to it.
    pub auth: Auth,
    /// What the connection goes through.
    pub proxy: Option<Proxy>,
    /// Whether several commands may be sent at once.
    pub pipelining: bool,
    /// Patterns of POP3 logins forwarded here with their own password; `*` stands for anything.
    pub logins: Vec<String>,
    /// The domain of logins that lack one, in lower case.
    pub default_domain: Option<String>,
    /// Never more connections at once for one upstream user.
    pub connections_per_user: usize,
    /// What its provider is like, where that is known.
    pub preset: Option<&'static Preset>,
    /// Whom it asks for tokens, where it takes those instead of passwords.
    pub oauth2: Option<Arc<OAuth2>>,
    /// Defaults of its accounts.
    pub maildrop: Arc<Policy>,
}

/// `[[account]]`: a login of the gateway's own.
#[derive(Debug)]
pub struct Account {
    /// What the device gives to USER.
    pub login: String,
    /// What the device must give to PASS.
    pub secret: LocalSecret,
    /// Where the mail lives.
    pub upstream: Arc<Upstream>,
    /// The user there.
    pub user: String,
    /// What proves that there.
    pub credential: Credential,
    /// The upstream's defaults with the account's own keys over them.
    pub maildrop: Arc<Policy>,
}

/// What proves to an upstream who the user is.
#[derive(Debug, Clone)]
pub enum Credential {
    /// `upstream_password`
    Password(Secret),
    /// A token of the upstream's provider.
    OAuth2 {
        /// Whose consent serves: `signed_in_as`, else the user. Accounts with the same share one.
        consent: String,
    },
    /// A token that the device gave.
    Token(Secret),
}

/// How a local password is kept.
#[derive(Debug)]
pub enum LocalSecret {
    /// `password` or `password_file`
    Password(Secret),
    /// `password_hash`: a PHC string, argon2.
    Hash(String),
    /// `passwords_file`: a line `login:hash` for each login; read again when it changes.
    File(PathBuf),
}

impl Account {
    /// Whether it is a rule for many logins: `*` in its login stands for anything, and `*` in its user for the same.
    pub fn is_rule(&self) -> bool {
        self.login.contains('*')
    }
}

#[cfg(test)]
mod tests;
