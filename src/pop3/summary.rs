//! One log line a session, however it ends.

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use crate::{accounts::Denied, tls::Agreed};

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// QUIT.
    Quit,
    /// The device closed or reset the connection.
    Dropped,
    /// `idle_seconds` without a line.
    Idle,
    /// What was sent has not been read, or too slowly.
    Slow,
    /// `login_seconds` without a login.
    LoginTimeout,
    /// Not logged in, and too many others came after it.
    GaveWay,
    /// `session_seconds` are over.
    SessionTimeout,
    /// `bad_commands` reached.
    BadCommands,
    /// A line longer than its cap.
    LineTooLong,
    /// The TLS handshake failed.
    Handshake,
    /// A PROXY header from an address that is not in `proxy_protocol_from`.
    ProxyHeader,
    /// The upstream failed in the middle of a message.
    Upstream,
    /// The gateway is being stopped.
    Shutdown,
}

impl End {
    fn as_str(self) -> &'static str {
        match self {
            Self::Quit => "quit",
            Self::Dropped => "dropped",
            Self::Idle => "idle",
            Self::Slow => "slow",
            Self::LoginTimeout => "login-timeout",
            Self::GaveWay => "gave-way",
            Self::SessionTimeout => "session-timeout",
            Self::BadCommands => "bad-commands",
            Self::LineTooLong => "line-too-long",
            Self::Handshake => "handshake",
            Self::ProxyHeader => "proxy-header",
            Self::Upstream => "upstream",
            Self::Shutdown => "shutdown",
        }
    }
}

/// What a session did. Logs itself when dropped, so that a session that is aborted leaves its line too.
#[derive(Debug)]
pub(super) struct Summary {
    /// IPv4 as IPv4 also on a dual-stack listener.
    pub(super) peer: SocketAddr,
    started: Instant,
    login: String,
    /// Once there is TLS.
    tls: Option<Agreed>,
    /// Messages retrieved whole.
    pub(super) retrieved: u64,
    /// Their octets.
    pub(super) octets: u64,
    /// Octets that the upstream sent in vain, because they were read ahead.
    pub(super) wasted: u64,
    /// Delete marks set.
    pub(super) deleted: u64,
    /// Deletes confirmed.
    pub(super) removed: u64,
    pub(super) end: Option<End>,
}

/// Octets of a login that a log line shows; some devices send a whole page by mistake.
const LOGIN_SHOWN: usize = 128;

impl Summary {
    pub(super) fn new(peer: SocketAddr) -> Self {
        Self {
            peer: SocketAddr::new(peer.ip().to_canonical(), peer.port()),
            started: Instant::now(),
            login: String::new(),
            tls: None,
            retrieved: 0,
            octets: 0,
            wasted: 0,
            deleted: 0,
            removed: 0,
            end: None,
        }
    }

    pub(super) fn address(&self) -> IpAddr {
        self.peer.ip()
    }

    /// The login that was tried last.
    pub(super) fn set_login(&mut self, login: &[u8]) {
        self.login = shown(login);
    }

    /// Logs a refused login, for programs that block addresses: the peer comes before anything that the device has sent.
    pub(super) fn note_refusal(&self, denied: Denied) {
        let reason = match denied {
            Denied::Wrong => "wrong",
            Denied::Throttled => "throttled",
        };
        tracing::info!(peer = %self.peer, reason, login = self.login, "login refused");
    }

    /// There is TLS.
    pub(super) fn set_tls(&mut self, agreed: Agreed) {
        self.tls = Some(agreed);
    }
}

/// The start of `octets`. The log quotes it.
fn shown(octets: &[u8]) -> String {
    let start = &octets[..octets.len().min(LOGIN_SHOWN)];
    String::from_utf8_lossy(start).into_owned()
}

impl Drop for Summary {
    fn drop(&mut self) {
        let (version, certificate) = match &self.tls {
            Some(Agreed { version, client }) => (version.as_str(), client.as_ref().map(|name| shown(name.as_bytes()))),
            None => ("none", None),
        };
        tracing::info!(
            peer = %self.peer,
            login = self.login,
            tls = version,
            certificate,
            retrieved = self.retrieved,
            octets = self.octets,
            wasted = self.wasted,
            deleted = self.deleted,
            removed = self.removed,
            end = self.end.map_or("aborted", End::as_str),
            ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "session"
        );
    }
}
