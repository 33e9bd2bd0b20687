//! A POP3 client that shows lines and octets as they come.

use std::{
    io::Write,
    net::{Ipv4Addr, Shutdown, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use socket2::SockRef;
use tokio_rustls::rustls::ClientConfig;

use super::{
    PASSWORD, PATIENCE,
    stream::{Reader, Stream},
};

/// One connection of a device.
pub struct Pop {
    reader: Reader,
}

impl Pop {
    /// Connects and reads the greeting.
    pub fn connect(address: SocketAddr) -> Self {
        let mut pop = Self::open(address);
        pop.expect("+OK");
        pop
    }

    /// Connects from `source`, which may be any address of 127.0.0.0/8, and reads the greeting.
    pub fn connect_from(source: Ipv4Addr, address: SocketAddr) -> Self {
        let mut pop = Self::open_from(source, address);
        pop.expect("+OK");
        pop
    }

    /// Connects from `source`, without reading the greeting.
    pub fn open_from(source: Ipv4Addr, address: SocketAddr) -> Self {
        Self {
            reader: Reader::new(Stream::connect_from(source, address).expect("the gateway accepts")),
        }
    }

    /// Connects, without reading the greeting.
    pub fn open(address: SocketAddr) -> Self {
        Self {
            reader: Reader::new(Stream::connect(address).expect("the gateway accepts")),
        }
    }

    /// Connects with TLS from the first octet, and reads the greeting.
    pub fn connect_tls(address: SocketAddr, config: Arc<ClientConfig>) -> Self {
        let mut pop = Self::open(address).secure(config);
        pop.expect("+OK");
        pop
    }

    /// Connects and logs in.
    pub fn log_in(address: SocketAddr, user: &str) -> Self {
        let mut pop = Self::connect(address);
        let reply = pop.try_log_in(user, PASSWORD);
        assert!(reply.starts_with("+OK"), "PASS: {reply}");
        pop
    }

    /// Sends USER and PASS; returns the reply to PASS.
    pub fn try_log_in(&mut self, user: &str, password: &str) -> String {
        let reply = self.command(&format!("USER {user}"));
        assert!(reply.starts_with("+OK"), "USER: {reply}");
        self.command(&format!("PASS {password}"))
    }

    /// Sends STLS, and does the handshake.
    pub fn stls(mut self, config: Arc<ClientConfig>) -> Self {
        self.ok("STLS");
        self.secure(config)
    }

    /// Does the TLS handshake.
    pub fn secure(self, config: Arc<ClientConfig>) -> Self {
        Self {
            reader: self.reader.secure(config).expect("TLS handshake"),
        }
    }

    /// The connection. Octets that were read but not used are lost.
    pub fn into_stream(self) -> Stream {
        self.reader.stream
    }

    /// Whether the TLS handshake resumed an earlier session.
    pub fn is_resumed(&self) -> bool {
        self.reader.stream.is_resumed()
    }

    /// Sends octets as they are.
    pub fn send(&mut self, octets: &[u8]) {
        self.reader.stream.write_all(octets).expect("the gateway reads");
        self.reader.stream.flush().expect("the gateway reads");
    }

    /// Waits until `octets` have arrived, and leaves them unread, so that dropping the connection resets it.
    pub fn leave_unread(&self, octets: &[u8]) {
        let deadline = Instant::now() + PATIENCE;
        let mut here = [0; 4096];
        loop {
            let count = self.reader.stream.tcp().peek(&mut here).expect("the gateway writes");
            if memchr::memmem::find(&here[..count], octets).is_some() {
                return;
            }
            assert!(Instant::now() < deadline, "only {}", here[..count].escape_ascii());
        }
    }

    /// Reads the next line; returns it without the CRLF that it must have.
    pub fn line(&mut self) -> Vec<u8> {
        let line = self.reader.line().expect("a line within patience");
        match line.strip_suffix(b"\r\n") {
            Some(line) => line.to_vec(),
            None => panic!("no CRLF at the end of {:?}", String::from_utf8_lossy(&line)),
        }
    }

    /// Reads the next line as a reply (RFC 1939 §3: 512 octets at most, with CRLF).
    pub fn reply(&mut self) -> String {
        let line = self.line();
        assert!(line.len() <= 510, "a reply of {} octets", line.len());
        let reply = String::from_utf8(line).expect("replies are ASCII");
        assert!(
            reply == "+OK" || reply.starts_with("+OK ") || reply.starts_with("-ERR ") || reply.starts_with("+ "),
            "not a reply: {reply:?}"
        );
        reply
    }

    /// Sends a command and reads the first line of its reply.
    pub fn command(&mut self, command: &str) -> String {
        self.send(format!("{command}\r\n").as_bytes());
        self.reply()
    }

    /// Reads a reply, which must start with `prefix`.
    pub fn expect(&mut self, prefix: &str) -> String {
        let reply = self.reply();
        assert!(reply.starts_with(prefix), "expected {prefix}, got {reply}");
        reply
    }

    /// Sends a command that must be answered `+OK`.
    pub fn ok(&mut self, command: &str) -> String {
        let reply = self.command(command);
        assert!(reply.starts_with("+OK"), "{command}: {reply}");
        reply
    }

    /// Sends a command whose reply must start with `prefix`, such as `-ERR [IN-USE]`.
    pub fn err(&mut self, command: &str, prefix: &str) -> String {
        let reply = self.command(command);
        assert!(reply.starts_with(prefix), "{command}: {reply}, not {prefix}");
        reply
    }

    /// Reads the lines of a multi-line reply, un-stuffed, without the final dot.
    pub fn lines(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.line();
            match line.strip_prefix(b".") {
                Some(b"") => return lines,
                Some(rest) => lines.push(String::from_utf8(rest.to_vec()).unwrap()),
                None => lines.push(String::from_utf8(line).unwrap()),
            }
        }
    }

    /// Sends a command that must be answered by a multi-line reply; returns the lines.
    pub fn list(&mut self, command: &str) -> Vec<String> {
        self.ok(command);
        self.lines()
    }

    /// Reads a message up to the final dot, un-stuffed. `Err` has what came, if the connection ended before the dot.
    pub fn body(&mut self) -> Result<Vec<u8>, Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let Ok(line) = self.reader.line() else { return Err(body) };
            match (line.strip_prefix(b"."), line.ends_with(b"\r\n")) {
                (_, false) => {
                    body.extend_from_slice(&line);
                    return Err(body);
                }
                (Some(b"\r\n"), true) => return Ok(body),
                (Some(rest), true) => body.extend_from_slice(rest),
                (None, true) => body.extend_from_slice(&line),
            }
        }
    }

    /// Reads a message that is broken off, up to the end of the connection: no more than a part of its `+OK` and octets
    /// may come, and the final dot must not.
    pub fn broken_off(&mut self) -> Vec<u8> {
        self.drain();
        let came = self.reader.pending().to_vec();
        assert!(
            came.is_empty() || b"+OK".starts_with(&came[..came.len().min(3)]),
            "not the start of a message: {}",
            came.escape_ascii()
        );
        assert!(!came.ends_with(b"\r\n.\r\n"), "the dot came");
        came
    }

    /// Reads the reply to a RETR that can't succeed: `-ERR`, a message without its end, or a notice in its place.
    pub fn in_vain(&mut self) {
        let line = self.reader.line().unwrap_or_default();
        if line.starts_with(b"-ERR ") {
            return;
        }
        assert!(line.is_empty() || line.starts_with(b"+OK"), "{}", line.escape_ascii());
        if let Ok(notice) = self.body() {
            let notice = String::from_utf8_lossy(&notice);
            assert!(notice.contains("\r\nSubject: [not delivered] "), "{notice}");
        }
    }

    /// Sends RETR; returns the octets that `+OK` gave, and the message.
    pub fn retr(&mut self, number: usize) -> (u64, Vec<u8>) {
        let reply = self.ok(&format!("RETR {number}"));
        let octets = reply
            .split(' ')
            .nth(1)
            .and_then(|word| word.parse().ok())
            .unwrap_or_else(|| panic!("no octets in {reply}"));
        (octets, self.body().expect("a whole message"))
    }

    /// Sends TOP; returns what it gave of the message.
    pub fn top(&mut self, number: usize, lines: u64) -> Vec<u8> {
        self.ok(&format!("TOP {number} {lines}"));
        self.body().expect("a whole message")
    }

    /// Sends STAT; returns the number of messages and their octets.
    pub fn stat(&mut self) -> (usize, u64) {
        let reply = self.ok("STAT");
        let mut words = reply.split(' ').skip(1);
        let mut word = || words.next().unwrap_or_else(|| panic!("{reply}"));
        (word().parse().unwrap(), word().parse().unwrap())
    }

    /// Sends QUIT, which must be answered `+OK`, and expects the end of the connection.
    pub fn quit(mut self) {
        self.ok("QUIT");
        self.closed();
    }

    /// Expects that the gateway closes or resets the connection without another octet.
    pub fn closed(&mut self) {
        assert_eq!(self.reader.pending(), b"");
        match self.reader.fill() {
            Ok(0) => {}
            Ok(_) => panic!("more came: {:?}", String::from_utf8_lossy(self.reader.pending())),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {}
            Err(error) => panic!("not closed: {error}"),
        }
    }

    /// Sends octets that the gateway may not read to their end; an error is ignored.
    pub fn send_unwanted(&mut self, octets: &[u8]) {
        let _ = self.reader.stream.write_all(octets);
    }

    /// Sends as many of these octets as fit into the buffers between here and the gateway.
    pub fn send_as_much_as_fits(&mut self, octets: &[u8]) {
        self.reader.stream.tcp().set_nonblocking(true).expect("a socket");
        self.send_unwanted(octets);
        self.reader.stream.tcp().set_nonblocking(false).expect("a socket");
    }

    /// Reads everything up to the end of the connection, and returns it.
    pub fn rest(&mut self) -> Vec<u8> {
        self.drain();
        self.reader.pending().to_vec()
    }

    /// Reads everything up to the end of the connection.
    pub fn drain(&mut self) {
        while matches!(self.reader.fill(), Ok(1..)) {}
    }

    /// Resets the connection, as if the device had vanished.
    pub fn reset(self) {
        // With a linger time of zero, closing resets the connection.
        SockRef::from(self.reader.stream.tcp())
            .set_linger(Some(Duration::ZERO))
            .expect("the option is set");
    }

    /// Tells the gateway that the device sends no more.
    pub fn shut_down(&self) {
        // An error means that the other side has closed already.
        let _ = self.reader.stream.tcp().shutdown(Shutdown::Write);
    }
}
