//! One session, from an accepted connection to its end.

use std::{sync::Arc, time::Instant};

use futures_util::FutureExt;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    select,
    time::{self, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    authorization::{self, Next},
    capabilities::{Capabilities, Offer},
    command::{Command, Syntax},
    connection::{Connection, LineKind},
    language::{LANGUAGES, language},
    newcomers::Newcomer,
    permits::Permit,
    reply::Reply,
    sasl,
    summary::{End, Summary},
    transaction,
};
use crate::{
    accounts::{Accounts, SecretsKnown},
    config::{Expire, Limits, ListenerTls},
    maildrop::{Maildrop, Maildrops},
    telemetry::{
        metrics,
        trace::{self, Side},
    },
    tls::{AcceptError, Acceptor},
};

/// The most octets of a reply of one line (RFC 1939 §3).
const ONE_LINE: u64 = 512;

/// What all sessions share.
#[derive(Debug)]
pub struct Service {
    /// Who may log in.
    pub accounts: Accounts,
    /// Opens maildrops.
    pub maildrops: Maildrops,
    /// `[limits]`
    pub limits: Limits,
}

/// What the sessions of one listener share.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) tls: ListenerTls,
    pub(super) require_tls: bool,
    /// Whether APOP and CRAM-MD5 are offered.
    pub(super) apop: bool,
    /// Present unless `tls` is off.
    pub(super) acceptor: Option<Arc<Acceptor>>,
}

/// How a session is told to stop.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop {
    /// Once this is cancelled, a device that has not logged in is disconnected.
    pub(super) newcomers_over: CancellationToken,
    /// Once this is cancelled, a device that has logged in is disconnected too, after its current command.
    pub(super) drain_over: CancellationToken,
}

/// What a session keeps while it goes through the states of RFC 1939.
#[derive(Debug)]
pub(super) struct Session<S> {
    /// The first field, so that it is dropped before the connection: a device that sees the connection closed may
    /// connect again at once. `None` once it was given back.
    permit: Option<Permit>,
    pub(super) connection: Connection<S>,
    /// Present until the login.
    newcomer: Option<Newcomer>,
    pub(super) service: Arc<Service>,
    endpoint: Arc<Endpoint>,
    pub(super) summary: Summary,
    /// The login's retention; `None` before the login.
    pub(super) expire: Option<Expire>,
    /// The login's `fold_lines`.
    pub(super) fold_lines: Option<usize>,
    /// The highest number of a message that was retrieved or deleted; 0 if there is none (RFC 1460, LAST).
    pub(super) last: u32,
    /// The challenge of APOP in the greeting, if the listener offers APOP.
    pub(super) timestamp: Option<String>,
    /// Whether devices may log in by token, as it was known when the session began: what is announced stays the same.
    tokens: Offer,
    bad_commands: u32,
}

/// When and where in the output a command began.
#[derive(Debug)]
pub(super) struct CommandStart {
    at: Instant,
    position: u64,
}

/// Whether devices may log in by tokens of their own.
fn tokens(service: &Service) -> Offer {
    let mut upstreams = service.accounts.token_upstreams().peekable();
    if upstreams.peek().is_none() {
        Offer::No
    } else if upstreams.any(|upstream| service.maildrops.takes_tokens(&upstream.name)) {
        Offer::Yes
    } else {
        Offer::Unannounced
    }
}

/// Serves one device until it leaves or is disconnected; `summary` logs its line at the end.
///
/// This is not an async function: its future would hold the arguments in addition to the session that is made of them.
pub(super) fn run<S>(
    stream: S,
    summary: Summary,
    permit: Permit,
    newcomer: Newcomer,
    endpoint: Arc<Endpoint>,
    service: Arc<Service>,
    stop: Stop,
) -> impl Future<Output = ()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let must_leave = newcomer.must_leave();
    let limits = &service.limits;
    let (login, longest) = (limits.login, time::Instant::now() + limits.session);
    // Without random numbers there is no APOP.
    let timestamp = endpoint.apop.then(sasl::timestamp).and_then(Result::ok);
    let mut session = Session {
        tokens: tokens(&service),
        timestamp,
        permit: Some(permit),
        connection: Connection::new(stream, limits.idle, stop.newcomers_over),
        newcomer: Some(newcomer),
        service,
        summary,
        endpoint,
        expire: None,
        fold_lines: None,
        last: 0,
        bad_commands: 0,
    };
    async move {
        // On the heap, and dropped after the login, so that a session that idles for hours does not hold what only a
        // login needs. It is boxed before it is passed on, because each call would copy it.
        let authorized = select! {
            biased;
            authorized = timeout(login, Box::pin(session.authorize())) => authorized.unwrap_or(Err(End::LoginTimeout)),
            () = must_leave => Err(End::GaveWay),
        };
        let end = match authorized {
            Ok(maildrop) => {
                session.newcomer = None;
                session.connection.trust(stop.drain_over);
                transaction::run(&mut session, maildrop, longest).await
            }
            Err(end) => end,
        };
        session.finish(end).await;
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    /// Runs the session from its first octet until the device has logged in.
    async fn authorize(&mut self) -> Result<Box<Maildrop>, End> {
        if self.endpoint.tls.is_implicit() {
            self.start_tls().await?;
        }
        self.connection.reply(&Reply::Ready(self.timestamp.clone()));
        loop {
            match authorization::run(self).await? {
                Next::Transaction(maildrop) => return Ok(maildrop),
                Next::StartTls => self.start_tls().await?,
            }
        }
    }

    async fn start_tls(&mut self) -> Result<(), End> {
        let acceptor = self.endpoint.acceptor.clone().ok_or(End::Handshake)?;
        // Boxed: otherwise a session has room for a handshake until the device has logged in.
        match Box::pin(self.connection.start_tls(&acceptor)).await? {
            Ok(agreed) => self.summary.set_tls(agreed),
            Err(AcceptError::Silent) => return Err(End::Dropped),
            Err(AcceptError::Failed(reason)) => {
                self.summary.note_handshake(reason);
                return Err(End::Handshake);
            }
        }
        Ok(())
    }

    /// Notes whether the gateway is verifying a secret. While it does, the connection does not give way.
    pub(super) fn note_trial(&self, is_under_way: bool) {
        match &self.newcomer {
            Some(newcomer) if is_under_way => newcomer.begin_trial(),
            Some(newcomer) => newcomer.end_trial(),
            None => {}
        }
    }

    /// The capabilities that hold on this connection now.
    pub(super) fn capabilities(&self) -> Capabilities {
        let stls = self.endpoint.tls.is_starttls() && !self.connection.is_tls();
        let (least, varies) = self.service.accounts.expire();
        Capabilities {
            stls,
            login: !(stls && self.endpoint.require_tls),
            digests: if self.timestamp.is_some() {
                Offer::Yes
            } else {
                Offer::No
            },
            scram: match self.service.accounts.secrets_known() {
                SecretsKnown::None => Offer::No,
                SecretsKnown::Some if !self.endpoint.apop => Offer::Unannounced,
                SecretsKnown::Some | SecretsKnown::All => Offer::Yes,
            },
            // A token is as good as a password for an hour: it is accepted only over TLS, or from this machine.
            tokens: if self.connection.is_tls() || self.summary.address().is_loopback() {
                self.tokens
            } else {
                Offer::No
            },
            expire: self.expire.unwrap_or(least),
            expire_varies: self.expire.is_none() && varies,
        }
    }

    /// Waits for the next command. Empty lines before it are ignored.
    pub(super) async fn command(&mut self) -> Result<Result<Command, Syntax>, End> {
        let parse = |line: &[u8]| {
            trace::received(Side::Device, || without_secrets(line));
            (!line.trim_ascii().is_empty()).then(|| Command::parse(line))
        };
        loop {
            if let Some(command) = self.connection.line(LineKind::Command, parse).await? {
                return Ok(command);
            }
        }
    }

    /// Writes the one line of `reply`, or the first of several, and returns whether it says `+OK`. If the device has
    /// made too many faults, the session ends instead.
    pub(super) fn reply(&mut self, reply: &Reply) -> Result<bool, End> {
        if reply.is_bad_command() {
            self.bad_commands += 1;
            if self.bad_commands >= self.service.limits.bad_commands {
                return Err(End::BadCommands);
            }
        }
        if let Reply::Maildrop(error) = reply {
            error.log();
        }
        self.summary.note(reply);
        trace::sent(Side::Device, || {
            let mut line = Vec::new();
            reply.write(&mut line);
            trace::shown(line.trim_ascii_end())
        });
        self.connection.reply(reply);
        Ok(reply.is_ok())
    }

    /// Answers CAPA, in any state.
    pub(super) fn list_capabilities(&mut self) -> Result<bool, End> {
        self.reply(&Reply::ListFollows)?;
        let capabilities = self.capabilities();
        let output = self.connection.output();
        capabilities.write(output);
        output.extend_from_slice(b".\r\n");
        Ok(true)
    }

    /// Answers LANG, in any state.
    pub(super) fn language(&mut self, range: Option<&[u8]>) -> Result<bool, End> {
        let Some(range) = range else {
            self.reply(&Reply::ListFollows)?;
            let output = self.connection.output();
            output.extend_from_slice(LANGUAGES);
            output.extend_from_slice(b".\r\n");
            return Ok(true);
        };
        self.reply(&language(range).map_or(Reply::NoLanguage, Reply::Language))
    }

    /// Notes when and where in the output a command begins. Call this before it is carried out.
    pub(super) fn begin(&self) -> CommandStart {
        CommandStart {
            at: Instant::now(),
            position: self.connection.position(),
        }
    }

    /// Records a command in the metrics, in a trace and in the log: its verb, never its arguments.
    pub(super) fn record(&self, verb: &'static str, ok: bool, begun: &CommandStart) {
        metrics().command(verb, ok);
        let octets = self.connection.position() - begun.position;
        // A message may be shorter than a line, and is traced too.
        if octets > ONE_LINE || (ok && matches!(verb, "RETR" | "TOP")) {
            trace::sent(Side::Device, || format!("<{octets} octets in answer to {verb}>"));
        }
        tracing::debug!(
            verb,
            outcome = if ok { "+OK" } else { "-ERR" },
            octets,
            us = u64::try_from(begun.at.elapsed().as_micros()).unwrap_or(u64::MAX),
            "command"
        );
    }

    /// Tells the device why the session ends, if it still can, and closes the connection.
    async fn finish(&mut self, end: End) {
        self.summary.end = Some(end);
        match end {
            End::Quit => self.connection.close(self.permit.take()).await,
            End::BadCommands | End::LineTooLong => {
                self.connection.reply(&if end == End::BadCommands {
                    Reply::TooManyBadCommands
                } else {
                    Reply::LineTooLong
                });
                self.connection.close(None).await;
            }
            // Others wait for this place: the reply goes out at once or not at all.
            End::GaveWay => {
                self.connection.reply(&Reply::TooManySessions);
                let _ = self.connection.flush().now_or_never();
            }
            // RFC 1939 §3: no reply to a device that has been silent for too long. After a broken message nothing may
            // follow that could pass for its end.
            End::Dropped
            | End::Idle
            | End::Slow
            | End::LoginTimeout
            | End::SessionTimeout
            | End::Handshake
            | End::ProxyHeader
            | End::Upstream
            | End::Shutdown => {}
        }
    }
}

/// The commands whose arguments are not secret.
const OPEN: [&str; 16] = [
    "CAPA", "DELE", "LANG", "LAST", "LIST", "NOOP", "QUIT", "RETR", "RSET", "STAT", "STLS", "TOP", "UIDL", "USER",
    "UTF8", "XTND",
];

/// What a trace shows of a command: no password, no digest, no response. A line that is not a command may be a password
/// too.
fn without_secrets(line: &[u8]) -> String {
    let line = line.trim_ascii();
    let mut words = line.split(|&octet| octet == b' ');
    let verb = words.next().unwrap_or_default();
    let is = |name: &str| verb.eq_ignore_ascii_case(name.as_bytes());
    let shown = if OPEN.into_iter().any(is) {
        line.len()
    } else if is("APOP") || is("AUTH") {
        verb.len() + words.next().map_or(0, |word| 1 + word.len())
    } else if is("PASS") {
        verb.len()
    } else {
        0
    };
    let (shown, secret) = line.split_at(shown);
    match secret.trim_ascii_start().len() {
        0 => trace::shown(shown),
        octets if shown.is_empty() => trace::hidden(octets),
        octets => format!("{} {}", trace::shown(shown), trace::hidden(octets)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_shows_no_secret() {
        for (line, expected) in [
            ("USER eva", "USER eva"),
            ("pass se cret", "pass <7 octets>"),
            ("PASS", "PASS"),
            ("APOP eva c4c9334bac560ecc979e58001b3e22fb", "APOP eva <32 octets>"),
            ("AUTH PLAIN AGV2YQBzZWNyZXQ=", "AUTH PLAIN <16 octets>"),
            ("AUTH PLAIN", "AUTH PLAIN"),
            ("c2VjcmV0", "<8 octets>"),
            ("PASS:secret", "<11 octets>"),
            ("RETR 1", "RETR 1"),
            ("", ""),
        ] {
            assert_eq!(without_secrets(line.as_bytes()), expected);
        }
    }
}
