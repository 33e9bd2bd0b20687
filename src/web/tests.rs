//! Tests of the page's server: connections that are left open, and guessed passwords.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{Instant, timeout},
};

use super::{guesses::PENALTY, *};
use crate::config::Config;

fn site() -> Site {
    let config = Config::parse(
        "[upstream.home]\nhost = \"imap.example.org\"\nlogins = [\"*\"]\n[web]\naddress = \"127.0.0.1:0\"\n\
         admin_password = \"right\"",
        std::path::Path::new(""),
    );
    let config = Arc::new(config.unwrap());
    let (web, sign_ins) = (config.web.as_ref().unwrap(), SignIns::new(&*config));
    Site::bind(web, sign_ins, Tokens::none(), Arc::new(Nothing)).unwrap()
}

/// A gateway without accounts.
#[derive(Debug)]
struct Nothing;

#[async_trait::async_trait]
impl Overview for Nothing {
    async fn health(&self) -> Health {
        Health::default()
    }

    async fn measure(&self) {}

    async fn listeners(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    fn accounts(&self) -> Vec<AccountSummary> {
        Vec::new()
    }

    async fn examine(&self, _: &str) -> Option<Vec<crate::doctor::Step>> {
        None
    }
}

#[tokio::test(start_paused = true)]
async fn connections_left_open_keep_nobody_out() {
    let site = site();
    let (address, shutdown) = (site.address().unwrap(), CancellationToken::new());
    let serving = tokio::spawn({
        let shutdown = shutdown.clone();
        async move { site.run(shutdown).await }
    });
    let without_end = [
        "",
        "GET / HTTP/1.1\r\nHost: x\r\n",
        "POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: 100\r\n\r\npassword=",
    ];
    let mut left_open = Vec::new();
    for request in without_end.iter().cycle().take(150) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        left_open.push(stream);
    }
    for mut stream in left_open {
        let mut answer = Vec::new();
        let closed = timeout(Duration::from_secs(3600), stream.read_to_end(&mut answer)).await;
        closed.expect("the connection is closed").ok();
    }
    shutdown.cancel();
    serving.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_does_not_wait_for_the_answer_guesses_no_faster() {
    let site = site();
    let guess = |peer: [u8; 4], password: &str| {
        let password = password.to_owned();
        let peer = Extension(Peer(peer.into()));
        login(
            State(site.current.0.load_full()),
            peer,
            HeaderMap::new(),
            Form(LoginForm { password }),
        )
    };
    let begun = Instant::now();
    for _ in 0..5 {
        let _ = timeout(Duration::from_millis(1), guess([10, 0, 0, 1], "wrong")).await;
    }
    // Wrong passwords from one address do not delay another address.
    assert_eq!(guess([10, 0, 0, 2], "right").await.status(), StatusCode::SEE_OTHER);
    assert!(begun.elapsed() < PENALTY, "{:?}", begun.elapsed());
    assert_eq!(guess([10, 0, 0, 1], "right").await.status(), StatusCode::SEE_OTHER);
    assert!(begun.elapsed() >= PENALTY, "{:?}", begun.elapsed());
}

/// However many connections one address opens, another address is answered at once.
#[tokio::test(start_paused = true)]
async fn one_address_keeps_no_other_out() {
    let site = site();
    let (address, shutdown) = (site.address().unwrap(), CancellationToken::new());
    let serving = tokio::spawn({
        let shutdown = shutdown.clone();
        async move { site.run(shutdown).await }
    });
    let mut open = Vec::new();
    for _ in 0..100 {
        open.push(TcpStream::connect(address).await.unwrap());
    }
    let other = TcpSocket::new_v4().unwrap();
    other.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = other.connect(address).await.unwrap();
    other
        .write_all(b"GET /login HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let begun = Instant::now();
    other.read_exact(&mut [0; 64]).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    drop((open, other));
    shutdown.cancel();
    serving.await.unwrap();
}
