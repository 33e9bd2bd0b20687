//! The records that must not be lost, unlike indexes: what logins have done with messages, the UIDs of messages before
//! UIDVALIDITY changed, and removals under way.

use serde::{Deserialize, Serialize};

use super::{Index, MailboxName, Unavailable};
use crate::types::{Uid, UidMap, Uids};

/// What a login has done with the messages of a mailbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// The UIDVALIDITY of all UIDs here; 0 if nothing has been kept yet.
    pub uid_validity: u64,
    /// Messages that the login no longer sees.
    #[serde(with = "ascending")]
    pub hidden: Uids,
    /// Messages for which the login got a notice instead, and has deleted the notice.
    #[serde(with = "ascending")]
    pub noticed: Uids,
    /// Messages that the upstream did not deliver, so that the login got notices instead.
    #[serde(with = "ascending")]
    pub undelivered: Uids,
    /// When each message was first delivered whole, in seconds since 1970.
    pub retrieved: UidMap<u32>,
    /// UIDLs that devices know from another server. They stay when their messages are gone, because no other message
    /// may get the same UIDL.
    pub imported: UidMap<String>,
    /// Hash of the file that `imported` came from; 0 if there was no file.
    pub import: u64,
}

/// Hash of Message-ID, size and INTERNALDATE, by which a message is recognised under another UIDVALIDITY.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identity(pub [u8; 16]);

/// Identities of the messages of a mailbox, and their UIDs before UIDVALIDITY changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// UIDVALIDITY of the UIDs here; 0 if nothing has been kept yet.
    pub uid_validity: u64,
    /// The UIDVALIDITY under which a past was first stored for the mailbox. Only under this one may a UIDL consist of
    /// the UID alone.
    pub first_uid_validity: u64,
    /// Identities of messages that devices have seen.
    pub identities: UidMap<Identity>,
    /// The names under which devices first saw messages, if that was under another UIDVALIDITY.
    pub former: UidMap<Former>,
}

/// The UID of a message under an earlier UIDVALIDITY.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// UIDVALIDITY at that time.
    pub uid_validity: u64,
    /// UID at that time.
    pub uid: Uid,
}

/// Messages that are about to be removed, or to be copied and then removed. This is stored before the first command is
/// sent, so that after a crash the next login can find out how far the removal went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingMove {
    /// UIDVALIDITY of `uids`.
    pub uid_validity: u64,
    /// Their UIDs.
    pub uids: Uids,
    /// The folder that the messages are copied to; empty if they are removed without a copy.
    pub target: String,
    /// UIDVALIDITY of the target.
    pub target_uid_validity: u64,
    /// UIDNEXT of the target before the COPY: copies have this UID or a higher one.
    pub target_uid_next: Uid,
}

impl PendingMove {
    /// The removal of messages without a copy.
    pub fn removal(uid_validity: u64, uids: Uids) -> Self {
        Self {
            uid_validity,
            uids,
            target: String::new(),
            target_uid_validity: 0,
            target_uid_next: Uid(0),
        }
    }

    /// Whether the messages are copied before they are removed.
    pub fn has_copy(&self) -> bool {
        !self.target.is_empty()
    }
}

/// Old UIDs, with the new UIDs of the same messages under another UIDVALIDITY.
pub type Renumbered = UidMap<Uid>;

impl Marks {
    /// Translates all UIDs to a new UIDVALIDITY. Marks of messages that have no new UID are dropped.
    pub(super) fn renumber(&mut self, uid_validity: u64, uids: &Renumbered) {
        for list in [&mut self.hidden, &mut self.noticed, &mut self.undelivered] {
            *list = renumbered(list, uids);
        }
        self.retrieved = renumbered(&self.retrieved, uids);
        self.imported = renumbered(&self.imported, uids);
        self.uid_validity = uid_validity;
    }

    /// Forgets messages that are gone according to `index`. Returns whether there were any.
    pub fn prune(&mut self, index: &Index) -> bool {
        if self.uid_validity != index.uid_validity {
            return false;
        }
        let before = self.len();
        for list in [&mut self.hidden, &mut self.noticed, &mut self.undelivered] {
            list.retain(|uid, ()| !index.has_lost(uid));
        }
        self.retrieved.retain(|uid, _| !index.has_lost(uid));
        before != self.len()
    }

    fn len(&self) -> usize {
        let Self {
            hidden,
            noticed,
            undelivered,
            retrieved,
            ..
        } = self;
        hidden.len() + noticed.len() + undelivered.len() + retrieved.len()
    }
}

/// The entries of `list` under their new UIDs. Entries without a new UID are dropped.
fn renumbered<T: Clone>(list: &UidMap<T>, uids: &Renumbered) -> UidMap<T> {
    list.iter()
        .filter_map(|(uid, value)| Some((*uids.get(uid)?, value.clone())))
        .collect()
}

impl Past {
    /// The past of a mailbox that is used for the first time.
    pub fn of(uid_validity: u64) -> Self {
        Self {
            uid_validity,
            first_uid_validity: uid_validity,
            ..Self::default()
        }
    }

    /// Adds the entries of `kept` for UIDs that `self` does not have. Returns `false` if `kept` has another
    /// UIDVALIDITY: another session has renumbered the mailbox.
    pub(super) fn merge(&mut self, kept: &Self) -> bool {
        if self.uid_validity != kept.uid_validity {
            return false;
        }
        self.first_uid_validity = kept.first_uid_validity;
        self.identities
            .extend(kept.identities.iter().map(|(uid, &identity)| (uid, identity)));
        self.former
            .extend(kept.former.iter().map(|(uid, &former)| (uid, former)));
        true
    }

    /// Forgets messages that are gone according to `index`. Returns whether there were any.
    pub(super) fn prune(&mut self, index: &Index) -> bool {
        if self.uid_validity != index.uid_validity {
            return false;
        }
        let before = self.identities.len() + self.former.len();
        self.identities.retain(|uid, _| !index.has_lost(uid));
        self.former.retain(|uid, _| !index.has_lost(uid));
        before != self.identities.len() + self.former.len()
    }
}

/// What a session must do after it has found that UIDVALIDITY has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renumbering {
    /// The mailbox is to be renumbered.
    Due,
    /// Another session has renumbered it already.
    Done,
    /// The mailbox has a third UIDVALIDITY by now.
    Late,
}

impl Renumbering {
    /// For a mailbox whose past is `kept`, if UIDVALIDITY changes from `from` to `to`.
    pub(super) fn of(kept: &Past, from: u64, to: u64) -> Self {
        match kept.uid_validity {
            kept if kept == from => Self::Due,
            kept if kept == to => Self::Done,
            _ => Self::Late,
        }
    }
}

/// The error if the marks that a session wants to change were reset or renumbered meanwhile. Logs the login, because
/// the device is told only that state is not available.
pub(super) fn refuse(login: &str, mailbox: &MailboxName) -> Unavailable {
    tracing::warn!(
        login,
        %mailbox,
        "the marks of this login were reset or renumbered during its session: what the session did is not stored"
    );
    Unavailable::Changed
}

/// Serializes a set of UIDs as the differences between them. A small difference takes one octet.
mod ascending {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::types::{Uid, Uids};

    pub(super) fn serialize<S: Serializer>(uids: &Uids, serializer: S) -> Result<S::Ok, S::Error> {
        let mut last = 0;
        let steps: Vec<u32> = uids
            .uids()
            .map(|Uid(uid)| uid.wrapping_sub(std::mem::replace(&mut last, uid)))
            .collect();
        steps.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Uids, D::Error> {
        let mut last = 0_u32;
        let steps = Vec::<u32>::deserialize(deserializer)?.into_iter();
        Ok(steps
            .map(|step| {
                last = last.wrapping_add(step);
                Uid(last)
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(uids: &[u32]) -> Index {
        let mut index = Index {
            uid_validity: 7,
            ..Index::default()
        };
        for &uid in uids {
            index.push(Uid(uid), 10, None, None);
        }
        index
    }

    fn marks() -> Marks {
        Marks {
            uid_validity: 7,
            hidden: [1, 2, 9].into(),
            noticed: [3].into(),
            undelivered: [1, 3].into(),
            retrieved: [(1, 100), (4, 200)].into(),
            imported: [(2, "two".into()), (9, "nine".into())].into(),
            import: 5,
        }
    }

    #[test]
    fn what_has_no_new_uid_goes() {
        let mut marks = marks();
        marks.renumber(8, &[(1, Uid(30)), (2, Uid(20)), (4, Uid(10))].into());
        let expected = Marks {
            uid_validity: 8,
            hidden: [20, 30].into(),
            noticed: Uids::default(),
            undelivered: [30].into(),
            retrieved: [(10, 200), (30, 100)].into(),
            imported: [(20, "two".into())].into(),
            import: 5,
        };
        assert_eq!(marks, expected);
    }

    #[test]
    fn what_exists_no_more_goes() {
        let mut marks = marks();
        assert!(!marks.prune(&index(&[1, 2, 3, 4, 9])));
        assert!(!marks.prune(&index(&[])), "nothing was listed");
        assert!(marks.prune(&index(&[2, 3, 4])));
        assert_eq!(
            (&marks.hidden, &marks.undelivered, &marks.retrieved),
            (&[2, 9].into(), &[3].into(), &[(4, 200)].into()),
            "9 may have come after the index was made"
        );
        let mut emptied = index(&[2, 3, 4, 10]);
        emptied.clear();
        assert!(marks.prune(&emptied));
        assert_eq!((marks.hidden, marks.retrieved), (Uids::default(), UidMap::default()));
        let mut other = Marks {
            uid_validity: 6,
            hidden: [1].into(),
            ..Marks::default()
        };
        assert!(!other.prune(&index(&[9])), "those UIDs mean other messages");
    }

    #[test]
    fn renumbered_once() {
        let kept = |uid_validity| Past {
            uid_validity,
            ..Past::default()
        };
        assert_eq!(Renumbering::of(&kept(7), 7, 8), Renumbering::Due);
        assert_eq!(Renumbering::of(&kept(8), 7, 8), Renumbering::Done);
        assert_eq!(Renumbering::of(&kept(9), 7, 8), Renumbering::Late);
        assert_eq!(Renumbering::of(&kept(0), 7, 8), Renumbering::Late);
    }
}
