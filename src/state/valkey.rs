//! State in Valkey or Redis, which several gateways share: `[state] url`.
//!
//! Steps that must happen together are one request ([`scripts`]), which the server runs as one step. Records are
//! compared by their octets. Every request may be sent twice without harm, so a request is sent again if its answer is
//! lost.

mod checks;
mod connect;
mod failure;
mod flight;
mod keys;
mod pieces;
mod records;
mod scripts;
#[cfg(test)]
#[cfg(unix)]
mod tests;
mod unconfirmed;
mod waiting;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures_util::future::join_all;
use redis::{Cmd, Value, from_redis_value_ref};

use self::{
    checks::Replica,
    connect::{Care, Link},
    failure::Failure,
    keys::{Found, Keys},
    records::{Fields, MARKS, NAMES, PAST, PENDING},
    scripts::{CONFER, DUTY, EXTEND, LEAVE, NOTICE, PIECES, REPLACE, Request, SEATS, sha1_hex},
    unconfirmed::Unconfirmed,
};
use super::{
    ALIVE, Backup, Consent, Duty, Entered, Error, GatewayName, Heard, Holding, Index, Kept, KeptDigest, KnownIndex,
    LASTS, MailboxName, Marked, MarksReplaced, Renewed, Replaced, Replacement, Seated, Seats, StateStore, Unavailable,
    Welcome, Whose, now,
    part::{Kind, PORTION, Part, PartSender, Parts},
    table::Key,
};
use crate::{
    config::{Secret, SharedState, StateServer},
    telemetry::metrics,
};

/// An index of more octets than this is kept in pieces.
const LARGE: usize = 64 * 1024;
/// How many seconds an index is kept after it was last saved. It is only a cache.
const INDEX_LIFE: u32 = 30 * 24 * 3600;
/// How often a replacement is attempted if the stored octets differ from those that were expected, but mean the same
/// record.
const ATTEMPTS: usize = 3;
/// How many keys are read at the same time when all are read.
const AT_ONCE: usize = 64;
/// About how many entries of the gateways' words are kept.
const ENTRIES: usize = 500;
/// How many milliseconds the numbers of an upstream user's connections are kept if they do not change: longer than
/// sessions last.
const SEATS_LIFE: u32 = 7 * 24 * 3600 * 1000;

/// State that several gateways share.
#[derive(Debug, Clone)]
pub struct ValkeyStore(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    link: Arc<Link>,
    keys: Keys,
    options: SharedState,
    /// Whether the last request failed: of those that wait for no replica, and of those that wait. Reads and light
    /// writes may go well while replicas are missing.
    has_failed: [AtomicBool; 2],
    unconfirmed: Unconfirmed,
    /// Since when tokens cannot be written, in seconds since 1970; 0 if the last write succeeded.
    unwritable: AtomicU32,
}

/// A field that is to be replaced. A missing field counts as empty, and an empty one is removed.
#[derive(Debug)]
struct Change {
    field: String,
    /// SHA-1 of what it was, in hexadecimal digits; empty if that could not be read.
    was: String,
    is: Vec<u8>,
}

impl Change {
    /// The change of a field that does not exist yet.
    fn first(field: impl Into<String>, octets: &[u8]) -> Self {
        Self {
            field: field.into(),
            was: sha1_hex(b""),
            is: octets.to_vec(),
        }
    }
}

impl ValkeyStore {
    /// Connects, and checks the settings of the servers and whether other gateways have the same `key`. Then announces
    /// this gateway once a minute, as long as the store lives. Errors are written for the operator.
    pub async fn open(options: SharedState, key: Option<Secret>) -> Result<Self, Error> {
        let store = Self::visit(options)?;
        let Shared {
            link, keys, options, ..
        } = &*store.0;
        let us = Replica::new(options, key.as_ref());
        let joining = async {
            checks::servers(link, options).await?;
            checks::join(link, keys, &options.replica, &us).await
        };
        joining.await.map_err(|failure| store.failed(failure))?;
        let shared = Arc::downgrade(&store.0);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(checks::PULSE).await;
                let Some(shared) = shared.upgrade() else { return };
                let Shared {
                    link, keys, options, ..
                } = &*shared;
                let us = Replica::new(options, key.as_ref());
                // While replicas are missing, this finds out whether they are back.
                let care = if shared.has_failed(Care::Durable).load(Ordering::Relaxed) {
                    Care::Durable
                } else {
                    Care::Light
                };
                let announced = checks::announce(link, keys, &options.replica, &us, care).await;
                // A failure has been logged, and the next announcement follows in a minute.
                let _ = shared.noted(announced, care);
            }
        });
        Ok(store)
    }

    /// A store that is not announced to the other gateways. It connects when it is first asked for something.
    pub(super) fn visit(options: SharedState) -> Result<Self, Error> {
        let link = Link::new(
            options.url.clone(),
            options.password.clone(),
            options.ca_file.as_deref(),
            options.replicas,
        );
        let link = link.map_err(|error| Error::Shared {
            url: options.url.to_string(),
            what: error.to_string(),
        })?;
        Ok(Self(Arc::new(Shared {
            link: Arc::new(link),
            keys: Keys::new(&options.prefix),
            options,
            has_failed: Default::default(),
            unconfirmed: Unconfirmed::default(),
            unwritable: AtomicU32::new(0),
        })))
    }

    /// Fails if the settings of the servers do not suit, or if another gateway has another key or another host under
    /// the same upstream's name.
    pub(super) async fn inspect(&self, key: Option<&Secret>) -> Result<(), Error> {
        let Shared {
            link, keys, options, ..
        } = &*self.0;
        let inspecting = async {
            checks::servers(link, options).await?;
            checks::others(link, keys, &options.replica, &Replica::new(options, key)).await
        };
        inspecting.await.map_err(|failure| self.failed(failure))
    }

    /// Writes the records of `backup` to the servers, which must have no records under the prefix yet.
    pub(super) async fn fill(&self, backup: &Backup) -> Result<(), Error> {
        let shared = &self.0;
        let prefix = &shared.options.prefix;
        let is_empty = shared.has_no_records().await;
        if !is_empty.map_err(|error| self.failed(error))? {
            return Err(self.failed(format!(
                "there is state under {prefix:?} already: give another `prefix`, or delete that state first; nothing was changed"
            )));
        }
        let keys = format!("{prefix}:");
        let remedy = format!(
            "some records may have been written: before you restore again, delete all keys that begin with {keys:?}, or \
             give another `prefix`"
        );
        let records: Vec<_> = backup.records().collect();
        for records in records.chunks(AT_ONCE) {
            let writing = records.iter().map(|(part, octets)| shared.put(part, octets));
            for written in join_all(writing).await {
                written.map_err(|error| self.failed(format!("{error}: {remedy}")))?;
            }
        }
        Ok(())
    }

    fn failed(&self, what: impl ToString) -> Error {
        Error::Shared {
            url: self.0.options.url.to_string(),
            what: what.to_string(),
        }
    }
}

impl Shared {
    /// Sends `request` to the server that has `key`, and returns the answer.
    async fn ask(&self, key: &[u8], request: impl Into<Request>, care: Care) -> Result<Value, Unavailable> {
        let request = request.into();
        if !self.link.waits(care) {
            return self.noted(self.link.ask(key, &request, care).await, care);
        }
        let write = self.unconfirmed.begin(key);
        let answer = self.link.ask(key, &request, care).await;
        if answer.is_ok() {
            write.confirmed();
        }
        self.noted(answer, care)
    }

    /// See [`StateStore::confirm`].
    async fn confirm(&self, mailbox: &MailboxName) -> Result<(), Unavailable> {
        let key = self.keys.mailbox(mailbox);
        let Some(doubt) = self.unconfirmed.of(&key) else {
            return Ok(());
        };
        // Replicas receive writes in their order, so one that has this write has all earlier ones too.
        let mut command = redis::cmd("SET");
        command.arg(self.keys.confirmation(mailbox)).arg(1).arg("EX").arg(1);
        // `unconfirmed` does not note this write. If this write fails, the doubt about the earlier writes stays.
        let answer = self.link.ask(&key, &command.into(), Care::Durable).await;
        self.noted(answer, Care::Durable)?;
        self.unconfirmed.settle(&key, doubt);
        Ok(())
    }

    /// Whether the last request with this care failed.
    fn has_failed(&self, care: Care) -> &AtomicBool {
        &self.has_failed[usize::from(self.link.waits(care))]
    }

    /// Notes and logs whether the last request with this care has succeeded.
    fn noted<T>(&self, answer: Result<T, Failure>, care: Care) -> Result<T, Unavailable> {
        let waits = self.link.waits(care);
        match answer {
            Ok(answer) => {
                if self.has_failed(care).swap(false, Ordering::Relaxed) {
                    let what = if waits {
                        "replicas of shared state confirm writes again"
                    } else {
                        "shared state can be read and written again"
                    };
                    tracing::info!(url = %self.link.url(), "{what}");
                }
                Ok(answer)
            }
            Err(failure) => {
                let what = if waits {
                    "shared state cannot be written so that replicas confirm it: what must not be lost cannot be stored \
                     meanwhile (hidden messages, moves by COPY, consents), and sessions that need it fail"
                } else {
                    "shared state cannot be read or written: logins are refused meanwhile"
                };
                if self.has_failed(care).swap(true, Ordering::Relaxed) {
                    tracing::debug!(%failure, "shared state has failed again");
                } else {
                    tracing::error!(%failure, url = %self.link.url(), "{what}");
                }
                Err(Unavailable::Failed)
            }
        }
    }

    fn strange(&self, answer: &Value) -> Unavailable {
        self.noted::<()>(Err(Failure::strange(answer)), Care::Light)
            .err()
            .unwrap_or(Unavailable::Failed)
    }

    /// The answer to a script, which is an integer.
    async fn number(&self, key: &[u8], request: Request, care: Care) -> Result<i64, Unavailable> {
        match self.ask(key, request, care).await? {
            Value::Int(number) => Ok(number),
            other => Err(self.strange(&other)),
        }
    }

    /// These fields of a hash, or all fields.
    async fn fields(&self, key: &[u8], fields: Option<&[String]>) -> Result<Fields, Unavailable> {
        let Some(fields) = fields else {
            let mut command = redis::cmd("HGETALL");
            command.arg(key);
            let answer = self.ask(key, command, Care::Light).await?;
            let all: HashMap<Vec<u8>, Vec<u8>> = from_redis_value_ref(&answer).map_err(|_| self.strange(&answer))?;
            let text = |(field, octets)| Some((String::from_utf8(field).ok()?, octets));
            return Ok(all.into_iter().filter_map(text).collect());
        };
        let mut command = redis::cmd("HMGET");
        command.arg(key).arg(fields);
        let answer = self.ask(key, command, Care::Light).await?;
        let values: Vec<Option<Vec<u8>>> = from_redis_value_ref(&answer).map_err(|_| self.strange(&answer))?;
        let values = values.into_iter().map(Option::unwrap_or_default);
        Ok(fields.iter().cloned().zip(values).collect())
    }

    /// Replaces fields of the hash at `key`, all or none. If there is a `holding`, takes or renews its locks in the
    /// same step; [`Unavailable::Lost`] if another session has one of them. `names`: see [`records::names`].
    async fn change(
        &self,
        key: &[u8],
        names: &[u8],
        changes: &[Change],
        holding: Option<&Holding>,
        care: Care,
    ) -> Result<(), Unavailable> {
        let mut keys = vec![key.to_vec()];
        keys.extend(holding.map(|holding| self.keys.held(holding).locks).unwrap_or_default());
        let name = holding.map_or_else(Vec::new, |holding| holding.name.to_vec());
        let mut arguments = vec![name, self.lease().into_bytes(), names.to_vec()];
        for Change { field, was, is } in changes {
            arguments.extend([field.clone().into_bytes(), was.clone().into_bytes(), is.clone()]);
        }
        match self
            .number(key, Request::Script(&REPLACE, keys, arguments), care)
            .await?
        {
            1 => Ok(()),
            -1 => Err(Unavailable::Lost),
            _ => Err(Unavailable::Changed),
        }
    }

    /// The lease in milliseconds, as scripts expect it.
    fn lease(&self) -> String {
        self.options.lease.as_millis().to_string()
    }

    /// See [`StateStore::enter`].
    async fn enter(&self, holding: &Holding, known: Option<&KeptDigest>) -> Result<Entered, Unavailable> {
        let Holding {
            mailbox, login, name, ..
        } = holding;
        let held = self.keys.held(holding);
        let lease = self.lease();
        let mut commands: Vec<Cmd> = held.locks.iter().map(|lock| take(lock, name, &lease)).collect();
        let mut records = Cmd::with_capacity(5, held.mailbox.len() + MARKS.len() + login.len() + 8);
        records.arg("HMGET").arg(&held.mailbox).arg(PAST).arg(PENDING);
        records.arg([MARKS, login].concat());
        commands.push(records);
        let mut index = redis::cmd("GET");
        index.arg(&held.index);
        if known.is_none() {
            commands.push(index.clone());
        }
        let answer = self
            .ask(&held.mailbox, Request::Transaction(commands), Care::Light)
            .await?;
        let Value::Array(answers) = &answer else {
            return Err(self.strange(&answer));
        };
        let (holders, answers) = answers.split_at_checked(held.locks.len()).unwrap_or_default();
        let Some((records, told)) = answers.split_first() else {
            return Err(self.strange(&answer));
        };
        let is_ours = |holder: &Value| matches!(holder, Value::BulkString(holder) if holder == name);
        let is_others = |holder: &Value| matches!(holder, Value::BulkString(holder) if holder != name);
        if holders.iter().any(is_others) {
            // This session may have got the other lock.
            if !holders.iter().all(is_others) {
                self.give_up(holding, Vec::new()).await?;
            }
            return Ok(Entered::Busy);
        }
        if !holders.iter().all(|holder| *holder == Value::Nil || is_ours(holder)) {
            return Err(self.strange(&answer));
        }
        // A lock that this session had already keeps its old time, unless it is renewed.
        if holders.iter().any(is_ours) && self.extend(holding).await != Renewed::Held {
            return Ok(Entered::Busy);
        }
        let records: [Option<Vec<u8>>; 3] = from_redis_value_ref(records)
            .ok()
            .and_then(|records: Vec<_>| records.try_into().ok())
            .ok_or_else(|| self.strange(&answer))?;
        let [past, pending, marks] = records.map(Option::unwrap_or_default);
        if known.is_some_and(|known| *known == records::digest_of([&past, &pending, &marks])) {
            return Ok(Entered::Same);
        }
        let index = match told {
            [told] => known_index(mailbox, told),
            // Another gateway has changed the records, and so perhaps the index.
            _ => {
                let asked = self.ask(&held.mailbox, Request::Transaction(vec![index]), Care::Light);
                match asked.await? {
                    Value::Array(told) => told.first().map_or(KnownIndex::None, |told| known_index(mailbox, told)),
                    other => return Err(self.strange(&other)),
                }
            }
        };
        let fields = Fields::from([
            (PAST.to_owned(), past),
            (PENDING.to_owned(), pending),
            ([MARKS, login].concat(), marks),
        ]);
        let kept = records::open(mailbox, &fields);
        Ok(Entered::New(Box::new(Welcome { kept, index })))
    }

    /// Renews the lease of `holding`.
    async fn extend(&self, holding: &Holding) -> Renewed {
        let held = self.keys.held(holding);
        let arguments = vec![holding.name.to_vec(), self.lease().into_bytes()];
        let request = Request::Script(&EXTEND, held.locks, arguments);
        match self.number(&held.mailbox, request, Care::Light).await {
            Ok(1) => Renewed::Held,
            Ok(0) => Renewed::Free,
            Ok(_) => Renewed::Lost,
            Err(_) => Renewed::Unknown,
        }
    }

    /// Gives up the locks of `holding` that are still held under its name. If there are any, saves `index` with the same
    /// request, unless it is empty.
    async fn give_up(&self, holding: &Holding, index: Vec<u8>) -> Result<(), Unavailable> {
        let held = self.keys.held(holding);
        let keys = [held.index].into_iter().chain(held.locks).collect();
        let arguments = vec![holding.name.to_vec(), index, INDEX_LIFE.to_string().into_bytes()];
        let request = Request::Script(&LEAVE, keys, arguments);
        self.number(&held.mailbox, request, Care::Light).await.map(drop)
    }

    /// See [`StateStore::replace`].
    async fn replace(
        &self,
        mailbox: &MailboxName,
        replacement: &Replacement,
        holding: Option<&Holding>,
    ) -> Result<(), Unavailable> {
        let begun = Instant::now();
        let replaced = self.replace_in(mailbox, replacement, holding).await;
        metrics().state("write", begun.elapsed());
        replaced
    }

    async fn replace_in(
        &self,
        mailbox: &MailboxName,
        replacement: &Replacement,
        holding: Option<&Holding>,
    ) -> Result<(), Unavailable> {
        let key = self.keys.mailbox(mailbox);
        let names = records::names(mailbox);
        let care = if replacement.is_precious() {
            Care::Durable
        } else {
            Care::Light
        };
        let mut changes = changes(mailbox, replacement);
        for _ in 0..ATTEMPTS {
            match self.change(&key, &names, &changes, holding, care).await {
                Err(Unavailable::Changed) => {}
                result => return result,
            }
            // The stored octets are not the expected ones. If they mean the same record, or were damaged already when
            // they were read, the next attempt expects the octets that are stored now.
            let fields: Vec<String> = changes.iter().map(|change| change.field.clone()).collect();
            let now = self.fields(&key, Some(&fields)).await?;
            if !follows(replacement, &records::open(mailbox, &now)) {
                return Err(Unavailable::Changed);
            }
            for change in &mut changes {
                change.was = sha1_hex(now.get(&change.field).map_or(&[][..], Vec::as_slice));
            }
        }
        Err(Unavailable::Changed)
    }

    async fn load_index(&self, mailbox: &MailboxName) -> Result<Option<Arc<Index>>, Unavailable> {
        let found = self.index_at(&self.keys.index(mailbox)).await?;
        Ok(found.and_then(|(_, record)| decoded(mailbox, &record)))
    }

    /// The names and the record of the index at `key`, which is one string or in pieces.
    async fn index_at(&self, key: &[u8]) -> Result<Option<(Vec<u8>, Vec<u8>)>, Unavailable> {
        let mut command = redis::cmd("TYPE");
        command.arg(key);
        match self.ask(key, command, Care::Light).await? {
            Value::SimpleString(kind) if kind == "hash" => self.pieces(key).await,
            Value::SimpleString(kind) if kind == "string" => self.whole(key).await,
            _ => Ok(None),
        }
    }

    /// The names and the record of an index that is one string.
    async fn whole(&self, key: &[u8]) -> Result<Option<(Vec<u8>, Vec<u8>)>, Unavailable> {
        let mut command = redis::cmd("GET");
        command.arg(key);
        match self.ask(key, command, Care::Light).await? {
            Value::BulkString(value) => Ok(split(&value).map(|(names, record)| (names.to_vec(), record.to_vec()))),
            _ => Ok(None),
        }
    }

    /// The names and the record of an index in pieces.
    async fn pieces(&self, key: &[u8]) -> Result<Option<(Vec<u8>, Vec<u8>)>, Unavailable> {
        let fields = self.fields(key, None).await?;
        let count = fields.get("d").map_or(0, |digests| pieces::count(digests));
        let record = pieces::joined(count, |number| fields.get(&number.to_string()).cloned());
        Ok(fields.get(NAMES).cloned().zip(record))
    }

    async fn save_index(&self, mailbox: &MailboxName, index: &Index) -> Result<(), Unavailable> {
        let key = self.keys.index(mailbox);
        let names = records::names(mailbox);
        let Some(record) = encoded(mailbox, index) else {
            return Ok(());
        };
        if record.len() <= LARGE {
            let mut command = redis::cmd("SET");
            command.arg(&key).arg(joined(&names, &record)).arg("EX").arg(INDEX_LIFE);
            return self.ask(&key, command, Care::Light).await.map(drop);
        }
        self.save_large_index(mailbox, &record, None).await
    }

    /// Saves an index in pieces. If there is a `holding`, does nothing unless the session still has one of its locks.
    async fn save_large_index(
        &self,
        mailbox: &MailboxName,
        record: &[u8],
        holding: Option<&Holding>,
    ) -> Result<(), Unavailable> {
        let key = self.keys.index(mailbox);
        let names = records::names(mailbox);
        let is = pieces::digests(record);
        let mut keys = vec![key.clone()];
        keys.extend(holding.map(|holding| self.keys.held(holding).locks).unwrap_or_default());
        let name = holding.map_or_else(Vec::new, |holding| holding.name.to_vec());
        for _ in 0..ATTEMPTS {
            let mut command = redis::cmd("TYPE");
            command.arg(&key);
            let was = match self.ask(&key, command, Care::Light).await? {
                Value::SimpleString(kind) if kind == "hash" => {
                    let fields = self.fields(&key, Some(&["d".to_owned()])).await?;
                    fields.into_values().next().unwrap_or_default()
                }
                _ => Vec::new(),
            };
            let mut arguments = vec![
                was.clone(),
                is.clone(),
                names.clone(),
                pieces::count(&is).to_string().into_bytes(),
                INDEX_LIFE.to_string().into_bytes(),
                name.clone(),
            ];
            for (number, piece) in pieces::changed(record, &was, &is) {
                arguments.extend([number.to_string().into_bytes(), piece.to_vec()]);
            }
            let request = Request::Script(&PIECES, keys.clone(), arguments);
            if self.number(&key, request, Care::Light).await? != 0 {
                break;
            }
        }
        Ok(())
    }

    async fn has_no_records(&self) -> Result<bool, Unavailable> {
        let notices = self.keys.notices();
        Ok(self.all_keys().await?.is_empty() && self.fields(&notices, None).await?.is_empty())
    }

    /// The keys of all records except for notices, with their kinds.
    async fn all_keys(&self) -> Result<Vec<(Found, Vec<u8>)>, Unavailable> {
        let mut all = HashSet::new();
        for server in self.noted(self.link.primaries().await, Care::Light)? {
            all.extend(self.keys_at(&server).await?);
        }
        let found = all.into_iter().filter_map(|key| Some((self.keys.kind(&key)?, key)));
        Ok(found.collect())
    }

    /// The keys at one server. A key may occur several times.
    async fn keys_at(&self, server: &StateServer) -> Result<Vec<Vec<u8>>, Unavailable> {
        let mut all = Vec::new();
        let mut cursor = 0_u64;
        loop {
            let mut command = redis::cmd("SCAN");
            command
                .arg(cursor)
                .arg("MATCH")
                .arg(self.keys.pattern())
                .arg("COUNT")
                .arg(1_000);
            let answer = self.noted(self.link.ask_server(server, command).await, Care::Light)?;
            let (next, keys): (u64, Vec<Vec<u8>>) = from_redis_value_ref(&answer).map_err(|_| self.strange(&answer))?;
            all.extend(keys);
            cursor = next;
            if cursor == 0 {
                return Ok(all);
            }
        }
    }

    /// The parts of the record or records under `key`.
    async fn parts_of(&self, found: Found, key: &[u8]) -> Result<Vec<Part>, Unavailable> {
        let part = |key: Key<'_>, octets: &[u8]| key.parts(octets).collect::<Vec<_>>();
        Ok(match found {
            Found::Index => {
                let index = self.index_at(key).await?;
                let index = index.and_then(|(names, record)| Some((records::named(&names)?, record)));
                index.map_or_else(Vec::new, |(mailbox, record)| {
                    part(Key::of(Kind::Index, &mailbox), &record)
                })
            }
            Found::Token => {
                let fields = self.fields(key, None).await?;
                let names = fields.get(NAMES).and_then(|names| records::consent_named(names));
                match (names, fields.get(TOKEN)) {
                    (Some(consent), Some(token)) => part(Key::token(&consent), token),
                    _ => Vec::new(),
                }
            }
            Found::Mailbox => {
                let fields = self.fields(key, None).await?;
                let Some(mailbox) = fields.get(NAMES).and_then(|names| records::named(names)) else {
                    return Ok(Vec::new());
                };
                let parts =
                    fields
                        .iter()
                        .flat_map(|(field, octets)| match (field.as_str(), field.strip_prefix(MARKS)) {
                            (PAST, _) => part(Key::of(Kind::Past, &mailbox), octets),
                            (PENDING, _) => part(Key::of(Kind::Move, &mailbox), octets),
                            (_, Some(login)) => part(Key::marks(login, &mailbox), octets),
                            _ => Vec::new(),
                        });
                parts.collect()
            }
        })
    }

    /// Writes a record of a backup. `octets` are the record in its stored form.
    async fn put(&self, part: &Part, octets: &[u8]) -> Result<(), Unavailable> {
        let mailbox = MailboxName {
            upstream: part.upstream.clone(),
            user: part.user.clone(),
            folder: part.folder.clone(),
        };
        let field = match part.kind {
            Kind::Index => {
                return match decoded(&mailbox, octets) {
                    Some(index) => self.save_index(&mailbox, &index).await,
                    None => Ok(()),
                };
            }
            Kind::Token => {
                let consent = Consent {
                    upstream: part.upstream.clone(),
                    name: part.user.clone(),
                };
                let token = Change::first(TOKEN, octets);
                let names = records::consent_names(&consent);
                let key = self.keys.token(&consent);
                return self.change(&key, &names, &[token], None, Care::Durable).await;
            }
            Kind::Notice => {
                let mut command = redis::cmd("HSET");
                command.arg(self.keys.notices()).arg(&part.user).arg(octets);
                return self.ask(&self.keys.notices(), command, Care::Light).await.map(drop);
            }
            Kind::Past => PAST.to_owned(),
            Kind::Move => PENDING.to_owned(),
            Kind::Marks => format!("{MARKS}{}", part.login),
        };
        let names = records::names(&mailbox);
        let change = Change::first(field, octets);
        self.change(&self.keys.mailbox(&mailbox), &names, &[change], None, Care::Durable)
            .await
    }

    /// The octets of the notice under `name`; empty if there is none.
    async fn notice(&self, name: &str) -> Result<Vec<u8>, Unavailable> {
        let fields = self.fields(&self.keys.notices(), Some(&[name.to_owned()])).await?;
        Ok(fields.into_values().next().unwrap_or_default())
    }

    /// Sends the parts of all records, until the receiver is gone.
    async fn send_parts(&self, sender: &PartSender) -> Result<(), Unavailable> {
        let mut keys = self.all_keys().await?;
        keys.sort_by_key(|(found, _)| *found == Found::Token);
        for keys in keys.chunks(AT_ONCE) {
            let reading = keys.iter().map(|(found, key)| self.parts_of(*found, key));
            for parts in join_all(reading).await {
                for portion in parts?.chunks(PORTION) {
                    if sender.send(Ok(portion.to_vec())).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
        let notices = self.keys.notices();
        for (name, octets) in self.fields(&notices, None).await? {
            let parts: Vec<Part> = Key::notice(&name).parts(&octets).collect();
            for portion in parts.chunks(PORTION) {
                if sender.send(Ok(portion.to_vec())).await.is_err() {
                    return Ok(());
                }
            }
        }
        // An empty portion is the end. If the receiver is gone, it does not need it.
        let _ = sender.send(Ok(Vec::new())).await;
        Ok(())
    }
}

/// The field that has the token of a consent.
const TOKEN: &str = "t";

#[async_trait]
impl StateStore for ValkeyStore {
    async fn index(&self, mailbox: &MailboxName) -> Option<Arc<Index>> {
        // A failure has been logged, and an index is a cache.
        self.0.load_index(mailbox).await.ok()?
    }

    async fn set_index(&self, mailbox: &MailboxName, index: Arc<Index>) {
        let _ = self.0.save_index(mailbox, &index).await;
    }

    async fn kept(&self, mailbox: &MailboxName, whose: Whose<'_>) -> Result<Kept, Unavailable> {
        let begun = Instant::now();
        let mut fields = vec![PAST.to_owned(), PENDING.to_owned()];
        let fields = match whose {
            Whose::All => None,
            Whose::Nobody => Some(&fields[..]),
            Whose::Login(login) => {
                fields.push(format!("{MARKS}{login}"));
                Some(&fields[..])
            }
        };
        let fields = self.0.fields(&self.0.keys.mailbox(mailbox), fields).await;
        metrics().state("read", begun.elapsed());
        Ok(records::open(mailbox, &fields?))
    }

    async fn replace(&self, mailbox: &MailboxName, replacement: Replacement) -> Result<(), Unavailable> {
        self.0.replace(mailbox, &replacement, None).await
    }

    async fn confirm(&self, mailbox: &MailboxName) -> Result<(), Unavailable> {
        self.0.confirm(mailbox).await
    }

    fn lease(&self) -> Option<Duration> {
        Some(self.0.options.lease)
    }

    fn digest(&self, mailbox: &MailboxName, login: &str, kept: &Kept) -> Option<KeptDigest> {
        records::digest(mailbox, login, kept)
    }

    async fn enter(&self, holding: &Holding, known: Option<&KeptDigest>) -> Result<Entered, Unavailable> {
        self.0.enter(holding, known).await
    }

    async fn extend(&self, holdings: &[&Holding]) -> Vec<Renewed> {
        join_all(holdings.iter().map(|holding| self.0.extend(holding))).await
    }

    async fn leave(&self, holding: &Holding, index: Option<Arc<Index>>) -> Result<(), Unavailable> {
        let mailbox = &holding.mailbox;
        let value = match index.and_then(|index| encoded(mailbox, &index)) {
            Some(record) if record.len() <= LARGE => joined(&records::names(mailbox), &record),
            Some(record) => {
                // The index is a cache. If it cannot be saved (logged), the maildrop is given up nevertheless.
                let _ = self.0.save_large_index(mailbox, &record, Some(holding)).await;
                Vec::new()
            }
            None => Vec::new(),
        };
        self.0.give_up(holding, value).await
    }

    async fn replace_held(&self, holding: &Holding, replacement: Replacement) -> Result<(), Unavailable> {
        self.0.replace(&holding.mailbox, &replacement, Some(holding)).await
    }

    async fn take_duty(&self, duty: &Duty, name: &[u8; 16]) -> Result<bool, Unavailable> {
        let key = self.0.keys.duty(duty);
        let arguments = vec![name.to_vec(), LASTS.as_millis().to_string().into_bytes()];
        let request = Request::Script(&DUTY, vec![key.clone()], arguments);
        Ok(self.0.number(&key, request, Care::Light).await? == 1)
    }

    async fn leave_duty(&self, duty: &Duty, name: &[u8; 16]) -> Result<(), Unavailable> {
        let key = self.0.keys.duty(duty);
        // The script's first key is meant for an index. Without a value none is written.
        let keys = vec![key.clone(), key.clone()];
        let arguments = vec![name.to_vec(), Vec::new(), Vec::new()];
        let left = self
            .0
            .number(&key, Request::Script(&LEAVE, keys, arguments), Care::Light);
        left.await.map(drop)
    }

    async fn confer(
        &self,
        gateway: &GatewayName,
        position: Option<&str>,
        words: Option<&[u8]>,
    ) -> Result<Heard, Unavailable> {
        let keys = self.0.keys.gateways();
        let arguments = vec![
            gateway.to_vec(),
            ALIVE.as_millis().to_string().into_bytes(),
            position.unwrap_or_default().as_bytes().to_vec(),
            words.unwrap_or_default().to_vec(),
            ENTRIES.to_string().into_bytes(),
        ];
        let key = keys[0].clone();
        let answer = self
            .0
            .ask(&key, Request::Script(&CONFER, keys.into(), arguments), Care::Light)
            .await?;
        let (position, words, alive): (String, Vec<Vec<u8>>, Vec<Vec<u8>>) =
            from_redis_value_ref(&answer).map_err(|_| self.0.strange(&answer))?;
        Ok(Heard {
            position,
            words,
            alive: names(alive),
        })
    }

    async fn retire(&self, gateway: &GatewayName) -> Result<(), Unavailable> {
        let [_, alive] = self.0.keys.gateways();
        let mut command = redis::cmd("ZREM");
        command.arg(&alive).arg(gateway);
        self.0.ask(&alive, command, Care::Light).await.map(drop)
    }

    async fn seat(&self, seats: Seats<'_>) -> Result<Seated, Unavailable> {
        let key = self.0.keys.seats(seats.user);
        let mut arguments = vec![seats.gateway.to_vec()];
        let numbers = [
            seats.count,
            seats.limit,
            SEATS_LIFE as usize,
            usize::from(seats.is_complete),
        ];
        arguments.extend(numbers.map(|number| number.to_string().into_bytes()));
        arguments.extend(seats.alive.iter().map(|name| name.to_vec()));
        let answer = self
            .0
            .ask(&key, Request::Script(&SEATS, vec![key.clone()], arguments), Care::Light)
            .await?;
        let Value::Array(parts) = &answer else {
            return Err(self.0.strange(&answer));
        };
        match parts.split_first() {
            Some((Value::Int(1), _)) => Ok(Seated::Yes),
            Some((Value::Int(0), others)) => {
                let others = others.iter().filter_map(|other| from_redis_value_ref(other).ok());
                Ok(Seated::Full(names(others.collect())))
            }
            Some((Value::Int(-1), _)) => Ok(Seated::Unknown),
            _ => Err(self.0.strange(&answer)),
        }
    }

    async fn all_marks(&self) -> Result<Vec<Marked>, Unavailable> {
        let mut keys = self.0.all_keys().await?;
        keys.retain(|(found, _)| *found == Found::Mailbox);
        let mut all = Vec::new();
        for keys in keys.chunks(AT_ONCE) {
            let reading = keys.iter().map(|(_, key)| self.0.fields(key, None));
            for fields in join_all(reading).await {
                let fields = fields?;
                // The records have been deleted meanwhile, or another version has written them.
                let Some(mailbox) = fields.get(NAMES).and_then(|names| records::named(names)) else {
                    continue;
                };
                let marks = records::open(&mailbox, &fields).marks;
                all.extend(marks.into_iter().map(|(login, marks)| (login, mailbox.clone(), marks)));
            }
        }
        Ok(all)
    }

    /// The records of one mailbox are read at one moment, but different mailboxes are read at different moments.
    async fn parts(&self) -> Result<Parts, Unavailable> {
        let (sender, parts) = Parts::channel();
        let shared = self.0.clone();
        tokio::spawn(async move {
            if let Err(error) = shared.send_parts(&sender).await {
                // If the receiver is gone, it does not need the error.
                let _ = sender.send(Err(error)).await;
            }
        });
        Ok(parts)
    }

    async fn token(&self, consent: &Consent) -> Result<Option<Vec<u8>>, Unavailable> {
        let fields = self
            .0
            .fields(&self.0.keys.token(consent), Some(&[TOKEN.to_owned()]))
            .await?;
        Ok(fields.into_values().next().filter(|token| !token.is_empty()))
    }

    async fn set_token(
        &self,
        consent: &Consent,
        followed: Option<&[u8]>,
        token: Option<&[u8]>,
    ) -> Result<(), Unavailable> {
        let key = self.0.keys.token(consent);
        let change = Change {
            field: TOKEN.to_owned(),
            was: sha1_hex(followed.unwrap_or_default()),
            is: token.unwrap_or_default().to_vec(),
        };
        let names = records::consent_names(consent);
        let set = self.0.change(&key, &names, &[change], None, Care::Durable).await;
        match set {
            Err(Unavailable::Failed) => {
                let unwritable = &self.0.unwritable;
                // Only the first failure sets the time.
                let _ = unwritable.compare_exchange(0, now().max(1), Ordering::Relaxed, Ordering::Relaxed);
            }
            Ok(()) => self.0.unwritable.store(0, Ordering::Relaxed),
            Err(_) => {}
        }
        set
    }

    async fn tokens_unwritable_since(&self) -> Result<Option<u32>, Unavailable> {
        Ok(Some(self.0.unwritable.load(Ordering::Relaxed)).filter(|since| *since > 0))
    }

    async fn notices(&self) -> Result<Vec<(String, Vec<u8>)>, Unavailable> {
        let fields = self.0.fields(&self.0.keys.notices(), None).await?;
        let notice = |(name, octets): (String, Vec<u8>)| {
            let notice = records::read(Key::notice(&name), &octets).ok()??;
            Some((name, notice))
        };
        let mut notices: Vec<_> = fields.into_iter().filter_map(notice).collect();
        notices.sort();
        Ok(notices)
    }

    async fn notice(&self, name: &str) -> Result<Option<Vec<u8>>, Unavailable> {
        let octets = self.0.notice(name).await?;
        Ok(records::read(Key::notice(name), &octets).ok().flatten())
    }

    async fn set_notice(&self, name: &str, followed: Option<&[u8]>, notice: Option<&[u8]>) -> Result<(), Unavailable> {
        let key = self.0.keys.notices();
        let seal = |notice: Option<&[u8]>| notice.map_or_else(Vec::new, |notice| records::seal_notice(name, notice));
        let mut was = sha1_hex(&seal(followed));
        for _ in 0..ATTEMPTS {
            let arguments = vec![name.as_bytes().to_vec(), was.into_bytes(), seal(notice)];
            let request = Request::Script(&NOTICE, vec![key.clone()], arguments);
            if self.0.number(&key, request, Care::Light).await? == 1 {
                return Ok(());
            }
            // The octets differ. If they mean the same, or are damaged, the next attempt expects these octets.
            let now = self.0.notice(name).await?;
            let kept: Option<Vec<u8>> = records::read(Key::notice(name), &now).ok().flatten();
            if kept.as_deref() != followed {
                return Err(Unavailable::Changed);
            }
            was = sha1_hex(&now);
        }
        Err(Unavailable::Changed)
    }

    fn has_failed(&self) -> bool {
        self.0
            .has_failed
            .iter()
            .any(|has_failed| has_failed.load(Ordering::Relaxed))
    }
}

/// The names of gateways; names of another length are left out.
fn names(names: Vec<Vec<u8>>) -> Vec<GatewayName> {
    names.into_iter().filter_map(|name| name.try_into().ok()).collect()
}

/// The fields that `replacement` changes. If the old marks could not be read, `was` is empty, which is the digest of
/// nothing.
fn changes(mailbox: &MailboxName, replacement: &Replacement) -> Vec<Change> {
    let Replacement { past, pending, marks } = replacement;
    let mut changes = Vec::new();
    if let Some(Replaced { was, is }) = past {
        changes.push(Change {
            field: PAST.to_owned(),
            was: sha1_hex(&records::seal_past(mailbox, was)),
            is: records::seal_past(mailbox, is),
        });
    }
    if let Some(Replaced { was, is }) = pending {
        changes.push(Change {
            field: PENDING.to_owned(),
            was: sha1_hex(&records::seal_pending(mailbox, was.as_ref())),
            is: records::seal_pending(mailbox, is.as_ref()),
        });
    }
    for (login, MarksReplaced { was, is }) in marks {
        // Marks that could not be read stay as they are.
        let Some(is) = records::seal_marks(login, mailbox, is.as_ref()) else {
            continue;
        };
        changes.push(Change {
            field: format!("{MARKS}{login}"),
            was: records::seal_marks(login, mailbox, was.as_ref()).map_or_else(String::new, |was| sha1_hex(&was)),
            is,
        });
    }
    changes
}

/// Whether `replacement` may be made if `now` are the stored records.
fn follows(replacement: &Replacement, now: &Kept) -> bool {
    let Replacement { past, pending, marks } = replacement;
    past.as_ref().is_none_or(|past| past.follows(&now.past))
        && pending.as_ref().is_none_or(|pending| pending.follows(&now.pending))
        && marks
            .iter()
            .all(|(login, marks)| marks.follows(&now.marks.get(login).cloned()))
}

/// The command that takes a lock if it is free, for `lease` milliseconds. The answer is the name of the holder, or Nil if
/// the lock was free.
fn take(lock: &[u8], name: &[u8; 16], lease: &str) -> Cmd {
    let mut command = Cmd::with_capacity(7, lock.len() + name.len() + lease.len() + 10);
    command
        .arg("SET")
        .arg(lock)
        .arg(name)
        .arg("NX")
        .arg("GET")
        .arg("PX")
        .arg(lease);
    command
}

/// Reads an index from the server's answer to GET. An index in pieces is a hash, and the server answers GET of a hash with
/// an error.
fn known_index(mailbox: &MailboxName, answer: &Value) -> KnownIndex {
    match answer {
        Value::BulkString(value) => split(value)
            .and_then(|(_, record)| decoded(mailbox, record))
            .map_or(KnownIndex::None, KnownIndex::Whole),
        Value::ServerError(_) => KnownIndex::Large,
        _ => KnownIndex::None,
    }
}

/// An index as one string: its names, a line feed, and the record.
fn joined(names: &[u8], record: &[u8]) -> Vec<u8> {
    [names, b"\n", record].concat()
}

/// Takes such a string apart. (The names are JSON without a line feed.)
fn split(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b'\n', value)?;
    Some((&value[..end], &value[end + 1..]))
}

fn encoded(mailbox: &MailboxName, index: &Index) -> Option<Vec<u8>> {
    let record = index.encode(mailbox);
    if record.is_none() {
        tracing::error!(%mailbox, "the UIDs of an index do not ascend: the index is not stored");
    }
    record
}

fn decoded(mailbox: &MailboxName, record: &[u8]) -> Option<Arc<Index>> {
    match Index::decode(mailbox, record) {
        Ok(index) => Some(Arc::new(index)),
        Err(damage) => {
            tracing::warn!(%mailbox, %damage, "the stored index of a mailbox is damaged: the mailbox is listed anew");
            None
        }
    }
}
