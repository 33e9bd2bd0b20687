//! Sets of message numbers or UIDs as commands name them (RFC 3501 §9, `sequence-set`).

use std::fmt;

/// Whether a set contains message numbers or UIDs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Numbering {
    Sequence,
    Uid,
}

/// Ranges that include both ends, which may come in either order; `None` is `*`, the greatest number in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SequenceSet(Vec<(Option<u32>, Option<u32>)>);

impl SequenceSet {
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        text.split(|&octet| octet == b',')
            .map(|range| {
                let mut ends = range.splitn(2, |&octet| octet == b':');
                let first = number(ends.next()?)?;
                let last = ends.next().map_or(Some(first), number)?;
                Some((first, last))
            })
            .collect::<Option<_>>()
            .map(Self)
    }

    /// Whether `wanted` is in the set. `greatest` is the greatest number in use, 0 if there is none.
    pub(super) fn contains(&self, wanted: u32, greatest: u32) -> bool {
        self.0.iter().any(|&(first, last)| {
            let (first, last) = (first.unwrap_or(greatest), last.unwrap_or(greatest));
            (first.min(last)..=first.max(last)).contains(&wanted)
        })
    }

    /// Whether all numbers of the set are in use, if 1 to `exists` are. Without any message, not even `*` is in use.
    pub(super) fn within(&self, exists: u32) -> bool {
        exists > 0
            && self
                .0
                .iter()
                .all(|&(first, last)| first.max(last).is_none_or(|number| number <= exists))
    }
}

/// Parses `nz-number` or `*`.
fn number(text: &[u8]) -> Option<Option<u32>> {
    match text {
        b"*" => Some(None),
        [b'1'..=b'9', ..] if text.iter().all(u8::is_ascii_digit) => {
            std::str::from_utf8(text).ok()?.parse().ok().map(Some)
        }
        _ => None,
    }
}

/// UIDs in the given order; runs of them are written as ranges, as COPYUID needs (RFC 4315 §3).
pub(super) struct UidSet<'a>(pub &'a [u32]);

impl fmt::Display for UidSet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.0.chunk_by(|left, right| left.checked_add(1) == Some(*right));
        for (at, run) in runs.enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match run {
                [first, .., last] => write!(f, "{comma}{first}:{last}")?,
                [only] => write!(f, "{comma}{only}")?,
                [] => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(text: &str, greatest: u32) -> Vec<u32> {
        let set = SequenceSet::parse(text.as_bytes()).unwrap();
        (1..=greatest + 2)
            .filter(|&number| set.contains(number, greatest))
            .collect()
    }

    #[test]
    fn ranges_go_both_ways_and_star_is_the_last() {
        assert_eq!(members("2,4:5", 6), [2, 4, 5]);
        assert_eq!(members("5:4", 6), [4, 5]);
        assert_eq!(members("*", 6), [6]);
        assert_eq!(members("*:*", 6), [6]);
        assert_eq!(members("*:5", 6), [5, 6]);
        // RFC 3501 §6.4.8: 559:* always includes the last message.
        assert_eq!(members("8:*", 6), [6, 7, 8]);
        assert_eq!(members("4294967295", 6), Vec::<u32>::new());
    }

    #[test]
    fn what_is_no_set() {
        for text in [
            "",
            "0",
            "1,",
            ",1",
            "1:",
            ":1",
            "1:2:3",
            "+1",
            "01",
            "a",
            "4294967296",
            "1 2",
            "**",
        ] {
            assert_eq!(SequenceSet::parse(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn numbers_beyond_the_last_message_are_noticed() {
        let within = |text: &str, exists| SequenceSet::parse(text.as_bytes()).unwrap().within(exists);
        assert!(within("1:3,*", 3));
        assert!(!within("1:4", 3));
        assert!(!within("4:*", 3));
        assert!(!within("*", 0));
    }

    #[test]
    fn uid_sets_are_drawn_together() {
        assert_eq!(UidSet(&[3, 4, 5, 9, 11, 12]).to_string(), "3:5,9,11:12");
        assert_eq!(UidSet(&[]).to_string(), "");
    }
}
