//! What is remembered besides indexes, and must not be forgotten: what logins have done with messages, what messages were
//! before UIDVALIDITY changed, and moves under way.

use serde::{Deserialize, Serialize};

use super::{Index, MailboxName, Unavailable};

/// What a login has done with the messages of a mailbox. All lists ascend by UID.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// UIDs mean what they meant as long as this is the same; 0 where nothing has been kept yet.
    pub uid_validity: u64,
    /// UIDs that the login no longer sees.
    #[serde(with = "ascending")]
    pub hidden: Vec<u32>,
    /// UIDs of messages whose notices it has deleted.
    #[serde(with = "ascending")]
    pub noticed: Vec<u32>,
    /// UIDs of messages that the upstream did not deliver: the login was given notices in their place.
    #[serde(with = "ascending")]
    pub undelivered: Vec<u32>,
    /// UID and when the message was first delivered whole, in seconds since 1970.
    pub retrieved: Vec<(u32, u32)>,
    /// UID and UIDL of another server.
    pub imported: Vec<(u32, String)>,
    /// Of the file that `imported` came from; 0 where there was none.
    pub import: u64,
}

/// Of Message-ID, size and INTERNALDATE: by it a message is known again under another UIDVALIDITY.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identity(pub [u8; 16]);

/// What the messages of a mailbox are and were. Both lists ascend by UID.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// Of the UIDs here; 0 where nothing has been kept yet.
    pub uid_validity: u64,
    /// UIDVALIDITY when something was kept for the first time: a UID alone tells a message only of then.
    pub first_uid_validity: u64,
    /// Of messages that devices have had.
    pub identities: Vec<(u32, Identity)>,
    /// What messages were when devices first saw them, where that was under another UIDVALIDITY.
    pub former: Vec<(u32, Former)>,
}

/// What a message was called upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// UIDVALIDITY then.
    pub uid_validity: u64,
    /// UID then.
    pub uid: u32,
}

/// Messages about to be copied and then removed. This is kept before the COPY, so that after a crash the next login can
/// find out how far the move came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingMove {
    /// Of `uids`.
    pub uid_validity: u64,
    /// Ascending.
    pub uids: Vec<u32>,
    /// The folder they go to.
    pub target: String,
    /// Its UIDVALIDITY.
    pub target_uid_validity: u64,
    /// Its UIDNEXT before the COPY: copies have this UID or a higher one.
    pub target_uid_next: u32,
}

impl Marks {
    /// Under a new UIDVALIDITY; `uids` are pairs of old and new, ascending by the old. What has no new UID goes.
    pub(super) fn renumber(&mut self, uid_validity: u64, uids: &[(u32, u32)]) {
        let new = |old: u32| {
            let at = uids.binary_search_by_key(&old, |&(old, _)| old).ok()?;
            Some(uids[at].1)
        };
        for list in [&mut self.hidden, &mut self.noticed, &mut self.undelivered] {
            *list = list.iter().filter_map(|&uid| new(uid)).collect();
            list.sort_unstable();
        }
        self.retrieved = self
            .retrieved
            .iter()
            .filter_map(|&(uid, at)| Some((new(uid)?, at)))
            .collect();
        self.retrieved.sort_unstable();
        let imported = std::mem::take(&mut self.imported).into_iter();
        self.imported = imported.filter_map(|(uid, name)| Some((new(uid)?, name))).collect();
        self.imported.sort_unstable();
        self.uid_validity = uid_validity;
    }

    /// Forgets messages that are gone; says whether there were any.
    pub(super) fn prune(&mut self, index: &Index) -> bool {
        if self.uid_validity != index.uid_validity {
            return false;
        }
        let stays = |uid| !index.has_lost(uid);
        let before = self.len();
        for list in [&mut self.hidden, &mut self.noticed, &mut self.undelivered] {
            list.retain(|&uid| stays(uid));
        }
        self.retrieved.retain(|&(uid, _)| stays(uid));
        self.imported.retain(|&(uid, _)| stays(uid));
        before != self.len()
    }

    fn len(&self) -> usize {
        let Self {
            hidden,
            noticed,
            undelivered,
            retrieved,
            imported,
            ..
        } = self;
        hidden.len() + noticed.len() + undelivered.len() + retrieved.len() + imported.len()
    }
}

impl Past {
    /// Of a mailbox that is met for the first time.
    pub fn of(uid_validity: u64) -> Self {
        Self {
            uid_validity,
            first_uid_validity: uid_validity,
            ..Self::default()
        }
    }

    /// Takes in what `kept` has besides; `false` where that is of another UIDVALIDITY, which another session has found
    /// meanwhile.
    pub(super) fn merge(&mut self, kept: &Self) -> bool {
        if self.uid_validity != kept.uid_validity {
            return false;
        }
        self.first_uid_validity = kept.first_uid_validity;
        add_missing(&mut self.identities, &kept.identities);
        add_missing(&mut self.former, &kept.former);
        true
    }

    /// Forgets messages that are gone; says whether there were any.
    pub(super) fn prune(&mut self, index: &Index) -> bool {
        if self.uid_validity != index.uid_validity {
            return false;
        }
        let stays = |uid| !index.has_lost(uid);
        let before = self.identities.len() + self.former.len();
        self.identities.retain(|&(uid, _)| stays(uid));
        self.former.retain(|&(uid, _)| stays(uid));
        before != self.identities.len() + self.former.len()
    }
}

/// Adds what only `others` has; both ascend by UID.
fn add_missing<T: Copy>(list: &mut Vec<(u32, T)>, others: &[(u32, T)]) {
    let here = list.len();
    for &(uid, value) in others {
        if list[..here].binary_search_by_key(&uid, |&(uid, _)| uid).is_err() {
            list.push((uid, value));
        }
    }
    if list.len() > here {
        list.sort_unstable_by_key(|&(uid, _)| uid);
    }
}

/// What is to be done about a mailbox whose UIDVALIDITY a session has found changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renumbering {
    /// It is to be renumbered.
    Due,
    /// Another session was faster.
    Done,
    /// It has a third UIDVALIDITY by now.
    Late,
}

impl Renumbering {
    /// Of a mailbox whose past is `kept`, from UIDVALIDITY `from` to `to`.
    pub(super) fn of(kept: Option<&Past>, from: u64, to: u64) -> Self {
        match kept.map_or(0, |kept| kept.uid_validity) {
            kept if kept == from => Self::Due,
            kept if kept == to => Self::Done,
            _ => Self::Late,
        }
    }
}

/// Whether marks that follow from some of UIDVALIDITY `followed` (0: from none) may be kept over `kept`: not if those have
/// been reset or renumbered meanwhile.
pub(super) fn may_follow(kept: Option<&Marks>, followed: u64) -> bool {
    kept.map_or(0, |kept| kept.uid_validity) == followed
}

/// Refuses marks that may not follow (see [`may_follow`]); the log says whose they are, because the device only hears that
/// state is not available.
pub(super) fn refuse(login: &str, mailbox: &MailboxName) -> Unavailable {
    tracing::warn!(
        login,
        %mailbox,
        "what was kept of this login has been reset or renumbered during its session: what the session did is not kept"
    );
    Unavailable::Changed
}

/// A list that ascends is kept as its steps, which take an octet each as long as they are small. Any other list comes back
/// as it was as well: what can be kept can be read.
mod ascending {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(uids: &[u32], serializer: S) -> Result<S::Ok, S::Error> {
        let mut last = 0;
        let steps: Vec<u32> = uids
            .iter()
            .map(|&uid| uid.wrapping_sub(std::mem::replace(&mut last, uid)))
            .collect();
        steps.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u32>, D::Error> {
        let mut last = 0_u32;
        let mut uids = Vec::<u32>::deserialize(deserializer)?;
        for uid in &mut uids {
            last = last.wrapping_add(*uid);
            *uid = last;
        }
        Ok(uids)
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
            index.push(uid, 10, None, None);
        }
        index
    }

    fn marks() -> Marks {
        Marks {
            uid_validity: 7,
            hidden: vec![1, 2, 9],
            noticed: vec![3],
            undelivered: vec![1, 3],
            retrieved: vec![(1, 100), (4, 200)],
            imported: vec![(2, "two".into()), (9, "nine".into())],
            import: 5,
        }
    }

    #[test]
    fn what_has_no_new_uid_goes() {
        let mut marks = marks();
        marks.renumber(8, &[(1, 30), (2, 20), (4, 10)]);
        let expected = Marks {
            uid_validity: 8,
            hidden: vec![20, 30],
            noticed: vec![],
            undelivered: vec![30],
            retrieved: vec![(10, 200), (30, 100)],
            imported: vec![(20, "two".into())],
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
            (&vec![2, 9], &vec![3], &vec![(4, 200)]),
            "9 may have come after the index was made"
        );
        let mut emptied = index(&[2, 3, 4, 10]);
        emptied.clear();
        assert!(marks.prune(&emptied));
        assert_eq!((marks.hidden, marks.retrieved), (vec![], vec![]));
        let mut other = Marks {
            uid_validity: 6,
            hidden: vec![1],
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
        assert_eq!(Renumbering::of(Some(&kept(7)), 7, 8), Renumbering::Due);
        assert_eq!(Renumbering::of(Some(&kept(8)), 7, 8), Renumbering::Done);
        assert_eq!(Renumbering::of(Some(&kept(9)), 7, 8), Renumbering::Late);
        assert_eq!(Renumbering::of(None, 7, 8), Renumbering::Late);
    }

    #[test]
    fn marks_follow_only_what_they_were_made_of() {
        assert!(may_follow(None, 0) && may_follow(Some(&marks()), 7));
        assert!(!may_follow(None, 7), "reset meanwhile");
        assert!(!may_follow(Some(&marks()), 6), "renumbered meanwhile");
        assert!(!may_follow(Some(&marks()), 0), "begun by another session meanwhile");
    }
}
