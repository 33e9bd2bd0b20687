//! All replies of one line, and the one map from errors to response codes (RFC 2449 §8, RFC 3206).
//!
//! No reply repeats what a device or an upstream has sent, except for the numbers and the unique-id of a listing.

use super::{command::Syntax, sasl::Malformed, scan::decimal};
use crate::{
    accounts::Denied,
    maildrop::{Error, Refusal},
    types::{MessageNumber, Octets},
};

/// A reply's one line, or the first line of a multi-line reply.
#[derive(Debug)]
pub(super) enum Reply {
    /// The greeting, with a timestamp if APOP is offered (RFC 1939 §7).
    Ready(Option<String>),
    /// To USER: does not say whether the login exists.
    SecretPlease,
    /// To a login, RSET and LIST: how much mail there is.
    Messages(u32, Octets),
    /// STAT, whose form is fixed (RFC 1939 §5).
    Stat(u32, Octets),
    /// LIST n
    Size(MessageNumber, Octets),
    /// UIDL n: the message's unique-id.
    UniqueId(MessageNumber, Vec<u8>),
    /// RETR, TOP: the message follows.
    Message(Option<Octets>),
    /// CAPA, UIDL, bare AUTH: a list follows.
    ListFollows,
    /// DELE
    Marked,
    /// NOOP, UTF8
    Done,
    /// LAST
    Last(u32),
    /// LANG: the tag of the language that is spoken from here on.
    Language(&'static str),
    /// STLS: the handshake follows.
    BeginTls,
    /// QUIT
    Farewell,
    /// A line that is not a command.
    Syntax(Syntax),
    /// LANG: a language that is not spoken.
    NoLanguage,
    /// A command of the other state.
    NotNow,
    /// PASS without USER.
    UserFirst,
    /// USER, PASS, APOP, AUTH: TLS is required first.
    TlsFirst,
    /// STLS: there is no TLS here, or TLS has begun already.
    NoTls,
    /// AUTH: a response that can't be used.
    Sasl(Malformed),
    /// AUTH: no challenge, because the system gives no random numbers.
    NoChallenge,
    /// A login was refused, by the gateway or by an upstream: the device does not learn by which.
    Denied(Denied),
    /// What the maildrop could not do.
    Maildrop(Error),
    /// A line longer than its cap; the connection is closed.
    LineTooLong,
    /// `bad_commands` reached; the connection is closed.
    TooManyBadCommands,
    /// No permit; the connection is closed.
    TooManySessions,
    /// The address is not in `allow`; the connection is closed.
    NotAllowed,
}

impl Reply {
    /// Whether it says `+OK`.
    pub(super) fn is_ok(&self) -> bool {
        match self {
            Self::Ready(_)
            | Self::SecretPlease
            | Self::Messages(..)
            | Self::Stat(..)
            | Self::Size(..)
            | Self::UniqueId(..)
            | Self::Message(_)
            | Self::ListFollows
            | Self::Marked
            | Self::Done
            | Self::Last(_)
            | Self::Language(_)
            | Self::BeginTls
            | Self::Farewell => true,
            Self::Syntax(_)
            | Self::NoLanguage
            | Self::NotNow
            | Self::UserFirst
            | Self::TlsFirst
            | Self::NoTls
            | Self::Sasl(_)
            | Self::NoChallenge
            | Self::Denied(_)
            | Self::Maildrop(_)
            | Self::LineTooLong
            | Self::TooManyBadCommands
            | Self::TooManySessions
            | Self::NotAllowed => false,
        }
    }

    /// Whether it says that login or secret are wrong.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Denied(Denied::Wrong))
    }

    /// Whether it answers a bad command, which counts towards `bad_commands`: a wrong guess, or a command that is wrong
    /// here. A device that sends such a command is likely to repeat it. A request for a message that is gone does not
    /// count.
    pub(super) fn is_bad_command(&self) -> bool {
        match self {
            Self::Maildrop(error) => *error.refusal() == Refusal::Denied,
            Self::Syntax(_)
            | Self::NotNow
            | Self::UserFirst
            | Self::TlsFirst
            | Self::NoTls
            | Self::Sasl(_)
            | Self::Denied(_) => true,
            _ => false,
        }
    }

    /// Appends the line with its CRLF; 512 octets at most (RFC 1939 §3).
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let rest: &[u8] = match self {
            Self::Ready(None) => b"+OK popgate ready",
            Self::Ready(Some(timestamp)) => {
                out.extend_from_slice(b"+OK popgate ready ");
                timestamp.as_bytes()
            }
            Self::SecretPlease => b"+OK send PASS",
            Self::Messages(messages, octets) => {
                numbers((*messages).into(), b" messages (", octets.0, out);
                b" octets)"
            }
            Self::Stat(messages, octets) => {
                numbers((*messages).into(), b" ", octets.0, out);
                b""
            }
            Self::Size(number, octets) => {
                numbers(number.0.get().into(), b" ", octets.0, out);
                b""
            }
            Self::UniqueId(number, uidl) => {
                out.extend_from_slice(b"+OK ");
                decimal(number.0.get().into(), out);
                out.push(b' ');
                uidl
            }
            Self::Message(Some(octets)) => {
                out.extend_from_slice(b"+OK ");
                decimal(octets.0, out);
                b" octets"
            }
            Self::Message(None) | Self::Done => b"+OK",
            Self::Last(number) => {
                out.extend_from_slice(b"+OK ");
                decimal((*number).into(), out);
                b""
            }
            // RFC 6856 §3.2: the tag comes first.
            Self::Language(tag) => {
                out.extend_from_slice(b"+OK ");
                out.extend_from_slice(tag.as_bytes());
                b" English"
            }
            Self::ListFollows => b"+OK list follows",
            Self::Marked => b"+OK marked deleted",
            Self::BeginTls => b"+OK begin TLS",
            Self::Farewell => b"+OK bye",
            Self::Syntax(syntax) => failure("", syntax, out),
            Self::NoLanguage => b"-ERR no such language",
            Self::NotNow => b"-ERR not in this state",
            Self::UserFirst => b"-ERR send USER first",
            Self::TlsFirst => b"-ERR send STLS first",
            Self::NoTls => b"-ERR no TLS to begin here",
            Self::Sasl(malformed) => failure("", malformed, out),
            Self::NoChallenge => b"-ERR [SYS/TEMP] no random numbers, try later",
            Self::Denied(denied @ Denied::Wrong) => failure("[AUTH] ", denied, out),
            Self::Denied(denied @ Denied::Throttled) => failure("[LOGIN-DELAY] ", denied, out),
            Self::Maildrop(error) => failure(code(error.refusal()), error, out),
            Self::LineTooLong => b"-ERR line too long",
            Self::TooManyBadCommands => b"-ERR too many bad commands",
            Self::TooManySessions => b"-ERR [SYS/TEMP] too many sessions, try later",
            Self::NotAllowed => b"-ERR [SYS/PERM] not allowed from this address",
        };
        out.extend_from_slice(rest);
        out.extend_from_slice(b"\r\n");
    }
}

/// The response code of a maildrop's refusal.
fn code(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::NoSuchMessage | Refusal::Deleted => "",
        Refusal::InUse => "[IN-USE] ",
        Refusal::Denied => "[AUTH] ",
        Refusal::Unavailable(_) | Refusal::NotRemoved { forever: false, .. } => "[SYS/TEMP] ",
        Refusal::Misconfigured(_) | Refusal::NotRemoved { forever: true, .. } => "[SYS/PERM] ",
    }
}

fn failure(code: &str, error: &dyn std::fmt::Display, out: &mut Vec<u8>) -> &'static [u8] {
    out.extend_from_slice(format!("-ERR {code}{error}").as_bytes());
    b""
}

fn numbers(first: u64, between: &[u8], second: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"+OK ");
    decimal(first, out);
    out.extend_from_slice(between);
    decimal(second, out);
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::maildrop::Reason;

    fn number(value: u32) -> MessageNumber {
        MessageNumber(NonZeroU32::new(value).unwrap())
    }

    #[test]
    fn each_reply_is_one_line_of_its_kind() {
        let max = Octets(u64::MAX);
        let cases = [
            (Reply::Ready(None), "+OK popgate ready"),
            (
                Reply::Ready(Some("<1@popgate>".into())),
                "+OK popgate ready <1@popgate>",
            ),
            (Reply::SecretPlease, "+OK send PASS"),
            (Reply::Messages(2, Octets(320)), "+OK 2 messages (320 octets)"),
            (Reply::Stat(2, Octets(320)), "+OK 2 320"),
            (
                Reply::Size(number(u32::MAX), max),
                "+OK 4294967295 18446744073709551615",
            ),
            (Reply::UniqueId(number(7), b"77.1".to_vec()), "+OK 7 77.1"),
            (Reply::Message(Some(Octets(0))), "+OK 0 octets"),
            (Reply::Message(None), "+OK"),
            (Reply::ListFollows, "+OK list follows"),
            (Reply::Marked, "+OK marked deleted"),
            (Reply::Done, "+OK"),
            (Reply::BeginTls, "+OK begin TLS"),
            (Reply::Farewell, "+OK bye"),
            (Reply::Syntax(Syntax::Unknown), "-ERR unknown command"),
            (Reply::Syntax(Syntax::Number), "-ERR no such message number"),
            (Reply::Last(0), "+OK 0"),
            (Reply::Language("en"), "+OK en English"),
            (Reply::NoLanguage, "-ERR no such language"),
            (Reply::NotNow, "-ERR not in this state"),
            (Reply::UserFirst, "-ERR send USER first"),
            (Reply::TlsFirst, "-ERR send STLS first"),
            (Reply::NoTls, "-ERR no TLS to begin here"),
            (Reply::Sasl(Malformed::NotBase64), "-ERR not base64"),
            (Reply::NoChallenge, "-ERR [SYS/TEMP] no random numbers, try later"),
            (Reply::Denied(Denied::Wrong), "-ERR [AUTH] wrong login or password"),
            (
                Reply::Denied(Denied::Throttled),
                "-ERR [LOGIN-DELAY] too many failures, try later",
            ),
            (Reply::Maildrop(Refusal::NoSuchMessage.into()), "-ERR no such message"),
            (Reply::Maildrop(Refusal::Deleted.into()), "-ERR message is deleted"),
            (
                Reply::Maildrop(Refusal::InUse.into()),
                "-ERR [IN-USE] another session holds this maildrop",
            ),
            (
                Reply::Maildrop(Refusal::Denied.into()),
                "-ERR [AUTH] the upstream refused login or password",
            ),
            (
                Reply::Maildrop(Refusal::Unavailable(Reason::Lost).into()),
                "-ERR [SYS/TEMP] upstream closed the connection, try later",
            ),
            (
                Reply::Maildrop(Refusal::Misconfigured(Reason::Folder).into()),
                "-ERR [SYS/PERM] no such folder upstream, see the log",
            ),
            (
                Reply::Maildrop(
                    Refusal::NotRemoved {
                        failed: 2,
                        total: 5,
                        forever: false,
                    }
                    .into(),
                ),
                "-ERR [SYS/TEMP] 2 of 5 messages not removed",
            ),
            (Reply::LineTooLong, "-ERR line too long"),
            (Reply::TooManyBadCommands, "-ERR too many bad commands"),
            (Reply::TooManySessions, "-ERR [SYS/TEMP] too many sessions, try later"),
            (Reply::NotAllowed, "-ERR [SYS/PERM] not allowed from this address"),
        ];
        for (reply, expected) in cases {
            let mut out = Vec::new();
            reply.write(&mut out);
            assert_eq!(String::from_utf8_lossy(&out), format!("{expected}\r\n"));
            assert_eq!(reply.is_ok(), expected.starts_with("+OK"), "{expected}");
            assert!(out.len() <= 512);
        }
    }

    #[test]
    fn only_guesses_and_nonsense_count_as_bad() {
        assert!(Reply::Maildrop(Refusal::Denied.into()).is_bad_command());
        assert!(Reply::Denied(Denied::Wrong).is_bad_command());
        assert!(Reply::Syntax(Syntax::Arguments).is_bad_command());
        assert!(!Reply::Maildrop(Refusal::Deleted.into()).is_bad_command());
        assert!(!Reply::Maildrop(Refusal::InUse.into()).is_bad_command());
        assert!(!Reply::Done.is_bad_command());
    }
}
