//! UIDs, UIDVALIDITY and ranges of UIDs.

use std::{fmt, num::NonZeroU64};

use serde::{Deserialize, Serialize};

/// Unique identifier of a message within a mailbox and its UIDVALIDITY (RFC 3501 §2.3.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Uid(pub u32);

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// As long as a mailbox has the same UIDVALIDITY, a UID means the same message (RFC 3501 §2.3.1.1).
///
/// The RFC allows 32 bits and no 0. Real servers send 0 and 64-bit numbers too, so any 64-bit number is accepted. In
/// state, 0 means that there is no UIDVALIDITY; therefore a server's 0 is stored as the largest number. All other
/// numbers are stored as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UidValidity(NonZeroU64);

impl UidValidity {
    /// The UIDVALIDITY that a server sent. Any number is valid.
    pub fn of_server(number: u64) -> Self {
        Self(NonZeroU64::new(number).unwrap_or(NonZeroU64::MAX))
    }

    /// The UIDVALIDITY that state has stored; `None` for 0.
    pub fn of_state(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }

    /// Like [`UidValidity::of_state`], but 0 becomes a value too, which is displayed as 0.
    pub fn of_state_or_zero(number: u64) -> Self {
        Self::of_state(number).unwrap_or(Self::of_server(0))
    }

    /// The number as the server sent it. It may be 0.
    pub fn number(self) -> u64 {
        if self.0 == NonZeroU64::MAX { 0 } else { self.0.get() }
    }

    /// The number that state stores; never 0.
    pub fn kept(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for UidValidity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(f)
    }
}

/// A set of UIDs as ranges, the form in which servers list them (`sequence-set`, RFC 3501 §9). A range may span UIDs
/// that do not exist.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UidRanges(Vec<(u32, u32)>);

impl UidRanges {
    /// Adds the UIDs from `low` to `high`. A range may be given backwards, and ranges may come in any order.
    pub fn push(&mut self, low: u32, high: u32) {
        let (low, high) = (low.min(high), low.max(high));
        match self.0.last_mut() {
            // Servers list UIDs in ascending order, so a run of them becomes one range.
            Some((from, to)) if *from <= low && low <= to.saturating_add(1) => *to = (*to).max(high),
            _ => self.0.push((low, high)),
        }
    }

    /// Sorts the ranges and joins those that touch. [`UidRanges::contains`] needs this after the last push.
    pub fn sort(&mut self) {
        if self.0.is_sorted_by(|a, b| a.1 < b.0) {
            return;
        }
        self.0.sort_unstable();
        let mut joined = Self::default();
        for &(low, high) in &self.0 {
            joined.push(low, high);
        }
        *self = joined;
    }

    /// Whether `uid` is in the set, which must be sorted.
    pub fn contains(&self, Uid(uid): Uid) -> bool {
        let at = self.0.partition_point(|&(_, high)| high < uid);
        self.0.get(at).is_some_and(|&(low, _)| low <= uid)
    }

    /// Whether the set holds no UID.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many ranges the set has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// How many UIDs the set holds, whether or not they exist.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|&(low, high)| u64::from(high - low) + 1).sum()
    }

    /// The ranges, each from its lowest to its highest UID.
    pub fn iter(&self) -> impl Iterator<Item = (Uid, Uid)> + '_ {
        self.0.iter().map(|&(low, high)| (Uid(low), Uid(high)))
    }

    /// The set without `uids`. The set must be sorted, and `uids` must ascend.
    pub fn without(&self, uids: &[Uid]) -> Self {
        let mut left = Self::default();
        for &(mut low, high) in &self.0 {
            let from = uids.partition_point(|uid| uid.0 < low);
            let mut is_done = false;
            for &Uid(uid) in uids[from..].iter().take_while(|uid| uid.0 <= high) {
                if low < uid {
                    left.0.push((low, uid - 1));
                }
                is_done = uid == high;
                low = uid.saturating_add(1);
            }
            if !is_done {
                left.0.push((low, high));
            }
        }
        left
    }
}

impl FromIterator<Uid> for UidRanges {
    fn from_iter<I: IntoIterator<Item = Uid>>(uids: I) -> Self {
        let mut ranges = Self::default();
        for Uid(uid) in uids {
            ranges.push(uid, uid);
        }
        ranges.sort();
        ranges
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn any_number_of_64_bits_is_a_uid_validity() {
        for number in [0, 1, u64::from(u32::MAX) + 1, 1 << 63] {
            let uid_validity = UidValidity::of_server(number);
            assert_eq!(
                (uid_validity.number(), uid_validity.to_string()),
                (number, number.to_string())
            );
            assert_eq!(UidValidity::of_state(uid_validity.kept()), Some(uid_validity));
        }
        assert_eq!(UidValidity::of_state(0), None);
    }

    #[test]
    fn runs_join_as_they_come() {
        let mut ranges = UidRanges::default();
        for uid in [3, 4, 5, 9, 10, u32::MAX] {
            ranges.push(uid, uid);
        }
        assert_eq!((ranges.len(), ranges.count()), (3, 6));
        ranges.push(1, 1);
        ranges.push(7, 5);
        ranges.sort();
        let ranges: Vec<_> = ranges.iter().map(|(low, high)| (low.0, high.0)).collect();
        assert_eq!(ranges, [(1, 1), (3, 7), (9, 10), (u32::MAX, u32::MAX)]);
    }

    proptest! {
        #[test]
        fn like_a_set_of_numbers(
            pushed in prop::collection::vec((0u32..60, 0u32..60), 0..12),
            removed in prop::collection::btree_set(0u32..60, 0..20),
        ) {
            let mut ranges = UidRanges::default();
            let mut set = BTreeSet::new();
            for (low, high) in pushed {
                ranges.push(low, high);
                set.extend(low.min(high)..=low.max(high));
            }
            ranges.sort();
            prop_assert_eq!(ranges.count(), set.len() as u64);
            let removed: Vec<Uid> = removed.into_iter().map(Uid).collect();
            let left = ranges.without(&removed);
            for uid in 0..62 {
                prop_assert_eq!(ranges.contains(Uid(uid)), set.contains(&uid));
                prop_assert_eq!(left.contains(Uid(uid)), set.contains(&uid) && !removed.contains(&Uid(uid)));
            }
        }
    }
}
