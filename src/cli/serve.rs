//! `popgate serve`

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use super::{Failure, block_on};
use crate::{
    config::{Config, Loaded},
    gateway::Gateway,
    sandbox::{self, Needs},
    state, telemetry,
};

/// Serves until SIGTERM or SIGINT, then drains. Before the first thread is started, the process gives up all rights that it
/// does not need.
pub(super) fn run(loaded: Loaded) -> Result<(), Failure> {
    let Loaded { config, files, .. } = loaded;
    telemetry::init(&config.log)?;
    let confinement = sandbox::confine(&needs(&config, files));
    tracing::info!(landlock = %confinement, "confined");
    block_on(async {
        let shutdown = shutdown_on_signal()?;
        let gateway = Gateway::bind(config).await?;
        gateway.run(shutdown).await;
        Ok(())
    })
}

fn needs(config: &Config, files: Vec<PathBuf>) -> Needs {
    if let Some(dir) = &config.state.dir {
        // An error is reported when the state is opened.
        let _ = state::create_private(dir);
    }
    let web = config.web.as_ref().map(|web| web.address);
    let listeners = config.listeners.iter().map(|listener| listener.address);
    Needs {
        files,
        writable: config.state.dir.iter().cloned().collect(),
        ports: listeners.chain(web).map(|address| address.port()).collect(),
    }
}

/// A token that the first SIGTERM or SIGINT cancels. A second one ends the process at once: nothing is deleted that
/// no device was told of.
pub(super) fn shutdown_on_signal() -> Result<CancellationToken, Failure> {
    let token = CancellationToken::new();
    let cancelled = token.clone();
    let mut signals = Signals::new()?;
    tokio::spawn(async move {
        signals.next().await;
        cancelled.cancel();
        signals.next().await;
        std::process::exit(1);
    });
    Ok(token)
}

#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}
