//! What gateways that share state count together: failed logins, the pauses that upstreams ask for, and the connections
//! of each upstream user. A gateway alone has no [`Quotas`].
//!
//! Failures and pauses are told to the others twice a second. If a word is lost, another gateway counts a failure less,
//! or asks an upstream once that wants to be left alone. The connections are counted in the shared store, which is asked
//! before each new one.

use std::{net::IpAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Mutex, mpsc},
    time::{MissedTickBehavior, interval},
};

use crate::{
    config::Secret,
    state::{Seated, Seats, StateStore},
    types::{RandomUnavailable, Sealer, random_name},
};

pub(crate) use crate::state::{GatewayName, UpstreamUser};

/// How often a gateway tells and hears.
const BEAT: Duration = Duration::from_millis(500);
/// How many octets of words are told at once. A flood of failures is told in part, which is enough to refuse it.
const TOLD: usize = 8 * 1024;
/// How many words wait to be told. Further ones are dropped.
const WAITING: usize = 1024;
/// Keeps the key of words apart from other keys that are derived from the same secret.
const PURPOSE: &[u8] = b"popgate words between gateways";

/// Something that gateways tell each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// A login has failed: its secret was wrong, or there is no such login.
    Failure {
        /// The login as it is counted.
        login: Vec<u8>,
        /// Where it came from.
        address: IpAddr,
    },
    /// An upstream has asked to be left alone as a user.
    Pause {
        /// The name of the upstream.
        upstream: String,
        /// The user there.
        user: String,
        /// Whether a guess has caused the pause.
        is_guess: bool,
        /// How long the pause lasts.
        length: Duration,
    },
    /// A login at another gateway waits for a connection as this user: whoever has one parked closes it.
    Yield {
        /// Which gateway is meant.
        to: GatewayName,
        /// The name of the upstream.
        upstream: String,
        /// The server that this upstream is.
        server: String,
        /// The user there.
        user: String,
    },
}

/// Whether this gateway may have connections as an upstream user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seat {
    /// It may, and they are counted.
    Granted,
    /// It may not: these gateways have the others.
    Full(Vec<GatewayName>),
    /// The store could not be asked (logged).
    Uncounted,
}

/// This gateway's part in what gateways count together.
#[derive(Debug, Clone)]
pub struct Quotas(Arc<Ours>);

#[derive(Debug)]
struct Ours {
    store: Arc<dyn StateStore>,
    name: GatewayName,
    sealer: Sealer,
    /// The words that wait to be told: where they are put, and where the one task that tells them takes them out.
    words: mpsc::Sender<Word>,
    outbox: Mutex<mpsc::Receiver<Word>>,
    alive: ArcSwap<Vec<GatewayName>>,
}

impl Quotas {
    /// Takes part in what the gateways that share `store` count together; `None` if `store` is not shared. What they tell
    /// each other is sealed under `key`.
    pub fn join(store: &Arc<dyn StateStore>, key: Option<&Secret>) -> Result<Option<Self>, RandomUnavailable> {
        if store.lease().is_none() {
            return Ok(None);
        }
        let name = random_name()?;
        let (words, outbox) = mpsc::channel(WAITING);
        let ours = Ours {
            store: store.clone(),
            name,
            sealer: Sealer::new(key.map(Secret::expose), &[PURPOSE])?,
            words,
            outbox: Mutex::new(outbox),
            alive: ArcSwap::from_pointee(vec![name]),
        };
        Ok(Some(Self(Arc::new(ours))))
    }

    /// Tells the other gateways `word`, soon.
    pub fn tell(&self, word: Word) {
        // Too much is said already, or the gateway ends.
        let _ = self.0.words.try_send(word);
    }

    /// Asks the gateway `to` to close a connection of `user` that is parked there.
    pub fn ask_to_yield(&self, to: GatewayName, user: UpstreamUser<'_>) {
        self.tell(Word::Yield {
            to,
            upstream: user.upstream.to_owned(),
            server: user.server.to_owned(),
            user: user.user.to_owned(),
        });
    }

    /// Has it counted that this gateway has `count` connections as `user`, or wants them, if all gateways together have no
    /// more than `limit` then.
    pub async fn seat(&self, user: UpstreamUser<'_>, count: usize, limit: usize) -> Seat {
        let Ours { store, name, .. } = &*self.0;
        let mut alive = self.0.alive.load_full();
        for is_complete in [false, true] {
            let seats = Seats {
                user,
                gateway: name,
                count,
                limit,
                alive: &alive,
                is_complete,
            };
            match store.seat(seats).await {
                Ok(Seated::Yes) => return Seat::Granted,
                Ok(Seated::Full(others)) => return Seat::Full(others),
                // A gateway is new, or dead.
                Ok(Seated::Unknown) => {}
                Err(_) => break,
            }
            let Ok(heard) = store.confer(name, None, None).await else {
                break;
            };
            alive = Arc::new(heard.alive);
            self.0.alive.store(alive.clone());
        }
        Seat::Uncounted
    }

    /// Makes the others forget the connections of this gateway, which ends.
    pub async fn leave(&self) {
        // A failure has been logged; the others notice by themselves after a while.
        let _ = self.0.store.retire(&self.0.name).await;
    }

    /// Tells the words that wait and passes on what other gateways tell, for ever.
    pub async fn confer(&self, hear: impl Fn(Word)) {
        let mut position = None;
        let mut clock = interval(BEAT);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            clock.tick().await;
            position = self.beat(position, &hear).await;
        }
    }

    /// Tells and hears once. Returns up to where the others have been heard.
    async fn beat(&self, position: Option<String>, hear: &impl Fn(Word)) -> Option<String> {
        let Ours {
            store, name, sealer, ..
        } = &*self.0;
        let words = waiting(&mut *self.0.outbox.lock().await);
        let told = (!words.is_empty()).then(|| sealer.seal(&words, &[]).ok()).flatten();
        // A failure has been logged. The words are lost.
        let Ok(heard) = store.confer(name, position.as_deref(), told.as_deref()).await else {
            return position;
        };
        self.0.alive.store(Arc::new(heard.alive));
        for sealed in heard.words {
            let Some(words) = sealer.open(&sealed, &[]) else {
                tracing::debug!("another gateway has said something that cannot be opened");
                continue;
            };
            let mut rest = &words[..];
            // Words of a later version are not understood; the words before them are.
            while let Ok((word, further)) = postcard::take_from_bytes(rest) {
                match word {
                    Word::Yield { to, .. } if to != *name => {}
                    word => hear(word),
                }
                rest = further;
            }
        }
        Some(heard.position)
    }
}

/// Takes the words that wait out of `outbox`, as many as are told at once.
fn waiting(outbox: &mut mpsc::Receiver<Word>) -> Vec<u8> {
    let mut words = Vec::new();
    while words.len() < TOLD
        && let Ok(word) = outbox.try_recv()
    {
        // Fails for nothing that a word has in it.
        words.extend(postcard::to_stdvec(&word).unwrap_or_default());
    }
    words
}

#[cfg(test)]
pub(crate) mod scene;
#[cfg(test)]
#[cfg(unix)]
mod tests;
