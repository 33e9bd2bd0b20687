//! What CAPA announces (RFC 2449 §5). It announces no command that would fail now.

use std::io::Write;

use super::command::DeviceMechanism;
use crate::config::Expire;

/// Whether a mechanism can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offer {
    /// It is refused.
    No,
    /// It is accepted, but not announced. It would fail for most logins, and programs choose the best mechanism that is
    /// announced.
    Unannounced,
    /// It is accepted and announced.
    Yes,
}

/// The capabilities of a connection that are not always the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capabilities {
    /// Whether STLS is announced. It would be accepted in AUTHORIZATION; it is announced in both states (RFC 2449 §5).
    pub(super) stls: bool,
    /// Whether USER and AUTH would be accepted: not without TLS if TLS is required (RFC 2595 §2.3).
    pub(super) login: bool,
    /// APOP and CRAM-MD5.
    pub(super) digests: Offer,
    /// SCRAM-SHA-256.
    pub(super) scram: Offer,
    /// XOAUTH2 and OAUTHBEARER.
    pub(super) tokens: Offer,
    /// How long mail that a device leaves is kept. Before the login, the shortest retention of all logins; after it,
    /// the login's own.
    pub(super) expire: Expire,
    /// Whether some logins keep mail longer than `expire`; `false` after the login.
    pub(super) expire_varies: bool,
}

impl Capabilities {
    pub(super) fn offer(self, mechanism: DeviceMechanism) -> Offer {
        match mechanism {
            DeviceMechanism::Plain | DeviceMechanism::Login => Offer::Yes,
            DeviceMechanism::CramMd5 => self.digests,
            DeviceMechanism::ScramSha256 => self.scram,
            DeviceMechanism::XOAuth2 | DeviceMechanism::OAuthBearer => self.tokens,
        }
    }

    /// Appends the name of each mechanism that is announced, with `before` before it and `after` after it.
    fn write_mechanisms(self, before: &[u8], after: &[u8], out: &mut Vec<u8>) {
        for mechanism in DeviceMechanism::ALL {
            if self.offer(mechanism) == Offer::Yes {
                out.extend_from_slice(before);
                out.extend_from_slice(mechanism.name().as_bytes());
                out.extend_from_slice(after);
            }
        }
    }

    /// Appends what a bare AUTH lists, without the terminating dot.
    pub(super) fn list_mechanisms(self, out: &mut Vec<u8>) {
        self.write_mechanisms(b"", b"\r\n", out);
    }

    /// Appends the lines of CAPA, without the terminating dot.
    pub(super) fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"TOP\r\nUIDL\r\n");
        if self.login {
            out.extend_from_slice(b"USER\r\nSASL");
            self.write_mechanisms(b" ", b"", out);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"RESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\n");
        if self.stls {
            out.extend_from_slice(b"STLS\r\n");
        }
        // RFC 2449 §6.7: before the login, the shortest retention, and `USER` if it depends on the login. Writing to a
        // Vec does not fail.
        let user = if self.expire_varies { " USER" } else { "" };
        let _ = write!(out, "EXPIRE {}{user}\r\n", self.expire);
        // UTF8 (RFC 6856 §2) changes nothing: an upstream that was not asked for UTF-8 (RFC 6855) sends its headers in
        // ASCII, and what it sends is passed on as it is, in either mode. The argument USER is not announced: logins
        // and passwords are octets, and are not normalised.
        out.extend_from_slice(b"UTF8\r\nLANG\r\nIMPLEMENTATION popgate\r\n");
    }
}
