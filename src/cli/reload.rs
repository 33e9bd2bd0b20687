//! `popgate reload`

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

/// Where the gateway that `config` is of has its socket.
pub(super) fn directory(config: &Config) -> Result<&Path, Failure> {
    let dir = config.state.dir.as_deref();
    dir.ok_or_else(|| Failure::wrong(format!("{NO_SOCKET}\nhelp: give it one, and start it again")))
}

/// The configuration is wrong, so the running gateway need not be asked.
pub(super) fn unread(error: config::Error) -> Failure {
    Failure::wrong(format!(
        "{error}\nnothing is reloaded: the running gateway goes on with the configuration that it has"
    ))
}

/// Lets the gateway that uses the `[state] dir` of `config` read its configuration again, and says what became of that.
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
