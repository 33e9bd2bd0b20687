//! TRANSACTION and UPDATE: serves the mail itself (RFC 1939 §5, §6).

use std::pin::{Pin, pin};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout_at},
};

use super::{
    alteration::Alteration, command::Command, connection::BLOCK, fold::Fold, header::HeaderField, multiline::Multiline,
    reply::Reply, scan, session::Session, summary::End,
};
use crate::{
    maildrop::{Body, Error, Listing, Maildrop, Refusal},
    types::{MessageNumber, Octets},
};

/// Serves a device that has logged in, until `longest` at most. Only QUIT leads to UPDATE. Any other end deletes
/// nothing.
pub(super) async fn run<S>(session: &mut Session<S>, mut maildrop: Box<Maildrop>, longest: Instant) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let ended = timeout_at(longest, converse(session, &mut maildrop)).await;
    let ended = ended.unwrap_or(Err(End::SessionTimeout));
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
    // On the heap: a session that idles does not hold what only its end needs.
    Box::pin(maildrop.abandon()).await;
    end
}

/// Answers commands until QUIT.
async fn converse<S>(session: &mut Session<S>, maildrop: &mut Maildrop) -> Result<(), End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let command = session.command().await?;
        if session.connection.is_acknowledged() {
            maildrop.note_received();
        }
        let begun = session.begin();
        let (verb, ok) = match command {
            Ok(Command::Quit) => return Ok(()),
            Ok(command) => {
                let verb = command.verb();
                let ok = match execute(session, maildrop, command) {
                    Ok(reply) => session.reply(&reply)?,
                    // On the heap: a session that idles does not hold what only mail and listings need.
                    Err(command) => Box::pin(send(session, maildrop, command)).await?,
                };
                (verb, ok)
            }
            Err(syntax) => ("?", session.reply(&Reply::Syntax(syntax))?),
        };
        session.record(verb, ok, &begun);
        session.connection.send_blocks().await?;
    }
}

/// Carries out a command whose reply is always one line. Gives back any other command: see [`send`].
fn execute<S>(session: &mut Session<S>, maildrop: &mut Maildrop, command: Command) -> Result<Reply, Command> {
    let reply = match command {
        Command::Stat => {
            let (messages, octets) = maildrop.listing().stat();
            Ok(Reply::Stat(messages, octets))
        }
        Command::List(Some(number)) => {
            let octets = maildrop.listing().octets(number);
            octets.map(|octets| Reply::Size(number, octets)).map_err(Error::from)
        }
        Command::Uidl(Some(number)) => {
            let mut uidl = Vec::new();
            maildrop
                .write_uidl(number, &mut uidl)
                .map(|()| Reply::UniqueId(number, uidl))
        }
        Command::Dele(number) => maildrop.delete(number).map(|()| {
            session.summary.deleted += 1;
            session.last = session.last.max(number.0.get());
            Reply::Marked
        }),
        Command::Rset => {
            maildrop.reset();
            session.summary.deleted = 0;
            session.last = 0;
            let (messages, octets) = maildrop.listing().stat();
            Ok(Reply::Messages(messages, octets))
        }
        Command::Noop => Ok(Reply::Done),
        Command::Last => Ok(Reply::Last(session.last)),
        Command::User(_)
        | Command::Pass(_)
        | Command::Apop(..)
        | Command::Mechanisms
        | Command::Auth(..)
        | Command::Stls
        | Command::Utf8
        | Command::Quit => Ok(Reply::NotNow),
        command @ (Command::Capa
        | Command::List(None)
        | Command::Uidl(None)
        | Command::Lang(_)
        | Command::Xlst(..)
        | Command::Retr(_)
        | Command::Top(..)) => return Err(command),
    };
    Ok(reply.unwrap_or_else(Reply::Maildrop))
}

/// Carries out a command whose reply may have several lines, and writes the reply; returns whether it says `+OK`.
async fn send<S>(session: &mut Session<S>, maildrop: &mut Maildrop, command: Command) -> Result<bool, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match command {
        Command::Capa => session.list_capabilities(),
        Command::List(None) => sizes(session, maildrop.listing()).await,
        Command::Uidl(None) => unique_ids(session, maildrop).await,
        Command::Lang(range) => session.language(range.as_deref()),
        Command::Xlst(field, number) => header_fields(session, maildrop, &field, number).await,
        Command::Retr(number) => {
            let alteration = Alteration::of(maildrop.policy());
            let sent = message(session, pin!(maildrop.retrieve(number)), alteration).await?;
            if let Some(octets) = sent {
                session.last = session.last.max(number.0.get());
                session.summary.note_retrieved(octets);
            }
            Ok(sent.is_some())
        }
        Command::Top(number, lines) => {
            let alteration = Alteration::of(maildrop.policy());
            let sent = message(session, pin!(maildrop.top(number, lines)), alteration).await?;
            Ok(sent.is_some())
        }
        // [`execute`] carries out all others.
        _ => session.reply(&Reply::NotNow),
    }
}

/// Answers LIST, a block at a time.
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

/// Answers UIDL, a block at a time.
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

/// Answers XTND XLST. If the upstream does not deliver a header, the session ends without the terminating dot.
async fn header_fields<S>(
    session: &mut Session<S>,
    maildrop: &mut Maildrop,
    field: &[u8],
    number: Option<MessageNumber>,
) -> Result<bool, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let numbers = match number {
        Some(number) => match maildrop.listing().octets(number) {
            Ok(_) => vec![number],
            Err(refusal) => return session.reply(&Reply::Maildrop(refusal.into())),
        },
        None => maildrop.listing().numbers().collect(),
    };
    session.reply(&Reply::ListFollows)?;
    for number in numbers {
        let header = session
            .connection
            .meanwhile(pin!(async {
                let mut body = maildrop.top(number, 0).await?;
                let mut header = HeaderField::default();
                while let Some(chunk) = body.chunk().await? {
                    header.take(chunk);
                }
                Ok::<_, Error>(header)
            }))
            .await?;
        let header = header.map_err(|error| {
            error.log();
            tracing::debug!(%error, "list of header fields broken off");
            End::Upstream
        })?;
        let output = session.connection.output();
        scan::decimal(number.0.get().into(), output);
        output.push(b' ');
        output.extend_from_slice(field);
        output.push(b':');
        header.write(field, output);
        output.extend_from_slice(b"\r\n");
        session.connection.send_blocks().await?;
    }
    session.connection.output().extend_from_slice(b".\r\n");
    Ok(true)
}

/// Sends a message to the device. Returns its octets; `None` if the device got a `-ERR` instead. If the upstream fails
/// half way, the session ends without the terminating dot: the device must not take half a message for a whole one.
async fn message<'m, S>(
    session: &mut Session<S>,
    opening: Pin<&mut impl Future<Output = Result<Body<'m>, Error>>>,
    mut alteration: Option<Alteration>,
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
    let mut fold = session.fold_lines.map(Fold::new);
    let keeps_size = |alteration: &Option<Alteration>| alteration.as_ref().is_none_or(Alteration::keeps_size);
    // A message whose size may change is held back until its size is known, or until too much is held: no size is
    // better than a wrong one.
    let mut held = (announced.is_some() && fold.is_none() && !keeps_size(&alteration)).then(Vec::new);
    if held.is_none() {
        // Only at the end it is known how many octets folding adds.
        session.reply(&Reply::Message(announced.filter(|_| fold.is_none())))?;
    }
    let mut encoder = Multiline::new();
    let (mut received, mut octets) = (Octets(0), Octets(0));
    loop {
        let chunk = match announced.and_then(|announced| announced.0.checked_sub(received.0)) {
            // Once all octets are here, only the upstream's confirmation is missing. It comes soon, so the gathered
            // output is not sent before it.
            Some(0) => session.connection.unless_gone(pin!(body.chunk())).await?,
            Some(left) if left > BLOCK as u64 => session.connection.gathering(pin!(body.chunk())).await?,
            _ => session.connection.meanwhile(pin!(body.chunk())).await?,
        };
        match chunk {
            Ok(Some(chunk)) => {
                received.0 += chunk.len() as u64;
                let chunk = match &mut alteration {
                    Some(alteration) => alteration.apply(chunk),
                    None => chunk,
                };
                octets.0 += chunk.len() as u64;
                let Some(mut piece) = held.take() else {
                    let chunk = match &mut fold {
                        Some(fold) => fold.fold(chunk),
                        None => chunk,
                    };
                    session.connection.message(&mut encoder, chunk).await?;
                    continue;
                };
                piece.extend_from_slice(chunk);
                let is_known = keeps_size(&alteration);
                if is_known || piece.len() >= BLOCK {
                    session.reply(&Reply::Message(announced.filter(|_| is_known)))?;
                    session.connection.message(&mut encoder, &piece).await?;
                } else {
                    held = Some(piece);
                }
            }
            Ok(None) => break,
            Err(error) if held.is_some() => {
                session.reply(&Reply::Maildrop(error))?;
                return Ok(None);
            }
            Err(error) => {
                error.log();
                tracing::debug!(%error, "message broken off");
                return Err(End::Upstream);
            }
        }
    }
    if let Some(alteration) = alteration {
        octets.0 += alteration.end().len() as u64;
        if let Some(piece) = held {
            session.reply(&Reply::Message(Some(octets)))?;
            session.connection.message(&mut encoder, &piece).await?;
        }
        let end = match &mut fold {
            Some(fold) => fold.fold(alteration.end()),
            None => alteration.end(),
        };
        session.connection.message(&mut encoder, end).await?;
    }
    if let Some(fold) = &mut fold {
        session.connection.message(&mut encoder, fold.finish()).await?;
    }
    let delivered = encoder.finish(session.connection.output());
    // Lines are folded for this login only, but the size that is remembered is for every login.
    body.delivered(fold.is_none().then_some(delivered));
    Ok(Some(octets))
}

/// Carries out the delete policy upon QUIT (RFC 1939 §6); says `+OK` only if the upstream has confirmed all of it.
async fn update<S>(session: &mut Session<S>, maildrop: Box<Maildrop>) -> Result<bool, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // What counts as delivered must have been sent: a device may have sent RETR, DELE and QUIT in one go, before it
    // read anything.
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
            session.summary.note_removed(removed);
            Reply::Farewell
        }
        Err(error) => {
            if let Refusal::NotRemoved { failed, total, .. } = error.refusal() {
                session.summary.note_removed(total.saturating_sub(*failed));
            }
            tracing::debug!(marked, %error, "not all was removed");
            Reply::Maildrop(error)
        }
    };
    let ok = session.reply(&reply)?;
    // If the device sent RETR and QUIT in one go, whole messages may be in the output before the reply. A slow reader
    // gets the time that it needs for them.
    let _ = session.connection.flush().await;
    Ok(ok)
}
