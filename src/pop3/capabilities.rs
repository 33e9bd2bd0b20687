//! What CAPA says (RFC 2449 §5): nothing that would fail now.

use std::io::Write;

use crate::config::Expire;

/// Which of the varying capabilities hold on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capabilities {
    /// STLS would be taken (in AUTHORIZATION; announced in both states, RFC 2449 §5).
    pub(super) stls: bool,
    /// USER and AUTH would be taken: not on plain text where TLS is required (RFC 2595 §2.3).
    pub(super) login: bool,
    /// How long mail stays that a device leaves.
    pub(super) expire: Expire,
    /// So it is for some, and longer for others: a login tells.
    pub(super) expire_varies: bool,
}

impl Capabilities {
    /// Appends the list, without the terminating dot.
    pub(super) fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"TOP\r\nUIDL\r\n");
        if self.login {
            out.extend_from_slice(b"USER\r\nSASL PLAIN LOGIN\r\n");
        }
        out.extend_from_slice(b"RESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\n");
        if self.stls {
            out.extend_from_slice(b"STLS\r\n");
        }
        // RFC 2449 §6.7: before the login the least, and that it depends on the user. Writing to a Vec does not fail.
        let user = if self.expire_varies { " USER" } else { "" };
        let _ = write!(out, "EXPIRE {}{user}\r\n", self.expire);
        out.extend_from_slice(b"IMPLEMENTATION popgate\r\n");
    }
}
