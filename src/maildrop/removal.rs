//! The delete policy (`on_delete`): what happens to deleted messages.
//!
//! A crash or a lost connection between two commands can leave a removal half done: a message is flagged `\Deleted` and
//! nobody expunges it, or a message is in both folders because the server has no MOVE (RFC 6851). So the gateway first
//! stores in state what it is about to remove, and the mailbox's next session finishes the removal.

use std::sync::Arc;

use super::{Error, Reason, Refusal, snapshot::Snapshot, trash, upstream::UpstreamFolder};
use crate::{
    config::OnDelete,
    imap::{self, Digest, FolderStatus, NotMoved, Refused, Selection, UidSet, Wanted},
    state::{MailboxState, PendingMove},
    types::{Uid, Uids},
};

/// Removes messages of one folder by `expunge`, `trash` or `move:`. (`hide` removes nothing upstream.)
#[derive(Debug)]
pub(super) struct Removal {
    /// The folder that messages go to, by its name on the server; `None` until it has been looked up.
    target: Option<Arc<str>>,
}

impl Removal {
    /// `target`: the folder that messages go to, if an earlier session of the login has looked it up.
    pub(super) fn new(target: Option<Arc<str>>) -> Self {
        Self { target }
    }

    pub(super) fn into_target(self) -> Option<Arc<str>> {
        self.target
    }

    /// Removes `uids` (ascending). Returns the UIDs that the server refused to remove. It has confirmed the removal of
    /// all others by a tagged OK. Flags those of `uids` that are in `seen` as `\Seen` if messages go to another folder.
    /// If the folder's connection is lost, replaces it once and repeats everything: messages that are gone already do
    /// no harm.
    pub(super) async fn remove(
        &mut self,
        state: &mut MailboxState,
        upstream: &mut UpstreamFolder,
        snapshot: &mut Snapshot,
        uids: &[Uid],
        seen: &Uids,
    ) -> Result<Refused, Error> {
        let is_new = upstream.connected(snapshot).await?;
        let removed = self.remove_once(state, upstream, snapshot, uids, seen).await;
        match removed {
            Err(error) if error.is_lost() && !is_new => {
                upstream.connected(snapshot).await?;
                self.remove_once(state, upstream, snapshot, uids, seen).await
            }
            removed => removed,
        }
    }

    async fn remove_once(
        &mut self,
        state: &mut MailboxState,
        upstream: &mut UpstreamFolder,
        snapshot: &mut Snapshot,
        uids: &[Uid],
        seen: &Uids,
    ) -> Result<Refused, Error> {
        if upstream.selected().read_only {
            return Err(Refusal::Misconfigured(Reason::ReadOnly).into());
        }
        let refreshed = upstream.mailbox().refresh_if_old().await;
        refreshed.map_err(|error| upstream.failed(error))?;
        let target = self
            .target(upstream)
            .await
            .map_err(|error| final_or(upstream.failed(error)))?;
        let Some(target) = target else {
            return expunge(state, upstream, snapshot, uids).await;
        };
        if *target == *upstream.mailbox().folder() {
            return match upstream.policy().on_delete {
                // Messages in the trash folder itself are expunged.
                OnDelete::Trash => expunge(state, upstream, snapshot, uids).await,
                _ => Err(Refusal::Misconfigured(Reason::Kept).into()),
            };
        }
        let seen: Vec<Uid> = uids.iter().copied().filter(|&uid| seen.contains(uid)).collect();
        if !seen.is_empty()
            && let Err(error) = upstream.mailbox().mark_seen(&seen).await
        {
            // The removal goes on without `\Seen`, unless the connection is lost.
            if upstream.is_lost() {
                return Err(upstream.failed(error));
            }
            tracing::debug!(%error, mailbox = %upstream.name(), "not flagged \\Seen");
        }
        move_to(state, upstream, snapshot, uids, &target).await
    }

    /// The folder that deleted messages go to, by its name on the server; `None` if they are expunged.
    async fn target(&mut self, upstream: &mut UpstreamFolder) -> Result<Option<Arc<str>>, imap::Error> {
        if let Some(target) = &self.target {
            return Ok(Some(target.clone()));
        }
        let policy = upstream.policy().clone();
        let name = match &policy.on_delete {
            OnDelete::Expunge | OnDelete::Hide => return Ok(None),
            OnDelete::MoveTo(folder) => upstream.mailbox().name_to_file_into(folder).await?,
            OnDelete::Trash => trash::find(upstream.mailbox(), policy.trash_folder.as_deref()).await?,
        };
        let target: Arc<str> = Arc::from(name);
        self.target = Some(target.clone());
        Ok(Some(target))
    }
}

/// Flags `uids` as `\Deleted` and expunges them.
async fn expunge(
    state: &mut MailboxState,
    upstream: &mut UpstreamFolder,
    snapshot: &mut Snapshot,
    uids: &[Uid],
) -> Result<Refused, Error> {
    finish_before_next(state, upstream, snapshot).await?;
    let pending = PendingMove::removal(snapshot.uid_validity(), uids.iter().copied().collect());
    // The record stays in state even after success. This is harmless, because no other message ever gets these UIDs.
    let kept = keep(state, &pending).await;
    let is_kept = kept.is_ok();
    if let Err(error) = kept {
        // If a shared store fails, the session may have lost the lock. So it removes nothing.
        if state.is_leased() {
            return Err(error);
        }
        tracing::warn!(mailbox = %upstream.name(), error = %error.cause(), "a removal could not be noted in state: if popgate crashes now, it will not be finished");
    }
    let removed = upstream.mailbox().remove(uids).await;
    let refused = removed.map_err(|error| upstream.failed(error))?;
    if !refused.uids.is_empty() && is_kept {
        forget(state).await?;
    }
    Ok(refused)
}

/// Moves `uids` to `target`, by MOVE or else by COPY.
async fn move_to(
    state: &mut MailboxState,
    upstream: &mut UpstreamFolder,
    snapshot: &mut Snapshot,
    uids: &[Uid],
    target: &str,
) -> Result<Refused, Error> {
    let NotMoved { for_now, ever } = if upstream.mailbox().has_move() {
        let moved = upstream.mailbox().move_to(uids, target).await;
        moved.map_err(|error| upstream.failed(error))?
    } else {
        NotMoved {
            for_now: Vec::new(),
            ever: uids.to_vec(),
        }
    };
    let mut refused = Refused {
        uids: for_now,
        is_final: false,
    };
    if !ever.is_empty() {
        refused.add(copy_and_remove(state, upstream, snapshot, &ever, target).await?);
        refused.uids.sort_unstable();
    }
    Ok(refused)
}

/// Finishes an interrupted removal before another one replaces its record in state: without the record nobody could
/// finish it. Fails if a later try may succeed.
async fn finish_before_next(
    state: &mut MailboxState,
    upstream: &mut UpstreamFolder,
    snapshot: &mut Snapshot,
) -> Result<(), Error> {
    let pending = match state.pending_move().await {
        Ok(Some(pending)) => pending,
        Ok(None) => return Ok(()),
        // If a local store cannot be read, an expunge is done all the same.
        Err(unavailable) if !state.is_leased() => {
            tracing::debug!(error = %unavailable, mailbox = %upstream.name(), "it is not known whether a removal is half done");
            return Ok(());
        }
        Err(unavailable) => return Err(unavailable.into()),
    };
    if !pending.has_copy() && flagged(&pending, snapshot).is_empty() {
        return Ok(());
    }
    let error = match finish_pending(state, upstream, snapshot, pending).await {
        Ok(gone) => {
            snapshot.forget(&gone);
            return Ok(());
        }
        Err(error) => error,
    };
    // A removal that can never be finished must not prevent all later ones: for example, the folder with the copies can
    // no longer be opened.
    let is_final = match error.imap() {
        Some(imap::Error::Refused { completion, .. }) => !completion.will_pass(),
        _ => false,
    };
    if !is_final {
        return Err(error);
    }
    let (mailbox, error) = (upstream.name(), error.cause());
    tracing::warn!(%mailbox, %error, "a removal that was interrupted could not be finished");
    Ok(())
}

/// Finishes a removal that an earlier session began and could not finish. Returns the UIDs that are gone.
pub(super) async fn finish(
    state: &mut MailboxState,
    upstream: &mut UpstreamFolder,
    snapshot: &mut Snapshot,
) -> Result<Uids, Error> {
    let on_delete = &upstream.policy().on_delete;
    if *on_delete == OnDelete::Hide || upstream.selected().read_only {
        return Ok(Uids::default());
    }
    let copies = *on_delete != OnDelete::Expunge && !upstream.mailbox().has_move();
    // State is read only if there may be something to finish.
    if snapshot.deleted().is_empty() && !copies {
        return Ok(Uids::default());
    }
    let Some(pending) = state.pending_move().await? else {
        return Ok(Uids::default());
    };
    finish_pending(state, upstream, snapshot, pending).await
}

async fn finish_pending(
    state: &mut MailboxState,
    upstream: &mut UpstreamFolder,
    snapshot: &mut Snapshot,
    pending: PendingMove,
) -> Result<Uids, Error> {
    // Boxed: hardly any session finds something to finish.
    if !pending.has_copy() {
        Box::pin(finish_expunge(state, upstream, snapshot, &pending)).await
    } else {
        Box::pin(finish_copy(state, upstream, snapshot, pending)).await
    }
}

/// Expunges the messages that still have our flag `\Deleted`. The others were never flagged, so the session shows them.
async fn finish_expunge(
    state: &mut MailboxState,
    upstream: &mut UpstreamFolder,
    snapshot: &Snapshot,
    pending: &PendingMove,
) -> Result<Uids, Error> {
    let uids = flagged(pending, snapshot);
    let mut gone = Uids::default();
    if !uids.is_empty() {
        tracing::info!(mailbox = %upstream.name(), messages = uids.len(), "a removal that was interrupted is finished");
        let removed = upstream.mailbox().remove(&uids).await;
        let refused = removed.map_err(|error| upstream.failed(error))?;
        gone = refused.gone(&uids);
    }
    forget(state).await?;
    Ok(gone)
}

/// The messages of `pending` that bear `\Deleted`.
fn flagged(pending: &PendingMove, snapshot: &Snapshot) -> Vec<Uid> {
    let is_same = pending.uid_validity == snapshot.uid_validity();
    let uids = pending.uids.uids();
    uids.filter(|&uid| is_same && snapshot.deleted().contains(uid))
        .collect()
}

/// Removes the messages that have been copied and are still in this folder.
async fn finish_copy(
    state: &mut MailboxState,
    upstream: &mut UpstreamFolder,
    snapshot: &mut Snapshot,
    pending: PendingMove,
) -> Result<Uids, Error> {
    let Some(copied) = copied(state, upstream, snapshot, pending).await? else {
        return Ok(Uids::default());
    };
    tracing::info!(mailbox = %upstream.name(), messages = copied.uids.len(), "a move that was interrupted is finished");
    let uids = copied.uids.to_vec();
    let refused = remove_copied(state, upstream, copied, &uids).await?;
    Ok(refused.gone(&uids))
}

/// Copies `uids` (ascending) to `target` and removes them here. Messages that an earlier session has copied are
/// only removed. Returns the UIDs that the server refused: these messages are still here, and those of them that
/// were copied will not be copied again.
async fn copy_and_remove(
    state: &mut MailboxState,
    upstream: &mut UpstreamFolder,
    snapshot: &mut Snapshot,
    uids: &[Uid],
    target: &str,
) -> Result<Refused, Error> {
    let mut refused = Refused::default();
    let mut fresh = uids.to_vec();
    let pending = state.pending_move().await?;
    if pending.as_ref().is_some_and(|pending| pending.target != target) {
        finish_before_next(state, upstream, snapshot).await?;
    } else if let Some(pending) = pending
        && let Some(kept) = copied(state, upstream, snapshot, pending).await?
    {
        let (copied, others) = uids.iter().partition(|&&uid| kept.uids.contains(uid));
        fresh = others;
        refused.add(remove_copied(state, upstream, kept, &copied).await?);
    }
    // One command at a time: COPY copies all messages of a set or none (RFC 3501 §6.4.7).
    for (_, these) in UidSet::parts(&fresh) {
        refused.add(copy_set(state, upstream, snapshot, these, target).await?);
    }
    refused.uids.sort_unstable();
    Ok(refused)
}

/// Copies `these`, which one [`UidSet`] covers, and removes them here.
async fn copy_set(
    state: &mut MailboxState,
    upstream: &mut UpstreamFolder,
    snapshot: &Snapshot,
    these: &[Uid],
    target: &str,
) -> Result<Refused, Error> {
    let not_copied = |error: &imap::Error, upstream: &UpstreamFolder, uids: Vec<Uid>| {
        tracing::warn!(%error, mailbox = %upstream.name(), target, messages = uids.len(), "messages were not copied, so they are not removed");
        let is_final = error.is_final();
        Refused { uids, is_final }
    };
    let status = match target_status(upstream.mailbox(), target).await {
        Ok(status) => status,
        Err(error @ (imap::Error::Refused { .. } | imap::Error::NoData(_))) if !upstream.is_lost() => {
            return Ok(not_copied(&error, upstream, these.to_vec()));
        }
        Err(error) => return Err(upstream.failed(error)),
    };
    let mut pending = PendingMove {
        uid_validity: snapshot.uid_validity(),
        uids: Uids::default(),
        target: target.to_owned(),
        target_uid_validity: status.uid_validity.kept(),
        target_uid_next: Uid(status.uid_next),
    };
    // The record also keeps the messages that were copied earlier and could not be removed.
    let earlier = pending_copy(state).await?;
    if let Some(earlier) = earlier.filter(|earlier| {
        (&earlier.target, earlier.target_uid_validity) == (&pending.target, pending.target_uid_validity)
    }) {
        pending = earlier;
    }
    pending.uids.extend(these.iter().copied());
    keep(state, &pending).await?;
    let mut here = these.to_vec();
    let mut copied = upstream.mailbox().copy_to(&here, target).await;
    while let Err(error) = copied {
        if upstream.is_lost() {
            return Err(upstream.failed(error));
        }
        let before = here.len();
        let existing = upstream.mailbox().existing(&here).await;
        here = existing.map_err(|error| upstream.failed(error))?;
        if here.len() == before {
            pending.uids.retain(|uid, ()| these.binary_search(&uid).is_err());
            keep(state, &pending).await?;
            return Ok(not_copied(&error, upstream, here));
        }
        // Some messages are gone, and a server may refuse the whole set for that. So the others are copied without
        // them.
        copied = upstream.mailbox().copy_to(&here, target).await;
    }
    let is_here = |uid| here.binary_search(&uid).is_ok();
    pending
        .uids
        .retain(|uid, ()| these.binary_search(&uid).is_err() || is_here(uid));
    remove_copied(state, upstream, pending, &here).await
}

/// Removes `these`, which have been copied.
async fn remove_copied(
    state: &mut MailboxState,
    upstream: &mut UpstreamFolder,
    mut pending: PendingMove,
    these: &[Uid],
) -> Result<Refused, Error> {
    let removed = upstream.mailbox().remove(these).await;
    let refused = removed.map_err(|error| upstream.failed(error))?;
    if !refused.uids.is_empty() {
        let (target, messages) = (&pending.target, refused.uids.len());
        tracing::warn!(mailbox = %upstream.name(), target, messages, "messages were copied, but not removed");
    }
    let gone = refused.gone(these);
    pending.uids.retain(|uid, ()| !gone.contains(uid));
    keep(state, &pending).await?;
    Ok(refused)
}

/// Finds the messages of `pending` that were really copied and are still in this folder; `None` if there are none.
/// Stores the result in state.
async fn copied(
    state: &mut MailboxState,
    upstream: &mut UpstreamFolder,
    snapshot: &mut Snapshot,
    mut pending: PendingMove,
) -> Result<Option<PendingMove>, Error> {
    let is_same = pending.uid_validity == snapshot.uid_validity();
    pending.uids.retain(|uid, ()| is_same && snapshot.contains(uid));
    if !pending.uids.is_empty() {
        let there = arrivals(upstream, &pending).await;
        upstream.connected(snapshot).await?;
        let mut there = there?;
        let uids = pending.uids.to_vec();
        // A message for which the server sends no fingerprint counts as not copied: a second copy does less harm
        // than none.
        pending.uids = Uids::default();
        let here = upstream.mailbox().fingerprints(&uids).await;
        for (uid, fingerprint) in here.map_err(|error| upstream.failed(error))? {
            if let Some(at) = there.iter().position(|other| *other == fingerprint) {
                there.swap_remove(at);
                pending.uids.add(uid);
            }
        }
    }
    keep(state, &pending).await?;
    Ok(Some(pending).filter(|pending| !pending.uids.is_empty()))
}

/// The record of an unfinished move by COPY, if state has one.
async fn pending_copy(state: &mut MailboxState) -> Result<Option<PendingMove>, Error> {
    let pending = state.pending_move().await?;
    Ok(pending.filter(PendingMove::has_copy))
}

async fn keep(state: &mut MailboxState, pending: &PendingMove) -> Result<(), Error> {
    let pending = Some(pending).filter(|pending| !pending.uids.is_empty());
    Ok(state.set_pending_move(pending).await?)
}

async fn forget(state: &mut MailboxState) -> Result<(), Error> {
    Ok(state.set_pending_move(None).await?)
}

/// The status of the folder to copy to. Creates the folder if it is missing.
async fn target_status(mailbox: &mut imap::Mailbox, target: &str) -> Result<FolderStatus, imap::Error> {
    if let Some(status) = mailbox.status(target).await? {
        return Ok(status);
    }
    mailbox.create(target).await?;
    let status = mailbox.status(target).await?;
    status.ok_or(imap::Error::NoData("STATUS"))
}

/// The fingerprints of the messages that have arrived in the target folder since just before the COPY.
async fn arrivals(upstream: &mut UpstreamFolder, pending: &PendingMove) -> Result<Vec<Digest>, Error> {
    let selection = Selection {
        folder: &pending.target,
        from: pending.target_uid_next,
        wanted: Wanted::default(),
        resync: None,
    };
    // If the target folder does not exist, nothing was copied.
    let Some(mut other) = upstream.select_other(selection).await? else {
        return Ok(Vec::new());
    };
    let mut fingerprints = Ok(Vec::new());
    if other.mailbox.selected().uid_validity.kept() == pending.target_uid_validity {
        let uids: Vec<Uid> = other.listed.sizes.iter().map(|&(uid, _)| uid).collect();
        fingerprints = other.mailbox.fingerprints(&uids).await;
    }
    other.close().await;
    let fingerprints = fingerprints.map_err(|error| upstream.failed(error))?;
    Ok(fingerprints.into_iter().map(|(_, fingerprint)| fingerprint).collect())
}

/// Makes `error` permanent if the server's refusal is permanent: if the user may not see or create the target folder,
/// the next QUIT would fail too.
fn final_or(error: Error) -> Error {
    match error.imap() {
        Some(cause) if cause.is_final() => error.with_refusal(Refusal::Misconfigured(Reason::Target)),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::scene::{broken, play},
        *,
    };
    use crate::{
        imap::scene::is,
        state::{Mailboxes, MemoryStore, StateStore},
        types::MailboxName,
    };

    const FULL: &str = "IMAP4rev1 UIDPLUS MOVE NAMESPACE";
    const UIDS: [Uid; 2] = [Uid(1), Uid(2)];

    fn inbox() -> MailboxName {
        MailboxName {
            upstream: "home".into(),
            user: "eva".into(),
            folder: "INBOX".into(),
        }
    }

    /// Every command succeeds, and a search finds nothing.
    fn good(_: &str) -> String {
        "* SEARCH\r\n{tag} OK\r\n".to_owned()
    }

    /// Removes the messages 1 and 2 of three; 1 was retrieved.
    async fn remove(
        keys: &str,
        state: Arc<dyn StateStore>,
        answer: impl FnMut(&str) -> String,
    ) -> (Vec<String>, Result<Refused, Error>) {
        play(keys, FULL, answer, async |upstream| {
            let mut state = upstream.state(state);
            let mut removal = Removal::new(None);
            let mut snapshot = Snapshot::of([1, 2, 3], []);
            removal
                .remove(&mut state, upstream, &mut snapshot, &UIDS, &[1].into())
                .await
        })
        .await
    }

    #[tokio::test]
    async fn what_is_expunged_is_kept_first_so_that_the_next_session_finishes_it() {
        let state = Arc::new(MemoryStore::default());
        let cut = |command: &str| match command {
            command if is(command, &["UID EXPUNGE"]) => "* BYE\r\n".to_owned(),
            command => good(command),
        };
        let (commands, refused) = remove("", state.clone(), cut).await;
        assert!(refused.is_err(), "it cannot be reached again");
        assert_eq!(commands[0], "UID STORE 1:2 +FLAGS.SILENT (\\Deleted)");
        assert_eq!(state.pending_move(&inbox()).await.unwrap().unwrap().uids, [1, 2].into());

        // The next session finds a message that still bears our flag, and another that somebody else has flagged.
        let (commands, gone) = play("", FULL, good, async |upstream| {
            let mut snapshot = Snapshot::of([2, 3], [2, 3]);
            let mut state = upstream.state(state.clone());
            finish(&mut state, upstream, &mut snapshot).await
        })
        .await;
        assert_eq!(gone.unwrap(), [2].into());
        assert_eq!(
            commands[..2],
            ["UID STORE 2 +FLAGS.SILENT (\\Deleted)", "UID EXPUNGE 2"]
        );
        assert_eq!(state.pending_move(&inbox()).await, Ok(None));
    }

    #[tokio::test]
    async fn what_is_half_done_is_finished_before_the_next_removal_is_kept() {
        for keys in ["", "on_delete = \"move:Old\""] {
            for is_cut in [true, false] {
                let state = Arc::new(MemoryStore::default());
                let half_done = PendingMove::removal(7, [1].into());
                state.set_pending_move(&inbox(), Some(&half_done)).await.unwrap();
                let answer = |command: &str| match command {
                    "UID EXPUNGE 1" if is_cut => "* BYE\r\n".to_owned(),
                    command if is(command, &["STATUS"]) => {
                        "* STATUS Old (UIDVALIDITY 1 UIDNEXT 2)\r\n{tag} OK\r\n".into()
                    }
                    command => good(command),
                };
                let (commands, refused) = play(keys, "IMAP4rev1 UIDPLUS NAMESPACE", answer, async |upstream| {
                    let mut kept = upstream.state(state.clone());
                    let mut snapshot = Snapshot::of([1, 2], [1]);
                    let mut removal = Removal::new(None);
                    removal
                        .remove(&mut kept, upstream, &mut snapshot, &[Uid(2)], &Uids::default())
                        .await
                })
                .await;
                let removed: Vec<_> = commands
                    .iter()
                    .filter(|command| is(command, &["UID EXPUNGE"]))
                    .collect();
                if is_cut {
                    assert!(refused.is_err(), "it cannot be reached again");
                    assert_eq!(removed, ["UID EXPUNGE 1"], "{keys}");
                    assert_eq!(state.pending_move(&inbox()).await, Ok(Some(half_done)), "{keys}");
                } else {
                    assert_eq!(refused.unwrap(), Refused::default());
                    assert_eq!(removed, ["UID EXPUNGE 1", "UID EXPUNGE 2"], "{keys}");
                }
            }
        }
    }

    #[tokio::test]
    async fn nothing_is_finished_under_another_uidvalidity_nor_by_a_login_that_hides() {
        for (keys, uid_validity) in [("", 6), ("on_delete = \"hide\"", 7)] {
            let state = Arc::new(MemoryStore::default());
            let pending = PendingMove::removal(uid_validity, [2].into());
            state.set_pending_move(&inbox(), Some(&pending)).await.unwrap();
            let (commands, gone) = play(keys, FULL, good, async |upstream| {
                let mut snapshot = Snapshot::of([2], [2]);
                let mut state = upstream.state(state.clone());
                finish(&mut state, upstream, &mut snapshot).await
            })
            .await;
            assert_eq!(gone.unwrap(), Uids::default());
            assert_eq!(commands, [""; 0]);
        }
    }

    #[tokio::test]
    async fn what_was_refused_is_not_removed_later() {
        let state = Arc::new(MemoryStore::default());
        let refuse = |command: &str| match command {
            command if is(command, &["UID EXPUNGE"]) => "{tag} NO [NOPERM] no\r\n".to_owned(),
            command if is(command, &["UID SEARCH"]) => "* SEARCH 1 2\r\n{tag} OK\r\n".to_owned(),
            command => good(command),
        };
        let (_, refused) = remove("", state.clone(), refuse).await;
        let refused = refused.unwrap();
        assert_eq!((&refused.uids[..], refused.is_final), (&UIDS[..], true));
        assert_eq!(state.pending_move(&inbox()).await, Ok(None));
    }

    #[tokio::test]
    async fn without_state_only_what_needs_it_fails() {
        let (_, refused) = remove("", Arc::new(broken()), good).await;
        assert_eq!(refused.unwrap(), Refused::default(), "an expunge is done all the same");
        let move_to = "on_delete = \"move:Old\"";
        let (_, refused) = remove(move_to, Arc::new(broken()), good).await;
        assert_eq!(refused.unwrap(), Refused::default(), "and a MOVE");
        let status = |command: &str| match command {
            command if is(command, &["UID MOVE"]) => "{tag} BAD what?\r\n".to_owned(),
            command if is(command, &["UID SEARCH"]) => "* SEARCH 1 2\r\n{tag} OK\r\n".to_owned(),
            command if is(command, &["STATUS"]) => "* STATUS Old (UIDVALIDITY 1 UIDNEXT 2)\r\n{tag} OK\r\n".into(),
            command => good(command),
        };
        let (commands, refused) = remove(move_to, Arc::new(broken()), status).await;
        assert_eq!(*refused.unwrap_err().refusal(), Refusal::Unavailable(Reason::State));
        assert!(
            !commands.iter().any(|command| is(command, &["UID COPY"])),
            "{commands:?}"
        );
    }

    #[tokio::test]
    async fn what_was_retrieved_is_flagged_before_it_moves() {
        let state = Arc::new(MemoryStore::default());
        let (commands, refused) = remove("on_delete = \"move:Old\"", state, good).await;
        assert_eq!(refused.unwrap(), Refused::default());
        let at = |start: &str| commands.iter().position(|command| is(command, &[start]));
        assert!(at("UID STORE 1 +FLAGS.SILENT (\\Seen)").unwrap() < at("UID MOVE 1:2").unwrap());
    }

    #[tokio::test]
    async fn the_folder_that_mail_moves_to_keeps_it() {
        let state = Arc::new(MemoryStore::default());
        let (commands, refused) = remove("folder = \"Lists\"\non_delete = \"move:INBOX\"", state, good).await;
        assert_eq!(*refused.unwrap_err().refusal(), Refusal::Misconfigured(Reason::Kept));
        assert!(!commands.iter().any(|command| is(command, &["UID"])), "{commands:?}");
    }
}
