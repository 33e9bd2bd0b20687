//! A selected mailbox on one authenticated connection. Every command is checked to its tagged status; a connection whose
//! command was cut short is broken and refuses all others.

use std::{collections::VecDeque, num::NonZeroU32};

use super::{
    bodies::Reading,
    capability::Capabilities,
    connect::Connection,
    error::Error,
    flight::{Event, Listed, Wanted, listing, require},
    response::Line,
    uid::{Uid, UidValidity},
    utf7::Names,
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

/// What a server tells unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct News {
    /// So many messages are gone.
    pub expunged: u64,
    /// Flags of some have changed.
    pub flags: bool,
}

/// A selected mailbox.
#[derive(Debug)]
pub struct Mailbox {
    pub(super) wire: Wire,
    pub(super) capabilities: Capabilities,
    selected: Selected,
    tags: u32,
    /// Tags of the fetches of bodies under way, in the order in which the server will complete them.
    pub(super) fetches: VecDeque<String>,
    pub(super) reading: Reading,
    pub(super) broken: bool,
    /// COMPRESS is to be asked for.
    compress: bool,
    pub(super) names: Names,
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
    /// Selects `folder` (UTF-8), and asks for UID, size and what is `wanted` of everything from UID `list_from` on and for the
    /// UIDs that bear `\Deleted` in the same flight: one round trip. Where `resync` is given and the server can, it also tells what
    /// vanished since: see [`Mailbox::take_vanished`].
    pub async fn select(
        self,
        folder: &str,
        list_from: Uid,
        wanted: Wanted,
        resync: Option<Resync>,
    ) -> Result<(Mailbox, Listed), Error> {
        let capabilities = self.capabilities;
        let names = match capabilities.utf8_only {
            true => Names::Utf8,
            false => Names::ModifiedUtf7,
        };
        let mut mailbox = Mailbox {
            // async-imap would go on holding 4 KB for answers, and is done: commands go out in flights from here on.
            wire: self.client.into_inner(),
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
            compress: self.compress,
            names,
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
        if names == Names::Utf8 {
            before.push("ENABLE UTF8=ACCEPT".to_owned());
        }
        let plain = format!("SELECT {}", names.quoted(folder));
        let can_resync = self.resync && capabilities.qresync;
        if let Some(Resync { uid_validity, modseq }) = resync.filter(|_| can_resync) {
            let enable = [before.as_slice(), &["ENABLE QRESYNC".to_owned()]].concat();
            let select = format!("{plain} (QRESYNC ({uid_validity} {modseq}))");
            match mailbox.select(enable, select, list_from, wanted).await {
                // QRESYNC is not what it should be everywhere it is offered.
                Err(Error::Refused { .. }) => {}
                result => return result.map(|listed| (mailbox, listed)),
            }
        }
        let listed = mailbox.select(before, plain, list_from, wanted).await?;
        Ok((mailbox, listed))
    }
}

impl Mailbox {
    /// Sends the commands `before` and `select`, and what lists from `list_from` on, in one flight.
    async fn select(
        &mut self,
        before: Vec<String>,
        select: String,
        list_from: Uid,
        wanted: Wanted,
    ) -> Result<Listed, Error> {
        let at = before.len();
        let mut commands = before;
        commands.push(select);
        commands.extend(listing(list_from, wanted));
        // The last: nothing may follow before its answer has come (RFC 4978 §3).
        let compress = std::mem::take(&mut self.compress);
        commands.extend(compress.then(|| "COMPRESS DEFLATE".to_owned()));
        let mut listed = Listed::new(wanted);
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
        if compress {
            // A server that refuses goes on as before.
            match require("COMPRESS", completions.last().cloned()) {
                Ok(()) => self.wire.compress(),
                Err(error) => tracing::debug!(%error, "uncompressed"),
            }
        }
        let mut completions = completions.into_iter().skip(at);
        require("SELECT", completions.next())?;
        let seen = self.wire.seen();
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
        self.wire.seen_so_far().exists as usize
    }

    /// What the server has told about other messages than new ones, since [`Mailbox::clear_news`].
    pub fn news(&self) -> News {
        let seen = self.wire.seen_so_far();
        let vanished: u64 = seen.vanished.iter().map(|&(low, high)| u64::from(high - low) + 1).sum();
        News {
            expunged: seen.expunged + vanished,
            flags: seen.flags,
        }
    }

    /// The news were heeded.
    pub fn clear_news(&mut self) {
        let seen = self.wire.seen();
        (seen.expunged, seen.flags) = (0, false);
        seen.vanished.clear();
    }

    /// UIDs that are gone, as ranges, from a server that says so by UID.
    pub fn take_vanished(&mut self) -> Vec<(u32, u32)> {
        std::mem::take(&mut self.wire.seen().vanished)
    }

    /// `MOVE` (RFC 6851)
    pub fn has_move(&self) -> bool {
        self.capabilities.moves
    }

    /// `OBJECTID` (RFC 8474)
    pub fn has_object_id(&self) -> bool {
        self.capabilities.object_id
    }

    /// Lets the server tell what is new.
    pub async fn noop(&mut self) -> Result<(), Error> {
        self.run("NOOP", "NOOP").await
    }

    /// Whether the connection can no longer be used.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Says good-bye. The server's answer is awaited, so that it has taken note, but does not matter.
    pub async fn logout(mut self) {
        self.hang_up().await;
    }

    /// The same for a mailbox that is kept until a new connection takes its place.
    pub async fn hang_up(&mut self) {
        if self.settle().await.is_ok() {
            let _ = self.say_logout().await;
        }
        self.broken = true;
    }

    /// BYE comes before the completion (RFC 3501 §6.1.3) and is no error here.
    async fn say_logout(&mut self) -> Result<(), Error> {
        let tag = self.next_tag();
        self.wire.send(format!("{tag} LOGOUT\r\n").as_bytes()).await?;
        loop {
            let span = self.wire.next_response().await?;
            if matches!(Line::parse(&self.wire.buffer()[..span.line]), Line::Tagged(of, _) if of == tag.as_bytes()) {
                return Ok(());
            }
            self.wire.consume(span.total);
        }
    }

    /// Runs one command of which only the completion matters.
    pub(super) async fn run(&mut self, name: &'static str, command: &str) -> Result<(), Error> {
        let completions = self.flight(&[command], |_| {}).await?;
        self.check(require(name, completions.into_iter().next()))
    }

    /// Makes the connection ready to wait without a task of its own; one that has been closed is broken.
    pub fn detach(&mut self) {
        self.broken |= !self.wire.detach();
    }

    pub(super) fn check<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        self.broken |= matches!(&result, Err(error) if !matches!(error, Error::Refused { .. }));
        result
    }

    pub(super) fn next_tag(&mut self) -> String {
        self.tags = self.tags.wrapping_add(1);
        format!("P{}", self.tags)
    }
}
