//! Which messages of its folders a session shows, and in which order.

use std::{collections::HashMap, sync::Arc};

use super::{
    Error, Listing, Reason,
    listing::Row,
    notice::{self, Notices},
    source::Source,
};
use crate::{
    config::{Order, Oversize, Policy, View},
    state::Index,
    types::{Uid, UidRanges},
};

/// What can be shown of a source.
#[derive(Debug)]
struct Candidates {
    index: Arc<Index>,
    /// Not shown whatever they are; ascending.
    left_out: Vec<Uid>,
    /// Only these, ascending; all where there is no such choice.
    among: Option<UidRanges>,
    /// Only what arrived then or later (seconds since 1970), or whose arrival the server does not tell.
    since: u32,
    /// Their notices have been deleted; ascending.
    noticed: Vec<u32>,
}

/// What the login is to see now (seconds since 1970).
pub(super) async fn select(sources: &mut [Source], now: u32) -> Result<(Listing, Notices), Error> {
    let Some(policy) = sources.first().map(|source| source.account.policy.clone()) else {
        return Err(Error::Misconfigured(Reason::Folder));
    };
    let mut candidates = Vec::with_capacity(sources.len());
    for source in &mut *sources {
        candidates.push(candidates_of(source, &policy, now).await?);
    }
    let mut rows = match rows(&candidates, &policy.view) {
        None => return Ok((Listing::whole(candidates[0].index.clone()), Notices::default())),
        Some(rows) => rows,
    };
    let mut notices = HashMap::new();
    for source in &mut *sources {
        notices.extend(notice::compose(source, &rows, &policy.view).await?);
    }
    for row in rows.iter_mut().filter(|row| row.is_notice) {
        let text: Option<&Vec<u8>> = notices.get(&(row.source, row.uid));
        row.octets = text.map_or(0, |text| u32::try_from(text.len()).unwrap_or(u32::MAX));
    }
    Ok((Listing::chosen(rows, sources.len()), notices))
}

async fn candidates_of(source: &mut Source, policy: &Policy, now: u32) -> Result<Candidates, Error> {
    let among = if policy.view.unseen_only {
        Some(source.unseen().await?)
    } else {
        None
    };
    let since = policy.view.within_days.map(|days| now.saturating_sub(days * DAY));
    let mut left_out = source.view.hidden.clone();
    if policy.hides() {
        left_out.extend(source.marks.hidden.iter().copied().map(Uid));
    }
    left_out.extend(source.given_up());
    left_out.sort_unstable();
    Ok(Candidates {
        index: source.view.index.clone(),
        left_out,
        among,
        since: since.unwrap_or(0),
        noticed: source.marks.noticed.clone(),
    })
}

/// Seconds.
pub(super) const DAY: u32 = 24 * 3600;

/// The rows in their order; `None` where they are all of the only source in its own order.
fn rows(candidates: &[Candidates], view: &View) -> Option<Vec<Row>> {
    let everything =
        |candidates: &Candidates| candidates.left_out.is_empty() && candidates.among.is_none() && candidates.since == 0;
    if let [only] = candidates
        && everything(only)
        && view
            .newest
            .is_none_or(|newest| only.index.entries.len() <= newest as usize)
        && view.max_octets.is_none()
        && view.order == Order::OldestFirst
    {
        return None;
    }
    let mut rows = Vec::new();
    for (source, candidates) in (0..).zip(candidates) {
        for (at, &(uid, octets)) in candidates.index.entries.iter().enumerate() {
            let among = candidates.among.as_ref();
            let arrived = candidates.index.arrived.get(at).copied().unwrap_or(0);
            if candidates.left_out.binary_search(&Uid(uid)).is_ok()
                || (arrived > 0 && arrived < candidates.since)
                || among.is_some_and(|among| !among.contains(Uid(uid)))
            {
                continue;
            }
            let is_notice = view.max_octets.is_some_and(|max| u64::from(octets) > max);
            if is_notice && (view.oversize == Oversize::LeaveOut || candidates.noticed.binary_search(&uid).is_ok()) {
                continue;
            }
            rows.push((
                arrived,
                Row {
                    source,
                    is_notice,
                    uid: Uid(uid),
                    octets,
                },
            ));
        }
    }
    if candidates.len() > 1 {
        rows.sort_by_key(|&(arrived, row)| (arrived, row.source, row.uid));
    }
    if let Some(newest) = view.newest {
        rows.drain(..rows.len().saturating_sub(newest as usize));
    }
    if view.order == Order::NewestFirst {
        rows.reverse();
    }
    Some(rows.into_iter().map(|(_, row)| row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

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

    /// UIDs 1, 2, 3… of these octets and arrivals.
    fn candidates(messages: &[(u32, u32)]) -> Candidates {
        let mut index = Index {
            uid_validity: 7,
            ..Index::default()
        };
        for (uid, &(octets, arrived)) in (1..).zip(messages) {
            index.push(uid, octets, Some(arrived), None);
        }
        Candidates {
            index: Arc::new(index),
            left_out: Vec::new(),
            among: None,
            since: 0,
            noticed: Vec::new(),
        }
    }

    fn shown(candidates: &[Candidates], view: &View) -> Vec<(u16, u32, bool)> {
        let rows = rows(candidates, view).expect("a choice");
        rows.iter().map(|row| (row.source, row.uid.0, row.is_notice)).collect()
    }

    #[test]
    fn all_of_one_source_is_no_choice() {
        assert_eq!(rows(&[candidates(&[(10, 1), (20, 2)])], &view()), None);
        let view = View {
            newest: Some(2),
            ..view()
        };
        assert_eq!(rows(&[candidates(&[(10, 1), (20, 2)])], &view), None);
    }

    #[test]
    fn several_sources_merge_in_order_of_arrival() {
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
    fn what_is_hidden_or_not_among_the_found_does_not_count_as_newest() {
        let mut some = candidates(&[(10, 1), (10, 2), (10, 3), (10, 4), (10, 5)]);
        some.left_out = vec![Uid(5)];
        some.among = Some([1, 3, 4, 5].map(Uid).into_iter().collect());
        let view = View {
            newest: Some(2),
            ..view()
        };
        assert_eq!(shown(&[some], &view), [(0, 3, false), (0, 4, false)]);
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
        some.noticed = vec![3];
        assert_eq!(shown_of(&some, &view), [(0, 1, false), (0, 2, false), (0, 4, true)]);
    }
}
