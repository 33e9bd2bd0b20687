//! The numbered messages of a session. The numbers stay the same until its end (RFC 1939 §5).

use std::sync::Arc;

use super::Refusal;
use crate::{
    state::Index,
    types::{MessageNumber, Octets, Uid},
};

/// The messages of a session, with the delete marks.
#[derive(Debug)]
pub struct Listing {
    rows: Rows,
    /// One bit for each message: whether it is marked as deleted. Empty while none is.
    marks: Vec<u64>,
    left: u32,
    octets: u64,
}

/// The messages of a listing, in their order.
#[derive(Debug)]
enum Rows {
    /// All messages of the only folder. The index is shared with the snapshot.
    Whole(Arc<Index>),
    /// Selected messages, messages of several folders, or messages in another order than the folder's.
    Chosen {
        rows: Vec<Row>,
        /// For each folder, the indices in `rows` of its messages, ascending.
        positions: Vec<Vec<u32>>,
    },
}

/// One message of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    /// The index of its folder among the session's folders.
    pub(super) folder: u16,
    /// What the device gets if it retrieves the message.
    pub(super) shows: Shows,
    /// The message's UID in its folder.
    pub(super) uid: Uid,
    /// The size that LIST shows.
    pub(super) octets: u32,
}

/// What a row shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shows {
    /// The message itself.
    Message,
    /// A notice in the message's place.
    Notice,
    /// The gateway's own mail. Folder and UID of the row mean nothing.
    OwnMail,
}

/// A message, and its position among its folder's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LocatedRow {
    pub(super) row: Row,
    /// The position among the folder's messages in this listing, from 0. Read-ahead counts by it.
    pub(super) position: usize,
}

impl Listing {
    /// A listing of all messages of the only folder.
    pub(super) fn whole(index: Arc<Index>) -> Self {
        Self::new(Rows::Whole(index))
    }

    /// A listing of `rows` in their order, from `folders` folders.
    pub(super) fn chosen(rows: Vec<Row>, folders: usize) -> Self {
        let mut positions = vec![Vec::new(); folders];
        for (index, row) in (0..).zip(&rows) {
            if row.shows != Shows::OwnMail {
                positions[usize::from(row.folder)].push(index);
            }
        }
        Self::new(Rows::Chosen { rows, positions })
    }

    fn new(rows: Rows) -> Self {
        let mut listing = Self {
            rows,
            marks: Vec::new(),
            left: 0,
            octets: 0,
        };
        listing.reset();
        listing
    }

    fn len(&self) -> usize {
        match &self.rows {
            Rows::Whole(index) => index.entries.len(),
            Rows::Chosen { rows, .. } => rows.len(),
        }
    }

    fn row(&self, index: usize) -> Option<Row> {
        match &self.rows {
            Rows::Whole(all) => all.entries.entry(index).map(|(uid, octets)| Row::of(uid, octets)),
            Rows::Chosen { rows, .. } => rows.get(index).copied(),
        }
    }

    /// STAT: how many messages are not marked as deleted, and their octets.
    pub fn stat(&self) -> (u32, Octets) {
        (self.left, Octets(self.octets))
    }

    /// LIST n: the size of a message.
    pub fn octets(&self, number: MessageNumber) -> Result<Octets, Refusal> {
        self.get(number).map(|row| Octets(row.octets.into()))
    }

    /// A message that is not marked as deleted.
    pub(super) fn get(&self, number: MessageNumber) -> Result<Row, Refusal> {
        let row = self.row(number.index()).ok_or(Refusal::NoSuchMessage)?;
        if self.is_marked(number.index()) {
            Err(Refusal::Deleted)
        } else {
            Ok(row)
        }
    }

    /// Like [`Listing::get`], with the message's position.
    pub(super) fn find(&self, number: MessageNumber) -> Result<LocatedRow, Refusal> {
        let row = self.get(number)?;
        let index = number.index();
        let position = match &self.rows {
            Rows::Whole(_) => index,
            Rows::Chosen { positions, .. } => {
                let positions = &positions[usize::from(row.folder)];
                positions.partition_point(|&at| (at as usize) < index)
            }
        };
        Ok(LocatedRow { row, position })
    }

    /// Position, UID and octets of a folder's messages from `position` on, without notices and without messages that
    /// are marked as deleted.
    pub(super) fn following(&self, folder: u16, position: usize) -> impl Iterator<Item = (usize, Uid, u64)> + '_ {
        let positions: Option<&[u32]> = match &self.rows {
            Rows::Whole(_) => None,
            Rows::Chosen { positions, .. } => positions.get(usize::from(folder)).map(Vec::as_slice),
        };
        let count = positions.map_or(self.len(), <[u32]>::len);
        (position..count).filter_map(move |position| {
            let index = positions.map_or(position, |positions| positions[position] as usize);
            let row = self.row(index)?;
            let row = Some(row).filter(|row| row.shows == Shows::Message && !self.is_marked(index))?;
            Some((position, row.uid, u64::from(row.octets)))
        })
    }

    fn unmarked(&self) -> impl Iterator<Item = (usize, Row)> + '_ {
        (0..self.len()).filter_map(|index| {
            let row = self.row(index).filter(|_| !self.is_marked(index))?;
            Some((index, row))
        })
    }

    /// LIST: numbers and octets of the messages that are not marked as deleted, ascending.
    pub fn sizes(&self) -> impl Iterator<Item = (MessageNumber, Octets)> + '_ {
        self.unmarked()
            .filter_map(|(index, row)| Some((MessageNumber::of_index(index)?, Octets(row.octets.into()))))
    }

    /// UIDL: the numbers of the messages that are not marked as deleted, ascending.
    pub fn numbers(&self) -> impl Iterator<Item = MessageNumber> + '_ {
        self.unmarked().filter_map(|(index, _)| MessageNumber::of_index(index))
    }

    /// DELE: marks the message as deleted, in this session only.
    pub fn mark(&mut self, number: MessageNumber) -> Result<(), Refusal> {
        let row = self.get(number)?;
        self.marks.resize(self.len().div_ceil(64), 0);
        self.marks[number.index() / 64] |= 1 << (number.index() % 64);
        self.left -= 1;
        self.octets -= u64::from(row.octets);
        Ok(())
    }

    /// RSET: removes all delete marks.
    pub fn reset(&mut self) {
        self.marks = Vec::new();
        self.left = u32::try_from(self.len()).unwrap_or(u32::MAX);
        self.octets = (0..self.len())
            .filter_map(|index| self.row(index))
            .map(|row| u64::from(row.octets))
            .sum();
    }

    /// The messages that are marked as deleted, in the order of the listing.
    pub(super) fn marked(&self) -> impl Iterator<Item = Row> + '_ {
        // If nothing is marked, there are no bits, and no row is looked at.
        (0..self.len().min(64 * self.marks.len()))
            .filter(|&index| self.is_marked(index))
            .filter_map(|index| self.row(index))
    }

    fn is_marked(&self, index: usize) -> bool {
        self.marks
            .get(index / 64)
            .is_some_and(|word| word & (1 << (index % 64)) != 0)
    }
}

impl Row {
    /// The row of a message of the only folder.
    pub(super) fn of(uid: Uid, octets: u32) -> Self {
        Self {
            folder: 0,
            shows: Shows::Message,
            uid,
            octets,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use proptest::prelude::*;

    use super::*;

    fn number(n: u32) -> MessageNumber {
        MessageNumber(NonZeroU32::new(n).unwrap())
    }

    fn listing(entries: &[(u32, u32)]) -> Listing {
        Listing::whole(Arc::new(Index {
            uid_validity: 7,
            entries: entries.iter().map(|&(uid, octets)| (Uid(uid), octets)).collect(),
            ..Index::default()
        }))
    }

    fn row(folder: u16, uid: u32, octets: u32) -> Row {
        Row {
            folder,
            shows: Shows::Message,
            uid: Uid(uid),
            octets,
        }
    }

    #[test]
    fn rows_of_several_folders_keep_their_positions() {
        let rows = vec![row(0, 3, 10), row(1, 3, 20), row(0, 9, 30), row(1, 4, 40)];
        let mut listing = Listing::chosen(rows.clone(), 2);
        assert_eq!(listing.stat(), (4, Octets(100)));
        let positions: Vec<_> = (1..=4).map(|n| listing.find(number(n)).unwrap().position).collect();
        assert_eq!(positions, [0, 0, 1, 1]);
        assert_eq!(
            listing.following(1, 0).collect::<Vec<_>>(),
            [(0, Uid(3), 20), (1, Uid(4), 40)]
        );
        listing.mark(number(2)).unwrap();
        assert_eq!(listing.following(1, 0).collect::<Vec<_>>(), [(1, Uid(4), 40)]);
        assert_eq!(listing.marked().collect::<Vec<_>>(), rows[1..2]);
    }

    #[test]
    fn nothing_is_read_ahead_of_a_notice() {
        let notice = Row {
            shows: Shows::Notice,
            ..row(0, 5, 20)
        };
        let listing = Listing::chosen(vec![row(0, 3, 10), notice, row(0, 9, 30)], 1);
        assert_eq!(
            listing.following(0, 0).collect::<Vec<_>>(),
            [(0, Uid(3), 10), (2, Uid(9), 30)]
        );
    }

    #[test]
    fn a_mail_of_the_gateways_own_is_of_no_folder() {
        let own = Row {
            shows: Shows::OwnMail,
            ..row(0, 0, 500)
        };
        for (rows, number_of_own) in [
            (vec![own, row(1, 3, 10), row(0, 9, 30)], 1),
            (vec![row(1, 3, 10), row(0, 9, 30), own], 3),
        ] {
            let mut listing = Listing::chosen(rows, 2);
            assert_eq!(listing.stat(), (3, Octets(540)));
            assert_eq!(listing.following(0, 0).collect::<Vec<_>>(), [(0, Uid(9), 30)]);
            assert_eq!(listing.following(1, 0).collect::<Vec<_>>(), [(0, Uid(3), 10)]);
            let others = (1..=3).filter(|&n| n != number_of_own);
            let positions = others.map(|n| listing.find(number(n)).unwrap().position);
            assert_eq!(positions.collect::<Vec<_>>(), [0, 0]);
            listing.mark(number(number_of_own)).unwrap();
            assert_eq!(
                (listing.stat().1, listing.marked().collect::<Vec<_>>()),
                (Octets(40), vec![own])
            );
        }
    }

    #[test]
    fn numbers_never_shift() {
        let mut listing = listing(&[(3, 10), (5, 20), (9, 30)]);
        assert_eq!(listing.stat(), (3, Octets(60)));
        listing.mark(number(2)).unwrap();
        assert_eq!(listing.stat(), (2, Octets(40)));
        assert_eq!(listing.mark(number(2)), Err(Refusal::Deleted));
        assert_eq!(listing.octets(number(2)), Err(Refusal::Deleted));
        assert_eq!(listing.octets(number(4)), Err(Refusal::NoSuchMessage));
        assert_eq!(listing.get(number(3)), Ok(row(0, 9, 30)));
        assert_eq!(listing.numbers().collect::<Vec<_>>(), [number(1), number(3)]);
        assert_eq!(listing.marked().collect::<Vec<_>>(), [row(0, 5, 20)]);
        listing.reset();
        assert_eq!(listing.stat(), (3, Octets(60)));
        assert_eq!(listing.marked().count(), 0);
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
            prop_assert_eq!(listing.marked().count() + listing.numbers().count(), entries.len());
        }
    }
}
