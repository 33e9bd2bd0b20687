//! Folds long lines for devices that cannot take them (`fold_lines`).

/// Folds the long lines of a message that is given in chunks. It does not matter where the chunks are cut.
///
/// A line is split before a space or tab, with which the next line then begins. In a header this does not change the
/// meaning (RFC 5322 §2.2.3): a reader that unfolds the header gets it as it was. A line without a space or tab is
/// split at the greatest length. In a header, a space is then added at the start of the next line. Lines that are short
/// enough stay as they are.
#[derive(Debug)]
pub(super) struct Fold {
    /// The most octets of a line as it is sent, with its CRLF and a doubled dot.
    longest: usize,
    is_header: bool,
    /// The part of the unfinished line that was not passed on yet.
    line: Vec<u8>,
    out: Vec<u8>,
}

impl Fold {
    /// Begins at the start of a message. Lines may have `longest` octets with their line end (80 or more in a
    /// configuration).
    pub(super) fn new(longest: usize) -> Self {
        Self {
            longest,
            is_header: true,
            line: Vec::new(),
            out: Vec::new(),
        }
    }

    /// Takes `chunk` and returns the folded octets that are complete now.
    pub(super) fn fold(&mut self, chunk: &[u8]) -> &[u8] {
        self.out.clear();
        for piece in chunk.split_inclusive(|&octet| octet == b'\n') {
            if self.line.is_empty() && piece.ends_with(b"\n") && content(piece).len() <= self.limit(piece) {
                self.is_header &= !content(piece).is_empty();
                self.out.extend_from_slice(piece);
            } else {
                self.take(piece);
            }
        }
        &self.out
    }

    /// Returns the rest of a message that does not end with a line end.
    pub(super) fn finish(&mut self) -> &[u8] {
        self.out.clear();
        // A CR at the end is not a line end: no LF follows.
        while self.line.len() > self.limit(&self.line) {
            self.part();
        }
        self.out.append(&mut self.line);
        &self.out
    }

    /// Takes a piece of a line, or the end of a line.
    fn take(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            // `line` stays bounded.
            let space = (self.longest + 1).saturating_sub(self.line.len()).max(1);
            let (now, later) = piece.split_at(space.min(piece.len()));
            self.line.extend_from_slice(now);
            piece = later;
            while content(&self.line).len() > self.limit(&self.line) {
                self.part();
            }
        }
        if self.line.ends_with(b"\n") {
            self.is_header &= !content(&self.line).is_empty();
            self.out.append(&mut self.line);
        }
    }

    /// How many octets `line` may have without its line end.
    fn limit(&self, line: &[u8]) -> usize {
        self.longest - "\r\n".len() - usize::from(line.starts_with(b"."))
    }

    /// Splits the line, which is too long, and passes its first part on. The place depends only on the first octets: as
    /// many as a line may have, and one more. So it does not matter how many octets have been received already.
    fn part(&mut self) {
        let limit = self.limit(&self.line);
        let head = &self.line[..=limit];
        let at = before_blank(head);
        let is_blank = at.is_some();
        let at = at.unwrap_or_else(|| anywhere(head));
        self.out.extend(self.line.drain(..at));
        self.out.extend_from_slice(b"\r\n");
        if self.is_header && !is_blank {
            self.line.insert(0, b' ');
        }
    }
}

/// `line` without its line end, which may not have come whole.
fn content(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn is_blank(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t')
}

/// The place of the last space or tab with text on both sides: a line of blanks alone could pass for the end of a
/// header.
fn before_blank(head: &[u8]) -> Option<usize> {
    let last = head.iter().rposition(|&octet| !is_blank(octet))?;
    let at = head[..last].iter().rposition(|&octet| is_blank(octet))?;
    let has_text_before = head[..at].iter().any(|&octet| !is_blank(octet));
    has_text_before.then_some(at)
}

/// The last place that is not within a UTF-8 character and not before a hyphen, because a line that begins with a
/// hyphen could pass for a MIME boundary. If there is no such place in the second half of `head`, the last place.
fn anywhere(head: &[u8]) -> usize {
    let is_fit = |&octet: &u8| !matches!(octet, 0x80..=0xbf | b'-');
    let half = head.len() / 2;
    let fit = head[half..].iter().rposition(is_fit);
    fit.map_or(head.len() - 1, |at| half + at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{multiline::Multiline, tests::cut},
        *,
    };

    /// Short, so that short messages are enough.
    const LONGEST: usize = 12;

    fn folded(longest: usize, chunks: &[&[u8]]) -> Vec<u8> {
        let mut fold = Fold::new(longest);
        let mut out = Vec::new();
        for chunk in chunks {
            out.extend_from_slice(fold.fold(chunk));
            assert!(fold.line.len() <= longest + 1, "held: {}", fold.line.len());
        }
        out.extend_from_slice(fold.finish());
        out
    }

    fn encoded(message: &[u8]) -> Vec<u8> {
        let (mut encoder, mut out) = (Multiline::new(), Vec::new());
        encoder.encode(message, &mut out);
        encoder.finish(&mut out);
        out
    }

    #[test]
    fn table() {
        for (message, expected) in [
            ("", ""),
            ("a: 3456789\r\n", "a: 3456789\r\n"),
            ("a: 3456789\n", "a: 3456789\n"),
            ("a: 3456 89a\r\nb: c\r\n", "a: 3456\r\n 89a\r\nb: c\r\n"),
            ("a: 3456 89a", "a: 3456\r\n 89a"),
            ("a: 3456\t89abcdefg\r\n", "a: 3456\r\n\t89abcdefg\r\n"),
            ("abcdefghijklmnopq: x\r\n", "abcdefghij\r\n klmnopq:\r\n x\r\n"),
            ("a: bcdefghijklmnopqrst\r\n", "a:\r\n bcdefghij\r\n klmnopqrs\r\n t\r\n"),
            // Blanks at the end of a line are not folded off.
            ("a: bcdefg      \r\n", "a:\r\n bcdefg   \r\n    \r\n"),
            ("a: bcdefg   \r\n\r\n", "a:\r\n bcdefg   \r\n\r\n"),
            // In the body no blank is inserted.
            ("\r\nabcdefghijklm\r\n", "\r\nabcdefghij\r\nklm\r\n"),
            ("\nabcdefghijklm", "\nabcdefghij\r\nklm"),
            (
                "a: b\r\n\r\nabcd fghijklm n\r\n",
                "a: b\r\n\r\nabcd\r\n fghijklm\r\n n\r\n",
            ),
            // A doubled dot counts, also if the new line begins with one.
            ("\r\n.bcdefghij\r\n", "\r\n.bcdefghi\r\nj\r\n"),
            ("\r\nabcdefghij.klmnopqrs\r\n", "\r\nabcdefghij\r\n.klmnopqr\r\ns\r\n"),
            ("\r\n.bcdefghi\r\n", "\r\n.bcdefghi\r\n"),
            // A CR belongs to a line end only if LF follows.
            ("\r\nabcdefghij\r", "\r\nabcdefghij\r\n\r"),
            ("\r\nabcdefghij\rk\r\n", "\r\nabcdefghij\r\n\rk\r\n"),
            ("\r\nabcdefghij\r\r\n", "\r\nabcdefghij\r\n\r\r\n"),
            // Characters stay whole, and no boundary is made.
            ("\r\nabcdefghi\u{fc}jk\r\n", "\r\nabcdefghi\r\n\u{fc}jk\r\n"),
            ("\r\nabcdefg\u{20ac}\u{20ac}\r\n", "\r\nabcdefg\u{20ac}\r\n\u{20ac}\r\n"),
            ("\r\nabcdefghi--k\r\n", "\r\nabcdefgh\r\ni--k\r\n"),
            ("\r\n--------------\r\n", "\r\n----------\r\n----\r\n"),
        ] {
            let said = |octets: &[u8]| octets.escape_ascii().to_string();
            let whole = folded(LONGEST, &[message.as_bytes()]);
            assert_eq!(said(&whole), said(expected.as_bytes()), "{message:?}");
            let each: Vec<_> = message.as_bytes().chunks(1).collect();
            assert_eq!(
                said(&folded(LONGEST, &each)),
                said(&whole),
                "{message:?}, octet by octet"
            );
        }
    }

    #[test]
    fn a_line_of_a_million_octets() {
        let body = [&b"a: b\r\n\r\n"[..], &vec![b'x'; 1_000_000]].concat();
        let out = folded(2048, &[&body]);
        let lines: Vec<_> = out.split(|&octet| octet == b'\n').collect();
        assert_eq!(lines.len(), 2 + 1_000_000usize.div_ceil(2046));
        assert!(lines[2..lines.len() - 1].iter().all(|line| line.len() == 2047));
    }

    /// What unfolding makes of a header.
    fn unfolded(header: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for (at, &octet) in header.iter().enumerate() {
            match header.get(at..) {
                Some([b'\r', b'\n', b' ' | b'\t', ..]) => {}
                Some([b'\n', b' ' | b'\t', ..]) if at > 0 && header[at - 1] == b'\r' => {}
                _ => out.push(octet),
            }
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn however_it_is_cut_no_line_is_longer_and_nothing_else_changes(
            message in prop::collection::vec(prop::sample::select(b"\r\n\r\n. \tabcdef:-\0\xc3\xbc\xff".to_vec()), 0..200),
            cuts in prop::collection::vec(0usize..200, 0..20),
            longest in 8usize..30,
        ) {
            let out = folded(longest, &cut(&message, cuts));
            prop_assert_eq!(&out, &folded(longest, &[&message]));
            let sent = encoded(&out);
            prop_assert!(sent.split_inclusive(|&octet| octet == b'\n').all(|line| line.len() <= longest));
            // Except for blanks and line ends, everything is there, in order.
            let solid = |octets: &[u8]| -> Vec<u8> {
                octets.iter().copied().filter(|octet| !b" \r\n".contains(octet)).collect()
            };
            prop_assert_eq!(solid(&out), solid(&message));
            if encoded(&message).split_inclusive(|&octet| octet == b'\n').all(|line| line.len() <= longest) {
                prop_assert_eq!(out, message);
            }
        }

        /// If there are enough blanks, a header unfolds to what it was, and a body loses and gains line ends only.
        #[test]
        fn a_header_unfolds_to_what_it_was(words in prop::collection::vec("[a-z.-]{1,6}", 1..60)) {
            let text = words.join(" ");
            let header = format!("subject: {text}\r\nto: x\r\n").into_bytes();
            let out = folded(20, &[&header]);
            prop_assert_eq!(unfolded(&out), header);
            let body = format!("\r\n{text}\r\n").into_bytes();
            let out = folded(20, &[&body]);
            let text: Vec<u8> = out.into_iter().filter(|octet| !b"\r\n".contains(octet)).collect();
            prop_assert_eq!(text, &body[2..body.len() - 2]);
        }
    }
}
