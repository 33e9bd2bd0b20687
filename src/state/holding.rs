//! Which session holds a maildrop, as a store is told, and what a store answers.

use std::{fmt, sync::Arc};

use super::{Index, Kept, MailboxName};

/// A session that holds a maildrop, or asks for it (RFC 1939 §4: the exclusive-access lock).
#[derive(Clone, PartialEq, Eq)]
pub struct Holding {
    /// The folder.
    pub mailbox: Arc<MailboxName>,
    /// Who has logged in. No other session of this login holds the mailbox at the same time.
    pub login: String,
    /// Whether other logins may hold the mailbox at the same time, because this one has a view of its own (`hide`).
    pub is_private: bool,
    /// Random: by it a store tells this session from all others, whatever process they are in.
    pub name: [u8; 16],
}

impl fmt::Debug for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Holding({} of {})", self.mailbox, self.login)
    }
}

/// SHA-1, in hexadecimal digits, of the records of a mailbox that a session knows: enough where these are only compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptDigest(pub Box<[u8; 40]>);

/// What a store answers to a session that asks for a maildrop.
#[derive(Debug)]
pub enum Entered {
    /// Another session holds it.
    Busy,
    /// It is held now. The records are what the session knows, or the store tells them when it is asked.
    Same,
    /// It is held now, and these are the records.
    New(Box<Welcome>),
}

/// What a session finds that takes a maildrop.
#[derive(Debug)]
pub struct Welcome {
    /// The records, with the marks of the login.
    pub kept: Kept,
    /// What is known of the messages.
    pub index: KnownIndex,
}

/// What a store tells of an index without being asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KnownIndex {
    /// Nothing is kept, or what is kept is damaged.
    None,
    /// All of it.
    Whole(Arc<Index>),
    /// There is one, which is large: it is to be asked for if it is needed.
    Large,
}

/// What has become of a holding whose lease was to be renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewed {
    /// The lease has been renewed.
    Held,
    /// Nobody holds the maildrop: the lease has ended, or the store has forgotten it. It may be taken again.
    Free,
    /// Another session holds it.
    Lost,
    /// The store could not be asked (logged).
    Unknown,
}
