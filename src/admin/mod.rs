//! Commands for a running gateway: the socket `admin.sock` in `[state] dir`, for our user and root. A connection bears one
//! request, a line of JSON, and its answers, a line of JSON each.
//!
//! A verb is added in three places:
//!
//! 1. [`Verb`] gets a variant with what the verb needs to know.
//! 2. `Operator::carry_out` in `src/cli/serve/operator.rs` gets an arm that calls [`Answers::send`], once or many times. The
//!    arm's future is dropped as soon as whoever asked closes the connection, so a stream of answers needs no other end.
//! 3. The subcommand in `src/cli/` calls [`ask`] and reads [`Asked::next`] until that returns `None`.

#[cfg(unix)]
mod client;
#[cfg(unix)]
mod server;
#[cfg(all(test, unix))]
mod tests;

use serde::{Deserialize, Serialize};

use crate::telemetry::trace::Line;

#[cfg(unix)]
pub use client::{Asked, Error, ask};
#[cfg(unix)]
pub use server::{Answers, Verbs, serve};

/// The socket's name under `[state] dir`.
#[cfg(unix)]
const SOCKET: &str = "admin.sock";

/// What can be asked: `{"verb":"reload"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case")]
pub enum Verb {
    /// Read the configuration again. One answer, a [`Reloaded`].
    Reload,
    /// Who is here now. One answer, a list of [`Here`](crate::telemetry::Here).
    Sessions,
    /// What both sides of a login's sessions say from now on: [`Traced`]s without end.
    Trace {
        /// The login, as a device gives it.
        login: String,
    },
}

/// What a reload has come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// What is in force now, in words.
    pub summary: String,
    /// Each change in the configuration that needs a restart, a sentence each.
    pub warnings: Vec<String>,
}

/// A piece of a trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Traced {
    /// The trace has begun: what is said from now on is in it.
    Begun,
    /// Something was said.
    Line(Line),
    /// So many lines were lost, because whoever traces did not read fast enough.
    Lost(u64),
}

/// A line from the gateway.
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
