//! Connections to the servers of a shared store: to one server, to the primary that Sentinels name, or to the nodes of
//! a cluster. Each server has one connection for everything, and a second one for writes that wait for replicas. A lost
//! connection is replaced.

use std::{
    collections::HashMap,
    fmt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redis::{AsyncConnectionConfig, Cmd, Pipeline, RedisConnectionInfo, RedisError, Value, aio::MultiplexedConnection};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    failure::{Failure, Remedy},
    flight::Flight,
    keys::slot,
    scripts::{Request, answer},
    waiting::Waiting,
};
use crate::{
    config::{Secret, StateServer, StateServers, StateUrl},
    tls,
};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(3);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(3);
/// How long a request may take, with all attempts, while servers are replaced: a failover takes 5 to 8 s.
const PATIENCE: Duration = Duration::from_secs(10);
/// The first and the longest pause between two attempts.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];
/// How often one attempt may send its request: a server may redirect it, or may not know a script yet.
const REDIRECTIONS: usize = 5;

/// The servers of a store, and the connections to them.
pub(super) struct Link {
    url: StateUrl,
    password: Option<Secret>,
    tls: Option<tls::Connector>,
    nodes: Mutex<HashMap<StateServer, Arc<Node>>>,
    /// The primary that the Sentinels have named.
    primary: Flight<StateServer>,
    /// Which nodes of a cluster have which slots.
    slots: Flight<Arc<[Range]>>,
    /// How many replicas must confirm a write that must not be lost.
    replicas: usize,
}

/// A range of a cluster's slots, which one node has.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Range {
    first: u16,
    last: u16,
    node: StateServer,
}

/// One server.
#[derive(Debug)]
struct Node {
    server: StateServer,
    /// The connection for everything but writes that wait for replicas.
    common: Flight<MultiplexedConnection>,
    /// The connection for those writes: WAIT blocks its connection.
    durable: Flight<MultiplexedConnection>,
    waiting: Waiting,
}

/// Whether replicas must confirm a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Care {
    /// The write may be lost with its server.
    Light,
    /// The write must not be lost.
    Durable,
}

/// A stream that redis can use.
trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({})", self.url)
    }
}

impl Link {
    /// A link to the servers of `url`. Nothing is connected yet.
    pub(super) fn new(
        url: StateUrl,
        password: Option<Secret>,
        ca_file: Option<&Path>,
        replicas: usize,
    ) -> Result<Self, tls::Error> {
        let tls = url
            .is_tls
            .then(|| tls::Connector::to_upstream(ca_file, None))
            .transpose()?;
        Ok(Self {
            url,
            password,
            tls,
            nodes: Mutex::default(),
            primary: Flight::default(),
            slots: Flight::default(),
            replicas,
        })
    }

    pub(super) fn url(&self) -> &StateUrl {
        &self.url
    }

    /// Sends `request`, which is about `key`, and returns the answer. Repeats the request while servers are replaced,
    /// so it must be one that can be repeated without harm.
    pub(super) async fn ask(self: &Arc<Self>, key: &[u8], request: &Request, care: Care) -> Result<Value, Failure> {
        let place = Place::Slot(slot(key));
        self.ask_at(&place, request, care).await
    }

    /// Like [`Link::ask`], for a command to one server.
    pub(super) async fn ask_server(self: &Arc<Self>, server: &StateServer, command: Cmd) -> Result<Value, Failure> {
        self.ask_at(&Place::Server(server.clone()), &command.into(), Care::Light)
            .await
    }

    async fn ask_at(self: &Arc<Self>, place: &Place, request: &Request, care: Care) -> Result<Value, Failure> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = PAUSES[0];
        let mut last = None;
        loop {
            let failure = match timeout_at(deadline, self.attempt(place, request, care)).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(failure)) => failure,
                Err(_) => {
                    let late = format!("no answer for {} seconds", PATIENCE.as_secs());
                    return Err(last.unwrap_or_else(|| Failure::unreachable(&self.url, &late)));
                }
            };
            if failure.remedy == Remedy::Operator || Instant::now() + pause >= deadline {
                return Err(failure);
            }
            tracing::debug!(%failure, "shared state is asked again");
            last = Some(failure);
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES[1]);
        }
    }

    /// Makes one attempt. If it fails, forgets what may be out of date: a connection, the primary, the slots.
    async fn attempt(self: &Arc<Self>, place: &Place, request: &Request, care: Care) -> Result<Value, Failure> {
        let mut server = self.server_of(place).await?;
        let (mut whole, mut asking) = (false, false);
        let mut failure = None;
        for _ in 0..REDIRECTIONS {
            let node = self.node(&server);
            let begun = Instant::now();
            let failed = match self.send(&node, request, whole, asking, care).await {
                Ok(value) => return Ok(value),
                Err(failed) => failed,
            };
            match &failed.remedy {
                Remedy::Load => whole = true,
                Remedy::Redirect { to, is_for_good } => {
                    if *is_for_good {
                        self.slots.forget(begun).await;
                    }
                    asking = !is_for_good;
                    server = to.clone();
                }
                Remedy::Reconnect => {
                    self.line_for(&node, care).forget(begun).await;
                    self.primary.forget(begun).await;
                    self.slots.forget(begun).await;
                    return Err(failed);
                }
                Remedy::Wait => {
                    self.slots.forget(begun).await;
                    return Err(failed);
                }
                Remedy::Operator => return Err(failed),
            }
            failure = Some(failed);
        }
        Err(failure.unwrap_or_else(|| Failure::wrong("no server answers")))
    }

    async fn send(
        self: &Arc<Self>,
        node: &Arc<Node>,
        request: &Request,
        is_whole: bool,
        is_asking: bool,
        care: Care,
    ) -> Result<Value, Failure> {
        let commands = request.commands(is_whole, is_asking);
        let mut connection = self.line(node, self.line_for(node, care)).await?;
        if self.waits(care) {
            let waited = node.waiting.send(connection, commands, self.replicas).await;
            return waited.map_err(|error| error.told_of(&node.server));
        }
        let answered = match &commands[..] {
            [command] => connection
                .send_packed_command(command)
                .await
                .and_then(|one| answer([one])),
            _ => {
                let count = commands.len();
                let mut pipeline = Pipeline::with_capacity(count);
                for command in commands {
                    pipeline.add_command(command);
                }
                connection
                    .send_packed_commands(&pipeline, 0, count)
                    .await
                    .and_then(answer)
            }
        };
        answered.map_err(|error| Failure::of(&node.server, &error))
    }

    /// Whether replicas must confirm a request.
    pub(super) fn waits(&self, care: Care) -> bool {
        care == Care::Durable && self.replicas > 0
    }

    /// The connection to `node` that a request uses.
    fn line_for<'a>(&self, node: &'a Node, care: Care) -> &'a Flight<MultiplexedConnection> {
        if self.waits(care) { &node.durable } else { &node.common }
    }

    /// The answer of `node` about the servers themselves. If the connection fails, forgets it, because this is also
    /// asked when no request can be sent yet.
    async fn inquire(self: &Arc<Self>, node: &Arc<Node>, command: &Cmd) -> Result<Value, Failure> {
        let begun = Instant::now();
        let mut connection = self.line(node, &node.common).await?;
        let answered = connection.send_packed_command(command).await;
        match answered
            .and_then(|one| answer([one]))
            .map_err(|error| Failure::of(&node.server, &error))
        {
            Err(failure) if failure.remedy == Remedy::Reconnect => {
                node.common.forget(begun).await;
                Err(failure)
            }
            answered => answered,
        }
    }

    // Which server a request goes to.

    async fn server_of(self: &Arc<Self>, place: &Place) -> Result<StateServer, Failure> {
        match (place, &self.url.servers) {
            (Place::Server(server), _) => Ok(server.clone()),
            (Place::Slot(_), StateServers::One(server)) => Ok(server.clone()),
            (Place::Slot(_), StateServers::Sentinels(..)) => {
                let link = self.clone();
                self.primary.get(|| async move { link.find_primary().await }).await
            }
            (Place::Slot(slot), StateServers::Cluster(_)) => {
                let ranges = self.ranges().await?;
                let range = ranges.iter().find(|range| (range.first..=range.last).contains(slot));
                range.map(|range| range.node.clone()).ok_or_else(|| {
                    let what = format!("no node of the cluster has slot {slot}");
                    Failure::passing(what, Remedy::Wait)
                })
            }
        }
    }

    /// The servers that together have all keys.
    pub(super) async fn primaries(self: &Arc<Self>) -> Result<Vec<StateServer>, Failure> {
        let StateServers::Cluster(_) = &self.url.servers else {
            return Ok(vec![self.server_of(&Place::Slot(0)).await?]);
        };
        self.slots.forget(Instant::now()).await;
        let ranges = self.ranges().await?;
        let mut nodes: Vec<StateServer> = ranges.iter().map(|range| range.node.clone()).collect();
        nodes.sort();
        nodes.dedup();
        Ok(nodes)
    }

    /// The primary that the Sentinels name. The server itself must confirm that it is a primary.
    async fn find_primary(self: &Arc<Self>) -> Result<StateServer, Failure> {
        let StateServers::Sentinels(sentinels, service) = &self.url.servers else {
            return Err(Failure::wrong("there are no Sentinels"));
        };
        let mut failures = Vec::new();
        for sentinel in sentinels {
            match self.primary_by(sentinel, service).await {
                Ok(found) => return Ok(found),
                Err(failure) => failures.push(failure.to_string()),
            }
        }
        let what = format!("no Sentinel names a primary of {service}: {}", failures.join("; "));
        Err(Failure::passing(what, Remedy::Reconnect))
    }

    async fn primary_by(self: &Arc<Self>, sentinel: &StateServer, service: &str) -> Result<StateServer, Failure> {
        let mut connection = self.connect(sentinel, Purpose::Sentinel).await?;
        let mut command = redis::cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(service);
        let address: Option<(String, u16)> = command
            .query_async(&mut connection)
            .await
            .map_err(|error| Failure::of(sentinel, &error))?;
        let (host, port) = address.ok_or_else(|| Failure::wrong(format!("{sentinel} knows no service {service}")))?;
        let server = StateServer { host, port };
        let role = self.inquire(&self.node(&server), &redis::cmd("ROLE")).await?;
        match role {
            Value::Array(role) if role.first() == Some(&Value::BulkString(b"master".to_vec())) => Ok(server),
            _ => Err(Failure::wrong(format!(
                "{sentinel} names {server}, which is not a primary (yet)"
            ))),
        }
    }

    async fn ranges(self: &Arc<Self>) -> Result<Arc<[Range]>, Failure> {
        let link = self.clone();
        self.slots.get(|| async move { link.find_ranges().await }).await
    }

    /// The slots of the cluster, as the first node that answers reports them.
    async fn find_ranges(self: &Arc<Self>) -> Result<Arc<[Range]>, Failure> {
        let StateServers::Cluster(seeds) = &self.url.servers else {
            return Err(Failure::wrong("there is no cluster"));
        };
        let known: Vec<StateServer> = self.nodes().keys().cloned().collect();
        let mut failures = Vec::new();
        for server in known.iter().chain(seeds) {
            match self.ranges_by(server).await {
                Ok(ranges) => return Ok(ranges.into()),
                Err(failure) => failures.push(failure.to_string()),
            }
        }
        let what = format!("no node of the cluster answers: {}", failures.join("; "));
        Err(Failure::passing(what, Remedy::Reconnect))
    }

    async fn ranges_by(self: &Arc<Self>, server: &StateServer) -> Result<Vec<Range>, Failure> {
        let mut command = redis::cmd("CLUSTER");
        command.arg("SLOTS");
        let answer = self.inquire(&self.node(server), &command).await?;
        let ranges = ranges_of(&answer, server).ok_or_else(|| Failure::strange(&answer))?;
        if ranges.is_empty() {
            return Err(Failure::wrong(format!("{server} knows of no slots")));
        }
        Ok(ranges)
    }

    // The connections.

    fn nodes(&self) -> MutexGuard<'_, HashMap<StateServer, Arc<Node>>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn node(&self, server: &StateServer) -> Arc<Node> {
        let mut nodes = self.nodes();
        if let Some(node) = nodes.get(server) {
            return node.clone();
        }
        let node = Arc::new(Node {
            server: server.clone(),
            common: Flight::default(),
            durable: Flight::default(),
            waiting: Waiting::default(),
        });
        nodes.insert(server.clone(), node.clone());
        node
    }

    /// The connection of `node` that is kept in `line`. It is made if there is none.
    async fn line(
        self: &Arc<Self>,
        node: &Arc<Node>,
        line: &Flight<MultiplexedConnection>,
    ) -> Result<MultiplexedConnection, Failure> {
        let (link, node) = (self.clone(), node.clone());
        line.get(|| async move { link.connect(&node.server, Purpose::Records).await })
            .await
    }

    async fn connect(&self, server: &StateServer, purpose: Purpose) -> Result<MultiplexedConnection, Failure> {
        let connecting = async {
            let stream = TcpStream::connect((server.host.as_str(), server.port)).await;
            let stream = stream.map_err(|error| Failure::unreachable(server, &error))?;
            // Requests are small, and must not wait for more data. If this fails, they are only slower.
            let _ = stream.set_nodelay(true);
            let stream: Box<dyn Io> = match &self.tls {
                Some(tls) => {
                    let secured = tls.connect(&server.host, stream).await;
                    Box::new(secured.map_err(|error| Failure::unreachable(server, &error))?)
                }
                None => Box::new(stream),
            };
            self.greet(server, stream, purpose).await
        };
        match timeout(CONNECT, connecting).await {
            Ok(connected) => connected,
            Err(_) => {
                let late = format!("no answer for {} seconds", CONNECT.as_secs());
                Err(Failure::unreachable(server, &late))
            }
        }
    }

    /// Logs in and selects the database.
    async fn greet(
        &self,
        server: &StateServer,
        stream: Box<dyn Io>,
        purpose: Purpose,
    ) -> Result<MultiplexedConnection, Failure> {
        let mut info = RedisConnectionInfo::default().set_skip_set_lib_name();
        // A Sentinel without a password would refuse ours, and the connection with it: Sentinels get it below.
        if let Some(password) = self.password.as_ref().filter(|_| purpose == Purpose::Records) {
            if let Some(user) = &self.url.user {
                info = info.set_username(user);
            }
            // The configuration takes only UTF-8.
            info = info.set_password(String::from_utf8_lossy(password.expose()));
        }
        if purpose == Purpose::Records {
            info = info.set_db(i64::from(self.url.database));
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(ANSWER));
        let connected = MultiplexedConnection::new_with_config(&info, stream, config).await;
        let (mut connection, driver) = connected.map_err(|error| Failure::of(server, &error))?;
        tokio::spawn(driver);
        if purpose == Purpose::Sentinel
            && let Some(password) = &self.password
        {
            let mut login = redis::cmd("AUTH");
            login.arg(&self.url.user).arg(password.expose());
            // A Sentinel without a password refuses this, and works nevertheless. If a Sentinel has another password,
            // its next answer is an error that says so.
            let _: Result<Value, RedisError> = login.query_async(&mut connection).await;
        }
        Ok(connection)
    }
}

/// Which server a request goes to.
#[derive(Debug, Clone)]
enum Place {
    /// The server that has this slot.
    Slot(u16),
    /// This server.
    Server(StateServer),
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Records,
    Sentinel,
}

/// The ranges in an answer to CLUSTER SLOTS from `server`, which may leave out its own host.
fn ranges_of(answer: &Value, server: &StateServer) -> Option<Vec<Range>> {
    let Value::Array(ranges) = answer else { return None };
    let range = |range: &Value| {
        let Value::Array(range) = range else { return None };
        let [Value::Int(first), Value::Int(last), Value::Array(node), ..] = &range[..] else {
            return None;
        };
        let host = match node.first()? {
            Value::BulkString(host) if !host.is_empty() => String::from_utf8(host.clone()).ok()?,
            _ => server.host.clone(),
        };
        let Some(Value::Int(port)) = node.get(1) else {
            return None;
        };
        Some(Range {
            first: u16::try_from(*first).ok()?,
            last: u16::try_from(*last).ok()?,
            node: StateServer {
                host,
                port: u16::try_from(*port).ok()?,
            },
        })
    };
    ranges.iter().map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_of_a_cluster_are_read() {
        let host = |host: &str| Value::BulkString(host.into());
        let node = |host, port| Value::Array(vec![host, Value::Int(port), Value::BulkString(b"id".to_vec())]);
        let range = |first, last, node| Value::Array(vec![Value::Int(first), Value::Int(last), node]);
        let server = StateServer {
            host: "a".into(),
            port: 1,
        };
        let answer = Value::Array(vec![
            range(0, 8191, node(host("b"), 2)),
            range(8192, 16_383, node(Value::Nil, 3)),
        ]);
        let ranges = ranges_of(&answer, &server).unwrap();
        let told: Vec<_> = ranges
            .iter()
            .map(|range| format!("{}-{} {}", range.first, range.last, range.node))
            .collect();
        assert_eq!(told, ["0-8191 b:2", "8192-16383 a:3"]);
        assert_eq!(ranges_of(&Value::Okay, &server), None);
        assert_eq!(ranges_of(&Value::Array(vec![Value::Int(1)]), &server), None);
    }
}
