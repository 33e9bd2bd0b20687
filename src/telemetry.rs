//! Logs: `tracing` events as lines on stderr.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    filter::{ParseError, Targets},
    fmt,
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::config::{Log, LogFormat};

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The level is neither a level nor a filter directive.
    #[error("log.level: {0}")]
    Level(#[from] ParseError),
    /// Logs were set up before.
    #[error("logs: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Sends the events of this process to stderr, as `[log]` says. Text is coloured on a terminal only; JSON has one
/// object a line, an event's fields beside `timestamp`, `level` and `target`.
pub fn init(log: &Log) -> Result<(), Error> {
    let targets: Targets = log.level.parse()?;
    let lines = fmt().with_max_level(LevelFilter::TRACE).with_writer(io::stderr);
    match log.format {
        LogFormat::Text => {
            let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            lines
                .with_target(false)
                .with_ansi(colours)
                .finish()
                .with(targets)
                .try_init()?;
        }
        LogFormat::Json => lines.json().flatten_event(true).finish().with(targets).try_init()?,
    }
    Ok(())
}
