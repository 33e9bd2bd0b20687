//! UIDL: the messages' unique ids, which must be the same in every session (RFC 1939 §7).

use std::{collections::HashSet, sync::Arc};

use super::{
    listing::{Row, Shows},
    rendering,
    snapshot::Earlier,
};
use crate::{
    config::{Policy, UidlFormat},
    state::{Former, Index},
    types::{UidMap, UidValidity, Uids},
};

/// The most octets of a unique id (RFC 1939 §7).
const LONGEST: usize = 70;

/// The UIDLs of a session's messages, apart from that of the gateway's own mail.
#[derive(Debug)]
pub(super) struct Uidls {
    format: UidlFormat,
    folders: Vec<FolderUidls>,
    /// The imported UIDLs, those of messages that are gone included: no other message may get one of them.
    taken: HashSet<String>,
}

/// The data from which the UIDLs of one folder's messages are made.
#[derive(Debug, Clone, Copy)]
pub(super) struct UidlParts<'a> {
    /// The folder, as configured.
    pub(super) folder: &'a str,
    pub(super) index: &'a Arc<Index>,
    pub(super) earlier: &'a Earlier,
    /// The UIDLs that were imported from another server.
    pub(super) imported: &'a UidMap<String>,
}

#[derive(Debug)]
struct FolderUidls {
    index: Arc<Index>,
    earlier: Earlier,
    /// The UIDLs that were imported from another server. Each is in one folder only.
    imported: UidMap<String>,
    /// Copies within the folder: messages with an EMAILID that an earlier message has too.
    copies: Uids,
    /// The end of all UIDLs of the folder. It makes the UIDLs of several folders differ. Empty for INBOX: if a folder
    /// is added to INBOX, no UIDL in INBOX changes.
    suffix: String,
}

impl Uidls {
    pub(super) fn new<'a>(policy: &Policy, folders: impl ExactSizeIterator<Item = UidlParts<'a>>) -> Self {
        let is_merged = folders.len() > 1;
        let mut taken = HashSet::new();
        let mut uidls = Vec::with_capacity(folders.len());
        for folder in folders {
            let mut imported = folder.imported.clone();
            // The same message may be in two folders, and only one of the two copies may get the UIDL.
            imported.retain(|_, name| taken.insert(name.clone()));
            uidls.push(FolderUidls {
                index: folder.index.clone(),
                earlier: folder.earlier.clone(),
                imported,
                copies: copies(folder.index),
                suffix: if is_merged && !folder.folder.eq_ignore_ascii_case("INBOX") {
                    format!("-{:08x}", crc32fast::hash(folder.folder.as_bytes()))
                } else {
                    String::new()
                },
            });
        }
        Self {
            format: policy.uidl.clone(),
            folders: uidls,
            taken,
        }
    }

    /// Appends the UIDL of `row`, which belongs to a folder, to `out`.
    pub(super) fn write(&self, row: Row, out: &mut Vec<u8>) {
        let folder = &self.folders[usize::from(row.folder)];
        if row.shows == Shows::Message
            && let Some(name) = folder.imported.get(row.uid)
        {
            out.extend_from_slice(name.as_bytes());
            return;
        }
        let start = out.len();
        for format in [&self.format, &UidlFormat::ValidityUid] {
            out.truncate(start);
            folder.write(format, row, out);
            while !self.taken.is_empty()
                && std::str::from_utf8(&out[start..]).is_ok_and(|name| self.taken.contains(name))
            {
                out.push(b'~');
            }
            if out.len() - start <= LONGEST {
                return;
            }
        }
    }
}

impl FolderUidls {
    fn write(&self, format: &UidlFormat, row: Row, out: &mut Vec<u8>) {
        let email_ids = Some(&self.index.email_ids).filter(|ids| !ids.is_empty());
        let email_id = email_ids.and_then(|ids| ids.get(self.index.entries.position(row.uid)?));
        let email_id = email_id.filter(|_| !self.copies.contains(row.uid)).map(|id| &**id);
        let Earlier {
            former,
            first_uid_validity,
        } = &self.earlier;
        let first_seen = former.get(row.uid).copied().unwrap_or(Former {
            uid_validity: self.index.uid_validity,
            uid: row.uid,
        });
        // A UID of a later UIDVALIDITY is not enough to name the message: under the first UIDVALIDITY, another message
        // may have had the same UID.
        let format = if format.distinguishes_validity() || first_seen.uid_validity == *first_uid_validity {
            format
        } else {
            &UidlFormat::ValidityUid
        };
        let uid_validity = UidValidity::of_state_or_zero(first_seen.uid_validity);
        rendering::write(format, uid_validity, first_seen.uid.0, email_id, out);
        out.extend_from_slice(self.suffix.as_bytes());
        if row.shows == Shows::Notice {
            out.extend_from_slice(b"-notice");
        }
    }
}

/// The messages with an EMAILID that an earlier message has too.
fn copies(index: &Index) -> Uids {
    let mut seen = HashSet::new();
    let uids = index.entries.uids().zip(&index.email_ids);
    uids.filter(|(_, id)| !seen.insert(&***id))
        .map(|(uid, _)| uid)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Uid;

    fn index(uids: &[u32]) -> Arc<Index> {
        let mut index = Index {
            uid_validity: 7,
            ..Index::default()
        };
        for &uid in uids {
            index.push(Uid(uid), 10, None, None);
        }
        Arc::new(index)
    }

    fn uidls(format: UidlFormat, index: Arc<Index>) -> Uidls {
        Uidls {
            format,
            folders: vec![FolderUidls {
                copies: copies(&index),
                index,
                earlier: Earlier {
                    first_uid_validity: 7,
                    ..Earlier::default()
                },
                imported: UidMap::default(),
                suffix: String::new(),
            }],
            taken: HashSet::new(),
        }
    }

    fn name(uidls: &Uidls, uid: u32, is_notice: bool) -> String {
        let row = Row {
            folder: 0,
            shows: if is_notice { Shows::Notice } else { Shows::Message },
            uid: Uid(uid),
            octets: 10,
        };
        let mut out = b"before".to_vec();
        uidls.write(row, &mut out);
        String::from_utf8(out)
            .unwrap()
            .strip_prefix("before")
            .unwrap()
            .to_owned()
    }

    fn former(uid_validity: u64, uid: u32) -> Former {
        Former {
            uid_validity,
            uid: Uid(uid),
        }
    }

    fn earlier(first_uid_validity: u64, former: &[(u32, Former)]) -> Earlier {
        Earlier {
            former: Arc::new(former.iter().map(|&(uid, former)| (Uid(uid), former)).collect()),
            first_uid_validity,
        }
    }

    #[test]
    fn by_validity_and_uid() {
        let mut uidls = uidls(UidlFormat::ValidityUid, index(&[3, 4]));
        assert_eq!(name(&uidls, 3, false), "7.3");
        assert_eq!(name(&uidls, 3, true), "7.3-notice");
        uidls.folders[0].suffix = "-0123abcd".into();
        assert_eq!(name(&uidls, 3, false), "7.3-0123abcd");
        uidls.folders[0].earlier = earlier(6, &[(4, former(6, 90))]);
        assert_eq!(name(&uidls, 4, false), "6.90-0123abcd");
    }

    #[test]
    fn a_former_uid_is_no_other_messages_name() {
        let mut uidls = uidls(UidlFormat::Uid, index(&[3, 4]));
        assert_eq!(name(&uidls, 4, false), "4");
        for first_uid_validity in [6, 5] {
            uidls.folders[0].earlier = earlier(first_uid_validity, &[(3, former(6, 4))]);
            let expected = if first_uid_validity == 6 { "4" } else { "6.4" };
            assert_eq!(
                (name(&uidls, 3, false), name(&uidls, 4, false)),
                (expected.into(), "7.4".into())
            );
        }
        uidls.folders[0].earlier = earlier(6, &[]);
        assert_eq!(name(&uidls, 4, false), "7.4", "what bore it is gone");
    }

    /// EMAILID stays the same when UIDVALIDITY changes (RFC 8474 §5.1), and so must a name made of it.
    #[test]
    fn an_email_id_stays_when_uidvalidity_changes() {
        let mut ids = Index {
            uid_validity: 7,
            ..Index::default()
        };
        for (uid, id) in [(1, "M1"), (2, "M2"), (3, "M1")] {
            ids.push(Uid(uid), 10, None, Some(id.into()));
        }
        let mut uidls = uidls(UidlFormat::EmailId, Arc::new(ids));
        uidls.folders[0].earlier = earlier(6, &[(2, former(6, 90)), (3, former(6, 91))]);
        let shown: Vec<_> = (1..=3).map(|uid| name(&uidls, uid, false)).collect();
        assert_eq!(shown, ["M1", "M2", "6.91"]);
    }

    #[test]
    fn an_imported_name_is_no_other_messages_name() {
        let mut uidls = uidls(UidlFormat::Uid, index(&[3, 4]));
        uidls.folders[0].imported = [(3, "4".to_owned())].into();
        uidls.taken = HashSet::from(["4".to_owned()]);
        assert_eq!(
            (name(&uidls, 3, false), name(&uidls, 4, false)),
            ("4".into(), "4~".into())
        );
        assert_eq!(name(&uidls, 3, true), "3-notice");
    }

    /// Otherwise a UIDL by which a device knows one message could later name another message.
    #[test]
    fn an_imported_name_of_a_message_that_is_gone_is_given_to_no_other() {
        let text = "[upstream.home]\nhost = \"imap.example.org\"\nlogins = [\"*\"]\n[upstream.home.maildrop]\nuidl = \"uid\"\n";
        let config = crate::config::Config::parse(text, std::path::Path::new("")).unwrap();
        let earlier = Earlier {
            first_uid_validity: 7,
            ..Earlier::default()
        };
        let shown = |uids: &[u32]| {
            let parts = UidlParts {
                folder: "INBOX",
                index: &index(uids),
                earlier: &earlier,
                imported: &[(3, "4".to_owned())].into(),
            };
            let uidls = Uidls::new(&config.upstreams[0].maildrop, [parts].into_iter());
            uids.iter().map(|&uid| name(&uidls, uid, false)).collect::<Vec<_>>()
        };
        assert_eq!(shown(&[3, 4]), ["4", "4~"]);
        assert_eq!(shown(&[4]), ["4~"]);
    }

    #[test]
    fn copies_and_long_ids_are_named_by_uid() {
        let mut ids = Index {
            uid_validity: 7,
            ..Index::default()
        };
        for (uid, id) in [(1, "M1"), (2, "M2"), (3, "M1")] {
            ids.push(Uid(uid), 10, None, Some(id.into()));
        }
        ids.push(Uid(4), 10, None, Some("x".repeat(70).into()));
        let uidls = uidls(UidlFormat::EmailId, Arc::new(ids));
        let shown: Vec<_> = (1..=4).map(|uid| name(&uidls, uid, false)).collect();
        assert_eq!(shown[..3], ["M1", "M2", "7.3"]);
        assert_eq!(shown[3].len(), 70);
        assert_eq!(name(&uidls, 4, true), "7.4-notice");
    }
}
