//! What is known of some hosts, and can't be seen from what they say of themselves.

/// Of one host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Quirks {
    /// It offers QRESYNC, and what it then tells of messages that vanished is wrong.
    pub(super) broken_qresync: bool,
}

impl Quirks {
    /// `host` as configured.
    pub(super) fn of(host: &str) -> Self {
        let host = host.to_ascii_lowercase();
        Self {
            broken_qresync: host == "imap.mail.me.com" || host.ends_with(".imap.mail.me.com"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_by_name() {
        for (host, broken_qresync) in [
            ("imap.mail.me.com", true),
            ("IMAP.mail.me.com", true),
            ("p01.imap.mail.me.com", true),
            ("imap.mail.me.com.example.org", false),
            ("imap.example.org", false),
        ] {
            assert_eq!(Quirks::of(host), Quirks { broken_qresync }, "{host}");
        }
    }
}
