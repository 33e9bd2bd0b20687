//! State in memory. It is lost when the gateway ends.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use moka::sync::Cache;
use serde::Serialize;

use super::{
    Consent, Index, Kept, MailboxName, Marked, Marks, Past, PendingMove, Replacement, StateStore, Unavailable, Whose,
    envelope,
    part::{Kind, PORTION, Part, Parts},
    table::Key,
};

/// The most bytes of all indexes together. They are enough for 13 million messages of 5 bytes each. The cache first drops
/// the indexes that are used rarely.
const CAPACITY: u64 = 64 * 1024 * 1024;
/// Roughly the bytes that the cache itself spends on an entry.
const OVERHEAD: usize = 256;

/// State in memory. The indexes are limited in size; the other records grow only with the number of messages upstream.
#[derive(Debug)]
pub struct MemoryStore {
    indexes: Cache<MailboxName, Arc<Index>>,
    records: Mutex<Records>,
}

#[derive(Debug, Default)]
struct Records {
    mailboxes: BTreeMap<MailboxName, OfMailbox>,
    tokens: BTreeMap<Consent, Vec<u8>>,
    notices: BTreeMap<String, Vec<u8>>,
}

/// The records of one mailbox.
#[derive(Debug, Default)]
struct OfMailbox {
    past: Option<Past>,
    pending: Option<PendingMove>,
    /// By login.
    marks: BTreeMap<String, Marks>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self {
            indexes: Cache::builder().max_capacity(CAPACITY).weigher(weight).build(),
            records: Mutex::default(),
        }
    }
}

/// The weight of an entry in the cache: roughly the bytes that it takes.
fn weight(mailbox: &MailboxName, index: &Arc<Index>) -> u32 {
    let names = mailbox.upstream.len() + mailbox.user.len() + mailbox.folder.len();
    let entries = index.entries.bytes() + index.arrived.capacity() * size_of::<u32>();
    let ids: usize = index.email_ids.iter().map(|id| size_of::<Box<str>>() + id.len()).sum();
    u32::try_from(OVERHEAD + names + entries + ids).unwrap_or(u32::MAX)
}

impl MemoryStore {
    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> Vec<Part> {
        let mut all = Vec::new();
        for (mailbox, index) in &self.indexes {
            let record = index.encode(&mailbox).unwrap_or_default();
            all.extend(Key::of(Kind::Index, &mailbox).parts(&record));
        }
        let records = self.records();
        for (mailbox, of_mailbox) in &records.mailboxes {
            for (login, marks) in &of_mailbox.marks {
                all.extend(sealed(Key::marks(login, mailbox), marks));
            }
        }
        for (mailbox, of_mailbox) in &records.mailboxes {
            if let Some(past) = &of_mailbox.past {
                all.extend(sealed(Key::of(Kind::Past, mailbox), past));
            }
        }
        for (mailbox, of_mailbox) in &records.mailboxes {
            if let Some(pending) = &of_mailbox.pending {
                all.extend(sealed(Key::of(Kind::Move, mailbox), pending));
            }
        }
        for (consent, token) in &records.tokens {
            all.extend(Key::token(consent).parts(token));
        }
        for (name, notice) in &records.notices {
            all.extend(sealed(Key::notice(name), notice));
        }
        all
    }
}

/// The parts of `record`, sealed as in a file.
fn sealed<T: Serialize>(key: Key<'_>, record: &T) -> Vec<Part> {
    key.parts(&envelope::seal(&key.names(), record)).collect()
}

#[async_trait]
impl StateStore for MemoryStore {
    async fn index(&self, mailbox: &MailboxName) -> Option<Arc<Index>> {
        self.indexes.get(mailbox)
    }

    async fn set_index(&self, mailbox: &MailboxName, index: Arc<Index>) {
        self.indexes.insert(mailbox.clone(), index);
    }

    async fn kept(&self, mailbox: &MailboxName, whose: Whose<'_>) -> Result<Kept, Unavailable> {
        let records = self.records();
        let Some(of_mailbox) = records.mailboxes.get(mailbox) else {
            return Ok(Kept::default());
        };
        let logins = of_mailbox.marks.iter().filter(|(login, _)| whose.includes(login));
        Ok(Kept {
            past: of_mailbox.past.clone().unwrap_or_default(),
            pending: of_mailbox.pending.clone(),
            marks: logins
                .map(|(login, marks)| (login.clone(), Ok(marks.clone())))
                .collect(),
        })
    }

    async fn replace(&self, mailbox: &MailboxName, replacement: Replacement) -> Result<(), Unavailable> {
        let mut records = self.records();
        let of_mailbox = records.mailboxes.entry(mailbox.clone()).or_default();
        let Replacement { past, pending, marks } = replacement;
        let follows = past
            .as_ref()
            .is_none_or(|past| past.follows(of_mailbox.past.as_ref().unwrap_or(&Past::default())))
            && pending
                .as_ref()
                .is_none_or(|pending| pending.follows(&of_mailbox.pending))
            && marks
                .iter()
                .all(|(login, marks)| marks.follows(&of_mailbox.marks.get(login).cloned().map(Ok)));
        if !follows {
            return Err(Unavailable::Changed);
        }
        if let Some(past) = past {
            of_mailbox.past = Some(past.is);
        }
        if let Some(pending) = pending {
            of_mailbox.pending = pending.is;
        }
        for (login, marks) in marks {
            match marks.is {
                Some(Ok(marks)) => drop(of_mailbox.marks.insert(login, marks)),
                Some(Err(_)) => {}
                None => drop(of_mailbox.marks.remove(&login)),
            }
        }
        Ok(())
    }

    async fn all_marks(&self) -> Result<Vec<Marked>, Unavailable> {
        let records = self.records();
        let all = records.mailboxes.iter().flat_map(|(mailbox, of_mailbox)| {
            let one = move |(login, marks): (&String, &Marks)| (login.clone(), mailbox.clone(), Ok(marks.clone()));
            of_mailbox.marks.iter().map(one)
        });
        Ok(all.collect())
    }

    async fn parts(&self) -> Result<Parts, Unavailable> {
        let all = self.all();
        let (sender, parts) = Parts::channel();
        tokio::spawn(async move {
            for portion in all.chunks(PORTION).chain([&[][..]]) {
                if sender.send(Ok(portion.to_vec())).await.is_err() {
                    return;
                }
            }
        });
        Ok(parts)
    }

    async fn token(&self, consent: &Consent) -> Result<Option<Vec<u8>>, Unavailable> {
        Ok(self.records().tokens.get(consent).cloned())
    }

    async fn set_token(
        &self,
        consent: &Consent,
        followed: Option<&[u8]>,
        token: Option<&[u8]>,
    ) -> Result<(), Unavailable> {
        let tokens = &mut self.records().tokens;
        if tokens.get(consent).map(Vec::as_slice) != followed {
            return Err(Unavailable::Changed);
        }
        match token {
            Some(token) => tokens.insert(consent.clone(), token.to_vec()),
            None => tokens.remove(consent),
        };
        Ok(())
    }

    async fn tokens_unwritable_since(&self) -> Result<Option<u32>, Unavailable> {
        Ok(None)
    }

    async fn notices(&self) -> Result<Vec<(String, Vec<u8>)>, Unavailable> {
        Ok(self.records().notices.clone().into_iter().collect())
    }

    async fn set_notice(&self, name: &str, followed: Option<&[u8]>, notice: Option<&[u8]>) -> Result<(), Unavailable> {
        let notices = &mut self.records().notices;
        let kept = notices.get(name).map(Vec::as_slice);
        if kept != followed && kept != notice {
            return Err(Unavailable::Changed);
        }
        match notice {
            Some(notice) => notices.insert(name.to_owned(), notice.to_vec()),
            None => notices.remove(name),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailbox(user: u32) -> MailboxName {
        MailboxName {
            upstream: "home".into(),
            user: user.to_string(),
            folder: "INBOX".into(),
        }
    }

    fn index(count: u32) -> Arc<Index> {
        Arc::new(Index {
            uid_validity: 1,
            entries: (1..=count).map(|uid| (uid, 1_000)).collect(),
            ..Index::default()
        })
    }

    #[tokio::test]
    async fn the_last_index_set_is_the_one_known() {
        let store = MemoryStore::default();
        assert_eq!(store.index(&mailbox(1)).await, None);
        store.set_index(&mailbox(1), index(3)).await;
        store.set_index(&mailbox(2), index(4)).await;
        store.set_index(&mailbox(1), index(5)).await;
        assert_eq!(store.index(&mailbox(1)).await, Some(index(5)));
        assert_eq!(store.index(&mailbox(2)).await, Some(index(4)));
    }

    #[tokio::test]
    async fn memory_stays_bounded() {
        let store = MemoryStore::default();
        let megabytes = index(500_000); // 1.2 MB, which all users share: the test is about the weight
        for user in 0..100 {
            store.set_index(&mailbox(user), megabytes.clone()).await;
        }
        store.indexes.run_pending_tasks();
        assert!(store.indexes.weighted_size() <= CAPACITY);
        assert!(
            store.indexes.entry_count() >= 40,
            "{} kept",
            store.indexes.entry_count()
        );
    }
}
