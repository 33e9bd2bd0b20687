//! Opens maildrops: logs in upstream, takes the lock, selects and lists.

use std::{collections::HashMap, sync::Arc, time::Duration};

use dashmap::DashMap;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span};

use super::{
    Error, Listing, Maildrop, Reason, Refusal,
    budget::Budget,
    folder::HeldFolder,
    listing::Shows,
    notice::NoticeTexts,
    own_mail::OwnMail,
    parked::ParkedFolder,
    read_ahead::ReadAhead,
    recognition::recognise,
    resources::Resources,
    selection,
    snapshot::Snapshot,
    uidl::Uidls,
    undelivered::Undelivered,
    upstream::{UpstreamFolder, failed, log_in, login_of},
};
use crate::{
    accounts::Account,
    config::{self, Credential, MaildropOptions, OnDelete, Policy, Secret},
    imap::{Connection, Connector, Mailbox, NoSlot, Pool, Slot, TrustLevel, UserKey},
    notify,
    oauth::Tokens,
    proofs::RandomUnavailable,
    quotas::{Quotas, Word},
    state::{KeptDigest, Leases, MailboxState, StateStore, now},
    tls,
    types::{MailboxName, canonical},
};

/// Opens maildrops, and holds what they share.
#[derive(Debug)]
pub struct Maildrops {
    connectors: HashMap<String, Arc<Connector>>,
    pub(super) shared: Arc<Resources>,
    /// How many octets a session may read ahead (`read_ahead_bytes`).
    read_ahead: u64,
    /// What all sessions together may read ahead.
    budget: Arc<Budget>,
}

/// Why maildrops cannot be opened at all.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A `ca_file` cannot be used.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The system gives no random numbers.
    #[error(transparent)]
    Random(#[from] RandomUnavailable),
}

impl Maildrops {
    /// Maildrops at the upstreams of `options`. `state` stores what outlives sessions; `tokens` is the source of access
    /// tokens. Errors name the `ca_file` at fault.
    pub fn new(
        options: impl Into<MaildropOptions>,
        state: Arc<dyn StateStore>,
        tokens: Arc<Tokens>,
    ) -> Result<Self, SetupError> {
        Self::of_gateway(notify::Notices::default(), None, options, state, tokens)
    }

    /// Like [`Maildrops::new`], for a gateway: `notices` tell people when they must act, and `quotas` is what several
    /// gateways count together.
    pub fn of_gateway(
        notices: notify::Notices,
        quotas: Option<Quotas>,
        options: impl Into<MaildropOptions>,
        state: Arc<dyn StateStore>,
        tokens: Arc<Tokens>,
    ) -> Result<Self, SetupError> {
        let options = options.into();
        Ok(Self {
            connectors: connectors(&options, &tokens, quotas.as_ref(), |_, connector| connector)?,
            shared: Arc::new(Resources {
                pool: Pool::new(options.parked, quotas.clone())?,
                quotas,
                leases: Leases::new(state.clone()),
                state,
                undelivered: Undelivered::default(),
                marked: DashMap::new(),
                notices,
                tasks: TaskTracker::new(),
            }),
            read_ahead: options.read_ahead,
            budget: Budget::new(options.read_ahead),
        })
    }

    /// Maildrops for a new configuration, which replaces the current one. Sessions of both still lock each other out.
    /// Parked connections stay parked. What the gateway has learned about a server is kept if the server has not
    /// changed. Errors name the `ca_file` at fault.
    pub fn reconfigured(&self, options: impl Into<MaildropOptions>, tokens: Arc<Tokens>) -> Result<Self, SetupError> {
        let options = options.into();
        let succeeding = |name: &str, connector: Connector| match self.connectors.get(name) {
            Some(before) => connector.succeeding(before),
            None => connector,
        };
        Ok(Self {
            connectors: connectors(&options, &tokens, self.shared.quotas.as_ref(), succeeding)?,
            shared: self.shared.clone(),
            read_ahead: options.read_ahead,
            budget: if options.read_ahead == self.read_ahead {
                self.budget.clone()
            } else {
                Budget::new(options.read_ahead)
            },
        })
    }

    /// Sets how long upstream connections stay parked (`parked_seconds`).
    pub fn set_parked_for(&self, parked_for: Duration) {
        self.shared.pool.set_parked_for(parked_for);
    }

    /// Sets how many upstream connections stay parked at most.
    pub fn set_parked_limit(&self, limit: usize) {
        self.shared.pool.set_parked_limit(limit);
    }

    /// Does what another gateway asks for: begins a pause, or closes a parked connection.
    pub fn hear(&self, word: &Word) {
        match word {
            Word::Pause {
                upstream,
                user,
                is_guess,
                length,
            } => {
                if let Some(connector) = self.connectors.get(upstream) {
                    connector.note_pause(user, *is_guess, *length);
                }
            }
            Word::Yield {
                upstream, server, user, ..
            } => {
                self.shared.pool.give_way(&UserKey::at(upstream, server.clone(), user));
            }
            Word::Failure { .. } => {}
        }
    }

    /// Maildrops with state in memory, for tests.
    #[cfg(test)]
    pub(crate) fn in_memory(config: &crate::config::Config) -> Self {
        let state = Arc::new(crate::state::MemoryStore::default());
        let tokens = Tokens::new(config, state.clone()).unwrap();
        Self::new(config, state, tokens).unwrap()
    }

    /// The notifier that tells people when they must act (`[notify]`).
    pub fn notices(&self) -> &notify::Notices {
        &self.shared.notices
    }

    /// Waits until the work that sessions left to the background is finished. Call this when no session is left.
    pub async fn finish(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        self.shared.leases.finish().await;
    }

    /// The connector of `upstream`, for a connection without a login.
    pub fn connector_of(&self, upstream: &config::Upstream) -> Result<Arc<Connector>, Error> {
        self.connector(&upstream.name)
    }

    /// For each upstream its name, and how long its longest pause (over all users) still lasts; zero if it has asked
    /// for none.
    pub fn pauses(&self) -> impl Iterator<Item = (&str, Duration)> {
        self.connectors
            .iter()
            .map(|(name, connector)| (name.as_str(), connector.pause()))
    }

    /// How long the pause still lasts that the upstream of this name has asked the account's `user` for; zero if there
    /// is none.
    pub fn pause_of(&self, upstream: &str, user: &str) -> Duration {
        let connector = self.connectors.get(upstream);
        connector.map_or(Duration::ZERO, |connector| connector.pause_of(&canonical(user, None)))
    }

    /// Whether the upstream of this name is known to take OAuth2 tokens.
    pub fn takes_tokens(&self, upstream: &str) -> bool {
        self.connectors
            .get(upstream)
            .is_some_and(|connector| connector.takes_tokens())
    }

    /// Opens the maildrop of `account`: logs in upstream, takes the lock, selects and lists. PASS may say +OK only
    /// after this (RFC 1939 §4).
    pub async fn open(&self, account: &Account) -> Result<Maildrop, Error> {
        let span = tracing::info_span!("upstream", upstream = account.upstream.name, user = account.user);
        let opened = self.open_in(account, span.clone()).instrument(span);
        opened.await
    }

    async fn open_in(&self, account: &Account, span: Span) -> Result<Maildrop, Error> {
        let now = now();
        let mut folders = self.hold(account).await?;
        let notices = self.shared.notices.clone();
        let mail = notices.mail_for(&account.login).await;
        match prepare(&mut folders, &account.policy, mail, now).await {
            Ok((listing, notice_texts, own)) => Ok(Maildrop {
                uidls: Uidls::new(&account.policy, folders.iter().map(HeldFolder::uidl_parts)),
                folders,
                listing,
                notice_texts,
                own,
                notices,
                policy: account.policy.clone(),
                span,
            }),
            Err(error) => {
                Box::pin(leave_all(folders)).await;
                Err(error)
            }
        }
    }

    /// Opens and locks every folder of `account`. If one fails, leaves the others.
    pub(super) async fn hold(&self, account: &Account) -> Result<Vec<HeldFolder>, Error> {
        let account = Arc::new(account.clone());
        let mut folders = Vec::with_capacity(account.policy.folders.len());
        for (number, folder) in (0..).zip(&account.policy.folders) {
            // This `match` drops the result before the wait below. Otherwise this future would have room for the result.
            let error = match self.hold_folder(&account, number, folder).await {
                Ok(held) => {
                    folders.push(held);
                    continue;
                }
                Err(error) => error,
            };
            Box::pin(leave_all(folders)).await;
            return Err(error);
        }
        Ok(folders)
    }

    /// Opens and locks one folder. The order of the steps matters. The login comes before the lock, because a device
    /// that does not know the password must not learn that the maildrop is in use. The listing comes after the lock,
    /// because otherwise it could show messages that another session removes meanwhile.
    async fn hold_folder(&self, account: &Arc<Account>, number: u16, folder: &str) -> Result<HeldFolder, Error> {
        let opening = Opening {
            connector: self.connector(&account.upstream.name)?,
            account: account.clone(),
            name: account.mailbox(folder).into(),
            secret: secret_of(&account.credential),
            user: UserKey::new(&account.upstream, &account.user),
        };
        // 1. A connection parked for this login. The pool has compared the secret. This step, 2 and 4 are boxed:
        // otherwise this future would have room for the largest of them. (`lock` boxes its own.)
        let resumed = match self.parked(&opening) {
            Some(parked) => Box::pin(self.resume(&opening, parked)).await?,
            None => None,
        };
        let (upstream, parked, state) = match resumed {
            Some(resumed) if resumed.2.has_news() => Box::pin(caught_up(resumed)).await?,
            Some(resumed) => resumed,
            None => {
                // 2. A slot for one more connection, and the login: the upstream verifies the secret.
                let (slot, connection) = Box::pin(self.log_in(&opening)).await?;
                // 3. The lock.
                let state = self.lock(&opening, None).await?;
                // This must follow the lock: the session that held it may just have parked its connection, and the new
                // connection replaces that one.
                self.shared.pool.forget(&opening.user, &account.login, folder);
                // 4. Selecting and listing, and the messages' UIDs under an earlier UIDVALIDITY.
                Box::pin(selected(opening, state, slot, connection)).await?
            }
        };
        let expected = parked.snapshot.expected_run();
        let ahead = ReadAhead::new(self.read_ahead, expected, self.budget.share());
        let shared = self.shared.clone();
        Ok(HeldFolder::new(number, upstream, parked, state, ahead, shared))
    }

    /// Takes the connection that an earlier session of the login has parked. `None` if there is none.
    fn parked(&self, opening: &Opening) -> Option<TakenFolder> {
        let (account, folder) = (&opening.account, &opening.name.folder);
        let suits = |parked: &ParkedFolder| parked.policy == account.policy;
        let pool = &self.shared.pool;
        pool.take(&opening.user, &account.login, folder, &opening.secret, suits)
    }

    /// Takes the lock for a connection that was parked, and brings its snapshot up to date. `None` if the connection is
    /// dead. If the lock cannot be taken, parks the connection again.
    async fn resume(
        &self,
        opening: &Opening,
        (slot, mut mailbox, mut parked): TakenFolder,
    ) -> Result<Option<OpenedFolder>, Error> {
        let Opening {
            account,
            connector,
            name,
            ..
        } = opening;
        let mut state = match self.lock(opening, parked.digest.clone()).await {
            Ok(state) => state,
            Err(error) => {
                let pool = &self.shared.pool;
                pool.park(slot, &account.login, &name.folder, mailbox, parked);
                return Err(error);
            }
        };
        match parked.snapshot.refresh(&mut mailbox, &account.policy).await {
            Ok(()) => {
                let upstream = UpstreamFolder::new(account.clone(), name.clone(), connector.clone(), slot, mailbox);
                Ok(Some((upstream, parked, state)))
            }
            // The connection died while it was parked. The device does not notice: the login goes on with a new one.
            Err(error) => {
                connector.note_failure(&account.user, TrustLevel::Proven, &error);
                tracing::debug!(%error, "a parked connection is gone");
                state.leave(None).await;
                Ok(None)
            }
        }
    }

    async fn log_in(&self, opening: &Opening) -> Result<(Slot<ParkedFolder>, Connection), Error> {
        let Opening {
            account,
            connector,
            secret,
            user,
            ..
        } = opening;
        let mut slot = self.reserve(account, user, secret).await?;
        // Boxed, because [`Slot::unless_cut`] would hold the future twice.
        let login = Box::pin(log_in(connector, account, slot.trust_level()));
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
        slot.mark_proven();
        Ok((slot, connection))
    }

    /// Waits for the right to open one more connection of `user`: it may have `connections_per_user` at once.
    pub(super) async fn reserve(
        &self,
        account: &Account,
        user: &UserKey,
        secret: &Secret,
    ) -> Result<Slot<ParkedFolder>, Error> {
        let limit = account.upstream.connections_per_user;
        let slot = self
            .shared
            .pool
            .reserve(user, limit, secret, account.is_forwarded)
            .await;
        slot.map_err(|refusal| match refusal {
            NoSlot::Full => Refusal::Unavailable(Reason::TooManyConnections).into(),
            NoSlot::Refused => Refusal::Denied.into(),
            NoSlot::Uncounted => Refusal::Unavailable(Reason::State).into(),
        })
    }

    /// Takes the lock of the maildrop. If another session still holds it after `wait_seconds`, this fails. With `hide`,
    /// only sessions of the same login exclude each other, because the login changes nothing for others. `known`: the
    /// digest of the records in state as the login's last session left them.
    async fn lock(
        &self,
        Opening { account, name, .. }: &Opening,
        known: Option<KeptDigest>,
    ) -> Result<MailboxState, Error> {
        let (policy, leases, login) = (&account.policy, &self.shared.leases, account.login.clone());
        let is_private = policy.on_delete == OnDelete::Hide;
        // Boxed: otherwise this future would be stored within the future that opens a maildrop.
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

    pub(super) fn connector(&self, upstream: &str) -> Result<Arc<Connector>, Error> {
        let connector = self.connectors.get(upstream).cloned();
        connector.ok_or_else(|| Refusal::Unavailable(Reason::Refused).into())
    }
}

/// A connector for each upstream of `options`. `finish` gets the name and a new connector, and returns the connector to
/// use.
fn connectors(
    options: &MaildropOptions,
    tokens: &Arc<Tokens>,
    quotas: Option<&Quotas>,
    finish: impl Fn(&str, Connector) -> Connector,
) -> Result<HashMap<String, Arc<Connector>>, tls::Error> {
    let connector = |upstream: &Arc<config::Upstream>| {
        let connector = Connector::new(upstream, options.silence, tokens.clone())?.sharing(quotas.cloned());
        let name = upstream.name.clone();
        let connector = Arc::new(finish(&name, connector));
        Ok((name, connector))
    };
    options.upstreams.iter().map(connector).collect()
}

/// A selected mailbox, what is known of it, and its state.
type OpenedFolder = (UpstreamFolder, ParkedFolder, MailboxState);

/// A connection that was parked, with its slot and with what the gateway knows of the folder.
type TakenFolder = (Slot<ParkedFolder>, Mailbox, ParkedFolder);

/// Selects and lists the folder of `opening` on a new connection. If that fails, gives up the lock.
async fn selected(
    opening: Opening,
    mut state: MailboxState,
    slot: Slot<ParkedFolder>,
    connection: Connection,
) -> Result<OpenedFolder, Error> {
    let policy = opening.account.policy.clone();
    match select(opening, &mut state, slot, connection).await {
        Ok((upstream, snapshot)) => {
            let parked = ParkedFolder {
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
    slot: Slot<ParkedFolder>,
    connection: Connection,
) -> Result<(UpstreamFolder, Snapshot), Error> {
    let Opening {
        account,
        connector,
        name,
        ..
    } = opening;
    let known = state.index().await;
    let login = login_of(&connector, &account, slot.trust_level());
    let opened = Snapshot::open(connection, login, &account.policy, &name.folder, known).await;
    let (mailbox, mut snapshot) = opened.map_err(|error| failed(login, &account, error))?;
    connector.note_success(&account.user);
    let mut upstream = UpstreamFolder::new(account, name, connector, slot, mailbox);
    recognise(state, &mut upstream, &mut snapshot).await?;
    Ok((upstream, snapshot))
}

/// Brings a resumed folder up to date if another gateway has changed the records in state: then the data that was
/// parked with the connection is out of date.
async fn caught_up((mut upstream, mut parked, mut state): OpenedFolder) -> Result<OpenedFolder, Error> {
    parked.is_unmarked = false;
    match recognise(&mut state, &mut upstream, &mut parked.snapshot).await {
        Ok(()) => Ok((upstream, parked, state)),
        Err(error) => {
            state.leave(None).await;
            Err(error)
        }
    }
}

/// The data needed to open one folder.
struct Opening {
    account: Arc<Account>,
    connector: Arc<Connector>,
    name: Arc<MailboxName>,
    secret: Secret,
    user: UserKey,
}

/// The secret that stands for `credential` in the pool. A session gets a parked connection only if the connection was
/// opened with the same secret.
pub(super) fn secret_of(credential: &Credential) -> Secret {
    match credential {
        Credential::Password(secret) | Credential::Token(secret) => secret.clone(),
        // The gateway has verified the device's password already. A parked connection belongs to the consent.
        Credential::OAuth2 { consent } => consent.as_str().into(),
    }
}

/// Makes the listing that the login sees at `now` (seconds since 1970), the texts of its notices, and the gateway's own
/// mail. First finishes interrupted removals, applies `retain_days` and imports UIDLs.
async fn prepare(
    folders: &mut [HeldFolder],
    policy: &Policy,
    mail: Option<notify::Mail>,
    now: u32,
) -> Result<(Listing, NoticeTexts, Option<Box<OwnMail>>), Error> {
    for folder in &mut *folders {
        // 5. The login's marks.
        folder.read_marks().await?;
        // 6. A removal that an earlier session has left half done.
        folder.finish_removal().await;
        // 7. Messages whose `retain_days` are over.
        folder.apply_retention(now).await;
        // 8. UIDLs of another server (`uidl_import`).
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
            return Ok((listing, NoticeTexts::new(), None));
        }
    };
    // 10. Notices in the place of messages that are too large.
    let mut notice_texts = NoticeTexts::new();
    for folder in &mut *folders {
        notice_texts.extend(folder.oversize_notices(&rows).await?);
    }
    for row in rows.iter_mut().filter(|row| row.shows == Shows::Notice) {
        let text = notice_texts.get(&(row.folder, row.uid));
        row.octets = text.map_or(0, |text| u32::try_from(text.len()).unwrap_or(u32::MAX));
    }
    // 11. The gateway's own mail.
    let own = mail.and_then(|mail| OwnMail::among(&mut rows, mail, policy, now));
    Ok((Listing::chosen(rows, folders.len()), notice_texts, own))
}

/// Ends the session's use of each folder: see [`HeldFolder::leave`].
pub(super) async fn leave_all(folders: Vec<HeldFolder>) {
    for folder in folders {
        folder.leave().await;
    }
}
