//! Mailbox names on the wire: modified UTF-7 (RFC 3501 §5.1.3) in a quoted string.

use base64::{
    Engine, alphabet,
    engine::general_purpose::{GeneralPurpose, NO_PAD},
};

/// BASE64 with `,` for `/`.
const MODIFIED: alphabet::Alphabet =
    match alphabet::Alphabet::new("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,") {
        Ok(alphabet) => alphabet,
        Err(_) => panic!("64 different characters"),
    };
const BASE64: GeneralPurpose = GeneralPurpose::new(&MODIFIED, NO_PAD);

/// `name` (UTF-8) as the argument of SELECT: quoted, escaped, ASCII only.
pub fn quoted_mailbox(name: &str) -> String {
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
    use super::quoted_mailbox;

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
        }
    }
}
