//! Processes of servers: waits until they answer, and ends them.

use std::{
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Child,
    time::{Duration, Instant},
};

#[path = "../../../src/free_port.rs"]
mod free_port;

use super::{
    PATIENCE,
    stream::{Reader, Stream},
};
pub(crate) use free_port::free_port;

/// A process that is killed when this is dropped.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The text of a log; empty if the file cannot be read.
pub fn text_of(log: &Path) -> String {
    let octets = std::fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(&octets).into_owned()
}

/// Waits until the server sends its greeting, in IMAP or POP3; `false` if its process has ended instead.
pub fn greets(address: SocketAddr, server: &mut Child) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline && server.try_wait().unwrap().is_none() {
        if let Ok(tcp) = TcpStream::connect(address)
            && let Ok(stream) = Stream::accept(tcp)
            && let Ok(line) = Reader::new(stream).line()
            && (line.starts_with(b"* OK") || line.starts_with(b"+OK"))
        {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}
