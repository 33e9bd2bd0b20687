//! The UPDATE state (RFC 1939 §6): what QUIT does upstream, and what a session without QUIT leaves behind.

use super::{Error, Maildrop, Reason, open::report};
use crate::imap::Uid;

impl Maildrop {
    /// QUIT: applies the delete policy; `Ok` only when the upstream confirmed all of it. Returns how many were removed.
    pub async fn commit(mut self) -> Result<u64, Error> {
        let marked = self.listing.marked();
        let result = if marked.is_empty() {
            Ok(0)
        } else {
            self.remove(&marked).await
        };
        if result.is_ok() {
            self.retrieved.retain(|uid| marked.binary_search(uid).is_err());
        }
        self.leave();
        result
    }

    /// A drop without QUIT: nothing is deleted.
    pub async fn abandon(self) {
        self.leave();
    }

    async fn remove(&mut self, marked: &[Uid]) -> Result<u64, Error> {
        self.stop_ahead().await;
        loop {
            let is_new = self.reconnect_if_lost().await?;
            if self.mailbox.selected().read_only {
                return Err(Error::Misconfigured(Reason::ReadOnly));
            }
            return match self.mailbox.remove(marked).await {
                Ok(0) => Ok(marked.len() as u64),
                Ok(failed) => Err(Error::NotRemoved {
                    failed,
                    total: marked.len() as u64,
                }),
                // What was removed already is not there any more: to remove the rest is to say it again.
                Err(error) if error.is_lost() && !is_new => continue,
                Err(error) => Err(report(&self.account, &error)),
            };
        }
    }

    /// Flags what was delivered and says good-bye, in the background: it concerns neither the device nor its next session.
    fn leave(mut self) {
        self.lock = None;
        let tasks = self.tasks.clone();
        tasks.spawn(async move {
            self.stop_ahead().await;
            if self.flag_retrieved().await.is_ok() && !self.mailbox.is_broken() {
                self.mailbox.logout().await;
            }
        });
    }

    async fn flag_retrieved(&mut self) -> Result<(), Error> {
        self.retrieved.sort_unstable();
        self.retrieved.dedup();
        if self.retrieved.is_empty() {
            return Ok(());
        }
        self.reconnect_if_lost().await?;
        if self.mailbox.selected().read_only {
            return Ok(());
        }
        self.mailbox
            .mark_seen(&self.retrieved)
            .await
            .map_err(|error| report(&self.account, &error))
    }
}
