//! From an account to an open maildrop.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span};

use super::{
    Error, Listing, Maildrop, Reason, Refusal,
    budget::Budget,
    folder::HeldFolder,
    listing::Shows,
    notice::StandIns,
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
    state::{KeptDigest, Leases, MailboxState, StateStore, now},
    tls,
    types::MailboxName,
};

/// Opens maildrops: holds what they share.
#[derive(Debug)]
pub struct Maildrops {
    connectors: HashMap<String, Arc<Connector>>,
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
        Ok(Self {
            connectors: connectors(&options, &tokens, |_, connector| connector)?,
            shared: Arc::new(Shared {
                pool: Pool::new(options.parked)?,
                leases: Leases::new(state.clone()),
                state,
                undelivered: Undelivered::default(),
                notices,
                tasks: TaskTracker::new(),
            }),
            read_ahead: options.read_ahead,
            budget: Budget::new(options.read_ahead),
        })
    }

    /// For the upstreams of `options`, for a configuration that takes the place of this one: sessions of both exclude each
    /// other, and what waits or has been learnt of a server that is still the same serves on. Errors name the file at fault.
    pub fn reconfigured(&self, options: impl Into<MaildropOptions>, tokens: Arc<Tokens>) -> Result<Self, SetupError> {
        let options = options.into();
        let succeeding = |name: &str, connector: Connector| match self.connectors.get(name) {
            Some(before) => connector.succeeding(before),
            None => connector,
        };
        Ok(Self {
            connectors: connectors(&options, &tokens, succeeding)?,
            shared: self.shared.clone(),
            read_ahead: options.read_ahead,
            budget: if options.read_ahead == self.read_ahead {
                self.budget.clone()
            } else {
                Budget::new(options.read_ahead)
            },
        })
    }

    /// How long upstream connections wait for the next session of their login (`parked_seconds`).
    pub fn set_parked_for(&self, parked_for: Duration) {
        self.shared.pool.set_parked_for(parked_for);
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
        self.shared.leases.finish().await;
    }

    /// What reaches `upstream`, for a connection on which nobody logs in.
    pub fn reaching(&self, upstream: &config::Upstream) -> Result<Arc<Connector>, Error> {
        self.connector(&upstream.name)
    }

    /// How long each upstream wants to be left alone by the user whom it has asked for the longest pause; zero if by nobody.
    pub fn pauses(&self) -> impl Iterator<Item = (&str, Duration)> {
        self.connectors
            .iter()
            .map(|(name, connector)| (name.as_str(), connector.pause()))
    }

    /// Whether the upstream of this name takes OAuth2 tokens, as far as is known.
    pub fn takes_tokens(&self, upstream: &str) -> bool {
        self.connectors
            .get(upstream)
            .is_some_and(|connector| connector.takes_tokens())
    }

    /// Logs in upstream, takes the lock, selects and lists. RFC 1939 §4: only after this may PASS say +OK.
    pub async fn open(&self, account: &Account) -> Result<Maildrop, Error> {
        let span = tracing::info_span!("upstream", upstream = account.upstream.name, user = account.user);
        let opened = self.open_in(account, span.clone()).instrument(span);
        opened.await
    }

    async fn open_in(&self, account: &Account, span: Span) -> Result<Maildrop, Error> {
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
                span,
            }),
            Err(error) => {
                Box::pin(leave_all(folders)).await;
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
                    Box::pin(leave_all(folders)).await;
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
            name: account.mailbox(folder).into(),
            secret: secret_of(&account.credential),
            user: UserKey::new(&account.upstream, &account.user),
        };
        // 1. A connection that waits for this login and this secret: the pool has compared it.
        let (upstream, parked, state) = match self.resume(&opening).await? {
            Some(resumed) if resumed.2.has_news() => Box::pin(caught_up(resumed)).await?,
            Some(resumed) => resumed,
            None => {
                // 2. The right to a connection more, and the login: the upstream verifies the secret. On the heap, like 4: most
                // logins find a connection that waits.
                let (slot, connection) = Box::pin(self.log_in(&opening)).await?;
                // 3. The lock.
                let state = self.lock(&opening, None).await?;
                // Not before the lock: the session that was waited for may have parked its connection.
                self.shared.pool.forget(&opening.user, &account.login, folder);
                // 4. Selecting and listing, and what the messages were called before.
                Box::pin(selected(opening, state, slot, connection)).await?
            }
        };
        let row = parked.snapshot.expected_row();
        let ahead = ReadAhead::new(self.read_ahead, row, self.budget.share());
        let shared = self.shared.clone();
        Ok(HeldFolder::new(number, upstream, parked, state, ahead, shared))
    }

    /// Takes the lock, and the connection that the login's last session has left, if it is there and lives.
    async fn resume(&self, opening: &Opening) -> Result<Option<Selected>, Error> {
        let Opening {
            account,
            connector,
            name,
            secret,
            user,
        } = opening;
        let (login, folder) = (&account.login, &name.folder);
        let suits = |parked: &Parked| parked.policy == account.policy;
        let waiting = self.shared.pool.take(user, login, folder, secret, suits);
        let Some((slot, mut mailbox, mut parked)) = waiting else {
            return Ok(None);
        };
        let mut state = match self.lock(opening, parked.digest.clone()).await {
            Ok(state) => state,
            Err(error) => {
                self.shared.pool.park(slot, login, folder, mailbox, parked);
                return Err(error);
            }
        };
        match parked.snapshot.refresh(&mut mailbox, &account.policy).await {
            Ok(()) => {
                let upstream = Upstream::new(account.clone(), name.clone(), connector.clone(), slot, mailbox);
                Ok(Some((upstream, parked, state)))
            }
            // It died while it waited: nobody needs to know.
            Err(error) => {
                connector.note_failure(&account.user, Standing::Proven, &error);
                tracing::debug!(%error, "a parked connection is gone");
                state.leave(None).await;
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
        let mut slot = self.reserve(account, user, secret).await?;
        // In a box: [`Slot::unless_cut`] would hold it twice.
        let login = Box::pin(log_in(connector, account, slot.standing()));
        let connection = match slot.unless_cut(login).await {
            Some(Ok(connection)) => connection,
            Some(Err(error)) => {
                if *error.refusal() == Refusal::Denied {
                    slot.refuse();
                }
                return Err(error);
            }
            None => return Err(Refusal::Unavailable(Reason::TooManyConnections).into()),
        };
        slot.prove();
        Ok((slot, connection))
    }

    /// The right to a connection more for `user`.
    pub(super) async fn reserve(
        &self,
        account: &Account,
        user: &UserKey,
        secret: &Secret,
    ) -> Result<Slot<Parked>, Error> {
        let limit = account.upstream.connections_per_user;
        let slot = self
            .shared
            .pool
            .reserve(user, limit, secret, account.is_forwarded)
            .await;
        slot.map_err(|refusal| match refusal {
            NoSlot::Full => Refusal::Unavailable(Reason::TooManyConnections).into(),
            NoSlot::Refused => Refusal::Denied.into(),
        })
    }

    /// Fails if another session holds the maildrop, `wait_seconds` long. If a login's deletes only hide, its maildrop is its own.
    /// `known`: the digest of the records that the login's last session has left here.
    async fn lock(
        &self,
        Opening { account, name, .. }: &Opening,
        known: Option<KeptDigest>,
    ) -> Result<MailboxState, Error> {
        let (policy, leases, login) = (&account.policy, &self.shared.leases, account.login.clone());
        let is_private = policy.on_delete == OnDelete::Hide;
        // On the heap: this future would be part of every open maildrop's.
        let entering = Box::pin(MailboxState::enter(
            leases,
            name.clone(),
            login,
            is_private,
            policy.wait,
            known,
        ));
        entering.await?.ok_or_else(|| Refusal::InUse.into())
    }

    /// What reaches the upstream of this name.
    pub(super) fn connector(&self, upstream: &str) -> Result<Arc<Connector>, Error> {
        let connector = self.connectors.get(upstream).cloned();
        connector.ok_or_else(|| Refusal::Unavailable(Reason::Refused).into())
    }
}

/// A connector for each upstream of `options`, as `finish` makes it of its name and a new one.
fn connectors(
    options: &MaildropOptions,
    tokens: &Arc<Tokens>,
    finish: impl Fn(&str, Connector) -> Connector,
) -> Result<HashMap<String, Arc<Connector>>, tls::Error> {
    let connector = |upstream: &Arc<config::Upstream>| {
        let connector = Connector::new(upstream, options.silence, tokens.clone())?;
        let name = upstream.name.clone();
        let connector = Arc::new(finish(&name, connector));
        Ok((name, connector))
    };
    options.upstreams.iter().map(connector).collect()
}

/// A selected mailbox, what is known of it, and what state keeps of it.
type Selected = (Upstream, Parked, MailboxState);

/// The folder of `opening`, selected and listed on a new connection.
async fn selected(
    opening: Opening,
    mut state: MailboxState,
    slot: Slot<Parked>,
    connection: Connection,
) -> Result<Selected, Error> {
    let policy = opening.account.policy.clone();
    match select(opening, &mut state, slot, connection).await {
        Ok((upstream, snapshot)) => {
            let parked = Parked {
                snapshot,
                is_unmarked: false,
                digest: None,
                target: None,
                policy,
            };
            Ok((upstream, parked, state))
        }
        Err(error) => {
            state.leave(None).await;
            Err(error)
        }
    }
}

async fn select(
    opening: Opening,
    state: &mut MailboxState,
    slot: Slot<Parked>,
    connection: Connection,
) -> Result<(Upstream, Snapshot), Error> {
    let Opening {
        account,
        connector,
        name,
        ..
    } = opening;
    let known = state.index().await;
    let login = login_of(&connector, &account, slot.standing());
    let opened = Snapshot::open(connection, login, &account.policy, &name.folder, known).await;
    let (mailbox, mut snapshot) = opened.map_err(|error| failed(login, &account, error))?;
    connector.note_success(&account.user);
    let mut upstream = Upstream::new(account, name, connector, slot, mailbox);
    recognise(state, &mut upstream, &mut snapshot).await?;
    Ok((upstream, snapshot))
}

/// `resumed`, after other gateways have changed what state keeps: what was left with the connection is out of date.
async fn caught_up((mut upstream, mut parked, mut state): Selected) -> Result<Selected, Error> {
    parked.is_unmarked = false;
    match recognise(&mut state, &mut upstream, &mut parked.snapshot).await {
        Ok(()) => Ok((upstream, parked, state)),
        Err(error) => {
            state.leave(None).await;
            Err(error)
        }
    }
}

/// What it takes to open one folder.
struct Opening {
    account: Arc<Account>,
    connector: Arc<Connector>,
    name: Arc<MailboxName>,
    secret: Secret,
    user: UserKey,
}

/// What a parked connection is known by besides its login.
pub(super) fn secret_of(credential: &Credential) -> Secret {
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
) -> Result<(Listing, StandIns, Option<Box<OwnMail>>), Error> {
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
            return Ok((listing, StandIns::new(), None));
        }
    };
    // 10. Notices in the place of what is too large.
    let mut notices = StandIns::new();
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
