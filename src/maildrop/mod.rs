//! TRANSLATION: the frozen, numbered listing of one session's mailboxes, and what each POP3 command does with it.

mod body;
mod budget;
mod commit;
mod delete_preview;
mod delivery;
mod error;
mod folder;
mod import;
mod listing;
mod look;
mod marks;
mod notice;
mod open;
mod own_mail;
mod parked;
mod read_ahead;
mod recognition;
mod removal;
mod rendering;
mod resources;
mod retention;
#[cfg(test)]
mod scene;
mod selection;
mod snapshot;
mod sweep;
mod top;
mod trash;
mod uidl;
mod undelivered;
mod upstream;

pub use body::Body;
pub use delete_preview::{DeleteEffect, DeletePreview, Obstacle};
pub use error::{Error, Reason, Refusal};
pub use listing::Listing;
pub use look::{Fetched, FolderSummary, Look};
pub use open::{Maildrops, SetupError};
pub use sweep::DueMessages;

use std::sync::Arc;

use tracing::Span;

use crate::{
    config::{Expire, Policy},
    notify,
    types::{MessageNumber, Octets},
};

use self::{
    folder::HeldFolder,
    listing::{Row, Shows},
    notice::NoticeTexts,
    own_mail::OwnMail,
    uidl::Uidls,
};

/// One session's maildrop, exclusively locked while it lives. Dropping it deletes nothing.
#[derive(Debug)]
pub struct Maildrop {
    /// The folders that it shows, usually one.
    folders: Vec<HeldFolder>,
    listing: Listing,
    uidls: Uidls,
    notice_texts: NoticeTexts,
    /// A mail that the gateway itself has written (`[notify]`), shown among the messages.
    own: Option<Box<OwnMail>>,
    /// Tells people when they must act (`[notify]`).
    notices: notify::Notices,
    policy: Arc<Policy>,
    /// The span of log events about the upstream.
    span: Span,
}

impl Maildrop {
    /// The frozen listing, with this session's delete marks.
    pub fn listing(&self) -> &Listing {
        &self.listing
    }

    /// What the maildrop shows, and what fetching and deleting do.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// How long mail stays if the device does not delete it: the value of EXPIRE (RFC 2449 §6.7).
    pub fn expire(&self) -> Expire {
        self.policy.retention.expire()
    }

    /// UIDL n: appends the unique-id to `out`.
    pub fn write_uidl(&self, number: MessageNumber, out: &mut Vec<u8>) -> Result<(), Error> {
        match (self.listing.get(number)?, &self.own) {
            (row, Some(own)) if row.shows == Shows::OwnMail => out.extend_from_slice(own.uidl()),
            (row, _) => self.uidls.write(row, out),
        }
        Ok(())
    }

    /// DELE: marks the message as deleted, in this session only.
    pub fn delete(&mut self, number: MessageNumber) -> Result<(), Error> {
        Ok(self.listing.mark(number)?)
    }

    /// RSET: removes all delete marks.
    pub fn reset(&mut self) {
        self.listing.reset();
    }

    /// How many octets were fetched ahead and not sent to the device. Octets in flight count too.
    pub fn wasted(&self) -> Octets {
        Octets(self.folders.iter().map(HeldFolder::wasted).sum())
    }

    /// The text of `row` if the gateway wrote it: a notice, or the gateway's own mail. `None` if the message must be
    /// fetched from the upstream.
    fn notice(&self, row: Row) -> Option<Arc<[u8]>> {
        if row.shows == Shows::OwnMail {
            return self.own.as_ref().map(|own| own.mail().text().clone());
        }
        let composed = self.notice_texts.get(&(row.folder, row.uid)).cloned();
        let recent = || self.folders[usize::from(row.folder)].recent_notice(row.uid);
        composed
            .or_else(recent)
            .or_else(|| (row.shows == Shows::Notice).then(Arc::default))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::Account;

    /// Every idle session holds both structures.
    #[test]
    fn a_maildrop_is_small() {
        let octets = size_of::<Maildrop>() + size_of::<HeldFolder>();
        assert!(octets <= 1792, "{octets}");
    }

    /// Every login allocates and copies this future. So `open` boxes its large steps.
    #[test]
    fn to_open_a_maildrop_takes_little() {
        fn octets<'a, F>(_: impl FnOnce(&'a Maildrops, &'a Account) -> F) -> usize {
            size_of::<F>()
        }
        let octets = octets(Maildrops::open);
        assert!(octets <= 2048, "{octets}");
    }
}
