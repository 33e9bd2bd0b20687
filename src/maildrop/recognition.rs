//! Recognises messages after UIDVALIDITY has changed, when the old UIDs mean nothing any more: by Message-ID, size and
//! INTERNALDATE, if these are unique. So devices need not download everything once more.

use std::collections::HashMap;

use super::{Error, snapshot::Snapshot, upstream::UpstreamFolder};
use crate::{
    state::{Former, Identity, Index, MailboxState, Past, Renumbered},
    types::{Uid, UidMap},
};

/// Finds the earlier UIDs of the messages of a mailbox that was just selected. If UIDVALIDITY has changed since the
/// last session, renumbers everything that state holds by UID.
///
/// If state fails, this fails only if the policy needs marks: see
/// [`Policy::keeps_marks`](crate::config::Policy::keeps_marks). Otherwise the login goes on as if state held nothing.
pub(super) async fn recognise(
    state: &mut MailboxState,
    upstream: &mut UpstreamFolder,
    snapshot: &mut Snapshot,
) -> Result<(), Error> {
    if upstream.selected().uid_not_sticky {
        return Ok(());
    }
    let past = match past(state, upstream, snapshot).await {
        Err(error) if error.imap().is_none() && !upstream.policy().keeps_marks() => {
            tracing::warn!(
                mailbox = %upstream.name(),
                error = %error.cause(),
                "the login goes on without state: meanwhile, messages that were known before UIDVALIDITY changed have new UIDLs"
            );
            Past::of(snapshot.uid_validity())
        }
        past => past?,
    };
    snapshot.set_earlier(past.into());
    Ok(())
}

async fn past(state: &mut MailboxState, upstream: &mut UpstreamFolder, snapshot: &Snapshot) -> Result<Past, Error> {
    let past = state.past().await?;
    if past.uid_validity == 0 {
        let first = Past::of(snapshot.uid_validity());
        // This format makes UIDLs of UIDs alone, and devices see these UIDLs from now on. So state must remember
        // UIDVALIDITY at once, even if it never learns of any message here.
        if !upstream.policy().uidl.distinguishes_validity() {
            state.add_past(&first).await?;
        }
        return Ok(first);
    }
    if past.uid_validity == snapshot.uid_validity() {
        return Ok(past);
    }
    // If no identities are known, there is nothing to compare. The change of UIDVALIDITY is stored nevertheless.
    let uids = if past.identities.is_empty() {
        Vec::new()
    } else {
        snapshot.uids()
    };
    let here = identities(upstream, &uids).await?;
    let pairs = pairs(&past.identities, &here);
    tracing::info!(
        mailbox = %upstream.name(),
        known = past.identities.len(),
        recognised = pairs.len(),
        "UIDVALIDITY changed: messages are recognised by Message-ID, size and date"
    );
    let now = renumbered(&past, snapshot.uid_validity(), &pairs);
    state.renumber(&now, past.uid_validity, &pairs).await?;
    Ok(now)
}

/// Stores the identities of `uids` (ascending), which are listed in `index`, so that these messages are recognised if
/// UIDVALIDITY changes.
pub(super) async fn identify(
    state: &mut MailboxState,
    upstream: &mut UpstreamFolder,
    index: &Index,
    uids: &[Uid],
) -> Result<(), Error> {
    let mut known = state.past().await?;
    if known.uid_validity == 0 {
        known = Past::of(index.uid_validity);
    }
    if known.uid_validity != index.uid_validity {
        return Ok(()); // another session has found that it changed
    }
    let is_unknown = |uid: &Uid| !known.identities.contains(*uid);
    let unknown: Vec<Uid> = uids.iter().copied().filter(is_unknown).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    known.identities.extend(identities(upstream, &unknown).await?);
    Ok(state.add_past(&known).await?)
}

async fn identities(upstream: &mut UpstreamFolder, uids: &[Uid]) -> Result<UidMap<Identity>, Error> {
    let identities = upstream.mailbox().identities(uids).await;
    let identities = identities.map_err(|error| upstream.failed(error))?;
    Ok(identities
        .into_iter()
        .map(|(uid, identity)| (uid, Identity(identity)))
        .collect())
}

/// The old and the new UID of each message whose identity is unique on both sides.
fn pairs(old: &UidMap<Identity>, new: &UidMap<Identity>) -> Renumbered {
    let new = unique(new);
    unique(old)
        .into_iter()
        .filter_map(|(identity, old)| Some((old, *new.get(&identity)?)))
        .collect()
}

fn unique(identities: &UidMap<Identity>) -> HashMap<Identity, Uid> {
    let mut uids: HashMap<Identity, Option<Uid>> = HashMap::new();
    for (uid, &identity) in identities.iter() {
        uids.entry(identity)
            .and_modify(|several| *several = None)
            .or_insert(Some(uid));
    }
    uids.into_iter()
        .filter_map(|(identity, uid)| Some((identity, uid?)))
        .collect()
}

/// `past` under the new UIDs, without the messages that were not recognised. Each message keeps the UIDVALIDITY and UID
/// of which its first UIDL was made.
fn renumbered(past: &Past, uid_validity: u64, pairs: &Renumbered) -> Past {
    let former = |uid: Uid| {
        past.former.get(uid).copied().unwrap_or(Former {
            uid_validity: past.uid_validity,
            uid,
        })
    };
    Past {
        uid_validity,
        first_uid_validity: past.first_uid_validity,
        identities: pairs
            .iter()
            .filter_map(|(old, &new)| Some((new, *past.identities.get(old)?)))
            .collect(),
        former: pairs.iter().map(|(old, &new)| (new, former(old))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(octet: u8) -> Identity {
        Identity([octet; 16])
    }

    #[test]
    fn only_what_is_beyond_doubt_is_known_again() {
        let old = [(1, 10), (2, 20), (3, 30), (4, 30), (5, 50)]
            .map(|(uid, octet)| (uid, identity(octet)))
            .into();
        let new = [(11, 50), (12, 20), (13, 20), (14, 30), (15, 10)]
            .map(|(uid, octet)| (uid, identity(octet)))
            .into();
        assert_eq!(
            pairs(&old, &new),
            [(1, Uid(15)), (5, Uid(11))].into(),
            "two of 20 now, two of 30 then"
        );
    }

    #[test]
    fn the_name_that_devices_know_stays_through_several_changes() {
        let first = Past {
            uid_validity: 7,
            first_uid_validity: 7,
            identities: [(1, identity(1)), (2, identity(2))].into(),
            former: UidMap::default(),
        };
        let second = renumbered(&first, 8, &[(1, Uid(30)), (2, Uid(20))].into());
        let former = |uid_validity, uid| Former {
            uid_validity,
            uid: Uid(uid),
        };
        assert_eq!(second.former, [(20, former(7, 2)), (30, former(7, 1))].into());
        let third = renumbered(&second, 9, &[(20, Uid(5))].into());
        assert_eq!(third.former, [(5, former(7, 2))].into());
        assert_eq!(third.identities, [(5, identity(2))].into());
        assert_eq!((third.uid_validity, third.first_uid_validity), (9, 7));
    }
}
