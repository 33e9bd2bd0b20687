//! The records in the redb file: their keys, how they are cut into pieces, and how they are sealed.

use std::collections::BTreeMap;

use redb::{AccessGuard, ReadableTable, StorageError, Table, TableDefinition};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Consent, MailboxName, Unavailable, envelope,
    part::{Kind, Part},
};

/// Key: kind, upstream, user, folder, login (empty unless the record is marks) and the number of a piece. Value: this
/// piece of the record, which is sealed or comes from [`super::Index::encode`].
pub(super) const RECORDS: TableDefinition<Piece, &[u8]> = TableDefinition::new("records");
pub(super) type Piece<'a> = (u8, &'a str, &'a str, &'a str, &'a str, u32);

/// Octets of a piece. With its key a piece fills a page of redb (4 KiB). redb would store a larger value in as many
/// pages as the next power of two. If an index is cut into pieces, a new message changes only the first piece and the
/// last.
const PIECE: usize = 3_800;

/// The name of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key<'a> {
    kind: Kind,
    upstream: &'a str,
    user: &'a str,
    folder: &'a str,
    login: &'a str,
}

impl<'a> Key<'a> {
    pub(super) fn of(kind: Kind, mailbox: &'a MailboxName) -> Self {
        let MailboxName { upstream, user, folder } = mailbox;
        let login = "";
        Self {
            kind,
            upstream,
            user,
            folder,
            login,
        }
    }

    pub(super) fn marks(login: &'a str, mailbox: &'a MailboxName) -> Self {
        let of_mailbox = Self::of(Kind::Marks, mailbox);
        Self { login, ..of_mailbox }
    }

    /// The key of a consent's token. The name of the consent takes the place of a mailbox's user.
    pub(super) fn token(Consent { upstream, name }: &'a Consent) -> Self {
        Self {
            kind: Kind::Token,
            upstream,
            user: name,
            folder: "",
            login: "",
        }
    }

    /// The parts of the record that consists of `octets`.
    pub(super) fn parts(self, octets: &[u8]) -> impl Iterator<Item = Part> {
        octets.chunks(PIECE).map(move |piece| Part {
            kind: self.kind,
            upstream: self.upstream.to_owned(),
            user: self.user.to_owned(),
            folder: self.folder.to_owned(),
            login: self.login.to_owned(),
            octets: piece.to_owned(),
        })
    }

    /// The key of a notice. The name of the notice takes the place of a mailbox's user.
    pub(super) fn notice(name: &'a str) -> Self {
        Self {
            kind: Kind::Notice,
            upstream: "",
            user: name,
            folder: "",
            login: "",
        }
    }

    pub(super) fn piece(self, number: u32) -> Piece<'a> {
        (
            self.kind as u8,
            self.upstream,
            self.user,
            self.folder,
            self.login,
            number,
        )
    }

    /// The key of the record that `part` belongs to.
    pub(super) fn of_part(part: &'a Part) -> Self {
        Self {
            kind: part.kind,
            upstream: &part.upstream,
            user: &part.user,
            folder: &part.folder,
            login: &part.login,
        }
    }

    /// The names that a record is sealed under. Because of them a record is never taken for another one.
    pub(super) fn names(self) -> [&'a str; 5] {
        [self.kind.name(), self.upstream, self.user, self.folder, self.login]
    }
}

/// The records as they were at one moment.
pub(super) type Snapshot = redb::ReadOnlyTable<Piece<'static>, &'static [u8]>;

/// Reads records and opens them.
pub(super) struct Reading(pub(super) Snapshot);

impl Reading {
    pub(super) fn get<T: DeserializeOwned>(&self, key: Key<'_>) -> Result<Result<Option<T>, Unavailable>, redb::Error> {
        get(&self.0, key)
    }
}

/// Reads and changes records within one transaction.
pub(super) struct Writing<'t> {
    pub(super) table: Table<'t, Piece<'static>, &'static [u8]>,
    /// Whether anything has been changed.
    changed: bool,
}

/// Runs `work` in one transaction, which is durable once this returns `Ok`, and has no effect if `work` fails. If
/// `work` changes nothing, nothing is written.
pub(super) fn transact(
    database: &redb::Database,
    work: impl FnOnce(&mut Writing) -> Result<(), redb::Error>,
) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    let mut writing = Writing {
        table: transaction.open_table(RECORDS)?,
        changed: false,
    };
    work(&mut writing)?;
    let changed = writing.changed;
    drop(writing);
    if changed {
        transaction.commit()?
    } else {
        transaction.abort()?
    }
    Ok(())
}

impl Writing<'_> {
    pub(super) fn get<T: DeserializeOwned>(&self, key: Key<'_>) -> Result<Result<Option<T>, Unavailable>, redb::Error> {
        get(&self.table, key)
    }

    pub(super) fn set<T: Serialize>(&mut self, key: Key<'_>, record: &T) -> Result<(), redb::Error> {
        self.put(key, &envelope::seal(&key.names(), record))
    }

    pub(super) fn remove(&mut self, key: Key<'_>) -> Result<(), redb::Error> {
        self.put(key, &[])
    }

    /// Makes `octets` the record at `key`, in pieces. If they are empty, the record is removed.
    pub(super) fn put(&mut self, key: Key<'_>, octets: &[u8]) -> Result<(), redb::Error> {
        let mut number = 0;
        for piece in octets.chunks(PIECE) {
            let key = key.piece(number);
            if self.table.get(key)?.is_none_or(|kept| kept.value() != piece) {
                self.table.insert(key, piece)?;
                self.changed = true;
            }
            number += 1;
        }
        let rest = key.piece(number)..=key.piece(u32::MAX);
        for piece in self.table.extract_from_if(rest, |_, _| true)? {
            piece?;
            self.changed = true;
        }
        Ok(())
    }
}

/// The record at `key`; `None` if there is none. A damaged record is logged and is an error: it never counts as
/// missing.
fn get<T: DeserializeOwned>(
    table: &impl ReadableTable<Piece<'static>, &'static [u8]>,
    key: Key<'_>,
) -> Result<Result<Option<T>, Unavailable>, redb::Error> {
    let octets = octets(table, key)?;
    if octets.is_empty() {
        return Ok(Ok(None));
    }
    Ok(match envelope::open(&key.names(), &octets) {
        Ok(record) => Ok(Some(record)),
        Err(damage) => {
            tracing::error!(
                ?key,
                %damage,
                "a record in state is damaged: popgate state --reset LOGIN forgets marks, popgate sign-in LOGIN replaces tokens"
            );
            Err(Unavailable::Damaged)
        }
    })
}

/// The pieces at `key`, put together; empty if there are none.
pub(super) fn octets(
    table: &impl ReadableTable<Piece<'static>, &'static [u8]>,
    key: Key<'_>,
) -> Result<Vec<u8>, redb::Error> {
    let mut octets = Vec::new();
    for piece in table.range(key.piece(0)..=key.piece(u32::MAX))? {
        octets.extend_from_slice(piece?.1.value());
    }
    Ok(octets)
}

/// The logins that have marks, each with its mailbox. `only`: only those in this mailbox.
pub(super) fn logins(
    table: &impl ReadableTable<Piece<'static>, &'static [u8]>,
    only: Option<&MailboxName>,
) -> Result<Vec<(String, MailboxName)>, redb::Error> {
    let any = MailboxName {
        upstream: String::new(),
        user: String::new(),
        folder: String::new(),
    };
    let first = Key::marks("", only.unwrap_or(&any));
    let mut logins = Vec::new();
    for piece in table.range(first.piece(0)..)? {
        let piece = piece?;
        let (kind, upstream, user, folder, login, _) = piece.0.value();
        let mailbox = MailboxName {
            upstream: upstream.to_owned(),
            user: user.to_owned(),
            folder: folder.to_owned(),
        };
        if kind != Kind::Marks as u8 || only.is_some_and(|only| *only != mailbox) {
            break;
        }
        // Any piece is enough to list the login. If the record has lost other pieces, whoever reads it finds it
        // damaged.
        let one = (login.to_owned(), mailbox);
        if logins.last() != Some(&one) {
            logins.push(one);
        }
    }
    Ok(logins)
}

/// The tokens that an earlier version kept here. Damaged ones are left out (logged).
pub(super) fn tokens(
    table: &impl ReadableTable<Piece<'static>, &'static [u8]>,
) -> Result<BTreeMap<Consent, Vec<u8>>, redb::Error> {
    let any = Consent {
        upstream: String::new(),
        name: String::new(),
    };
    let mut tokens = BTreeMap::new();
    for piece in table.range(Key::token(&any).piece(0)..)? {
        let piece = piece?;
        let (kind, upstream, name, ..) = piece.0.value();
        if kind != Kind::Token as u8 {
            break;
        }
        let consent = Consent {
            upstream: upstream.to_owned(),
            name: name.to_owned(),
        };
        if let Ok(Some(token)) = get(table, Key::token(&consent))? {
            tokens.insert(consent, token);
        }
    }
    Ok(tokens)
}

/// The pieces of all records but tokens, in the order of their keys.
pub(super) fn parts(
    table: &impl ReadableTable<Piece<'static>, &'static [u8]>,
) -> Result<impl Iterator<Item = Result<Part, Unreadable>>, redb::Error> {
    let part = |piece: Result<(AccessGuard<Piece<'static>>, AccessGuard<&'static [u8]>), StorageError>| {
        let (key, octets) = piece.map_err(redb::Error::from)?;
        let (kind, upstream, user, folder, login, _) = key.value();
        Ok(Part {
            kind: Kind::numbered(kind).ok_or(Unreadable::Kind(kind))?,
            upstream: upstream.to_owned(),
            user: user.to_owned(),
            folder: folder.to_owned(),
            login: login.to_owned(),
            octets: octets.value().to_vec(),
        })
    };
    let is_token = |part: &Result<Part, _>| matches!(part, Ok(part) if part.kind == Kind::Token);
    Ok(table.iter()?.map(part).filter(move |part| !is_token(part)))
}

/// Why the records cannot be listed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] redb::Error),
    /// Another version of popgate has written such a record.
    #[error("records of kind {0} are unknown to this version")]
    Kind(u8),
}

/// All notices, by name. Damaged ones are left out (logged).
pub(super) fn notices(
    table: &impl ReadableTable<Piece<'static>, &'static [u8]>,
) -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
    let mut names: Vec<String> = Vec::new();
    for piece in table.range(Key::notice("").piece(0)..)? {
        let piece = piece?;
        let (kind, _, name, ..) = piece.0.value();
        if kind != Kind::Notice as u8 {
            break;
        }
        if names.last().is_none_or(|last| last != name) {
            names.push(name.to_owned());
        }
    }
    let mut notices = Vec::new();
    for name in names {
        if let Ok(Some(notice)) = get(table, Key::notice(&name))? {
            notices.push((name, notice));
        }
    }
    Ok(notices)
}

/// Creates the tables that are missing.
pub(super) fn create(database: &redb::Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(RECORDS)?;
    Ok(transaction.commit()?)
}
