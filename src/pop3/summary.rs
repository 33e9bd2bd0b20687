//! What a session did and how it ended: one log line, and the metrics of sessions.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, LazyLock},
    time::Instant,
};

use tracing::{Level, Span, field};

use super::reply::Reply;
use crate::{
    accounts::{Account, Denied},
    maildrop::Refusal,
    telemetry::{
        LogLimiter, Outcome, Presence, metrics, polls,
        trace::{self, Side},
    },
    tls::Agreed,
    types::Octets,
};

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// QUIT.
    Quit,
    /// The device closed or reset the connection.
    Dropped,
    /// The device sent no line for `idle_seconds`.
    Idle,
    /// The device did not read what was sent, or read it too slowly.
    Slow,
    /// The device did not log in within `login_seconds`.
    LoginTimeout,
    /// The device had not logged in, and too many others came after it.
    GaveWay,
    /// The session lasted for `session_seconds`.
    SessionTimeout,
    /// The device sent `bad_commands` bad commands.
    BadCommands,
    /// The device sent a line longer than its cap.
    LineTooLong,
    /// The TLS handshake failed.
    Handshake,
    /// A PROXY header came from an address that is not in `proxy_protocol_from`.
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

    /// The outcome of a session that ended in this way, and the reason in words if the outcome is a warning. `None` if
    /// the device left by QUIT: then the outcome depends on what it did.
    fn outcome(self) -> Option<(Outcome, &'static str)> {
        Some(match self {
            Self::Quit => return None,
            Self::Dropped => (Outcome::Dropped, ""),
            Self::Idle => (Outcome::Idle, ""),
            Self::Slow | Self::LoginTimeout | Self::SessionTimeout => (Outcome::Timeout, ""),
            Self::GaveWay => (Outcome::Refused, "too many connections that have not logged in"),
            Self::BadCommands => (Outcome::Refused, "too many bad commands"),
            Self::LineTooLong => (Outcome::Refused, "a line that is too long"),
            Self::Handshake => (Outcome::Refused, "the TLS handshake failed"),
            Self::ProxyHeader => (
                Outcome::Refused,
                "a PROXY header from an address that is not in `proxy_protocol_from`",
            ),
            Self::Upstream => (Outcome::Temp, "the upstream failed in the middle of a message"),
            Self::Shutdown => (Outcome::Shutdown, ""),
        })
    }
}

/// What a session did. It logs itself when it is dropped, so that a session that is aborted leaves its line too.
#[derive(Debug)]
pub(super) struct Summary {
    presence: Presence,
    /// The address of the listener, as logs and metrics name it.
    listener: Arc<str>,
    /// The device's address. On a dual-stack listener too, an IPv4 address is not written as IPv6.
    pub(super) peer: SocketAddr,
    started: Instant,
    /// The login that was tried last.
    login: Option<String>,
    /// Present once the device has logged in.
    mailbox: Option<MailboxSummary>,
    /// Present once there is TLS.
    tls: Option<Agreed>,
    /// How many messages were retrieved whole.
    retrieved: u64,
    /// The octets of these messages.
    retrieved_octets: u64,
    /// How many octets the upstream sent in vain, because they were read ahead.
    pub(super) wasted: u64,
    /// How many messages are marked for deletion.
    pub(super) deleted: u64,
    /// How many messages QUIT has removed.
    removed: u64,
    /// What the upstream said when it refused the login that was tried last; the device is told less.
    denial: Option<String>,
    /// The last failure: of the TLS handshake, or one that the device was told of. A login that succeeds clears it.
    failure: Option<(Outcome, String)>,
    pub(super) end: Option<End>,
}

/// The mailbox that a login led to.
#[derive(Debug)]
struct MailboxSummary {
    upstream: String,
    user: String,
    messages: u32,
    octets: u64,
    policy: &'static str,
}

/// How many octets of a login a log line shows; some devices send a whole page by mistake.
const LOGIN_SHOWN: usize = 128;

impl Summary {
    pub(super) fn new(peer: SocketAddr, listener: Arc<str>) -> Self {
        metrics().session_began(&listener);
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        Self {
            presence: Presence::new(listener.clone(), peer),
            listener,
            peer,
            started: Instant::now(),
            login: None,
            mailbox: None,
            tls: None,
            retrieved: 0,
            retrieved_octets: 0,
            wasted: 0,
            deleted: 0,
            removed: 0,
            denial: None,
            failure: None,
            end: None,
        }
    }

    /// The number of the session in the log and in `popgate sessions`.
    pub(super) fn id(&self) -> u64 {
        self.presence.id()
    }

    /// The span of all events of the session. By it, two devices on one mailbox can be distinguished.
    pub(super) fn span(&self) -> Span {
        tracing::info_span!(
            "session",
            id = self.presence.id(),
            listener = &*self.listener,
            peer = %self.peer,
            tls = field::Empty,
            login = field::Empty,
        )
    }

    pub(super) fn address(&self) -> IpAddr {
        self.peer.ip()
    }

    /// Notes the login that is tried now: as the device has sent it, and as
    /// [`crate::accounts::Accounts::canonical_login`] returns it.
    pub(super) fn set_login(&mut self, login: &[u8], canonical: &str) {
        let login = shown(login);
        trace::set_login(canonical);
        trace::received(Side::Device, || {
            format!("a login as {login:?} from {} at {}", self.peer, self.listener)
        });
        self.login = Some(login);
        self.denial = None;
    }

    /// Notes that the upstream has refused the login, in these words.
    pub(super) fn note_denial(&mut self, words: String) {
        self.denial = Some(words);
    }

    /// Logs a refused login, for programs that block addresses. The peer comes before anything that the device has
    /// sent.
    pub(super) fn note_refusal(&self, denied: Denied) {
        let reason = match denied {
            Denied::Wrong => "wrong",
            Denied::Throttled => "throttled",
        };
        tracing::warn!(parent: None, peer = %self.peer, reason, login = self.login, "login refused");
    }

    /// Notes that the TLS handshake has succeeded.
    pub(super) fn set_tls(&mut self, agreed: Agreed) {
        Span::current().record("tls", agreed.version.as_str());
        self.presence.set_tls(&agreed.version);
        self.tls = Some(agreed);
    }

    /// Notes that the TLS handshake has failed.
    pub(super) fn note_handshake(&mut self, reason: String) {
        self.failure = Some((Outcome::Refused, reason));
    }

    /// Notes that the device has logged in, and sees this much mail.
    pub(super) fn note_login(&mut self, account: &Account, (messages, octets): (u32, Octets)) {
        Span::current().record("login", self.login.as_deref());
        self.presence.set_login(&account.login);
        metrics().login(&account.upstream.name, Outcome::Ok);
        polls().succeeded(&account.login, messages);
        self.failure = None;
        self.mailbox = Some(MailboxSummary {
            upstream: account.upstream.name.clone(),
            user: account.user.clone(),
            messages,
            octets: octets.0,
            policy: account.policy.on_delete.kind(),
        });
    }

    /// Counts that `reply` refuses `login`, as [`crate::accounts::Accounts::canonical_login`] returns it. `upstream` is
    /// empty if the login leads to none.
    pub(super) fn count_refusal(&self, login: &str, upstream: &str, reply: &Reply) {
        if let Some((outcome, reason)) = self.failure_of(reply) {
            metrics().login(upstream, outcome);
            polls().failed(login, &reason);
        }
    }

    /// Notes that the device has retrieved a message.
    pub(super) fn note_retrieved(&mut self, octets: Octets) {
        metrics().retrieved(octets.0);
        self.retrieved += 1;
        self.retrieved_octets += octets.0;
    }

    /// Notes that QUIT has removed this many messages.
    pub(super) fn note_removed(&mut self, messages: u64) {
        self.removed = messages;
        if let Some(mailbox) = &self.mailbox
            && messages > 0
        {
            metrics().deleted(mailbox.policy, messages);
        }
    }

    /// Notes the failure that `reply` reports, if it reports one.
    pub(super) fn note(&mut self, reply: &Reply) {
        if let Some(failure) = self.failure_of(reply) {
            self.failure = Some(failure);
        }
    }

    /// Like [`failure`], but in the upstream's words if it has refused a login.
    fn failure_of(&self, reply: &Reply) -> Option<(Outcome, String)> {
        let (outcome, words) = failure(reply)?;
        match &self.denial {
            Some(denial) if outcome == Outcome::Auth => Some((outcome, denial.clone())),
            _ => Some((outcome, words)),
        }
    }

    /// How the session went, and the reason in words.
    fn outcome(&self) -> (Outcome, Option<&str>) {
        if let Some((outcome, reason)) = &self.failure {
            return (*outcome, Some(reason));
        }
        match self.end.map_or(Some((Outcome::Shutdown, "")), End::outcome) {
            Some((outcome, "")) => (outcome, None),
            Some((outcome, reason)) => (outcome, Some(reason)),
            None if self.retrieved + self.deleted > 0 => (Outcome::Ok, None),
            None => (Outcome::Empty, None),
        }
    }

    /// Whether nobody needs to see the line: a health check, or a connection that says nothing.
    fn is_probe(&self, outcome: Outcome) -> bool {
        self.login.is_none() && outcome.level() == Level::INFO
    }
}

/// The failure that `reply` reports, as an outcome and in words. It is no failure if a device asks for a message that
/// is gone.
fn failure(reply: &Reply) -> Option<(Outcome, String)> {
    let (outcome, words) = match reply {
        Reply::Denied(denied @ Denied::Wrong) => (Outcome::Auth, denied.to_string()),
        Reply::Denied(denied @ Denied::Throttled) => (Outcome::Throttled, denied.to_string()),
        Reply::Maildrop(error) => {
            let outcome = match error.refusal() {
                Refusal::NoSuchMessage | Refusal::Deleted => return None,
                Refusal::InUse => Outcome::InUse,
                Refusal::Denied => Outcome::Auth,
                Refusal::NotRemoved { failed, total, .. } if failed < total => Outcome::Partial,
                Refusal::Unavailable(_) | Refusal::NotRemoved { forever: false, .. } => Outcome::Temp,
                Refusal::Misconfigured(_) | Refusal::NotRemoved { forever: true, .. } => Outcome::Perm,
            };
            (outcome, error.cause().to_string())
        }
        _ => return None,
    };
    Some((outcome, words))
}

/// The first [`LOGIN_SHOWN`] octets as text. The log quotes it.
fn shown(octets: &[u8]) -> String {
    let start = &octets[..octets.len().min(LOGIN_SHOWN)];
    String::from_utf8_lossy(start).into_owned()
}

/// The networks whose refused connections were logged lately.
static REFUSED: LazyLock<LogLimiter> = LazyLock::new(LogLimiter::default);

/// Logs that a connection of `peer` was refused before a session began: once a minute for each network, otherwise at
/// debug level.
pub(super) fn note_refused(peer: SocketAddr, listener: &Arc<str>, reason: &str) {
    let outcome = Outcome::Refused;
    metrics().refused(listener, outcome);
    let (listener, outcome) = (&**listener, outcome.as_str());
    match REFUSED.admit(peer.ip().to_canonical()) {
        Some(suppressed) => {
            tracing::warn!(parent: None, outcome, listener, %peer, reason, suppressed, "connection refused")
        }
        None => tracing::debug!(parent: None, outcome, listener, %peer, reason, "connection refused"),
    }
}

impl Drop for Summary {
    fn drop(&mut self) {
        let (outcome, reason) = self.outcome();
        let lasted = self.started.elapsed();
        metrics().session_ended(&self.listener, outcome, lasted);
        let (tls, certificate) = match &self.tls {
            Some(Agreed { version, client }) => (version.as_str(), client.as_ref().map(|name| shown(name.as_bytes()))),
            None => ("none", None),
        };
        let mailbox = self.mailbox.as_ref();
        let suppressed = match outcome {
            Outcome::Refused => REFUSED.admit(self.address()),
            _ => Some(0),
        };
        // Outside the session's span: the line itself has the span's fields.
        macro_rules! log {
            ($level:ident) => {
                tracing::$level!(
                    parent: None,
                    outcome = outcome.as_str(),
                    listener = &*self.listener,
                    peer = %self.peer,
                    tls,
                    certificate,
                    login = self.login,
                    upstream = mailbox.map(|mailbox| &*mailbox.upstream),
                    user = mailbox.map(|mailbox| &*mailbox.user),
                    messages = mailbox.map(|mailbox| mailbox.messages),
                    octets = mailbox.map(|mailbox| mailbox.octets),
                    retrieved = self.retrieved,
                    retrieved_octets = self.retrieved_octets,
                    deleted = self.deleted,
                    removed = self.removed,
                    wasted = self.wasted,
                    end = self.end.map_or("aborted", End::as_str),
                    reason,
                    suppressed = suppressed.filter(|count| *count > 0),
                    seconds = (lasted.as_secs_f64() * 1000.0).round() / 1000.0,
                    "session ended"
                )
            };
        }
        if suppressed.is_none() || self.is_probe(outcome) {
            log!(debug);
        } else if outcome.level() == Level::WARN {
            log!(warn);
        } else {
            log!(info);
        }
    }
}
