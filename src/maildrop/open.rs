//! From an account to an open maildrop; and again to its mailbox when the connection was lost.

use std::{collections::HashMap, sync::Arc};

use tokio_util::task::TaskTracker;

use super::{Error, Listing, Maildrop, Reason, ahead::Ahead, lock::Locks};
use crate::{
    accounts::{Account, Credential},
    config::{Config, Upstream},
    imap::{self, Connection, Connector, Uid},
    tls,
};

/// Opens maildrops: holds what they share.
#[derive(Debug)]
pub struct Maildrops {
    connectors: HashMap<String, Arc<Connector>>,
    locks: Locks,
    /// Octets read ahead per session.
    read_ahead: u64,
    /// What sessions leave to be finished behind them.
    tasks: TaskTracker,
}

impl Maildrops {
    /// For the upstreams of `config`. Errors name the `ca_file` at fault.
    pub fn new(config: &Config) -> Result<Self, tls::Error> {
        let connector = |upstream: &Arc<Upstream>| {
            let connector = Connector::new(upstream, config.limits.upstream)?;
            Ok((upstream.name.clone(), Arc::new(connector)))
        };
        let connectors = config.upstreams.iter().map(connector).collect::<Result<_, _>>()?;
        Ok(Self {
            connectors,
            locks: Locks::default(),
            read_ahead: config.limits.read_ahead,
            tasks: TaskTracker::new(),
        })
    }

    /// Waits until everything that sessions left behind is finished; to be called when no session is left.
    pub async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Connects to `upstream` up to its greeting, and TLS, without logging in.
    pub async fn probe(&self, upstream: &Upstream) -> Result<(), Error> {
        let connector = self.connector(&upstream.name)?;
        connector
            .probe()
            .await
            .map_err(|error| reported(&upstream.name, "", &error))
    }

    /// Logs in upstream, takes the lock, selects and lists. RFC 1939 §4: only after this may PASS say +OK.
    pub async fn open(&self, account: &Account) -> Result<Maildrop, Error> {
        let connector = self.connector(&account.upstream.name)?;
        let connection = log_in(&connector, account).await?;
        // Not before the login: who does not know the password must not learn that the maildrop is in use.
        let lock = self.locks.acquire(account).ok_or(Error::InUse)?;
        let selected = connection.select(&account.policy.folder, Some(Uid(1))).await;
        let (mailbox, listed) = selected.map_err(|error| report(account, &error))?;
        if mailbox.selected().uid_not_sticky {
            tracing::warn!(
                upstream = account.upstream.name,
                user = account.user,
                "UIDNOTSTICKY: unique-ids will change"
            );
        }
        let mut entries = listed.sizes;
        if !listed.deleted.is_empty() {
            entries.retain(|(uid, _)| listed.deleted.binary_search(uid).is_err());
        }
        let listing = Listing::new(mailbox.selected().uid_validity, entries);
        Ok(Maildrop {
            account: account.clone(),
            connector,
            mailbox,
            listing,
            ahead: Ahead::new(self.read_ahead, 0),
            retrieved: Vec::new(),
            tasks: self.tasks.clone(),
            lock: Some(lock),
        })
    }

    fn connector(&self, upstream: &str) -> Result<Arc<Connector>, Error> {
        self.connectors
            .get(upstream)
            .cloned()
            .ok_or(Error::Unavailable(Reason::Refused))
    }
}

impl Maildrop {
    /// Makes sure that there is a connection, a new one if the last was lost; returns whether it is new.
    /// After that UIDs are worth nothing unless UIDVALIDITY is what it was (RFC 3501 §2.3.1.1).
    pub(super) async fn reconnect_if_lost(&mut self) -> Result<bool, Error> {
        if !self.mailbox.is_broken() {
            return Ok(false);
        }
        let connection = log_in(&self.connector, &self.account).await?;
        let selected = connection.select(&self.account.policy.folder, None).await;
        let (mailbox, _) = selected.map_err(|error| report(&self.account, &error))?;
        let selected = mailbox.selected();
        if selected.uid_validity != self.listing.uid_validity() || selected.uid_not_sticky {
            tracing::warn!(
                upstream = self.account.upstream.name,
                user = self.account.user,
                "UIDVALIDITY changed"
            );
            return Err(Error::Unavailable(Reason::Replaced));
        }
        self.mailbox = mailbox;
        self.ahead.clear();
        Ok(true)
    }
}

async fn log_in(connector: &Connector, account: &Account) -> Result<Connection, Error> {
    let Credential::Password(password) = &account.credential;
    connector
        .login(&account.user, password)
        .await
        .map_err(|error| report(account, &error))
}

/// Writes an upstream's failure to the log, and turns it into what a device is told.
pub(super) fn report(account: &Account, error: &imap::Error) -> Error {
    reported(&account.upstream.name, &account.user, error)
}

fn reported(upstream: &str, user: &str, error: &imap::Error) -> Error {
    tracing::warn!(upstream, user, %error, "upstream");
    Error::from(error)
}
