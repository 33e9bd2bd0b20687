//! Reads what a server sends: octets of a [`Frame`] in, [`Event`]s out. This is the only place that dispatches
//! responses. It has no socket and no clock.
//!
//! Completions are matched by their tags, in any order. A FETCH response that cannot be parsed is dropped and counted,
//! and the responses after it are read as usual. Everything that a server could repeat without end counts against one
//! bound. So no server can make the gateway hold more, or work longer, than the size of its mailbox justifies.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{
    error::Error,
    fetch::{self, Fetch, ParseStop, Section},
    frame::{Frame, MAX_UNWANTED, Span},
    news::News,
    response::{Completion, ResponseLine, Status},
    token,
};
use crate::{telemetry::trace, types::Uid};

/// The most messages of one mailbox, which take 8 bytes of memory each while they are listed. If a server says that it
/// has more, the bound does not grow further.
const MAX_MESSAGES: u64 = 1 << 20;
/// How many items the commands in flight may bring besides those that the size of the mailbox justifies.
const SLACK: u64 = 10_000;
/// How often the commands in flight may name each message: in a row of a listing, in a search result, in news about
/// flags.
const PER_MESSAGE: u64 = 3;
/// The most octets of a literal in a response that is collected: it is hardly more than the name of a folder.
const MAX_COLLECTED_LITERAL: u64 = 64 * 1024;
/// The most octets of all responses that are collected for one command: more than the folders of any user take.
const MAX_COLLECTED: usize = 16 * 1024 * 1024;
/// The most responses that are collected for one command.
const MAX_RESPONSES: usize = 100_000;
/// How many octets at the end of a content are kept, to find the completion of the command in them.
const TAIL: usize = 512;

/// The number of a command, by which its completion is recognised. Numbers ascend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommandId(pub u32);

/// Something that a server says, and that a command or its caller waits for.
#[derive(Debug)]
pub enum Event {
    /// `+ …`: the server waits for more of a command. Holds the text after the plus.
    Continue(Vec<u8>),
    /// An untagged OK, NO, BAD, BYE or PREAUTH, if those are expected.
    Status(Completion),
    /// A command is complete.
    Tagged(CommandId, Completion),
    /// The content of a section begins; its octets come from [`Reader::content`].
    Content {
        /// The message, if the server has sent its UID already (some servers send UID last).
        uid: Option<Uid>,
        /// Which part of the message the content is.
        section: Section,
        /// How many octets the content has; `None` for NIL.
        octets: Option<u64>,
    },
    /// The FETCH response of one message is complete.
    Fetch(Fetch),
    /// SEARCH or ESEARCH has found the UIDs from the first to the second, both included.
    Found(Uid, Uid),
    /// A whole response of the expected name, with its literals and the line ends before them.
    Data(Vec<u8>),
}

/// What the commands in flight are expected to bring besides their completions.
#[derive(Debug, Clone, Copy, Default)]
pub struct Expect {
    /// Untagged responses that begin with this word are collected.
    pub data: Option<&'static str>,
    /// Untagged status responses are returned as events.
    pub status: bool,
    /// A completion may follow BYE, as it does for LOGOUT. If this is not set, BYE is an error at once.
    pub after_bye: bool,
    /// FLAGS were asked for, so they do not count as changed flags.
    pub flags: bool,
    /// Contents of messages were asked for. If this is not set, they are dropped.
    pub content: bool,
}

/// The reader of one connection.
#[derive(Debug, Default)]
pub struct Reader {
    news: News,
    in_flight: VecDeque<(CommandId, String)>,
    expect: Expect,
    state: State,
    content: Content,
    /// How many items count against the bound. The count begins anew when a command is sent while none is in flight.
    items: u64,
    /// The most messages that the mailbox has had since the count began.
    most: u32,
    /// How many octets of responses were collected since the count began.
    collected: usize,
    /// How many responses were collected since the count began.
    responses: usize,
    /// How many FETCH responses were dropped because they could not be parsed.
    spoiled: u32,
    /// Whether a login is under way: what the server says may repeat a secret that was sent.
    is_login: bool,
}

/// The position in what the server sends.
#[derive(Debug, Default)]
enum State {
    /// At the start of a response.
    #[default]
    Start,
    /// In a FETCH response, after a content. The flag says whether the caller was given a content of this response.
    Fetch(Fetch, bool),
    /// In the numbers of a SEARCH response.
    Search,
    /// In an ESEARCH response, before a name.
    ExtendedSearch,
    /// In the set of an ESEARCH response. The flag says whether a member must follow: after ALL, and after a comma.
    Set(bool),
    /// In a response that is collected: the octets so far, and the position at which its last line begins.
    Data(Vec<u8>, usize),
}

/// The content under way.
#[derive(Debug, Default)]
struct Content {
    /// How many octets were not taken yet.
    left: u64,
    /// The content, if it came as a quoted string; else it is in the frame.
    inline: Option<Bytes>,
    /// How many octets were taken and are still borrowed by the caller. Its next call frees them.
    lent: usize,
    /// The last octets that were consumed.
    tail: Vec<u8>,
}

impl Reader {
    /// What the server has said besides the answers to commands.
    pub fn news(&mut self) -> &mut News {
        &mut self.news
    }

    /// What the server has said besides the answers to commands, read-only.
    pub fn news_so_far(&self) -> &News {
        &self.news
    }

    /// Expects the completion of a command that is about to be sent under `tag`.
    pub fn expect_completion(&mut self, id: CommandId, tag: String) {
        if self.in_flight.is_empty() {
            self.items = 0;
            (self.collected, self.responses) = (0, 0);
            self.most = self.news.exists;
        }
        self.in_flight.push_back((id, tag));
    }

    /// Says whether a login is under way. A trace shows less meanwhile.
    pub fn set_login(&mut self, is_login: bool) {
        self.is_login = is_login;
    }

    /// Sets what the commands in flight bring besides their completions, from now on.
    pub fn expect(&mut self, expect: Expect) {
        self.expect = expect;
    }

    /// Whether any command has no completion yet.
    pub fn is_waiting(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// How many FETCH responses were dropped because they could not be parsed, since the last call.
    pub fn take_spoiled(&mut self) -> u32 {
        std::mem::take(&mut self.spoiled)
    }

    /// How many octets of the current content have not been taken yet.
    pub fn left(&self) -> u64 {
        self.content.left
    }

    /// Whether the server has already sent the UID of the message whose content this is.
    pub fn has_uid(&self) -> bool {
        matches!(&self.state, State::Fetch(fetch, _) if fetch.uid.is_some())
    }

    /// The octets of the current content that have been received and not taken.
    pub fn content<'a>(&'a self, frame: &'a Frame) -> &'a [u8] {
        let here = match &self.content.inline {
            Some(inline) => &inline[self.content.lent..],
            None => &frame.octets()[self.content.lent..],
        };
        &here[..usize::try_from(self.content.left).unwrap_or(usize::MAX).min(here.len())]
    }

    /// Takes the first `count` octets that [`Reader::content`] shows. They stay valid until this reader is called
    /// again.
    pub fn take<'a>(&'a mut self, frame: &'a Frame, count: usize) -> &'a [u8] {
        let from = self.content.lent;
        self.content.lent += count;
        self.content.left -= count as u64;
        match &self.content.inline {
            Some(inline) => &inline[from..from + count],
            None => &frame.octets()[from..from + count],
        }
    }

    /// Frees what was taken. Returns whether more octets of the content must be received first.
    pub fn needs_content(&mut self, frame: &mut Frame) -> bool {
        self.give_back(frame);
        self.content.left > 0 && self.content.inline.is_none() && frame.octets().is_empty()
    }

    fn give_back(&mut self, frame: &mut Frame) {
        let lent = std::mem::take(&mut self.content.lent);
        if lent == 0 {
            return;
        }
        match &mut self.content.inline {
            Some(inline) => drop(inline.split_to(lent)),
            None => {
                self.content.keep_tail(&frame.octets()[..lent]);
                frame.consume(lent);
            }
        }
    }

    /// Drops what has been received of the current content; returns whether that was all of it.
    fn drop_content(&mut self, frame: &mut Frame) -> bool {
        self.give_back(frame);
        if self.content.inline.take().is_some() {
            self.content.left = 0;
        }
        if self.content.left > 0 {
            let here = frame.octets().len();
            let count = usize::try_from(self.content.left).unwrap_or(usize::MAX).min(here);
            self.content.keep_tail(&frame.octets()[..count]);
            frame.consume(count);
            self.content.left -= count as u64;
        }
        self.content.left == 0
    }

    /// Whether the content under way is shorter than the server announced: then its last octets contain the completion
    /// of a command in flight. Call this only once the server sends nothing more.
    pub fn has_ended_early(&self, frame: &Frame) -> bool {
        if self.content.left == 0 || self.content.inline.is_some() {
            return false;
        }
        let tail = [self.content.tail.as_slice(), frame.octets()].concat();
        let Some(lines) = tail.strip_suffix(b"\n") else {
            return false;
        };
        lines.split(|&octet| octet == b'\n').any(|line| {
            let is_in_flight = |tag: &[u8]| self.in_flight.iter().any(|(_, of)| of.as_bytes() == tag);
            matches!(ResponseLine::parse(line.trim_ascii_end()), ResponseLine::Tagged(tag, _) if is_in_flight(tag))
        })
    }

    /// The next event; `None` if more octets must be received first. The rest of the current content is dropped.
    ///
    /// An error ends the conversation: what comes after it can't be understood.
    pub fn next(&mut self, frame: &mut Frame) -> Result<Option<Event>, Error> {
        loop {
            if !self.drop_content(frame) {
                return Ok(None);
            }
            let step = match std::mem::take(&mut self.state) {
                State::Start => self.start(frame)?,
                State::Fetch(fetch, was_wanted) => self.go_on_with_fetch(frame, fetch, was_wanted)?,
                State::Search => self.search(frame)?,
                State::ExtendedSearch => self.extended_search(frame)?,
                State::Set(needs_member) => self.set(frame, needs_member)?,
                State::Data(data, line) => self.collect(frame, data, line)?,
            };
            match step {
                Progress::Event(event) => return Ok(Some(event)),
                Progress::Starved => return Ok(None),
                Progress::Silent => {}
            }
        }
    }

    fn start(&mut self, frame: &mut Frame) -> Result<Progress, Error> {
        if !frame.drop_unwanted()? {
            return Ok(Progress::Starved);
        }
        if let Some(state) = self.search_head(frame)? {
            self.state = state;
            return Ok(Progress::Silent);
        }
        let Some(span) = next_line(frame, self.is_login)? else {
            return Ok(Progress::Starved);
        };
        let line = &frame.octets()[..span.line];
        match ResponseLine::parse(line) {
            ResponseLine::Continue(text) => {
                let text = text.to_vec();
                frame.consume(span.total);
                self.count(1)?;
                Ok(Progress::Event(Event::Continue(text)))
            }
            ResponseLine::Tagged(tag, status) => {
                let at = self.in_flight.iter().position(|(_, of)| of.as_bytes() == tag);
                let completion = status.to_completion();
                if at.is_some() {
                    self.news.note_status(&status);
                }
                frame.consume(span.total);
                match at.and_then(|at| self.in_flight.remove(at)) {
                    Some((id, _)) => Ok(Progress::Event(Event::Tagged(id, completion))),
                    None => self.count(1).map(|()| Progress::Silent),
                }
            }
            ResponseLine::Untagged(data) => {
                if let Some(segment) = fetch::data(data) {
                    let head = span.line - segment.len();
                    return self.fetch(frame, Fetch::default(), span, head, false);
                }
                if let Some(name) = self.expect.data
                    && token::word(data).0.eq_ignore_ascii_case(name.as_bytes())
                {
                    let data = data.to_vec();
                    frame.consume(span.total);
                    return self.collected(data, 0);
                }
                let head = span.line - data.len();
                self.note(frame, span, head)
            }
            // A POP3, SMTP or HTTP server: nothing that follows would be IMAP.
            ResponseLine::Other if self.expect.status && self.in_flight.is_empty() => {
                Err(Error::Protocol("the greeting"))
            }
            ResponseLine::Other => {
                frame.consume(span.total);
                self.count(1).map(|()| Progress::Silent)
            }
        }
    }

    /// Takes note of the untagged response at `span`, whose data begin at `head` and for which no command waits.
    fn note(&mut self, frame: &mut Frame, span: Span, head: usize) -> Result<Progress, Error> {
        let data = &frame.octets()[head..span.line];
        let status = Status::parse(data).map(Status::to_completion);
        // The text of a status response may look like a literal at its end, but is none.
        let literal = token::literal(data).filter(|_| status.is_none());
        let items = self.news.note(data);
        frame.consume(span.total);
        if let Some(octets) = literal {
            frame.skip_literal(octets)?;
        }
        self.most = self.most.max(self.news.exists);
        self.count(items)?;
        if !self.expect.after_bye {
            self.news.check_bye()?;
        }
        Ok(match status {
            Some(status) if self.expect.status => Progress::Event(Event::Status(status)),
            _ => Progress::Silent,
        })
    }

    /// Counts items that a server could repeat without end; fails if there are too many.
    fn count(&mut self, items: usize) -> Result<(), Error> {
        self.items += items as u64;
        let messages = u64::from(self.most).min(MAX_MESSAGES);
        if self.items > messages * PER_MESSAGE + SLACK {
            return Err(Error::Protocol("far more data than the mailbox gives reason for"));
        }
        Ok(())
    }

    fn go_on_with_fetch(&mut self, frame: &mut Frame, fetch: Fetch, was_wanted: bool) -> Result<Progress, Error> {
        let Some(span) = next_line(frame, self.is_login)? else {
            self.state = State::Fetch(fetch, was_wanted);
            return Ok(Progress::Starved);
        };
        if frame.octets()[..span.line].trim_ascii().is_empty() {
            // Some servers send an empty line after a literal.
            frame.consume(span.total);
            self.state = State::Fetch(fetch, was_wanted);
            return self.count(1).map(|()| Progress::Silent);
        }
        self.fetch(frame, fetch, span, 0, was_wanted)
    }

    /// Goes on with a FETCH response whose next segment is the line at `span` from `head` on.
    fn fetch(
        &mut self,
        frame: &mut Frame,
        mut fetch: Fetch,
        span: Span,
        head: usize,
        was_wanted: bool,
    ) -> Result<Progress, Error> {
        let segment = &frame.octets()[head..span.line];
        let (section, octets) = match fetch.parse(segment) {
            Ok(ParseStop::End) => {
                frame.consume(span.total);
                self.count(1)?;
                self.news.flags |= fetch.flags.is_some() && !self.expect.flags;
                return Ok(Progress::Event(Event::Fetch(fetch)));
            }
            Ok(ParseStop::Literal(section, octets)) => {
                frame.consume(span.total);
                self.content.begin(octets, None);
                (section, Some(octets))
            }
            Ok(ParseStop::Inline { section, content, rest }) => {
                frame.consume(head + rest);
                let octets = content.as_ref().map(|content| content.len() as u64);
                self.content
                    .begin(octets.unwrap_or(0), Some(content.unwrap_or_default().into()));
                (section, octets)
            }
            // The caller was given a content of this response, and must learn that the response is not whole.
            Err(fetch::Malformed) if was_wanted => return Err(Error::Protocol("FETCH data")),
            Err(fetch::Malformed) => {
                let literal = token::literal(segment);
                frame.consume(span.total);
                if let Some(octets) = literal {
                    frame.skip_literal(octets)?;
                }
                self.spoiled = self.spoiled.saturating_add(1);
                return self.count(1).map(|()| Progress::Silent);
            }
        };
        let uid = fetch.uid;
        if section == Section::Other || !self.expect.content {
            if octets.is_some_and(|octets| octets > MAX_UNWANTED) {
                return Err(Error::Protocol("a literal that nobody asked for passes the limit"));
            }
            // The next step drops the content.
            self.state = State::Fetch(fetch, was_wanted);
            return self.count(1).map(|()| Progress::Silent);
        }
        self.state = State::Fetch(fetch, true);
        self.count(1)?;
        Ok(Progress::Event(Event::Content { uid, section, octets }))
    }

    /// If a SEARCH or ESEARCH response begins here, consumes its head and returns the state to go on in. Such a
    /// response is read piecewise, because its line names every message that was found.
    fn search_head(&mut self, frame: &mut Frame) -> Result<Option<State>, Error> {
        let octets = frame.octets();
        let Some(rest) = octets.strip_prefix(b"* ") else {
            return Ok(None);
        };
        let rest = rest.trim_ascii_start();
        for (name, state) in [(&b"SEARCH "[..], State::Search), (b"ESEARCH ", State::ExtendedSearch)] {
            if rest
                .get(..name.len())
                .is_some_and(|head| head.eq_ignore_ascii_case(name))
            {
                frame.consume(octets.len() - rest.len() + name.len());
                self.news.searched = true;
                self.count(1)?;
                return Ok(Some(state));
            }
        }
        Ok(None)
    }

    fn search(&mut self, frame: &mut Frame) -> Result<Progress, Error> {
        match piece(frame, b" ") {
            Piece::Word(count) => match token::number(&frame.octets()[..count]) {
                Some(uid) => {
                    frame.consume(count);
                    self.state = State::Search;
                    self.found(uid, uid)
                }
                // In `SEARCH 2 5 (MODSEQ 9)` (RFC 7162 §3.1.5), what follows the numbers is ignored. After any other
                // word this is no valid answer.
                None => {
                    self.news.searched &= frame.octets().starts_with(b"(");
                    frame.skip_line();
                    Ok(Progress::Silent)
                }
            },
            Piece::Starved => {
                self.state = State::Search;
                Ok(Progress::Starved)
            }
            Piece::End => Ok(Progress::Silent),
        }
    }

    /// Reads `ESEARCH (TAG "A1") UID COUNT 2 ALL 4:18,21` (RFC 4731 §3.1), of which only the set after ALL matters.
    fn extended_search(&mut self, frame: &mut Frame) -> Result<Progress, Error> {
        match piece(frame, b" ") {
            Piece::Word(count) => {
                let is_all = frame.octets()[..count].eq_ignore_ascii_case(b"ALL");
                frame.consume(count);
                self.state = if is_all {
                    State::Set(true)
                } else {
                    State::ExtendedSearch
                };
                self.count(1).map(|()| Progress::Silent)
            }
            Piece::Starved => {
                self.state = State::ExtendedSearch;
                Ok(Progress::Starved)
            }
            Piece::End => Ok(Progress::Silent),
        }
    }

    fn set(&mut self, frame: &mut Frame, needs_member: bool) -> Result<Progress, Error> {
        // Separators: the blank before the set, and the comma between its members.
        match piece(frame, b" ,") {
            Piece::Word(count) => match token::range(&frame.octets()[..count]) {
                Some((low, high)) => {
                    frame.consume(count);
                    self.state = State::Set(frame.octets().starts_with(b","));
                    self.found(low, high)
                }
                // The name of another result, such as MODSEQ, ends the set. Any other word is a member that nobody
                // understands, so this is no valid answer.
                None => {
                    self.news.searched &= !needs_member && frame.octets()[0].is_ascii_alphabetic();
                    frame.skip_line();
                    Ok(Progress::Silent)
                }
            },
            Piece::Starved => {
                self.state = State::Set(needs_member);
                Ok(Progress::Starved)
            }
            Piece::End => {
                self.news.searched &= !needs_member;
                Ok(Progress::Silent)
            }
        }
    }

    fn found(&mut self, low: u32, high: u32) -> Result<Progress, Error> {
        self.count(1)?;
        Ok(match (low, high) {
            (0, 0) => Progress::Silent,
            (low, high) => Progress::Event(Event::Found(Uid(low.max(1)), Uid(high))),
        })
    }

    fn collect(&mut self, frame: &mut Frame, mut data: Vec<u8>, line: usize) -> Result<Progress, Error> {
        if let Some(octets) = token::literal(&data[line..]) {
            if octets > MAX_COLLECTED_LITERAL {
                return Err(Error::Protocol("a literal passes the limit"));
            }
            // Up to the limit, so it fits.
            let octets = octets as usize;
            if frame.octets().len() < octets {
                self.state = State::Data(data, line);
                return Ok(Progress::Starved);
            }
            data.extend_from_slice(b"\r\n");
            data.extend_from_slice(&frame.octets()[..octets]);
            frame.consume(octets);
            let line = data.len();
            self.state = State::Data(data, line);
            return Ok(Progress::Silent);
        }
        let Some(span) = next_line(frame, self.is_login)? else {
            self.state = State::Data(data, line);
            return Ok(Progress::Starved);
        };
        data.extend_from_slice(&frame.octets()[..span.line]);
        frame.consume(span.total);
        self.collected(data, line)
    }

    /// Handles a whole line of a response that is collected. The line begins at `line` in `data`.
    fn collected(&mut self, data: Vec<u8>, line: usize) -> Result<Progress, Error> {
        if self.collected + data.len() > MAX_COLLECTED {
            return Err(Error::Protocol("more folders than the limit"));
        }
        if token::literal(&data[line..]).is_some() {
            self.state = State::Data(data, line);
            return Ok(Progress::Silent);
        }
        self.collected += data.len();
        self.responses += 1;
        if self.responses > MAX_RESPONSES {
            return Err(Error::Protocol("more folders than the limit"));
        }
        Ok(Progress::Event(Event::Data(data)))
    }
}

/// The result of a step of the reader.
enum Progress {
    Event(Event),
    /// Something was read that nobody waits for.
    Silent,
    /// More octets must be received first.
    Starved,
}

impl Content {
    fn begin(&mut self, octets: u64, inline: Option<Bytes>) {
        self.left = octets;
        self.inline = inline;
        self.tail.clear();
    }

    fn keep_tail(&mut self, octets: &[u8]) {
        let octets = &octets[octets.len().saturating_sub(TAIL)..];
        let keep = TAIL - octets.len();
        if self.tail.len() > keep {
            self.tail.drain(..self.tail.len() - keep);
        }
        self.tail.extend_from_slice(octets);
    }
}

/// The next piece of a line that is read piecewise.
enum Piece {
    /// A whole word of this many octets.
    Word(usize),
    /// The line has ended, and is consumed.
    End,
    Starved,
}

/// Drops the octets of `separates` that come first, then finds the next word, which ends at a separator or with the
/// line.
fn piece(frame: &mut Frame, separates: &[u8]) -> Piece {
    /// Longer than any number, range or name. A longer word is cut, and is none of these.
    const LONGEST: usize = 64;
    let octets = frame.octets();
    let blank = octets.iter().take_while(|octet| separates.contains(octet)).count();
    if blank > 0 {
        frame.consume(blank);
    }
    let octets = frame.octets();
    let end = octets
        .iter()
        .take(LONGEST)
        .position(|octet| separates.contains(octet) || b"\r\n".contains(octet));
    match end {
        Some(0) => match memchr::memchr(b'\n', &octets[..octets.len().min(2)]) {
            Some(at) => {
                frame.consume(at + 1);
                Piece::End
            }
            None if octets.len() < 2 && octets[0] == b'\r' => Piece::Starved,
            // A lone CR is not valid in a line.
            None => {
                frame.skip_line();
                Piece::End
            }
        },
        Some(count) => Piece::Word(count),
        None if octets.len() >= LONGEST => Piece::Word(LONGEST),
        None => Piece::Starved,
    }
}

/// The next line, if all of it is here.
fn next_line(frame: &mut Frame, is_login: bool) -> Result<Option<Span>, Error> {
    let span = frame.line()?;
    if let Some(span) = &span {
        trace::received(trace::Side::Upstream, || traced(&frame.octets()[..span.line], is_login));
    }
    Ok(span)
}

/// What a trace shows of a line: no challenge, and nothing of a message. During a login, only capabilities are shown
/// whole, because a server may repeat the command that it refuses.
fn traced(line: &[u8], is_login: bool) -> String {
    if let Some(challenge) = line.strip_prefix(b"+ ") {
        return format!("+ {}", trace::hidden(challenge.len()));
    }
    if !is_login {
        return trace::without_strings(line);
    }
    let (tag, rest) = token::word(line);
    let kind = token::word(rest).0;
    let (code, text) = match Status::parse(rest) {
        Some(status) => (status.code, status.text),
        None if tag == b"*" && kind.eq_ignore_ascii_case(b"CAPABILITY") => return trace::shown(line),
        None => return trace::hidden(line.len()),
    };
    let mut shown = format!("{} {}", trace::shown(tag), trace::shown(kind));
    if let Some(code) = code {
        let name = token::word(code).0;
        let code = if name.eq_ignore_ascii_case(b"CAPABILITY") {
            code
        } else {
            name
        };
        shown += &format!(" [{}]", trace::shown(code));
    }
    shown + " " + &trace::hidden(text.len())
}

#[cfg(test)]
mod tests;
