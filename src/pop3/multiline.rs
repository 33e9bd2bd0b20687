//! Multi-line replies: line ends, dot-stuffing and the terminating dot (RFC 1939 §3).

use crate::types::Octets;

/// Turns a message, given in chunks, into the octets that follow a `+OK` line.
///
/// A bare LF becomes CRLF, a dot at the start of a line is doubled, a missing final CRLF is supplied. Everything else
/// passes untouched: bare CR, NUL, 8-bit octets, lines of any length. It does not matter where the chunks are cut.
///
/// ```
/// use popgate::pop3::multiline::Multiline;
///
/// let (mut encoder, mut out) = (Multiline::new(), Vec::new());
/// encoder.encode(b"Subject: hello\n\n.a dot", &mut out);
/// encoder.finish(&mut out);
/// assert_eq!(out, b"Subject: hello\r\n\r\n..a dot\r\n.\r\n");
/// ```
#[derive(Debug, Default)]
pub struct Multiline {
    last: Last,
    /// Octets so far, as the device counts them.
    octets: Octets,
}

/// What the last octet means for the next one.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Last {
    /// LF, or nothing yet: the next octet starts a line.
    #[default]
    LineEnd,
    /// CR: a LF that follows is not bare.
    Cr,
    Other,
}

/// How many octets are examined at once. In ordinary mail, few blocks of this size need an insertion.
const BLOCK: usize = 256;

/// Whether an octet of `octets` is a bare LF or a dot at the start of a line; `before` holds the octet before each.
/// There is no branch, so that the compiler uses vector instructions. A search for each line end would take longer than
/// everything else that is done to a message.
fn needs_insertion(before: &[u8], octets: &[u8]) -> bool {
    before.iter().zip(octets).fold(false, |found, (&before, &octet)| {
        found | ((octet == b'\n') & (before != b'\r')) | ((octet == b'.') & (before == b'\n'))
    })
}

impl Multiline {
    /// An encoder at the start of a message.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends `chunk`, encoded, to `out`.
    pub fn encode(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        let (Some(&first), Some(&last)) = (chunk.first(), chunk.last()) else {
            return;
        };
        out.reserve(chunk.len() + chunk.len() / 32 + 8);
        self.octets.0 += chunk.len() as u64;
        match (self.last, first) {
            (Last::LineEnd, b'.') => out.push(b'.'),
            (Last::LineEnd | Last::Other, b'\n') => {
                self.octets.0 += 1;
                out.push(b'\r');
            }
            _ => {}
        }
        // The octets between two insertions are copied in one piece.
        let mut copied = 0;
        let mut insert = |at: usize, octet: u8| {
            out.extend_from_slice(&chunk[copied..at]);
            out.push(octet);
            copied = at;
        };
        for start in (1..chunk.len()).step_by(BLOCK) {
            let end = chunk.len().min(start + BLOCK);
            if !needs_insertion(&chunk[start - 1..end - 1], &chunk[start..end]) {
                continue;
            }
            // The first LF may be the last octet of the block before; then only what follows it belongs to this block.
            for line_end in memchr::memchr_iter(b'\n', &chunk[start - 1..end]).map(|at| start - 1 + at) {
                if line_end >= start && chunk[line_end - 1] != b'\r' {
                    self.octets.0 += 1;
                    insert(line_end, b'\r');
                }
                let next = line_end + 1;
                if next < end && chunk[next] == b'.' {
                    insert(next, b'.');
                }
            }
        }
        out.extend_from_slice(&chunk[copied..]);
        self.last = match last {
            b'\n' => Last::LineEnd,
            b'\r' => Last::Cr,
            _ => Last::Other,
        };
    }

    /// Appends the end of the reply: the dot on a line of its own. Returns the octets of the message as it was
    /// delivered: with CRLF at the end of each line, without the dots that were added (RFC 1939 §11).
    pub fn finish(mut self, out: &mut Vec<u8>) -> Octets {
        out.extend_from_slice(match self.last {
            Last::LineEnd => b".\r\n",
            // A lone CR belongs to the message; the line end still has to be supplied whole.
            Last::Cr | Last::Other => {
                self.octets.0 += 2;
                b"\r\n.\r\n"
            }
        });
        self.octets
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::tests::cut, *};

    fn encoded(chunks: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = Multiline::new();
        for chunk in chunks {
            encoder.encode(chunk, &mut out);
        }
        assert_eq!(encoder.finish(&mut out), delivered(&out), "{}", out.escape_ascii());
        out
    }

    /// The octets of the message as a device counts them: without the last dot, and without the dots that were added.
    fn delivered(reply: &[u8]) -> Octets {
        let content = reply.strip_suffix(b".\r\n").unwrap();
        let lines = content.split_inclusive(|&octet| octet == b'\n');
        let octets = lines.map(|line| line.len() - usize::from(line.starts_with(b".")));
        Octets(octets.sum::<usize>() as u64)
    }

    /// The same rules, one octet at a time.
    fn reference(body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut before = None;
        for &octet in body {
            if octet == b'.' && matches!(before, None | Some(b'\n')) {
                out.push(b'.');
            }
            if octet == b'\n' && before != Some(b'\r') {
                out.push(b'\r');
            }
            out.push(octet);
            before = Some(octet);
        }
        if !matches!(before, None | Some(b'\n')) {
            out.extend(b"\r\n");
        }
        out.extend(b".\r\n");
        out
    }

    #[test]
    fn table() {
        let cases: &[(&[&[u8]], &[u8])] = &[
            (&[], b".\r\n"),
            (&[b""], b".\r\n"),
            (&[b"a\r\n"], b"a\r\n.\r\n"),
            (&[b"a"], b"a\r\n.\r\n"),
            (&[b"a\n\nb\n"], b"a\r\n\r\nb\r\n.\r\n"),
            (&[b"."], b"..\r\n.\r\n"),
            (&[b".", b".\r\n"], b"...\r\n.\r\n"),
            (&[b"a\r\n.\r\nb\r\n"], b"a\r\n..\r\nb\r\n.\r\n"),
            (&[b"a\r", b"\n.b"], b"a\r\n..b\r\n.\r\n"),
            (&[b"a\r\n", b".b\r\n"], b"a\r\n..b\r\n.\r\n"),
            (&[b"a\n", b"", b".b\n"], b"a\r\n..b\r\n.\r\n"),
            (&[b"a", b"\n"], b"a\r\n.\r\n"),
            (&[b"a\r.b\r"], b"a\r.b\r\r\n.\r\n"),
            (&[b"\r\r\n"], b"\r\r\n.\r\n"),
            (&[b"\0\xff\x80.\r\n"], b"\0\xff\x80.\r\n.\r\n"),
        ];
        for (chunks, expected) in cases {
            assert_eq!(
                encoded(chunks).escape_ascii().to_string(),
                expected.escape_ascii().to_string(),
                "{chunks:?}"
            );
        }
    }

    #[test]
    fn a_line_of_a_million_octets_stays_one_line() {
        let body = vec![b'x'; 1_000_000];
        let out = encoded(&[&body]);
        assert_eq!(out.len(), body.len() + 5);
        assert!(out.ends_with(b"x\r\n.\r\n"));
    }

    #[test]
    fn a_line_end_between_two_blocks_is_seen() {
        for length in BLOCK - 4..2 * BLOCK + 4 {
            let body = [&vec![b'a'; length][..], b"\r\n.b\r\n.c\n"].concat();
            assert_eq!(encoded(&[&body]), reference(&body), "{length}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn equals_the_reference_however_it_is_cut(
            body in prop::collection::vec(prop::sample::select(b"\r\n.ab\0\xff".to_vec()), 0..4 * BLOCK),
            cuts in prop::collection::vec(0..4 * BLOCK, 0..20),
        ) {
            prop_assert_eq!(encoded(&cut(&body, cuts)), reference(&body));
        }
    }
}
