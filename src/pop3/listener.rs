//! Accepts connections: who may come in, and how many.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    select, time,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, Span, field};

use super::{
    newcomers::Newcomers,
    permits::Permits,
    proxy,
    reply::Reply,
    session::{self, Endpoint, Service},
    summary::note_refused,
};
use crate::{
    config::{self, ListenerTls},
    telemetry::troubles,
    tls::Acceptor,
};

/// Connections that the kernel holds for us while we are busy.
const BACKLOG: i32 = 1024;
/// Silence after which the kernel asks whether a device is still there: well within any NAT's memory.
const KEEP_ALIVE: Duration = Duration::from_secs(120);
/// Octets that the kernel takes from us and can't send yet: without this bound it takes megabytes for a device that does not
/// read, and a device that reads slowly takes minutes to make room for more.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 64 * 1024;
/// First and longest pause after an accept that failed for want of resources.
const BACK_OFF: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(1)];

/// One POP3 endpoint, bound.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    allow: Vec<IpNet>,
    /// Load balancers: their connections begin with a PROXY header.
    balancers: Vec<IpNet>,
    endpoint: Arc<Endpoint>,
}

/// The two ways in which sessions are told to stop, and where they are counted.
#[derive(Debug, Clone, Default)]
pub struct Sessions {
    /// Cancelled: nothing new is begun; replies and QUITs under way are finished.
    pub shutdown: CancellationToken,
    /// Cancelled: sessions are dropped where they stand.
    pub abort: CancellationToken,
    /// Every session's task.
    pub tasks: TaskTracker,
}

/// What all listeners count together.
#[derive(Debug, Clone)]
pub struct Gate {
    permits: Arc<Permits>,
    newcomers: Arc<Newcomers>,
}

impl Gate {
    /// `sessions`, `unauthenticated` and the same per address of `limits`.
    pub fn new(limits: &config::Limits) -> Self {
        Self {
            permits: Permits::new(limits),
            newcomers: Newcomers::new(limits),
        }
    }
}

impl Listener {
    /// Binds the socket; `acceptor` is needed unless `tls` is off. Must be called within a runtime.
    pub fn bind(config: &config::Listener, acceptor: Option<Arc<Acceptor>>) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(config.address), Type::STREAM, Some(Protocol::TCP))?;
        // A restart must not wait for the connections of the last run to time out. (Elsewhere than on Unix the option
        // would let two processes share the port.)
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&config.address.into())?;
        socket.listen(BACKLOG)?;
        let socket = TcpListener::from_std(socket.into())?;
        let address = socket.local_addr()?;
        Ok(Self {
            address,
            socket,
            allow: config.allow.clone(),
            balancers: config.proxy_protocol_from.clone(),
            endpoint: Arc::new(Endpoint {
                name: address.to_string().into(),
                tls: config.tls,
                require_tls: config.require_tls,
                apop: config.apop,
                acceptor: acceptor.filter(|_| config.tls != ListenerTls::Off),
            }),
        })
    }

    /// The bound address, with the port that was taken for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts until `sessions.shutdown`; each session runs in a task of its own, TLS handshake included.
    pub async fn run(self, service: Arc<Service>, gate: Gate, sessions: Sessions) {
        let listener = Arc::new(self);
        listener.accept(service, gate, sessions).await;
    }

    async fn accept(self: Arc<Self>, service: Arc<Service>, gate: Gate, sessions: Sessions) {
        let mut back_off = None;
        loop {
            let accepted = select! {
                biased;
                () = sessions.shutdown.cancelled() => return,
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    if back_off.take().is_some() {
                        troubles().end(&self.part());
                        tracing::info!(address = %self.address, "accepting again");
                    }
                    self.receive(stream, peer, &service, &gate, &sessions);
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
                    select! {
                        () = sessions.shutdown.cancelled() => return,
                        () = time::sleep(pause) => {}
                    }
                }
            }
        }
    }

    /// Finds out whose connection this is, and whether that device may come in.
    fn receive(
        self: &Arc<Self>,
        mut stream: TcpStream,
        peer: SocketAddr,
        service: &Arc<Service>,
        gate: &Gate,
        sessions: &Sessions,
    ) {
        if !contain(&self.balancers, peer.ip().to_canonical()) {
            return self.admit_allowed(stream, peer, service, gate, sessions);
        }
        let (listener, service) = (self.clone(), service.clone());
        let (gate, sessions) = (gate.clone(), sessions.clone());
        sessions.tasks.clone().spawn(async move {
            match sessions.shutdown.run_until_cancelled(proxy::read(&mut stream)).await {
                Some(Ok(Some(device))) => {
                    tracing::debug!(balancer = %peer, peer = %device, address = %listener.address, "PROXY header");
                    listener.admit_allowed(stream, device, &service, &gate, &sessions);
                }
                // The load balancer's own connection: it is known, and asks whether the listener answers.
                Some(Ok(None)) => listener.admit(stream, peer, &service, &gate, &sessions),
                Some(Err(error @ (proxy::Error::Closed | proxy::Error::Broken(_)))) => {
                    tracing::debug!(balancer = %peer, address = %listener.address, %error, "no PROXY header");
                }
                Some(Err(error)) => tracing::warn!(
                    balancer = %peer,
                    address = %listener.address,
                    %error,
                    "connection closed: whoever is in `proxy_protocol_from` must send a PROXY header first"
                ),
                None => {}
            }
        });
    }

    fn admit_allowed(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        service: &Arc<Service>,
        gate: &Gate,
        sessions: &Sessions,
    ) {
        if !contain(&self.allow, peer.ip().to_canonical()) {
            note_refused(peer, &self.endpoint.name, "not in `allow`");
            return self.refuse(&stream, &Reply::NotAllowed);
        }
        self.admit(stream, peer, service, gate, sessions);
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddr, service: &Arc<Service>, gate: &Gate, sessions: &Sessions) {
        let address = peer.ip().to_canonical();
        let Some(permit) = gate.permits.acquire(address) else {
            note_refused(peer, &self.endpoint.name, "too many sessions");
            gate.newcomers.make_room(address);
            return self.refuse(&stream, &Reply::TooManySessions);
        };
        let socket = SockRef::from(&stream);
        // None is vital: a socket that refuses them has most likely lost its peer, which the session will find out.
        let _ = socket.set_tcp_nodelay(true);
        let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEP_ALIVE));
        #[cfg(target_os = "linux")]
        let _ = socket.set_tcp_notsent_lowat(UNSENT);
        let newcomer = gate.newcomers.enter(address);
        let (service, endpoint) = (service.clone(), self.endpoint.clone());
        let (shutdown, abort) = (sessions.shutdown.clone(), sessions.abort.clone());
        let span = self.span(peer);
        sessions.tasks.spawn(
            async move {
                // In a box: a future that is passed on is stored once for each that it is passed to.
                let session = Box::pin(session::run(
                    stream, peer, permit, newcomer, endpoint, service, shutdown,
                ));
                abort.run_until_cancelled(session).await;
            }
            .instrument(span),
        );
    }

    /// Its name among what may fail.
    fn part(&self) -> String {
        format!("listener {}", self.address)
    }

    /// What every event of a session bears: two devices on one mailbox can be told apart.
    fn span(&self, peer: SocketAddr) -> Span {
        tracing::info_span!(
            "session",
            id = field::Empty,
            listener = &*self.endpoint.name,
            %peer,
            tls = field::Empty,
            login = field::Empty,
        )
    }

    /// One line into the empty socket buffer, where plain text is spoken, and the connection is closed.
    fn refuse(&self, stream: &TcpStream, reply: &Reply) {
        if !self.endpoint.tls.is_implicit() {
            let mut line = Vec::new();
            reply.write(&mut line);
            let _ = SockRef::from(stream).send(&line);
        }
    }
}

fn contain(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// Errors of the one connection that was to be accepted (accept(2)), not of the listener.
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

    #[test]
    fn a_lost_peer_is_no_reason_to_wait() {
        assert!(is_the_peers(&io::ErrorKind::ConnectionAborted.into()));
        assert!(!is_the_peers(&io::Error::from_raw_os_error(24))); // EMFILE
        assert!(!is_the_peers(&io::Error::from_raw_os_error(12))); // ENOMEM
    }
}
