//! Sends and receives the octets of a connection to an upstream: the socket, the frame that received octets go into,
//! and the time limits.

use std::{
    fmt, io, mem,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::{
    io::AsyncWrite,
    time::{Instant, Sleep},
};
use zeroize::{Zeroize, Zeroizing};

use super::{deflate::Deflate, error::Error, frame::Frame, io::Io};

/// How many octets are read at once, at first: answers to commands are short, and many connections wait for one.
const FIRST_WINDOW: usize = 2 * 1024;
/// How many octets are read at once, at most, whatever a message's size.
const WINDOW: usize = 64 * 1024;

pub(super) struct Wire {
    io: Box<dyn Io>,
    frame: Frame,
    /// How many octets are read at once. This grows while the server fills the room.
    window: usize,
    /// Queued and not yet sent, so that several commands are sent in one piece. Wiped when dropped: it may hold a
    /// password that could not be sent.
    outgoing: Zeroizing<Vec<u8>>,
    /// How many octets of `outgoing` have been sent.
    sent: usize,
    /// How long the server may say nothing.
    silence: Duration,
    /// The time at which a wait fails, even if the server sends something all the time.
    deadline: Option<Instant>,
    /// Present only during a wait. A timer would keep the waker of the task that waited, and with it the task.
    timer: Option<Pin<Box<Sleep>>>,
    /// Whether `timer` is set for the wait under way.
    armed: bool,
}

impl Wire {
    /// A connection on `io`. `silence`: how long the server may say nothing while it is waited for.
    pub(super) fn new(io: Box<dyn Io>, silence: Duration) -> Self {
        Self {
            io,
            frame: Frame::default(),
            window: FIRST_WINDOW,
            outgoing: Zeroizing::default(),
            sent: 0,
            silence,
            deadline: None,
            timer: None,
            armed: false,
        }
    }

    /// Returns the connection for the TLS handshake after STARTTLS. It is an error if octets have come between the OK
    /// and the handshake: an attacker may have injected them.
    pub(super) fn into_plain(self) -> Result<Box<dyn Io>, Error> {
        if self.frame.octets().is_empty() {
            Ok(self.io)
        } else {
            Err(Error::Protocol("data between STARTTLS and TLS"))
        }
    }

    /// Compresses both directions from here on. Call this between the OK to COMPRESS and the next command. The octets
    /// in the buffer came after the OK's line end (RFC 4978 §3), so the compressed stream begins with them.
    pub(super) fn compress(&mut self) {
        let io = mem::replace(&mut self.io, Box::new(tokio::io::empty()));
        self.io = Box::new(Deflate::new(io, self.frame.take()));
    }

    /// Closes the connection at once. What was queued and not sent is dropped.
    pub(super) fn cut(&mut self) {
        self.io.set_reset_on_close(true);
        self.io = Box::new(tokio::io::empty());
        self.outgoing.zeroize();
        self.sent = 0;
    }

    pub(super) fn frame(&mut self) -> &mut Frame {
        &mut self.frame
    }

    pub(super) fn received(&self) -> &Frame {
        &self.frame
    }

    /// Sets how long the server may say nothing, from now on.
    pub(super) fn set_silence(&mut self, silence: Duration) {
        self.silence = silence;
        self.armed = false;
    }

    /// Sets a deadline: once it has passed, waiting fails even if the server says something all the time.
    pub(super) fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
        self.armed = false;
    }

    /// Releases the task that used this connection: the socket would keep the task's waker, and with it the whole task,
    /// until something comes. Returns whether the connection is still open.
    pub(super) fn detach(&mut self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        let read = tokio_util::io::poll_read_buf(Pin::new(&mut self.io), &mut nobody, self.frame.space());
        self.shrink();
        !matches!(read, Poll::Ready(Ok(0) | Err(_)))
    }

    /// Frees the memory that an idle connection does not need.
    pub(super) fn shrink(&mut self) {
        self.timer = None;
        self.armed = false;
        self.deadline = None;
        if self.outgoing.is_empty() {
            self.outgoing = Zeroizing::default();
        }
        if self.frame.shrink() {
            self.window = FIRST_WINDOW;
        }
    }

    /// See [`Io::set_reset_on_close`].
    pub(super) fn set_reset_on_close(&self, reset: bool) {
        self.io.set_reset_on_close(reset);
    }

    /// Reads what has come. Waits until there is at least one octet.
    pub(super) async fn fill(&mut self) -> Result<(), Error> {
        std::future::poll_fn(|cx| self.poll_fill(cx)).await
    }

    /// Sends octets, and wipes its copy of them afterwards.
    pub(super) async fn send(&mut self, octets: &[u8]) -> Result<(), Error> {
        self.queue(octets);
        self.flush().await
    }

    pub(super) async fn flush(&mut self) -> Result<(), Error> {
        std::future::poll_fn(|cx| self.poll_send(cx)).await
    }

    /// Adds to what [`Wire::flush`] sends.
    pub(super) fn queue(&mut self, octets: &[u8]) {
        let length = self.outgoing.len() + octets.len();
        if length > self.outgoing.capacity() {
            // A vector that grows by itself does not wipe the memory that it leaves.
            let room = length.max(2 * self.outgoing.len());
            let mut larger = Zeroizing::new(Vec::with_capacity(room));
            larger.extend_from_slice(&self.outgoing);
            self.outgoing = larger;
        }
        self.outgoing.extend_from_slice(octets);
    }

    /// See [`Wire::fill`].
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Poll::Ready(Err(Error::Endless));
        }
        let buffer = self.frame.space();
        if buffer.capacity() - buffer.len() < self.window / 4 {
            buffer.reserve(self.window);
        }
        match tokio_util::io::poll_read_buf(Pin::new(&mut self.io), cx, buffer) {
            Poll::Ready(Ok(0)) => {
                self.armed = false;
                Poll::Ready(Err(Error::Lost(io::ErrorKind::UnexpectedEof.into())))
            }
            Poll::Ready(Ok(_)) => {
                self.armed = false;
                if buffer.len() == buffer.capacity() {
                    self.window = WINDOW.min(self.window * 4);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(Error::Lost(error))),
            Poll::Pending => self.poll_silence(cx),
        }
    }

    /// See [`Wire::flush`].
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while self.sent < self.outgoing.len() {
            match Pin::new(&mut self.io).poll_write(cx, &self.outgoing[self.sent..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(Error::Lost(io::ErrorKind::WriteZero.into()))),
                Poll::Ready(Ok(count)) => {
                    self.armed = false;
                    self.sent += count;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Error::Lost(error))),
                Poll::Pending => return self.poll_silence(cx),
            }
        }
        // The buffer may have held a password.
        self.outgoing.zeroize();
        self.sent = 0;
        match Pin::new(&mut self.io).poll_flush(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(Error::Lost(error))),
            Poll::Pending => self.poll_silence(cx),
        }
    }

    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let until = |now: Instant| {
            let silent = now + self.silence;
            self.deadline.map_or(silent, |deadline| deadline.min(silent))
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(self.silence)));
        if !self.armed {
            self.armed = true;
            timer.as_mut().reset(until(Instant::now()));
        }
        ready!(timer.as_mut().poll(cx));
        self.armed = false;
        Poll::Ready(Err(match self.deadline {
            Some(deadline) if Instant::now() >= deadline => Error::Endless,
            _ => Error::Silent(self.silence),
        }))
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("received", &self.frame.octets().len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const SILENCE: Duration = Duration::from_secs(30);

    fn wire(room: usize) -> (Wire, DuplexStream) {
        let (near, far) = duplex(room);
        (Wire::new(Box::new(near), SILENCE), far)
    }

    #[tokio::test(start_paused = true)]
    async fn silence_has_a_limit_that_each_octet_extends() {
        let (mut wire, mut server) = wire(64);
        for _ in 0..3 {
            let (filled, _) = tokio::join!(wire.fill(), async {
                tokio::time::advance(SILENCE - Duration::from_secs(1)).await;
                server.write_all(b"x").await.unwrap();
            });
            filled.unwrap();
        }
        assert!(matches!(wire.fill().await, Err(Error::Silent(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_is_extended_by_nothing() {
        let (mut wire, mut server) = wire(64);
        wire.set_deadline(Some(Instant::now() + 2 * SILENCE));
        let chatter = async {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if server.write_all(b"* OK still here\r\n").await.is_err() {
                    return;
                }
            }
        };
        let read = async {
            loop {
                if let Err(error) = wire.fill().await {
                    return error;
                }
                let count = wire.received().octets().len();
                wire.frame().consume(count);
            }
        };
        let begun = Instant::now();
        tokio::select! {
            error = read => assert!(matches!(error, Error::Endless), "{error}"),
            () = chatter => unreachable!(),
        }
        assert_eq!(begun.elapsed(), 2 * SILENCE);
    }

    #[tokio::test]
    async fn a_server_that_is_always_ready_meets_the_deadline_too() {
        let (mut wire, mut server) = wire(64);
        server.write_all(b"* OK\r\n").await.unwrap();
        wire.set_deadline(Some(Instant::now()));
        assert!(matches!(wire.fill().await, Err(Error::Endless)));
        wire.set_deadline(None);
        wire.fill().await.unwrap();
    }

    #[tokio::test]
    async fn what_was_sent_is_wiped_and_buffers_go_while_idle() {
        let (mut wire, mut server) = wire(1 << 20);
        wire.send(b"a LOGIN joe geheim\r\n").await.unwrap();
        assert!(wire.outgoing.is_empty());
        let room = wire.outgoing.capacity();
        assert!(room > 0);
        let mut sent = [0; 20];
        server.read_exact(&mut sent).await.unwrap();
        assert_eq!(&sent, b"a LOGIN joe geheim\r\n");
        server.write_all(&[b'x'; 300_000]).await.unwrap();
        while wire.window < WINDOW {
            wire.fill().await.unwrap();
        }
        let count = wire.received().octets().len();
        wire.frame().consume(count);
        wire.shrink();
        assert_eq!((wire.window, wire.frame.space().capacity()), (FIRST_WINDOW, 0));
    }

    #[tokio::test]
    async fn what_is_not_sent_is_wiped_too() {
        let (mut wire, mut server) = wire(16);
        let mut expected = Vec::new();
        for count in 0..50 {
            let octets = vec![b'x'; count];
            expected.extend_from_slice(&octets);
            wire.queue(&octets);
        }
        let outgoing: &Zeroizing<Vec<u8>> = &wire.outgoing;
        assert_eq!(**outgoing, expected);
        // The server takes too little, and the login that waits is dropped.
        let sent = tokio::time::timeout(Duration::ZERO, wire.send(b"a LOGIN joe geheim\r\n")).await;
        assert!(sent.is_err());
        assert!(wire.outgoing.ends_with(b"geheim\r\n"));
        wire.cut();
        assert!(wire.outgoing.is_empty());
        let mut received = Vec::new();
        server.read_to_end(&mut received).await.unwrap();
        assert_eq!(received.len(), 16);
    }

    #[tokio::test]
    async fn octets_before_the_tls_handshake_are_an_error() {
        let (mut wire, mut server) = wire(64);
        server.write_all(b"* OK injected\r\n").await.unwrap();
        wire.fill().await.unwrap();
        assert!(wire.into_plain().is_err());
    }

    #[tokio::test]
    async fn a_connection_that_waits_is_seen_to_be_closed() {
        let (mut wire, server) = wire(64);
        assert!(wire.detach());
        drop(server);
        assert!(!wire.detach());
    }
}
