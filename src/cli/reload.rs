//! `popgate reload`: makes a running gateway read its configuration again.

use std::{
    io::{self, Write},
    path::Path,
};

use super::Failure;
use crate::{
    admin::{self, Reloaded, Verb},
    config::{self, Config},
};

const NO_SOCKET: &str = "[state] has no `dir`, where the running gateway would have a socket for this command";

/// The directory of the running gateway's socket, which is `[state] dir`. Fails if `config` has none.
pub(super) fn directory(config: &Config) -> Result<&Path, Failure> {
    let dir = config.state.dir.as_deref();
    dir.ok_or_else(|| Failure::wrong(format!("{NO_SOCKET}\nhelp: set `dir`, and restart the gateway")))
}

/// The failure if the new configuration is wrong; the running gateway is not asked.
pub(super) fn unread(error: config::Error) -> Failure {
    Failure::wrong(format!(
        "{error}\nnothing is reloaded: the running gateway goes on with the configuration that it has"
    ))
}

/// Asks the gateway that uses the `[state] dir` of `config` to reload its configuration, and prints the outcome.
pub(super) async fn run(config: &Config) -> Result<(), Failure> {
    let dir = directory(config).map_err(|_| {
        Failure::wrong(format!(
            "{NO_SOCKET}\n\
             help: send it SIGHUP instead (kill -HUP PID, or docker kill -s HUP CONTAINER): its log says how the reload went"
        ))
    })?;
    let mut asked = admin::ask(dir, &Verb::Reload).await?;
    let mut out = io::stdout();
    while let Some(Reloaded { summary, warnings }) = asked.next().await? {
        writeln!(out, "reloaded: {summary}")?;
        for warning in warnings {
            writeln!(out, "warning: {warning}")?;
        }
    }
    Ok(())
}
