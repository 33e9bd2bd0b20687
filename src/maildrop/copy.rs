//! Moving without MOVE (RFC 6851): COPY, then removal. Between the two a message is in both places, and a crash or a lost
//! connection may leave it there. So what is about to be copied is written down first, and whoever comes next finds out
//! how far it came.

use super::{
    removal::Trouble,
    source::{Source, log_in, login_of},
};
use crate::{
    config::OnDelete,
    imap::{self, Digest, FolderStatus, Selection, UidSet, Wanted},
    state::PendingMove,
    types::Uid,
};

impl Source {
    /// Removes what an earlier session has copied and could not remove; what it did not even copy is as it was.
    pub(super) async fn finish_move(&mut self) -> Result<(), Trouble> {
        let moves = matches!(self.account.policy.on_delete, OnDelete::Trash | OnDelete::MoveTo(_));
        if !moves || self.mailbox.has_move() || self.mailbox.selected().read_only {
            return Ok(());
        }
        let Some(copied) = self.copied().await? else {
            return Ok(());
        };
        tracing::info!(mailbox = %self.name, messages = copied.uids.len(), "a move that was interrupted is finished");
        let uids: Vec<Uid> = copied.uids.iter().copied().map(Uid).collect();
        let refused = self.remove_copied(copied, &uids).await?;
        self.note_removed(&uids, &refused);
        Ok(())
    }

    /// Copies `uids` (ascending) to `target` and removes them here; what has been copied already is only removed. Returns
    /// those that were refused: they are here still, and if they were copied, will not be so again.
    pub(super) async fn copy_and_remove(&mut self, uids: &[Uid], target: &str) -> Result<Vec<Uid>, Trouble> {
        let mut kept = self.copied().await?;
        let is_copied = |uid: &Uid| {
            kept.as_ref()
                .is_some_and(|kept| kept.uids.binary_search(&uid.0).is_ok())
        };
        let (copied, fresh): (Vec<Uid>, Vec<Uid>) = uids.iter().partition(|uid| is_copied(uid));
        let mut refused = Vec::new();
        if let Some(kept) = kept.take() {
            refused.extend(self.remove_copied(kept, &copied).await?);
        }
        // A command's worth at a time: COPY copies all of a set or nothing (RFC 3501 §6.4.7).
        for (_, these) in UidSet::parts(&fresh) {
            refused.extend(self.copy_set(these, target).await?);
        }
        refused.sort_unstable();
        Ok(refused)
    }

    /// Copies `these`, which one [`UidSet`] covers, and removes them here; returns those that were refused.
    async fn copy_set(&mut self, these: &[Uid], target: &str) -> Result<Vec<Uid>, Trouble> {
        let status = match self.target_status(target).await {
            Err(error @ (imap::Error::Refused { .. } | imap::Error::NoData(_))) if !self.mailbox.is_broken() => {
                tracing::warn!(%error, mailbox = %self.name, target, messages = these.len(), "not copied");
                return Ok(these.to_vec());
            }
            status => status?,
        };
        // What earlier ones could not remove stays written down.
        let earlier = self.shared.state.pending_move(&self.name).await?;
        let mut pending = PendingMove {
            uid_validity: self.view.index.uid_validity,
            uids: Vec::new(),
            target: target.to_owned(),
            target_uid_validity: status.uid_validity.kept(),
            target_uid_next: status.uid_next,
        };
        if let Some(earlier) = earlier.filter(|earlier| {
            (&earlier.target, earlier.target_uid_validity) == (&pending.target, pending.target_uid_validity)
        }) {
            pending = earlier;
        }
        pending.uids.extend(these.iter().map(|uid| uid.0));
        pending.uids.sort_unstable();
        self.shared.state.set_pending_move(&self.name, Some(&pending)).await?;
        let mut here = these.to_vec();
        let mut copied = self.mailbox.copy_to(&here, target).await;
        while let Err(error) = copied {
            if self.mailbox.is_broken() {
                return Err(error.into());
            }
            let before = here.len();
            here = self.mailbox.existing(&here).await?;
            if here.len() == before {
                tracing::warn!(%error, mailbox = %self.name, target, messages = before, "not copied");
                pending.uids.retain(|&uid| these.binary_search(&Uid(uid)).is_err());
                self.keep_pending(&pending).await?;
                return Ok(here);
            }
            // Some are gone, which spoils the set: once more for the others.
            copied = self.mailbox.copy_to(&here, target).await;
        }
        pending
            .uids
            .retain(|&uid| these.binary_search(&Uid(uid)).is_err() || here.binary_search(&Uid(uid)).is_ok());
        self.remove_copied(pending, &here).await
    }

    /// What the folder to copy to holds; it is made if it is missing.
    async fn target_status(&mut self, target: &str) -> Result<FolderStatus, imap::Error> {
        if let Some(status) = self.mailbox.status(target).await? {
            return Ok(status);
        }
        self.mailbox.create(target).await?;
        let status = self.mailbox.status(target).await?;
        status.ok_or(imap::Error::NoData("STATUS"))
    }

    /// Removes `these`, which have been copied; returns those that were refused.
    async fn remove_copied(&mut self, mut pending: PendingMove, these: &[Uid]) -> Result<Vec<Uid>, Trouble> {
        let refused = self.mailbox.remove(these).await?;
        if !refused.is_empty() {
            tracing::warn!(mailbox = %self.name, target = pending.target, messages = refused.len(), "copied, but not removed");
        }
        let is_gone = |uid| these.binary_search(&uid).is_ok() && !refused.contains(&uid);
        pending.uids.retain(|&uid| !is_gone(Uid(uid)));
        self.keep_pending(&pending).await?;
        Ok(refused)
    }

    async fn keep_pending(&self, pending: &PendingMove) -> Result<(), Trouble> {
        let pending = Some(pending).filter(|pending| !pending.uids.is_empty());
        Ok(self.shared.state.set_pending_move(&self.name, pending).await?)
    }

    /// What is written down and was copied indeed, of the messages that are here still.
    async fn copied(&mut self) -> Result<Option<PendingMove>, Trouble> {
        let Some(mut pending) = self.shared.state.pending_move(&self.name).await? else {
            return Ok(None);
        };
        pending.uids.retain(|&uid| self.view.index.holds(uid));
        if pending.uid_validity != self.view.index.uid_validity {
            pending.uids.clear();
        }
        if !pending.uids.is_empty() {
            let uids: Vec<Uid> = pending.uids.iter().copied().map(Uid).collect();
            let there = self.arrivals(&pending).await;
            self.reconnect_if_lost().await.map_err(Trouble::Told)?;
            let mut there = there?;
            // One of which too little is told counts as not copied: a second copy does less harm than none.
            pending.uids.clear();
            for (Uid(uid), fingerprint) in self.mailbox.fingerprints(&uids).await? {
                if let Some(at) = there.iter().position(|other| *other == fingerprint) {
                    there.swap_remove(at);
                    pending.uids.push(uid);
                }
            }
        }
        self.keep_pending(&pending).await?;
        Ok(Some(pending).filter(|pending| !pending.uids.is_empty()))
    }

    /// What has come to the target since the COPY was about to be made; on a connection of its own, for which this one makes
    /// room where the user may not have another.
    async fn arrivals(&mut self, pending: &PendingMove) -> Result<Vec<Digest>, Trouble> {
        let slot = self.slot.another(self.account.upstream.connections_per_user).await;
        if slot.is_none() {
            imap::hang_up(&mut self.mailbox).await;
        }
        let standing = self.slot.standing();
        let connection = log_in(&self.connector, &self.account, standing).await;
        let connection = connection.map_err(Trouble::Told)?;
        let from = Uid(pending.target_uid_next);
        let selection = Selection {
            folder: &pending.target,
            from,
            wanted: Wanted::default(),
            resync: None,
        };
        let login = login_of(&self.connector, &self.account, standing);
        let selected = connection.select(selection, login).await;
        let (mut mailbox, listed) = match selected {
            Ok(selected) => selected,
            // Without a target there is no copy.
            Err(error) if error.is_no_such_folder() => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        if mailbox.selected().uid_validity.kept() != pending.target_uid_validity {
            imap::farewell(mailbox).await;
            return Ok(Vec::new());
        }
        let uids: Vec<Uid> = listed.sizes.iter().map(|&(uid, _)| uid).collect();
        let fingerprints = mailbox.fingerprints(&uids).await?;
        imap::farewell(mailbox).await;
        Ok(fingerprints.into_iter().map(|(_, fingerprint)| fingerprint).collect())
    }
}
