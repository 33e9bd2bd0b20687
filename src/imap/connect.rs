//! From a host name to an authenticated connection.

use std::{io, time::Duration};

use async_imap::{Authenticator, Client, Session};
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
    pub(super) session: Session<Wire>,
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
        let (client, capabilities) = self.greet().await?;
        let mut session = authenticate(client, capabilities, user, secret).await?;
        let told = session.get_mut().seen().capabilities.take();
        Ok(Connection {
            session,
            capabilities: told.unwrap_or(capabilities),
            told_after_login: told.is_some(),
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

async fn run(client: &mut Client<Wire>, name: &'static str, command: &str) -> Result<(), Error> {
    let result = client.run_command_and_check_ok(command, None).await;
    outcome(client.get_mut(), name, result)
}

/// The true outcome of a command that async-imap ran: the wire has seen its completion.
pub(super) fn outcome(wire: &mut Wire, name: &'static str, result: async_imap::error::Result<()>) -> Result<(), Error> {
    let completion = wire.seen().completion.take();
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

/// AUTHENTICATE PLAIN where it is offered, else LOGIN.
async fn authenticate(
    client: Client<Wire>,
    capabilities: Capabilities,
    user: &str,
    secret: &Secret,
) -> Result<Session<Wire>, Error> {
    // RFC 4616 §2: authzid (empty) NUL authcid NUL passwd
    let plain = Zeroizing::new([b"\0", user.as_bytes(), b"\0", secret.expose()].concat());
    let initial = Zeroizing::new(BASE64.encode(&*plain));
    // LOGIN quotes ASCII only (RFC 3501 §4.3); other octets go by SASL, offered or not.
    let ascii = std::str::from_utf8(secret.expose())
        .ok()
        .filter(|text| text.is_ascii() && user.is_ascii());
    let (command, result) = match ascii {
        Some(password) if !capabilities.auth_plain => {
            if capabilities.login_disabled {
                return Err(Error::LoginDisabled);
            }
            ("LOGIN", client.login(user, password).await)
        }
        _ if capabilities.sasl_ir => {
            let line = Zeroizing::new(format!("PLAIN {}", *initial));
            ("AUTHENTICATE", client.authenticate(&*line, Plain(None)).await)
        }
        _ => (
            "AUTHENTICATE",
            client.authenticate("PLAIN", Plain(Some(plain.clone()))).await,
        ),
    };
    match result {
        Ok(session) => Ok(session),
        Err((error, mut client)) => {
            let completion = client.get_mut().seen().completion.take();
            match (error, completion) {
                (async_imap::error::Error::Io(error), _) => Err(error.into()),
                (async_imap::error::Error::Validate(_), _) => {
                    Err(Error::Protocol("user or password that LOGIN can't carry"))
                }
                (_, Some(completion)) if !completion.is_ok() => {
                    let password = String::from_utf8_lossy(secret.expose());
                    Err(Error::from_login(command, completion.without(&[&*password, &*initial])))
                }
                (async_imap::error::Error::ConnectionLost, _) => Err(Error::Lost(io::ErrorKind::UnexpectedEof.into())),
                _ => Err(Error::Protocol("an unexpected answer to the login")),
            }
        }
    }
}

/// SASL PLAIN without an initial response: answers the first, empty challenge; any further one with nothing.
struct Plain(Option<Zeroizing<Vec<u8>>>);

impl Authenticator for Plain {
    type Response = Zeroizing<Vec<u8>>;

    fn process(&mut self, _challenge: &[u8]) -> Self::Response {
        self.0.take().unwrap_or_default()
    }
}
