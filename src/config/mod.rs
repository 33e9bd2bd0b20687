//! The configuration: `gateway.toml`, environment and secret files → [`Config`], made of final types.

mod description;
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
mod reference;
mod risk;
mod secret;
mod shared_mailbox;
mod source;
mod state;
mod state_url;
mod strict;
mod syntax;
mod transport;
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
pub(crate) use reference::toml_string;
pub use reference::{example, keys_as_json, keys_as_markdown, keys_as_text};
pub use secret::Secret;
pub use shared_mailbox::SharedMailbox;
pub use state::{SharedState, State};
pub use state_url::{StateServer, StateServers, StateUrl};
pub use transport::{Auth, Fingerprint, Proxy, ProxyKind};
pub use uidl::{UidlFormat, UidlNumber, UidlPiece, UidlSource, UidlTemplate, is_uidl};

use self::words::words;

/// The whole configuration, verified: every name resolves, and every file named by `…_file` has been read.
#[derive(Debug)]
pub struct Config {
    /// `[state]`
    pub state: State,
    /// `[log]`
    pub log: Log,
    /// `[limits]`
    pub limits: Limits,
    /// `[web]`: the sign-in page; `None` if it is not served.
    pub web: Option<Web>,
    /// `[notify]`
    pub notify: Notify,
    /// `[tls]` or `[[tls]]`. The first certificate is for devices that ask for no host name, or for an unknown one.
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
    /// The URL of the page as browsers know it, without a slash at the end: `https://mail.example.org/popgate`. If it
    /// is not given, `http://` and the address.
    pub public_url: Option<String>,
    /// The password that opens the page.
    pub admin_password: Secret,
}

/// `[limits]`
#[derive(Debug, Clone)]
pub struct Limits {
    /// How many sessions may run at once.
    pub sessions: usize,
    /// How many sessions may run at once from one address.
    pub sessions_per_address: usize,
    /// How many connections at once may be silent without having logged in.
    pub unauthenticated: usize,
    /// How many such connections may come from one address at once.
    pub unauthenticated_per_address: usize,
    /// How long a device may take to log in.
    pub login: Duration,
    /// How long a device may be silent before its session ends without UPDATE (RFC 1939 §3: at least 600 s).
    pub idle: Duration,
    /// How long a session may last before it ends without UPDATE.
    pub session: Duration,
    /// How long the upstream may be silent during a command.
    pub upstream: Duration,
    /// How many bad commands close a session.
    pub bad_commands: u32,
    /// How many octets are read ahead for a session.
    pub read_ahead: u64,
    /// How long an upstream connection stays parked for the login's next session; zero: not at all.
    pub parked_for: Duration,
    /// How many upstream connections stay parked at most.
    pub parked: usize,
    /// How long sessions may take to finish after SIGTERM.
    pub drain: Duration,
}

/// `[tls]`, or one `[[tls]]`: PEM files, read again when they change.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// Certificate chain, leaf first.
    pub certificate: PathBuf,
    /// The private key of the first certificate in the chain.
    pub key: PathBuf,
    /// The host names that the certificate is shown for, in lower case; `*.` stands for one label. `None`: those in the
    /// certificate.
    pub names: Option<Vec<String>>,
    /// PEM file of the authorities that issue the certificates of devices.
    pub client_ca: Option<PathBuf>,
}

/// `[[listener]]`: one POP3 endpoint.
///
/// If the configuration has no listener, there is one at `0.0.0.0:110` with `tls = "off"`.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// How the connection is encrypted.
    pub tls: ListenerTls,
    /// With `starttls`: no USER, PASS or AUTH before STLS.
    pub require_tls: bool,
    /// The networks that may connect. If the key is not given: loopback and private networks with `tls = "off"`, else
    /// all.
    pub allow: Vec<ipnet::IpNet>,
    /// Whether devices are asked for certificates.
    pub client_certificates: ClientCertificates,
    /// Load balancers, whose connections begin with a PROXY protocol header.
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
        /// Like `starttls`, for old devices: TLS 1.0 and newer, by OpenSSL.
        LegacyStartTls = "legacy-starttls",
        /// Like `implicit`, for old devices: TLS 1.0 and newer, by OpenSSL.
        LegacyImplicit = "legacy-implicit",
    }

    /// Whether the devices of a listener show certificates of their own.
    pub enum ClientCertificates {
        /// The listener does not ask for certificates.
        Off = "off" | "none" | "no" | "false",
        /// If a device shows a certificate, it must be valid.
        Optional = "optional" | "request",
        /// A device without a valid certificate is not served.
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
    /// Whether TLS begins with the first octet.
    pub fn is_implicit(self) -> bool {
        matches!(self, Self::Implicit | Self::LegacyImplicit)
    }

    /// Whether STLS is offered.
    pub fn is_starttls(self) -> bool {
        matches!(self, Self::StartTls | Self::LegacyStartTls)
    }

    /// Whether OpenSSL does the TLS, for old devices.
    pub fn is_legacy(self) -> bool {
        matches!(self, Self::LegacyStartTls | Self::LegacyImplicit)
    }
}

/// `[upstream.NAME]`: one IMAP host.
#[derive(Debug)]
pub struct Upstream {
    /// The NAME of `[upstream.NAME]`.
    pub name: String,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// How the connection is encrypted.
    pub tls: UpstreamTls,
    /// PEM file of roots that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// The only certificate that is trusted, whatever its name.
    pub fingerprint: Option<Fingerprint>,
    /// How popgate gives a password to the upstream.
    pub auth: Auth,
    /// The proxy that connections go through.
    pub proxy: Option<Proxy>,
    /// Whether several commands may be sent at once.
    pub pipelining: bool,
    /// Patterns of POP3 logins that are forwarded here with their own password; `*` stands for anything.
    pub logins: Vec<String>,
    /// The domain of logins that lack one, in lower case.
    pub default_domain: Option<String>,
    /// How many connections one upstream user may have at once.
    pub connections_per_user: usize,
    /// The preset of the upstream's provider, if it is known.
    pub preset: Option<&'static Preset>,
    /// Where access tokens come from, if the upstream takes them instead of passwords.
    pub oauth2: Option<Arc<OAuth2>>,
    /// The policy of maildrops here, unless an account changes it.
    pub maildrop: Arc<Policy>,
}

/// `[[account]]`: a login that the gateway itself verifies.
#[derive(Debug)]
pub struct Account {
    /// What the device sends with USER.
    pub login: String,
    /// The password that the device must give.
    pub secret: LocalSecret,
    /// The upstream that has the mail.
    pub upstream: Arc<Upstream>,
    /// The user name at the upstream.
    pub user: String,
    /// The credential of the user at the upstream.
    pub credential: Credential,
    /// The policy: the upstream's defaults, overridden by the account's own keys.
    pub maildrop: Arc<Policy>,
}

/// The proof of the user's identity for an upstream.
#[derive(Debug, Clone)]
pub enum Credential {
    /// `upstream_password`
    Password(Secret),
    /// An access token from the upstream's provider.
    OAuth2 {
        /// The person who has consented: `signed_in_as`, or else the user. Accounts with the same value share one
        /// consent.
        consent: String,
    },
    /// An access token that the device gave.
    Token(Secret),
}

/// A device's password, in one of the forms that the configuration knows.
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
    /// Whether the account is a rule for many logins: `*` in `login` stands for anything, and `*` in `user` for the
    /// same text.
    pub fn is_rule(&self) -> bool {
        self.login.contains('*')
    }
}

#[cfg(test)]
mod tests;
