//! From an account to an open maildrop.

use std::{collections::HashMap, sync::Arc};

use tokio_util::task::TaskTracker;

use super::{
    Error, Listing, Maildrop, Reason, Refusal,
    budget::Budget,
    folder::HeldFolder,
    listing::Shows,
    lock::{Key, Lock, Locks},
    notice::Notices,
    own_mail::OwnMail,
    parked::Parked,
    read_ahead::ReadAhead,
    recognition::recognise,
    selection,
    shared::Shared,
    snapshot::Snapshot,
    uidl::Names,
    undelivered::Undelivered,
    upstream::{Upstream, failed, log_in, login_of},
};
use crate::{
    accounts::Account,
    config::{self, Credential, MaildropOptions, OnDelete, Policy, Secret},
    imap::{Connection, Connector, NoSlot, Pool, Slot, Standing, UserKey},
    notify,
    oauth::Tokens,
    proofs::RandomUnavailable,
    state::{StateStore, now},
    tls,
    types::MailboxName,
};

/// Opens maildrops: holds what they share.
#[derive(Debug)]
pub struct Maildrops {
    connectors: HashMap<String, Arc<Connector>>,
    locks: Locks,
    pub(super) shared: Arc<Shared>,
    /// Octets read ahead per session.
    read_ahead: u64,
    /// The octets that all sessions may read ahead.
    budget: Arc<Budget>,
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
        Self::telling(notify::Notices::default(), options, state, tokens)
    }

    /// The same, with `notices` that tell people when they must act.
    pub fn telling(
        notices: notify::Notices,
        options: impl Into<MaildropOptions>,
        state: Arc<dyn StateStore>,
        tokens: Arc<Tokens>,
    ) -> Result<Self, SetupError> {
        let options = options.into();
        let connector = |upstream: &Arc<config::Upstream>| {
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
            notices,
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

    /// Who is told when somebody must act.
    pub fn notices(&self) -> &notify::Notices {
        &self.shared.notices
    }

    /// Waits until everything that sessions left behind is finished; to be called when no session is left.
    pub async fn finish(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    /// Connects to `upstream` up to its greeting, and TLS, without logging in.
    pub async fn probe(&self, upstream: &config::Upstream) -> Result<(), Error> {
        let connector = self.connector(&upstream.name)?;
        connector
            .probe()
            .await
            .map_err(|error| Error::upstream(&upstream.name, "", error))
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
        let mut folders = self.hold(account).await?;
        let telling = self.shared.notices.clone();
        let mail = telling.mail_for(&account.login).await;
        match prepare(&mut folders, &account.policy, mail, now).await {
            Ok((listing, notices, own)) => Ok(Maildrop {
                names: Names::new(&account.policy, folders.iter().map(HeldFolder::named)),
                folders,
                listing,
                notices,
                own,
                telling,
                policy: account.policy.clone(),
            }),
            Err(error) => {
                leave_all(folders).await;
                Err(error)
            }
        }
    }

    /// Every folder of `account`, held; none is left behind if one fails.
    pub(super) async fn hold(&self, account: &Account) -> Result<Vec<HeldFolder>, Error> {
        let account = Arc::new(account.clone());
        let mut folders = Vec::with_capacity(account.policy.folders.len());
        for (number, folder) in (0..).zip(&account.policy.folders) {
            match self.hold_folder(&account, number, folder).await {
                Ok(held) => folders.push(held),
                Err(error) => {
                    leave_all(folders).await;
                    return Err(error);
                }
            }
        }
        Ok(folders)
    }

    /// Holds one folder. Security depends on the order of the steps: a device that does not know the password must not learn
    /// that the maildrop is in use, so the login comes before the lock; and a listing that is made before the lock would show what
    /// another session removes meanwhile.
    async fn hold_folder(&self, account: &Arc<Account>, number: u16, folder: &str) -> Result<HeldFolder, Error> {
        let opening = Opening {
            connector: self.connector(&account.upstream.name)?,
            account: account.clone(),
            name: account.mailbox(folder),
            secret: secret_of(&account.credential),
            user: UserKey::new(&account.upstream.name, &account.user),
        };
        // 1. A connection that waits for this login and this secret: the pool has compared it.
        let (upstream, parked, lock) = match self.resume(&opening).await? {
            Some(resumed) => resumed,
            None => {
                // 2. The right to a connection more, and the login: the upstream verifies the secret.
                let (slot, connection) = self.log_in(&opening).await?;
                // 3. The lock.
                let lock = self.lock(&opening).await?;
                // Not before the lock: the session that was waited for may have parked its connection.
                self.shared.pool.forget(&opening.user, &account.login, folder);
                // 4. Selecting and listing, and what the messages were called before.
                let (upstream, snapshot) = self.select(opening, slot, connection).await?;
                let parked = Parked {
                    snapshot,
                    is_unmarked: false,
                    target: None,
                };
                (upstream, parked, lock)
            }
        };
        let row = parked.snapshot.expected_row();
        let ahead = ReadAhead::new(self.read_ahead, row, self.budget.share());
        Ok(HeldFolder::new(
            number,
            upstream,
            parked,
            ahead,
            self.shared.clone(),
            lock,
        ))
    }

    /// Takes the lock, and the connection that the login's last session has left, if it is there and lives.
    async fn resume(&self, opening: &Opening) -> Result<Option<(Upstream, Parked, Lock)>, Error> {
        let Opening {
            account,
            connector,
            name,
            secret,
            user,
        } = opening;
        let (login, folder) = (&account.login, &name.folder);
        let Some((slot, mut mailbox, mut parked)) = self.shared.pool.take(user, login, folder, secret) else {
            return Ok(None);
        };
        let lock = match self.lock(opening).await {
            Ok(lock) => lock,
            Err(error) => {
                self.shared.pool.park(slot, login, folder, mailbox, parked);
                return Err(error);
            }
        };
        match parked.snapshot.refresh(&mut mailbox, &account.policy).await {
            Ok(()) => {
                let upstream = Upstream::new(account.clone(), name.clone(), connector.clone(), slot, mailbox);
                Ok(Some((upstream, parked, lock)))
            }
            // It died while it waited: nobody needs to know.
            Err(error) => {
                connector.note_failure(&account.user, Standing::Proven, &error);
                tracing::debug!(%error, "a parked connection is gone");
                Ok(None)
            }
        }
    }

    async fn log_in(&self, opening: &Opening) -> Result<(Slot<Parked>, Connection), Error> {
        let Opening {
            account,
            connector,
            secret,
            user,
            ..
        } = opening;
        let pool = &self.shared.pool;
        let too_many = || Error::from(Refusal::Unavailable(Reason::TooManyConnections));
        let limit = account.upstream.connections_per_user;
        let slot = pool.reserve(user, limit, secret, account.is_forwarded).await;
        let mut slot = slot.map_err(|refusal| match refusal {
            NoSlot::Full => too_many(),
            NoSlot::Refused => Refusal::Denied.into(),
        })?;
        let login = log_in(connector, account, slot.standing());
        let connection = match slot.unless_cut(login).await {
            Some(Ok(connection)) => connection,
            Some(Err(error)) => {
                if *error.refusal() == Refusal::Denied {
                    slot.refuse();
                }
                return Err(error);
            }
            None => return Err(too_many()),
        };
        slot.prove();
        Ok((slot, connection))
    }

    async fn select(
        &self,
        opening: Opening,
        slot: Slot<Parked>,
        connection: Connection,
    ) -> Result<(Upstream, Snapshot), Error> {
        let Opening {
            account,
            connector,
            name,
            ..
        } = opening;
        let state = &*self.shared.state;
        let known = state.index(&name).await;
        let login = login_of(&connector, &account, slot.standing());
        let opened = Snapshot::open(connection, login, &account.policy, &name.folder, known).await;
        let (mailbox, mut snapshot) = opened.map_err(|error| failed(login, &account, error))?;
        connector.note_success(&account.user);
        let mut upstream = Upstream::new(account, name, connector, slot, mailbox);
        recognise(state, &mut upstream, &mut snapshot).await?;
        Ok((upstream, snapshot))
    }

    /// Fails if another session holds the maildrop, `wait_seconds` long. If a login's deletes only hide, its maildrop is its own.
    async fn lock(&self, Opening { account, name, .. }: &Opening) -> Result<Lock, Error> {
        let login = (account.policy.on_delete == OnDelete::Hide).then(|| account.login.clone());
        let key = Key {
            mailbox: name.clone(),
            login,
        };
        let lock = self.locks.acquire(key, account.policy.wait).await;
        lock.ok_or_else(|| Refusal::InUse.into())
    }

    fn connector(&self, upstream: &str) -> Result<Arc<Connector>, Error> {
        let connector = self.connectors.get(upstream).cloned();
        connector.ok_or_else(|| Refusal::Unavailable(Reason::Refused).into())
    }
}

/// What it takes to open one folder.
struct Opening {
    account: Arc<Account>,
    connector: Arc<Connector>,
    name: MailboxName,
    secret: Secret,
    user: UserKey,
}

/// What a parked connection is known by besides its login.
fn secret_of(credential: &Credential) -> Secret {
    match credential {
        Credential::Password(secret) | Credential::Token(secret) => secret.clone(),
        // The device's own password was verified here already; a parked connection is of this consent.
        Credential::OAuth2 { consent } => consent.as_str().into(),
    }
}

/// From what the mailboxes hold to what the login is to see now (seconds since 1970).
async fn prepare(
    folders: &mut [HeldFolder],
    policy: &Policy,
    mail: Option<notify::Mail>,
    now: u32,
) -> Result<(Listing, Notices, Option<Box<OwnMail>>), Error> {
    for folder in &mut *folders {
        // 5. What the login has done here.
        folder.read_marks().await?;
        // 6. What an earlier session has left half done.
        folder.finish_removal().await;
        // 7. What has been here long enough.
        folder.retire(now).await;
        // 8. Names of another server.
        folder.import().await?;
    }
    // 9. What the login sees.
    let mut candidates = Vec::with_capacity(folders.len());
    for folder in &mut *folders {
        candidates.push(folder.candidates(now).await?);
    }
    let mut rows = match (selection::rows(&candidates, &policy.view), &mail) {
        (Some(rows), _) => rows,
        (None, Some(_)) => selection::all(&candidates[0].index),
        (None, None) => {
            let listing = Listing::whole(candidates.swap_remove(0).index);
            return Ok((listing, Notices::new(), None));
        }
    };
    // 10. Notices in the place of what is too large.
    let mut notices = Notices::new();
    for folder in &mut *folders {
        notices.extend(folder.oversize_notices(&rows).await?);
    }
    for row in rows.iter_mut().filter(|row| row.shows == Shows::Notice) {
        let text = notices.get(&(row.folder, row.uid));
        row.octets = text.map_or(0, |text| u32::try_from(text.len()).unwrap_or(u32::MAX));
    }
    // 11. What the gateway itself has to tell.
    let own = mail.and_then(|mail| OwnMail::among(&mut rows, mail, policy, now));
    Ok((Listing::chosen(rows, folders.len()), notices, own))
}

/// Leaves folders to their next sessions.
pub(super) async fn leave_all(folders: Vec<HeldFolder>) {
    for folder in folders {
        folder.leave().await;
    }
}
