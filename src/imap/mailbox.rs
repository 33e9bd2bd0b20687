//! A selected mailbox on one authenticated connection: list, fetch, flag, remove. Every command is checked to its tagged
//! status; a connection whose command was cut short is broken and refuses all others.

use std::{collections::VecDeque, num::NonZeroU32, task::Poll};

use async_imap::Client;
use bytes::{Buf, Bytes};

use super::{
    capability::Capabilities,
    connect::{self, Connection},
    error::Error,
    fetch::{self, Fetch, Section, Step},
    response::{self, Completion, Line, Status},
    uid::{Uid, UidSet, UidValidity},
    utf7,
    wire::Wire,
};

/// What SELECT told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selected {
    /// While it stays, UIDs mean the same messages.
    pub uid_validity: UidValidity,
    /// `[READ-ONLY]`: nothing can be flagged or removed.
    pub read_only: bool,
    /// `[UIDNOTSTICKY]`: UIDs mean nothing on another connection.
    pub uid_not_sticky: bool,
    /// HIGHESTMODSEQ, where the server keeps it (RFC 7162 §3.1.2.1).
    pub modseq: Option<u64>,
}

/// What a listing told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// UID and RFC822.SIZE, ascending by UID.
    pub sizes: Vec<(Uid, u32)>,
    /// UIDs that bear `\Deleted`, ascending.
    pub deleted: Vec<Uid>,
}

/// What a server tells unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct News {
    /// So many messages are gone.
    pub expunged: u64,
    /// Flags of some have changed.
    pub flags: bool,
}

/// What of a message is fetched, never setting `\Seen`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// The whole message.
    Whole,
    /// The header, with the empty line.
    Header,
    /// The header, and so many octets of the text.
    Top(u32),
    /// Some octets of the text.
    Text {
        /// From this octet on.
        origin: u64,
        /// At most so many.
        octets: u32,
    },
}

/// The next thing that comes of a fetch.
#[derive(Debug, PartialEq, Eq)]
pub enum BodyStart {
    /// A content begins; its octets come from [`Mailbox::ready`] and [`Mailbox::take`].
    Content {
        /// Of which message, if the server has told it already (some send UID last).
        uid: Option<Uid>,
        /// Whether it is the text, where header and text were asked for.
        is_text: bool,
        /// How many octets are to come; `None` for NIL.
        octets: Option<u64>,
    },
    /// One message's response is complete.
    End(Option<Uid>),
    /// The command is complete and was OK.
    Done,
}

/// A selected mailbox.
#[derive(Debug)]
pub struct Mailbox {
    client: Client<Wire>,
    capabilities: Capabilities,
    selected: Selected,
    tags: u32,
    /// Tags of the fetches of bodies under way, in the order in which the server will complete them.
    fetches: VecDeque<String>,
    reading: Reading,
    broken: bool,
}

/// Where in the answer to a fetch of bodies we are.
#[derive(Debug, Default)]
struct Reading {
    /// The response being parsed, if we stand within one.
    response: Option<Fetch>,
    /// Octets of the current content that were not taken yet.
    left: u64,
    /// The current content, if it came as a quoted string; else it is in the wire's buffer.
    inline: Option<Bytes>,
    /// Octets that were taken, and that the caller has used up when it calls again.
    lent: usize,
}

/// One datum of a listing or search.
enum Datum {
    Fetch(Fetch),
    Found(Uid),
}

/// What is known of a mailbox from an earlier connection, for QRESYNC (RFC 7162 §3.2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resync {
    /// UIDVALIDITY then.
    pub uid_validity: u32,
    /// HIGHESTMODSEQ then.
    pub modseq: u64,
}

impl Connection {
    /// Selects `folder` (UTF-8), and asks for UID and size of everything from UID `list_from` on and for the UIDs that bear
    /// `\Deleted` in the same flight: one round trip. Where `resync` is given and the server can, it also tells what
    /// vanished since: see [`Mailbox::take_vanished`].
    pub async fn select(
        self,
        folder: &str,
        list_from: Uid,
        resync: Option<Resync>,
    ) -> Result<(Mailbox, Listed), Error> {
        let capabilities = self.capabilities;
        let mut mailbox = Mailbox {
            client: self.client,
            capabilities,
            selected: Selected {
                uid_validity: UidValidity(NonZeroU32::MIN),
                read_only: false,
                uid_not_sticky: false,
                modseq: None,
            },
            tags: 0,
            fetches: VecDeque::new(),
            reading: Reading::default(),
            broken: false,
        };
        let mut before = Vec::new();
        if !self.told_after_login {
            before.push("CAPABILITY".to_owned());
        }
        if capabilities.id {
            // Some servers take no client that does not name itself before SELECT.
            before.push(format!(
                "ID (\"name\" \"popgate\" \"version\" \"{}\")",
                env!("CARGO_PKG_VERSION")
            ));
        }
        let plain = format!("SELECT {}", utf7::quoted_mailbox(folder));
        if let Some(Resync { uid_validity, modseq }) = resync.filter(|_| capabilities.qresync) {
            let enable = [before.as_slice(), &["ENABLE QRESYNC".to_owned()]].concat();
            let select = format!("{plain} (QRESYNC ({uid_validity} {modseq}))");
            match mailbox.select(enable, select, list_from).await {
                // QRESYNC is not what it should be everywhere it is offered.
                Err(Error::Refused { .. }) => {}
                result => return result.map(|listed| (mailbox, listed)),
            }
        }
        let listed = mailbox.select(before, plain, list_from).await?;
        Ok((mailbox, listed))
    }
}

/// What lists the messages from a UID on.
fn listing(from: Uid) -> [String; 2] {
    [
        format!("UID FETCH {from}:* (UID RFC822.SIZE)"),
        "UID SEARCH DELETED".to_owned(),
    ]
}

fn require(command: &'static str, completion: Option<Completion>) -> Result<(), Error> {
    match completion {
        Some(completion) if completion.is_ok() => Ok(()),
        Some(completion) => Err(Error::Refused { command, completion }),
        None => Err(Error::Protocol("a completion is missing")),
    }
}

impl Listed {
    fn take(&mut self, datum: Datum) {
        match datum {
            // A FETCH without size is news about flags, unasked.
            Datum::Fetch(Fetch {
                uid: Some(uid),
                size: Some(size),
                ..
            }) => self.sizes.push((Uid(uid), size)),
            Datum::Fetch(_) => {}
            Datum::Found(uid) => self.deleted.push(uid),
        }
    }

    fn take_event(&mut self, event: Event<'_>) {
        if let Event::Datum(datum) = event {
            self.take(datum);
        }
    }

    /// Ascending, each once, none below `from`: `9:*` names the last message even where its UID is 8 (RFC 3501 §6.4.8).
    fn settle(&mut self, from: Uid) {
        if !self.sizes.is_sorted_by(|a, b| a.0 < b.0) {
            self.sizes.sort_by_key(|&(uid, _)| uid);
            self.sizes.dedup_by_key(|&mut (uid, _)| uid);
        }
        let below = self.sizes.partition_point(|&(uid, _)| uid < from);
        self.sizes.drain(..below);
        self.deleted.sort_unstable();
        self.deleted.dedup();
    }
}

/// What a flight hands to its taker, as it comes.
enum Event<'a> {
    Datum(Datum),
    /// The command of that index is complete; so many messages exist by now.
    Tagged {
        index: usize,
        status: &'a Status<'a>,
        exists: u32,
    },
}

impl Mailbox {
    /// Sends the commands `before` and `select`, and what lists from `list_from` on, in one flight.
    async fn select(&mut self, before: Vec<String>, select: String, list_from: Uid) -> Result<Listed, Error> {
        let at = before.len();
        let mut commands = before;
        commands.push(select);
        commands.extend(listing(list_from));
        let mut listed = Listed::default();
        let mut read_only = false;
        let mut exists_then = 0;
        let completions = self
            .flight(&commands, |event| match event {
                Event::Datum(datum) => listed.take(datum),
                Event::Tagged { index, status, exists } if index == at => {
                    read_only = status.has_code("READ-ONLY");
                    exists_then = exists;
                }
                Event::Tagged { .. } => {}
            })
            .await?;
        let mut completions = completions.into_iter().skip(at);
        require("SELECT", completions.next())?;
        let seen = self.client.get_mut().seen();
        if let Some(told) = seen.capabilities.take() {
            self.capabilities = told;
        }
        let uid_validity = seen
            .uid_validity
            .and_then(NonZeroU32::new)
            .ok_or(Error::NoData("SELECT (UIDVALIDITY)"))?;
        self.selected = Selected {
            uid_validity: UidValidity(uid_validity),
            read_only,
            uid_not_sticky: seen.uid_not_sticky,
            modseq: seen.modseq,
        };
        // An empty mailbox has no `1:*`, and some servers say so by BAD.
        if exists_then > 0 {
            require("UID FETCH", completions.next())?;
            require("UID SEARCH", completions.next())?;
            listed.settle(list_from);
        }
        Ok(listed)
    }

    /// What SELECT told.
    pub fn selected(&self) -> Selected {
        self.selected
    }

    /// How many messages there are, as far as the server has told.
    pub fn exists(&self) -> usize {
        self.client.get_ref().seen_so_far().exists as usize
    }

    /// What the server has told about other messages than new ones, since [`Mailbox::clear_news`].
    pub fn news(&self) -> News {
        let seen = self.client.get_ref().seen_so_far();
        let vanished: u64 = seen.vanished.iter().map(|&(low, high)| u64::from(high - low) + 1).sum();
        News {
            expunged: seen.expunged + vanished,
            flags: seen.flags,
        }
    }

    /// The news were heeded.
    pub fn clear_news(&mut self) {
        let seen = self.client.get_mut().seen();
        (seen.expunged, seen.flags) = (0, false);
        seen.vanished.clear();
    }

    /// UIDs that are gone, as ranges, from a server that says so by UID.
    pub fn take_vanished(&mut self) -> Vec<(u32, u32)> {
        std::mem::take(&mut self.client.get_mut().seen().vanished)
    }

    /// Lets the server tell what is new.
    pub async fn noop(&mut self) -> Result<(), Error> {
        self.run("NOOP", "NOOP").await
    }

    /// UID and size of everything from UID `from` on, and the UIDs that bear `\Deleted`: one round trip.
    pub async fn list(&mut self, from: Uid) -> Result<Listed, Error> {
        let mut listed = Listed::default();
        if self.exists() == 0 {
            return Ok(listed);
        }
        let completions = self.flight(&listing(from), |event| listed.take_event(event)).await?;
        let mut completions = completions.into_iter();
        require("UID FETCH", completions.next())?;
        require("UID SEARCH", completions.next())?;
        listed.settle(from);
        Ok(listed)
    }

    /// The UIDs that exist up to `last`, ascending.
    pub async fn uids(&mut self, last: Uid) -> Result<Vec<Uid>, Error> {
        let mut uids = Vec::new();
        let completions = self
            .flight(&[format!("UID FETCH 1:{last} (UID)")], |event| match event {
                Event::Datum(Datum::Fetch(Fetch { uid: Some(uid), .. })) => uids.push(Uid(uid)),
                Event::Datum(_) | Event::Tagged { .. } => {}
            })
            .await?;
        require("UID FETCH", completions.into_iter().next())?;
        uids.sort_unstable();
        uids.dedup();
        Ok(uids)
    }

    /// Whether the connection can no longer be used.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Starts to fetch `item` of all messages of `set`; read the answer by [`Mailbox::next`] and [`Mailbox::ready`]. Several
    /// may be under way: they are answered one after the other.
    pub async fn fetch(&mut self, set: &UidSet, item: Item) -> Result<(), Error> {
        if self.broken {
            return Err(Error::Lost(std::io::ErrorKind::NotConnected.into()));
        }
        let tag = self.next_tag();
        let what = match item {
            Item::Whole => "BODY.PEEK[]".to_owned(),
            Item::Header => "BODY.PEEK[HEADER]".to_owned(),
            Item::Top(octets) => format!("BODY.PEEK[HEADER] BODY.PEEK[TEXT]<0.{octets}>"),
            Item::Text { origin, octets } => format!("BODY.PEEK[TEXT]<{origin}.{octets}>"),
        };
        let command = format!("{tag} UID FETCH {set} (UID {what})\r\n");
        self.fetches.push_back(tag);
        let sent = self.client.get_mut().send(command.as_bytes()).await;
        self.check(sent)
    }

    /// Whether a fetch of bodies is under way.
    pub fn is_fetching(&self) -> bool {
        !self.fetches.is_empty()
    }

    /// Octets of the current content that were not taken.
    pub fn left(&self) -> u64 {
        self.reading.left
    }

    /// Goes on to the next content, skipping what is left of this one. `Done` ends each fetch.
    /// A NO or BAD ends it as an error; the connection stays usable.
    pub async fn next(&mut self) -> Result<BodyStart, Error> {
        let result = self.advance().await;
        self.check(result)
    }

    /// Waits for octets of the current content. Returns whether there are any: `false` is its end.
    pub async fn ready(&mut self) -> Result<bool, Error> {
        let result = self.have_octets().await;
        self.check(result)?;
        Ok(!self.peek().is_empty())
    }

    /// The octets of the current content that are here.
    pub fn peek(&self) -> &[u8] {
        let source = match &self.reading.inline {
            Some(inline) => &inline[self.reading.lent..],
            None => &self.client.get_ref().buffer()[self.reading.lent..],
        };
        &source[..usize::try_from(self.reading.left)
            .unwrap_or(usize::MAX)
            .min(source.len())]
    }

    /// Takes the first `count` octets that [`Mailbox::peek`] shows.
    pub fn take(&mut self, count: usize) -> &[u8] {
        let from = self.reading.lent;
        self.reading.lent += count;
        self.reading.left -= count as u64;
        match &self.reading.inline {
            Some(inline) => &inline[from..from + count],
            None => &self.client.get_ref().buffer()[from..from + count],
        }
    }

    /// Sets `\Seen`.
    pub async fn mark_seen(&mut self, uids: &[Uid]) -> Result<(), Error> {
        for set in UidSet::cover(uids) {
            self.store(&set, "+FLAGS.SILENT (\\Seen)").await?;
        }
        Ok(())
    }

    /// Removes exactly `uids` (ascending), confirmed by the tagged OK of each command. Returns those that were refused; these
    /// bear no `\Deleted` of ours, as far as the server lets us take it back. An error means that the connection is lost
    /// and that the caller does not know: the same call on a new connection, after UIDVALIDITY was compared, is safe.
    pub async fn remove(&mut self, uids: &[Uid]) -> Result<u64, Error> {
        let mut failed = 0;
        if self.capabilities.uid_plus {
            for set in UidSet::cover(uids) {
                let mut removed = self.store(&set, "+FLAGS.SILENT (\\Deleted)").await;
                if removed.is_ok() {
                    removed = self.run("UID EXPUNGE", &format!("UID EXPUNGE {set}")).await;
                }
                failed += self.taken_back(removed, std::slice::from_ref(&set)).await?;
            }
        } else {
            let sets = UidSet::cover(uids);
            let removed = self.expunge_only(uids, &sets).await;
            failed += self.taken_back(removed, &sets).await?;
        }
        Ok(failed)
    }

    /// Without UIDPLUS only plain EXPUNGE removes, and it removes whatever bears `\Deleted`: what others have marked is
    /// unmarked for that moment and marked again whatever happens.
    async fn expunge_only(&mut self, uids: &[Uid], sets: &[UidSet]) -> Result<(), Error> {
        for set in sets {
            self.store(set, "+FLAGS.SILENT (\\Deleted)").await?;
        }
        let mut marked = self.search_deleted().await?;
        marked.retain(|uid| uids.binary_search(uid).is_err());
        let foreign = UidSet::cover(&marked);
        let mut result = Ok(());
        for set in &foreign {
            result = self.store(set, "-FLAGS.SILENT (\\Deleted)").await;
            if result.is_err() {
                break;
            }
        }
        if result.is_ok() {
            result = self.run("EXPUNGE", "EXPUNGE").await;
        }
        for set in &foreign {
            if let Err(error) = self.store(set, "+FLAGS.SILENT (\\Deleted)").await {
                tracing::warn!(%error, uids = %set, "messages that others had marked \\Deleted are no longer marked");
            }
        }
        result
    }

    /// How many of `sets` a refusal leaves in the mailbox: the marks are taken back, so that the next session shows them.
    async fn taken_back(&mut self, removed: Result<(), Error>, sets: &[UidSet]) -> Result<u64, Error> {
        let Err(error) = removed else { return Ok(0) };
        if self.broken {
            return Err(error);
        }
        let count = sets.iter().map(UidSet::count).sum::<usize>() as u64;
        tracing::warn!(%error, messages = count, "not removed");
        for set in sets {
            if let Err(error) = self.store(set, "-FLAGS.SILENT (\\Deleted)").await {
                if self.broken {
                    return Err(error);
                }
                break;
            }
        }
        Ok(count)
    }

    async fn search_deleted(&mut self) -> Result<Vec<Uid>, Error> {
        let mut listed = Listed::default();
        let completions = self
            .flight(&["UID SEARCH DELETED".to_owned()], |event| listed.take_event(event))
            .await?;
        require("UID SEARCH", completions.into_iter().next())?;
        listed.settle(Uid(1));
        Ok(listed.deleted)
    }

    async fn store(&mut self, set: &UidSet, change: &str) -> Result<(), Error> {
        self.run("UID STORE", &format!("UID STORE {set} {change}")).await
    }

    /// Says good-bye. The server's answer is awaited, so that it has taken note, but does not matter.
    pub async fn logout(mut self) {
        if self.settle().await.is_ok() {
            let _ = self.run("LOGOUT", "LOGOUT").await;
        }
    }

    async fn run(&mut self, name: &'static str, command: &str) -> Result<(), Error> {
        self.settle().await?;
        self.broken = true;
        let result = connect::run(&mut self.client, name, command).await;
        self.broken = false;
        self.client.get_mut().rest();
        self.check(result)
    }

    /// Makes the connection ready to wait without a task of its own; one that has been closed is broken.
    pub fn detach(&mut self) {
        self.broken |= !self.client.get_mut().detach();
    }

    /// Leaves the connection to die with what is under way on it.
    pub fn give_up(&mut self) {
        self.broken = true;
    }

    /// Ends a fetch under way, dropping what still comes of it.
    pub async fn settle(&mut self) -> Result<(), Error> {
        if self.broken {
            return Err(Error::Lost(std::io::ErrorKind::NotConnected.into()));
        }
        while self.is_fetching() {
            match self.next().await {
                Ok(_) => {}
                Err(error) if self.broken => return Err(error),
                Err(error) => tracing::debug!(%error, "fetch ended"),
            }
        }
        Ok(())
    }

    /// The same as far as the answer is here already.
    pub async fn settle_at_once(&mut self) {
        let mut settle = std::pin::pin!(self.settle());
        std::future::poll_fn(|cx| {
            // An error is met again by whoever uses the mailbox next.
            let _ = settle.as_mut().poll(cx);
            Poll::Ready(())
        })
        .await;
    }

    fn check<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        self.broken |= matches!(&result, Err(error) if !matches!(error, Error::Refused { .. }));
        result
    }

    fn next_tag(&mut self) -> String {
        self.tags = self.tags.wrapping_add(1);
        format!("P{}", self.tags)
    }

    async fn advance(&mut self) -> Result<BodyStart, Error> {
        let (wire, reading) = (self.client.get_mut(), &mut self.reading);
        let lent = std::mem::take(&mut reading.lent);
        if reading.inline.take().is_some() {
            reading.left = 0;
        } else {
            wire.consume(lent);
        }
        loop {
            let Some(tag) = self.fetches.front() else {
                return Ok(BodyStart::Done);
            };
            while reading.left > 0 {
                if wire.buffer().is_empty() {
                    wire.fill().await?;
                }
                let count = usize::try_from(reading.left)
                    .unwrap_or(usize::MAX)
                    .min(wire.buffer().len());
                wire.consume(count);
                reading.left -= count as u64;
            }
            let span = wire.next_response().await?;
            let line = &wire.buffer()[..span.line];
            let (mut response, segment) = match reading.response.take() {
                Some(response) => (response, line),
                None => match Line::parse(line) {
                    Line::Tagged(of, status) if of == tag.as_bytes() => {
                        let completion = status.to_completion();
                        wire.consume(span.total);
                        self.fetches.pop_front();
                        if self.fetches.is_empty() {
                            wire.rest();
                        }
                        return require("UID FETCH", Some(completion)).map(|()| BodyStart::Done);
                    }
                    Line::Untagged(data) => match fetch::data(data) {
                        Some(segment) => (Fetch::default(), segment),
                        None => {
                            wire.note(span)?;
                            continue;
                        }
                    },
                    Line::Tagged(..) | Line::Continue | Line::Other => {
                        wire.consume(span.total);
                        continue;
                    }
                },
            };
            let head = span.line - segment.len();
            let step = response.parse(segment).map_err(|_| Error::Protocol("FETCH data"))?;
            let uid = response.uid.map(Uid);
            let (section, octets) = match step {
                Step::End => {
                    wire.consume(span.total);
                    wire.seen().flags |= response.deleted.is_some();
                    return Ok(BodyStart::End(uid));
                }
                Step::Literal(section, octets) => {
                    wire.consume(span.total);
                    reading.left = octets;
                    (section, Some(octets))
                }
                Step::Inline { section, content, rest } => {
                    wire.consume(head + rest);
                    let octets = content.as_ref().map(|content| content.len() as u64);
                    reading.left = octets.unwrap_or(0);
                    reading.inline = Some(Bytes::from(content.unwrap_or_default()));
                    (section, octets)
                }
            };
            reading.response = Some(response);
            if section != Section::Other {
                return Ok(BodyStart::Content {
                    uid,
                    is_text: section == Section::Text,
                    octets,
                });
            }
            if reading.inline.take().is_some() {
                reading.left = 0;
            }
        }
    }

    async fn have_octets(&mut self) -> Result<(), Error> {
        let (wire, reading) = (self.client.get_mut(), &mut self.reading);
        let lent = std::mem::take(&mut reading.lent);
        match &mut reading.inline {
            Some(inline) => inline.advance(lent),
            None => {
                wire.consume(lent);
                if reading.left > 0 && wire.buffer().is_empty() {
                    wire.fill().await?;
                }
            }
        }
        Ok(())
    }

    /// Sends `commands` in one piece and reads until the last is complete. Data and completions go to `take` as they come.
    async fn flight(&mut self, commands: &[String], mut take: impl FnMut(Event<'_>)) -> Result<Vec<Completion>, Error> {
        self.settle().await?;
        self.broken = true;
        let mut text = String::new();
        let mut tags = Vec::with_capacity(commands.len());
        for command in commands {
            let tag = self.next_tag();
            text.extend([&tag, " ", command, "\r\n"]);
            tags.push(tag);
        }
        let wire = self.client.get_mut();
        wire.send(text.as_bytes()).await?;
        let mut completions: Vec<Completion> = Vec::with_capacity(tags.len());
        let mut in_search = false;
        while completions.len() < tags.len() {
            let Some(span) = wire.buffered_response()? else {
                // One SEARCH line names every message that is found: it is taken as it comes.
                let head = if in_search { Some(0) } else { search_head(wire.buffer()) };
                if let Some(head) = head
                    && let Some(end) = memchr::memrchr(b' ', &wire.buffer()[head..])
                {
                    found(&wire.buffer()[head..head + end], |uid| {
                        take(Event::Datum(Datum::Found(uid)))
                    });
                    wire.consume(head + end + 1);
                    in_search = true;
                }
                wire.fill().await?;
                continue;
            };
            let exists = wire.seen().exists;
            let line = &wire.buffer()[..span.line];
            if let Some(head) = if in_search { Some(0) } else { search_head(line) } {
                found(&line[head..], |uid| take(Event::Datum(Datum::Found(uid))));
                in_search = false;
                wire.consume(span.total);
                continue;
            }
            match Line::parse(line) {
                Line::Tagged(tag, status) => {
                    let index = completions.len();
                    if tags.get(index).is_some_and(|next| next.as_bytes() == tag) {
                        take(Event::Tagged {
                            index,
                            status: &status,
                            exists,
                        });
                        completions.push(status.to_completion());
                    }
                    wire.consume(span.total);
                }
                Line::Untagged(data) => match fetch::data(data) {
                    Some(segment) => {
                        let mut fetch = Fetch::default();
                        let step = fetch.parse(segment).map_err(|_| Error::Protocol("FETCH data"))?;
                        wire.consume(span.total);
                        if let Step::Literal(_, octets) = step {
                            wire.skip_literal(octets);
                        }
                        wire.seen().flags |= fetch.deleted.is_some();
                        take(Event::Datum(Datum::Fetch(fetch)));
                    }
                    None => wire.note(span)?,
                },
                Line::Continue | Line::Other => wire.consume(span.total),
            }
        }
        wire.rest();
        self.broken = false;
        Ok(completions)
    }
}

/// The length of `* SEARCH ` where a response starts with it.
fn search_head(response: &[u8]) -> Option<usize> {
    const HEAD: &[u8] = b"* SEARCH ";
    response
        .get(..HEAD.len())
        .is_some_and(|head| head.eq_ignore_ascii_case(HEAD))
        .then_some(HEAD.len())
}

fn found(numbers: &[u8], mut take: impl FnMut(Uid)) {
    let mut words = numbers.split(|&b| b == b' ').filter(|word| !word.is_empty());
    // `SEARCH 2 5 (MODSEQ 9)` (RFC 7162 §3.1.5): what follows the numbers is not one.
    while let Some(uid) = words.next().and_then(response::number) {
        take(Uid(uid));
    }
}
