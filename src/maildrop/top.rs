//! Finds where TOP ends: after the header, the empty line, and the number of lines that the device asks for (RFC 1939
//! §7).

/// Counts the lines that pass, and stops after the last.
#[derive(Debug)]
pub(super) struct LineLimit {
    in_header: bool,
    /// Whether the current line has no octets but CR so far.
    line_empty: bool,
    left: u64,
}

impl LineLimit {
    /// The limit for a whole message: the header passes, then `lines` lines.
    pub(super) fn message(lines: u64) -> Self {
        Self {
            in_header: true,
            line_empty: true,
            left: lines,
        }
    }

    /// The limit for the text without the header: `lines` lines pass.
    pub(super) fn text(lines: u64) -> Self {
        Self {
            in_header: false,
            line_empty: true,
            left: lines,
        }
    }

    /// How many octets of `chunk` pass, the next piece of the message.
    pub(super) fn pass(&mut self, chunk: &[u8]) -> usize {
        if self.is_reached() {
            return 0;
        }
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', chunk) {
            if self.in_header {
                let empty = self.line_empty && chunk[start..end].iter().all(|&b| b == b'\r');
                self.in_header = !empty;
            } else {
                self.left -= 1;
            }
            self.line_empty = true;
            start = end + 1;
            if self.is_reached() {
                return start;
            }
        }
        self.line_empty &= chunk[start..].iter().all(|&b| b == b'\r');
        chunk.len()
    }

    /// Whether nothing more passes.
    pub(super) fn is_reached(&self) -> bool {
        !self.in_header && self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn top(message: &[u8], lines: u64, chunk: usize) -> Vec<u8> {
        let mut limit = LineLimit::message(lines);
        let mut out = Vec::new();
        for chunk in message.chunks(chunk) {
            let count = limit.pass(chunk);
            out.extend_from_slice(&chunk[..count]);
        }
        out
    }

    #[test]
    fn header_and_so_many_lines() {
        let message = b"A: 1\r\nB: 2\r\n\r\none\r\n\r\nthree";
        for (lines, expected) in [
            (0, &b"A: 1\r\nB: 2\r\n\r\n"[..]),
            (1, b"A: 1\r\nB: 2\r\n\r\none\r\n"),
            (2, b"A: 1\r\nB: 2\r\n\r\none\r\n\r\n"),
            (3, message),
            (u64::MAX, message),
        ] {
            for chunk in 1..=message.len() {
                assert_eq!(
                    top(message, lines, chunk),
                    expected,
                    "{lines} lines in chunks of {chunk}"
                );
            }
        }
    }

    #[test]
    fn odd_headers() {
        assert_eq!(top(b"\r\nbody\r\nmore", 0, 3), b"\r\n");
        assert_eq!(top(b"A: 1\n\nbody\nmore\n", 1, 2), b"A: 1\n\nbody\n");
        assert_eq!(top(b"A: no empty line\r\n", 5, 4), b"A: no empty line\r\n");
        assert_eq!(top(b"", 5, 4), b"");
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(message in "[a\r\n]{0,60}", lines in 0u64..5, chunk in 1usize..10) {
            prop_assert_eq!(top(message.as_bytes(), lines, chunk), top(message.as_bytes(), lines, 60));
        }
    }
}
