//! Logs in on a connection that the server has greeted: AUTHENTICATE (RFC 3501 §6.2.2) or LOGIN (§6.2.3).

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use tokio::runtime::{Handle, RuntimeFlavor};
use zeroize::Zeroizing;

use super::{
    async_imap::{Front, LoginAnswer},
    capability::Capabilities,
    command::quoted,
    error::Error,
    response::{Completion, text_without, visible},
    sasl::{Exchange, LoginMethod, LoginTarget, Mechanism},
};
use crate::{
    config::{Auth, Secret},
    oauth::AccessToken,
};

/// The longest literal that LITERAL- allows to be sent without waiting (RFC 7888 §5).
const LITERAL_MINUS: usize = 4096;

#[derive(Debug, Clone, Copy)]
pub(super) enum LoginSecret<'a> {
    Password(&'a Secret),
    Token(&'a AccessToken),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct LoginServer<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) capabilities: Capabilities,
    /// The configured mechanism.
    pub(super) auth: Auth,
    /// Whether nobody can eavesdrop: the connection has TLS, or the server is on this machine.
    pub(super) is_private: bool,
}

/// Logs `user` in. If the server repeats a secret in its NO, BAD or BYE, the error is without its text (see [`Sent`]).
pub(super) async fn authenticate(
    front: &mut Front,
    server: LoginServer<'_>,
    user: &str,
    secret: LoginSecret<'_>,
) -> Result<(), Error> {
    let login = LoginExchange { front, server, user };
    match secret {
        LoginSecret::Password(secret) => login.by_password(secret).await,
        LoginSecret::Token(token) => login.by_token(token).await,
    }
}

struct LoginExchange<'a> {
    front: &'a mut Front,
    server: LoginServer<'a>,
    user: &'a str,
}

impl LoginExchange<'_> {
    /// Tries the ways that the server offers, the best first. Tries the next way only if the server does not understand
    /// the one before.
    async fn by_password(mut self, secret: &Secret) -> Result<(), Error> {
        let LoginServer {
            auth,
            capabilities,
            is_private,
            ..
        } = self.server;
        let mut ways = LoginMethod::by_password(auth, &capabilities, is_private)
            .into_iter()
            .peekable();
        while let Some(way) = ways.next() {
            let (command, completion) = match way {
                LoginMethod::LoginCommand => ("LOGIN", self.login_command(secret.expose()).await?),
                LoginMethod::Sasl(mechanism) => ("AUTHENTICATE", self.exchange(mechanism, secret.expose()).await?),
            };
            if completion.is_ok() {
                return Ok(());
            }
            if ways.peek().is_some() && LoginMethod::is_not_understood(&completion) {
                tracing::debug!(?way, %completion, "the server does not understand a way to log in that it offers");
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
            // Not `Denied`: if the gateway got the token from the provider, the device has not given a wrong password.
            // If the token came from the device, the caller changes the error back.
            Error::Denied(completion) => Error::TokenRefused(completion),
            other => other,
        })
    }

    /// AUTHENTICATE. The client's first message is sent along with the command if the server supports that (RFC 4959),
    /// else after the server's first challenge.
    async fn exchange(&mut self, mechanism: Mechanism, secret: &[u8]) -> Result<Completion, Error> {
        let target = LoginTarget {
            user: self.user,
            host: self.server.host,
            port: self.server.port,
        };
        let mut exchange = Exchange::new(mechanism, target, secret)?;
        let mut sent = Sent::new(secret);
        let initial = if self.server.capabilities.sasl_ir {
            exchange.initial()
        } else {
            None
        };
        let name = mechanism.name();
        let command = match &initial {
            // RFC 4959 §3: a lone `=` stands for an empty message.
            Some(initial) if initial.is_empty() => Zeroizing::new(format!("AUTHENTICATE {name} =\r\n")),
            Some(initial) => Zeroizing::new(format!("AUTHENTICATE {name} {}\r\n", sent.encoded(initial))),
            None => Zeroizing::new(format!("AUTHENTICATE {name}\r\n")),
        };
        self.front.begin(command.as_bytes()).await?;
        loop {
            match self.answer(&sent).await? {
                LoginAnswer::Done(completion) => {
                    if completion.is_ok() {
                        exchange.finish()?;
                    }
                    return Ok(completion);
                }
                LoginAnswer::Continue(challenge) => {
                    // Some servers send the challenges of LOGIN as plain text. LOGIN does not look at them.
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
                if let LoginAnswer::Done(completion) = self.answer(&sent).await? {
                    return Ok(completion);
                }
            }
            line.extend_from_slice(argument);
        }
        line.extend_from_slice(b"\r\n");
        self.send(&line, &mut has_begun).await?;
        match self.answer(&sent).await? {
            LoginAnswer::Done(completion) => Ok(completion),
            LoginAnswer::Continue(_) => Err(Error::Protocol("LOGIN is answered by a plus")),
        }
    }

    /// Waits for the server's answer. What it says is without the secrets that were `sent`.
    async fn answer(&mut self, sent: &Sent) -> Result<LoginAnswer, Error> {
        match self.front.answer().await {
            Ok(LoginAnswer::Done(completion)) => Ok(LoginAnswer::Done(completion.without(&sent.secrets()))),
            Err(Error::Bye(text)) => Err(Error::Bye(text_without(text, &sent.secrets()))),
            answer => answer,
        }
    }

    async fn send(&mut self, line: &[u8], has_begun: &mut bool) -> Result<(), Error> {
        if std::mem::replace(has_begun, true) {
            self.front.send(line).await
        } else {
            self.front.begin(line).await
        }
    }
}

/// Runs `work`, which may compute for a second (SCRAM). If the runtime has several threads, no other session waits for
/// it.
fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// The secrets that were sent, in each form in which they were sent. They must not appear in an error.
struct Sent(Vec<Zeroizing<String>>);

impl Sent {
    fn new(secret: &[u8]) -> Self {
        let mut sent = Self(Vec::new());
        sent.add(secret);
        // Without the quotes around it, which a server may leave out.
        if let Some(quoted) = quoted(secret) {
            sent.add(&quoted.as_bytes()[1..quoted.len() - 1]);
        }
        sent
    }

    fn add(&mut self, secret: &[u8]) {
        let secret = Zeroizing::new(String::from_utf8_lossy(secret).into_owned());
        // Has room for all of it, because a string that grows leaves copies behind.
        let mut shown = Zeroizing::new(String::with_capacity(secret.len()));
        secret.chars().for_each(|c| shown.push(visible(c)));
        self.0.push(shown);
    }

    fn encoded(&mut self, message: &[u8]) -> &str {
        self.0.push(Zeroizing::new(BASE64.encode(message)));
        self.0.last().map_or("", |message| message.as_str())
    }

    fn secrets(&self) -> Vec<&str> {
        self.0.iter().map(|secret| secret.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::{super::link::Link, *};
    use crate::imap::scene::{SILENCE, before_login};

    const PASSWORD: &str = "p\"w";

    fn server(offers: &str, auth: Auth) -> LoginServer<'static> {
        LoginServer {
            host: "imap.example.org",
            port: 993,
            capabilities: Capabilities::parse(offers.as_bytes()),
            auth,
            is_private: true,
        }
    }

    /// Logs in to a server that offers `offers`; returns the lines that the server received.
    async fn log_in(
        offers: &str,
        auth: Auth,
        password: &str,
        answer: impl FnMut(&str) -> String,
    ) -> (Vec<String>, Result<(), Error>) {
        let secret = Secret::from(password);
        before_login(answer, async |front| {
            authenticate(front, server(offers, auth), "eva", LoginSecret::Password(&secret)).await
        })
        .await
    }

    fn ok(_: &str) -> String {
        "{tag} OK\r\n".to_owned()
    }

    #[tokio::test]
    async fn by_what_is_offered() {
        let plain = BASE64.encode("\0eva\0p\"w");
        for (offers, expected) in [
            ("AUTH=PLAIN SASL-IR", vec![format!("AUTHENTICATE PLAIN {plain}")]),
            ("IMAP4rev1", vec!["LOGIN \"eva\" \"p\\\"w\"".to_owned()]),
        ] {
            let (sent, done) = log_in(offers, Auth::Auto, PASSWORD, ok).await;
            done.unwrap();
            assert_eq!(sent, expected, "{offers}");
        }
        // Without SASL-IR the secret waits for the server's plus.
        let answer = |line: &str| {
            if line.starts_with("AUTHENTICATE") {
                "+ \r\n".to_owned()
            } else {
                "{tag} OK\r\n".to_owned()
            }
        };
        let (sent, done) = log_in("AUTH=PLAIN", Auth::Auto, PASSWORD, answer).await;
        done.unwrap();
        assert_eq!(sent, ["AUTHENTICATE PLAIN".to_owned(), plain]);
        let (sent, done) = log_in("LOGINDISABLED", Auth::Auto, PASSWORD, ok).await;
        assert!(matches!(done, Err(Error::LoginDisabled)) && sent.is_empty());
    }

    #[tokio::test]
    async fn plain_that_is_not_understood_is_followed_by_login_once() {
        let answer = |line: &str| {
            if line.starts_with("AUTHENTICATE") {
                "{tag} BAD [CLIENTBUG] what?\r\n".to_owned()
            } else {
                "{tag} NO wrong\r\n".to_owned()
            }
        };
        let (sent, done) = log_in("AUTH=PLAIN SASL-IR AUTH=LOGIN", Auth::Auto, PASSWORD, answer).await;
        assert!(matches!(done, Err(Error::Denied(_))));
        assert_eq!(sent.len(), 2);
        assert!(sent[1].starts_with("LOGIN "));
    }

    #[tokio::test]
    async fn what_cannot_be_quoted_goes_by_literals() {
        let answer = |line: &str| match line.ends_with('}') && !line.ends_with("+}") {
            true => "+ go on\r\n".to_owned(),
            false if line.starts_with("LOGIN") && line.ends_with("+}") => String::new(),
            false => "{tag} OK\r\n".to_owned(),
        };
        for (offers, first) in [
            ("IMAP4rev1", "LOGIN \"eva\" {3}"),
            ("LITERAL+", "LOGIN \"eva\" {3+}"),
            ("LITERAL-", "LOGIN \"eva\" {3+}"),
        ] {
            let (sent, done) = log_in(offers, Auth::Auto, "aü", answer).await;
            done.unwrap();
            assert_eq!(sent, [first, "aü"], "{offers}");
        }
        let refuse = |_: &str| "{tag} NO [AUTHENTICATIONFAILED] aü is not it\r\n".to_owned();
        let (sent, done) = log_in("IMAP4rev1", Auth::Auto, "aü", refuse).await;
        let Err(Error::Denied(completion)) = done else { panic!() };
        assert!(
            !completion.to_string().contains("aü"),
            "a server that repeats the password"
        );
        assert_eq!(sent.len(), 1);
    }

    #[tokio::test]
    async fn a_server_that_repeats_the_command_is_not_repeated() {
        let long = "geheim ".repeat(60);
        for password in [PASSWORD, "back\\slash", "tab\tin it", long.as_str()] {
            for offers in ["IMAP4rev1", "AUTH=PLAIN SASL-IR"] {
                let answer = |line: &str| format!("{{tag}} NO [ALERT] wrong: {line}\r\n");
                let (sent, done) = log_in(offers, Auth::Auto, password, answer).await;
                let said = done.unwrap_err().to_string();
                // What was cut off within the secret loses its end.
                let is_cut = password == long && !said.contains("geheim") && said.len() < 100;
                assert!(said.contains("withheld") || is_cut, "{said}");
                assert_eq!(sent.len(), 1);
            }
        }
    }

    #[tokio::test]
    async fn a_farewell_that_repeats_the_password_is_not_repeated() {
        let (near, mut far) = duplex(1 << 16);
        far.write_all(b"* OK ready\r\n* BYE too many guesses: eva geheim\r\n")
            .await
            .unwrap();
        far.shutdown().await.unwrap();
        let mut front = Front::greet(Link::new(Box::new(near), SILENCE)).await.unwrap();
        let secret = Secret::from("geheim");
        let server = server("IMAP4rev1", Auth::Auto);
        let done = authenticate(&mut front, server, "eva", LoginSecret::Password(&secret)).await;
        let Err(Error::Bye(text)) = done else { panic!() };
        assert!(!text.contains("geheim"), "{text}");
    }

    #[tokio::test]
    async fn an_ok_too_early_is_no_login() {
        let (_, done) = log_in("AUTH=SCRAM-SHA-256", Auth::ScramSha256, PASSWORD, ok).await;
        assert!(matches!(done, Err(Error::Sasl(_))));
    }
}
