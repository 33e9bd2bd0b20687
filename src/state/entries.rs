//! UID and size of each message of a mailbox, packed.

use serde::{Deserialize, Serialize};

use crate::types::{Uid, UidMap};

/// How many messages a block has. Only the last block may have fewer.
const BLOCK: usize = 64;

/// The size of each message of a mailbox in octets, in ascending order of the UIDs.
///
/// A mailbox may have a million messages, and stays in memory while its connection is parked; so this is packed. UIDs
/// of a mailbox follow closely, and sizes seldom need four octets: a message takes 2 to 5 bytes, but 9 at most.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(from = "UidMap<u32>", into = "UidMap<u32>")]
pub struct Entries {
    count: usize,
    blocks: Vec<Block>,
    /// Of each message the gaps before it and its size, each as a little-endian number.
    packed: Vec<u8>,
}

/// [`BLOCK`] messages, whose numbers have the same widths.
#[derive(Debug, Clone, Copy)]
struct Block {
    /// The UID of the first message.
    first: Uid,
    /// How many octets a message's gaps take. The gaps before a message are the UIDs between `first` and the message
    /// that belong to no message.
    gaps: u8,
    /// How many octets a message's size takes.
    size: u8,
    /// Where the block begins in `packed`.
    start: usize,
}

impl Block {
    /// How many octets of `packed` a message takes.
    fn stride(&self) -> usize {
        usize::from(self.gaps) + usize::from(self.size)
    }

    /// The same block with enough room for `gaps` and `size`.
    fn with_room_for(&self, gaps: u32, size: u32) -> Self {
        Self {
            gaps: self.gaps.max(width(gaps)),
            size: self.size.max(width(size)),
            ..*self
        }
    }
}

impl Entries {
    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no message.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of memory that this takes, with its unused capacity.
    pub fn bytes(&self) -> usize {
        self.packed.capacity() + self.blocks.capacity() * size_of::<Block>()
    }

    /// The position of `uid` in the order, counted from 0.
    pub fn position(&self, uid: Uid) -> Option<usize> {
        let block = self.blocks.partition_point(|block| block.first <= uid).checked_sub(1)?;
        let mut low = block * BLOCK;
        let mut high = self.count.min(low + BLOCK);
        while low < high {
            let middle = low.midpoint(high);
            match self.read(middle).0 {
                at if at == uid => return Some(middle),
                at if at < uid => low = middle + 1,
                _ => high = middle,
            }
        }
        None
    }

    /// Whether there is a message `uid`.
    pub fn contains(&self, uid: Uid) -> bool {
        self.position(uid).is_some()
    }

    /// The size of the message `uid`.
    pub fn get(&self, uid: Uid) -> Option<u32> {
        self.position(uid).map(|at| self.read(at).1)
    }

    /// UID and size of the message at a position in the order, counted from 0.
    pub fn entry(&self, at: usize) -> Option<(Uid, u32)> {
        (at < self.count).then(|| self.read(at))
    }

    /// The highest UID; `None` if there is no message.
    pub fn last(&self) -> Option<Uid> {
        self.count.checked_sub(1).map(|at| self.read(at).0)
    }

    /// UIDs and sizes of all messages, in ascending order of the UIDs.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (Uid, u32)> + ExactSizeIterator + '_ {
        (0..self.count).map(|at| self.read(at))
    }

    /// All UIDs, in ascending order.
    pub fn uids(&self) -> impl DoubleEndedIterator<Item = Uid> + ExactSizeIterator + '_ {
        self.iter().map(|(uid, _)| uid)
    }

    /// Adds a message. Returns `false`, and adds nothing, if its UID is not higher than all others.
    pub fn push(&mut self, uid: Uid, octets: u32) -> bool {
        if self.last().is_some_and(|last| last >= uid) {
            return false;
        }
        let at = self.count;
        if at.is_multiple_of(BLOCK) {
            self.blocks.push(Block {
                first: uid,
                gaps: 0,
                size: 0,
                start: self.packed.len(),
            });
        }
        let gaps = self.gaps(at, uid);
        self.widen(at / BLOCK, gaps, octets);
        let block = self.blocks[at / BLOCK];
        self.packed.resize(self.packed.len() + block.stride(), 0);
        self.count += 1;
        self.write(at, gaps, octets);
        true
    }

    /// Changes the size of the message `uid`, if there is one.
    pub fn set(&mut self, uid: Uid, octets: u32) {
        if let Some(at) = self.position(uid) {
            let gaps = self.gaps(at, uid);
            self.widen(at / BLOCK, gaps, octets);
            self.write(at, gaps, octets);
        }
    }

    /// Keeps the messages for whose UIDs `stays` is true.
    pub fn retain(&mut self, stays: impl Fn(Uid) -> bool) {
        *self = self.iter().filter(|&(uid, _)| stays(uid)).collect();
    }

    /// Returns memory that is not used: see [`shrink`].
    pub fn shrink(&mut self) {
        shrink(&mut self.packed);
        shrink(&mut self.blocks);
    }

    /// UID and size of the message at a position below `count`.
    fn read(&self, at: usize) -> (Uid, u32) {
        let block = &self.blocks[at / BLOCK];
        let start = block.start + at % BLOCK * block.stride();
        let (gaps, size) = self.packed[start..start + block.stride()].split_at(block.gaps.into());
        (Uid(block.first.0 + (at % BLOCK) as u32 + number(gaps)), number(size))
    }

    /// Writes the message at a position below `count`. Its block has room for these numbers.
    fn write(&mut self, at: usize, gaps: u32, octets: u32) {
        let block = &self.blocks[at / BLOCK];
        let start = block.start + at % BLOCK * block.stride();
        let (for_gaps, for_size) = self.packed[start..start + block.stride()].split_at_mut(block.gaps.into());
        for_gaps.copy_from_slice(&gaps.to_le_bytes()[..for_gaps.len()]);
        for_size.copy_from_slice(&octets.to_le_bytes()[..for_size.len()]);
    }

    /// The gaps before the message `uid` at a position whose block exists.
    fn gaps(&self, at: usize, uid: Uid) -> u32 {
        uid.0 - self.blocks[at / BLOCK].first.0 - (at % BLOCK) as u32
    }

    /// Gives the block at `index` room for messages with these numbers.
    fn widen(&mut self, index: usize, gaps: u32, octets: u32) {
        let old = self.blocks[index];
        let new = old.with_room_for(gaps, octets);
        let more = new.stride() - old.stride();
        if more == 0 {
            return;
        }
        let messages = index * BLOCK..self.count.min((index + 1) * BLOCK);
        let values: Vec<(Uid, u32)> = messages.clone().map(|at| self.read(at)).collect();
        let end = old.start + values.len() * old.stride();
        self.packed
            .splice(end..end, std::iter::repeat_n(0, values.len() * more));
        for block in &mut self.blocks[index + 1..] {
            block.start += values.len() * more;
        }
        self.blocks[index] = new;
        for (at, (uid, octets)) in messages.zip(values) {
            self.write(at, self.gaps(at, uid), octets);
        }
    }
}

/// Returns memory of a vector that is not used. It keeps room for a 32nd more than it has: otherwise each entry that is
/// added would move all others.
pub(super) fn shrink<T>(vector: &mut Vec<T>) {
    vector.shrink_to(vector.len() + vector.len() / 32);
}

/// How many octets a number needs.
fn width(number: u32) -> u8 {
    (u32::BITS - number.leading_zeros()).div_ceil(8) as u8
}

/// Reads a little-endian number of up to four octets.
fn number(octets: &[u8]) -> u32 {
    octets.iter().rfold(0, |number, &octet| number << 8 | u32::from(octet))
}

/// Blocks with the same messages may have different widths.
impl PartialEq for Entries {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Entries {}

/// Leaves out a message whose UID is not higher than those before.
impl FromIterator<(Uid, u32)> for Entries {
    fn from_iter<I: IntoIterator<Item = (Uid, u32)>>(messages: I) -> Self {
        let mut entries = Self::default();
        for (uid, octets) in messages {
            entries.push(uid, octets);
        }
        entries
    }
}

/// Accepts UIDs as plain numbers.
impl FromIterator<(u32, u32)> for Entries {
    fn from_iter<I: IntoIterator<Item = (u32, u32)>>(messages: I) -> Self {
        messages.into_iter().map(|(uid, octets)| (Uid(uid), octets)).collect()
    }
}

impl<const N: usize> From<[(u32, u32); N]> for Entries {
    fn from(messages: [(u32, u32); N]) -> Self {
        messages.into_iter().collect()
    }
}

impl From<UidMap<u32>> for Entries {
    fn from(messages: UidMap<u32>) -> Self {
        messages.into_iter().collect()
    }
}

impl From<Entries> for UidMap<u32> {
    fn from(entries: Entries) -> Self {
        entries.iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection, prelude::*};

    use super::*;

    /// Numbers of one to four octets.
    fn any_width() -> impl Strategy<Value = u32> {
        (0..32_u32, any::<u32>()).prop_map(|(shift, number)| number >> shift)
    }

    /// A change of the entries, and of the map that they are compared with.
    #[derive(Debug, Clone)]
    enum Change {
        /// Messages, each so far above the last UID.
        Push(Vec<(u32, u32)>),
        /// A new size for the message at this position, modulo the count.
        Set(usize, u32),
        /// Only UIDs that leave this remainder stay, if they are divided by 3.
        Retain(u32),
        Shrink,
    }

    fn change() -> impl Strategy<Value = Change> {
        let small = (Just(1), 0..256_u32);
        let mixed = (prop_oneof![8 => 1..3_u32, 1 => any_width()], any_width());
        prop_oneof![
            3 => collection::vec(small, 0..150).prop_map(Change::Push),
            3 => collection::vec(mixed, 0..150).prop_map(Change::Push),
            6 => (any::<usize>(), any_width()).prop_map(|(at, octets)| Change::Set(at, octets)),
            1 => (0..3_u32).prop_map(Change::Retain),
            1 => Just(Change::Shrink),
        ]
    }

    fn apply(change: &Change, entries: &mut Entries, map: &mut BTreeMap<Uid, u32>) {
        match change {
            Change::Push(messages) => {
                for &(above, octets) in messages {
                    let last = map.keys().next_back().map_or(0, |uid| uid.0);
                    let uid = Uid(last.saturating_add(above));
                    let is_new = map.is_empty() || uid.0 > last;
                    assert_eq!(entries.push(uid, octets), is_new);
                    if is_new {
                        map.insert(uid, octets);
                    }
                }
            }
            Change::Set(at, octets) => {
                let uid = map.keys().nth(at % map.len().max(1)).copied().unwrap_or(Uid(7));
                entries.set(uid, *octets);
                map.entry(uid).and_modify(|known| *known = *octets);
            }
            Change::Retain(remainder) => {
                entries.retain(|uid| uid.0 % 3 == *remainder);
                map.retain(|uid, _| uid.0 % 3 == *remainder);
            }
            Change::Shrink => entries.shrink(),
        }
    }

    proptest! {
        #[test]
        fn are_a_map(changes in collection::vec(change(), 0..20)) {
            let (mut entries, mut map) = (Entries::default(), BTreeMap::new());
            for change in &changes {
                apply(change, &mut entries, &mut map);
                prop_assert!(entries.iter().eq(map.iter().map(|(&uid, &octets)| (uid, octets))));
                prop_assert_eq!(entries.len(), map.len());
            }
            prop_assert!(entries.uids().rev().eq(map.keys().copied().rev()));
            prop_assert_eq!(entries.is_empty(), map.is_empty());
            prop_assert_eq!(entries.last(), map.keys().next_back().copied());
            prop_assert_eq!(entries.entry(map.len()), None);
            for (at, (&uid, &octets)) in map.iter().enumerate() {
                prop_assert_eq!(entries.entry(at), Some((uid, octets)));
                prop_assert_eq!(entries.position(uid), Some(at));
                prop_assert_eq!(entries.get(uid), Some(octets));
                for beside in [uid.0.wrapping_sub(1), uid.0.wrapping_add(1)].map(Uid) {
                    prop_assert_eq!(entries.contains(beside), map.contains_key(&beside));
                }
            }
            let anew: Entries = map.iter().map(|(&uid, &octets)| (uid, octets)).collect();
            prop_assert_eq!(&entries, &anew);
            let read: Entries = postcard::from_bytes(&postcard::to_allocvec(&entries).unwrap()).unwrap();
            prop_assert_eq!(read, entries);
        }
    }

    #[test]
    fn other_messages_are_not_equal() {
        let entries = Entries::from([(1, 5), (2, 5)]);
        for other in [
            Entries::default(),
            [(1, 5)].into(),
            [(1, 5), (3, 5)].into(),
            [(1, 5), (2, 6)].into(),
        ] {
            assert_ne!(entries, other);
        }
    }

    #[test]
    fn a_message_takes_few_bytes() {
        let takes = |uid: fn(u32) -> u32, size: fn(u32) -> u32| {
            let mut entries: Entries = (1..=64_000).map(|n| (uid(n), size(n))).collect();
            entries.shrink();
            entries.bytes() as f64 / 64_000.0
        };
        let mixed = |n: u32| 1_000 + (n.wrapping_mul(2_654_435_761) >> 11);
        for (most, uid, size) in [
            (
                2.4,
                (|n| n) as fn(u32) -> u32,
                (|n| 1_000 + n % 60_000) as fn(u32) -> u32,
            ),
            (3.4, |n| n, mixed),
            (4.4, |n| n * 3 / 2, mixed),
            (8.6, |n| n * 60_000, |n| u32::MAX - n),
        ] {
            let takes = takes(uid, size);
            assert!(takes <= most, "{takes} bytes, not {most}");
        }
    }
}
