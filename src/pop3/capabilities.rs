//! What CAPA says (RFC 2449 §5): the same in both states, and nothing that would fail now.

/// Which of the varying capabilities hold on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capabilities {
    /// STLS would be taken (in AUTHORIZATION; announced in both states, RFC 2449 §5).
    pub(super) stls: bool,
    /// USER and AUTH would be taken: not on plain text where TLS is required (RFC 2595 §2.3).
    pub(super) login: bool,
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
        out.extend_from_slice(b"EXPIRE NEVER\r\nIMPLEMENTATION popgate\r\n");
    }
}
