//! Selects the messages of its folders that a session shows, and orders them.

use std::sync::Arc;

use super::listing::{Row, Shows};
use crate::{
    config::{Order, Oversize, View},
    state::Index,
    types::{UidRanges, Uids},
};

/// The messages of a folder that can be shown.
#[derive(Debug)]
pub(super) struct Candidates {
    pub(super) index: Arc<Index>,
    /// Messages that have the flag `\Deleted` upstream. They are treated as if they did not exist.
    pub(super) deleted: Uids,
    /// Messages that the login no longer sees. They still count for `newest`, so that no older message takes their
    /// place.
    pub(super) hidden: Uids,
    /// If set, only these messages are shown.
    pub(super) among: Option<UidRanges>,
    /// Only messages that arrived at this time or later (seconds since 1970) are shown. A message is shown too if the
    /// server does not say when it arrived.
    pub(super) since: u32,
    /// Messages whose notices have been deleted.
    pub(super) noticed: Uids,
}

impl Candidates {
    /// Whether all messages are shown.
    fn are_all(&self) -> bool {
        self.deleted.is_empty() && self.hidden.is_empty() && self.among.is_none() && self.since == 0
    }
}

/// The messages that a session shows, in the session's order; `None` if they are all messages of the only folder, in
/// that folder's order.
pub(super) fn rows(candidates: &[Candidates], view: &View) -> Option<Vec<Row>> {
    if let [only] = candidates
        && only.are_all()
        && view
            .newest
            .is_none_or(|newest| only.index.entries.len() <= newest as usize)
        && view.max_octets.is_none()
        && view.order == Order::OldestFirst
    {
        return None;
    }
    let mut rows = Vec::new();
    for (folder, candidates) in (0..).zip(candidates) {
        for (at, (uid, octets)) in candidates.index.entries.iter().enumerate() {
            let among = candidates.among.as_ref();
            let arrived = candidates.index.arrived.get(at).copied().unwrap_or(0);
            if candidates.deleted.contains(uid)
                || (arrived > 0 && arrived < candidates.since)
                || among.is_some_and(|among| !among.contains(uid))
            {
                continue;
            }
            let is_notice = view.max_octets.is_some_and(|max| u64::from(octets) > max);
            if is_notice && view.oversize == Oversize::LeaveOut {
                continue;
            }
            let is_hidden = candidates.hidden.contains(uid) || (is_notice && candidates.noticed.contains(uid));
            let row = Row {
                folder,
                shows: if is_notice { Shows::Notice } else { Shows::Message },
                uid,
                octets,
            };
            rows.push((arrived, is_hidden, row));
        }
    }
    if candidates.len() > 1 {
        rows.sort_by_key(|&(arrived, _, row)| (arrived, row.folder, row.uid));
    }
    if let Some(newest) = view.newest {
        rows.drain(..rows.len().saturating_sub(newest as usize));
    }
    if view.order == Order::NewestFirst {
        rows.reverse();
    }
    let shown = rows.into_iter().filter(|&(_, is_hidden, _)| !is_hidden);
    Some(shown.map(|(_, _, row)| row).collect())
}

/// All messages of the only folder, in the folder's order.
pub(super) fn all(index: &Index) -> Vec<Row> {
    let entries = index.entries.iter();
    entries.map(|(uid, octets)| Row::of(uid, octets)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Uid;

    fn view() -> View {
        View {
            unseen_only: false,
            within_days: None,
            newest: None,
            max_octets: None,
            oversize: Oversize::LeaveOut,
            order: Order::OldestFirst,
        }
    }

    /// Messages of UID 1, 2, 3… with these octets and arrivals.
    fn candidates(messages: &[(u32, u32)]) -> Candidates {
        let mut index = Index {
            uid_validity: 7,
            ..Index::default()
        };
        for (uid, &(octets, arrived)) in (1..).zip(messages) {
            index.push(Uid(uid), octets, Some(arrived), None);
        }
        Candidates {
            index: Arc::new(index),
            deleted: Uids::default(),
            hidden: Uids::default(),
            among: None,
            since: 0,
            noticed: Uids::default(),
        }
    }

    fn shown(candidates: &[Candidates], view: &View) -> Vec<(u16, u32, bool)> {
        let rows = rows(candidates, view).expect("a choice");
        let is_notice = |row: &Row| row.shows == Shows::Notice;
        rows.iter().map(|row| (row.folder, row.uid.0, is_notice(row))).collect()
    }

    #[test]
    fn all_of_one_folder_is_no_choice() {
        assert_eq!(rows(&[candidates(&[(10, 1), (20, 2)])], &view()), None);
        let view = View {
            newest: Some(2),
            ..view()
        };
        assert_eq!(rows(&[candidates(&[(10, 1), (20, 2)])], &view), None);
    }

    #[test]
    fn several_folders_merge_in_order_of_arrival() {
        let both = [candidates(&[(10, 5), (10, 9)]), candidates(&[(10, 5), (10, 7)])];
        assert_eq!(
            shown(&both, &view()),
            [(0, 1, false), (1, 1, false), (1, 2, false), (0, 2, false)]
        );
        let view = View {
            newest: Some(2),
            order: Order::NewestFirst,
            ..view()
        };
        assert_eq!(shown(&both, &view), [(0, 2, false), (1, 2, false)]);
    }

    #[test]
    fn what_is_deleted_or_not_among_the_found_does_not_count_as_newest() {
        let mut some = candidates(&[(10, 1), (10, 2), (10, 3), (10, 4), (10, 5)]);
        some.deleted = [5].into();
        some.among = Some([1, 3, 4, 5].map(Uid).into_iter().collect());
        let view = View {
            newest: Some(2),
            ..view()
        };
        assert_eq!(shown(&[some], &view), [(0, 3, false), (0, 4, false)]);
    }

    /// Otherwise a device that retrieves the newest ten and hides them would go back through the whole archive.
    #[test]
    fn what_is_hidden_counts_as_newest() {
        let mut some = candidates(&[(10, 1), (10, 2), (10, 3), (200, 4), (10, 5)]);
        let mut view = View {
            newest: Some(3),
            ..view()
        };
        some.hidden = [3, 5].into();
        assert_eq!(shown(std::slice::from_ref(&some), &view), [(0, 4, false)]);
        view.max_octets = Some(100);
        view.oversize = Oversize::Notice;
        assert_eq!(shown(std::slice::from_ref(&some), &view), [(0, 4, true)]);
        some.noticed = [4].into();
        assert_eq!(shown(&[some], &view), []);
    }

    #[test]
    fn what_arrived_earlier_is_not_shown() {
        let mut some = candidates(&[(10, 5), (10, 100), (10, 0), (10, 99), (10, 101)]);
        some.since = 100;
        assert_eq!(
            shown(&[some], &view()),
            [(0, 2, false), (0, 3, false), (0, 5, false)],
            "of the third the server does not tell"
        );
    }

    #[test]
    fn what_is_too_large_is_left_out_or_noticed() {
        let mut some = candidates(&[(10, 1), (100, 2), (101, 3), (102, 4)]);
        let mut view = View {
            max_octets: Some(100),
            ..view()
        };
        let shown_of = |some: &Candidates, view: &View| shown(std::slice::from_ref(some), view);
        assert_eq!(shown_of(&some, &view), [(0, 1, false), (0, 2, false)]);
        view.oversize = Oversize::Notice;
        some.noticed = [3].into();
        assert_eq!(shown_of(&some, &view), [(0, 1, false), (0, 2, false), (0, 4, true)]);
    }
}
