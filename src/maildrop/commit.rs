//! The UPDATE state (RFC 1939 §6): what QUIT does at the upstream.

use tracing::Instrument;

use super::{Error, Maildrop, Reason, Refusal, folder::HeldFolder, listing::Shows, open::leave_all};
use crate::{
    config::Retention,
    types::{Uid, Uids},
};

/// What QUIT removes of one folder.
#[derive(Debug, Default)]
struct Doomed {
    uids: Uids,
    /// Messages whose notices QUIT removes. The messages themselves stay.
    noticed: Uids,
}

impl Doomed {
    fn len(&self) -> u64 {
        (self.uids.len() + self.noticed.len()) as u64
    }
}

impl Maildrop {
    /// QUIT: applies the delete policy. Returns how many messages and notices were removed; `Ok` only if the upstream
    /// (or state, for `hide` and notices) has confirmed all of them.
    pub async fn commit(self) -> Result<u64, Error> {
        let span = self.span.clone();
        self.remove_marked().instrument(span).await
    }

    async fn remove_marked(mut self) -> Result<u64, Error> {
        let doomed = self.doomed();
        let is_own_doomed = self.is_own_doomed();
        let total = doomed.iter().map(Doomed::len).sum::<u64>() + u64::from(is_own_doomed);
        let mut removed = 0;
        let mut failure = None;
        let mut forever = true;
        for (folder, doomed) in self.folders.iter_mut().zip(doomed) {
            match folder.delete(&doomed.uids, &doomed.noticed).await {
                Ok(refused) => {
                    removed += doomed.len() - refused.uids.len() as u64;
                    forever &= refused.uids.is_empty() || refused.is_final;
                }
                Err(error) => {
                    forever &= matches!(error.refusal(), Refusal::Misconfigured(_));
                    // The device is told of one failure only.
                    if let Some(earlier) = failure.replace(error) {
                        earlier.log();
                    }
                }
            }
        }
        match self.leave_own(is_own_doomed).await {
            Ok(()) => removed += u64::from(is_own_doomed),
            Err(error) => {
                forever = false;
                if failure.is_some() {
                    error.log();
                } else {
                    failure = Some(error);
                }
            }
        }
        if failure
            .as_ref()
            .is_some_and(|error| *error.refusal() == Refusal::Unavailable(Reason::State))
        {
            self.notices.state_failed();
        }
        leave_all(std::mem::take(&mut self.folders)).await;
        let refusal = Refusal::NotRemoved {
            failed: total - removed,
            total,
            forever,
        };
        match failure {
            None if removed == total => Ok(removed),
            None => Err(refusal.into()),
            // If nothing was removed, the reason says more than the number.
            Some(error) if removed == 0 => Err(error),
            Some(error) => Err(error.with_refusal(refusal)),
        }
    }

    /// Notes that the device has received everything delivered so far: it has sent another command since.
    pub fn note_received(&mut self) {
        for folder in &mut self.folders {
            folder.acknowledge();
        }
        if let Some(own) = &mut self.own {
            own.acknowledge();
        }
    }

    /// Ends the session without QUIT: nothing is deleted, and a message counts as retrieved only if the device has
    /// acknowledged it.
    pub async fn abandon(mut self) {
        for folder in &mut self.folders {
            folder.drop_unacknowledged();
        }
        if let Some(own) = &mut self.own {
            own.drop_unacknowledged();
        }
        // If state fails, the mail counts as retrieved only when it is retrieved again.
        let _ = self.leave_own(false).await;
        leave_all(std::mem::take(&mut self.folders))
            .instrument(self.span.clone())
            .await;
    }

    /// Whether the session has deleted or retrieved anything.
    pub fn is_touched(&self) -> bool {
        self.listing.marked().next().is_some()
            || self.folders.iter().any(|folder| folder.has_retrieved())
            || self.own.as_ref().is_some_and(|own| own.is_retrieved())
    }

    /// Whether QUIT removes the gateway's own mail.
    fn is_own_doomed(&self) -> bool {
        let Some(own) = &self.own else { return false };
        let is_marked = || self.listing.marked().any(|row| row.shows == Shows::OwnMail);
        (own.is_retrieved() && self.policy.retention == Retention::AfterRetrieve) || is_marked()
    }

    /// Deletes the gateway's own mail, or stores that it was retrieved.
    async fn leave_own(&self, is_doomed: bool) -> Result<(), Error> {
        match &self.own {
            Some(own) if is_doomed => Ok(self.notices.delete(own.mail()).await?),
            Some(own) if own.is_newly_retrieved() => {
                if let Err(error) = self.notices.note_retrieved(own.mail()).await {
                    tracing::warn!(%error, "it could not be stored that a notice was retrieved");
                }
                Ok(())
            }
            Some(_) | None => Ok(()),
        }
    }

    /// What QUIT removes of each folder.
    fn doomed(&self) -> Vec<Doomed> {
        let mut marked = vec![(Vec::new(), Vec::new()); self.folders.len()];
        for row in self.listing.marked().filter(|row| row.shows != Shows::OwnMail) {
            let (uids, noticed) = &mut marked[usize::from(row.folder)];
            let is_notice =
                row.shows == Shows::Notice || self.folders[usize::from(row.folder)].is_replaced_by_notice(row.uid);
            if is_notice { noticed } else { uids }.push(row.uid);
        }
        let of_folder = |(folder, (uids, noticed)): (&HeldFolder, (Vec<Uid>, Vec<Uid>))| {
            let mut doomed = Doomed {
                uids: folder.removed_by_retrieval(),
                noticed: noticed.into_iter().collect(),
            };
            doomed.uids.extend(uids);
            doomed
        };
        self.folders.iter().zip(marked).map(of_folder).collect()
    }
}
