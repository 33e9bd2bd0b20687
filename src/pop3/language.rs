//! LANG (RFC 6856 §3): the language of the text in replies. English is the only one.

/// What LANG without an argument lists: a tag, and the name of the language in that language.
pub(super) const LANGUAGES: &[u8] = b"en English\r\n";

/// The language tag for a language range, by lookup (RFC 4647 §3.4); `None` if the range does not include English.
pub(super) fn language(range: &[u8]) -> Option<&'static str> {
    let primary = range.split(|&octet| octet == b'-').next().unwrap_or_default();
    if range.eq_ignore_ascii_case(b"i-default") {
        // RFC 6856 §3.2: every server knows it. RFC 2277 §4.5: a reader of English must understand it.
        Some("i-default")
    } else if range == b"*" || primary.eq_ignore_ascii_case(b"en") {
        Some("en")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookup() {
        for (range, expected) in [
            (&b"en"[..], Some("en")),
            (b"EN", Some("en")),
            (b"en-GB-oed", Some("en")),
            (b"*", Some("en")),
            (b"i-default", Some("i-default")),
            (b"I-Default", Some("i-default")),
            (b"de", None),
            (b"eng", None),
            (b"i", None),
            (b"\xff", None),
        ] {
            assert_eq!(language(range), expected, "{}", range.escape_ascii());
        }
    }
}
