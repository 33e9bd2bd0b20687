//! The index of a mailbox, and its binary format:
//!
//! ```text
//! version      1 octet
//! uid_validity varint
//! modseq       varint, varint: the upper and the lower 32 bits
//! row          varint
//! listed       varint
//! columns      1 octet: 1 if messages have an INTERNALDATE, 2 if an EMAILID, or the sum
//! count        varint
//! count times  varint UID minus the UID before it (the first: minus 0); varint octets; and, as columns says,
//!              varint INTERNALDATE; varint length of the EMAILID, and the EMAILID
//! checksum     CRC-32 of the mailbox's names and of all octets above: 4 octets, little-endian
//! ```
//!
//! An octet of a varint has seven bits, the lowest first; its high bit says that more octets follow (LEB128). A message
//! takes four octets if UIDs follow closely: one for the UID, three for a size up to 2 MB.

use serde::{Deserialize, Serialize};

use super::{Entries, MailboxName, entries::shrink, envelope::checksum};
use crate::types::Uid;

/// The first octet of what this version writes.
const VERSION: u8 = 2;
/// Octets of the checksum.
const CHECKSUM: usize = 4;
/// The bits of `columns`.
const ARRIVED: u8 = 1;
const EMAIL_IDS: u8 = 2;

/// What is remembered of a mailbox between sessions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// UIDs keep their meaning as long as this is the same (RFC 3501 §2.3.1.1).
    pub uid_validity: u64,
    /// HIGHESTMODSEQ (RFC 7162 §3.1.2.1) at the time of these entries or earlier; 0 if the server has none.
    pub modseq: u64,
    /// How many messages the last session fetched one after the other. Read-ahead expects the same of the next session.
    pub row: u32,
    /// The highest UID that was ever listed. It is unknown which messages exist above it. 0 if the server's listing and
    /// its count of messages disagreed: then nothing is known about any UID.
    pub listed: u32,
    /// UID and size of each message.
    pub entries: Entries,
    /// INTERNALDATE of each message, in seconds since 1970; empty if it was not asked for.
    pub arrived: Vec<u32>,
    /// EMAILID of each message (RFC 8474); empty if it was not asked for.
    pub email_ids: Vec<Box<str>>,
}

/// Why a stored record cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// An octet has changed, or the record was stored under another name.
    #[error("wrong checksum")]
    Checksum,
    /// Written by another version of popgate.
    #[error("format {0} is unknown to this version")]
    Version(u8),
    /// The checksum is right, but the content is not a record of the expected kind.
    #[error("not a record of the expected kind")]
    Content,
}

impl Index {
    /// Adds a message if its UID is higher than all others. If the message has no value for a column, that column is
    /// dropped.
    pub fn push(&mut self, uid: Uid, octets: u32, arrived: Option<u32>, email_id: Option<Box<str>>) {
        let count = self.entries.len();
        if self.entries.push(uid, octets) {
            extend(&mut self.arrived, count, arrived);
            extend(&mut self.email_ids, count, email_id);
            self.listed = self.listed.max(uid.0);
        }
    }

    /// Whether the index has all messages that the server has counted.
    pub fn is_whole(&self) -> bool {
        self.entries.is_empty() || self.listed > 0
    }

    /// Whether a message with this UID is known to be gone.
    pub fn has_lost(&self, uid: Uid) -> bool {
        uid.0 <= self.listed && !self.entries.contains(uid)
    }

    /// Whether every message has an INTERNALDATE (if `arrived`) and an EMAILID (if `email_id`).
    pub fn has(&self, arrived: bool, email_id: bool) -> bool {
        let count = self.entries.len();
        (!arrived || self.arrived.len() == count) && (!email_id || self.email_ids.len() == count)
    }

    /// Forgets all messages.
    pub fn clear(&mut self) {
        self.retain(|_| false);
    }

    /// Forgets the messages for whose UIDs `stays` returns `false`.
    pub fn retain(&mut self, stays: impl Fn(Uid) -> bool) {
        retain_column(&mut self.arrived, &self.entries, &stays);
        retain_column(&mut self.email_ids, &self.entries, &stays);
        self.entries.retain(stays);
        self.shrink();
    }

    /// Frees the unused memory of the vectors: see [`shrink`].
    pub fn shrink(&mut self) {
        self.entries.shrink();
        shrink(&mut self.arrived);
        shrink(&mut self.email_ids);
    }

    /// The record to store for `mailbox`. `None` if the index is not valid: it has a UID 0, or a column that is too
    /// short.
    pub fn encode(&self, mailbox: &MailboxName) -> Option<Vec<u8>> {
        let mut record = Vec::with_capacity(32 + 5 * self.entries.len());
        record.push(VERSION);
        put_long(&mut record, self.uid_validity);
        put(&mut record, (self.modseq >> 32) as u32);
        put(&mut record, self.modseq as u32);
        put(&mut record, self.row);
        put(&mut record, self.listed);
        let column = |has: bool, bit| if has { bit } else { 0 };
        record.push(column(!self.arrived.is_empty(), ARRIVED) | column(!self.email_ids.is_empty(), EMAIL_IDS));
        put(&mut record, u32::try_from(self.entries.len()).ok()?);
        let mut last = 0;
        for (at, (Uid(uid), octets)) in self.entries.iter().enumerate() {
            put(&mut record, uid.checked_sub(last).filter(|&delta| delta > 0)?);
            put(&mut record, octets);
            last = uid;
            if !self.arrived.is_empty() {
                put(&mut record, *self.arrived.get(at)?);
            }
            if !self.email_ids.is_empty() {
                let id = self.email_ids.get(at)?;
                put(&mut record, u32::try_from(id.len()).ok()?);
                record.extend_from_slice(id.as_bytes());
            }
        }
        let checksum = checksum(&names(mailbox), &record);
        record.extend_from_slice(&checksum.to_le_bytes());
        Some(record)
    }

    /// Reads a record that [`Index::encode`] made for the same mailbox; anything else is an error. The memory that this
    /// takes is in proportion to the record's octets, whatever count the record claims.
    pub fn decode(mailbox: &MailboxName, record: &[u8]) -> Result<Self, Damage> {
        let Some((content, stored)) = record.split_last_chunk::<CHECKSUM>() else {
            return Err(Damage::Checksum);
        };
        if checksum(&names(mailbox), content) != u32::from_le_bytes(*stored) {
            return Err(Damage::Checksum);
        }
        match content.split_first() {
            Some((&VERSION, rest)) => Self::read(rest).ok_or(Damage::Content),
            Some((&version, _)) => Err(Damage::Version(version)),
            None => Err(Damage::Content),
        }
    }

    fn read(mut rest: &[u8]) -> Option<Self> {
        let rest = &mut rest;
        let uid_validity = take_long(rest)?;
        let modseq = u64::from(take(rest)?) << 32 | u64::from(take(rest)?);
        let row = take(rest)?;
        let listed = take(rest)?;
        let (&columns, tail) = rest.split_first()?;
        *rest = tail;
        let count = usize::try_from(take(rest)?).ok()?;
        if columns > (ARRIVED | EMAIL_IDS) || (columns > 0 && count == 0) {
            return None;
        }
        if count > rest.len() / 2 {
            return None; // an entry takes two octets at least
        }
        let room = |column| if columns & column == 0 { 0 } else { count };
        let mut entries = Entries::default();
        let (mut arrived, mut email_ids) = (Vec::with_capacity(room(ARRIVED)), Vec::with_capacity(room(EMAIL_IDS)));
        let mut last = 0_u32;
        for _ in 0..count {
            let delta = take(rest).filter(|&delta| delta > 0)?;
            last = last.checked_add(delta)?;
            entries.push(Uid(last), take(rest)?);
            if columns & ARRIVED != 0 {
                arrived.push(take(rest)?);
            }
            if columns & EMAIL_IDS != 0 {
                let octets = usize::try_from(take(rest)?).ok()?;
                let (id, tail) = rest.split_at_checked(octets)?;
                *rest = tail;
                email_ids.push(std::str::from_utf8(id).ok()?.into());
            }
        }
        entries.shrink();
        rest.is_empty().then_some(Self {
            uid_validity,
            modseq,
            row,
            listed,
            entries,
            arrived,
            email_ids,
        })
    }
}

/// Forgets the entries of a column for whose UIDs `stays` returns `false`.
fn retain_column<T>(column: &mut Vec<T>, entries: &Entries, stays: impl Fn(Uid) -> bool) {
    let mut uids = entries.uids();
    column.retain(|_| uids.next().is_some_and(&stays));
}

/// Adds a value to a column that should have `count` entries. Clears the column if it has another number of entries, or
/// if there is no value.
fn extend<T>(column: &mut Vec<T>, count: usize, value: Option<T>) {
    match value {
        Some(value) if column.len() == count => column.push(value),
        _ => column.clear(),
    }
}

fn names(mailbox: &MailboxName) -> [&str; 3] {
    [&mailbox.upstream, &mailbox.user, &mailbox.folder]
}

fn put(record: &mut Vec<u8>, value: u32) {
    put_long(record, value.into());
}

fn put_long(record: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        record.push(value as u8 | 0x80);
        value >>= 7;
    }
    record.push(value as u8);
}

/// Reads the next varint; `None` if it has more than 32 bits or is not in the form that [`put`] writes.
fn take(rest: &mut &[u8]) -> Option<u32> {
    u32::try_from(take_long(rest)?).ok()
}

/// Reads the next varint; `None` if it is not in the form that [`put_long`] writes.
fn take_long(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (&octet, tail) = rest.split_first()?;
        *rest = tail;
        let bits = u64::from(octet & 0x7f);
        if bits << shift >> shift != bits {
            return None; // beyond 64 bits
        }
        value |= bits << shift;
        if octet < 0x80 {
            return (octet > 0 || shift == 0).then_some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::{collection, prelude::*};

    use super::*;

    fn mailbox(user: &str) -> MailboxName {
        MailboxName {
            upstream: "home".into(),
            user: user.into(),
            folder: "INBOX".into(),
        }
    }

    /// Typical mail: few gaps, sizes from 1 KB to 2 MB.
    fn realistic(count: u32) -> Index {
        let octets = |n: u32| 1_000 + (n.wrapping_mul(2_654_435_761) >> 11);
        Index {
            uid_validity: 1_700_000_000,
            modseq: 1 << 40,
            row: 12,
            entries: (0..count).map(|n| (1 + n * 3 / 2, octets(n))).collect(),
            ..Index::default()
        }
    }

    /// `content` under a right checksum.
    fn sealed(content: &[u8]) -> Vec<u8> {
        [content, &checksum(&names(&mailbox("a")), content).to_le_bytes()].concat()
    }

    fn decoded(content: &[u8]) -> Result<Index, Damage> {
        Index::decode(&mailbox("a"), &sealed(content))
    }

    #[test]
    fn four_octets_a_message() {
        let record = realistic(100_000).encode(&mailbox("a")).unwrap();
        assert!(record.len() < 410_000, "{} octets", record.len());
    }

    #[test]
    fn eight_octets_a_message_at_most_for_scattered_uids_and_large_mail() {
        let entries = (1..=20_000_u32).map(|n| (n * 200_000, 200_000_000)).collect();
        let index = Index {
            entries,
            ..realistic(0)
        };
        assert!(index.encode(&mailbox("a")).unwrap().len() <= 20_000 * 8);
    }

    #[test]
    fn the_format_is_pinned() {
        let index = Index {
            uid_validity: 3,
            modseq: 1 << 40,
            row: 300,
            listed: 200,
            entries: [(1, 127), (129, u32::MAX)].into(),
            arrived: vec![5, 300],
            email_ids: vec!["M1".into(), "".into()],
        };
        let content = [
            2, 3, 0x80, 2, 0, 0xac, 2, 0xc8, 1, 3, 2, 1, 127, 5, 2, b'M', b'1', 0x80, 1, 0xff, 0xff, 0xff, 0xff, 0x0f,
            0xac, 2, 0,
        ];
        let record = index.encode(&mailbox("a")).unwrap();
        assert_eq!(record, sealed(&content));
        assert_eq!(Index::decode(&mailbox("a"), &record), Ok(index));
    }

    #[test]
    fn a_uid_of_0_is_not_kept() {
        let index = Index {
            entries: [(0, 5), (1, 5)].into(),
            ..realistic(0)
        };
        assert_eq!(index.encode(&mailbox("a")), None);
    }

    #[test]
    fn columns_stay_beside_their_messages() {
        let mut index = Index::default();
        for uid in 1..=4 {
            index.push(Uid(uid), 10, Some(uid * 100), Some(uid.to_string().into()));
        }
        let before = index.clone();
        index.push(Uid(4), 99, None, None);
        index.push(Uid(2), 99, Some(1), Some("x".into()));
        assert_eq!(index, before, "only UIDs above all others are added");
        index.retain(|uid| uid.0 % 2 == 0);
        assert_eq!(index.arrived, [200, 400]);
        assert_eq!(index.email_ids, ["2", "4"].map(Box::<str>::from));
        assert!(index.has(true, true) && index.entries.contains(Uid(4)) && !index.entries.contains(Uid(3)));
        index.push(Uid(5), 10, Some(500), None);
        assert!(
            index.has(true, false) && !index.has(true, true),
            "a column that is not complete goes"
        );
        index.push(Uid(6), 10, None, Some("6".into()));
        assert!(!index.has(true, false) && !index.has(false, true));
        assert!(index.encode(&mailbox("a")).is_some());
        assert!(index.has_lost(Uid(3)) && !index.has_lost(Uid(4)) && !index.has_lost(Uid(7)));
        index.clear();
        assert!(index.entries.is_empty() && index.has(true, true) && index.has_lost(Uid(6)) && !index.has_lost(Uid(7)));
    }

    #[test]
    fn another_mailboxes_record_is_refused() {
        let record = realistic(10).encode(&mailbox("a")).unwrap();
        assert_eq!(Index::decode(&mailbox("b"), &record), Err(Damage::Checksum));
    }

    #[test]
    fn content_is_strict_under_a_right_checksum() {
        assert_eq!(
            decoded(&[2, 7, 0, 0, 0, 1, 0, 1, 1, 5]).unwrap().entries,
            [(1, 5)].into()
        );
        let refused: [(&str, &[u8]); 14] = [
            ("a trailing octet", &[2, 7, 0, 0, 0, 1, 0, 1, 1, 5, 0]),
            ("a missing octet", &[2, 7, 0, 0, 0, 1, 0, 1, 1]),
            ("an unknown column", &[2, 7, 0, 0, 0, 1, 4, 1, 1, 5]),
            ("a column of nothing", &[2, 7, 0, 0, 0, 1, 1, 0]),
            ("a column too short", &[2, 7, 0, 0, 0, 1, 1, 1, 1, 5]),
            ("an EMAILID beyond the record", &[2, 7, 0, 0, 0, 1, 2, 1, 1, 5, 9, b'M']),
            (
                "a count beyond the record",
                &[2, 7, 0, 0, 0, 1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f, 1, 5],
            ),
            ("UID 0", &[2, 7, 0, 0, 0, 1, 0, 1, 0, 5]),
            ("a UID twice", &[2, 7, 0, 0, 0, 1, 0, 2, 1, 5, 0, 5]),
            (
                "a UID above 32 bits",
                &[2, 7, 0, 0, 0, 1, 0, 2, 0xff, 0xff, 0xff, 0xff, 0x0f, 5, 1, 5],
            ),
            (
                "a varint above 32 bits",
                &[2, 7, 0, 0, 0, 1, 0, 1, 1, 0xff, 0xff, 0xff, 0xff, 0x1f],
            ),
            (
                "a varint of six octets",
                &[2, 7, 0, 0, 0, 1, 0, 1, 1, 0x80, 0x80, 0x80, 0x80, 0x80, 1],
            ),
            ("a varint longer than needed", &[2, 7, 0, 0, 0, 1, 0, 1, 1, 0x85, 0]),
            ("nothing behind the version", &[2]),
        ];
        for (name, content) in refused {
            assert_eq!(decoded(content), Err(Damage::Content), "{name}");
        }
        assert_eq!(decoded(&[]), Err(Damage::Content));
        assert_eq!(decoded(&[1, 7, 0, 0]), Err(Damage::Version(1)));
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_noticed() {
        let record = realistic(50).encode(&mailbox("a")).unwrap();
        for length in 0..record.len() {
            let cut = Index::decode(&mailbox("a"), &record[..length]);
            assert_eq!(cut, Err(Damage::Checksum), "cut at {length}");
        }
        for bit in 0..record.len() * 8 {
            let mut flipped = record.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                Index::decode(&mailbox("a"), &flipped),
                Err(Damage::Checksum),
                "bit {bit}"
            );
        }
    }

    proptest! {
        #[test]
        fn round_trip(
            uid_validity: u64,
            modseq: u64,
            row: u32,
            entries in collection::btree_map(1_u32.., any::<(u32, u32, String)>(), 0..200),
            columns: (bool, bool),
            user: String,
        ) {
            let mut index = Index { uid_validity, modseq, row, ..Index::default() };
            for (uid, (octets, arrived, id)) in entries {
                index.push(Uid(uid), octets, columns.0.then_some(arrived), columns.1.then(|| id.into()));
            }
            let record = index.encode(&mailbox(&user)).unwrap();
            prop_assert_eq!(Index::decode(&mailbox(&user), &record), Ok(index));
        }

        #[test]
        fn any_octets_are_an_index_or_an_error(octets in collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Index::decode(&mailbox("a"), &octets).is_err());
            // Content that is accepted under a right checksum is exactly what would be written for it.
            for content in [octets.clone(), [&[VERSION][..], &octets].concat()] {
                if let Ok(index) = decoded(&content) {
                    prop_assert_eq!(index.encode(&mailbox("a")), Some(sealed(&content)));
                }
            }
        }
    }
}
