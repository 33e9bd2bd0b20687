//! State in memory: gone when the gateway ends.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use moka::sync::Cache;
use serde::Serialize;

use super::{
    Consent, Index, MailboxName, Marked, Marks, Past, PendingMove, Renumbered, StateStore, Unavailable, envelope,
    part::{Kind, PORTION, Part, Parts},
    records::{Renumbering, may_follow, refuse},
    table::Key,
};

/// Bytes that all indexes together may take: eight million messages. What has not been used for longest goes first.
const CAPACITY: u64 = 64 * 1024 * 1024;
/// What the cache itself spends on an entry, roughly.
const OVERHEAD: usize = 256;

/// State in memory: indexes bounded in size, all else by what exists upstream.
#[derive(Debug)]
pub struct MemoryStore {
    indexes: Cache<MailboxName, Arc<Index>>,
    records: Mutex<Records>,
}

#[derive(Debug, Default)]
struct Records {
    /// By mailbox, then login.
    marks: BTreeMap<MailboxName, BTreeMap<String, Marks>>,
    past: BTreeMap<MailboxName, Past>,
    moves: BTreeMap<MailboxName, PendingMove>,
    tokens: BTreeMap<Consent, Vec<u8>>,
    notices: BTreeMap<String, Vec<u8>>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self {
            indexes: Cache::builder().max_capacity(CAPACITY).weigher(weight).build(),
            records: Mutex::default(),
        }
    }
}

/// Bytes that an entry holds.
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

    /// The parts of all records.
    fn all(&self) -> Vec<Part> {
        let mut all = Vec::new();
        for (mailbox, index) in &self.indexes {
            let record = index.encode(&mailbox).unwrap_or_default();
            all.extend(Key::of(Kind::Index, &mailbox).parts(&record));
        }
        let records = self.records();
        for (mailbox, logins) in &records.marks {
            for (login, marks) in logins {
                all.extend(sealed(Key::marks(login, mailbox), marks));
            }
        }
        for (mailbox, past) in &records.past {
            all.extend(sealed(Key::of(Kind::Past, mailbox), past));
        }
        for (mailbox, pending) in &records.moves {
            all.extend(sealed(Key::of(Kind::Move, mailbox), pending));
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

/// The parts of `record`, as a file has them.
fn sealed<T: Serialize>(key: Key<'_>, record: &T) -> Vec<Part> {
    key.parts(&envelope::seal(&key.names(), record)).collect()
}

#[async_trait]
impl StateStore for MemoryStore {
    async fn index(&self, mailbox: &MailboxName) -> Option<Arc<Index>> {
        self.indexes.get(mailbox)
    }

    async fn set_index(&self, mailbox: &MailboxName, index: Arc<Index>) {
        {
            let mut records = self.records();
            if let Some(past) = records.past.get_mut(mailbox) {
                past.prune(&index);
            }
            let logins = records.marks.get_mut(mailbox);
            for marks in logins.into_iter().flat_map(BTreeMap::values_mut) {
                marks.prune(&index);
            }
        }
        self.indexes.insert(mailbox.clone(), index);
    }

    async fn marks(&self, login: &str, mailbox: &MailboxName) -> Result<Marks, Unavailable> {
        let records = self.records();
        let marks = records.marks.get(mailbox).and_then(|logins| logins.get(login));
        Ok(marks.cloned().unwrap_or_default())
    }

    async fn set_marks(
        &self,
        login: &str,
        mailbox: &MailboxName,
        marks: &Marks,
        followed: u64,
    ) -> Result<(), Unavailable> {
        let mut records = self.records();
        let kept = records.marks.get(mailbox).and_then(|logins| logins.get(login));
        if !may_follow(kept, followed) {
            return Err(refuse(login, mailbox));
        }
        let logins = records.marks.entry(mailbox.clone()).or_default();
        logins.insert(login.to_owned(), marks.clone());
        Ok(())
    }

    async fn all_marks(&self) -> Result<Vec<Marked>, Unavailable> {
        let records = self.records();
        let all = records.marks.iter().flat_map(|(mailbox, logins)| {
            let one = move |(login, marks): (&String, &Marks)| (login.clone(), mailbox.clone(), Ok(marks.clone()));
            logins.iter().map(one)
        });
        Ok(all.collect())
    }

    async fn clear_marks(&self, login: &str, folder: Option<&str>) -> Result<usize, Unavailable> {
        let mut records = self.records();
        let mut cleared = 0;
        records.marks.retain(|mailbox, logins| {
            if folder.is_none_or(|folder| mailbox.folder == folder) && logins.remove(login).is_some() {
                cleared += 1;
            }
            !logins.is_empty()
        });
        Ok(cleared)
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

    async fn past(&self, mailbox: &MailboxName) -> Result<Past, Unavailable> {
        Ok(self.records().past.get(mailbox).cloned().unwrap_or_default())
    }

    async fn set_past(&self, mailbox: &MailboxName, past: &Past) -> Result<(), Unavailable> {
        let mut past = past.clone();
        let mut records = self.records();
        if let Some(kept) = records.past.get(mailbox)
            && !past.merge(kept)
        {
            return Err(Unavailable::Changed);
        }
        records.past.insert(mailbox.clone(), past);
        Ok(())
    }

    async fn pending_move(&self, mailbox: &MailboxName) -> Result<Option<PendingMove>, Unavailable> {
        Ok(self.records().moves.get(mailbox).cloned())
    }

    async fn set_pending_move(&self, mailbox: &MailboxName, pending: Option<&PendingMove>) -> Result<(), Unavailable> {
        let moves = &mut self.records().moves;
        match pending {
            Some(pending) => moves.insert(mailbox.clone(), pending.clone()),
            None => moves.remove(mailbox),
        };
        Ok(())
    }

    async fn renumber(
        &self,
        mailbox: &MailboxName,
        past: &Past,
        from: u64,
        uids: &Renumbered,
    ) -> Result<(), Unavailable> {
        let mut records = self.records();
        match Renumbering::of(records.past.get(mailbox), from, past.uid_validity) {
            Renumbering::Due => {}
            Renumbering::Done => return Ok(()),
            Renumbering::Late => return Err(Unavailable::Changed),
        }
        records.past.insert(mailbox.clone(), past.clone());
        records.moves.remove(mailbox);
        let logins = records.marks.get_mut(mailbox);
        for marks in logins.into_iter().flat_map(BTreeMap::values_mut) {
            if marks.uid_validity == from {
                marks.renumber(past.uid_validity, uids);
            }
        }
        Ok(())
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

    async fn set_notice(&self, name: &str, notice: Option<&[u8]>) -> Result<(), Unavailable> {
        let notices = &mut self.records().notices;
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
        let megabytes = index(500_000); // 4 MB, shared by all: only the weight matters here
        for user in 0..100 {
            store.set_index(&mailbox(user), megabytes.clone()).await;
        }
        store.indexes.run_pending_tasks();
        assert!(store.indexes.weighted_size() <= CAPACITY);
        assert!(
            store.indexes.entry_count() >= 10,
            "{} kept",
            store.indexes.entry_count()
        );
    }
}
