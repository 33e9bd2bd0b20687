//! Composition root: configuration → parts; serve; drain.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    accounts::Accounts,
    config::{self, ClientCertificates, Config, ListenerTls, UpstreamTls},
    maildrop::{Maildrops, SetupError},
    notify::{self, Notices, Watched},
    oauth::{self, AtTheSocket, Standing, Tokens},
    pop3::{
        Listener, Service,
        listener::{Gate, Sessions},
    },
    proofs::RandomUnavailable,
    sign_in::{SignIns, candidates},
    state::{self, StateStore},
    tls::{self, Acceptor, Expiry, Validity},
    web::Site,
};

/// A configured gateway with its listeners bound.
#[derive(Debug)]
pub struct Gateway {
    listeners: Vec<Listener>,
    site: Option<Site>,
    service: Arc<Service>,
    gate: Gate,
    drain: Duration,
    state: Arc<dyn StateStore>,
    tokens: Arc<Tokens>,
    notices: Notices,
    config: Arc<Config>,
}

impl Gateway {
    /// Builds the parts and binds every listener. Errors name the key at fault.
    pub async fn bind(config: Config) -> Result<Self, Error> {
        raise_file_limit(config.limits.sessions);
        warn_of_legacy(&config);
        let mut acceptors = Vec::new();
        let mut listeners = Vec::with_capacity(config.listeners.len());
        for listener in &config.listeners {
            let address = listener.address;
            let acceptor = acceptor(&config, listener, &mut acceptors)?;
            let bound = Listener::bind(listener, acceptor).map_err(|source| Error::Bind { address, source })?;
            tracing::info!(address = %bound.address(), tls = %listener.tls, "listening");
            listeners.push(bound);
        }
        let config = Arc::new(config);
        let state = state::open(&config.state)?;
        let tokens = Tokens::new(&*config, state.clone())?;
        let notices = Notices::open(&*config, state.clone(), tokens.clone()).await?;
        let site = match &config.web {
            Some(web) => {
                let address = web.address;
                let site = Site::bind(web, SignIns::new(&*config), tokens.clone());
                let site = site.map_err(|source| Error::BindSite { address, source })?;
                tracing::info!(address = %site.address().unwrap_or(address), "sign-in page");
                Some(site)
            }
            None => None,
        };
        Ok(Self {
            listeners,
            site,
            gate: Gate::new(&config.limits),
            drain: config.limits.drain,
            service: Arc::new(Service {
                accounts: Accounts::new(&*config)?,
                maildrops: Maildrops::telling(notices.clone(), &*config, state.clone(), tokens.clone())?,
                limits: config.limits.clone(),
            }),
            state,
            tokens,
            notices,
            config,
        })
    }

    /// The bound addresses, in the order of `[[listener]]`.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(Listener::address).collect()
    }

    /// Serves until `shutdown` is cancelled, then drains within `drain_seconds`: replies and QUITs under way are
    /// finished, every other session is dropped and deletes nothing.
    pub async fn run(self, shutdown: CancellationToken) {
        let sessions = Sessions {
            shutdown: shutdown.clone(),
            ..Sessions::default()
        };
        let listening = TaskTracker::new();
        for listener in self.listeners {
            listening.spawn(listener.run(self.service.clone(), self.gate.clone(), sessions.clone()));
        }
        if let Some(site) = self.site {
            listening.spawn(site.run(shutdown.clone()));
        }
        if !self.config.tls.is_empty() {
            let config = self.config.clone();
            listening.spawn(until(
                shutdown.clone(),
                async move { look_at_certificates(&config).await },
            ));
        }
        let (config, tokens) = (self.config.clone(), self.tokens.clone());
        listening.spawn(until(shutdown.clone(), async move {
            look_at_consents(&config, &tokens).await;
        }));
        let (notices, watched) = (self.notices.clone(), watched(&self.config, &self.tokens));
        listening.spawn(until(shutdown.clone(), async move { notices.watch(watched).await }));
        let sweeping = sweep(self.service.clone(), self.config.clone(), self.tokens.clone());
        listening.spawn(until(shutdown.clone(), sweeping));
        if let Some(dir) = self.config.state.dir.clone() {
            let renewer = Arc::new(AtTheSocket(self.tokens.clone()));
            listening.spawn(state::serve(self.state.clone(), renewer, dir, shutdown.clone()));
        }
        shutdown.cancelled().await;
        listening.close();
        listening.wait().await;
        sessions.tasks.close();
        tracing::info!(sessions = sessions.tasks.len(), "draining");
        let drained = async {
            sessions.tasks.wait().await;
            self.service.maildrops.finish().await;
            self.tokens.finish().await;
            self.notices.finish().await;
        };
        if tokio::time::timeout(self.drain, drained).await.is_err() {
            tracing::warn!(
                sessions = sessions.tasks.len(),
                "drain_seconds are over, dropping the rest"
            );
            sessions.abort.cancel();
            sessions.tasks.wait().await;
            let _ = tokio::time::timeout(FLUSH, self.tokens.finish()).await;
            let _ = tokio::time::timeout(FLUSH, self.notices.finish()).await;
        }
        for consent in self.tokens.unsaved() {
            tracing::error!(%consent, "a token could not be saved: somebody must sign in again (popgate sign-in)");
        }
    }
}

/// How long the gateway may take to save tokens and notices each after `drain_seconds`: each lost token costs a sign-in.
const FLUSH: Duration = Duration::from_secs(5);

/// The acceptor for `listener`, unless it has no TLS. Listeners that need the same acceptor share one of `made`.
fn acceptor(
    config: &Config,
    listener: &config::Listener,
    made: &mut Vec<(Way, Arc<Acceptor>)>,
) -> Result<Option<Arc<Acceptor>>, Error> {
    if listener.tls == ListenerTls::Off {
        return Ok(None);
    }
    if config.tls.is_empty() {
        let address = listener.address;
        return Err(Error::NoCertificate { address });
    }
    let way = Way {
        is_legacy: listener.tls.is_legacy(),
        clients: listener.client_certificates,
    };
    let acceptor = match made.iter().find(|(other, _)| *other == way) {
        Some((_, acceptor)) => acceptor.clone(),
        None => {
            let acceptor = Arc::new(Acceptor::for_listener(&config.tls, listener)?);
            made.push((way, acceptor.clone()));
            acceptor
        }
    };
    Ok(Some(acceptor))
}

/// What listeners that share an acceptor have in common.
#[derive(PartialEq)]
struct Way {
    is_legacy: bool,
    clients: ClientCertificates,
}

/// Warns of old TLS.
fn warn_of_legacy(config: &Config) {
    for listener in config.listeners.iter().filter(|listener| listener.tls.is_legacy()) {
        tracing::warn!(
            address = %listener.address,
            tls = %listener.tls,
            "a listener of old TLS: whoever can change what is sent on the way may read passwords"
        );
    }
    for upstream in config
        .upstreams
        .iter()
        .filter(|upstream| upstream.tls == UpstreamTls::Legacy)
    {
        tracing::warn!(
            upstream = upstream.name,
            host = upstream.host,
            "an upstream of old TLS: whoever can change what is sent on the way may read passwords and mail"
        );
    }
}

/// How often the ends of certificates are looked at.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Logs now, and then once a day, which certificates have expired or soon will.
async fn look_at_certificates(config: &Config) {
    let mut clock = tokio::time::interval(DAY);
    loop {
        clock.tick().await;
        for files in &config.tls {
            match Validity::of(&files.certificate).map(|validity| validity.at(state::now().into())) {
                Ok(Expiry::Valid(_)) => {}
                Ok(Expiry::Ending(what)) => tracing::warn!(what, "a certificate ends soon"),
                Ok(Expiry::Invalid(what)) => tracing::error!(what, "a certificate is not valid"),
                Err(error) => tracing::error!(%error, "a certificate cannot be read"),
            }
        }
    }
}

/// What ends by itself, so that somebody must be told before.
fn watched(config: &Config, tokens: &Tokens) -> Watched {
    let mut watched = Watched {
        certificates: config.tls.iter().map(|files| files.certificate.clone()).collect(),
        ..Watched::default()
    };
    for candidate in candidates(&config.accounts).filter(|candidate| candidate.oauth2.needs_consent()) {
        let logins = watched.consents.entry(candidate.consent(tokens)).or_default();
        logins.push(candidate.account.login.clone());
    }
    watched
}

/// Tells for which accounts somebody must sign in, and asks for the tokens that were asked for when the process before this
/// one was killed.
async fn look_at_consents(config: &Config, tokens: &Arc<Tokens>) {
    for candidate in candidates(&config.accounts).filter(|candidate| candidate.oauth2.needs_consent()) {
        let (login, consent) = (&candidate.account.login, candidate.consent(tokens));
        let Ok(status) = tokens.status(&consent).await else {
            continue; // It is in the log.
        };
        match status.standing {
            Standing::Unreadable(_) => tracing::error!(
                login,
                %consent,
                "a consent cannot be opened with the key that [state] names"
            ),
            Standing::Ended { why, .. } => tracing::warn!(login, %consent, why, "a consent has ended"),
            Standing::Missing => tracing::warn!(login, %consent, "nobody has signed in yet"),
            Standing::Good | Standing::NotNeeded => {
                let tokens = tokens.clone();
                // By the time of the next device it may be too late.
                tokio::spawn(async move { tokens.resume(&consent).await });
            }
        }
    }
}

/// How often logins that do not come back are looked after.
const SWEEP: Duration = Duration::from_secs(3600);

/// Removes what `retain_days` lets go of, as far as the gateway can log in by itself, and keeps consents alive; now, and then
/// again and again. What it has begun when it is cut short, the next does.
async fn sweep(service: Arc<Service>, config: Arc<Config>, tokens: Arc<Tokens>) {
    let mut clock = tokio::time::interval(SWEEP);
    loop {
        clock.tick().await;
        sweep_once(&service).await;
        for candidate in candidates(&config.accounts) {
            tokens.keep_alive(&candidate.consent(&tokens)).await;
        }
    }
}

async fn until(shutdown: CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = work => {}
    }
}

async fn sweep_once(service: &Service) {
    // A failure of state was written to the log.
    for (login, mailbox) in service.maildrops.marked().await.unwrap_or_default() {
        let Some(account) = service.accounts.stored(&login, &mailbox) else {
            continue;
        };
        if let Err(error) = service.maildrops.sweep(&account).await {
            let error = error.cause();
            tracing::warn!(login, %mailbox, %error, "messages whose retain_days are over were not removed");
        }
    }
}

/// Files besides those of sessions: listeners, state, parked connections of sessions that have ended.
const OTHER_FILES: u64 = 256;

/// Each session has two sockets; where the system does not let us have so many, that is said before they are missed.
fn raise_file_limit(sessions: usize) {
    let needed = 2 * sessions as u64 + OTHER_FILES;
    let allowed = rlimit::increase_nofile_limit(needed).unwrap_or(0);
    if allowed < needed {
        tracing::warn!(
            allowed,
            needed,
            "the system allows fewer open files than limits.sessions needs: lower it, or raise the limit (ulimit -n, LimitNOFILE=)"
        );
    }
}

/// Why a gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A listener's address could not be bound.
    #[error("[[listener]] address {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The sign-in page's address could not be bound.
    #[error("[web] address {address}: {source}")]
    BindSite {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A listener speaks TLS and there is no certificate.
    #[error("[[listener]] address {address}: needs [tls] certificate and key")]
    NoCertificate {
        /// The address.
        address: SocketAddr,
    },
    /// A certificate or key.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// A root file.
    #[error(transparent)]
    Maildrops(#[from] SetupError),
    /// No random numbers.
    #[error(transparent)]
    Random(#[from] RandomUnavailable),
    /// `[upstream.NAME.oauth2]`
    #[error("[upstream.….oauth2] {0}")]
    OAuth2(#[from] oauth::SetupError),
    /// `[notify]`
    #[error(transparent)]
    Notify(#[from] notify::SetupError),
    /// `[state] dir`
    #[error(transparent)]
    State(#[from] state::Error),
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;
    use crate::pop3::tests::{config, limits};

    fn listener(tls: ListenerTls, allow: &str) -> config::Listener {
        config::Listener {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls,
            require_tls: false,
            allow: vec![allow.parse().unwrap()],
            client_certificates: ClientCertificates::Off,
            proxy_protocol_from: Vec::new(),
            apop: false,
        }
    }

    async fn connect(address: SocketAddr) -> (TcpStream, String) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(stream.read_u8().await.unwrap());
        }
        (stream, String::from_utf8(line).unwrap())
    }

    #[tokio::test]
    async fn admits_refuses_and_drains() {
        let limits = config::Limits {
            sessions_per_address: 1,
            ..limits()
        };
        let config = Config {
            listeners: vec![
                listener(ListenerTls::Off, "127.0.0.0/8"),
                listener(ListenerTls::Off, "10.0.0.0/8"),
            ],
            ..config(limits)
        };
        let gateway = Gateway::bind(config).await.unwrap();
        let addresses = gateway.addresses();
        assert!(addresses.iter().all(|address| address.port() != 0));
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(gateway.run(shutdown.clone()));

        let (_, refused) = connect(addresses[1]).await;
        assert_eq!(refused, "-ERR [SYS/PERM] not allowed from this address\r\n");
        let (mut first, greeting) = connect(addresses[0]).await;
        assert_eq!(greeting, "+OK popgate ready\r\n");
        let (mut second, refused) = connect(addresses[0]).await;
        assert_eq!(refused, "-ERR [SYS/TEMP] too many sessions, try later\r\n");
        assert_eq!(second.read(&mut [0]).await.unwrap(), 0);

        first.write_all(b"NOOP\r\n").await.unwrap();
        first.read_exact(&mut [0; 24]).await.unwrap();
        shutdown.cancel();
        assert_eq!(first.read(&mut [0]).await.unwrap(), 0);
        running.await.unwrap();
        assert!(TcpStream::connect(addresses[0]).await.is_err());
    }

    #[tokio::test]
    async fn errors_name_the_listener() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let mut bound = listener(ListenerTls::Off, "127.0.0.0/8");
        bound.address = address;
        let config_of = |listener| Config {
            listeners: vec![listener],
            ..config(limits())
        };
        let error = Gateway::bind(config_of(bound)).await.unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("[[listener]] address {address}: ")),
            "{error}"
        );
        let error = Gateway::bind(config_of(listener(ListenerTls::StartTls, "127.0.0.0/8"))).await;
        assert!(matches!(error, Err(Error::NoCertificate { .. })));
    }
}
