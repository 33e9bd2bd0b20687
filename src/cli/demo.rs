//! `popgate demo`: sample mail behind the real gateway.

use std::{
    io::{self, Write},
    net::SocketAddr,
};

use super::{Failure, serve};
use crate::{
    config::Config,
    demo::Server,
    gateway::{self, Gateway},
    telemetry,
};

/// How many sessions at once: few enough for any system's limit of open files.
const SESSIONS: usize = 50;

/// Serves the sample mail at `listen` until SIGTERM or SIGINT.
pub(super) async fn run(listen: SocketAddr) -> Result<(), Failure> {
    let upstream = Server::start().await?;
    let mut config = Config::forward(&format!("imap://{}", upstream.address()), listen)?.config;
    config.limits.sessions = SESSIONS;
    telemetry::init(&config.log)?;
    let shutdown = serve::shutdown_on_signal()?;
    let gateway = Gateway::bind(config, Vec::new()).await.map_err(|error| match error {
        gateway::Error::Bind { address, source } if source.kind() == io::ErrorKind::AddrInUse => {
            Failure::failed(format!(
                "another program listens at {address}\nhelp: take another port: popgate demo --listen 127.0.0.1:{}",
                address.port().checked_add(1000).unwrap_or(2110)
            ))
        }
        other => other.into(),
    })?;
    let address = gateway.addresses().await.first().copied().unwrap_or(listen);
    // An error means that the output is closed, so nobody wants to read the introduction.
    let _ = io::stdout().write_all(introduction(address).as_bytes());
    gateway.run(shutdown).await;
    Ok(())
}

fn introduction(address: SocketAddr) -> String {
    let (host, port) = (address.ip(), address.port());
    format!(
        "popgate serves sample mail at {address}. Try, in another terminal:

    curl -u demo:demo pop3://{address}/         # list the messages
    curl -u demo:demo pop3://{address}/1        # fetch message 1

or add an account to a mail program:

    type POP3, server {host}, port {port}, user demo, password demo, no encryption (neither STARTTLS nor TLS)

The mail is kept in memory only: delete as you like. Ctrl-C ends the demo.
"
    )
}
