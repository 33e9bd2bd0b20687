//! A host and perhaps a port, as URLs write them (RFC 3986 §3.2).

use std::net::Ipv6Addr;

/// Splits `host`, `host:port`, `[address]` or `[address]:port` into the host, without brackets, and the port. An IPv6
/// address needs brackets only before a port. The host is not checked any further. An error says what is wrong, but
/// repeats nothing of `text`.
pub fn host_and_port(text: &str) -> Result<(&str, Option<u16>), &'static str> {
    const WRONG_PORT: &str = "names no valid port";
    let (host, rest) = match (text.strip_prefix('['), text.find(':')) {
        (Some(address), _) => address.split_once(']').ok_or("lacks a closing bracket")?,
        (None, Some(at)) if text.parse::<Ipv6Addr>().is_err() => text.split_at(at),
        (None, _) => (text, ""),
    };
    if rest.is_empty() {
        return Ok((host, None));
    }
    let digits = rest.strip_prefix(':').ok_or("lacks a colon before the port")?;
    let port: u16 = digits.parse().map_err(|_| WRONG_PORT)?;
    if port == 0 {
        return Err(WRONG_PORT);
    }
    Ok((host, Some(port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_and_without_port() {
        for (text, host, port) in [
            ("imap.example.org", "imap.example.org", None),
            ("imap.example.org:993", "imap.example.org", Some(993)),
            ("127.0.0.1:65535", "127.0.0.1", Some(65_535)),
            ("[::1]", "::1", None),
            ("[::1]:1080", "::1", Some(1080)),
            ("fd00::7", "fd00::7", None),
            ("", "", None),
            (":993", "", Some(993)),
        ] {
            assert_eq!(host_and_port(text), Ok((host, port)), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, what) in [
            ("[::1", "lacks a closing bracket"),
            ("[::1]1081", "lacks a colon before the port"),
            ("[::1]x:1081", "lacks a colon before the port"),
            ("[::1]:", "names no valid port"),
            ("a:", "names no valid port"),
            ("a:0", "names no valid port"),
            ("a:65536", "names no valid port"),
            ("a:1:2", "names no valid port"),
        ] {
            assert_eq!(host_and_port(text), Err(what), "{text}");
        }
    }
}
