//! The client's side of SASL, without I/O and without base64: which mechanism to use, and what to say in it.

use zeroize::Zeroizing;

use super::{
    capability::Capabilities,
    response::{Code, Completion},
    scram::{FinalMessage, FirstMessage, SaslError, ServerFinal, saslname},
};
use crate::{challenge::hmac_md5, config::Auth, types::hex};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mechanism {
    /// RFC 4616
    Plain,
    /// draft-murchison-sasl-login
    Login,
    /// RFC 2195
    CramMd5,
    /// RFC 7677
    ScramSha256,
    /// RFC 7628
    OAuthBearer,
    /// The older mechanism of Google and Microsoft (before RFC 7628).
    XOAuth2,
}

impl Mechanism {
    #[cfg(any(test, fuzzing))]
    pub(super) const ALL: [Self; 6] = [
        Self::Plain,
        Self::Login,
        Self::CramMd5,
        Self::ScramSha256,
        Self::OAuthBearer,
        Self::XOAuth2,
    ];

    /// The name that IANA has registered.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::CramMd5 => "CRAM-MD5",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::OAuthBearer => "OAUTHBEARER",
            Self::XOAuth2 => "XOAUTH2",
        }
    }
}

/// A way to give a password to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoginMethod {
    /// The command LOGIN (RFC 3501 §6.2.3)
    LoginCommand,
    /// The command AUTHENTICATE
    Sasl(Mechanism),
}

/// How many ways to give a password are tried at most: a server that does not understand two will not understand a
/// third.
const WAYS: usize = 2;

impl LoginMethod {
    /// The ways to log in by password, the best first; empty if the server offers none. The next one may be tried after
    /// an answer for which [`LoginMethod::is_not_understood`] holds.
    ///
    /// If nobody can eavesdrop (`is_private`: TLS or loopback), the ways that most servers support come first: they
    /// need no special form of the stored password. Otherwise the ways that do not reveal the password come first. A
    /// mechanism that is configured is used whether or not the server offers it.
    pub(super) fn by_password(auth: Auth, offered: &Capabilities, is_private: bool) -> Vec<Self> {
        let login_command = (Self::LoginCommand, !offered.login_disabled);
        let configured = match auth {
            Auth::Auto => None,
            Auth::LoginCommand => Some(login_command),
            Auth::Plain => Some((Self::Sasl(Mechanism::Plain), true)),
            Auth::Login => Some((Self::Sasl(Mechanism::Login), true)),
            Auth::CramMd5 => Some((Self::Sasl(Mechanism::CramMd5), true)),
            Auth::ScramSha256 => Some((Self::Sasl(Mechanism::ScramSha256), true)),
        };
        let shown = [
            (Self::Sasl(Mechanism::Plain), offered.auth_plain),
            login_command,
            (Self::Sasl(Mechanism::Login), offered.auth_login),
        ];
        let hidden = [
            (Self::Sasl(Mechanism::ScramSha256), offered.auth_scram_sha_256),
            (Self::Sasl(Mechanism::CramMd5), offered.auth_cram_md5),
        ];
        let ways = match (configured, is_private) {
            (Some(way), _) => vec![way],
            (None, true) => [&shown[..], &hidden].concat(),
            (None, false) => [&hidden[..], &shown].concat(),
        };
        let ways = ways.into_iter().filter_map(|(way, is_open)| is_open.then_some(way));
        ways.take(WAYS).collect()
    }

    /// Whether a tagged NO or BAD says that the server does not know this way to log in. Any other NO or BAD is the
    /// server's answer to the password: the server would count a try in another way as one more guess.
    pub(super) fn is_not_understood(answer: &Completion) -> bool {
        if answer.will_pass() || answer.tells_no_mailbox() {
            return false;
        }
        // `[CLIENTBUG]`, `[CANNOT]` and similar codes say no more than BAD does.
        if answer.code().is_some_and(|code| answer.is_no() || code != Code::Other) {
            return false;
        }
        let text = answer.text().to_ascii_lowercase();
        let names_mechanism = text.contains("mechanism")
            && [
                "unsupported",
                "not supported",
                "unknown",
                "no mechanism",
                "not available",
                "disabled",
            ]
            .iter()
            .any(|words| text.contains(words));
        !answer.is_no() || names_mechanism
    }
}

impl Mechanism {
    /// The mechanism for an OAuth2 token; `None` if the server offers none.
    pub(super) fn for_token(offered: &Capabilities) -> Option<Self> {
        if offered.auth_oauthbearer {
            Some(Self::OAuthBearer)
        } else if offered.auth_xoauth2 {
            Some(Self::XOAuth2)
        } else {
            None
        }
    }
}

/// Who logs in, and to which server.
#[derive(Debug, Clone, Copy)]
pub(super) struct LoginTarget<'a> {
    pub(super) user: &'a str,
    pub(super) host: &'a str,
    pub(super) port: u16,
}

/// One run of a mechanism.
pub(super) struct Exchange<'a> {
    mechanism: Mechanism,
    target: LoginTarget<'a>,
    /// A password, or a token.
    secret: &'a [u8],
    state: ExchangeState,
}

enum ExchangeState {
    /// Nothing has been sent.
    Start,
    /// LOGIN: the user was sent.
    User,
    /// SCRAM: the first message is made. `is_sent`: whether it was sent.
    First { first: FirstMessage, is_sent: bool },
    /// SCRAM: the proof was sent.
    Last(FinalMessage),
    /// The secret was sent. If the mechanism has the server prove that it knows the password, the server has done so.
    Given,
    /// The server has said why it will refuse the login, and the client has acknowledged that.
    Refused,
}

impl<'a> Exchange<'a> {
    /// `secret`: the password, or the token for the mechanisms that take one. Fails if the system gives no random
    /// numbers.
    pub(super) fn new(mechanism: Mechanism, target: LoginTarget<'a>, secret: &'a [u8]) -> Result<Self, SaslError> {
        let state = match mechanism {
            Mechanism::ScramSha256 => ExchangeState::First {
                first: FirstMessage::new(target.user)?,
                is_sent: false,
            },
            _ => ExchangeState::Start,
        };
        Ok(Self {
            mechanism,
            target,
            secret,
            state,
        })
    }

    /// The client's first message, to be sent along with AUTHENTICATE if the server supports that (RFC 4959); `None` if
    /// the server speaks first. If this was not called, [`Exchange::respond`] returns the message at the first
    /// challenge.
    pub(super) fn initial(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        let LoginTarget { user, host, port } = self.target;
        let before;
        let parts: [&[u8]; 4] = match (self.mechanism, &mut self.state) {
            (Mechanism::ScramSha256, ExchangeState::First { first, is_sent }) if !*is_sent => {
                *is_sent = true;
                return Some(Zeroizing::new(first.message().into_bytes()));
            }
            // RFC 4616 §2: authzid (empty) NUL authcid NUL passwd
            (Mechanism::Plain, ExchangeState::Start) => [b"\0", user.as_bytes(), b"\0", self.secret],
            (Mechanism::OAuthBearer, ExchangeState::Start) => {
                let name = saslname(user);
                before = format!("n,a={name},\x01host={host}\x01port={port}\x01auth=Bearer ");
                [before.as_bytes(), self.secret, b"\x01\x01", b""]
            }
            (Mechanism::XOAuth2, ExchangeState::Start) => {
                before = format!("user={user}\x01auth=Bearer ");
                [before.as_bytes(), self.secret, b"\x01\x01", b""]
            }
            _ => return None,
        };
        self.state = ExchangeState::Given;
        Some(joined(parts))
    }

    /// The answer to `challenge`; neither is in base64. After an error the exchange is over: do not trust the server,
    /// and close the connection. SCRAM computes here for up to a second: do not call this on a thread that other
    /// sessions need.
    pub(super) fn respond(&mut self, challenge: &[u8]) -> Result<Zeroizing<Vec<u8>>, SaslError> {
        // The client's first message is still due. The challenge for it is empty, or should be.
        if let Some(initial) = self.initial() {
            return Ok(initial);
        }
        let (answer, next) = match (&self.state, self.mechanism) {
            (ExchangeState::Start, Mechanism::Login) => (
                joined([self.target.user.as_bytes(), b"", b"", b""]),
                ExchangeState::User,
            ),
            (ExchangeState::User, _) => (joined([self.secret, b"", b"", b""]), ExchangeState::Given),
            (ExchangeState::Start, Mechanism::CramMd5) if challenge.is_empty() => {
                return Err(SaslError("CRAM-MD5: the challenge is empty"));
            }
            (ExchangeState::Start, _) => {
                let digest = hex(&hmac_md5(self.secret, challenge));
                (
                    joined([self.target.user.as_bytes(), b" ", digest.as_bytes(), b""]),
                    ExchangeState::Given,
                )
            }
            (ExchangeState::First { first, .. }, _) => {
                let (answer, last) = first.answer(challenge, self.secret)?;
                (answer, ExchangeState::Last(last))
            }
            (ExchangeState::Last(last), _) => match last.verify(challenge)? {
                ServerFinal::Proved => (Zeroizing::default(), ExchangeState::Given),
                ServerFinal::Refused => (Zeroizing::default(), ExchangeState::Refused),
            },
            // RFC 7628 §3.2.3: the client acknowledges a failure by this octet.
            (ExchangeState::Given, Mechanism::OAuthBearer) => {
                (joined([b"\x01", b"", b"", b""]), ExchangeState::Refused)
            }
            (ExchangeState::Given, Mechanism::XOAuth2 | Mechanism::Plain) => {
                (Zeroizing::default(), ExchangeState::Refused)
            }
            (ExchangeState::Given | ExchangeState::Refused, _) => {
                return Err(SaslError("the server asks for more than its mechanism has"));
            }
        };
        self.state = next;
        Ok(answer)
    }

    /// Call this at the server's OK: fails if the server may not say OK yet. That is so before the secret was sent and,
    /// with SCRAM, before the server has sent its signature.
    pub(super) fn finish(self) -> Result<(), SaslError> {
        match self.state {
            ExchangeState::Given => Ok(()),
            // One challenge too many does no harm. A server that says OK after an error accepts the secret.
            ExchangeState::Refused if self.mechanism != Mechanism::ScramSha256 => Ok(()),
            _ if self.mechanism == Mechanism::ScramSha256 => Err(SaslError(
                "SCRAM: the server says OK without proof that it knows the password",
            )),
            _ => Err(SaslError("the server says OK before it was told the password")),
        }
    }
}

/// Joins `parts` in one buffer that never grows: a buffer that grows leaves copies behind.
fn joined(parts: [&[u8]; 4]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(parts.concat())
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
    use proptest::prelude::*;

    use super::*;
    use crate::imap::response::Status;

    fn exchange<'a>(mechanism: Mechanism, user: &'a str, secret: &'a [u8]) -> Exchange<'a> {
        let target = LoginTarget {
            user,
            host: "server.example.com",
            port: 143,
        };
        Exchange::new(mechanism, target, secret).unwrap()
    }

    fn said(mut exchange: Exchange<'_>, challenges: &[&str]) -> Vec<String> {
        let answers = challenges
            .iter()
            .map(|challenge| exchange.respond(challenge.as_bytes()).unwrap());
        let answers: Vec<_> = answers
            .map(|answer| String::from_utf8(answer.to_vec()).unwrap())
            .collect();
        exchange.finish().unwrap();
        answers
    }

    #[test]
    fn the_examples_of_the_rfcs() {
        // RFC 4616 §4
        let mut plain = exchange(Mechanism::Plain, "tim", b"tanstaaftanstaaf");
        assert_eq!(*plain.initial().unwrap(), b"\0tim\0tanstaaftanstaaf");
        assert!(plain.initial().is_none(), "once");
        plain.finish().unwrap();
        assert_eq!(said(exchange(Mechanism::Plain, "tim", b"t"), &[""]), ["\0tim\0t"]);
        // RFC 2195 §2
        assert_eq!(
            said(
                exchange(Mechanism::CramMd5, "tim", b"tanstaaftanstaaf"),
                &["<1896.697170952@postoffice.reston.mci.net>"]
            ),
            ["tim b913a602c7eda7a495b4e6e7334d3890"]
        );
        // RFC 7628 §4.1
        let mut bearer = exchange(
            Mechanism::OAuthBearer,
            "user@example.com",
            b"vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==",
        );
        assert_eq!(
            BASE64.encode(bearer.initial().unwrap()),
            "bixhPXVzZXJAZXhhbXBsZS5jb20sAWhvc3Q9c2VydmVyLmV4YW1wbGUuY29tAXBvcnQ9MTQzAWF1dGg9QmVhcmVyIHZGOWRmdDRxbVRjMk5\
             2YjNSbGNrQmhiSFJoZG1semRHRXVZMjl0Q2c9PQEB"
        );
        // RFC 7628 §4.3
        assert_eq!(*bearer.respond(b"{\"status\":\"invalid_token\"}").unwrap(), b"\x01");
        assert!(bearer.respond(b"").is_err());
        // Google's documentation of XOAUTH2
        let mut before = exchange(
            Mechanism::XOAuth2,
            "someuser@example.com",
            b"ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg",
        );
        assert_eq!(
            BASE64.encode(before.initial().unwrap()),
            "dXNlcj1zb21ldXNlckBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciB5YTI5LnZGOWRmdDRxbVRjMk52YjNSbGNrQmhkSFJoZG1semRHRXVZMjl0Q2cBAQ=="
        );
        assert_eq!(*before.respond(b"{\"status\":\"400\"}").unwrap(), b"");
        assert_eq!(
            said(
                exchange(Mechanism::Login, "tim", b"secret"),
                &["Username:", "Password:"]
            ),
            ["tim", "secret"]
        );
    }

    #[test]
    fn scram_wants_the_servers_proof() {
        let begun = || {
            let mut scram = exchange(Mechanism::ScramSha256, "user", b"pencil");
            let initial = String::from_utf8(scram.initial().unwrap().to_vec()).unwrap();
            let nonce = initial.strip_prefix("n,,n=user,r=").unwrap();
            let challenge = format!("r={nonce}more,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
            scram.respond(challenge.as_bytes()).unwrap();
            scram
        };
        assert!(
            exchange(Mechanism::ScramSha256, "user", b"pencil").finish().is_err(),
            "OK at once"
        );
        assert!(begun().finish().is_err(), "OK instead of the signature");
        assert!(begun().respond(b"v=AAAA").is_err());
        assert!(begun().respond(b"").is_err());
        let mut refused = begun();
        assert_eq!(*refused.respond(b"e=invalid-proof").unwrap(), b"");
        assert!(refused.finish().is_err(), "OK after an error");
        let mut silent = exchange(Mechanism::ScramSha256, "user", b"pencil");
        assert!(
            silent.respond(b"").unwrap().starts_with(b"n,,n=user,r="),
            "upon an empty challenge"
        );
        assert!(silent.respond(b"r=other,s=YQ==,i=4096").is_err());
    }

    #[test]
    fn an_ok_that_comes_too_early() {
        for mechanism in Mechanism::ALL {
            assert!(
                exchange(mechanism, "user", b"secret").finish().is_err(),
                "{mechanism:?}"
            );
        }
        let mut login = exchange(Mechanism::Login, "user", b"secret");
        login.respond(b"Username:").unwrap();
        assert!(login.finish().is_err());
    }

    #[test]
    fn nobody_is_asked_for_ever() {
        for mechanism in Mechanism::ALL {
            let mut exchange = exchange(mechanism, "user", b"secret");
            let answers = (0..10).take_while(|_| exchange.respond(b"more").is_ok()).count();
            assert!(answers <= 2, "{mechanism:?}");
        }
        assert!(exchange(Mechanism::CramMd5, "user", b"secret").respond(b"").is_err());
    }

    fn ways(auth: Auth, offered: &str, is_private: bool) -> Vec<&'static str> {
        let offered = Capabilities::parse(offered.as_bytes());
        let ways = LoginMethod::by_password(auth, &offered, is_private);
        ways.into_iter()
            .map(|way| match way {
                LoginMethod::LoginCommand => "command",
                LoginMethod::Sasl(mechanism) => mechanism.name(),
            })
            .collect()
    }

    #[test]
    fn the_ways_to_try() {
        let everything = "AUTH=PLAIN AUTH=LOGIN AUTH=CRAM-MD5 AUTH=SCRAM-SHA-256";
        for (offered, private, open) in [
            (
                everything,
                &["PLAIN", "command"][..],
                &["SCRAM-SHA-256", "CRAM-MD5"][..],
            ),
            ("", &["command"], &["command"]),
            ("LOGINDISABLED", &[], &[]),
            ("LOGINDISABLED AUTH=XOAUTH2 STARTTLS", &[], &[]),
            ("auth=plain LOGINDISABLED", &["PLAIN"], &["PLAIN"]),
            (
                "AUTH=PLAIN AUTH=LOGIN LOGINDISABLED",
                &["PLAIN", "LOGIN"],
                &["PLAIN", "LOGIN"],
            ),
            ("AUTH=CRAM-MD5", &["command", "CRAM-MD5"], &["CRAM-MD5", "command"]),
            ("AUTH=CRAM-MD5 LOGINDISABLED", &["CRAM-MD5"], &["CRAM-MD5"]),
            (
                "AUTH=SCRAM-SHA-256 AUTH=PLAIN",
                &["PLAIN", "command"],
                &["SCRAM-SHA-256", "PLAIN"],
            ),
            ("AUTH=SCRAM-SHA-256-PLUS LOGINDISABLED", &[], &[]),
        ] {
            assert_eq!(ways(Auth::Auto, offered, true), private, "{offered}");
            assert_eq!(ways(Auth::Auto, offered, false), open, "{offered}");
        }
        for (auth, way) in [
            (Auth::Plain, "PLAIN"),
            (Auth::Login, "LOGIN"),
            (Auth::CramMd5, "CRAM-MD5"),
            (Auth::ScramSha256, "SCRAM-SHA-256"),
            (Auth::LoginCommand, "command"),
        ] {
            assert_eq!(ways(auth, everything, false), [way]);
            assert_eq!(ways(auth, "", true), [way], "configured is configured");
        }
        assert_eq!(
            ways(Auth::LoginCommand, "LOGINDISABLED", true),
            [""; 0],
            "RFC 3501 §6.2.3"
        );
        let token = |offered: &str| Mechanism::for_token(&Capabilities::parse(offered.as_bytes()));
        assert_eq!(token("AUTH=XOAUTH2 AUTH=OAUTHBEARER"), Some(Mechanism::OAuthBearer));
        assert_eq!(token("AUTH=XOAUTH2"), Some(Mechanism::XOAuth2));
        assert_eq!(token("AUTH=PLAIN"), None);
    }

    #[test]
    fn what_another_way_may_help_against() {
        for (line, expected) in [
            ("BAD unknown command", true),
            ("BAD Invalid arguments", true),
            ("NO Unsupported authentication mechanism.", true),
            ("NO no mechanism available", true),
            ("NO Invalid login or password", false),
            ("NO [AUTHENTICATIONFAILED] mechanism not supported for you", false),
            ("BAD [AUTHENTICATIONFAILED] no", false),
            (
                "BAD Request is throttled. Suggested Backoff Time: 5000 milliseconds",
                false,
            ),
            ("BAD User is authenticated but not connected.", false),
            ("NO [UNAVAILABLE] mechanism not available", false),
            ("NO AUTHENTICATE failed.", false),
        ] {
            let completion = Status::parse(line.as_bytes()).unwrap().to_completion();
            assert_eq!(LoginMethod::is_not_understood(&completion), expected, "{line}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(user: String, secret: Vec<u8>, challenges: Vec<Vec<u8>>, along: bool) {
            for mechanism in Mechanism::ALL {
                let mut exchange = exchange(mechanism, &user, &secret);
                if along {
                    let _ = exchange.initial();
                }
                for challenge in &challenges {
                    if exchange.respond(challenge).is_err() {
                        break;
                    }
                }
                let ended = exchange.finish();
                prop_assert!(mechanism != Mechanism::ScramSha256 || ended.is_err(), "no server knows the signature by chance");
            }
        }
    }
}
