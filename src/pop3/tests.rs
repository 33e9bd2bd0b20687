//! Sessions over an in-memory stream, up to the login: what comes after needs an upstream (`tests/`).

use std::{
    io,
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex, join},
    time::timeout,
};

use super::{
    Service,
    newcomers::Newcomers,
    permits::{Permit, Permits},
    session::{self, Endpoint, Stop},
    summary::Summary,
};
use crate::{
    accounts::Accounts,
    config::{Certificate, ClientCertificates, Config, Limits, ListenerTls, Log, LogFormat, Notify, State},
    maildrop::Maildrops,
    telemetry::{
        polls,
        trace::{self, Tracer},
    },
    tls::{Acceptor, Connector},
};

const PEER: ([u8; 4], u16) = ([127, 0, 0, 1], 4000);
const GREETING: &str = "+OK popgate ready\r\n";

pub(crate) fn limits() -> Limits {
    Limits {
        sessions: 10,
        sessions_per_address: 10,
        unauthenticated: 10,
        unauthenticated_per_address: 10,
        login: Duration::from_secs(60),
        idle: Duration::from_secs(600),
        session: Duration::from_secs(4 * 3600),
        upstream: Duration::from_secs(30),
        bad_commands: 20,
        read_ahead: 0,
        parked_for: Duration::ZERO,
        parked: 10_000,
        drain: Duration::from_secs(20),
    }
}

/// `message` in pieces that end at `cuts`. The cuts may come in any order; a cut beyond the end is one at the end.
pub(super) fn cut(message: &[u8], cuts: Vec<usize>) -> Vec<&[u8]> {
    let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(message.len())).collect();
    cuts.extend([0, message.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|cut| &message[cut[0]..cut[1]]).collect()
}

/// A configuration without upstreams or accounts: every login is wrong.
pub(crate) fn config(limits: Limits) -> Config {
    Config {
        state: State::default(),
        log: Log {
            format: LogFormat::Text,
            level: "info".into(),
        },
        limits,
        web: None,
        notify: Notify::default(),
        tls: Vec::new(),
        listeners: Vec::new(),
        upstreams: Vec::new(),
        accounts: [].into(),
    }
}

fn service(limits: Limits) -> Arc<Service> {
    let config = config(limits);
    Arc::new(Service {
        accounts: Accounts::new(&config).unwrap(),
        maildrops: Maildrops::in_memory(&config),
        limits: config.limits,
    })
}

fn plain() -> Endpoint {
    Endpoint {
        tls: ListenerTls::Off,
        require_tls: false,
        apop: false,
        acceptor: None,
    }
}

/// A device's end of a session that runs in a task of its own.
fn connect(endpoint: Endpoint, limits: Limits, buffer: usize) -> (DuplexStream, Stop) {
    connect_to(service(limits), endpoint, buffer)
}

fn connect_to(service: Arc<Service>, endpoint: Endpoint, buffer: usize) -> (DuplexStream, Stop) {
    let (device, ours) = duplex(buffer);
    let stop = Stop::default();
    let summary = Summary::new(SocketAddr::from(PEER), "test".into());
    let id = summary.id();
    let session = session::run(
        ours,
        summary,
        Permits::new(&service.limits).acquire(PEER.0.into()).unwrap(),
        Newcomers::new(&service.limits).enter(PEER.0.into()),
        Arc::new(endpoint),
        service,
        stop.clone(),
    );
    tokio::spawn(trace::session(id, session));
    (device, stop)
}

/// Sends everything at once, then reads until the session ends. The greeting is verified and removed.
async fn talk_to(endpoint: Endpoint, limits: Limits, script: &[u8]) -> String {
    let (mut device, _) = connect(endpoint, limits, 1 << 20);
    device.write_all(script).await.unwrap();
    device.shutdown().await.unwrap();
    let replies = rest(&mut device).await;
    replies.strip_prefix(GREETING).expect("the greeting").into()
}

async fn talk(script: &[u8]) -> String {
    talk_to(plain(), limits(), script).await
}

async fn rest(device: &mut DuplexStream) -> String {
    let mut replies = String::new();
    device.read_to_string(&mut replies).await.unwrap();
    replies
}

async fn read_exactly(device: &mut (impl AsyncReadExt + Unpin), expected: &str) {
    let mut octets = vec![0; expected.len()];
    device.read_exact(&mut octets).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&octets), expected);
}

#[tokio::test]
async fn pipelined_commands_are_answered_in_order() {
    assert_eq!(
        talk(b"quux\r\nSTAT\nUSER a b\r\nx\r\nuser c \r\nQUIT\r\nNOOP\r\n").await,
        "-ERR unknown command\r\n-ERR not in this state\r\n+OK send PASS\r\n-ERR unknown command\r\n+OK send PASS\r\n\
         +OK bye\r\n"
    );
}

#[tokio::test]
async fn a_wrong_password_leaves_the_session_where_it_was() {
    assert_eq!(
        talk(b"PASS x\r\nUSER joe\r\nPASS x\r\nPASS x\r\nUSER joe\r\nPASS x\r\nAUTH PLAIN AGpvZQB4\r\n").await,
        "-ERR send USER first\r\n+OK send PASS\r\n-ERR [AUTH] wrong login or password\r\n-ERR send USER first\r\n\
         +OK send PASS\r\n-ERR [AUTH] wrong login or password\r\n-ERR [AUTH] wrong login or password\r\n"
    );
}

/// A device may leave out the domain, or name a folder. A log line shows only the start of a long login.
#[tokio::test(start_paused = true)]
async fn failures_and_traces_are_of_the_login_however_it_is_written() {
    let long = "spelled-".repeat(20);
    let long = long.as_str();
    let mut text = "[upstream.home]\nhost = \"127.0.0.1\"\nport = 1\ntls = \"off\"\n\
                    default_domain = \"spelled.example\"\nmaildrop = { folder_separator = \"+\" }\n"
        .to_owned();
    for login in ["eva@spelled.example", "spelled-fax", long] {
        text += &format!(
            "[[account]]\nlogin = \"{login}\"\npassword = \"right\"\nupstream = \"home\"\n\
             upstream_password = \"p\"\n"
        );
    }
    let config = Config::parse(&text, Path::new("")).unwrap();
    let service = Arc::new(Service {
        accounts: Accounts::new(&config).unwrap(),
        maildrops: Maildrops::in_memory(&config),
        limits: limits(),
    });
    for (given, login) in [
        ("eva", "eva@spelled.example"),
        ("spelled-fax+Bills", "spelled-fax"),
        (long, long),
    ] {
        polls().expect([login]);
        let mut tracer = Tracer::new(login);
        let (mut device, _) = connect_to(service.clone(), plain(), 1 << 20);
        let script = format!("USER {given}\r\nPASS wrong\r\nQUIT\r\n");
        device.write_all(script.as_bytes()).await.unwrap();
        let replies = rest(&mut device).await;
        assert!(replies.contains("-ERR [AUTH] "), "{given}: {replies}");
        assert!(polls().of(login).is_failing(), "{given}");
        let traced = timeout(Duration::from_secs(1), tracer.next()).await;
        assert!(traced.unwrap().unwrap().text.starts_with("a login as "), "{given}");
    }
}

#[tokio::test]
async fn auth_with_and_without_initial_response() {
    assert_eq!(talk(b"AUTH\r\n").await, "+OK list follows\r\nPLAIN\r\nLOGIN\r\n.\r\n");
    let wrong = "-ERR [AUTH] wrong login or password\r\n";
    for (script, expected) in [
        ("auth plain\r\nAGpvZQB4 \r\n", format!("+ \r\n{wrong}")),
        (
            "AUTH LOGIN\r\nam9l\r\neA==\r\n",
            format!("+ VXNlcm5hbWU6\r\n+ UGFzc3dvcmQ6\r\n{wrong}"),
        ),
        ("AUTH LOGIN am9l\r\neA==\r\n", format!("+ UGFzc3dvcmQ6\r\n{wrong}")),
        ("AUTH PLAIN am9lAGpvZQB4\r\n", wrong.into()),
        (
            "AUTH PLAIN cm9vdABqb2UAeA==\r\n",
            "-ERR authorization identity must equal the login\r\n".into(),
        ),
        ("AUTH PLAIN =\r\n", "-ERR not a response of this mechanism\r\n".into()),
        ("AUTH PLAIN\r\n*\r\n", "+ \r\n-ERR authentication cancelled\r\n".into()),
        ("AUTH PLAIN\r\n$$$\r\n", "+ \r\n-ERR not base64\r\n".into()),
        (
            "AUTH LOGIN am9l\r\n*\r\n",
            "+ UGFzc3dvcmQ6\r\n-ERR authentication cancelled\r\n".into(),
        ),
        ("AUTH CRAM-MD5\r\n", "-ERR unknown mechanism\r\n".into()),
        ("AUTH SCRAM-SHA-256\r\n", "-ERR unknown mechanism\r\n".into()),
        ("AUTH XOAUTH2\r\n", "-ERR unknown mechanism\r\n".into()),
        (
            "APOP joe 0123456789abcdef0123456789abcdef\r\n",
            "-ERR unknown command\r\n".into(),
        ),
    ] {
        // What follows is read as a command again.
        let replies = talk(format!("{script}NOOP\r\n").as_bytes()).await;
        assert_eq!(replies, format!("{expected}-ERR not in this state\r\n"), "{script}");
    }
}

const CAPABILITIES: &str = "+OK list follows\r\nTOP\r\nUIDL\r\nUSER\r\nSASL PLAIN LOGIN\r\nRESP-CODES\r\n\
                            AUTH-RESP-CODE\r\nPIPELINING\r\nEXPIRE NEVER\r\nUTF8\r\nLANG\r\nIMPLEMENTATION popgate\r\n.\r\n";

#[tokio::test]
async fn capabilities_say_what_works() {
    assert_eq!(talk(b"CAPA\r\n").await, CAPABILITIES);
    assert_eq!(talk(b"STLS\r\n").await, "-ERR no TLS to begin here\r\n");

    let starttls = |require_tls| Endpoint {
        tls: ListenerTls::StartTls,
        require_tls,
        apop: false,
        acceptor: None,
    };
    let with_stls = CAPABILITIES.replace("PIPELINING\r\n", "PIPELINING\r\nSTLS\r\n");
    assert_eq!(talk_to(starttls(false), limits(), b"CAPA\r\n").await, with_stls);
    let replies = talk_to(
        starttls(true),
        limits(),
        b"CAPA\r\nUSER a\r\nPASS b\r\nAUTH\r\nAUTH PLAIN\r\n",
    )
    .await;
    assert_eq!(
        replies,
        with_stls.replace("USER\r\nSASL PLAIN LOGIN\r\n", "") + &"-ERR send STLS first\r\n".repeat(4)
    );
}

#[tokio::test]
async fn empty_lines_between_commands_are_ignored() {
    let limits = Limits {
        bad_commands: 2,
        ..limits()
    };
    let script = b"\r\n\n \t\r\nUSER joe\r\n\r\n\r\n\r\nPASS x\r\n\r\nQUIT\r\n";
    assert_eq!(
        talk_to(plain(), limits, script).await,
        "+OK send PASS\r\n-ERR [AUTH] wrong login or password\r\n+OK bye\r\n"
    );
    // Within an exchange an empty line is a response.
    assert_eq!(
        talk(b"AUTH PLAIN\r\n\r\nQUIT\r\n").await,
        "+ \r\n-ERR not a response of this mechanism\r\n+OK bye\r\n"
    );
}

/// RFC 6856 §2.1, §3
#[tokio::test]
async fn utf8_and_lang() {
    assert_eq!(
        talk(b"UTF8\r\nUTF8 x\r\nLANG\r\nlang en-US\r\nLANG i-default\r\nLANG *\r\nLANG fr\r\n").await,
        "+OK\r\n-ERR wrong arguments\r\n+OK list follows\r\nen English\r\n.\r\n+OK en English\r\n\
         +OK i-default English\r\n+OK en English\r\n-ERR no such language\r\n"
    );
    assert_eq!(
        talk(b"LAST\r\nXTND XLST Subject\r\n").await,
        "-ERR not in this state\r\n".repeat(2)
    );
}

#[tokio::test]
async fn lines_have_caps() {
    for (line, end) in [
        (
            format!("USER {}", "x".repeat(2043)),
            "+OK send PASS\r\n-ERR not in this state\r\n",
        ),
        (format!("USER {}", "x".repeat(2044)), "-ERR line too long\r\n"),
        (
            format!("AUTH PLAIN {}", "A".repeat(12276)),
            "-ERR not a response of this mechanism\r\n-ERR not in this state\r\n",
        ),
        (format!("AUTH PLAIN {}", "A".repeat(12278)), "-ERR line too long\r\n"),
        (
            format!("AUTH PLAIN\r\n{}", "A".repeat(12288)),
            "+ \r\n-ERR not a response of this mechanism\r\n-ERR not in this state\r\n",
        ),
        (
            format!("AUTH PLAIN\r\n{}", "A".repeat(12289)),
            "+ \r\n-ERR line too long\r\n",
        ),
        (
            format!("USER joe\r\n{}", "x".repeat(500_000)),
            "+OK send PASS\r\n-ERR line too long\r\n",
        ),
    ] {
        assert_eq!(
            talk(format!("{line}\r\nNOOP\r\n").as_bytes()).await,
            end,
            "{:.20}",
            line
        );
    }
}

#[tokio::test]
async fn a_line_too_long_is_refused_before_it_ends() {
    let (mut device, _) = connect(plain(), limits(), 1 << 20);
    device.write_all(&[b'x'; 2050]).await.unwrap();
    read_exactly(&mut device, &format!("{GREETING}-ERR line too long\r\n")).await;
}

#[tokio::test]
async fn too_many_bad_commands_end_the_session() {
    let limits = Limits {
        bad_commands: 3,
        ..limits()
    };
    assert_eq!(
        talk_to(plain(), limits, b"x\r\nCAPA\r\nUSER a\r\nPASS b\r\nRETR 0\r\nQUIT\r\n").await,
        format!(
            "-ERR unknown command\r\n{CAPABILITIES}+OK send PASS\r\n-ERR [AUTH] wrong login or password\r\n\
             -ERR too many bad commands\r\n"
        )
    );
}

#[tokio::test(start_paused = true)]
async fn who_does_not_log_in_is_dropped_without_a_reply() {
    let (mut device, _) = connect(plain(), limits(), 1024);
    let started = tokio::time::Instant::now();
    device.write_all(b"CAP").await.unwrap();
    assert_eq!(rest(&mut device).await, GREETING);
    assert_eq!(started.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_finish_a_line_is_idle() {
    let limits = Limits {
        login: Duration::from_secs(7200),
        ..limits()
    };
    let (mut device, _) = connect(plain(), limits, 1024);
    read_exactly(&mut device, GREETING).await;
    let started = tokio::time::Instant::now();
    for _ in 0..5 {
        device.write_all(b"x").await.unwrap();
        tokio::time::advance(Duration::from_secs(100)).await;
    }
    assert_eq!(rest(&mut device).await, "");
    assert_eq!(started.elapsed().as_secs(), 600);
}

/// Nothing is gathered for a device that has not logged in: what it sends is not even read while it does not read.
#[tokio::test(start_paused = true)]
async fn who_does_not_read_is_dropped_within_a_minute() {
    let limits = Limits {
        login: Duration::from_secs(7200),
        ..limits()
    };
    let (mut device, _) = connect(plain(), limits, 64);
    let started = tokio::time::Instant::now();
    let mut taken = 0;
    // The other end closes while its output is stuck: the next write fails.
    while device.write_all(b"CAPA\r\n").await.is_ok() {
        taken += 1;
    }
    assert_eq!(started.elapsed().as_secs(), 60);
    assert!(taken < 200, "{taken} commands");
}

#[tokio::test(start_paused = true)]
async fn who_asks_without_end_is_answered_a_kilobyte_at_a_time() {
    let (mut device, _) = connect(plain(), limits(), 1 << 20);
    let started = tokio::time::Instant::now();
    device.write_all(&b"CAPA\r\n".repeat(100)).await.unwrap();
    read_exactly(&mut device, &(GREETING.to_owned() + &CAPABILITIES.repeat(100))).await;
    let blocks = 100 * CAPABILITIES.len() as u128 / 1024;
    let waited = started.elapsed().as_millis();
    // A block ends with a whole reply, so it may be somewhat larger.
    assert!((blocks * 65..blocks * 110).contains(&waited), "{waited} ms");
}

/// The last reply may wait for a device that does not read, but not for long.
#[tokio::test(start_paused = true)]
async fn a_farewell_that_nobody_reads_is_short() {
    let limits = Limits {
        bad_commands: 3,
        ..limits()
    };
    for last in [&b"QUIT\r\n"[..], b"x\r\nx\r\nx\r\n"] {
        let (mut device, _) = connect(plain(), limits.clone(), 64);
        let started = tokio::time::Instant::now();
        read_exactly(&mut device, GREETING).await;
        // The session may end before all of it is read.
        let _ = device.write_all(&[b"CAPA\r\n", last].concat()).await;
        while device.write_all(b"x").await.is_ok() {}
        assert_eq!(started.elapsed().as_secs(), 2, "{}", last.escape_ascii());
    }
}

#[tokio::test]
async fn shutdown_ends_the_wait_for_a_command() {
    let (mut device, stop) = connect(plain(), limits(), 1024);
    read_exactly(&mut device, GREETING).await;
    stop.newcomers_over.cancel();
    assert_eq!(rest(&mut device).await, "");
}

fn certificate() -> (tempfile::TempDir, Arc<Acceptor>, Connector) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let files = Certificate {
        certificate: dir.path().join("certificate.pem"),
        key: dir.path().join("key.pem"),
        names: None,
        client_ca: None,
    };
    std::fs::write(&files.certificate, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    let acceptor = Acceptor::load(std::slice::from_ref(&files), ClientCertificates::Off, None).unwrap();
    let connector = Connector::new(Some(&files.certificate)).unwrap();
    (dir, Arc::new(acceptor), connector)
}

#[tokio::test]
async fn stls_forgets_what_came_in_plain_text() {
    let (_dir, acceptor, connector) = certificate();
    let endpoint = Endpoint {
        tls: ListenerTls::StartTls,
        require_tls: true,
        apop: false,
        acceptor: Some(acceptor),
    };
    let (mut device, _) = connect(endpoint, limits(), 1 << 16);
    device
        .write_all(b"NOOP\r\nSTLS\r\nUSER injected\r\nCAPA\r\nQUI")
        .await
        .unwrap();
    read_exactly(
        &mut device,
        &format!("{GREETING}-ERR not in this state\r\n+OK begin TLS\r\n"),
    )
    .await;
    let mut device = connector.connect("localhost", device).await.unwrap();
    device.write_all(b"PASS x\r\nCAPA\r\nSTLS\r\nQUIT\r\n").await.unwrap();
    let mut replies = String::new();
    device.read_to_string(&mut replies).await.unwrap();
    assert_eq!(
        replies,
        format!("-ERR send USER first\r\n{CAPABILITIES}-ERR no TLS to begin here\r\n+OK bye\r\n")
    );
}

#[tokio::test]
async fn stls_forgets_the_user() {
    let (_dir, acceptor, connector) = certificate();
    let endpoint = Endpoint {
        tls: ListenerTls::StartTls,
        require_tls: false,
        apop: false,
        acceptor: Some(acceptor),
    };
    let (mut device, _) = connect(endpoint, limits(), 1 << 16);
    device.write_all(b"USER joe\r\nSTLS\r\n").await.unwrap();
    read_exactly(&mut device, &format!("{GREETING}+OK send PASS\r\n+OK begin TLS\r\n")).await;
    let mut device = connector.connect("localhost", device).await.unwrap();
    device.write_all(b"PASS x\r\n").await.unwrap();
    read_exactly(&mut device, "-ERR send USER first\r\n").await;
}

#[tokio::test]
async fn implicit_tls_greets_after_the_handshake() {
    let (_dir, acceptor, connector) = certificate();
    let endpoint = Endpoint {
        tls: ListenerTls::Implicit,
        require_tls: false,
        apop: false,
        acceptor: Some(acceptor),
    };
    let (device, _) = connect(endpoint, limits(), 1 << 16);
    let mut device = connector.connect("localhost", device).await.unwrap();
    device.write_all(b"CAPA\r\n").await.unwrap();
    read_exactly(&mut device, &format!("{GREETING}{CAPABILITIES}")).await;
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_stalls_is_no_login() {
    let (_dir, acceptor, _) = certificate();
    let endpoint = Endpoint {
        tls: ListenerTls::Implicit,
        require_tls: false,
        apop: false,
        acceptor: Some(acceptor),
    };
    let (mut device, _) = connect(endpoint, limits(), 1 << 16);
    let started = tokio::time::Instant::now();
    assert_eq!(rest(&mut device).await, "");
    assert_eq!(started.elapsed().as_secs(), 60);
}

#[tokio::test]
async fn a_session_is_small() {
    let (_, ours) = duplex(64);
    let session = session::run(
        ours,
        Summary::new(SocketAddr::from(PEER), "test".into()),
        Permits::new(&limits()).acquire(PEER.0.into()).unwrap(),
        Newcomers::new(&limits()).enter(PEER.0.into()),
        Arc::new(plain()),
        service(limits()),
        Stop::default(),
    );
    let octets = size_of_val(&session);
    assert!(octets <= 1536, "{octets}");
}

/// Our end of a connection to a device that comes again as soon as it sees that this one is closed.
struct Returning {
    permits: Arc<Permits>,
    permit: Option<Permit>,
}

impl AsyncWrite for &mut Returning {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        assert!(self.permits.acquire(PEER.0.into()).is_err(), "given back too early");
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let returning = self.get_mut();
        returning.permit = returning.permits.acquire(PEER.0.into()).ok();
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_device_that_has_left_may_come_again_at_once() {
    let limits = Limits {
        sessions: 1,
        ..limits()
    };
    let permits = Permits::new(&limits);
    let permit = permits.acquire(PEER.0.into()).unwrap();
    let mut returning = Returning { permits, permit: None };
    session::run(
        join(&b"QUIT\r\n"[..], &mut returning),
        Summary::new(SocketAddr::from(PEER), "test".into()),
        permit,
        Newcomers::new(&limits).enter(PEER.0.into()),
        Arc::new(plain()),
        service(limits),
        Stop::default(),
    )
    .await;
    assert!(returning.permit.is_some());
}
