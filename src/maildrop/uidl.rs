//! UIDL: the names of messages, which must stay the same in every session (RFC 1939 §7).

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{listing::Row, recognition::Earlier, rendering, source::Source};
use crate::{
    config::{Policy, UidlFormat},
    state::{Former, Index},
    types::{Uid, UidValidity},
};

/// RFC 1939 §7: 1 to 70 octets, 0x21–0x7E.
const LONGEST: usize = 70;

/// How the messages of a session are named.
#[derive(Debug)]
pub(super) struct Names {
    format: UidlFormat,
    sources: Vec<SourceNames>,
    /// The names of imported messages, which no other may bear.
    taken: HashSet<String>,
}

#[derive(Debug)]
struct SourceNames {
    index: Arc<Index>,
    earlier: Earlier,
    /// From another server.
    imported: HashMap<u32, String>,
    /// UIDs whose EMAILID an earlier message bears too: a copy within the folder.
    copies: HashSet<u32>,
    /// What tells the folder from the others; INBOX goes without, so that adding a folder to it changes no name.
    suffix: String,
}

impl Names {
    /// Of the messages of `sources`.
    pub(super) fn new(policy: &Policy, sources: &[Source]) -> Self {
        let is_merged = sources.len() > 1;
        let mut taken = HashSet::new();
        let mut named = Vec::with_capacity(sources.len());
        for source in sources {
            let mut imported: HashMap<u32, String> = source.marks.imported.iter().cloned().collect();
            // The same message may lie in two folders.
            imported.retain(|_, name| taken.insert(name.clone()));
            named.push(SourceNames {
                index: source.view.index.clone(),
                earlier: source.view.earlier.clone(),
                imported,
                copies: copies(&source.view.index),
                suffix: match &*source.name.folder {
                    folder if is_merged && !folder.eq_ignore_ascii_case("INBOX") => {
                        format!("-{:08x}", crc32fast::hash(folder.as_bytes()))
                    }
                    _ => String::new(),
                },
            });
        }
        Self {
            format: policy.uidl.clone(),
            sources: named,
            taken,
        }
    }

    /// Appends the name of `row` to `out`.
    pub(super) fn write(&self, row: Row, out: &mut Vec<u8>) {
        let source = &self.sources[usize::from(row.source)];
        if !row.is_notice
            && let Some(name) = source.imported.get(&row.uid.0)
        {
            out.extend_from_slice(name.as_bytes());
            return;
        }
        let start = out.len();
        source.write(&self.format, row, out);
        if out.len() - start > LONGEST {
            out.truncate(start);
            source.write(&UidlFormat::ValidityUid, row, out);
        }
        while std::str::from_utf8(&out[start..]).is_ok_and(|name| self.taken.contains(name)) {
            out.push(b'~');
        }
    }
}

impl SourceNames {
    fn write(&self, format: &UidlFormat, row: Row, out: &mut Vec<u8>) {
        let Uid(uid) = row.uid;
        let at = self.index.entries.binary_search_by_key(&uid, |&(uid, _)| uid);
        let email_id = at.ok().and_then(|at| self.index.email_ids.get(at));
        let email_id = email_id.filter(|_| !self.copies.contains(&uid)).map(|id| &**id);
        let Earlier {
            former,
            first_uid_validity,
        } = &self.earlier;
        let first_seen = match former.binary_search_by_key(&uid, |&(uid, _)| uid) {
            Ok(at) => former[at].1,
            Err(_) => Former {
                uid_validity: self.index.uid_validity,
                uid,
            },
        };
        // The UID alone may have been another message's under the first UIDVALIDITY.
        let format = if format.tells_validity() || first_seen.uid_validity == *first_uid_validity {
            format
        } else {
            &UidlFormat::ValidityUid
        };
        let uid_validity = UidValidity::of_state_or_zero(first_seen.uid_validity);
        rendering::write(format, uid_validity, first_seen.uid, email_id, out);
        out.extend_from_slice(self.suffix.as_bytes());
        if row.is_notice {
            out.extend_from_slice(b"-notice");
        }
    }
}

/// UIDs whose EMAILID an earlier message bears.
fn copies(index: &Index) -> HashSet<u32> {
    let mut seen = HashSet::new();
    let uids = index.entries.iter().map(|&(uid, _)| uid);
    uids.zip(&index.email_ids)
        .filter(|(_, id)| !seen.insert(&***id))
        .map(|(uid, _)| uid)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(uids: &[u32]) -> Arc<Index> {
        let mut index = Index {
            uid_validity: 7,
            ..Index::default()
        };
        for &uid in uids {
            index.push(uid, 10, None, None);
        }
        Arc::new(index)
    }

    fn names(format: UidlFormat, index: Arc<Index>) -> Names {
        Names {
            format,
            sources: vec![SourceNames {
                copies: copies(&index),
                index,
                earlier: Earlier {
                    first_uid_validity: 7,
                    ..Earlier::default()
                },
                imported: HashMap::new(),
                suffix: String::new(),
            }],
            taken: HashSet::new(),
        }
    }

    fn name(names: &Names, uid: u32, is_notice: bool) -> String {
        let row = Row {
            source: 0,
            is_notice,
            uid: Uid(uid),
            octets: 10,
        };
        let mut out = b"before".to_vec();
        names.write(row, &mut out);
        String::from_utf8(out)
            .unwrap()
            .strip_prefix("before")
            .unwrap()
            .to_owned()
    }

    fn former(uid_validity: u64, uid: u32) -> Former {
        Former { uid_validity, uid }
    }

    fn earlier(first_uid_validity: u64, former: &[(u32, Former)]) -> Earlier {
        Earlier {
            former: former.into(),
            first_uid_validity,
        }
    }

    #[test]
    fn by_validity_and_uid() {
        let mut names = names(UidlFormat::ValidityUid, index(&[3, 4]));
        assert_eq!(name(&names, 3, false), "7.3");
        assert_eq!(name(&names, 3, true), "7.3-notice");
        names.sources[0].suffix = "-0123abcd".into();
        assert_eq!(name(&names, 3, false), "7.3-0123abcd");
        names.sources[0].earlier = earlier(6, &[(4, former(6, 90))]);
        assert_eq!(name(&names, 4, false), "6.90-0123abcd");
    }

    #[test]
    fn a_former_uid_is_no_other_messages_name() {
        let mut names = names(UidlFormat::Uid, index(&[3, 4]));
        assert_eq!(name(&names, 4, false), "4");
        for first_uid_validity in [6, 5] {
            names.sources[0].earlier = earlier(first_uid_validity, &[(3, former(6, 4))]);
            let expected = if first_uid_validity == 6 { "4" } else { "6.4" };
            assert_eq!(
                (name(&names, 3, false), name(&names, 4, false)),
                (expected.into(), "7.4".into())
            );
        }
        names.sources[0].earlier = earlier(6, &[]);
        assert_eq!(name(&names, 4, false), "7.4", "what bore it is gone");
    }

    /// EMAILID outlives UIDVALIDITY (RFC 8474 §5.1), and so does a name made of it.
    #[test]
    fn an_email_id_stays_when_uidvalidity_changes() {
        let mut ids = Index {
            uid_validity: 7,
            ..Index::default()
        };
        for (uid, id) in [(1, "M1"), (2, "M2"), (3, "M1")] {
            ids.push(uid, 10, None, Some(id.into()));
        }
        let mut names = names(UidlFormat::EmailId, Arc::new(ids));
        names.sources[0].earlier = earlier(6, &[(2, former(6, 90)), (3, former(6, 91))]);
        let shown: Vec<_> = (1..=3).map(|uid| name(&names, uid, false)).collect();
        assert_eq!(shown, ["M1", "M2", "6.91"]);
    }

    #[test]
    fn an_imported_name_is_no_other_messages_name() {
        let mut names = names(UidlFormat::Uid, index(&[3, 4]));
        names.sources[0].imported = HashMap::from([(3, "4".to_owned())]);
        names.taken = HashSet::from(["4".to_owned()]);
        assert_eq!(
            (name(&names, 3, false), name(&names, 4, false)),
            ("4".into(), "4~".into())
        );
        assert_eq!(name(&names, 3, true), "3-notice");
    }

    #[test]
    fn copies_and_long_ids_are_named_by_uid() {
        let mut ids = Index {
            uid_validity: 7,
            ..Index::default()
        };
        for (uid, id) in [(1, "M1"), (2, "M2"), (3, "M1")] {
            ids.push(uid, 10, None, Some(id.into()));
        }
        ids.push(4, 10, None, Some("x".repeat(70).into()));
        let names = names(UidlFormat::EmailId, Arc::new(ids));
        let shown: Vec<_> = (1..=4).map(|uid| name(&names, uid, false)).collect();
        assert_eq!(shown[..3], ["M1", "M2", "7.3"]);
        assert_eq!(shown[3].len(), 70);
        assert_eq!(name(&names, 4, true), "7.4-notice");
    }
}
