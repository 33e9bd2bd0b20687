//! Response lines (RFC 3501 §7) as far as a gateway needs them: pure, on octets, tolerant of odd spacing and case.

use std::fmt;

use super::backoff::Pause;

/// One line that a server sent, without its line end.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// `+ …`: go on.
    Continue,
    /// `* …`, with what follows the star.
    Untagged(&'a [u8]),
    /// `tag OK …`
    Tagged(&'a [u8], Status<'a>),
    /// Nothing of that kind.
    Other,
}

/// `OK`, `NO`, `BAD`, `BYE` or `PREAUTH` with its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status<'a> {
    /// Which.
    pub kind: Kind,
    /// What stands in brackets.
    pub code: Option<&'a [u8]>,
    /// The rest, for people.
    pub text: &'a [u8],
}

/// The condition of a status response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
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

/// Takes the first word off: what stands before the first space, and what follows the spaces.
pub fn word(line: &[u8]) -> (&[u8], &[u8]) {
    let end = line.iter().position(|&b| b == b' ').unwrap_or(line.len());
    (&line[..end], line[end..].trim_ascii_start())
}

/// A decimal number that fits 32 bits (RFC 3501 §9, `number`) and nothing else.
pub fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || digits.len() > 10 {
        return None;
    }
    let mut value = 0u64;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + u64::from(digit - b'0');
    }
    u32::try_from(value).ok()
}

impl<'a> Line<'a> {
    /// Of `line` without CRLF.
    pub fn parse(line: &'a [u8]) -> Self {
        let (first, rest) = word(line);
        match first {
            b"+" => Self::Continue,
            b"*" => Self::Untagged(rest),
            b"" => Self::Other,
            tag => match Status::parse(rest) {
                Some(status) if matches!(status.kind, Kind::Ok | Kind::No | Kind::Bad) => Self::Tagged(tag, status),
                _ => Self::Other,
            },
        }
    }
}

impl<'a> Status<'a> {
    /// Of what follows the tag or the star; `None` where that is no status response.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let (condition, rest) = word(line);
        let kind = match condition.to_ascii_uppercase().as_slice() {
            b"OK" => Kind::Ok,
            b"NO" => Kind::No,
            b"BAD" => Kind::Bad,
            b"BYE" => Kind::Bye,
            b"PREAUTH" => Kind::PreAuth,
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

    /// The number of a code such as `[UIDVALIDITY 7]`.
    pub fn code_number(&self, name: &str) -> Option<u32> {
        let (first, rest) = word(self.code?);
        if first.eq_ignore_ascii_case(name.as_bytes()) {
            number(rest.trim_ascii())
        } else {
            None
        }
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

/// How a command ended, kept for the error and the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    kind: Kind,
    code: Option<Code>,
    raw: Option<String>,
    text: String,
}

impl Completion {
    /// Tagged OK.
    pub fn is_ok(&self) -> bool {
        self.kind == Kind::Ok
    }

    /// Tagged NO.
    pub fn is_no(&self) -> bool {
        self.kind == Kind::No
    }

    /// The response code.
    pub fn code(&self) -> Option<Code> {
        self.code
    }

    /// The text for people, printable.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether code or text tell of something that will pass.
    pub fn is_temporary(&self) -> bool {
        self.code == Some(Code::Temporary) || self.sounds_temporary()
    }

    /// Whether the server says that it is asked too much, and for how long it wants to be left alone.
    pub(super) fn pause(&self) -> Option<Pause> {
        let code = self.raw.as_deref().unwrap_or_default();
        // Gmail's codes. RFC 5530 has OVERQUOTA for what would fill a mailbox, which a login does not.
        let is_told = ["THROTTLED", "OVERQUOTA"]
            .iter()
            .any(|told| code.eq_ignore_ascii_case(told));
        Pause::of(&self.text).or(is_told.then_some(Pause::Unsaid))
    }

    /// Whether the text tells that the login was right, and that it leads to no mailbox. Exchange says so of a user without
    /// licence, with IMAP switched off, or of a shared mailbox that is not shared with who signed in; Netease of a client
    /// that it does not trust.
    pub fn tells_no_mailbox(&self) -> bool {
        let text = self.text.to_ascii_lowercase();
        text.contains("authenticated but not connected") || text.contains("unsafe login")
    }

    /// Whether the text tells of something that will pass: servers that give no response code say it in words.
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

    /// The same without any text that holds one of `secrets`: a server may repeat the command that it refuses.
    pub fn without(mut self, secrets: &[&str]) -> Self {
        let holds = |text: &str| secrets.iter().any(|secret| !secret.is_empty() && text.contains(secret));
        if holds(&self.text) || self.raw.as_deref().is_some_and(holds) {
            self.text = "(text withheld: it repeats what we sent)".into();
            self.raw = None;
        }
        self
    }
}

impl fmt::Display for Completion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Ok => "OK",
            Kind::No => "NO",
            Kind::Bad => "BAD",
            Kind::Bye => "BYE",
            Kind::PreAuth => "PREAUTH",
        };
        f.write_str(kind)?;
        if let Some(raw) = &self.raw {
            write!(f, " [{raw}]")?;
        }
        write!(f, " {}", self.text)
    }
}

/// Response codes that decide what a device is told (RFC 3501 §7.1, RFC 5530, Gmail, Exchange).
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
    /// `[CONTACTADMIN]`
    ContactAdmin,
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
            b"CONTACTADMIN" => Self::ContactAdmin,
            b"NONEXISTENT" | b"TRYCREATE" => Self::NonExistent,
            b"ALREADYEXISTS" => Self::AlreadyExists,
            b"NOPERM" => Self::NoPermission,
            b"UNAVAILABLE" | b"INUSE" | b"LIMIT" | b"SERVERBUG" | b"THROTTLED" | b"OVERQUOTA" => Self::Temporary,
            _ => Self::Other,
        }
    }
}

/// Text for a log line: printable, at most 200 characters.
pub fn printable(text: &[u8]) -> String {
    String::from_utf8_lossy(text)
        .chars()
        .take(200)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

/// The octets of the literal that `line` (without CRLF) announces at its end (RFC 3501 §4.3; `~{n}` of RFC 3516).
pub fn literal(line: &[u8]) -> Option<u64> {
    let inner = line.strip_suffix(b"}")?;
    let open = memchr::memrchr(b'{', inner)?;
    let digits = &inner[open + 1..];
    if digits.is_empty() || digits.len() > 18 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(
        digits
            .iter()
            .fold(0, |value, digit| value * 10 + u64::from(digit - b'0')),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines_in_all_shapes() {
        let tagged = |line| match Line::parse(line) {
            Line::Tagged(tag, status) => (tag, status.to_completion()),
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
        assert_eq!(Line::parse(b"*  522 EXISTS"), Line::Untagged(b"522 EXISTS"));
        assert_eq!(Line::parse(b"+"), Line::Continue);
        assert_eq!(Line::parse(b"+ idling"), Line::Continue);
        assert_eq!(Line::parse(b""), Line::Other);
        assert_eq!(Line::parse(b"a FETCH 1"), Line::Other);
        assert_eq!(
            Status::parse(b"OK [UIDVALIDITY 4294967295] x").and_then(|s| s.code_number("uidvalidity")),
            Some(u32::MAX)
        );
        assert_eq!(
            Status::parse(b"OK [UIDVALIDITY 4294967296] x").and_then(|s| s.code_number("uidvalidity")),
            None
        );
    }

    #[test]
    fn literals_stand_at_the_end_only() {
        assert_eq!(literal(b"* 1 FETCH (BODY[] {12}"), Some(12));
        assert_eq!(literal(b"* 1 FETCH (BINARY[] ~{0}"), Some(0));
        assert_eq!(literal(b"{5} x"), None);
        assert_eq!(literal(b"{}"), None);
        assert_eq!(literal(b"{-1}"), None);
        assert_eq!(literal(b"{9999999999999999999}"), None);
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
