//! What commands are made of: sets of UIDs, and strings.

use std::fmt;

use zeroize::Zeroizing;

use crate::types::{Uid, UidRanges};

/// A `sequence-set` of UIDs for one command, at most [`UidSet::MAX_OCTETS`] long. It names exactly the UIDs that it was
/// made of: a range never spans a gap, because there might be a message in it that nobody asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UidSet {
    text: String,
    count: usize,
}

impl UidSet {
    /// RFC 2683 §3.2.1.5 asks clients to keep command lines to about 1000 octets.
    pub const MAX_OCTETS: usize = 950;

    /// The sets that cover `uids`, which must ascend (some servers refuse descending sets).
    pub fn cover(uids: &[Uid]) -> Vec<Self> {
        let runs = uids.chunk_by(|a, b| a.0.checked_add(1) == Some(b.0));
        Self::of_ranges(runs.map(|run| (run[0], run[run.len() - 1])))
    }

    /// The sets that cover `ranges`, which must be sorted. Unlike those of [`UidSet::cover`], they may name UIDs that
    /// do not exist.
    pub fn cover_ranges(ranges: &UidRanges) -> Vec<Self> {
        Self::of_ranges(ranges.iter())
    }

    fn of_ranges(ranges: impl Iterator<Item = (Uid, Uid)>) -> Vec<Self> {
        let mut sets: Vec<Self> = Vec::new();
        for (low, high) in ranges {
            let text = if low == high {
                low.to_string()
            } else {
                format!("{low}:{high}")
            };
            let count = (high.0 - low.0) as usize + 1;
            match sets.last_mut() {
                Some(set) if set.text.len() + 1 + text.len() <= Self::MAX_OCTETS => {
                    set.text.push(',');
                    set.text.push_str(&text);
                    set.count += count;
                }
                _ => sets.push(Self { text, count }),
            }
        }
        sets
    }

    /// The sets of [`UidSet::cover`], each with the UIDs that it names.
    pub fn parts(uids: &[Uid]) -> impl Iterator<Item = (Self, &[Uid])> {
        let mut rest = uids;
        Self::cover(uids).into_iter().map(move |set| {
            let (these, after) = rest.split_at(set.count);
            rest = after;
            (set, these)
        })
    }

    /// How many UIDs it names.
    pub fn count(&self) -> usize {
        self.count
    }
}

impl From<Uid> for UidSet {
    fn from(uid: Uid) -> Self {
        Self {
            text: uid.to_string(),
            count: 1,
        }
    }
}

impl fmt::Display for UidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A quoted string (RFC 3501 §4.3); `None` if the octets need a literal.
pub(super) fn quoted(octets: &[u8]) -> Option<Zeroizing<String>> {
    let text = std::str::from_utf8(octets)
        .ok()
        .filter(|text| text.is_ascii() && !text.contains(['\0', '\r', '\n']))?;
    let mut out = Zeroizing::new(String::with_capacity(2 * text.len() + 2));
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_stay_ranges() {
        let mut ranges: UidRanges = [1, 2, 3, 7].map(Uid).into_iter().collect();
        ranges.push(10, 4_000_000_000);
        let sets = UidSet::cover_ranges(&ranges);
        assert_eq!(sets.len(), 1);
        assert_eq!(sets[0].to_string(), "1:3,7,10:4000000000");
        let many: UidRanges = (1..2000).map(|uid| Uid(uid * 2)).collect();
        let sets = UidSet::cover_ranges(&many);
        assert!(sets.len() > 1 && sets.iter().all(|set| set.to_string().len() <= UidSet::MAX_OCTETS));
        assert_eq!(sets.iter().map(UidSet::count).sum::<usize>(), 1999);
    }

    #[test]
    fn strings_that_need_no_literal() {
        let quoted = |octets| quoted(octets).map(|text| text.to_string());
        assert_eq!(quoted(b"a \"b\" \\").as_deref(), Some("\"a \\\"b\\\" \\\\\""));
        assert_eq!(quoted(b"").as_deref(), Some("\"\""));
        for octets in ["\u{fc}".as_bytes(), b"\xff", b"a\r\nb", b"\0"] {
            assert_eq!(quoted(octets), None);
        }
    }

    #[test]
    fn runs_become_ranges_and_gaps_stay_out() {
        let sets = UidSet::cover(&[1, 2, 3, 5, 9, 10, u32::MAX].map(Uid));
        assert_eq!(sets.len(), 1);
        assert_eq!(
            (sets[0].to_string().as_str(), sets[0].count()),
            ("1:3,5,9:10,4294967295", 7)
        );
        assert!(UidSet::cover(&[]).is_empty());
    }

    #[test]
    fn parts_are_the_uids_of_each_set() {
        let uids: Vec<Uid> = (1..2000).map(|uid| Uid(uid * 2)).collect();
        let parts: Vec<_> = UidSet::parts(&uids).collect();
        assert!(parts.len() > 1);
        for (set, these) in &parts {
            assert_eq!(UidSet::cover(these), std::slice::from_ref(set));
        }
        assert_eq!(
            parts.iter().flat_map(|(_, these)| *these).copied().collect::<Vec<_>>(),
            uids
        );
    }

    proptest! {
        #[test]
        fn sets_name_exactly_the_uids(mut uids in prop::collection::btree_set(1u32..100_000, 0..2000)) {
            let all: Vec<Uid> = uids.iter().copied().map(Uid).collect();
            for set in UidSet::cover(&all) {
                let text = set.to_string();
                prop_assert!(text.len() <= UidSet::MAX_OCTETS);
                let mut named = 0;
                for part in text.split(',') {
                    let (low, high) = part.split_once(':').unwrap_or((part, part));
                    for uid in low.parse::<u32>().unwrap()..=high.parse().unwrap() {
                        prop_assert!(uids.remove(&uid));
                        named += 1;
                    }
                }
                prop_assert_eq!(named, set.count());
            }
            prop_assert!(uids.is_empty());
        }
    }
}
