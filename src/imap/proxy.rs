//! Connects to an upstream through a proxy: SOCKS 5 (RFC 1928, 1929) and HTTP CONNECT (RFC 9110 §9.3.6).
//!
//! No error here repeats what the proxy sent or what was sent to it: the request holds the proxy's password.

use std::{fmt, io};

use base64::prelude::{BASE64_STANDARD, Engine};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_socks::tcp::Socks5Stream;
use zeroize::Zeroizing;

use crate::config::{Proxy, ProxyKind};

/// The most octets of the head of a proxy's reply.
const MAX_HEAD: usize = 16 * 1024;

/// Why a proxy did not connect.
#[derive(Debug)]
pub(super) enum Error {
    /// The proxy refuses until its configuration or ours is changed.
    Refused(&'static str),
    /// The proxy could not connect; that may pass.
    Unavailable(String),
    /// The connection to the proxy was lost.
    Broken(io::Error),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Unavailable(CLOSED.into()),
            _ => Self::Broken(error),
        }
    }
}

/// Host and port as a URL writes them (RFC 3986 §3.2).
#[derive(Debug, Clone, Copy)]
pub(super) struct Authority<'a>(pub(super) &'a str, pub(super) u16);

impl fmt::Display for Authority<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains(':') {
            write!(f, "[{}]:{}", self.0, self.1)
        } else {
            write!(f, "{}:{}", self.0, self.1)
        }
    }
}

/// Has the proxy at the other end of `tcp` connect to `target`, whose name the proxy resolves.
pub(super) async fn connect(tcp: TcpStream, proxy: &Proxy, target: Authority<'_>) -> Result<TcpStream, Error> {
    match proxy.kind {
        ProxyKind::Socks5 => by_socks(tcp, proxy, target).await,
        ProxyKind::Http => by_http(tcp, proxy, target).await,
    }
}

const NO_LOGIN: &str = "wants a user and a password: write them into `proxy`, before the host (user:password@)";
const WRONG_LOGIN: &str = "does not take the user and password that `proxy` gives it";
const NOT_ALLOWED: &str = "does not allow connections to this `host` and `port`";
const UNABLE: &str = "is not able to connect to another host (is it a proxy, and of the kind that `proxy` says?)";
const NOT_SOCKS: &str = "does not speak SOCKS 5 (is it an HTTP proxy?)";
const CLOSED: &str = "it closed the connection (is it a proxy, and of the kind that `proxy` says?)";
const NOT_HTTP: &str = "does not speak HTTP (is it a SOCKS proxy?)";

async fn by_socks(tcp: TcpStream, proxy: &Proxy, target: Authority<'_>) -> Result<TcpStream, Error> {
    let Authority(host, port) = target;
    let connected = match &proxy.login {
        None => Socks5Stream::connect_with_socket(tcp, (host, port)).await,
        Some((user, password)) => {
            let password = std::str::from_utf8(password.expose()).map_err(|_| Error::Refused(WRONG_LOGIN))?;
            Socks5Stream::connect_with_password_and_socket(tcp, (host, port), user, password).await
        }
    };
    connected
        .map(Socks5Stream::into_inner)
        .map_err(|error| of_socks(error, proxy.login.is_some()))
}

fn of_socks(error: tokio_socks::Error, has_login: bool) -> Error {
    use tokio_socks::Error as Socks;
    match error {
        Socks::Io(error) => error.into(),
        Socks::NoAcceptableAuthMethods | Socks::AuthorizationRequired if !has_login => Error::Refused(NO_LOGIN),
        Socks::NoAcceptableAuthMethods
        | Socks::AuthorizationRequired
        | Socks::PasswordAuthFailure(_)
        | Socks::InvalidAuthValues(_) => Error::Refused(WRONG_LOGIN),
        Socks::ConnectionNotAllowedByRuleset => Error::Refused(NOT_ALLOWED),
        Socks::CommandNotSupported | Socks::AddressTypeNotSupported => Error::Refused(UNABLE),
        Socks::InvalidResponseVersion
        | Socks::UnknownAuthMethod
        | Socks::InvalidReservedByte
        | Socks::UnknownAddressType => Error::Refused(NOT_SOCKS),
        Socks::HostUnreachable => Error::Unavailable("it finds no way to the host, or does not know its name".into()),
        Socks::NetworkUnreachable => Error::Unavailable("it finds no way to the host's network".into()),
        Socks::ConnectionRefused => Error::Unavailable("the host refused the connection".into()),
        Socks::TtlExpired => Error::Unavailable("the host did not answer it".into()),
        _ => Error::Unavailable("it failed to connect".into()),
    }
}

async fn by_http(mut tcp: TcpStream, proxy: &Proxy, target: Authority<'_>) -> Result<TcpStream, Error> {
    let mut request = Zeroizing::new(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"));
    if let Some((user, password)) = &proxy.login {
        let login = Zeroizing::new([user.as_bytes(), b":", password.expose()].concat());
        // RFC 7617 §2
        request.push_str("Proxy-Authorization: Basic ");
        request.push_str(&Zeroizing::new(BASE64_STANDARD.encode(&login)));
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    tcp.write_all(request.as_bytes()).await?;
    loop {
        let head = head(&mut tcp).await?;
        match status(&head) {
            // An interim reply (RFC 9110 §15.2): the final one follows.
            Some(100..=199) => {}
            Some(200..=299) => return Ok(tcp),
            Some(status) => return Err(of_status(status, proxy.login.is_some())),
            None => return Err(Error::Refused(NOT_HTTP)),
        }
    }
}

fn of_status(status: u16, has_login: bool) -> Error {
    match status {
        407 if has_login => Error::Refused(WRONG_LOGIN),
        401 | 407 => Error::Refused(NO_LOGIN),
        403 => Error::Refused(NOT_ALLOWED),
        502 => Error::Unavailable("it cannot reach the host, or does not know its name (502)".into()),
        504 => Error::Unavailable("the host did not answer it (504)".into()),
        // Timeout, too early, too many requests, and errors of the proxy except 501 (not implemented).
        408 | 425 | 429 | 500 | 503 | 505..=599 => Error::Unavailable(format!("it failed to connect ({status})")),
        _ => Error::Refused(UNABLE),
    }
}

/// Reads up to the empty line that ends the head of a reply (RFC 9112 §2.1), and not an octet more: what follows comes
/// from the upstream.
async fn head(tcp: &mut TcpStream) -> Result<Vec<u8>, Error> {
    let mut head = Vec::new();
    let mut peeked = [0; 1024];
    while head.len() < MAX_HEAD {
        let count = tcp.peek(&mut peeked).await?;
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let held = head.len();
        head.extend_from_slice(&peeked[..count]);
        let end = end_of_head(&head);
        head.truncate(end.unwrap_or(head.len()));
        tcp.read_exact(&mut peeked[..head.len() - held]).await?;
        // A server of another protocol may greet with a line and then wait.
        if end.is_some() || !may_be_http(&head) {
            return Ok(head);
        }
    }
    Err(Error::Refused(NOT_HTTP))
}

pub(super) fn may_be_http(head: &[u8]) -> bool {
    let count = head.len().min(b"HTTP/1.".len());
    head[..count] == b"HTTP/1."[..count]
}

/// The position after the empty line that ends the head. A line may also end with LF alone (RFC 9112 §2.2).
pub(super) fn end_of_head(head: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'\n', head).find_map(|at| match &head[at + 1..] {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

/// Parses the status in `HTTP/1.1 200 OK`.
pub(super) fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|&octet| octet == b'\n').next()?;
    // Nothing may stand before `HTTP/1.`: the end of such a head was not waited for.
    let mut words = line
        .strip_prefix(b"HTTP/1.")?
        .trim_ascii_end()
        .split(|&octet| octet == b' ');
    let _minor_version = words.next()?;
    let digits = words.find(|word| !word.is_empty())?;
    if digits.len() != 3 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Connects through a proxy that answers CONNECT with `pieces`, one write each. Returns the octets that follow the
    /// head.
    async fn answered(pieces: &[&[u8]], login: bool) -> Result<Vec<u8>, Error> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = if login {
            "http://joe:s3cret@proxy"
        } else {
            "http://proxy"
        };
        let proxy = Proxy::parse(url).unwrap();
        let serve = async move {
            let (mut tcp, _) = listener.accept().await.unwrap();
            tcp.set_nodelay(true).unwrap();
            let mut request = vec![0; 1024];
            let count = tcp.read(&mut request).await.unwrap();
            for piece in pieces {
                tcp.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            String::from_utf8(request[..count].to_vec()).unwrap()
        };
        let ask = async {
            let tcp = TcpStream::connect(address).await.unwrap();
            let mut tcp = connect(tcp, &proxy, Authority("2001:db8::7", 993)).await?;
            let mut rest = Vec::new();
            tcp.read_to_end(&mut rest).await.unwrap();
            Ok(rest)
        };
        let (request, outcome) = tokio::join!(serve, ask);
        let expected = if login {
            "Proxy-Authorization: Basic am9lOnMzY3JldA==\r\n"
        } else {
            ""
        };
        assert_eq!(
            request,
            format!("CONNECT [2001:db8::7]:993 HTTP/1.1\r\nHost: [2001:db8::7]:993\r\n{expected}\r\n")
        );
        outcome
    }

    #[tokio::test]
    async fn what_follows_the_head_is_the_upstreams() {
        let whole: &[&[&[u8]]] = &[
            &[b"HTTP/1.1 200 Connection established\r\n\r\n* OK \r\n\r\nhello"],
            &[b"HTTP/1.0 200 OK\r\nVia: x\r\n\r\n", b"* OK \r\n\r\nhello"],
            &[b"HT", b"TP/1.1 20", b"0\r", b"\nVia: y\r\n\r", b"\n* OK \r\n\r\nhello"],
            &[b"HTTP/1.1 200 OK\n\n* OK \r\n\r\nhello"],
            &[b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 204 Fine\r\n\r\n* OK \r\n\r\nhello"],
        ];
        for pieces in whole {
            assert_eq!(answered(pieces, true).await.unwrap(), b"* OK \r\n\r\nhello");
        }
        assert_eq!(answered(whole[0], false).await.unwrap(), b"* OK \r\n\r\nhello");
    }

    #[tokio::test]
    async fn a_refusal_lasts_and_a_failure_may_pass() {
        let refusals: &[(&[&[u8]], bool, &str)] = &[
            (&[b"HTTP/1.1 407 Auth\r\n\r\n"], false, NO_LOGIN),
            (&[b"HTTP/1.1 407 Auth\r\n\r\n"], true, WRONG_LOGIN),
            (&[b"HTTP/1.1 403 Forbidden\r\n\r\n<html>"], true, NOT_ALLOWED),
            (&[b"HTTP/1.1 405 Method Not Allowed\r\n\r\n"], false, UNABLE),
            (&[b"HTTP/1.1 400 Bad\r\n\r\n"], false, UNABLE),
            (&[b"HTTP/1.1 302 Found\r\n\r\n"], false, UNABLE),
            (&[b"HTTP/1.1 2000 OK\r\n\r\n"], false, NOT_HTTP),
            (&[b"* OK IMAP ready\r\n"], false, NOT_HTTP),
            (&[b"\x05\xff"], false, NOT_HTTP),
        ];
        for (pieces, login, expected) in refusals {
            match answered(pieces, *login).await {
                Err(Error::Refused(why)) => assert_eq!(why, *expected),
                other => panic!("{expected}: {other:?}"),
            }
        }
        for (pieces, part) in [
            (&[&b"HTTP/1.1 502 Bad Gateway\r\n\r\n"[..]], "(502)"),
            (&[b"HTTP/1.1 504 Timeout\r\n\r\n"], "(504)"),
            (&[b"HTTP/1.1 503 Busy\r\n\r\n"], "(503)"),
            (&[b"HTTP/1.1 429 Slow down\r\n\r\n"], "(429)"),
        ] {
            match answered(pieces, false).await {
                Err(Error::Unavailable(why)) => assert!(why.ends_with(part), "{why}"),
                other => panic!("{part}: {other:?}"),
            }
        }
        for pieces in [&[][..], &[&b"HTTP/1.1 200 OK\r\n"[..]]] {
            match answered(pieces, false).await {
                Err(Error::Unavailable(why)) => assert_eq!(why, CLOSED),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Found by fuzzing: blanks before the status were skipped, and the rest of the head was taken for the upstream's.
    #[test]
    fn a_status_stands_at_the_start() {
        for head in [&b"HTTP/1.1 200 OK\r\n"[..], b"HTTP/1.0  200\n", b"HTTP/1.1 200"] {
            assert_eq!(status(head), Some(200), "{}", head.escape_ascii());
        }
        for head in [
            &b" HTTP/1.1 200 OK\r\n"[..],
            b"\r\x0c\tHTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 +20 OK\r\n",
            b"HTTP/1.1 2000 OK\r\n",
            b"HTTP/1.1\r\n200\r\n",
            b"",
        ] {
            assert_eq!(status(head), None, "{}", head.escape_ascii());
        }
    }

    #[tokio::test]
    async fn a_head_without_end_is_cut() {
        let endless = [&b"HTTP/1.1 200 "[..], &[b'x'; MAX_HEAD]].concat();
        let outcome = answered(&[&endless], false).await;
        assert!(matches!(outcome, Err(Error::Refused(NOT_HTTP))), "{outcome:?}");
    }

    #[test]
    fn socks_errors_are_told_apart() {
        use tokio_socks::Error as Socks;
        for (error, has_login, expected) in [
            (Socks::NoAcceptableAuthMethods, false, NO_LOGIN),
            (Socks::NoAcceptableAuthMethods, true, WRONG_LOGIN),
            (Socks::PasswordAuthFailure(1), true, WRONG_LOGIN),
            (Socks::ConnectionNotAllowedByRuleset, true, NOT_ALLOWED),
            (Socks::InvalidResponseVersion, false, NOT_SOCKS),
            (Socks::CommandNotSupported, false, UNABLE),
        ] {
            match of_socks(error, has_login) {
                Error::Refused(why) => assert_eq!(why, expected),
                other => panic!("{expected}: {other:?}"),
            }
        }
        for error in [
            Socks::HostUnreachable,
            Socks::NetworkUnreachable,
            Socks::ConnectionRefused,
            Socks::TtlExpired,
            Socks::GeneralSocksServerFailure,
        ] {
            assert!(matches!(of_socks(error, true), Error::Unavailable(_)));
        }
    }
}
