//! What can go wrong with an upstream, told apart by what helps against it.

use std::time::Duration;

use super::{
    pause::Pause,
    response::{Closed, Code, Completion},
    scram::SaslError,
    unreachable::Unreachable,
};
use crate::{
    oauth,
    tls::{Disagreement, Distrust},
    types::Spoken,
};

/// Why an upstream did not do what was asked. Display says what has happened, for the log and for people at a terminal: it may
/// bear the server's own text, which never repeats a password (see [`Completion::without`]). What to do about it is told by
/// [`advice`](super::advice()).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No TCP connection.
    #[error("cannot connect: {0}")]
    Unreachable(#[from] Unreachable),
    /// The proxy will not connect us, until its configuration or ours is changed. The text says who and why.
    #[error("cannot connect: {0}")]
    Proxy(String),
    /// The TLS handshake broke off.
    #[error("cannot connect: the TLS handshake broke off: {0}")]
    Connect(std::io::Error),
    /// The server says nothing to the TLS handshake.
    #[error("cannot connect: no answer to the TLS handshake for {} seconds", .0.as_secs())]
    SilentTls(Duration),
    /// The certificate is not trusted or not for this host; nothing secret was sent.
    #[error("certificate not trusted: {0}")]
    Certificate(Distrust),
    /// TLS is not possible with this server; another try would fail in the same way.
    #[error("no TLS: {0}")]
    Tls(Disagreement),
    /// What greets is no IMAP server.
    #[error("{0} answers, not an IMAP server")]
    Stranger(Spoken),
    /// Silence, or the end of the connection, in place of a greeting.
    #[error("the server does not greet: {0}")]
    NoGreeting(Box<Self>),
    /// The server greets with BYE.
    #[error("the server turns the connection away: BYE {0}")]
    Unwelcome(String),
    /// `tls = "starttls"`, but the server does not offer STARTTLS.
    #[error("the server offers no STARTTLS")]
    NoStartTls,
    /// No way to log in by password may be used on this connection (LOGINDISABLED, RFC 3501 §6.2.3).
    #[error("the server takes no password on this connection (LOGINDISABLED)")]
    LoginDisabled,
    /// Neither AUTH=OAUTHBEARER nor AUTH=XOAUTH2 is offered.
    #[error("the server takes no token (it offers neither OAUTHBEARER nor XOAUTH2)")]
    NoTokens,
    /// There is no token.
    #[error(transparent)]
    Token(#[from] oauth::Error),
    /// The server refused the token, though its provider gave it.
    #[error("token refused: {0}")]
    TokenRefused(Completion),
    /// The server says that it has authenticated somebody already; that is nobody we know.
    #[error("the server greets with PREAUTH, so it is not known whose mail this is")]
    PreAuthenticated,
    /// The server refused user or password.
    #[error("login refused: {0}")]
    Denied(Completion),
    /// The login was right, but leads to no mailbox.
    #[error("logged in, but there is no mailbox to use: {0}")]
    NoMailbox(Completion),
    /// The server has asked for a pause that is not over: it was not asked.
    #[error("the server wants to be left alone for another {} seconds", .0.as_secs().max(1))]
    Paused(Duration),
    /// The server said NO or BAD.
    #[error("{command} failed: {completion}")]
    Refused {
        /// The command's name, without arguments.
        command: &'static str,
        /// What it said.
        completion: Completion,
    },
    /// The server said BYE.
    #[error("the server said BYE: {0}")]
    Bye(String),
    /// The provider keeps this user out, whatever the password is.
    #[error("login refused: {completion}")]
    Closed {
        /// What the server said.
        completion: Completion,
        /// Why, as far as it says.
        closed: Closed,
    },
    /// The server did not keep to the login's mechanism, or could not prove itself.
    #[error("the login was broken off: {0}")]
    Sasl(&'static str),
    /// Silence for `upstream_seconds`.
    #[error("no answer for {} seconds", .0.as_secs())]
    Silent(Duration),
    /// The server keeps talking, and does not come to an end.
    #[error("the server goes on and on without completing what was asked")]
    Endless,
    /// A message ended before all the octets came that the server had announced: it has completed the command instead.
    #[error("the server sent fewer octets than it announced")]
    ShortLiteral,
    /// The connection was closed or reset.
    #[error("connection lost: {0}")]
    Lost(std::io::Error),
    /// What came is not IMAP, or passes a limit.
    #[error("not IMAP: {0}")]
    Protocol(&'static str),
    /// SELECT told no UIDVALIDITY.
    #[error("the server gives no UIDVALIDITY, so that no message has a name that lasts (RFC 3501 §2.3.1.1)")]
    NoUidValidity,
    /// OK, but what was asked for did not come.
    #[error("{0} was answered OK without data")]
    NoData(&'static str),
}

impl From<SaslError> for Error {
    fn from(SaslError(what): SaslError) -> Self {
        Self::Sasl(what)
    }
}

impl Error {
    /// Whether another try on a new connection may help, because this connection is what failed.
    pub fn is_lost(&self) -> bool {
        // Exchange also says so of a connection whose way to the mailbox has broken off.
        match self {
            Self::Lost(_) | Self::Bye(_) | Self::Unwelcome(_) | Self::NoMailbox(_) => true,
            Self::NoGreeting(instead) => instead.is_lost(),
            _ => false,
        }
    }

    /// Its kind, in one word: a label of a metric.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable(_) | Self::Connect(_) | Self::SilentTls(_) => "unreachable",
            Self::Stranger(_) | Self::NoGreeting(_) => "no-greeting",
            Self::Proxy(_) => "proxy",
            Self::Certificate(_) => "certificate",
            Self::Tls(_) | Self::NoStartTls => "tls",
            Self::LoginDisabled | Self::NoTokens | Self::PreAuthenticated => "no-login",
            Self::Token(_) => "no-token",
            Self::TokenRefused(_) => "token-refused",
            Self::Denied(_) => "denied",
            Self::NoMailbox(_) => "no-mailbox",
            Self::Closed { .. } => "closed",
            Self::Paused(_) => "paused",
            Self::Refused { .. } => "refused",
            Self::Bye(_) | Self::Unwelcome(_) => "bye",
            Self::Silent(_) | Self::Endless => "silent",
            Self::Lost(_) => "lost",
            Self::Sasl(_) | Self::Protocol(_) | Self::NoUidValidity => "protocol",
            Self::NoData(_) | Self::ShortLiteral => "not-delivered",
        }
    }

    /// A tagged BAD.
    pub(super) fn is_bad(&self) -> bool {
        matches!(self, Self::Refused { completion, .. } if completion.is_bad())
    }

    /// Whether the server answered for a message, and did not deliver it: OK without data, or a NO or BAD that does not sound
    /// as if it would pass. Says nothing about whether the message exists.
    pub fn is_undelivered(&self) -> bool {
        match self {
            Self::NoData(_) | Self::ShortLiteral => true,
            Self::Refused { completion, .. } => !completion.will_pass(),
            _ => false,
        }
    }

    /// For how long the server wants to be left alone, where it says that it is asked too much.
    pub(super) fn pause(&self) -> Option<Pause> {
        match self {
            Self::Refused { completion, .. } => completion.pause(),
            Self::Bye(text) | Self::Unwelcome(text) => Pause::of(text),
            _ => None,
        }
    }

    /// Whether the server says that it is asked too much.
    pub fn asks_for_a_pause(&self) -> bool {
        self.pause().is_some()
    }

    /// A tagged NO or BAD.
    pub(super) fn refused(command: &'static str, completion: Completion) -> Self {
        if completion.tells_no_mailbox() {
            Self::NoMailbox(completion)
        } else {
            Self::Refused { command, completion }
        }
    }

    /// Whether the server will never do what was asked, however often: the user may not, or a folder can't be made.
    pub fn is_final(&self) -> bool {
        let Self::Refused { command, completion } = self else {
            return false;
        };
        let is_final = match completion.code() {
            Some(Code::NoPermission) => true,
            Some(Code::AlreadyExists) => false,
            _ => *command == "CREATE" || completion.has_code("CANNOT") || completion.tells_no_permission(),
        };
        is_final && !completion.will_pass()
    }

    /// Whether SELECT was refused for good: the folder does not exist or is not ours.
    pub fn is_no_such_folder(&self) -> bool {
        let Self::Refused {
            command: "SELECT",
            completion,
        } = self
        else {
            return false;
        };
        match completion.code() {
            Some(Code::NonExistent | Code::NoPermission) => true,
            None | Some(Code::Alert | Code::Other) => completion.is_no() && !completion.sounds_temporary(),
            Some(_) => false,
        }
    }

    /// A tagged NO or BAD to a login, told apart by fault: wrong password, or anything that will pass or must be
    /// mended elsewhere. A device must not ask its owner for a new password because a server is busy.
    pub(super) fn from_login(command: &'static str, completion: Completion) -> Self {
        if completion.tells_no_mailbox() || completion.pause().is_some() {
            return Self::refused(command, completion);
        }
        if let Some(closed) = completion.closed() {
            return Self::Closed { completion, closed };
        }
        match completion.code() {
            Some(Code::AuthenticationFailed | Code::AuthorizationFailed | Code::Expired) => Self::Denied(completion),
            Some(Code::PrivacyRequired) => Self::LoginDisabled,
            None | Some(Code::Alert | Code::Other) if completion.is_no() && !completion.sounds_temporary() => {
                Self::Denied(completion)
            }
            _ => Self::Refused { command, completion },
        }
    }
}
