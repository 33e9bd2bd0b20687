//! How the connections that an upstream user may have are shared among the logins that want one. This module only
//! counts and decides: it holds no connections.
//!
//! A login whose secret was right lately is *proven*, any other is a *guess*. Guesses have a small budget of their own,
//! take only what is free (with one exception: [`GIVES_WAY`]), and stand behind every proven login that waits.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::proofs::Tag;

/// How many connections guesses may have at once: one, and a second so that one slow answer does not stop all guesses.
const GUESSES: usize = 2;
/// How often a guess may close a parked connection, if only parked ones are left. Without this, a user who has changed
/// the password upstream would be locked out until a connection with the old password has been parked long enough. With
/// it, guesses cost the user at most one parked connection a minute: then a device's next login takes as long as a
/// first one.
const GIVES_WAY: Duration = Duration::from_secs(60);

/// How far a login is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TrustLevel {
    /// Its secret was right lately, or comes from the configuration.
    Proven,
    /// Nothing is known of its secret.
    Guess,
}

impl TrustLevel {
    pub(super) fn of(is_guess: bool) -> Self {
        if is_guess { Self::Guess } else { Self::Proven }
    }
}

/// The number of a login that waits for a slot or has one.
pub(super) type SlotId = u64;

/// The connections of one upstream user that are not parked, and the logins that wait for one.
#[derive(Debug, Default)]
pub(super) struct SlotAllocator {
    /// Connections of proven logins.
    busy: usize,
    /// Connections of guesses, the oldest first, each with what cuts it off.
    guesses: VecDeque<(SlotId, CancellationToken)>,
    /// Connections that are being closed: the server still counts them.
    closing: usize,
    /// The logins that wait, in the order in which they came.
    waiting: VecDeque<Waiter>,
    /// When a parked connection was last closed for a guess.
    gave_way: Option<Instant>,
}

#[derive(Debug)]
struct Waiter {
    id: SlotId,
    trust: TrustLevel,
    tag: Tag,
}

/// The next step of a login that waits for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// It has a connection, which is counted already.
    Take(TrustLevel),
    /// It must close a parked connection, which is counted as closing already, and then wait.
    Evict,
    /// It must wait: something will change.
    Wait,
    /// It must give up: no connection will be free soon.
    Full,
}

impl SlotAllocator {
    pub(super) fn enqueue(&mut self, id: SlotId, trust: TrustLevel, tag: Tag) {
        let waiter = Waiter { id, trust, tag };
        self.waiting.push_back(waiter);
    }

    /// Takes the login `id` out of the queue.
    pub(super) fn dequeue(&mut self, id: SlotId) {
        self.waiting.retain(|waiter| waiter.id != id);
        if self.waiting.is_empty() {
            // A user may be logged in for hours while nobody waits, so the memory is freed.
            self.waiting = VecDeque::new();
        }
    }

    /// Decides what the login `id` must do now, and counts the connection that it takes or closes. The user may have
    /// `limit` connections; `parked` of them are parked.
    pub(super) fn decide(&mut self, id: SlotId, limit: usize, parked: usize) -> Decision {
        let Some(at) = self.waiting.iter().position(|waiter| waiter.id == id) else {
            return Decision::Full;
        };
        let count =
            |waiting: &mut dyn Iterator<Item = &Waiter>, trust| waiting.filter(|waiter| waiter.trust == trust).count();
        let trust = self.waiting[at].trust;
        let ahead = count(&mut self.waiting.range(..at), trust);
        let free = limit.saturating_sub(self.count() + parked);
        let decision = match trust {
            TrustLevel::Proven => {
                let wanted = ahead + 1;
                if free >= wanted {
                    Decision::Take(trust)
                } else if self.closing + free < wanted && parked > 0 {
                    Decision::Evict
                } else if self.busy < limit {
                    Decision::Wait
                } else {
                    Decision::Full
                }
            }
            TrustLevel::Guess => {
                let proven_wait = count(&mut self.waiting.iter(), TrustLevel::Proven) > 0;
                let is_next = ahead == 0 && !proven_wait && self.guesses.len() < budget(limit);
                let may_evict = !self.gave_way_lately();
                if is_next && free > 0 {
                    Decision::Take(trust)
                } else if is_next && self.closing == 0 && parked > 0 && may_evict {
                    self.gave_way = Some(Instant::now());
                    Decision::Evict
                } else if proven_wait || ahead > 0 || self.closing > 0 || !self.guesses.is_empty() {
                    Decision::Wait
                } else {
                    Decision::Full
                }
            }
        };
        match decision {
            Decision::Take(trust) => {
                self.dequeue(id);
                self.begin(id, trust);
            }
            Decision::Evict => self.closing += 1,
            Decision::Wait | Decision::Full => {}
        }
        decision
    }

    /// Counts a connection.
    pub(super) fn begin(&mut self, id: SlotId, trust: TrustLevel) {
        match trust {
            TrustLevel::Proven => self.busy += 1,
            TrustLevel::Guess => self.guesses.push_back((id, CancellationToken::new())),
        }
    }

    /// Stops counting a connection, which is closed or parked.
    pub(super) fn end(&mut self, id: SlotId, trust: TrustLevel) {
        match trust {
            TrustLevel::Proven => self.busy -= 1,
            TrustLevel::Guess => {
                self.guesses.retain(|(guess, _)| *guess != id);
                if self.guesses.is_empty() {
                    self.guesses = VecDeque::new();
                }
            }
        }
    }

    /// Notes that the secret of the guess `id` is right. Every login that waits with the same secret is proven too.
    pub(super) fn mark_proven(&mut self, id: SlotId, tag: Tag) {
        self.end(id, TrustLevel::Guess);
        self.begin(id, TrustLevel::Proven);
        for waiter in self.waiting.iter_mut().filter(|waiter| waiter.tag == tag) {
            waiter.trust = TrustLevel::Proven;
        }
    }

    /// The token that is cancelled when the guess `id` is cut off; `None` for a proven login, which is never cut off.
    pub(super) fn cut(&self, id: SlotId) -> Option<CancellationToken> {
        let guess = self.guesses.iter().find(|(guess, _)| *guess == id);
        guess.map(|(_, cut)| cut.clone())
    }

    /// Cuts off the oldest guess that is not cut off yet, if the login `id`, which has waited long enough, is proven.
    pub(super) fn cut_guess(&self, id: SlotId) {
        let waiter = self.waiting.iter().find(|waiter| waiter.id == id);
        let oldest = self.guesses.iter().find(|(_, cut)| !cut.is_cancelled());
        if let Some((_, cut)) = oldest.filter(|_| waiter.is_some_and(|waiter| waiter.trust == TrustLevel::Proven)) {
            cut.cancel();
        }
    }

    pub(super) fn begin_closing(&mut self) {
        self.closing += 1;
    }

    pub(super) fn end_closing(&mut self) {
        self.closing -= 1;
    }

    /// How many connections are not parked.
    pub(super) fn count(&self) -> usize {
        self.busy + self.guesses.len() + self.closing
    }

    /// Whether a guess may have a parked connection closed now, here or at another gateway. If so, notes the time: the
    /// next guess must wait.
    pub(super) fn may_give_way(&mut self) -> bool {
        let may = !self.gave_way_lately();
        if may {
            self.gave_way = Some(Instant::now());
        }
        may
    }

    /// Whether a parked connection was closed for a guess so lately that the next guess may not have another closed.
    fn gave_way_lately(&self) -> bool {
        self.gave_way.is_some_and(|at| at.elapsed() < GIVES_WAY)
    }

    /// Whether nothing needs to be remembered.
    pub(super) fn is_idle(&self) -> bool {
        self.count() + self.waiting.len() == 0 && !self.gave_way_lately()
    }
}

/// How many of `limit` connections guesses may have: one is left for a proven login, unless there is only one.
fn budget(limit: usize) -> usize {
    GUESSES.min(limit.saturating_sub(1)).max(1)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SECRET: Tag = [1; 16];

    fn enqueue(slots: &mut SlotAllocator, id: SlotId, trust: TrustLevel) {
        slots.enqueue(id, trust, SECRET);
    }

    fn decide(slots: &mut SlotAllocator, id: SlotId, trust: TrustLevel, limit: usize, parked: usize) -> Decision {
        enqueue(slots, id, trust);
        let decision = slots.decide(id, limit, parked);
        if decision == Decision::Full {
            slots.dequeue(id);
        }
        decision
    }

    #[tokio::test]
    async fn guesses_have_a_budget_that_leaves_something() {
        for (limit, expected) in [(1, 1), (2, 1), (3, 2), (8, 2), (100, 2)] {
            let mut slots = SlotAllocator::default();
            let taken = (0..50)
                .filter(|&id| decide(&mut slots, id, TrustLevel::Guess, limit, 0) == Decision::Take(TrustLevel::Guess));
            assert_eq!(taken.count(), expected, "{limit}");
            if limit > 1 {
                let decision = decide(&mut slots, 99, TrustLevel::Proven, limit, 0);
                assert_eq!(decision, Decision::Take(TrustLevel::Proven), "{limit}");
            }
        }
    }

    #[tokio::test]
    async fn a_proven_login_goes_before_guesses() {
        let mut slots = SlotAllocator::default();
        assert_eq!(
            decide(&mut slots, 1, TrustLevel::Guess, 1, 0),
            Decision::Take(TrustLevel::Guess)
        );
        assert_eq!(decide(&mut slots, 2, TrustLevel::Guess, 1, 0), Decision::Wait);
        assert_eq!(
            decide(&mut slots, 3, TrustLevel::Proven, 1, 0),
            Decision::Wait,
            "for the guess to end"
        );
        slots.end(1, TrustLevel::Guess);
        assert_eq!(slots.decide(2, 1, 0), Decision::Wait, "the proven one is next");
        assert_eq!(slots.decide(3, 1, 0), Decision::Take(TrustLevel::Proven));
        assert_eq!(decide(&mut slots, 4, TrustLevel::Proven, 1, 0), Decision::Full);
        slots.end(3, TrustLevel::Proven);
        assert_eq!(slots.decide(2, 1, 0), Decision::Take(TrustLevel::Guess));
    }

    #[tokio::test]
    async fn what_is_parked_gives_way_to_a_proven_login_once_it_is_closed() {
        let mut slots = SlotAllocator::default();
        assert_eq!(decide(&mut slots, 1, TrustLevel::Proven, 2, 2), Decision::Evict);
        assert_eq!(slots.decide(1, 2, 1), Decision::Wait, "one for each");
        assert_eq!(decide(&mut slots, 2, TrustLevel::Proven, 2, 1), Decision::Evict);
        slots.end_closing();
        assert_eq!(slots.decide(2, 2, 0), Decision::Wait, "in the order in which they came");
        assert_eq!(slots.decide(1, 2, 0), Decision::Take(TrustLevel::Proven));
        slots.end_closing();
        assert_eq!(slots.decide(2, 2, 0), Decision::Take(TrustLevel::Proven));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_parked_gives_way_to_a_guess_once_a_minute_if_nothing_else_is_free() {
        for limit in [1, 8] {
            let mut slots = SlotAllocator::default();
            assert_eq!(decide(&mut slots, 1, TrustLevel::Guess, limit, limit), Decision::Evict);
            slots.end_closing();
            assert_eq!(slots.decide(1, limit, limit - 1), Decision::Take(TrustLevel::Guess));
            slots.end(1, TrustLevel::Guess);
            assert!(!slots.is_idle(), "it is not forgotten when it gave way");
            assert_eq!(decide(&mut slots, 2, TrustLevel::Guess, limit, limit), Decision::Full);
            advance(GIVES_WAY).await;
            assert!(slots.is_idle());
            assert_eq!(decide(&mut slots, 3, TrustLevel::Guess, limit, limit), Decision::Evict);
        }
        let mut slots = SlotAllocator::default();
        assert_eq!(
            decide(&mut slots, 1, TrustLevel::Guess, 8, 7),
            Decision::Take(TrustLevel::Guess),
            "something is free"
        );
    }

    #[tokio::test]
    async fn who_waits_with_a_secret_that_turns_out_right_is_proven() {
        let mut slots = SlotAllocator::default();
        assert_eq!(
            decide(&mut slots, 1, TrustLevel::Guess, 3, 0),
            Decision::Take(TrustLevel::Guess)
        );
        assert_eq!(
            decide(&mut slots, 2, TrustLevel::Guess, 3, 0),
            Decision::Take(TrustLevel::Guess)
        );
        assert_eq!(decide(&mut slots, 3, TrustLevel::Guess, 3, 0), Decision::Wait);
        slots.enqueue(4, TrustLevel::Guess, [2; 16]);
        slots.mark_proven(1, SECRET);
        assert_eq!(slots.decide(3, 3, 0), Decision::Take(TrustLevel::Proven));
        assert_eq!(slots.decide(4, 3, 0), Decision::Wait, "another secret");
    }

    #[tokio::test]
    async fn a_proven_login_cuts_off_one_guess_after_the_other() {
        let mut slots = SlotAllocator::default();
        for id in [1, 2] {
            assert_eq!(
                decide(&mut slots, id, TrustLevel::Guess, 3, 0),
                Decision::Take(TrustLevel::Guess)
            );
        }
        let cuts = [1, 2].map(|id| slots.cut(id).unwrap());
        let are_cut = || cuts.each_ref().map(CancellationToken::is_cancelled);
        enqueue(&mut slots, 3, TrustLevel::Guess);
        slots.cut_guess(3);
        assert_eq!(are_cut(), [false, false], "a guess cuts nothing");
        enqueue(&mut slots, 4, TrustLevel::Proven);
        slots.cut_guess(4);
        assert_eq!(are_cut(), [true, false]);
        slots.cut_guess(4);
        assert_eq!(are_cut(), [true, true]);
        assert!(slots.cut(4).is_none());
    }
}
