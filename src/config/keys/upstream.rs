//! `[upstream.NAME]`

use super::{
    super::{
        Auth, Fingerprint, Proxy, UpstreamTls,
        key::{Layer, Says, table},
        preset::PresetName,
        value::{Domain, FileName, Host, Logins},
    },
    Maildrop, OAuth2,
};

table! {
    /// `[upstream.NAME]`
    Upstream {
        /// The name of a provider that popgate knows; it sets host, port, tls and more, unless you give them.
        preset: Option<PresetName> [example("gmail")];
        /// The server's name, as its certificate has it.
        host: Option<Host> [
            example("imap.example.org"),
            help("the name of the IMAP server, such as \"imap.example.org\"")
        ];
        /// The TCP port. The default follows `tls`: 993 for "implicit" and "legacy", else 143.
        port: Option<u16> [example("993"), otherwise("993 with TLS from the start, else 143"), within(1, 65_535)];
        /// How the connection is encrypted. implicit: TLS from the start | starttls: plain text until STARTTLS, which
        /// popgate sends before it logs in | off: plain text, for a server on this machine | legacy: TLS from the start for a
        /// server that knows only TLS 1.0 or 1.1, or only old ciphers; this is not safe, and needs a popgate that is built with
        /// old TLS, as the container image is
        tls: Option<UpstreamTls> [
            default("implicit"),
            says(Says::Reached(|upstream| Some(format!("tls: {}", upstream.tls))))
        ];
        /// PEM file of certificates to trust in addition to the system's: those of your own authorities, or the server's own
        /// certificate, which popgate then trusts whatever its name is.
        ca_file: Option<FileName> [example("/run/secrets/ca.pem")];
        /// The fingerprint of the only certificate to trust, whatever its name is, as `openssl x509 -noout -fingerprint -sha256`
        /// prints it.
        fingerprint: Option<Fingerprint> [
            example("sha256:0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0"),
            help("write \"sha256:\" and 64 hexadecimal digits, as `openssl x509 -noout -fingerprint -sha256` prints them"),
            says(Says::Reached(|upstream| upstream.fingerprint.map(|_| "certificate pinned".into())))
        ];
        /// How a password is given to the server. auto: the best way that the server offers | plain | login |
        /// login-command | cram-md5 | scram-sha-256
        auth: Auth [
            default("auto"),
            says(Says::Reached(|upstream| (upstream.auth != Auth::Auto).then(|| format!("auth: {}", upstream.auth))))
        ];
        /// Connect through a proxy: socks5:// or http:// with host and port. If the proxy asks for a login, write user:password@
        /// before the host.
        proxy: Option<Proxy> [
            example("socks5://127.0.0.1:1080"),
            help("write \"socks5://127.0.0.1:1080\" or \"http://proxy.example.org:8080\""),
            says(Says::Reached(|upstream| {
                let proxy = upstream.proxy.as_ref()?;
                Some(format!("through the proxy {}:{}", proxy.host, proxy.port))
            }))
        ];
        /// Whether popgate sends several commands at once. false is for a server that cannot take them: popgate finds that out
        /// by itself, but false saves the first try.
        pipelining: bool [
            default("true"),
            says(Says::Reached(|upstream| (!upstream.pipelining).then(|| "one command at a time".into())))
        ];
        /// POP3 logins that are forwarded to this server, each with its own password, so that nothing has to be configured per
        /// user. `*` stands for anything; ["*"] forwards every login. The most specific pattern of all upstreams wins.
        /// Default: none, then only the [[account]] logins below work.
        logins: Logins [
            default(""),
            example("*@example.org"),
            help("write patterns such as \"*@example.org\", or \"*\" for every login")
        ];
        /// The domain of logins that devices give without one: with "example.org" the login eva means eva@example.org. A login
        /// that an [[account]] has without a domain stays as it is. Default: none.
        default_domain: Option<Domain> [example("example.org"), help("write it without @, such as \"example.org\"")];
        /// How many connections one user may have there at once; providers limit this (Gmail allows 15).
        connections_per_user: Option<usize> [default("8"), within(1, 10_000)];
        /// Tokens instead of passwords.
        oauth2: Option<OAuth2> [];
        /// What devices see and do there.
        maildrop: Layer<Maildrop> [];
    }
}
