//! Mailbox names on the wire: modified UTF-7 (RFC 3501 §5.1.3) in a quoted string, or UTF-8 if a server accepts nothing
//! else.

use base64::{
    Engine, alphabet,
    engine::general_purpose::{GeneralPurpose, NO_PAD},
};

/// How mailbox names are written on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NameEncoding {
    /// The encoding that every IMAP4rev1 server understands.
    ModifiedUtf7,
    /// UTF-8: after ENABLE UTF8=ACCEPT (RFC 6855 §3), or if the server speaks only IMAP4rev2 (RFC 9051).
    Utf8,
}

impl NameEncoding {
    /// `name` (UTF-8) as the argument of a command.
    pub(super) fn quoted(self, name: &str) -> String {
        match self {
            // A control character must not get into a command, so such a name is encoded; no real folder has one.
            Self::Utf8 if !name.contains(char::is_control) => {
                format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
            }
            Self::Utf8 | Self::ModifiedUtf7 => quoted_mailbox(name),
        }
    }

    /// Decodes a name that a server has sent. A name that is not valid is returned as it is, with U+FFFD for octets
    /// that are not UTF-8.
    pub(super) fn decoded(self, name: &[u8]) -> String {
        match self {
            Self::ModifiedUtf7 => decoded(name),
            Self::Utf8 => String::from_utf8_lossy(name).into_owned(),
        }
    }
}

/// BASE64 with `,` for `/`.
const MODIFIED: alphabet::Alphabet =
    match alphabet::Alphabet::new("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,") {
        Ok(alphabet) => alphabet,
        Err(_) => panic!("64 different characters"),
    };
const BASE64: GeneralPurpose = GeneralPurpose::new(&MODIFIED, NO_PAD);

/// `name` in modified UTF-7: a quoted string of ASCII characters.
fn quoted_mailbox(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 2);
    let mut shifted: Vec<u8> = Vec::new();
    out.push('"');
    for c in name.chars() {
        if (' '..='~').contains(&c) {
            unshift(&mut shifted, &mut out);
            match c {
                '&' => out.push_str("&-"),
                '"' | '\\' => out.extend(['\\', c]),
                _ => out.push(c),
            }
        } else {
            shifted.extend(c.encode_utf16(&mut [0; 2]).iter().flat_map(|unit| unit.to_be_bytes()));
        }
    }
    unshift(&mut shifted, &mut out);
    out.push('"');
    out
}

/// Decodes modified UTF-7. A name that is not valid in it is returned as it is.
fn decoded(name: &[u8]) -> String {
    let plain = String::from_utf8_lossy(name);
    let mut out = String::with_capacity(plain.len());
    let mut rest = &*plain;
    while let Some((before, shifted)) = rest.split_once('&') {
        let Some((encoded, after)) = shifted.split_once('-') else {
            return plain.into_owned();
        };
        out.push_str(before);
        match encoded {
            "" => out.push('&'),
            _ => match utf16(encoded) {
                Some(text) => out.push_str(&text),
                None => return plain.into_owned(),
            },
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

fn utf16(encoded: &str) -> Option<String> {
    let octets = BASE64.decode(encoded).ok()?;
    let units: Vec<u16> = octets
        .chunks_exact(2)
        .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
        .collect();
    (octets.len() % 2 == 0).then(|| String::from_utf16(&units).ok())?
}

/// Appends `shifted` (UTF-16, big-endian) to `out` as `&…-`, and empties it.
fn unshift(shifted: &mut Vec<u8>, out: &mut String) {
    if !shifted.is_empty() {
        out.push('&');
        BASE64.encode_string(&shifted, out);
        out.push('-');
        shifted.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::{NameEncoding, decoded, quoted_mailbox};

    #[test]
    fn names_as_the_rfc_writes_them() {
        for (name, wire) in [
            ("INBOX", "\"INBOX\""),
            ("~peter/mail/台北/日本語", "\"~peter/mail/&U,BTFw-/&ZeVnLIqe-\""),
            ("Entwürfe", "\"Entw&APw-rfe\""),
            ("A & B", "\"A &- B\""),
            ("a\"b\\c", "\"a\\\"b\\\\c\""),
            ("😀", "\"&2D3eAA-\""),
        ] {
            assert_eq!(quoted_mailbox(name), wire);
            let unquoted = wire[1..wire.len() - 1].replace("\\\"", "\"").replace("\\\\", "\\");
            assert_eq!(decoded(unquoted.as_bytes()), name);
        }
    }

    #[test]
    fn what_is_no_modified_utf7_is_taken_as_it_is() {
        for name in ["A & B", "&QQ-", "&", "Größe", "&2D0-"] {
            assert_eq!(decoded(name.as_bytes()), name);
        }
    }

    #[test]
    fn names_in_utf8() {
        for (name, wire) in [
            ("INBOX", "\"INBOX\""),
            ("Entwürfe & mehr", "\"Entwürfe & mehr\""),
            ("a\"b\\c", "\"a\\\"b\\\\c\""),
        ] {
            assert_eq!(NameEncoding::Utf8.quoted(name), wire);
        }
        assert_eq!(
            NameEncoding::Utf8.decoded("Gelöscht &- weg".as_bytes()),
            "Gelöscht &- weg"
        );
        for name in ["a\r\nb", "a\0b", "a\u{85}b"] {
            let quoted = NameEncoding::Utf8.quoted(name);
            assert!(!quoted.contains(char::is_control), "{quoted:?}");
        }
    }
}
