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

use redis::{AsyncConnectionConfig, Cmd, RedisConnectionInfo, RedisError, Value, aio::MultiplexedConnection};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use super::{
    failure::{Failure, Remedy},
    keys::slot,
    scripts::Request,
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
/// How long a request is repeated while servers are replaced: a failover takes 5 to 8 s. Attempts may exceed it.
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
    primary: tokio::sync::Mutex<Option<StateServer>>,
    /// Which nodes of a cluster have which slots; empty until this is known.
    slots: tokio::sync::Mutex<Arc<[Range]>>,
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
    common: tokio::sync::Mutex<Option<Line>>,
    /// The connection for those writes: WAIT blocks its connection.
    durable: tokio::sync::Mutex<Option<Line>>,
    waiting: Waiting,
}

/// A connection, and since when it exists.
#[derive(Debug, Clone)]
struct Line {
    connection: MultiplexedConnection,
    made: Instant,
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
            primary: tokio::sync::Mutex::default(),
            slots: tokio::sync::Mutex::new(Arc::new([])),
            replicas,
        })
    }

    pub(super) fn url(&self) -> &StateUrl {
        &self.url
    }

    /// Sends `request`, which is about `key`, and returns the answer. Repeats the request while servers are replaced,
    /// so it must be one that can be repeated without harm.
    pub(super) async fn ask(&self, key: &[u8], request: &Request, care: Care) -> Result<Value, Failure> {
        let place = Place::Slot(slot(key));
        self.ask_at(&place, request, care).await
    }

    /// Like [`Link::ask`], for a command to one server.
    pub(super) async fn ask_server(&self, server: &StateServer, command: Cmd) -> Result<Value, Failure> {
        self.ask_at(&Place::Server(server.clone()), &command.into(), Care::Light)
            .await
    }

    async fn ask_at(&self, place: &Place, request: &Request, care: Care) -> Result<Value, Failure> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = PAUSES[0];
        loop {
            let failure = match self.attempt(place, request, care).await {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            if failure.remedy == Remedy::Operator || Instant::now() + pause >= deadline {
                return Err(failure);
            }
            tracing::debug!(%failure, "shared state is asked again");
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES[1]);
        }
    }

    /// Makes one attempt. If it fails, forgets what may be out of date: a connection, the primary, the slots.
    async fn attempt(&self, place: &Place, request: &Request, care: Care) -> Result<Value, Failure> {
        let begun = Instant::now();
        let mut server = self.server_of(place).await?;
        let (mut whole, mut asking) = (false, false);
        let mut failure = None;
        for _ in 0..REDIRECTIONS {
            let node = self.node(&server);
            let failed = match self.send(&node, request, whole, asking, care).await {
                Ok(value) => return Ok(value),
                Err(failed) => failed,
            };
            match &failed.remedy {
                Remedy::Load => whole = true,
                Remedy::Redirect { to, is_for_good } => {
                    if *is_for_good {
                        self.forget_slots().await;
                    }
                    asking = !is_for_good;
                    server = to.clone();
                }
                Remedy::Reconnect => {
                    self.forget(&node, care, begun).await;
                    return Err(failed);
                }
                Remedy::Wait => {
                    self.forget_slots().await;
                    return Err(failed);
                }
                Remedy::Operator => return Err(failed),
            }
            failure = Some(failed);
        }
        Err(failure.unwrap_or_else(|| Failure::wrong("no server answers")))
    }

    async fn send(
        &self,
        node: &Arc<Node>,
        request: &Request,
        whole: bool,
        asking: bool,
        care: Care,
    ) -> Result<Value, Failure> {
        let command = request.command(whole);
        if care == Care::Durable && self.replicas > 0 && !asking {
            let line = self.line(node, &node.durable).await?;
            let waited = node.waiting.send(line.connection, command, self.replicas).await;
            return waited.map_err(|error| error.told_of(&node.server));
        }
        let mut connection = self.line(node, &node.common).await?.connection;
        let answered = if asking {
            let mut pipeline = redis::pipe();
            pipeline.cmd("ASKING").add_command(command);
            let answers = connection.send_packed_commands(&pipeline, 1, 1).await;
            answers.map(|mut answers| answers.pop().unwrap_or_default())
        } else {
            connection.send_packed_command(&command).await
        };
        let answered = answered.and_then(Value::extract_error);
        answered.map_err(|error| Failure::of(&node.server, &error))
    }

    // Which server a request goes to.

    async fn server_of(&self, place: &Place) -> Result<StateServer, Failure> {
        match (place, &self.url.servers) {
            (Place::Server(server), _) => Ok(server.clone()),
            (Place::Slot(_), StateServers::One(server)) => Ok(server.clone()),
            (Place::Slot(_), StateServers::Sentinels(sentinels, service)) => self.primary(sentinels, service).await,
            (Place::Slot(slot), StateServers::Cluster(seeds)) => {
                let ranges = self.ranges(seeds).await?;
                let range = ranges.iter().find(|range| (range.first..=range.last).contains(slot));
                range.map(|range| range.node.clone()).ok_or_else(|| {
                    let what = format!("no node of the cluster has slot {slot}");
                    Failure::passing(what, Remedy::Wait)
                })
            }
        }
    }

    /// The servers that together have all keys.
    pub(super) async fn primaries(&self) -> Result<Vec<StateServer>, Failure> {
        let StateServers::Cluster(seeds) = &self.url.servers else {
            return Ok(vec![self.server_of(&Place::Slot(0)).await?]);
        };
        self.forget_slots().await;
        let mut nodes: Vec<StateServer> = self
            .ranges(seeds)
            .await?
            .iter()
            .map(|range| range.node.clone())
            .collect();
        nodes.sort();
        nodes.dedup();
        Ok(nodes)
    }

    /// The primary that the Sentinels name. The server itself must confirm that it is a primary.
    async fn primary(&self, sentinels: &[StateServer], service: &str) -> Result<StateServer, Failure> {
        let mut primary = self.primary.lock().await;
        if let Some(primary) = &*primary {
            return Ok(primary.clone());
        }
        let mut failures = Vec::new();
        for sentinel in sentinels {
            match self.primary_by(sentinel, service).await {
                Ok(found) => return Ok(primary.insert(found).clone()),
                Err(failure) => failures.push(failure.to_string()),
            }
        }
        let what = format!("no Sentinel names a primary of {service}: {}", failures.join("; "));
        Err(Failure::passing(what, Remedy::Reconnect))
    }

    async fn primary_by(&self, sentinel: &StateServer, service: &str) -> Result<StateServer, Failure> {
        let mut connection = self.connect(sentinel, Purpose::Sentinel).await?.connection;
        let mut command = redis::cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(service);
        let address: Option<(String, u16)> = command
            .query_async(&mut connection)
            .await
            .map_err(|error| Failure::of(sentinel, &error))?;
        let (host, port) = address.ok_or_else(|| Failure::wrong(format!("{sentinel} knows no service {service}")))?;
        let server = StateServer { host, port };
        let node = self.node(&server);
        let mut connection = self.line(&node, &node.common).await?.connection;
        let role: Vec<Value> = redis::cmd("ROLE")
            .query_async(&mut connection)
            .await
            .map_err(|error| Failure::of(&server, &error))?;
        match role.first() {
            Some(Value::BulkString(role)) if role == b"master" => Ok(server),
            _ => Err(Failure::wrong(format!(
                "{sentinel} names {server}, which is not a primary (yet)"
            ))),
        }
    }

    /// The slots of the cluster, as the first node that answers reports them.
    async fn ranges(&self, seeds: &[StateServer]) -> Result<Arc<[Range]>, Failure> {
        let mut slots = self.slots.lock().await;
        if !slots.is_empty() {
            return Ok(slots.clone());
        }
        let known: Vec<StateServer> = self.nodes().keys().cloned().collect();
        let mut failures = Vec::new();
        for server in known.iter().chain(seeds) {
            match self.ranges_by(server).await {
                Ok(ranges) => {
                    *slots = ranges.into();
                    return Ok(slots.clone());
                }
                Err(failure) => failures.push(failure.to_string()),
            }
        }
        let what = format!("no node of the cluster answers: {}", failures.join("; "));
        Err(Failure::passing(what, Remedy::Reconnect))
    }

    async fn ranges_by(&self, server: &StateServer) -> Result<Vec<Range>, Failure> {
        let node = self.node(server);
        let mut connection = self.line(&node, &node.common).await?.connection;
        let answer: Value = redis::cmd("CLUSTER")
            .arg("SLOTS")
            .query_async(&mut connection)
            .await
            .map_err(|error| Failure::of(server, &error))?;
        let ranges = ranges_of(&answer, server).ok_or_else(|| Failure::strange(&answer))?;
        if ranges.is_empty() {
            return Err(Failure::wrong(format!("{server} knows of no slots")));
        }
        Ok(ranges)
    }

    async fn forget_slots(&self) {
        *self.slots.lock().await = Arc::new([]);
    }

    /// Forgets the connection to `node`, unless it was made after `begun`. Also forgets the slots, and the primary if
    /// it is `node`.
    async fn forget(&self, node: &Node, care: Care, begun: Instant) {
        node.line(care).lock().await.take_if(|line| line.made <= begun);
        self.primary.lock().await.take_if(|primary| *primary == node.server);
        self.forget_slots().await;
    }

    // The connections.

    fn nodes(&self) -> MutexGuard<'_, HashMap<StateServer, Arc<Node>>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn node(&self, server: &StateServer) -> Arc<Node> {
        let new = || {
            Arc::new(Node {
                server: server.clone(),
                common: tokio::sync::Mutex::default(),
                durable: tokio::sync::Mutex::default(),
                waiting: Waiting::default(),
            })
        };
        self.nodes().entry(server.clone()).or_insert_with(new).clone()
    }

    /// The connection in `place`. If there is none, one caller makes it, and the others wait for it.
    async fn line(&self, node: &Node, place: &tokio::sync::Mutex<Option<Line>>) -> Result<Line, Failure> {
        let mut line = place.lock().await;
        if let Some(line) = &*line {
            return Ok(line.clone());
        }
        Ok(line.insert(self.connect(&node.server, Purpose::Records).await?).clone())
    }

    async fn connect(&self, server: &StateServer, purpose: Purpose) -> Result<Line, Failure> {
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
    async fn greet(&self, server: &StateServer, stream: Box<dyn Io>, purpose: Purpose) -> Result<Line, Failure> {
        let mut info = RedisConnectionInfo::default().set_skip_set_lib_name();
        // A Sentinel without a password would refuse ours, and the connection with it: Sentinels get it below.
        if let Some(password) = self.password.as_ref().filter(|_| purpose == Purpose::Records) {
            if let Some(user) = &self.url.user {
                info = info.set_username(user);
            }
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
        Ok(Line {
            connection,
            made: Instant::now(),
        })
    }
}

impl Node {
    fn line(&self, care: Care) -> &tokio::sync::Mutex<Option<Line>> {
        match care {
            Care::Light => &self.common,
            Care::Durable => &self.durable,
        }
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
