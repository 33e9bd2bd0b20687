//! Cuts what a server sends into lines and the octets of literals. It has no socket and no clock.

use bytes::{Buf, BytesMut};

use super::{error::Error, token};

/// The longest line that is accepted from a server. SEARCH responses, whose line grows with the mailbox, are read
/// piecewise.
pub const MAX_LINE: usize = 256 * 1024;
/// The most octets of a literal that nobody asked for. Such a literal is dropped as it comes, so this bounds time and
/// not memory.
pub const MAX_UNWANTED: u64 = 64 * 1024 * 1024;

/// How long the line at the start of the buffer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// How many octets it has without the line end.
    pub line: usize,
    /// How many octets it has with the line end.
    pub total: usize,
}

/// The octets that have been received and not consumed, and how many of them are unwanted.
///
/// ```
/// use popgate::imap::frame::Frame;
///
/// let mut frame = Frame::default();
/// frame.space().extend_from_slice(b"* 3 EXISTS\r\n* 1 REC");
/// let span = frame.line().unwrap().unwrap();
/// assert_eq!(&frame.octets()[..span.line], b"* 3 EXISTS");
/// frame.consume(span.total);
/// assert!(frame.line().unwrap().is_none(), "the rest has not come yet");
/// ```
#[derive(Debug, Default)]
pub struct Frame {
    buffer: BytesMut,
    /// This many octets at the buffer's start hold no LF.
    scanned: usize,
    skip: Skip,
}

/// The position in an unwanted response.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Skip {
    /// Not in an unwanted response.
    #[default]
    No,
    /// This many octets of a literal are to come, then the rest of the response.
    Literal(u64),
    /// In the rest of a response: a line, and the literals that it announces.
    Rest,
    /// In the rest of a line that may be longer than [`MAX_LINE`] and announces nothing.
    Line,
}

impl Frame {
    /// What has been received and not consumed.
    pub fn octets(&self) -> &[u8] {
        &self.buffer
    }

    /// The buffer to which received octets are appended.
    pub fn space(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Takes everything that has been received, so that another layer can read it first.
    pub fn take(&mut self) -> BytesMut {
        self.scanned = 0;
        std::mem::take(&mut self.buffer)
    }

    /// Drops `count` octets off the buffer's start.
    pub fn consume(&mut self, count: usize) {
        self.buffer.advance(count);
        self.scanned = self.scanned.saturating_sub(count);
    }

    /// Frees the memory of an empty buffer; returns whether it was empty.
    pub fn shrink(&mut self) -> bool {
        let is_empty = self.buffer.is_empty();
        if is_empty {
            self.buffer = BytesMut::new();
            self.scanned = 0;
        }
        is_empty
    }

    /// The next line, if the buffer holds all of it. What is left of an unwanted response is dropped first. A line may
    /// end with LF alone. A line longer than [`MAX_LINE`] is an error.
    pub fn line(&mut self) -> Result<Option<Span>, Error> {
        if self.drop_unwanted()? {
            self.buffered_line()
        } else {
            Ok(None)
        }
    }

    /// Drops what has been received of an unwanted response. Returns whether that was all of it: then the buffer begins
    /// with the next response.
    pub fn drop_unwanted(&mut self) -> Result<bool, Error> {
        loop {
            match self.skip {
                Skip::No => return Ok(true),
                Skip::Literal(left) => {
                    let count = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
                    self.consume(count);
                    let left = left - count as u64;
                    self.skip = if left > 0 { Skip::Literal(left) } else { Skip::Rest };
                    if left > 0 {
                        return Ok(false);
                    }
                }
                Skip::Rest => {
                    let Some(span) = self.buffered_line()? else {
                        return Ok(false);
                    };
                    self.skip = Skip::No;
                    if let Some(octets) = token::literal(&self.buffer[..span.line]) {
                        self.skip_literal(octets)?;
                    }
                    self.consume(span.total);
                }
                Skip::Line => match memchr::memchr(b'\n', &self.buffer) {
                    Some(end) => {
                        self.consume(end + 1);
                        self.skip = Skip::No;
                    }
                    None => {
                        self.consume(self.buffer.len());
                        return Ok(false);
                    }
                },
            }
        }
    }

    /// Drops the rest of this response, which begins with a literal of `octets` octets. A literal beyond
    /// [`MAX_UNWANTED`] is an error.
    pub fn skip_literal(&mut self, octets: u64) -> Result<(), Error> {
        if octets > MAX_UNWANTED {
            return Err(Error::Protocol("a literal that nobody asked for passes the limit"));
        }
        self.skip = Skip::Literal(octets);
        Ok(())
    }

    /// Drops the rest of this line, however long it is.
    pub fn skip_line(&mut self) {
        self.skip = Skip::Line;
    }

    fn buffered_line(&mut self) -> Result<Option<Span>, Error> {
        match memchr::memchr(b'\n', &self.buffer[self.scanned..]) {
            Some(at) => {
                let end = self.scanned + at;
                let line = if end > 0 && self.buffer[end - 1] == b'\r' {
                    end - 1
                } else {
                    end
                };
                Ok(Some(Span { line, total: end + 1 }))
            }
            None if self.buffer.len() > MAX_LINE => Err(Error::Protocol("a line passes the limit")),
            None => {
                self.scanned = self.buffer.len();
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(octets: &[u8]) -> Frame {
        let mut frame = Frame::default();
        frame.space().extend_from_slice(octets);
        frame
    }

    /// The lines that `frame` has; each is consumed.
    fn lines(frame: &mut Frame) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        while let Some(span) = frame.line().unwrap() {
            lines.push(frame.octets()[..span.line].to_vec());
            frame.consume(span.total);
        }
        lines
    }

    #[test]
    fn lines_end_with_crlf_or_lf() {
        let mut frame = frame(b"* OK\r\n* 1 EXISTS\n\r\n\n* par");
        assert_eq!(lines(&mut frame), [&b"* OK"[..], b"* 1 EXISTS", b"", b""]);
        frame.space().extend_from_slice(b"t\r\n");
        assert_eq!(lines(&mut frame), [&b"* part"[..]]);
        assert!(frame.shrink());
        assert_eq!(frame.buffer.capacity(), 0);
    }

    #[test]
    fn what_is_not_wanted_is_dropped_with_all_its_literals() {
        let mut frame = frame(b"12345 X {3}\r\n\r\n) Y {2}\r\nab)\r\nnext\r\n");
        frame.skip_literal(5).unwrap();
        assert_eq!(lines(&mut frame), [&b"next"[..]]);
        assert!(frame.skip_literal(MAX_UNWANTED + 1).is_err());
    }

    #[test]
    fn a_line_has_a_limit_unless_it_is_skipped() {
        let mut frame = frame(&[b'x'; MAX_LINE]);
        assert_eq!(frame.line().unwrap(), None);
        frame.space().extend_from_slice(b"x");
        assert!(frame.line().is_err());
        frame.skip_line();
        assert_eq!(frame.line().unwrap(), None);
        assert!(frame.octets().is_empty());
        frame.space().extend_from_slice(b"xx\nnext\n");
        assert_eq!(lines(&mut frame), [&b"next"[..]]);
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(octets in "[a{}0-9\r\n]{0,60}", cut in 0usize..60, skip in 0u64..20) {
            let octets = octets.as_bytes();
            let mut whole = frame(octets);
            whole.skip_literal(skip).unwrap();
            let mut cut_up = frame(&octets[..cut.min(octets.len())]);
            cut_up.skip_literal(skip).unwrap();
            let expected = lines(&mut whole);
            let mut found = lines(&mut cut_up);
            cut_up.space().extend_from_slice(&octets[cut.min(octets.len())..]);
            found.extend(lines(&mut cut_up));
            prop_assert_eq!(found, expected);
            prop_assert_eq!(cut_up.octets(), whole.octets());
        }
    }
}
