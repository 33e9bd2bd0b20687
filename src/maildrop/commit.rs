//! The UPDATE state (RFC 1939 §6): what QUIT does upstream.

use super::{Error, Maildrop, Reason, open::leave_all, source::Source};
use crate::{config::Retention, types::Uid};

impl Maildrop {
    /// QUIT: applies the delete policy; `Ok` only when the upstream (or, for `hide`, state) confirmed all of it. Returns how
    /// many were removed.
    pub async fn commit(mut self) -> Result<u64, Error> {
        let doomed = self.doomed();
        let total = doomed
            .iter()
            .map(|(uids, noticed)| uids.len() + noticed.len())
            .sum::<usize>() as u64;
        let mut removed = 0;
        let mut failure = None;
        for (source, (uids, noticed)) in self.sources.iter_mut().zip(doomed) {
            let count = (uids.len() + noticed.len()) as u64;
            match source.note_and_delete(&uids, noticed).await {
                Ok(refused) => removed += count - refused.len() as u64,
                Err(error) => failure = Some(error),
            }
        }
        leave_all(std::mem::take(&mut self.sources)).await;
        match failure {
            None if removed == total => Ok(removed),
            // Where nothing was done the reason says more than the number.
            Some(error) if removed == 0 => Err(error),
            _ => Err(Error::NotRemoved {
                failed: total - removed,
                total,
            }),
        }
    }

    /// The device has gone on after what it was sent: it has that.
    pub fn note_received(&mut self) {
        for source in &mut self.sources {
            source.received = source.retrieved.len();
        }
    }

    /// A drop without QUIT: nothing is deleted, and of what was retrieved only that counts of which it is known that it
    /// arrived.
    pub async fn abandon(mut self) {
        for source in &mut self.sources {
            source.retrieved.truncate(source.received);
        }
        leave_all(std::mem::take(&mut self.sources)).await;
    }

    /// Whether the session has deleted or retrieved anything.
    pub fn is_touched(&self) -> bool {
        self.listing.marked().next().is_some() || self.sources.iter().any(|source| !source.retrieved.is_empty())
    }

    /// Of each source: the messages that QUIT removes, and those whose notices it removes; ascending.
    fn doomed(&self) -> Vec<(Vec<Uid>, Vec<Uid>)> {
        let mut doomed = vec![(Vec::new(), Vec::new()); self.sources.len()];
        for row in self.listing.marked() {
            let (uids, noticed) = &mut doomed[usize::from(row.source)];
            let is_notice = row.is_notice || self.sources[usize::from(row.source)].has_stand_in(row.uid);
            if is_notice { noticed } else { uids }.push(row.uid);
        }
        for (source, (uids, noticed)) in self.sources.iter().zip(&mut doomed) {
            if source.deletes_retrieved() {
                uids.extend_from_slice(&source.retrieved);
            }
            for uids in [uids, noticed] {
                uids.sort_unstable();
                uids.dedup();
            }
        }
        doomed
    }
}

impl Source {
    /// Whether QUIT removes what was delivered whole.
    fn deletes_retrieved(&self) -> bool {
        self.account.policy.retention == Retention::AfterRetrieve
    }

    /// Deletes `uids`, and the notices of `noticed`, whose messages stay.
    async fn note_and_delete(&mut self, uids: &[Uid], noticed: Vec<Uid>) -> Result<Vec<Uid>, Error> {
        let hides = !noticed.is_empty() || (self.account.policy.hides() && !uids.is_empty());
        if hides && self.mailbox.selected().uid_not_sticky {
            return Err(Error::Misconfigured(Reason::NotSticky));
        }
        if !noticed.is_empty() {
            let mut marks = self.marks.clone();
            marks.noticed.extend(noticed.iter().map(|uid| uid.0));
            marks.noticed.sort_unstable();
            marks.noticed.dedup();
            self.keep_marks(marks).await?;
        }
        self.delete(uids).await
    }
}
