//! Lines of LIST and UIDL, written straight into an output buffer (RFC 1939 §5, §7: "scan listing").

use crate::types::{MessageNumber, Octets};

/// Appends `value` in decimal digits.
pub(super) fn decimal(value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends lines of LIST until `out` holds `block` octets or more. Returns `false` if no lines are left.
pub(super) fn sizes(
    lines: &mut impl Iterator<Item = (MessageNumber, Octets)>,
    block: usize,
    out: &mut Vec<u8>,
) -> bool {
    while out.len() < block {
        let Some((number, octets)) = lines.next() else {
            return false;
        };
        decimal(number.0.get().into(), out);
        out.push(b' ');
        decimal(octets.0, out);
        out.extend_from_slice(b"\r\n");
    }
    true
}

/// Appends lines of UIDL until `out` holds `block` octets or more; `write_uidl` appends one unique-id. Returns `false`
/// if no lines are left.
pub(super) fn unique_ids<E>(
    numbers: &mut impl Iterator<Item = MessageNumber>,
    write_uidl: impl Fn(MessageNumber, &mut Vec<u8>) -> Result<(), E>,
    block: usize,
    out: &mut Vec<u8>,
) -> bool {
    while out.len() < block {
        let Some(number) = numbers.next() else { return false };
        let line = out.len();
        decimal(number.0.get().into(), out);
        out.push(b' ');
        match write_uidl(number, out) {
            Ok(()) => out.extend_from_slice(b"\r\n"),
            // A message without a unique-id gets no line: half a line would spoil the lines that follow.
            Err(_) => out.truncate(line),
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn number(value: u32) -> MessageNumber {
        MessageNumber(NonZeroU32::new(value).unwrap())
    }

    #[test]
    fn decimals() {
        for value in [0, 1, 9, 10, 4_294_967_295, u64::MAX] {
            let mut out = Vec::new();
            decimal(value, &mut out);
            assert_eq!(out, value.to_string().as_bytes());
        }
    }

    #[test]
    fn sizes_in_blocks() {
        let mut lines = (1..=1000).map(|n| (number(n), Octets(u64::from(n) * 7)));
        let expected: String = (1..=1000u32).map(|n| format!("{n} {}\r\n", n * 7)).collect();
        let (mut all, mut out, mut blocks) = (Vec::new(), Vec::new(), 0);
        while sizes(&mut lines, 100, &mut out) {
            assert!((100..120).contains(&out.len()));
            all.append(&mut out);
            blocks += 1;
        }
        all.append(&mut out);
        assert_eq!(String::from_utf8(all).unwrap(), expected);
        assert!(blocks > 50);
    }

    #[test]
    fn unique_ids_leave_out_what_has_none() {
        let write = |n: MessageNumber, out: &mut Vec<u8>| {
            out.extend_from_slice(b"77.");
            decimal(n.0.get().into(), out);
            if n.0.get() == 2 { Err(()) } else { Ok(()) }
        };
        let mut out = Vec::new();
        assert!(!unique_ids(&mut (1..=3).map(number), write, 1000, &mut out));
        assert_eq!(out, b"1 77.1\r\n3 77.3\r\n");
    }
}
