//! The book of events and the state that keeps it.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::{
    book::{Book, Device, Record},
    event::{Event, EventKey, EventKind},
};
use crate::state::{StateStore, Unavailable, now};

/// The book, and what state holds of it.
#[derive(Debug)]
pub(super) struct Ledger {
    book: Mutex<Book>,
    store: Arc<dyn StateStore>,
    /// Held during a write, so that no older record follows a newer one.
    saving: tokio::sync::Mutex<()>,
    changed: Notify,
}

impl Ledger {
    /// With what `store` holds. If that cannot be read (logged), the book begins empty: what stands is told again.
    pub(super) async fn open(store: Arc<dyn StateStore>, has_webhook: bool) -> Self {
        let kept = store.notices().await.unwrap_or_else(|error| {
            tracing::error!(%error, "it is not known who has been told of what: popgate tells again");
            Vec::new()
        });
        Self {
            book: Mutex::new(Book::new(kept, has_webhook)),
            store,
            saving: tokio::sync::Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// What the book says.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Book) -> T) -> T {
        look(&self.book())
    }

    /// `event` has happened, or goes on.
    pub(super) fn raise(&self, event: Event) {
        let (kind, text) = (event.key.kind, event.text.clone());
        if self.book().raise(event, now()) {
            tracing::warn!(event = %kind, text, "somebody must act");
            self.changed.notify_one();
        }
    }

    /// The event is over, if it stood.
    pub(super) fn mend(&self, key: &EventKey) {
        if self.book().mend(key) {
            tracing::info!(event = %key.kind, subject = key.subject, "nobody needs to act any more");
            self.changed.notify_one();
        }
    }

    /// All events of `kind` are over that are not among `standing`.
    pub(super) fn retain(&self, kind: EventKind, standing: &BTreeSet<EventKey>) {
        let over = self.look(|book| book.of_kind_besides(kind, standing));
        over.iter().for_each(|key| self.mend(key));
    }

    /// The event with this id was sent, or will not be.
    pub(super) fn note_told(&self, key: &EventKey, id: &str) {
        self.book().note_told(key, id);
    }

    /// The event could not be sent: others go first.
    pub(super) fn postpone(&self, key: &EventKey) {
        self.book().postpone(key);
    }

    /// Notes what a device has done with the mail about an event. This is durable when it returns. If the event is over, there
    /// is nothing to note.
    pub(super) async fn change_device(
        &self,
        key: &EventKey,
        id: &str,
        login: &str,
        change: impl FnOnce(&mut Device),
    ) -> Result<(), Unavailable> {
        let _turn = self.saving.lock().await;
        let record = self.look(|book| book.get(key).filter(|record| record.id() == id).cloned());
        let Some(record) = record else { return Ok(()) };
        let mut device = record.device(login);
        change(&mut device);
        let record = record.with_device(login, device);
        self.store.set_notice(&key.to_string(), Some(&record.encode())).await?;
        self.book().set_device(key, id, login, device);
        Ok(())
    }

    /// Saves what state does not hold yet.
    pub(super) async fn save(&self) -> Result<(), Unavailable> {
        loop {
            let _turn = self.saving.lock().await;
            let Some((key, record)) = self.look(Book::next_unsaved) else {
                return Ok(());
            };
            self.store.set_notice(&key.to_string(), record.as_deref()).await?;
            self.book().note_saved(&key, record.as_deref());
        }
    }

    /// Whether state can be written: tries it by something that is not kept.
    pub(super) async fn can_write(&self) -> bool {
        let _turn = self.saving.lock().await;
        let written = self.store.set_notice(TRIAL, Some(&now().to_le_bytes())).await;
        written.is_ok() && self.store.set_notice(TRIAL, None).await.is_ok()
    }

    /// What is to be sent next.
    pub(super) fn next_unsent(&self) -> Option<Record> {
        self.look(|book| book.next_unsent().cloned())
    }

    /// Waits until an event has come or gone since this was called last.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// No event has this name.
const TRIAL: &str = "trial";
