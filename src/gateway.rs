//! Builds the parts from the configuration; serves, reloads and drains.
//!
//! The gateway itself owns what outlives a reload of the configuration: state, sockets, and the counters of sessions.
//! All else is [`Configured`], and a reload replaces it.

mod chores;
mod configured;
mod fixed;
mod listeners;
mod overview;
#[cfg(test)]
mod scene;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use tokio::{
    join,
    sync::{Mutex, watch},
    task::JoinError,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    configured::{Configured, RenewsAsConfigured},
    fixed::Fixed,
    listeners::Listeners,
    overview::Watch,
};
use crate::{
    config::{Config, Limits, UpstreamTls},
    maildrop::SetupError,
    notify, oauth,
    pop3::listener::{Gate, SessionControl},
    proofs::RandomUnavailable,
    quotas::{Quotas, Word},
    sign_in::SignIns,
    state::{self, StateStore},
    telemetry::polls,
    tls,
    types::canonical,
    web::Site,
};

/// A configured gateway with its listeners bound.
#[derive(Debug)]
pub(crate) struct Gateway {
    state: Arc<dyn StateStore>,
    gate: Gate,
    sessions: SessionControl,
    /// Locked by the task that changes the listeners: the start of accepting, a reload, or the end of the gateway.
    listeners: Arc<Mutex<Listeners>>,
    site: Option<Site>,
    fixed: Fixed,
    current: watch::Sender<Arc<Configured>>,
    /// Counts together with other gateways; `None` if this gateway is alone.
    quotas: Option<Quotas>,
}

impl Gateway {
    /// Builds the parts and binds every listener. If `inherited` has a socket with a listener's address, that socket is
    /// used. Errors name the key at fault.
    pub(crate) async fn bind(config: Config, inherited: Vec<TcpListener>) -> Result<Arc<Self>, Error> {
        warn_of_legacy(&config);
        expect_logins(&config);
        let fixed = Fixed::from(&config);
        let state = state::open(&config.state).await?;
        let quotas = Quotas::join(&state, config.state.key.as_ref())?;
        let configured = Configured::new(config, state.clone(), quotas.clone()).await?;
        // Probes answer from what was read last.
        configured.read_consents().await;
        configured
            .service
            .maildrops
            .set_parked_limit(parked_limit(&configured.config.limits));
        let mut listeners = Listeners::new(inherited, configured.config.state.key.clone());
        let plan = listeners.plan(&configured)?;
        listeners.carry_out(plan).await;
        let listeners = Arc::new(Mutex::new(listeners));
        let configured = Arc::new(configured);
        let current = watch::Sender::new(configured.clone());
        let sessions = SessionControl::default();
        let site = match &configured.config.web {
            Some(web) => {
                let address = web.address;
                let watch = Arc::new(Watch {
                    current: current.subscribe(),
                    listeners: listeners.clone(),
                    state: state.clone(),
                    shutdown: sessions.shutdown.clone(),
                });
                let sign_ins = SignIns::new(&configured.config);
                let site = Site::bind(web, sign_ins, configured.tokens.clone(), watch);
                let site = site.map_err(|source| Error::BindSite { address, source })?;
                tracing::info!(address = %site.address().unwrap_or(address), "the sign-in page is served");
                Some(site)
            }
            None => None,
        };
        Ok(Arc::new(Self {
            state,
            gate: Gate::new(&configured.config.limits),
            sessions,
            listeners,
            site,
            fixed,
            current,
            quotas,
        }))
    }

    /// The bound addresses, in the order of `[[listener]]`.
    pub(crate) async fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.lock().await.addresses()
    }

    /// A token that is cancelled as soon as the gateway is told to end. From then on the gateway drains.
    pub(crate) fn draining(&self) -> &CancellationToken {
        &self.sessions.shutdown
    }

    /// Puts `config` into force. Running sessions keep the configuration that they began with; sessions that begin
    /// later get the new one. Returns a sentence for each change that needs a restart. If this fails, nothing has
    /// changed.
    pub(crate) async fn reload(&self, config: Config) -> Result<Vec<String>, Error> {
        let mut listeners = self.listeners.lock().await;
        if self.sessions.shutdown.is_cancelled() {
            return Err(Error::Draining);
        }
        let warnings = self.fixed.changes(&config);
        let before = self.current();
        let next = tokio::task::spawn_blocking(move || before.succeeded_by(config));
        let next = Arc::new(next.await??);
        let plan = listeners.plan(&next)?;
        // From here on nothing fails.
        expect_logins(&next.config);
        next.notices.set_tokens(next.tokens.clone());
        let limits = &next.config.limits;
        warn_of_legacy(&next.config);
        self.gate.set_limits(limits);
        next.service.maildrops.set_parked_for(limits.parked_for);
        next.service.maildrops.set_parked_limit(parked_limit(limits));
        if let Some(site) = &self.site {
            let password = next.config.web.as_ref().map(|web| &web.admin_password);
            site.change(password, SignIns::new(&next.config), next.tokens.clone());
        }
        listeners.carry_out(plan).await;
        listeners.accept(&self.gate, &self.sessions);
        self.current.send_replace(next);
        Ok(warnings)
    }

    /// The spelling by which the sessions of `login` are known: see [`crate::accounts::Accounts::canonical_login`].
    pub(crate) fn canonical_login(&self, login: &str) -> String {
        self.current().service.accounts.canonical_login(login.as_bytes())
    }

    fn current(&self) -> Arc<Configured> {
        self.current.borrow().clone()
    }

    /// Serves until `shutdown` is cancelled, then drains: no listener accepts connections any more, devices that have
    /// connected may still log in within [`NEWCOMERS`], and those that have logged in are served until they send QUIT
    /// or `drain_seconds` are over. A session that ends without QUIT deletes nothing.
    pub(crate) async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let chores = TaskTracker::new();
        chores::begin(&self.current.subscribe(), &self.state, &chores, &shutdown);
        // The page and the state's socket still answer while sessions drain.
        let (aside, ended) = (TaskTracker::new(), CancellationToken::new());
        self.serve_aside(&aside, &ended);
        self.listeners.lock().await.accept(&self.gate, &self.sessions);
        shutdown.cancelled().await;
        self.sessions.shutdown.cancel();
        self.listeners.lock().await.close().await;
        chores.close();
        aside.close();
        chores.wait().await;
        self.current().notices.hand_over();
        self.drain().await;
        ended.cancel();
        let _ = timeout(GRACE, aside.wait()).await;
    }

    /// Starts tasks in `tasks` that serve the web page, serve state to other processes, and talk with other gateways.
    /// They run until `ended`.
    fn serve_aside(self: &Arc<Self>, tasks: &TaskTracker, ended: &CancellationToken) {
        if self.site.is_some() {
            let (gateway, ended) = (self.clone(), ended.clone());
            tasks.spawn(async move {
                if let Some(site) = &gateway.site {
                    site.run(ended).await;
                }
            });
        }
        if let Some(quotas) = &self.quotas {
            let (quotas, current, ended) = (quotas.clone(), self.current.subscribe(), ended.clone());
            tasks.spawn(async move {
                let hear = |word: Word| {
                    let service = current.borrow().service.clone();
                    service.accounts.hear(&word);
                    service.maildrops.hear(&word);
                };
                ended.run_until_cancelled(quotas.confer(hear)).await;
                quotas.leave().await;
            });
        }
        if let Some(dir) = self.current().config.state.dir.clone() {
            let renewer = Arc::new(RenewsAsConfigured(self.current.subscribe()));
            tasks.spawn(state::serve(self.state.clone(), renewer, dir, ended.clone()));
        }
    }

    async fn drain(&self) {
        let Configured {
            config,
            tokens,
            notices,
            service,
        } = &*self.current();
        let deadline = Instant::now() + config.limits.drain;
        let SessionControl {
            tasks,
            newcomers_over,
            drain_over,
            abort,
            ..
        } = &self.sessions;
        tasks.close();
        tracing::info!(sessions = tasks.len(), "draining");
        let finished = async {
            if timeout(NEWCOMERS, tasks.wait()).await.is_err() {
                newcomers_over.cancel();
                tasks.wait().await;
            }
        };
        if timeout_at(deadline, finished).await.is_err() {
            tracing::info!(
                sessions = tasks.len(),
                "drain_seconds are over, closing the sessions that are left"
            );
            newcomers_over.cancel();
            drain_over.cancel();
            if timeout(GRACE, tasks.wait()).await.is_err() {
                tracing::warn!(sessions = tasks.len(), "dropping sessions in the middle of a command");
                abort.cancel();
                tasks.wait().await;
            }
        }
        let finished = async {
            service.maildrops.finish().await;
            tokens.finish().await;
            notices.finish().await;
        };
        let announced = async {
            if let Some(site) = &self.site {
                site.announce_end().await;
            }
        };
        let _ = join!(timeout_at(deadline.max(Instant::now() + FLUSH), finished), announced);
        for consent in tokens.unsaved() {
            tracing::error!(%consent, "a token could not be saved: somebody must sign in again (popgate sign-in)");
        }
    }
}

/// How long devices that connected before the end may take to log in. A load balancer may have sent them here, and they
/// would take a lost connection for a failure.
const NEWCOMERS: Duration = Duration::from_secs(3);
/// How long commands may still run after `drain_seconds`.
const GRACE: Duration = Duration::from_secs(2);
/// The least time to finish what sessions have left behind, and to save tokens: each lost token costs a sign-in.
const FLUSH: Duration = Duration::from_secs(5);

/// Makes the sign-in page show the failures of each `[[account]]` that is not a rule, even if it has never logged in.
fn expect_logins(config: &Config) {
    let accounts = config.accounts.iter().filter(|account| !account.is_rule());
    let logins: Vec<_> = accounts.map(|account| canonical(&account.login, None)).collect();
    polls().expect(logins.iter().map(String::as_str));
}

/// Warns of every listener and upstream with old TLS.
fn warn_of_legacy(config: &Config) {
    for listener in config.listeners.iter().filter(|listener| listener.tls.is_legacy()) {
        tracing::warn!(
            address = %listener.address,
            tls = %listener.tls,
            "a listener with old TLS: whoever can change what is sent on the way may read passwords"
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
            "an upstream with old TLS: whoever can change what is sent on the way may read passwords and mail"
        );
    }
}

/// How many files are open besides those of sessions and parked connections: listeners, state.
const OTHER_FILES: usize = 256;

/// Raises the limit of open files, because each session has two sockets and each parked connection has one. Warns at
/// once if the system does not allow enough for the sessions. Returns how many connections may be parked.
fn parked_limit(limits: &Limits) -> usize {
    let wanted = 2 * limits.sessions + OTHER_FILES + limits.parked;
    let allowed = rlimit::increase_nofile_limit(wanted as u64).unwrap_or(0);
    let allowed = usize::try_from(allowed).unwrap_or(usize::MAX);
    parked_of(limits, allowed)
}

/// How many connections may be parked if this many open files are `allowed`: as many as sessions leave, but at least a
/// quarter of `allowed`, because there may never be as many sessions as `limits.sessions` allows.
fn parked_of(limits: &Limits, allowed: usize) -> usize {
    let of_sessions = 2 * limits.sessions + OTHER_FILES;
    if allowed < of_sessions {
        tracing::warn!(
            allowed,
            needed = of_sessions,
            "the system allows fewer open files than limits.sessions needs: lower it, or raise the limit (ulimit -n, LimitNOFILE=)"
        );
    }
    limits.parked.min(allowed.saturating_sub(of_sessions).max(allowed / 4))
}

/// Why a gateway could not start, or not reload its configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("[[listener]] address {address}: {source}")]
    Bind {
        /// The address as configured; its port may be 0.
        address: SocketAddr,
        source: io::Error,
    },
    /// A listener's address is taken by a listener of this gateway that is to be closed.
    #[error(
        "[[listener]] address {address}: this gateway itself still listens at {ours} (take that listener out, reload, and then add \
         this one; or restart)"
    )]
    BindBesideOurs {
        address: SocketAddr,
        /// The listener that is to be closed.
        ours: SocketAddr,
    },
    #[error("[web] address {address}: {source}")]
    BindSite {
        /// The address as configured; its port may be 0.
        address: SocketAddr,
        source: io::Error,
    },
    #[error("[[listener]] address {address}: needs [tls] certificate and key")]
    NoCertificate {
        /// The address as configured; its port may be 0.
        address: SocketAddr,
    },
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// A `ca_file` cannot be used, or the system has no random numbers.
    #[error(transparent)]
    Maildrops(#[from] SetupError),
    #[error(transparent)]
    Random(#[from] RandomUnavailable),
    #[error("[upstream.….oauth2] {0}")]
    OAuth2(#[from] oauth::SetupError),
    #[error(transparent)]
    Notify(#[from] notify::SetupError),
    /// State cannot be opened in `[state] dir` or at `[state] url`.
    #[error(transparent)]
    State(#[from] state::Error),
    /// The gateway is draining, so it does not reload any more.
    #[error("the gateway is shutting down")]
    Draining,
    /// The code that builds the parts has panicked, which is a mistake in popgate.
    #[error("popgate itself failed (please report this): {0}")]
    Panicked(#[from] JoinError),
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;
    use crate::{
        config::{self, ClientCertificates, ListenerTls},
        pop3::tests::{config, limits},
    };

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
        let gateway = Gateway::bind(config, Vec::new()).await.unwrap();
        let addresses = gateway.addresses().await;
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
        // It gives way to the second, or is disconnected because it does not log in.
        first.read_to_end(&mut Vec::new()).await.unwrap();
        running.await.unwrap();
        assert!(TcpStream::connect(addresses[0]).await.is_err());
    }

    #[test]
    fn connections_are_parked_even_if_files_are_scarce() {
        let parked = |sessions, allowed| parked_of(&config::Limits { sessions, ..limits() }, allowed);
        assert_eq!(parked(1000, 1 << 20), 10_000);
        assert_eq!(parked(1000, 4096), 4096 - 2256);
        assert_eq!(parked(10_000, 20_000), 5000);
    }

    #[tokio::test]
    async fn a_panic_is_not_taken_for_the_end_of_the_gateway() {
        let failed = tokio::task::spawn_blocking::<_, ()>(|| panic!("a bad day")).await;
        let error = Error::from(failed.unwrap_err());
        assert!(
            matches!(error, Error::Panicked(_)) && error.to_string().contains("a bad day"),
            "{error}"
        );
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
        let error = Gateway::bind(config_of(bound), Vec::new())
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with(&format!("[[listener]] address {address}: ")),
            "{error}"
        );
        let error = Gateway::bind(config_of(listener(ListenerTls::StartTls, "127.0.0.0/8")), Vec::new()).await;
        assert!(matches!(error, Err(Error::NoCertificate { .. })));
    }
}
