//! The connections to upstreams: how many a user has, and those that are parked (logged in, with a mailbox selected)
//! for their login's next session. Only the login that opened a connection gets it again, and only with the same
//! secret. The module `slots` decides which login gets the next connection. Gateways that share state count the
//! connections of a user together.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use dashmap::DashMap;
use subtle::ConstantTimeEq;
use tokio::{
    sync::Notify,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    Mailbox,
    slots::{Decision, SlotAllocator, SlotId, TrustLevel},
};
use crate::{
    config::{Secret, Upstream},
    proofs::{KeyedHash, PROVEN_FOR, RandomUnavailable, Recent, Tag},
    quotas::{Quotas, Seat, UpstreamUser},
};

/// How long a login may go on with parked connections without proving its secret to the upstream again: the password
/// may be changed there.
const REVERIFY_AFTER: Duration = Duration::from_secs(30 * 60);
/// How long a secret that the upstream has refused is not tried again. This is short, because the secret may become
/// right.
const REFUSED_FOR: Duration = Duration::from_secs(30);
/// How long LOGOUT may take; then the connection is cut.
const FAREWELL: Duration = Duration::from_secs(3);
/// How long a server may take to notice that a connection was cut. Until then the server counts the connection.
const NOTICED: Duration = Duration::from_millis(250);
/// How long a proven login waits for a guess to end. Then it cuts the guess off.
const PATIENCE_WITH_GUESSES: Duration = Duration::from_secs(3);
/// How long a login waits for a connection, at most: longer than [`FAREWELL`] and [`PATIENCE_WITH_GUESSES`] together.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a login waits before it asks the shared store again whether another gateway has closed a connection of the
/// user.
const SEAT_AGAIN: Duration = Duration::from_millis(200);
/// How long a login waits before it asks one more gateway to close a connection: longer than a gateway usually takes to
/// hear the request and to log out.
const YIELD_AGAIN: Duration = Duration::from_secs(2);
/// How long the pool waits before it tells the shared store again how many connections there are, if the store could
/// not be told.
const TELL_AGAIN: Duration = Duration::from_secs(5);

/// A user of an upstream. All connections of this user count together, whichever login they belong to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UserKey(Arc<UserNames>);

#[derive(Debug, PartialEq, Eq, Hash)]
struct UserNames {
    upstream: String,
    /// See [`Upstream::server`]. If an upstream of the same name gets another server, its users count as other users.
    server: String,
    /// In lower case, so that another spelling gives nobody more connections.
    user: String,
}

impl UserKey {
    /// The user `user` of `upstream`.
    pub fn new(upstream: &Upstream, user: &str) -> Self {
        Self::at(&upstream.name, upstream.server(), user)
    }

    /// The names by which other gateways know this user.
    fn names(&self) -> UpstreamUser<'_> {
        let UserNames { upstream, server, user } = &*self.0;
        UpstreamUser { upstream, server, user }
    }

    /// The user `user` of `server`, which is configured as `upstream`.
    pub fn at(upstream: &str, server: String, user: &str) -> Self {
        Self(Arc::new(UserNames {
            upstream: upstream.to_owned(),
            server,
            user: user.to_lowercase(),
        }))
    }
}

/// What a pool holds: a connection that is logged in.
pub trait Parkable: Send + Sync + 'static {
    /// Logs out and closes the connection.
    fn logout(self) -> impl Future<Output = ()> + Send;
    /// See [`Mailbox::detach`].
    fn detach(&mut self);
    /// Whether the connection can no longer be used.
    fn is_broken(&self) -> bool;
}

impl Parkable for Mailbox {
    fn logout(self) -> impl Future<Output = ()> + Send {
        Self::logout(self)
    }

    fn detach(&mut self) {
        Self::detach(self);
    }

    fn is_broken(&self) -> bool {
        Self::is_broken(self)
    }
}

/// Logs out, and cuts the connection if that takes too long.
pub async fn farewell(mailbox: impl Parkable) {
    // The timeout has dropped the connection, which closes it.
    if timeout(FAREWELL, mailbox.logout()).await.is_err() {
        tokio::time::sleep(NOTICED).await;
    }
}

/// Logs out, for a mailbox that is kept until a new connection takes its place. Gives the connection up if the logout
/// takes too long.
pub async fn hang_up(mailbox: &mut Mailbox) {
    if timeout(FAREWELL, mailbox.hang_up()).await.is_err() {
        mailbox.give_up();
    }
}

/// All connections to upstreams. `T` is what a session leaves for the next one along with its connection `M`.
pub struct Pool<T, M = Mailbox> {
    users: DashMap<UserKey, User<T, M>>,
    hash: KeyedHash,
    proven: Recent,
    refused: Recent,
    /// How long connections are parked, in milliseconds.
    parked_for: AtomicU64,
    /// Each parked connection holds a clone. So the number of clones stays right, in whatever way a connection leaves
    /// the pool.
    parked: Arc<()>,
    /// How many connections may be parked.
    parked_limit: AtomicUsize,
    /// Counts together with other gateways; `None` if this gateway is alone.
    quotas: Option<Quotas>,
    sweeping: AtomicBool,
    next_id: AtomicU64,
}

struct User<T, M> {
    slots: SlotAllocator,
    parked: Vec<Box<Parked<T, M>>>,
    /// Notified if a connection ends, a login stops waiting, or a secret is proven.
    changed: Arc<Notify>,
    /// How many connections this gateway may have: the shared store has said that it counts them.
    granted: usize,
    /// How many connections of this gateway the shared store counts at most: one more than `granted` if the store was
    /// asked to count one more, and its answer has not come.
    counted: usize,
    /// Whether a task is about to tell the shared store that there are fewer connections than it counts.
    is_settling: bool,
    /// Locked while the shared store is asked about this user, so that it hears the counts in their order.
    asking: Option<Arc<tokio::sync::Mutex<()>>>,
}

impl<T, M> Default for User<T, M> {
    fn default() -> Self {
        Self {
            slots: SlotAllocator::default(),
            parked: Vec::new(),
            changed: Arc::default(),
            granted: 0,
            counted: 0,
            is_settling: false,
            asking: None,
        }
    }
}

impl<T, M> User<T, M> {
    fn is_idle(&self) -> bool {
        self.parked.is_empty() && self.slots.is_idle() && self.counted == 0
    }

    /// How many connections there are, parked ones included.
    fn count(&self) -> usize {
        self.parked.len() + self.slots.count()
    }

    /// Takes out the connection that has been parked longest.
    fn evict(&mut self) -> Option<M> {
        let oldest = self.parked.iter().enumerate().min_by_key(|(_, parked)| parked.since)?.0;
        Some(self.parked.swap_remove(oldest).mailbox)
    }
}

struct Parked<T, M> {
    login: String,
    folder: String,
    opened: OpenedWith,
    since: Instant,
    mailbox: M,
    memo: T,
    /// See [`Pool::parked`].
    _counted: Arc<()>,
}

/// Which secret a connection was opened with, and when.
#[derive(Clone, Copy)]
struct OpenedWith {
    tag: Tag,
    since: Instant,
}

/// The right to one connection; given back when dropped.
pub struct Slot<T: Send + Sync + 'static, M: Parkable = Mailbox> {
    pool: Arc<Pool<T, M>>,
    user: UserKey,
    opened: OpenedWith,
    id: SlotId,
    trust: TrustLevel,
    /// Whether the secret comes from a device and the upstream decides whether it is right.
    is_tried: bool,
    /// Cancelled if this guess is cut off; `None` if it is not a guess.
    cut: Option<CancellationToken>,
}

/// Why a login gets no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSlot {
    /// The user has as many connections as it may have, and none became free in time.
    Full,
    /// The upstream has refused this secret a short time ago.
    Refused,
    /// The store in which gateways count connections together could not be asked (logged).
    Uncounted,
}

impl<T: Send + Sync + 'static, M: Parkable> Pool<T, M> {
    /// A pool without connections. `parked_for`: how long a connection is parked; zero = not at all. `quotas`: what
    /// counts the connections of each user together with those of other gateways.
    pub fn new(parked_for: Duration, quotas: Option<Quotas>) -> Result<Arc<Self>, RandomUnavailable> {
        let pool = Self {
            users: DashMap::new(),
            hash: KeyedHash::new()?,
            proven: Recent::new(PROVEN_FOR),
            refused: Recent::new(REFUSED_FOR),
            parked_for: AtomicU64::new(0),
            parked: Arc::default(),
            parked_limit: AtomicUsize::new(usize::MAX),
            quotas,
            sweeping: AtomicBool::new(false),
            next_id: AtomicU64::new(0),
        };
        pool.set_parked_for(parked_for);
        Ok(Arc::new(pool))
    }

    /// Sets how long connections are parked, also those that are parked already.
    pub fn set_parked_for(&self, parked_for: Duration) {
        let milliseconds = u64::try_from(parked_for.as_millis()).unwrap_or(u64::MAX);
        self.parked_for.store(milliseconds, Ordering::Relaxed);
    }

    /// Sets how many connections may be parked. If there are more, the next call of [`Pool::park`] closes those that
    /// have been parked longest.
    pub fn set_parked_limit(&self, limit: usize) {
        self.parked_limit.store(limit, Ordering::Relaxed);
    }

    fn parked_for(&self) -> Duration {
        Duration::from_millis(self.parked_for.load(Ordering::Relaxed))
    }

    fn tag(&self, user: &UserKey, secret: &Secret) -> Tag {
        let UserNames { upstream, server, user } = &*user.0;
        self.hash
            .tag([upstream.as_bytes(), server.as_bytes(), user.as_bytes(), secret.expose()])
    }

    fn new_id(&self) -> SlotId {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes the connection that is parked for `login`, if `secret` is the one it was opened with (compared in constant
    /// time), and if `suits` accepts what was left along with it.
    pub fn take(
        self: &Arc<Self>,
        user: &UserKey,
        login: &str,
        folder: &str,
        secret: &Secret,
        suits: impl Fn(&T) -> bool,
    ) -> Option<(Slot<T, M>, M, T)> {
        let tag = self.tag(user, secret);
        let mut entry = self.users.get_mut(user)?;
        let at = entry.parked.iter().position(|parked| {
            parked.login == login
                && parked.folder == folder
                && parked.since.elapsed() < self.parked_for()
                && suits(&parked.memo)
                && parked.opened.since.elapsed() < REVERIFY_AFTER
                && bool::from(parked.opened.tag.ct_eq(&tag))
        })?;
        let Parked {
            opened, mailbox, memo, ..
        } = *entry.parked.swap_remove(at);
        let id = self.new_id();
        entry.slots.begin(id, TrustLevel::Proven);
        drop(entry);
        let slot = Slot {
            pool: self.clone(),
            user: user.clone(),
            opened,
            id,
            trust: TrustLevel::Proven,
            is_tried: false,
            cut: None,
        };
        Some((slot, mailbox, memo))
    }

    /// Waits for the right to open a connection. Fails if `user` has `limit` of them and none becomes free in time. If
    /// a parked connection must be closed for it, the right is given once that connection is closed.
    ///
    /// `is_tried`: the secret comes from a device, and the upstream decides whether it is right. Such a login is a
    /// guess unless its secret was right lately: guesses get few connections, and may be cut off (see
    /// [`Slot::unless_cut`]).
    pub async fn reserve(
        self: &Arc<Self>,
        user: &UserKey,
        limit: usize,
        secret: &Secret,
        is_tried: bool,
    ) -> Result<Slot<T, M>, NoSlot> {
        let tag = self.tag(user, secret);
        let is_guess = is_tried && !self.proven.contains(&tag);
        if is_guess && self.refused.contains(&tag) {
            return Err(NoSlot::Refused);
        }
        let opened = OpenedWith {
            tag,
            since: Instant::now(),
        };
        self.wait(user, limit, opened, TrustLevel::of(is_guess), is_tried).await
    }

    async fn wait(
        self: &Arc<Self>,
        user: &UserKey,
        limit: usize,
        opened: OpenedWith,
        trust: TrustLevel,
        is_tried: bool,
    ) -> Result<Slot<T, M>, NoSlot> {
        let queued = QueuedLogin::new(self, user, trust, opened.tag);
        let begun = Instant::now();
        let mut patience = begun + PATIENCE_WITH_GUESSES;
        loop {
            // Registered before the slots are read, so that no later change is missed.
            let changed = queued.changed.notified();
            let (decision, evicted, cut) = {
                let mut entry = self.users.entry(user.clone()).or_default();
                let User { slots, parked, .. } = &mut *entry;
                let decision = slots.decide(queued.id, limit, parked.len());
                let cut = slots.cut(queued.id);
                let evicted = if decision == Decision::Evict {
                    entry.evict()
                } else {
                    None
                };
                (decision, evicted, cut)
            };
            if let Some(mailbox) = evicted {
                self.close(user, mailbox);
            }
            match decision {
                Decision::Take(trust) => {
                    let slot = Slot {
                        pool: self.clone(),
                        user: user.clone(),
                        opened,
                        id: queued.id,
                        trust,
                        is_tried,
                        cut,
                    };
                    return self.claim(user, limit, trust, begun).await.map(|()| slot);
                }
                Decision::Full => return Err(NoSlot::Full),
                Decision::Evict => continue,
                Decision::Wait => {}
            }
            if timeout_at(patience, changed).await.is_err() {
                if patience >= begun + PATIENCE {
                    return Err(NoSlot::Full);
                }
                if let Some(entry) = self.users.get(user) {
                    entry.slots.cut_guess(queued.id);
                }
                patience = begun + PATIENCE;
            }
        }
    }

    /// Waits until all gateways together may have one more connection of `user`, which is counted here already. A login
    /// that has waited since `begun` gives up after [`PATIENCE`], a guess after [`PATIENCE_WITH_GUESSES`]. A parked
    /// connection is closed for it, here or at another gateway.
    async fn claim(
        self: &Arc<Self>,
        user: &UserKey,
        limit: usize,
        trust: TrustLevel,
        begun: Instant,
    ) -> Result<(), NoSlot> {
        let Some(quotas) = &self.quotas else {
            return Ok(());
        };
        let patience = match trust {
            TrustLevel::Proven => begun + PATIENCE,
            TrustLevel::Guess => begun + PATIENCE_WITH_GUESSES,
        };
        let mut asked: Option<Instant> = None;
        let mut others_asked = 0;
        loop {
            let (asking, changed) = {
                let mut entry = self.users.entry(user.clone()).or_default();
                (entry.asking.get_or_insert_default().clone(), entry.changed.clone())
            };
            // Registered before the store is asked, so that no later change is missed.
            let changed = changed.notified();
            let turn = asking.lock().await;
            let seat = self.claim_one(quotas, user, limit).await;
            drop(turn);
            let others = match seat {
                Seat::Granted => return Ok(()),
                Seat::Uncounted => return Err(NoSlot::Uncounted),
                Seat::Full(others) => others,
            };
            if asked.is_none_or(|at| at.elapsed() >= YIELD_AGAIN) && self.may_evict(user, trust) {
                asked = Some(Instant::now());
                if !self.give_way(user) && !others.is_empty() {
                    quotas.ask_to_yield(others[others_asked % others.len()], user.names());
                    others_asked += 1;
                }
            }
            if Instant::now() >= patience {
                return Err(NoSlot::Full);
            }
            let _ = timeout_at(patience.min(Instant::now() + SEAT_AGAIN), changed).await;
        }
    }

    /// Asks the shared store to count one more connection of `user`, unless it counts all of them already. If this
    /// future is dropped, or the answer is lost, the store may have counted it: the end of the connection's slot has the
    /// store corrected then (see [`Pool::settle`]).
    async fn claim_one(&self, quotas: &Quotas, user: &UserKey, limit: usize) -> Seat {
        let (wanted, before) = match self.users.get_mut(user) {
            Some(mut entry) if entry.granted < entry.count() => {
                let wanted = entry.granted + 1;
                (wanted, std::mem::replace(&mut entry.counted, wanted))
            }
            _ => return Seat::Granted,
        };
        let seat = quotas.seat(user.names(), wanted, limit).await;
        if let Some(mut entry) = self.users.get_mut(user) {
            match &seat {
                Seat::Granted => entry.granted = wanted,
                Seat::Full(_) => entry.counted = before,
                Seat::Uncounted => {}
            }
        }
        seat
    }

    /// Whether a login with `trust` that waits may close a connection that is parked.
    fn may_evict(&self, user: &UserKey, trust: TrustLevel) -> bool {
        match trust {
            TrustLevel::Proven => true,
            TrustLevel::Guess => (self.users.get_mut(user)).is_some_and(|mut entry| entry.slots.may_give_way()),
        }
    }

    /// Closes the connection of `user` that has been parked longest; returns whether there was one.
    pub fn give_way(self: &Arc<Self>, user: &UserKey) -> bool {
        let Some(mut entry) = self.users.get_mut(user) else {
            return false;
        };
        let Some(mailbox) = entry.evict() else { return false };
        entry.slots.begin_closing();
        drop(entry);
        self.close(user, mailbox);
        true
    }

    /// Tells the shared store that `user` has fewer connections here than it may count. Tries again until the store has
    /// been told.
    async fn settle(self: Arc<Self>, user: UserKey) {
        let Some(quotas) = &self.quotas else { return };
        while let Some(asking) = self.users.get(&user).and_then(|entry| entry.asking.clone()) {
            let turn = asking.lock().await;
            // A connection that is not granted yet may be counted already. Its login asks for it, within the limit.
            let fewer = self.users.get_mut(&user).and_then(|mut entry| {
                entry.is_settling = entry.count() < entry.counted;
                entry.is_settling.then(|| entry.count().min(entry.granted))
            });
            let Some(fewer) = fewer else { break };
            if quotas.seat(user.names(), fewer, usize::MAX).await == Seat::Granted {
                if let Some(mut entry) = self.users.get_mut(&user) {
                    (entry.granted, entry.counted) = (fewer, fewer);
                }
                continue;
            }
            drop(turn);
            tokio::time::sleep(TELL_AGAIN).await;
        }
        self.users.remove_if(&user, |_, user| user.is_idle());
    }

    /// Logs out on a connection that is counted as closing, in the background, and stops counting it once it is closed.
    fn close(self: &Arc<Self>, user: &UserKey, mailbox: M) {
        let (pool, user) = (self.clone(), user.clone());
        tokio::spawn(async move {
            farewell(mailbox).await;
            pool.change(&user, SlotAllocator::end_closing);
        });
    }

    /// Changes the slots of `user`, wakes the logins that wait, and forgets the user if there is nothing left to
    /// remember.
    fn change(self: &Arc<Self>, user: &UserKey, change: impl FnOnce(&mut SlotAllocator)) {
        if let Some(mut entry) = self.users.get_mut(user) {
            change(&mut entry.slots);
            entry.changed.notify_waiters();
            if entry.count() < entry.counted
                && !entry.is_settling
                && let Ok(runtime) = tokio::runtime::Handle::try_current()
            {
                entry.is_settling = true;
                runtime.spawn(self.clone().settle(user.clone()));
            }
        }
        self.users.remove_if(user, |_, user| user.is_idle());
    }

    /// Closes the connections that are parked for `login` and `folder`: `login` has logged in again, because they did not
    /// suit (another secret or policy, or too old), or another one is parked in their place.
    pub fn forget(self: &Arc<Self>, user: &UserKey, login: &str, folder: &str) {
        let is_old = |parked: &mut Box<Parked<T, M>>| parked.login == login && parked.folder == folder;
        self.close_parked(user, is_old);
    }

    fn close_parked(self: &Arc<Self>, user: &UserKey, is_over: impl FnMut(&mut Box<Parked<T, M>>) -> bool) {
        let Some(mut entry) = self.users.get_mut(user) else {
            return;
        };
        let closed: Vec<_> = entry.parked.extract_if(.., is_over).collect();
        closed.iter().for_each(|_| entry.slots.begin_closing());
        drop(entry);
        for parked in closed {
            self.close(user, parked.mailbox);
        }
    }

    /// Parks `mailbox` for the next session of `login`, in place of one that is parked for it already: who comes last
    /// stays. Closes it if connections are not parked, or if it is broken.
    pub fn park(self: &Arc<Self>, slot: Slot<T, M>, login: &str, folder: &str, mut mailbox: M, memo: T) {
        mailbox.detach();
        if self.parked_for().is_zero() || mailbox.is_broken() {
            self.change(&slot.user, SlotAllocator::begin_closing);
            self.close(&slot.user, mailbox);
            return;
        }
        self.forget(&slot.user, login, folder);
        if let Some(mut entry) = self.users.get_mut(&slot.user) {
            let (login, folder) = (login.to_owned(), folder.to_owned());
            entry.parked.push(Box::new(Parked {
                login,
                folder,
                opened: slot.opened,
                since: Instant::now(),
                mailbox,
                memo,
                _counted: self.parked.clone(),
            }));
        }
        tracing::debug!(upstream = slot.user.0.upstream, user = slot.user.0.user, "parked");
        let (parked, limit) = (self.parked(), self.parked_limit.load(Ordering::Relaxed));
        if parked > limit {
            // Closes a few more than it must, so that this happens seldom: it looks at all parked connections.
            self.close_longest(parked - limit + limit / 16);
        }
        // The slot is dropped after its connection was parked, so that the user's entry is never idle in between.
        drop(slot);
        if !self.sweeping.swap(true, Ordering::AcqRel) {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// How many connections are parked, of all users.
    fn parked(&self) -> usize {
        // One is the pool's own.
        Arc::strong_count(&self.parked) - 1
    }

    /// Closes the `number` connections that have been parked longest, of all users.
    fn close_longest(self: &Arc<Self>, number: usize) {
        let mut since: Vec<_> = (self.users.iter())
            .flat_map(|user| user.parked.iter().map(|parked| parked.since).collect::<Vec<_>>())
            .collect();
        let Some(last) = number.min(since.len()).checked_sub(1) else {
            return;
        };
        let (_, last, _) = since.select_nth_unstable(last);
        let last = *last;
        self.close_where(|parked| parked.since <= last);
    }

    /// Closes the connections that have been parked long enough; returns whether any others are parked.
    fn close_expired(self: &Arc<Self>) -> bool {
        self.close_where(|parked| parked.since.elapsed() >= self.parked_for())
    }

    /// Closes the parked connections that `is_over` accepts; returns whether any others are parked.
    fn close_where(self: &Arc<Self>, is_over: impl Fn(&Parked<T, M>) -> bool) -> bool {
        let mut waiting = false;
        let mut over = Vec::new();
        self.users.retain(|key, user| {
            if user.parked.iter().any(|parked| is_over(parked)) {
                over.push(key.clone());
            }
            waiting |= user.parked.iter().any(|parked| !is_over(parked));
            !user.is_idle()
        });
        for user in over {
            self.close_parked(&user, |parked| is_over(parked));
        }
        waiting
    }
}

/// Closes connections that have been parked long enough. Runs as long as any is parked.
async fn sweep<T: Send + Sync + 'static, M: Parkable>(pool: Weak<Pool<T, M>>) {
    loop {
        let Some(parked_for) = pool.upgrade().map(|pool| pool.parked_for()) else {
            return;
        };
        tokio::time::sleep((parked_for / 4).clamp(Duration::from_millis(250), Duration::from_secs(15))).await;
        let Some(pool) = pool.upgrade() else { return };
        if !pool.close_expired() {
            pool.sweeping.store(false, Ordering::Release);
            // A connection may have been parked between the check and the store.
            if !pool.close_expired() || pool.sweeping.swap(true, Ordering::AcqRel) {
                return;
            }
        }
    }
}

/// A login that waits for a connection; it leaves the queue when dropped.
struct QueuedLogin<T: Send + Sync + 'static, M: Parkable> {
    pool: Arc<Pool<T, M>>,
    user: UserKey,
    id: SlotId,
    changed: Arc<Notify>,
}

impl<T: Send + Sync + 'static, M: Parkable> QueuedLogin<T, M> {
    fn new(pool: &Arc<Pool<T, M>>, user: &UserKey, trust: TrustLevel, tag: Tag) -> Self {
        let id = pool.new_id();
        let mut entry = pool.users.entry(user.clone()).or_default();
        entry.slots.enqueue(id, trust, tag);
        let changed = entry.changed.clone();
        drop(entry);
        Self {
            pool: pool.clone(),
            user: user.clone(),
            id,
            changed,
        }
    }
}

impl<T: Send + Sync + 'static, M: Parkable> Drop for QueuedLogin<T, M> {
    fn drop(&mut self) {
        self.pool.change(&self.user, |slots| slots.dequeue(self.id));
    }
}

impl<T: Send + Sync + 'static, M: Parkable> Slot<T, M> {
    /// How far the login is trusted.
    pub fn trust_level(&self) -> TrustLevel {
        self.trust
    }

    /// Waits for the right to one more connection for the same session; `None` if the user has `limit` of them.
    pub async fn another(&self, limit: usize) -> Option<Self> {
        let Self { pool, user, opened, .. } = self;
        let slot = pool.wait(user, limit, *opened, TrustLevel::Proven, self.is_tried);
        slot.await.ok()
    }

    /// Runs `login` to its end. If this is a guess, and a proven login has waited for its connection long enough, drops
    /// `login` and returns `None`.
    pub async fn unless_cut<O>(&self, login: impl Future<Output = O>) -> Option<O> {
        let cut = async {
            match &self.cut {
                Some(cut) => cut.cancelled().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = cut => None,
            output = login => Some(output),
        }
    }

    /// Notes that the upstream has accepted the secret.
    pub fn mark_proven(&mut self) {
        if self.is_tried {
            self.pool.proven.insert(self.opened.tag);
            self.pool.refused.remove(&self.opened.tag);
        }
        if self.trust == TrustLevel::Guess {
            self.trust = TrustLevel::Proven;
            self.cut = None;
            let Self {
                pool, user, id, opened, ..
            } = self;
            pool.change(user, |slots| slots.mark_proven(*id, opened.tag));
        }
    }

    /// Notes that the upstream has refused the secret. A secret that was right lately is a guess from now on; any other
    /// is not tried again soon.
    pub fn refuse(&self) {
        if self.is_tried && !self.pool.proven.remove(&self.opened.tag) {
            self.pool.refused.insert(self.opened.tag);
        }
    }
}

impl<T: Send + Sync + 'static, M: Parkable> Drop for Slot<T, M> {
    fn drop(&mut self) {
        self.pool.change(&self.user, |slots| slots.end(self.id, self.trust));
    }
}

impl<T, M> std::fmt::Debug for Pool<T, M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("users", &self.users.len())
            .finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static, M: Parkable> std::fmt::Debug for Slot<T, M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").field("user", &self.user).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, sync::atomic::AtomicUsize};

    use tokio::{task::JoinHandle, time::advance};

    use super::*;
    use crate::quotas::scene::{self, Fate};

    fn user_key(upstream: &str, user: &str) -> UserKey {
        UserKey::at(upstream, "imap.example.org:993".into(), user)
    }

    const PARKED: Duration = Duration::from_secs(900);

    /// A server that counts its open connections.
    #[derive(Clone, Default)]
    struct Server {
        open: Arc<AtomicUsize>,
        most: Arc<AtomicUsize>,
    }

    struct Fake {
        server: Server,
        /// The server never completes LOGOUT.
        trickles: bool,
    }

    impl Server {
        fn connect(&self, trickles: bool) -> Fake {
            let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(open, Ordering::SeqCst);
            Fake {
                server: self.clone(),
                trickles,
            }
        }

        fn open(&self) -> usize {
            self.open.load(Ordering::SeqCst)
        }

        fn most(&self) -> usize {
            self.most.load(Ordering::SeqCst)
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            self.server.open.fetch_sub(1, Ordering::SeqCst);
        }
    }

    impl Parkable for Fake {
        async fn logout(self) {
            if self.trickles {
                pending::<()>().await;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }

        fn detach(&mut self) {}

        fn is_broken(&self) -> bool {
            false
        }
    }

    type TestPool = Pool<u8, Fake>;

    fn eva() -> UserKey {
        user_key("lab", "eva")
    }

    /// A session that logs in with the right secret, and parks its connection.
    async fn session(
        pool: &Arc<TestPool>,
        server: &Server,
        limit: usize,
        login: &str,
        trickles: bool,
    ) -> Result<(), NoSlot> {
        let secret = "right".into();
        if let Some((slot, mailbox, memo)) = pool.take(&eva(), login, "INBOX", &secret, |_| true) {
            pool.park(slot, login, "INBOX", mailbox, memo + 1);
            return Ok(());
        }
        let mut slot = pool.reserve(&eva(), limit, &secret, true).await?;
        let mailbox = server.connect(trickles);
        slot.mark_proven();
        pool.forget(&eva(), login, "INBOX");
        pool.park(slot, login, "INBOX", mailbox, 0);
        Ok(())
    }

    /// A login with a wrong secret, which the server takes this long to refuse. Returns whether it was tried to the
    /// end.
    fn guess(pool: &Arc<TestPool>, server: &Server, limit: usize, secret: u32, takes: Duration) -> JoinHandle<bool> {
        let (pool, server) = (pool.clone(), server.clone());
        tokio::spawn(async move {
            let secret = secret.to_string().as_str().into();
            let Ok(slot) = pool.reserve(&eva(), limit, &secret, true).await else {
                return false;
            };
            let login = async {
                let _connection = server.connect(false);
                tokio::time::sleep(takes).await;
            };
            let was_tried = slot.unless_cut(login).await.is_some();
            slot.refuse();
            was_tried
        })
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_parked_serves_its_login_with_its_secret_only() {
        let (pool, server) = (TestPool::new(PARKED, None).unwrap(), Server::default());
        session(&pool, &server, 8, "eva", false).await.unwrap();
        let take = |user: UserKey, login, folder, secret: &str| {
            pool.take(&user, login, folder, &secret.into(), |_| true).is_some()
        };
        assert!(!take(eva(), "eva", "INBOX", "wrong"));
        assert!(!take(eva(), "other", "INBOX", "right"));
        assert!(!take(eva(), "eva", "Lists", "right"));
        assert!(!take(user_key("lab", "ida"), "eva", "INBOX", "right"));
        session(&pool, &server, 8, "eva", false).await.unwrap();
        assert_eq!(server.most(), 1);
        advance(PARKED + Duration::from_secs(20)).await;
        assert!(!take(eva(), "eva", "INBOX", "right"), "it has waited long enough");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!((server.open(), pool.users.len()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_has_one_parked_connection_for_a_folder() {
        let (pool, server) = (TestPool::new(PARKED, None).unwrap(), Server::default());
        let secret = "right".into();
        for (memo, folder) in [(1, "INBOX"), (2, "INBOX"), (3, "Lists")] {
            let slot = pool
                .reserve(&eva(), 8, &secret, true)
                .await
                .unwrap_or_else(|_| unreachable!());
            pool.park(slot, "eva", folder, server.connect(false), memo);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(server.open(), 2);
        let taken = |folder| {
            pool.take(&eva(), "eva", folder, &secret, |_| true)
                .map(|(_, _, memo)| memo)
        };
        assert_eq!(
            [taken("INBOX"), taken("INBOX"), taken("Lists")],
            [Some(2), None, Some(3)]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_been_parked_longest_gives_way_to_what_is_too_many() {
        const DEVICES: usize = 1000;
        for (limit, rest) in [(0, 0), (7, 7), (320, 300)] {
            let (pool, server) = (TestPool::new(PARKED, None).unwrap(), Server::default());
            pool.set_parked_limit(limit);
            for device in 0..DEVICES {
                session(&pool, &server, DEVICES, &device.to_string(), false)
                    .await
                    .unwrap();
                assert!(pool.parked() <= limit);
                advance(Duration::from_millis(1)).await;
            }
            let is_parked = |device: &usize| {
                let taken = pool.take(&eva(), &device.to_string(), "INBOX", &"right".into(), |_| true);
                taken.is_some()
            };
            let parked: Vec<_> = (0..DEVICES).filter(is_parked).collect();
            assert!((rest..=limit).contains(&parked.len()), "{limit}: {}", parked.len());
            let latest: Vec<_> = (DEVICES - parked.len()..DEVICES).collect();
            assert_eq!(parked, latest);
            assert_eq!(pool.parked(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_counts_until_its_logout_is_over() {
        for parked_for in [Duration::ZERO, PARKED] {
            let (pool, server) = (TestPool::new(parked_for, None).unwrap(), Server::default());
            for poll in 0..60 {
                // Each login has a connection of its own.
                session(&pool, &server, 2, &poll.to_string(), true).await.unwrap();
            }
            assert_eq!(server.most(), 2);
            tokio::time::sleep(PARKED + Duration::from_secs(60)).await;
            assert_eq!((server.open(), pool.users.len()), (0, 0), "none is left behind");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_parked_gives_way_and_is_closed_before_another_is_opened() {
        let (pool, server) = (TestPool::new(PARKED, None).unwrap(), Server::default());
        for login in ["fax", "pbx", "fax", "pbx"] {
            session(&pool, &server, 1, login, false).await.unwrap();
        }
        assert_eq!(server.most(), 1);
        let (held, _mailbox, _) = pool.take(&eva(), "pbx", "INBOX", &"right".into(), |_| true).unwrap();
        let now = Instant::now();
        assert_eq!(
            session(&pool, &server, 1, "fax", false).await,
            Err(NoSlot::Full),
            "what works stays"
        );
        assert!(held.another(1).await.is_none());
        assert_eq!(now.elapsed(), Duration::ZERO, "nothing to wait for");
        assert!(held.another(2).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn guessers_do_not_lock_the_owner_out() {
        for limit in [1, 2, 8] {
            let (pool, server) = (TestPool::new(PARKED, None).unwrap(), Server::default());
            session(&pool, &server, limit, "eva", false).await.unwrap();
            // A server that takes longer to answer than anybody waits.
            let guesses: Vec<_> = (0..24)
                .map(|n| guess(&pool, &server, limit, n, Duration::from_secs(30)))
                .collect();
            tokio::time::sleep(Duration::from_millis(100)).await;
            for device in ["eva", "fax", "pbx", "eva", "fax", "pbx"] {
                let begun = Instant::now();
                session(&pool, &server, limit, device, false).await.unwrap();
                assert!(
                    begun.elapsed() < Duration::from_secs(7),
                    "{limit}: {:?}",
                    begun.elapsed()
                );
            }
            let mut tried = 0;
            for guess in guesses {
                tried += usize::from(guess.await.unwrap());
            }
            assert!(tried <= 2, "{limit}: {tried}");
            assert!(server.most() <= limit, "{limit}: {}", server.most());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_guess_takes_what_is_free_and_leaves_what_is_parked() {
        let (pool, server) = (TestPool::new(PARKED, None).unwrap(), Server::default());
        for login in ["eva", "fax"] {
            session(&pool, &server, 3, login, false).await.unwrap();
        }
        for n in 0..10 {
            assert!(guess(&pool, &server, 3, n, Duration::from_secs(1)).await.unwrap());
        }
        for login in ["eva", "fax"] {
            assert!(
                pool.take(&eva(), login, "INBOX", &"right".into(), |_| true).is_some(),
                "{login}"
            );
        }
    }

    /// A connection that was opened with the old password must not lock anybody out.
    #[tokio::test(start_paused = true)]
    async fn with_one_connection_a_new_password_gets_in() {
        let (pool, server) = (TestPool::new(PARKED, None).unwrap(), Server::default());
        session(&pool, &server, 1, "eva", false).await.unwrap();
        let begun = Instant::now();
        let mut slot = pool.reserve(&eva(), 1, &"new".into(), true).await.unwrap();
        assert_eq!(slot.trust_level(), TrustLevel::Guess);
        assert!(begun.elapsed() < Duration::from_secs(1));
        slot.mark_proven();
        assert_eq!(slot.trust_level(), TrustLevel::Proven);
        let mailbox = server.connect(false);
        pool.park(slot, "eva", "INBOX", mailbox, 0);
        assert!(
            !guess(&pool, &server, 1, 1, Duration::ZERO).await.unwrap(),
            "once a minute"
        );
        assert_eq!(server.most(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn devices_that_come_at_once_with_one_secret_all_get_in() {
        let (pool, server) = (TestPool::new(Duration::ZERO, None).unwrap(), Server::default());
        let sessions: Vec<_> = (0..24)
            .map(|device| {
                let (pool, server) = (pool.clone(), server.clone());
                tokio::spawn(async move { session(&pool, &server, 8, &device.to_string(), false).await })
            })
            .collect();
        for session in sessions {
            session.await.unwrap().unwrap();
        }
        assert!(server.most() <= 8);
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_that_was_refused_is_not_tried_again_soon() {
        let pool = TestPool::new(PARKED, None).unwrap();
        let reserve = |secret: &'static str| {
            let pool = pool.clone();
            async move { pool.reserve(&user_key("lab", "EVA"), 8, &secret.into(), true).await }
        };
        reserve("wrong").await.unwrap().refuse();
        assert_eq!(reserve("wrong").await.err(), Some(NoSlot::Refused));
        assert!(reserve("another").await.is_ok());
        assert!(
            pool.reserve(&eva(), 8, &"wrong".into(), false).await.is_ok(),
            "the configuration's is tried always"
        );
        advance(REFUSED_FOR).await;
        let mut slot = reserve("wrong").await.unwrap();
        slot.mark_proven();
        drop(slot);
        let slot = reserve("wrong").await.unwrap();
        assert_eq!(slot.trust_level(), TrustLevel::Proven);
        slot.refuse();
        let slot = reserve("wrong").await.unwrap();
        assert_eq!(
            slot.trust_level(),
            TrustLevel::Guess,
            "a right secret that is refused is asked for once more"
        );
        slot.refuse();
        assert_eq!(reserve("wrong").await.err(), Some(NoSlot::Refused));
    }

    /// A login gives up, or the answer is lost, while the shared store is asked.
    #[tokio::test(start_paused = true)]
    async fn a_connection_that_never_was_is_not_counted_for_long() {
        for fate in [Fate::AnswerPending, Fate::AnswerLost] {
            let (quotas, counted) = scene::quotas();
            let pool = TestPool::new(PARKED, Some(quotas)).unwrap();
            let secret = "right".into();
            let held = pool.reserve(&eva(), 3, &secret, false).await.unwrap();
            counted.lock().unwrap().fate = fate;
            let given_up = timeout(SEAT_AGAIN, pool.reserve(&eva(), 3, &secret, false)).await;
            assert!(matches!(given_up, Err(_) | Ok(Err(NoSlot::Uncounted))), "{fate:?}");
            assert_eq!(counted.lock().unwrap().ours, 2, "{fate:?}");
            counted.lock().unwrap().fate = Fate::Answered;
            tokio::time::sleep(2 * TELL_AGAIN).await;
            assert_eq!(counted.lock().unwrap().ours, 1, "{fate:?}");
            drop(held);
            tokio::time::sleep(TELL_AGAIN).await;
            assert_eq!((counted.lock().unwrap().ours, pool.users.len()), (0, 0), "{fate:?}");
        }
    }

    /// It is not known whether the store counts a connection. So nobody may have it without asking.
    #[tokio::test(start_paused = true)]
    async fn what_a_login_has_asked_for_in_vain_is_not_granted_to_the_next() {
        for others in [2, 3] {
            let (quotas, counted) = scene::quotas();
            let pool = TestPool::new(PARKED, Some(quotas)).unwrap();
            counted.lock().unwrap().fate = Fate::QuestionPending;
            let reserve = || {
                let pool = pool.clone();
                tokio::spawn(async move { pool.reserve(&eva(), 3, &"right".into(), false).await })
            };
            let first = reserve();
            tokio::time::sleep(SEAT_AGAIN).await;
            let next = reserve();
            tokio::time::sleep(SEAT_AGAIN).await;
            {
                let mut counted = counted.lock().unwrap();
                (counted.others, counted.fate) = (others, Fate::Answered);
            }
            first.abort();
            let slot = next.await.unwrap();
            assert_eq!(slot.is_ok(), others == 2);
            assert_eq!(counted.lock().unwrap().ours, 3 - others);
            drop(slot);
            tokio::time::sleep(TELL_AGAIN).await;
            assert_eq!((counted.lock().unwrap().ours, pool.users.len()), (0, 0));
        }
    }

    /// While the store cannot be asked, the logins that fail leave one task behind for each user, and not one each.
    #[tokio::test(start_paused = true)]
    async fn one_task_settles_what_many_logins_have_left() {
        let (quotas, counted) = scene::quotas();
        let pool = TestPool::new(PARKED, Some(quotas)).unwrap();
        counted.lock().unwrap().fate = Fate::AnswerLost;
        for _ in 0..20 {
            let reserved = pool.reserve(&eva(), 3, &"right".into(), false).await;
            assert_eq!(reserved.err(), Some(NoSlot::Uncounted));
        }
        let before = Arc::strong_count(&pool);
        assert!(before <= 2, "{before}");
        counted.lock().unwrap().fate = Fate::Answered;
        tokio::time::sleep(2 * TELL_AGAIN).await;
        assert_eq!((counted.lock().unwrap().ours, pool.users.len()), (0, 0));
        assert_eq!(Arc::strong_count(&pool), 1);
    }

    #[test]
    fn another_spelling_is_the_same_user() {
        assert_eq!(user_key("lab", "Eva@Example.ORG"), user_key("lab", "eva@example.org"));
        assert_ne!(user_key("lab", "eva"), user_key("Lab", "eva"));
    }
}
