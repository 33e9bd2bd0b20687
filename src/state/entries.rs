//! UID and size of each message of a mailbox, packed.

use std::{cmp::Ordering, ops::Range};

use serde::{Deserialize, Serialize};

use crate::types::{Uid, UidMap};

/// The number of messages in a block. Only the last block may have fewer.
const BLOCK: usize = 64;

/// UID and size in octets of each message of a mailbox, in ascending order of the UIDs.
///
/// They are packed, because a mailbox may have a million messages, and they stay in memory while its connection is
/// parked. Usually UIDs have few gaps, and sizes fit in three octets; then a message of a large mailbox takes 2 to 5
/// bytes. It never takes more than 9.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(from = "UidMap<u32>", into = "UidMap<u32>")]
pub struct Entries {
    count: usize,
    blocks: Vec<Block>,
    /// Each message has two little-endian numbers here: how many UIDs its block skips before the message, and the size
    /// of the message.
    packed: Vec<u8>,
}

/// [`BLOCK`] messages, whose numbers have the same widths.
#[derive(Debug, Clone, Copy)]
struct Block {
    /// The UID of the first message.
    first: Uid,
    /// The octets of each first number. A block skips a UID if the UID is above `first` and belongs to no message.
    skipped_width: u8,
    /// The octets of each size.
    size_width: u8,
    /// The index in `packed` of the block's first octet.
    start: usize,
}

impl Block {
    /// Returns how many octets each message takes in `packed`.
    fn stride(&self) -> usize {
        usize::from(self.skipped_width) + usize::from(self.size_width)
    }

    /// Returns the indices in `packed` of the message at position `at` of the mailbox.
    fn octets_of(&self, at: usize) -> Range<usize> {
        let start = self.start + at % BLOCK * self.stride();
        start..start + self.stride()
    }
}

impl Entries {
    /// Returns the number of messages.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Returns whether the mailbox has no messages.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns how many bytes of memory the vectors take, with their unused capacity.
    pub fn bytes(&self) -> usize {
        self.packed.capacity() + self.blocks.capacity() * size_of::<Block>()
    }

    /// Returns the position of the message `uid`, counted from 0; `None` if the mailbox does not have this message.
    pub fn position(&self, uid: Uid) -> Option<usize> {
        let block = self.blocks.partition_point(|block| block.first <= uid).checked_sub(1)?;
        let mut low = block * BLOCK;
        let mut high = self.count.min(low + BLOCK);
        while low < high {
            let middle = low.midpoint(high);
            match self.read(middle).0.cmp(&uid) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Some(middle),
                Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// Returns whether the mailbox has the message `uid`.
    pub fn contains(&self, uid: Uid) -> bool {
        self.position(uid).is_some()
    }

    /// Returns the size of the message `uid`; `None` if the mailbox does not have this message.
    pub fn get(&self, uid: Uid) -> Option<u32> {
        self.position(uid).map(|at| self.read(at).1)
    }

    /// Returns UID and size of the message at position `at`, counted from 0.
    pub fn entry(&self, at: usize) -> Option<(Uid, u32)> {
        (at < self.count).then(|| self.read(at))
    }

    /// Returns the highest UID; `None` if the mailbox has no messages.
    pub fn last(&self) -> Option<Uid> {
        self.count.checked_sub(1).map(|at| self.read(at).0)
    }

    /// Returns UID and size of each message, in ascending order of the UIDs.
    pub fn iter(&self) -> impl Iterator<Item = (Uid, u32)> + '_ {
        (0..self.count).map(|at| self.read(at))
    }

    /// Returns all UIDs, in ascending order.
    pub fn uids(&self) -> impl Iterator<Item = Uid> + '_ {
        self.iter().map(|(uid, _)| uid)
    }

    /// Adds a message if `uid` is higher than all other UIDs. Returns whether the message was added.
    pub fn push(&mut self, uid: Uid, octets: u32) -> bool {
        if self.last().is_some_and(|last| last >= uid) {
            return false;
        }
        let at = self.count;
        if at.is_multiple_of(BLOCK) {
            self.blocks.push(Block {
                first: uid,
                skipped_width: 0,
                size_width: 0,
                start: self.packed.len(),
            });
        }
        let stride = self.widen_last(self.skipped(at, uid), octets);
        self.packed.resize(self.packed.len() + stride, 0);
        self.count += 1;
        self.write(at, uid, octets);
        true
    }

    /// Replaces the size of each message that `sizes` has.
    pub fn correct(&mut self, sizes: &UidMap<u32>) {
        let corrected = |(uid, octets)| (uid, sizes.get(uid).copied().unwrap_or(octets));
        *self = self.iter().map(corrected).collect();
    }

    /// Removes each message if `stays` returns `false` for its UID.
    pub fn retain(&mut self, stays: impl Fn(Uid) -> bool) {
        *self = self.iter().filter(|&(uid, _)| stays(uid)).collect();
    }

    /// Frees the unused memory of the vectors: see [`shrink`].
    pub fn shrink(&mut self) {
        shrink(&mut self.packed);
        shrink(&mut self.blocks);
    }

    /// Returns UID and size of the message at position `at`, which must be below `count`.
    fn read(&self, at: usize) -> (Uid, u32) {
        let block = &self.blocks[at / BLOCK];
        let (skipped, size) = self.packed[block.octets_of(at)].split_at(block.skipped_width.into());
        (Uid(block.first.0 + (at % BLOCK) as u32 + number(skipped)), number(size))
    }

    /// Writes the message at position `at`, which must be below `count`. The block must be wide enough.
    fn write(&mut self, at: usize, uid: Uid, octets: u32) {
        let skipped = self.skipped(at, uid);
        let block = &self.blocks[at / BLOCK];
        let (first, second) = self.packed[block.octets_of(at)].split_at_mut(block.skipped_width.into());
        first.copy_from_slice(&skipped.to_le_bytes()[..first.len()]);
        second.copy_from_slice(&octets.to_le_bytes()[..second.len()]);
    }

    /// Returns how many UIDs the block of position `at` skips before the message `uid` at this position.
    fn skipped(&self, at: usize, uid: Uid) -> u32 {
        uid.0 - self.blocks[at / BLOCK].first.0 - (at % BLOCK) as u32
    }

    /// Makes the last block wide enough for these two numbers. Returns the stride of the block.
    fn widen_last(&mut self, skipped: u32, octets: u32) -> usize {
        let last = self.blocks.len() - 1;
        let old = self.blocks[last];
        let new = Block {
            skipped_width: old.skipped_width.max(width(skipped)),
            size_width: old.size_width.max(width(octets)),
            ..old
        };
        if new.stride() > old.stride() {
            let positions = last * BLOCK..self.count;
            let messages: Vec<(Uid, u32)> = positions.clone().map(|at| self.read(at)).collect();
            self.packed.resize(new.start + messages.len() * new.stride(), 0);
            self.blocks[last] = new;
            for (at, (uid, octets)) in positions.zip(messages) {
                self.write(at, uid, octets);
            }
        }
        new.stride()
    }
}

/// Frees the unused memory of `vector`, but keeps room for a 32nd of its length. Without this room, the next addition
/// would move the whole vector.
pub(super) fn shrink<T>(vector: &mut Vec<T>) {
    vector.shrink_to(vector.len() + vector.len() / 32);
}

/// Returns how many octets `number` needs: 0 to 4.
fn width(number: u32) -> u8 {
    (u32::BITS - number.leading_zeros()).div_ceil(8) as u8
}

/// Reads a little-endian number of up to four octets.
fn number(octets: &[u8]) -> u32 {
    octets.iter().rfold(0, |number, &octet| number << 8 | u32::from(octet))
}

/// Compares the messages, because two blocks with the same messages may have different widths.
impl PartialEq for Entries {
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count && self.iter().eq(other.iter())
    }
}

impl Eq for Entries {}

/// Drops each message whose UID is not higher than all UIDs before it.
impl FromIterator<(Uid, u32)> for Entries {
    fn from_iter<I: IntoIterator<Item = (Uid, u32)>>(messages: I) -> Self {
        let mut entries = Self::default();
        for (uid, octets) in messages {
            entries.push(uid, octets);
        }
        entries.shrink();
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

    /// Numbers of up to four octets.
    fn any_width() -> impl Strategy<Value = u32> {
        (0..32_u32, any::<u32>()).prop_map(|(shift, number)| number >> shift)
    }

    /// A change of the entries, and of the map that they are compared with.
    #[derive(Debug, Clone)]
    enum Change {
        /// Messages to add: how far each UID is above the last UID, and the size.
        Push(Vec<(u32, u32)>),
        /// New sizes for these UIDs. The mailbox may not have all of these UIDs.
        Correct(Vec<(u32, u32)>),
        /// A UID stays if its remainder by 3 is this number.
        Retain(u32),
        Shrink,
    }

    fn change() -> impl Strategy<Value = Change> {
        let small = (Just(1), 0..256_u32);
        let mixed = (prop_oneof![8 => 1..3_u32, 1 => any_width()], any_width());
        prop_oneof![
            3 => collection::vec(small, 0..150).prop_map(Change::Push),
            3 => collection::vec(mixed, 0..150).prop_map(Change::Push),
            3 => collection::vec((1..300_u32, any_width()), 0..20).prop_map(Change::Correct),
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
            Change::Correct(sizes) => {
                let sizes: UidMap<u32> = sizes.iter().copied().collect();
                entries.correct(&sizes);
                for (uid, &octets) in sizes.iter() {
                    map.entry(uid).and_modify(|known| *known = octets);
                }
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
            prop_assert!(entries.uids().eq(map.keys().copied()));
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
            // The serialized form is that of a map without packing.
            let written = postcard::to_allocvec(&entries).unwrap();
            let plain: UidMap<u32> = postcard::from_bytes(&written).unwrap();
            prop_assert!(plain.iter().eq(map.iter().map(|(&uid, octets)| (uid, octets))));
            prop_assert_eq!(postcard::from_bytes::<Entries>(&written).unwrap(), entries);
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
        let mixed = |n: u32| 1_000 + (n.wrapping_mul(2_654_435_761) >> 11);
        let takes = |most: f64, count: u32, uid: fn(u32) -> u32, size: fn(u32) -> u32| {
            let entries: Entries = (1..=count).map(|n| (uid(n), size(n))).collect();
            assert_eq!(entries.len(), count as usize);
            let each = entries.bytes() as f64 / f64::from(count);
            assert!(each <= most && each > most - 0.3, "{each} bytes, not {most}");
        };
        takes(2.4, 64_000, |n| n, |n| 1_000 + n % 60_000);
        takes(3.4, 64_000, |n| n, mixed);
        takes(4.4, 64_000, |n| n * 3 / 2, mixed);
        takes(7.5, 64_000, |n| n * 60_000, |n| u32::MAX - n);
        takes(8.6, 16_000, |n| n * 268_000, |n| u32::MAX - n);
    }
}
