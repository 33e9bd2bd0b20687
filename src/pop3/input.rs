//! A buffer for what a device has sent: octets go in, lines come out.

use std::ops::Range;

use zeroize::{Zeroize, Zeroizing};

/// How many octets a new buffer has room for. Most commands are shorter.
pub(super) const SMALL: usize = 512;

/// A buffer that grows on demand, hands out lines, and wipes what was consumed, because it may be a password.
#[derive(Debug, Default)]
pub(super) struct Input {
    buffer: Zeroizing<Vec<u8>>,
    /// The octets of `buffer` that are held. All others are free, and zero.
    held: Range<usize>,
    /// How many octets at the start of `held` contain no LF.
    scanned: usize,
}

/// A line longer than its cap.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Input {
    /// How many octets have come and are not consumed yet.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether there is no buffer. [`Self::put`] then makes one.
    pub(super) fn is_released(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Appends what was read elsewhere, [`SMALL`] octets at most, while there is no buffer.
    pub(super) fn put(&mut self, octets: &[u8]) {
        if !octets.is_empty() {
            self.space(SMALL)[..octets.len()].copy_from_slice(octets);
            self.filled(octets.len());
        }
    }

    /// Room to read into, never empty unless `limit` octets are held already.
    pub(super) fn space(&mut self, limit: usize) -> &mut [u8] {
        if self.held.end == self.buffer.len() {
            if self.held.start > 0 {
                let len = self.held.len();
                self.buffer.copy_within(self.held.clone(), 0);
                self.buffer[len..self.held.end].zeroize();
                self.held = 0..len;
            } else if self.buffer.len() < limit {
                // A Vec that grows would leave its old octets in freed memory; Zeroizing wipes them.
                let mut grown = Zeroizing::new(vec![0; (self.buffer.len() * 2).clamp(SMALL, limit.max(SMALL))]);
                grown[self.held.clone()].copy_from_slice(&self.buffer[self.held.clone()]);
                self.buffer = grown;
            }
        }
        &mut self.buffer[self.held.end..]
    }

    /// Notes that this many octets of [`Self::space`] were filled.
    pub(super) fn filled(&mut self, octets: usize) {
        self.held.end += octets;
    }

    /// Takes the next whole line, hands it without its line end (CRLF or LF) to `parse`, and wipes it. `None`: there is
    /// no whole line yet. `cap` is given the start of a line, and says how many octets that line may have.
    pub(super) fn line<T>(
        &mut self,
        cap: impl FnOnce(&[u8]) -> usize,
        parse: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>, TooLong> {
        let held = &mut self.buffer[self.held.clone()];
        let Some(end) = memchr::memchr(b'\n', &held[self.scanned..]).map(|lf| self.scanned + lf) else {
            self.scanned = held.len();
            // One octet more: a CR that may belong to the line end.
            return if held.len() > cap(held) + 1 {
                Err(TooLong)
            } else {
                Ok(None)
            };
        };
        let line = &held[..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > cap(line) {
            return Err(TooLong);
        }
        let parsed = parse(line);
        held[..=end].zeroize();
        self.held.start += end + 1;
        self.scanned = 0;
        if self.held.is_empty() {
            self.held = 0..0;
        }
        Ok(Some(parsed))
    }

    /// Frees the buffer if nothing is held.
    pub(super) fn release(&mut self) {
        if self.held.is_empty() {
            *self = Self::default();
        }
    }

    /// Drops all octets, wipes them, and frees the buffer.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn put(input: &mut Input, octets: &[u8]) {
        let mut rest = octets;
        while !rest.is_empty() {
            let space = input.space(1 << 16);
            assert!(!space.is_empty());
            let n = space.len().min(rest.len());
            space[..n].copy_from_slice(&rest[..n]);
            input.filled(n);
            rest = &rest[n..];
        }
    }

    fn take(input: &mut Input, cap: usize) -> Result<Option<Vec<u8>>, TooLong> {
        input.line(|_| cap, <[u8]>::to_vec)
    }

    #[test]
    fn lines_end_in_crlf_or_lf() {
        let mut input = Input::default();
        put(&mut input, b"a\r\nb\n\n\r\r\nrest");
        for expected in [&b"a"[..], b"b", b"", b"\r"] {
            assert_eq!(take(&mut input, 9).unwrap().unwrap(), expected);
        }
        assert_eq!(take(&mut input, 9), Ok(None));
        assert_eq!(input.len(), 4);
    }

    #[test]
    fn caps_do_not_count_the_line_end() {
        for end in ["\n", "\r\n"] {
            let mut input = Input::default();
            put(&mut input, format!("12345{end}").as_bytes());
            assert!(take(&mut input, 5).unwrap().is_some());
            put(&mut input, format!("123456{end}").as_bytes());
            assert_eq!(take(&mut input, 5), Err(TooLong));
        }
        let mut input = Input::default();
        put(&mut input, b"12345\r");
        assert_eq!(take(&mut input, 5), Ok(None));
        put(&mut input, b"\n");
        assert!(take(&mut input, 5).unwrap().is_some());
        put(&mut input, b"1234567");
        assert_eq!(take(&mut input, 5), Err(TooLong));
    }

    #[test]
    fn consumed_lines_are_wiped() {
        let mut input = Input::default();
        put(&mut input, b"PASS hunter2\r\nSTAT");
        take(&mut input, 99).unwrap().unwrap();
        assert!(!input.buffer.windows(7).any(|octets| octets == b"hunter2"));
        put(&mut input, &[b'x'; 600]); // moved, then grown
        assert_eq!(input.len(), 604);
    }

    #[test]
    fn full_at_the_limit() {
        let mut input = Input::default();
        put(&mut input, &vec![b'\n'; 1 << 16]);
        assert!(input.space(1 << 16).is_empty());
        take(&mut input, 9).unwrap();
        assert_eq!(input.space(1 << 16).len(), 1);
    }

    #[test]
    fn buffers_are_given_back_once_empty() {
        let mut input = Input::default();
        put(&mut input, &[b'x'; 2000]);
        input.release();
        assert!(input.buffer.len() >= 2000);
        put(&mut input, b"\n");
        take(&mut input, 2000).unwrap().unwrap();
        input.release();
        assert!(input.is_released());
        input.put(b"");
        assert!(input.is_released());
        input.put(b"NOOP\r\n");
        assert_eq!(take(&mut input, 4), Ok(Some(b"NOOP".to_vec())));
        assert_eq!(input.space(1 << 16).len(), SMALL);
    }

    proptest! {
        #[test]
        fn lines_survive_any_cut(
            lines in prop::collection::vec(prop::collection::vec(b' '..b'~', 0..700), 0..20),
            piece in 1usize..900,
        ) {
            let sent: Vec<u8> = lines.iter().flat_map(|line| [line, &b"\r\n"[..]].concat()).collect();
            let (mut input, mut seen) = (Input::default(), Vec::new());
            for piece in sent.chunks(piece) {
                put(&mut input, piece);
                while let Some(line) = take(&mut input, 700).unwrap() {
                    seen.push(line);
                }
            }
            prop_assert_eq!(seen, lines);
            prop_assert_eq!(input.len(), 0);
        }
    }
}
