//! What can go wrong with an upstream. The variants differ in what the operator can do about them.

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

/// Why an upstream did not do what it was asked. `Display` says what has happened, for the log and for people at a
/// terminal. It may contain the server's own text. If a NO, BAD or BYE to a login repeats the password, its text has
/// been removed. [`advice`](super::advice()) says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No TCP connection could be made.
    #[error("cannot connect: {0}")]
    Unreachable(#[from] Unreachable),
    /// The proxy refuses to connect us until its configuration or ours is changed. The text names the proxy and the
    /// reason.
    #[error("cannot connect: {0}")]
    Proxy(String),
    /// The TLS handshake broke off.
    #[error("cannot connect: the TLS handshake broke off: {0}")]
    Connect(std::io::Error),
    /// The server does not answer the TLS handshake.
    #[error("cannot connect: no answer to the TLS handshake for {} seconds", .0.as_secs())]
    SilentTls(Duration),
    /// The certificate is not trusted or not for this host; nothing secret was sent.
    #[error("certificate not trusted: {0}")]
    Certificate(Distrust),
    /// TLS is not possible with this server; another try would fail in the same way.
    #[error("no TLS: {0}")]
    Tls(Disagreement),
    /// What answers is not an IMAP server.
    #[error("{0} answers, not an IMAP server")]
    Stranger(Spoken),
    /// The server says nothing, or closes the connection, instead of greeting.
    #[error("the server does not greet: {0}")]
    NoGreeting(Box<Self>),
    /// The server greets with BYE.
    #[error("the server turns the connection away: BYE {0}")]
    Unwelcome(String),
    /// `tls = "starttls"`, but the server does not offer STARTTLS.
    #[error("the server offers no STARTTLS")]
    NoStartTls,
    /// The server offers no way to log in by password that may be used on this connection (LOGINDISABLED, RFC 3501
    /// §6.2.3).
    #[error("the server takes no password on this connection (LOGINDISABLED)")]
    LoginDisabled,
    /// The server offers neither AUTH=OAUTHBEARER nor AUTH=XOAUTH2.
    #[error("the server takes no token (it offers neither OAUTHBEARER nor XOAUTH2)")]
    NoTokens,
    /// No access token could be had.
    #[error(transparent)]
    Token(#[from] oauth::Error),
    /// The server refused a token that its provider had given.
    #[error("token refused: {0}")]
    TokenRefused(Completion),
    /// The server greets with PREAUTH: somebody is authenticated already, and it is not known who.
    #[error("the server greets with PREAUTH, so it is not known whose mail this is")]
    PreAuthenticated,
    /// The server refused user or password.
    #[error("login refused: {0}")]
    Denied(Completion),
    /// The login was right, but it leads to no mailbox.
    #[error("logged in, but there is no mailbox to use: {0}")]
    NoMailbox(Completion),
    /// The server has asked for a pause that is not over. Nothing was sent to it.
    #[error("the server wants to be left alone for another {} seconds", .0.as_secs().max(1))]
    Paused(Duration),
    /// The server said NO or BAD.
    #[error("{command} failed: {completion}")]
    Refused {
        /// The command's name, without arguments.
        command: &'static str,
        /// The tagged NO or BAD.
        completion: Completion,
    },
    /// The server said BYE.
    #[error("the server said BYE: {0}")]
    Bye(String),
    /// The provider keeps this user out, whatever the password is.
    #[error("login refused: {completion}")]
    Closed {
        /// The tagged NO or BAD.
        completion: Completion,
        /// The obstacle that keeps the user out, according to the code or the text of `completion`.
        closed: Closed,
    },
    /// The server did not keep to the login's mechanism, or could not prove itself.
    #[error("the login was broken off: {0}")]
    Sasl(&'static str),
    /// The server said nothing for this long.
    #[error("no answer for {} seconds", .0.as_secs())]
    Silent(Duration),
    /// The server keeps sending, but does not complete what was asked.
    #[error("the server goes on and on without completing what was asked")]
    Endless,
    /// The server completed the command before it had sent all the octets of a message that it had announced.
    #[error("the server sent fewer octets than it announced")]
    ShortLiteral,
    /// The connection was closed or reset.
    #[error("connection lost: {0}")]
    Lost(std::io::Error),
    /// What the server sent is not IMAP, or passes a limit.
    #[error("not IMAP: {0}")]
    Protocol(&'static str),
    /// The answer to SELECT has no UIDVALIDITY.
    #[error("the server gives no UIDVALIDITY, so that no message has a name that lasts (RFC 3501 §2.3.1.1)")]
    NoUidValidity,
    /// The server said OK, but did not send what was asked for.
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
        // `NoMailbox`: Exchange also says this on a connection that can no longer reach the mailbox.
        match self {
            Self::Lost(_) | Self::Bye(_) | Self::Unwelcome(_) | Self::NoMailbox(_) => true,
            Self::NoGreeting(instead) => instead.is_lost(),
            _ => false,
        }
    }

    /// The kind of the error, in one word: a label of a metric.
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

    /// Whether the server answered a command by a tagged BAD.
    pub(super) fn is_bad(&self) -> bool {
        matches!(self, Self::Refused { completion, .. } if completion.is_bad())
    }

    /// Whether the server answered a request for a message without delivering it: by OK without data, with too few
    /// octets, or by a NO or BAD that does not look temporary. This does not say whether the message exists.
    pub fn is_undelivered(&self) -> bool {
        match self {
            Self::NoData(_) | Self::ShortLiteral => true,
            Self::Refused { completion, .. } => !completion.will_pass(),
            _ => false,
        }
    }

    /// How long the server wants to be left alone, if it says that it gets too many requests.
    pub(super) fn pause(&self) -> Option<Pause> {
        match self {
            Self::Refused { completion, .. } => completion.pause(),
            Self::Bye(text) | Self::Unwelcome(text) => Pause::of(text),
            _ => None,
        }
    }

    /// Whether the server says that it gets too many requests.
    pub fn asks_for_a_pause(&self) -> bool {
        self.pause().is_some()
    }

    /// Returns the error for a tagged NO or BAD: [`Error::NoMailbox`] if its text says that the user has no mailbox, else
    /// [`Error::Refused`].
    pub(super) fn refused(command: &'static str, completion: Completion) -> Self {
        if completion.tells_no_mailbox() {
            Self::NoMailbox(completion)
        } else {
            Self::Refused { command, completion }
        }
    }

    /// Whether trying again can never help: the user may not do this, or a folder can't be made.
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

    /// Whether SELECT was refused for good: the folder does not exist, or the user may not select it.
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

    /// The error for a tagged NO or BAD to a login. It distinguishes a wrong password from a fault that will pass or
    /// must be mended elsewhere: a device must not ask its owner for a new password because a server is busy.
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

    /// The error of a login by a token that is the device's own: if it was refused, the device must hear that it is
    /// wrong.
    pub(super) fn of_own_token(self) -> Self {
        match self {
            Self::TokenRefused(completion) => Self::Denied(completion),
            other => other,
        }
    }
}
