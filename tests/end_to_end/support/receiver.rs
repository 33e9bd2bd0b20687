//! A receiver of notices: a real HTTP server that answers with the status that a test wants.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Condvar, Mutex},
};

use aws_lc_rs::hmac;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{
    PATIENCE,
    certificates::Certificates,
    provider::{TOKEN_MARK, Tls},
};

/// The running server.
pub struct Receiver {
    shared: Arc<Shared>,
    address: SocketAddr,
    scheme: &'static str,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Default)]
struct Shared {
    book: Mutex<Book>,
    changed: Condvar,
}

#[derive(Default)]
struct Book {
    /// The statuses of the next answers; later answers have 200.
    answers: VecDeque<u16>,
    came: Vec<Posted>,
}

/// A request that has arrived.
#[derive(Debug, Clone)]
pub struct Posted {
    /// The status of the answer.
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Posted {
    /// The body, which must be JSON.
    pub fn json(&self) -> Value {
        assert_eq!(self.headers["content-type"], "application/json");
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The event in the notice.
    pub fn event(&self) -> String {
        self.json()["event"].as_str().unwrap().to_owned()
    }

    /// When the notice was signed, in seconds since 1970; `None` if it was not signed with `secret`.
    pub fn signed_at(&self, secret: &str) -> Option<u64> {
        let header = self.headers.get("x-popgate-signature")?.to_str().unwrap();
        let (time, signature) = header.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
        let octets: Vec<u8> = (0..signature.len() / 2)
            .map(|at| u8::from_str_radix(&signature[2 * at..2 * at + 2], 16).unwrap())
            .collect();
        let signed = [time.as_bytes(), b".", &self.body].concat();
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        hmac::verify(&key, &signed, &octets).ok()?;
        Some(time.parse().unwrap())
    }
}

impl Receiver {
    /// Starts the receiver in plain text on a free port.
    pub fn start() -> Self {
        Self::on(None)
    }

    /// Starts the receiver with TLS.
    pub fn start_tls(certificates: &Certificates) -> Self {
        Self::on(Some(certificates))
    }

    fn on(certificates: Option<&Certificates>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let shared = Arc::<Shared>::default();
        let router = Router::new().route(PATH, post(take)).with_state(shared.clone());
        let tcp = runtime.block_on(TcpListener::bind(("127.0.0.1", 0))).unwrap();
        let address = tcp.local_addr().unwrap();
        let acceptor = certificates.map(|certificates| TlsAcceptor::from(certificates.server()));
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        runtime.spawn(async move {
            match acceptor {
                Some(acceptor) => axum::serve(Tls { tcp, acceptor }, router).await,
                None => axum::serve(tcp, router).await,
            }
        });
        Self {
            shared,
            address,
            scheme,
            _runtime: runtime,
        }
    }

    /// The URL for notices. Nobody else may know it, so logs are searched for it.
    pub fn url(&self) -> String {
        format!("{}://{}{PATH}", self.scheme, self.address)
    }

    /// Sets the statuses of the next answers.
    pub fn answer(&self, statuses: &[u16]) {
        self.shared.book.lock().unwrap().answers = statuses.iter().copied().collect();
    }

    /// Waits until `count` requests have arrived; returns all of them.
    #[track_caller]
    pub fn wait(&self, count: usize) -> Vec<Posted> {
        let book = self.shared.book.lock().unwrap();
        let waited = self
            .shared
            .changed
            .wait_timeout_while(book, PATIENCE, |book| book.came.len() < count);
        let (book, waited) = waited.unwrap();
        assert!(!waited.timed_out(), "only {:?} came", book.came);
        book.came.clone()
    }

    /// How many requests have arrived.
    pub fn count(&self) -> usize {
        self.shared.book.lock().unwrap().came.len()
    }
}

/// Contains [`TOKEN_MARK`], which no log may have.
const PATH: &str = "/hooks/token-kestrel-hook";

async fn take(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let mut book = shared.book.lock().unwrap();
    let status = book.answers.pop_front().unwrap_or(200);
    book.came.push(Posted {
        status,
        headers,
        body: body.to_vec(),
    });
    shared.changed.notify_all();
    StatusCode::from_u16(status).unwrap()
}

#[test]
fn the_url_is_searched_for() {
    assert!(PATH.contains(TOKEN_MARK));
}
