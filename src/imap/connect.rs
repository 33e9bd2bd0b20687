//! Connects to an upstream and logs in. Does not select a mailbox.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use dashmap::DashMap;

use super::{
    async_imap::Front,
    backoff::Backoff,
    capability::Capabilities,
    dial::Dialer,
    error::Error,
    io::Io,
    link::Link,
    login::{LoginSecret, LoginServer, authenticate},
    mailbox::require,
    meter::Meter,
    namespace::{Namespace, Namespaces},
    pause::Pause,
    quirks::Quirks,
    reader::Expect,
    sasl::Mechanism,
    slots::TrustLevel,
};
use crate::{
    config::{Auth, Credential, Preset, Upstream, UpstreamTls},
    oauth::{AccessToken, Tokens},
    quotas::{Quotas, Word},
    tls::{self, ClientStream},
};

/// Connects to one upstream, and remembers what was found out about its server.
#[derive(Debug)]
pub struct Connector {
    /// The NAME of `[upstream.NAME]`.
    upstream: String,
    /// See [`Upstream::server`].
    server: String,
    tokens: Arc<Tokens>,
    auth: Auth,
    /// See [`Connector::takes_tokens`].
    takes_tokens: AtomicBool,
    pub(super) dialer: Dialer,
    silence: Duration,
    compress: Compress,
    /// QRESYNC may be used if the server offers it.
    resync: bool,
    backoff: Arc<Backoff>,
    /// Tells other gateways of pauses; `None` if this one is alone.
    quotas: Option<Quotas>,
    quirks: Arc<Quirks>,
    namespaces: Arc<DashMap<String, Arc<Namespace>>>,
}

/// Which upstreams popgate asks to compress, if they offer it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compress {
    /// All except those on loopback, which is faster than any inflater.
    UnlessLoopback,
    #[cfg(test)]
    Always,
}

impl Compress {
    fn includes(self, peer: SocketAddr) -> bool {
        match self {
            Self::UnlessLoopback => !peer.ip().to_canonical().is_loopback(),
            #[cfg(test)]
            Self::Always => true,
        }
    }
}

/// A connection that the server has greeted; nobody has logged in on it.
#[derive(Debug)]
pub struct Greeted {
    pub(super) front: Front,
    pub(super) capabilities: Capabilities,
    /// The server's address; `None` if the connection goes through a proxy.
    peer: Option<SocketAddr>,
}

/// An authenticated connection on which no mailbox is selected yet.
#[derive(Debug)]
pub struct Connection {
    pub(super) link: Box<Link>,
    /// The capabilities that the server sent last.
    pub(super) capabilities: Capabilities,
    /// Whether the server sent `capabilities` after the login. It may send them along with its OK (RFC 3501 §6.2.2). If
    /// it does not, popgate must ask for them.
    pub(super) sent_after_login: bool,
    /// Whether to send COMPRESS, once nothing else waits to be sent.
    pub(super) compress: bool,
    /// QRESYNC may be used if the server offers it.
    pub(super) resync: bool,
    pub(super) quirks: Arc<Quirks>,
    pub(super) namespaces: Namespaces,
}

impl Connection {
    /// Whether the server offers `OBJECTID` (RFC 8474). If not, and if the server sent no capabilities after the login,
    /// asks for CAPABILITY: many servers offer more after the login, and the rule that names messages must not change
    /// from day to day.
    pub async fn has_object_id(&mut self) -> Result<bool, Error> {
        if !self.capabilities.object_id && !self.sent_after_login {
            let completions = self.link.flight(&["CAPABILITY"], Expect::default(), |_| {}).await?;
            require("CAPABILITY", completions.first())?;
            // A server that says OK and nothing else can still do what it offered before the login.
            self.capabilities = self.link.news().capabilities.take().unwrap_or(self.capabilities);
            self.sent_after_login = true;
        }
        Ok(self.capabilities.object_id)
    }
}

/// The data to log in once more if a connection is lost, or if the server closes it during a long listing.
#[derive(Debug, Clone, Copy)]
pub struct UpstreamLogin<'a> {
    /// Connects to the upstream.
    pub connector: &'a Connector,
    /// The user at the upstream. The login of the device may have another name.
    pub user: &'a str,
    /// The user's password or consent.
    pub credential: &'a Credential,
    /// Whether `credential` was accepted lately.
    pub trust: TrustLevel,
}

impl UpstreamLogin<'_> {
    /// Logs in on a new connection.
    pub async fn connect(&self) -> Result<Connection, Error> {
        self.connector.login(self.user, self.credential, self.trust).await
    }
}

impl Connector {
    /// A connector for `upstream`. `silence`: how long the server may say nothing while a command waits for it.
    /// `tokens`: the source of access tokens, shared by all upstreams. Errors name the `ca_file` that cannot be used.
    pub fn new(upstream: &Upstream, silence: Duration, tokens: Arc<Tokens>) -> Result<Self, tls::Error> {
        Ok(Self {
            upstream: upstream.name.clone(),
            server: upstream.server(),
            tokens,
            auth: upstream.auth,
            takes_tokens: AtomicBool::new(upstream.preset.is_some_and(Preset::takes_tokens)),
            dialer: Dialer::new(upstream, silence)?,
            silence,
            compress: Compress::UnlessLoopback,
            resync: !upstream.preset.is_some_and(|preset| preset.no_qresync),
            backoff: Arc::default(),
            quotas: None,
            quirks: Arc::new(Quirks::new(upstream.pipelining)),
            namespaces: Arc::default(),
        })
    }

    /// Tells other gateways of the pauses that the server asks for.
    pub fn sharing(self, quotas: Option<Quotas>) -> Self {
        Self { quotas, ..self }
    }

    /// Takes over what `before` has found out about the server, if both connect to the same server in the same way.
    pub fn succeeding(self, before: &Self) -> Self {
        if self.server != before.server {
            return self;
        }
        Self {
            takes_tokens: before.takes_tokens().into(),
            backoff: before.backoff.clone(),
            quirks: before.quirks.clone(),
            namespaces: before.namespaces.clone(),
            ..self
        }
    }

    /// Whether the server offers XOAUTH2 or OAUTHBEARER: as it said at the last try to log in or, before the first, as
    /// its preset says.
    pub fn takes_tokens(&self) -> bool {
        self.takes_tokens.load(Ordering::Relaxed)
    }

    /// Connects and logs in. Fails without asking the server if the server has asked logins with this `trust` for a
    /// pause that is not over.
    pub async fn login(&self, user: &str, credential: &Credential, trust: TrustLevel) -> Result<Connection, Error> {
        self.respect_pause(user, trust)?;
        let connection = match credential {
            Credential::Password(secret) => self.login_with(user, LoginSecret::Password(secret)).await,
            Credential::OAuth2 { consent } => self.login_by_token(user, consent).await,
            Credential::Token(token) => {
                let done = self.login_with(user, LoginSecret::Token(&token.clone().into())).await;
                done.map_err(Error::of_own_token)
            }
        };
        connection.inspect_err(|error| self.note_failure(user, trust, error))
    }

    /// How long the longest pause of any user still lasts; zero if there is none.
    pub fn pause(&self) -> Duration {
        self.backoff.longest()
    }

    /// How long logins of `user` with a stored credential must still wait; zero if they need not.
    pub fn pause_of(&self, user: &str) -> Duration {
        self.backoff.left(user, TrustLevel::Proven).unwrap_or_default()
    }

    /// Fails if the server has asked logins with this `trust` for a pause that is not over.
    pub(super) fn respect_pause(&self, user: &str, trust: TrustLevel) -> Result<(), Error> {
        match self.backoff.left(user, trust) {
            Some(left) => Err(Error::Paused(left)),
            None => Ok(()),
        }
    }

    /// If `error` says that `user` sends the server too many requests, begins a pause, in which logins as this user
    /// fail. If the login was a guess, only guesses fail.
    pub fn note_failure(&self, user: &str, trust: TrustLevel, error: &Error) {
        if let Some(pause) = error.pause() {
            let length = self.backoff.begin(user, trust, pause);
            if let Some((quotas, length)) = self.quotas.as_ref().zip(length) {
                quotas.tell(Word::Pause {
                    upstream: self.upstream.clone(),
                    user: user.to_owned(),
                    is_guess: trust == TrustLevel::Guess,
                    length,
                });
            }
        }
    }

    /// Begins a pause of `user` that the server has asked another gateway for.
    pub fn note_pause(&self, user: &str, is_guess: bool, length: Duration) {
        self.backoff.begin(user, TrustLevel::of(is_guess), Pause::For(length));
    }

    /// Ends the pause of `user`. Called once a folder was opened: a login alone does not show that the server serves
    /// the user again.
    pub fn note_success(&self, user: &str) {
        self.backoff.end(user);
    }

    /// An access token of the upstream's provider for `consent`.
    pub(super) async fn token(&self, consent: &str) -> Result<AccessToken, Error> {
        let consent = self.tokens.consent(&self.upstream, consent);
        Ok(self.tokens.access(&consent).await?)
    }

    async fn login_by_token(&self, user: &str, consent: &str) -> Result<Connection, Error> {
        let consent = self.tokens.consent(&self.upstream, consent);
        let token = self.tokens.access(&consent).await?;
        match self.login_with(user, LoginSecret::Token(&token)).await {
            // A token may expire early: its consent was renewed, or a clock is wrong.
            Err(Error::TokenRefused(completion)) => match self.tokens.access_after(&consent, &token).await? {
                other if other == token => Err(Error::TokenRefused(completion)),
                other => self.login_with(user, LoginSecret::Token(&other)).await,
            },
            done => done,
        }
    }

    async fn login_with(&self, user: &str, secret: LoginSecret<'_>) -> Result<Connection, Error> {
        let greeted = self.greet().await?;
        self.authenticate(greeted, user, secret).await
    }

    /// Logs in. Notes whether the server takes tokens, for [`Connector::takes_tokens`].
    pub(super) async fn authenticate(
        &self,
        greeted: Greeted,
        user: &str,
        secret: LoginSecret<'_>,
    ) -> Result<Connection, Error> {
        let Greeted {
            mut front,
            capabilities,
            peer,
        } = greeted;
        let takes_tokens = Mechanism::for_token(&capabilities).is_some();
        self.takes_tokens.store(takes_tokens, Ordering::Relaxed);
        let to = LoginServer {
            host: &self.dialer.host,
            port: self.dialer.port,
            capabilities,
            auth: self.auth,
            is_private: self.dialer.mode != UpstreamTls::Off
                || peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback()),
        };
        authenticate(&mut front, to, user, secret).await?;
        let sent = front.take_capabilities();
        let sent_after_login = sent.is_some();
        // If the server sent no capabilities with the login, the earlier ones are used: to ask here would cost one more
        // round trip.
        let capabilities = sent.unwrap_or(capabilities);
        let mut link = front.into_link();
        link.measure(Meter::new(self.upstream.as_str().into()));
        Ok(Connection {
            link,
            capabilities,
            sent_after_login,
            // A server behind a proxy counts as far away.
            compress: capabilities.compress_deflate && peer.is_none_or(|peer| self.compress.includes(peer)),
            resync: self.resync,
            quirks: self.quirks.clone(),
            namespaces: Namespaces::new(self.namespaces.clone(), user),
        })
    }

    async fn greet(&self) -> Result<Greeted, Error> {
        let (io, peer) = self.dialer.dial().await?;
        let greeted = self.read_greeting(io, peer).await?;
        if self.dialer.mode == UpstreamTls::StartTls {
            // This handshake is boxed for the same reason as the one in `Dialer::dial`.
            Ok(Box::pin(self.start_tls(greeted, |_| ())).await?.0)
        } else {
            Ok(greeted)
        }
    }

    /// Reads the greeting and the server's capabilities. `peer`: the server's address; `None` if the connection goes
    /// through a proxy.
    pub(super) async fn read_greeting(&self, io: Box<dyn Io>, peer: Option<SocketAddr>) -> Result<Greeted, Error> {
        let mut front = Front::greet(Link::new(io, self.silence)).await?;
        Ok(Greeted {
            capabilities: front.capabilities().await?,
            front,
            peer,
        })
    }

    /// Starts TLS (STARTTLS), and forgets the capabilities that were sent before it. Calls `read` with the stream after
    /// the handshake, and returns its result.
    pub(super) async fn start_tls<T>(
        &self,
        greeted: Greeted,
        read: impl FnOnce(&ClientStream<Box<dyn Io>>) -> T,
    ) -> Result<(Greeted, T), Error> {
        if !greeted.capabilities.start_tls {
            return Err(Error::NoStartTls);
        }
        let stream = self.dialer.secure(greeted.front.start_tls().await?).await?;
        let seen = read(&stream);
        let mut front = Front::secured(Link::new(Box::new(stream), self.silence));
        let greeted = Greeted {
            // RFC 3501 §6.2.1: capabilities that were sent before TLS must be forgotten.
            capabilities: front.capabilities().await?,
            front,
            peer: greeted.peer,
        };
        Ok((greeted, seen))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use flate2::{Compression, FlushCompress};
    use tokio::{
        io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::{
        config::{Auth, Config, Policy},
        imap::{Mailbox, Resync, Selection, Wanted, scene::play_with},
        types::{Uid, UidValidity},
    };

    const OFFER: &str = "CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR COMPRESS=DEFLATE";
    const SELECT: &[u8] = b"* 7 EXISTS\r\n* OK [UIDVALIDITY 9] ok\r\n";

    /// How the upstream of a test behaves.
    struct Server {
        listener: TcpListener,
        before_login: &'static str,
        /// The response code in the OK to the login.
        with_login: &'static str,
        /// The answer to COMPRESS, without its tag.
        compress: &'static str,
        preset: Option<&'static Preset>,
        /// What the server sends compressed, in one piece with the line end of that answer. Its further answers are
        /// compressed too.
        along: Option<&'static [u8]>,
    }

    impl Server {
        async fn new() -> Self {
            Self {
                listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
                before_login: "CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR",
                with_login: "",
                compress: "OK done",
                preset: None,
                along: None,
            }
        }

        /// Has a connector with this `compress` log in, select, list and send NOOP. Returns the commands without their
        /// tags, and the mailbox.
        async fn run(self, compress: Compress) -> (Vec<String>, Result<Mailbox, Error>) {
            let upstream = Upstream {
                name: "test".into(),
                host: "127.0.0.1".into(),
                port: self.listener.local_addr().unwrap().port(),
                tls: UpstreamTls::Off,
                ca_file: None,
                fingerprint: None,
                auth: Auth::Auto,
                proxy: None,
                pipelining: true,
                logins: Vec::new(),
                default_domain: None,
                connections_per_user: 1,
                preset: self.preset,
                oauth2: None,
                maildrop: Arc::new(Policy::default()),
            };
            let mut connector = Connector::new(&upstream, Duration::from_secs(20), Tokens::none()).unwrap();
            assert_eq!(connector.compress, Compress::UnlessLoopback);
            connector.compress = compress;
            let secret = Credential::Password("secret".into());
            let work = async {
                let connection = connector.login("user", &secret, TrustLevel::Proven).await?;
                let selection = Selection {
                    folder: "INBOX",
                    from: Uid(1),
                    wanted: Wanted::default(),
                    resync: Some(Resync {
                        uid_validity: UidValidity::of_server(9),
                        modseq: 1,
                    }),
                };
                let login = UpstreamLogin {
                    connector: &connector,
                    user: "user",
                    credential: &secret,
                    trust: TrustLevel::Proven,
                };
                let (mut mailbox, _) = connection.select(selection, login).await?;
                mailbox.noop().await?;
                Ok(mailbox)
            };
            tokio::join!(self.serve(), work)
        }

        async fn serve(self) -> Vec<String> {
            let (stream, _) = self.listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            let mut deflater = None;
            let mut commands = Vec::new();
            let mut out = format!("* OK [{}] hello\r\n", self.before_login).into_bytes();
            loop {
                stream.write_all(&out).await.unwrap();
                let received = match deflater {
                    None => {
                        let mut line = String::new();
                        stream.read_line(&mut line).await.unwrap();
                        line
                    }
                    Some(_) => stored(&mut stream).await,
                };
                if received.is_empty() {
                    return commands;
                }
                let mut answers = Vec::new();
                let mut along = None;
                for line in received.lines() {
                    let (tag, command) = line.split_once(' ').unwrap();
                    answers.extend(match command.split(' ').next() {
                        Some("AUTHENTICATE") => format!("{tag} OK {} done\r\n", self.with_login).into_bytes(),
                        Some("COMPRESS") => {
                            along = self.along;
                            format!("{tag} {}\r\n", self.compress).into_bytes()
                        }
                        Some("SELECT") => [SELECT, tag.as_bytes(), b" OK done\r\n"].concat(),
                        _ => format!("{tag} OK done\r\n").into_bytes(),
                    });
                    commands.push(command.to_owned());
                }
                out = match &mut deflater {
                    Some(deflater) => deflate(deflater, &answers),
                    None => answers,
                };
                if let Some(along) = along {
                    let deflater = deflater.insert(flate2::Compress::new(Compression::fast(), false));
                    out.extend(deflate(deflater, along));
                }
                if commands.last().is_some_and(|command| command == "NOOP") {
                    stream.write_all(&out).await.unwrap();
                    return commands;
                }
            }
        }
    }

    fn deflate(deflater: &mut flate2::Compress, octets: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(octets.len() + 64);
        deflater.compress_vec(octets, &mut out, FlushCompress::Sync).unwrap();
        out
    }

    /// Reads one command, which must come as a stored block (RFC 1951 §3.2.4).
    async fn stored(stream: &mut BufReader<TcpStream>) -> String {
        assert_eq!(stream.read_u8().await.unwrap(), 0);
        let length = stream.read_u16_le().await.unwrap();
        assert_eq!(stream.read_u16_le().await.unwrap(), !length);
        let mut data = vec![0; length.into()];
        stream.read_exact(&mut data).await.unwrap();
        String::from_utf8(data).unwrap()
    }

    /// The first word of each command, except of those that list.
    fn verbs(commands: &[String]) -> Vec<&str> {
        let words = commands.iter().filter_map(|command| command.split(' ').next());
        words.filter(|&word| word != "UID").collect()
    }

    #[tokio::test]
    async fn compressed_from_the_oks_line_end_on() {
        for along in [&b""[..], b"* OK still here\r\n", b"* 3 EXISTS\r\n* OK and more\r\n"] {
            let mut server = Server::new().await;
            server.with_login = "[CAPABILITY IMAP4rev1 COMPRESS=DEFLATE]";
            server.along = Some(along);
            let (commands, mailbox) = server.run(Compress::Always).await;
            assert_eq!(verbs(&commands), ["AUTHENTICATE", "SELECT", "COMPRESS", "NOOP"]);
            assert_eq!(
                commands[4], "COMPRESS DEFLATE",
                "after the listing, before anything else"
            );
            assert_eq!(mailbox.unwrap().selected().uid_validity.number(), 9);
        }
    }

    #[tokio::test]
    async fn an_offer_before_login_counts_where_none_came_after() {
        let mut server = Server::new().await;
        server.before_login = OFFER;
        server.along = Some(b"");
        let (commands, mailbox) = server.run(Compress::Always).await;
        assert!(verbs(&commands).ends_with(&["COMPRESS", "NOOP"]));
        mailbox.unwrap();
    }

    #[tokio::test]
    async fn what_was_sent_after_login_holds() {
        let mut server = Server::new().await;
        server.before_login = OFFER;
        server.with_login = "[CAPABILITY IMAP4rev1]";
        let (commands, mailbox) = server.run(Compress::Always).await;
        assert_eq!(verbs(&commands), ["AUTHENTICATE", "SELECT", "NOOP"]);
        mailbox.unwrap();
    }

    #[tokio::test]
    async fn what_was_offered_before_login_counts_if_the_server_does_not_answer() {
        for (answer, uid_plus, object_id) in [
            ("{tag} OK\r\n", true, false),
            ("* CAPABILITY OBJECTID\r\n{tag} OK\r\n", false, true),
        ] {
            let answer = |_: &str| answer.to_owned();
            let (commands, can) = play_with("UIDPLUS MOVE", 0, answer, async |mailbox: Mailbox| {
                let mut connection = Connection {
                    link: mailbox.link,
                    capabilities: mailbox.capabilities,
                    sent_after_login: false,
                    compress: false,
                    resync: false,
                    quirks: mailbox.quirks,
                    namespaces: mailbox.namespaces,
                };
                let has_object_id = connection.has_object_id().await.unwrap();
                assert_eq!(has_object_id, connection.has_object_id().await.unwrap());
                (connection.capabilities.uid_plus, has_object_id)
            })
            .await;
            assert_eq!(can, (uid_plus, object_id));
            assert_eq!(commands, ["CAPABILITY"]);
        }
    }

    #[tokio::test]
    async fn a_refusal_is_no_error() {
        for refusal in ["NO [COMPRESSIONACTIVE] by TLS", "BAD what?"] {
            let mut server = Server::new().await;
            server.with_login = "[CAPABILITY IMAP4rev1 COMPRESS=DEFLATE]";
            server.compress = refusal;
            let (commands, mailbox) = server.run(Compress::Always).await;
            assert_eq!(verbs(&commands), ["AUTHENTICATE", "SELECT", "COMPRESS", "NOOP"]);
            mailbox.unwrap();
        }
    }

    #[tokio::test]
    async fn qresync_where_it_is_offered_and_may_be_used() {
        let text = "[upstream.cloud]\npreset = \"icloud\"\nlogins = [\"*\"]\n";
        let config = Config::parse(text, std::path::Path::new("")).unwrap();
        for (preset, expected) in [
            (None, "ENABLE QRESYNC, SELECT \"INBOX\" (QRESYNC (9 1))"),
            (config.upstreams[0].preset, "SELECT \"INBOX\""),
        ] {
            let mut server = Server::new().await;
            server.with_login = "[CAPABILITY IMAP4rev1 QRESYNC]";
            server.preset = preset;
            let (commands, mailbox) = server.run(Compress::UnlessLoopback).await;
            let is_select = |command: &&String| command.starts_with("ENABLE") || command.starts_with("SELECT");
            let selects: Vec<_> = commands.iter().filter(is_select).map(String::as_str).collect();
            assert_eq!(selects.join(", "), expected);
            mailbox.unwrap();
        }
    }

    #[tokio::test]
    async fn never_on_loopback() {
        let mut server = Server::new().await;
        server.with_login = "[CAPABILITY IMAP4rev1 COMPRESS=DEFLATE]";
        let (commands, mailbox) = server.run(Compress::UnlessLoopback).await;
        assert_eq!(verbs(&commands), ["AUTHENTICATE", "SELECT", "NOOP"]);
        mailbox.unwrap();
        for (peer, included) in [
            ("127.9.9.9:143", false),
            ("[::1]:143", false),
            ("[::ffff:127.0.0.1]:143", false),
            ("192.168.1.2:143", true),
            ("[2001:db8::1]:143", true),
        ] {
            assert_eq!(
                Compress::UnlessLoopback.includes(peer.parse().unwrap()),
                included,
                "{peer}"
            );
        }
    }
}
