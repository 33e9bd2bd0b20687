//! One session for each maildrop (RFC 1939 §4: the exclusive-access lock).

use std::{sync::Arc, time::Duration};

use dashmap::DashMap;
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::{Instant, timeout},
};

use crate::types::MailboxName;

/// The maildrops that sessions hold or wait for.
#[derive(Debug, Clone, Default)]
pub(super) struct Locks(Arc<DashMap<Arc<Key>, Arc<Mutex<()>>>>);

/// What is locked: the mailbox for all logins, or for one login only.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    mailbox: Arc<MailboxName>,
    /// The login, if the lock is for this login only.
    login: Option<String>,
}

/// A maildrop, held while this lives.
#[derive(Debug)]
pub(super) struct Lock {
    _mailbox: Option<HeldKey>,
    _login: HeldKey,
}

#[derive(Debug)]
struct HeldKey {
    /// Has a reference to the mutex. Must be dropped before `_place`, which counts the references.
    _guard: OwnedMutexGuard<()>,
    _place: Place,
}

/// A session that holds a maildrop or waits for it. The last one that ends removes the entry in [`Locks`].
#[derive(Debug)]
struct Place {
    locks: Locks,
    key: Arc<Key>,
    mutex: Arc<Mutex<()>>,
}

impl Locks {
    /// Takes the maildrop that `login` has in `mailbox`. Waits for `patience` at most, first come, first served.
    /// Returns `None` if another session still holds the maildrop then. If the future is dropped, the session leaves
    /// the queue.
    ///
    /// Two logins that lead to the same folder of the same user exclude each other, unless one of them hides messages
    /// for itself only (`is_private`: `hide`). Two sessions of one login always exclude each other, even if the
    /// configuration has been reloaded between them.
    pub(super) async fn hold(
        &self,
        mailbox: &Arc<MailboxName>,
        login: &str,
        is_private: bool,
        patience: Duration,
    ) -> Option<Lock> {
        let begun = Instant::now();
        let key = |login| Key {
            mailbox: mailbox.clone(),
            login,
        };
        let own = self.acquire(key(Some(login.to_owned())), patience).await?;
        let left = patience.saturating_sub(begun.elapsed());
        let mailbox = if is_private {
            None
        } else {
            Some(self.acquire(key(None), left).await?)
        };
        Some(Lock {
            _mailbox: mailbox,
            _login: own,
        })
    }

    async fn acquire(&self, key: Key, patience: Duration) -> Option<HeldKey> {
        let key = Arc::new(key);
        let place = Place {
            mutex: self.0.entry(key.clone()).or_default().clone(),
            locks: self.clone(),
            key,
        };
        let guard = match place.mutex.clone().try_lock_owned() {
            Ok(guard) => guard,
            Err(_) if patience.is_zero() => return None,
            Err(_) => timeout(patience, place.mutex.clone().lock_owned()).await.ok()?,
        };
        Some(HeldKey {
            _guard: guard,
            _place: place,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mutex = std::mem::take(&mut self.mutex);
        self.locks.0.remove_if(&self.key, |_, kept| {
            // This runs under the lock of the map's entry. Otherwise two sessions that end at the same time could each
            // see the other's reference, and neither would remove the entry.
            drop(mutex);
            Arc::strong_count(kept) == 1
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::yield_now;

    use super::*;

    fn key(folder: &str) -> Key {
        Key {
            mailbox: Arc::new(MailboxName {
                upstream: "home".into(),
                user: "eva".into(),
                folder: folder.into(),
            }),
            login: None,
        }
    }

    /// Waits for INBOX and holds it for `held`. Returns how long it waited; `None` if it gave up.
    async fn visit(locks: Locks, patience: Duration, held: Duration) -> Option<Duration> {
        let begun = Instant::now();
        let lock = locks.acquire(key("INBOX"), patience).await?;
        let waited = begun.elapsed();
        tokio::time::sleep(held).await;
        drop(lock);
        Some(waited)
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time() {
        let locks = Locks::default();
        let inbox = locks.acquire(key("INBOX"), Duration::ZERO).await;
        let lists = locks.acquire(key("Lists"), Duration::ZERO).await;
        assert!(inbox.is_some() && lists.is_some());
        let begun = Instant::now();
        assert!(locks.acquire(key("INBOX"), Duration::ZERO).await.is_none());
        assert_eq!(begun.elapsed(), Duration::ZERO);
        let private = Key {
            login: Some("tickets".into()),
            ..key("INBOX")
        };
        let private = locks.acquire(private, Duration::ZERO).await;
        assert!(private.is_some());
        drop(inbox);
        assert!(locks.acquire(key("INBOX"), Duration::ZERO).await.is_some());
        drop((lists, private));
        assert!(locks.0.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_excludes_itself_whatever_its_policy_was() {
        let (locks, inbox) = (Locks::default(), key("INBOX").mailbox);
        let hold = |login, is_private| locks.hold(&inbox, login, is_private, Duration::ZERO);
        let hiding = hold("pbx", true).await;
        assert!(hiding.is_some());
        assert!(hold("pbx", false).await.is_none() && hold("pbx", true).await.is_none());
        let fax = hold("fax", false).await;
        assert!(fax.is_some() && hold("ticket", false).await.is_none());
        drop(hiding);
        assert!(hold("pbx", false).await.is_none());
        assert!(hold("pbx", true).await.is_some());
        drop(fax);
        assert!(hold("pbx", false).await.is_some());
        assert!(locks.0.is_empty());
    }

    /// Waiting for both locks takes no longer than `patience`.
    #[tokio::test(start_paused = true)]
    async fn patience_is_for_both_locks() {
        let (locks, inbox) = (Locks::default(), key("INBOX").mailbox);
        let hiding = locks.hold(&inbox, "pbx", true, Duration::ZERO).await;
        let fax = locks.hold(&inbox, "fax", false, Duration::ZERO).await;
        assert!(hiding.is_some() && fax.is_some());
        tokio::spawn(async move {
            tokio::time::sleep(3 * SECOND).await;
            drop(hiding);
        });
        let begun = Instant::now();
        assert!(locks.hold(&inbox, "pbx", false, 5 * SECOND).await.is_none());
        assert_eq!(begun.elapsed(), 5 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_sessions_are_served_in_order_or_refused_in_time() {
        let locks = Locks::default();
        let holder = tokio::spawn(visit(locks.clone(), Duration::ZERO, 3 * SECOND));
        yield_now().await;
        let first = tokio::spawn(visit(locks.clone(), 10 * SECOND, 4 * SECOND));
        yield_now().await;
        let impatient = tokio::spawn(visit(locks.clone(), 2 * SECOND, SECOND));
        let second = tokio::spawn(visit(locks.clone(), 10 * SECOND, SECOND));
        yield_now().await;
        assert_eq!(
            visit(locks.clone(), Duration::ZERO, SECOND).await,
            None,
            "nobody passes by"
        );
        assert_eq!(impatient.await.unwrap(), None);
        assert_eq!(holder.await.unwrap(), Some(Duration::ZERO));
        assert_eq!(first.await.unwrap(), Some(3 * SECOND));
        assert_eq!(second.await.unwrap(), Some(7 * SECOND));
        assert!(locks.0.is_empty(), "nothing is left of them");
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_hangs_up_delays_nobody() {
        let locks = Locks::default();
        let lock = locks.acquire(key("INBOX"), Duration::ZERO).await.unwrap();
        let gone = tokio::spawn(visit(locks.clone(), 10 * SECOND, SECOND));
        yield_now().await;
        let next = tokio::spawn(visit(locks.clone(), 10 * SECOND, SECOND));
        yield_now().await;
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
        drop(lock);
        assert_eq!(next.await.unwrap(), Some(Duration::ZERO));
        assert!(locks.0.is_empty());

        // The waiting session is given the maildrop, and hangs up before it takes it.
        let lock = locks.acquire(key("INBOX"), Duration::ZERO).await.unwrap();
        let gone = tokio::spawn(visit(locks.clone(), 10 * SECOND, SECOND));
        yield_now().await;
        drop(lock);
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
        assert!(locks.0.is_empty());
        assert!(locks.acquire(key("INBOX"), Duration::ZERO).await.is_some());
    }

    /// Many sessions at once, some of which give up.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nothing_is_left_behind() {
        let locks = Locks::default();
        let tasks: Vec<_> = (0..200u64)
            .map(|number| tokio::spawn(visit(locks.clone(), Duration::from_millis(number % 3), Duration::ZERO)))
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert!(locks.0.is_empty());
    }
}
