//! What a session leaves behind: what was learned goes into state, and the connection waits for the next session.

use std::sync::Arc;

use super::{Error, open::STATE, removal::Trouble, source::Source};
use crate::{
    config::OnRetrieve,
    state::{Identity, Index, Marks, Past, now},
    types::Uid,
};

impl Source {
    /// What takes time is done in the background: it concerns neither the device nor its next session.
    pub(super) async fn leave(mut self) {
        self.retrieved.sort_unstable();
        self.retrieved.dedup();
        self.learn();
        if !self.is_saved {
            Arc::make_mut(&mut self.view.index).modseq = self.view.modseq;
        }
        // While the maildrop is held: what its next session keeps must not be overwritten. A failure was written to the log; the
        // message then counts as retrieved when it is retrieved again.
        if let Some(marks) = self.marks_with_retrieved(now()) {
            let _ = self.keep_marks(marks).await;
        }
        if let Some(marks) = self.marks_with_delivered() {
            let _ = self.keep_marks(marks).await;
        }
        self.mailbox.drain_at_once().await;
        if self.is_saved && self.retrieved.is_empty() && !self.mailbox.is_fetching() {
            return self.park();
        }
        self.lock = None;
        let tasks = self.shared.tasks.clone();
        tasks.spawn(async move {
            self.save().await;
            self.stop_ahead().await;
            if self.flag_retrieved().await.is_ok() {
                self.remember().await;
                self.park();
            }
        });
    }

    fn park(self) {
        let Self {
            account,
            name,
            mailbox,
            slot,
            mut view,
            shared,
            marks_followed,
            ..
        } = self;
        view.is_unmarked = marks_followed == 0;
        shared.pool.park(slot, &account.login, &name.folder, mailbox, view);
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

    /// Into state goes what its next session need not ask for, and what concerns messages that are gone goes out.
    async fn save(&self) {
        if self.mailbox.selected().uid_not_sticky {
            return;
        }
        if !self.is_saved {
            self.shared.state.set_index(&self.name, self.view.index.clone()).await;
        }
    }

    async fn flag_retrieved(&mut self) -> Result<(), Error> {
        if self.retrieved.is_empty() || self.account.policy.on_retrieve == OnRetrieve::Keep {
            return Ok(());
        }
        self.reconnect_if_lost().await?;
        if self.mailbox.selected().read_only {
            return Ok(());
        }
        self.mailbox
            .mark_seen(&self.retrieved)
            .await
            .map_err(|error| self.report(&error))
    }

    /// Messages that a device has had and that stay are to be known again, should UIDVALIDITY change. A failure is written
    /// to the log: they are remembered when they are retrieved the next time.
    async fn remember(&mut self) {
        if self.retrieved.is_empty() || self.mailbox.selected().uid_not_sticky || self.mailbox.is_broken() {
            return;
        }
        let retrieved = std::mem::take(&mut self.retrieved);
        if let Err(trouble) = self.identify(&retrieved).await {
            let error = trouble.told(&self.account);
            tracing::debug!(%error, mailbox = %self.name, "what was retrieved is not remembered");
        }
    }

    /// Keeps what tells `uids` (ascending) from others.
    pub(super) async fn identify(&mut self, uids: &[Uid]) -> Result<(), Trouble> {
        let uid_validity = self.view.index.uid_validity;
        let mut past = self.shared.state.past(&self.name).await?;
        if past.uid_validity == 0 {
            past = Past::of(uid_validity);
        }
        if past.uid_validity != uid_validity {
            return Ok(()); // another session has found that it changed
        }
        let known = |uid: &Uid| past.identities.binary_search_by_key(&uid.0, |&(uid, _)| uid).is_ok();
        let unknown: Vec<Uid> = uids.iter().copied().filter(|uid| !known(uid)).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let identities = self.mailbox.identities(&unknown).await?;
        past.identities.extend(
            identities
                .into_iter()
                .map(|(Uid(uid), identity)| (uid, Identity(identity))),
        );
        past.identities.sort_unstable_by_key(|&(uid, _)| uid);
        Ok(self.shared.state.set_past(&self.name, &past).await?)
    }

    /// Takes from state what the login has done here; what belongs to another UIDVALIDITY counts no more, except that UIDLs
    /// of another server have been imported: the UIDs in their file mean nothing any more.
    pub(super) async fn load_marks(&mut self) -> Result<(), Error> {
        let keeps_marks = self.account.policy.keeps_marks();
        // A device that polls costs state nothing.
        let marks = if self.view.is_unmarked && !keeps_marks {
            Ok(Marks::default())
        } else {
            self.shared.state.marks(&self.account.login, &self.name).await
        };
        self.marks = match marks {
            Ok(marks) => marks,
            // Then all that they could tell of is notices in the place of messages.
            Err(_) if !keeps_marks => Marks::default(),
            Err(_) => return Err(STATE),
        };
        self.marks_followed = self.marks.uid_validity;
        if self.marks.uid_validity != self.view.index.uid_validity {
            self.marks = Marks {
                uid_validity: self.view.index.uid_validity,
                import: self.marks.import,
                ..Marks::default()
            };
        }
        Ok(())
    }

    /// Durable when it returns.
    pub(super) async fn keep_marks(&mut self, marks: Marks) -> Result<(), Error> {
        let state = &self.shared.state;
        let kept = state
            .set_marks(&self.account.login, &self.name, &marks, self.marks_followed)
            .await;
        kept.map_err(|_| STATE)?;
        self.marks_followed = marks.uid_validity;
        self.marks = marks;
        Ok(())
    }
}
