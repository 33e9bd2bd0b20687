//! TRANSLATION: one session's frozen, numbered view of a mailbox.

mod error;
mod listing;

pub use error::{Error, Reason};
pub use listing::{Listing, MessageNumber, Octets};

use crate::accounts::Account;

/// Opens maildrops: holds what they share (locks, upstream connectors).
#[derive(Debug)]
pub struct Maildrops {}

impl Maildrops {
    /// Logs in upstream, takes the lock, selects and lists. RFC 1939 §4: only after this may PASS say +OK.
    pub async fn open(&self, _account: &Account) -> Result<Maildrop, Error> {
        Err(Error::Unavailable(Reason::Refused))
    }
}

/// One session's maildrop, exclusively locked while it lives. Dropping it deletes nothing.
#[derive(Debug)]
pub struct Maildrop {
    listing: Listing,
}

impl Maildrop {
    /// The frozen listing with this session's marks.
    pub fn listing(&self) -> &Listing {
        &self.listing
    }

    /// DELE: marks in the session only.
    pub fn delete(&mut self, _number: MessageNumber) -> Result<(), Error> {
        Err(Error::NoSuchMessage)
    }

    /// RSET: takes all marks back.
    pub fn reset(&mut self) {}

    /// RETR: returns once the upstream's literal has begun; every error before that is a clean `-ERR`.
    pub async fn retrieve(&mut self, _number: MessageNumber) -> Result<Body<'_>, Error> {
        Err(Error::NoSuchMessage)
    }

    /// TOP: the header, the empty line and `lines` lines of the body. A huge `lines` equals RETR but never sets `\Seen`.
    pub async fn top(&mut self, _number: MessageNumber, _lines: u64) -> Result<Body<'_>, Error> {
        Err(Error::NoSuchMessage)
    }

    /// QUIT: applies the delete policy; `Ok` only when the upstream confirmed all of it. Returns how many were removed.
    pub async fn commit(self) -> Result<u64, Error> {
        Ok(0)
    }

    /// A drop without QUIT: nothing is deleted, the upstream connection is given back or closed.
    pub async fn abandon(self) {}
}

/// A message on its way, as the upstream sends it (line ends as they come, no dot-stuffing).
#[derive(Debug)]
pub struct Body<'a> {
    _maildrop: &'a mut Maildrop,
}

impl Body<'_> {
    /// The size that RETR's `+OK` tells: the literal's own. `None` for TOP.
    pub fn octets(&self) -> Option<Octets> {
        None
    }

    /// The next piece, never empty; `None` when the message is whole. An error means that it is not:
    /// the connection must be closed without the terminating dot.
    pub async fn chunk(&mut self) -> Result<Option<&[u8]>, Error> {
        Ok(None)
    }
}
