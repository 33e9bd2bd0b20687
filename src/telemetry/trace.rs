//! What both sides of a login's sessions send, for an operator who runs `popgate trace`. Secrets and mail are replaced
//! by their length. While nobody runs it, tracing costs one read of a counter for each line.

use std::{
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::SystemTime,
};

use dashmap::DashMap;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::{self, error::RecvError};

/// How many lines a tracer may be behind; older ones are lost.
const BEHIND: usize = 4096;
/// How many octets [`shown`] shows.
const SHOWN: usize = 400;

/// The side that the gateway talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Side {
    /// POP3.
    Device,
    /// IMAP.
    Upstream,
}

/// A line that the gateway has sent or received in a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TraceLine {
    /// When the line was sent or received, in milliseconds since 1970.
    pub at: u64,
    /// The session's number.
    pub session: u64,
    pub side: Side,
    /// Whether the gateway has sent the line.
    pub is_ours: bool,
    /// The line without its end.
    pub text: String,
}

/// The logins that are traced, as [`crate::accounts::Accounts::canonical_login`] returns them, each with the channel to
/// its tracers.
static TRACED: LazyLock<DashMap<String, broadcast::Sender<TraceLine>>> = LazyLock::new(DashMap::new);
/// How many tracers there are.
static TRACERS: AtomicUsize = AtomicUsize::new(0);

/// The session whose work a task does.
#[derive(Debug)]
struct TracedSession {
    id: u64,
    /// The login that was tried last.
    login: Mutex<Option<String>>,
}

tokio::task_local! {
    static SESSION: Arc<TracedSession>;
}

/// Does the work of the session `id`, so that the lines that it sends and receives can be traced.
pub(crate) fn session<T>(id: u64, work: impl Future<Output = T>) -> impl Future<Output = T> {
    let session = TracedSession {
        id,
        login: Mutex::default(),
    };
    SESSION.scope(Arc::new(session), work)
}

/// Notes that the session whose work this task does is one of `login`, as
/// [`crate::accounts::Accounts::canonical_login`] returns it.
pub(crate) fn set_login(login: &str) {
    let _ = SESSION.try_with(|session| {
        *session.login.lock().unwrap_or_else(PoisonError::into_inner) = Some(login.to_owned());
    });
}

/// Traces that the gateway sends `text`.
pub(crate) fn sent(side: Side, text: impl FnOnce() -> String) {
    note(side, true, text);
}

/// Traces that the gateway receives `text`.
pub(crate) fn received(side: Side, text: impl FnOnce() -> String) {
    note(side, false, text);
}

fn note(side: Side, is_ours: bool, text: impl FnOnce() -> String) {
    if TRACERS.load(Ordering::Relaxed) == 0 {
        return;
    }
    let _ = SESSION.try_with(|session| {
        let login = session.login.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sender) = login.as_ref().and_then(|login| TRACED.get(login)) else {
            return;
        };
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        // Fails if nobody listens any more.
        let _ = sender.send(TraceLine {
            at: at.unwrap_or_default().as_millis().try_into().unwrap_or(u64::MAX),
            session: session.id,
            side,
            is_ours,
            text: text(),
        });
    });
}

/// The start of `octets` as one line for a log or a terminal, with control characters escaped. If something is left
/// out, the line says how many octets there are.
pub(crate) fn shown(octets: &[u8]) -> String {
    let start = &octets[..octets.len().min(SHOWN)];
    let mut text = String::new();
    for character in String::from_utf8_lossy(start).chars() {
        if character.is_control() {
            text.extend(character.escape_default());
        } else {
            text.push(character);
        }
    }
    if octets.len() > SHOWN {
        text += &format!("… ({} octets)", octets.len());
    }
    text
}

/// The text that stands for this many octets that are not shown.
pub(crate) fn hidden(octets: usize) -> String {
    format!("<{octets} octets>")
}

/// `line` as [`shown`] shows it, with each quoted string replaced by its length.
pub(crate) fn without_strings(line: &[u8]) -> String {
    let mut rest = line;
    let mut text = String::new();
    while let Some(begin) = rest.iter().position(|&octet| octet == b'"') {
        text += &shown(&rest[..begin]);
        let string = &rest[begin + 1..];
        let mut end = 0;
        while end < string.len() && string[end] != b'"' {
            end += if string[end] == b'\\' { 2 } else { 1 };
        }
        let end = end.min(string.len());
        text += &hidden(end);
        rest = string.get(end + 1..).unwrap_or_default();
    }
    text += &shown(rest);
    text
}

/// Traces the sessions of one login, until it is dropped.
#[derive(Debug)]
pub(crate) struct Tracer {
    /// The first field: it is dropped before the entry, which then does not count it any more. Otherwise two tracers
    /// that end at once would count each other, and leave the entry behind.
    lines: broadcast::Receiver<TraceLine>,
    _entry: TracedLogin,
}

/// An entry of [`TRACED`]. When this is dropped, the entry is removed unless it has other tracers.
#[derive(Debug)]
struct TracedLogin(String);

impl Tracer {
    /// Traces the sessions of `login`, as [`crate::accounts::Accounts::canonical_login`] returns it.
    pub(crate) fn new(login: &str) -> Self {
        let lines = match TRACED.entry(login.to_owned()) {
            dashmap::Entry::Occupied(entry) => entry.get().subscribe(),
            dashmap::Entry::Vacant(entry) => {
                let (sender, lines) = broadcast::channel(BEHIND);
                entry.insert(sender);
                lines
            }
        };
        TRACERS.fetch_add(1, Ordering::Relaxed);
        Self {
            lines,
            _entry: TracedLogin(login.to_owned()),
        }
    }

    /// Waits for the next line. The error says how many lines were lost because this was not called often enough.
    pub(crate) async fn next(&mut self) -> Result<TraceLine, u64> {
        match self.lines.recv().await {
            Ok(line) => Ok(line),
            Err(RecvError::Lagged(lost)) => Err(lost),
            // The channel is not closed while there is a tracer.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

impl Drop for TracedLogin {
    fn drop(&mut self) {
        TRACERS.fetch_sub(1, Ordering::Relaxed);
        TRACED.remove_if(&self.0, |_, sender| sender.receiver_count() == 0);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        thread,
        time::{Duration, Instant},
    };

    use super::*;

    #[tokio::test]
    async fn lines_of_the_login_are_traced_and_of_no_other() {
        let mut tracer = Tracer::new("traced");
        session(1, async {
            sent(Side::Device, || unreachable!("no login yet"));
            set_login("other");
            sent(Side::Device, || unreachable!("another login"));
            set_login("traced");
            received(Side::Upstream, || "* OK".to_owned());
        })
        .await;
        sent(Side::Device, || unreachable!("no session"));
        let line = tracer.next().await.unwrap();
        assert_eq!((line.session, line.side, line.is_ours), (1, Side::Upstream, false));
        assert_eq!(line.text, "* OK");
        drop(tracer);
        assert!(!TRACED.contains_key("traced"));
    }

    #[tokio::test]
    async fn two_tracers_hear_the_same() {
        let (mut one, mut other) = (Tracer::new("both"), Tracer::new("both"));
        let talk = |text: &'static str| {
            session(2, async move {
                set_login("both");
                sent(Side::Device, || text.to_owned());
            })
        };
        talk("first").await;
        assert_eq!(one.next().await, other.next().await);
        drop(one);
        talk("second").await;
        assert_eq!(other.next().await.unwrap().text, "second");
    }

    #[test]
    fn tracers_that_end_at_once_leave_nothing_behind() {
        let tracers = [Tracer::new("at once"), Tracer::new("at once")];
        // While this holds the entry, no tracer can look at it.
        let entry = TRACED.get("at once").unwrap();
        let ending = tracers.map(|tracer| thread::spawn(move || drop(tracer)));
        let begun = Instant::now();
        while entry.receiver_count() > 0 && begun.elapsed() < Duration::from_secs(10) {
            thread::yield_now();
        }
        let counted = entry.receiver_count();
        drop(entry);
        for ending in ending {
            ending.join().unwrap();
        }
        assert_eq!(counted, 0, "a tracer that ends is not counted any more");
        assert!(!TRACED.contains_key("at once"));
    }

    #[tokio::test]
    async fn whoever_is_too_slow_is_told_how_much_was_lost() {
        let mut tracer = Tracer::new("slow");
        session(3, async {
            set_login("slow");
            for n in 0..BEHIND + 7 {
                sent(Side::Device, || n.to_string());
            }
        })
        .await;
        assert_eq!(tracer.next().await, Err(7));
        assert_eq!(tracer.next().await.unwrap().text, "7");
    }

    #[test]
    fn strings_are_replaced_by_their_length() {
        for (line, expected) in [
            ("* 1 FETCH (UID 4)", "* 1 FETCH (UID 4)"),
            (
                "* 1 FETCH (BODY[] \"se\\\"cret\" UID 4)",
                "* 1 FETCH (BODY[] <8 octets> UID 4)",
            ),
            ("a \"\" b \"open", "a <0 octets> b <4 octets>"),
            ("\"end\\", "<4 octets>"),
        ] {
            assert_eq!(without_strings(line.as_bytes()), expected);
        }
    }

    #[test]
    fn a_line_is_one_line() {
        assert_eq!(shown(b"a\r\nb\x1b[2J"), "a\\r\\nb\\u{1b}[2J");
        assert_eq!(shown(b"say \"no\""), "say \"no\"");
        let long = shown(&[b'x'; 1000]);
        assert!(long.ends_with("… (1000 octets)") && long.len() < 500, "{long}");
    }
}
