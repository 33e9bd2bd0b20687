//! Message numbers and octets, as POP3 counts them, and the names of mailboxes.

use std::{fmt, num::NonZeroU32};

use serde::{Deserialize, Serialize};

/// A message number as a device gives it, from 1 (RFC 1939 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageNumber(pub NonZeroU32);

impl MessageNumber {
    /// The number of the message at `index` in the listing, counted from 0; `None` if POP3 has no number for it.
    pub fn of_index(index: usize) -> Option<Self> {
        u32::try_from(index + 1).ok().and_then(NonZeroU32::new).map(Self)
    }

    /// The index in the listing, counted from 0.
    pub fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// A size as POP3 counts it: CRLF line ends, before dot-stuffing (RFC 1939 §11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Octets(pub u64);

/// The name of a mailbox; all three parts are as configured.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MailboxName {
    /// The upstream's name, as in `[upstream.NAME]`.
    pub upstream: String,
    /// The user as whom popgate logs in there.
    pub user: String,
    /// The name of the folder, in UTF-8.
    pub folder: String,
}

impl fmt::Display for MailboxName {
    /// `UPSTREAM/USER/FOLDER`, for the log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.upstream, self.user, self.folder)
    }
}
