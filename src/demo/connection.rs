//! One connection: splits the input into commands, passes them to the session, and writes the replies.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use memchr::memchr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufWriter},
    net::TcpStream,
    time::timeout,
};

use super::{
    reply::Reply,
    session::Session,
    store::Store,
    syntax::{Literal, Words},
};

/// The longest command in octets, literals included: a UID set of thousands of numbers fits, a message does not.
const MAX_COMMAND: usize = 64 * 1024;
/// The connection is closed after this long without input. RFC 3501 §5.4 wants at least 30 minutes.
const AUTOLOGOUT: Duration = Duration::from_secs(30 * 60);

/// How long a client has to read the last reply and to close the connection.
const LINGER: Duration = Duration::from_secs(2);

/// Serves one connection to its end. An error ends this connection only.
pub(super) async fn serve(socket: TcpStream, store: Arc<Mutex<Store>>) {
    // Replies are written whole, so waiting for more octets would only delay them.
    let _ = socket.set_nodelay(true);
    let connection = Connection {
        socket: BufWriter::new(socket),
        input: BytesMut::new(),
    };
    if let Err(error) = connection.converse(Session::new(store)).await {
        tracing::debug!(%error, "demo: connection lost");
    }
}

struct Connection {
    socket: BufWriter<TcpStream>,
    input: BytesMut,
}

/// What was received.
enum Input {
    /// A command, or a line of an authentication, with its end.
    Command(Bytes),
    /// The start of a command whose literal would be too large. The client has not sent the literal yet: it waits for a
    /// continuation request.
    LiteralTooLarge(Bytes),
    /// The command exceeds the limit, so it is unknown where the next one begins.
    TooLarge,
    Silence,
    End,
}

impl Connection {
    async fn converse(mut self, mut session: Session) -> io::Result<()> {
        self.send(session.greeting()).await?;
        while !session.over() {
            match self.receive().await? {
                Input::Command(command) => self.send(session.answer(&command)).await?,
                Input::LiteralTooLarge(start) => {
                    let tag = Words::new(&start).tag().unwrap_or("*").to_owned();
                    self.say(&format!("{tag} NO [TOOBIG] that literal is too large\r\n"))
                        .await?;
                }
                Input::TooLarge => {
                    self.say("* BYE [TOOBIG] that command is too long\r\n").await?;
                    break;
                }
                Input::Silence => {
                    self.say("* BYE autologout after half an hour of silence\r\n").await?;
                    break;
                }
                Input::End => break,
            }
        }
        self.socket.shutdown().await?;
        self.linger().await
    }

    /// Reads and discards input for up to [`LINGER`]. If the socket were closed with octets unread, TCP could discard
    /// the last reply.
    async fn linger(&mut self) -> io::Result<()> {
        let mut nowhere = tokio::io::sink();
        let rest = tokio::io::copy(self.socket.get_mut(), &mut nowhere);
        timeout(LINGER, rest).await.map_or(Ok(()), |read| read.map(|_| ()))
    }

    async fn send(&mut self, reply: Reply) -> io::Result<()> {
        for piece in reply.into_pieces() {
            self.socket.write_all(&piece).await?;
        }
        Ok(())
    }

    async fn say(&mut self, line: &str) -> io::Result<()> {
        self.socket.write_all(line.as_bytes()).await
    }

    /// Receives the next command with its literals, and sends the continuation requests that they need.
    async fn receive(&mut self) -> io::Result<Input> {
        let mut line = 0; // where the current line begins
        let mut searched = 0; // up to here there is no line end
        loop {
            let Some(found) = memchr(b'\n', &self.input[searched..]) else {
                searched = self.input.len();
                if searched > MAX_COMMAND {
                    return Ok(Input::TooLarge);
                }
                if let Some(nothing) = self.more().await? {
                    return Ok(nothing);
                }
                continue;
            };
            let end = searched + found + 1;
            if end > MAX_COMMAND {
                return Ok(Input::TooLarge);
            }
            let Some(literal) = Literal::announced(&self.input[line..end]) else {
                return Ok(Input::Command(self.input.split_to(end).freeze()));
            };
            if literal.octets > MAX_COMMAND - end {
                return Ok(if literal.synchronizing {
                    Input::LiteralTooLarge(self.input.split_to(end).freeze())
                } else {
                    Input::TooLarge
                });
            }
            if literal.synchronizing {
                self.say("+ go on\r\n").await?;
            }
            line = end + literal.octets;
            while self.input.len() < line {
                if let Some(nothing) = self.more().await? {
                    return Ok(nothing);
                }
            }
            searched = line;
        }
    }

    /// Sends the replies so far, then waits for input. Returns `None` if octets have come.
    async fn more(&mut self) -> io::Result<Option<Input>> {
        self.socket.flush().await?;
        self.input.reserve(4096);
        match timeout(AUTOLOGOUT, self.socket.read_buf(&mut self.input)).await {
            Err(_) => Ok(Some(Input::Silence)),
            Ok(Ok(0)) => Ok(Some(Input::End)),
            Ok(Ok(_)) => Ok(None),
            Ok(Err(error)) => Err(error),
        }
    }
}
