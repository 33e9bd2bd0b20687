//! The numbered view that a session sees: messages by ascending UID; numbers never shift (RFC 1939 §5).

use std::{io::Write, num::NonZeroU32, sync::Arc};

use super::Error;
use crate::{imap::Uid, state::Index};

/// Message number as a device says it, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageNumber(pub NonZeroU32);

impl MessageNumber {
    fn of_index(index: usize) -> Option<Self> {
        u32::try_from(index + 1).ok().and_then(NonZeroU32::new).map(Self)
    }

    /// Counted from 0.
    pub fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// A size as POP3 counts it: CRLF line ends, before dot-stuffing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Octets(pub u64);

/// Messages in ascending order of UID, with this session's delete marks.
#[derive(Debug)]
pub struct Listing {
    /// Shared with what outlives the session; filtered only where messages are hidden.
    index: Arc<Index>,
    /// One bit a message; empty while nothing is marked.
    marks: Vec<u64>,
    left: u32,
    octets: u64,
}

impl Listing {
    /// Of all messages of `index` but the `hidden` ones (ascending).
    pub fn new(index: Arc<Index>, hidden: &[Uid]) -> Self {
        let index = if hidden.is_empty() {
            index
        } else {
            Arc::new(without(&index, hidden))
        };
        let mut listing = Self {
            index,
            marks: Vec::new(),
            left: 0,
            octets: 0,
        };
        listing.reset();
        listing
    }

    /// While it stays, UIDs mean the same messages.
    pub fn uid_validity(&self) -> u32 {
        self.index.uid_validity
    }

    /// STAT: messages not marked deleted, and their octets.
    pub fn stat(&self) -> (u32, Octets) {
        (self.left, Octets(self.octets))
    }

    /// LIST n
    pub fn octets(&self, number: MessageNumber) -> Result<Octets, Error> {
        self.get(number).map(|(_, octets)| octets)
    }

    /// UID and octets of a message that is not marked deleted.
    pub fn get(&self, number: MessageNumber) -> Result<(Uid, Octets), Error> {
        let &(uid, octets) = self.index.entries.get(number.index()).ok_or(Error::NoSuchMessage)?;
        if self.is_marked(number.index()) {
            return Err(Error::Deleted);
        }
        Ok((Uid(uid), Octets(u64::from(octets))))
    }

    /// Index, UID and octets of what is not marked deleted, from the message at `index` on.
    pub fn following(&self, index: usize) -> impl Iterator<Item = (usize, Uid, u64)> + '_ {
        let rest = self.index.entries.iter().enumerate().skip(index);
        rest.filter(|&(index, _)| !self.is_marked(index))
            .map(|(index, &(uid, octets))| (index, Uid(uid), u64::from(octets)))
    }

    /// LIST: numbers and octets of what is not marked deleted, ascending.
    pub fn sizes(&self) -> impl Iterator<Item = (MessageNumber, Octets)> + '_ {
        self.following(0)
            .filter_map(|(index, _, octets)| Some((MessageNumber::of_index(index)?, Octets(octets))))
    }

    /// UIDL: the numbers of what is not marked deleted, ascending.
    pub fn numbers(&self) -> impl Iterator<Item = MessageNumber> + '_ {
        self.following(0)
            .filter_map(|(index, ..)| MessageNumber::of_index(index))
    }

    /// UIDL n: appends the unique-id (RFC 1939 §7: 1 to 70 octets, 0x21–0x7E) to `out`.
    pub fn write_uidl(&self, number: MessageNumber, out: &mut Vec<u8>) -> Result<(), Error> {
        let (uid, _) = self.get(number)?;
        // Writing to a Vec does not fail.
        let _ = write!(out, "{}.{}", self.index.uid_validity, uid);
        Ok(())
    }

    /// DELE: marks in the session only.
    pub fn mark(&mut self, number: MessageNumber) -> Result<(), Error> {
        let (_, octets) = self.get(number)?;
        self.marks.resize(self.index.entries.len().div_ceil(64), 0);
        self.marks[number.index() / 64] |= 1 << (number.index() % 64);
        self.left -= 1;
        self.octets -= octets.0;
        Ok(())
    }

    /// RSET: takes all marks back.
    pub fn reset(&mut self) {
        self.marks = Vec::new();
        self.left = u32::try_from(self.index.entries.len()).unwrap_or(u32::MAX);
        self.octets = self.index.entries.iter().map(|&(_, octets)| u64::from(octets)).sum();
    }

    /// UIDs of what is marked, ascending.
    pub fn marked(&self) -> Vec<Uid> {
        let marked = self
            .index
            .entries
            .iter()
            .enumerate()
            .filter(|&(index, _)| self.is_marked(index));
        marked.map(|(_, &(uid, _))| Uid(uid)).collect()
    }

    fn is_marked(&self, index: usize) -> bool {
        self.marks
            .get(index / 64)
            .is_some_and(|word| word & (1 << (index % 64)) != 0)
    }
}

/// `index` less the messages `gone` (ascending).
pub(super) fn without(index: &Index, gone: &[Uid]) -> Index {
    let stays = |&&(uid, _): &&(u32, u32)| gone.binary_search(&Uid(uid)).is_err();
    Index {
        entries: index.entries.iter().filter(stays).copied().collect(),
        ..*index
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number(n: u32) -> MessageNumber {
        MessageNumber(NonZeroU32::new(n).unwrap())
    }

    fn listing(entries: &[(u32, u32)]) -> Listing {
        let entries = entries.to_vec();
        Listing::new(
            Arc::new(Index {
                uid_validity: 7,
                modseq: 0,
                row: 0,
                entries,
            }),
            &[],
        )
    }

    #[test]
    fn hidden_messages_have_no_number() {
        let entries = vec![(3, 10), (5, 20), (9, 30)];
        let index = Arc::new(Index {
            uid_validity: 7,
            modseq: 0,
            row: 0,
            entries,
        });
        let listing = Listing::new(index, &[Uid(4), Uid(5)]);
        assert_eq!(listing.stat(), (2, Octets(40)));
        assert_eq!(listing.get(number(2)), Ok((Uid(9), Octets(30))));
    }

    #[test]
    fn numbers_never_shift() {
        let mut listing = listing(&[(3, 10), (5, 20), (9, 30)]);
        assert_eq!(listing.stat(), (3, Octets(60)));
        listing.mark(number(2)).unwrap();
        assert_eq!(listing.stat(), (2, Octets(40)));
        assert_eq!(listing.mark(number(2)), Err(Error::Deleted));
        assert_eq!(listing.octets(number(2)), Err(Error::Deleted));
        assert_eq!(listing.octets(number(4)), Err(Error::NoSuchMessage));
        assert_eq!(listing.get(number(3)), Ok((Uid(9), Octets(30))));
        assert_eq!(listing.numbers().collect::<Vec<_>>(), [number(1), number(3)]);
        assert_eq!(listing.marked(), [Uid(5)]);
        listing.reset();
        assert_eq!(listing.stat(), (3, Octets(60)));
        assert!(listing.marked().is_empty());
    }

    #[test]
    fn unique_ids_name_validity_and_uid() {
        let mut out = Vec::new();
        listing(&[(3, 10)]).write_uidl(number(1), &mut out).unwrap();
        assert_eq!(out, b"7.3");
    }

    proptest! {
        #[test]
        fn stat_is_what_list_shows(sizes in prop::collection::vec(any::<u32>(), 0..200), marks in prop::collection::vec(1u32..250, 0..80)) {
            let entries: Vec<_> = (1..).zip(sizes).collect();
            let mut listing = listing(&entries);
            for mark in marks {
                let _ = listing.mark(number(mark));
            }
            let sum = listing.sizes().map(|(_, octets)| octets.0).sum();
            prop_assert_eq!(listing.stat(), (u32::try_from(listing.sizes().count()).unwrap(), Octets(sum)));
            prop_assert_eq!(listing.marked().len() + listing.numbers().count(), entries.len());
        }
    }
}
