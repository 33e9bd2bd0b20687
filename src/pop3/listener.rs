//! Accepts connections, and decides which devices may connect, and how many.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use ipnet::IpNet;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    select, time,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

use super::{
    newcomers::Newcomers,
    permits::Permits,
    proxy,
    reply::Reply,
    session::{self, Endpoint, Service, Stop},
    summary::{Summary, note_refused},
};
use crate::{
    config::{self, ListenerTls},
    telemetry::{trace, troubles},
    tls::Acceptor,
};

/// The most connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;
/// After this much silence the kernel probes whether a device is still there. NAT routers forget a silent connection
/// later than this.
const KEEP_ALIVE: Duration = Duration::from_secs(120);
/// How many octets the kernel accepts from us that it can't send yet. Without this bound it accepts megabytes for a
/// device that does not read, and a device that reads slowly takes minutes to make room for more.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 64 * 1024;
/// The first and the longest pause after an accept that failed for lack of resources.
const BACK_OFF: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(1)];

/// A bound POP3 listener. A reload of the configuration changes everything but its socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    /// `address` as text, for logs and metrics.
    name: Arc<str>,
    settings: ArcSwap<Settings>,
    closed: CancellationToken,
}

/// How a listener treats new connections. A session keeps the settings that it began with.
#[derive(Debug)]
pub struct Settings {
    allow: Vec<IpNet>,
    /// Load balancers: their connections begin with a PROXY header.
    balancers: Vec<IpNet>,
    endpoint: Arc<Endpoint>,
    service: Arc<Service>,
}

/// Tells sessions to stop, and counts them.
#[derive(Debug, Clone, Default)]
pub struct SessionControl {
    /// Cancelled as soon as the gateway is told to end.
    pub shutdown: CancellationToken,
    /// Once this is cancelled, devices that have not logged in are disconnected.
    pub newcomers_over: CancellationToken,
    /// Once this is cancelled, replies and QUITs under way are finished, and nothing new is begun.
    pub drain_over: CancellationToken,
    /// Once this is cancelled, sessions are dropped wherever they are.
    pub abort: CancellationToken,
    /// The task of each session. The gateway waits for these tasks before it ends.
    pub tasks: TaskTracker,
}

/// What all listeners count together: sessions, and connections that have not logged in.
#[derive(Debug, Clone)]
pub struct Gate {
    permits: Arc<Permits>,
    newcomers: Arc<Newcomers>,
}

impl Gate {
    /// A gate that enforces `sessions` and `unauthenticated` of `limits`, in all and per address.
    pub fn new(limits: &config::Limits) -> Self {
        Self {
            permits: Permits::new(limits),
            newcomers: Newcomers::new(limits),
        }
    }

    /// Sets the limits for connections that come from now on. No connection is closed because there are too many now.
    pub fn set_limits(&self, limits: &config::Limits) {
        self.permits.set_limits(limits);
        self.newcomers.set_limits(limits);
    }
}

impl Settings {
    /// The settings of `listener`; `acceptor` is needed unless its `tls` is off.
    pub fn new(listener: &config::Listener, acceptor: Option<Arc<Acceptor>>, service: Arc<Service>) -> Self {
        Self {
            allow: listener.allow.clone(),
            balancers: listener.proxy_protocol_from.clone(),
            endpoint: Arc::new(Endpoint {
                tls: listener.tls,
                require_tls: listener.require_tls,
                apop: listener.apop,
                acceptor: acceptor.filter(|_| listener.tls != ListenerTls::Off),
            }),
            service,
        }
    }
}

impl Listener {
    /// Binds a socket at `address`. Must be called within a runtime.
    pub fn bind(address: SocketAddr, settings: Settings) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // A restart must not wait for the connections of the last run to time out. (Elsewhere than on Unix the option
        // would let two processes share the port.)
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Self::inherit(socket.into(), settings)
    }

    /// Takes over a socket that listens already. Must be called within a runtime.
    pub fn inherit(socket: std::net::TcpListener, settings: Settings) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        // On Linux an accepted socket inherits the options of the listening one. That saves four system calls for each
        // session.
        #[cfg(target_os = "linux")]
        set_options(&SockRef::from(&socket));
        let socket = TcpListener::from_std(socket)?;
        let address = socket.local_addr()?;
        Ok(Self {
            address,
            name: address.to_string().into(),
            socket,
            settings: ArcSwap::from_pointee(settings),
            closed: CancellationToken::new(),
        })
    }

    /// The bound address. If it was bound with port 0, this has the port that the system chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The listener's name among the parts that may fail (`troubles`).
    fn part(&self) -> String {
        format!("listener {}", self.address)
    }

    /// How new connections use TLS.
    pub fn tls(&self) -> ListenerTls {
        self.settings.load().endpoint.tls
    }

    /// Replaces the settings for connections that come from now on. Sessions keep those that they began with.
    pub fn change(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
    }

    /// Lets [`Self::run`] return after it has accepted the connections that wait in the backlog. Sessions go on.
    pub fn close(&self) {
        self.closed.cancel();
    }

    /// Accepts connections until [`Self::close`] is called. Each session runs in a task of its own, TLS handshake
    /// included.
    pub async fn run(self: Arc<Self>, gate: Gate, sessions: SessionControl) {
        select! {
            biased;
            () = self.closed.cancelled() => {}
            () = self.accept(&gate, &sessions) => {}
        }
        // When the socket is closed, the kernel resets the connections that wait in its backlog.
        while let Some(Ok((stream, peer))) = self.socket.accept().now_or_never() {
            self.arrive(stream, peer, &gate, &sessions);
        }
    }

    fn arrive(&self, stream: TcpStream, peer: SocketAddr, gate: &Gate, sessions: &SessionControl) {
        let arrival = Arrival {
            settings: self.settings.load_full(),
            address: self.address,
            name: self.name.clone(),
            gate: gate.clone(),
            sessions: sessions.clone(),
        };
        arrival.receive(stream, peer);
    }

    async fn accept(&self, gate: &Gate, sessions: &SessionControl) {
        let mut back_off = None;
        loop {
            match self.socket.accept().await {
                Ok((stream, peer)) => {
                    if back_off.take().is_some() {
                        troubles().end(&self.part());
                        tracing::info!(address = %self.address, "accepting again");
                    }
                    self.arrive(stream, peer, gate, sessions);
                }
                Err(error) if is_the_peers(&error) => {
                    tracing::debug!(address = %self.address, %error, "connection lost before it was accepted");
                }
                // Out of file descriptors or memory: the connection stays in the backlog, so asking again at once would
                // only burn the processor.
                Err(error) => {
                    let pause = match back_off {
                        Some(pause) => BACK_OFF[1].min(pause * 2),
                        None => {
                            tracing::error!(address = %self.address, %error, "can't accept connections, waiting");
                            troubles().begin(&self.part(), format!("can't accept connections: {error}"));
                            BACK_OFF[0]
                        }
                    };
                    back_off = Some(pause);
                    time::sleep(pause).await;
                }
            }
        }
    }
}

/// A connection that was accepted, on its way to a session.
struct Arrival {
    settings: Arc<Settings>,
    /// The address of the listener, not of the device.
    address: SocketAddr,
    /// `address` as text, for logs and metrics.
    name: Arc<str>,
    gate: Gate,
    sessions: SessionControl,
}

impl Arrival {
    /// Reads the PROXY header if the peer is a load balancer. Then decides whether the device may connect.
    fn receive(self, mut stream: TcpStream, peer: SocketAddr) {
        if !contain(&self.settings.balancers, peer.ip().to_canonical()) {
            return self.admit_allowed(stream, peer);
        }
        self.sessions.tasks.clone().spawn(async move {
            let header = self
                .sessions
                .newcomers_over
                .run_until_cancelled(proxy::read(&mut stream))
                .await;
            match header {
                Some(Ok(Some(device))) => {
                    tracing::debug!(balancer = %peer, peer = %device, address = %self.address, "PROXY header");
                    self.admit_allowed(stream, device);
                }
                // The load balancer's own connection, such as a health check. A load balancer need not be in `allow`.
                Some(Ok(None)) => self.admit(stream, peer),
                Some(Err(error @ (proxy::Error::Closed | proxy::Error::Broken(_)))) => {
                    tracing::debug!(balancer = %peer, address = %self.address, %error, "no PROXY header");
                }
                Some(Err(error)) => tracing::warn!(
                    balancer = %peer,
                    address = %self.address,
                    %error,
                    "connection closed: whoever is in `proxy_protocol_from` must send a PROXY header first"
                ),
                None => {}
            }
        });
    }

    fn admit_allowed(self, stream: TcpStream, peer: SocketAddr) {
        if !contain(&self.settings.allow, peer.ip().to_canonical()) {
            note_refused(peer, &self.name, "not in `allow`");
            return self.refuse(&stream, &Reply::NotAllowed);
        }
        self.admit(stream, peer);
    }

    fn admit(self, stream: TcpStream, peer: SocketAddr) {
        let address = peer.ip().to_canonical();
        let permit = match self.gate.permits.acquire(address) {
            Ok(permit) => permit,
            Err(full) => {
                note_refused(peer, &self.name, "too many sessions");
                self.gate.newcomers.make_room(address, full);
                return self.refuse(&stream, &Reply::TooManySessions);
            }
        };
        #[cfg(not(target_os = "linux"))]
        set_options(&SockRef::from(&stream));
        let newcomer = self.gate.newcomers.enter(address);
        let (service, endpoint) = (self.settings.service.clone(), self.settings.endpoint.clone());
        let stop = Stop {
            newcomers_over: self.sessions.newcomers_over.clone(),
            drain_over: self.sessions.drain_over.clone(),
        };
        let abort = self.sessions.abort.clone();
        let summary = Summary::new(peer, self.name);
        let (id, span) = (summary.id(), summary.span());
        // In a box, because each future that it is passed to would store it once more.
        let session = Box::pin(session::run(stream, summary, permit, newcomer, endpoint, service, stop));
        let session = async move { abort.run_until_cancelled(session).await };
        self.sessions.tasks.spawn(trace::session(id, session).instrument(span));
    }

    /// Sends the line of `reply` if the connection begins in plain text. The socket buffer is empty, so this does not
    /// wait. The caller then closes the connection.
    fn refuse(&self, stream: &TcpStream, reply: &Reply) {
        if !self.settings.endpoint.tls.is_implicit() {
            let mut line = Vec::new();
            reply.write(&mut line);
            let _ = SockRef::from(stream).send(&line);
        }
    }
}

/// Sets the options that a device's socket needs. None is vital: if the socket refuses one, it has most likely lost its
/// peer, and the session will find that out.
fn set_options(socket: &SockRef<'_>) {
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEP_ALIVE));
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_notsent_lowat(UNSENT);
}

fn contain(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// Whether `error` concerns only the connection that was to be accepted, and not the listener (accept(2)).
fn is_the_peers(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionReset, HostUnreachable, Interrupted, NetworkDown, NetworkUnreachable, TimedOut,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
            | TimedOut
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_matched_by_network() {
        let allow: Vec<IpNet> = ["127.0.0.0/8", "10.1.0.0/16", "fd00::/8"]
            .map(|net| net.parse().unwrap())
            .into();
        for (address, expected) in [
            ("127.0.0.1", true),
            ("::ffff:127.0.0.1", true),
            ("10.1.255.255", true),
            ("10.2.0.1", false),
            ("::ffff:10.2.0.1", false),
            ("fd12::1", true),
            ("2001:db8::1", false),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(contain(&allow, address.to_canonical()), expected, "{address}");
        }
        assert!(!contain(&[], IpAddr::from([127, 0, 0, 1])));
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn an_accepted_socket_has_the_options_of_the_one_that_listens() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        set_options(&SockRef::from(&listener));
        let _device = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEP_ALIVE);
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), UNSENT);
    }

    #[test]
    fn a_lost_peer_is_no_reason_to_wait() {
        assert!(is_the_peers(&io::ErrorKind::ConnectionAborted.into()));
        assert!(!is_the_peers(&io::Error::from_raw_os_error(24))); // EMFILE
        assert!(!is_the_peers(&io::Error::from_raw_os_error(12))); // ENOMEM
    }
}
