//! What stands in the place of a message that is larger than the device takes (`max_octets` with `oversize = "notice"`).

use std::{collections::HashMap, fmt::Write};

use super::{Error, listing::Row, source::Source};
use crate::{config, imap::Uid};

/// By source and UID.
pub(super) type Notices = HashMap<(u16, Uid), Vec<u8>>;

/// The fields that a notice repeats.
const FIELDS: &str = "FROM SUBJECT DATE";

/// The notices of those `rows` of `source` that are to have one: one round trip, where there are any.
pub(super) async fn compose(source: &mut Source, rows: &[Row], view: &config::View) -> Result<Notices, Error> {
    let rows = rows.iter().filter(|row| row.is_notice && row.source == source.number);
    let mut octets: Vec<(Uid, u32)> = rows.map(|row| (row.uid, row.octets)).collect();
    if octets.is_empty() {
        return Ok(Notices::new());
    }
    octets.sort_unstable();
    let uids: Vec<Uid> = octets.iter().map(|&(uid, _)| uid).collect();
    let headers: HashMap<Uid, Vec<u8>> = source.headers(&uids, FIELDS).await?.into_iter().collect();
    let max = view.max_octets.unwrap_or(0);
    let notice = |(uid, octets)| {
        let header = headers.get(&uid).map_or(&[][..], Vec::as_slice);
        let id = format!("{}.{uid}", source.view.index.uid_validity);
        let text = text(header, octets, max, &source.name.folder, &id);
        ((source.number, uid), text)
    };
    Ok(octets.into_iter().map(notice).collect())
}

/// A message of its own, with CRLF line ends; `header` holds the large one's [`FIELDS`] as the upstream sent them.
fn text(header: &[u8], octets: u32, max: u64, folder: &str, id: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut subject = Vec::new();
    for field in fields(header) {
        match field.get(..8) {
            Some(name) if name.eq_ignore_ascii_case(b"subject:") => subject = field[8..].to_vec(),
            _ => out.extend_from_slice(field),
        }
    }
    let subject = match subject.trim_ascii() {
        b"" => b"(no subject)",
        subject => subject,
    };
    out.extend_from_slice(b"Subject: [too large] ");
    out.extend_from_slice(subject);
    let mut rest = String::new();
    // Writing to a String does not fail.
    let _ = write!(
        rest,
        "\r\nMessage-ID: <{id}.notice@popgate.invalid>\r\nMIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
         A message of {octets} octets came, and more than {max} are not delivered here.\r\n\
         It stays on the mail server, in the folder \"{folder}\"; there it can be read.\r\n\
         To delete this notice does not delete it.\r\n"
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
    fields.retain(|field| field.ends_with(b"\r\n") && !field.trim_ascii().is_empty());
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_missing_and_where_it_is() {
        let header = b"From: Eva\r\n <eva@example.org>\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\nSUBJECT: long\r\n story\r\n\r\n";
        let notice = String::from_utf8(text(header, 5000, 100, "Scans", "7.3")).unwrap();
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
            notice.contains("\"Scans\"") && notice.contains("<7.3.notice@popgate.invalid>"),
            "{notice}"
        );
        assert!(notice.lines().count() == notice.matches("\r\n").count());
    }

    #[test]
    fn odd_headers_make_a_notice_all_the_same() {
        for header in [&b""[..], b"\r\n", b"no line end", b" folded\r\n", b"Subject:\r\n\r\n"] {
            let notice = String::from_utf8(text(header, 5000, 100, "INBOX", "7.3")).unwrap();
            assert!(notice.contains("Subject: [too large] (no subject)\r\n"), "{notice:?}");
            assert_eq!(notice.matches("\r\n\r\n").count(), 1, "{notice:?}");
        }
    }
}
