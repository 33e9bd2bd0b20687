//! Parses FETCH responses (RFC 3501 §7.4.2) as a stream: a response is a sequence of segments with literals between
//! them, and only one segment is held at a time.
//!
//! Everything that has only one possible meaning is accepted: attributes in any order, superfluous parentheses, an item
//! named as it was asked for (`BODY.PEEK[]`), a literal that follows its name without a space. If the value of an
//! attribute is not valid, the attribute is left out. UID is the exception: without it nobody knows which message the
//! data belong to, so the response is an error.

use super::{date, token};
use crate::types::Uid;

/// What has been read of one FETCH response so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Fetch {
    /// `UID`
    pub uid: Option<Uid>,
    /// `RFC822.SIZE`; `u32::MAX` if the server sends a number that 32 bits do not hold (RFC 3501 §9, `number`).
    pub size: Option<u32>,
    /// `FLAGS`
    pub flags: Option<Flags>,
    /// `INTERNALDATE`, in seconds since 1970.
    pub arrived: Option<u32>,
    /// `EMAILID` (RFC 8474 §5.1)
    pub email_id: Option<Box<str>>,
    /// The sum of the octets of all parts in `BODYSTRUCTURE`.
    pub structure: Option<u32>,
    /// The list of attributes has begun.
    is_open: bool,
    /// How many superfluous parentheses around attributes are open.
    needless: u32,
    /// How many parentheses of an attribute's value are open.
    nested: u32,
}

/// The flags that matter here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags {
    /// `\Deleted`
    pub deleted: bool,
    /// `\Seen`
    pub seen: bool,
}

/// Why [`Fetch::parse`] stopped.
#[derive(Debug, PartialEq, Eq)]
pub enum ParseStop {
    /// The response is complete.
    End,
    /// The content of a section follows the segment, as a literal of this many octets; then comes the next segment.
    Literal(Section, u64),
    /// The content of a section stands in the segment itself. Call again with the octets from `rest` on.
    Inline {
        /// Which part of the message the content is.
        section: Section,
        /// `None` for NIL.
        content: Option<Vec<u8>>,
        /// Where in the segment to go on.
        rest: usize,
    },
}

/// The part of a message that a content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// `BODY[]`, `RFC822`
    Whole,
    /// `BODY[HEADER]`, `RFC822.HEADER`
    Header,
    /// `BODY[TEXT]`, `RFC822.TEXT`
    Text,
    /// `BODY[HEADER.FIELDS (…)]`
    Fields,
    /// Any other. The gateway asks for none of these.
    Other,
}

/// The segment is not FETCH data.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

/// What follows FETCH in an untagged response such as `12 FETCH (UID 1)`; `None` if the response is not FETCH.
pub fn data(untagged: &[u8]) -> Option<&[u8]> {
    let (first, rest) = token::word(untagged);
    if !first.first().is_some_and(u8::is_ascii_digit) {
        return None;
    }
    let head = rest.get(..5)?;
    (head.eq_ignore_ascii_case(b"FETCH") && rest.get(5).is_none_or(|&b| b == b' ' || b == b'('))
        .then(|| rest[5..].trim_ascii_start())
}

impl Fetch {
    /// Parses `segment`: a line without its line end, or what follows an inline content.
    pub fn parse(&mut self, segment: &[u8]) -> Result<ParseStop, Malformed> {
        let mut at = 0;
        if !self.is_open {
            if segment.first() != Some(&b'(') {
                return Err(Malformed);
            }
            self.is_open = true;
            at = 1;
        }
        // A literal inside a nested list was skipped before this segment: go on in that list.
        if self.nested > 0
            && let Some(stop) = self.skip_list(segment, &mut at)?
        {
            return Ok(stop);
        }
        // The item whose content stands in superfluous parentheses.
        let mut pending: Option<(&[u8], Option<Section>)> = None;
        loop {
            at += spaces(&segment[at..]);
            match segment.get(at) {
                None => return Err(Malformed),
                Some(_) if pending.is_some() => {}
                Some(b')') if self.needless == 0 => return Ok(ParseStop::End),
                Some(b')') => {
                    self.needless -= 1;
                    at += 1;
                    continue;
                }
                Some(b'(') => {
                    self.needless += 1;
                    at += 1;
                    continue;
                }
                Some(_) => {}
            }
            let (name, section) = match pending.take() {
                Some(item) => item,
                None => {
                    let name = &segment[at..at + name_length(&segment[at..])];
                    at += name.len();
                    (name, section(name))
                }
            };
            if name.is_empty() {
                return Err(Malformed);
            }
            at += spaces(&segment[at..]);
            match segment.get(at) {
                None => return Err(Malformed),
                // A superfluous parenthesis around a content.
                Some(b'(') if section.is_some() => {
                    self.needless += 1;
                    at += 1;
                    pending = Some((name, section));
                }
                Some(b'(') => {
                    let start = at;
                    at += 1;
                    self.nested = 1;
                    if let Some(stop) = self.skip_list(segment, &mut at)? {
                        return Ok(stop);
                    }
                    self.take_list(name, &segment[start + 1..at - 1])?;
                }
                Some(b'"') => {
                    let content = quoted(segment, &mut at)?;
                    if let Some(section) = section {
                        return Ok(ParseStop::Inline {
                            section,
                            content: Some(content),
                            rest: at,
                        });
                    }
                    self.take_value(name, &content)?;
                }
                Some(b'{' | b'~') => {
                    let octets = literal_at(segment, at).ok_or(Malformed)?;
                    return Ok(ParseStop::Literal(section.unwrap_or(Section::Other), octets));
                }
                Some(_) => {
                    let length = segment[at..]
                        .iter()
                        .position(|b| b" )".contains(b))
                        .unwrap_or(segment.len() - at);
                    let value = &segment[at..at + length];
                    at += length;
                    match section {
                        Some(section) if value.eq_ignore_ascii_case(b"NIL") => {
                            return Ok(ParseStop::Inline {
                                section,
                                content: None,
                                rest: at,
                            });
                        }
                        Some(_) => return Err(Malformed),
                        None => self.take_value(name, value)?,
                    }
                }
            }
        }
    }

    /// Takes an attribute whose value is an atom or a string.
    fn take_value(&mut self, name: &[u8], value: &[u8]) -> Result<(), Malformed> {
        if name.eq_ignore_ascii_case(b"UID") {
            let uid = token::number(value).filter(|&uid| uid > 0).ok_or(Malformed)?;
            self.uid = Some(Uid(uid));
        } else if name.eq_ignore_ascii_case(b"RFC822.SIZE") {
            self.size = size(value);
        } else if name.eq_ignore_ascii_case(b"INTERNALDATE") {
            self.arrived = date::seconds(value);
        } else if name.eq_ignore_ascii_case(b"EMAILID") && !value.eq_ignore_ascii_case(b"NIL") {
            self.email_id = std::str::from_utf8(value).ok().map(Box::from);
        }
        Ok(())
    }

    /// Takes an attribute whose value is a list. `inner` has no parentheses around it.
    fn take_list(&mut self, name: &[u8], inner: &[u8]) -> Result<(), Malformed> {
        let value = inner.trim_ascii();
        if name.eq_ignore_ascii_case(b"FLAGS") {
            self.flags = Some(Flags {
                deleted: has_flag(inner, b"\\Deleted"),
                seen: has_flag(inner, b"\\Seen"),
            });
        } else if name.eq_ignore_ascii_case(b"BODYSTRUCTURE") || name.eq_ignore_ascii_case(b"BODY") {
            self.structure = structure_octets(inner);
        } else {
            let value = value
                .strip_prefix(b"\"")
                .and_then(|value| value.strip_suffix(b"\""))
                .unwrap_or(value);
            self.take_value(name, value)?;
        }
        Ok(())
    }

    /// Goes to the end of the list that is open at `at`. If there is a literal inside it, stops and returns that
    /// literal.
    fn skip_list(&mut self, segment: &[u8], at: &mut usize) -> Result<Option<ParseStop>, Malformed> {
        while self.nested > 0 {
            match segment.get(*at) {
                None => return Err(Malformed),
                Some(b'(') => self.nested += 1,
                Some(b')') => self.nested -= 1,
                // A quote inside an atom is part of the atom: some odd keywords contain one.
                Some(b'"') if *at == 0 || b" (".contains(&segment[*at - 1]) => {
                    quoted(segment, at)?;
                    continue;
                }
                // Only near the end, because there may be a brace at each octet of a long line.
                Some(b'{') if segment.len() - *at <= LONGEST_LITERAL => {
                    if let Some(octets) = literal_at(segment, *at) {
                        return Ok(Some(ParseStop::Literal(Section::Other, octets)));
                    }
                }
                Some(_) => {}
            }
            *at += 1;
        }
        Ok(None)
    }
}

/// The longest `{n+}` that [`token::literal`] accepts.
const LONGEST_LITERAL: usize = 18 + "{+}".len();

/// How many octets the literal has that begins at `at` and ends the segment.
fn literal_at(segment: &[u8], at: usize) -> Option<u64> {
    let rest = &segment[at..];
    let braces = memchr::memchr_iter(b'{', rest).count();
    token::literal(rest).filter(|_| braces == 1)
}

fn spaces(octets: &[u8]) -> usize {
    octets.iter().take_while(|&&b| b == b' ').count()
}

/// The length of a name such as `UID`, `BODY[HEADER.FIELDS (DATE)]<0>` or `BODY []`. A name ends at a space, a
/// parenthesis, a quote or a literal, unless these stand between brackets.
fn name_length(octets: &[u8]) -> usize {
    let mut bracket = false;
    let end = octets
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
            b' ' | b'(' | b')' | b'"' | b'{' => !bracket,
            _ => false,
        })
        .unwrap_or(octets.len());
    let next = end + spaces(&octets[end..]);
    match octets.get(next) {
        // `BODY []`: the brackets belong to the name.
        Some(b'[') if next > end && is_body(&octets[..end]) => next + name_length(&octets[next..]),
        _ => end,
    }
}

fn is_body(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"BODY") || name.eq_ignore_ascii_case(b"BODY.PEEK")
}

/// The section whose content the item `name` carries; `None` if it carries no content.
fn section(name: &[u8]) -> Option<Section> {
    if let Some(open) = memchr::memchr(b'[', name)
        && is_body(name[..open].trim_ascii_end())
    {
        let inner = &name[open + 1..];
        let end = memchr::memchr(b']', inner)?;
        return Some(match inner[..end].trim_ascii().to_ascii_uppercase().as_slice() {
            b"" => Section::Whole,
            b"HEADER" => Section::Header,
            b"TEXT" => Section::Text,
            inner if inner.starts_with(b"HEADER.FIELDS ") => Section::Fields,
            _ => Section::Other,
        });
    }
    let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
    match () {
        () if is(b"RFC822") || is(b"RFC822.PEEK") || is(b"BINARY[]") => Some(Section::Whole),
        () if is(b"RFC822.HEADER") => Some(Section::Header),
        () if is(b"RFC822.TEXT") || is(b"RFC822.TEXT.PEEK") => Some(Section::Text),
        () => None,
    }
}

/// A size; `None` if it is not a number (servers were seen with `-1`, `NIL` and `9.3e+06`).
fn size(digits: &[u8]) -> Option<u32> {
    token::long_number(digits).map(|value| u32::try_from(value).unwrap_or(u32::MAX))
}

fn has_flag(list: &[u8], flag: &[u8]) -> bool {
    list.split(|b| b" ()".contains(b))
        .any(|word| word.eq_ignore_ascii_case(flag))
}

/// How many octets all parts of a body have together (RFC 3501 §7.4.2, `body-fld-octets`). This adds up the seventh
/// field of each list that begins with a string. `None` if there is no such field.
fn structure_octets(inner: &[u8]) -> Option<u32> {
    /// For an open list: how many of its fields have come, and whether the first was a string.
    #[derive(Clone, Copy, Default)]
    struct List {
        fields: usize,
        is_part: bool,
    }
    /// Messages seldom nest their parts deeper.
    const DEEPEST: usize = 64;
    const OCTETS: usize = 7;

    let mut lists = vec![List::default()];
    let mut total: Option<u32> = None;
    let mut at = 0;
    while at < inner.len() {
        let list = lists.last_mut()?;
        match inner[at] {
            b' ' => at += 1,
            b'(' => {
                list.fields += 1;
                if lists.len() == DEEPEST {
                    return None;
                }
                lists.push(List::default());
                at += 1;
            }
            b')' => {
                lists.pop();
                at += 1;
            }
            first => {
                list.fields += 1;
                let from = at;
                if first == b'"' {
                    quoted(inner, &mut at).ok()?;
                } else {
                    at += inner[at..]
                        .iter()
                        .position(|b| b" ()".contains(b))
                        .unwrap_or(inner.len() - at);
                }
                if list.fields == 1 {
                    list.is_part = true;
                } else if list.fields == OCTETS
                    && list.is_part
                    && let Some(octets) = size(&inner[from..at])
                {
                    total = Some(total.unwrap_or(0).saturating_add(octets));
                }
            }
        }
    }
    total
}

/// Reads the quoted string at `at`, and moves `at` behind it.
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

    fn parse(line: &[u8]) -> Result<(Fetch, ParseStop), Malformed> {
        let mut fetch = Fetch::default();
        let stop = fetch.parse(data(line).ok_or(Malformed)?)?;
        Ok((fetch, stop))
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
            b"1 FETCH ((UID 7 RFC822.SIZE 1234))",
            b"1 FETCH ((UID 7) (RFC822.SIZE 1234))",
            b"1 FETCH (UID (7) RFC822.SIZE (1234))",
            b"1 FETCH (UID \"7\" RFC822.SIZE \"1234\")",
            b"1 FETCH (UID 7 FLAGS (\\Seen odd\"quote [Gmail]/x $a{b} %*) RFC822.SIZE 1234)",
            b"1 FETCH (UID 7 FLAGS NIL INTERNALDATE NIL EMAILID NIL RFC822.SIZE 1234)",
            b"1 FETCH (UID 7 FLAGS () MODSEQ (1) X-GM-MSGID 5 RFC822.SIZE 1234 )",
        ] {
            let (fetch, stop) = parse(line).unwrap();
            assert_eq!(
                (fetch.uid, fetch.size, stop),
                (Some(Uid(7)), Some(1234), ParseStop::End),
                "{}",
                line.escape_ascii()
            );
        }
        let (fetch, _) = parse(b"1 FETCH (FLAGS (\\Seen \\deleted) UID 7)").unwrap();
        assert_eq!(fetch.flags.map(|flags| (flags.deleted, flags.seen)), Some((true, true)));
        let (fetch, _) = parse(b"1 FETCH (UID 7 RFC822.SIZE 99999999999)").unwrap();
        assert_eq!(fetch.size, Some(u32::MAX));
        assert_eq!(parse(b"1 FETCH ()").unwrap().1, ParseStop::End);
    }

    #[test]
    fn a_size_that_is_none_costs_nothing_else() {
        for size in ["NIL", "-1", "9.3e+06", "x", "\"\"", "()", "99999999999999999999999"] {
            let (fetch, stop) = parse(format!("1 FETCH (RFC822.SIZE {size} UID 7)").as_bytes()).unwrap();
            assert_eq!(
                (fetch.uid, fetch.size, stop),
                (Some(Uid(7)), None, ParseStop::End),
                "{size}"
            );
        }
        let (fetch, stop) = parse(b"1 FETCH (UID 7 RFC822.SIZE)").unwrap();
        assert_eq!((fetch.uid, fetch.size, stop), (Some(Uid(7)), None, ParseStop::End));
    }

    #[test]
    fn what_the_parts_of_a_body_measure() {
        for (structure, octets) in [
            (
                "\"TEXT\" \"PLAIN\" (\"CHARSET\" \"utf-8\") NIL NIL \"7BIT\" 1152 23",
                Some(1152),
            ),
            (
                "(\"TEXT\" \"PLAIN\" NIL NIL NIL \"7BIT\" 100 3)(\"IMAGE\" \"PNG\" (\"NAME\" \"a)b\") NIL NIL \"BASE64\" 4000) \"MIXED\"",
                Some(4100),
            ),
            (
                "((\"TEXT\" \"A\" NIL NIL NIL \"7BIT\" 1 1) (\"TEXT\" \"B\" NIL NIL NIL \"7BIT\" 2 1) \"ALTERNATIVE\") \"MIXED\"",
                Some(3),
            ),
            ("\"TEXT\" \"PLAIN\" NIL NIL NIL \"7BIT\" -1 3", None),
            ("NIL", None),
            ("", None),
        ] {
            let (fetch, _) = parse(format!("1 FETCH (BODYSTRUCTURE ({structure}) UID 7)").as_bytes()).unwrap();
            assert_eq!((fetch.uid, fetch.structure), (Some(Uid(7)), octets), "{structure}");
        }
        assert_eq!(structure_octets(&b"(".repeat(100)), None);
    }

    #[test]
    fn contents_by_any_name() {
        for (item, section) in [
            ("BODY[]", Section::Whole),
            ("BODY.PEEK[]", Section::Whole),
            ("body []", Section::Whole),
            ("RFC822", Section::Whole),
            ("BODY[]<0>", Section::Whole),
            ("BODY.PEEK[HEADER]", Section::Header),
            ("RFC822.HEADER", Section::Header),
            ("BODY[TEXT]<0>", Section::Text),
            ("RFC822.TEXT", Section::Text),
            ("BODY.PEEK[HEADER.FIELDS (DATE)]", Section::Fields),
            ("BODY[1.MIME]", Section::Other),
        ] {
            for blank in ["", " ", "  "] {
                let line = format!("1 FETCH (UID 7 {item}{blank}{{12}}");
                assert_eq!(
                    parse(line.as_bytes()).unwrap().1,
                    ParseStop::Literal(section, 12),
                    "{line}"
                );
            }
        }
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
            ParseStop::Literal(Section::Whole, 12)
        );
        assert_eq!(
            parse(b"1 FETCH (UID 7 BODY[TEXT]<0> {3}").unwrap().1,
            ParseStop::Literal(Section::Text, 3)
        );
        assert_eq!(
            parse(b"1 FETCH (body[header] {0}").unwrap().1,
            ParseStop::Literal(Section::Header, 0)
        );
        assert_eq!(
            parse(b"1 FETCH (BODY[HEADER.FIELDS (DATE)] {9}").unwrap().1,
            ParseStop::Literal(Section::Fields, 9)
        );
        assert_eq!(
            parse(b"1 FETCH (BODY[1.MIME] {9}").unwrap().1,
            ParseStop::Literal(Section::Other, 9)
        );

        let mut fetch = Fetch::default();
        let segment = b"(BODY[] \"a\\\"b\" UID 7)";
        let ParseStop::Inline {
            section: Section::Whole,
            content,
            rest,
        } = fetch.parse(segment).unwrap()
        else {
            panic!()
        };
        assert_eq!(content.as_deref(), Some(&b"a\"b"[..]));
        assert_eq!(fetch.parse(&segment[rest..]), Ok(ParseStop::End));
        assert_eq!(fetch.uid, Some(Uid(7)));

        let (_, stop) = parse(b"1 FETCH (UID 7 BODY[] NIL)").unwrap();
        assert!(matches!(stop, ParseStop::Inline { content: None, .. }));
    }

    #[test]
    fn segments_after_literals() {
        let mut fetch = Fetch::default();
        assert_eq!(
            fetch.parse(b"(BODY[HEADER] {5}"),
            Ok(ParseStop::Literal(Section::Header, 5))
        );
        assert_eq!(
            fetch.parse(b" BODY[TEXT]<0> {6}"),
            Ok(ParseStop::Literal(Section::Text, 6))
        );
        assert_eq!(fetch.parse(b" UID 7)"), Ok(ParseStop::End));
        assert_eq!(fetch.uid, Some(Uid(7)));

        let mut fetch = Fetch::default();
        assert_eq!(
            fetch.parse(b"(ENVELOPE (NIL ({5}"),
            Ok(ParseStop::Literal(Section::Other, 5))
        );
        assert_eq!(fetch.parse(b" \"x\")) UID 7)"), Ok(ParseStop::End));
        assert_eq!(fetch.uid, Some(Uid(7)));
    }

    #[test]
    fn a_long_line_of_braces_or_parentheses_has_its_literal_at_the_end() {
        const LENGTH: usize = 250_000;
        let braces = format!("1 FETCH (UID 7 FLAGS (x {}) ENVELOPE ({{7}}", "{".repeat(LENGTH));
        let (fetch, stop) = parse(braces.as_bytes()).unwrap();
        assert_eq!((fetch.uid, stop), (Some(Uid(7)), ParseStop::Literal(Section::Other, 7)));
        let longest = b"1 FETCH (ENVELOPE ({000000000000000012+}";
        assert_eq!(parse(longest).unwrap().1, ParseStop::Literal(Section::Other, 12));
        let (name, parentheses) = ("1".repeat(LENGTH / 2), "(".repeat(LENGTH / 2));
        let (_, stop) = parse(format!("1 FETCH (BODY[{name}] {parentheses}{{7}}").as_bytes()).unwrap();
        assert_eq!(stop, ParseStop::Literal(Section::Other, 7));
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
