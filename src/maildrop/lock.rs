//! One session a maildrop (RFC 1939 §4: the exclusive-access lock).

use std::sync::Arc;

use dashmap::DashSet;

use crate::state::MailboxName;

/// The mailboxes that sessions hold: two logins that lead to the same folder of the same user share it.
#[derive(Debug, Clone, Default)]
pub struct Locks(Arc<DashSet<MailboxName>>);

/// Held while it lives.
#[derive(Debug)]
pub struct Lock {
    locks: Locks,
    mailbox: MailboxName,
}

impl Locks {
    /// `None` while another session holds the mailbox.
    pub fn acquire(&self, mailbox: &MailboxName) -> Option<Lock> {
        self.0.insert(mailbox.clone()).then(|| Lock {
            locks: self.clone(),
            mailbox: mailbox.clone(),
        })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.locks.0.remove(&self.mailbox);
    }
}
