//! From an account to an open maildrop; and again to its mailbox when the connection was lost.

use std::{collections::HashMap, sync::Arc};

use tokio_util::task::TaskTracker;

use super::{
    Error, Listing, Maildrop, Reason,
    ahead::Ahead,
    lock::{Lock, Locks},
    sync::{View, catch_up, unknown_from},
};
use crate::{
    accounts::{Account, Credential},
    config::{Config, Upstream},
    imap::{self, Connection, Connector, Mailbox, Pool, Resync, Slot, Uid, UserKey},
    state::{self, Index, MailboxName, StateStore},
    tls,
};

/// Opens maildrops: holds what they share.
#[derive(Debug)]
pub struct Maildrops {
    connectors: HashMap<String, Arc<Connector>>,
    locks: Locks,
    shared: Arc<Shared>,
    /// Octets read ahead per session.
    read_ahead: u64,
}

/// What a maildrop needs beyond its own upstream.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) pool: Arc<Pool<View>>,
    pub(super) state: Arc<dyn StateStore>,
    /// What sessions leave to be finished behind them.
    pub(super) tasks: TaskTracker,
}

/// Why maildrops cannot be opened at all.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A `ca_file`.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// `[state] dir`
    #[error(transparent)]
    State(#[from] state::Error),
    /// No random numbers.
    #[error(transparent)]
    Random(#[from] imap::RandomUnavailable),
}

impl Maildrops {
    /// For the upstreams of `config`. Errors name the file or directory at fault.
    pub fn new(config: &Config) -> Result<Self, SetupError> {
        let connector = |upstream: &Arc<Upstream>| {
            let connector = Connector::new(upstream, config.limits.upstream)?;
            Ok((upstream.name.clone(), Arc::new(connector)))
        };
        let connectors = config
            .upstreams
            .iter()
            .map(connector)
            .collect::<Result<_, tls::Error>>()?;
        let shared = Shared {
            pool: Pool::new(config.limits.parked)?,
            state: state::open(&config.state)?,
            tasks: TaskTracker::new(),
        };
        let (locks, shared) = (Locks::default(), Arc::new(shared));
        Ok(Self {
            connectors,
            locks,
            shared,
            read_ahead: config.limits.read_ahead,
        })
    }

    /// Waits until everything that sessions left behind is finished; to be called when no session is left.
    pub async fn finish(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
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
        let Credential::Password(secret) = &account.credential;
        let user = UserKey {
            upstream: account.upstream.name.clone(),
            user: account.user.clone(),
        };
        let pool = &self.shared.pool;
        let parked = pool.take(&user, &account.login, &account.policy.folders[0], secret);
        if let Some((slot, mut mailbox, view)) = parked {
            let Some(lock) = self.locks.acquire(&name(account)) else {
                pool.park(slot, &account.login, &account.policy.folders[0], mailbox, view);
                return Err(Error::InUse);
            };
            match refreshed(&mut mailbox, view.clone()).await {
                Ok(now) => return self.maildrop(account, slot, lock, mailbox, now, Some(&view.index)),
                // It died while it waited: nobody needs to know.
                Err(error) => tracing::debug!(%error, "a parked connection is gone"),
            }
        }
        let slot = pool.reserve(&user, account.upstream.connections_per_user, secret);
        let slot = slot.ok_or(Error::Unavailable(Reason::TooManyConnections))?;
        let connection = log_in(&connector, account).await?;
        pool.forget(&user, &account.login);
        // Not before the login: who does not know the password must not learn that the maildrop is in use. Not after the
        // listing: it would show what the other session removes meanwhile.
        let lock = self.locks.acquire(&name(account)).ok_or(Error::InUse)?;
        let known = self.shared.state.index(&name(account)).await;
        let opened = opened(connection, &account.policy.folders[0], known.clone()).await;
        let (mailbox, view) = opened.map_err(|error| report(account, &error))?;
        self.maildrop(account, slot, lock, mailbox, view, known.as_ref())
    }

    /// Puts the parts together; `known` is what state holds of it.
    fn maildrop(
        &self,
        account: &Account,
        slot: Slot<View>,
        lock: Lock,
        mailbox: Mailbox,
        view: View,
        known: Option<&Arc<Index>>,
    ) -> Result<Maildrop, Error> {
        let row = view.index.row as usize;
        Ok(Maildrop {
            account: account.clone(),
            connector: self.connector(&account.upstream.name)?,
            mailbox,
            listing: Listing::new(view.index.clone(), &view.hidden),
            ahead: Ahead::new(self.read_ahead, row),
            retrieved: Vec::new(),
            learned: Vec::new(),
            is_saved: known.is_some_and(|known| is_same(known, &view.index)),
            view,
            slot,
            shared: self.shared.clone(),
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

/// What state calls the mailbox of `account`.
pub(super) fn name(account: &Account) -> MailboxName {
    MailboxName {
        upstream: account.upstream.name.clone(),
        user: account.user.clone(),
        folder: account.policy.folders[0].clone(),
    }
}

/// Selects the folder of a new connection, and brings what is known of it up to date.
async fn opened(
    connection: Connection,
    folder: &str,
    known: Option<Arc<Index>>,
) -> Result<(Mailbox, View), imap::Error> {
    let from = known.as_deref().map_or(Uid(1), unknown_from);
    let resync = known.as_deref().filter(|known| known.modseq > 0);
    let resync = resync.map(
        |&Index {
             uid_validity, modseq, ..
         }| Resync { uid_validity, modseq },
    );
    let (mut mailbox, mut listed) = connection.select(folder, from, resync).await?;
    let selected = mailbox.selected();
    let uid_validity = selected.uid_validity.0.get();
    let known = match known {
        Some(known) if known.uid_validity == uid_validity && !selected.uid_not_sticky => known,
        _ => {
            if selected.uid_not_sticky {
                tracing::warn!(folder, "UIDNOTSTICKY: unique-ids change with each session");
            }
            mailbox.clear_news();
            if from.0 > 1 {
                listed = mailbox.list(Uid(1)).await?;
            }
            Arc::new(Index {
                uid_validity,
                modseq: 0,
                row: 0,
                entries: Vec::new(),
            })
        }
    };
    let (index, hidden) = catch_up(&mut mailbox, known, listed).await?;
    let modseq = selected.modseq.unwrap_or(0);
    Ok((mailbox, View { index, hidden, modseq }))
}

/// One NOOP makes the view of a connection that waited exact; only if something has changed is more asked.
async fn refreshed(mailbox: &mut Mailbox, view: View) -> Result<View, imap::Error> {
    mailbox.noop().await?;
    let news = mailbox.news();
    if news.expunged == 0 && !news.flags && mailbox.exists() == view.index.entries.len() {
        return Ok(view);
    }
    let listed = mailbox.list(unknown_from(&view.index)).await?;
    let (index, hidden) = catch_up(mailbox, view.index, listed).await?;
    Ok(View {
        index,
        hidden,
        modseq: view.modseq,
    })
}

impl Maildrop {
    /// Makes sure that there is a connection, a new one if the last was lost; returns whether it is new.
    /// After that UIDs are worth nothing unless UIDVALIDITY is what it was (RFC 3501 §2.3.1.1).
    pub(super) async fn reconnect_if_lost(&mut self) -> Result<bool, Error> {
        if !self.mailbox.is_broken() {
            return Ok(false);
        }
        // On the heap: a session that waits for its device does not hold what only a lost connection needs.
        Box::pin(self.reconnect()).await?;
        Ok(true)
    }

    /// What the session shows stays; what is left for the next is brought up to date, for it must suit the connection.
    async fn reconnect(&mut self) -> Result<(), Error> {
        let connection = log_in(&self.connector, &self.account).await?;
        let known = self.view.index.clone();
        let opened = opened(connection, &self.account.policy.folders[0], Some(known.clone())).await;
        let (mailbox, view) = opened.map_err(|error| report(&self.account, &error))?;
        if view.index.uid_validity != self.listing.uid_validity() || mailbox.selected().uid_not_sticky {
            tracing::warn!(
                upstream = self.account.upstream.name,
                user = self.account.user,
                "UIDVALIDITY changed"
            );
            return Err(Error::Unavailable(Reason::Replaced));
        }
        self.is_saved &= is_same(&known, &view.index);
        self.mailbox = mailbox;
        self.view = view;
        self.ahead.clear();
        Ok(())
    }
}

fn is_same(a: &Arc<Index>, b: &Arc<Index>) -> bool {
    Arc::ptr_eq(a, b) || a == b
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
