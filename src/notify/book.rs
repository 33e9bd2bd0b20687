//! The book of events: which are open, and which of them must still be sent to the webhook.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::event::{Event, EventKey, EventKind, SeenBy};
use crate::types::{canonical, hex};

/// The most open events of those kinds whose number depends on what devices do. A further event replaces the oldest one
/// that does not wait to be sent; if all of them wait, the further event is refused.
const MOST: usize = 1000;
/// The most events whose keys are remembered after others have replaced them: as many as logins are known to fail at
/// once (see [`super::failing`]). Beyond that, the oldest key is forgotten.
const MOST_REPLACED: usize = 10_000;

/// An open event: one that has happened and is not over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) event: Event,
    /// When popgate noticed the event, in seconds since 1970.
    pub(super) since: u32,
    /// Whether the webhook has taken the event, or the event will not be sent.
    #[serde(rename = "is_told")]
    is_sent: bool,
    /// What devices have done with the mail about the event, by login.
    #[serde(default)]
    devices: BTreeMap<String, DeviceMarks>,
}

/// What a device has done with the mail about an event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DeviceMarks {
    /// When the device first retrieved the mail, in seconds since 1970.
    #[serde(default)]
    pub(super) retrieved: Option<u32>,
    /// Whether the device has deleted the mail.
    #[serde(default)]
    pub(super) is_deleted: bool,
}

impl Record {
    /// 32 hexadecimal digits that identify the event. An earlier event with the same key has another id, unless both
    /// began in the same second.
    pub(super) fn id(&self) -> String {
        let name = format!("{}\0{}", self.event.key, self.since);
        hex(&digest(&SHA256, name.as_bytes()).as_ref()[..16])
    }

    pub(super) fn marks(&self, login: &str) -> DeviceMarks {
        self.devices.get(login).copied().unwrap_or_default()
    }

    pub(super) fn with_marks(mut self, login: &str, marks: DeviceMarks) -> Self {
        self.devices.insert(login.to_owned(), marks);
        self
    }

    /// The record that state stores under `name`; `None` if it cannot be parsed.
    pub(super) fn decode(name: &str, octets: &[u8]) -> Option<Self> {
        let record: Self = serde_json::from_slice(octets).ok()?;
        (record.event.key.to_string() == name).then_some(record)
    }

    /// The record as state stores it, in JSON.
    pub(super) fn encode(&self) -> Vec<u8> {
        // Writing to memory, with strings as keys, cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// All open events.
#[derive(Debug)]
pub(super) struct Book {
    records: BTreeMap<EventKey, Record>,
    /// The keys of consents that end soon, by login. They have a map of their own because each session looks for its
    /// login, mostly in vain.
    consents: HashMap<String, EventKey>,
    /// The events still to be sent, in this order.
    unsent: VecDeque<EventKey>,
    /// The events whose records in state differ from those in `records`.
    unsaved: BTreeSet<EventKey>,
    /// The events that were sent, and whose records others have replaced, with the time at which each began. They are
    /// not over, so they must not be sent again. A restart forgets them.
    replaced: BTreeMap<EventKey, u32>,
    /// The events that this gateway has seen since its start, and whose end it has not seen. The others are in state:
    /// from before the start, or from other gateways.
    seen: BTreeSet<EventKey>,
    /// Whether there is a webhook to send events to.
    has_webhook: bool,
    /// Whether other gateways send these events too.
    is_shared: bool,
}

impl Book {
    /// Loads the records that state holds, each with its key. A record that cannot be parsed was written by a later
    /// version: it is ignored here and stays in state.
    pub(super) fn new(kept: Vec<(String, Vec<u8>)>, has_webhook: bool) -> Self {
        let mut book = Self {
            records: BTreeMap::new(),
            consents: HashMap::new(),
            unsent: VecDeque::new(),
            unsaved: BTreeSet::new(),
            replaced: BTreeMap::new(),
            seen: BTreeSet::new(),
            has_webhook,
            is_shared: false,
        };
        let records = kept
            .into_iter()
            .filter_map(|(name, octets)| Record::decode(&name, &octets));
        let mut records: Vec<_> = records.collect();
        records.sort_by_key(|record| record.since);
        for record in records {
            book.insert(record);
        }
        book
    }

    /// Says whether other gateways send these events too. Without a webhook, this gateway leaves the events to them.
    pub(super) fn shared(mut self, is_shared: bool) -> Self {
        self.is_shared = is_shared;
        self
    }

    fn insert(&mut self, record: Record) {
        let key = record.event.key.clone();
        if !record.is_sent && self.has_webhook {
            self.unsent.push_back(key.clone());
        }
        self.records.insert(key.clone(), record);
        self.note_consent(&key);
    }

    /// Adds `event`, unless an event with this key is not over or there are too many; `now` in seconds since 1970.
    /// Returns whether it was added. If a consent that ends soon has other logins than before, its open event gets them.
    pub(super) fn raise(&mut self, event: Event, now: u32) -> bool {
        if let Some(record) = self.records.get(&event.key) {
            self.seen.insert(event.key.clone());
            if event.key.kind == EventKind::ConsentEnding && record.event.logins != event.logins {
                self.set_logins(&event.key, event.logins);
            }
            return false;
        }
        if self.replaced.contains_key(&event.key) || !self.make_room(event.key.kind) {
            return false;
        }
        self.seen.insert(event.key.clone());
        self.unsaved.insert(event.key.clone());
        self.insert(Record {
            event,
            since: now,
            is_sent: !(self.has_webhook || self.is_shared),
            devices: BTreeMap::new(),
        });
        true
    }

    fn set_logins(&mut self, key: &EventKey, logins: Vec<String>) {
        if let Some(record) = self.records.get_mut(key) {
            record.event.logins = logins;
            self.consents.retain(|_, other| other != key);
            self.note_consent(key);
            self.unsaved.insert(key.clone());
        }
    }

    /// Adds the logins of a consent that ends soon to `consents`.
    fn note_consent(&mut self, key: &EventKey) {
        if key.kind == EventKind::ConsentEnding
            && let Some(record) = self.records.get(key)
        {
            let logins = record.event.logins.iter();
            self.consents
                .extend(logins.map(|login| (canonical(login, None), key.clone())));
        }
    }

    /// Whether another event of `kind` may be added. If there are too many, the oldest one that does not wait to be sent
    /// gives way: of that one only the key is remembered.
    fn make_room(&mut self, kind: EventKind) -> bool {
        let of_devices = || {
            self.records
                .values()
                .filter(|record| record.event.key.kind.is_of_devices())
        };
        if !kind.is_of_devices() || of_devices().count() < MOST {
            return true;
        }
        let sent = of_devices().filter(|record| record.is_sent);
        let oldest = sent
            .min_by_key(|record| record.since)
            .map(|record| (record.event.key.clone(), record.since));
        let Some((oldest, since)) = oldest else {
            return false;
        };
        self.resolve(&oldest);
        if self.replaced.len() >= MOST_REPLACED {
            let first = self.replaced.iter().min_by_key(|(_, since)| **since);
            let first = first.map(|(key, _)| key.clone());
            first.and_then(|key| self.replaced.remove(&key));
        }
        self.replaced.insert(oldest, since);
        true
    }

    /// Ends an event; returns whether it had begun. If the event still waits to be sent, it is not sent any more.
    pub(super) fn resolve(&mut self, key: &EventKey) -> bool {
        self.seen.remove(key);
        let was_replaced = self.replaced.remove(key).is_some();
        // Another gateway may have begun an event that was replaced here.
        let was_open = self.remove(key);
        if was_open {
            self.unsaved.insert(key.clone());
        }
        was_replaced || was_open
    }

    /// Removes the record of an event; returns whether there was one.
    fn remove(&mut self, key: &EventKey) -> bool {
        if self.records.remove(key).is_none() {
            return false;
        }
        self.unsent.retain(|unsent| unsent != key);
        if key.kind == EventKind::ConsentEnding {
            self.consents.retain(|_, other| other != key);
        }
        true
    }

    /// Whether this gateway may end an event for all gateways that share state: see [`SeenBy`].
    pub(super) fn may_resolve(&self, key: &EventKey) -> bool {
        let is_sent = || self.records.get(key).is_some_and(|record| record.is_sent);
        key.kind.seen_by() != SeenBy::Any || self.seen.contains(key) || is_sent()
    }

    /// Follows a change that another gateway has made to what state holds of an event, from `before` to `kept`. What
    /// this gateway has changed itself, and state does not hold yet, stays unsaved unless the event is over.
    pub(super) fn follow(&mut self, key: &EventKey, before: Option<&Record>, kept: Option<Record>) {
        match (self.records.get_mut(key), kept) {
            (Some(record), Some(kept)) if record.id() == kept.id() => {
                record.is_sent |= kept.is_sent;
                // Marks are in state before they are here, so state has all of them.
                record.devices.clone_from(&kept.devices);
                if !self.unsaved.contains(key) {
                    record.event.clone_from(&kept.event);
                }
                if record.is_sent {
                    self.unsent.retain(|unsent| unsent != key);
                }
                if *record == kept {
                    self.unsaved.remove(key);
                }
                self.consents.retain(|_, other| other != key);
                self.note_consent(key);
            }
            // Another gateway was the first to tell of it.
            (Some(_), Some(kept)) => {
                self.remove(key);
                self.unsaved.remove(key);
                self.insert(kept);
            }
            // This gateway has ended the event, and that still has to be saved.
            (None, Some(kept)) if self.unsaved.contains(key) && before.is_some_and(|old| old.id() == kept.id()) => {}
            (None, Some(kept)) => {
                self.unsaved.remove(key);
                self.insert(kept);
            }
            // State never held it: it still has to be saved.
            (Some(_), None) if before.is_none() => {}
            // This gateway sees it still, and would begin it again and again if it forgot that people know of it.
            (Some(record), None) if key.kind.seen_by() == SeenBy::Any && self.seen.contains(key) => {
                record.is_sent = true;
                self.unsent.retain(|unsent| unsent != key);
                self.unsaved.remove(key);
            }
            (_, None) => {
                self.seen.remove(key);
                self.remove(key);
                self.unsaved.remove(key);
            }
        }
    }

    /// The open events of `kind` that are not in `still_open`.
    pub(super) fn of_kind_besides(&self, kind: EventKind, still_open: &BTreeSet<EventKey>) -> Vec<EventKey> {
        let of_kind = self.records.keys().filter(|key| key.kind == kind);
        of_kind.filter(|key| !still_open.contains(key)).cloned().collect()
    }

    pub(super) fn get(&self, key: &EventKey) -> Option<&Record> {
        self.records.get(key)
    }

    /// The event about the consent of `login` (as [`canonical`] writes it), if that consent ends soon.
    pub(super) fn consent_of(&self, login: &str) -> Option<&Record> {
        self.records.get(self.consents.get(login)?)
    }

    /// Notes what a device has done with the mail about an event. The caller has stored it already. Does nothing if the
    /// open event has another id.
    pub(super) fn set_marks(&mut self, key: &EventKey, id: &str, login: &str, marks: DeviceMarks) {
        if let Some(record) = self.records.get_mut(key).filter(|record| record.id() == id) {
            record.devices.insert(login.to_owned(), marks);
        }
    }

    pub(super) fn next_unsent(&self) -> Option<&Record> {
        self.records.get(self.unsent.front()?)
    }

    /// All events that are still to be sent, in the order in which they will be.
    pub(super) fn unsent(&self) -> impl Iterator<Item = &Record> {
        self.unsent.iter().filter_map(|key| self.records.get(key))
    }

    /// Notes that the event with this id was sent, or will not be sent.
    pub(super) fn mark_sent(&mut self, key: &EventKey, id: &str) {
        if let Some(record) = self.records.get_mut(key).filter(|record| record.id() == id) {
            record.is_sent = true;
            self.unsent.retain(|unsent| unsent != key);
            self.unsaved.insert(key.clone());
        }
    }

    /// Moves an event that could not be sent behind the others.
    pub(super) fn postpone(&mut self, key: &EventKey) {
        if let Some(place) = self.unsent.iter().position(|unsent| unsent == key)
            && let Some(postponed) = self.unsent.remove(place)
        {
            self.unsent.push_back(postponed);
        }
    }

    /// A change that state does not hold yet: the key, and the record to store, or `None` if the record must be removed.
    pub(super) fn next_unsaved(&self) -> Option<(EventKey, Option<Vec<u8>>)> {
        let key = self.unsaved.first()?;
        Some((key.clone(), self.records.get(key).map(Record::encode)))
    }

    /// Notes that state now holds `record` for `key`. If the event has changed meanwhile, it stays unsaved.
    pub(super) fn note_saved(&mut self, key: &EventKey, record: Option<&[u8]>) {
        if self.records.get(key).map(Record::encode).as_deref() == record {
            self.unsaved.remove(key);
        }
    }

    /// Whether state holds what is known of this event.
    pub(super) fn is_kept(&self, key: &EventKey) -> bool {
        !self.unsaved.contains(key)
    }

    /// Whether state holds all changes.
    pub(super) fn is_saved(&self) -> bool {
        self.unsaved.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        state::Consent,
        types::{MailboxName, Uid},
    };

    fn failing(login: &str) -> Event {
        Event::login_failing(login, Some("home"), 0, "wrong")
    }

    fn ending() -> Event {
        let consent = Consent {
            upstream: "home".into(),
            name: "eva".into(),
        };
        Event::consent_ending(&consent, &["pbx".into(), "Fax@EXAMPLE.org".into()], 5000, None)
    }

    fn saved(book: &mut Book) -> Vec<(String, Option<Vec<u8>>)> {
        let mut saved = Vec::new();
        while let Some((key, record)) = book.next_unsaved() {
            book.note_saved(&key, record.as_deref());
            saved.push((key.to_string(), record));
        }
        saved
    }

    fn subjects(book: &Book) -> Vec<&str> {
        book.unsent().map(|record| record.event.key.subject.as_str()).collect()
    }

    #[test]
    fn an_event_is_told_once_until_it_is_over() {
        let mut book = Book::new(Vec::new(), true);
        assert!(book.raise(failing("pbx"), 100) && !book.raise(failing("pbx"), 200));
        assert_eq!(subjects(&book), ["pbx"]);
        let first = book.next_unsent().unwrap().clone();
        book.mark_sent(&first.event.key, &first.id());
        assert!(!book.raise(failing("pbx"), 300) && book.next_unsent().is_none());
        assert!(book.resolve(&EventKey::login("pbx")) && !book.resolve(&EventKey::login("pbx")));
        assert!(book.raise(failing("pbx"), 400));
        let second = book.next_unsent().unwrap().clone();
        assert_ne!(first.id(), second.id());
        // The first event may be reported as sent even now: that changes nothing.
        book.mark_sent(&first.event.key, &first.id());
        assert_eq!(subjects(&book), ["pbx"]);
        book.resolve(&EventKey::login("pbx"));
        assert!(book.next_unsent().is_none(), "what is over is not told");
    }

    #[test]
    fn what_cannot_be_sent_lets_others_pass() {
        let mut book = Book::new(Vec::new(), true);
        for login in ["a", "b", "c"] {
            book.raise(failing(login), 1);
        }
        book.postpone(&EventKey::login("a"));
        assert_eq!(subjects(&book), ["b", "c", "a"]);
        book.postpone(&EventKey::login("a"));
        assert_eq!(subjects(&book), ["b", "c", "a"], "not the first any more");
        book.postpone(&EventKey::login("c"));
        assert_eq!(subjects(&book), ["b", "a", "c"], "the first may not be this gateway's");
        book.postpone(&EventKey::login("d"));
        assert_eq!(subjects(&book), ["b", "a", "c"], "it is over");
    }

    #[test]
    fn what_state_holds_is_gone_on_with() {
        let mut book = Book::new(Vec::new(), true);
        book.raise(failing("b"), 2);
        book.raise(failing("a"), 1);
        book.raise(ending(), 3);
        let sent = EventKey::login("b");
        let id = book.get(&sent).unwrap().id();
        book.mark_sent(&sent, &id);
        let marks = DeviceMarks {
            retrieved: Some(7),
            is_deleted: true,
        };
        let ending = ending().key;
        let id = book.get(&ending).unwrap().id();
        book.set_marks(&ending, "another", "fax", marks);
        book.set_marks(&ending, &id, "pbx", marks);
        let mut kept: Vec<_> = saved(&mut book)
            .into_iter()
            .map(|(name, record)| (name, record.unwrap()))
            .collect();
        assert!(book.is_saved() && kept.len() == 3);
        kept.push(("login-failing c".into(), kept[0].1.clone()));
        kept.push(("login-failing d".into(), b"of another version".to_vec()));
        let again = Book::new(kept.clone(), true);
        assert_eq!(again.records, book.records);
        assert_eq!(subjects(&again), ["a", "home/eva"], "the oldest first");
        assert_eq!(again.consent_of("pbx").unwrap().marks("pbx"), marks);
        assert_eq!(again.consent_of("pbx").unwrap().marks("fax"), DeviceMarks::default());
        assert!(Book::new(kept, false).next_unsent().is_none(), "nobody to send to");
        book.resolve(&sent);
        assert_eq!(saved(&mut book), [("login-failing b".into(), None)]);
    }

    #[test]
    fn what_changes_while_it_is_saved_is_saved_again() {
        let mut book = Book::new(Vec::new(), true);
        book.raise(failing("a"), 1);
        let (key, record) = book.next_unsaved().unwrap();
        let id = book.get(&key).unwrap().id();
        book.mark_sent(&key, &id);
        book.note_saved(&key, record.as_deref());
        assert!(!book.is_saved());
        let (key, record) = book.next_unsaved().unwrap();
        book.note_saved(&key, record.as_deref());
        assert!(book.is_saved());
    }

    #[test]
    fn consents_are_found_by_login() {
        let mut book = Book::new(Vec::new(), false);
        book.raise(ending(), 3);
        assert!(book.next_unsent().is_none());
        for login in ["pbx", "Fax@example.org"] {
            assert_eq!(book.consent_of(login).unwrap().event, ending());
        }
        assert!(book.consent_of("eva").is_none());
        let mut changed = ending();
        changed.logins = vec!["eva".into(), "pbx".into()];
        assert!(!book.raise(changed.clone(), 9));
        assert_eq!(book.consent_of("eva").unwrap().event, changed);
        assert!(book.consent_of("pbx").is_some() && book.consent_of("Fax@example.org").is_none());
        assert_eq!(book.consent_of("eva").unwrap().since, 3);
        let none = BTreeSet::new();
        assert_eq!(book.of_kind_besides(EventKind::LoginFailing, &none), []);
        assert_eq!(
            book.of_kind_besides(EventKind::ConsentEnding, &[ending().key].into()),
            []
        );
        assert_eq!(book.of_kind_besides(EventKind::ConsentEnding, &none), [ending().key]);
        book.resolve(&ending().key);
        assert!(book.consent_of("pbx").is_none() && book.consents.is_empty());
    }

    #[test]
    fn changes_of_other_gateways_are_followed() {
        let key = ending().key;
        let begun = |since| {
            let mut theirs = Book::new(Vec::new(), true);
            theirs.raise(ending(), since);
            theirs.get(&key).unwrap().clone()
        };
        let mut book = Book::new(Vec::new(), true);
        book.raise(ending(), 9);
        book.follow(&key, None, Some(begun(3)));
        assert_eq!((book.get(&key), book.is_saved()), (Some(&begun(3)), true));
        assert_eq!(subjects(&book), ["home/eva"], "the record of the first");
        let marks = DeviceMarks {
            retrieved: Some(7),
            is_deleted: true,
        };
        let mut sent = begun(3).with_marks("pbx", marks);
        sent.is_sent = true;
        book.follow(&key, Some(&begun(3)), Some(sent.clone()));
        assert_eq!(book.consent_of("pbx"), Some(&sent));
        assert!(book.next_unsent().is_none() && book.is_saved());
        book.resolve(&key);
        book.follow(&key, Some(&begun(3)), Some(sent.clone()));
        assert!(book.get(&key).is_none() && !book.is_saved(), "it is over all the same");
        book.follow(&key, Some(&sent), Some(begun(20)));
        assert_eq!(book.consent_of("pbx"), Some(&begun(20)), "it has begun again since");
        assert!(book.is_saved());
        book.follow(&key, Some(&begun(20)), None);
        assert!(book.get(&key).is_none() && book.consents.is_empty() && book.is_saved());
        book.raise(ending(), 30);
        book.follow(&key, None, None);
        assert!(book.get(&key).is_some() && !book.is_saved(), "state never held it");
    }

    #[test]
    fn what_another_gateway_sees_is_told_before_it_ends() {
        let key = EventKey::login("pbx");
        let mut other = Book::new(Vec::new(), true);
        other.raise(failing("pbx"), 1);
        let kept = other.get(&key).unwrap().clone();
        let mut book = Book::new(Vec::new(), true);
        book.follow(&key, None, Some(kept.clone()));
        assert!(other.may_resolve(&key) && !book.may_resolve(&key));
        book.mark_sent(&key, &kept.id());
        assert!(book.may_resolve(&key));
        // The other gateway goes on seeing it, and does not begin it again.
        other.follow(&key, Some(&kept), None);
        assert!(!other.raise(failing("pbx"), 2) && other.next_unsent().is_none() && other.is_saved());
        other.resolve(&key);
        assert!(other.raise(failing("pbx"), 3));
    }

    #[test]
    fn a_gateway_without_a_webhook_leaves_events_to_the_others() {
        for (is_shared, expected) in [(true, vec!["home/eva"]), (false, Vec::new())] {
            let mut book = Book::new(Vec::new(), false).shared(is_shared);
            book.raise(ending(), 1);
            assert!(book.next_unsent().is_none());
            let kept = book.get(&ending().key).cloned();
            let mut other = Book::new(Vec::new(), true).shared(is_shared);
            other.follow(&ending().key, None, kept);
            assert_eq!(subjects(&other), expected);
        }
    }

    #[test]
    fn the_book_is_bounded() {
        let mailbox = MailboxName {
            upstream: "home".into(),
            user: "eva".into(),
            folder: "INBOX".into(),
        };
        let mut book = Book::new(Vec::new(), true);
        for uid in 0..MOST as u32 {
            assert!(book.raise(Event::message_undelivered(&mailbox, (7, Uid(uid)), "pbx"), uid));
        }
        assert!(!book.raise(failing("pbx"), 5), "all wait to be sent");
        assert!(book.raise(ending(), 5), "what the configuration bounds has room");
        let first = book.next_unsent().unwrap();
        let (key, id) = (first.event.key.clone(), first.id());
        book.mark_sent(&key, &id);
        assert!(book.raise(failing("pbx"), 5) && book.get(&key).is_none());
        assert!(!book.raise(failing("fax"), 5));
    }

    fn raise_and_send(book: &mut Book, event: Event, now: u32) -> bool {
        let key = event.key.clone();
        let is_new = book.raise(event, now);
        if is_new {
            let id = book.get(&key).unwrap().id();
            book.mark_sent(&key, &id);
        }
        is_new
    }

    #[test]
    fn an_event_that_was_replaced_is_not_told_again_until_it_is_over() {
        let mut book = Book::new(Vec::new(), true);
        let login = |number: usize| failing(&number.to_string());
        for number in 0..MOST + 3 {
            assert!(raise_and_send(&mut book, login(number), number as u32));
        }
        assert_eq!(book.records.len(), MOST);
        // All these logins go on failing, and each poll raises its event once more.
        for number in 0..MOST + 3 {
            assert!(!book.raise(login(number), 9000), "{number}");
        }
        assert!(book.next_unsent().is_none());
        assert!(book.resolve(&EventKey::login("0")) && !book.resolve(&EventKey::login("0")));
        assert!(raise_and_send(&mut book, login(0), 9001), "a new event");
        assert!(!book.raise(login(3), 9002), "replaced by it");
    }

    #[test]
    fn an_event_that_was_replaced_and_that_another_gateway_has_begun_ends() {
        let key = EventKey::login("pbx");
        let mut other = Book::new(Vec::new(), true);
        other.raise(failing("pbx"), 20);
        let kept = other.get(&key).cloned();
        let mut book = Book::new(Vec::new(), true);
        book.replaced.insert(key.clone(), 10);
        book.follow(&key, None, kept);
        assert!(book.resolve(&key) && book.get(&key).is_none());
        assert_eq!(saved(&mut book), [("login-failing pbx".into(), None)]);
        assert!(!book.resolve(&key));
    }

    #[test]
    fn the_memory_of_replaced_events_is_bounded() {
        let mut book = Book::new(Vec::new(), true);
        book.replaced = (0..MOST_REPLACED)
            .map(|number| (EventKey::login(&number.to_string()), 10 + number as u32))
            .collect();
        for number in 0..=MOST {
            raise_and_send(&mut book, failing(&format!("further {number}")), 20_000);
        }
        assert_eq!(book.replaced.len(), MOST_REPLACED);
        assert!(!book.replaced.contains_key(&EventKey::login("0")), "the oldest");
        assert!(book.replaced.contains_key(&EventKey::login("1")));
    }
}
