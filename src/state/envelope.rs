//! The octets of a stored record: a version, the record (postcard), and a checksum that also covers the record's key.

use serde::{Serialize, de::DeserializeOwned};

use super::Damage;

/// The first octet of what this version writes.
const VERSION: u8 = 1;
/// Octets of the checksum.
const CHECKSUM: usize = 4;

/// The octets to store for `record`, whose key consists of `names`.
pub(super) fn seal<T: Serialize>(names: &[&str], record: &T) -> Vec<u8> {
    // Writing to memory types of known lengths cannot fail.
    let mut octets = postcard::to_extend(record, vec![VERSION]).unwrap_or_default();
    let checksum = checksum(names, &octets);
    octets.extend_from_slice(&checksum.to_le_bytes());
    octets
}

/// The record that was sealed under the same names. An error if `octets` are anything else.
pub(super) fn open<T: DeserializeOwned>(names: &[&str], octets: &[u8]) -> Result<T, Damage> {
    if !is_intact(names, octets) {
        return Err(Damage::Checksum);
    }
    let content = &octets[..octets.len() - CHECKSUM];
    match content.split_first() {
        Some((&VERSION, record)) => match postcard::take_from_bytes(record) {
            Ok((record, [])) => Ok(record),
            _ => Err(Damage::Content),
        },
        Some((&version, _)) => Err(Damage::Version(version)),
        None => Err(Damage::Content),
    }
}

/// Whether `octets` were sealed under these names, of whatever type the record is.
pub(super) fn is_intact(names: &[&str], octets: &[u8]) -> bool {
    octets
        .split_last_chunk::<CHECKSUM>()
        .is_some_and(|(content, stored)| checksum(names, content) == u32::from_le_bytes(*stored))
}

/// The checksum of `content`. It covers the names, so that a damaged key cannot pass one record off as another.
pub(super) fn checksum(names: &[&str], content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for name in names {
        hasher.update(&name.len().to_le_bytes());
        hasher.update(name.as_bytes());
    }
    hasher.update(content);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::{collection, prelude::*};

    use super::*;
    use crate::{
        state::{Former, Identity, Marks, Past, PendingMove},
        types::Uid,
    };

    fn marks() -> Marks {
        Marks {
            uid_validity: 1_700_000_000,
            hidden: (1..400).map(|n| n * 3).collect(),
            retrieved: (1..50).map(|uid| (uid, 1_700_000_000 + uid)).collect(),
            imported: [(7, "an old name".into())].into(),
            import: u64::MAX,
            ..Marks::default()
        }
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_noticed() {
        let names = ["home", "eva"];
        let octets = seal(&names, &marks());
        assert_eq!(open(&names, &octets), Ok(marks()));
        assert_eq!(open::<Marks>(&["home", "ida"], &octets), Err(Damage::Checksum));
        for length in (0..octets.len()).step_by(10).chain([octets.len() - 1]) {
            assert_eq!(
                open::<Marks>(&names, &octets[..length]),
                Err(Damage::Checksum),
                "cut at {length}"
            );
        }
        for bit in 0..octets.len() * 8 {
            let mut flipped = octets.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open::<Marks>(&names, &flipped), Err(Damage::Checksum), "bit {bit}");
        }
    }

    #[test]
    fn an_octet_a_hidden_message() {
        let many = Marks {
            hidden: (1..=100_000).collect(),
            ..Marks::default()
        };
        assert!(seal(&[], &many).len() < 100_100);
    }

    #[test]
    fn what_is_no_record_under_a_right_checksum_is_refused() {
        let sealed = |content: &[u8]| [content, &checksum(&[], content).to_le_bytes()].concat();
        assert_eq!(open::<Past>(&[], &sealed(&[])), Err(Damage::Content));
        assert_eq!(open::<Past>(&[], &sealed(&[2, 0, 0, 0])), Err(Damage::Version(2)));
        assert_eq!(open::<Past>(&[], &sealed(&[1, 0, 0, 0, 0])), Ok(Past::default()));
        assert_eq!(
            open::<Past>(&[], &sealed(&[1, 0, 0, 0, 0, 0])),
            Err(Damage::Content),
            "too long"
        );
        assert_eq!(
            open::<Past>(&[], &sealed(&[1, 0, 0])),
            Err(Damage::Content),
            "too short"
        );
        assert_eq!(Damage::Content.to_string(), "not a record of the expected kind");
        assert_eq!(
            open::<Past>(&[], &sealed(&[1, 0, 0xff, 0xff, 0xff, 0x7f])),
            Err(Damage::Content)
        );
    }

    proptest! {
        #[test]
        fn round_trip(
            hidden in collection::btree_set(any::<u32>(), 0..50),
            noticed in collection::btree_set(any::<u32>(), 0..5),
            retrieved in collection::btree_map(any::<u32>(), any::<u32>(), 0..50),
            imported in collection::btree_map(any::<u32>(), any::<String>(), 0..10),
            uid_validity: u64, import: u64, name: String,
        ) {
            let marks = Marks {
                uid_validity, import,
                hidden: hidden.into_iter().collect(),
                noticed: noticed.iter().copied().collect(),
                undelivered: noticed.into_iter().collect(),
                retrieved: retrieved.into_iter().collect(),
                imported: imported.into_iter().collect(),
            };
            prop_assert_eq!(open(&[&name], &seal(&[&name], &marks)), Ok(marks));
        }

        #[test]
        fn round_trip_of_a_move(
            uid_validity: u64, uids: Vec<u32>, target: String, target_uid_validity: u64, target_uid_next: u32,
        ) {
            let (uids, target_uid_next) = (uids.into_iter().collect(), Uid(target_uid_next));
            let pending = PendingMove { uid_validity, uids, target, target_uid_validity, target_uid_next };
            prop_assert_eq!(open(&["x"], &seal(&["x"], &pending)), Ok(pending));
        }

        #[test]
        fn round_trip_of_the_past(identities: Vec<(u32, [u8; 16])>, former: Vec<(u32, u64, u32)>, validities: (u64, u64)) {
            let past = Past {
                uid_validity: validities.0,
                first_uid_validity: validities.1,
                identities: identities.into_iter().map(|(uid, octets)| (uid, Identity(octets))).collect(),
                former: former.into_iter().map(|(now, uid_validity, uid)| (now, Former { uid_validity, uid: Uid(uid) })).collect(),
            };
            prop_assert_eq!(open(&[], &seal(&[], &past)), Ok(past));
        }
    }
}
