//! TRANSACTION and UPDATE: the mail itself (RFC 1939 §5, §6).

use std::pin::{Pin, pin};

use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    command::Command, connection::BLOCK, multiline::Multiline, reply::Reply, scan, session::Session, summary::End,
};
use crate::maildrop::{Body, Error, Listing, Maildrop, Octets};

/// Serves a device that is logged in. Only a QUIT leads to UPDATE; any other end deletes nothing.
pub(super) async fn run<S>(session: &mut Session<S>, mut maildrop: Box<Maildrop>) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let ended = converse(session, &mut maildrop).await;
    session.summary.wasted = maildrop.wasted().0;
    let end = match ended {
        Ok(()) => {
            let begun = session.begin();
            match update(session, maildrop).await {
                Ok(ok) => {
                    session.record("QUIT", ok, &begun);
                    return End::Quit;
                }
                Err(end) => return end,
            }
        }
        Err(end) => end,
    };
    // On the heap, like all that only the end needs: a session that idles does not hold it.
    Box::pin(maildrop.abandon()).await;
    end
}

/// Until QUIT.
async fn converse<S>(session: &mut Session<S>, maildrop: &mut Maildrop) -> Result<(), End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let command = session.command().await?;
        if session.connection.is_heard() {
            maildrop.note_received();
        }
        let begun = session.begin();
        let (verb, ok) = match command {
            Ok(Command::Quit) => return Ok(()),
            Ok(command) => (command.verb(), execute(session, maildrop, command).await?),
            Err(syntax) => ("?", session.reply(&Reply::Syntax(syntax))?),
        };
        session.record(verb, ok, &begun);
        session.connection.send_blocks().await?;
    }
}

/// Carries out one command and writes its reply; tells whether that says `+OK`.
async fn execute<S>(session: &mut Session<S>, maildrop: &mut Maildrop, command: Command) -> Result<bool, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let reply = match command {
        Command::Capa => return session.list_capabilities(),
        Command::List(None) => return sizes(session, maildrop.listing()).await,
        Command::Uidl(None) => return unique_ids(session, maildrop).await,
        Command::Retr(number) => {
            return match message(session, pin!(maildrop.retrieve(number))).await? {
                Some(octets) => {
                    session.summary.retrieved += 1;
                    session.summary.octets += octets.0;
                    Ok(true)
                }
                None => Ok(false),
            };
        }
        Command::Top(number, lines) => return Ok(message(session, pin!(maildrop.top(number, lines))).await?.is_some()),
        Command::Stat => {
            let (messages, octets) = maildrop.listing().stat();
            Ok(Reply::Stat(messages, octets))
        }
        Command::List(Some(number)) => maildrop
            .listing()
            .octets(number)
            .map(|octets| Reply::Size(number, octets)),
        Command::Uidl(Some(number)) => {
            let mut uidl = Vec::new();
            maildrop
                .write_uidl(number, &mut uidl)
                .map(|()| Reply::UniqueId(number, uidl))
        }
        Command::Dele(number) => maildrop.delete(number).map(|()| {
            session.summary.deleted += 1;
            Reply::Marked
        }),
        Command::Rset => {
            maildrop.reset();
            session.summary.deleted = 0;
            let (messages, octets) = maildrop.listing().stat();
            Ok(Reply::Messages(messages, octets))
        }
        Command::Noop => Ok(Reply::Done),
        Command::User(_)
        | Command::Pass(_)
        | Command::Apop(..)
        | Command::Mechanisms
        | Command::Auth(..)
        | Command::Stls
        | Command::Quit => Ok(Reply::NotNow),
    };
    session.reply(&reply.unwrap_or_else(Reply::Maildrop))
}

/// LIST, a block at a time.
async fn sizes<S>(session: &mut Session<S>, listing: &Listing) -> Result<bool, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (messages, octets) = listing.stat();
    session.reply(&Reply::Messages(messages, octets))?;
    let mut lines = listing.sizes();
    while scan::sizes(&mut lines, BLOCK, session.connection.output()) {
        session.connection.send_blocks().await?;
    }
    session.connection.output().extend_from_slice(b".\r\n");
    Ok(true)
}

/// UIDL, a block at a time.
async fn unique_ids<S>(session: &mut Session<S>, maildrop: &Maildrop) -> Result<bool, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    session.reply(&Reply::ListFollows)?;
    let mut numbers = maildrop.listing().numbers();
    let write_uidl = |number, out: &mut Vec<u8>| maildrop.write_uidl(number, out);
    while scan::unique_ids(&mut numbers, write_uidl, BLOCK, session.connection.output()) {
        session.connection.send_blocks().await?;
    }
    session.connection.output().extend_from_slice(b".\r\n");
    Ok(true)
}

/// Passes a message on. `None`: there is none, and the device was told. An upstream that fails half way ends the
/// session without the terminating dot: the device must not take half a message for a whole one.
async fn message<'m, S>(
    session: &mut Session<S>,
    opening: Pin<&mut impl Future<Output = Result<Body<'m>, Error>>>,
) -> Result<Option<Octets>, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut body = match session.connection.meanwhile(opening).await? {
        Ok(body) => body,
        Err(error) => {
            session.reply(&Reply::Maildrop(error))?;
            return Ok(None);
        }
    };
    let announced = body.octets();
    session.reply(&Reply::Message(announced))?;
    let mut encoder = Multiline::new();
    let mut octets = Octets(0);
    loop {
        // When all octets are here only the upstream's word is missing that they are: not worth a write of its own.
        let chunk = if announced == Some(octets) {
            session.connection.unless_gone(pin!(body.chunk())).await?
        } else {
            session.connection.meanwhile(pin!(body.chunk())).await?
        };
        match chunk {
            Ok(Some(chunk)) => {
                octets.0 += chunk.len() as u64;
                session.connection.message(&mut encoder, chunk).await?;
            }
            Ok(None) => break,
            Err(error) => {
                tracing::debug!(peer = %session.summary.peer, %error, "message broken off");
                return Err(End::Upstream);
            }
        }
    }
    encoder.finish(session.connection.output());
    Ok(Some(octets))
}

/// QUIT: the delete policy (RFC 1939 §6); `+OK` only if the upstream confirmed all of it.
async fn update<S>(session: &mut Session<S>, maildrop: Box<Maildrop>) -> Result<bool, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // What counts as delivered must have been sent: a pipelined RETR, DELE, QUIT may all have come before a read.
    if maildrop.is_touched()
        && let Err(end) = session.connection.flush().await
    {
        Box::pin(maildrop.abandon()).await;
        return Err(end);
    }
    let marked = session.summary.deleted;
    // On the heap: a session that idles does not hold what only its end needs.
    let mut commit = Box::pin(maildrop.commit());
    let committed = match session.connection.meanwhile(commit.as_mut()).await {
        Ok(committed) => committed,
        // The device has sent QUIT: its deletions are carried out, even if it does not wait for the reply.
        Err(_) => commit.await,
    };
    let reply = match committed {
        Ok(removed) => {
            session.summary.removed = removed;
            Reply::Farewell
        }
        Err(error) => {
            if let Error::NotRemoved { failed, total } = error {
                session.summary.removed = total.saturating_sub(failed);
            }
            tracing::debug!(peer = %session.summary.peer, marked, %error, "not all was removed");
            Reply::Maildrop(error)
        }
    };
    session.reply(&reply)
}
