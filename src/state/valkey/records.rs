//! The octets of records in a shared store, which are sealed as in a file, and the names that are stored with them.

use std::collections::HashMap;

use serde::{Serialize, de::DeserializeOwned};

use super::{
    super::{
        Consent, Kept, KeptDigest, MailboxName, Marks, Past, PendingMove, Unavailable, envelope, part::Kind, table::Key,
    },
    keys::framed,
    scripts::sha1,
};

/// The fields of a mailbox: past, removal under way, names.
pub(super) const PAST: &str = "p";
pub(super) const PENDING: &str = "m";
pub(super) const NAMES: &str = "n";
/// This prefix and a login make the field of the login's marks.
pub(super) const MARKS: &str = "k:";

/// Sealed records by field. A missing field counts as empty.
pub(super) type Fields = HashMap<String, Vec<u8>>;

/// The names of a mailbox in the form that is stored with its records: JSON.
pub(super) fn names(MailboxName { upstream, user, folder }: &MailboxName) -> Vec<u8> {
    serde_json::to_vec(&[upstream, user, folder]).unwrap_or_default()
}

/// The mailbox of [`names`].
pub(super) fn named(names: &[u8]) -> Option<MailboxName> {
    let [upstream, user, folder] = serde_json::from_slice(names).ok()?;
    Some(MailboxName { upstream, user, folder })
}

/// The names of a consent in the form that is stored with its token: JSON.
pub(super) fn consent_names(Consent { upstream, name }: &Consent) -> Vec<u8> {
    serde_json::to_vec(&[upstream, name]).unwrap_or_default()
}

/// The consent of [`consent_names`].
pub(super) fn consent_named(names: &[u8]) -> Option<Consent> {
    let [upstream, name] = serde_json::from_slice(names).ok()?;
    Some(Consent { upstream, name })
}

pub(super) fn seal_past(mailbox: &MailboxName, past: &Past) -> Vec<u8> {
    if *past == Past::default() {
        return Vec::new();
    }
    seal(Key::of(Kind::Past, mailbox), past)
}

pub(super) fn seal_pending(mailbox: &MailboxName, pending: Option<&PendingMove>) -> Vec<u8> {
    pending.map_or_else(Vec::new, |pending| seal(Key::of(Kind::Move, mailbox), pending))
}

/// `None` if the marks could not be read: then their octets are unknown.
pub(super) fn seal_marks(
    login: &str,
    mailbox: &MailboxName,
    marks: Option<&Result<Marks, Unavailable>>,
) -> Option<Vec<u8>> {
    match marks {
        None => Some(Vec::new()),
        Some(Ok(marks)) => Some(seal(Key::marks(login, mailbox), marks)),
        Some(Err(_)) => None,
    }
}

pub(super) fn seal_notice(name: &str, notice: &[u8]) -> Vec<u8> {
    seal(Key::notice(name), &notice.to_vec())
}

fn seal<T: Serialize>(key: Key<'_>, record: &T) -> Vec<u8> {
    envelope::seal(&key.names(), record)
}

/// The records in the fields of a mailbox. Damaged ones are logged.
pub(super) fn open(mailbox: &MailboxName, fields: &Fields) -> Kept {
    let field = |name: &str| fields.get(name).map_or(&[][..], Vec::as_slice);
    let marks = fields.iter().filter_map(|(name, octets)| {
        let login = name.strip_prefix(MARKS)?;
        Some((login.to_owned(), read(Key::marks(login, mailbox), octets).transpose()?))
    });
    Kept {
        past: read(Key::of(Kind::Past, mailbox), field(PAST))
            .ok()
            .flatten()
            .unwrap_or_default(),
        pending: read(Key::of(Kind::Move, mailbox), field(PENDING)).ok().flatten(),
        marks: marks.collect(),
    }
}

/// The record that was sealed in `octets`. `None` if they are empty. Damage is logged.
pub(super) fn read<T: DeserializeOwned>(key: Key<'_>, octets: &[u8]) -> Result<Option<T>, Unavailable> {
    if octets.is_empty() {
        return Ok(None);
    }
    envelope::open(&key.names(), octets).map(Some).map_err(|damage| {
        tracing::error!(
            ?key,
            %damage,
            "a record in state is damaged: popgate state --reset LOGIN forgets marks, popgate sign-in LOGIN replaces tokens"
        );
        Unavailable::Damaged
    })
}

/// The digest of records; `None` if the marks could not be read.
pub(super) fn digest(mailbox: &MailboxName, login: &str, kept: &Kept) -> Option<KeptDigest> {
    let past = seal_past(mailbox, &kept.past);
    let pending = seal_pending(mailbox, kept.pending.as_ref());
    let marks = seal_marks(login, mailbox, kept.marks.get(login))?;
    Some(digest_of([&past, &pending, &marks]))
}

/// The digest of sealed records: past, removal under way, marks of the login.
pub(super) fn digest_of(records: [&[u8]; 3]) -> KeptDigest {
    KeptDigest(sha1(&framed(&records)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inbox() -> MailboxName {
        MailboxName {
            upstream: "home".into(),
            user: "eva\"ä".into(),
            folder: "INBOX".into(),
        }
    }

    #[test]
    fn names_come_back() {
        assert_eq!(named(&names(&inbox())), Some(inbox()));
        assert_eq!(named(b"[\"a\"]"), None);
        let consent = Consent {
            upstream: "home".into(),
            name: "eva".into(),
        };
        assert_eq!(consent_named(&consent_names(&consent)), Some(consent));
    }

    #[test]
    fn records_come_back_and_what_is_damaged_is_told_apart() {
        let kept = Kept {
            past: Past::of(7),
            pending: Some(PendingMove::removal(7, [1].into())),
            marks: [("a".to_owned(), Ok(Marks::default()))].into(),
        };
        let mut fields = Fields::from([
            (PAST.to_owned(), seal_past(&inbox(), &kept.past)),
            (PENDING.to_owned(), seal_pending(&inbox(), kept.pending.as_ref())),
            (
                "k:a".to_owned(),
                seal_marks("a", &inbox(), kept.marks.get("a")).unwrap(),
            ),
            (NAMES.to_owned(), names(&inbox())),
        ]);
        assert_eq!(open(&inbox(), &fields), kept);
        for octets in fields.values_mut() {
            octets.push(0);
        }
        let damaged = open(&inbox(), &fields);
        assert_eq!((damaged.past, damaged.pending), (Past::default(), None));
        assert_eq!(damaged.marks, [("a".to_owned(), Err(Unavailable::Damaged))].into());
    }

    #[test]
    fn a_digest_is_of_one_login_and_of_all_its_records() {
        let mut kept = Kept::default();
        let empty = digest(&inbox(), "a", &kept).unwrap();
        assert_eq!(empty, digest_of([b"", b"", b""]));
        assert_ne!(digest_of([b"a", b"", b""]), digest_of([b"", b"a", b""]));
        kept.marks.insert("b".to_owned(), Ok(Marks::default()));
        assert_eq!(digest(&inbox(), "a", &kept), Some(empty.clone()));
        kept.past = Past::of(7);
        assert_ne!(digest(&inbox(), "a", &kept), Some(empty));
        kept.marks.insert("a".to_owned(), Err(Unavailable::Damaged));
        assert_eq!(digest(&inbox(), "a", &kept), None);
    }
}
