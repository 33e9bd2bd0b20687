//! The records of a mailbox except for its index, and replacements of them. No replacement undoes the change of another
//! writer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Marks, Past, PendingMove, Unavailable};

/// Which logins' marks are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose<'a> {
    /// No marks.
    Nobody,
    /// Those of this login.
    Login(&'a str),
    /// Those of every login that has marks.
    All,
}

impl Whose<'_> {
    pub(super) fn includes(self, login: &str) -> bool {
        match self {
            Self::Nobody => false,
            Self::Login(one) => one == login,
            Self::All => true,
        }
    }
}

/// The records of a mailbox at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Identities and earlier names of the messages. Empty if the record is damaged: then devices may download messages
    /// again.
    pub past: Past,
    /// A removal that has not been completed. `None` if the record is damaged: then a message may be in the trash
    /// twice, but it is not lost.
    pub pending: Option<PendingMove>,
    /// The marks that were asked for, by login. A login without marks is missing. An error if the marks cannot be read.
    pub marks: BTreeMap<String, Result<Marks, Unavailable>>,
}

/// A record, and the record that replaces it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced<T> {
    /// The record as it was read.
    pub was: T,
    /// The record that replaces it.
    pub is: T,
}

impl<T: PartialEq> Replaced<T> {
    /// Whether the replacement may be made if `now` is the stored record. It may if nobody has changed the record, and
    /// also if the replacement has been made already: a request can be repeated.
    pub(super) fn follows(&self, now: &T) -> bool {
        *now == self.was || *now == self.is
    }
}

/// A replacement of the marks of a login: see [`Kept::marks`].
pub type MarksReplaced = Replaced<Option<Result<Marks, Unavailable>>>;

/// Replacements of several records of one mailbox, made all at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replacement {
    /// Identities and earlier names of the messages.
    pub past: Option<Replaced<Past>>,
    /// The removal under way.
    pub pending: Option<Replaced<Option<PendingMove>>>,
    /// The marks, by login.
    pub marks: BTreeMap<String, MarksReplaced>,
}

impl Replacement {
    /// Whether nothing is replaced.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether losing this replacement could do more than keep mail for longer: mail could come back or be downloaded
    /// again, or a message could be copied twice.
    pub(super) fn is_precious(&self) -> bool {
        let has_copy = |pending: &Option<PendingMove>| pending.as_ref().is_some_and(PendingMove::has_copy);
        let moves = |replaced: &Replaced<Option<PendingMove>>| has_copy(&replaced.was) || has_copy(&replaced.is);
        let tells_more = |MarksReplaced { was, is }: &MarksReplaced| match (was, is) {
            (Some(Ok(was)), Some(Ok(is))) => {
                Marks {
                    retrieved: was.retrieved.clone(),
                    ..is.clone()
                } != *was
            }
            _ => true,
        };
        self.past.is_some() || self.pending.as_ref().is_some_and(moves) || self.marks.values().any(tells_more)
    }
}

impl Kept {
    /// The marks of `login`; empty if it has none.
    pub(super) fn marks_of(&self, login: &str) -> Result<Marks, Unavailable> {
        self.marks.get(login).cloned().unwrap_or_else(|| Ok(Marks::default()))
    }

    /// The replacement that turns `self` into `next`.
    pub(super) fn replacement(&self, next: &Self) -> Replacement {
        fn replaced<T: Clone + PartialEq>(was: &T, is: &T) -> Option<Replaced<T>> {
            let replaced = || Replaced {
                was: was.clone(),
                is: is.clone(),
            };
            (was != is).then(replaced)
        }
        let logins = self.marks.keys().chain(next.marks.keys());
        let marks = logins.filter_map(|login| {
            let replaced = replaced(&self.marks.get(login).cloned(), &next.marks.get(login).cloned());
            Some((login.clone(), replaced?))
        });
        Replacement {
            past: replaced(&self.past, &next.past),
            pending: replaced(&self.pending, &next.pending),
            marks: marks.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_a_message_was_retrieved_is_not_precious() {
        let before = Marks {
            uid_validity: 7,
            ..Marks::default()
        };
        let is_precious = |change: fn(&mut Marks, &mut Kept)| {
            let kept = |marks: Marks| Kept {
                marks: BTreeMap::from([("a".to_owned(), Ok(marks))]),
                ..Kept::default()
            };
            let mut marks = before.clone();
            let mut after = kept(Marks::default());
            change(&mut marks, &mut after);
            after.marks.insert("a".to_owned(), Ok(marks));
            kept(before.clone()).replacement(&after).is_precious()
        };
        assert!(!is_precious(|_, _| ()));
        assert!(!is_precious(|marks, _| marks.retrieved.insert(crate::types::Uid(1), 5)));
        assert!(is_precious(|marks, _| marks.hidden.add(crate::types::Uid(1))));
        assert!(is_precious(|_, kept| kept.past = Past::of(7)));
        assert!(!is_precious(
            |_, kept| kept.pending = Some(PendingMove::removal(7, [1].into()))
        ));
        assert!(is_precious(|_, kept| {
            let mut pending = PendingMove::removal(7, [1].into());
            pending.target = "Trash".to_owned();
            kept.pending = Some(pending);
        }));
    }

    #[test]
    fn only_what_differs_is_replaced() {
        let marks = |hidden: u32| Marks {
            uid_validity: 7,
            hidden: [hidden].into(),
            ..Marks::default()
        };
        let before = Kept {
            marks: BTreeMap::from([
                ("same".to_owned(), Ok(marks(1))),
                ("gone".to_owned(), Ok(marks(2))),
                ("hurt".to_owned(), Err(Unavailable::Damaged)),
            ]),
            ..Kept::default()
        };
        assert!(before.replacement(&before).is_empty());
        let mut after = before.clone();
        after.marks.remove("gone");
        after.marks.insert("new".to_owned(), Ok(marks(3)));
        after.past = Past::of(7);
        let replacement = before.replacement(&after);
        let past = Replaced {
            was: Past::default(),
            is: Past::of(7),
        };
        let new = Replaced {
            was: None,
            is: Some(Ok(marks(3))),
        };
        let gone = Replaced {
            was: Some(Ok(marks(2))),
            is: None,
        };
        assert_eq!((replacement.past.as_ref(), &replacement.pending), (Some(&past), &None));
        assert_eq!(
            replacement.marks,
            [("new".to_owned(), new), ("gone".to_owned(), gone)].into()
        );
    }
}
