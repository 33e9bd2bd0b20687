//! Imports the UIDLs of another server (`uidl_import`), so that devices that have moved here need not download
//! everything again.

use std::collections::HashSet;

use crate::{
    config::UidlImport,
    types::{Uid, UidMap},
};

/// The UIDLs that the file gives to messages of the mailbox. If two messages have the same Message-ID, that Message-ID
/// counts for neither.
///
/// `earlier`: the UIDLs that an earlier version of the file has given; they are returned too. A message keeps its UIDL,
/// and no other message gets it.
pub(super) fn imported(
    import: &UidlImport,
    uids: &[Uid],
    message_ids: &[(Uid, Box<str>)],
    earlier: &UidMap<String>,
) -> UidMap<String> {
    let mut seen = HashSet::new();
    let twice: HashSet<&str> = message_ids
        .iter()
        .map(|(_, id)| &**id)
        .filter(|id| !seen.insert(*id))
        .collect();
    let by_message_id = message_ids
        .iter()
        .filter(|(_, id)| !twice.contains(&**id))
        .filter_map(|(uid, id)| Some((*uid, import.find(uid.0, Some(id))?)));
    let by_uid = uids.iter().filter_map(|uid| Some((*uid, import.find(uid.0, None)?)));
    let mut taken: HashSet<&str> = earlier.iter().map(|(_, name)| &**name).collect();
    let mut names = earlier.clone();
    for (uid, name) in by_message_id.chain(by_uid) {
        if !names.contains(uid) && taken.insert(name) {
            names.insert(uid, name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_message_id_and_by_uid() {
        let import = UidlImport {
            by_message_id: [("a@b", "A"), ("c@d", "C"), ("e@f", "E")]
                .map(|(id, uidl)| (id.to_owned(), uidl.to_owned()))
                .into(),
            by_uid: [(4, "four".to_owned()), (9, "nine".to_owned())].into(),
            hash: 1,
        };
        let ids = [(1, "<a@b>"), (2, "<c@d>"), (3, "<c@d>"), (5, "<x@y>")].map(|(uid, id)| (Uid(uid), id.into()));
        let uids = [1, 2, 3, 4, 5].map(Uid);
        let names = imported(&import, &uids, &ids, &UidMap::default());
        assert_eq!(
            names,
            [(1, "A".to_owned()), (4, "four".to_owned())].into(),
            "two bear <c@d>, nobody bears <e@f>, there is no 9"
        );
    }

    #[test]
    fn a_name_once_given_stays_with_its_message() {
        let import = UidlImport {
            by_message_id: [("a@b".to_owned(), "A".to_owned())].into(),
            by_uid: [(1, "one".to_owned()), (2, "two".to_owned()), (3, "two".to_owned())].into(),
            hash: 2,
        };
        let earlier = [(1, "A".to_owned()), (9, "gone".to_owned())].into();
        let names = imported(&import, &[1, 2, 3].map(Uid), &[(Uid(2), "<a@b>".into())], &earlier);
        let expected = [(1, "A"), (2, "two"), (9, "gone")].map(|(uid, name)| (uid, name.to_owned()));
        assert_eq!(names, expected.into(), "two more would be called A and two");
    }
}
