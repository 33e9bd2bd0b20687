//! From what is known of a mailbox to what it holds now: only what is new is listed. What vanished is told by a server with
//! QRESYNC, and found by counting at any other; and counted nevertheless, for not every QRESYNC tells all.

use std::sync::Arc;

use crate::{
    imap::{Error, Listed, Mailbox, Uid},
    state::Index,
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
}

/// The UID from which on `index` knows nothing.
pub(super) fn unknown_from(index: &Index) -> Uid {
    Uid(index.entries.last().map_or(1, |&(uid, _)| uid.saturating_add(1)))
}

/// Brings `known` up to what `mailbox` holds. `listed` is what it told of the messages from [`unknown_from`] on.
///
/// UIDs ascend (RFC 3501 §2.3.1.1), so everything below the last known one is known: as many messages as the server has
/// means the same messages, fewer means that some vanished. Returns all messages, and the UIDs that bear `\Deleted`.
pub(super) async fn catch_up(
    mailbox: &mut Mailbox,
    known: Arc<Index>,
    listed: Listed,
) -> Result<(Arc<Index>, Vec<Uid>), Error> {
    let mut index = known;
    let mut hidden = listed.deleted;
    append(&mut index, &listed.sizes);
    let mut relisted = 0;
    loop {
        let vanished = mailbox.take_vanished();
        if !vanished.is_empty() {
            let is_gone = |uid| vanished.iter().any(|&(low, high)| (low..=high).contains(&uid));
            Arc::make_mut(&mut index).entries.retain(|&(uid, _)| !is_gone(uid));
        }
        let expunged = mailbox.news().expunged > 0;
        mailbox.clear_news();
        let exists = mailbox.exists();
        if index.entries.len() > exists || expunged {
            let last = Uid(unknown_from(&index).0 - 1);
            if last.0 > 0 {
                let uids = mailbox.uids(last).await?;
                Arc::make_mut(&mut index)
                    .entries
                    .retain(|&(uid, _)| uids.binary_search(&Uid(uid)).is_ok());
            }
            relisted += 1;
        } else if index.entries.len() < exists {
            // New mail came meanwhile; or the index lacks something, and is made anew.
            let from = if relisted == 0 { unknown_from(&index) } else { Uid(1) };
            let listed = mailbox.list(from).await?;
            if from.0 == 1 {
                Arc::make_mut(&mut index).entries.clear();
            }
            append(&mut index, &listed.sizes);
            hidden = listed.deleted;
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
            break;
        }
    }
    Ok((index, hidden))
}

/// A mailbox in use changes while it is listed; one whose server contradicts itself would never be listed.
const MOST_LISTINGS: u32 = 3;

fn append(index: &mut Arc<Index>, sizes: &[(Uid, u32)]) {
    if !sizes.is_empty() {
        let entries = &mut Arc::make_mut(index).entries;
        let last = entries.last().map_or(0, |&(uid, _)| uid);
        entries.extend(
            sizes
                .iter()
                .filter(|(uid, _)| uid.0 > last)
                .map(|&(uid, octets)| (uid.0, octets)),
        );
    }
}
