//! What a scripted upstream does, step by step.

use std::{
    io,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use tokio_rustls::rustls::ServerConfig;

use super::PATIENCE;

/// One step of a peer.
#[derive(Clone)]
pub enum Step {
    /// Sends octets; `{tag}` stands for the tag of the last command, `{tag-1}`, `{tag-2}` and so on for those before it.
    Send(Vec<u8>),
    /// Sends octets, each by a write of its own.
    Trickle(Vec<u8>),
    /// Waits for a command that starts with this text after its tag; anything else fails the test.
    Expect(String),
    /// Waits for a line that is not a command: the answer to a continuation request.
    Line,
    /// Does the TLS handshake as the server.
    Tls(Arc<ServerConfig>),
    /// Waits until the test opens the gate.
    Wait(Gate),
    /// Resets the connection.
    Reset,
    /// Closes the connection.
    Close,
    /// Sends nothing more, and waits until the other side closes.
    Silence,
    /// Sends octets again and again until the other side closes, with this pause after each time.
    Endless(Vec<u8>, Duration),
}

/// What a peer does: several steps, a single one, or octets to send.
pub trait Steps {
    fn steps(self) -> Vec<Step>;
}

impl Steps for Vec<Step> {
    fn steps(self) -> Vec<Step> {
        self
    }
}

impl Steps for Step {
    fn steps(self) -> Vec<Step> {
        vec![self]
    }
}

impl Steps for Vec<u8> {
    fn steps(self) -> Vec<Step> {
        vec![Step::Send(self)]
    }
}

impl Steps for String {
    fn steps(self) -> Vec<Step> {
        self.into_bytes().steps()
    }
}

impl Steps for &str {
    fn steps(self) -> Vec<Step> {
        self.as_bytes().to_vec().steps()
    }
}

/// A step that sends octets.
pub fn send(octets: impl AsRef<[u8]>) -> Step {
    Step::Send(octets.as_ref().to_vec())
}

/// The pauses of a server that is never silent for long.
pub(super) const CHATTER: Duration = Duration::from_millis(100);

/// Sends octets as fast as the other side reads them, until it closes.
pub fn flood(octets: &str) -> Step {
    // Few large writes, so that a reader that can't be stopped takes them all within the test.
    let times = (256 * 1024 / octets.len()).max(1);
    Step::Endless(octets.repeat(times).into_bytes(), Duration::ZERO)
}

/// Sends octets so often that nobody can call it silence, until the other side closes.
pub fn chatter(octets: &str) -> Step {
    Step::Endless(octets.as_bytes().to_vec(), CHATTER)
}

/// A gate that a test opens once something has happened.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    /// Fails if the gate stays shut: the steps after it must not run then.
    pub(super) fn wait(&self) -> io::Result<()> {
        let (open, changed) = &*self.0;
        let waited = changed.wait_timeout_while(open.lock().unwrap(), PATIENCE, |open| !*open);
        if waited.unwrap().1.timed_out() {
            Err(io::ErrorKind::TimedOut.into())
        } else {
            Ok(())
        }
    }
}
