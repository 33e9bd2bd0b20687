//! Which session holds a maildrop, as the store sees it, and how the store answers.

use std::{fmt, sync::Arc};

use super::{Index, Kept, MailboxName};

/// A session that holds a maildrop, or asks for it (RFC 1939 §4: the exclusive-access lock).
#[derive(Clone, PartialEq, Eq)]
pub struct Holding {
    /// The mailbox.
    pub mailbox: Arc<MailboxName>,
    /// The login of the session. No other session of this login holds the mailbox at the same time.
    pub login: String,
    /// Whether other logins may hold the mailbox at the same time, because this login hides messages for itself only
    /// (`hide`).
    pub is_private: bool,
    /// A random name, by which the store distinguishes this session from all others, in any process.
    pub name: [u8; 16],
}

impl fmt::Debug for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Holding({} of {})", self.mailbox, self.login)
    }
}

/// SHA-1 of the records of a mailbox that a session knows. It serves only to compare them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptDigest(pub Box<[u8; 20]>);

/// The answer of a store to a session that asks for a maildrop.
#[derive(Debug)]
pub enum Entered {
    /// Another session holds it.
    Busy,
    /// The session holds the maildrop now. The session knows the records already, or the store does not compare digests
    /// and the session reads the records when it needs them.
    Same,
    /// The session holds the maildrop now, and these are the records.
    New(Box<Welcome>),
}

/// What a session gets with a maildrop that it takes.
#[derive(Debug)]
pub struct Welcome {
    /// The records, with the marks of the login.
    pub kept: Kept,
    /// The index of the mailbox.
    pub index: KnownIndex,
}

/// What a store says about the index when a session takes the maildrop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KnownIndex {
    /// There is no index, or it is damaged.
    None,
    /// The whole index.
    Whole(Arc<Index>),
    /// There is an index, but it is large: ask for it if it is needed.
    Large,
}

/// The result of renewing the lease of a holding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewed {
    /// The lease has been renewed.
    Held,
    /// Nobody holds the maildrop: the lease has ended, or the store has lost it. The session may take it again.
    Free,
    /// Another session holds it.
    Lost,
    /// The store could not be asked (logged).
    Unknown,
}
