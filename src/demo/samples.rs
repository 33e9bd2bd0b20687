//! The sample mail. Each message has a feature that a mail gateway can get wrong.
//!
//! The lines of `samples/*.eml` end with LF. Here all files except one get CRLF, as in mail. Long texts are generated.

use std::fmt::Write as _;

use bytes::Bytes;

/// A message, and when it was received.
#[derive(Debug)]
pub(super) struct Sample {
    /// INTERNALDATE: the time in the message's Date field.
    pub received: &'static str,
    /// The message as the server keeps it.
    pub octets: Bytes,
}

/// The length of the only long line, in octets without CRLF.
const LONG_LINE: usize = 100_000;
/// The large message has at least this many octets.
const LARGE: usize = 5 * 1024 * 1024;

/// All samples in the order in which they were received.
pub(super) fn all() -> Vec<Sample> {
    let sample = |received, octets: Vec<u8>| Sample {
        received,
        octets: octets.into(),
    };
    vec![
        sample(
            "01-Sep-2025 08:00:00 +0200",
            crlf(include_bytes!("samples/welcome.eml")),
        ),
        sample(
            "02-Sep-2025 09:15:00 +0200",
            crlf(include_bytes!("samples/umlauts.eml")),
        ),
        sample("03-Sep-2025 10:30:00 +0200", crlf(include_bytes!("samples/quoted.eml"))),
        sample(
            "04-Sep-2025 11:45:00 +0200",
            crlf(include_bytes!("samples/attachment.eml")),
        ),
        sample("05-Sep-2025 06:00:00 +0200", crlf(include_bytes!("samples/html.eml"))),
        sample("06-Sep-2025 12:00:00 +0200", crlf(include_bytes!("samples/dots.eml"))),
        sample(
            "07-Sep-2025 23:59:59 +0200",
            unfinished(include_bytes!("samples/unfinished.eml")),
        ),
        sample("08-Sep-2025 13:00:00 +0200", crlf(include_bytes!("samples/empty.eml"))),
        sample(
            "09-Sep-2025 14:20:00 +0200",
            long_line(include_str!("samples/long-line.eml")),
        ),
        sample(
            "10-Sep-2025 15:40:00 +0200",
            include_bytes!("samples/bare-lf.eml").to_vec(),
        ),
        sample("11-Sep-2025 16:05:00 +0200", crlf(include_bytes!("samples/latin1.eml"))),
        sample("12-Sep-2025 17:10:42 +0200", crlf(include_bytes!("samples/scan.eml"))),
        sample(
            "13-Sep-2025 18:30:00 +0200",
            large(include_str!("samples/five-megabytes.eml")),
        ),
    ]
}

fn crlf(text: &[u8]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(text.len() + text.len() / 16);
    for line in text.split_inclusive(|&octet| octet == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(line) => {
                octets.extend_from_slice(line);
                octets.extend_from_slice(b"\r\n");
            }
            None => octets.extend_from_slice(line),
        }
    }
    octets
}

/// Removes the last line end: this message must not have one, but editors add one to the file.
fn unfinished(text: &[u8]) -> Vec<u8> {
    crlf(text.strip_suffix(b"\n").unwrap_or(text))
}

/// Replaces `{line}` with one line of [`LONG_LINE`] octets.
fn long_line(text: &str) -> Vec<u8> {
    let mut beads = String::with_capacity(LONG_LINE + 16);
    for bead in 1.. {
        let _ = write!(beads, "o-{bead}-");
        if beads.len() >= LONG_LINE {
            break;
        }
    }
    beads.truncate(LONG_LINE);
    crlf(text.replace("{line}", &beads).as_bytes())
}

/// Appends numbered lines until the message has [`LARGE`] octets or more.
fn large(text: &str) -> Vec<u8> {
    let mut octets = crlf(text.as_bytes());
    octets.reserve(LARGE);
    for number in 1.. {
        octets.extend_from_slice(
            format!("{number:06}: one brick of many, all alike but for the number in front\r\n").as_bytes(),
        );
        if octets.len() >= LARGE {
            break;
        }
    }
    octets
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use base64::{Engine, prelude::BASE64_STANDARD};
    use memchr::memmem::find;

    use super::*;

    /// The sample with that Message-ID.
    fn octets(id: &str) -> Bytes {
        let header = format!("Message-ID: <{id}@popgate.example>\r\n");
        let bare = header.replace('\r', "");
        let mut found = all().into_iter().filter(|s| {
            [&header, &bare]
                .iter()
                .any(|id| find(&s.octets, id.as_bytes()).is_some())
        });
        let sample = found.next().unwrap();
        assert!(found.next().is_none(), "{id}");
        sample.octets
    }

    fn text(octets: &[u8]) -> &[u8] {
        &octets[find(octets, b"\r\n\r\n").unwrap() + 4..]
    }

    fn field<'a>(octets: &'a [u8], name: &str) -> &'a str {
        let header = &octets[..find(octets, b"\n\n").or(find(octets, b"\r\n\r\n")).unwrap()];
        let mut values = std::str::from_utf8(header)
            .unwrap()
            .lines()
            .filter_map(|line| line.strip_prefix(name));
        let value = values.next().unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(values.next(), None, "{name} twice");
        value
    }

    /// The base64 parts of a multipart, decoded.
    fn attachments(octets: &[u8]) -> Vec<Vec<u8>> {
        let text = std::str::from_utf8(octets).unwrap();
        let parts = text
            .split("\r\n--")
            .filter(|part| part.contains("Transfer-Encoding: base64\r\n"));
        parts
            .map(|part| {
                let (_, encoded) = part.split_once("\r\n\r\n").unwrap();
                BASE64_STANDARD.decode(encoded.replace("\r\n", "")).unwrap()
            })
            .collect()
    }

    #[test]
    fn headers_are_plain_ascii_with_all_that_mail_needs() {
        let mut ids = HashSet::new();
        for sample in all() {
            for name in ["From: ", "To: ", "Subject: ", "Date: "] {
                assert!(field(&sample.octets, name).is_ascii());
            }
            let id = field(&sample.octets, "Message-ID: ").to_owned();
            assert!(id.starts_with('<') && id.ends_with("@popgate.example>"));
            assert!(ids.insert(id));
        }
        assert!(ids.len() >= 12);
    }

    #[test]
    fn dates_are_the_moment_of_receipt_and_their_weekdays_right() {
        let mut before = String::new();
        for Sample { received, octets } in all() {
            let date = field(&octets, "Date: ");
            let (weekday, date) = date.split_once(", ").unwrap();
            assert_eq!(date.replacen(' ', "-", 2), received);
            // All dates are in September 2025, which began on a Monday.
            let day: usize = received.strip_suffix(&received[2..]).unwrap().parse().unwrap();
            assert_eq!(&received[2..12], "-Sep-2025 ");
            assert_eq!(
                weekday,
                ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"][day % 7],
                "{received}"
            );
            assert!(before.as_str() < received);
            before = received.to_owned();
        }
    }

    #[test]
    fn the_welcome_names_as_many_as_there_are() {
        let welcome = octets("welcome");
        let named = std::str::from_utf8(&welcome)
            .unwrap()
            .lines()
            .filter(|line| line.trim_start().starts_with(|c: char| c.is_ascii_digit()));
        assert_eq!(named.count(), all().len());
    }

    #[test]
    fn line_ends_are_crlf_but_in_one() {
        for sample in all() {
            let bare = memchr::memchr_iter(b'\n', &sample.octets).any(|at| at == 0 || sample.octets[at - 1] != b'\r');
            let id = field(&sample.octets, "Message-ID: ");
            assert_eq!(bare, id == "<bare-lf@popgate.example>", "{id}");
            let unfinished = !sample.octets.ends_with(b"\n");
            assert_eq!(unfinished, id == "<unfinished@popgate.example>", "{id}");
        }
        assert!(memchr::memchr(b'\r', &octets("bare-lf")).is_none());
    }

    #[test]
    fn one_is_large_and_the_same_at_every_start() {
        let large: Vec<_> = all().into_iter().filter(|s| s.octets.len() > 5_000_000).collect();
        assert_eq!(large.len(), 1);
        assert_eq!(large[0].octets, octets("five-megabytes"));
        assert!(all().iter().filter(|s| s.octets.len() > 200_000).count() == 1);
    }

    #[test]
    fn lines_begin_with_dots() {
        let dots = octets("dots");
        for line in [".\r\n", "..\r\n", "..two\r\n", ".this", "...three\r\n"] {
            assert!(find(&dots, format!("\r\n{line}").as_bytes()).is_some(), "{line:?}");
        }
    }

    #[test]
    fn the_empty_one_is_empty_and_the_long_line_long() {
        assert_eq!(text(&octets("empty")), b"");
        let long = octets("long-line");
        let longest = text(&long).split(|&octet| octet == b'\n').map(<[u8]>::len).max();
        assert_eq!(longest, Some(LONG_LINE + 1));
    }

    #[test]
    fn texts_are_in_the_charset_they_say() {
        let umlauts = octets("umlauts");
        assert!(std::str::from_utf8(text(&umlauts)).unwrap().contains("Äpfel"));
        assert!(field(&umlauts, "Subject: ").starts_with("=?UTF-8?B?"));
        let quoted = octets("quoted");
        assert!(text(&quoted).is_ascii() && find(&quoted, b"=C3=A9").is_some() && find(&quoted, b"=\r\n").is_some());
        let latin1 = octets("latin1");
        assert!(std::str::from_utf8(text(&latin1)).is_err());
        assert!(find(text(&latin1), b"R\xf8dgr\xf8d").is_some());
    }

    #[test]
    fn attachments_are_whole() {
        let [png, csv] = &attachments(&octets("attachment"))[..] else {
            panic!("two are attached");
        };
        assert!(png.starts_with(b"\x89PNG\r\n\x1a\n") && png.ends_with(b"IEND\xaeB`\x82"));
        assert!(csv.starts_with(b"tree;baskets;taste\r\n"));
        let [pdf] = &attachments(&octets("scan"))[..] else {
            panic!("one is attached");
        };
        assert!(pdf.starts_with(b"%PDF-1.4\n") && pdf.ends_with(b"%%EOF\n"));
        let html = octets("html");
        assert!(find(&html, b"multipart/alternative").is_some() && find(&html, b"text/html").is_some());
    }
}
