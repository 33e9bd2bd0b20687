//! AUTHORIZATION: who is it? (RFC 1939 §4, §7; RFC 5034; RFC 2595)

use std::pin::pin;

use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use super::{
    command::{Command, Mechanism, Syntax},
    connection::Line,
    reply::Reply,
    sasl::{self, Malformed},
    session::Session,
    summary::End,
};
use crate::{
    accounts::Denied,
    config::Secret,
    maildrop::{Error, Maildrop, Refusal},
};

/// How the state ended, with the session going on.
pub(super) enum Next {
    /// Logged in; the reply is written.
    Transaction(Box<Maildrop>),
    /// The handshake is next; the reply is written.
    StartTls,
}

/// What a command comes to.
enum Outcome {
    Reply(Reply),
    Capabilities,
    Mechanisms,
    Login(Box<Maildrop>),
    StartTls,
    Quit,
}

/// Reads commands until the device is known, wants TLS, or leaves. A USER is forgotten with the call.
pub(super) async fn run<S>(session: &mut Session<S>) -> Result<Next, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut name = None;
    loop {
        let command = session.command().await?;
        let begun = session.begin();
        let (verb, outcome) = match command {
            Ok(command) => (command.verb(), execute(session, command, &mut name).await?),
            // What comes through a load balancer that is not in `proxy_protocol_from` has nobody's address.
            Err(Syntax::ProxyHeader) => return Err(End::ProxyHeader),
            Err(syntax) => ("?", Outcome::Reply(Reply::Syntax(syntax))),
        };
        let mut next = None;
        let ok = match outcome {
            Outcome::Reply(reply) => session.reply(&reply)?,
            Outcome::Capabilities => session.list_capabilities()?,
            Outcome::Mechanisms => {
                session.reply(&Reply::ListFollows)?;
                session
                    .connection
                    .output()
                    .extend_from_slice(b"PLAIN\r\nLOGIN\r\n.\r\n");
                true
            }
            Outcome::Login(maildrop) => {
                session.expire = Some(maildrop.expire());
                let (messages, octets) = maildrop.listing().stat();
                next = Some(Ok(Next::Transaction(maildrop)));
                session.reply(&Reply::Messages(messages, octets))?
            }
            Outcome::StartTls => {
                next = Some(Ok(Next::StartTls));
                session.reply(&Reply::BeginTls)?
            }
            Outcome::Quit => {
                next = Some(Err(End::Quit));
                session.reply(&Reply::Farewell)?
            }
        };
        session.record(verb, ok, &begun);
        if let Some(next) = next {
            return next;
        }
        session.connection.send_blocks().await?;
    }
}

async fn execute<S>(session: &mut Session<S>, command: Command, name: &mut Option<Vec<u8>>) -> Result<Outcome, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let capabilities = session.capabilities();
    let reply = match command {
        Command::Quit => return Ok(Outcome::Quit),
        Command::Capa => return Ok(Outcome::Capabilities),
        Command::Stls if capabilities.stls => return Ok(Outcome::StartTls),
        Command::Stls => Reply::NoTls,
        Command::User(_) | Command::Pass(_) | Command::Mechanisms | Command::Auth(..) if !capabilities.login => {
            Reply::TlsFirst
        }
        Command::User(login) => {
            *name = Some(login);
            Reply::SecretPlease
        }
        Command::Pass(secret) => match name.take() {
            Some(login) => return log_in(session, &login, secret).await,
            None => Reply::UserFirst,
        },
        Command::Mechanisms => return Ok(Outcome::Mechanisms),
        Command::Auth(mechanism, initial) => match credentials(session, mechanism, initial).await? {
            Ok((login, secret)) => return log_in(session, &login, secret).await,
            Err(malformed) => Reply::Sasl(malformed),
        },
        Command::Noop
        | Command::Stat
        | Command::List(_)
        | Command::Uidl(_)
        | Command::Retr(_)
        | Command::Top(..)
        | Command::Dele(_)
        | Command::Rset => Reply::NotNow,
    };
    Ok(Outcome::Reply(reply))
}

/// The exchange of AUTH: login and secret, or why there are none.
async fn credentials<S>(
    session: &mut Session<S>,
    mechanism: Mechanism,
    initial: Option<Secret>,
) -> Result<Result<(Vec<u8>, Secret), Malformed>, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let first = match (initial, mechanism) {
        (Some(initial), _) => sasl::decode(initial.expose()),
        (None, Mechanism::Plain) => challenge(session, b"").await?,
        (None, Mechanism::Login) => challenge(session, sasl::USERNAME).await?,
    };
    let first = match first {
        Ok(first) => first,
        Err(malformed) => return Ok(Err(malformed)),
    };
    match mechanism {
        Mechanism::Plain => Ok(sasl::plain(&first)),
        Mechanism::Login => Ok(challenge(session, sasl::PASSWORD)
            .await?
            .and_then(|second| sasl::login(&first, &second))),
    }
}

/// One challenge and its response (RFC 5034 §4).
async fn challenge<S>(session: &mut Session<S>, text: &[u8]) -> Result<Result<Zeroizing<Vec<u8>>, Malformed>, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let output = session.connection.output();
    output.extend_from_slice(b"+ ");
    output.extend_from_slice(text);
    output.extend_from_slice(b"\r\n");
    session
        .connection
        .line(Line::Continuation, |line| sasl::decode(line.trim_ascii_end()))
        .await
}

/// Account, upstream, lock and listing: `+OK` only after all of them (RFC 1939 §4).
async fn log_in<S>(session: &mut Session<S>, login: &[u8], secret: Secret) -> Result<Outcome, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    session.summary.set_login(login);
    let peer = session.summary.address();
    let service = session.service.clone();
    let opening = pin!(async {
        let authenticated = service.accounts.authenticate(login, secret, peer).await;
        let (account, attempt) = authenticated.map_err(Reply::Denied)?;
        let opened = service.maildrops.open(&account).await;
        match opened.as_ref().map_err(Error::refusal) {
            // Only a login with the right secret learns that the maildrop is in use.
            Ok(_) | Err(Refusal::InUse) => attempt.succeeded(),
            Err(Refusal::Denied) => {
                attempt.failed().await;
                // Whoever refused it: the text is the same.
                return Err(Reply::Denied(Denied::Wrong));
            }
            // It is not known whether the upstream took the secret.
            Err(_) => attempt.undecided(),
        }
        opened
            .map(|maildrop| (maildrop, account.policy.fold_lines))
            .map_err(Reply::Maildrop)
    });
    // An attempt that ends here without a verdict counts as a failure: a device that takes silence for a refusal must not guess
    // faster than one that waits for the answer.
    session.note_trial(true);
    Ok(match session.connection.meanwhile(opening).await? {
        Ok((maildrop, fold_lines)) => {
            session.fold_lines = fold_lines;
            Outcome::Login(Box::new(maildrop))
        }
        Err(reply) => {
            session.note_trial(false);
            if let Reply::Denied(denied) = reply {
                session.summary.note_refusal(denied);
            }
            Outcome::Reply(reply)
        }
    })
}
