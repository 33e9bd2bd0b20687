//! `uidl_import`: the UIDLs of an old server, so that devices do not download known messages again.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    fmt,
};

use aws_lc_rs::digest::{SHA256, digest};

use super::uidl::is_uidl;

/// UIDLs of an old server. The [`UidlFormat`](super::UidlFormat) may give the same UIDL to another message.
#[derive(Clone, PartialEq, Eq)]
pub struct UidlImport {
    /// Message-ID without its angle brackets → UIDL.
    pub by_message_id: HashMap<String, String>,
    /// UID → UIDL.
    pub by_uid: HashMap<u32, String>,
    /// A hash of the file's text: it changes if the text changes.
    pub hash: u64,
}

impl UidlImport {
    /// The old UIDL of the message with this UID and Message-ID (with or without angle brackets). Several messages may
    /// have the same Message-ID, so the caller must not use a UIDL twice.
    pub fn find(&self, uid: u32, message_id: Option<&str>) -> Option<&str> {
        let by_message_id = || self.by_message_id.get(bare(message_id?));
        self.by_uid.get(&uid).or_else(by_message_id).map(String::as_str)
    }

    /// Reads lines `UIDL<TAB>Message-ID` or `UIDL<TAB>UID`. An error comes with the number of its line, from 1. Also
    /// returns how many Message-IDs occur more than once. These are left out, because nobody can tell which message is
    /// meant.
    pub(super) fn parse(text: &str) -> Result<(Self, usize), (usize, String)> {
        let mut import = Self {
            by_message_id: HashMap::new(),
            by_uid: HashMap::new(),
            hash: hash(text),
        };
        let mut uidls: HashMap<&str, usize> = HashMap::new();
        let mut uids: HashMap<u32, usize> = HashMap::new();
        let mut ambiguous: HashSet<&str> = HashSet::new();
        for (number, line) in (1..).zip(text.lines()) {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |what: String| (number, what);
            let (uidl, message) = line
                .split_once('\t')
                .ok_or_else(|| wrong("no tab between the UIDL and the Message-ID or UID".into()))?;
            if !is_uidl(uidl) {
                return Err(wrong("a UIDL has 1 to 70 visible ASCII characters and no space".into()));
            }
            if let Some(before) = uidls.insert(uidl, number) {
                return Err(wrong(format!("the same UIDL as in line {before}")));
            }
            let message = message.trim();
            if !message.is_empty() && message.bytes().all(|octet| octet.is_ascii_digit()) {
                // A UID is a number of 32 bits, and not 0 (RFC 3501 §2.3.1.1).
                let uid = message.parse().ok().filter(|uid| *uid > 0);
                let uid = uid.ok_or_else(|| wrong("not a valid UID: UIDs go from 1 to 4294967295".into()))?;
                if let Some(before) = uids.insert(uid, number) {
                    return Err(wrong(format!("the same UID as in line {before}")));
                }
                import.by_uid.insert(uid, uidl.to_owned());
                continue;
            }
            let id = bare(message);
            if id.is_empty() {
                return Err(wrong("no Message-ID and no UID after the tab".into()));
            }
            match import.by_message_id.entry(id.to_owned()) {
                _ if ambiguous.contains(id) => {}
                Entry::Vacant(entry) => {
                    entry.insert(uidl.to_owned());
                }
                Entry::Occupied(entry) => {
                    entry.remove();
                    ambiguous.insert(id);
                }
            }
        }
        Ok((import, ambiguous.len()))
    }
}

/// A Message-ID without its angle brackets. Some exports have them and others do not.
fn bare(message_id: &str) -> &str {
    let id = message_id.trim();
    id.strip_prefix('<').and_then(|id| id.strip_suffix('>')).unwrap_or(id)
}

fn hash(text: &str) -> u64 {
    let digest = digest(&SHA256, text.as_bytes());
    digest
        .as_ref()
        .iter()
        .take(8)
        .fold(0, |hash, octet| hash << 8 | u64::from(*octet))
}

impl fmt::Debug for UidlImport {
    /// Shows counts only, because the content tells whose mail it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "UidlImport({} by Message-ID, {} by UID)",
            self.by_message_id.len(),
            self.by_uid.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_by_message_id_and_by_uid() {
        let text =
            "# of the old server\n\nold.1\t<a@example.org>\r\nold.2\t 17 \nold.3\tb@example.org\n  \nold.4\t<18>\n";
        let (import, ambiguous) = UidlImport::parse(text).unwrap();
        assert_eq!((import.by_uid.len(), import.by_message_id.len(), ambiguous), (1, 3, 0));
        assert_eq!(import.find(1, Some("<a@example.org>")), Some("old.1"));
        assert_eq!(import.find(1, Some("a@example.org")), Some("old.1"));
        assert_eq!(import.find(17, None), Some("old.2"));
        assert_eq!(
            import.find(17, Some("<a@example.org>")),
            Some("old.2"),
            "a UID is surer"
        );
        assert_eq!(import.find(18, Some(" <b@example.org> ")), Some("old.3"));
        assert_eq!(import.find(18, None), None);
        assert_eq!(import.find(1, Some("<A@example.org>")), None);
        assert_eq!(format!("{import:?}"), "UidlImport(3 by Message-ID, 1 by UID)");
    }

    #[test]
    fn a_message_id_that_stands_twice_is_left_out() {
        let text = "1\t<a>\n2\t<b>\n3\t<a>\n4\ta\n";
        let (import, ambiguous) = UidlImport::parse(text).unwrap();
        assert_eq!((import.by_message_id.len(), ambiguous), (1, 1));
        assert_eq!(import.find(1, Some("<a>")), None);
    }

    #[test]
    fn wrong_lines_are_numbered() {
        let long = "x".repeat(71);
        for (text, line, part) in [
            ("a 1", 1, "no tab"),
            ("a\t1\n\n#\nb", 4, "no tab"),
            ("\t1", 1, "1 to 70"),
            ("a b\t1", 1, "1 to 70"),
            ("ü\t1", 1, "1 to 70"),
            (&format!("{long}\t1"), 1, "1 to 70"),
            ("a\t1\na\t2", 2, "the same UIDL as in line 1"),
            ("a\t1\nb\t1", 2, "the same UID as in line 1"),
            ("a\t", 1, "no Message-ID"),
            ("a\t<>", 1, "no Message-ID"),
            ("a\t0", 1, "not a valid UID"),
            ("a\t4294967296", 1, "not a valid UID"),
        ] {
            let (number, what) = UidlImport::parse(text).unwrap_err();
            assert!(number == line && what.contains(part), "{text:?}: {number}: {what}");
        }
    }

    #[test]
    fn another_text_has_another_hash() {
        let hash = |text: &str| UidlImport::parse(text).unwrap().0.hash;
        assert_eq!(hash("a\t1\n"), hash("a\t1\n"));
        assert_ne!(hash("a\t1\n"), hash("a\t2\n"));
    }
}
