//! What gateways that share state count together: failed logins, the pauses that upstreams ask for, and the connections
//! of each upstream user. A gateway alone has no [`Quotas`].
//!
//! Each gateway sends its failures and pauses to the others twice a second, as [`Word`]s. If one is lost, another
//! gateway counts one failure less, or asks an upstream once although that upstream has asked for a pause. The
//! connections are counted in the shared store, which a gateway asks before it opens another one.

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
    types::{RandomUnavailable, Sealer, random_octets},
};

pub(crate) use crate::state::{GatewayName, UpstreamUser};

/// How often a gateway sends its words and reads those of the others.
const BEAT: Duration = Duration::from_millis(500);
/// Octets of words after which a gateway sends no more at once. Of a flood of failed logins only a part is sent, which
/// is enough for the other gateways to refuse further ones.
const TOLD: usize = 8 * 1024;
/// How many words may wait to be sent. Further ones are dropped.
const WAITING: usize = 1024;
/// The purpose of the key that encrypts words. Other keys are derived from the same secret.
const PURPOSE: &[u8] = b"popgate words between gateways";

/// A message from one gateway to the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// A login has failed: its secret was wrong, or there is no such login.
    Failure {
        /// In lower case and cut to a length, as the throttle counts it.
        login: Vec<u8>,
        /// The device's address.
        address: IpAddr,
    },
    /// An upstream has asked for a pause: until it is over, logins as this user wait.
    Pause {
        upstream: String,
        user: String,
        /// Whether the login that caused the pause was a guess. If so, only guesses wait.
        is_guess: bool,
        /// Counted from when the word is received.
        length: Duration,
    },
    /// A login at the sending gateway waits for a connection as this user. If the gateway `to` has one parked, it
    /// closes it.
    Yield {
        to: GatewayName,
        upstream: String,
        /// See [`UpstreamUser::server`].
        server: String,
        user: String,
    },
}

/// Whether this gateway may have connections as an upstream user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seat {
    /// It may, and the store counts them.
    Granted,
    /// It may not. These other gateways have connections as the user.
    Full(Vec<GatewayName>),
    /// Nobody knows, because the store could not be asked (logged).
    Uncounted,
}

/// This gateway's access to what gateways count together.
#[derive(Debug, Clone)]
pub struct Quotas(Arc<Ours>);

#[derive(Debug)]
struct Ours {
    store: Arc<dyn StateStore>,
    name: GatewayName,
    sealer: Sealer,
    /// Puts words into `outbox`.
    words: mpsc::Sender<Word>,
    /// The words that wait to be sent. One task takes them out.
    outbox: Mutex<mpsc::Receiver<Word>>,
    /// The gateways that are alive, as the store last said.
    alive: ArcSwap<Vec<GatewayName>>,
}

impl Quotas {
    /// Joins the gateways that share `store`; `None` if `store` is not shared. Words are encrypted with a key that is
    /// derived from `key`, which all gateways have.
    pub fn join(store: &Arc<dyn StateStore>, key: Option<&Secret>) -> Result<Option<Self>, RandomUnavailable> {
        if store.lease().is_none() {
            return Ok(None);
        }
        let name = random_octets()?;
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

    /// Sends `word` to the other gateways within half a second. If too many words wait already, drops it.
    pub fn tell(&self, word: Word) {
        // Fails only if too many words wait.
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

    /// Has the store count `count` connections of this gateway as `user`: those that it has and those that it wants.
    /// The store refuses if all gateways together would have more than `limit`, unless `count` is lower than before.
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
                // Another gateway has connections, but is not in `alive`: it is new, or dead. The store knows which.
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

    /// Tells the store that this gateway ends, so that its connections no longer count.
    pub async fn leave(&self) {
        // A failure has been logged. This gateway counts as dead anyway a while after its last word.
        let _ = self.0.store.retire(&self.0.name).await;
    }

    /// Sends the words that wait, and passes the words of other gateways to `hear`. Never returns.
    pub async fn confer(&self, hear: impl Fn(Word)) {
        let mut position = None;
        let mut clock = interval(BEAT);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            clock.tick().await;
            position = self.beat(position, &hear).await;
        }
    }

    /// Sends and receives words once. Returns the position up to which the words of all gateways have been read.
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
            // A later version may send words that this one cannot read. The words before them are read, the rest is
            // skipped.
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

/// Takes words out of `outbox`, as many as are sent at once, and encodes them.
fn waiting(outbox: &mut mpsc::Receiver<Word>) -> Vec<u8> {
    let mut words = Vec::new();
    while words.len() < TOLD
        && let Ok(word) = outbox.try_recv()
    {
        // Encoding to memory fails for no value that a word can have.
        words.extend(postcard::to_stdvec(&word).unwrap_or_default());
    }
    words
}

#[cfg(test)]
pub(crate) mod scene;
#[cfg(test)]
#[cfg(unix)]
mod tests;
