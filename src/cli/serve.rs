//! `popgate serve`: runs the gateway until SIGTERM or SIGINT.

mod operator;
mod signals;

use std::{path::PathBuf, sync::Arc};

pub(super) use self::signals::shutdown_on_signal;
use self::{operator::Operator, signals::Hangups};
use super::{Failure, block_on};
use crate::{
    config::{self, Config, Loaded},
    gateway::Gateway,
    memory::give_back_after_bursts,
    sandbox::{self, Needs},
    state, systemd, telemetry,
};

/// Serves the configuration that `load` reads until SIGTERM or SIGINT, then drains. Each reload calls `load` again.
/// Before the first thread starts, the process gives up all rights that it does not need.
pub(super) fn run(
    load: impl Fn() -> Result<Loaded, config::Error> + Clone + Send + Sync + 'static,
    give_back: fn(),
) -> Result<(), Failure> {
    let Loaded { config, files, .. } = load()?;
    telemetry::init(&config.log)?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        configuration = files.last().map(|file| tracing::field::display(file.display())),
        listeners = config.listeners.len(),
        upstreams = config.upstreams.len(),
        accounts = config.accounts.len(),
        state = %state_location(&config.state),
        "popgate starts"
    );
    let inherited = systemd::sockets();
    let boundary = sandbox::confine(&needs(&config, files));
    tracing::info!(landlock = %boundary.confinement(), "confined");
    block_on(async {
        let shutdown = shutdown_on_signal()?;
        let hangups = Hangups::new()?;
        let dir = config.state.dir.clone();
        let status = operator::summary(&config);
        let gateway = Gateway::bind(config, inherited).await?;
        let operator = Arc::new(Operator::new(gateway.clone(), load, boundary));
        tokio::spawn(operator.clone().reload_upon(hangups));
        tokio::spawn(systemd::live());
        tokio::spawn(give_back_after_bursts(give_back));
        systemd::ready(&status);
        let draining = gateway.draining().clone();
        tokio::spawn(async move {
            draining.cancelled().await;
            systemd::stopping();
        });
        operator.answer_while(dir, gateway.run(shutdown)).await;
        Ok(())
    })
}

/// The place of the state, for the log: servers, a directory, or memory.
fn state_location(state: &config::State) -> String {
    match (&state.shared, &state.dir) {
        (Some(shared), _) => shared.url.to_string(),
        (None, Some(dir)) => dir.display().to_string(),
        (None, None) => "memory".to_owned(),
    }
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
