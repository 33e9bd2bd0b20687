//! From an account to an open maildrop.

use std::{collections::HashMap, sync::Arc};

use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::{
    Error, Listing, Maildrop, Reason,
    ahead::Ahead,
    budget::Budget,
    lock::{Key, Lock, Locks},
    notice::Notices,
    recognition::recognised,
    selection::select,
    source::{Source, is_same, log_in, login_of, report},
    sync::{View, opened, refreshed},
    uidl::Names,
    undelivered::Undelivered,
};
use crate::{
    accounts::Account,
    config::{Credential, MaildropOptions, OnDelete, Upstream},
    imap::{self, Connector, Mailbox, NoSlot, Pool, Slot, Standing, UserKey},
    oauth::Tokens,
    proofs::RandomUnavailable,
    state::{Index, MailboxName, Marks, StateStore, now},
    tls,
};

/// Opens maildrops: holds what they share.
#[derive(Debug)]
pub struct Maildrops {
    connectors: HashMap<String, Arc<Connector>>,
    locks: Locks,
    pub(super) shared: Arc<Shared>,
    /// Octets read ahead per session.
    read_ahead: u64,
    /// Those of all sessions.
    budget: Arc<Budget>,
}

/// What a maildrop needs beyond its own upstream.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) pool: Arc<Pool<View>>,
    pub(super) state: Arc<dyn StateStore>,
    pub(super) undelivered: Undelivered,
    /// What sessions leave to be finished behind them.
    pub(super) tasks: TaskTracker,
}

/// Why maildrops cannot be opened at all.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A `ca_file`.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// No random numbers.
    #[error(transparent)]
    Random(#[from] RandomUnavailable),
}

impl Maildrops {
    /// For the upstreams of `options`, with what `state` remembers and the `tokens` that they take. Errors name the file at
    /// fault.
    pub fn new(
        options: impl Into<MaildropOptions>,
        state: Arc<dyn StateStore>,
        tokens: Arc<Tokens>,
    ) -> Result<Self, SetupError> {
        let options = options.into();
        let connector = |upstream: &Arc<Upstream>| {
            let connector = Connector::new(upstream, options.silence, tokens.clone())?;
            Ok((upstream.name.clone(), Arc::new(connector)))
        };
        let connectors = options
            .upstreams
            .iter()
            .map(connector)
            .collect::<Result<_, tls::Error>>()?;
        let shared = Shared {
            pool: Pool::new(options.parked)?,
            state,
            undelivered: Undelivered::default(),
            tasks: TaskTracker::new(),
        };
        let (locks, shared) = (Locks::default(), Arc::new(shared));
        Ok(Self {
            connectors,
            locks,
            shared,
            read_ahead: options.read_ahead,
            budget: Budget::new(options.read_ahead),
        })
    }

    /// With state in memory, for tests that need none.
    #[cfg(test)]
    pub(crate) fn in_memory(config: &crate::config::Config) -> Self {
        let state = Arc::new(crate::state::MemoryStore::default());
        let tokens = Tokens::new(config, state.clone()).unwrap();
        Self::new(config, state, tokens).unwrap()
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

    /// Whether the upstream of this name takes OAuth2 tokens, as far as is known.
    pub fn takes_tokens(&self, upstream: &str) -> bool {
        self.connectors
            .get(upstream)
            .is_some_and(|connector| connector.takes_tokens())
    }

    /// Logs in upstream, takes the lock, selects and lists. RFC 1939 §4: only after this may PASS say +OK.
    pub async fn open(&self, account: &Account) -> Result<Maildrop, Error> {
        let now = now();
        let mut sources = self.sources(account).await?;
        match prepare(&mut sources, now).await {
            Ok((listing, notices)) => {
                let names = Names::new(&account.policy, &sources);
                Ok(Maildrop {
                    sources,
                    listing,
                    names,
                    notices,
                })
            }
            Err(error) => {
                leave_all(sources).await;
                Err(error)
            }
        }
    }

    /// Every folder of `account`, opened; none is left behind where one fails.
    pub(super) async fn sources(&self, account: &Account) -> Result<Vec<Source>, Error> {
        let account = Arc::new(account.clone());
        let mut sources = Vec::with_capacity(account.policy.folders.len());
        for (number, folder) in (0..).zip(&account.policy.folders) {
            match self.source(&account, number, folder).await {
                Ok(source) => sources.push(source),
                Err(error) => {
                    leave_all(sources).await;
                    return Err(error);
                }
            }
        }
        Ok(sources)
    }

    async fn source(&self, account: &Arc<Account>, number: u16, folder: &str) -> Result<Source, Error> {
        let connector = self.connector(&account.upstream.name)?;
        let of_consent;
        let secret = match &account.credential {
            Credential::Password(secret) | Credential::Token(secret) => secret,
            // The device's own password was verified here already; a parked connection is of this consent.
            Credential::OAuth2 { consent } => {
                of_consent = consent.as_str().into();
                &of_consent
            }
        };
        let name = name_of(account, folder);
        let user = UserKey::new(&account.upstream.name, &account.user);
        let Shared { pool, state, .. } = &*self.shared;
        if let Some((slot, mut mailbox, view)) = pool.take(&user, &account.login, folder, secret) {
            let Some(lock) = self.lock(account, &name) else {
                pool.park(slot, &account.login, folder, mailbox, view);
                return Err(Error::InUse);
            };
            match refreshed(&mut mailbox, &account.policy, view.clone()).await {
                Ok(now) => {
                    let known = Some(view.index);
                    return Ok(self.joined(account, connector, number, name, (slot, lock, mailbox, now, known)));
                }
                // It died while it waited: nobody needs to know.
                Err(error) => {
                    connector.note_failure(&account.user, Standing::Proven, &error);
                    tracing::debug!(%error, "a parked connection is gone");
                }
            }
        }
        let limit = account.upstream.connections_per_user;
        let slot = pool.reserve(&user, limit, secret, account.is_forwarded).await;
        let mut slot = slot.map_err(|refusal| match refusal {
            NoSlot::Full => Error::Unavailable(Reason::TooManyConnections),
            NoSlot::Refused => Error::Denied,
        })?;
        let login = log_in(&connector, account, slot.standing());
        let connection = match slot.unless_cut(login).await {
            Some(Ok(connection)) => connection,
            Some(Err(error)) => {
                if error == Error::Denied {
                    slot.refuse();
                }
                return Err(error);
            }
            None => return Err(Error::Unavailable(Reason::TooManyConnections)),
        };
        slot.prove();
        pool.forget(&user, &account.login, folder);
        // Not before the login: who does not know the password must not learn that the maildrop is in use. Not after the
        // listing: it would show what the other session removes meanwhile.
        let lock = self.lock(account, &name).ok_or(Error::InUse)?;
        let known = state.index(&name).await;
        let login = login_of(&connector, account, slot.standing());
        let opened = opened(connection, login, &account.policy, folder, known.clone()).await;
        let (mut mailbox, index, hidden) = opened.map_err(|error| {
            connector.note_failure(&account.user, slot.standing(), &error);
            report(account, &error)
        })?;
        connector.note_success(&account.user);
        let earlier = recognised(&mut mailbox, &index, &name, &account.policy.uidl, &**state)
            .await
            .map_err(|error| error.told(account))?;
        let view = View {
            index,
            hidden,
            modseq: mailbox.selected().modseq.unwrap_or(0),
            earlier,
            is_unmarked: false,
            target: None,
            checked: Instant::now(),
        };
        Ok(self.joined(account, connector, number, name, (slot, lock, mailbox, view, known)))
    }

    /// Puts the parts together; the last is what state holds of the index.
    fn joined(
        &self,
        account: &Arc<Account>,
        connector: Arc<Connector>,
        number: u16,
        name: MailboxName,
        (slot, lock, mailbox, view, known): (Slot<View>, Lock, Mailbox, View, Option<Arc<Index>>),
    ) -> Source {
        let row = view.index.row as usize;
        Source {
            account: account.clone(),
            name,
            number,
            connector,
            mailbox,
            ahead: Ahead::new(self.read_ahead, row, self.budget.share()),
            sends_text_first: false,
            retrieved: Vec::new(),
            received: 0,
            undelivered: Vec::new(),
            learned: Vec::new(),
            is_saved: known.is_some_and(|known| is_same(&known, &view.index)),
            view,
            marks: Marks::default(),
            marks_followed: 0,
            slot,
            shared: self.shared.clone(),
            lock: Some(lock),
        }
    }

    /// `None` while another session holds the maildrop. Where a login's deletes only hide, its maildrop is its own.
    fn lock(&self, account: &Account, name: &MailboxName) -> Option<Lock> {
        let login = (account.policy.on_delete == OnDelete::Hide).then(|| account.login.clone());
        self.locks.acquire(Key {
            mailbox: name.clone(),
            login,
        })
    }

    fn connector(&self, upstream: &str) -> Result<Arc<Connector>, Error> {
        self.connectors
            .get(upstream)
            .cloned()
            .ok_or(Error::Unavailable(Reason::Refused))
    }
}

/// From what the mailboxes hold to what the login is to see now (seconds since 1970).
async fn prepare(sources: &mut [Source], now: u32) -> Result<(Listing, Notices), Error> {
    for source in &mut *sources {
        source.load_marks().await?;
        if let Err(trouble) = source.finish_move().await {
            // The messages are here still, and a QUIT that deletes them tries it again.
            let error = trouble.told(&source.account);
            tracing::warn!(mailbox = %source.name, %error, "a move that was interrupted is not finished");
        }
        source.retire(now).await;
        source.reconnect_if_lost().await?;
        let imported = source.import().await;
        imported.map_err(|trouble| trouble.told(&source.account))?;
    }
    select(sources, now).await
}

pub(super) async fn leave_all(sources: Vec<Source>) {
    for source in sources {
        source.leave().await;
    }
}

/// What state calls a folder of `account`.
pub(super) fn name_of(account: &Account, folder: &str) -> MailboxName {
    MailboxName {
        upstream: account.upstream.name.clone(),
        user: account.user.clone(),
        folder: folder.to_owned(),
    }
}

/// State can't be read or written (which it logs).
pub(super) const STATE: Error = Error::Unavailable(Reason::State);

/// Writes an upstream's failure to the log, and turns it into what a device is told.
pub(super) fn reported(upstream: &str, user: &str, error: &imap::Error) -> Error {
    tracing::warn!(upstream, user, %error, "upstream");
    Error::from(error)
}
