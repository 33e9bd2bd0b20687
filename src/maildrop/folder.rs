//! One folder of a maildrop, exclusively held by its session. Joins the session's parts: snapshot, marks, read-ahead,
//! delivery and removal.

use std::{collections::HashMap, sync::Arc};

use super::{
    Error, Listing, Octets, Reason, Refusal,
    delivery::Delivery,
    import,
    listing::{LocatedRow, Row, Shows},
    marks::LoginMarks,
    notice::{self, NoticeTexts},
    parked::ParkedFolder,
    read_ahead::{FetchStart, ReadAhead},
    recognition,
    removal::{self, Removal},
    resources::Resources,
    retention,
    selection::Candidates,
    snapshot::Snapshot,
    uidl::UidlParts,
    undelivered::FailureKind,
    upstream::UpstreamFolder,
};
use crate::{
    config::{OnDelete, OnRetrieve, Policy, Retention},
    imap::{self, Item, Mailbox, Refused},
    state::{Index, MailboxState, Marks, Unavailable, now},
    types::{Uid, UidMap, Uids},
};

#[derive(Debug)]
pub(super) struct HeldFolder {
    /// The index of this folder among the maildrop's folders.
    number: u16,
    upstream: UpstreamFolder,
    snapshot: Snapshot,
    /// Contains the maildrop's lock, which the session gives up when it ends.
    state: MailboxState,
    ahead: ReadAhead,
    delivery: Delivery,
    marks: LoginMarks,
    removal: Removal,
    /// Messages that the upstream did not deliver when they were asked for. They are fetched alone, not in a set.
    suspects: Uids,
    shared: Arc<Resources>,
}

/// Why the content of a message did not begin.
#[derive(Debug)]
pub(super) struct NotBegun {
    error: Error,
    /// Set if the upstream failed to deliver the message.
    kind: Option<FailureKind>,
    /// Whether this session has asked the upstream for the message.
    was_asked: bool,
}

impl From<Error> for NotBegun {
    fn from(error: Error) -> Self {
        Self {
            error,
            kind: None,
            was_asked: false,
        }
    }
}

impl NotBegun {
    /// Whether this counts as a failure of the upstream to deliver the message.
    pub(super) fn is_undelivered(&self) -> bool {
        self.kind.is_some()
    }
}

impl HeldFolder {
    /// `parked` contains the snapshot, and what an earlier session of the login has found out.
    pub(super) fn new(
        number: u16,
        upstream: UpstreamFolder,
        parked: ParkedFolder,
        state: MailboxState,
        ahead: ReadAhead,
        shared: Arc<Resources>,
    ) -> Self {
        let ParkedFolder {
            snapshot,
            is_unmarked,
            digest: _,
            target,
            policy: _,
        } = parked;
        let logins = shared.marked.get(&**upstream.name());
        let is_marked = logins.is_some_and(|logins| logins.contains(&upstream.account().login));
        Self {
            number,
            upstream,
            snapshot,
            state,
            ahead,
            delivery: Delivery::default(),
            marks: LoginMarks::unread(is_unmarked && !is_marked),
            removal: Removal::new(target),
            suspects: Uids::default(),
            shared,
        }
    }

    /// Makes sure that there is a connection. If it is a new one, nothing is in flight any more.
    async fn connected(&mut self) -> Result<(), Error> {
        if self.upstream.connected(&mut self.snapshot).await? {
            self.ahead.clear();
        }
        Ok(())
    }

    fn policy(&self) -> &Policy {
        self.upstream.policy()
    }

    /// The folder's name, as configured.
    pub(super) fn name(&self) -> &str {
        &self.upstream.name().folder
    }

    // Opening.

    /// Reads the login's marks, and finds the messages that were not delivered earlier.
    pub(super) async fn read_marks(&mut self) -> Result<(), Error> {
        self.marks.read(&mut self.state, &self.upstream, &self.snapshot).await?;
        let undelivered = &self.shared.undelivered;
        self.suspects = undelivered.suspects(self.upstream.name(), self.snapshot.index());
        self.suspects.extend(self.marks.get().undelivered.uids());
        Ok(())
    }

    /// Finishes a removal that an earlier session has begun. A failure does not refuse the login: the messages are
    /// still here, and a QUIT that deletes them tries again.
    pub(super) async fn finish_removal(&mut self) {
        // Boxed: most logins find nothing to finish.
        match Box::pin(self.finish_what_was_begun()).await {
            Ok(gone) => self.note_removed(&gone),
            Err(error) => {
                let (mailbox, error) = (self.upstream.name(), error.cause());
                tracing::warn!(%mailbox, %error, "a removal that was interrupted could not be finished");
            }
        }
    }

    async fn finish_what_was_begun(&mut self) -> Result<Uids, Error> {
        let tenure = self.state.secured().await?;
        let finishing = removal::finish(&mut self.state, &mut self.upstream, &mut self.snapshot);
        let finished = tokio::select! {
            biased;
            () = tenure.lapsed() => None,
            finished = finishing => Some(finished),
        };
        finished.unwrap_or_else(|| Err(cut(&mut self.upstream)))
    }

    /// Removes the messages that the login retrieved at least `retain_days` ago. A failure does not refuse the login:
    /// the next one tries again.
    pub(super) async fn apply_retention(&mut self, now: u32) {
        let due: Vec<Uid> = self.due(now).uids().collect();
        if due.is_empty() {
            return;
        }
        let removed = self.remove(&due).await;
        let (login, mailbox) = (&self.upstream.account().login, self.upstream.name());
        match removed {
            Ok(refused) => tracing::info!(
                login,
                %mailbox,
                removed = due.len() - refused.uids.len(),
                refused = refused.uids.len(),
                "messages whose retain_days are over were removed"
            ),
            Err(error) => {
                let error = error.cause();
                tracing::warn!(login, %mailbox, %error, "messages whose retain_days are over were not removed");
            }
        }
    }

    /// The messages that the login retrieved at least `retain_days` ago, and when (seconds since 1970).
    pub(super) fn due(&self, now: u32) -> UidMap<u32> {
        retention::due(self.policy(), self.marks.get(), self.snapshot.index(), now)
    }

    /// Gives messages the UIDLs that the file `uidl_import` has for them. Each version of the file is imported once,
    /// because a message that arrives later must keep the UIDL that devices have seen.
    pub(super) async fn import(&mut self) -> Result<(), Error> {
        self.connected().await?;
        let policy = self.upstream.policy().clone();
        let Some(import) = &policy.uidl_import else {
            return Ok(());
        };
        if self.marks.get().import == import.hash {
            return Ok(());
        }
        let uids = self.snapshot.uids();
        let message_ids = if import.by_message_id.is_empty() {
            Vec::new()
        } else {
            let found = self.upstream.mailbox().message_ids(&uids).await;
            found.map_err(|error| self.upstream.failed(error))?
        };
        let imported = import::imported(import, &uids, &message_ids, &self.marks.get().imported);
        tracing::info!(
            login = self.upstream.account().login,
            mailbox = %self.upstream.name(),
            messages = uids.len(),
            imported = imported.len(),
            "messages get the UIDLs of another server"
        );
        // If UIDVALIDITY changes, these messages are recognised even if no device has retrieved them here.
        let named: Vec<Uid> = imported.uids().filter(|&uid| self.snapshot.contains(uid)).collect();
        self.identify(&named).await?;
        self.change_marks(|marks| {
            marks.import = import.hash;
            marks.imported = imported.clone();
        })
        .await
    }

    /// The messages of the folder that can be shown at `now` (seconds since 1970).
    pub(super) async fn candidates(&mut self, now: u32) -> Result<Candidates, Error> {
        candidates(&mut self.upstream, &self.snapshot, self.marks.get(), now).await
    }

    /// The notices for those `rows` of this folder that show one. Takes one round trip, or none if there are no such
    /// rows.
    pub(super) async fn oversize_notices(&mut self, rows: &[Row]) -> Result<NoticeTexts, Error> {
        let rows = rows
            .iter()
            .filter(|row| row.shows == Shows::Notice && row.folder == self.number);
        let octets: UidMap<u32> = rows.map(|row| (row.uid, row.octets)).collect();
        if octets.is_empty() {
            return Ok(NoticeTexts::new());
        }
        let uids: Vec<Uid> = octets.uids().collect();
        let headers = self.upstream.mailbox().headers(&uids, notice::FIELDS).await;
        let headers: HashMap<Uid, Vec<u8>> = headers
            .map_err(|error| self.upstream.failed(error))?
            .into_iter()
            .collect();
        let max = self.policy().view.max_octets.unwrap_or(0);
        let notice = |(uid, octets)| {
            let header = headers.get(&uid).map_or(&[][..], Vec::as_slice);
            let notice = notice::of_oversize(header, octets, max, &self.original(uid));
            ((self.number, uid), notice.into())
        };
        Ok(octets.into_iter().map(notice).collect())
    }

    fn original(&self, uid: Uid) -> notice::Original<'_> {
        notice::Original::new(self.name(), self.snapshot.uid_validity(), uid)
    }

    pub(super) fn uidl_parts(&self) -> UidlParts<'_> {
        UidlParts {
            folder: self.name(),
            index: self.snapshot.index(),
            earlier: self.snapshot.earlier(),
            imported: &self.marks.get().imported,
        }
    }

    // Reading.

    /// Asks for `item` of a message, unless it is in flight already, and waits until its content begins. If the
    /// connection was lost meanwhile, silently replaces it once. `item_of` is for reading ahead: it gives the item that
    /// the device would fetch of a message with that many octets. Returns the size of the content.
    pub(super) async fn begin(
        &mut self,
        listing: &Listing,
        LocatedRow { row, position }: LocatedRow,
        item: Item,
        item_of: impl Fn(u64) -> Item,
    ) -> Result<Octets, NotBegun> {
        let uid = row.uid;
        if item == Item::Whole && self.suspects.contains(uid) && self.breaks_off(uid) {
            return Err(NotBegun {
                error: Refusal::Unavailable(Reason::Failed).into(),
                kind: Some(FailureKind::Passing),
                was_asked: false,
            });
        }
        // A message that was not delivered before could make the server refuse a whole set.
        let mut alone = self.suspects.contains(uid);
        let continues_run = self.ahead.note_request(position, item);
        if !continues_run || !self.ahead.is_in_flight(uid) {
            self.stop_ahead().await;
        }
        loop {
            self.connected().await?;
            let mailbox = self.upstream.mailbox();
            let begun = if alone {
                // Boxed: hardly any session needs this future, and an idle session should not hold memory for it.
                Box::pin(self.ahead.begin_alone(mailbox, (uid, row.octets.into()), item)).await
            } else {
                let (number, suspects) = (self.number, &self.suspects);
                let candidates = |from| {
                    listing
                        .following(number, from)
                        .take_while(|&(_, _, octets)| item_of(octets) == item)
                        .filter(|&(_, uid, _)| !suspects.contains(uid))
                };
                self.ahead.begin(mailbox, position, uid, item, candidates).await
            };
            let error = match begun {
                // An empty content counts only if the message was listed as empty.
                Ok(FetchStart::Content(content)) if row.octets == 0 => return Ok(Octets(content.unwrap_or(0))),
                Ok(FetchStart::Content(Some(octets))) if octets > 0 || item != Item::Whole => {
                    return Ok(Octets(octets));
                }
                Ok(FetchStart::Content(_)) => imap::Error::NoData("UID FETCH"),
                Ok(FetchStart::Refused) => continue,
                Err(error) => error,
            };
            // The cause may be the set, or a fault that has passed. So the message is asked for once more, alone. A NO
            // that asks for a pause ends the try.
            if !alone && !error.asks_for_a_pause() && (error.is_lost() || error.is_undelivered()) {
                alone = true;
                continue;
            }
            let error = self.upstream.failed(error);
            let kind = FailureKind::of(&error);
            return Err(NotBegun {
                error,
                kind,
                was_asked: true,
            });
        }
    }

    /// Handles a message that was not delivered. Returns the notice that takes its place if it has failed often enough,
    /// else the error.
    pub(super) async fn notice_after(
        &mut self,
        Row { uid, octets, .. }: Row,
        NotBegun { error, kind, was_asked }: NotBegun,
    ) -> Result<Arc<[u8]>, Error> {
        let Some(kind) = kind.filter(|_| !self.upstream.selected().uid_not_sticky) else {
            return Err(error);
        };
        let is_known = self.is_known_undelivered(uid);
        if was_asked {
            self.note_failed(uid, kind);
        }
        let (name, message) = (self.upstream.name(), self.message(uid));
        if !is_known && !self.shared.undelivered.is_hopeless(name, message) {
            return Err(error);
        }
        // If somebody has removed the message meanwhile, servers answer OK without data too.
        self.connected().await?;
        let holds = self.upstream.mailbox().holds(uid).await;
        if !holds.map_err(|error| self.upstream.failed(error))? {
            return Err(error);
        }
        let headers = self.upstream.mailbox().headers(&[uid], notice::FIELDS).await;
        // If the header does not come either, the notice does without it.
        let header = headers.ok().and_then(|headers| headers.into_iter().next());
        if !is_known {
            // Stored before the device gets the notice: in a later session the device may DELE the notice, and this
            // must not delete the message, which the device has never seen.
            if let Err(unavailable) = self.change_marks(|marks| marks.undelivered.add(uid)).await {
                unavailable.log();
                return Err(error);
            }
        }
        tracing::warn!(
            mailbox = %self.upstream.name(),
            %uid,
            cause = error.imap().map(tracing::field::display),
            "the upstream does not deliver this message: a notice takes its place"
        );
        if !is_known {
            let login = &self.upstream.account().login;
            let notices = &self.shared.notices;
            notices.message_undelivered(self.upstream.name(), self.message(uid), login);
        }
        let header = header.map(|(_, header)| header).unwrap_or_default();
        let notice: Arc<[u8]> = notice::of_undelivered(&header, octets, &self.original(uid)).into();
        // Asking again may cost the connection, so the notice stays for a day. If the upstream just says NO, asking
        // again costs nothing.
        if kind == FailureKind::Passing {
            let (name, message) = (self.upstream.name(), self.message(uid));
            self.shared.undelivered.set_notice(name, message, notice.clone(), now());
        }
        Ok(notice)
    }

    /// The notice that takes the message's place, if it was made within the last day.
    pub(super) fn recent_notice(&self, uid: Uid) -> Option<Arc<[u8]>> {
        if !self.is_known_undelivered(uid) {
            return None;
        }
        let undelivered = &self.shared.undelivered;
        undelivered.notice(self.upstream.name(), self.message(uid), now())
    }

    /// Whether the message is likely to begin and break off again.
    fn breaks_off(&self, uid: Uid) -> bool {
        let undelivered = &self.shared.undelivered;
        undelivered.breaks_off(self.upstream.name(), self.message(uid), now())
    }

    /// UIDVALIDITY and UID: by these the failures of a message are remembered.
    fn message(&self, uid: Uid) -> (u64, Uid) {
        (self.snapshot.uid_validity(), uid)
    }

    /// Notes that the content of a message broke off because of `error`.
    pub(super) fn note_broken_off(&mut self, uid: Uid, error: imap::Error) -> Error {
        let error = self.upstream.failed(error);
        if let Some(kind) = FailureKind::of(&error) {
            self.note_failed(uid, kind);
            let undelivered = &self.shared.undelivered;
            undelivered.note_broken_off(self.upstream.name(), self.message(uid));
        }
        error
    }

    /// Notes that a message was not delivered. Each message counts once in a session.
    fn note_failed(&mut self, uid: Uid, kind: FailureKind) {
        self.suspects.add(uid);
        if self.delivery.note_failed(uid) {
            let undelivered = &self.shared.undelivered;
            undelivered.note(self.upstream.name(), self.message(uid), kind, now());
        }
    }

    /// Whether the login has been given a notice in the place of this message.
    fn is_known_undelivered(&self, uid: Uid) -> bool {
        self.marks.get().undelivered.contains(uid)
    }

    /// Whether a DELE of the message deletes the notice in its place: the login has been given the notice, and this
    /// session has not retrieved the message itself.
    pub(super) fn is_replaced_by_notice(&self, uid: Uid) -> bool {
        self.is_known_undelivered(uid) && !self.delivery.has(uid)
    }

    /// The mailbox, to read the content that [`HeldFolder::begin`] has begun.
    pub(super) fn mailbox(&mut self) -> &mut Mailbox {
        self.upstream.mailbox()
    }

    /// Takes the next `count` octets of the content for the device.
    pub(super) fn take(&mut self, count: usize) -> &[u8] {
        self.ahead.note_delivered(count as u64);
        self.upstream.mailbox().take(count)
    }

    /// Ends all fetches in flight, because nobody wants them any more.
    pub(super) async fn stop_ahead(&mut self) {
        self.ahead.stop(self.upstream.mailbox()).await;
    }

    /// Whether the server, asked for header and text, has sent the text first.
    pub(super) fn sends_text_first(&self) -> bool {
        self.ahead.sends_text_first()
    }

    pub(super) fn wasted(&self) -> u64 {
        self.ahead.wasted()
    }

    /// Notes that a message was delivered whole. `octets`: its size as the device counts it, if that is known.
    pub(super) fn note_delivered(&mut self, uid: Uid, octets: Option<Octets>) {
        self.delivery.note_delivered(uid, octets);
        if self.suspects.contains(uid) {
            let undelivered = &self.shared.undelivered;
            undelivered.remove(self.upstream.name(), self.message(uid));
            let notices = &self.shared.notices;
            notices.message_delivered(self.upstream.name(), self.message(uid));
        }
    }

    pub(super) fn acknowledge(&mut self) {
        self.delivery.acknowledge();
    }

    pub(super) fn drop_unacknowledged(&mut self) {
        self.delivery.drop_unacknowledged();
    }

    pub(super) fn has_retrieved(&self) -> bool {
        !self.delivery.is_empty()
    }

    /// The messages that QUIT removes without a DELE (`delete_after_retrieve`).
    pub(super) fn removed_by_retrieval(&self) -> Uids {
        if self.policy().retention == Retention::AfterRetrieve {
            self.delivery.retrieved()
        } else {
            Uids::default()
        }
    }

    // Leaving.

    /// Applies the delete policy to `uids`, and hides the notices of `noticed`, whose messages stay. Returns the UIDs
    /// that the server refused to remove. The removal of all others is confirmed: by the tagged OK of each command, or
    /// by state.
    pub(super) async fn delete(&mut self, uids: &Uids, noticed: &Uids) -> Result<Refused, Error> {
        let hides = !noticed.is_empty() || (self.policy().hides() && !uids.is_empty());
        if hides && self.upstream.selected().uid_not_sticky {
            return Err(Refusal::Misconfigured(Reason::NotSticky).into());
        }
        if !noticed.is_empty() {
            self.change_marks(|marks| marks.noticed.extend(noticed.uids())).await?;
        }
        if !uids.is_empty() {
            // Without the marks nobody knows whether the device has seen a message or only its notice.
            self.marks.known()?;
        }
        self.remove(&uids.to_vec()).await
    }

    async fn remove(&mut self, uids: &[Uid]) -> Result<Refused, Error> {
        if uids.is_empty() {
            return Ok(Refused::default());
        }
        if self.policy().on_delete == OnDelete::Hide {
            self.change_marks(|marks| marks.hidden.extend(uids.iter().copied()))
                .await?;
            return Ok(Refused::default());
        }
        self.stop_ahead().await;
        let seen = if self.policy().on_retrieve == OnRetrieve::MarkRead {
            self.delivery.retrieved()
        } else {
            Uids::default()
        };
        let tenure = self.state.secured().await?;
        let removing = self
            .removal
            .remove(&mut self.state, &mut self.upstream, &mut self.snapshot, uids, &seen);
        // Boxed: most sessions remove nothing.
        let removing = Box::pin(removing);
        // No command is sent after the lease has ended: another session may hold the maildrop then.
        let removed = tokio::select! {
            biased;
            () = tenure.lapsed() => None,
            removed = removing => Some(removed),
        };
        let refused = removed.unwrap_or_else(|| Err(cut(&mut self.upstream)))?;
        self.note_removed(&refused.gone(uids));
        Ok(refused)
    }

    /// Forgets messages that are gone. If the server has reported no other change, the login's next session need not
    /// list the mailbox again.
    fn note_removed(&mut self, gone: &Uids) {
        if gone.is_empty() {
            return;
        }
        self.delivery.forget(gone);
        self.snapshot.forget(gone);
        let mailbox = self.upstream.mailbox();
        let changes = mailbox.changes();
        if changes.expunged == gone.len() as u64 && !changes.flags {
            mailbox.clear_changes();
        }
    }

    /// Ends the session's use of the folder: stores in state what the session has learned, gives up the lock and parks
    /// the connection. Slow work is done in the background, so that neither the device nor its next session waits for
    /// it.
    pub(super) async fn leave(mut self) {
        self.snapshot
            .learn(self.ahead.first_run(), self.delivery.octets().into_iter());
        // Done while the session has the lock: later it could overwrite what the next session stores. If this fails, a
        // message counts as retrieved only when it is retrieved again.
        if let Err(error) = self.keep_retrieved(now()).await {
            error.log();
        }
        self.mailbox().drain_at_once().await;
        if self.snapshot.is_saved() && self.delivery.is_empty() && !self.mailbox().is_fetching() {
            // The connection is parked before the lock is given up, so the next session finds it.
            return self.park().leave(None).await;
        }
        let index = self.index_to_save();
        self.state.leave(index.as_ref()).await;
        let tasks = self.shared.tasks.clone();
        tasks.spawn(async move {
            // Saves the index for the next session, and drops the records of messages that are gone.
            if let Some(index) = index {
                self.state.save(index).await;
            }
            self.stop_ahead().await;
            match self.flag_retrieved().await {
                Ok(()) => {
                    self.remember().await;
                    drop(self.park());
                }
                Err(error) => error.log(),
            }
        });
    }

    /// Parks the connection for the login's next session. Returns the state, which may still hold the lock.
    fn park(self) -> MailboxState {
        let parked = ParkedFolder {
            snapshot: self.snapshot,
            is_unmarked: self.marks.is_unmarked(),
            digest: self.state.digest(),
            target: self.removal.into_target(),
            policy: self.upstream.policy().clone(),
        };
        self.upstream.park(&self.shared.pool, parked);
        self.state
    }

    /// Stores in the marks when each message was first retrieved, if `retain_days` needs that. Also removes the
    /// undelivered mark of messages that have been delivered now.
    async fn keep_retrieved(&mut self, now: u32) -> Result<(), Error> {
        let retrieved = self.delivery.retrieved();
        let marks = self.marks.get();
        let retains = matches!(self.policy().retention, Retention::Days(_)) && !self.upstream.selected().uid_not_sticky;
        let fresh: Vec<(Uid, u32)> = retrieved
            .uids()
            .filter(|&uid| retains && !marks.retrieved.contains(uid))
            .map(|uid| (uid, now))
            .collect();
        if fresh.is_empty() && !retrieved.uids().any(|uid| marks.undelivered.contains(uid)) {
            return Ok(());
        }
        self.change_marks(|marks| {
            marks.retrieved.extend(fresh.iter().copied());
            marks.undelivered.retain(|uid, ()| !retrieved.contains(uid));
        })
        .await
    }

    /// Changes the login's marks. The change is durable when this returns.
    async fn change_marks(&mut self, change: impl Fn(&mut Marks) + Send + Sync) -> Result<(), Error> {
        if !self.policy().keeps_marks() {
            // Noted before the write: it may succeed although its answer is lost.
            let login = self.upstream.account().login.clone();
            let mailbox = self.upstream.name().as_ref().clone();
            self.shared.marked.entry(mailbox).or_default().insert(login);
        }
        let index = self.snapshot.index();
        self.marks.change(&mut self.state, index, change).await
    }

    /// The index, if it must be saved: state has another version, and the UIDs stay valid in the next session.
    fn index_to_save(&mut self) -> Option<Arc<Index>> {
        let is_due = !self.snapshot.is_saved() && !self.upstream.selected().uid_not_sticky;
        is_due.then(|| self.snapshot.take_for_saving())
    }

    async fn flag_retrieved(&mut self) -> Result<(), Error> {
        if self.delivery.is_empty() || self.policy().on_retrieve == OnRetrieve::Keep {
            return Ok(());
        }
        self.connected().await?;
        if self.upstream.selected().read_only {
            return Ok(());
        }
        let retrieved = self.delivery.retrieved().to_vec();
        let flagged = self.upstream.mailbox().mark_seen(&retrieved).await;
        flagged.map_err(|error| self.upstream.failed(error))
    }

    /// Stores the identities of the retrieved messages that stay, so that they are recognised if UIDVALIDITY changes.
    /// If this fails, they are stored when the messages are retrieved the next time.
    async fn remember(&mut self) {
        if self.upstream.is_lost() {
            return;
        }
        let retrieved = self.delivery.retrieved().to_vec();
        if let Err(error) = self.identify(&retrieved).await {
            tracing::debug!(error = %error.cause(), mailbox = %self.upstream.name(), "the identities of retrieved messages are not stored: if UIDVALIDITY changes, these messages are not recognised");
        }
    }

    /// Stores the identities of `uids` (ascending) in state.
    async fn identify(&mut self, uids: &[Uid]) -> Result<(), Error> {
        if uids.is_empty() || self.upstream.selected().uid_not_sticky {
            return Ok(());
        }
        recognition::identify(&mut self.state, &mut self.upstream, self.snapshot.index(), uids).await
    }
}

/// Cuts the connection, because the lock of the maildrop was lost in the middle of a removal: commands that have not
/// been sent yet must not be sent.
fn cut(upstream: &mut UpstreamFolder) -> Error {
    upstream.mailbox().cut();
    tracing::warn!(mailbox = %upstream.name(), "the lock of the maildrop was lost while messages were removed: the upstream connection is cut");
    Unavailable::Lost.into()
}

/// The messages of a folder that can be shown at `now` (seconds since 1970) to the login whose marks are `marks`.
pub(super) async fn candidates(
    upstream: &mut UpstreamFolder,
    snapshot: &Snapshot,
    marks: &Marks,
    now: u32,
) -> Result<Candidates, Error> {
    let policy = upstream.policy().clone();
    let among = if policy.view.unseen_only {
        let found = upstream.mailbox().search_unseen().await;
        Some(found.map_err(|error| upstream.failed(error))?)
    } else {
        None
    };
    // Messages whose notices were deleted.
    let given_up = marks.undelivered.uids().filter(|&uid| marks.noticed.contains(uid));
    let mut hidden: Uids = given_up.collect();
    if policy.hides() {
        hidden.extend(marks.hidden.uids());
    }
    let within = policy.view.within_days;
    Ok(Candidates {
        index: snapshot.index().clone(),
        deleted: snapshot.deleted().clone(),
        hidden,
        among,
        since: within.map_or(0, |days| now.saturating_sub(days * retention::DAY)),
        noticed: marks.noticed.clone(),
    })
}
