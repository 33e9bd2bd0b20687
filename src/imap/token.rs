//! The smallest pieces of a response line: words, numbers, literals (RFC 3501 §9). Unusual spacing and case are
//! accepted.

/// Splits off the first word: what stands before the first space, and what follows the spaces.
pub(super) fn word(line: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr::memchr(b' ', line).unwrap_or(line.len());
    (&line[..end], line[end..].trim_ascii_start())
}

/// A decimal number that fits 32 bits (RFC 3501 §9, `number`) and nothing else.
pub(super) fn number(digits: &[u8]) -> Option<u32> {
    long_number(digits).and_then(|number| u32::try_from(number).ok())
}

/// The same for 64 bits (RFC 7162, `mod-sequence-value`).
pub(super) fn long_number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 20 {
        return None;
    }
    digits.iter().try_fold(0u64, |value, &digit| match digit {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// How many octets the literal has that `line` (without CRLF) announces at its end (RFC 3501 §4.3; `~{n}` of RFC 3516,
/// `{n+}` as some servers write it). Up to 18 digits.
pub(super) fn literal(line: &[u8]) -> Option<u64> {
    let inner = line.strip_suffix(b"}")?;
    let open = memchr::memrchr(b'{', inner)?;
    let digits = &inner[open + 1..];
    let digits = digits.strip_suffix(b"+").unwrap_or(digits);
    if digits.len() > 18 {
        return None;
    }
    long_number(digits)
}

/// The ranges of a set such as `1:3,7`. What is not a range is left out.
pub(super) fn ranges(set: &[u8]) -> impl Iterator<Item = (u32, u32)> + '_ {
    set.trim_ascii().split(|&b| b == b',').filter_map(range)
}

/// Parses `7` or `1:3`, whose numbers may come in any order; `None` if it is neither.
pub(super) fn range(text: &[u8]) -> Option<(u32, u32)> {
    let Some(at) = memchr::memchr(b':', text) else {
        return number(text).map(|uid| (uid, uid));
    };
    let (low, high) = (number(&text[..at])?, number(&text[at + 1..])?);
    Some((low.min(high), low.max(high)))
}

/// Takes an atom, a quoted string or a literal (whose octets follow the line end) from the start of `rest`, and the
/// spaces after it.
pub(super) fn string(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let (value, after) = match rest.first()? {
        b'"' => {
            let mut value = Vec::new();
            let mut at = 1;
            loop {
                match rest.get(at)? {
                    b'"' => break (value, &rest[at + 1..]),
                    b'\\' => {
                        value.push(*rest.get(at + 1)?);
                        at += 2;
                    }
                    &octet => {
                        value.push(octet);
                        at += 1;
                    }
                }
            }
        }
        b'{' => {
            let end = memchr::memchr(b'\n', rest)?;
            let octets = usize::try_from(literal(rest[..end].trim_ascii_end())?).ok()?;
            let from = end + 1;
            let value = rest.get(from..from.checked_add(octets)?)?.to_vec();
            (value, &rest[from + octets..])
        }
        _ => {
            let end = rest.iter().position(|b| b" ()".contains(b)).unwrap_or(rest.len());
            (rest[..end].to_vec(), &rest[end..])
        }
    };
    *rest = after.trim_ascii_start();
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_nothing_else() {
        assert_eq!(number(b"4294967295"), Some(u32::MAX));
        for text in [&b""[..], b"4294967296", b"-1", b"+1", b" 1", b"1x", b"9.3e+06"] {
            assert_eq!(number(text), None, "{}", text.escape_ascii());
        }
        assert_eq!(long_number(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(long_number(b"18446744073709551616"), None);
    }

    #[test]
    fn literals_stand_at_the_end_only() {
        assert_eq!(literal(b"* 1 FETCH (BODY[] {12}"), Some(12));
        assert_eq!(literal(b"* 1 FETCH (BODY[]{12+}"), Some(12));
        assert_eq!(literal(b"* 1 FETCH (BINARY[] ~{0}"), Some(0));
        for line in [&b"{5} x"[..], b"{}", b"{-1}", b"{+}", b"{9999999999999999999}", b"5}"] {
            assert_eq!(literal(line), None, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn sets_in_all_shapes() {
        let all: Vec<_> = ranges(b" 1:3,7,9:8,x,4:,:4,0 ").collect();
        assert_eq!(all, [(1, 3), (7, 7), (8, 9), (0, 0)]);
    }

    #[test]
    fn strings_in_all_shapes() {
        let mut rest = &b"atom  \"a \\\"b\\\"\" {3}\r\na b NIL"[..];
        for expected in [&b"atom"[..], b"a \"b\"", b"a b", b"NIL"] {
            assert_eq!(string(&mut rest).as_deref(), Some(expected));
        }
        assert!(rest.is_empty());
        for mut open in [&b""[..], b"\"x", b"\"x\\", b"{9}\r\nshort", b"{18446744073709551}\r\nx"] {
            assert_eq!(string(&mut open), None);
        }
    }
}
