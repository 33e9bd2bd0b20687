//! Recognizes the protocol of a server by the first octets that it sends.

use std::fmt;

/// A protocol that a server may speak although another one was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoken {
    /// IMAP (RFC 3501 §7.1).
    Imap,
    /// POP3 (RFC 1939 §4).
    Pop3,
    /// SMTP (RFC 5321 §4.2) or FTP. Their greetings look alike.
    Smtp,
    /// HTTP (RFC 9112 §4), or an HTML page.
    Http,
    /// SSH (RFC 4253 §4.2).
    Ssh,
    /// An alert or a handshake of TLS (RFC 8446 §5.1) or SSL 3.
    Tls,
    /// No protocol that popgate recognizes.
    Unknown,
}

impl Spoken {
    /// How many octets are enough to recognize a protocol.
    pub const HEAD: usize = 8;

    /// The protocol of a server that begins with these octets: the first [`Spoken::HEAD`], or fewer if no more have
    /// come.
    pub fn of(octets: &[u8]) -> Self {
        let begins = |words: &[&[u8]]| words.iter().any(|word| octets.starts_with(word));
        if begins(&[b"* OK", b"* BYE", b"* PREAUTH"]) {
            Self::Imap
        } else if begins(&[b"+OK", b"-ERR"]) {
            Self::Pop3
        } else if begins(&[b"220 ", b"220-", b"421 ", b"554 "]) {
            Self::Smtp
        } else if begins(&[b"HTTP/", b"<!DOC", b"<html", b"<HTML"]) {
            Self::Http
        } else if begins(&[b"SSH-"]) {
            Self::Ssh
        } else if begins(&[&[0x15, 3], &[0x16, 3]]) {
            Self::Tls
        } else {
            Self::Unknown
        }
    }
}

impl fmt::Display for Spoken {
    /// The server with an article: `a POP3 server`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Imap => "an IMAP server without TLS",
            Self::Pop3 => "a POP3 server",
            Self::Smtp => "an SMTP server",
            Self::Http => "a web server",
            Self::Ssh => "an SSH server",
            Self::Tls => "a server that wants TLS",
            Self::Unknown => "a server of an unknown protocol",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_octets_tell() {
        for (octets, expected) in [
            (&b"* OK [CAPABILITY IMAP4rev1] ready\r\n"[..], Spoken::Imap),
            (b"* BYE too many", Spoken::Imap),
            (b"+OK POP3 ready\r\n", Spoken::Pop3),
            (b"220 mail.example.org ESMTP\r\n", Spoken::Smtp),
            (b"220-mail", Spoken::Smtp),
            (b"HTTP/1.1 400 Bad Request\r\n", Spoken::Http),
            (b"SSH-2.0-OpenSSH_9.9\r\n", Spoken::Ssh),
            (&[0x15, 3, 1, 0, 2, 2, 70], Spoken::Tls),
            (b"hello", Spoken::Unknown),
            (b"", Spoken::Unknown),
        ] {
            assert_eq!(Spoken::of(octets), expected, "{}", octets.escape_ascii());
        }
    }
}
