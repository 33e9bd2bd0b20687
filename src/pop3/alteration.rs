//! Changes messages for devices that cannot take them as they are (`nul`, `pad_header`).

use crate::config::{Nul, Policy};

/// The changes to one message, which comes in chunks.
#[derive(Debug)]
pub(super) struct Alteration {
    nul: Nul,
    /// `pad_header`; `None` once the empty line after the header has passed.
    header: Option<Header>,
    /// The last chunk as it was altered.
    altered: Vec<u8>,
}

/// What is known of the header's last line so far.
#[derive(Debug, Clone, Copy)]
struct Header {
    /// Whether no octet of the line has come.
    at_start: bool,
    /// Whether no octet but CR has come.
    is_empty: bool,
}

impl Alteration {
    /// `None` if `policy` changes nothing.
    pub(super) fn of(policy: &Policy) -> Option<Self> {
        let &Policy { nul, pad_header, .. } = policy;
        (nul != Nul::Keep || pad_header).then(|| Self {
            nul,
            header: pad_header.then_some(Header {
                at_start: true,
                is_empty: true,
            }),
            altered: Vec::new(),
        })
    }

    /// Whether what is still to come keeps its size.
    pub(super) fn keeps_size(&self) -> bool {
        self.nul != Nul::Drop && self.header.is_none()
    }

    /// Returns `chunk`, the next octets of the message, as the device gets them.
    pub(super) fn apply<'a>(&'a mut self, chunk: &'a [u8]) -> &'a [u8] {
        let is_whole = self.nul == Nul::Keep || memchr::memchr(0, chunk).is_none();
        if !is_whole {
            self.altered.clear();
            match self.nul {
                Nul::High => self
                    .altered
                    .extend(chunk.iter().map(|&octet| if octet == 0 { 0x80 } else { octet })),
                Nul::Drop | Nul::Keep => self.altered.extend(chunk.iter().filter(|&&octet| octet != 0)),
            }
        }
        let chunk = if is_whole { chunk } else { &self.altered };
        self.header = self.header.and_then(|header| header.after(chunk));
        chunk
    }

    /// What to send after the last octet of the message: the empty line after the header, if the message has none.
    pub(super) fn end(&self) -> &'static [u8] {
        match self.header {
            None => b"",
            Some(Header { at_start: true, .. }) => b"\r\n",
            Some(_) => b"\r\n\r\n",
        }
    }
}

impl Header {
    /// The header after `chunk` has come; `None` if it has ended.
    fn after(self, chunk: &[u8]) -> Option<Self> {
        let is_empty = |line: &[u8]| line.iter().all(|&octet| octet == b'\r');
        let (mut before, mut start) = (self, 0);
        for end in memchr::memchr_iter(b'\n', chunk) {
            if before.is_empty && is_empty(&chunk[start..end]) {
                return None;
            }
            before = Self {
                at_start: true,
                is_empty: true,
            };
            start = end + 1;
        }
        let rest = &chunk[start..];
        Some(Self {
            at_start: before.at_start && rest.is_empty(),
            is_empty: before.is_empty && is_empty(rest),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn altered(nul: Nul, pad_header: bool, message: &[u8], chunk: usize) -> Vec<u8> {
        let policy = Policy {
            nul,
            pad_header,
            ..Policy::default()
        };
        let mut alteration = Alteration::of(&policy).unwrap();
        let keeps_size = alteration.keeps_size();
        let mut out = Vec::new();
        for chunk in message.chunks(chunk) {
            out.extend_from_slice(alteration.apply(chunk));
        }
        out.extend_from_slice(alteration.end());
        assert!(out.len() == message.len() || !keeps_size);
        assert_eq!(alteration.keeps_size(), nul != Nul::Drop && alteration.end().is_empty());
        out
    }

    #[test]
    fn without_a_policy_nothing_is_looked_at() {
        assert!(Alteration::of(&Policy::default()).is_none());
    }

    #[test]
    fn nul() {
        let message = b"A: \0\0b\r\n\r\n\0c\0";
        for chunk in 1..=message.len() {
            assert_eq!(
                altered(Nul::High, false, message, chunk),
                b"A: \x80\x80b\r\n\r\n\x80c\x80"
            );
            assert_eq!(altered(Nul::Drop, false, message, chunk), b"A: b\r\n\r\nc");
            assert_eq!(altered(Nul::Drop, true, message, chunk), b"A: b\r\n\r\nc");
            assert_eq!(altered(Nul::Keep, true, message, chunk), message);
        }
    }

    #[test]
    fn the_empty_line_after_a_header() {
        for (message, end) in [
            (&b"A: 1\r\nB: 2\r\n"[..], &b"\r\n"[..]),
            (b"A: 1\r\nB: 2", b"\r\n\r\n"),
            (b"A: 1\n", b"\r\n"),
            (b"A: 1\r\n\r", b"\r\n\r\n"),
            (b"", b"\r\n"),
            (b"A: 1\r\n\r\n", b""),
            (b"A: 1\n\nbody", b""),
            (b"\r\nbody", b""),
            (b"A: 1\r\n\r\r\nbody\r\nB: 2", b""),
        ] {
            for chunk in 1..=message.len().max(1) {
                let expected = [message, end].concat();
                assert_eq!(
                    altered(Nul::Keep, true, message, chunk).escape_ascii().to_string(),
                    expected.escape_ascii().to_string(),
                    "in chunks of {chunk}"
                );
            }
        }
        assert_eq!(altered(Nul::Drop, true, b"A: 1\r\n\0\r\nbody", 3), b"A: 1\r\n\r\nbody");
    }
}
