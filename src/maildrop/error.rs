//! Errors of a maildrop: the [`Refusal`] for the device, which also says whose fault it is, and the cause for the log.
//! `pop3::reply` maps each [`Refusal`] to its response code.

use std::fmt;

use crate::{
    accounts::Account,
    config,
    imap::{self, FailedConnection},
    oauth,
    state::Unavailable,
    telemetry::metrics,
};

/// Why a maildrop did not do what a device asked for, with the cause. Logs nothing by itself: see [`Error::log`].
#[derive(Debug, thiserror::Error)]
#[error("{refusal}")]
pub struct Error {
    refusal: Refusal,
    cause: Option<Box<Cause>>,
}

/// What failed: the upstream or state.
#[derive(Debug)]
enum Cause {
    Upstream {
        upstream: String,
        /// Empty on a connection without a login.
        user: String,
        error: imap::Error,
        /// What the operator can do about it.
        advice: Option<String>,
    },
    State(Unavailable),
}

impl Error {
    /// The error for the failure `error` of the upstream of `account`.
    pub(super) fn upstream(account: &Account, error: imap::Error) -> Self {
        let connection = FailedConnection {
            upstream: &account.upstream,
            login: Some(&account.login),
            user: &account.user,
            is_forwarded: account.is_forwarded,
            folders: &account.policy.folders,
        };
        Self::of(connection, error)
    }

    /// The error for the failure `error` of `upstream` on a connection without a login.
    pub fn unauthenticated(upstream: &config::Upstream, error: imap::Error) -> Self {
        let connection = FailedConnection {
            upstream,
            login: None,
            user: "",
            is_forwarded: false,
            folders: &[],
        };
        Self::of(connection, error)
    }

    fn of(connection: FailedConnection<'_>, error: imap::Error) -> Self {
        metrics().upstream_error(&connection.upstream.name, error.kind());
        Self {
            refusal: Refusal::from(&error),
            cause: Some(Box::new(Cause::Upstream {
                upstream: connection.upstream.name.clone(),
                user: connection.user.to_owned(),
                advice: imap::advice(&error, connection),
                error,
            })),
        }
    }

    /// The refusal that the device gets.
    pub fn refusal(&self) -> &Refusal {
        &self.refusal
    }

    /// The same cause with another refusal for the device.
    pub(super) fn with_refusal(self, refusal: Refusal) -> Self {
        Self { refusal, ..self }
    }

    /// The failure of the upstream, if that is the cause.
    pub(super) fn imap(&self) -> Option<&imap::Error> {
        match self.cause.as_deref() {
            Some(Cause::Upstream { error, .. }) => Some(error),
            _ => None,
        }
    }

    /// Whether another try on a new connection may help.
    pub(super) fn is_lost(&self) -> bool {
        self.imap().is_some_and(imap::Error::is_lost)
    }

    /// The cause, or the refusal if there is no cause: for a log line that says what has failed.
    pub fn cause(&self) -> &dyn fmt::Display {
        match self.cause.as_deref() {
            Some(Cause::Upstream { error, .. }) => error,
            Some(Cause::State(unavailable)) => unavailable,
            None => &self.refusal,
        }
    }

    /// What the operator can do about it, and which key of the configuration to change, if that is known.
    pub fn advice(&self) -> Option<&str> {
        match self.cause.as_deref() {
            Some(Cause::Upstream { advice, .. }) => advice.as_deref(),
            Some(Cause::State(_)) => {
                Some("check [state]: whether the disk of `dir` is full, or the servers of `url` run")
            }
            None => match &self.refusal {
                Refusal::Unavailable(Reason::TooManyConnections) => Some(
                    "raise `connections_per_user` of the upstream, if the server allows more, or let devices poll less often",
                ),
                _ => None,
            },
        }
    }

    /// Logs the cause, if there is one. Call this once, in the code that does not pass the error on.
    pub fn log(&self) {
        match self.cause.as_deref() {
            Some(Cause::Upstream {
                upstream,
                user,
                error,
                advice,
            }) => tracing::warn!(upstream, user, %error, advice, "the upstream failed"),
            Some(Cause::State(unavailable)) => tracing::warn!(error = %unavailable, "a request to the state failed"),
            None => {}
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, cause: None }
    }
}

impl From<Unavailable> for Error {
    fn from(unavailable: Unavailable) -> Self {
        Self {
            refusal: Refusal::Unavailable(match unavailable {
                Unavailable::Lost => Reason::LockLost,
                _ => Reason::State,
            }),
            cause: Some(Box::new(Cause::State(unavailable))),
        }
    }
}

/// What a device is told if a maildrop does not do what the device asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The device's fault: no message has that number. (`-ERR`)
    #[error("no such message")]
    NoSuchMessage,
    /// The device's fault: the message is marked as deleted. (`-ERR`)
    #[error("message is deleted")]
    Deleted,
    /// Another session holds the maildrop. (`-ERR [IN-USE]`)
    #[error("another session holds this maildrop")]
    InUse,
    /// The upstream refused user or password. (`-ERR [AUTH]`)
    #[error("the upstream refused login or password")]
    Denied,
    /// A failure that may pass by itself. (`-ERR [SYS/TEMP]`)
    #[error("{0}")]
    Unavailable(Reason),
    /// A failure that lasts until somebody acts, for example changes the configuration. (`-ERR [SYS/PERM]`)
    #[error("{0}")]
    Misconfigured(Reason),
    /// QUIT: not all deletions were confirmed. (`-ERR [SYS/TEMP] 2 of 5 messages not removed`; `[SYS/PERM]` if another
    /// try can't help)
    #[error("{failed} of {total} messages not removed")]
    NotRemoved {
        /// How many deletions were not confirmed.
        failed: u64,
        /// How many messages and notices were to be removed.
        total: u64,
        /// Whether another try cannot help.
        forever: bool,
    },
}

/// The reason of a refusal, in the gateway's own words: a device does not get the text that an upstream has sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// No connection could be made (TCP, or a TLS handshake that broke off), or the upstream said BYE.
    #[error("upstream not available, try later")]
    Refused,
    /// All `connections_per_user` are in use.
    #[error("too many connections of this user (see connections_per_user), try later")]
    TooManyConnections,
    /// The upstream was silent for `upstream_seconds`, or kept sending without an end.
    #[error("upstream does not answer, try later")]
    Silent,
    /// The upstream closed or reset the connection.
    #[error("upstream closed the connection, try later")]
    Lost,
    /// The upstream answered a command that should work by NO, by BAD, by OK without data, or by a literal that is too
    /// short.
    #[error("upstream did not deliver, try later")]
    Failed,
    /// The upstream sent something that is not IMAP.
    #[error("upstream sent something that is not IMAP, try later")]
    Protocol,
    /// UIDVALIDITY has changed: the UIDs of this session may mean other messages now.
    #[error("the mailbox was replaced upstream, log in again")]
    Replaced,
    /// State can't be read or written.
    #[error("what the gateway remembers is not available, see its log")]
    State,
    /// The session's lock was lost: another session may hold the maildrop by now.
    #[error("the lock of the maildrop was lost, log in again")]
    LockLost,
    /// The upstream's certificate is not trusted.
    #[error("upstream certificate not trusted, see the log")]
    Certificate,
    /// The upstream and the gateway cannot agree on TLS, or the upstream does not speak TLS.
    #[error("upstream and gateway know no common TLS, see the log")]
    Tls,
    /// The proxy on the way to the upstream refuses the connection.
    #[error("the proxy to the upstream refuses, see the log")]
    Proxy,
    /// The upstream offers no way to log in over this connection (LOGINDISABLED, no STARTTLS, no OAuth2, PREAUTH).
    #[error("upstream offers no way to log in here, see the log")]
    NoPassword,
    /// There is no consent for this account, or it has ended.
    #[error("somebody must sign in at the gateway, see its log")]
    SignIn,
    /// The OAuth2 provider cannot be reached, or refuses the gateway.
    #[error("the provider of the upstream's tokens gives none, see the log")]
    Provider,
    /// The upstream refuses the token that the OAuth2 provider gave.
    #[error("the upstream refused the gateway's token, see the log")]
    Token,
    /// The upstream has asked for a pause.
    #[error("upstream wants to be asked less, try later")]
    Throttled,
    /// User and password are right, but the user has no mailbox there.
    #[error("upstream says that this user has no mailbox it may use, see the log")]
    NoMailbox,
    /// The provider bars this user, whatever the password is.
    #[error("upstream keeps this user out, see the log for what to do")]
    Closed,
    /// The server sends no UIDVALIDITY, so messages have no lasting names.
    #[error("upstream names messages anew each time, see the log")]
    NoUidValidity,
    /// The configured folder can't be selected.
    #[error("no such folder upstream, see the log")]
    Folder,
    /// The folder that `on_delete` moves messages to cannot be found or created.
    #[error("the folder for deleted mail is out of reach upstream, see the log")]
    Target,
    /// `on_delete` would move messages to the folder that they are in, so they stay.
    #[error("messages of this folder are kept, nothing was removed")]
    Kept,
    /// The device wants to delete, but the folder is read-only.
    #[error("folder is read-only upstream, see the log")]
    ReadOnly,
    /// UIDNOTSTICKY (RFC 4315 §3): the login's next session could not know which messages this one has hidden.
    #[error("upstream numbers its messages anew each time, see the log")]
    NotSticky,
}

impl Reason {
    /// Whether the upstream would fail every login for this reason.
    pub fn is_of_upstream(self) -> bool {
        matches!(
            self,
            Self::Refused | Self::Silent | Self::Certificate | Self::Tls | Self::Proxy | Self::NoPassword
        )
    }
}

impl From<&imap::Error> for Refusal {
    /// Decides what a device is told about an upstream's failure. No other code decides that.
    fn from(error: &imap::Error) -> Self {
        use imap::Error as Upstream;
        match error {
            Upstream::Denied(_) => Self::Denied,
            Upstream::NoMailbox(_) => Self::Misconfigured(Reason::NoMailbox),
            Upstream::Paused(_) => Self::Unavailable(Reason::Throttled),
            _ if error.asks_for_a_pause() => Self::Unavailable(Reason::Throttled),
            Upstream::Unreachable(_) | Upstream::Connect(_) | Upstream::Bye(_) | Upstream::Unwelcome(_) => {
                Self::Unavailable(Reason::Refused)
            }
            Upstream::NoGreeting(instead) => Self::from(&**instead),
            Upstream::Proxy(_) => Self::Misconfigured(Reason::Proxy),
            Upstream::Tls(_) => Self::Misconfigured(Reason::Tls),
            Upstream::Lost(_) => Self::Unavailable(Reason::Lost),
            Upstream::Silent(_) | Upstream::SilentTls(_) | Upstream::Endless => Self::Unavailable(Reason::Silent),
            Upstream::Protocol(_) | Upstream::Stranger(_) => Self::Unavailable(Reason::Protocol),
            Upstream::NoData(_) | Upstream::ShortLiteral => Self::Unavailable(Reason::Failed),
            Upstream::Closed { .. } => Self::Misconfigured(Reason::Closed),
            Upstream::Sasl(_) => Self::Unavailable(Reason::Protocol),
            Upstream::NoUidValidity => Self::Misconfigured(Reason::NoUidValidity),
            Upstream::Certificate(_) => Self::Misconfigured(Reason::Certificate),
            Upstream::Token(oauth::Error::SignIn(_)) => Self::Misconfigured(Reason::SignIn),
            Upstream::Token(oauth::Error::Refused(_)) => Self::Misconfigured(Reason::Provider),
            Upstream::Token(oauth::Error::Unavailable { .. } | oauth::Error::Elsewhere) => {
                Self::Unavailable(Reason::Provider)
            }
            Upstream::Token(oauth::Error::State) => Self::Unavailable(Reason::State),
            Upstream::TokenRefused(_) => Self::Misconfigured(Reason::Token),
            Upstream::NoTokens | Upstream::NoStartTls | Upstream::LoginDisabled | Upstream::PreAuthenticated => {
                Self::Misconfigured(Reason::NoPassword)
            }
            Upstream::Refused { .. } if error.is_no_such_folder() => Self::Misconfigured(Reason::Folder),
            Upstream::Refused { .. } => Self::Unavailable(Reason::Failed),
        }
    }
}
