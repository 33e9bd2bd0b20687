//! TRANSLATION: one session's frozen, numbered view of a mailbox, and what POP3's commands mean there.

mod ahead;
mod body;
mod commit;
mod error;
mod listing;
mod lock;
mod open;
mod top;

pub use body::Body;
pub use error::{Error, Reason};
pub use listing::{Listing, MessageNumber, Octets};
pub use open::Maildrops;

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use self::ahead::Ahead;
use crate::{
    accounts::Account,
    config::OnRetrieve,
    imap::{Connector, Mailbox, Uid},
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
    tasks: TaskTracker,
    /// Until the session ends.
    lock: Option<lock::Lock>,
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

    /// A message was delivered whole.
    fn note_retrieved(&mut self, uid: Uid) {
        if self.account.policy.on_retrieve == OnRetrieve::MarkRead {
            self.retrieved.push(uid);
        }
    }
}
