//! The store against a model of it. Sessions take, renew, change and give up one maildrop in any order, also with what they knew
//! long ago, while leases end.

use std::collections::BTreeMap;

use proptest::{
    prelude::*,
    test_runner::{TestCaseResult, TestRunner},
};

use super::*;
use crate::state::PendingMove;

/// The logins of the sessions, and whether they hide. A session's number in this list is its name.
const SESSIONS: [(&str, bool); 5] = [
    ("pbx", false),
    ("pbx", true),
    ("fax", true),
    ("fax", false),
    ("pbx", false),
];

/// What happens next. Sessions are numbers.
#[derive(Debug, Clone)]
enum Step {
    Enter(usize),
    Extend(Vec<usize>),
    Leave(usize, Option<u32>),
    /// Replaces what the session knows; by [`StateStore::replace`] if the session does not say that it holds the maildrop.
    Replace(usize, Records, bool),
    /// One of the session's locks ends.
    End(usize, usize),
}

/// The records of a mailbox with the marks of one login, each as a number; 0 if there is no record.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Records {
    past: u8,
    pending: u8,
    marks: u8,
}

impl Records {
    fn kept(self, login: &str) -> Kept {
        let marks = (self.marks > 0).then(|| (login.to_owned(), Ok(hides(self.marks.into()))));
        Kept {
            past: if self.past == 0 {
                Past::default()
            } else {
                Past::of(self.past.into())
            },
            pending: (self.pending > 0).then(|| PendingMove::removal(7, [u32::from(self.pending)].into())),
            marks: marks.into_iter().collect(),
        }
    }
}

/// What the store must hold.
#[derive(Debug, Default)]
struct Model {
    /// Which session holds a lock: that of a login, or that of the mailbox (empty).
    locks: BTreeMap<&'static str, usize>,
    past: u8,
    pending: u8,
    marks: BTreeMap<&'static str, u8>,
    index: Option<u32>,
}

impl Model {
    fn locks_of(session: usize) -> Vec<&'static str> {
        match SESSIONS[session] {
            (login, true) => vec![login],
            (login, false) => vec![login, ""],
        }
    }

    fn is_held_by_another(&self, session: usize) -> bool {
        let mut locks = Self::locks_of(session).into_iter();
        locks.any(|lock| self.locks.get(lock).is_some_and(|&holder| holder != session))
    }

    fn take(&mut self, session: usize) {
        let locks = Self::locks_of(session).into_iter();
        self.locks.extend(locks.map(|lock| (lock, session)));
    }

    fn renewed(&self, session: usize) -> Renewed {
        if self.is_held_by_another(session) {
            Renewed::Lost
        } else if Self::locks_of(session).iter().all(|lock| self.locks.contains_key(lock)) {
            Renewed::Held
        } else {
            Renewed::Free
        }
    }

    fn leave(&mut self, session: usize, index: Option<u32>) {
        let before = self.locks.len();
        self.locks.retain(|_, &mut holder| holder != session);
        if self.locks.len() < before {
            self.index = index.or(self.index);
        }
    }

    fn records(&self, session: usize) -> Records {
        Records {
            past: self.past,
            pending: self.pending,
            marks: self.marks.get(SESSIONS[session].0).copied().unwrap_or_default(),
        }
    }

    fn replace(&mut self, session: usize, was: Records, is: Records, is_held: bool) -> Result<(), Unavailable> {
        if is_held && self.is_held_by_another(session) {
            return Err(Unavailable::Lost);
        }
        let now = self.records(session);
        let follows = |was: u8, is: u8, now: u8| was == is || now == was || now == is;
        if !follows(was.past, is.past, now.past)
            || !follows(was.pending, is.pending, now.pending)
            || !follows(was.marks, is.marks, now.marks)
        {
            return Err(Unavailable::Changed);
        }
        if is_held {
            self.take(session);
        }
        // What is not replaced stays as it is, whatever the session knows.
        if was.past != is.past {
            self.past = is.past;
        }
        if was.pending != is.pending {
            self.pending = is.pending;
        }
        if was.marks != is.marks {
            self.marks.insert(SESSIONS[session].0, is.marks);
        }
        Ok(())
    }
}

fn index(count: u32) -> Arc<Index> {
    Arc::new(Index {
        uid_validity: 7,
        entries: (1..=count).map(|uid| (uid, 1_000 + uid)).collect(),
        ..Index::default()
    })
}

/// Does `steps` in a mailbox that nobody has used.
async fn play(store: &ValkeyStore, mailbox: Arc<MailboxName>, steps: Vec<Step>) -> TestCaseResult {
    let holdings: Vec<Holding> = (SESSIONS.iter().zip(1..))
        .map(|(&(login, is_private), name)| Holding {
            mailbox: mailbox.clone(),
            login: login.to_owned(),
            is_private,
            name: [name; 16],
        })
        .collect();
    let mut model = Model::default();
    // What each session knows.
    let mut known = [Records::default(); SESSIONS.len()];
    for step in steps {
        match step {
            Step::Enter(session) => {
                let holding = &holdings[session];
                let digest = store.digest(&mailbox, &holding.login, &known[session].kept(&holding.login));
                let entered = store.enter(holding, digest.as_ref()).await.unwrap();
                let now = model.records(session);
                if model.is_held_by_another(session) {
                    prop_assert!(matches!(entered, Entered::Busy), "{entered:?}");
                    model.leave(session, None);
                    continue;
                }
                model.take(session);
                match entered {
                    Entered::Busy => prop_assert!(false, "nobody holds it"),
                    Entered::Same => prop_assert_eq!(known[session], now),
                    Entered::New(welcome) => {
                        prop_assert_ne!(known[session], now);
                        prop_assert_eq!(welcome.kept, now.kept(&holding.login));
                        let saved = model
                            .index
                            .map_or(KnownIndex::None, |count| KnownIndex::Whole(index(count)));
                        prop_assert_eq!(welcome.index, saved);
                    }
                }
                known[session] = now;
            }
            Step::Extend(sessions) => {
                let some: Vec<&Holding> = sessions.iter().map(|&session| &holdings[session]).collect();
                let expected: Vec<Renewed> = sessions.iter().map(|&session| model.renewed(session)).collect();
                prop_assert_eq!(store.extend(&some).await, expected);
            }
            Step::Leave(session, saved) => {
                store.leave(&holdings[session], saved.map(index)).await.unwrap();
                model.leave(session, saved);
            }
            Step::Replace(session, is, is_held) => {
                let (holding, was) = (&holdings[session], known[session]);
                if was == is {
                    continue;
                }
                let replacement = was.kept(&holding.login).replacement(&is.kept(&holding.login));
                let replaced = if is_held {
                    store.replace_held(holding, replacement).await
                } else {
                    store.replace(&mailbox, replacement).await
                };
                prop_assert_eq!(replaced, model.replace(session, was, is, is_held));
                // Who is refused reads again, unless it has lost the maildrop.
                if replaced != Err(Unavailable::Lost) {
                    let kept = store.kept(&mailbox, Whose::Login(&holding.login)).await;
                    known[session] = model.records(session);
                    prop_assert_eq!(kept, Ok(known[session].kept(&holding.login)));
                }
            }
            Step::End(session, lock) => {
                let keys = store.0.keys.held(&holdings[session]).locks;
                let lock = lock % keys.len();
                let mut delete = redis::cmd("DEL");
                delete.arg(&keys[lock]);
                store
                    .0
                    .link
                    .ask(&keys[lock], &delete.into(), Care::Light)
                    .await
                    .unwrap();
                model.locks.remove(Model::locks_of(session)[lock]);
            }
        }
    }
    prop_assert_eq!(store.index(&mailbox).await, model.index.map(index));
    Ok(())
}

fn step() -> impl Strategy<Value = Step> {
    let session = || 0..SESSIONS.len();
    let records = (0..3_u8, 0..3_u8, 0..3_u8).prop_map(|(past, pending, marks)| Records { past, pending, marks });
    prop_oneof![
        4 => session().prop_map(Step::Enter),
        1 => prop::collection::vec(session(), 0..4).prop_map(Step::Extend),
        3 => (session(), prop::option::of(0..9_u32)).prop_map(|(session, index)| Step::Leave(session, index)),
        4 => (session(), records, prop::bool::weighted(0.8))
            .prop_map(|(session, is, is_held)| Step::Replace(session, is, is_held)),
        1 => (session(), 0..2_usize).prop_map(|(session, lock)| Step::End(session, lock)),
    ]
}

/// How many steps are tried with each program, about; `POPGATE_MODEL_STEPS` asks for more.
fn total() -> u32 {
    let asked = std::env::var("POPGATE_MODEL_STEPS").ok();
    asked.and_then(|count| count.parse().ok()).unwrap_or(5_000)
}

#[test]
fn a_maildrop_is_as_the_model_has_it() {
    const STEPS: usize = 100;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for program in BOTH {
        let Some(server) = Server::start(program, &[]) else {
            continue;
        };
        let store = runtime.block_on(server.store());
        let case = AtomicU32::new(0);
        let mut runner = TestRunner::new(ProptestConfig {
            cases: total() / (STEPS as u32 / 2),
            failure_persistence: None,
            ..ProptestConfig::default()
        });
        let played = runner.run(&prop::collection::vec(step(), 1..STEPS), |steps| {
            let user = case.fetch_add(1, Ordering::Relaxed).to_string();
            runtime.block_on(play(&store, mailbox(&user).into(), steps))
        });
        played.unwrap_or_else(|failure| panic!("{program:?}: {failure}"));
    }
}
