//! Notices: the mails that take the place of a message that is too large for the device (`max_octets` with `oversize =
//! "notice"`), or that the upstream does not deliver.

use std::{collections::HashMap, fmt::Write, sync::Arc};

use chrono::DateTime;

use crate::{
    state::now,
    types::{Uid, UidValidity},
};

/// The texts of notices, by folder and UID.
pub(super) type NoticeTexts = HashMap<(u16, Uid), Arc<[u8]>>;

/// The header fields that a notice copies from the message.
pub(super) const FIELDS: &str = "FROM TO SUBJECT DATE";

/// The message that a notice replaces.
pub(super) struct Original<'a> {
    folder: &'a str,
    /// The UIDVALIDITY and UID of the message, for the Message-ID.
    id: String,
}

impl<'a> Original<'a> {
    /// The message `uid` of `folder`. `uid_validity` is in the form in which state keeps it.
    pub(super) fn new(folder: &'a str, uid_validity: u64, uid: Uid) -> Self {
        Self {
            folder,
            id: format!("{}.{uid}", UidValidity::of_state_or_zero(uid_validity)),
        }
    }
}

/// The notice for a message of `octets`, which are more than `max`. `header` holds its [`FIELDS`] as the upstream sent
/// them.
pub(super) fn of_oversize(header: &[u8], octets: u32, max: u64, original: &Original<'_>) -> Vec<u8> {
    let folder = original.folder;
    let body = format!(
        "A message of {octets} octets came, and more than {max} are not delivered here.\r\n\
         It stays on the mail server, in the folder \"{folder}\"; there it can be read.\r\n"
    );
    text(header, "too large", &body, original)
}

/// The notice for a message of about `octets` that the upstream does not deliver.
pub(super) fn of_undelivered(header: &[u8], octets: u32, original: &Original<'_>) -> Vec<u8> {
    let folder = original.folder;
    let body = format!(
        "A message of about {octets} octets came, but the mail server does not hand it out.\r\n\
         It stays there, in the folder \"{folder}\": a web mail or IMAP program may show it.\r\n"
    );
    text(header, "not delivered", &body, original)
}

/// A mail with CRLF line ends and the text `body`. The message's subject follows `[what]`.
fn text(header: &[u8], what: &str, body: &str, Original { id, .. }: &Original<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut subject = Vec::new();
    let (mut has_from, mut has_date) = (false, false);
    for field in fields(header) {
        let name = field.split(|&octet| octet == b':').next().unwrap_or_default();
        if name.eq_ignore_ascii_case(b"subject") {
            subject = field[name.len() + 1..].to_vec();
            continue;
        }
        has_from |= name.eq_ignore_ascii_case(b"from");
        has_date |= name.eq_ignore_ascii_case(b"date");
        out.extend_from_slice(field);
    }
    // Every message must have these fields (RFC 5322 §3.6).
    if !has_from {
        out.extend_from_slice(b"From: popgate <notice@popgate.invalid>\r\n");
    }
    if !has_date {
        let date = DateTime::from_timestamp(now().into(), 0).unwrap_or_default();
        out.extend_from_slice(format!("Date: {}\r\n", date.to_rfc2822()).as_bytes());
    }
    let subject = match subject.trim_ascii() {
        b"" => b"(no subject)",
        subject => subject,
    };
    out.extend_from_slice(format!("Subject: [{what}] ").as_bytes());
    out.extend_from_slice(subject);
    let mut rest = String::new();
    // Writing to a String does not fail.
    let _ = write!(
        rest,
        "\r\nMessage-ID: <{id}.notice@popgate.invalid>\r\nMIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
         {body}To delete this notice does not delete it.\r\n"
    );
    out.extend_from_slice(rest.as_bytes());
    out
}

/// The fields of a header, each with its continuation lines (RFC 5322 §2.2.3) and CRLF.
fn fields(header: &[u8]) -> Vec<&[u8]> {
    let mut fields = Vec::new();
    let mut start = 0;
    let mut at = 0;
    for line in header.split_inclusive(|&octet| octet == b'\n') {
        let folded = line.starts_with(b" ") || line.starts_with(b"\t");
        if !folded && at > start {
            fields.push(&header[start..at]);
            start = at;
        }
        at += line.len();
    }
    if at > start {
        fields.push(&header[start..at]);
    }
    let is_field = |field: &&[u8]| {
        let name = field.split(|&octet| octet == b':').next().unwrap_or_default();
        field.ends_with(b"\r\n") && name.len() < field.len() && name.iter().all(u8::is_ascii_graphic)
    };
    fields.retain(is_field);
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn original(folder: &str) -> Original<'_> {
        Original {
            folder,
            id: "7.3".into(),
        }
    }

    #[test]
    fn says_what_is_missing_and_where_it_is() {
        let header = b"From: Eva\r\n <eva@example.org>\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\nSUBJECT: long\r\n story\r\n\r\n";
        let notice = String::from_utf8(of_oversize(header, 5000, 100, &original("Faxes"))).unwrap();
        assert!(
            notice.starts_with(
                "From: Eva\r\n <eva@example.org>\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\nSubject: [too large] long\r\n story\r\n"
            ),
            "{notice}"
        );
        assert!(
            notice.contains("\r\n\r\nA message of 5000 octets came, and more than 100 "),
            "{notice}"
        );
        assert!(
            notice.contains("\"Faxes\"") && notice.contains("<7.3.notice@popgate.invalid>"),
            "{notice}"
        );
        assert!(notice.lines().count() == notice.matches("\r\n").count());
    }

    #[test]
    fn odd_headers_make_a_notice_all_the_same() {
        for header in [&b""[..], b"\r\n", b"no line end", b" folded\r\n", b"Subject:\r\n\r\n"] {
            let notice = String::from_utf8(of_undelivered(header, 5000, &original("INBOX"))).unwrap();
            assert!(
                notice.starts_with("From: popgate <notice@popgate.invalid>\r\nDate: "),
                "{notice:?}"
            );
            assert!(
                notice.contains("\r\nSubject: [not delivered] (no subject)\r\n"),
                "{notice:?}"
            );
            assert!(
                notice.contains(" 5000 octets ") && notice.contains("\"INBOX\""),
                "{notice:?}"
            );
            assert_eq!(notice.matches("\r\n\r\n").count(), 1, "{notice:?}");
        }
    }
}
