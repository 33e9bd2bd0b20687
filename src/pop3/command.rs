//! Parses one line of a device into a [`Command`]. A line is octets, not text (RFC 1939 §3, RFC 5034 §4).

use std::num::NonZeroU32;

use super::{proxy, sasl};
use crate::{config::Secret, types::MessageNumber};

/// What a device asks for.
#[derive(Debug, Clone)]
pub enum Command {
    /// USER: the login, which may be any octets.
    User(Vec<u8>),
    /// PASS: the secret, which is everything after the first space, verbatim.
    Pass(Secret),
    /// APOP (RFC 1939 §7): login and digest.
    Apop(Vec<u8>, [u8; 16]),
    /// AUTH without a mechanism: lists the mechanisms.
    Mechanisms,
    /// AUTH with the initial response as it came: base64, `=` for an empty one.
    Auth(DeviceMechanism, Option<Secret>),
    /// QUIT: ends the session. Deletes the marked messages if the device has logged in.
    Quit,
    /// CAPA (RFC 2449 §5): lists the capabilities.
    Capa,
    /// STLS (RFC 2595 §4): begins TLS.
    Stls,
    /// STAT: the number of messages, and their octets.
    Stat,
    /// LIST: the octets of one message, or of each.
    List(Option<MessageNumber>),
    /// UIDL: the unique-id of one message, or of each.
    Uidl(Option<MessageNumber>),
    /// RETR: the whole message.
    Retr(MessageNumber),
    /// TOP: the header and this many lines of the body. A number that 64 bits do not hold means all lines.
    Top(MessageNumber, u64),
    /// DELE: marks the message as deleted.
    Dele(MessageNumber),
    /// RSET: removes all delete marks.
    Rset,
    /// NOOP: does nothing.
    Noop,
    /// LAST (RFC 1460): the highest number of a message that was retrieved or deleted. RFC 1725 removed this command.
    Last,
    /// XTND XLST: the name of a header field, and the message if only one is asked for.
    Xlst(Vec<u8>, Option<MessageNumber>),
    /// UTF8 (RFC 6856 §2.1): the device takes UTF-8 in headers.
    Utf8,
    /// LANG (RFC 6856 §3.1): a language range; without one, lists the languages.
    Lang(Option<Vec<u8>>),
}

/// A SASL mechanism by which a device may log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceMechanism {
    /// PLAIN (RFC 4616): login and password in one response.
    Plain,
    /// LOGIN (draft-murchison-sasl-login): login and password in two responses.
    Login,
    /// CRAM-MD5 (RFC 2195): a digest of the password and a challenge.
    CramMd5,
    /// SCRAM-SHA-256 (RFC 7677): both sides prove that they know the password.
    ScramSha256,
    /// XOAUTH2: how Google and Microsoft took OAuth2 tokens before RFC 7628.
    XOAuth2,
    /// OAUTHBEARER (RFC 7628): an OAuth2 token.
    OAuthBearer,
}

impl DeviceMechanism {
    /// All mechanisms, in the order in which CAPA and AUTH list them.
    pub const ALL: [Self; 6] = [
        Self::Plain,
        Self::Login,
        Self::CramMd5,
        Self::ScramSha256,
        Self::XOAuth2,
        Self::OAuthBearer,
    ];

    /// The name of the mechanism in AUTH and CAPA.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::CramMd5 => "CRAM-MD5",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::XOAuth2 => "XOAUTH2",
            Self::OAuthBearer => "OAUTHBEARER",
        }
    }
}

/// Why a line is not a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Syntax {
    /// No such verb.
    #[error("unknown command")]
    Unknown,
    /// An argument is missing, superfluous, or not of its form.
    #[error("wrong arguments")]
    Arguments,
    /// The message number is zero, or 32 bits do not hold it.
    #[error("no such message number")]
    Number,
    /// AUTH with a mechanism that is not offered.
    #[error("unknown mechanism")]
    Mechanism,
    /// A PROXY header. Only a load balancer may send one, before all lines.
    #[error("unknown command")]
    ProxyHeader,
}

impl Command {
    /// Parses a line without its line end. Verbs may have any case. Spaces and tabs at the end are tolerated, except in
    /// PASS.
    ///
    /// ```
    /// use popgate::pop3::command::Command;
    ///
    /// assert!(matches!(Command::parse(b"quit "), Ok(Command::Quit)));
    /// assert!(Command::parse(b"DELE none").is_err());
    /// ```
    pub fn parse(line: &[u8]) -> Result<Self, Syntax> {
        let (verb, rest) = match memchr::memchr(b' ', line) {
            Some(space) => (&line[..space], Some(&line[space + 1..])),
            None => (line.trim_ascii_end(), None),
        };
        let mut upper = [0; 4];
        let Some(upper) = upper.get_mut(..verb.len()) else {
            return Err(unknown(line));
        };
        upper.copy_from_slice(verb);
        upper.make_ascii_uppercase();
        // In PASS, unlike anywhere else, blanks belong to the argument (RFC 1939 §7).
        if upper == b"PASS" {
            return match rest {
                Some(secret) if !secret.is_empty() => Ok(Self::Pass(secret.to_vec().into())),
                _ => Err(Syntax::Arguments),
            };
        }
        let rest = rest.unwrap_or_default().trim_ascii_end();
        match &*upper {
            b"USER" if !rest.is_empty() => Ok(Self::User(rest.to_vec())),
            b"USER" => Err(Syntax::Arguments),
            b"APOP" => apop(rest),
            b"AUTH" => auth(rest),
            b"QUIT" => alone(rest, Self::Quit),
            b"CAPA" => alone(rest, Self::Capa),
            b"STLS" => alone(rest, Self::Stls),
            b"STAT" => alone(rest, Self::Stat),
            b"LIST" if rest.is_empty() => Ok(Self::List(None)),
            b"LIST" => number(rest).map(|number| Self::List(Some(number))),
            b"UIDL" if rest.is_empty() => Ok(Self::Uidl(None)),
            b"UIDL" => number(rest).map(|number| Self::Uidl(Some(number))),
            b"RETR" => number(rest).map(Self::Retr),
            b"TOP" => top(rest),
            b"DELE" => number(rest).map(Self::Dele),
            b"RSET" => alone(rest, Self::Rset),
            b"NOOP" => alone(rest, Self::Noop),
            b"LAST" => alone(rest, Self::Last),
            b"XTND" => extended(rest),
            b"UTF8" => alone(rest, Self::Utf8),
            b"LANG" => match split(rest.trim_ascii_start()) {
                (b"", _) => Ok(Self::Lang(None)),
                (range, None) => Ok(Self::Lang(Some(range.to_vec()))),
                (_, Some(_)) => Err(Syntax::Arguments),
            },
            _ => Err(unknown(line)),
        }
    }

    /// The verb in capital letters, for logs and metrics.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::User(_) => "USER",
            Self::Pass(_) => "PASS",
            Self::Apop(..) => "APOP",
            Self::Mechanisms | Self::Auth(..) => "AUTH",
            Self::Quit => "QUIT",
            Self::Capa => "CAPA",
            Self::Stls => "STLS",
            Self::Stat => "STAT",
            Self::List(_) => "LIST",
            Self::Uidl(_) => "UIDL",
            Self::Retr(_) => "RETR",
            Self::Top(..) => "TOP",
            Self::Dele(_) => "DELE",
            Self::Rset => "RSET",
            Self::Noop => "NOOP",
            Self::Last => "LAST",
            Self::Xlst(..) => "XTND",
            Self::Utf8 => "UTF8",
            Self::Lang(_) => "LANG",
        }
    }
}

fn unknown(line: &[u8]) -> Syntax {
    if proxy::is_header(line) {
        Syntax::ProxyHeader
    } else {
        Syntax::Unknown
    }
}

fn alone(rest: &[u8], command: Command) -> Result<Command, Syntax> {
    if rest.is_empty() {
        Ok(command)
    } else {
        Err(Syntax::Arguments)
    }
}

/// The digest is the last word; a login may hold spaces.
fn apop(rest: &[u8]) -> Result<Command, Syntax> {
    let space = memchr::memrchr(b' ', rest).ok_or(Syntax::Arguments)?;
    let digest = sasl::hexadecimal(&rest[space + 1..]).ok_or(Syntax::Arguments)?;
    match rest[..space].trim_ascii_end() {
        b"" => Err(Syntax::Arguments),
        login => Ok(Command::Apop(login.to_vec(), digest)),
    }
}

fn auth(rest: &[u8]) -> Result<Command, Syntax> {
    if rest.is_empty() {
        return Ok(Command::Mechanisms);
    }
    let (mechanism, initial) = split(rest);
    let mechanism = DeviceMechanism::ALL
        .into_iter()
        .find(|known| mechanism.eq_ignore_ascii_case(known.name().as_bytes()))
        .ok_or(Syntax::Mechanism)?;
    Ok(Command::Auth(mechanism, initial.map(|octets| octets.to_vec().into())))
}

fn top(rest: &[u8]) -> Result<Command, Syntax> {
    let (message, lines) = split(rest);
    let message = number(message)?;
    let lines = decimal(lines.ok_or(Syntax::Arguments)?)?.unwrap_or(u64::MAX);
    Ok(Command::Top(message, lines))
}

/// XTND has subcommands, and servers never agreed on which. Only XLST is known here.
fn extended(rest: &[u8]) -> Result<Command, Syntax> {
    let (word, rest) = split(rest);
    if !word.eq_ignore_ascii_case(b"XLST") {
        return Err(Syntax::Unknown);
    }
    let (field, message) = split(rest.ok_or(Syntax::Arguments)?);
    // RFC 5322 §2.2: the colon does not belong to the name, but some devices send it.
    let field = field.strip_suffix(b":").unwrap_or(field);
    if field.is_empty() || !field.iter().all(|octet| octet.is_ascii_graphic() && *octet != b':') {
        return Err(Syntax::Arguments);
    }
    Ok(Command::Xlst(field.to_vec(), message.map(number).transpose()?))
}

/// The first word, and what follows the spaces after it.
fn split(rest: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b' ', rest) {
        Some(space) => (&rest[..space], Some(rest[space..].trim_ascii_start())),
        None => (rest, None),
    }
}

fn number(word: &[u8]) -> Result<MessageNumber, Syntax> {
    decimal(word)?
        .and_then(|value| u32::try_from(value).ok())
        .and_then(NonZeroU32::new)
        .map(MessageNumber)
        .ok_or(Syntax::Number)
}

/// Parses digits and nothing else; `None` if 64 bits do not hold the number.
fn decimal(word: &[u8]) -> Result<Option<u64>, Syntax> {
    if word.is_empty() || !word.iter().all(u8::is_ascii_digit) {
        return Err(Syntax::Arguments);
    }
    Ok(word.iter().try_fold(0u64, |value, digit| {
        value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A command as text, with its secrets.
    fn shown(line: &[u8]) -> String {
        let octets = |octets: &[u8]| octets.escape_ascii().to_string();
        match Command::parse(line) {
            Err(syntax) => format!("{syntax:?}"),
            Ok(Command::User(name)) => format!("USER <{}>", octets(&name)),
            Ok(Command::Pass(secret)) => format!("PASS <{}>", octets(secret.expose())),
            Ok(Command::Apop(login, digest)) => format!("APOP <{}> {:x}", octets(&login), u128::from_be_bytes(digest)),
            Ok(Command::Auth(mechanism, None)) => format!("AUTH {mechanism:?}"),
            Ok(Command::Auth(mechanism, Some(initial))) => {
                format!("AUTH {mechanism:?} <{}>", octets(initial.expose()))
            }
            Ok(Command::List(Some(n)) | Command::Uidl(Some(n)) | Command::Retr(n) | Command::Dele(n)) => {
                format!("{} {}", Command::parse(line).unwrap().verb(), n.0)
            }
            Ok(Command::Xlst(field, None)) => format!("XTND <{}>", octets(&field)),
            Ok(Command::Xlst(field, Some(n))) => format!("XTND <{}> {}", octets(&field), n.0),
            Ok(Command::Lang(Some(range))) => format!("LANG <{}>", octets(&range)),
            Ok(Command::Top(number, lines)) => format!("TOP {} {lines}", number.0),
            Ok(command) => command.verb().into(),
        }
    }

    #[test]
    fn table() {
        let cases: &[(&[u8], &str)] = &[
            (b"", "Unknown"),
            (b" ", "Unknown"),
            (b" STAT", "Unknown"),
            (b"STA", "Unknown"),
            (b"STATS", "Unknown"),
            (b"last ", "LAST"),
            (b"LAST 1", "Arguments"),
            (b"UTF8", "UTF8"),
            (b"UTF8 USER", "Arguments"),
            (b"LANG", "LANG"),
            (b"lang  *", "LANG <*>"),
            (b"LANG en de", "Arguments"),
            (b"XTND", "Unknown"),
            (b"XTND XMIT", "Unknown"),
            (b"XTND XLST", "Arguments"),
            (b"XTND XLST :", "Arguments"),
            (b"XTND XLST a:b", "Arguments"),
            (b"XTND XLST \xff", "Arguments"),
            (b"xtnd xlst Message-Id", "XTND <Message-Id>"),
            (b"XTND XLST  Subject:  7 ", "XTND <Subject> 7"),
            (b"XTND XLST Subject 0", "Number"),
            (b"XTND XLST Subject 1 2", "Arguments"),
            (b"\xff\0", "Unknown"),
            (b"\0", "ProxyHeader"),
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2", "ProxyHeader"),
            (b"proxy tcp4", "Unknown"),
            (b"stat", "STAT"),
            (b"StAt \t ", "STAT"),
            (b"STAT\t", "STAT"),
            (b"STAT 1", "Arguments"),
            (b"QUIT", "QUIT"),
            (b"CAPA", "CAPA"),
            (b"STLS", "STLS"),
            (b"RSET", "RSET"),
            (b"NOOP", "NOOP"),
            (b"NOOP x", "Arguments"),
            (b"USER", "Arguments"),
            (b"USER  ", "Arguments"),
            (b"user j\xf6rg h. ", "USER <j\\xf6rg h.>"),
            (b"PASS", "Arguments"),
            (b"PASS ", "Arguments"),
            (b"pass  a b\t ", "PASS < a b\\t >"),
            (b"PASS \0\xff", "PASS <\\x00\\xff>"),
            (b"AUTH", "AUTH"),
            (b"AUTH ", "AUTH"),
            (b"auth plain", "AUTH Plain"),
            (b"AUTH Login  QQ== ", "AUTH Login <QQ==>"),
            (b"AUTH PLAIN =", "AUTH Plain <=>"),
            (b"AUTH cram-md5", "AUTH CramMd5"),
            (b"AUTH SCRAM-SHA-256 biws", "AUTH ScramSha256 <biws>"),
            (b"AUTH SCRAM-SHA-256-PLUS", "Mechanism"),
            (b"AUTH GSSAPI", "Mechanism"),
            (
                b"apop mr ose  C4c9334bac560ecc979e58001b3e22fb ",
                "APOP <mr ose> c4c9334bac560ecc979e58001b3e22fb",
            ),
            (b"APOP", "Arguments"),
            (b"APOP c4c9334bac560ecc979e58001b3e22fb", "Arguments"),
            (b"APOP  c4c9334bac560ecc979e58001b3e22fb", "Arguments"),
            (b"APOP mrose c4c9334bac560ecc979e58001b3e22f", "Arguments"),
            (b"APOP mrose c4c9334bac560ecc979e58001b3e22fg", "Arguments"),
            (b"LIST", "LIST"),
            (b"LIST 007 ", "LIST 7"),
            (b"LIST -1", "Arguments"),
            (b"LIST 1 2", "Arguments"),
            (b"UIDL", "UIDL"),
            (b"uidl 4294967295", "UIDL 4294967295"),
            (b"UIDL 4294967296", "Number"),
            (b"RETR", "Arguments"),
            (b"RETR 0", "Number"),
            (b"RETR 1", "RETR 1"),
            (b"RETR 18446744073709551617", "Number"),
            (b"RETR +1", "Arguments"),
            (b"DELE 12", "DELE 12"),
            (b"DELE x", "Arguments"),
            (b"TOP 1", "Arguments"),
            (b"TOP 1 ", "Arguments"),
            (b"TOP 0 1", "Number"),
            (b"TOP 1 0", "TOP 1 0"),
            (b"TOP 2  99999999 ", "TOP 2 99999999"),
            (b"TOP 2 99999999999999999999999", "TOP 2 18446744073709551615"),
            (b"TOP 1 2 3", "Arguments"),
        ];
        for (line, expected) in cases {
            assert_eq!(shown(line), *expected, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn secrets_do_not_print() {
        for line in ["PASS hunter2", "AUTH PLAIN hunter2"] {
            let printed = format!("{:?}", Command::parse(line.as_bytes()));
            assert!(!printed.contains("hunter2"), "{printed}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_parse_or_fail(line in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = Command::parse(&line);
        }

        #[test]
        fn passwords_are_verbatim(secret in prop::collection::vec(any::<u8>(), 1..100)) {
            let line = [b"PASS ".as_slice(), &secret].concat();
            let Ok(Command::Pass(parsed)) = Command::parse(&line) else {
                return Err(TestCaseError::fail("not a PASS"));
            };
            prop_assert_eq!(parsed.expose(), &secret);
        }
    }
}
