//! A connection that is made one step at a time, so that the caller sees which step fails and how long each step takes.
//! Sessions do not use this: they call [`Connector::login`].

use std::{net::SocketAddr, time::Duration};

use tokio::time::timeout;

use super::{
    connect::{Connection, Connector, Greeted},
    error::Error,
    io::Io,
    login::LoginSecret,
    reader::Expect,
    slots::TrustLevel,
};
use crate::{
    config::{Credential, UpstreamTls},
    oauth::AccessToken,
    tls::{self, Agreement},
};

/// How long LOGOUT may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// The steps to a connection that is logged in. Take them in the order of the methods. They are the steps of
/// [`Connector::login`], except that each address is tried by itself.
#[derive(Debug, Clone, Copy)]
pub struct Approach<'a>(&'a Connector);

/// An open TCP connection; after [`Approach::secure`], with TLS.
pub struct Transport {
    io: Box<dyn Io>,
    /// The server's address; `None` if the connection goes through a proxy.
    peer: Option<SocketAddr>,
}

impl Connector {
    /// Begins a connection that is made one step at a time.
    pub fn approach(&self) -> Approach<'_> {
        Approach(self)
    }
}

impl Approach<'_> {
    /// Whether TLS comes before the greeting.
    pub fn begins_with_tls(self) -> bool {
        self.0.dialer.begins_with_tls()
    }

    /// Whether TLS follows the greeting.
    pub fn has_start_tls(self) -> bool {
        self.0.dialer.mode == UpstreamTls::StartTls
    }

    /// Resolves the name of the server, or of the proxy on the way to it.
    pub async fn resolve(self) -> Result<Vec<SocketAddr>, Error> {
        let dialer = &self.0.dialer;
        dialer.resolve(dialer.deadline()).await
    }

    /// Opens a TCP connection to the server at `address`, or through the proxy at `address` to the server.
    pub async fn open(self, address: SocketAddr) -> Result<Transport, Error> {
        let dialer = &self.0.dialer;
        let deadline = dialer.deadline();
        let tcp = dialer.open(address, deadline).await?;
        Ok(match dialer.proxy() {
            None => Transport {
                io: Box::new(tcp),
                peer: Some(address),
            },
            Some(proxy) => Transport {
                io: Box::new(dialer.tunnel(tcp, proxy, deadline).await?),
                peer: None,
            },
        })
    }

    /// Makes the TLS handshake that comes before the greeting.
    pub async fn secure(self, transport: Transport) -> Result<(Transport, Agreement), Error> {
        let stream = self.0.dialer.secure(transport.io).await?;
        let agreement = tls::agreement(&stream);
        let transport = Transport {
            io: Box::new(stream),
            peer: transport.peer,
        };
        Ok((transport, agreement))
    }

    /// Reads the greeting and the server's capabilities.
    pub async fn greet(self, transport: Transport) -> Result<Greeted, Error> {
        self.0.read_greeting(transport.io, transport.peer).await
    }

    /// Starts TLS after the greeting (STARTTLS).
    pub async fn start_tls(self, greeted: Greeted) -> Result<(Greeted, Agreement), Error> {
        self.0.start_tls(greeted, tls::agreement).await
    }

    /// The access token to log in with: from the provider, or the device's own. `None` if `credential` is a password.
    pub async fn token(self, credential: &Credential) -> Result<Option<AccessToken>, Error> {
        match credential {
            Credential::OAuth2 { consent } => self.0.token(consent).await.map(Some),
            Credential::Token(token) => Ok(Some(token.clone().into())),
            Credential::Password(_) => Ok(None),
        }
    }

    /// Logs `user` in by `token` or, if there is none, by the password of `credential`. If the server refuses a token
    /// of the provider, logs in again on a new connection, where a new token may be tried: the first may have expired
    /// early.
    pub async fn log_in(
        self,
        greeted: Greeted,
        user: &str,
        credential: &Credential,
        token: Option<AccessToken>,
        trust: TrustLevel,
    ) -> Result<Connection, Error> {
        self.0.respect_pause(user, trust)?;
        let secret = match (&token, credential) {
            (Some(token), _) => LoginSecret::Token(token),
            (None, Credential::Password(secret)) => LoginSecret::Password(secret),
            (None, _) => return Err(Error::NoTokens),
        };
        let done = match (self.0.authenticate(greeted, user, secret).await, credential) {
            (Err(Error::TokenRefused(_)), Credential::OAuth2 { .. }) => {
                return self.0.login(user, credential, trust).await;
            }
            (done, _) => done.map_err(Error::of_own_token),
        };
        done.inspect_err(|error| self.0.note_failure(user, trust, error))
    }
}

impl Greeted {
    /// Logs out. Waits for the server's answer for a second at most.
    pub async fn leave(self) {
        let mut link = self.front.into_link();
        let expect = Expect {
            after_bye: true,
            ..Expect::default()
        };
        let _ = timeout(FAREWELL, link.flight(&["LOGOUT"], expect, |_| {})).await;
    }
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}
