//! `popgate sessions`: lists the sessions of a running gateway.

use std::io::{self, Write};

use super::{Failure, reload::directory};
use crate::{
    admin::{self, Verb},
    config::Config,
    state,
    telemetry::ActiveSession,
};

/// Prints the sessions of the running gateway, the oldest first.
pub(super) async fn run(config: &Config, json: bool) -> Result<(), Failure> {
    let mut asked = admin::ask(directory(config)?, &Verb::Sessions).await?;
    let sessions: Vec<ActiveSession> = asked.next().await?.unwrap_or_default();
    let mut out = io::stdout();
    if json {
        writeln!(out, "{:#}", serde_json::json!(sessions))?;
        return Ok(());
    }
    for session in &sessions {
        writeln!(out, "{}", line(session))?;
    }
    match sessions.len() {
        1 => writeln!(out, "one session")?,
        count => writeln!(out, "{count} sessions")?,
    }
    Ok(())
}

fn line(session: &ActiveSession) -> String {
    let seconds = u64::from(state::now()).saturating_sub(session.since);
    format!(
        "#{:<6} {:>6} s  {}  at {}  {}  {}",
        session.id,
        seconds,
        session.peer,
        session.listener,
        session.tls.as_deref().unwrap_or("no TLS"),
        session.login.as_deref().unwrap_or("(not logged in)"),
    )
}
