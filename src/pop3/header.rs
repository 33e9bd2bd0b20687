//! XTND XLST: lists a header field of each message, one line for each message, as Netscape and Eudora expect it.

/// How many octets of a header are searched. The rest is dropped, so that a huge header takes no more memory.
const HEADER: usize = 64 * 1024;
/// How many octets of a field are shown (RFC 5322 §2.1.1).
const SHOWN: usize = 998;

/// The part of a header that has come so far.
#[derive(Debug, Default)]
pub(super) struct HeaderField(Vec<u8>);

impl HeaderField {
    /// Takes the next octets of the header, and keeps [`HEADER`] at most.
    pub(super) fn take(&mut self, chunk: &[u8]) {
        let room = HEADER - self.0.len();
        self.0.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }

    /// Appends the content of the first field `name`, unfolded, in one line; nothing if there is none.
    pub(super) fn write(&self, name: &[u8], out: &mut Vec<u8>) {
        let is_folded = |line: &[u8]| matches!(line.first(), Some(b' ' | b'\t'));
        let mut lines = self.0.split(|&octet| octet == b'\n').skip_while(|line| {
            let rest = line.get(..name.len()).filter(|start| start.eq_ignore_ascii_case(name));
            is_folded(line) || rest.is_none() || !line[name.len()..].trim_ascii_start().starts_with(b":")
        });
        let Some(first) = lines.next() else { return };
        let content = first.splitn(2, |&octet| octet == b':').nth(1).unwrap_or_default();
        let start = out.len();
        for line in [content].into_iter().chain(lines.take_while(|line| is_folded(line))) {
            let room = SHOWN.saturating_sub(out.len() - start + 1);
            let line = line.trim_ascii();
            if line.is_empty() || room == 0 {
                continue;
            }
            out.push(b' ');
            let shown = line.iter().take(room);
            // A lone CR or a NUL could pass for the end of the line.
            out.extend(shown.map(|&octet| if octet.is_ascii_control() { b' ' } else { octet }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(header: &[u8], name: &str) -> String {
        for chunk in 1..=header.len().max(1) {
            let mut field = HeaderField::default();
            header.chunks(chunk).for_each(|chunk| field.take(chunk));
            let mut out = Vec::new();
            field.write(name.as_bytes(), &mut out);
            if chunk >= header.len() {
                return String::from_utf8_lossy(&out).into_owned();
            }
        }
        String::new()
    }

    #[test]
    fn fields() {
        let header = b"Received: from a\r\n\tby b; now\r\nSubject: one\r\n two\r\n\t three \r\nsubject: other\r\n\
                       Message-ID :<1@x>\r\nX:\r\nMESSAGE-ID: <2@x>\r\nY: a\rb\0c\r\n\r\n";
        for (name, expected) in [
            ("Subject", " one two three"),
            ("message-id", " <1@x>"),
            ("Received", " from a by b; now"),
            ("by", ""),
            ("X", ""),
            ("Y", " a b c"),
            ("Missing", ""),
            ("Message", ""),
        ] {
            assert_eq!(field(header, name), expected, "{name}");
        }
        assert_eq!(field(b"", "A"), "");
        assert_eq!(field(b"A: no line end", "A"), " no line end");
    }

    #[test]
    fn what_is_long_is_cut() {
        let header = format!("A: {}\r\n", "x".repeat(100_000));
        let mut field = HeaderField::default();
        field.take(header.as_bytes());
        field.take(b"B: 1\r\n");
        let mut out = Vec::new();
        field.write(b"A", &mut out);
        assert_eq!(out.len(), SHOWN);
        out.clear();
        field.write(b"B", &mut out);
        assert!(out.is_empty() && field.0.len() == HEADER);
    }
}
