//! An IMAP server that accepts access tokens only. It checks every octet of the login, and then passes the connection
//! on to a real server.

use std::{
    io::Write,
    net::SocketAddr,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};

use super::{
    PASSWORD, PATIENCE,
    listener::Listener,
    provider::Registry,
    stream::{Reader, Stream, splice},
};

/// The running server.
pub struct Bearer {
    listener: Listener,
    logins: Arc<Logins>,
}

#[derive(Default)]
struct Logins {
    seen: Mutex<Vec<String>>,
    changed: Condvar,
    /// Whether logins get no answer.
    silent: AtomicBool,
}

/// What the server offers.
#[derive(Debug, Clone, Copy)]
pub struct Offer {
    /// The capabilities that are about logins.
    pub words: &'static str,
    /// The user whose mailbox every token opens, besides the token's own.
    pub shared: Option<&'static str>,
}

impl Bearer {
    /// Starts the server. Tokens of `registry` open the mailboxes of the server at `behind`, where every user has
    /// [`PASSWORD`].
    pub fn start(registry: Registry, behind: SocketAddr, offer: Offer) -> Self {
        let logins = Arc::<Logins>::default();
        let noted = logins.clone();
        let listener = Listener::start(move |_, stream| {
            let visit = Visit {
                registry: registry.clone(),
                noted: noted.clone(),
                behind,
                offer,
                port: stream.tcp().local_addr().unwrap().port(),
            };
            std::thread::spawn(move || visit.serve(Reader::new(stream)));
        });
        Self { listener, logins }
    }

    /// The address at which the server listens, in plain text.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// For each login: the mechanism, the user, and whether the login succeeded.
    pub fn seen(&self) -> Vec<String> {
        self.logins.seen.lock().unwrap().clone()
    }

    /// Waits until there were `count` logins.
    pub fn wait_seen(&self, count: usize) {
        let seen = self.logins.seen.lock().unwrap();
        let waited = self
            .logins
            .changed
            .wait_timeout_while(seen, PATIENCE, |seen| seen.len() < count);
        assert!(!waited.unwrap().1.timed_out(), "nobody logs in");
    }

    /// If `silent`, logins from now on are checked, but not answered.
    pub fn be_silent(&self, silent: bool) {
        self.logins.silent.store(silent, Ordering::SeqCst);
    }
}

struct Visit {
    registry: Registry,
    noted: Arc<Logins>,
    behind: SocketAddr,
    offer: Offer,
    port: u16,
}

impl Visit {
    fn serve(self, mut device: Reader) -> Option<()> {
        let words = self.offer.words;
        write(
            &mut device,
            &format!("* OK [CAPABILITY IMAP4rev1 {words}] tokens only\r\n"),
        )?;
        loop {
            let line = String::from_utf8(device.line().ok()?).unwrap();
            let mut parts = line.trim_end().split(' ');
            let (tag, command) = (parts.next()?.to_owned(), parts.next()?.to_owned());
            if command != "AUTHENTICATE" {
                write(&mut device, &format!("{tag} BAD not before the login\r\n"))?;
                continue;
            }
            let mechanism = parts.next()?.to_owned();
            let initial = match parts.next() {
                Some(initial) => initial.to_owned(),
                None => {
                    write(&mut device, "+ \r\n")?;
                    String::from_utf8(device.line().ok()?).unwrap().trim_end().to_owned()
                }
            };
            let (user, token) = self.parse(&mechanism, &initial);
            let is_let_in = self
                .registry
                .user_of(&token)
                .is_some_and(|owner| owner == user || owner == "*" || self.offer.shared == Some(user.as_str()));
            let outcome = if is_let_in { "in" } else { "out" };
            self.noted
                .seen
                .lock()
                .unwrap()
                .push(format!("{mechanism} {user} {outcome}"));
            self.noted.changed.notify_all();
            if self.noted.silent.load(Ordering::SeqCst) {
                device.line().ok()?;
            }
            if is_let_in {
                return self.hand_on(device, &tag, &user);
            }
            // The reason comes as a challenge, which the client answers before the login is refused (RFC 7628 §3.2.3).
            let reason =
                BASE64.encode("{\"status\":\"400\",\"schemes\":\"Bearer\",\"scope\":\"https://mail.google.com/\"}");
            write(&mut device, &format!("+ {reason}\r\n"))?;
            let answer = device.line().ok()?;
            let expected: &[u8] = if mechanism == "XOAUTH2" { b"\r\n" } else { b"AQ==\r\n" };
            assert_eq!(answer, expected);
            write(
                &mut device,
                &format!("{tag} NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)\r\n"),
            )?;
        }
    }

    /// Returns user and token; panics unless every octet is right.
    fn parse(&self, mechanism: &str, initial: &str) -> (String, String) {
        let message = String::from_utf8(BASE64.decode(initial).expect("base64")).unwrap();
        let parts: Vec<&str> = message.split('\x01').collect();
        let (user, bearer) = match (mechanism, parts.as_slice()) {
            ("XOAUTH2", [user, bearer, "", ""]) => (user.strip_prefix("user=").unwrap().to_owned(), bearer),
            ("OAUTHBEARER", [header, host, port, bearer, "", ""]) => {
                assert_eq!(*host, "host=127.0.0.1");
                assert_eq!(*port, format!("port={}", self.port));
                let name = header.strip_prefix("n,a=").unwrap().strip_suffix(',').unwrap();
                (name.replace("=2C", ",").replace("=3D", "="), bearer)
            }
            _ => panic!("{mechanism}: {} parts", parts.len()),
        };
        (user, bearer.strip_prefix("auth=Bearer ").unwrap().to_owned())
    }

    fn hand_on(&self, mut device: Reader, tag: &str, user: &str) -> Option<()> {
        let mut behind = Reader::new(Stream::connect(self.behind).ok()?);
        behind.line().ok()?;
        write(&mut behind, &format!("B1 LOGIN \"{user}\" \"{PASSWORD}\"\r\n"))?;
        loop {
            let line = String::from_utf8(behind.line().ok()?).unwrap();
            if let Some(rest) = line.strip_prefix("B1 ") {
                write(&mut device, &format!("{tag} {rest}"))?;
                break;
            }
        }
        splice(device.stream.tcp(), behind.stream.tcp()).ok()
    }
}

fn write(reader: &mut Reader, text: &str) -> Option<()> {
    reader.stream.write_all(text.as_bytes()).ok()?;
    reader.stream.flush().ok()
}
