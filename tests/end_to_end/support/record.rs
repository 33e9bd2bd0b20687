//! What happened on the connections of a scripted upstream.

use std::sync::{Condvar, Mutex};

/// The record of one peer.
#[derive(Default)]
pub(super) struct Record {
    pub(super) state: Mutex<State>,
    pub(super) changed: Condvar,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) connections: usize,
    /// Connections that have ended.
    pub(super) ended: usize,
    /// The commands of all connections, in order.
    pub(super) commands: Vec<Command>,
    /// Lines that answer continuation requests.
    pub(super) lines: Vec<String>,
    /// What both sides have sent, for people.
    pub(super) transcript: Vec<String>,
    /// How the client did not follow a script.
    pub(super) failures: Vec<String>,
}

/// A command as it arrived.
pub(super) struct Command {
    /// The number of the connection, from 0.
    pub(super) connection: usize,
    /// The command without its tag. Literals are in it as they came, after their head and a CRLF.
    pub(super) text: String,
    /// Whether the command came in one packet with the command before it, so that nobody had waited for an answer to
    /// that.
    pub(super) is_pipelined: bool,
}

impl Record {
    pub(super) fn note(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }
}

/// The first octets, escaped for people.
pub(super) fn shown(octets: &[u8]) -> String {
    const SHOWN: usize = 200;
    let text = octets[..octets.len().min(SHOWN)].escape_ascii();
    match octets.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => format!("{text}… {more} more"),
        _ => text.to_string(),
    }
}
