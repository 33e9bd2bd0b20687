//! FETCH responses (RFC 3501 §7.4.2) parsed as a stream: a response is a row of segments with literals between them, and no
//! more than one segment is ever held. Nothing is allocated but for an EMAILID and a body that comes as a quoted string.

use super::{date, response};

/// What one FETCH response has told so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Fetch {
    /// `UID`
    pub uid: Option<u32>,
    /// `RFC822.SIZE`; saturated where a server says more than 32 bits hold (RFC 3501 §9, `number`).
    pub size: Option<u32>,
    /// Whether `FLAGS` bears `\Deleted`.
    pub deleted: Option<bool>,
    /// `INTERNALDATE`, in seconds since 1970.
    pub arrived: Option<u32>,
    /// `EMAILID` (RFC 8474 §5.1)
    pub email_id: Option<Box<str>>,
    /// Open parentheses.
    depth: u32,
}

/// Why parsing stopped.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// The response is complete.
    End,
    /// A section's content follows the segment as a literal of so many octets; then the next segment.
    Literal(Section, u64),
    /// A section's content, given in the segment itself; call again with the octets from `rest` on.
    Inline {
        /// Whose content.
        section: Section,
        /// `None` for NIL.
        content: Option<Vec<u8>>,
        /// Where in the segment to go on.
        rest: usize,
    },
}

/// What a content belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// `BODY[]`
    Whole,
    /// `BODY[HEADER]`
    Header,
    /// `BODY[TEXT]`
    Text,
    /// `BODY[HEADER.FIELDS (…)]`
    Fields,
    /// Any other; not asked for.
    Other,
}

/// The segment is not FETCH data.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

/// Takes the head of a FETCH response off: of `12 FETCH (UID 1)`, what follows FETCH. `None` for other data.
pub fn data(untagged: &[u8]) -> Option<&[u8]> {
    let (first, rest) = response::word(untagged);
    if !first.first().is_some_and(u8::is_ascii_digit) {
        return None;
    }
    let head = rest.get(..5)?;
    (head.eq_ignore_ascii_case(b"FETCH") && rest.get(5).is_none_or(|&b| b == b' ' || b == b'('))
        .then(|| rest[5..].trim_ascii_start())
}

impl Fetch {
    /// Parses `segment` (a line without its line end, or what follows an inline content) as far as it goes.
    pub fn parse(&mut self, segment: &[u8]) -> Result<Step, Malformed> {
        let mut at = 0;
        if self.depth == 0 {
            if segment.first() != Some(&b'(') {
                return Err(Malformed);
            }
            self.depth = 1;
            at = 1;
        }
        // A literal inside a nested list has been skipped: go on in that list.
        while self.depth > 1 {
            match self.skip_list(segment, &mut at)? {
                Some(step) => return Ok(step),
                None => debug_assert_eq!(self.depth, 1),
            }
        }
        loop {
            at += spaces(&segment[at..]);
            match segment.get(at) {
                None => return Err(Malformed),
                Some(b')') => return Ok(Step::End),
                Some(_) => {}
            }
            let name = &segment[at..at + name_length(&segment[at..])];
            if name.is_empty() {
                return Err(Malformed);
            }
            at += name.len();
            let section = section(name);
            at += spaces(&segment[at..]);
            match segment.get(at) {
                None => return Err(Malformed),
                Some(b'(') => {
                    let start = at;
                    at += 1;
                    self.depth += 1;
                    if let Some(step) = self.skip_list(segment, &mut at)? {
                        return Ok(step);
                    }
                    let inner = &segment[start + 1..at - 1];
                    if name.eq_ignore_ascii_case(b"FLAGS") {
                        self.deleted = Some(has_flag(inner, b"\\Deleted"));
                    } else if name.eq_ignore_ascii_case(b"EMAILID") {
                        self.email_id = std::str::from_utf8(inner).ok().map(|id| id.trim().into());
                    }
                }
                Some(b'"') => {
                    let content = quoted(segment, &mut at)?;
                    if let Some(section) = section {
                        return Ok(Step::Inline {
                            section,
                            content: Some(content),
                            rest: at,
                        });
                    }
                    if name.eq_ignore_ascii_case(b"INTERNALDATE") {
                        self.arrived = date::seconds(&content);
                    }
                }
                Some(b'{' | b'~') => {
                    let octets = response::literal(&segment[at..]).ok_or(Malformed)?;
                    return Ok(Step::Literal(section.unwrap_or(Section::Other), octets));
                }
                Some(_) => {
                    let length = segment[at..]
                        .iter()
                        .position(|b| b" )".contains(b))
                        .unwrap_or(segment.len() - at);
                    let value = &segment[at..at + length];
                    at += length;
                    if name.eq_ignore_ascii_case(b"UID") {
                        self.uid = Some(response::number(value).filter(|&uid| uid > 0).ok_or(Malformed)?);
                    } else if name.eq_ignore_ascii_case(b"RFC822.SIZE") {
                        self.size = Some(size(value).ok_or(Malformed)?);
                    } else if let Some(section) = section {
                        return if value.eq_ignore_ascii_case(b"NIL") {
                            Ok(Step::Inline {
                                section,
                                content: None,
                                rest: at,
                            })
                        } else {
                            Err(Malformed)
                        };
                    }
                }
            }
        }
    }

    /// Goes to the end of the list that is open at `at`; stops at a literal inside it.
    fn skip_list(&mut self, segment: &[u8], at: &mut usize) -> Result<Option<Step>, Malformed> {
        let target = 1;
        while self.depth > target {
            match segment.get(*at) {
                None => return Err(Malformed),
                Some(b'(') => self.depth += 1,
                Some(b')') => self.depth -= 1,
                Some(b'"') => {
                    quoted(segment, at)?;
                    continue;
                }
                Some(b'{') => {
                    if let Some(octets) = response::literal(&segment[*at..]) {
                        return Ok(Some(Step::Literal(Section::Other, octets)));
                    }
                }
                Some(_) => {}
            }
            *at += 1;
        }
        Ok(None)
    }
}

fn spaces(octets: &[u8]) -> usize {
    octets.iter().take_while(|&&b| b == b' ').count()
}

/// `UID`, `BODY[HEADER.FIELDS (DATE)]<0>`: a name ends at a space or parenthesis, but not between brackets.
fn name_length(octets: &[u8]) -> usize {
    let mut bracket = false;
    octets
        .iter()
        .position(|&b| match b {
            b'[' => {
                bracket = true;
                false
            }
            b']' => {
                bracket = false;
                false
            }
            b' ' | b'(' | b')' => !bracket,
            _ => false,
        })
        .unwrap_or(octets.len())
}

/// The section of a `BODY[…]<origin>` item.
fn section(name: &[u8]) -> Option<Section> {
    let inner = name
        .get(..5)
        .filter(|head| head.eq_ignore_ascii_case(b"BODY["))
        .map(|_| &name[5..])?;
    let end = memchr::memchr(b']', inner)?;
    Some(match inner[..end].to_ascii_uppercase().as_slice() {
        b"" => Section::Whole,
        b"HEADER" => Section::Header,
        b"TEXT" => Section::Text,
        inner if inner.starts_with(b"HEADER.FIELDS ") => Section::Fields,
        _ => Section::Other,
    })
}

fn size(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || digits.len() > 18 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits
        .iter()
        .fold(0u64, |value, digit| value * 10 + u64::from(digit - b'0'));
    Some(u32::try_from(value).unwrap_or(u32::MAX))
}

fn has_flag(list: &[u8], flag: &[u8]) -> bool {
    list.split(|&b| b == b' ').any(|word| word.eq_ignore_ascii_case(flag))
}

fn quoted(segment: &[u8], at: &mut usize) -> Result<Vec<u8>, Malformed> {
    let mut content = Vec::new();
    let mut octets = segment[*at + 1..].iter().enumerate();
    while let Some((index, &octet)) = octets.next() {
        match octet {
            b'"' => {
                *at += index + 2;
                return Ok(content);
            }
            b'\\' => content.push(*octets.next().ok_or(Malformed)?.1),
            _ => content.push(octet),
        }
    }
    Err(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(line: &[u8]) -> Result<(Fetch, Step), Malformed> {
        let mut fetch = Fetch::default();
        let step = fetch.parse(data(line).ok_or(Malformed)?)?;
        Ok((fetch, step))
    }

    #[test]
    fn listing_lines_in_all_shapes() {
        for line in [
            &b"1 FETCH (UID 7 RFC822.SIZE 1234)"[..],
            b"1 fetch (rfc822.size 1234 uid 7 )",
            b"1 FETCH (UID 7 FLAGS (\\Seen $X) RFC822.SIZE 1234 MODSEQ (12))",
            b"1 FETCH  (UID 7 ENVELOPE (\"a)\\\"\" NIL ((\"x\" NIL))) RFC822.SIZE 1234)",
            b"1 FETCH (UID 7 INTERNALDATE \"01-Jan-2024 00:00:00 +0000\" RFC822.SIZE 1234)",
            b"1 FETCH (UID 7 BODY (\"TEXT\" \"PLAIN\" NIL) RFC822.SIZE 1234)",
        ] {
            let (fetch, step) = parse(line).unwrap();
            assert_eq!(
                (fetch.uid, fetch.size, step),
                (Some(7), Some(1234), Step::End),
                "{}",
                line.escape_ascii()
            );
        }
        let (fetch, _) = parse(b"1 FETCH (FLAGS (\\Seen \\deleted) UID 7)").unwrap();
        assert_eq!(fetch.deleted, Some(true));
        let (fetch, _) = parse(b"1 FETCH (UID 7 RFC822.SIZE 99999999999)").unwrap();
        assert_eq!(fetch.size, Some(u32::MAX));
        assert_eq!(parse(b"1 FETCH ()").unwrap().1, Step::End);
    }

    #[test]
    fn other_data_and_nonsense() {
        for line in [&b"1 EXISTS"[..], b"OK FETCH (UID 7)", b"1 FETCHED (UID 7)", b"", b"1"] {
            assert_eq!(data(line), None, "{}", line.escape_ascii());
        }
        for line in [
            &b"1 FETCH"[..],
            b"1 FETCH UID 7",
            b"1 FETCH (UID",
            b"1 FETCH (UID x)",
            b"1 FETCH (UID 0)",
            b"1 FETCH (BODY[] x)",
            b"1 FETCH (UID 7",
            b"1 FETCH (FLAGS (a)",
            b"1 FETCH (BODY[] \"x)",
        ] {
            assert_eq!(parse(line).map(|_| ()), Err(Malformed), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn bodies_as_literal_quoted_and_nil() {
        assert_eq!(
            parse(b"1 FETCH (UID 7 BODY[] {12}").unwrap().1,
            Step::Literal(Section::Whole, 12)
        );
        assert_eq!(
            parse(b"1 FETCH (UID 7 BODY[TEXT]<0> {3}").unwrap().1,
            Step::Literal(Section::Text, 3)
        );
        assert_eq!(
            parse(b"1 FETCH (body[header] {0}").unwrap().1,
            Step::Literal(Section::Header, 0)
        );
        assert_eq!(
            parse(b"1 FETCH (BODY[HEADER.FIELDS (DATE)] {9}").unwrap().1,
            Step::Literal(Section::Fields, 9)
        );
        assert_eq!(
            parse(b"1 FETCH (BODY[1.MIME] {9}").unwrap().1,
            Step::Literal(Section::Other, 9)
        );

        let mut fetch = Fetch::default();
        let segment = b"(BODY[] \"a\\\"b\" UID 7)";
        let Step::Inline {
            section: Section::Whole,
            content,
            rest,
        } = fetch.parse(segment).unwrap()
        else {
            panic!()
        };
        assert_eq!(content.as_deref(), Some(&b"a\"b"[..]));
        assert_eq!(fetch.parse(&segment[rest..]), Ok(Step::End));
        assert_eq!(fetch.uid, Some(7));

        let (_, step) = parse(b"1 FETCH (UID 7 BODY[] NIL)").unwrap();
        assert!(matches!(step, Step::Inline { content: None, .. }));
    }

    #[test]
    fn segments_after_literals() {
        let mut fetch = Fetch::default();
        assert_eq!(fetch.parse(b"(BODY[HEADER] {5}"), Ok(Step::Literal(Section::Header, 5)));
        assert_eq!(fetch.parse(b" BODY[TEXT]<0> {6}"), Ok(Step::Literal(Section::Text, 6)));
        assert_eq!(fetch.parse(b" UID 7)"), Ok(Step::End));
        assert_eq!(fetch.uid, Some(7));

        let mut fetch = Fetch::default();
        assert_eq!(
            fetch.parse(b"(ENVELOPE (NIL ({5}"),
            Ok(Step::Literal(Section::Other, 5))
        );
        assert_eq!(fetch.parse(b" \"x\")) UID 7)"), Ok(Step::End));
        assert_eq!(fetch.uid, Some(7));
    }

    proptest! {
        #[test]
        fn never_panics(segments in prop::collection::vec("[(){}\\[\\]\"\\\\ ~0-9a-zA-Z.<>]{0,40}", 1..4)) {
            let mut fetch = Fetch::default();
            for segment in segments {
                if fetch.parse(segment.as_bytes()).is_err() {
                    break;
                }
            }
        }
    }
}
