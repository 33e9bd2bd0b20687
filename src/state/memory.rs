//! State in memory: gone when the gateway ends.

use std::sync::Arc;

use async_trait::async_trait;
use moka::sync::Cache;

use super::{Index, MailboxName, StateStore};

/// Bytes that all indexes together may take: eight million messages. What has not been used for longest goes first.
const CAPACITY: u64 = 64 * 1024 * 1024;
/// What the cache itself spends on an entry, roughly.
const OVERHEAD: usize = 256;

/// Indexes in memory, bounded in size.
#[derive(Debug)]
pub struct MemoryStore {
    indexes: Cache<MailboxName, Arc<Index>>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self {
            indexes: Cache::builder().max_capacity(CAPACITY).weigher(weight).build(),
        }
    }
}

/// Bytes that an entry holds.
fn weight(mailbox: &MailboxName, index: &Arc<Index>) -> u32 {
    let names = mailbox.upstream.len() + mailbox.user.len() + mailbox.folder.len();
    let entries = index.entries.capacity() * size_of::<(u32, u32)>();
    u32::try_from(OVERHEAD + names + entries).unwrap_or(u32::MAX)
}

#[async_trait]
impl StateStore for MemoryStore {
    async fn index(&self, mailbox: &MailboxName) -> Option<Arc<Index>> {
        self.indexes.get(mailbox)
    }

    async fn set_index(&self, mailbox: &MailboxName, index: Arc<Index>) {
        self.indexes.insert(mailbox.clone(), index);
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
            modseq: 0,
            row: 0,
            entries: (1..=count).map(|uid| (uid, 1_000)).collect(),
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
