//! Parses response lines (RFC 3501 §7), as much of them as the gateway needs. Works on octets, without I/O, and
//! tolerates odd spacing and case.

use std::fmt;

use super::{
    pause::Pause,
    token::{long_number, word},
};

/// One line that a server sent, without its line end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ResponseLine<'a> {
    /// `+ …`: the server waits for more. Holds what follows the plus.
    Continue(&'a [u8]),
    /// `* …`, with what follows the star.
    Untagged(&'a [u8]),
    /// `tag OK …`
    Tagged(&'a [u8], Status<'a>),
    /// None of these.
    Other,
}

/// `OK`, `NO`, `BAD`, `BYE` or `PREAUTH` with its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status<'a> {
    /// The condition.
    pub kind: StatusKind,
    /// The response code: what stands in brackets.
    pub code: Option<&'a [u8]>,
    /// The rest, which is for people.
    pub text: &'a [u8],
}

/// The condition of a status response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusKind {
    /// Done.
    Ok,
    /// Not done.
    No,
    /// Not understood.
    Bad,
    /// The server closes the connection.
    Bye,
    /// Greeting of a connection that is authenticated already.
    PreAuth,
}

impl<'a> ResponseLine<'a> {
    /// Parses `line`, which has no CRLF.
    pub(super) fn parse(line: &'a [u8]) -> Self {
        let (first, rest) = word(line);
        match first {
            b"+" => Self::Continue(rest),
            b"*" => Self::Untagged(rest),
            b"" => Self::Other,
            tag => match Status::parse(rest) {
                Some(status) if matches!(status.kind, StatusKind::Ok | StatusKind::No | StatusKind::Bad) => {
                    Self::Tagged(tag, status)
                }
                _ => Self::Other,
            },
        }
    }
}

impl<'a> Status<'a> {
    /// Parses what follows the tag or the star; `None` if that is not a status response.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let (condition, rest) = word(line);
        let kind = match condition.to_ascii_uppercase().as_slice() {
            b"OK" => StatusKind::Ok,
            b"NO" => StatusKind::No,
            b"BAD" => StatusKind::Bad,
            b"BYE" => StatusKind::Bye,
            b"PREAUTH" => StatusKind::PreAuth,
            _ => return None,
        };
        let bracket = rest.strip_prefix(b"[").and_then(|rest| {
            let end = memchr::memchr(b']', rest)?;
            Some((&rest[..end], rest[end + 1..].trim_ascii_start()))
        });
        Some(match bracket {
            Some((code, text)) => Self {
                kind,
                code: Some(code),
                text,
            },
            None => Self {
                kind,
                code: None,
                text: rest,
            },
        })
    }

    /// The number in a code such as `[UIDVALIDITY 7]`; it may have 64 bits.
    pub fn code_number(&self, name: &str) -> Option<u64> {
        long_number(self.code_rest(name)?.trim_ascii())
    }

    /// Whether the code is `name`, whatever follows.
    pub fn has_code(&self, name: &str) -> bool {
        self.code
            .is_some_and(|code| word(code).0.eq_ignore_ascii_case(name.as_bytes()))
    }

    /// What follows `name` in the code.
    pub fn code_rest(&self, name: &str) -> Option<&'a [u8]> {
        let (first, rest) = word(self.code?);
        first.eq_ignore_ascii_case(name.as_bytes()).then_some(rest)
    }

    /// A copy that outlives the line.
    pub fn to_completion(self) -> Completion {
        Completion {
            kind: self.kind,
            code: self.code.map(Code::parse),
            text: printable(self.text),
            raw: self.code.map(printable),
        }
    }
}

/// Why a provider keeps a user out whatever the password is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// IMAP is switched off for the user.
    ImapOff,
    /// The user must log in by the provider's web page first.
    WantsWeb,
    /// An administrator must act.
    WantsAdministrator,
}

/// How a command ended, or an untagged status such as the greeting; kept for errors and the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    kind: StatusKind,
    code: Option<Code>,
    raw: Option<String>,
    text: String,
}

impl Completion {
    /// Whether the server said OK.
    pub fn is_ok(&self) -> bool {
        self.kind == StatusKind::Ok
    }

    /// Whether the server said NO.
    pub fn is_no(&self) -> bool {
        self.kind == StatusKind::No
    }

    /// The response code.
    pub fn code(&self) -> Option<Code> {
        self.code
    }

    /// The text for people, printable.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the code or the text says that the failure will pass.
    pub fn is_temporary(&self) -> bool {
        self.code == Some(Code::Temporary) || self.sounds_temporary()
    }

    /// Whether this greets a connection that is authenticated already (PREAUTH).
    pub fn is_pre_auth(&self) -> bool {
        self.kind == StatusKind::PreAuth
    }

    /// Whether the server is about to close the connection (BYE).
    pub fn is_bye(&self) -> bool {
        self.kind == StatusKind::Bye
    }

    /// Whether the response code is `name`, whatever follows it.
    pub fn has_code(&self, name: &str) -> bool {
        self.raw
            .as_deref()
            .is_some_and(|raw| word(raw.as_bytes()).0.eq_ignore_ascii_case(name.as_bytes()))
    }

    /// Whether the server said BAD.
    pub fn is_bad(&self) -> bool {
        self.kind == StatusKind::Bad
    }

    /// Whether a later try may succeed: the refusal is temporary, or the server wants to be left alone for a while.
    pub fn will_pass(&self) -> bool {
        self.is_temporary() || self.pause().is_some()
    }

    /// Whether the text says that the user may not do this. Many servers say so without a code.
    pub(super) fn tells_no_permission(&self) -> bool {
        let text = self.text.to_ascii_lowercase();
        [
            "permission denied",
            "access denied",
            "not permitted",
            "read-only",
            "read only",
        ]
        .iter()
        .any(|words| text.contains(words))
    }

    /// How long the server wants to be left alone, if it says that it gets too many requests.
    pub(super) fn pause(&self) -> Option<Pause> {
        let code = self.raw.as_deref().unwrap_or_default();
        // Gmail's codes. In RFC 5530, OVERQUOTA says that the mailbox is full, which will pass too.
        let is_throttled = ["THROTTLED", "OVERQUOTA"]
            .iter()
            .any(|known| code.eq_ignore_ascii_case(known));
        Pause::of(&self.text).or(is_throttled.then_some(Pause::Unspecified))
    }

    /// Whether the text says that the login was right, but leads to no mailbox. Exchange says so of a user without a
    /// licence or with IMAP switched off, and of a shared mailbox to which the signed-in user has no access. Netease
    /// says so of a client that it does not trust.
    pub fn tells_no_mailbox(&self) -> bool {
        let text = self.text.to_ascii_lowercase();
        text.contains("authenticated but not connected") || text.contains("unsafe login")
    }

    /// Why the provider keeps this user out whatever the password is, as the code or the text says; `None` if neither
    /// says so.
    pub fn closed(&self) -> Option<Closed> {
        if self.has_code("WEBALERT") {
            return Some(Closed::WantsWeb);
        }
        if self.has_code("CONTACTADMIN") {
            return Some(Closed::WantsAdministrator);
        }
        let text = self.text.to_ascii_lowercase().replace("imap4", "imap");
        let says = |words: &[&str]| words.iter().any(|words| text.contains(words));
        // "invalid credentials or IMAP is disabled": the password may well be wrong.
        if says(&["invalid credentials", "incorrect password", "invalid password"]) {
            return None;
        }
        // These texts ask for another kind of password, which the device can be given.
        if says(&[
            "app password",
            "app-specific",
            "application-specific",
            "application password",
            "authorization code",
        ]) {
            return None;
        }
        let is_off = says(&[
            "not enabled for imap",
            "enable imap",
            "imap is disabled",
            "imap access is disabled",
            "imap disabled",
            "imap is not enabled",
            "imap access is not enabled",
            "imap not enabled",
            "imap access disabled",
            "imap service is not",
            "imap is switched off",
            "imap is turned off",
            "imap access has been disabled",
            "not allowed to use imap",
            "no permission to use imap",
        ]);
        if is_off {
            return Some(Closed::ImapOff);
        }
        if says(&[
            "web login required",
            "via your web browser",
            "log in via the web",
            "login via the web",
        ]) {
            return Some(Closed::WantsWeb);
        }
        says(&[
            "account is disabled",
            "account disabled",
            "account is suspended",
            "account suspended",
            "account is blocked",
        ])
        .then_some(Closed::WantsAdministrator)
    }

    /// Whether the text says that the failure will pass. Many servers say this only in the text, without a response
    /// code.
    pub fn sounds_temporary(&self) -> bool {
        let text = self.text.to_ascii_lowercase();
        [
            "too many",
            "simultaneous",
            "throttl",
            "rate limit",
            "try again",
            "try later",
            "temporar",
            "unavailable",
            "not connected",
            "backoff",
            "server busy",
            "timed out",
            "timeout",
        ]
        .iter()
        .any(|words| text.contains(words))
    }

    /// The same without text and code if one of `secrets` occurs in them, because a server may repeat the command that
    /// it refuses. `secrets` have no control characters: see `visible`.
    pub fn without(mut self, secrets: &[&str]) -> Self {
        let texts = [Some(&mut self.text), self.raw.as_mut()];
        if texts.into_iter().flatten().any(|text| !withhold(text, secrets)) {
            self.text = WITHHELD.into();
            self.raw = None;
        }
        self
    }
}

impl fmt::Display for Completion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            StatusKind::Ok => "OK",
            StatusKind::No => "NO",
            StatusKind::Bad => "BAD",
            StatusKind::Bye => "BYE",
            StatusKind::PreAuth => "PREAUTH",
        };
        f.write_str(kind)?;
        if let Some(raw) = &self.raw {
            write!(f, " [{raw}]")?;
        }
        write!(f, " {}", self.text)
    }
}

/// Response codes that decide how the gateway answers a device (RFC 3501 §7.1, RFC 5530, Gmail, Exchange).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// `[ALERT]`
    Alert,
    /// `[AUTHENTICATIONFAILED]`
    AuthenticationFailed,
    /// `[AUTHORIZATIONFAILED]`
    AuthorizationFailed,
    /// `[EXPIRED]`
    Expired,
    /// `[PRIVACYREQUIRED]`
    PrivacyRequired,
    /// `[NONEXISTENT]`, `[TRYCREATE]`
    NonExistent,
    /// `[ALREADYEXISTS]`
    AlreadyExists,
    /// `[NOPERM]`
    NoPermission,
    /// `[UNAVAILABLE]`, `[INUSE]`, `[LIMIT]`, `[SERVERBUG]`, `[THROTTLED]`, `[OVERQUOTA]`
    Temporary,
    /// Any other.
    Other,
}

impl Code {
    fn parse(code: &[u8]) -> Self {
        match word(code).0.to_ascii_uppercase().as_slice() {
            b"ALERT" => Self::Alert,
            b"AUTHENTICATIONFAILED" => Self::AuthenticationFailed,
            b"AUTHORIZATIONFAILED" => Self::AuthorizationFailed,
            b"EXPIRED" => Self::Expired,
            b"PRIVACYREQUIRED" => Self::PrivacyRequired,
            b"NONEXISTENT" | b"TRYCREATE" => Self::NonExistent,
            b"ALREADYEXISTS" => Self::AlreadyExists,
            b"NOPERM" => Self::NoPermission,
            b"UNAVAILABLE" | b"INUSE" | b"LIMIT" | b"SERVERBUG" | b"THROTTLED" | b"OVERQUOTA" => Self::Temporary,
            _ => Self::Other,
        }
    }
}

/// How many characters of a text are kept for the log.
const KEPT: usize = 200;
/// What stands in the place of a text that repeats a secret.
const WITHHELD: &str = "(text withheld: it repeats what we sent)";

/// Text for a log line: printable, at most [`KEPT`] characters.
pub(super) fn printable(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().take(KEPT).map(visible).collect()
}

/// `c` as [`printable`] shows it.
pub(super) fn visible(c: char) -> char {
    if c.is_control() { '?' } else { c }
}

/// The text of a BYE, if none of `secrets` occurs in it: see [`Completion::without`].
pub(super) fn text_without(mut text: String, secrets: &[&str]) -> String {
    if withhold(&mut text, secrets) {
        text
    } else {
        WITHHELD.into()
    }
}

/// Makes sure that `text`, which [`printable`] has made, has nothing of `secrets`; `false` if one of them occurs in it. If
/// the text was cut off, its end may be the beginning of a secret, and goes.
fn withhold(text: &mut String, secrets: &[&str]) -> bool {
    let secrets = || secrets.iter().filter(|secret| !secret.is_empty());
    if secrets().any(|secret| text.contains(*secret)) {
        return false;
    }
    if text.chars().count() == KEPT {
        let mut starts = text.char_indices().map(|(at, _)| at);
        let end = starts.find(|&at| secrets().any(|secret| secret.starts_with(&text[at..])));
        text.truncate(end.unwrap_or(text.len()));
    }
    true
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn status_lines_in_all_shapes() {
        let tagged = |line| match ResponseLine::parse(line) {
            ResponseLine::Tagged(tag, status) => (tag, status.to_completion()),
            other => panic!("{other:?}"),
        };
        let (tag, done) = tagged(b"A1 OK [READ-WRITE] Select completed");
        assert_eq!((tag, done.is_ok(), done.text()), (&b"A1"[..], true, "Select completed"));
        assert!(tagged(b"A1 ok").1.is_ok());
        assert_eq!(
            tagged(b"a no [authenticationfailed] x").1.code(),
            Some(Code::AuthenticationFailed)
        );
        assert_eq!(
            tagged("a NO [UNAVAILABLE]später".as_bytes()).1.code(),
            Some(Code::Temporary)
        );
        assert_eq!(tagged(b"a BAD [unclosed").1.code(), None);
        assert_eq!(
            ResponseLine::parse(b"*  522 EXISTS"),
            ResponseLine::Untagged(b"522 EXISTS")
        );
        assert_eq!(ResponseLine::parse(b"+"), ResponseLine::Continue(b""));
        assert_eq!(ResponseLine::parse(b"+ idling"), ResponseLine::Continue(b"idling"));
        assert_eq!(ResponseLine::parse(b""), ResponseLine::Other);
        assert_eq!(ResponseLine::parse(b"a FETCH 1"), ResponseLine::Other);
        assert_eq!(
            Status::parse(b"OK [UIDVALIDITY 4294967295] x").and_then(|s| s.code_number("uidvalidity")),
            Some(u32::MAX.into())
        );
        assert_eq!(
            Status::parse(b"OK [UIDVALIDITY 9223372036854775808] x").and_then(|s| s.code_number("uidvalidity")),
            Some(1 << 63)
        );
    }

    #[test]
    fn servers_that_ask_for_a_pause() {
        let pause = |line: &str| Status::parse(line.as_bytes()).unwrap().to_completion().pause();
        let millis = |millis| Some(Pause::For(Duration::from_millis(millis)));
        for (line, expected) in [
            (
                "BAD Request is throttled. Suggested Backoff Time: 299961 milliseconds",
                millis(299_961),
            ),
            (
                "NO Request is throttled. Suggested Backoff Time: 0 milliseconds",
                millis(0),
            ),
            (
                "BAD Request is throttled. Suggested Backoff Time: long",
                Some(Pause::Unspecified),
            ),
            (
                "NO [ALERT] Too many simultaneous connections. (Failure)",
                Some(Pause::Unspecified),
            ),
            ("NO [THROTTLED]", Some(Pause::Unspecified)),
            (
                "NO [OVERQUOTA] Account exceeded command or bandwidth limits.",
                Some(Pause::Unspecified),
            ),
            ("NO [LIMIT] LOGIN Rate limit hit", Some(Pause::Unspecified)),
            ("NO [LIMIT] too many messages in one command", None),
            ("NO [AUTHENTICATIONFAILED] Invalid credentials", None),
            ("NO Server Unavailable. 15", None),
        ] {
            assert_eq!(pause(line), expected, "{line}");
        }
    }

    #[test]
    fn users_that_no_password_lets_in() {
        let closed = |line: &str| Status::parse(line.as_bytes()).unwrap().to_completion().closed();
        for (line, expected) in [
            (
                "NO [ALERT] Your account is not enabled for IMAP use. Please visit your settings (Failure)",
                Closed::ImapOff,
            ),
            ("NO [ALERT] IMAP access is disabled for your domain.", Closed::ImapOff),
            ("NO You are yet to enable IMAP for your account.", Closed::ImapOff),
            (
                "NO [AUTHENTICATIONFAILED] IMAP is disabled for this mailbox",
                Closed::ImapOff,
            ),
            (
                "NO [WEBALERT https://accounts.example/x] Web login required. (Failure)",
                Closed::WantsWeb,
            ),
            (
                "NO [ALERT] Please log in via your web browser: https://x.example (Failure)",
                Closed::WantsWeb,
            ),
            ("NO [CONTACTADMIN] ask", Closed::WantsAdministrator),
            ("NO Account is disabled", Closed::WantsAdministrator),
        ] {
            assert_eq!(closed(line), Some(expected), "{line}");
        }
        for line in [
            "NO [AUTHENTICATIONFAILED] Invalid credentials",
            "NO [UNAVAILABLE] LOGIN invalid credentials or IMAP is disabled",
            "NO [ALERT] Application-specific password required: https://x.example (Failure)",
            "NO Login fail. Please using authorization code to login.",
            "NO",
        ] {
            assert_eq!(closed(line), None, "{line}");
        }
    }

    #[test]
    fn a_password_that_is_cut_off_is_withheld() {
        for length in 190..200 {
            for line in [
                format!("NO {}geheimnis", "x".repeat(length)),
                format!("NO [{}geheimnis] no", "x".repeat(length)),
            ] {
                let status = Status::parse(line.as_bytes()).unwrap().to_completion();
                let shown = status.without(&["geheimnis"]).to_string();
                assert!(!shown.contains('g'), "{shown}");
            }
        }
        let line = format!("NO {}", "x".repeat(300));
        let status = Status::parse(line.as_bytes()).unwrap().to_completion();
        let shown = status.without(&["geheimnis", ""]).to_string();
        assert!(shown.ends_with("xxx"), "{shown}");
        // What is cut off by chance costs no more than the end.
        let line = format!("NO [UNAVAILABLE] try later {}gehe", "x".repeat(186));
        let status = Status::parse(line.as_bytes())
            .unwrap()
            .to_completion()
            .without(&["geheimnis"]);
        assert!(status.will_pass() && status.text().starts_with("try later x") && !status.text().contains('g'));
    }

    #[test]
    fn a_password_in_the_text_is_withheld() {
        let status = Status::parse(b"NO [ALERT] LOGIN joe geheim failed")
            .unwrap()
            .to_completion();
        assert!(status.to_string().contains("geheim"));
        assert!(!status.without(&["geheim"]).to_string().contains("geheim"));
    }
}
