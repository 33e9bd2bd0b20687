//! The socket: reads lines, gathers replies into few large writes, and limits each wait. Once a session has begun, only
//! this file reads from the socket and writes to it.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep, timeout},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use zeroize::Zeroizing;

use super::{
    input::{Input, SMALL, TooLong},
    multiline::Multiline,
    permits::Permit,
    reply::Reply,
    stream::Stream,
    summary::End,
};
use crate::tls::{AcceptError, Acceptor, Agreed};

/// The most octets of a command line. RFC 2449 §4 says 255, but some devices send more.
const COMMAND_CAP: usize = 2048;
/// The most octets of an AUTH line and of a continuation: OAuth tokens are long (RFC 5034 §4).
const AUTH_CAP: usize = 12288;
/// How many octets are read ahead, at most, while a device that pipelines waits for replies.
const INPUT_LIMIT: usize = 64 * 1024;
/// The same for a device that has not logged in: room for its longest line. While a write waits for such a device,
/// nothing is read.
const INPUT_LIMIT_BEFORE_LOGIN: usize = 16 * 1024;
/// How many octets are gathered before a write: as many as the upstream's window, so that one read of a large message
/// makes one write. Half as many take no longer, but an eighth more processor time if the upstream is far away and its
/// windows are full.
pub(super) const BLOCK: usize = 64 * 1024;
/// The same for a device that has not logged in: more than the replies that a login needs.
const BLOCK_BEFORE_LOGIN: usize = 1024;
/// The pause after each [`BLOCK_BEFORE_LOGIN`]: a device that sends CAPA without end must not take the processor from
/// others.
const PAUSE_BEFORE_LOGIN: Duration = Duration::from_millis(100);
/// How long gathered octets of a large message may wait for more, if the upstream is slower than the device: each write
/// costs the same, however little it sends.
const GATHER: Duration = Duration::from_millis(10);
/// How many octets a second a device must read while something waits for it, on average over [`PATIENCE`].
const SLOWEST: u64 = 1024;
/// How long a device may read nothing while something waits for it.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a silence lasts before buffers are freed: a busy device causes no allocations, and an idle one holds no
/// memory.
const LINGER: Duration = Duration::from_millis(200);
/// How often a connection is probed for a reset while nothing is read from it.
const PROBE: Duration = Duration::from_secs(1);
/// How long the last reply and the closing of a connection may take: a device that is disconnected should be able to
/// read why.
const FAREWELL: Duration = Duration::from_secs(2);
/// How many octets from the device are read and thrown away during [`FAREWELL`], at most.
const FAREWELL_OCTETS: usize = 1 << 20;

/// The kind of line that is read. It decides the cap, see [`LineKind::cap`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineKind {
    Command,
    Continuation,
}

impl LineKind {
    fn cap(self, line: &[u8]) -> usize {
        let is_auth = || line.get(..5).is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH "));
        if self == Self::Continuation || is_auth() {
            AUTH_CAP
        } else {
            COMMAND_CAP
        }
    }
}

/// One device's connection. Its errors say how the session ended.
#[derive(Debug)]
pub(super) struct Connection<S> {
    stream: Stream<S>,
    input: Input,
    /// The device has closed its side; what it sent before is still answered.
    eof: bool,
    output: Vec<u8>,
    /// How many octets of `output` are written.
    sent: usize,
    /// Octets written in all.
    total: u64,
    /// Whether something is written that the stream may still hold.
    unflushed: bool,
    /// Since when [`Self::gathering`] has not sent what is gathered.
    gathering: Option<Instant>,
    /// How many octets were written when the device last sent something new.
    acknowledged: u64,
    /// The device has logged in.
    is_trusted: bool,
    idle: Duration,
    /// How long a write may still wait. Waiting uses this up; each octet that the device reads earns some of it back.
    patience: Duration,
    /// One timer for all waits; see [`Self::poll_time`].
    timer: Pin<Box<Sleep>>,
    /// Once this is cancelled, [`Self::line`] waits for no further line.
    stop: CancellationToken,
    cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// `idle` limits each wait for the device; `stop` ends the wait for its next line.
    pub(super) fn new(stream: S, idle: Duration, stop: CancellationToken) -> Self {
        Self {
            stream: Stream::Plain(stream),
            input: Input::default(),
            eof: false,
            output: Vec::new(),
            sent: 0,
            total: 0,
            unflushed: false,
            gathering: None,
            acknowledged: 0,
            is_trusted: false,
            idle,
            patience: PATIENCE,
            timer: Box::pin(sleep(idle)),
            cancelled: Box::pin(stop.clone().cancelled_owned()),
            stop,
        }
    }

    /// Notes that the device has logged in. From now on it may send further commands before it reads replies, and it
    /// gets output in whole blocks. `stop` replaces the token of [`Self::new`].
    pub(super) fn trust(&mut self, stop: CancellationToken) {
        self.is_trusted = true;
        self.cancelled = Box::pin(stop.clone().cancelled_owned());
        self.stop = stop;
    }

    fn input_limit(&self) -> usize {
        if self.is_trusted {
            INPUT_LIMIT
        } else {
            INPUT_LIMIT_BEFORE_LOGIN
        }
    }

    /// Whether more is read from the device while it waits for replies.
    fn takes_input(&self) -> bool {
        !self.eof && self.input.len() < self.input_limit()
    }

    pub(super) fn is_tls(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }

    /// Makes the TLS handshake. Octets that came before the handshake are dropped: anybody may have injected them (RFC
    /// 2595 §4).
    pub(super) async fn start_tls(&mut self, acceptor: &Acceptor) -> Result<Result<Agreed, AcceptError>, End> {
        self.flush().await?;
        self.input.clear();
        let Stream::Plain(stream) = std::mem::replace(&mut self.stream, Stream::Closed) else {
            return Err(End::Handshake);
        };
        let accepted = self.stop.run_until_cancelled(acceptor.accept(stream)).await;
        Ok(accepted.ok_or(End::Shutdown)?.map(|(stream, agreed)| {
            self.stream = Stream::Tls(Box::new(stream));
            agreed
        }))
    }

    /// Waits for a whole line, hands it without its line end to `parse`, and wipes it.
    pub(super) async fn line<T>(&mut self, kind: LineKind, parse: impl FnOnce(&[u8]) -> T) -> Result<T, End> {
        let mut parse = Some(parse);
        let mut deadline = None;
        loop {
            if self.stop.is_cancelled() {
                self.flush().await?;
                return Err(End::Shutdown);
            }
            let parsed = self.input.line(
                |start| kind.cap(start),
                |octets| parse.take().map(|parse| parse(octets)),
            );
            match parsed {
                Ok(Some(Some(parsed))) => return Ok(parsed),
                Err(TooLong) => return Err(End::LineTooLong),
                Ok(_) => {}
            }
            if self.holds_output() {
                // Meanwhile more input may be taken in.
                self.flush().await?;
                continue;
            }
            if self.eof {
                return Err(End::Dropped);
            }
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + self.idle);
            self.more(deadline).await?;
            if !self.eof {
                self.acknowledged = self.total;
                self.patience = PATIENCE;
            }
        }
    }

    /// Whether the device has sent something new after all output so far was sent. The socket accepts octets before the
    /// device has received them, so that proves nothing. But a device that sends its next command has received the
    /// reply to the last one, unless it pipelines.
    pub(super) fn is_acknowledged(&self) -> bool {
        self.acknowledged == self.position()
    }

    /// The buffer of octets to send. A caller that appends to it calls [`Self::send_blocks`] now and then.
    pub(super) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// How many octets have been written and gathered so far.
    pub(super) fn position(&self) -> u64 {
        self.total + self.gathered() as u64
    }

    /// How many octets are gathered and not yet written.
    fn gathered(&self) -> usize {
        self.output.len() - self.sent
    }

    /// Appends the line of `reply` to the output. Sends nothing yet.
    pub(super) fn reply(&mut self, reply: &Reply) {
        reply.write(&mut self.output);
    }

    /// Encodes a piece of a message, appends it to the output, and sends whole blocks.
    pub(super) async fn message(&mut self, encoder: &mut Multiline, mut chunk: &[u8]) -> Result<(), End> {
        while !chunk.is_empty() {
            // Up to a whole block: the output stays bounded whatever the size of a chunk, and little remains after a
            // block is sent.
            let room = BLOCK.saturating_sub(self.gathered()).max(1);
            let (piece, rest) = chunk.split_at(room.min(chunk.len()));
            encoder.encode(piece, &mut self.output);
            self.send_blocks().await?;
            chunk = rest;
        }
        Ok(())
    }

    /// Sends the whole blocks of what has been gathered. What does not make a block waits for more: TLS would make a
    /// record and a system call of its own for it.
    pub(super) async fn send_blocks(&mut self) -> Result<(), End> {
        if self.is_trusted && self.gathered() >= BLOCK {
            while self.gathered() >= BLOCK {
                self.send(BLOCK).await?;
            }
            self.output.drain(..self.sent);
            self.sent = 0;
        } else if !self.is_trusted && self.gathered() >= BLOCK_BEFORE_LOGIN {
            self.send(self.gathered()).await?;
            sleep(PAUSE_BEFORE_LOGIN).await;
        }
        Ok(())
    }

    /// Sends everything, and makes sure that the stream holds nothing back.
    pub(super) async fn flush(&mut self) -> Result<(), End> {
        while self.holds_output() {
            self.progress().await?;
        }
        Ok(())
    }

    fn holds_output(&self) -> bool {
        !self.output.is_empty() || self.unflushed
    }

    /// Sends the next `octets` of what has been gathered, at least.
    async fn send(&mut self, octets: usize) -> Result<(), End> {
        let end = self.total + octets as u64;
        while self.total < end {
            self.progress().await?;
        }
        Ok(())
    }

    /// One step of sending. A device that pipelines may send further commands before it reads replies. So while it
    /// accepts no output its commands are taken in: otherwise each side would wait for the other.
    async fn progress(&mut self) -> Result<(), End> {
        let (before, mut waiting) = (self.total, None);
        poll_fn(|cx| match self.poll_send(cx) {
            Poll::Ready(sent) => Poll::Ready(sent.map_err(|_| End::Dropped)),
            Poll::Pending => {
                if self.is_trusted {
                    self.poll_take_in(cx);
                }
                let since = *waiting.get_or_insert_with(Instant::now);
                self.poll_time(cx, since + self.patience.min(self.idle))
                    .map(|()| Err(End::Slow))
            }
        })
        .await?;
        if let Some(since) = waiting {
            self.patience = self.patience.saturating_sub(since.elapsed());
        }
        let earned = Duration::from_millis((self.total - before) * 1000 / SLOWEST);
        self.patience = PATIENCE.min(self.patience + earned);
        Ok(())
    }

    /// Ready when some octets were written, a block at most, or all were flushed.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.sent < self.output.len() {
            let end = self.output.len().min(self.sent + BLOCK);
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.output[self.sent..end]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            self.gathering = None;
            self.sent += written;
            self.total += written as u64;
            if self.sent == self.output.len() {
                self.output.clear();
                self.sent = 0;
            }
        } else {
            ready!(self.poll_flush(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when the stream holds nothing back.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads what has been received, up to [`Self::input_limit`], and arranges to be woken by more.
    fn poll_take_in(&mut self, cx: &mut Context<'_>) {
        while self.takes_input() {
            match self.poll_read(cx) {
                Poll::Ready(Ok(())) => {}
                // The write that waits will meet the same error.
                Poll::Ready(Err(_)) => self.eof = true,
                Poll::Pending => break,
            }
        }
    }

    /// Ready when octets were read, or the stream has ended.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.input.is_released() {
            // A session that waits for its device holds no buffer: the first octets are read onto the stack.
            let mut first = Zeroizing::new([0; SMALL]);
            let mut space = ReadBuf::new(&mut first[..]);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut space))?;
            self.eof = space.filled().is_empty();
            self.input.put(space.filled());
            return Poll::Ready(Ok(()));
        }
        let limit = self.input_limit();
        let mut space = ReadBuf::new(self.input.space(limit));
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut space))?;
        let octets = space.filled().len();
        self.eof = octets == 0;
        self.input.filled(octets);
        Poll::Ready(Ok(()))
    }

    /// Waits for more input; all output has been sent. Frees the buffers after [`LINGER`].
    async fn more(&mut self, deadline: Instant) -> Result<(), End> {
        if !self.read_until(deadline.min(Instant::now() + LINGER)).await? {
            self.input.release();
            self.output = Vec::new();
            if !self.read_until(deadline).await? {
                return Err(End::Idle);
            }
        }
        Ok(())
    }

    /// Reads until something comes; `false` if nothing has come by `deadline`.
    async fn read_until(&mut self, deadline: Instant) -> Result<bool, End> {
        poll_fn(|cx| match self.poll_read(cx) {
            Poll::Ready(read) => Poll::Ready(read.map(|()| true).map_err(|_| End::Dropped)),
            Poll::Pending if self.cancelled.as_mut().poll(cx).is_ready() => Poll::Ready(Err(End::Shutdown)),
            Poll::Pending => self.poll_time(cx, deadline).map(|()| Ok(false)),
        })
        .await
    }

    /// Ready at `deadline`. The timer is not reset when a wait ends. It may fire too early for the next wait, and is
    /// then set again. So a busy session does not touch the runtime's timers at every command, which would cost a
    /// system call each.
    fn poll_time(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        if self.timer.deadline() > deadline {
            self.timer.as_mut().reset(deadline);
        }
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(deadline);
        }
    }

    /// Runs `future`, and sends the gathered output while that waits. `Err`: the device is gone, see
    /// [`Self::unless_gone`]; the caller may go on running `future`. `future` is taken by reference: an async function
    /// that took it by value and pinned it would hold it twice.
    pub(super) async fn meanwhile<F: Future>(&mut self, mut future: Pin<&mut F>) -> Result<F::Output, End> {
        let mut probe = Instant::now();
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            match self.send_now(cx) {
                Ok(()) => self.poll_gone(cx, &mut probe).map(Err),
                Err(end) => Poll::Ready(Err(end)),
            }
        })
        .await
    }

    /// Like [`Self::meanwhile`], while much more of a message is to come: the gathered output is sent only after
    /// [`GATHER`], if it is not a whole block before that.
    pub(super) async fn gathering<F: Future>(&mut self, mut future: Pin<&mut F>) -> Result<F::Output, End> {
        let mut probe = Instant::now();
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            if let Poll::Ready(end) = self.poll_gone(cx, &mut probe) {
                return Poll::Ready(Err(end));
            }
            let sent = match self.poll_gathered(cx) {
                Poll::Ready(()) => self.send_now(cx),
                // Of what was written before, the stream may still hold a part.
                Poll::Pending => match self.poll_flush(cx) {
                    Poll::Ready(Err(_)) => Err(End::Dropped),
                    _ => Ok(()),
                },
            };
            match sent {
                Ok(()) => Poll::Pending,
                Err(end) => Poll::Ready(Err(end)),
            }
        })
        .await
    }

    /// Ready if nothing is gathered, or once it has waited for [`GATHER`].
    fn poll_gathered(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Once no more input is read, the timer belongs to the probes of [`Self::poll_gone`].
        if self.output.is_empty() || !self.takes_input() {
            return Poll::Ready(());
        }
        let since = *self.gathering.get_or_insert_with(Instant::now);
        self.poll_time(cx, since + GATHER)
    }

    /// Sends what is gathered until the device takes no more.
    fn send_now(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        while self.holds_output() {
            match self.poll_send(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Err(End::Dropped),
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// Runs `future` unless the device is gone: then nobody waits for the result, and the session ends. A device that
    /// has only closed its own side still reads, and is answered.
    pub(super) async fn unless_gone<F: Future>(&mut self, mut future: Pin<&mut F>) -> Result<F::Output, End> {
        let mut probe = Instant::now();
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => self.poll_gone(cx, &mut probe).map(Err),
        })
        .await
    }

    /// Ready when the connection was reset. The device's input is read meanwhile, because the system reports a reset
    /// only after the input that came before it. `probe` is the time of the next probe. Probes begin once no more input
    /// is read.
    fn poll_gone(&mut self, cx: &mut Context<'_>, probe: &mut Instant) -> Poll<End> {
        while self.takes_input() {
            match ready!(self.poll_read(cx)) {
                Ok(()) => {}
                // TLS has ended without close_notify: the device has closed its side, and no more is known.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.eof = true,
                Err(_) => return Poll::Ready(End::Dropped),
            }
        }
        loop {
            ready!(self.poll_time(cx, *probe));
            if let Poll::Ready(Err(_)) = self.stream.poll_probe(cx) {
                return Poll::Ready(End::Dropped);
            }
            *probe = Instant::now() + PROBE;
        }
    }

    /// Sends the rest and closes, within [`FAREWELL`].
    ///
    /// `leaving`: the permit of a device that has said QUIT. It is given back before the device can see that the
    /// connection is closed, because the device may come again at once. Without a permit, the device may still be
    /// sending. What it sends is thrown away for a moment: an unread octet would make the kernel reset the connection,
    /// and our last reply would be lost.
    pub(super) async fn close(&mut self, leaving: Option<Permit>) {
        let linger = leaving.is_none();
        let farewell = async {
            self.flush().await.map_err(|_| io::ErrorKind::BrokenPipe)?;
            drop(leaving);
            poll_fn(|cx| Pin::new(&mut self.stream).poll_shutdown(cx)).await?;
            let mut octets = 0;
            while linger && !self.eof && octets < FAREWELL_OCTETS {
                self.input.clear();
                poll_fn(|cx| self.poll_read(cx)).await?;
                octets += self.input.len();
            }
            io::Result::Ok(())
        };
        let _ = timeout(FAREWELL, farewell).await;
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, pin::pin};

    use socket2::SockRef;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    /// A device and our end of its connection, through the kernel.
    async fn connected() -> (TcpStream, Connection<TcpStream>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let device = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (ours, _) = listener.accept().await.unwrap();
        (
            device,
            Connection::new(ours, Duration::from_secs(600), CancellationToken::new()),
        )
    }

    fn reset(device: TcpStream) {
        // With a linger time of zero, a close is a reset.
        SockRef::from(&device).set_linger(Some(Duration::ZERO)).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_session_holds_no_buffers() {
        let (mut device, ours) = duplex(1 << 20);
        let mut connection = Connection::new(ours, Duration::from_secs(600), CancellationToken::new());
        let body = [b'x'; 200_000];
        connection.message(&mut Multiline::new(), &body).await.unwrap();
        device
            .write_all(&[b"USER ", &body[..2000], b"\r\n"].concat())
            .await
            .unwrap();
        connection.line(LineKind::Command, |_| ()).await.unwrap();
        let waited = timeout(Duration::from_secs(1), connection.line(LineKind::Command, |_| ())).await;
        assert!(waited.is_err());
        assert_eq!((connection.input.len(), connection.output.capacity()), (0, 0));
        assert!(connection.input.is_released());
        device.read_exact(&mut [0; 200_000]).await.unwrap();
    }

    /// A device that takes everything at once. It notes how many octets each write has brought.
    #[derive(Debug, Default)]
    struct Writes(Vec<usize>);

    impl AsyncRead for Writes {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Writes {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
            self.0.push(octets.len());
            Poll::Ready(Ok(octets.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_message_is_sent_in_whole_blocks() {
        for chunk in [1000, 43_000, BLOCK, 200_000] {
            let mut connection = Connection::new(Writes::default(), Duration::from_secs(600), CancellationToken::new());
            connection.trust(CancellationToken::new());
            let body = b".a line that begins with a dot\r\n".repeat(20_000);
            let mut encoder = Multiline::new();
            for piece in body.chunks(chunk) {
                connection.message(&mut encoder, piece).await.unwrap();
            }
            connection.flush().await.unwrap();
            let Stream::Plain(Writes(writes)) = &connection.stream else {
                unreachable!()
            };
            let (last, blocks) = writes.split_last().unwrap();
            assert!(blocks.iter().all(|&octets| octets == BLOCK), "{chunk}: {writes:?}");
            assert_eq!(blocks.len() * BLOCK + last, body.len() + 20_000, "{chunk}");
        }
    }

    /// Reads `octets` a second of what `connection` sends, and returns how the sending ended and how many seconds it
    /// took.
    async fn read_slowly(buffer: usize, octets: usize) -> (Result<(), End>, u64) {
        let (mut device, ours) = duplex(buffer);
        let mut connection = Connection::new(ours, Duration::from_secs(600), CancellationToken::new());
        connection.trust(CancellationToken::new());
        let begun = Instant::now();
        let sending = async {
            connection.message(&mut Multiline::new(), &[b'x'; 300_000]).await?;
            connection.flush().await
        };
        let reading = async {
            let mut read = vec![0; octets];
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                device.read_exact(&mut read).await.unwrap();
            }
        };
        let ended = tokio::select! {
            ended = sending => ended,
            () = reading => unreachable!(),
        };
        (ended, begun.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_device_reads_a_kilobyte_a_second_or_is_dropped() {
        for buffer in [64, 32 * 1024] {
            let (ended, seconds) = read_slowly(buffer, 1024).await;
            assert_eq!(ended, Ok(()), "{buffer}: after {seconds} s");
            let (ended, seconds) = read_slowly(buffer, 512).await;
            assert_eq!(ended, Err(End::Slow), "{buffer}");
            assert!((100..200).contains(&seconds), "{buffer}: {seconds} s");
        }
        let (ended, seconds) = read_slowly(64, 0).await;
        assert_eq!((ended, seconds), (Err(End::Slow), 60));
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_slowly_once_is_not_reproached_for_it_later() {
        let (mut device, ours) = duplex(64);
        let mut connection = Connection::new(ours, Duration::from_secs(600), CancellationToken::new());
        connection.output().extend_from_slice(&[b'x'; 65]);
        let late = async {
            tokio::time::sleep(Duration::from_secs(59)).await;
            device.read_exact(&mut [0; 65]).await.unwrap();
            device.write_all(b"NOOP\r\n").await.unwrap();
        };
        let (heard, ()) = tokio::join!(connection.line(LineKind::Command, |_| ()), late);
        heard.unwrap();
        assert_eq!(connection.patience, PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_takes_two_seconds_at_most() {
        let (_device, ours) = duplex(64);
        let mut connection = Connection::new(ours, Duration::from_secs(600), CancellationToken::new());
        connection.output().extend_from_slice(&[b'x'; 1000]);
        let begun = Instant::now();
        connection.close(None).await;
        assert_eq!(begun.elapsed(), FAREWELL);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_gathered_goes_out_while_the_upstream_is_waited_for() {
        let (mut device, ours) = duplex(64);
        let mut connection = Connection::new(ours, Duration::from_secs(600), CancellationToken::new());
        connection.reply(&Reply::Done);
        assert_eq!(connection.position(), 5);
        let upstream = async {
            let mut reply = [0; 5];
            device.read_exact(&mut reply).await.unwrap();
            reply
        };
        assert_eq!(&connection.meanwhile(pin!(upstream)).await.unwrap(), b"+OK\r\n");
        assert_eq!(connection.position(), 5);
    }

    /// An upstream that says something every few milliseconds does not hold back what is gathered.
    #[tokio::test(start_paused = true)]
    async fn what_is_gathered_of_a_large_message_waits_for_a_moment_only() {
        let (mut device, ours) = duplex(1 << 20);
        let mut connection = Connection::new(ours, Duration::from_secs(600), CancellationToken::new());
        connection.trust(CancellationToken::new());
        let mut encoder = Multiline::new();
        let begun = Instant::now();
        let pause = Duration::from_millis(4);
        let mut waits = Vec::new();
        let mut received = [0; 100];
        for _ in 0..6 {
            connection.message(&mut encoder, b"0123456789").await.unwrap();
            connection.gathering(pin!(sleep(pause))).await.unwrap();
            let got = timeout(Duration::ZERO, device.read(&mut received)).await;
            waits.push(got.map_or(0, |got| got.unwrap()));
        }
        assert_eq!(waits, [0, 0, 30, 0, 0, 30], "{:?}", begun.elapsed());
    }

    /// The timer of the probes keeps nothing back.
    #[tokio::test(start_paused = true)]
    async fn a_device_that_has_closed_its_side_gets_what_is_gathered() {
        let (mut device, mut connection) = connected().await;
        connection.trust(CancellationToken::new());
        device.shutdown().await.unwrap();
        connection.message(&mut Multiline::new(), b"0123456789").await.unwrap();
        let upstream = async {
            device.read_exact(&mut [0; 10]).await.unwrap();
            Instant::now()
        };
        let begun = Instant::now();
        let got = connection.gathering(pin!(upstream)).await.unwrap();
        assert!(got - begun <= GATHER, "{:?}", got - begun);
    }

    #[tokio::test(start_paused = true)]
    async fn what_makes_a_block_is_not_held_back() {
        let mut connection = Connection::new(Writes::default(), Duration::from_secs(600), CancellationToken::new());
        connection.trust(CancellationToken::new());
        let mut encoder = Multiline::new();
        for _ in 0..8 {
            connection.message(&mut encoder, &[b'x'; BLOCK / 4]).await.unwrap();
            connection.gathering(pin!(tokio::task::yield_now())).await.unwrap();
        }
        let Stream::Plain(Writes(writes)) = &connection.stream else {
            unreachable!()
        };
        assert_eq!(writes, &[BLOCK; 2]);
    }

    #[tokio::test]
    async fn a_device_that_resets_its_connection_is_not_waited_for() {
        // The reset comes after nothing, after commands that wait for their turn, and after more of them than are taken
        // in.
        for (octets, is_trusted) in [
            (0, false),
            (100, false),
            (INPUT_LIMIT, false),
            (INPUT_LIMIT + 100, true),
        ] {
            let (mut device, mut connection) = connected().await;
            connection.is_trusted = is_trusted;
            device.write_all(&vec![b'x'; octets]).await.unwrap();
            reset(device);
            assert_eq!(
                connection.meanwhile(pin!(pending::<()>())).await,
                Err(End::Dropped),
                "{octets}"
            );
            assert_eq!(
                connection.unless_gone(pin!(pending::<()>())).await,
                Err(End::Dropped),
                "{octets}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_device_that_has_sent_all_it_wants_is_answered_until_it_resets_its_connection() {
        let (mut device, mut connection) = connected().await;
        device.write_all(b"QUIT\r\n").await.unwrap();
        device.shutdown().await.unwrap();
        let upstream = tokio::time::sleep(Duration::from_secs(30));
        assert_eq!(connection.meanwhile(pin!(upstream)).await, Ok(()));
        assert!(connection.eof);
        connection
            .line(LineKind::Command, |line| assert_eq!(line, b"QUIT"))
            .await
            .unwrap();
        reset(device);
        assert_eq!(connection.meanwhile(pin!(pending::<()>())).await, Err(End::Dropped));
    }

    #[tokio::test]
    async fn what_waits_for_a_device_that_is_gone_is_not_waited_for_either() {
        let (device, mut connection) = connected().await;
        let send_nothing = connection.unless_gone(pin!(async { 7 })).await;
        assert_eq!(send_nothing, Ok(7));
        connection.reply(&Reply::Done);
        reset(device);
        assert_eq!(connection.meanwhile(pin!(pending::<()>())).await, Err(End::Dropped));
    }
}
