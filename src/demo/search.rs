//! What SEARCH looks for (RFC 3501 §6.4.4): flags, sizes, sets and NOT.

use super::{
    flags::Flags,
    reply::CommandError,
    sequence::{Numbering, SequenceSet},
    store::Message,
    syntax::Words,
};

/// One search key. A message must match all keys of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SearchKey {
    All,
    Has(Flags),
    Larger(u32),
    Smaller(u32),
    In(Numbering, SequenceSet),
    Not(Box<SearchKey>),
}

/// How deep NOT may nest: no real search is deeper, and the stack is finite.
const MAX_NESTING: u8 = 16;

const ELSEWHERE: [&str; 18] = [
    "BCC",
    "BEFORE",
    "BODY",
    "CC",
    "FROM",
    "HEADER",
    "KEYWORD",
    "ON",
    "OR",
    "SENTBEFORE",
    "SENTON",
    "SENTSINCE",
    "SINCE",
    "SUBJECT",
    "TEXT",
    "TO",
    "UNKEYWORD",
    "RETURN",
];

/// Parses the rest of a SEARCH command.
pub(super) fn parse(words: &mut Words<'_>) -> Result<Vec<SearchKey>, CommandError> {
    let mut keys = Vec::new();
    let mut first = true;
    loop {
        if words.at_sequence_set() {
            keys.push(SearchKey::In(Numbering::Sequence, words.sequence_set()?));
        } else if words.take(b'(') {
            return Err(CommandError::No("[CANNOT] this server searches without parentheses"));
        } else {
            let name = words.keyword()?;
            if first && name == "CHARSET" {
                words.space()?;
                charset(words)?;
            } else {
                keys.push(key(&name, words, MAX_NESTING)?);
            }
        }
        first = false;
        if words.is_empty() && !keys.is_empty() {
            return Ok(keys);
        }
        words.space()?;
    }
}

/// Parses the name of a charset, which must be UTF-8 or US-ASCII. The charset has no effect, because no key compares
/// text.
fn charset(words: &mut Words<'_>) -> Result<(), CommandError> {
    let name = words.astring()?;
    if [&b"UTF-8"[..], b"US-ASCII"]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(&name))
    {
        return Ok(());
    }
    Err(CommandError::No("[BADCHARSET (US-ASCII UTF-8)] unknown charset"))
}

fn key(name: &str, words: &mut Words<'_>, nesting: u8) -> Result<SearchKey, CommandError> {
    let lacks = |flag| Ok(SearchKey::Not(Box::new(SearchKey::Has(flag))));
    match name {
        // No message is ever \Recent here.
        "ALL" | "OLD" => Ok(SearchKey::All),
        "NEW" | "RECENT" => Ok(SearchKey::Not(Box::new(SearchKey::All))),
        "ANSWERED" => Ok(SearchKey::Has(Flags::ANSWERED)),
        "DELETED" => Ok(SearchKey::Has(Flags::DELETED)),
        "DRAFT" => Ok(SearchKey::Has(Flags::DRAFT)),
        "FLAGGED" => Ok(SearchKey::Has(Flags::FLAGGED)),
        "SEEN" => Ok(SearchKey::Has(Flags::SEEN)),
        "UNANSWERED" => lacks(Flags::ANSWERED),
        "UNDELETED" => lacks(Flags::DELETED),
        "UNDRAFT" => lacks(Flags::DRAFT),
        "UNFLAGGED" => lacks(Flags::FLAGGED),
        "UNSEEN" => lacks(Flags::SEEN),
        "LARGER" => {
            words.space()?;
            words.number().map(SearchKey::Larger)
        }
        "SMALLER" => {
            words.space()?;
            words.number().map(SearchKey::Smaller)
        }
        "UID" => {
            words.space()?;
            Ok(SearchKey::In(Numbering::Uid, words.sequence_set()?))
        }
        "NOT" => {
            words.space()?;
            if words.at_sequence_set() {
                let set = words.sequence_set()?;
                return Ok(SearchKey::Not(Box::new(SearchKey::In(Numbering::Sequence, set))));
            }
            let nesting = nesting.checked_sub(1).ok_or(CommandError::Bad("NOT nests too deep"))?;
            let name = words.keyword()?;
            Ok(SearchKey::Not(Box::new(key(&name, words, nesting)?)))
        }
        _ if ELSEWHERE.contains(&name) => Err(CommandError::No("[CANNOT] this server does not search for that")),
        _ => Err(CommandError::Bad("SEARCH knows no such key")),
    }
}

impl SearchKey {
    /// The set of message numbers in this key, if any. The caller checks that all of them exist.
    pub(super) fn sequence(&self) -> Option<&SequenceSet> {
        match self {
            Self::In(Numbering::Sequence, set) => Some(set),
            Self::Not(key) => key.sequence(),
            _ => None,
        }
    }

    /// Whether the message matches. `greatest`: the greatest message number and the greatest UID.
    pub(super) fn matches(&self, number: u32, message: &Message, greatest: (u32, u32)) -> bool {
        match self {
            Self::All => true,
            Self::Has(flag) => message.flags.contains(*flag),
            Self::Larger(octets) => message.octets.len() as u64 > u64::from(*octets),
            Self::Smaller(octets) => (message.octets.len() as u64) < u64::from(*octets),
            Self::In(Numbering::Sequence, set) => set.contains(number, greatest.0),
            Self::In(Numbering::Uid, set) => set.contains(message.uid, greatest.1),
            Self::Not(key) => !key.matches(number, message, greatest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<SearchKey>, CommandError> {
        parse(&mut Words::new(text.as_bytes()))
    }

    #[test]
    fn keys_stand_side_by_side() {
        assert_eq!(
            parsed("CHARSET utf-8 DELETED NOT larger 7").unwrap(),
            [
                SearchKey::Has(Flags::DELETED),
                SearchKey::Not(Box::new(SearchKey::Larger(7)))
            ]
        );
        assert_eq!(parsed("undeleted").unwrap(), parsed("NOT DELETED").unwrap());
    }

    #[test]
    fn what_is_refused_and_how() {
        for text in [
            "SUBJECT x",
            "(SEEN)",
            "OR SEEN DELETED",
            "CHARSET KOI8-R ALL",
            "RETURN (COUNT) ALL",
        ] {
            assert!(matches!(parsed(text), Err(CommandError::No(_))), "{text}");
        }
        let deep = "NOT ".repeat(1000) + "SEEN";
        for text in [
            "",
            "ALL ",
            "UID",
            "UID x",
            "0",
            "NOT",
            "LARGER x",
            "CHARSET UTF-8",
            "WHATEVER",
            "ALLSEEN",
            &deep,
        ] {
            assert!(matches!(parsed(text), Err(CommandError::Bad(_))), "{text}");
        }
    }
}
