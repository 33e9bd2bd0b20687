//! From what is known of a mailbox to what it holds now: only what is new is listed. What vanished is told by a server with
//! QRESYNC, and found by counting at any other; and counted nevertheless, for not every QRESYNC tells all.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::recognition::Earlier;
use crate::{
    config::{Policy, UidlFormat},
    imap::{Connection, Error, Listed, Login, Mailbox, Resync, Selection, Wanted},
    state::Index,
    types::{Uid, UidRanges, UidValidity},
};

/// What a session shows, and what its connection leaves for the next.
#[derive(Debug, Clone)]
pub(super) struct View {
    /// All messages of the mailbox.
    pub(super) index: Arc<Index>,
    /// Those that bear `\Deleted` upstream, ascending: somebody else has given them up.
    pub(super) hidden: Vec<Uid>,
    /// HIGHESTMODSEQ when the mailbox was selected: what came later is told again, which does no harm.
    pub(super) modseq: u64,
    /// What they were before UIDVALIDITY changed.
    pub(super) earlier: Earlier,
    /// State keeps nothing of what the login has done here: it need not be asked, for nobody else adds to that.
    pub(super) is_unmarked: bool,
    /// Where deleted messages go, as the server calls it, once that has been found out.
    pub(super) target: Option<Arc<str>>,
    /// When the server was last asked in a way that can't hide new mail.
    pub(super) checked: Instant,
}

/// What is asked of each message besides UID and size: what a maildrop of this policy must know, and what is known
/// already, for another login that leads to the same mailbox may need it.
fn wanted(policy: &Policy, known: Option<&Index>) -> Wanted {
    Wanted {
        arrived: policy.folders.len() > 1
            || policy.view.within_days.is_some()
            || known.is_some_and(|known| !known.arrived.is_empty()),
        email_id: policy.uidl == UidlFormat::EmailId || known.is_some_and(|known| !known.email_ids.is_empty()),
    }
}

/// Selects the folder of a new connection, and brings what is known of it up to date; `login` makes another connection if
/// the server hangs up on that. Returns its index, and the UIDs that bear `\Deleted`.
pub(super) async fn opened(
    mut connection: Connection,
    login: Login<'_>,
    policy: &Policy,
    folder: &str,
    known: Option<Arc<Index>>,
) -> Result<(Mailbox, Arc<Index>, Vec<Uid>), Error> {
    let mut wanted = wanted(policy, known.as_deref());
    wanted.email_id = wanted.email_id && connection.has_object_id().await?;
    let known = known.filter(|known| known.is_whole() && known.has(wanted.arrived, wanted.email_id));
    let from = known.as_deref().map_or(Uid(1), unknown_from);
    let resync = known.as_deref().filter(|known| known.modseq > 0).and_then(|known| {
        Some(Resync {
            uid_validity: UidValidity::of_state(known.uid_validity)?,
            modseq: known.modseq,
        })
    });
    let selection = Selection {
        folder,
        from,
        wanted,
        resync,
    };
    let (mut mailbox, mut listed) = connection.select(selection, login).await?;
    let selected = mailbox.selected();
    let uid_validity = selected.uid_validity.kept();
    let known = match known {
        Some(known) if known.uid_validity == uid_validity && !selected.uid_not_sticky => known,
        _ => {
            if selected.uid_not_sticky {
                tracing::warn!(folder, "UIDNOTSTICKY: unique-ids change with each session");
            }
            mailbox.clear_changes();
            if from.0 > 1 {
                listed = mailbox.list(Uid(1), wanted).await?;
            }
            Arc::new(Index {
                uid_validity,
                ..Index::default()
            })
        }
    };
    let (index, hidden) = catch_up(&mut mailbox, known, listed, wanted).await?;
    Ok((mailbox, index, hidden))
}

/// How long a connection that waited may take for a sign of life: a new one is made sooner than a device gives up on one
/// that some router has forgotten.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// How long NOOP is believed. Some servers tell nothing new upon it, so a parked mailbox is selected again after this
/// time: if a device polls each minute, new mail is at most five minutes late.
const NOOP_IS_BELIEVED: Duration = Duration::from_secs(4 * 60);

/// One NOOP makes the view of a connection that waited exact; only if something has changed is more asked.
pub(super) async fn refreshed(mailbox: &mut Mailbox, policy: &Policy, view: View) -> Result<View, Error> {
    let is_sure = view.checked.elapsed() < NOOP_IS_BELIEVED && !mailbox.is_old();
    let alive = tokio::time::timeout(SIGN_OF_LIFE, async {
        if is_sure {
            mailbox.noop().await
        } else {
            mailbox.select_again().await
        }
    });
    alive.await.unwrap_or(Err(Error::Silent(SIGN_OF_LIFE)))?;
    if !is_sure && mailbox.selected().uid_validity.kept() != view.index.uid_validity {
        return Err(Error::NoData("SELECT (the same UIDVALIDITY)"));
    }
    let changes = mailbox.changes();
    if is_sure && changes.expunged == 0 && !changes.flags && mailbox.exists() == view.index.entries.len() {
        return Ok(view);
    }
    let mut wanted = wanted(policy, Some(&view.index));
    wanted.email_id &= mailbox.has_object_id();
    let listed = mailbox.list(unknown_from(&view.index), wanted).await?;
    let (index, hidden) = catch_up(mailbox, view.index.clone(), listed, wanted).await?;
    Ok(View {
        index,
        hidden,
        checked: Instant::now(),
        ..view
    })
}

/// The UID from which on `index` knows nothing.
fn unknown_from(index: &Index) -> Uid {
    Uid(index.entries.last().map_or(1, |&(uid, _)| uid.saturating_add(1)))
}

/// Brings `known` up to what `mailbox` holds. `listed` is what it told of the messages from [`unknown_from`] on.
///
/// UIDs ascend (RFC 3501 §2.3.1.1), so everything below the last known one is known: as many messages as the server has
/// means the same messages, fewer means that some vanished. Returns all messages, and the UIDs that bear `\Deleted`.
async fn catch_up(
    mailbox: &mut Mailbox,
    known: Arc<Index>,
    listed: Listed,
    wanted: Wanted,
) -> Result<(Arc<Index>, Vec<Uid>), Error> {
    let mut index = known;
    let mut listed = listed;
    let mut deleted = std::mem::take(&mut listed.deleted);
    append(&mut index, listed);
    let mut relisted = 0;
    loop {
        let vanished = mailbox.take_vanished();
        if !vanished.is_empty() {
            Arc::make_mut(&mut index).retain(|uid| !vanished.contains(Uid(uid)));
        }
        let expunged = mailbox.changes().expunged > 0;
        mailbox.clear_changes();
        let exists = mailbox.exists();
        if index.entries.len() > exists || expunged {
            let last = Uid(unknown_from(&index).0 - 1);
            if last.0 > 0 {
                let uids = mailbox.uids(last).await?;
                Arc::make_mut(&mut index).retain(|uid| uids.binary_search(&Uid(uid)).is_ok());
            }
            relisted += 1;
        } else if index.entries.len() < exists {
            // New mail came meanwhile; or the index lacks something, and is made anew.
            let from = if relisted == 0 { unknown_from(&index) } else { Uid(1) };
            let mut listed = mailbox.list(from, wanted).await?;
            if from.0 == 1 {
                Arc::make_mut(&mut index).clear();
            }
            deleted = std::mem::take(&mut listed.deleted);
            append(&mut index, listed);
            relisted += 1;
        } else {
            break;
        }
        if relisted == MOST_LISTINGS {
            if index.entries.is_empty() && mailbox.exists() > 0 {
                return Err(Error::NoData("UID FETCH (RFC822.SIZE)"));
            }
            tracing::warn!(
                listed = index.entries.len(),
                exists,
                "upstream lists other messages than it says it has"
            );
            Arc::make_mut(&mut index).listed = 0;
            break;
        }
    }
    let hidden = hidden(&index, &deleted);
    Ok((index, hidden))
}

/// Those messages that are in `deleted`.
fn hidden(index: &Index, deleted: &UidRanges) -> Vec<Uid> {
    if deleted.is_empty() {
        return Vec::new();
    }
    let uids = index.entries.iter().map(|&(uid, _)| Uid(uid));
    uids.filter(|&uid| deleted.contains(uid)).collect()
}

/// A mailbox in use changes while it is listed; one whose server contradicts itself would never be listed.
const MOST_LISTINGS: u32 = 3;

fn append(index: &mut Arc<Index>, listed: Listed) {
    if listed.sizes.is_empty() {
        return;
    }
    let index = Arc::make_mut(index);
    let mut last = index.entries.last().map_or(0, |&(uid, _)| uid);
    let mut arrived = listed.arrived.into_iter();
    let mut email_ids = listed.email_ids.into_iter();
    for (uid, octets) in listed.sizes {
        let (arrived, email_id) = (arrived.next(), email_ids.next());
        if uid.0 > last {
            index.push(uid.0, octets, arrived, email_id);
            last = uid.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_for_another_login_stays_known() {
        let mut index = Index::default();
        let wanted_beside = |index: &Index| {
            let Wanted { arrived, email_id } = wanted(&Policy::default(), Some(index));
            (arrived, email_id)
        };
        assert_eq!(wanted_beside(&index), (false, false));
        index.push(1, 10, Some(100), None);
        assert_eq!(wanted_beside(&index), (true, false));
        index.clear();
        index.push(2, 10, None, Some("M2".into()));
        assert_eq!(wanted_beside(&index), (false, true));
    }
}
