//! `popgate trace`: prints what the sessions of a login send and receive.

use std::io::{self, Write};

use chrono::DateTime;

use super::{Failure, reload::directory};
use crate::{
    admin::{self, Traced, Verb},
    config::Config,
    telemetry::trace::{Side, TraceLine},
};

/// Prints what both sides of the sessions of `login` send, until the gateway ends.
pub(super) async fn run(config: &Config, login: String) -> Result<(), Failure> {
    let note = format!("tracing {login:?}: what its sessions say from now on, until Ctrl-C");
    let mut asked = admin::ask(directory(config)?, &Verb::Trace { login }).await?;
    while let Some(traced) = asked.next().await? {
        let mut out = io::stdout();
        match traced {
            Traced::Begun => eprintln!("{note}"),
            Traced::Line(line) => writeln!(out, "{}", shown(&line))?,
            Traced::Lost(lines) => writeln!(out, "({lines} lines were lost: this terminal is too slow)")?,
        }
        out.flush()?;
    }
    Ok(())
}

/// `12:00:00.123 #7 device   > +OK`: the gateway sends lines with `>` and receives lines with `<`.
fn shown(line: &TraceLine) -> String {
    let time = i64::try_from(line.at).ok().and_then(DateTime::from_timestamp_millis);
    let side = match line.side {
        Side::Device => "device",
        Side::Upstream => "upstream",
    };
    format!(
        "{} #{} {side:<8} {} {}",
        time.unwrap_or_default().format("%H:%M:%S%.3f"),
        line.session,
        if line.is_ours { '>' } else { '<' },
        line.text
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_when_and_who() {
        let line = TraceLine {
            at: 1_800_000_000_123,
            session: 7,
            side: Side::Device,
            is_ours: false,
            text: "STAT".into(),
        };
        assert_eq!(shown(&line), "08:00:00.123 #7 device   < STAT");
    }
}
