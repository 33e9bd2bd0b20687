//! Who we are, to a server that has greeted: AUTHENTICATE (RFC 3501 §6.2.2) or LOGIN (§6.2.3).

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use tokio::runtime::{Handle, RuntimeFlavor};
use zeroize::Zeroizing;

use super::{
    async_imap::{Answer, Front},
    capability::Capabilities,
    command::quoted,
    error::Error,
    response::Completion,
    sasl::{Exchange, Mechanism, Party, Way},
};
use crate::{
    config::{Auth, Secret},
    oauth::AccessToken,
};

/// RFC 7888 §5: the longest literal that LITERAL- lets go without waiting.
const LITERAL_MINUS: usize = 4096;

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
    /// `auth`
    pub(super) auth: Auth,
    /// Nobody can listen: TLS, or the server is on this machine.
    pub(super) is_private: bool,
}

/// Logs `user` in. Errors bear nothing of what was sent.
pub(super) async fn authenticate(
    front: &mut Front,
    server: Server<'_>,
    user: &str,
    proof: Proof<'_>,
) -> Result<(), Error> {
    let login = Login { front, server, user };
    match proof {
        Proof::Password(secret) => login.by_password(secret).await,
        Proof::Token(token) => login.by_token(token).await,
    }
}

struct Login<'a> {
    front: &'a mut Front,
    server: Server<'a>,
    user: &'a str,
}

impl Login<'_> {
    /// By the ways that the server offers, the best first; on to the next only if it does not understand one.
    async fn by_password(mut self, secret: &Secret) -> Result<(), Error> {
        let Server {
            auth,
            capabilities,
            is_private,
            ..
        } = self.server;
        let mut ways = Way::by_password(auth, &capabilities, is_private).into_iter().peekable();
        while let Some(way) = ways.next() {
            let (command, completion) = match way {
                Way::LoginCommand => ("LOGIN", self.login_command(secret.expose()).await?),
                Way::Sasl(mechanism) => ("AUTHENTICATE", self.exchange(mechanism, secret.expose()).await?),
            };
            if completion.is_ok() {
                return Ok(());
            }
            if ways.peek().is_some() && Way::is_not_understood(&completion) {
                tracing::debug!(?way, %completion, "the server does not understand what it offers");
                continue;
            }
            return Err(Error::from_login(command, completion));
        }
        Err(Error::LoginDisabled)
    }

    async fn by_token(mut self, token: &AccessToken) -> Result<(), Error> {
        let mechanism = Mechanism::for_token(&self.server.capabilities).ok_or(Error::NoTokens)?;
        let completion = self.exchange(mechanism, token.expose()).await?;
        if completion.is_ok() {
            return Ok(());
        }
        Err(match Error::from_login("AUTHENTICATE", completion) {
            // The device's password was right.
            Error::Denied(completion) => Error::TokenRefused(completion),
            other => other,
        })
    }

    /// AUTHENTICATE: the client's first message goes along with the command if the server takes that (RFC 4959), else upon
    /// its first challenge.
    async fn exchange(&mut self, mechanism: Mechanism, secret: &[u8]) -> Result<Completion, Error> {
        let party = Party {
            user: self.user,
            host: self.server.host,
            port: self.server.port,
        };
        let mut exchange = Exchange::new(mechanism, party, secret)?;
        let mut sent = Sent::new(secret);
        let initial = match self.server.capabilities.sasl_ir {
            true => exchange.initial(),
            false => None,
        };
        let name = mechanism.name();
        let command = match &initial {
            // RFC 4959 §3: a lone `=` is a message without octets.
            Some(initial) if initial.is_empty() => Zeroizing::new(format!("AUTHENTICATE {name} =\r\n")),
            Some(initial) => Zeroizing::new(format!("AUTHENTICATE {name} {}\r\n", sent.encoded(initial))),
            None => Zeroizing::new(format!("AUTHENTICATE {name}\r\n")),
        };
        self.front.begin(command.as_bytes()).await?;
        loop {
            match self.front.answer().await? {
                Answer::Done(completion) if completion.is_ok() => {
                    exchange.finish()?;
                    return Ok(completion);
                }
                Answer::Done(completion) => return Ok(sent.withheld(completion)),
                Answer::Continue(challenge) => {
                    // LOGIN was seen with plain text for a challenge; no mechanism here reads anything into it then.
                    let challenge = BASE64.decode(challenge.trim_ascii()).unwrap_or(challenge);
                    let response = aside(|| exchange.respond(&challenge))?;
                    let line = Zeroizing::new(format!("{}\r\n", sent.encoded(&response)));
                    self.front.send(line.as_bytes()).await?;
                }
            }
        }
    }

    /// LOGIN, with literals for what can't be quoted.
    async fn login_command(&mut self, password: &[u8]) -> Result<Completion, Error> {
        let sent = Sent::new(password);
        let Capabilities {
            literal_plus,
            literal_minus,
            ..
        } = self.server.capabilities;
        let mut line = Zeroizing::new(Vec::with_capacity(64 + 2 * (self.user.len() + password.len())));
        line.extend_from_slice(b"LOGIN");
        let mut has_begun = false;
        for argument in [self.user.as_bytes(), password] {
            line.push(b' ');
            if let Some(quoted) = quoted(argument) {
                line.extend_from_slice(quoted.as_bytes());
                continue;
            }
            let at_once = literal_plus || (literal_minus && argument.len() <= LITERAL_MINUS);
            let sign = if at_once { "+" } else { "" };
            line.extend_from_slice(format!("{{{}{sign}}}\r\n", argument.len()).as_bytes());
            if !at_once {
                self.send(&line, &mut has_begun).await?;
                line.clear();
                if let Answer::Done(completion) = self.front.answer().await? {
                    return Ok(sent.withheld(completion));
                }
            }
            line.extend_from_slice(argument);
        }
        line.extend_from_slice(b"\r\n");
        self.send(&line, &mut has_begun).await?;
        match self.front.answer().await? {
            Answer::Done(completion) => Ok(sent.withheld(completion)),
            Answer::Continue(_) => Err(Error::Protocol("LOGIN is answered by a plus")),
        }
    }

    async fn send(&mut self, line: &[u8], has_begun: &mut bool) -> Result<(), Error> {
        match std::mem::replace(has_begun, true) {
            false => self.front.begin(line).await,
            true => self.front.send(line).await,
        }
    }
}

/// Runs what may compute for a second (SCRAM), so that no other session waits for it, if the runtime has other threads.
fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// What was sent and must not be repeated in an error.
struct Sent {
    secret: Zeroizing<String>,
    messages: Vec<Zeroizing<String>>,
}

impl Sent {
    fn new(secret: &[u8]) -> Self {
        Self {
            secret: Zeroizing::new(String::from_utf8_lossy(secret).into_owned()),
            messages: Vec::new(),
        }
    }

    fn encoded(&mut self, message: &[u8]) -> &str {
        self.messages.push(Zeroizing::new(BASE64.encode(message)));
        self.messages.last().map_or("", |message| message.as_str())
    }

    fn withheld(&self, completion: Completion) -> Completion {
        let mut secrets = vec![self.secret.as_str()];
        secrets.extend(self.messages.iter().map(|message| message.as_str()));
        completion.without(&secrets)
    }
}
