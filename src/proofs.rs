//! Remembers which secrets were right or wrong lately: not the secrets themselves but keyed hashes, in bounded memory.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_lc_rs::{hmac, rand::SystemRandom};
use tokio::time::Instant;

pub(crate) use crate::types::RandomUnavailable;

/// For how long a secret that was right is not counted as a guess: a device that is off over the weekend comes back in time. If
/// the secret is refused, this ends at once.
pub(crate) const PROVEN_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

/// Hashes secrets with a random key that only this process has.
#[derive(Debug)]
pub(crate) struct KeyedHash(hmac::Key);

/// A hash that stands for the secret of a login.
pub(crate) type Tag = [u8; 16];

impl KeyedHash {
    pub(crate) fn new() -> Result<Self, RandomUnavailable> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        key.map(Self).map_err(|_| RandomUnavailable)
    }

    /// The tag of `parts`. The length of each part is hashed too, so that no octet can move from one part to the next.
    pub(crate) fn tag<const N: usize>(&self, parts: [&[u8]; N]) -> Tag {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(&part.len().to_be_bytes());
            context.update(part);
        }
        let mut tag = Tag::default();
        tag.copy_from_slice(&context.sign().as_ref()[..size_of::<Tag>()]);
        tag
    }
}

/// The most tags in one generation. Two full generations take 10 MB.
const GENERATION: usize = 65_536;

/// Tags that were inserted lately. If there are too many, the oldest are forgotten.
#[derive(Debug)]
pub(crate) struct Recent {
    lasts: Duration,
    generations: Mutex<Generations>,
}

#[derive(Debug)]
struct Generations {
    current: HashMap<Tag, Instant>,
    previous: HashMap<Tag, Instant>,
    since: Instant,
}

impl Recent {
    /// Remembers each tag for `lasts`.
    pub(crate) fn new(lasts: Duration) -> Self {
        Self {
            lasts,
            generations: Mutex::new(Generations {
                current: HashMap::new(),
                previous: HashMap::new(),
                since: Instant::now(),
            }),
        }
    }

    /// Remembers `tag` from now on, even if it is known already: then its time starts again.
    pub(crate) fn insert(&self, tag: Tag) {
        let now = Instant::now();
        let mut generations = self.lock();
        if generations.current.len() >= GENERATION || now - generations.since >= self.lasts {
            generations.previous = std::mem::take(&mut generations.current);
            generations.since = now;
        }
        generations.previous.remove(&tag);
        generations.current.insert(tag, now);
    }

    pub(crate) fn contains(&self, tag: &Tag) -> bool {
        let generations = self.lock();
        let at = generations.current.get(tag).or_else(|| generations.previous.get(tag));
        at.is_some_and(|at| at.elapsed() < self.lasts)
    }

    /// Forgets `tag`; returns whether it was known.
    pub(crate) fn remove(&self, tag: &Tag) -> bool {
        let mut generations = self.lock();
        // The tag is in only one of the two, see `insert`.
        let at = generations.current.remove(tag);
        let at = at.or_else(|| generations.previous.remove(tag));
        at.is_some_and(|at| at.elapsed() < self.lasts)
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const LASTS: Duration = Duration::from_secs(60);

    #[test]
    fn tags_differ_by_part_and_by_process() {
        let [hash, other] = [(); 2].map(|()| KeyedHash::new().unwrap());
        let tag = hash.tag([b"eva", b"secret"]);
        assert_eq!(tag, hash.tag([b"eva", b"secret"]));
        for parts in [
            [&b"eva"[..], b"secre"],
            [b"ev", b"asecret"],
            [b"evas", b"ecret"],
            [b"", b"evasecret"],
        ] {
            assert_ne!(tag, hash.tag(parts));
        }
        assert_ne!(tag, other.tag([b"eva", b"secret"]));
    }

    #[tokio::test(start_paused = true)]
    async fn remembered_for_a_while() {
        let recent = Recent::new(LASTS);
        let tag = [7; 16];
        assert!(!recent.contains(&tag));
        recent.insert(tag);
        advance(LASTS - Duration::from_millis(1)).await;
        assert!(recent.contains(&tag));
        advance(Duration::from_millis(1)).await;
        assert!(!recent.contains(&tag));
        recent.insert(tag);
        assert!(recent.remove(&tag) && !recent.remove(&tag) && !recent.contains(&tag));
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_the_oldest_go() {
        let recent = Recent::new(LASTS);
        let tag = |number: u128| number.to_be_bytes();
        for number in 0..1_000_000 {
            recent.insert(tag(number));
        }
        let len = || {
            let generations = recent.lock();
            generations.current.len() + generations.previous.len()
        };
        assert!(len() <= 2 * GENERATION);
        assert!(recent.contains(&tag(999_999)) && recent.contains(&tag(999_999 - 60_000)) && !recent.contains(&tag(0)));
        advance(LASTS).await;
        recent.insert(tag(1));
        advance(LASTS).await;
        recent.insert(tag(2));
        assert_eq!(len(), 2, "what is over is forgotten");
    }
}
