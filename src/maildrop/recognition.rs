//! When UIDVALIDITY has changed, UIDs mean nothing any more. Messages are known again by Message-ID, size and INTERNALDATE,
//! as far as that is beyond doubt, so that devices need not download everything once more.

use std::{collections::HashMap, sync::Arc};

use super::removal::Trouble;
use crate::{
    config::UidlFormat,
    imap::Mailbox,
    state::{Former, Identity, Index, MailboxName, Past, StateStore},
    types::Uid,
};

/// What the messages of a mailbox were before UIDVALIDITY changed.
#[derive(Debug, Clone, Default)]
pub(super) struct Earlier {
    /// UID → what it was when devices first saw it; ascending.
    pub(super) former: Arc<[(u32, Former)]>,
    /// UIDVALIDITY when devices first saw any; 0 where UIDs are of this session only.
    pub(super) first_uid_validity: u64,
}

/// What the messages of a mailbox just selected were; where UIDVALIDITY has changed since the last session, that is found
/// out, and everything that state holds by UID is renumbered.
pub(super) async fn recognised(
    mailbox: &mut Mailbox,
    index: &Index,
    name: &MailboxName,
    format: &UidlFormat,
    state: &dyn StateStore,
) -> Result<Earlier, Trouble> {
    if mailbox.selected().uid_not_sticky {
        return Ok(Earlier::default());
    }
    let past = state.past(name).await?;
    if past.uid_validity == 0 {
        let first = Past::of(index.uid_validity);
        // A UID alone names a message from now on, even one that goes before anything is known of it.
        if !format.tells_validity() {
            state.set_past(name, &first).await?;
        }
        return Ok(first.into());
    }
    if past.uid_validity == index.uid_validity {
        return Ok(past.into());
    }
    // Where nothing is known there is nothing to compare; that UIDVALIDITY has changed is to be kept nevertheless.
    let uids: Vec<Uid> = if past.identities.is_empty() {
        Vec::new()
    } else {
        index.entries.iter().map(|&(uid, _)| Uid(uid)).collect()
    };
    let here: Vec<(u32, Identity)> = mailbox
        .identities(&uids)
        .await?
        .into_iter()
        .map(|(Uid(uid), identity)| (uid, Identity(identity)))
        .collect();
    let pairs = pairs(&past.identities, &here);
    tracing::info!(
        mailbox = %name,
        known = past.identities.len(),
        recognised = pairs.len(),
        "UIDVALIDITY changed: messages are known again by Message-ID, size and date"
    );
    let now = renumbered(&past, index.uid_validity, &pairs);
    state.renumber(name, &now, past.uid_validity, &pairs).await?;
    Ok(now.into())
}

impl From<Past> for Earlier {
    fn from(past: Past) -> Self {
        Self {
            former: past.former.into(),
            first_uid_validity: past.first_uid_validity,
        }
    }
}

/// Old and new UID of what bears an identity that is unique on both sides; ascending by the old.
fn pairs(old: &[(u32, Identity)], new: &[(u32, Identity)]) -> Vec<(u32, u32)> {
    let new = unique(new);
    let mut pairs: Vec<_> = unique(old)
        .into_iter()
        .filter_map(|(identity, old)| Some((old, *new.get(&identity)?)))
        .collect();
    pairs.sort_unstable();
    pairs
}

fn unique(identities: &[(u32, Identity)]) -> HashMap<Identity, u32> {
    let mut uids: HashMap<Identity, Option<u32>> = HashMap::new();
    for &(uid, identity) in identities {
        uids.entry(identity)
            .and_modify(|several| *several = None)
            .or_insert(Some(uid));
    }
    uids.into_iter()
        .filter_map(|(identity, uid)| Some((identity, uid?)))
        .collect()
}

/// What is to be kept of `past` under the new UIDs. A message keeps the name that devices know it by.
fn renumbered(past: &Past, uid_validity: u64, pairs: &[(u32, u32)]) -> Past {
    let identity = |uid: u32| {
        let at = past.identities.binary_search_by_key(&uid, |&(uid, _)| uid).ok()?;
        Some(past.identities[at].1)
    };
    let former = |uid: u32| match past.former.binary_search_by_key(&uid, |&(uid, _)| uid) {
        Ok(at) => past.former[at].1,
        Err(_) => Former {
            uid_validity: past.uid_validity,
            uid,
        },
    };
    let mut now = Past {
        uid_validity,
        first_uid_validity: past.first_uid_validity,
        identities: pairs
            .iter()
            .filter_map(|&(old, new)| Some((new, identity(old)?)))
            .collect(),
        former: pairs.iter().map(|&(old, new)| (new, former(old))).collect(),
    };
    now.identities.sort_unstable_by_key(|&(uid, _)| uid);
    now.former.sort_unstable_by_key(|&(uid, _)| uid);
    now
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(octet: u8) -> Identity {
        Identity([octet; 16])
    }

    #[test]
    fn only_what_is_beyond_doubt_is_known_again() {
        let old = [(1, 10), (2, 20), (3, 30), (4, 30), (5, 50)].map(|(uid, octet)| (uid, identity(octet)));
        let new = [(11, 50), (12, 20), (13, 20), (14, 30), (15, 10)].map(|(uid, octet)| (uid, identity(octet)));
        assert_eq!(pairs(&old, &new), [(1, 15), (5, 11)], "two of 20 now, two of 30 then");
    }

    #[test]
    fn the_name_that_devices_know_stays_through_several_changes() {
        let first = Past {
            uid_validity: 7,
            first_uid_validity: 7,
            identities: vec![(1, identity(1)), (2, identity(2))],
            former: Vec::new(),
        };
        let second = renumbered(&first, 8, &[(1, 30), (2, 20)]);
        let former = |uid_validity, uid| Former { uid_validity, uid };
        assert_eq!(second.former, [(20, former(7, 2)), (30, former(7, 1))]);
        let third = renumbered(&second, 9, &[(20, 5)]);
        assert_eq!(third.former, [(5, former(7, 2))]);
        assert_eq!(third.identities, [(5, identity(2))]);
        assert_eq!((third.uid_validity, third.first_uid_validity), (9, 7));
    }
}
