//! Upstreams as they are: servers that break the RFC or differ from others, and what a device gets nevertheless. If
//! something is malformed, missing or refused for one message, only this message may fail. If a server takes only one
//! command at a time, everything must still work. One test for each kind of fault, with its variations.

mod bodies;
mod bounds;
mod deleting;
mod flights;
mod folders;
mod listing;
mod logging_in;
mod searching;

use std::{
    fmt::Debug,
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
};

use crate::support::{answers::Answers, gateway::Gateway, mail, pop::Pop};

/// Runs `test` on every case, and fails with all cases that failed: one of them says little about the others.
#[track_caller]
fn each<T: Debug>(cases: impl IntoIterator<Item = T>, test: impl Fn(&T)) {
    let is_failed = |case: &T| catch_unwind(AssertUnwindSafe(|| test(case))).is_err();
    let mut count = 0;
    let counted = cases.into_iter().inspect(|_| count += 1);
    let failed: Vec<String> = counted.filter(is_failed).map(|case| format!("{case:?}")).collect();
    assert!(
        failed.is_empty(),
        "{} of {count} cases failed:\n{}",
        failed.len(),
        failed.join("\n")
    );
}

/// Like [`each`], but runs all cases at once, because they mostly wait.
#[track_caller]
fn at_once<T: Send>(cases: impl IntoIterator<Item = T>, test: impl Fn(T) + Sync) {
    let failed: Vec<usize> = thread::scope(|scope| {
        let test = &test;
        let cases = cases.into_iter().map(|case| scope.spawn(move || test(case)));
        let running: Vec<_> = cases.collect();
        let ended = (1..)
            .zip(running)
            .filter_map(|(number, case)| case.join().is_err().then_some(number));
        ended.collect()
    });
    assert!(failed.is_empty(), "of the cases failed: {failed:?}");
}

/// A mailbox of three messages.
fn mailbox() -> Answers {
    Answers::of((1..=3).map(mail::simple))
}

/// Asserts that a session of `user` finds the three messages, octet for octet.
fn assert_served(gateway: &Gateway, user: &str) {
    let mut pop = Pop::log_in(gateway.address(), user);
    assert_eq!(pop.stat().0, 3);
    for number in 1..=3 {
        assert_eq!(pop.retr(number).1, mail::simple(number));
    }
    pop.quit();
}
