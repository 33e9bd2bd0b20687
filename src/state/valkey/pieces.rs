//! A large index in pieces, so that only changed pieces are sent.

use aws_lc_rs::digest::{SHA256, digest};

/// Octets of a piece. A new message changes only the first and the last piece.
const PIECE: usize = 3_800;
/// Octets of a piece's digest.
const DIGEST: usize = 8;

/// The digests of all pieces of `record`, one after the other.
pub(super) fn digests(record: &[u8]) -> Vec<u8> {
    let of_piece = |piece| digest(&SHA256, piece).as_ref()[..DIGEST].to_vec();
    record.chunks(PIECE).flat_map(of_piece).collect()
}

/// The pieces of `record` that have changed, with their numbers from 0: their digests in `was` and `is` differ.
pub(super) fn changed<'a>(record: &'a [u8], was: &'a [u8], is: &'a [u8]) -> impl Iterator<Item = (usize, &'a [u8])> {
    let digests = move |number: usize| (was.chunks(DIGEST).nth(number), is.chunks(DIGEST).nth(number));
    let pieces = record.chunks(PIECE).enumerate();
    pieces.filter(move |&(number, _)| {
        let (was, is) = digests(number);
        was != is
    })
}

/// How many digests `digests` consists of.
pub(super) fn count(digests: &[u8]) -> usize {
    digests.len() / DIGEST
}

/// The pieces put together; `None` if one is missing.
pub(super) fn joined(count: usize, piece: impl Fn(usize) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    (0..count).try_fold(Vec::with_capacity(count * PIECE), |mut record, number| {
        record.append(&mut piece(number)?);
        Some(record)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pieces_that_differ_are_sent() {
        let before: Vec<u8> = (0..20_000_u32).map(|n| (n / 7) as u8).collect();
        let mut after = before.clone();
        (after[0], after[19_999]) = (after[0] ^ 1, after[19_999] ^ 1);
        let (was, is) = (digests(&before), digests(&after));
        let numbers = |record: &[u8], was: &[u8], is: &[u8]| {
            changed(record, was, is).map(|(number, _)| number).collect::<Vec<_>>()
        };
        assert_eq!(numbers(&after, &was, &is), [0, 5]);
        assert_eq!(numbers(&after, &[], &is), [0, 1, 2, 3, 4, 5]);
        assert_eq!(numbers(&after[..4_000], &was, &digests(&after[..4_000])), [0, 1]);
        assert_eq!((count(&is), count(&[])), (6, 0));
        let piece = |number: usize| after.chunks(PIECE).nth(number).map(<[u8]>::to_vec);
        assert_eq!(joined(6, piece), Some(after.clone()));
        assert_eq!(joined(7, piece), None);
    }
}
