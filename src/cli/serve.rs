//! `popgate serve`

use tokio_util::sync::CancellationToken;

use super::Failure;
use crate::{config::Config, gateway::Gateway, telemetry};

/// Serves until SIGTERM or SIGINT, then drains.
pub(super) async fn run(config: Config) -> Result<(), Failure> {
    telemetry::init(&config.log)?;
    let shutdown = shutdown_on_signal()?;
    let gateway = Gateway::bind(config).await?;
    gateway.run(shutdown).await;
    Ok(())
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
