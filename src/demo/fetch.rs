//! The data items that FETCH asks for, and the response with them (RFC 3501 §6.4.5, §7.4.2).

use bytes::Bytes;

use super::{
    reply::{CommandError, Reply},
    sequence::Numbering,
    store::Message,
    syntax::Words,
};

/// One data item of FETCH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item {
    Uid,
    Flags,
    InternalDate,
    Size,
    Body(BodyItem),
}

/// Which octets of a message are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BodyItem {
    /// The name of the item in the answer.
    label: &'static str,
    section: Section,
    /// Whether FETCH leaves `\Seen` as it is (`BODY.PEEK`).
    peek: bool,
    partial: Option<Partial>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    Full,
    Header,
    Text,
}

/// `<origin.length>`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Partial {
    origin: u32,
    length: u32,
}

const FAST: [Item; 3] = [Item::Flags, Item::InternalDate, Item::Size];
const NO_STRUCTURE: CommandError = CommandError::No("[CANNOT] this server does not look inside messages");

/// Parses the rest of a FETCH command. `UID FETCH` always answers with the UID.
pub(super) fn parse(words: &mut Words<'_>, numbering: Numbering) -> Result<Vec<Item>, CommandError> {
    let mut items = Vec::new();
    if words.take(b'(') {
        loop {
            let name = words.keyword()?;
            items.push(item(&name, words)?);
            if words.take(b')') {
                break;
            }
            words.space()?;
        }
    } else {
        match words.keyword()?.as_str() {
            "FAST" => items.extend(FAST),
            "ALL" | "FULL" => return Err(NO_STRUCTURE),
            name => items.push(item(name, words)?),
        }
    }
    if numbering == Numbering::Uid && !items.contains(&Item::Uid) {
        items.insert(0, Item::Uid);
    }
    Ok(items)
}

fn item(name: &str, words: &mut Words<'_>) -> Result<Item, CommandError> {
    let whole = |label, section, peek| {
        Ok(Item::Body(BodyItem {
            label,
            section,
            peek,
            partial: None,
        }))
    };
    match name {
        "UID" => Ok(Item::Uid),
        "FLAGS" => Ok(Item::Flags),
        "INTERNALDATE" => Ok(Item::InternalDate),
        "RFC822.SIZE" => Ok(Item::Size),
        "RFC822" => whole("RFC822", Section::Full, false),
        "RFC822.HEADER" => whole("RFC822.HEADER", Section::Header, true),
        "RFC822.TEXT" => whole("RFC822.TEXT", Section::Text, false),
        "BODY" if words.take(b'[') => body(words, false),
        "BODY.PEEK" if words.take(b'[') => body(words, true),
        "BODY" | "BODYSTRUCTURE" | "ENVELOPE" => Err(NO_STRUCTURE),
        _ => Err(CommandError::Bad("FETCH knows no such item")),
    }
}

/// Parses what follows `BODY[` or `BODY.PEEK[`.
fn body(words: &mut Words<'_>, peek: bool) -> Result<Item, CommandError> {
    let (label, section) = if words.take(b']') {
        ("BODY[]", Section::Full)
    } else {
        let known = match words.keyword()?.as_str() {
            "HEADER" => ("BODY[HEADER]", Section::Header),
            "TEXT" => ("BODY[TEXT]", Section::Text),
            "HEADER.FIELDS" | "HEADER.FIELDS.NOT" => return Err(NO_STRUCTURE),
            part if part.starts_with(|first: char| matches!(first, '1'..='9')) => return Err(NO_STRUCTURE),
            _ => return Err(CommandError::Bad("FETCH knows no such section")),
        };
        words.expect(b']')?;
        known
    };
    let partial = if words.take(b'<') { Some(partial(words)?) } else { None };
    Ok(Item::Body(BodyItem {
        label,
        section,
        peek,
        partial,
    }))
}

fn partial(words: &mut Words<'_>) -> Result<Partial, CommandError> {
    let origin = words.number()?;
    words.expect(b'.')?;
    let length = words.number()?;
    words.expect(b'>')?;
    if length == 0 {
        return Err(CommandError::Bad("a part of no octets"));
    }
    Ok(Partial { origin, length })
}

/// Whether one of the items sets `\Seen`.
pub(super) fn reads(items: &[Item]) -> bool {
    items.iter().any(|item| matches!(item, Item::Body(body) if !body.peek))
}

/// Writes the response for one message.
pub(super) fn write(reply: &mut Reply, number: u32, message: &Message, items: &[Item]) {
    reply.text(format_args!("* {number} FETCH ("));
    for (at, item) in items.iter().enumerate() {
        let space = if at == 0 { "" } else { " " };
        match item {
            Item::Uid => reply.text(format_args!("{space}UID {}", message.uid)),
            Item::Flags => reply.text(format_args!("{space}FLAGS ({})", message.flags)),
            Item::InternalDate => reply.text(format_args!("{space}INTERNALDATE \"{}\"", message.received)),
            Item::Size => reply.text(format_args!("{space}RFC822.SIZE {}", message.octets.len())),
            Item::Body(body) => {
                reply.text(format_args!("{space}{}", body.label));
                if let Some(Partial { origin, .. }) = body.partial {
                    reply.text(format_args!("<{origin}>"));
                }
                reply.text(format_args!(" "));
                reply.literal(body.octets(message));
            }
        }
    }
    reply.line(format_args!(")"));
}

impl BodyItem {
    /// The octets to send. A partial that begins past the end is empty; one that goes past the end is cut (RFC 3501
    /// §6.4.5).
    fn octets(&self, message: &Message) -> Bytes {
        let octets = match self.section {
            Section::Full => message.octets.clone(),
            Section::Header => message.header(),
            Section::Text => message.text(),
        };
        let Some(Partial { origin, length }) = self.partial else {
            return octets;
        };
        let clamp = |at: u64| usize::try_from(at).map_or(octets.len(), |at| at.min(octets.len()));
        let (origin, length) = (u64::from(origin), u64::from(length));
        octets.slice(clamp(origin)..clamp(origin + length))
    }
}

/// The items of the response that reports changed flags.
pub(super) fn flags_of(numbering: Numbering) -> &'static [Item] {
    match numbering {
        Numbering::Sequence => &[Item::Flags],
        Numbering::Uid => &[Item::Uid, Item::Flags],
    }
}

/// Adds FLAGS to `items`, to report the `\Seen` that this FETCH has just set.
pub(super) fn with_flags(items: &[Item]) -> Vec<Item> {
    let mut items = items.to_vec();
    if !items.contains(&Item::Flags) {
        items.push(Item::Flags);
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<Item>, CommandError> {
        let mut words = Words::new(text.as_bytes());
        let items = parse(&mut words, Numbering::Sequence)?;
        words.end()?;
        Ok(items)
    }

    #[test]
    fn items_and_macros() {
        assert_eq!(parsed("fast").unwrap(), FAST);
        assert_eq!(parsed("(UID RFC822.SIZE)").unwrap(), [Item::Uid, Item::Size]);
        let header = Item::Body(BodyItem {
            label: "BODY[HEADER]",
            section: Section::Header,
            peek: true,
            partial: Some(Partial { origin: 3, length: 9 }),
        });
        assert_eq!(parsed("body.peek[header]<3.9>").unwrap(), [header]);
        assert!(!reads(&[header]));
        assert!(reads(&parsed("(UID BODY[])").unwrap()));
    }

    #[test]
    fn what_is_refused_and_how() {
        for text in [
            "ENVELOPE",
            "(UID BODYSTRUCTURE)",
            "BODY",
            "ALL",
            "FULL",
            "BODY[1]",
            "BODY.PEEK[HEADER.FIELDS (To)]",
        ] {
            assert_eq!(parsed(text), Err(NO_STRUCTURE), "{text}");
        }
        for text in [
            "",
            "()",
            "(UID",
            "(UID )",
            "(FAST)",
            "UID FLAGS",
            "BODY.PEEK",
            "BODY[",
            "BODY[]<1>",
            "BODY[]<1.0>",
            "X",
            "BODY[X]",
        ] {
            assert!(matches!(parsed(text), Err(CommandError::Bad(_))), "{text}");
        }
    }
}
