//! Retention by `retain_days`: which messages a login retrieved so long ago that the delete policy is applied to them.

use crate::{
    config::{Policy, Retention},
    state::{Index, Marks},
    types::{Uid, UidMap},
};

/// A day, in seconds.
pub(super) const DAY: u32 = 24 * 3600;

/// The messages of `index` that were retrieved, according to `marks`, so long ago that `policy` no longer retains them.
/// Each comes with the time when it was retrieved (seconds since 1970).
pub(super) fn due(policy: &Policy, marks: &Marks, index: &Index, now: u32) -> UidMap<u32> {
    let due = due_by_marks(policy, marks, now);
    due.filter(|&(uid, _)| index.entries.contains(uid)).collect()
}

/// Whether any message may be due according to `marks`. Only the mailbox shows which messages still exist.
pub(super) fn may_be_due(policy: &Policy, marks: &Marks, now: u32) -> bool {
    due_by_marks(policy, marks, now).next().is_some()
}

fn due_by_marks(policy: &Policy, marks: &Marks, now: u32) -> impl Iterator<Item = (Uid, u32)> {
    let days = match policy.retention {
        Retention::Days(days) => Some(days),
        _ => None,
    };
    let retrieved = marks.retrieved.iter().map(|(uid, &at)| (uid, at));
    retrieved.filter(move |&(uid, at)| {
        let is_hidden = policy.hides() && marks.hidden.contains(uid);
        days.is_some_and(|days| is_over(at, days, now)) && !is_hidden
    })
}

/// Whether `days` have passed from `at` to `now` (seconds since 1970).
pub(super) fn is_over(at: u32, days: u32, now: u32) -> bool {
    u64::from(at) + u64::from(days) * u64::from(DAY) <= u64::from(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, OnDelete};

    fn policy(days: u32) -> Policy {
        let text = format!(
            "[upstream.home]\nhost = \"imap.example.org\"\nlogins = [\"*\"]\n[upstream.home.maildrop]\nretain_days = {days}\n"
        );
        let config = Config::parse(&text, std::path::Path::new("")).unwrap();
        Policy::clone(&config.upstreams[0].maildrop)
    }

    fn index(uids: &[u32]) -> Index {
        let mut index = Index::default();
        for &uid in uids {
            index.push(Uid(uid), 10, None, None);
        }
        index
    }

    #[test]
    fn days_after_it_was_retrieved() {
        let marks = Marks {
            retrieved: [(1, 0), (2, 5 * DAY), (3, 5 * DAY + 1), (9, 0)].into(),
            ..Marks::default()
        };
        let index = index(&[1, 2, 3, 4]);
        let due = |policy: &Policy, marks: &Marks, now| -> Vec<u32> {
            due(policy, marks, &index, now).uids().map(|uid| uid.0).collect()
        };
        assert_eq!(
            due(&policy(14), &marks, 19 * DAY),
            [1, 2],
            "9 is gone, 4 was never retrieved"
        );
        assert_eq!(due(&policy(14), &marks, 14 * DAY - 1), [0; 0]);
        let mut hiding = policy(14);
        hiding.on_delete = OnDelete::Hide;
        let hidden = Marks {
            hidden: [1].into(),
            ..marks.clone()
        };
        assert_eq!(due(&hiding, &hidden, 19 * DAY), [2]);
        assert_eq!(
            due(&policy(14), &hidden, 19 * DAY),
            [1, 2],
            "hidden once, by another policy"
        );
    }
}
