//! The book of events and the store that keeps it.
//!
//! Gateways that share a store have a book each, and read the others' changes once a minute. One of them has the duty to
//! check consents and to send what the store holds ([`Duty::Notices`]). Every write says which record it follows, so
//! that no gateway undoes another's change.

#[cfg(test)]
#[cfg(unix)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use super::{
    book::{Book, DeviceMarks, Record},
    event::{Event, EventKey, EventKind, SeenBy},
};
use crate::state::{Duty, OnDuty, StateStore, Unavailable, now};

/// How often a change is tried again if other gateways have changed the same records meanwhile.
const ATTEMPTS: usize = 8;

/// The book in memory, and the store that its changes are written to.
#[derive(Debug)]
pub(super) struct Ledger {
    book: Mutex<Book>,
    store: Arc<dyn StateStore>,
    /// Whether other gateways use the store too.
    is_shared: bool,
    /// Whether this gateway sends what a shared store holds.
    duty: Mutex<Option<OnDuty>>,
    /// What state holds, as far as this gateway knows. Held during a write, so that an older record is never written
    /// after a newer one.
    kept: tokio::sync::Mutex<StoredRecords>,
    changed: Notify,
}

/// Records as state stores them, by name.
type StoredRecords = HashMap<String, Vec<u8>>;

impl Ledger {
    /// Loads the book from `store`. If `store` cannot be read, this is logged and the book starts empty: people may
    /// then be told of the open events once more.
    pub(super) async fn open(store: Arc<dyn StateStore>, has_webhook: bool) -> Self {
        let kept = store.notices().await.unwrap_or_else(|error| {
            tracing::error!(%error, "the record of sent notices cannot be read: popgate may send notices again");
            Vec::new()
        });
        let is_shared = store.lease().is_some();
        Self {
            book: Mutex::new(Book::new(kept.clone(), has_webhook).shared(is_shared)),
            is_shared,
            store,
            duty: Mutex::default(),
            kept: tokio::sync::Mutex::new(kept.into_iter().collect()),
            changed: Notify::new(),
        }
    }

    /// Takes the duty if the store is shared and no other gateway has it, and follows what other gateways have changed.
    /// If the store fails, the next call makes up for it.
    pub(super) async fn keep_up(&self) {
        if !self.is_shared {
            return;
        }
        let mut taken = None;
        if !self.is_on_duty() {
            drop(self.duty().take());
            taken = Duty::Notices
                .take(&self.store, Duration::ZERO)
                .await
                .unwrap_or_default();
        }
        // A new duty counts only after this: otherwise the gateway would send what the one before it has sent.
        if self.refresh().await.is_ok() && taken.is_some() {
            *self.duty() = taken;
        }
        self.changed.notify_one();
    }

    /// Whether this gateway checks consents, and sends the events that state holds. If the store is not shared, it
    /// always does.
    pub(super) fn is_on_duty(&self) -> bool {
        !self.is_shared || self.duty().as_ref().is_some_and(OnDuty::holds)
    }

    /// Whether this gateway checks consents in this review, which is a regular one (`is_time`) or follows a failed
    /// login. Logins that fail must not make the gateways read all consents from a shared store each second.
    pub(super) fn checks_consents(&self, is_time: bool) -> bool {
        self.is_on_duty() && (is_time || !self.is_shared)
    }

    /// Gives the duty up in the background, so that another gateway takes it.
    pub(super) fn hand_over(&self) {
        drop(self.duty().take());
    }

    /// The event about the consent of `login`, if that consent ends soon. If the store is shared, the record comes from
    /// there: another gateway may have ended the event, or another session of the device may have deleted the mail. If
    /// that fails, there is no mail: it does less harm to miss it once than to see it again after DELE.
    pub(super) async fn consent_of(&self, login: &str) -> Option<Record> {
        let record = self.read(|book| book.consent_of(login).cloned())?;
        if !self.is_shared {
            return Some(record);
        }
        let name = record.event.key.to_string();
        let kept = self.store.notice(&name).await.ok().flatten()?;
        Record::decode(&name, &kept)
    }

    pub(super) fn read<T>(&self, read: impl FnOnce(&Book) -> T) -> T {
        read(&self.book())
    }

    /// Adds `event` to the book, if it is not open yet. Only a new event is logged and sent.
    pub(super) fn raise(&self, event: Event) {
        let (kind, text) = (event.key.kind, event.text.clone());
        if self.book().raise(event, now()) {
            tracing::warn!(event = %kind, text, "somebody must act");
            self.changed.notify_one();
        }
    }

    /// Ends the event, if it is open.
    pub(super) fn resolve(&self, key: &EventKey) {
        if self.resolved(key) {
            tracing::info!(event = %key.kind, subject = key.subject, "nobody needs to act any more");
            self.changed.notify_one();
        }
    }

    fn resolved(&self, key: &EventKey) -> bool {
        let mut book = self.book();
        (!self.is_shared || book.may_resolve(key)) && book.resolve(key)
    }

    /// Ends all events of `kind` that are not in `still_open`.
    pub(super) fn retain(&self, kind: EventKind, still_open: &BTreeSet<EventKey>) {
        let over = self.read(|book| book.of_kind_besides(kind, still_open));
        over.iter().for_each(|key| self.resolve(key));
    }

    /// Notes that the event with this id was sent, or will not be sent.
    pub(super) fn mark_sent(&self, key: &EventKey, id: &str) {
        self.book().mark_sent(key, id);
    }

    /// Moves an event that could not be sent behind the others.
    pub(super) fn postpone(&self, key: &EventKey) {
        self.book().postpone(key);
    }

    /// Changes what is known of a device and the mail about an event. After `Ok`, state holds the change. Does nothing
    /// if the event is over.
    pub(super) async fn change_marks(
        &self,
        key: &EventKey,
        id: &str,
        login: &str,
        change: impl Fn(&mut DeviceMarks),
    ) -> Result<(), Unavailable> {
        let mut kept = self.kept.lock().await;
        if self.is_shared {
            // The mail is from the record that state holds: see `consent_of`. The book may have an older one.
            self.read_again(&mut kept, key).await?;
        }
        for _ in 0..ATTEMPTS {
            let record = self.read(|book| book.get(key).filter(|record| record.id() == id).cloned());
            let Some(record) = record else { return Ok(()) };
            let mut marks = record.marks(login);
            change(&mut marks);
            let record = record.with_marks(login, marks).encode();
            match self.write(&mut kept, key, Some(&record)).await {
                Ok(()) => {
                    self.book().set_marks(key, id, login, marks);
                    return Ok(());
                }
                Err(Unavailable::Changed) => self.read_again(&mut kept, key).await?,
                Err(error) => return Err(error),
            }
        }
        Err(Unavailable::Changed)
    }

    /// Writes all changes that state does not hold yet. Fails with [`Unavailable::Changed`] if other gateways change the
    /// same event all the time: the store itself works then.
    pub(super) async fn save(&self) -> Result<(), Unavailable> {
        // The last event of which another gateway had changed the record, and how often in turn.
        let mut late: Option<(EventKey, usize)> = None;
        loop {
            let mut kept = self.kept.lock().await;
            let Some((key, record)) = self.read(Book::next_unsaved) else {
                return Ok(());
            };
            let written = if self.is_in_state(&key) {
                self.write(&mut kept, &key, record.as_deref()).await
            } else {
                Ok(())
            };
            match written {
                Ok(()) => self.book().note_saved(&key, record.as_deref()),
                Err(Unavailable::Changed) => {
                    let count = late.filter(|(last, _)| *last == key).map_or(0, |(_, count)| count);
                    if count == ATTEMPTS {
                        return Err(Unavailable::Changed);
                    }
                    self.read_again(&mut kept, &key).await?;
                    late = Some((key, count + 1));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether state can be written: writes a record and removes it again. If several gateways do so at the same time,
    /// none of them is in another's way.
    pub(super) async fn can_write(&self) -> bool {
        let _turn = self.kept.lock().await;
        let trial = Some(TRIAL.as_bytes());
        let mut followed: Option<Vec<u8>> = None;
        for _ in 0..ATTEMPTS {
            match self.store.set_notice(TRIAL, followed.as_deref(), trial).await {
                Ok(()) => return self.store.set_notice(TRIAL, trial, None).await != Err(Unavailable::Failed),
                // A gateway of another version has written a record of its own, and may not have removed it.
                Err(Unavailable::Changed) => match self.store.notice(TRIAL).await {
                    Ok(kept) => followed = kept,
                    Err(_) => return false,
                },
                Err(_) => return false,
            }
        }
        // Others write it all the time, so it can be written.
        true
    }

    /// The next event that this gateway should send. Of those that others may see, it sends only what state holds: its
    /// record may turn out to be the second one about the same event, and its id would be another.
    pub(super) fn next_unsent(&self) -> Option<Record> {
        if !self.is_shared {
            return self.read(|book| book.next_unsent().cloned());
        }
        let is_on_duty = self.is_on_duty();
        self.read(|book| {
            let is_ours = |record: &&Record| {
                let key = &record.event.key;
                !self.is_in_state(key) || (is_on_duty && book.is_kept(key))
            };
            book.unsent().find(is_ours).cloned()
        })
    }

    /// Whether state holds such events.
    pub(super) fn is_in_state(&self, key: &EventKey) -> bool {
        !self.is_shared || key.kind.seen_by() != SeenBy::Each
    }

    /// Writes what state is to hold of an event. Fails with [`Unavailable::Changed`] if another gateway has changed that
    /// since this one knows it.
    async fn write(&self, kept: &mut StoredRecords, key: &EventKey, record: Option<&[u8]>) -> Result<(), Unavailable> {
        let name = key.to_string();
        let followed = kept.get(&name).map(Vec::as_slice);
        self.store.set_notice(&name, followed, record).await?;
        match record {
            Some(record) => drop(kept.insert(name, record.to_vec())),
            None => drop(kept.remove(&name)),
        }
        Ok(())
    }

    /// Follows what another gateway has changed of an event.
    async fn read_again(&self, kept: &mut StoredRecords, key: &EventKey) -> Result<(), Unavailable> {
        let name = key.to_string();
        let now = self.store.notice(&name).await?;
        self.follow(&name, kept.get(&name), now.as_ref());
        match now {
            Some(now) => drop(kept.insert(name, now)),
            None => drop(kept.remove(&name)),
        }
        Ok(())
    }

    /// Follows what other gateways have changed.
    async fn refresh(&self) -> Result<(), Unavailable> {
        let mut kept = self.kept.lock().await;
        let now: StoredRecords = self.store.notices().await?.into_iter().collect();
        let names: BTreeSet<&String> = kept.keys().chain(now.keys()).collect();
        for name in names {
            self.follow(name, kept.get(name), now.get(name));
        }
        *kept = now;
        Ok(())
    }

    /// Follows a change of what state holds under `name`, from `before` to `now`.
    fn follow(&self, name: &str, before: Option<&Vec<u8>>, now: Option<&Vec<u8>>) {
        if before == now {
            return;
        }
        let [before, now] = [before, now].map(|octets| Record::decode(name, octets?));
        let Some(key) = now.as_ref().or(before.as_ref()).map(|record| record.event.key.clone()) else {
            return;
        };
        if self.is_in_state(&key) {
            self.book().follow(&key, before.as_ref(), now);
        }
    }

    /// Waits until an event begins or ends. Returns at once if that has happened since the last call.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn duty(&self) -> MutexGuard<'_, Option<OnDuty>> {
        self.duty.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key of the record that [`Ledger::can_write`] writes. No event has this key.
const TRIAL: &str = "trial of writing";
