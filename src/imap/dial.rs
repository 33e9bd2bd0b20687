//! Connects to a host and a port: resolves the name, tries the addresses, goes through a proxy, and makes the TLS
//! handshake. It does not speak IMAP.

use std::{io, net::SocketAddr, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    net::{TcpStream, lookup_host},
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    error::Error,
    io::Io,
    proxy::{self, Authority},
    unreachable::Unreachable,
};
use crate::{
    config::{Proxy, Upstream, UpstreamTls},
    tls::{self, ClientStream, HandshakeError},
};

/// How long one address is tried alone, before the next is tried too, as RFC 8305 §5 recommends.
const HEAD_START: Duration = Duration::from_millis(250);
/// After this much silence the kernel asks whether the other side is still there: a NAT router may forget a connection
/// while it is parked.
const KEEP_ALIVE: Duration = Duration::from_secs(120);

/// Connects to one host.
#[derive(Debug)]
pub(super) struct Dialer {
    pub(super) host: String,
    pub(super) port: u16,
    proxy: Option<Proxy>,
    pub(super) mode: UpstreamTls,
    /// `None` without TLS: the system's roots take memory.
    tls: Option<tls::Connector>,
    /// How long everything may take until the connection is established.
    patience: Duration,
}

impl Dialer {
    /// `patience`: how long it may take until a connection is established. Errors name the `ca_file` that cannot be
    /// used.
    pub(super) fn new(upstream: &Upstream, patience: Duration) -> Result<Self, tls::Error> {
        let ca_file = upstream.ca_file.as_deref();
        Ok(Self {
            host: upstream.host.clone(),
            port: upstream.port,
            proxy: upstream.proxy.clone(),
            mode: upstream.tls,
            tls: match upstream.tls {
                UpstreamTls::Off => None,
                UpstreamTls::Legacy => Some(tls::Connector::to_legacy_upstream(ca_file, upstream.fingerprint)?),
                UpstreamTls::Implicit | UpstreamTls::StartTls => {
                    Some(tls::Connector::to_upstream(ca_file, upstream.fingerprint)?)
                }
            },
            patience,
        })
    }

    /// Connects, and makes the TLS handshake if TLS comes before the greeting. Also returns the server's address;
    /// `None` if the connection goes through a proxy.
    pub(super) async fn dial(&self) -> Result<(Box<dyn Io>, Option<SocketAddr>), Error> {
        let deadline = self.deadline();
        let addresses = self.resolve(deadline).await?;
        let raced = race(addresses, deadline, open).await;
        let (tcp, peer) = raced.map_err(|failures| self.unreachable(Unreachable::Addresses(failures)))?;
        let (tcp, peer) = match &self.proxy {
            None => (tcp, Some(peer)),
            Some(proxy) => (self.tunnel(tcp, proxy, deadline).await?, None),
        };
        let io: Box<dyn Io> = if self.begins_with_tls() {
            // The handshake is boxed. Otherwise the future of a login without TLS would have room for it too.
            Box::new(Box::pin(self.handshake(Box::new(tcp), deadline)).await?)
        } else {
            Box::new(tcp)
        };
        Ok((io, peer))
    }

    /// The time by which a connection that is begun now must be established.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.patience
    }

    /// Whether TLS comes before everything else.
    pub(super) fn begins_with_tls(&self) -> bool {
        matches!(self.mode, UpstreamTls::Implicit | UpstreamTls::Legacy)
    }

    pub(super) fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_ref()
    }

    /// The addresses of the server, or of the proxy on the way to it, in the order in which they are tried.
    pub(super) async fn resolve(&self, deadline: Instant) -> Result<Vec<SocketAddr>, Error> {
        let (host, port) = match &self.proxy {
            None => (&self.host, self.port),
            Some(proxy) => (&proxy.host, proxy.port),
        };
        let resolved = resolve(host, port, deadline).await;
        resolved.map_err(|error| self.unreachable(error))
    }

    /// Opens a TCP connection to `address`, which is the proxy's if there is a proxy.
    pub(super) async fn open(&self, address: SocketAddr, deadline: Instant) -> Result<TcpStream, Error> {
        let opened = timeout_at(deadline, open(address)).await.unwrap_or(Err(silence()));
        opened.map_err(|error| self.unreachable(Unreachable::Addresses(vec![(address, error)])))
    }

    fn unreachable(&self, why: Unreachable) -> Error {
        let unreachable = match &self.proxy {
            None => why,
            Some(proxy) => through(proxy, &why),
        };
        unreachable.into()
    }

    /// Makes the TLS handshake on an open connection. The time that it may take begins now.
    pub(super) async fn secure(&self, io: Box<dyn Io>) -> Result<ClientStream<Box<dyn Io>>, Error> {
        self.handshake(io, self.deadline()).await
    }

    /// Has the proxy at the other end of `tcp` connect us to the server.
    pub(super) async fn tunnel(&self, tcp: TcpStream, proxy: &Proxy, deadline: Instant) -> Result<TcpStream, Error> {
        let name = Authority(&proxy.host, proxy.port);
        let unreachable = |why: &dyn std::fmt::Display| through(proxy, why);
        match timeout_at(deadline, proxy::connect(tcp, proxy, Authority(&self.host, self.port))).await {
            Ok(Ok(tcp)) => Ok(tcp),
            Ok(Err(proxy::Error::Refused(why))) => Err(Error::Proxy(format!("the proxy at {name} {why}"))),
            Ok(Err(proxy::Error::Unavailable(why))) => Err(unreachable(&why).into()),
            Ok(Err(proxy::Error::Broken(error))) => Err(unreachable(&error).into()),
            Err(_) => Err(unreachable(&silence()).into()),
        }
    }

    /// Makes the TLS handshake, until `deadline` at most.
    async fn handshake(&self, io: Box<dyn Io>, deadline: Instant) -> Result<ClientStream<Box<dyn Io>>, Error> {
        let Some(tls) = &self.tls else {
            return Err(Error::Connect(io::Error::other("TLS is off")));
        };
        match timeout_at(deadline, tls.connect(&self.host, io)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(HandshakeError::Certificate(why))) => Err(Error::Certificate(why)),
            Ok(Err(HandshakeError::Disagreement(why))) => Err(Error::Tls(why)),
            Ok(Err(HandshakeError::Broken(error))) => Err(Error::Connect(error)),
            Err(_) => Err(Error::SilentTls(self.patience)),
        }
    }
}

/// Why there is no connection through `proxy`.
fn through(proxy: &Proxy, why: &dyn std::fmt::Display) -> Unreachable {
    let name = Authority(&proxy.host, proxy.port);
    Unreachable::Proxy(format!("the proxy at {name}: {why}"))
}

/// The addresses of `host`, in the order in which they are tried.
async fn resolve(host: &str, port: u16, deadline: Instant) -> Result<Vec<SocketAddr>, Unreachable> {
    let unresolved = |source| Unreachable::Name {
        host: host.to_owned(),
        source,
    };
    let addresses = match timeout_at(deadline, lookup_host((host, port))).await {
        Ok(addresses) => addresses.map_err(unresolved)?,
        Err(_) => return Err(unresolved(silence())),
    };
    let addresses = interleaved(addresses);
    if addresses.is_empty() {
        return Err(unresolved(io::Error::other("it has no address")));
    }
    Ok(addresses)
}

async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let keep_alive = socket2::TcpKeepalive::new().with_time(KEEP_ALIVE);
    socket2::SockRef::from(&tcp).set_tcp_keepalive(&keep_alive)?;
    Ok(tcp)
}

/// The addresses, each once, IPv6 and IPv4 by turns. The family that the resolver puts first comes first (RFC 8305 §4).
fn interleaved(addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut known = Vec::new();
    for address in addresses {
        if !known.contains(&address) {
            known.push(address);
        }
    }
    let first_is_ipv6 = known.first().is_some_and(SocketAddr::is_ipv6);
    let (preferred, others): (Vec<_>, Vec<_>) = known
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_ipv6);
    let (mut preferred, mut others) = (preferred.into_iter(), others.into_iter());
    let mut mixed = Vec::new();
    loop {
        let before = mixed.len();
        mixed.extend(preferred.next());
        mixed.extend(others.next());
        if mixed.len() == before {
            return mixed;
        }
    }
}

/// Tries one address after the other: the next one as soon as an attempt has failed, or [`HEAD_START`] after the last
/// attempt began. Attempts that were begun go on meanwhile. The first that succeeds wins, and the others are dropped
/// (RFC 8305 §5). The error says what became of each address that was tried before `deadline`.
async fn race<T, F>(
    addresses: Vec<SocketAddr>,
    deadline: Instant,
    connect: impl Fn(SocketAddr) -> F,
) -> Result<(T, SocketAddr), Vec<(SocketAddr, io::Error)>>
where
    F: Future<Output = io::Result<T>>,
{
    let attempt = |address| {
        let connecting = connect(address);
        async move { (address, connecting.await) }
    };
    let mut waiting = addresses.into_iter();
    let mut unanswered = Vec::new();
    let mut failures = Vec::new();
    let mut attempts = FuturesUnordered::new();
    let mut next = Instant::now();
    loop {
        tokio::select! {
            Some((address, outcome)) = attempts.next() => match outcome {
                Ok(connection) => return Ok((connection, address)),
                Err(error) => {
                    unanswered.retain(|other| *other != address);
                    failures.push((address, error));
                    if unanswered.is_empty() && waiting.len() == 0 {
                        return Err(failures);
                    }
                    next = Instant::now();
                }
            },
            () = sleep_until(next), if waiting.len() > 0 => {
                if let Some(address) = waiting.next() {
                    unanswered.push(address);
                    attempts.push(attempt(address));
                }
                next = Instant::now() + HEAD_START;
            }
            () = sleep_until(deadline) => {
                failures.extend(unanswered.into_iter().map(|address| (address, silence())));
                return Err(failures);
            }
        }
    }
}

fn silence() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer")
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    };

    use tokio::{net::TcpListener, time::sleep};

    use super::*;
    use crate::imap::unreachable::NoWay;

    const MS: Duration = Duration::from_millis(1);

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// How an attempt ends, and after how many milliseconds.
    #[derive(Clone, Copy)]
    enum Fate {
        Answers(u32),
        Refuses(u32),
        Silent,
    }

    struct Attempts {
        fates: Vec<(SocketAddr, Fate)>,
        /// Which address was tried when, in milliseconds.
        begun: Mutex<Vec<(SocketAddr, u128)>>,
        under_way: AtomicUsize,
    }

    struct UnderWay(Arc<Attempts>);

    impl Drop for UnderWay {
        fn drop(&mut self) {
            self.0.under_way.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Runs a race. Returns the attempts, the winner or the words of the error, and how many milliseconds the race
    /// took.
    async fn run(fates: &[(&str, Fate)], patience: Duration) -> (Arc<Attempts>, Result<SocketAddr, String>, u128) {
        let attempts = Arc::new(Attempts {
            fates: fates
                .iter()
                .map(|(text, fate)| (text.parse().unwrap(), *fate))
                .collect(),
            begun: Mutex::default(),
            under_way: AtomicUsize::new(0),
        });
        let start = Instant::now();
        let connect = |address| {
            let attempts = attempts.clone();
            async move {
                attempts
                    .begun
                    .lock()
                    .unwrap()
                    .push((address, start.elapsed().as_millis()));
                attempts.under_way.fetch_add(1, Ordering::SeqCst);
                let _under_way = UnderWay(attempts.clone());
                match attempts.fates.iter().find(|(known, _)| *known == address).unwrap().1 {
                    Fate::Answers(after) => {
                        sleep(MS * after).await;
                        Ok(())
                    }
                    Fate::Refuses(after) => {
                        sleep(MS * after).await;
                        Err(io::ErrorKind::ConnectionRefused.into())
                    }
                    Fate::Silent => std::future::pending().await,
                }
            }
        };
        let list = attempts.fates.iter().map(|(address, _)| *address).collect();
        let outcome = race(list, start + patience, connect).await;
        let outcome = match outcome {
            Ok(((), address)) => Ok(address),
            Err(failures) => Err(Unreachable::Addresses(failures).to_string()),
        };
        assert_eq!(attempts.under_way.load(Ordering::SeqCst), 0, "the others are dropped");
        (attempts, outcome, start.elapsed().as_millis())
    }

    const A: &str = "[2001:db8::1]:993";
    const B: &str = "192.0.2.1:993";
    const C: &str = "192.0.2.2:993";
    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_black_hole_costs_a_quarter_of_a_second() {
        let (_, outcome, took) = run(&[(A, Fate::Silent), (B, Fate::Answers(20))], LONG).await;
        assert_eq!((outcome, took), (Ok(B.parse().unwrap()), 270));
        let (_, outcome, took) = run(&[(A, Fate::Silent), (B, Fate::Silent), (C, Fate::Answers(20))], LONG).await;
        assert_eq!((outcome, took), (Ok(C.parse().unwrap()), 520));
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_the_next_is_tried_at_once() {
        let fates = [(A, Fate::Refuses(10)), (B, Fate::Refuses(5)), (C, Fate::Answers(20))];
        let (attempts, outcome, took) = run(&fates, LONG).await;
        assert_eq!((outcome, took), (Ok(C.parse().unwrap()), 35));
        let begun = [(A, 0), (B, 10), (C, 15)].map(|(text, at)| (text.parse().unwrap(), at));
        assert_eq!(*attempts.begun.lock().unwrap(), begun);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_first_address_may_still_win() {
        let fates = [(A, Fate::Answers(300)), (B, Fate::Answers(200)), (C, Fate::Answers(0))];
        let (attempts, outcome, took) = run(&fates, LONG).await;
        assert_eq!((outcome, took), (Ok(A.parse().unwrap()), 300));
        assert_eq!(attempts.begun.lock().unwrap().len(), 2, "the third was not needed");
    }

    #[tokio::test(start_paused = true)]
    async fn who_loses_says_why_for_each_address() {
        let (_, outcome, took) = run(&[(A, Fate::Refuses(400)), (B, Fate::Refuses(5))], LONG).await;
        assert_eq!(
            outcome,
            Err(format!("{B}: connection refused; {A}: connection refused"))
        );
        assert_eq!(took, 400, "both have failed");
        let fates = [(A, Fate::Silent), (B, Fate::Refuses(5)), (C, Fate::Silent)];
        let (_, outcome, took) = run(&fates, LONG).await;
        assert_eq!(
            outcome,
            Err(format!("{B}: connection refused; {A}: no answer; {C}: no answer"))
        );
        assert_eq!(took, 30_000);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_for_which_no_time_was_left_is_not_blamed() {
        let (_, outcome, took) = run(&[(A, Fate::Silent), (B, Fate::Silent)], MS * 100).await;
        assert_eq!((outcome, took), (Err(format!("{A}: no answer")), 100));
    }

    #[test]
    fn families_take_turns() {
        let mixed = |list: &[&str]| interleaved(addresses(list).into_iter());
        let d = "[2001:db8::2]:993";
        assert_eq!(mixed(&[A, d, B, C]), addresses(&[A, B, d, C]));
        assert_eq!(
            mixed(&[B, C, A]),
            addresses(&[B, A, C]),
            "the resolver's first comes first"
        );
        assert_eq!(mixed(&[B, B, C, B]), addresses(&[B, C]), "each once");
        assert_eq!(mixed(&[]), []);
    }

    /// A listener whose backlog is full: the kernel drops every further SYN. It lasts as long as the second value is
    /// held.
    fn black_hole() -> (SocketAddr, impl Sized) {
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let fill = || {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address.into());
            socket
        };
        let filling: Vec<_> = std::iter::repeat_with(fill).take(4).collect();
        (address, (listener, filling))
    }

    #[tokio::test]
    async fn a_black_hole_of_the_kernel_is_passed_by() {
        let (hole, _hole) = black_hole();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = listener.local_addr().unwrap();
        let start = Instant::now();
        let (tcp, address) = race(vec![hole, there], start + LONG, open).await.unwrap();
        let took = start.elapsed();
        assert_eq!((address, tcp.peer_addr().unwrap()), (there, there));
        assert!(took >= HEAD_START, "{took:?}: the first address is no black hole");
        // The kernel itself would send another SYN only after a second.
        assert!(took < MS * 900, "{took:?}");
        assert!(tcp.nodelay().unwrap());
        assert!(socket2::SockRef::from(&tcp).keepalive().unwrap());
    }

    #[tokio::test]
    async fn silence_is_bounded_and_told_of_each_address() {
        let (hole, _hole) = black_hole();
        let deadline = Instant::now() + MS * 50;
        let addresses = resolve("127.0.0.1", hole.port(), deadline).await.unwrap();
        let error = race(addresses, deadline, open).await.unwrap_err();
        assert_eq!(Unreachable::Addresses(error).to_string(), format!("{hole}: no answer"));
    }

    #[tokio::test]
    async fn a_name_that_nobody_knows() {
        let error = resolve("no-such-host.invalid", 993, Instant::now() + LONG)
            .await
            .unwrap_err();
        assert!(matches!(error.kind(), NoWay::NoSuchName | NoWay::NoResolver), "{error}");
        let text = error.to_string();
        assert!(
            text.starts_with("the name no-such-host.invalid cannot be resolved: "),
            "{text}"
        );
    }
}
