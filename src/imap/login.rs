//! Who we are, to a server that has greeted: AUTHENTICATE (RFC 3501 §6.2.2) or LOGIN.

use std::io;

use async_imap::Client;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use zeroize::Zeroizing;

use super::{capability::Capabilities, connect::run, error::Error, wire::Wire};
use crate::{config::Secret, oauth::AccessToken};

/// What proves who we are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Proof<'a> {
    Password(&'a Secret),
    Token(&'a AccessToken),
}

/// To whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Server<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) capabilities: Capabilities,
}

/// Not by async-imap's own `login` and `authenticate`, whose session would hold 10 KB for news that nobody reads.
pub(super) async fn authenticate(
    client: &mut Client<Wire>,
    server: Server<'_>,
    user: &str,
    proof: Proof<'_>,
) -> Result<(), Error> {
    match proof {
        Proof::Password(secret) => by_password(client, server.capabilities, user, secret).await,
        Proof::Token(token) => by_token(client, server, user, token).await,
    }
}

/// AUTHENTICATE PLAIN where it is offered, else LOGIN.
async fn by_password(
    client: &mut Client<Wire>,
    capabilities: Capabilities,
    user: &str,
    secret: &Secret,
) -> Result<(), Error> {
    // RFC 4616 §2: authzid (empty) NUL authcid NUL passwd
    let plain = Zeroizing::new([b"\0", user.as_bytes(), b"\0", secret.expose()].concat());
    let initial = Zeroizing::new(BASE64.encode(&*plain));
    // What LOGIN can't quote goes by SASL, offered or not.
    let quoted = quoted(user.as_bytes()).zip(quoted(secret.expose()));
    let result = match quoted {
        Some((user, password)) if !capabilities.auth_plain => {
            if capabilities.login_disabled {
                return Err(Error::LoginDisabled);
            }
            let command = Zeroizing::new(format!("LOGIN {} {}", *user, *password));
            run(client, "LOGIN", &command).await
        }
        _ => {
            let exchange = Exchange {
                mechanism: "PLAIN",
                response: &initial,
                after_failure: "",
            };
            exchange.run(client, capabilities.sasl_ir).await
        }
    };
    result.map_err(|error| match error {
        Error::Refused { command, completion } => {
            let password = String::from_utf8_lossy(secret.expose());
            Error::from_login(command, completion.without(&[&*password, &*initial]))
        }
        other => other,
    })
}

/// AUTHENTICATE OAUTHBEARER (RFC 7628) where it is offered, else XOAUTH2, which is what came before it.
async fn by_token(client: &mut Client<Wire>, server: Server<'_>, user: &str, token: &AccessToken) -> Result<(), Error> {
    let Server {
        host,
        port,
        capabilities,
    } = server;
    let (mechanism, before, after_failure) = if capabilities.auth_oauthbearer {
        // RFC 5801 §4: in a GS2 header `,` and `=` are written otherwise.
        let name = user.replace('=', "=3D").replace(',', "=2C");
        // RFC 7628 §3.2.3: after a failure the client says so much.
        (
            "OAUTHBEARER",
            format!("n,a={name},\x01host={host}\x01port={port}\x01"),
            "AQ==",
        )
    } else if capabilities.auth_xoauth2 {
        ("XOAUTH2", format!("user={user}\x01"), "")
    } else {
        return Err(Error::NoTokens);
    };
    let message = [before.as_bytes(), b"auth=Bearer ", token.expose(), b"\x01\x01"].concat();
    let message = Zeroizing::new(message);
    let response = Zeroizing::new(BASE64.encode(&*message));
    let exchange = Exchange {
        mechanism,
        response: &response,
        after_failure,
    };
    exchange
        .run(client, capabilities.sasl_ir)
        .await
        .map_err(|error| match error {
            Error::Refused { command, completion } => {
                let token = String::from_utf8_lossy(token.expose());
                match Error::from_login(command, completion.without(&[&*token, &*response])) {
                    // The device's password was right.
                    Error::Denied(completion) => Error::TokenRefused(completion),
                    other => other,
                }
            }
            other => other,
        })
}

/// A SASL mechanism in which the client speaks once, and first.
struct Exchange<'a> {
    mechanism: &'static str,
    /// In base64.
    response: &'a str,
    /// What a server waits for that has told why it will refuse.
    after_failure: &'static str,
}

impl Exchange<'_> {
    /// Along with the command where the server takes that (RFC 4959), else upon its empty challenge.
    async fn run(self, client: &mut Client<Wire>, with_initial: bool) -> Result<(), Error> {
        let mut to_send = Some(Zeroizing::new(format!("{}\r\n", self.response)));
        let command = match to_send.take_if(|_| with_initial) {
            Some(line) => Zeroizing::new(format!("S1 AUTHENTICATE {} {}", self.mechanism, *line)),
            None => Zeroizing::new(format!("S1 AUTHENTICATE {}\r\n", self.mechanism)),
        };
        client.get_mut().send(command.as_bytes()).await?;
        loop {
            if client.read_response().await?.is_none() {
                return Err(Error::Lost(io::ErrorKind::UnexpectedEof.into()));
            }
            match client.get_mut().seen().completion.take() {
                Some(completion) if completion.is_ok() => return Ok(()),
                Some(completion) => {
                    return Err(Error::Refused {
                        command: "AUTHENTICATE",
                        completion,
                    });
                }
                None => {
                    let after_failure = || Zeroizing::new(format!("{}\r\n", self.after_failure));
                    let line = to_send.take().unwrap_or_else(after_failure);
                    client.get_mut().send(line.as_bytes()).await?;
                }
            }
        }
    }
}

/// A quoted string (RFC 3501 §4.3); `None` where the octets need a literal.
fn quoted(octets: &[u8]) -> Option<Zeroizing<String>> {
    let text = std::str::from_utf8(octets)
        .ok()
        .filter(|text| text.is_ascii() && !text.contains(['\0', '\r', '\n']))?;
    let mut out = Zeroizing::new(String::with_capacity(2 * text.len() + 2));
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    Some(out)
}
