//! The octets between us and an upstream: frames lines and literals, caps them, and tells EOF, BYE and silence apart.
//!
//! It is used in two ways. Until login is done it lies under async-imap (`AsyncRead`) and hands up only what a command waits
//! for: the greeting, continuations and tagged completions, one at a time and in a plain form that its parser surely takes;
//! untagged data is noted in [`Seen`] and kept back. Between such commands async-imap's own buffer is therefore empty, and
//! once a mailbox is selected the wire is taken out of it and read directly ([`Wire::next_response`], [`Wire::fill`]).

use std::{
    fmt, io, mem,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};
use zeroize::Zeroize;

use super::{
    capability::Capabilities,
    deflate::Deflate,
    error::Error,
    response::{self, Completion, Kind, Line, Status},
};

/// A connection to an upstream, TCP or TLS.
pub trait Io: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Io for T {}

/// The longest line taken from a server. SEARCH, whose line grows with the mailbox, is read piecewise.
pub const MAX_LINE: usize = 256 * 1024;
/// How much is read at once, at first: answers to commands are short, and many connections wait for one.
const FIRST_WINDOW: usize = 2 * 1024;
/// How much is read at once, at most, whatever a message's size.
const WINDOW: usize = 64 * 1024;

/// What the server said besides the answers that commands wait for.
#[derive(Debug, Default)]
pub struct Seen {
    /// The newest CAPABILITY, as data or as response code.
    pub capabilities: Option<Capabilities>,
    /// How the last tagged command ended.
    pub completion: Option<Completion>,
    /// The greeting was PREAUTH.
    pub pre_auth: bool,
    /// BYE and its text: the server is about to close.
    pub bye: Option<String>,
    /// Messages in the selected mailbox: EXISTS, less EXPUNGEs.
    pub exists: u32,
    /// EXPUNGEs so far.
    pub expunged: u64,
    /// UIDs that are gone, as ranges: VANISHED (RFC 7162 §3.2.10), said instead of EXPUNGE once QRESYNC is enabled.
    pub vanished: Vec<(u32, u32)>,
    /// `[HIGHESTMODSEQ n]`
    pub modseq: Option<u64>,
    /// A FETCH that nobody waited for: flags have changed.
    pub flags: bool,
    /// `[UIDVALIDITY n]`
    pub uid_validity: Option<u32>,
    /// `[UIDNOTSTICKY]` (RFC 4315 §3): UIDs mean nothing in the next session.
    pub uid_not_sticky: bool,
}

impl Seen {
    /// Takes note of one untagged response, given without its star.
    pub fn note(&mut self, data: &[u8]) {
        let (first, rest) = response::word(data);
        if let Some(number) = response::number(first) {
            let (kind, _) = response::word(rest);
            if kind.eq_ignore_ascii_case(b"EXISTS") {
                self.exists = number;
            } else if kind.eq_ignore_ascii_case(b"EXPUNGE") {
                self.exists = self.exists.saturating_sub(1);
                self.expunged += 1;
            } else if kind.eq_ignore_ascii_case(b"FETCH") {
                self.flags = true;
            }
        } else if first.eq_ignore_ascii_case(b"CAPABILITY") {
            self.capabilities = Some(Capabilities::parse(rest));
        } else if first.eq_ignore_ascii_case(b"VANISHED") {
            match rest.strip_prefix(b"(") {
                // Since the session before; EXISTS has counted these out already.
                Some(_) => self.vanished.extend(ranges(response::word(rest).1)),
                None => {
                    let gone: Vec<_> = ranges(rest).collect();
                    let count: u64 = gone.iter().map(|&(low, high)| u64::from(high - low) + 1).sum();
                    self.exists = self.exists.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
                    self.vanished.extend(gone);
                }
            }
        } else if let Some(status) = Status::parse(data) {
            self.note_status(&status);
        }
    }

    fn note_status(&mut self, status: &Status<'_>) {
        if let Some(words) = status.code_rest("CAPABILITY") {
            self.capabilities = Some(Capabilities::parse(words));
        }
        if let Some(number) = status.code_number("UIDVALIDITY") {
            self.uid_validity = Some(number);
        }
        if let Some(digits) = status.code_rest("HIGHESTMODSEQ") {
            self.modseq = std::str::from_utf8(digits.trim_ascii())
                .ok()
                .and_then(|digits| digits.parse().ok());
        }
        self.uid_not_sticky |= status.has_code("UIDNOTSTICKY");
        match status.kind {
            Kind::Bye => self.bye = Some(status.to_completion().text().to_owned()),
            Kind::PreAuth => self.pre_auth = true,
            _ => {}
        }
    }
}

/// The ranges of a set such as `1:3,7`; what is none is left out.
fn ranges(set: &[u8]) -> impl Iterator<Item = (u32, u32)> + '_ {
    set.trim_ascii().split(|&b| b == b',').filter_map(|range| {
        let mut ends = range.splitn(2, |&b| b == b':');
        let low = response::number(ends.next()?)?;
        let high = ends.next().map_or(Some(low), response::number)?;
        Some((low.min(high), low.max(high)))
    })
}

/// Where a line lies in the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Octets of the line.
    pub line: usize,
    /// The same with its line end.
    pub total: usize,
}

/// A framed connection.
pub struct Wire {
    io: Box<dyn Io>,
    /// Received and not yet consumed.
    buffer: BytesMut,
    /// How much is read at once: grows while the server fills it.
    window: usize,
    /// So many octets at the buffer's start hold no LF.
    scanned: usize,
    /// Written and not yet sent: a command leaves in one piece.
    outgoing: Vec<u8>,
    sent: usize,
    silence: Duration,
    /// While something is waited for; it would hold on to the task that waits.
    timer: Option<Pin<Box<Sleep>>>,
    armed: bool,
    seen: Seen,
    greeted: bool,
    skip: Skip,
    /// For async-imap.
    hand_up: Vec<u8>,
}

/// Where in an unwanted response with literals we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Skip {
    /// At the start of a response.
    No,
    /// So many octets of a literal to come, then the rest of the response.
    Literal(u64),
    /// In the rest of a response.
    Rest,
}

impl Wire {
    /// `silence`: how long the server may keep us waiting.
    pub fn new(io: Box<dyn Io>, silence: Duration) -> Self {
        Self {
            io,
            buffer: BytesMut::new(),
            window: FIRST_WINDOW,
            scanned: 0,
            outgoing: Vec::new(),
            sent: 0,
            silence,
            timer: None,
            armed: false,
            seen: Seen::default(),
            greeted: false,
            skip: Skip::No,
            hand_up: Vec::new(),
        }
    }

    /// The connection for a TLS handshake after STARTTLS. Octets that came unasked before it are an attack (RFC 3207 §6's
    /// command injection, the other way round) and an error.
    pub fn into_plain(self) -> Result<Box<dyn Io>, Error> {
        if self.buffer.is_empty() {
            Ok(self.io)
        } else {
            Err(Error::Protocol("data between STARTTLS and TLS"))
        }
    }

    /// After STARTTLS no second greeting comes.
    pub fn without_greeting(mut self) -> Self {
        self.greeted = true;
        self
    }

    /// Both ways are compressed from here on: called between COMPRESS's OK and the next command. What is in the buffer came
    /// after the OK's line end (RFC 4978 §3), so it is the compressed stream's beginning.
    pub fn compress(&mut self) {
        let io = mem::replace(&mut self.io, Box::new(tokio::io::empty()));
        let received = mem::take(&mut self.buffer);
        self.scanned = 0;
        self.io = Box::new(Deflate::new(io, received));
    }

    /// What the server said by the way.
    pub fn seen(&mut self) -> &mut Seen {
        &mut self.seen
    }

    /// The same, to look at.
    pub fn seen_so_far(&self) -> &Seen {
        &self.seen
    }

    /// What has been received and not consumed.
    pub fn buffer(&self) -> &[u8] {
        &self.buffer
    }

    /// Drops `count` octets off the buffer.
    pub fn consume(&mut self, count: usize) {
        self.buffer.advance(count);
        self.scanned = self.scanned.saturating_sub(count);
    }

    /// Lets go of the task that used this connection: the socket would keep its waker, and that the whole task, until
    /// something comes. Returns whether the connection stands.
    pub fn detach(&mut self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        let read = tokio_util::io::poll_read_buf(Pin::new(&mut self.io), &mut nobody, &mut self.buffer);
        self.rest();
        !matches!(read, Poll::Ready(Ok(0) | Err(_)))
    }

    /// Gives back what an idle connection does not need.
    pub fn rest(&mut self) {
        self.timer = None;
        self.armed = false;
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
            self.window = FIRST_WINDOW;
        }
    }

    /// The next line, if the buffer holds it whole; first what is left of a response that nobody wants is dropped. LF alone
    /// ends a line too.
    pub fn buffered_response(&mut self) -> Result<Option<Span>, Error> {
        loop {
            match self.skip {
                Skip::No => return self.buffered_line(),
                Skip::Literal(left) => {
                    let count = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
                    self.consume(count);
                    let left = left - count as u64;
                    self.skip = if left > 0 { Skip::Literal(left) } else { Skip::Rest };
                    if left > 0 {
                        return Ok(None);
                    }
                }
                Skip::Rest => {
                    let Some(span) = self.buffered_line()? else {
                        return Ok(None);
                    };
                    self.skip = response::literal(&self.buffer[..span.line]).map_or(Skip::No, Skip::Literal);
                    self.consume(span.total);
                }
            }
        }
    }

    /// The rest of this response, which begins with a literal of so many octets, is not wanted.
    pub fn skip_literal(&mut self, octets: u64) {
        self.skip = Skip::Literal(octets);
    }

    /// Takes note of the untagged response at `span` and consumes it. BYE is an error: the server is about to close.
    pub fn note(&mut self, span: Span) -> Result<(), Error> {
        if let Line::Untagged(data) = Line::parse(&self.buffer[..span.line]) {
            // Text of a status response may end like a literal, but announces none.
            if Status::parse(data).is_none()
                && let Some(octets) = response::literal(data)
            {
                self.skip = Skip::Literal(octets);
            }
            self.seen.note(data);
        }
        self.consume(span.total);
        match &self.seen.bye {
            Some(text) => Err(Error::Bye(text.clone())),
            None => Ok(()),
        }
    }

    /// Waits until the buffer holds a whole line.
    pub async fn next_response(&mut self) -> Result<Span, Error> {
        loop {
            if let Some(span) = self.buffered_response()? {
                return Ok(span);
            }
            self.fill().await?;
        }
    }

    fn buffered_line(&mut self) -> Result<Option<Span>, Error> {
        match memchr::memchr(b'\n', &self.buffer[self.scanned..]) {
            Some(at) => {
                let end = self.scanned + at;
                let line = if end > 0 && self.buffer[end - 1] == b'\r' {
                    end - 1
                } else {
                    end
                };
                Ok(Some(Span { line, total: end + 1 }))
            }
            None if self.buffer.len() > MAX_LINE => Err(Error::Protocol("a line passes the limit")),
            None => {
                self.scanned = self.buffer.len();
                Ok(None)
            }
        }
    }

    /// Reads what is there, at least one octet.
    pub async fn fill(&mut self) -> Result<(), Error> {
        std::future::poll_fn(|cx| self.poll_fill(cx)).await
    }

    /// Sends one or more whole commands.
    pub async fn send(&mut self, commands: &[u8]) -> Result<(), Error> {
        self.outgoing.extend_from_slice(commands);
        std::future::poll_fn(|cx| self.poll_send(cx)).await
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.buffer.capacity() - self.buffer.len() < self.window / 4 {
            self.buffer.reserve(self.window);
        }
        match tokio_util::io::poll_read_buf(Pin::new(&mut self.io), cx, &mut self.buffer) {
            Poll::Ready(Ok(0)) => {
                self.armed = false;
                Poll::Ready(Err(self.gone(io::ErrorKind::UnexpectedEof.into())))
            }
            Poll::Ready(Ok(_)) => {
                self.armed = false;
                if self.buffer.len() == self.buffer.capacity() {
                    self.window = WINDOW.min(self.window * 4);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.gone(error))),
            Poll::Pending => self.poll_silence(cx),
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while self.sent < self.outgoing.len() {
            match Pin::new(&mut self.io).poll_write(cx, &self.outgoing[self.sent..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(self.gone(io::ErrorKind::WriteZero.into()))),
                Poll::Ready(Ok(count)) => {
                    self.armed = false;
                    self.sent += count;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.gone(error))),
                Poll::Pending => return self.poll_silence(cx),
            }
        }
        // It may have held a password.
        self.outgoing.zeroize();
        self.sent = 0;
        match Pin::new(&mut self.io).poll_flush(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.gone(error))),
            Poll::Pending => self.poll_silence(cx),
        }
    }

    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let silence = self.silence;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(silence)));
        if !self.armed {
            self.armed = true;
            timer.as_mut().reset(Instant::now() + silence);
        }
        ready!(timer.as_mut().poll(cx));
        self.armed = false;
        Poll::Ready(Err(Error::Silent(self.silence)))
    }

    /// A connection that ended: with the server's reason, if it gave one.
    fn gone(&mut self, error: io::Error) -> Error {
        match &self.seen.bye {
            Some(text) => Error::Bye(text.clone()),
            None => Error::Lost(error),
        }
    }

    /// Works through the buffer until there is something for async-imap; returns whether there is.
    fn digest(&mut self) -> Result<bool, Error> {
        while self.hand_up.is_empty() {
            let Some(span) = self.buffered_response()? else {
                return Ok(false);
            };
            match Line::parse(&self.buffer[..span.line]) {
                Line::Untagged(data) if !self.greeted => {
                    let status = Status::parse(data).ok_or(Error::Protocol("the greeting"))?;
                    self.greeted = true;
                    self.seen.note_status(&status);
                    self.hand_up.extend_from_slice(b"* OK done\r\n");
                }
                _ if !self.greeted => return Err(Error::Protocol("the greeting")),
                Line::Continue => self.hand_up.extend_from_slice(b"+ \r\n"),
                Line::Tagged(tag, status) => {
                    self.hand_up.extend_from_slice(tag);
                    self.hand_up.extend_from_slice(match status.kind {
                        Kind::Ok => b" OK done\r\n",
                        Kind::No => b" NO done\r\n",
                        _ => b" BAD done\r\n",
                    });
                    self.seen.note_status(&status);
                    self.seen.completion = Some(status.to_completion());
                }
                Line::Untagged(_) => {
                    // BYE comes before LOGOUT's completion, or before the end: `gone` tells of it then.
                    let _ = self.note(span);
                    continue;
                }
                Line::Other => {}
            }
            self.consume(span.total);
        }
        Ok(true)
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if !this.hand_up.is_empty() {
                let count = this.hand_up.len().min(out.remaining());
                out.put_slice(&this.hand_up[..count]);
                this.hand_up.drain(..count);
                return Poll::Ready(Ok(()));
            }
            if !this.digest()? {
                ready!(this.poll_send(cx))?;
                ready!(this.poll_fill(cx))?;
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        self.outgoing.extend_from_slice(octets);
        Poll::Ready(Ok(octets.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(ready!(self.poll_send(cx))?))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("buffered", &self.buffer.len())
            .finish_non_exhaustive()
    }
}
