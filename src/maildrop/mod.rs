//! TRANSLATION: one session's frozen, numbered view of a mailbox, and what POP3's commands mean there.

mod ahead;
mod body;
mod commit;
mod error;
mod listing;
mod lock;
mod open;
mod sync;
mod top;

pub use body::Body;
pub use error::{Error, Reason};
pub use listing::{Listing, MessageNumber, Octets};
pub use open::{Maildrops, SetupError};

use std::sync::Arc;

use self::{ahead::Ahead, lock::Lock, open::Shared, sync::View};
use crate::{
    accounts::Account,
    config::OnRetrieve,
    imap::{Connector, Mailbox, Slot, Uid},
};

/// One session's maildrop, exclusively locked while it lives. Dropping it deletes nothing.
#[derive(Debug)]
pub struct Maildrop {
    account: Account,
    connector: Arc<Connector>,
    /// The upstream; replaced by a new connection when it is lost.
    mailbox: Mailbox,
    listing: Listing,
    ahead: Ahead,
    /// Delivered whole and not yet flagged `\Seen`.
    retrieved: Vec<Uid>,
    /// Delivered with another size than listed.
    learned: Vec<(Uid, u32)>,
    /// What is known of the mailbox, for the next session.
    view: View,
    /// State holds what `view` says.
    is_saved: bool,
    slot: Slot<View>,
    shared: Arc<Shared>,
    /// Until the session ends.
    lock: Option<Lock>,
}

impl Maildrop {
    /// The frozen listing with this session's marks.
    pub fn listing(&self) -> &Listing {
        &self.listing
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
        Octets(self.ahead.wasted())
    }

    /// A message was delivered whole.
    fn note_retrieved(&mut self, uid: Uid, listed: Octets, delivered: Octets) {
        if self.account.policy.on_retrieve == OnRetrieve::MarkRead {
            self.retrieved.push(uid);
        }
        if listed != delivered
            && let Ok(octets) = u32::try_from(delivered.0)
        {
            self.learned.push((uid, octets));
        }
    }
}
