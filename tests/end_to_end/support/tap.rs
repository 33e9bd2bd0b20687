//! A relay on the way to a real upstream that passes everything on until a certain command comes, and stops there.

use std::{
    io::Write,
    net::SocketAddr,
    sync::mpsc::{Receiver, Sender, channel},
};

use super::{
    PATIENCE,
    listener::Listener,
    stream::{Reader, Stream},
};

/// Where the relay stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The command does not reach the upstream.
    Before(&'static str),
    /// The upstream has carried out the command, but its answer does not come back.
    After(&'static str),
}

impl Stop {
    fn command(self) -> &'static str {
        match self {
            Self::Before(command) | Self::After(command) => command,
        }
    }
}

/// The listening relay.
pub struct Tap {
    listener: Listener,
    stopped: Receiver<()>,
}

impl Tap {
    /// Passes every connection on to `upstream`.
    pub fn start(upstream: SocketAddr, stop: Stop) -> Self {
        let (sender, stopped) = channel();
        let listener = Listener::start(move |_, gateway| {
            if let Ok(server) = Stream::connect(upstream) {
                let sender = sender.clone();
                std::thread::spawn(move || pass(Reader::new(gateway), Reader::new(server), stop, &sender));
            }
        });
        Self { listener, stopped }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Waits until the relay has stopped.
    pub fn wait(&self) {
        self.stopped.recv_timeout(PATIENCE).expect("the command does not come");
    }
}

/// Passes on one command at a time, with all responses up to its tagged line. If the gateway sends several commands at
/// once, the next ones wait in the socket.
fn pass(mut gateway: Reader, mut upstream: Reader, stop: Stop, stopped: &Sender<()>) {
    let Ok(greeting) = upstream.line() else { return };
    if gateway.stream.write_all(&greeting).is_err() {
        return;
    }
    while let Ok(command) = gateway.line() {
        let Some(space) = command.iter().position(|&octet| octet == b' ') else {
            return;
        };
        let (tag, text) = command.split_at(space + 1);
        let is_last = text.starts_with(stop.command().as_bytes());
        if is_last && matches!(stop, Stop::Before(_)) {
            break;
        }
        if upstream.stream.write_all(&command).is_err() {
            return;
        }
        let mut answer = Vec::new();
        loop {
            let Ok(line) = upstream.line() else { return };
            let is_tagged = line.starts_with(tag);
            answer.extend_from_slice(&line);
            if is_tagged {
                break;
            }
        }
        if is_last {
            break;
        }
        if gateway.stream.write_all(&answer).is_err() {
            return;
        }
    }
    let _ = stopped.send(());
    // Wait until the gateway has closed.
    while matches!(gateway.fill(), Ok(1..)) {}
}
