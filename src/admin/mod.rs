//! Commands for a running gateway, at the socket `admin.sock` in `[state] dir`, for the gateway's user and root. A
//! connection carries one request and its answers, each a line of JSON.
//!
//! A verb is added in three places:
//!
//! 1. [`Verb`] gets a variant with what the verb needs to know.
//! 2. `Operator::carry_out` in `src/cli/serve/operator.rs` gets an arm that calls [`Answers::send`], once or many
//!    times. The arm's future is dropped as soon as the command closes the connection, so a stream of answers needs no
//!    other end.
//! 3. The subcommand in `src/cli/` calls [`ask`] and reads [`client::Asked::next`] until that returns `None`.

#[cfg(unix)]
mod client;
#[cfg(unix)]
mod server;
#[cfg(all(test, unix))]
mod tests;

use serde::{Deserialize, Serialize};

use crate::telemetry::trace::TraceLine;

#[cfg(unix)]
pub(crate) use client::{Error, ask};
#[cfg(unix)]
pub(crate) use server::{Answers, Verbs, serve};

/// The socket's name under `[state] dir`.
#[cfg(unix)]
const SOCKET: &str = "admin.sock";

/// A request, such as `{"verb":"reload"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case")]
pub(crate) enum Verb {
    /// Read the configuration again. One answer, a [`Reloaded`].
    Reload,
    /// List the sessions that have not ended. One answer, a list of [`ActiveSession`](crate::telemetry::ActiveSession).
    Sessions,
    /// Report what the device and the upstream send and receive from now on in the sessions of a login: [`Traced`]s
    /// without end.
    Trace {
        /// The login, as a device gives it.
        login: String,
    },
}

/// The result of a reload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reloaded {
    /// What is in force now, in words.
    pub summary: String,
    /// One sentence for each change in the configuration that needs a restart.
    pub warnings: Vec<String>,
}

/// An answer to [`Verb::Trace`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Traced {
    /// The trace has begun: it contains every line from now on.
    Begun,
    /// A line that the gateway has sent or received in a session.
    Line(TraceLine),
    /// This many lines were lost, because the command did not read fast enough.
    Lost(u64),
}

/// A line that the gateway sends.
#[cfg(unix)]
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Said<T> {
    Answer(T),
    /// Why there is no answer, or no further one; for people.
    Error(String),
    /// There are no further answers.
    End,
}
