//! From a host name to an authenticated connection.

use std::{io, time::Duration};

use async_imap::Client;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use tokio::{net::TcpStream, time::timeout};
use zeroize::Zeroizing;

use super::{
    capability::Capabilities,
    error::Error,
    wire::{Io, Wire},
};
use crate::{
    config::{Secret, Upstream, UpstreamTls},
    tls,
};

/// Reaches one upstream host.
#[derive(Debug)]
pub struct Connector {
    host: String,
    port: u16,
    mode: UpstreamTls,
    tls: tls::Connector,
    silence: Duration,
}

/// An authenticated connection, no mailbox selected yet.
#[derive(Debug)]
pub struct Connection {
    pub(super) client: Client<Wire>,
    /// As told last.
    pub(super) capabilities: Capabilities,
    /// Whether that was after login: a server may tell them along with its OK (RFC 3501 §6.2.2), else it is to be asked.
    pub(super) told_after_login: bool,
}

impl Connector {
    /// `silence`: how long the upstream may keep us waiting inside a command. Errors name the `ca_file` at fault.
    pub fn new(upstream: &Upstream, silence: Duration) -> Result<Self, tls::Error> {
        Ok(Self {
            host: upstream.host.clone(),
            port: upstream.port,
            mode: upstream.tls,
            tls: tls::Connector::new(upstream.ca_file.as_deref())?,
            silence,
        })
    }

    /// Connects, reads the greeting and secures the connection, without logging in.
    pub async fn probe(&self) -> Result<(), Error> {
        self.greet().await.map(|_| ())
    }

    /// Connects and logs in.
    pub async fn login(&self, user: &str, secret: &Secret) -> Result<Connection, Error> {
        let (mut client, capabilities) = self.greet().await?;
        authenticate(&mut client, capabilities, user, secret).await?;
        let told = client.get_mut().seen().capabilities.take();
        let told_after_login = told.is_some();
        Ok(Connection {
            client,
            capabilities: told.unwrap_or(capabilities),
            told_after_login,
        })
    }

    async fn greet(&self) -> Result<(Client<Wire>, Capabilities), Error> {
        let tcp = self.within(TcpStream::connect((self.host.as_str(), self.port))).await?;
        tcp.set_nodelay(true).map_err(Error::Connect)?;
        let keep_alive = socket2::TcpKeepalive::new().with_time(Duration::from_secs(120));
        socket2::SockRef::from(&tcp)
            .set_tcp_keepalive(&keep_alive)
            .map_err(Error::Connect)?;
        let io: Box<dyn Io> = match self.mode {
            UpstreamTls::Implicit => self.secure(Box::new(tcp)).await?,
            UpstreamTls::StartTls | UpstreamTls::Off => Box::new(tcp),
        };
        let mut client = Client::new(Wire::new(io, self.silence));
        if client.read_response().await?.is_none() {
            return Err(Error::Lost(io::ErrorKind::UnexpectedEof.into()));
        }
        let seen = client.get_mut().seen();
        if let Some(text) = seen.bye.take() {
            return Err(Error::Bye(text));
        }
        if seen.pre_auth {
            return Err(Error::PreAuthenticated);
        }
        let mut capabilities = capabilities(&mut client).await?;
        if self.mode == UpstreamTls::StartTls {
            if !capabilities.start_tls {
                return Err(Error::NoStartTls);
            }
            run(&mut client, "STARTTLS", "STARTTLS").await?;
            let io = self.secure(client.into_inner().into_plain()?).await?;
            client = Client::new(Wire::new(io, self.silence).without_greeting());
            // RFC 3501 §6.2.1: what was told before TLS is to be forgotten.
            capabilities = self::capabilities(&mut client).await?;
        }
        Ok((client, capabilities))
    }

    async fn secure(&self, io: Box<dyn Io>) -> Result<Box<dyn Io>, Error> {
        match timeout(self.silence, self.tls.connect(&self.host, io)).await {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(error)) if tls::is_certificate_error(&error) => Err(Error::Certificate(error)),
            Ok(Err(error)) => Err(Error::Connect(error)),
            Err(_) => Err(Error::Silent(self.silence)),
        }
    }

    async fn within<T>(&self, work: impl Future<Output = io::Result<T>>) -> Result<T, Error> {
        match timeout(self.silence, work).await {
            Ok(done) => done.map_err(Error::Connect),
            Err(_) => Err(Error::Silent(self.silence)),
        }
    }
}

/// What the server said it can do, or says now when asked.
async fn capabilities(client: &mut Client<Wire>) -> Result<Capabilities, Error> {
    if let Some(told) = client.get_mut().seen().capabilities.take() {
        return Ok(told);
    }
    run(client, "CAPABILITY", "CAPABILITY").await?;
    Ok(client.get_mut().seen().capabilities.take().unwrap_or_default())
}

/// Runs a command by async-imap. The wire has seen how it ended, with its response code.
pub(super) async fn run(client: &mut Client<Wire>, name: &'static str, command: &str) -> Result<(), Error> {
    let result = client.run_command_and_check_ok(command, None).await;
    let completion = client.get_mut().seen().completion.take();
    match (result, completion) {
        (Ok(()), _) => Ok(()),
        (Err(async_imap::error::Error::Io(error)), _) => Err(error.into()),
        (Err(_), Some(completion)) if !completion.is_ok() => Err(Error::Refused {
            command: name,
            completion,
        }),
        (Err(async_imap::error::Error::ConnectionLost), _) => Err(Error::Lost(io::ErrorKind::UnexpectedEof.into())),
        (Err(_), _) => Err(Error::Protocol("an unexpected answer")),
    }
}

/// AUTHENTICATE PLAIN where it is offered, else LOGIN. Not by async-imap's own `login`, whose session would hold 10 KB for
/// news that nobody reads.
async fn authenticate(
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
        _ if capabilities.sasl_ir => {
            let command = Zeroizing::new(format!("AUTHENTICATE PLAIN {}", *initial));
            run(client, "AUTHENTICATE", &command).await
        }
        _ => answer_challenge(client, &initial).await,
    };
    result.map_err(|error| match error {
        Error::Refused { command, completion } => {
            let password = String::from_utf8_lossy(secret.expose());
            Error::from_login(command, completion.without(&[&*password, &*initial]))
        }
        other => other,
    })
}

/// AUTHENTICATE PLAIN without an initial response: the server first sends an empty challenge (RFC 3501 §6.2.2).
async fn answer_challenge(client: &mut Client<Wire>, response: &str) -> Result<(), Error> {
    client.get_mut().send(b"S1 AUTHENTICATE PLAIN\r\n").await?;
    let mut to_send = Some(Zeroizing::new(format!("{response}\r\n")));
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
            // A further challenge has no answer but the empty one.
            None => {
                let line = to_send.take().unwrap_or_else(|| Zeroizing::new("\r\n".to_owned()));
                client.get_mut().send(line.as_bytes()).await?;
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
