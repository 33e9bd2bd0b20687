//! An IMAP client that looks behind the gateway's back: adds messages, reads octets, flags and UIDs.

use std::{
    collections::BTreeMap,
    io::Write,
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{
    PASSWORD, PATIENCE,
    stream::{Reader, Stream},
};

/// A connection with INBOX selected.
pub struct Imap {
    reader: Reader,
    tags: usize,
    /// Whether the server accepts literals without a continuation request (RFC 7888).
    takes_literals: bool,
}

/// One untagged response: its text without the literals, and the literals.
pub struct Response {
    pub text: String,
    pub literals: Vec<Vec<u8>>,
}

impl Imap {
    /// Logs in and selects INBOX.
    pub fn log_in(address: SocketAddr, user: &str) -> Self {
        let mut imap = Self {
            reader: Reader::new(Stream::connect(address).expect("the upstream accepts")),
            tags: 0,
            takes_literals: false,
        };
        imap.response();
        imap.command(&format!("LOGIN {user} \"{PASSWORD}\""));
        let capabilities = imap.command("CAPABILITY");
        imap.takes_literals = capabilities.iter().any(|line| line.text.contains(" LITERAL+"));
        imap.command("SELECT INBOX");
        imap
    }

    /// Sends a command, requires OK and returns the untagged responses.
    pub fn command(&mut self, command: &str) -> Vec<Response> {
        let tag = self.send(command.as_bytes());
        self.until(&tag)
    }

    /// Sends SELECT; `false` if there is no such folder.
    pub fn try_select(&mut self, folder: &str) -> bool {
        let tag = self.send(format!("SELECT \"{folder}\"").as_bytes());
        loop {
            if let Some(status) = self.response().text.strip_prefix(&tag) {
                return status.starts_with(" OK");
            }
        }
    }

    fn send(&mut self, command: &[u8]) -> String {
        self.tags += 1;
        let tag = format!("T{}", self.tags);
        let line = [tag.as_bytes(), b" ", command, b"\r\n"].concat();
        self.reader.stream.write_all(&line).expect("the upstream reads");
        tag
    }

    /// Sends a command that ends in a literal: at once if the server accepts that, else after its continuation request.
    fn send_with_literal(&mut self, command: &str, literal: &[u8]) -> String {
        if self.takes_literals {
            let head = format!("{command} {{{}+}}\r\n", literal.len());
            return self.send(&[head.as_bytes(), literal].concat());
        }
        let tag = self.send(format!("{command} {{{}}}", literal.len()).as_bytes());
        loop {
            let response = self.response().text;
            assert!(!response.starts_with(&tag), "upstream: {response}");
            if response.starts_with('+') {
                break;
            }
        }
        let stream = &mut self.reader.stream;
        stream.write_all(literal).expect("the upstream reads");
        stream.write_all(b"\r\n").expect("the upstream reads");
        tag
    }

    fn until(&mut self, tag: &str) -> Vec<Response> {
        let mut responses = Vec::new();
        loop {
            let response = self.response();
            if let Some(status) = response.text.strip_prefix(tag) {
                assert!(status.starts_with(" OK"), "upstream: {status}");
                return responses;
            }
            responses.push(response);
        }
    }

    fn response(&mut self) -> Response {
        let (mut text, mut literals) = (String::new(), Vec::new());
        loop {
            let line = self.reader.line().expect("the upstream answers");
            assert!(!line.is_empty(), "the upstream closed the connection");
            text.push_str(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']));
            match literal(&text) {
                Some(octets) => literals.push(self.reader.take(octets).expect("a whole literal")),
                None => return Response { text, literals },
            }
        }
    }

    /// Puts messages into INBOX, several at once if possible, with flags such as `\Seen`.
    pub fn append(&mut self, messages: &[impl AsRef<[u8]>], flags: &str) {
        for some in messages.chunks(if self.takes_literals { 50 } else { 1 }) {
            let tags: Vec<_> = some
                .iter()
                .map(|message| self.send_with_literal(&format!("APPEND INBOX ({flags})"), message.as_ref()))
                .collect();
            for tag in tags {
                self.until(&tag);
            }
        }
    }

    /// Puts a message into any folder, which is created if it is missing. INTERNALDATE is this day of January 2024.
    pub fn append_to(&mut self, folder: &str, message: &[u8], day: u32) {
        let create = self.send(format!("CREATE \"{folder}\"").as_bytes());
        while !self.response().text.starts_with(&create) {}
        let head = format!("APPEND \"{folder}\" () \"{day:2}-Jan-2024 12:00:00 +0000\"");
        let tag = self.send_with_literal(&head, message);
        self.until(&tag);
    }

    /// UID → octets, as `BODY.PEEK[]` gives them.
    pub fn bodies(&mut self) -> BTreeMap<u32, Vec<u8>> {
        let responses = self.command("UID FETCH 1:* (UID BODY.PEEK[])");
        let body = |response: Response| Some((uid(&response.text)?, response.literals.into_iter().next()?));
        responses.into_iter().filter_map(body).collect()
    }

    /// UID → flags.
    pub fn flags(&mut self) -> BTreeMap<u32, String> {
        // A FETCH must not report removed messages (RFC 3501 §7.4.1); NOOP does.
        self.command("NOOP");
        let responses = self.command("UID FETCH 1:* (UID FLAGS)");
        responses
            .into_iter()
            .filter_map(|response| {
                let (_, flags) = response.text.split_once("FLAGS (")?;
                Some((uid(&response.text)?, flags.split(')').next()?.to_owned()))
            })
            .collect()
    }

    /// The UIDs of all messages.
    pub fn uids(&mut self) -> Vec<u32> {
        self.flags().into_keys().collect()
    }

    /// Reads the flags again and again until they satisfy `wanted`: the gateway may finish its work after the session.
    pub fn eventually(&mut self, what: &str, wanted: impl Fn(&BTreeMap<u32, String>) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let flags = self.flags();
            if wanted(&flags) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: {flags:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The length of the literal that follows a line with `{n}` at its end.
fn literal(text: &str) -> Option<usize> {
    let inner = text.strip_suffix('}')?;
    inner[inner.rfind('{')? + 1..].parse().ok()
}

fn uid(text: &str) -> Option<u32> {
    let (_, rest) = text.split_once("UID ")?;
    rest.split([' ', ')']).next()?.parse().ok()
}
