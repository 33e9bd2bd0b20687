//! What outlives a session.

use std::sync::Arc;

use async_trait::async_trait;

/// Which mailbox: names as configured.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MailboxName {
    /// `[upstream.NAME]`
    pub upstream: String,
    /// The user there.
    pub user: String,
    /// The folder.
    pub folder: String,
}

/// What is remembered of a mailbox between sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// While it stays, UIDs mean the same messages.
    pub uid_validity: u32,
    /// Messages that the last session fetched in a row.
    pub row: u32,
    /// UID and octets, strictly ascending by UID; 8 bytes a message.
    pub entries: Vec<(u32, u32)>,
}

/// Keeps state.
#[async_trait]
pub trait StateStore: Send + Sync + std::fmt::Debug {
    /// What is known of `mailbox`.
    async fn index(&self, mailbox: &MailboxName) -> Option<Arc<Index>>;
    /// Remembers `index`.
    async fn set_index(&self, mailbox: &MailboxName, index: Arc<Index>);
}
/// stand-in
#[derive(Debug, thiserror::Error)]
#[error("state")]
pub struct Error;
#[derive(Debug, Default)]
struct Memory(dashmap::DashMap<MailboxName, Arc<Index>>);
#[async_trait]
impl StateStore for Memory {
    async fn index(&self, mailbox: &MailboxName) -> Option<Arc<Index>> {
        self.0.get(mailbox).map(|i| i.clone())
    }
    async fn set_index(&self, mailbox: &MailboxName, index: Arc<Index>) {
        self.0.insert(mailbox.clone(), index);
    }
}
/// stand-in
pub fn open(_: &crate::config::State) -> Result<Arc<dyn StateStore>, Error> {
    Ok(Arc::new(Memory::default()))
}
