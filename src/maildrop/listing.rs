//! The numbered view that a session sees: numbers never shift (RFC 1939 §5).

use std::num::NonZeroU32;

/// Message number as a device says it, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageNumber(pub NonZeroU32);

/// A size as POP3 counts it: CRLF line ends, before dot-stuffing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Octets(pub u64);

/// Messages in ascending order of UID, with this session's delete marks.
#[derive(Debug, Default)]
pub struct Listing {}

impl Listing {
    /// STAT: messages not marked deleted, and their octets.
    pub fn stat(&self) -> (u32, Octets) {
        (0, Octets(0))
    }

    /// LIST n
    pub fn octets(&self, _number: MessageNumber) -> Result<Octets, super::Error> {
        Err(super::Error::NoSuchMessage)
    }

    /// LIST: numbers and octets of what is not marked deleted, ascending.
    pub fn sizes(&self) -> impl Iterator<Item = (MessageNumber, Octets)> + '_ {
        std::iter::empty()
    }

    /// UIDL n: appends the unique-id's octets (RFC 1939 §7: 1 to 70, 0x21–0x7E) to `out`.
    pub fn write_uidl(&self, _number: MessageNumber, _out: &mut Vec<u8>) -> Result<(), super::Error> {
        Err(super::Error::NoSuchMessage)
    }

    /// UIDL: the numbers of what is not marked deleted, ascending.
    pub fn numbers(&self) -> impl Iterator<Item = MessageNumber> + '_ {
        std::iter::empty()
    }
}
