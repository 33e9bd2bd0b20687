//! `popgate doctor`: tries one login end to end and prints a line for each step.

use std::{
    io::{self, Write},
    time::Duration,
};

use super::{Failure, password, tokens};
use crate::{
    accounts::{Account, Accounts, Lead},
    config::{Config, Log},
    doctor::{Doctor, Outcome, Step, examine_listeners},
    maildrop::Maildrops,
    state, telemetry,
};

/// Tries `login` and all listeners; fails if anything does not work.
pub(super) async fn run(config: &Config, login: &str) -> Result<(), Failure> {
    let account = account(config, login).await?;
    // The steps report what fails, so the log has only errors.
    telemetry::init(&Log::for_people("error"))?;
    // The kept state, by way of the gateway if one runs. The doctor keeps nothing of its own.
    let kept = state::reach_configured(&config.state).map_err(Failure::failed)?;
    let tokens = tokens::of(config, kept.clone())?;
    let maildrops = Maildrops::new(config, kept, tokens.clone()).map_err(Failure::wrong)?;
    let doctor = Doctor::new(&maildrops);
    let mut written = Ok(());
    let mut report = |step: Step| {
        if written.is_ok() {
            written = write(&step);
        }
    };
    let works = doctor.examine(&account, &mut report).await;
    let answers = examine_listeners(&config.listeners, &mut report).await;
    written?;
    maildrops.finish().await;
    tokens.finish().await;
    if works && answers {
        Ok(())
    } else {
        Err(Failure::failed(format!("{login} does not work, see above")))
    }
}

/// The account of `login`; asks for the password that its device would give, if the upstream needs it.
async fn account(config: &Config, login: &str) -> Result<Account, Failure> {
    let accounts = Accounts::new(config).map_err(Failure::failed)?;
    let mut lead = accounts.leads_to(login, None).await;
    if let Lead::NeedsPassword = lead {
        let secret = password::ask(&format!("Password of {login}"))?;
        lead = accounts.leads_to(login, Some(secret)).await;
    }
    match lead {
        Lead::Account(account) => Ok(*account),
        Lead::Nowhere | Lead::NeedsPassword => Err(Failure::wrong(format!(
            "no [[account]] and no `logins` of an upstream match {login}: popgate check lists the logins"
        ))),
    }
}

/// Prints a step in one line, and its advice below.
fn write(step: &Step) -> io::Result<()> {
    let mut out = io::stdout();
    let mark = match step.outcome {
        Outcome::Passed(_) => "ok",
        Outcome::Warned(_) => "warning",
        Outcome::Failed(_) => "FAILED",
    };
    let (name, took, text) = (&step.name, took(step.took), step.outcome.text());
    writeln!(out, "{mark:<8}{name:<24} {took:>8}  {text}")?;
    if let Some(advice) = &step.advice {
        writeln!(out, "        help: {advice}")?;
    }
    out.flush()
}

fn took(took: Duration) -> String {
    match took.as_millis() {
        millis if millis < 1000 => format!("{millis} ms"),
        _ => format!("{:.1} s", took.as_secs_f64()),
    }
}
