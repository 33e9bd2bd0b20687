//! The only file that uses the crate async-imap. The crate is used until the login is done: for the greeting,
//! CAPABILITY, STARTTLS, and the lines of the login. Then [`Front::into_link`] takes the connection out of it.
//!
//! async-imap stops for good at a line that its parser does not accept, and copies what it sends into buffers that it
//! does not wipe. So [`Adapter`] gives async-imap each event as one plain line, and secrets are written to the [`Link`]
//! directly.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use async_imap::Client;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    capability::Capabilities,
    error::Error,
    io::Io,
    link::Link,
    reader::{Event, Expect},
    response::Completion,
};
use crate::types::Spoken;

/// A connection on which nobody has logged in yet.
#[derive(Debug)]
pub(super) struct Front {
    client: Client<Adapter>,
    tags: u32,
}

/// The server's answer to a line of a login.
#[derive(Debug)]
pub(super) enum LoginAnswer {
    /// The server waits for another line. Holds the text after the plus.
    Continue(Vec<u8>),
    /// The command is complete: OK, NO or BAD.
    Done(Completion),
}

impl Front {
    /// Reads the greeting. Any greeting but OK is an error.
    pub(super) async fn greet(link: Box<Link>) -> Result<Self, Error> {
        let mut front = Self::new(link);
        if let Err(error) = front.read().await {
            return Err(front.no_greeting(error));
        }
        match front.adapter().status.take() {
            Some(greeting) if greeting.is_ok() => Ok(front),
            Some(greeting) if greeting.is_pre_auth() => Err(Error::PreAuthenticated),
            Some(greeting) if greeting.is_bye() => Err(Error::Unwelcome(greeting.text().to_owned())),
            _ => Err(Error::Stranger(Spoken::Unknown)),
        }
    }

    /// The error to report if `error` came instead of the greeting. A server of another protocol is recognised by its
    /// first octets.
    fn no_greeting(&mut self, error: Error) -> Error {
        let received = self.adapter().link.received();
        match (Spoken::of(received), error) {
            (Spoken::Unknown, Error::Protocol(_)) => Error::Stranger(Spoken::Unknown),
            (Spoken::Unknown | Spoken::Imap, error @ (Error::Lost(_) | Error::Silent(_) | Error::Endless)) => {
                Error::NoGreeting(Box::new(error))
            }
            (Spoken::Unknown | Spoken::Imap, error) => error,
            (spoken, _) => Error::Stranger(spoken),
        }
    }

    fn new(mut link: Box<Link>) -> Self {
        link.expect(Expect {
            status: true,
            after_bye: true,
            ..Expect::default()
        });
        Self {
            client: Client::new(Adapter {
                link,
                shown: Vec::new(),
                line: Vec::new(),
                tag: String::new(),
                status: None,
                challenge: None,
                completion: None,
            }),
            tags: 0,
        }
    }

    /// The capabilities that the server has sent. Asks for them if it has sent none.
    pub(super) async fn capabilities(&mut self) -> Result<Capabilities, Error> {
        if let Some(sent) = self.take_capabilities() {
            return Ok(sent);
        }
        self.run("CAPABILITY").await?;
        Ok(self.take_capabilities().unwrap_or_default())
    }

    /// The capabilities that the server has sent since the last call.
    pub(super) fn take_capabilities(&mut self) -> Option<Capabilities> {
        self.adapter().link.news().capabilities.take()
    }

    /// Sends STARTTLS and returns the connection for the TLS handshake. The server does not greet again after the
    /// handshake: go on with [`Front::secured`].
    pub(super) async fn start_tls(mut self) -> Result<Box<dyn Io>, Error> {
        self.run("STARTTLS").await?;
        self.into_link().into_plain()
    }

    /// The same connection after STARTTLS and the TLS handshake.
    pub(super) fn secured(link: Box<Link>) -> Self {
        Self::new(link)
    }

    /// Sends the first line of a command that may hold a secret. `command` has no tag: it is added here.
    pub(super) async fn begin(&mut self, command: &[u8]) -> Result<(), Error> {
        self.tags += 1;
        let tag = format!("S{}", self.tags);
        let adapter = self.adapter();
        adapter.link.announce(&tag);
        adapter.link.queue(tag.as_bytes());
        adapter.link.queue(b" ");
        adapter.tag = tag;
        adapter.link.send_raw(command).await
    }

    /// Sends a further line of the command that [`Front::begin`] began. The line may hold a secret.
    pub(super) async fn send(&mut self, line: &[u8]) -> Result<(), Error> {
        self.adapter().link.send_raw(line).await
    }

    /// Waits for the server's answer to the line that was sent last.
    pub(super) async fn answer(&mut self) -> Result<LoginAnswer, Error> {
        loop {
            self.read().await?;
            let adapter = self.adapter();
            if let Some(completion) = adapter.completion.take() {
                return Ok(LoginAnswer::Done(completion));
            }
            if let Some(challenge) = adapter.challenge.take() {
                return Ok(LoginAnswer::Continue(challenge));
            }
        }
    }

    /// Takes the connection out of async-imap, for our own commands.
    pub(super) fn into_link(self) -> Box<Link> {
        let mut link = self.client.into_inner().link;
        link.end_login();
        link
    }

    fn adapter(&mut self) -> &mut Adapter {
        self.client.get_mut()
    }

    /// Reads one response. The adapter keeps its content.
    async fn read(&mut self) -> Result<(), Error> {
        self.adapter().link.begin_wait();
        match self.client.read_response().await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(Error::Lost(io::ErrorKind::UnexpectedEof.into())),
            Err(error) => Err(own(error)),
        }
    }

    /// Runs a command that holds no secret, because async-imap does not wipe its copy.
    async fn run(&mut self, command: &'static str) -> Result<(), Error> {
        self.adapter().link.begin_wait();
        let result = self.client.run_command_and_check_ok(command, None).await;
        match (result, self.adapter().completion.take()) {
            (Ok(()), _) => Ok(()),
            (Err(_), Some(completion)) if !completion.is_ok() => Err(Error::Refused { command, completion }),
            (Err(async_imap::error::Error::ConnectionLost), _) => Err(Error::Lost(io::ErrorKind::UnexpectedEof.into())),
            (Err(async_imap::error::Error::Io(error)), _) => Err(own(error)),
            (Err(_), _) => Err(Error::Protocol("an unexpected answer")),
        }
    }
}

/// Takes our own error out of an I/O error that async-imap has passed on.
fn own(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::Lost(error),
    }
}

/// The stream that async-imap reads and writes. It turns each event into the simplest line that means the same.
struct Adapter {
    link: Box<Link>,
    /// What async-imap reads next.
    shown: Vec<u8>,
    /// The line that async-imap is writing.
    line: Vec<u8>,
    /// The tag of the command in flight.
    tag: String,
    /// The last untagged status that came before the first command: the greeting.
    status: Option<Completion>,
    /// The text after the last plus.
    challenge: Option<Vec<u8>>,
    /// How the last command ended.
    completion: Option<Completion>,
}

impl Adapter {
    fn show(&mut self, event: Event) {
        match event {
            // Later untagged status responses are not shown: they would only confuse async-imap.
            Event::Status(status) if self.tag.is_empty() => {
                self.status = Some(status);
                self.shown.extend_from_slice(b"* OK ready\r\n");
            }
            Event::Continue(text) => {
                self.challenge = Some(text);
                self.shown.extend_from_slice(b"+ \r\n");
            }
            Event::Tagged(_, completion) => {
                let kind = if completion.is_ok() { "OK" } else { "NO" };
                self.shown
                    .extend_from_slice(format!("{} {kind} done\r\n", self.tag).as_bytes());
                self.completion = Some(completion);
            }
            _ => {}
        }
    }
}

impl AsyncRead for Adapter {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.shown.is_empty() {
            ready!(self.link.poll_send(cx)).map_err(io::Error::other)?;
            let event = ready!(self.link.poll_event(cx)).map_err(io::Error::other)?;
            self.show(event);
        }
        let count = self.shown.len().min(out.remaining());
        out.put_slice(&self.shown[..count]);
        self.shown.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Adapter {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        self.line.extend_from_slice(octets);
        if self.line.ends_with(b"\n") {
            let line = std::mem::take(&mut self.line);
            let tag = line.split(|&octet| octet == b' ').next().unwrap_or_default();
            self.tag = String::from_utf8_lossy(tag).into_owned();
            let tag = self.tag.clone();
            self.link.announce(&tag);
            self.link.queue(&line);
        }
        Poll::Ready(Ok(octets.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.poll_send(cx).map_err(io::Error::other)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

impl std::fmt::Debug for Adapter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Adapter")
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}
