//! What happened on the connections of a scripted upstream.

use std::sync::{Condvar, Mutex};

/// What happened on a peer's connections.
#[derive(Default)]
pub(super) struct Record {
    pub(super) state: Mutex<State>,
    pub(super) changed: Condvar,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) connections: usize,
    /// Connections that are over.
    pub(super) ended: usize,
    /// In order.
    pub(super) commands: Vec<Command>,
    /// Lines that are responses to continuations.
    pub(super) lines: Vec<String>,
    /// Both sides, for people.
    pub(super) transcript: Vec<String>,
    /// Where a script was not followed.
    pub(super) failures: Vec<String>,
}

/// A command as it came.
pub(super) struct Command {
    /// Of which connection, from 0.
    pub(super) connection: usize,
    /// Without its tag; literals stand in it as they came, behind their head and a CRLF.
    pub(super) text: String,
    /// It came in one packet with the command before it, so nobody had waited for an answer to that.
    pub(super) is_pipelined: bool,
}

impl Record {
    pub(super) fn note(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }
}

/// Octets for people: not too many.
pub(super) fn shown(octets: &[u8]) -> String {
    const SHOWN: usize = 200;
    let text = octets[..octets.len().min(SHOWN)].escape_ascii();
    match octets.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => format!("{text}… {more} more"),
        _ => text.to_string(),
    }
}
