//! Connections to upstreams: how many a user has, and those that wait, logged in and selected, for their login's next
//! session. Only the login that opened one gets it again, and only with the secret that it gave then.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::{hmac, rand::SystemRandom};
use dashmap::DashMap;
use tokio::time::Instant;

use super::Mailbox;
use crate::config::Secret;

/// A login is asked to prove itself to the upstream again after so long, however often it comes: its password may have
/// been changed there.
const PROOF_LASTS: Duration = Duration::from_secs(30 * 60);

/// Whose connections: upstream and user count together, whatever login leads there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UserKey {
    /// `[upstream.NAME]`
    pub upstream: String,
    /// The user there.
    pub user: String,
}

/// All connections. `T` is what a session leaves for the next along with its mailbox.
pub struct Pool<T> {
    users: DashMap<UserKey, User<T>>,
    /// Of this process only.
    key: hmac::Key,
    parked_for: Duration,
    sweeping: AtomicBool,
}

struct User<T> {
    busy: usize,
    parked: Vec<Box<Parked<T>>>,
}

struct Parked<T> {
    login: String,
    folder: String,
    proof: Proof,
    since: Instant,
    mailbox: Mailbox,
    memo: T,
}

/// That a secret was right, without the secret.
#[derive(Clone, Copy)]
struct Proof {
    tag: hmac::Tag,
    since: Instant,
}

/// The right to one connection; given back when dropped.
pub struct Slot<T> {
    pool: Arc<Pool<T>>,
    user: UserKey,
    proof: Proof,
}

impl<T: Send + Sync + 'static> Pool<T> {
    /// `parked_for`: how long a connection waits; zero = not at all.
    pub fn new(parked_for: Duration) -> Result<Arc<Self>, RandomUnavailable> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).map_err(|_| RandomUnavailable)?;
        Ok(Arc::new(Self {
            users: DashMap::new(),
            key,
            parked_for,
            sweeping: AtomicBool::new(false),
        }))
    }

    /// The connection that waits for `login`, if `secret` is the one it was opened with (compared in constant time).
    pub fn take(
        self: &Arc<Self>,
        user: &UserKey,
        login: &str,
        folder: &str,
        secret: &Secret,
    ) -> Option<(Slot<T>, Mailbox, T)> {
        let mut entry = self.users.get_mut(user)?;
        let at = entry.parked.iter().position(|parked| {
            parked.login == login
                && parked.folder == folder
                && parked.since.elapsed() < self.parked_for
                && parked.proof.since.elapsed() < PROOF_LASTS
                && hmac::verify(&self.key, secret.expose(), parked.proof.tag.as_ref()).is_ok()
        })?;
        let Parked {
            proof, mailbox, memo, ..
        } = *entry.parked.swap_remove(at);
        entry.busy += 1;
        drop(entry);
        Some((
            Slot {
                pool: self.clone(),
                user: user.clone(),
                proof,
            },
            mailbox,
            memo,
        ))
    }

    /// The right to open a connection, unless `user` has `limit` of them. One that waits gives way.
    pub fn reserve(self: &Arc<Self>, user: &UserKey, limit: usize, secret: &Secret) -> Option<Slot<T>> {
        let proof = Proof {
            tag: hmac::sign(&self.key, secret.expose()),
            since: Instant::now(),
        };
        self.reserve_with(user, limit, proof)
    }

    fn reserve_with(self: &Arc<Self>, user: &UserKey, limit: usize, proof: Proof) -> Option<Slot<T>> {
        let given_way = {
            let mut entry = self.users.entry(user.clone()).or_insert_with(|| User {
                busy: 0,
                parked: Vec::new(),
            });
            if entry.busy >= limit {
                return None;
            }
            let full = entry.busy + entry.parked.len() >= limit;
            entry.busy += 1;
            full.then(|| entry.parked.swap_remove(0).mailbox)
        };
        if let Some(mailbox) = given_way {
            tokio::spawn(mailbox.logout());
        }
        Some(Slot {
            pool: self.clone(),
            user: user.clone(),
            proof,
        })
    }

    /// `login` has logged in anew: what waited for it in `folder` was opened with another secret, or is broken.
    pub fn forget(&self, user: &UserKey, login: &str, folder: &str) {
        let Some(mut entry) = self.users.get_mut(user) else {
            return;
        };
        let is_old = |parked: &mut Box<Parked<T>>| parked.login == login && parked.folder == folder;
        for parked in entry.parked.extract_if(.., is_old) {
            tokio::spawn(parked.mailbox.logout());
        }
    }

    /// Lets `mailbox` wait for the next session of `login`.
    pub fn park(self: &Arc<Self>, slot: Slot<T>, login: &str, folder: &str, mut mailbox: Mailbox, memo: T) {
        mailbox.detach();
        if self.parked_for.is_zero() || mailbox.is_broken() {
            tokio::spawn(mailbox.logout());
            return;
        }
        if let Some(mut entry) = self.users.get_mut(&slot.user) {
            let (login, folder) = (login.to_owned(), folder.to_owned());
            entry.parked.push(Box::new(Parked {
                login,
                folder,
                proof: slot.proof,
                since: Instant::now(),
                mailbox,
                memo,
            }));
        }
        tracing::debug!(upstream = slot.user.upstream, user = slot.user.user, "parked");
        // The slot goes after its connection is in: the user's entry is never empty between.
        drop(slot);
        if !self.sweeping.swap(true, Ordering::AcqRel) {
            tokio::spawn(sweep(Arc::downgrade(self), self.parked_for));
        }
    }

    /// Closes what has waited long enough; returns whether anything still waits.
    fn close_expired(&self) -> bool {
        let mut waiting = false;
        self.users.retain(|_, user| {
            for parked in user
                .parked
                .extract_if(.., |parked| parked.since.elapsed() >= self.parked_for)
            {
                tokio::spawn(parked.mailbox.logout());
            }
            waiting |= !user.parked.is_empty();
            user.busy > 0 || !user.parked.is_empty()
        });
        waiting
    }
}

/// Runs while connections wait.
async fn sweep<T: Send + Sync + 'static>(pool: Weak<Pool<T>>, parked_for: Duration) {
    let pause = (parked_for / 4).clamp(Duration::from_millis(250), Duration::from_secs(15));
    loop {
        tokio::time::sleep(pause).await;
        let Some(pool) = pool.upgrade() else { return };
        if !pool.close_expired() {
            pool.sweeping.store(false, Ordering::Release);
            // One may have been parked between the look and the store.
            if !pool.close_expired() || pool.sweeping.swap(true, Ordering::AcqRel) {
                return;
            }
        }
    }
}

impl<T: Send + Sync + 'static> Slot<T> {
    /// The right to one more connection for the same session, unless its user has `limit` of them.
    pub fn another(&self, limit: usize) -> Option<Self> {
        self.pool.reserve_with(&self.user, limit, self.proof)
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        if let Some(mut entry) = self.pool.users.get_mut(&self.user) {
            entry.busy -= 1;
        }
        self.pool
            .users
            .remove_if(&self.user, |_, user| user.busy == 0 && user.parked.is_empty());
    }
}

impl<T> std::fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("users", &self.users.len())
            .finish_non_exhaustive()
    }
}

impl<T> std::fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").field("user", &self.user).finish_non_exhaustive()
    }
}

/// The system gives no random numbers.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random numbers")]
pub struct RandomUnavailable;
