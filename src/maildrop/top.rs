//! How far TOP goes: the header, the empty line, and so many lines of the body (RFC 1939 §7).

/// Counts the lines that pass.
#[derive(Debug)]
pub struct LineLimit {
    in_header: bool,
    /// Octets of the current line other than CR, as far as it matters whether there are any.
    line_empty: bool,
    left: u64,
}

impl LineLimit {
    /// For a whole message: the header passes, then `lines` lines.
    pub fn message(lines: u64) -> Self {
        Self {
            in_header: true,
            line_empty: true,
            left: lines,
        }
    }

    /// For the text that follows a header: `lines` lines pass.
    pub fn text(lines: u64) -> Self {
        Self {
            in_header: false,
            line_empty: true,
            left: lines,
        }
    }

    /// How many octets of `chunk`, the next of the message, may pass.
    pub fn pass(&mut self, chunk: &[u8]) -> usize {
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

    /// Nothing more passes.
    pub fn is_reached(&self) -> bool {
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
