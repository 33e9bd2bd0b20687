//! How a session went, in one word: a field of its log line and a label of its metric.

use tracing::Level;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    /// The device fetched or deleted mail, or both, and left by QUIT.
    Ok,
    /// The device left by QUIT, and fetched and deleted nothing.
    Empty,
    /// The device did not log in: its last login was refused.
    Auth,
    /// The device did not log in: it had failed too often before.
    Throttled,
    /// The device did not log in: another session holds the maildrop.
    InUse,
    /// The device was told `[SYS/TEMP]`, or the upstream failed in the middle of a message.
    Temp,
    /// The device was told `[SYS/PERM]`.
    Perm,
    /// QUIT removed some messages and not others.
    Partial,
    /// The device was not let in, or the gateway disconnected it.
    Refused,
    /// The device closed or lost the connection.
    Dropped,
    /// The device was silent for `idle_seconds`.
    Idle,
    /// Another time limit was over, or the device did not read what was sent.
    Timeout,
    /// The gateway was being stopped.
    Shutdown,
}

impl Outcome {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Empty => "empty",
            Self::Auth => "auth",
            Self::Throttled => "throttled",
            Self::InUse => "in-use",
            Self::Temp => "temp",
            Self::Perm => "perm",
            Self::Partial => "partial",
            Self::Refused => "refused",
            Self::Dropped => "dropped",
            Self::Idle => "idle",
            Self::Timeout => "timeout",
            Self::Shutdown => "shutdown",
        }
    }

    /// The level of the session's log line: a warning if somebody may have to act.
    pub(crate) fn level(self) -> Level {
        match self {
            Self::Ok | Self::Empty | Self::Dropped | Self::Idle | Self::Timeout | Self::Shutdown => Level::INFO,
            Self::Auth | Self::Throttled | Self::InUse | Self::Temp | Self::Perm | Self::Partial | Self::Refused => {
                Level::WARN
            }
        }
    }
}
