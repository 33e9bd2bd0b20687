//! One folder of a maildrop, exclusively held: what a session does with it, by its parts.

use std::{collections::HashMap, sync::Arc};

use super::{
    Error, Listing, Octets, Reason, Refusal,
    delivery::Delivery,
    import,
    listing::{Found, Row, Shows},
    marks::LoginMarks,
    notice::{self, StandIns},
    parked::Parked,
    read_ahead::{Begun, ReadAhead},
    recognition,
    removal::Removal,
    retention,
    selection::Candidates,
    shared::Shared,
    snapshot::Snapshot,
    uidl::Named,
    undelivered::Kind,
    upstream::Upstream,
};
use crate::{
    config::{OnDelete, OnRetrieve, Policy, Retention},
    imap::{self, Item, Mailbox, Refused},
    state::{Index, MailboxState, Marks, Unavailable, now},
    types::{Uid, UidMap, Uids},
};

/// A folder that the session holds.
#[derive(Debug)]
pub(super) struct HeldFolder {
    /// Which of the maildrop's it is.
    number: u16,
    upstream: Upstream,
    snapshot: Snapshot,
    /// With the maildrop's lock, which is given up when the session ends.
    state: MailboxState,
    ahead: ReadAhead,
    delivery: Delivery,
    marks: LoginMarks,
    removal: Removal,
    /// Messages that an earlier session has asked for in vain: they are asked for alone.
    suspects: Uids,
    shared: Arc<Shared>,
}

/// Why the content of a message does not begin.
#[derive(Debug)]
pub(super) struct NotBegun {
    error: Error,
    /// Set if the message did not come.
    kind: Option<Kind>,
    /// Whether it was asked for in this session at all.
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
    /// Whether the message did not come.
    pub(super) fn is_undelivered(&self) -> bool {
        self.kind.is_some()
    }
}

impl HeldFolder {
    /// Puts the parts together. `parked` is what the mailbox holds, and what the login's last session has left.
    pub(super) fn new(
        number: u16,
        upstream: Upstream,
        parked: Parked,
        state: MailboxState,
        ahead: ReadAhead,
        shared: Arc<Shared>,
    ) -> Self {
        let Parked {
            snapshot,
            is_unmarked,
            digest: _,
            target,
            policy: _,
        } = parked;
        Self {
            number,
            upstream,
            snapshot,
            state,
            ahead,
            delivery: Delivery::default(),
            marks: LoginMarks::unread(is_unmarked),
            removal: Removal::new(target),
            suspects: Uids::default(),
            shared,
        }
    }

    /// Makes sure that there is a connection. Nothing is in flight on a new one.
    async fn connected(&mut self) -> Result<(), Error> {
        if self.upstream.connected(&mut self.snapshot).await? {
            self.ahead.clear();
        }
        Ok(())
    }

    fn policy(&self) -> &Policy {
        self.upstream.policy()
    }

    /// The folder, as configured.
    pub(super) fn name(&self) -> &str {
        &self.upstream.name().folder
    }

    // Opening.

    /// Reads what the login has done here.
    pub(super) async fn read_marks(&mut self) -> Result<(), Error> {
        self.marks.read(&mut self.state, &self.upstream, &self.snapshot).await?;
        let undelivered = &self.shared.undelivered;
        self.suspects = undelivered.suspects(self.upstream.name(), self.snapshot.uid_validity());
        self.suspects.extend(self.marks.get().undelivered.uids());
        Ok(())
    }

    /// Finishes what an earlier session has begun to remove. A failure is no reason to refuse the login: the messages are here
    /// still, and a QUIT that deletes them tries it again.
    pub(super) async fn finish_removal(&mut self) {
        // On the heap: most logins find nothing to finish.
        match Box::pin(self.finish_what_was_begun()).await {
            Ok(gone) => self.note_removed(&gone),
            Err(error) => {
                let (mailbox, error) = (self.upstream.name(), error.cause());
                tracing::warn!(%mailbox, %error, "a removal that was interrupted is not finished");
            }
        }
    }

    async fn finish_what_was_begun(&mut self) -> Result<Uids, Error> {
        let tenure = self.state.secured().await?;
        let finishing = self
            .removal
            .finish(&mut self.state, &mut self.upstream, &mut self.snapshot);
        let finished = tokio::select! {
            biased;
            () = tenure.lapsed() => None,
            finished = finishing => Some(finished),
        };
        finished.unwrap_or_else(|| Err(cut(&mut self.upstream)))
    }

    /// Removes what the login retrieved more than `retain_days` ago. A failure is no reason to refuse the login: it is tried
    /// again at the next.
    pub(super) async fn retire(&mut self, now: u32) {
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
                "retain_days are over"
            ),
            Err(error) => {
                let error = error.cause();
                tracing::warn!(login, %mailbox, %error, "messages whose retain_days are over were not removed");
            }
        }
    }

    /// What the login retrieved more than `retain_days` ago, and when (seconds since 1970).
    pub(super) fn due(&self, now: u32) -> UidMap<u32> {
        retention::due(self.policy(), self.marks.get(), self.snapshot.index(), now)
    }

    /// Gives the messages that the file `uidl_import` names the UIDLs that it has for them; once for each content of the file:
    /// what comes later keeps the name that devices know it by.
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
            "UIDLs of another server"
        );
        // They need not be retrieved here to be known again under another UIDVALIDITY.
        let named: Vec<Uid> = imported.uids().filter(|&uid| self.snapshot.contains(uid)).collect();
        self.identify(&named).await?;
        self.change_marks(|marks| {
            marks.import = import.hash;
            marks.imported = imported.clone();
        })
        .await
    }

    /// What can be shown of the folder, `now` in seconds since 1970.
    pub(super) async fn candidates(&mut self, now: u32) -> Result<Candidates, Error> {
        candidates(&mut self.upstream, &self.snapshot, self.marks.get(), now).await
    }

    /// The notices of those `rows` of this folder that are to have one: one round trip, if there are any.
    pub(super) async fn oversize_notices(&mut self, rows: &[Row]) -> Result<StandIns, Error> {
        let rows = rows
            .iter()
            .filter(|row| row.shows == Shows::Notice && row.folder == self.number);
        let octets: UidMap<u32> = rows.map(|row| (row.uid, row.octets)).collect();
        if octets.is_empty() {
            return Ok(StandIns::new());
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
            let notice = notice::of_oversize(header, octets, max, &self.place(uid));
            ((self.number, uid), notice.into())
        };
        Ok(octets.into_iter().map(notice).collect())
    }

    fn place(&self, uid: Uid) -> notice::Place<'_> {
        notice::Place::new(self.name(), self.snapshot.uid_validity(), uid)
    }

    /// What the names of its messages are made of.
    pub(super) fn named(&self) -> Named<'_> {
        Named {
            folder: self.name(),
            index: self.snapshot.index(),
            earlier: self.snapshot.earlier(),
            imported: &self.marks.get().imported,
        }
    }

    // Reading.

    /// Asks for `item` of a message, if that is not in flight already, and waits until its content begins. A connection that was
    /// lost while the device was silent is replaced once, without a word. `item_of` tells, for reading ahead, what the
    /// device would fetch of a message of a given size.
    pub(super) async fn begin(
        &mut self,
        listing: &Listing,
        Found { row, place }: Found,
        item: Item,
        item_of: impl Fn(u64) -> Item,
    ) -> Result<Octets, NotBegun> {
        let uid = row.uid;
        if item == Item::Whole && self.suspects.contains(uid) && self.breaks_off(uid) {
            return Err(NotBegun {
                error: Refusal::Unavailable(Reason::Failed).into(),
                kind: Some(Kind::Passing),
                was_asked: false,
            });
        }
        // A message that did not come before would only spoil a set.
        let mut alone = self.suspects.contains(uid);
        let in_row = self.ahead.note_request(place, item);
        if !in_row || !self.ahead.is_due(uid) {
            self.stop_ahead().await;
        }
        loop {
            self.connected().await?;
            let mailbox = self.upstream.mailbox();
            let begun = if alone {
                // On the heap: an idle session does not hold what hardly any needs.
                Box::pin(self.ahead.begin_alone(mailbox, (uid, row.octets.into()), item)).await
            } else {
                let (number, suspects) = (self.number, &self.suspects);
                let candidates = |from| {
                    listing
                        .following(number, from)
                        .take_while(|&(_, _, octets)| item_of(octets) == item)
                        .filter(|&(_, uid, _)| !suspects.contains(uid))
                };
                self.ahead.begin(mailbox, place, uid, item, candidates).await
            };
            let error = match begun {
                // Nothing is no message, unless it was listed as empty.
                Ok(Begun::Content(content)) if row.octets == 0 => return Ok(Octets(content.unwrap_or(0))),
                Ok(Begun::Content(Some(octets))) if octets > 0 || item != Item::Whole => return Ok(Octets(octets)),
                Ok(Begun::Content(_)) => imap::Error::NoData("UID FETCH"),
                Ok(Begun::Refused) => continue,
                Err(error) => error,
            };
            // The set or the moment may be at fault: the message is asked for once more, alone. A server that asks for patience
            // is not asked again.
            if !alone && (error.is_lost() || error.is_undelivered()) {
                alone = true;
                continue;
            }
            let error = self.upstream.failed(error);
            let kind = Kind::of(&error);
            return Err(NotBegun {
                error,
                kind,
                was_asked: true,
            });
        }
    }

    /// A message was not delivered. The notice for its place, if it is time for one; else the error.
    pub(super) async fn stand_in(
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
        // OK without data is also what is said of a message that somebody has removed meanwhile.
        self.connected().await?;
        let holds = self.upstream.mailbox().holds(uid).await;
        if !holds.map_err(|error| self.upstream.failed(error))? {
            return Err(error);
        }
        let headers = self.upstream.mailbox().headers(&[uid], notice::FIELDS).await;
        // The notice is as good without them.
        let header = headers.ok().and_then(|headers| headers.into_iter().next());
        if !is_known {
            // Before the device has the notice, because it may DELE in a later session what it has never seen.
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
        let notice: Arc<[u8]> = notice::of_undelivered(&header, octets, &self.place(uid)).into();
        // To ask again may cost the connection; if the upstream just says no, it costs nothing.
        if kind == Kind::Passing {
            let (name, message) = (self.upstream.name(), self.message(uid));
            self.shared.undelivered.set_notice(name, message, notice.clone(), now());
        }
        Ok(notice)
    }

    /// The notice in the place of a message that is not to be asked for again today.
    pub(super) fn standing_notice(&self, uid: Uid) -> Option<Arc<[u8]>> {
        if !self.is_known_undelivered(uid) {
            return None;
        }
        let undelivered = &self.shared.undelivered;
        undelivered.notice(self.upstream.name(), self.message(uid), now())
    }

    /// Whether the message would begin to come and break off again.
    fn breaks_off(&self, uid: Uid) -> bool {
        let undelivered = &self.shared.undelivered;
        undelivered.breaks_off(self.upstream.name(), self.message(uid), now())
    }

    /// UIDVALIDITY and UID.
    fn message(&self, uid: Uid) -> (u64, Uid) {
        (self.snapshot.uid_validity(), uid)
    }

    /// The content of a message has broken off.
    pub(super) fn note_broken_off(&mut self, uid: Uid, error: imap::Error) -> Error {
        let error = self.upstream.failed(error);
        if let Some(kind) = Kind::of(&error) {
            self.note_failed(uid, kind);
            let undelivered = &self.shared.undelivered;
            undelivered.note_broken_off(self.upstream.name(), self.message(uid));
        }
        error
    }

    /// A message did not come, which counts once in a session.
    fn note_failed(&mut self, uid: Uid, kind: Kind) {
        self.suspects.add(uid);
        if self.delivery.note_failed(uid) {
            let undelivered = &self.shared.undelivered;
            undelivered.note(self.upstream.name(), self.message(uid), kind, now());
        }
    }

    /// Whether the device has had a notice in the place of this message.
    fn is_known_undelivered(&self, uid: Uid) -> bool {
        self.marks.get().undelivered.contains(uid)
    }

    /// Whether a DELE of the message means the notice in its place, which is all that the device has had.
    pub(super) fn stands_a_notice_for(&self, uid: Uid) -> bool {
        self.is_known_undelivered(uid) && !self.delivery.has(uid)
    }

    /// The mailbox, while a content streams from it.
    pub(super) fn mailbox(&mut self) -> &mut Mailbox {
        self.upstream.mailbox()
    }

    /// Takes octets of the content for the device.
    pub(super) fn take(&mut self, count: usize) -> &[u8] {
        self.ahead.note_delivered(count as u64);
        self.upstream.mailbox().take(count)
    }

    /// Ends what is in flight, because nobody wants it.
    pub(super) async fn stop_ahead(&mut self) {
        self.ahead.stop(self.upstream.mailbox()).await;
    }

    /// Whether the server has answered a request for header and text by the text first.
    pub(super) fn sends_text_first(&self) -> bool {
        self.ahead.sends_text_first()
    }

    /// Octets fetched in vain, and those in flight.
    pub(super) fn wasted(&self) -> u64 {
        self.ahead.wasted()
    }

    /// A message was delivered whole.
    pub(super) fn note_delivered(&mut self, uid: Uid, octets: Option<Octets>) {
        self.delivery.note_delivered(uid, octets);
        if self.suspects.contains(uid) {
            let undelivered = &self.shared.undelivered;
            undelivered.remove(self.upstream.name(), self.message(uid));
            let notices = &self.shared.notices;
            notices.message_delivered(self.upstream.name(), self.message(uid));
        }
    }

    /// The device has gone on after what it was sent: it has that.
    pub(super) fn acknowledge(&mut self) {
        self.delivery.acknowledge();
    }

    /// The device has gone without QUIT: only what it has acknowledged counts as retrieved.
    pub(super) fn drop_unacknowledged(&mut self) {
        self.delivery.drop_unacknowledged();
    }

    /// Whether the session has retrieved anything.
    pub(super) fn has_retrieved(&self) -> bool {
        !self.delivery.is_empty()
    }

    /// What QUIT removes without a DELE.
    pub(super) fn removed_by_retrieval(&self) -> Uids {
        if self.policy().retention == Retention::AfterRetrieve {
            self.delivery.retrieved()
        } else {
            Uids::default()
        }
    }

    // Leaving.

    /// Applies the delete policy to `uids`, and hides the notices of `noticed`, whose messages stay. Everything that is not
    /// among the returned is confirmed: by the tagged OK of each command, or kept by state.
    pub(super) async fn delete(&mut self, uids: &Uids, noticed: &Uids) -> Result<Refused, Error> {
        let hides = !noticed.is_empty() || (self.policy().hides() && !uids.is_empty());
        if hides && self.upstream.selected().uid_not_sticky {
            return Err(Refusal::Misconfigured(Reason::NotSticky).into());
        }
        if !noticed.is_empty() {
            self.change_marks(|marks| marks.noticed.extend(noticed.uids())).await?;
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
        // On the heap: most sessions remove nothing.
        let removing = Box::pin(removing);
        // No command leaves after the lease: another session may have the maildrop then.
        let removed = tokio::select! {
            biased;
            () = tenure.lapsed() => None,
            removed = removing => Some(removed),
        };
        let refused = removed.unwrap_or_else(|| Err(cut(&mut self.upstream)))?;
        self.note_removed(&refused.gone(uids));
        Ok(refused)
    }

    /// Forgets messages that were removed.
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

    /// Leaves the folder to the next session: what was learned goes into state, and the connection waits. What takes time is
    /// done in the background, since it concerns neither the device nor its next session.
    pub(super) async fn leave(mut self) {
        self.snapshot
            .learn(self.ahead.first_run(), self.delivery.octets().into_iter());
        // While the maildrop is held: what its next session keeps must not be overwritten. If this fails, a message counts as
        // retrieved when it is retrieved again.
        if let Err(error) = self.keep_retrieved(now()).await {
            error.log();
        }
        self.mailbox().drain_at_once().await;
        if self.snapshot.is_saved() && self.delivery.is_empty() && !self.mailbox().is_fetching() {
            // The next session finds the connection as soon as it can have the maildrop.
            return self.park().leave(None).await;
        }
        let index = self.index_to_save();
        self.state.leave(index.as_ref()).await;
        let tasks = self.shared.tasks.clone();
        tasks.spawn(async move {
            // What the next session need not ask for. What concerns messages that are gone is dropped.
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

    /// Lets the connection wait for the login's next session. Returns the door to state, which may hold the maildrop still.
    fn park(self) -> MailboxState {
        let parked = Parked {
            snapshot: self.snapshot,
            is_unmarked: self.marks.is_unmarked(),
            digest: self.state.digest(),
            target: self.removal.into_target(),
            policy: self.upstream.policy().clone(),
        };
        self.upstream.park(&self.shared.pool, parked);
        self.state
    }

    /// Notes when the messages of this session were delivered, the first time each; and that some were delivered after all.
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

    /// Makes a change to the login's marks, which is durable when this returns.
    async fn change_marks(&mut self, change: impl Fn(&mut Marks) + Send + Sync) -> Result<(), Error> {
        let index = self.snapshot.index();
        self.marks.change(&mut self.state, index, change).await
    }

    /// The index, unless state holds it as it is.
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

    /// Messages that a device has had and that stay are to be known again, should UIDVALIDITY change. If this fails, they are
    /// remembered when they are retrieved the next time.
    async fn remember(&mut self) {
        if self.upstream.is_lost() {
            return;
        }
        let retrieved = self.delivery.retrieved().to_vec();
        if let Err(error) = self.identify(&retrieved).await {
            tracing::debug!(error = %error.cause(), mailbox = %self.upstream.name(), "what was retrieved is not remembered");
        }
    }

    /// Keeps what tells `uids` (ascending) from others.
    async fn identify(&mut self, uids: &[Uid]) -> Result<(), Error> {
        if uids.is_empty() || self.upstream.selected().uid_not_sticky {
            return Ok(());
        }
        recognition::identify(&mut self.state, &mut self.upstream, self.snapshot.index(), uids).await
    }
}

/// The lock of the maildrop was lost in the middle of a removal: what has not left yet never will.
fn cut(upstream: &mut Upstream) -> Error {
    upstream.mailbox().cut();
    tracing::warn!(mailbox = %upstream.name(), "the lock of the maildrop was lost while messages were removed: the upstream connection is cut");
    Unavailable::Lost.into()
}

/// What a login that has left `marks` can be shown of a folder, `now` in seconds since 1970.
pub(super) async fn candidates(
    upstream: &mut Upstream,
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
