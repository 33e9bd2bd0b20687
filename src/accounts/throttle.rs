//! Slows down guessing: after each failure the next attempt waits longer, and after too many failures an attempt is
//! refused without verifying its secret. (A response to a challenge is verified first, because the throttle counts a
//! right response as the secret.)
//!
//! Failures are counted per login and address, per login, per address, and in all. The counters have a fixed size: a
//! flood of made-up logins or addresses does not make them forget a failure. An attempt with a secret that was right
//! lately is not counted: the guesses of others do not lock out the owner. Gateways that share state tell each other of
//! failures, and count those of all.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::{BuildHasher, Hash},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::{Account, Denied};
use crate::{
    config::Secret,
    proofs::{KeyedHash, PROVEN_FOR, RandomUnavailable, Recent, Tag},
    quotas::{Quotas, Word},
    types::network,
};

/// How long a window of counting lasts. The first failure opens it.
const WINDOW: Duration = Duration::from_secs(60);
/// Failures of one login from one address in a window. After more, the address is throttled for that login until the
/// window ends.
const FAILURES: u32 = 10;
/// Failures of one login from all addresses. After more, an address that has failed for that login in this window is
/// throttled for it; an address that has not failed has one try, because it may be the owner's.
const LOGIN_FAILURES: Limit = Limit { usual: 30, pressed: 10 };
/// Failures from one address over all logins: several devices with an old password poll behind one address.
const ADDRESS_FAILURES: Limit = Limit {
    usual: 100,
    pressed: 20,
};
/// Failures from a /48 of IPv6, which one customer may have: 65,536 addresses as they are counted here.
const SITE_FAILURES: Limit = Limit {
    usual: 1000,
    pressed: 200,
};
/// If there are more failures than this in all, many addresses attack: the stricter limits apply until the window ends.
const PRESSURE: u32 = 10_000;
/// How long the attempt after the first failure is delayed. Each further failure doubles the delay.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// How long a refusal takes at least: longer than the computation of a hash, and longer than the refusal of most upstreams on
/// the local network. So the time reveals neither whether a login exists nor whether the gateway or the upstream refused it.
const REFUSAL: Duration = Duration::from_millis(100);

/// Cells in a row of counters. If a million different keys fail in a window, a cell counts four on average, far below
/// every limit.
const CELLS: usize = 1 << 18;
const ROWS: usize = 2;
/// Cells in a page. Only pages with a counted failure take memory: 12 MB at most.
const PAGE: usize = 128;

/// How many octets of a login are counted. Logins that are equal up to there are counted as one.
const LONGEST_LOGIN: usize = 320;

#[derive(Debug, Clone, Copy)]
struct Limit {
    usual: u32,
    pressed: u32,
}

/// Counts failed attempts and decides how long the next one waits.
#[derive(Debug)]
pub(super) struct Throttle {
    hash: KeyedHash,
    /// Logins with secrets that were right lately.
    proven: Recent,
    /// Tells other gateways of failures; `None` if this one is alone.
    quotas: Option<Quotas>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    begun: Instant,
    hasher: RandomState,
    pairs: Counters,
    logins: Counters,
    addresses: Counters,
    all: Window,
    /// When [`State::tidy`] last freed memory, in milliseconds.
    tidied: u64,
    /// Attempts under way, by login and secret: the same secret tried twice at once is one guess.
    under_way: Multiset<Tag>,
    /// Guesses under way, by the keys of `pairs` and of `logins`. Each counts like a failure until its verdict.
    guesses: Multiset<u64>,
}

/// One attempt to log in. If it is dropped without a verdict, as when a device hangs up, it counts as a failure.
#[derive(Debug)]
pub struct Attempt {
    throttle: Arc<Throttle>,
    /// The login as it is counted, and where it comes from.
    login: Vec<u8>,
    peer: IpAddr,
    keys: CounterKeys,
    tag: Tag,
    delay: Duration,
    is_suspect: bool,
    /// When the verification of the secret began.
    begun: Instant,
    /// Whether it is one of the guesses under way.
    is_guess: bool,
    verdict: Option<Verdict>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Succeeded,
    Failed,
    Undecided,
}

/// The keys that an attempt is counted by: login with address, login, address, and IPv6 site (/48). They are hashes, so their
/// size does not depend on what a device sends.
#[derive(Debug, Clone, Copy)]
struct CounterKeys {
    pair: u64,
    login: u64,
    address: u64,
    site: Option<u64>,
}

impl Throttle {
    /// A throttle without failures. `quotas`: tells other gateways of failures.
    pub(super) fn new(quotas: Option<Quotas>) -> Result<Arc<Self>, RandomUnavailable> {
        Ok(Arc::new(Self {
            hash: KeyedHash::new()?,
            proven: Recent::new(PROVEN_FOR),
            quotas,
            state: Mutex::new(State {
                begun: Instant::now(),
                hasher: RandomState::new(),
                pairs: Counters::new(),
                logins: Counters::new(),
                addresses: Counters::new(),
                all: Window(0),
                tidied: 0,
                under_way: Multiset::default(),
                guesses: Multiset::default(),
            }),
        }))
    }

    /// Counts an attempt before it is made; `None` if there were too many failures. The case of `login` does not matter.
    pub(super) fn begin(self: &Arc<Self>, login: &[u8], secret: &Secret, peer: IpAddr) -> Option<Attempt> {
        let login = folded(login);
        let tag = self.hash.tag([&login[..], secret.expose()]);
        let is_proven = self.proven.contains(&tag);
        let mut state = self.lock();
        let keys = state.keys(&login, peer);
        state.tidy();
        let is_suspect = state.addresses.count(keys.address, state.now()) > 0;
        let is_guess = !is_proven && state.under_way.count(&tag) == 0;
        let delay = if is_guess { state.delay(&keys)? } else { Duration::ZERO };
        if is_guess {
            // It is counted before it is made, so that many at once do not pass the limits.
            state.guesses.add(keys.pair);
            state.guesses.add(keys.login);
        }
        state.under_way.add(tag);
        drop(state);
        Some(Attempt {
            throttle: self.clone(),
            login,
            peer,
            keys,
            tag,
            delay,
            is_suspect,
            begun: Instant::now(),
            is_guess,
            verdict: None,
        })
    }

    /// Counts a failure at another gateway, of a `login` as it is counted there.
    pub(super) fn count_failure_elsewhere(&self, login: &[u8], peer: IpAddr) {
        let mut state = self.lock();
        state.tidy();
        let keys = state.keys(login, peer);
        state.fail(&keys);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempt {
    /// Waits as long as earlier failures demand. After that the secret may be verified.
    pub(super) async fn wait(&mut self) {
        if !self.delay.is_zero() {
            sleep(self.delay).await;
        }
        self.begun = Instant::now();
    }

    /// Returns `account` with the attempt, which stays open. If there is no account, ends the attempt as failed.
    pub(super) async fn admit(self, account: Option<Account>) -> Result<(Account, Self), Denied> {
        match account {
            Some(account) => Ok((account, self)),
            None => {
                self.failed().await;
                Err(Denied::Wrong)
            }
        }
    }

    /// Whether an attempt from this address has failed lately.
    pub(super) fn is_suspect(&self) -> bool {
        self.is_suspect
    }

    /// Reports that the secret was right: the attempt does not count as a failure, and attempts with this secret are not
    /// throttled for the next seven days. Failures of other secrets still count.
    pub fn succeeded(mut self) {
        self.verdict = Some(Verdict::Succeeded);
    }

    /// Reports that login or secret was wrong. The failure counts at once; the caller must await the returned future before it
    /// answers the device.
    pub fn failed(mut self) -> Sleep {
        self.verdict = Some(Verdict::Failed);
        sleep_until(self.begun + REFUSAL)
    }

    /// Reports that nobody could tell whether the secret is right: the attempt does not count.
    pub fn undecided(mut self) {
        self.verdict = Some(Verdict::Undecided);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let proven = &self.throttle.proven;
        if self.verdict == Some(Verdict::Succeeded) {
            proven.insert(self.tag);
        }
        // A secret that was right before and is refused now counts like any other from now on.
        let is_refused = self.verdict == Some(Verdict::Failed) && proven.remove(&self.tag);
        let has_failed = is_refused || self.is_guess && matches!(self.verdict, None | Some(Verdict::Failed));
        let mut state = self.throttle.lock();
        state.under_way.remove(&self.tag);
        if self.is_guess {
            state.guesses.remove(&self.keys.pair);
            state.guesses.remove(&self.keys.login);
        }
        if has_failed {
            state.fail(&self.keys);
            if let Some(quotas) = &self.throttle.quotas {
                quotas.tell(Word::Failure {
                    login: std::mem::take(&mut self.login),
                    address: self.peer,
                });
            }
        }
    }
}

impl State {
    /// Milliseconds since the throttle was created.
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn keys(&self, login: &[u8], peer: IpAddr) -> CounterKeys {
        let address = network(peer);
        let site = match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(address.to_bits() >> 80),
        };
        CounterKeys {
            pair: self.hasher.hash_one((address, login)),
            login: self.hasher.hash_one(login),
            address: self.hasher.hash_one(address),
            site: site.map(|site| self.hasher.hash_one(site)),
        }
    }

    /// How long an attempt has to wait; `None` if it is refused.
    fn delay(&self, keys: &CounterKeys) -> Option<Duration> {
        let now = self.now();
        let is_pressed = self.all.count(now) > PRESSURE;
        let is_over = |count: u32, limit: Limit| count > if is_pressed { limit.pressed } else { limit.usual };
        let here = self.pairs.count(keys.pair, now) + self.guesses.count(&keys.pair);
        let of_login = self.logins.count(keys.login, now) + self.guesses.count(&keys.login);
        let is_refused = here > FAILURES
            || here > 0 && is_over(of_login, LOGIN_FAILURES)
            || is_over(self.addresses.count(keys.address, now), ADDRESS_FAILURES)
            || keys
                .site
                .is_some_and(|site| is_over(self.addresses.count(site, now), SITE_FAILURES));
        if is_refused {
            return None;
        }
        let doubled = here.checked_sub(1).map(|times| FIRST_DELAY * 2u32.pow(times));
        Some(doubled.unwrap_or_default().min(LONGEST_DELAY))
    }

    /// Frees what is not needed any more, once in a window.
    fn tidy(&mut self) {
        let now = self.now();
        if u128::from(now - self.tidied) < WINDOW.as_millis() {
            return;
        }
        self.tidied = now;
        for counters in [&mut self.pairs, &mut self.logins, &mut self.addresses] {
            counters.tidy(now);
        }
        self.under_way.0.shrink_to_fit();
        self.guesses.0.shrink_to_fit();
    }

    /// Counts a failed attempt. It counts against its address only now, because many devices may log in at once from
    /// one address.
    fn fail(&mut self, keys: &CounterKeys) {
        let now = self.now();
        self.pairs.add(keys.pair, now);
        self.logins.add(keys.login, now);
        self.addresses.add(keys.address, now);
        if let Some(site) = keys.site {
            self.addresses.add(site, now);
        }
        self.all = self.all.plus_one(now);
    }
}

/// How many times each key is there.
#[derive(Debug)]
struct Multiset<K>(HashMap<K, u32>);

impl<K> Default for Multiset<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Multiset<K> {
    fn add(&mut self, key: K) {
        *self.0.entry(key).or_default() += 1;
    }

    fn remove(&mut self, key: &K) {
        if let Some(number) = self.0.get_mut(key) {
            *number -= 1;
            if *number == 0 {
                self.0.remove(key);
            }
        }
    }

    fn count(&self, key: &K) -> u32 {
        self.0.get(key).copied().unwrap_or_default()
    }
}

/// The login in lower case, as it is counted: many upstreams ignore case. A longer login than any server knows is cut.
fn folded(login: &[u8]) -> Vec<u8> {
    let mut folded = match std::str::from_utf8(login) {
        Ok(login) => login.to_lowercase().into_bytes(),
        Err(_) => login.to_ascii_lowercase(),
    };
    folded.truncate(LONGEST_LOGIN);
    folded
}

/// Counts keys by their hashes. Each key has one cell in every row, and its count is the lowest count of its cells.
/// Keys may share a cell, so within a window a count may be too high but never too low.
#[derive(Debug)]
struct Counters(Vec<Option<Box<Page>>>);

type Page = [Window; PAGE];

/// The start of a window in milliseconds and, in the lowest 24 bits, its count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window(u64);

impl Window {
    const COUNT: u64 = (1 << 24) - 1;

    fn start(self) -> u64 {
        self.0 >> 24
    }

    fn count(self, now: u64) -> u32 {
        let is_open = u128::from(now.saturating_sub(self.start())) < WINDOW.as_millis();
        if is_open { (self.0 & Self::COUNT) as u32 } else { 0 }
    }

    fn plus_one(self, now: u64) -> Self {
        match self.count(now) {
            0 => Self(now << 24 | 1),
            count if u64::from(count) == Self::COUNT => self,
            _ => Self(self.0 + 1),
        }
    }
}

impl Counters {
    fn new() -> Self {
        Self(vec![None; CELLS * ROWS / PAGE])
    }

    fn cells(hash: u64) -> [usize; ROWS] {
        let cell = |row: usize| row * CELLS + (hash >> (32 * row)) as usize % CELLS;
        [cell(0), cell(1)]
    }

    fn count(&self, hash: u64, now: u64) -> u32 {
        let count = |cell: usize| {
            let page = self.0[cell / PAGE].as_ref();
            page.map_or(0, |page| page[cell % PAGE].count(now))
        };
        Self::cells(hash).map(count).into_iter().min().unwrap_or_default()
    }

    fn add(&mut self, hash: u64, now: u64) {
        for cell in Self::cells(hash) {
            let page = self.0[cell / PAGE].get_or_insert_with(|| Box::new([Window(0); PAGE]));
            let window = &mut page[cell % PAGE];
            *window = window.plus_one(now);
        }
    }

    /// Frees the pages whose windows have ended.
    fn tidy(&mut self, now: u64) {
        for page in &mut self.0 {
            page.take_if(|page| page.iter().all(|window| window.count(now) == 0));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use tokio::time::advance;

    use super::*;

    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn begin(throttle: &Arc<Throttle>, login: &str, secret: &str, peer: IpAddr) -> Option<Attempt> {
        throttle.begin(login.as_bytes(), &secret.into(), peer)
    }

    /// Tries `secret`, which is wrong; returns whether it was tried.
    fn fails(throttle: &Arc<Throttle>, login: &str, secret: &str, peer: IpAddr) -> bool {
        begin(throttle, login, secret, peer).map(Attempt::failed).is_some()
    }

    /// Pages of counters that take memory.
    fn pages(throttle: &Arc<Throttle>) -> usize {
        let state = throttle.lock();
        let counters = [&state.pairs, &state.logins, &state.addresses];
        counters
            .iter()
            .map(|counters| counters.0.iter().flatten().count())
            .sum()
    }

    /// Whether no attempt is under way.
    fn is_quiet(throttle: &Arc<Throttle>) -> bool {
        let state = throttle.lock();
        state.under_way.0.is_empty() && state.guesses.0.is_empty()
    }

    fn is_throttled(throttle: &Arc<Throttle>, login: &str, peer: IpAddr) -> bool {
        begin(throttle, login, "a look", peer).map(Attempt::undecided).is_none()
    }

    fn v4(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_ten_failures_throttle_until_the_window_ends() {
        let throttle = Throttle::new(None).unwrap();
        for _ in 0..FAILURES {
            assert!(fails(&throttle, "jane", "wrong", PEER));
        }
        assert!(!is_throttled(&throttle, "jane", PEER));
        assert!(fails(&throttle, "jane", "wrong", PEER));
        assert!(is_throttled(&throttle, "jane", PEER));
        assert!(!is_throttled(&throttle, "john", PEER), "another login");
        assert!(
            !is_throttled(&throttle, "jane", [10, 0, 0, 1].into()),
            "another address"
        );
        advance(WINDOW - Duration::from_millis(1)).await;
        assert!(is_throttled(&throttle, "jane", PEER));
        advance(Duration::from_millis(1)).await;
        assert!(!is_throttled(&throttle, "jane", PEER));
        fails(&throttle, "jane", "wrong", PEER);
        assert!(!is_throttled(&throttle, "jane", PEER), "a new window counts anew");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_at_other_gateways_count() {
        let throttle = Throttle::new(None).unwrap();
        for _ in 0..=FAILURES {
            assert!(!is_throttled(&throttle, "jane", PEER));
            throttle.count_failure_elsewhere(b"jane", PEER);
        }
        assert!(is_throttled(&throttle, "Jane", PEER));
        assert!(!is_throttled(&throttle, "jane", v4(9)), "another address");
        for number in 0..ADDRESS_FAILURES.usual {
            throttle.count_failure_elsewhere(&number.to_be_bytes(), v4(7));
        }
        assert!(!is_throttled(&throttle, "john", v4(7)));
        throttle.count_failure_elsewhere(b"", v4(7));
        assert!(is_throttled(&throttle, "john", v4(7)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_that_succeeds_leaves_no_counters() {
        let throttle = Throttle::new(None).unwrap();
        fails(&throttle, "jane", "x", PEER);
        let of_failures = pages(&throttle);
        for n in 0..100 {
            let attempt = begin(&throttle, &format!("device{n}"), "right", PEER).unwrap();
            assert_eq!(pages(&throttle), of_failures, "an attempt under way takes no page");
            attempt.succeeded();
            assert_eq!(pages(&throttle), of_failures);
        }
        assert!(is_quiet(&throttle));
        assert_eq!(begin(&throttle, "jane", "y", PEER).unwrap().delay, FIRST_DELAY);
    }

    #[tokio::test(start_paused = true)]
    async fn success_lets_its_own_secret_in_and_forgives_no_other() {
        let throttle = Throttle::new(None).unwrap();
        begin(&throttle, "jane", "right", PEER).unwrap().succeeded();
        let mut tried = 0;
        for number in 0..60 {
            tried += u32::from(fails(&throttle, "jane", &number.to_string(), PEER));
            // An honest device behind the same address.
            let honest = begin(&throttle, "jane", "right", PEER).unwrap();
            assert_eq!(honest.delay, Duration::ZERO);
            honest.succeeded();
        }
        assert_eq!(tried, FAILURES + 1);
        assert!(is_throttled(&throttle, "jane", PEER));
        assert!(
            begin(&throttle, "john", "right", PEER).is_some_and(|attempt| attempt.is_guess),
            "not john's"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_that_was_right_and_is_refused_is_a_guess_again() {
        let throttle = Throttle::new(None).unwrap();
        begin(&throttle, "jane", "old", PEER).unwrap().succeeded();
        for _ in 0..=FAILURES {
            assert!(fails(&throttle, "jane", "old", PEER));
        }
        assert!(!fails(&throttle, "jane", "old", PEER));
        assert!(is_throttled(&throttle, "jane", PEER));
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_at_once_are_counted_before_they_are_made() {
        let throttle = Throttle::new(None).unwrap();
        let under_way = |same: bool| {
            let secrets = (0..50).map(move |number| if same { "same".to_owned() } else { number.to_string() });
            secrets
                .filter_map(|secret| begin(&throttle, "jane", &secret, PEER))
                .collect::<Vec<_>>()
        };
        let same = under_way(true);
        assert_eq!(same.len(), 50, "one secret is one guess, and may be right");
        drop(same);
        let guesses = under_way(false);
        assert_eq!(guesses.len(), FAILURES as usize, "one failure there was");
        guesses.into_iter().for_each(Attempt::undecided);
        assert!(
            !is_throttled(&throttle, "jane", PEER),
            "what nobody decided does not count"
        );
        drop(under_way(false));
        assert!(is_throttled(&throttle, "jane", PEER), "who hangs up has failed");
    }

    #[tokio::test(start_paused = true)]
    async fn guesses_at_once_from_many_addresses_count_against_their_login() {
        let throttle = Throttle::new(None).unwrap();
        let guesses: Vec<_> = (0..=LOGIN_FAILURES.usual)
            .map(|number| begin(&throttle, "jane", &number.to_string(), v4(number)).unwrap())
            .collect();
        assert!(is_throttled(&throttle, "jane", v4(0)), "it has a guess under way");
        assert!(
            !is_throttled(&throttle, "jane", v4(1000)),
            "another address has one try"
        );
        guesses.into_iter().for_each(Attempt::undecided);
        assert!(!is_throttled(&throttle, "jane", v4(0)));
        assert!(is_quiet(&throttle));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_elsewhere_free_the_pages_of_windows_that_have_ended() {
        let throttle = Throttle::new(None).unwrap();
        for number in 0..100_u32 {
            throttle.count_failure_elsewhere(&number.to_be_bytes(), v4(number));
        }
        advance(WINDOW).await;
        throttle.count_failure_elsewhere(b"jane", PEER);
        assert!(pages(&throttle) <= 3 * ROWS);
    }

    #[tokio::test(start_paused = true)]
    async fn each_failure_doubles_the_wait() {
        let throttle = Throttle::new(None).unwrap();
        let delays: Vec<_> = (0..=FAILURES)
            .map(|number| {
                let attempt = begin(&throttle, "jane", &number.to_string(), PEER).unwrap();
                attempt.delay.as_millis()
            })
            .collect();
        assert_eq!(delays, [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000, 5000]);
    }

    #[tokio::test(start_paused = true)]
    async fn many_addresses_try_one_login_and_the_owner_gets_in() {
        let throttle = Throttle::new(None).unwrap();
        begin(&throttle, "jane", "right", v4(1)).unwrap().succeeded();
        let tried = (0..100_000)
            .filter(|&n| fails(&throttle, "jane", &n.to_string(), v4(1000 + n % 1000)))
            .count();
        let first = 1 + LOGIN_FAILURES.usual as usize;
        assert!((1000..=1000 + first).contains(&tried), "one each from then on: {tried}");
        assert!(begin(&throttle, "jane", "right", v4(9)).is_some(), "from anywhere");
        let new = begin(&throttle, "jane", "new", v4(10)).unwrap();
        assert_eq!(new.delay, Duration::ZERO, "the owner with a new password from home");
        new.succeeded();
        assert!(begin(&throttle, "jane", "new", v4(1000)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_tries_many_logins() {
        let throttle = Throttle::new(None).unwrap();
        begin(&throttle, "jane", "right", PEER).unwrap().succeeded();
        let tried = (0..68_000)
            .filter(|n| fails(&throttle, &format!("user{n}"), "x", PEER))
            .count();
        assert_eq!(tried, 1 + ADDRESS_FAILURES.usual as usize);
        assert!(begin(&throttle, "jane", "right", PEER).is_some());
        assert!(!is_throttled(&throttle, "jane", [10, 0, 0, 1].into()));
    }

    #[tokio::test(start_paused = true)]
    async fn many_honest_devices_log_in_at_once_behind_one_address() {
        let throttle = Throttle::new(None).unwrap();
        let devices: Vec<_> = (0..1000)
            .map(|n| begin(&throttle, &format!("user{n}"), "x", PEER).unwrap())
            .collect();
        devices.into_iter().for_each(Attempt::succeeded);
        assert!(!is_throttled(&throttle, "new", PEER));
    }

    /// Regression: an earlier table was full after 65,536 entries and did not count further ones at all.
    #[tokio::test(start_paused = true)]
    async fn a_million_addresses_and_logins_neither_hide_a_guesser_nor_lock_anybody_out() {
        let throttle = Throttle::new(None).unwrap();
        begin(&throttle, "jane", "right", v4(1)).unwrap().succeeded();
        let refused = {
            let mut state = throttle.lock();
            let mut is_refused = |number: u32| {
                let keys = state.keys(&number.to_be_bytes(), v4(0x0a00_0000 + number));
                let refused = state.delay(&keys).is_none();
                if !refused {
                    state.fail(&keys);
                }
                refused
            };
            (0..1_000_000).filter(|&number| is_refused(number)).count()
        };
        assert!(refused < 1000, "logins that were never tried: {refused}");
        let guesser = v4(7);
        let tried = (0..1140)
            .filter(|n| fails(&throttle, "jane", &n.to_string(), guesser))
            .count();
        assert!(tried <= 1 + FAILURES as usize, "{tried}");
        let tried = (0..1140)
            .filter(|n| fails(&throttle, &format!("jane{n}"), "x", guesser))
            .count();
        assert!(
            tried <= 1 + ADDRESS_FAILURES.pressed as usize,
            "stricter in all: {tried}"
        );
        let honest = (0..1000)
            .filter(|&n| begin(&throttle, &format!("new{n}"), "x", v4(n)).is_some())
            .count();
        assert!(honest > 990, "{honest}");
        assert!(begin(&throttle, "jane", "right", guesser).is_some());
        assert!(is_quiet(&throttle));
        let pages = || pages(&throttle);
        assert_eq!(pages(), 3 * ROWS * CELLS / PAGE, "12 MB and no more");
        advance(WINDOW).await;
        fails(&throttle, "jane", "x", PEER);
        assert!(pages() <= 3 * ROWS, "what is over is freed");
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_of_ipv6_is_its_64_and_a_site_its_48() {
        let throttle = Throttle::new(None).unwrap();
        let peer = |net: u16, host: u16| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 1, net, 0, 0, 0, host));
        let tried = (0..100)
            .filter(|&n| fails(&throttle, "jane", &n.to_string(), peer(1, n)))
            .count();
        assert_eq!(tried, 1 + FAILURES as usize);
        assert!(!is_throttled(&throttle, "jane", peer(2, 1)));
        let tried = (0..20_000)
            .filter(|&n| fails(&throttle, &format!("user{n}"), "x", peer(100 + n, 1)))
            .count();
        assert!((900..=1 + SITE_FAILURES.usual as usize).contains(&tried), "{tried}");
        assert!(!is_throttled(
            &throttle,
            "jane",
            Ipv6Addr::new(0x2001, 0xdb8, 2, 1, 0, 0, 0, 1).into()
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn a_mapped_address_is_the_same_address_and_another_spelling_the_same_login() {
        let throttle = Throttle::new(None).unwrap();
        let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
        for login in ["Jane@example.org", "jane@EXAMPLE.org"]
            .iter()
            .cycle()
            .take(1 + FAILURES as usize)
        {
            assert!(fails(&throttle, login, "wrong", PEER));
        }
        assert!(is_throttled(&throttle, "jane@example.org", mapped.into()));
        assert!(is_throttled(&throttle, "JANE@example.ORG", PEER));
        for _ in 0..=FAILURES {
            assert!(
                throttle
                    .begin(b"\xff\xfe", &"x".into(), PEER)
                    .map(Attempt::failed)
                    .is_some()
            );
        }
        assert!(
            throttle.begin(b"\xff\xfe", &"x".into(), PEER).is_none(),
            "octets that are no text count too"
        );
    }
}
