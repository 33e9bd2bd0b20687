//! How popgate reaches an upstream: `auth`, `fingerprint`, `proxy`.

use std::fmt;

use super::{
    Secret, Upstream,
    key::{Kind, Raw, Value, Wrong},
    value,
    words::words,
};
use crate::types::{hex, host_and_port};

words! {
    /// `auth`: how a password is given to the upstream.
    pub enum Auth {
        /// The best method that the server offers.
        Auto = "auto" | "any",
        /// AUTHENTICATE PLAIN (RFC 4616)
        Plain = "plain",
        /// AUTHENTICATE LOGIN
        Login = "login",
        /// The command LOGIN (RFC 3501 §6.2.3)
        LoginCommand = "login-command",
        /// AUTHENTICATE CRAM-MD5 (RFC 2195)
        CramMd5 = "cram-md5" | "cram" | "crammd5",
        /// AUTHENTICATE SCRAM-SHA-256 (RFC 7677)
        ScramSha256 = "scram-sha-256" | "scram" | "scram-sha256",
    }
}

/// `fingerprint`: the SHA-256 of a certificate in DER.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Parses `sha256:` and 64 hexadecimal digits, as `openssl x509 -fingerprint -sha256` prints them. There may be
    /// colons or spaces between the digits. `None` if `text` is something else.
    fn parse(text: &str) -> Option<Self> {
        let (name, digits) = text.split_once([':', '='])?;
        if !["sha256", "sha256 fingerprint"].contains(&name.trim().to_ascii_lowercase().as_str()) {
            return None;
        }
        let digits: Vec<u8> = digits
            .chars()
            .filter(|c| !matches!(c, ':' | ' '))
            .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
            .collect::<Option<_>>()?;
        let octets: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
        (digits.len() == 64).then(|| octets.try_into().ok().map(Self))?
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `proxy`: the proxy that connections to an upstream go through.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// The protocol of the proxy.
    pub kind: ProxyKind,
    /// The host name or address of the proxy; an IPv6 address has no brackets.
    pub host: String,
    /// The TCP port of the proxy.
    pub port: u16,
    /// User and password, if the proxy asks for them.
    pub login: Option<(String, Secret)>,
}

/// The protocol of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyKind {
    /// SOCKS 5 (RFC 1928); the proxy resolves the upstream's name.
    Socks5,
    /// HTTP CONNECT (RFC 9110 §9.3.6)
    Http,
}

impl Upstream {
    /// The server, and how it is reached and recognised, as text. Two upstreams with the same text lead to the same
    /// server.
    pub fn server(&self) -> String {
        let (host, port, proxy) = (&self.host, self.port, &self.proxy);
        let (tls, ca_file, fingerprint, pipelining) = (self.tls, &self.ca_file, self.fingerprint, self.pipelining);
        format!("{host}:{port} by {proxy:?} {tls} {ca_file:?} {fingerprint:?} {pipelining}")
    }
}

impl Proxy {
    /// Parses `socks5://[user:password@]host[:port]`, `socks5h://…` or `http://…`. The error says what is wrong, but
    /// repeats nothing of `url`, which may have a password in it.
    pub fn parse(url: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = url.split_once("://").ok_or("is not a URL")?;
        let (kind, default_port) = match scheme.to_ascii_lowercase().as_str() {
            "socks5" | "socks5h" => (ProxyKind::Socks5, 1080),
            "http" => (ProxyKind::Http, 8080),
            _ => return Err("is neither a socks5:// nor an http:// URL"),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (login, authority) = match rest.rsplit_once('@') {
            Some((login, authority)) => {
                let (user, password) = login.split_once(':').ok_or("names a user without a password")?;
                (
                    Some((decoded(user)?, Secret::from(decoded(password)?.as_str()))),
                    authority,
                )
            }
            None => (None, rest),
        };
        let (host, port) = host_and_port(authority)?;
        if host.is_empty() || host.contains(['/', '?', '#', ' ']) {
            return Err("names no valid host");
        }
        Ok(Self {
            kind,
            host: host.to_owned(),
            port: port.unwrap_or(default_port),
            login,
        })
    }
}

impl Value for Fingerprint {
    const KIND: Kind = Kind::Text;

    fn read(raw: &Raw<'_>) -> Result<Self, Wrong> {
        Self::parse(value::text(raw)?).ok_or_else(|| Wrong::new("is not a SHA-256 fingerprint"))
    }
}

impl Value for Proxy {
    /// The URL may have a password in it.
    const KIND: Kind = Kind::Secret;

    fn read(raw: &Raw<'_>) -> Result<Self, Wrong> {
        Self::parse(value::text(raw)?).map_err(Wrong::new)
    }
}

/// Undoes percent-encoding (RFC 3986 §2.1).
fn decoded(text: &str) -> Result<String, &'static str> {
    const WRONG: &str = "holds a percent sign that encodes nothing";
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'%' => {
                let mut digit = || {
                    rest.next()
                        .and_then(|digit| char::from(digit).to_digit(16))
                        .ok_or(WRONG)
                };
                u8::try_from(digit()? << 4 | digit()?).map_err(|_| WRONG)?
            }
            octet => octet,
        });
    }
    String::from_utf8(octets).map_err(|_| WRONG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_as_openssl_prints_them() {
        let plain = format!("sha256:{}", "0aF0".repeat(16));
        let expected = Fingerprint::parse(&plain).unwrap();
        assert_eq!(expected.0[..2], [0x0a, 0xf0]);
        assert_eq!(expected.to_string(), plain.to_ascii_lowercase());
        for text in [
            format!("SHA256:{}", ["0A", "F0"].repeat(16).join(":")),
            format!("sha256 Fingerprint={}", ["0A", "F0"].repeat(16).join(":")),
        ] {
            assert_eq!(Fingerprint::parse(&text), Some(expected), "{text}");
        }
        for text in [
            "",
            "sha256:",
            "sha1:00",
            "sha256:00",
            &format!("{plain}0"),
            &plain[7..],
            &plain.replace("F", "g"),
        ] {
            assert_eq!(Fingerprint::parse(text), None, "{text}");
        }
    }

    #[test]
    fn proxies() {
        let proxy = |url| Proxy::parse(url).map(|proxy| (proxy.kind, proxy.host, proxy.port));
        let named = |kind, host: &str, port| Ok((kind, host.to_owned(), port));
        assert_eq!(
            proxy("socks5://127.0.0.1:1081"),
            named(ProxyKind::Socks5, "127.0.0.1", 1081)
        );
        assert_eq!(proxy("socks5h://[::1]"), named(ProxyKind::Socks5, "::1", 1080));
        assert_eq!(
            proxy("HTTP://proxy.example.org/"),
            named(ProxyKind::Http, "proxy.example.org", 8080)
        );
        for url in [
            "",
            "127.0.0.1",
            "https://x",
            "socks5://",
            "socks5://x:0",
            "http://x:y",
            "http://a@b",
            "http://x/y",
            "socks5://[::1",
            "socks5://[::1]1081",
            "socks5://a:b:1081",
        ] {
            assert!(proxy(url).is_err(), "{url}");
        }
        let login = Proxy::parse("http://joe:p%40ss@proxy:3128").unwrap().login.unwrap();
        assert_eq!((login.0.as_str(), login.1.expose()), ("joe", &b"p@ss"[..]));
        let error = Proxy::parse("http://joe:geheim%zz@proxy").unwrap_err();
        assert!(!error.contains("geheim"));
    }
}
