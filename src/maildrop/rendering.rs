//! Renders the UIDL of a message in the configured format, which may be that of another server.

use crate::{
    config::{UidlFormat, UidlNumber, UidlPiece, UidlSource, is_uidl},
    types::UidValidity,
};

/// Appends the UIDL of a message: 1 to 70 octets of 0x21 to 0x7E.
///
/// Two messages of one folder get different UIDLs under one UIDVALIDITY, except by [`UidlFormat::EmailId`]: copies of a
/// message may share an EMAILID (RFC 8474 §3).
pub(super) fn write(
    format: &UidlFormat,
    uid_validity: UidValidity,
    uid: u32,
    email_id: Option<&str>,
    out: &mut Vec<u8>,
) {
    match format {
        UidlFormat::ValidityUid | UidlFormat::Cyrus => {
            decimal(uid_validity.number(), 0, out);
            out.push(b'.');
            decimal(uid.into(), 0, out);
        }
        UidlFormat::EmailId => match email_id.filter(|id| is_uidl(id)) {
            Some(id) => out.extend_from_slice(id.as_bytes()),
            None => write(&UidlFormat::ValidityUid, uid_validity, uid, None, out),
        },
        UidlFormat::Dovecot => {
            hexadecimal(uid.into(), 8, out);
            hexadecimal(folded(uid_validity), 8, out);
        }
        UidlFormat::Courier => {
            out.extend_from_slice(b"UID");
            decimal(uid.into(), 0, out);
            out.push(b'-');
            decimal(folded(uid_validity), 0, out);
        }
        UidlFormat::Uid => decimal(uid.into(), 0, out),
        UidlFormat::Template(template) => {
            for piece in template.pieces() {
                match piece {
                    UidlPiece::Text(text) => out.extend_from_slice(text.as_bytes()),
                    UidlPiece::Number(number) => write_number(*number, uid_validity, uid, out),
                }
            }
        }
    }
}

fn write_number(number: UidlNumber, uid_validity: UidValidity, uid: u32, out: &mut Vec<u8>) {
    let value = match number.source {
        UidlSource::Uid => uid.into(),
        UidlSource::Validity => folded(uid_validity),
    };
    if number.hex {
        hexadecimal(value, number.width, out)
    } else {
        decimal(value, number.width, out)
    }
}

/// UIDVALIDITY for formats that have room for 32 bits (RFC 3501 §2.3.1.1): folds a longer one from a server that breaks
/// this rule.
fn folded(uid_validity: UidValidity) -> u64 {
    let number = uid_validity.number();
    number >> 32 ^ number & u64::from(u32::MAX)
}

fn decimal(value: u64, width: usize, out: &mut Vec<u8>) {
    padded(itoa::Buffer::new().format(value).as_bytes(), width, out);
}

/// In lower case, as Dovecot writes it.
fn hexadecimal(mut value: u64, width: usize, out: &mut Vec<u8>) {
    let mut digits = [0; 16]; // u64::MAX has 16
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b"0123456789abcdef"[(value & 0xf) as usize];
        value >>= 4;
        if value == 0 {
            break;
        }
    }
    padded(&digits[start..], width, out);
}

/// Appends `digits`. If there are fewer than `width`, appends the missing zeros first.
fn padded(digits: &[u8], width: usize, out: &mut Vec<u8>) {
    let missing = width.saturating_sub(digits.len());
    out.resize(out.len() + missing, b'0');
    out.extend_from_slice(digits);
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::config::UidlTemplate;

    fn written(format: &UidlFormat, uid_validity: u64, uid: u32, email_id: Option<&str>) -> String {
        let mut out = b"before ".to_vec();
        write(format, UidValidity::of_server(uid_validity), uid, email_id, &mut out);
        String::from_utf8(out)
            .unwrap()
            .strip_prefix("before ")
            .unwrap()
            .to_owned()
    }

    fn template(text: &str) -> UidlFormat {
        UidlFormat::Template(UidlTemplate::of(text).unwrap())
    }

    #[test]
    fn formats_of_other_servers() {
        use UidlFormat::*;
        for (format, expected) in [
            (ValidityUid, "1700000000.42"),
            (Cyrus, "1700000000.42"),
            (Dovecot, "0000002a6553f100"),
            (Courier, "UID42-1700000000"),
            (Uid, "42"),
            (EmailId, "1700000000.42"),
        ] {
            assert_eq!(written(&format, 1_700_000_000, 42, None), expected, "{format}");
        }
    }

    /// Formats of other servers have room for the 32 bits of RFC 3501 §2.3.1.1.
    #[test]
    fn a_uid_validity_of_other_than_32_bits() {
        for (uid_validity, own, dovecot) in [
            (0, "0.42", "0000002a00000000"),
            (u64::from(u32::MAX) + 1, "4294967296.42", "0000002a00000001"),
            (u64::MAX >> 1, "9223372036854775807.42", "0000002a80000000"),
        ] {
            assert_eq!(written(&UidlFormat::ValidityUid, uid_validity, 42, None), own);
            assert_eq!(written(&UidlFormat::Dovecot, uid_validity, 42, None), dovecot);
        }
    }

    #[test]
    fn an_email_id_that_is_no_uidl_is_not_used() {
        let id = |id: &str| written(&UidlFormat::EmailId, 7, 9, Some(id));
        assert_eq!(id("M6d99ac3275bb4e"), "M6d99ac3275bb4e");
        assert_eq!(id(&"x".repeat(70)), "x".repeat(70));
        // RFC 8474 §4.3 allows 255 octets.
        assert_eq!(id(&"x".repeat(71)), "7.9");
        assert_eq!((id(""), id("a b")), ("7.9".into(), "7.9".into()));
    }

    #[test]
    fn templates_give_what_dovecot_gives() {
        for (text, expected) in [
            ("%08Xu%08Xv", "0000002a6553f100"),
            ("%{uid | hex(8)}%{uidvalidity | hex(8)}", "0000002a6553f100"),
            ("%v.%u", "1700000000.42"),
            ("%{uidvalidity}.%{uid}", "1700000000.42"),
            ("%u", "42"),
            ("UID%u-%v", "UID42-1700000000"),
            ("%Xu-%{ uid|hex }", "2a-2a"),
            ("%012u", "000000000042"),
            ("%010Xu", "000000002a"),
            ("%8Xu%10v", "2a1700000000"),
            ("%%%u%%", "%42%"),
        ] {
            assert_eq!(written(&template(text), 1_700_000_000, 42, None), expected, "{text}");
        }
    }

    /// Any valid template of a few pieces.
    fn templates() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("%u".to_owned()),
            Just("%v".to_owned()),
            Just("%Xu".to_owned()),
            Just("%08Xv".to_owned()),
            Just("%%".to_owned()),
            (0usize..30).prop_map(|width| format!("%0{width}u")),
            "[!-$&-~]{0,3}",
        ];
        proptest::collection::vec(piece, 1..6)
            .prop_map(|pieces| pieces.concat())
            .prop_filter("right", |text| UidlTemplate::of(text).is_some())
    }

    proptest! {
        #[test]
        fn every_template_gives_uidls(text in templates(), uid_validity in any::<u64>(), uid in any::<u32>()) {
            let format = template(&text);
            let uidl = written(&format, uid_validity, uid, None);
            prop_assert!(is_uidl(&uidl), "{uidl:?}");
            let again = template(&format.to_string());
            prop_assert_eq!(&again, &format, "printed as {}", format);
        }

        #[test]
        fn what_distinguishes_validity_is_never_given_twice(
            text in templates(),
            numbers in proptest::collection::hash_set((0u64..40, 0u32..40), 50),
        ) {
            let format = template(&text);
            let mut given = HashMap::new();
            for (uid_validity, uid) in numbers {
                let uidl = written(&format, uid_validity, uid, None);
                if let Some((validity_before, uid_before)) = given.insert(uidl, (uid_validity, uid)) {
                    prop_assert!(!format.distinguishes_validity(), "{}", text);
                    prop_assert!(uid_before != uid || validity_before != uid_validity);
                }
            }
        }
    }
}
