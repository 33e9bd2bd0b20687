//! The book of events and the store that keeps it.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::{
    book::{Book, DeviceMarks, Record},
    event::{Event, EventKey, EventKind},
};
use crate::state::{StateStore, Unavailable, now};

/// The book in memory, and the store that its changes are written to.
#[derive(Debug)]
pub(super) struct Ledger {
    book: Mutex<Book>,
    store: Arc<dyn StateStore>,
    /// Held during a write, so that an older record is never written after a newer one.
    saving: tokio::sync::Mutex<()>,
    changed: Notify,
}

impl Ledger {
    /// Loads the book from `store`. If `store` cannot be read, this is logged and the book starts empty: people are
    /// then told of the open events once more.
    pub(super) async fn open(store: Arc<dyn StateStore>, has_webhook: bool) -> Self {
        let kept = store.notices().await.unwrap_or_else(|error| {
            tracing::error!(%error, "the record of sent notices cannot be read: popgate may send notices again");
            Vec::new()
        });
        Self {
            book: Mutex::new(Book::new(kept, has_webhook)),
            store,
            saving: tokio::sync::Mutex::default(),
            changed: Notify::new(),
        }
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
        if self.book().resolve(key) {
            tracing::info!(event = %key.kind, subject = key.subject, "nobody needs to act any more");
            self.changed.notify_one();
        }
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
        change: impl FnOnce(&mut DeviceMarks),
    ) -> Result<(), Unavailable> {
        let _turn = self.saving.lock().await;
        let record = self.read(|book| book.get(key).filter(|record| record.id() == id).cloned());
        let Some(record) = record else { return Ok(()) };
        let mut marks = record.marks(login);
        change(&mut marks);
        let record = record.with_marks(login, marks);
        self.store.set_notice(&key.to_string(), Some(&record.encode())).await?;
        self.book().set_marks(key, id, login, marks);
        Ok(())
    }

    /// Writes all changes that state does not hold yet.
    pub(super) async fn save(&self) -> Result<(), Unavailable> {
        loop {
            let _turn = self.saving.lock().await;
            let Some((key, record)) = self.read(Book::next_unsaved) else {
                return Ok(());
            };
            self.store.set_notice(&key.to_string(), record.as_deref()).await?;
            self.book().note_saved(&key, record.as_deref());
        }
    }

    /// Whether state can be written: writes a record and removes it again.
    pub(super) async fn can_write(&self) -> bool {
        let _turn = self.saving.lock().await;
        let written = self.store.set_notice(TRIAL, Some(&now().to_le_bytes())).await;
        written.is_ok() && self.store.set_notice(TRIAL, None).await.is_ok()
    }

    pub(super) fn next_unsent(&self) -> Option<Record> {
        self.read(|book| book.next_unsent().cloned())
    }

    /// Waits until an event begins or ends. Returns at once if that has happened since the last call.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key of the record that [`Ledger::can_write`] writes. No event has this key.
const TRIAL: &str = "trial";
