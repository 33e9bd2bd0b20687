//! What can go wrong with a maildrop: what the device is told, by whose fault it is, and the cause for the log.
//! `pop3::reply` maps each [`Refusal`] to its response code.

use std::fmt;

use crate::{
    accounts::Account,
    config,
    imap::{self, Party},
    oauth,
    state::Unavailable,
    telemetry::metrics,
};

/// Why a maildrop did not do what a device asked. Keeps its cause; nothing is logged before [`Error::log`].
#[derive(Debug, thiserror::Error)]
#[error("{refusal}")]
pub struct Error {
    refusal: Refusal,
    cause: Option<Box<Cause>>,
}

/// What failed.
#[derive(Debug)]
enum Cause {
    Upstream {
        upstream: String,
        /// Empty if nobody was logged in.
        user: String,
        error: imap::Error,
        /// What to do about it.
        advice: Option<String>,
    },
    State(Unavailable),
}

impl Error {
    /// `error` of the upstream of `account`.
    pub(super) fn upstream(account: &Account, error: imap::Error) -> Self {
        let party = Party {
            upstream: &account.upstream,
            login: Some(&account.login),
            user: &account.user,
            is_forwarded: account.is_forwarded,
            folders: &account.policy.folders,
        };
        Self::of(party, error)
    }

    /// `error` of `upstream`, to which nobody was to log in.
    pub fn unauthenticated(upstream: &config::Upstream, error: imap::Error) -> Self {
        let party = Party {
            upstream,
            login: None,
            user: "",
            is_forwarded: false,
            folders: &[],
        };
        Self::of(party, error)
    }

    fn of(party: Party<'_>, error: imap::Error) -> Self {
        metrics().upstream_error(&party.upstream.name, error.kind());
        Self {
            refusal: Refusal::from(&error),
            cause: Some(Box::new(Cause::Upstream {
                upstream: party.upstream.name.clone(),
                user: party.user.to_owned(),
                advice: imap::advice(&error, party),
                error,
            })),
        }
    }

    /// What the device is told.
    pub fn refusal(&self) -> &Refusal {
        &self.refusal
    }

    /// The same cause behind another refusal.
    pub(super) fn told_as(self, refusal: Refusal) -> Self {
        Self { refusal, ..self }
    }

    /// What the upstream has done, if it was the upstream's fault.
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

    /// The cause, or if there is none, what the device is told: for a line of the log that says what has failed.
    pub fn cause(&self) -> &dyn fmt::Display {
        match self.cause.as_deref() {
            Some(Cause::Upstream { error, .. }) => error,
            Some(Cause::State(unavailable)) => unavailable,
            None => &self.refusal,
        }
    }

    /// What to do about it, and which key of the configuration to change, if that is known.
    pub fn advice(&self) -> Option<&str> {
        match self.cause.as_deref() {
            Some(Cause::Upstream { advice, .. }) => advice.as_deref(),
            Some(Cause::State(_)) => Some("check `dir` of [state], and whether its disk is full"),
            None => match &self.refusal {
                Refusal::Unavailable(Reason::TooManyConnections) => Some(
                    "raise `connections_per_user` of the upstream, if the server allows more, or let devices poll less often",
                ),
                _ => None,
            },
        }
    }

    /// Writes the cause to the log, if there is one. The code at which the error ends calls this, once.
    pub fn log(&self) {
        match self.cause.as_deref() {
            Some(Cause::Upstream {
                upstream,
                user,
                error,
                advice,
            }) => tracing::warn!(upstream, user, %error, advice, "the upstream failed"),
            Some(Cause::State(unavailable)) => tracing::warn!(error = %unavailable, "the state failed"),
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

/// What a device is told when a maildrop does not do what it asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The device's: no message bears that number. (`-ERR`)
    #[error("no such message")]
    NoSuchMessage,
    /// The device's: that message is marked deleted. (`-ERR`)
    #[error("message is deleted")]
    Deleted,
    /// Another session holds the maildrop. (`-ERR [IN-USE]`)
    #[error("another session holds this maildrop")]
    InUse,
    /// The upstream refused user or password. (`-ERR [AUTH]`)
    #[error("the upstream refused login or password")]
    Denied,
    /// Passes by itself. (`-ERR [SYS/TEMP]`)
    #[error("{0}")]
    Unavailable(Reason),
    /// Someone must mend the configuration. (`-ERR [SYS/PERM]`)
    #[error("{0}")]
    Misconfigured(Reason),
    /// QUIT: not all deletes were confirmed. (`-ERR [SYS/TEMP] 2 of 5 messages not removed`; `[SYS/PERM]` if another try
    /// can't help)
    #[error("{failed} of {total} messages not removed")]
    NotRemoved {
        /// Not confirmed by the upstream.
        failed: u64,
        /// Marked by the device.
        total: u64,
        /// The upstream will not remove them, however often it is asked.
        forever: bool,
    },
}

/// A reason in words of our own: nothing that an upstream sent is repeated to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// TCP or TLS connection failed, BYE, or a NO that will pass.
    #[error("upstream not available, try later")]
    Refused,
    /// `connections_per_user` are in use.
    #[error("too many connections of this user (see connections_per_user), try later")]
    TooManyConnections,
    /// Silence for `upstream_seconds`.
    #[error("upstream does not answer, try later")]
    Silent,
    /// The upstream closed or reset the connection.
    #[error("upstream closed the connection, try later")]
    Lost,
    /// The upstream said NO or BAD, or OK without data, to a command that should work.
    #[error("upstream did not deliver, try later")]
    Failed,
    /// What came is not IMAP.
    #[error("upstream sent something that is not IMAP, try later")]
    Protocol,
    /// UIDVALIDITY changed: the UIDs of this session mean other messages now.
    #[error("the mailbox was replaced upstream, log in again")]
    Replaced,
    /// State can't be read or written.
    #[error("what the gateway remembers is not available, see its log")]
    State,
    /// Another session may have the maildrop by now.
    #[error("the lock of the maildrop was lost, log in again")]
    LockLost,
    /// The upstream's certificate is not trusted.
    #[error("upstream certificate not trusted, see the log")]
    Certificate,
    /// The upstream and the gateway can't agree on TLS, or the upstream speaks none.
    #[error("upstream and gateway know no common TLS, see the log")]
    Tls,
    /// The proxy on the way to the upstream refuses.
    #[error("the proxy to the upstream refuses, see the log")]
    Proxy,
    /// The upstream offers no way to log in over this connection (LOGINDISABLED, no STARTTLS, no OAuth2).
    #[error("upstream offers no way to log in here, see the log")]
    NoPassword,
    /// Nobody has consented to the gateway's reading this mail, or the consent has ended.
    #[error("somebody must sign in at the gateway, see its log")]
    SignIn,
    /// The provider of tokens can't be reached, or refuses the gateway.
    #[error("the provider of the upstream's tokens gives none, see the log")]
    Provider,
    /// The upstream does not take the token that its provider gave.
    #[error("the upstream refused the gateway's token, see the log")]
    Token,
    /// The upstream has asked for a pause.
    #[error("upstream wants to be asked less, try later")]
    Throttled,
    /// The login is right, but leads to no mailbox.
    #[error("upstream says that this user has no mailbox it may use, see the log")]
    NoMailbox,
    /// The provider keeps this user out, whatever the password is.
    #[error("upstream keeps this user out, see the log for what to do")]
    Closed,
    /// The server gives no UIDVALIDITY, so messages have no lasting names.
    #[error("upstream names messages anew each time, see the log")]
    NoUidValidity,
    /// The configured folder can't be selected.
    #[error("no such folder upstream, see the log")]
    Folder,
    /// The folder that `on_delete` moves messages to can't be found or made.
    #[error("the folder for deleted mail is out of reach upstream, see the log")]
    Target,
    /// `on_delete` moves messages to the folder that they are in: they are kept.
    #[error("messages of this folder are kept, nothing was removed")]
    Kept,
    /// The folder can only be read and the device wants to delete.
    #[error("folder is read-only upstream, see the log")]
    ReadOnly,
    /// UIDNOTSTICKY (RFC 4315 §3): what a login has hidden cannot be kept for its next session.
    #[error("upstream numbers its messages anew each time, see the log")]
    NotSticky,
}

impl Reason {
    /// Whether the upstream would fail any login like that.
    pub fn is_of_upstream(self) -> bool {
        matches!(
            self,
            Self::Refused | Self::Silent | Self::Certificate | Self::Tls | Self::Proxy | Self::NoPassword
        )
    }
}

impl From<&imap::Error> for Refusal {
    /// The one map from an upstream's failure to what a device is told.
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
