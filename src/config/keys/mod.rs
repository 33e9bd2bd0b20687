//! Every key of `gateway.toml`, declared once: its type, default and range, and what it is for.
//!
//! The text above a key stands like that in `gateway.toml.example`; its first sentence stands in the tables of
//! docs/src/configuration.md, and all of it in `popgate check --keys`.

mod account;
mod maildrop;
mod oauth2;
mod upstream;

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

pub(super) use account::Account;
pub(super) use maildrop::Maildrop;
pub(super) use oauth2::{GrantWord, OAuth2};
pub(super) use upstream::Upstream;

use super::{
    ClientCertificates, ListenerTls, LogFormat, Secret,
    key::{OneOrMany, Shape, Table, table},
    log::LogFilter,
    state_url::StateUrl,
    value::{AnyNetworks, Days, FileName, HostNames, Networks, PageUrl, Size, WebhookUrl},
};

/// Longest time that a key may name: a year of seconds. Longer is a slip of the keyboard, and could overflow a clock.
const YEAR: u64 = 365 * 24 * 3600;

/// A hundred years of days: longer is a slip of the keyboard.
const CENTURY: u64 = 36_500;

/// More of anything is a slip of the keyboard.
const MANY: u64 = 1_000_000;

impl Document {
    /// All keys.
    pub(super) const SHAPE: Shape = Shape::Table(Self::KEYS);
}

table! {
    /// The whole file.
    Document {
        /// What outlives a session.
        state: State [];
        /// The log.
        log: Log [];
        /// Limits.
        limits: Limits [];
        /// The sign-in page.
        web: Web [];
        /// Whom popgate tells that somebody must act.
        notify: Notify [];
        /// The certificates of listeners with TLS.
        tls: OneOrMany<Tls> [];
        /// Where devices connect.
        listener: Vec<Listener> [];
        /// The IMAP servers that hold the mail.
        upstream: BTreeMap<String, Upstream> [];
        /// Logins of the gateway's own.
        account: Vec<Account> [];
    }

    /// `[[listener]]`
    Listener {
        /// Address and port: "0.0.0.0:110" is IPv4 on every interface, "[::]:110" IPv6 (and IPv4, if the system maps it).
        address: Option<SocketAddr> [
            example("0.0.0.0:110"),
            help("an address and a port, such as \"0.0.0.0:110\" or \"[::]:110\"")
        ];
        /// How the connection is encrypted. off: plain text | starttls: plain text until the device says STLS | implicit: TLS
        /// from the start | legacy-starttls, legacy-implicit: the same for devices that know only TLS 1.0 or 1.1, or only old
        /// ciphers; this is not safe, and needs `allow` and a popgate that is built with old TLS, as the container image is
        tls: ListenerTls [default("off")];
        /// Whether a device must say STLS before it may send a password. Default: false, for devices that know no TLS.
        require_tls: bool [default("false")];
        /// Networks that may connect. Default for plain text: this machine and private networks, as shown, because passwords
        /// could be read on the way. Default with TLS: everyone.
        allow: Option<Networks> [
            example("127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,169.254.0.0/16,::1/128,fc00::/7,fe80::/10"),
            otherwise("private networks for plain text, everyone with TLS"),
            help("write networks such as \"192.168.1.0/24\" or \"fd00::/8\", or single addresses")
        ];
        /// Whether devices show a certificate of their own, issued by an authority of `client_ca` in [tls]. off: popgate does
        /// not ask for one | optional: if a device shows one, it must be valid | required: a device without a valid certificate
        /// is not served
        client_certificates: ClientCertificates [default("off")];
        /// Load balancers that pass on the device's address in a PROXY header (version 1 or 2). From these networks the header is
        /// required; a connection from elsewhere that sends one is closed. Default: none.
        proxy_protocol_from: AnyNetworks [
            default(""),
            example("10.0.0.5"),
            help("write networks such as \"10.0.0.0/24\", or single addresses")
        ];
        /// Whether to offer APOP and CRAM-MD5, by which old devices prove a password without sending it. Only an [[account]] with
        /// `password` or `password_file` can log in that way; some programs try no other way if APOP is offered.
        apop: bool [default("false")];
    }

    /// `[tls]`
    Tls {
        /// PEM file of certificates: the server's first, then those that lead to its root.
        certificate: Option<FileName> [
            example("/run/secrets/fullchain.pem"),
            help("name the PEM file of the certificate chain")
        ];
        /// PEM file of the private key.
        key: Option<FileName> [
            example("/run/secrets/privkey.pem"),
            help("name the PEM file of the private key")
        ];
        /// Host names for which devices get this certificate, if there are several [[tls]]. A device that asks for no name, or for
        /// an unknown one, gets the first certificate. Default: the names in the certificate.
        names: Option<HostNames> [
            example("mail.example.org,*.example.net"),
            otherwise("those in the certificate"),
            help("write names such as \"mail.example.org\" or \"*.example.org\"")
        ];
        /// PEM file of the authorities that issue the certificates of devices; see `client_certificates` of [[listener]].
        client_ca: Option<FileName> [example("/run/secrets/client-ca.pem")];
    }

    /// `[limits]`
    Limits {
        /// How many sessions may run at once, in all.
        sessions: usize [default("1000"), within(1, MANY)];
        /// How many sessions may run at once from one address (of IPv6: one /64). A whole office behind a router has one address.
        sessions_per_address: usize [default("50"), within(1, MANY)];
        /// How many connections that have not logged in may keep the gateway waiting at once, in all. If there are more, popgate
        /// closes the oldest.
        unauthenticated: usize [default("250"), within(1, MANY)];
        /// The same from one address (of IPv6: from one /64).
        unauthenticated_per_address: usize [default("10"), within(1, MANY)];
        /// How long a device may take from its connection to a successful login.
        login_seconds: Duration [default("60"), within(1, YEAR)];
        /// How long a device may be silent before its session ends; nothing is deleted then. RFC 1939 asks for 600 at least.
        idle_seconds: Duration [default("600"), within(1, YEAR)];
        /// How long a session may last at most; nothing is deleted at its end.
        session_seconds: Duration [default("14400"), within(1, YEAR)];
        /// How long the upstream may be silent within a command.
        upstream_seconds: Duration [default("30"), within(1, YEAR)];
        /// How many bad commands a device may send before its session is closed.
        bad_commands: u32 [default("20"), within(1, MANY)];
        /// How many octets a session may fetch before its device asks for them, so that the device need not wait for each message.
        /// All sessions together may hold 64 times as many.
        read_ahead_bytes: Size [default("4194304"), within(0, 1 << 30)];
        /// How long a connection to the upstream is kept for a device's next session; 0 closes it at once.
        parked_seconds: Duration [default("900"), within(0, YEAR)];
        /// How many of these connections are kept at most, of all devices; fewer if the system allows fewer open files. If there
        /// are more, popgate closes those that have waited longest.
        parked: usize [default("10000"), within(0, MANY)];
        /// How long sessions may take to finish when the gateway is stopped.
        drain_seconds: Duration [default("20"), within(0, YEAR)];
    }

    /// `[log]`
    Log {
        /// How lines look. text: for people | json: for log collectors, one object a line
        format: LogFormat [default("text")];
        /// How much is logged: off | error | warn | info | debug | trace, or a filter such as "info,popgate::pop3=debug"
        level: LogFilter [default("info"), help("write it like info,popgate::pop3=debug")];
    }

    /// `[state]`
    State {
        /// The directory for state that outlives a session. Default: none; then popgate keeps state in memory only.
        dir: Option<FileName> [example("/data")];
        /// File with the key that encrypts the tokens of [upstream.NAME.oauth2]; keep the file outside of `dir`. Make one with
        /// `head -c 32 /dev/urandom | base64 > key`. Default: none.
        key_file: Option<FileName> [example("/run/secrets/state-key")];
        /// The same as key_file, without a file of its own.
        key: Option<Secret> [example("32 characters at least, which nobody could guess")];
        /// Servers (Valkey, or Redis 7 or later) that hold the state instead of `dir`, for several popgates that serve the same
        /// mailboxes. rediss:// is with TLS, redis:// without; several servers are redis+sentinel://one,two,three/service and
        /// redis-cluster://one,two,three. (Needs `key_file`, the same for all popgates.)
        url: Option<StateUrl> [
            example("rediss://popgate@valkey:6379"),
            help("the servers that hold the state, such as \"rediss://popgate@valkey:6379\"")
        ];
        /// File with the password of the user in `url`.
        password_file: Option<FileName> [example("/run/secrets/valkey")];
        /// The same as password_file, without a file of its own.
        password: Option<Secret> [example("a password of the servers")];
        /// PEM file of certificates to trust in addition to the system's, for rediss://.
        ca_file: Option<FileName> [example("/run/secrets/ca.pem")];
        /// How the names of popgate's keys in the servers begin.
        prefix: String [default("popgate")];
        /// How many replicas of the server must confirm each write that must not be lost: what logins have hidden, and consents.
        /// Give 1 if the server has replicas, 0 if it has none.
        replicas: usize [default("0"), within(0, 10)];
        /// Whether popgate starts only if the server writes to its disk before it answers (appendfsync always). That costs the
        /// server most of its speed.
        fsync: bool [default("false")];
        /// How long a maildrop stays locked if the popgate that has opened it dies.
        lease_seconds: Duration [default("20"), within(6, 600)];
        /// What this popgate is called among the others. Default: the name of the machine.
        replica: Option<String> [example("a")];
    }

    /// `[web]`
    Web {
        /// The address at which the sign-in page listens. Browsers on other machines need a proxy with TLS in front of the page.
        address: Option<SocketAddr> [
            example("127.0.0.1:8080"),
            help("where the sign-in page listens, such as \"127.0.0.1:8080\" or \"[::1]:8080\"")
        ];
        /// The page's URL for browsers. Register it with the provider of [upstream.NAME], with /callback/NAME appended.
        public_url: Option<PageUrl> [
            example("https://mail.example.org/popgate"),
            otherwise("http:// and the address"),
            help("the page's URL for browsers, such as \"https://mail.example.org/popgate\"")
        ];
        /// File with the password of the page.
        admin_password_file: Option<FileName> [example("/run/secrets/admin")];
        /// The same as admin_password_file, without a file of its own.
        admin_password: Option<Secret> [
            example("another password"),
            help("the password of the page: `admin_password_file` or `admin_password`")
        ];
    }

    /// `[notify]`
    Notify {
        /// URL to which popgate posts a notice (JSON) when somebody must act. Somebody must act if a consent or a certificate ends
        /// soon, a login has been failing for an hour, a message cannot be delivered, or state cannot be written.
        webhook: Option<WebhookUrl> [
            example("https://alerts.example.org/popgate"),
            help("write it like \"https://alerts.example.org/popgate\"")
        ];
        /// File with the secret that signs notices, for the receiver to check. The header X-Popgate-Signature is then
        /// `t=SECONDS,v1=HEX`, where HEX is the HMAC-SHA-256 of SECONDS, a dot and the body. Default: none, and no signature.
        webhook_secret_file: Option<FileName> [example("/run/secrets/webhook")];
        /// The same as webhook_secret_file, without a file of its own.
        webhook_secret: Option<Secret> [example("a secret of the receiver")];
        /// PEM file of certificates to trust in addition to the system's.
        webhook_ca_file: Option<FileName> [example("/run/secrets/ca.pem")];
        /// Whether popgate puts a warning among a device's own mail if the consent for its mailbox ends soon. The warning goes
        /// away when somebody has signed in, or when the device deletes it.
        mail: bool [default("false")];
        /// How many days before its end a consent counts as ending soon. If a consent lasts less than twice as long, it counts so
        /// once half of its time is over.
        consent_days: Days [default("14"), within(1, 365)];
    }
}
