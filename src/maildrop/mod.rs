//! TRANSLATION: one session's frozen, numbered view of its mailboxes, and what POP3's commands mean there.

mod ahead;
mod body;
mod budget;
mod commit;
mod copy;
mod error;
mod import;
mod leave;
mod listing;
mod lock;
mod notice;
mod open;
mod recognition;
mod removal;
mod rendering;
mod retention;
mod selection;
mod source;
mod sync;
mod top;
mod uidl;
mod undelivered;

pub use body::Body;
pub use error::{Error, Reason};
pub use listing::{Listing, MessageNumber, Octets};
pub use open::{Maildrops, SetupError};
pub use retention::Due;

use crate::config::{Expire, Policy};

use self::{listing::Row, notice::Notices, source::Source, uidl::Names};

/// One session's maildrop, exclusively locked while it lives. Dropping it deletes nothing.
#[derive(Debug)]
pub struct Maildrop {
    /// Its folders, usually one.
    sources: Vec<Source>,
    listing: Listing,
    names: Names,
    notices: Notices,
}

impl Maildrop {
    /// The frozen listing with this session's marks.
    pub fn listing(&self) -> &Listing {
        &self.listing
    }

    /// What it shows and does.
    pub fn policy(&self) -> Option<&Policy> {
        self.sources.first().map(|source| &*source.account.policy)
    }

    /// How long mail stays that the device leaves (RFC 2449 §6.7).
    pub fn expire(&self) -> Expire {
        self.policy().map_or(Expire::Never, |policy| policy.retention.expire())
    }

    /// UIDL n: appends the unique-id to `out`.
    pub fn write_uidl(&self, number: MessageNumber, out: &mut Vec<u8>) -> Result<(), Error> {
        self.names.write(self.listing.get(number)?, out);
        Ok(())
    }

    /// DELE: marks in the session only.
    pub fn delete(&mut self, number: MessageNumber) -> Result<(), Error> {
        self.listing.mark(number)
    }

    /// RSET: takes all marks back.
    pub fn reset(&mut self) {
        self.listing.reset();
    }

    /// Octets that the upstream sent, or is about to send, in vain.
    pub fn wasted(&self) -> Octets {
        Octets(self.sources.iter().map(|source| source.ahead.wasted()).sum())
    }

    /// What stands in the place of a message.
    fn notice(&self, row: Row) -> Option<&[u8]> {
        let notice = self.notices.get(&(row.source, row.uid)).map(Vec::as_slice);
        notice.or(row.is_notice.then_some(&[]))
    }
}
