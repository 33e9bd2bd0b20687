//! The snapshot of a mailbox, and how it is brought up to date: only new messages are listed. A server with QRESYNC
//! reports which messages vanished; at any other server, counting the messages shows whether some did. The messages are
//! counted with QRESYNC too, because some servers do not report all.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    config::{Policy, UidlFormat},
    imap::{Connection, Error, Listed, Mailbox, Resync, Selection, UpstreamLogin, Wanted},
    state::{Former, Index, Past},
    types::{Uid, UidMap, UidRanges, UidValidity, Uids},
};

/// The messages of a mailbox, with their octets.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    index: Arc<Index>,
    /// Messages that have the flag `\Deleted` upstream, usually because another client has deleted them.
    deleted: Uids,
    /// HIGHESTMODSEQ when the mailbox was selected. The next QRESYNC reports later changes again, which does no harm.
    modseq: u64,
    /// The messages' UIDs before UIDVALIDITY changed.
    earlier: Earlier,
    /// Whether state has this version of the index.
    is_saved: bool,
    /// When the mailbox was last selected or listed. Some servers report new mail then, but not upon NOOP.
    checked: Instant,
}

/// The UIDs of a mailbox's messages before UIDVALIDITY changed.
#[derive(Debug, Clone, Default)]
pub(super) struct Earlier {
    /// The UIDVALIDITY and UID of each message when devices first saw it, if UIDVALIDITY has changed since.
    pub(super) former: Arc<UidMap<Former>>,
    /// UIDVALIDITY when devices first saw the mailbox; 0 if its UIDs are valid in this session only.
    pub(super) first_uid_validity: u64,
}

impl From<Past> for Earlier {
    fn from(past: Past) -> Self {
        Self {
            former: Arc::new(past.former),
            first_uid_validity: past.first_uid_validity,
        }
    }
}

/// How long a parked connection may take to answer. A router may have forgotten the connection; then a new one is made
/// before the device gives up.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the answers to NOOP are trusted. Some servers do not report new mail upon NOOP, so a parked mailbox is
/// selected again after this time. If a device polls each minute, new mail is at most five minutes late.
const NOOP_TRUSTED_FOR: Duration = Duration::from_secs(4 * 60);

impl Snapshot {
    /// Selects `folder` on a new connection, and lists the messages that are not in `known`, the index from state.
    /// `login` makes another connection if the server hangs up on the first.
    pub(super) async fn open(
        connection: Connection,
        login: UpstreamLogin<'_>,
        policy: &Policy,
        folder: &str,
        known: Option<Arc<Index>>,
    ) -> Result<(Mailbox, Self), Error> {
        let (mailbox, index, deleted) = list(connection, login, policy, folder, known.clone()).await?;
        let snapshot = Self {
            is_saved: known.is_some_and(|known| is_same(&known, &index)),
            index,
            deleted,
            modseq: mailbox.selected().modseq.unwrap_or(0),
            earlier: Earlier::default(),
            checked: Instant::now(),
        };
        Ok((mailbox, snapshot))
    }

    /// Brings the snapshot up to date on a new connection, after the last one was lost. `None` if UIDVALIDITY has
    /// changed: then the snapshot stays as it was.
    pub(super) async fn reopen(
        &mut self,
        connection: Connection,
        login: UpstreamLogin<'_>,
        policy: &Policy,
        folder: &str,
    ) -> Result<Option<Mailbox>, Error> {
        let (mailbox, index, deleted) = list(connection, login, policy, folder, Some(self.index.clone())).await?;
        let selected = mailbox.selected();
        if index.uid_validity != self.index.uid_validity || selected.uid_not_sticky {
            return Ok(None);
        }
        self.is_saved &= is_same(&self.index, &index);
        self.modseq = selected.modseq.unwrap_or(0);
        (self.index, self.deleted) = (index, deleted);
        Ok(Some(mailbox))
    }

    /// Brings the snapshot of a parked connection up to date, by one NOOP if nothing has changed. If this fails, the
    /// connection cannot be used any more.
    pub(super) async fn refresh(&mut self, mailbox: &mut Mailbox, policy: &Policy) -> Result<(), Error> {
        let is_sure = self.checked.elapsed() < NOOP_TRUSTED_FOR && !mailbox.is_old();
        let alive = tokio::time::timeout(PROBE_TIMEOUT, async {
            if is_sure {
                mailbox.noop().await
            } else {
                mailbox.select_again().await
            }
        });
        alive.await.unwrap_or(Err(Error::Silent(PROBE_TIMEOUT)))?;
        if !is_sure && mailbox.selected().uid_validity.kept() != self.index.uid_validity {
            return Err(Error::NoData("SELECT (the same UIDVALIDITY)"));
        }
        let changes = mailbox.changes();
        if is_sure && changes.expunged == 0 && !changes.flags && mailbox.exists() == self.index.entries.len() {
            return Ok(());
        }
        let mut wanted = wanted(policy, Some(&self.index));
        wanted.email_id &= mailbox.has_object_id();
        let listed = mailbox.list(unknown_from(&self.index), wanted).await?;
        let (index, deleted) = catch_up(mailbox, self.index.clone(), listed, wanted).await?;
        self.is_saved &= is_same(&self.index, &index);
        (self.index, self.deleted) = (index, deleted);
        self.checked = Instant::now();
        Ok(())
    }

    /// The messages `uids` under UIDVALIDITY 7. Those in `deleted` have the flag `\Deleted`.
    #[cfg(test)]
    pub(super) fn of<const N: usize, const D: usize>(uids: [u32; N], deleted: [u32; D]) -> Self {
        let mut index = Index {
            uid_validity: 7,
            ..Index::default()
        };
        for uid in uids {
            index.push(Uid(uid), 100, None, None);
        }
        Self {
            index: Arc::new(index),
            deleted: deleted.into(),
            modseq: 0,
            earlier: Earlier::default(),
            is_saved: true,
            checked: Instant::now(),
        }
    }

    /// All messages of the mailbox, those with the flag `\Deleted` included.
    pub(super) fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// UIDVALIDITY, in the form in which state stores it.
    pub(super) fn uid_validity(&self) -> u64 {
        self.index.uid_validity
    }

    pub(super) fn contains(&self, uid: Uid) -> bool {
        self.index.entries.contains(uid)
    }

    /// All UIDs, ascending.
    pub(super) fn uids(&self) -> Vec<Uid> {
        self.index.entries.uids().collect()
    }

    /// The messages that have the flag `\Deleted` upstream. No session shows them.
    pub(super) fn deleted(&self) -> &Uids {
        &self.deleted
    }

    pub(super) fn earlier(&self) -> &Earlier {
        &self.earlier
    }

    pub(super) fn set_earlier(&mut self, earlier: Earlier) {
        self.earlier = earlier;
    }

    /// How many messages in a row the login's last session fetched.
    pub(super) fn expected_run(&self) -> usize {
        self.index.row as usize
    }

    pub(super) fn forget(&mut self, gone: &Uids) {
        if gone.is_empty() {
            return;
        }
        Arc::make_mut(&mut self.index).retain(|uid| !gone.contains(uid));
        self.deleted.retain(|uid, ()| !gone.contains(uid));
        self.is_saved = false;
    }

    /// Notes for the next session the length of this session's first run (0: nothing was fetched), and the octets that
    /// were counted when messages were delivered.
    pub(super) fn learn(&mut self, run: usize, octets: impl Iterator<Item = (Uid, u32)>) {
        let run = match run {
            0 => self.index.row,
            run => u32::try_from(run).unwrap_or(u32::MAX),
        };
        let news: UidMap<u32> = octets
            .filter(|&(uid, octets)| self.index.entries.get(uid).is_some_and(|known| known != octets))
            .collect();
        if run == self.index.row && news.is_empty() {
            return;
        }
        let index: &mut Index = Arc::make_mut(&mut self.index);
        index.row = run;
        if !news.is_empty() {
            index.entries.correct(&news);
        }
        self.is_saved = false;
    }

    pub(super) fn is_saved(&self) -> bool {
        self.is_saved
    }

    /// The index, for the caller to save. From now on it counts as saved.
    pub(super) fn take_for_saving(&mut self) -> Arc<Index> {
        if self.index.modseq != self.modseq {
            Arc::make_mut(&mut self.index).modseq = self.modseq;
        }
        self.is_saved = true;
        self.index.clone()
    }
}

fn is_same(a: &Arc<Index>, b: &Arc<Index>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

/// What to list of each message besides UID and size: what the policy needs, and what the index already has, because
/// another login of the same mailbox may need that.
fn wanted(policy: &Policy, known: Option<&Index>) -> Wanted {
    Wanted {
        arrived: policy.folders.len() > 1
            || policy.view.within_days.is_some()
            || known.is_some_and(|known| !known.arrived.is_empty()),
        email_id: policy.uidl == UidlFormat::EmailId || known.is_some_and(|known| !known.email_ids.is_empty()),
    }
}

/// Selects `folder` on a new connection, and brings the index `known` up to date. Returns the index, and the UIDs that
/// have the flag `\Deleted`.
async fn list(
    mut connection: Connection,
    login: UpstreamLogin<'_>,
    policy: &Policy,
    folder: &str,
    known: Option<Arc<Index>>,
) -> Result<(Mailbox, Arc<Index>, Uids), Error> {
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

/// One more than the highest UID in `index`; 1 if it is empty.
fn unknown_from(index: &Index) -> Uid {
    Uid(index.entries.last().map_or(1, |Uid(uid)| uid.saturating_add(1)))
}

/// Brings `known` up to date with `mailbox`. `listed` is the server's listing of the messages from [`unknown_from`] on.
///
/// UIDs ascend (RFC 3501 §2.3.1.1), so no new message appears below the last known UID. If the index has as many
/// messages as the server, they are the same; if it has more, some have vanished. Returns all messages, and the UIDs
/// that have the flag `\Deleted`.
async fn catch_up(
    mailbox: &mut Mailbox,
    known: Arc<Index>,
    listed: Listed,
    wanted: Wanted,
) -> Result<(Arc<Index>, Uids), Error> {
    let mut index = known;
    let mut listed = listed;
    let mut deleted = std::mem::take(&mut listed.deleted);
    append(&mut index, listed);
    let mut relisted = 0;
    loop {
        let vanished = mailbox.take_vanished();
        if !vanished.is_empty() {
            Arc::make_mut(&mut index).retain(|uid| !vanished.contains(uid));
        }
        let expunged = mailbox.changes().expunged > 0;
        mailbox.clear_changes();
        let exists = mailbox.exists();
        if index.entries.len() > exists || expunged {
            let last = Uid(unknown_from(&index).0 - 1);
            if last.0 > 0 {
                let uids: Uids = mailbox.uids(last).await?.into_iter().collect();
                Arc::make_mut(&mut index).retain(|uid| uids.contains(uid));
            }
            relisted += 1;
        } else if index.entries.len() < exists {
            // New mail has come meanwhile. If a listing does not help, the index lacks old messages, and is rebuilt.
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
    let deleted = among(&index, &deleted);
    Ok((index, deleted))
}

/// The messages of `index` that are in `deleted`.
fn among(index: &Index, deleted: &UidRanges) -> Uids {
    if deleted.is_empty() {
        return Uids::default();
    }
    index.entries.uids().filter(|&uid| deleted.contains(uid)).collect()
}

/// How often a mailbox is listed at most. A mailbox in use changes while it is listed, so one listing may not be
/// enough. The limit is for servers that contradict themselves.
const MOST_LISTINGS: u32 = 3;

fn append(index: &mut Arc<Index>, listed: Listed) {
    if listed.sizes.is_empty() {
        return;
    }
    let index = Arc::make_mut(index);
    let mut arrived = listed.arrived.into_iter();
    let mut email_ids = listed.email_ids.into_iter();
    for (uid, octets) in listed.sizes {
        let (arrived, email_id) = (arrived.next(), email_ids.next());
        index.push(uid, octets, arrived, email_id);
    }
    index.shrink();
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
        index.push(Uid(1), 10, Some(100), None);
        assert_eq!(wanted_beside(&index), (true, false));
        index.clear();
        index.push(Uid(2), 10, None, Some("M2".into()));
        assert_eq!(wanted_beside(&index), (false, true));
    }

    /// An index stays in memory while its connection is parked.
    #[test]
    fn an_index_takes_little_more_memory_than_it_needs() {
        let listed = |uids: std::ops::RangeInclusive<u32>| {
            let mut listed = Listed::default();
            listed.sizes.extend(uids.clone().map(|uid| (Uid(uid), 1000)));
            listed.arrived.extend(uids);
            listed
        };
        let takes = |index: &Index| (index.entries.bytes(), index.arrived.capacity());
        let mut index = Arc::new(Index::default());
        append(&mut index, listed(1..=100_000));
        let (entries, arrived) = takes(&index);
        assert!(entries <= 240_000 && arrived <= 103_125, "{entries} {arrived}");
        append(&mut index, listed(100_001..=100_001));
        let before = takes(&index);
        append(&mut index, listed(100_002..=101_000));
        assert_eq!(takes(&index), before, "there is room for some new mail");
        Arc::make_mut(&mut index).retain(|uid| uid.0 <= 100);
        let (entries, arrived) = takes(&index);
        assert!(entries <= 240 && arrived <= 103, "{entries} {arrived}");
    }

    #[test]
    fn what_is_learned_or_removed_is_to_be_saved() {
        let mut snapshot = Snapshot::of([1, 2, 3], [2, 3]);
        snapshot.learn(0, [(Uid(1), 100), (Uid(9), 5)].into_iter());
        assert!(snapshot.is_saved(), "nothing is new");
        snapshot.learn(0, [(Uid(1), 101)].into_iter());
        assert!(!snapshot.is_saved());
        assert_eq!(snapshot.take_for_saving().entries.get(Uid(1)), Some(101));
        assert!(snapshot.is_saved());
        snapshot.learn(5, std::iter::empty());
        assert!(!snapshot.is_saved() && snapshot.expected_run() == 5);
        snapshot.take_for_saving();
        snapshot.forget(&Uids::default());
        assert!(snapshot.is_saved());
        snapshot.forget(&[2].into());
        assert!(!snapshot.is_saved() && !snapshot.contains(Uid(2)));
        assert_eq!(
            (snapshot.uids(), snapshot.deleted()),
            (vec![Uid(1), Uid(3)], &[3].into())
        );
    }

    #[test]
    fn what_is_saved_is_as_of_the_last_selection() {
        let mut snapshot = Snapshot::of([1], []);
        snapshot.modseq = 77;
        assert_eq!(snapshot.take_for_saving().modseq, 77);
    }
}
