//! From a host name to an authenticated connection.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use async_imap::Client;
use tokio::{net::TcpStream, time::timeout};

use super::{
    backoff::Backoff,
    capability::Capabilities,
    error::Error,
    login::{Proof, Server, authenticate},
    share::Standing,
    wire::{Io, Wire},
};
use crate::{
    config::{Credential, Upstream, UpstreamTls},
    oauth::Tokens,
    tls,
};

/// Reaches one upstream host.
#[derive(Debug)]
pub struct Connector {
    /// `[upstream.NAME]`
    upstream: String,
    tokens: Arc<Tokens>,
    host: String,
    port: u16,
    mode: UpstreamTls,
    tls: tls::Connector,
    silence: Duration,
    compress: Compress,
    /// Where QRESYNC is offered, it may be used.
    resync: bool,
    backoff: Backoff,
}

/// Which upstreams are asked to compress, if they offer it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compress {
    /// Loopback is faster than any inflater.
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

/// An authenticated connection, no mailbox selected yet.
#[derive(Debug)]
pub struct Connection {
    pub(super) client: Client<Wire>,
    /// As told last.
    pub(super) capabilities: Capabilities,
    /// Whether that was after login: a server may tell them along with its OK (RFC 3501 §6.2.2), else it is to be asked.
    pub(super) told_after_login: bool,
    /// COMPRESS is to be asked for, once nothing else waits to be sent.
    pub(super) compress: bool,
    /// Where QRESYNC is offered, it may be used.
    pub(super) resync: bool,
}

impl Connection {
    /// `OBJECTID` (RFC 8474). Where nothing was told after login the server is asked, for what it told before may be less, and
    /// messages must not be named by one rule today and by another tomorrow.
    pub async fn has_object_id(&mut self) -> Result<bool, Error> {
        if !self.capabilities.object_id && !self.told_after_login {
            self.capabilities = capabilities(&mut self.client).await?;
            self.told_after_login = true;
        }
        Ok(self.capabilities.object_id)
    }
}

impl Connector {
    /// `silence`: how long the upstream may keep us waiting inside a command; `tokens`: those of `upstream`, where it takes
    /// some. Errors name the `ca_file` at fault.
    pub fn new(upstream: &Upstream, silence: Duration, tokens: Arc<Tokens>) -> Result<Self, tls::Error> {
        Ok(Self {
            upstream: upstream.name.clone(),
            tokens,
            host: upstream.host.clone(),
            port: upstream.port,
            mode: upstream.tls,
            tls: tls::Connector::new(upstream.ca_file.as_deref())?,
            silence,
            compress: Compress::UnlessLoopback,
            resync: !upstream.preset.is_some_and(|preset| preset.no_qresync),
            backoff: Backoff::default(),
        })
    }

    /// Connects, reads the greeting and secures the connection, without logging in.
    pub async fn probe(&self) -> Result<(), Error> {
        self.greet().await.map(|_| ())
    }

    /// Connects and logs in. Fails without asking the server if it has asked logins of this `standing` for a pause that is not
    /// over.
    pub async fn login(&self, user: &str, credential: &Credential, standing: Standing) -> Result<Connection, Error> {
        if let Some(left) = self.backoff.left(user, standing) {
            return Err(Error::Paused(left));
        }
        let connection = match credential {
            Credential::Password(secret) => self.login_with(user, Proof::Password(secret)).await,
            Credential::OAuth2 { consent } => self.login_by_token(user, consent).await,
        };
        connection.inspect_err(|error| self.heed(user, standing, error))
    }

    /// If `error` tells that the server is asked too much by `user`, that user's next logins wait; after a guess only guesses.
    pub fn heed(&self, user: &str, standing: Standing, error: &Error) {
        if let Some(pause) = error.pause() {
            self.backoff.begin(user, standing, pause);
        }
    }

    /// The server serves `user`, beyond login.
    pub fn note_success(&self, user: &str) {
        self.backoff.end(user);
    }

    async fn login_by_token(&self, user: &str, consent: &str) -> Result<Connection, Error> {
        let consent = self.tokens.consent(&self.upstream, consent);
        let token = self.tokens.access(&consent).await?;
        match self.login_with(user, Proof::Token(&token)).await {
            // A token may end before its time: its consent was renewed, or a clock is wrong.
            Err(Error::TokenRefused(completion)) => match self.tokens.access_after(&consent, &token).await? {
                other if other == token => Err(Error::TokenRefused(completion)),
                other => self.login_with(user, Proof::Token(&other)).await,
            },
            done => done,
        }
    }

    async fn login_with(&self, user: &str, proof: Proof<'_>) -> Result<Connection, Error> {
        let (mut client, capabilities, peer) = self.greet().await?;
        let to = Server {
            host: &self.host,
            port: self.port,
            capabilities,
        };
        authenticate(&mut client, to, user, proof).await?;
        let told = client.get_mut().seen().capabilities.take();
        let told_after_login = told.is_some();
        // Those told before login have to do where no others came along: asking first would cost a round trip more.
        let capabilities = told.unwrap_or(capabilities);
        Ok(Connection {
            client,
            capabilities,
            told_after_login,
            compress: capabilities.compress_deflate && self.compress.includes(peer),
            resync: self.resync,
        })
    }

    async fn greet(&self) -> Result<(Client<Wire>, Capabilities, SocketAddr), Error> {
        let tcp = self.within(TcpStream::connect((self.host.as_str(), self.port))).await?;
        let peer = tcp.peer_addr().map_err(Error::Connect)?;
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
        Ok((client, capabilities, peer))
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

/// Runs a command by async-imap. The wire has seen how it ended, with its response code.
pub(super) async fn run(client: &mut Client<Wire>, name: &'static str, command: &str) -> Result<(), Error> {
    let result = client.run_command_and_check_ok(command, None).await;
    let completion = client.get_mut().seen().completion.take();
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use flate2::{Compression, FlushCompress};
    use tokio::{
        io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
        net::TcpListener,
    };

    use super::*;
    use crate::{
        config::{Auth, Config, Policy, Preset},
        imap::{Mailbox, Resync, Uid, Wanted},
    };

    const OFFER: &str = "CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR COMPRESS=DEFLATE";
    const SELECT: &[u8] = b"* 7 EXISTS\r\n* OK [UIDVALIDITY 9] ok\r\n";

    /// How the upstream of a test behaves.
    struct Server {
        listener: TcpListener,
        before_login: &'static str,
        /// A response code of login's OK.
        with_login: &'static str,
        /// The answer to COMPRESS, less its tag.
        compress: &'static str,
        preset: Option<&'static Preset>,
        /// What follows that answer's line end, compressed, in the same piece; the answers to come are then compressed too.
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

        /// Serves one login, SELECT, listing and NOOP while `compress` makes them; returns the commands, less their tags.
        async fn visit(self, compress: Compress) -> (Vec<String>, Result<Mailbox, Error>) {
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
                let connection = connector.login("user", &secret, Standing::Proven).await?;
                let resync = Resync {
                    uid_validity: 9,
                    modseq: 1,
                };
                let (mut mailbox, _) = connection
                    .select("INBOX", Uid(1), Wanted::default(), Some(resync))
                    .await?;
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

    /// One command that came as a stored block (RFC 1951 §3.2.4).
    async fn stored(stream: &mut BufReader<TcpStream>) -> String {
        assert_eq!(stream.read_u8().await.unwrap(), 0);
        let length = stream.read_u16_le().await.unwrap();
        assert_eq!(stream.read_u16_le().await.unwrap(), !length);
        let mut data = vec![0; length.into()];
        stream.read_exact(&mut data).await.unwrap();
        String::from_utf8(data).unwrap()
    }

    /// The commands' first words, less those that list.
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
            let (commands, mailbox) = server.visit(Compress::Always).await;
            assert_eq!(verbs(&commands), ["AUTHENTICATE", "SELECT", "COMPRESS", "NOOP"]);
            assert_eq!(
                commands[4], "COMPRESS DEFLATE",
                "after the listing, before anything else"
            );
            assert_eq!(mailbox.unwrap().selected().uid_validity.0.get(), 9);
        }
    }

    #[tokio::test]
    async fn an_offer_before_login_counts_where_none_came_after() {
        let mut server = Server::new().await;
        server.before_login = OFFER;
        server.along = Some(b"");
        let (commands, mailbox) = server.visit(Compress::Always).await;
        assert!(verbs(&commands).ends_with(&["COMPRESS", "NOOP"]));
        mailbox.unwrap();
    }

    #[tokio::test]
    async fn what_was_told_after_login_holds() {
        let mut server = Server::new().await;
        server.before_login = OFFER;
        server.with_login = "[CAPABILITY IMAP4rev1]";
        let (commands, mailbox) = server.visit(Compress::Always).await;
        assert_eq!(verbs(&commands), ["AUTHENTICATE", "SELECT", "NOOP"]);
        mailbox.unwrap();
    }

    #[tokio::test]
    async fn a_refusal_is_no_error() {
        for refusal in ["NO [COMPRESSIONACTIVE] by TLS", "BAD what?"] {
            let mut server = Server::new().await;
            server.with_login = "[CAPABILITY IMAP4rev1 COMPRESS=DEFLATE]";
            server.compress = refusal;
            let (commands, mailbox) = server.visit(Compress::Always).await;
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
            let (commands, mailbox) = server.visit(Compress::UnlessLoopback).await;
            let is_meant = |command: &&String| command.starts_with("ENABLE") || command.starts_with("SELECT");
            let meant: Vec<_> = commands.iter().filter(is_meant).map(String::as_str).collect();
            assert_eq!(meant.join(", "), expected);
            mailbox.unwrap();
        }
    }

    #[tokio::test]
    async fn never_on_loopback() {
        let mut server = Server::new().await;
        server.with_login = "[CAPABILITY IMAP4rev1 COMPRESS=DEFLATE]";
        let (commands, mailbox) = server.visit(Compress::UnlessLoopback).await;
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
