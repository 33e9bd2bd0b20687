//! A relay on the way to a real upstream that records the conversation, and prints it if the test fails.

use std::{
    io::Write,
    net::{Shutdown, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    listener::Listener,
    stream::{Reader, Stream},
};

/// How many octets of a line are shown: enough for any response without a message in it.
const SHOWN: usize = 400;

/// The listening relay.
pub struct Recorder {
    listener: Listener,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    /// Relays every connection to `upstream`.
    pub fn start(upstream: SocketAddr) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let recorded = lines.clone();
        let listener = Listener::start(move |index, gateway| {
            if let Ok(server) = Stream::connect(upstream) {
                relay(index + 1, &gateway, &server, &recorded);
            }
        });
        Self { listener, lines }
    }

    /// The address that the gateway connects to.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            eprintln!("conversation with the upstream:\n{}", lines.join("\n"));
        }
    }
}

/// Relays each direction in a thread. The threads end when both ends have closed.
fn relay(number: usize, gateway: &Stream, server: &Stream, lines: &Arc<Mutex<Vec<String>>>) {
    for (from, to, who) in [(gateway, server, 'C'), (server, gateway, 'S')] {
        let (Ok(from), Ok(to)) = (from.tcp().try_clone(), to.tcp().try_clone()) else {
            return;
        };
        // A parked connection may be silent for as long as the test wants.
        if from.set_read_timeout(None).is_err() {
            return;
        }
        let lines = lines.clone();
        std::thread::spawn(move || {
            let (mut from, mut to) = (Reader::new(Stream::Plain(from)), Stream::Plain(to));
            let mut line = Vec::new();
            while let Ok(1..) = from.fill() {
                let octets = from.pending().len();
                let Ok(octets) = from.take(octets) else { break };
                for piece in octets.split_inclusive(|&octet| octet == b'\n') {
                    line.extend_from_slice(&piece[..piece.len().min(SHOWN - line.len().min(SHOWN))]);
                    if piece.ends_with(b"\n") {
                        let text = line.trim_ascii_end().escape_ascii();
                        lines.lock().unwrap().push(format!("{who}{number}: {text}"));
                        line.clear();
                    }
                }
                if to.write_all(&octets).is_err() {
                    break;
                }
            }
            let _ = to.tcp().shutdown(Shutdown::Write);
            let _ = from.stream.tcp().shutdown(Shutdown::Read);
        });
    }
}
