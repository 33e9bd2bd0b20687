//! Selects a mailbox on an authenticated connection, and lists what it holds: in one flight of commands, or in as many
//! as the server needs.

use super::{
    connect::{Connection, UpstreamLogin},
    error::Error,
    listing::{Listed, Wanted, listing},
    mailbox::{Attributes, Mailbox, Selected, require},
    quirks::{Pipelining, smaller_portion},
    reader::Expect,
    utf7::NameEncoding,
};
use crate::types::{Uid, UidValidity};

/// What is known of a mailbox from an earlier connection, for QRESYNC (RFC 7162 §3.2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resync {
    /// UIDVALIDITY at that time.
    pub uid_validity: UidValidity,
    /// HIGHESTMODSEQ at that time.
    pub modseq: u64,
}

/// What to select, and what to list of it.
#[derive(Debug, Clone, Copy)]
pub struct Selection<'a> {
    /// The folder, as the configuration calls it (UTF-8).
    pub folder: &'a str,
    /// UID from which on messages are listed.
    pub from: Uid,
    /// What to list of each message besides UID and size.
    pub wanted: Wanted,
    /// What was known earlier: a server with QRESYNC reports which messages have vanished since. See
    /// [`Mailbox::take_vanished`].
    pub resync: Option<Resync>,
}

impl Connection {
    /// Selects a folder and, in the same flight, lists its messages (UID, size and what is wanted) and the UIDs that
    /// bear `\Deleted`: one round trip. If the server closes the connection meanwhile, `login` opens new ones, and each
    /// command on them asks for less. What was listed already is kept.
    pub async fn select(self, selection: Selection<'_>, login: UpstreamLogin<'_>) -> Result<(Mailbox, Listed), Error> {
        let mut connection = self;
        let quirks = connection.quirks.clone();
        let mut progress = SelectProgress {
            selection,
            listed: Listed::new(selection.wanted),
            uid_validity: None,
            portion: quirks.portion().filter(|_| selection.from == Uid(1)),
            exists: 0,
        };
        let mut hang_ups = 0;
        loop {
            let pipelining = quirks.pipelining();
            let error = match progress.try_on(connection).await {
                Ok(mailbox) => {
                    // A single lost connection may have been a network failure.
                    if let Some(portion) = progress.portion
                        && (hang_ups > 1 || (hang_ups == 1 && portion >= SURE_PORTION))
                    {
                        quirks.set_portion(portion);
                    }
                    return Ok((mailbox, progress.listed));
                }
                Err(error) => error,
            };
            let is_suspect = quirks.pipelining() == Pipelining::Suspect && pipelining != Pipelining::Suspect;
            let hung_up = (error.is_lost() || matches!(error, Error::Silent(_))) && !error.asks_for_a_pause();
            let smaller = smaller_portion(progress.portion, progress.listed.left(progress.exists));
            match smaller.filter(|_| hung_up) {
                _ if is_suspect => tracing::debug!(%error, "trying one command at a time"),
                Some(portion) => {
                    tracing::info!(%error, portion, "the upstream hangs up on a long listing: asking for less at once");
                    hang_ups += 1;
                    progress.portion = Some(portion);
                }
                None => return Err(error),
            }
            // Boxed, so that the future of each login does not hold room for this one, which is seldom needed.
            connection = Box::pin(login.connect()).await?;
        }
    }
}

/// If the server hung up only once, the listing's length is taken as the cause only if portions of at least this many
/// messages work afterwards.
const SURE_PORTION: u32 = 250;

/// How far one selection has come. It may take several connections.
struct SelectProgress<'a> {
    selection: Selection<'a>,
    listed: Listed,
    /// The UIDVALIDITY that the rows in `listed` belong to.
    uid_validity: Option<UidValidity>,
    /// How many messages to list by one command; `None`: all of them.
    portion: Option<u32>,
    /// How many messages there are, as far as the server has said.
    exists: usize,
}

impl SelectProgress<'_> {
    async fn try_on(&mut self, connection: Connection) -> Result<Mailbox, Error> {
        let (mut mailbox, options) = Mailbox::unselected(connection);
        let mut before = options.before;
        if !mailbox.knows_name_of(self.selection.folder) {
            let prelude = std::mem::take(&mut before);
            mailbox.run_before(&prelude).await?;
        }
        let mut names = mailbox
            .names_on_server(self.selection.folder)
            .await?
            .into_iter()
            .peekable();
        while let Some(name) = names.next() {
            let flight = SelectFlight {
                name: &name,
                before: std::mem::take(&mut before),
                compress: options.compress && names.peek().is_none(),
            };
            let resync = self
                .selection
                .resync
                .filter(|_| options.resync && mailbox.capabilities.qresync);
            match self.select(&mut mailbox, flight, resync).await {
                // The configuration may have the name in the server's own form.
                Err(error) if error.is_no_such_folder() && names.peek().is_some() => {}
                selected => return selected.map(|()| mailbox),
            }
        }
        Err(Error::Protocol("a folder without a name"))
    }

    async fn select(
        &mut self,
        mailbox: &mut Mailbox,
        flight: SelectFlight<'_>,
        resync: Option<Resync>,
    ) -> Result<(), Error> {
        let plain = format!("SELECT {}", mailbox.encoding.quoted(flight.name));
        let Some(Resync { uid_validity, modseq }) = resync else {
            return self.select_by(mailbox, &flight, &[], &plain).await;
        };
        let with_resync = format!("{plain} (QRESYNC ({uid_validity} {modseq}))");
        let enable = ["ENABLE QRESYNC".to_owned()];
        match self.select_by(mailbox, &flight, &enable, &with_resync).await {
            // Some servers offer QRESYNC and refuse it.
            Err(Error::Refused { .. }) => {
                let again = SelectFlight {
                    before: Vec::new(),
                    compress: false,
                    ..flight
                };
                self.select_by(mailbox, &again, &[], &plain).await
            }
            selected => selected,
        }
    }

    /// Sends `flight.before`, SELECT and the listing in one flight.
    async fn select_by(
        &mut self,
        mailbox: &mut Mailbox,
        flight: &SelectFlight<'_>,
        enable: &[String],
        select: &str,
    ) -> Result<(), Error> {
        let has_search = mailbox.quirks.has_search();
        let mut commands = [&flight.before, enable].concat();
        let at = commands.len();
        commands.push(select.to_owned());
        if self.portion.is_none() {
            commands.extend(listing(self.selection.from, self.selection.wanted, has_search));
        }
        // COMPRESS comes last: nothing may be sent after it until its answer has come (RFC 4978 §3).
        commands.extend(flight.compress.then(|| "COMPRESS DEFLATE".to_owned()));
        mailbox.link.news().begin_mailbox();
        let listed = &mut self.listed;
        let flown = mailbox
            .flight(&commands, Listed::expect(has_search), |event| listed.take(event))
            .await;
        let completions = match flown {
            Ok(completions) => completions,
            Err(error) => {
                // What the server has said of the mailbox before it hung up.
                self.exists = mailbox.exists();
                self.uid_validity = self.uid_validity.or(mailbox.link.news().uid_validity);
                return Err(error);
            }
        };
        require("SELECT", completions.get(at))?;
        if flight.compress
            && let Some(completion) = completions.last().filter(|completion| !completion.is_ok())
        {
            // If the server refuses, the connection stays uncompressed.
            tracing::debug!(%completion, "uncompressed");
        }
        let is_read_only = completions[at].has_code("READ-ONLY");
        mailbox.note_selected(flight.name, is_read_only)?;
        let uid_validity = mailbox.selected().uid_validity;
        if self.uid_validity.is_some_and(|before| before != uid_validity) {
            self.listed.clear();
        }
        self.uid_validity = Some(uid_validity);
        self.exists = mailbox.exists();
        if self.exists == 0 {
            self.listed.finish(self.selection.from);
            return Ok(());
        }
        if let Some(portion) = self.portion {
            return mailbox
                .list_in_portions(&mut self.listed, self.selection.from, portion)
                .await;
        }
        let listing = &completions[at + 1..at + 3];
        mailbox
            .end_listing(&mut self.listed, self.selection.from, listing, has_search)
            .await
    }
}

/// One SELECT, and what is sent along with it.
struct SelectFlight<'a> {
    /// The folder's name on the server.
    name: &'a str,
    /// The commands that go first.
    before: Vec<String>,
    /// Whether to send COMPRESS along with it.
    compress: bool,
}

/// What is still to be sent when a connection becomes a mailbox.
struct Options {
    before: Vec<String>,
    compress: bool,
    resync: bool,
}

impl Mailbox {
    /// Selects the same folder again, so that the server counts its messages anew. NOOP goes first, so that the server
    /// can report the changes that it has not reported yet.
    pub async fn select_again(&mut self) -> Result<(), Error> {
        let select = format!("SELECT {}", self.encoding.quoted(&self.folder));
        self.link.news().begin_mailbox();
        let commands = ["NOOP".to_owned(), select];
        let completions = self.flight(&commands, Expect::default(), |_| {}).await?;
        require("SELECT", completions.get(1))?;
        let name = std::mem::take(&mut self.folder);
        self.note_selected(&name, completions[1].has_code("READ-ONLY"))
    }

    /// Selects the folder again if the server is of the old kind (see [`Mailbox::is_old`]). If UIDVALIDITY has changed,
    /// the connection is given up: UIDs mean other messages now.
    pub async fn refresh_if_old(&mut self) -> Result<(), Error> {
        if !self.is_old() {
            return Ok(());
        }
        let before = self.selected().uid_validity;
        let gone = self.changes().expunged;
        self.select_again().await?;
        self.link.news().expunged += gone;
        if self.selected().uid_validity != before {
            self.give_up();
            return Err(Error::Lost(std::io::ErrorKind::NotConnected.into()));
        }
        Ok(())
    }

    fn unselected(connection: Connection) -> (Self, Options) {
        let capabilities = connection.capabilities;
        let encoding = if capabilities.utf8_only || capabilities.rev2_only {
            NameEncoding::Utf8
        } else {
            NameEncoding::ModifiedUtf7
        };
        let mut before = Vec::new();
        if !connection.sent_after_login {
            before.push("CAPABILITY".to_owned());
        }
        if capabilities.id {
            // Some servers refuse SELECT to a client that has not sent ID.
            before.push(format!(
                "ID (\"name\" \"popgate\" \"version\" \"{}\")",
                env!("CARGO_PKG_VERSION")
            ));
        }
        if capabilities.utf8_only {
            before.push("ENABLE UTF8=ACCEPT".to_owned());
        }
        let options = Options {
            before,
            compress: connection.compress,
            resync: connection.resync,
        };
        let mailbox = Self {
            link: connection.link,
            capabilities,
            quirks: connection.quirks,
            encoding,
            namespaces: connection.namespaces,
            selected: Selected {
                uid_validity: UidValidity::of_server(0),
                read_only: false,
                uid_not_sticky: false,
                modseq: None,
            },
            folder: String::new(),
            attributes: Attributes::default(),
        };
        (mailbox, options)
    }

    /// Runs commands that must come before anything else. Nothing depends on whether the server accepts them.
    async fn run_before(&mut self, commands: &[String]) -> Result<(), Error> {
        if !commands.is_empty() {
            self.flight(commands, Expect::default(), |_| {}).await?;
        }
        self.note_capabilities();
        Ok(())
    }

    fn note_capabilities(&mut self) {
        if let Some(sent) = self.link.news().capabilities.take() {
            self.capabilities = sent;
        }
    }

    fn note_selected(&mut self, name: &str, read_only: bool) -> Result<(), Error> {
        self.note_capabilities();
        let news = self.link.news();
        self.selected = Selected {
            uid_validity: news.uid_validity.ok_or(Error::NoUidValidity)?,
            read_only,
            uid_not_sticky: news.uid_not_sticky,
            modseq: news.modseq,
        };
        name.clone_into(&mut self.folder);
        Ok(())
    }
}
