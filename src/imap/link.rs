//! One conversation with an upstream: commands out, events in. It joins [`Wire`] and [`Reader`], gives commands their
//! tags, and limits the time of every answer. It does not know what the commands mean.

use std::{
    collections::VecDeque,
    io,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    error::Error,
    io::Io,
    meter::Meter,
    news::News,
    reader::{CommandId, Event, Expect, Reader},
    response::Completion,
    wire::Wire,
};
use crate::telemetry::trace::{self, Side};

/// How long all answers to a flight of commands may take, as a multiple of the silence that the server may keep.
const LONGEST_FLIGHT: u32 = 10;
/// The same for one event, because a server may send other responses without end.
const LONGEST_WAIT: u32 = 4;
/// How long unwanted answers are read before the connection is given up.
const LONGEST_DRAIN: Duration = Duration::from_secs(5);
/// The most octets of unwanted content that are read before the event that is waited for.
const MAX_DROPPED: u64 = 1 << 30;
/// Each time that this many octets of unwanted content have come, the time limit is extended by a second, because a
/// server may be slow.
const OCTETS_PER_SECOND: u64 = 1024;

/// A conversation with one server. If a command is cut short, the conversation is broken and refuses all further
/// commands.
#[derive(Debug)]
pub(super) struct Link {
    wire: Wire,
    reader: Reader,
    /// How long the server may say nothing.
    silence: Duration,
    last_id: u32,
    /// Whether each command waits until the one before is complete.
    one_at_a_time: bool,
    /// The commands that wait until those in flight are complete.
    waiting: VecDeque<(CommandId, String)>,
    broken: bool,
    /// Present after the login.
    meter: Option<Meter>,
}

impl Link {
    /// A conversation on `io`. `silence`: how long the server may say nothing while it is waited for.
    /// Boxed, because a login passes it from one future to the next, and each would have room for it twice.
    pub(super) fn new(io: Box<dyn Io>, silence: Duration) -> Box<Self> {
        Box::new(Self {
            wire: Wire::new(io, silence),
            reader: Reader::default(),
            silence,
            last_id: 0,
            one_at_a_time: false,
            waiting: VecDeque::new(),
            broken: false,
            meter: None,
        })
    }

    /// Counts this connection in the metrics from now on.
    pub(super) fn measure(&mut self, meter: Meter) {
        self.meter = Some(meter);
    }

    /// What the server has said besides the answers to commands.
    pub(super) fn news(&mut self) -> &mut News {
        self.reader.news()
    }

    pub(super) fn news_so_far(&self) -> &News {
        self.reader.news_so_far()
    }

    /// What has been received and not yet read.
    pub(super) fn received(&self) -> &[u8] {
        self.wire.received().octets()
    }

    /// Whether the conversation is broken or over, so that it refuses commands.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// See [`Io::set_reset_on_close`].
    pub(super) fn set_reset_on_close(&self, reset: bool) {
        self.wire.set_reset_on_close(reset);
    }

    /// Marks the conversation as over. Call this only if no command is under way.
    pub(super) fn close(&mut self) {
        self.broken = true;
    }

    /// Ends the conversation at once. What was queued and not sent is dropped.
    pub(super) fn cut(&mut self) {
        self.wire.cut();
        self.broken = true;
    }

    /// Marks the conversation as over, although commands may be under way: closing will reset the connection.
    pub(super) fn give_up(&mut self) {
        self.wire.set_reset_on_close(true);
        self.broken = true;
    }

    /// From now on each command waits until the one before is complete.
    pub(super) fn set_one_at_a_time(&mut self) {
        self.one_at_a_time = true;
    }

    /// See [`Wire::compress`].
    pub(super) fn compress(&mut self) {
        self.wire.compress();
    }

    /// Returns the bare connection, for a TLS handshake; see [`Wire::into_plain`].
    pub(super) fn into_plain(self) -> Result<Box<dyn Io>, Error> {
        self.wire.into_plain()
    }

    /// Shortens the silence that the server may keep, until [`Link::reset_patience`].
    pub(super) fn set_patience(&mut self, silence: Duration) {
        self.wire.set_silence(silence.min(self.silence));
    }

    /// Allows the server again the silence that [`Link::new`] was given.
    pub(super) fn reset_patience(&mut self) {
        self.wire.set_silence(self.silence);
    }

    /// Prepares the conversation for being parked. While it is parked, no task reads from it. If the server has closed
    /// the connection, the conversation is broken.
    pub(super) fn detach(&mut self) {
        self.broken |= !self.wire.detach();
        if let Some(meter) = &mut self.meter {
            meter.set_parked(true);
        }
    }

    /// Sets what the next commands bring besides their completions.
    pub(super) fn expect(&mut self, expect: Expect) {
        self.reader.expect(expect);
    }

    /// Whether any command is in flight or waits to be sent.
    pub(super) fn is_busy(&self) -> bool {
        self.reader.is_waiting() || !self.waiting.is_empty()
    }

    /// Expects the completion of a command that the caller sends under its own tag, by [`Link::send_raw`] or
    /// [`Link::queue`].
    pub(super) fn announce(&mut self, tag: &str) -> CommandId {
        let id = self.next_id();
        self.reader.expect_completion(id, tag.to_owned());
        id
    }

    /// Sends octets of a login as they are, and wipes its copy of them afterwards. Call [`Link::end_login`] after the
    /// login.
    pub(super) async fn send_raw(&mut self, octets: &[u8]) -> Result<(), Error> {
        self.reader.set_login(true);
        trace::sent(Side::Upstream, || without_secrets(octets));
        let sent = self.wire.send(octets).await;
        self.check(sent)
    }

    /// Notes that no login is under way any more, so that a trace shows again what the server says.
    pub(super) fn end_login(&mut self) {
        self.reader.set_login(false);
    }

    /// Queues octets for [`Link::poll_send`].
    pub(super) fn queue(&mut self, octets: &[u8]) {
        self.wire.queue(octets);
    }

    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.wire.poll_send(cx).map(|sent| self.check(sent))
    }

    /// Starts the time limit of [`Link::poll_event`].
    pub(super) fn begin_wait(&mut self) {
        self.wire
            .set_deadline(Some(Instant::now() + self.silence * LONGEST_WAIT));
    }

    /// The next event, within the time limit that [`Link::begin_wait`] started.
    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Error>> {
        loop {
            match self.reader.next(self.wire.frame()) {
                Ok(Some(event)) => return Poll::Ready(Ok(event)),
                Ok(None) => {}
                Err(error) => return Poll::Ready(self.check(Err(error))),
            }
            let filled = ready!(self.wire.poll_fill(cx));
            let filled = filled.map_err(|error| self.explained(error));
            if let Err(error) = self.check(filled) {
                return Poll::Ready(Err(error));
            }
        }
    }

    /// Gives `command` a tag and sends it: at once, or after the commands before it if the server takes one at a time.
    pub(super) async fn submit(&mut self, command: &str) -> Result<CommandId, Error> {
        if self.broken {
            return Err(Error::Lost(io::ErrorKind::NotConnected.into()));
        }
        let id = self.queue_command(command);
        let sent = self.wire.flush().await;
        self.check(sent)?;
        Ok(id)
    }

    /// Adds `command` to what is sent next, or to the commands that wait.
    fn queue_command(&mut self, command: &str) -> CommandId {
        let id = self.next_id();
        let tag = tag(id);
        let line = format!("{tag} {command}\r\n");
        trace::sent(Side::Upstream, || trace::shown(line.trim_end().as_bytes()));
        if self.one_at_a_time && self.is_busy() {
            self.waiting.push_back((id, line));
        } else {
            self.wire.queue(line.as_bytes());
            self.reader.expect_completion(id, tag);
        }
        id
    }

    /// Sends the command that has waited longest; returns whether there was one.
    async fn send_waiting(&mut self) -> Result<bool, Error> {
        let Some((id, line)) = self.waiting.pop_front() else {
            return Ok(false);
        };
        self.reader.expect_completion(id, tag(id));
        self.wire.send(line.as_bytes()).await?;
        Ok(true)
    }

    fn next_id(&mut self) -> CommandId {
        self.last_id = self.last_id.wrapping_add(1);
        CommandId(self.last_id)
    }

    /// Waits for the next event. If that completes the last command in flight, sends the next command that waits.
    pub(super) async fn event(&mut self) -> Result<Event, Error> {
        let event = self.next_event().await;
        if let Ok(Event::Tagged(..)) = event
            && !self.reader.is_waiting()
        {
            let sent = self.send_waiting().await;
            if !self.check(sent)? {
                self.wire.shrink();
            }
        }
        self.check(event)
    }

    async fn next_event(&mut self) -> Result<Event, Error> {
        let begun = Instant::now();
        let mut dropped = 0;
        loop {
            let left = self.reader.left();
            if let Some(event) = self.reader.next(self.wire.frame())? {
                return Ok(event);
            }
            dropped += left.saturating_sub(self.reader.left());
            if dropped > MAX_DROPPED {
                return Err(Error::Protocol("far more content than was asked for"));
            }
            let more = Duration::from_secs(dropped / OCTETS_PER_SECOND);
            self.wire.set_deadline(Some(begun + self.silence * LONGEST_WAIT + more));
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<(), Error> {
        let filled = self.wire.fill().await;
        filled.map_err(|error| self.explained(error))
    }

    /// Replaces an error of the wire by a better one, if the cause is known.
    fn explained(&self, error: Error) -> Error {
        match (error, &self.reader.news_so_far().bye) {
            (Error::Lost(_) | Error::Silent(_) | Error::Endless, _)
                if self.reader.has_ended_early(self.wire.received()) =>
            {
                Error::ShortLiteral
            }
            (Error::Lost(_), Some(text)) => Error::Bye(text.clone()),
            (error, _) => error,
        }
    }

    /// Waits for octets of the current content. Returns `false` at its end.
    pub(super) async fn ready(&mut self) -> Result<bool, Error> {
        while self.reader.needs_content(self.wire.frame()) {
            self.wire.set_deadline(None);
            let filled = self.fill().await;
            self.check(filled)?;
        }
        Ok(!self.peek().is_empty())
    }

    /// The octets of the current content that have been received and not taken.
    pub(super) fn peek(&self) -> &[u8] {
        self.reader.content(self.wire.received())
    }

    /// Takes the first `count` octets that [`Link::peek`] shows.
    pub(super) fn take(&mut self, count: usize) -> &[u8] {
        self.reader.take(self.wire.received(), count)
    }

    /// How many octets of the current content have not been taken yet.
    pub(super) fn left(&self) -> u64 {
        self.reader.left()
    }

    /// Whether the server has already sent the UID of the message whose content this is.
    pub(super) fn has_uid(&self) -> bool {
        self.reader.has_uid()
    }

    /// Reads until no command is in flight, and drops the answers. If that takes too long, the conversation is given
    /// up.
    pub(super) async fn drain(&mut self) -> Result<(), Error> {
        if self.broken {
            return Err(Error::Lost(io::ErrorKind::NotConnected.into()));
        }
        if !self.is_busy() {
            return Ok(());
        }
        match tokio::time::timeout(LONGEST_DRAIN, self.drain_all()).await {
            Ok(drained) => drained,
            Err(_) => {
                self.give_up();
                Err(Error::Silent(LONGEST_DRAIN))
            }
        }
    }

    async fn drain_all(&mut self) -> Result<(), Error> {
        while self.is_busy() {
            if let Event::Tagged(_, completion) = self.event().await?
                && !completion.is_ok()
            {
                tracing::debug!(%completion, "a command that nobody waits for any more was refused");
            }
        }
        Ok(())
    }

    /// Sends `commands` in one piece and reads until all of them are complete, in any order. Gives other events to
    /// `take` as they come. Returns the completions in the order of the commands.
    pub(super) async fn flight(
        &mut self,
        commands: &[impl AsRef<str>],
        expect: Expect,
        mut take: impl FnMut(Event),
    ) -> Result<Vec<Completion>, Error> {
        self.drain().await?;
        // If the caller drops this future, answers will come that no command expects: then the conversation stays
        // broken.
        self.broken = true;
        let begun = Instant::now();
        if let Some(meter) = &mut self.meter {
            meter.set_parked(false);
        }
        let completions = self.fly(commands, expect, &mut take).await;
        if let (Some(meter), Some(command), Ok(_)) = (&self.meter, commands.first(), &completions) {
            meter.answered(command.as_ref(), begun.elapsed());
        }
        self.reader.expect(Expect::default());
        let spoiled = self.reader.take_spoiled();
        if spoiled > 0 {
            tracing::warn!(
                responses = spoiled,
                "the upstream sent FETCH responses that make no sense; they were skipped"
            );
        }
        let completions = completions?;
        self.wire.shrink();
        self.broken = false;
        Ok(completions)
    }

    async fn fly(
        &mut self,
        commands: &[impl AsRef<str>],
        expect: Expect,
        take: &mut impl FnMut(Event),
    ) -> Result<Vec<Completion>, Error> {
        self.reader.expect(expect);
        let deadline = Instant::now() + self.silence * LONGEST_FLIGHT;
        let first = self.last_id.wrapping_add(1);
        for command in commands {
            self.queue_command(command.as_ref());
        }
        self.wire.flush().await?;
        let mut completions: Vec<Option<Completion>> = vec![None; commands.len()];
        let mut missing = commands.len();
        while missing > 0 {
            self.wire.set_deadline(Some(deadline));
            let event = loop {
                if let Some(event) = self.reader.next(self.wire.frame())? {
                    break event;
                }
                self.fill().await?;
            };
            match event {
                Event::Tagged(id, completion) => {
                    let at = id.0.wrapping_sub(first) as usize;
                    if let Some(slot) = completions.get_mut(at) {
                        *slot = Some(completion);
                        missing -= 1;
                    }
                    self.send_waiting().await?;
                }
                event => take(event),
            }
        }
        Ok(completions.into_iter().flatten().collect())
    }

    /// Marks the conversation as broken after an error, because it is then unknown what the next octets belong to.
    fn check<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        self.broken |= result.is_err();
        result
    }
}

/// What a trace shows of a line that may hold a secret: the verb of a command, the mechanism of AUTHENTICATE, and how
/// long the rest is.
fn without_secrets(octets: &[u8]) -> String {
    let line = octets.trim_ascii_end();
    let words: Vec<_> = line.splitn(3, |&octet| octet == b' ').collect();
    let shown = match words.as_slice() {
        [verb, mechanism, ..] if verb.eq_ignore_ascii_case(b"AUTHENTICATE") => verb.len() + 1 + mechanism.len(),
        [verb, ..] if verb.eq_ignore_ascii_case(b"AUTHENTICATE") || verb.eq_ignore_ascii_case(b"LOGIN") => verb.len(),
        _ => 0,
    };
    let (shown, secret) = line.split_at(shown);
    let (shown, secret) = (trace::shown(shown), secret.trim_ascii_start());
    match (shown.is_empty(), secret.is_empty()) {
        (_, true) => shown,
        (true, false) => trace::hidden(secret.len()),
        (false, false) => format!("{shown} {}", trace::hidden(secret.len())),
    }
}

fn tag(CommandId(id): CommandId) -> String {
    format!("P{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_shows_no_secret() {
        for (line, expected) in [
            (
                "AUTHENTICATE PLAIN AGV2YQBzZWNyZXQ=\r\n",
                "AUTHENTICATE PLAIN <16 octets>",
            ),
            ("AUTHENTICATE XOAUTH2\r\n", "AUTHENTICATE XOAUTH2"),
            ("LOGIN \"eva\" \"secret\"\r\n", "LOGIN <14 octets>"),
            ("login {3}\r\n", "login <3 octets>"),
            ("eva {6}\r\n", "<7 octets>"),
            ("AGV2YQBzZWNyZXQ=\r\n", "<16 octets>"),
            ("\r\n", ""),
        ] {
            assert_eq!(without_secrets(line.as_bytes()), expected);
        }
    }
}
