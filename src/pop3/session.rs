//! One connection from accept to end.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    authorization::{self, Next},
    capabilities::Capabilities,
    command::{Command, Syntax},
    connection::{Connection, Line},
    reply::Reply,
    summary::{End, Summary},
    transaction,
};
use crate::{
    accounts::Accounts,
    config::{Expire, Limits, ListenerTls},
    maildrop::{Maildrop, Maildrops},
    tls::Acceptor,
};

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
    /// Present unless `tls` is off.
    pub(super) acceptor: Option<Arc<Acceptor>>,
}

/// The state of one connection that outlives a change of RFC 1939's state.
#[derive(Debug)]
pub(super) struct Session<S> {
    pub(super) connection: Connection<S>,
    pub(super) service: Arc<Service>,
    endpoint: Arc<Endpoint>,
    pub(super) summary: Summary,
    /// The retention of the login, once there is one.
    pub(super) expire: Option<Expire>,
    bad_commands: u32,
}

/// When and where in the output a command began.
#[derive(Debug)]
pub(super) struct Begun {
    at: Instant,
    position: u64,
}

/// Serves one device until it leaves, or is made to; its line is logged at the end.
pub(super) async fn run<S>(
    stream: S,
    peer: SocketAddr,
    endpoint: Arc<Endpoint>,
    service: Arc<Service>,
    shutdown: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut session = Session {
        connection: Connection::new(stream, service.limits.idle, shutdown),
        service,
        endpoint,
        summary: Summary::new(peer),
        expire: None,
        bad_commands: 0,
    };
    let login = session.service.limits.login;
    // On the heap and dropped after the login: a session that idles for hours does not hold what only a login needs.
    let authorized = timeout(login, Box::pin(session.authorize()))
        .await
        .unwrap_or(Err(End::LoginTimeout));
    let end = match authorized {
        Ok(maildrop) => transaction::run(&mut session, maildrop).await,
        Err(end) => end,
    };
    session.finish(end).await;
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    /// From the first octet to the end of AUTHORIZATION.
    async fn authorize(&mut self) -> Result<Box<Maildrop>, End> {
        if self.endpoint.tls.is_implicit() {
            self.start_tls().await?;
        }
        self.connection.reply(&Reply::Ready);
        loop {
            match authorization::run(self).await? {
                Next::Transaction(maildrop) => return Ok(maildrop),
                Next::StartTls => self.start_tls().await?,
            }
        }
    }

    async fn start_tls(&mut self) -> Result<(), End> {
        let acceptor = self.endpoint.acceptor.clone().ok_or(End::Handshake)?;
        let agreed = self.connection.start_tls(&acceptor).await?;
        self.summary.set_tls(agreed);
        Ok(())
    }

    /// What holds on this connection now.
    pub(super) fn capabilities(&self) -> Capabilities {
        let stls = self.endpoint.tls.is_starttls() && !self.connection.is_tls();
        let (least, varies) = self.service.accounts.expire();
        Capabilities {
            stls,
            login: !(stls && self.endpoint.require_tls),
            expire: self.expire.unwrap_or(least),
            expire_varies: self.expire.is_none() && varies,
        }
    }

    /// The next command.
    pub(super) async fn command(&mut self) -> Result<Result<Command, Syntax>, End> {
        self.connection.line(Line::Command, Command::parse).await
    }

    /// Writes the one line of `reply`, or the first of several, and tells whether it says `+OK`. A device that errs too
    /// often is shown the door instead.
    pub(super) fn reply(&mut self, reply: &Reply) -> Result<bool, End> {
        if reply.is_bad_command() {
            self.bad_commands += 1;
            if self.bad_commands >= self.service.limits.bad_commands {
                return Err(End::BadCommands);
            }
        }
        self.connection.reply(reply);
        Ok(reply.is_ok())
    }

    /// CAPA, in any state.
    pub(super) fn list_capabilities(&mut self) -> Result<bool, End> {
        self.reply(&Reply::ListFollows)?;
        let capabilities = self.capabilities();
        let output = self.connection.output();
        capabilities.write(output);
        output.extend_from_slice(b".\r\n");
        Ok(true)
    }

    /// Before a command is carried out.
    pub(super) fn begin(&self) -> Begun {
        Begun {
            at: Instant::now(),
            position: self.connection.position(),
        }
    }

    /// The one record of a command: its verb, never its arguments.
    pub(super) fn record(&self, verb: &'static str, ok: bool, begun: &Begun) {
        tracing::debug!(
            peer = %self.summary.peer,
            verb,
            outcome = if ok { "+OK" } else { "-ERR" },
            octets = self.connection.position() - begun.position,
            us = u64::try_from(begun.at.elapsed().as_micros()).unwrap_or(u64::MAX),
            "command"
        );
    }

    /// Says why, where a device can still be told, and closes.
    async fn finish(mut self, end: End) {
        self.summary.end = Some(end);
        match end {
            End::Quit => self.connection.close(false).await,
            End::BadCommands | End::LineTooLong => {
                self.connection.reply(&if end == End::BadCommands {
                    Reply::TooManyBadCommands
                } else {
                    Reply::LineTooLong
                });
                self.connection.close(true).await;
            }
            // RFC 1939 §3: no reply to a device that has been silent for too long. After a broken message nothing may
            // follow that could pass for its end.
            End::Dropped
            | End::Idle
            | End::LoginTimeout
            | End::Handshake
            | End::ProxyHeader
            | End::Upstream
            | End::Shutdown => {}
        }
    }
}
