//! The UPDATE state (RFC 1939 §6): what QUIT does upstream, and what a session leaves behind.

use std::sync::Arc;

use super::{
    Error, Maildrop, Reason,
    listing::without,
    open::{name, report},
};
use crate::{imap::Uid, state::Index};

impl Maildrop {
    /// QUIT: applies the delete policy; `Ok` only when the upstream confirmed all of it. Returns how many were removed.
    pub async fn commit(mut self) -> Result<u64, Error> {
        let marked = self.listing.marked();
        let result = if marked.is_empty() {
            Ok(0)
        } else {
            self.remove(&marked).await
        };
        if result.is_ok() && !marked.is_empty() {
            self.retrieved.retain(|uid| marked.binary_search(uid).is_err());
            self.view.index = Arc::new(without(&self.view.index, &marked));
            self.is_saved = false;
            let news = self.mailbox.news();
            if news.expunged == marked.len() as u64 && !news.flags {
                self.mailbox.clear_news();
            }
        }
        self.leave().await;
        result
    }

    /// A drop without QUIT: nothing is deleted.
    pub async fn abandon(self) {
        self.leave().await;
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

    /// Remembers what was learned, and lets the connection wait for the next session. What takes time for that is done in
    /// the background: it concerns neither the device nor its next session.
    async fn leave(mut self) {
        self.learn();
        if !self.is_saved {
            Arc::make_mut(&mut self.view.index).modseq = self.view.modseq;
        }
        self.mailbox.settle_at_once().await;
        if self.is_saved && self.retrieved.is_empty() && !self.mailbox.is_fetching() {
            return self.park();
        }
        self.lock = None;
        let tasks = self.shared.tasks.clone();
        tasks.spawn(async move {
            if !self.is_saved && !self.mailbox.selected().uid_not_sticky {
                self.shared
                    .state
                    .set_index(&name(&self.account), self.view.index.clone())
                    .await;
            }
            self.stop_ahead().await;
            if self.flag_retrieved().await.is_ok() {
                self.park();
            }
        });
    }

    fn park(self) {
        let Self {
            account,
            mailbox,
            slot,
            view,
            shared,
            ..
        } = self;
        shared
            .pool
            .park(slot, &account.login, &account.policy.folders[0], mailbox, view);
    }

    /// Into the index goes how the device reads, and the true size of what it has read.
    fn learn(&mut self) {
        let row = match self.ahead.first_run() {
            0 => self.view.index.row,
            run => u32::try_from(run).unwrap_or(u32::MAX),
        };
        if row == self.view.index.row && self.learned.is_empty() {
            return;
        }
        let index: &mut Index = Arc::make_mut(&mut self.view.index);
        index.row = row;
        for (uid, octets) in self.learned.drain(..) {
            if let Ok(at) = index.entries.binary_search_by_key(&uid.0, |&(uid, _)| uid) {
                index.entries[at].1 = octets;
            }
        }
        self.is_saved = false;
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
