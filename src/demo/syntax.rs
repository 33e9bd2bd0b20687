//! Parses the elements of commands (RFC 3501 §9). A command is complete here, with its literals.

use super::{reply::CommandError, sequence::SequenceSet};

/// The announcement of a literal at the end of a line: `{5}`, or `{5+}` (RFC 7888), which needs no continuation
/// request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Literal {
    pub octets: usize,
    pub synchronizing: bool,
}

impl Literal {
    /// Parses the announcement at the end of `line`, which includes its line end. A number beyond `usize` becomes
    /// `usize::MAX`.
    pub(super) fn announced(line: &[u8]) -> Option<Self> {
        let inside = without_end(line).strip_suffix(b"}")?;
        let open = memchr::memrchr(b'{', inside)?;
        let (digits, synchronizing) = match inside[open + 1..].strip_suffix(b"+") {
            Some(digits) => (digits, false),
            None => (&inside[open + 1..], true),
        };
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let octets = std::str::from_utf8(digits).ok()?.parse().unwrap_or(usize::MAX);
        Some(Self { octets, synchronizing })
    }
}

/// Removes CRLF from the end of a line, or LF alone, which people who type commands send.
pub(super) fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Parses words from the front of a command.
#[derive(Debug)]
pub(super) struct Words<'a> {
    rest: &'a [u8],
}

type Result<T> = std::result::Result<T, CommandError>;

impl<'a> Words<'a> {
    /// `command` must not include its final line end.
    pub(super) fn new(command: &'a [u8]) -> Self {
        Self { rest: command }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Takes `octet` if it comes next; returns whether it did.
    pub(super) fn take(&mut self, octet: u8) -> bool {
        match self.rest.split_first() {
            Some((&first, rest)) if first == octet => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    pub(super) fn expect(&mut self, octet: u8) -> Result<()> {
        if self.take(octet) {
            return Ok(());
        }
        Err(CommandError::Bad(match octet {
            b' ' => "an argument is missing",
            b'(' | b')' => "a parenthesis is missing",
            b'>' | b']' => "a bracket is missing",
            _ => "unexpected character",
        }))
    }

    pub(super) fn space(&mut self) -> Result<()> {
        self.expect(b' ')
    }

    pub(super) fn end(&self) -> Result<()> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(CommandError::Bad("too many arguments"))
        }
    }

    /// Takes the octets up to the first one that `belongs` refuses, possibly none.
    fn run(&mut self, belongs: impl Fn(u8) -> bool) -> &'a [u8] {
        let length = self
            .rest
            .iter()
            .position(|&octet| !belongs(octet))
            .unwrap_or(self.rest.len());
        let (run, rest) = self.rest.split_at(length);
        self.rest = rest;
        run
    }

    /// Takes the tag: `1*<any ASTRING-CHAR except "+">`.
    pub(super) fn tag(&mut self) -> Option<&'a str> {
        let tag = self.run(|octet| is_astring(octet) && octet != b'+');
        std::str::from_utf8(tag).ok().filter(|tag| !tag.is_empty())
    }

    /// Takes an atom and returns it in capitals, because verbs and keywords may be in any case. `[` and `<` also end
    /// it, for the items of FETCH.
    pub(super) fn keyword(&mut self) -> Result<String> {
        let word = self.run(|octet| is_atom(octet) && !matches!(octet, b'[' | b'<'));
        if word.is_empty() {
            return Err(CommandError::Bad("a word is missing"));
        }
        Ok(String::from_utf8_lossy(word).to_ascii_uppercase())
    }

    /// Takes a word without spaces, parentheses or quotes: base64, or the pattern of a list.
    pub(super) fn bare(&mut self) -> &'a [u8] {
        self.run(|octet| is_astring(octet) || matches!(octet, b'%' | b'*'))
    }

    /// Takes a flag: an atom, with or without `\` before it.
    pub(super) fn flag(&mut self) -> Result<&'a [u8]> {
        let whole = self.rest;
        let backslash = usize::from(self.take(b'\\'));
        let name = self.run(is_atom);
        if name.is_empty() {
            return Err(CommandError::Bad("a flag is missing"));
        }
        Ok(&whole[..backslash + name.len()])
    }

    pub(super) fn number(&mut self) -> Result<u32> {
        let digits = self.run(|octet| octet.is_ascii_digit());
        std::str::from_utf8(digits)
            .ok()
            .and_then(|digits| digits.parse().ok())
            .ok_or(CommandError::Bad("a number is missing, or too great"))
    }

    pub(super) fn sequence_set(&mut self) -> Result<SequenceSet> {
        let text = self.run(|octet| octet.is_ascii_digit() || matches!(octet, b':' | b',' | b'*'));
        SequenceSet::parse(text).ok_or(CommandError::Bad("not a set of messages"))
    }

    /// Whether a sequence set may begin here.
    pub(super) fn at_sequence_set(&self) -> bool {
        matches!(self.rest.first(), Some(b'0'..=b'9' | b'*'))
    }

    /// Takes an `astring`: bare, quoted or literal.
    pub(super) fn astring(&mut self) -> Result<Vec<u8>> {
        match self.rest.first() {
            Some(b'"' | b'{') => self.string(),
            _ => match self.run(is_astring) {
                b"" => Err(CommandError::Bad("an argument is missing")),
                word => Ok(word.to_vec()),
            },
        }
    }

    /// Takes a `string`: quoted or literal.
    pub(super) fn string(&mut self) -> Result<Vec<u8>> {
        if self.take(b'"') { self.quoted() } else { self.literal() }
    }

    fn quoted(&mut self) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        loop {
            text.extend_from_slice(self.run(|octet| !matches!(octet, b'"' | b'\\' | b'\r' | b'\n' | 0)));
            if self.take(b'"') {
                return Ok(text);
            }
            let escaped = self.take(b'\\');
            match self.rest.split_first() {
                Some((&octet @ (b'"' | b'\\'), rest)) if escaped => {
                    text.push(octet);
                    self.rest = rest;
                }
                _ => return Err(CommandError::Bad("a quoted string is broken")),
            }
        }
    }

    fn literal(&mut self) -> Result<Vec<u8>> {
        const BROKEN: CommandError = CommandError::Bad("a string is missing");
        let line = memchr::memchr(b'\n', self.rest).ok_or(BROKEN)?;
        let (announcement, rest) = self.rest.split_at(line + 1);
        let literal = Literal::announced(announcement)
            .filter(|_| memchr::memrchr(b'{', announcement) == Some(0))
            .ok_or(BROKEN)?;
        let (octets, rest) = rest.split_at_checked(literal.octets).ok_or(BROKEN)?;
        self.rest = rest;
        Ok(octets.to_vec())
    }
}

fn is_atom(octet: u8) -> bool {
    octet.is_ascii_graphic() && !matches!(octet, b'(' | b')' | b'{' | b'%' | b'*' | b'"' | b'\\' | b']')
}

fn is_astring(octet: u8) -> bool {
    is_atom(octet) || octet == b']'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_announced_at_the_end_of_a_line() {
        let announced = |line: &[u8]| Literal::announced(line).map(|l| (l.octets, l.synchronizing));
        assert_eq!(announced(b"a LOGIN {4}\r\n"), Some((4, true)));
        assert_eq!(announced(b"a LOGIN {4+}\n"), Some((4, false)));
        assert_eq!(announced(b"{0}\r\n"), Some((0, true)));
        assert_eq!(announced(b"{99999999999999999999999}\r\n"), Some((usize::MAX, true)));
        for line in [
            &b"a {4} \r\n"[..],
            b"a {}\r\n",
            b"a {+}\r\n",
            b"a {-1}\r\n",
            b"a 4}\r\n",
            b"a \"{4}\"\r\n",
        ] {
            assert_eq!(announced(line), None, "{line:?}");
        }
    }

    #[test]
    fn strings_of_all_three_kinds() {
        let mut words = Words::new(b"plain] \"qu\\\"o\\\\ted\" {4}\r\n\r\n\") \"\" {2+}\r\nab");
        for expected in [&b"plain]"[..], b"qu\"o\\ted", b"\r\n\")", b"", b"ab"] {
            assert_eq!(words.astring().unwrap(), expected);
            let _ = words.space();
        }
        words.end().unwrap();
    }

    #[test]
    fn broken_strings() {
        for text in [
            &b""[..],
            b"\"open",
            b"\"\\a\"",
            b"\"a\r\n\"",
            b"{4}\r\nabc",
            b"{x}\r\nabc",
            b"{3}abc",
            b"(",
            b"\xe4",
        ] {
            assert!(Words::new(text).astring().is_err(), "{text:?}");
        }
    }
}
