//! `popgate check --connect`: tries each account and upstream with the steps of `popgate doctor`.

use std::io::Write;

use super::{Failure, address};
use crate::{
    accounts::{Account, Accounts},
    config::Config,
    doctor::{Doctor, Outcome, Step},
    maildrop::Maildrops,
};

/// Tries the folders and delete targets of each account, and connects to every other upstream. Returns how many failed.
pub(super) async fn run(config: &Config, maildrops: &Maildrops, out: &mut impl Write) -> Result<usize, Failure> {
    let doctor = Doctor::new(maildrops);
    let mut failures = 0;
    let known = Accounts::new(config).map_err(Failure::failed)?.known();
    for configured in config.accounts.iter() {
        let account = if configured.is_rule() {
            // One login of a rule is enough: the provider trusts the application with all their mailboxes, or with
            // none.
            match known.iter().find(|account| account.is_of(configured)) {
                Some(account) => account.clone(),
                None => {
                    let login = &configured.login;
                    writeln!(
                        out,
                        "{login}: not tried, no such login has a password in passwords_file yet"
                    )?;
                    continue;
                }
            }
        } else {
            Account::from(configured)
        };
        let mut steps = Vec::new();
        let works = doctor.examine_folders(&account, &mut |step| steps.push(step)).await;
        failures += usize::from(!works);
        let (login, user, address) = (&account.login, &account.user, address(&account.upstream));
        writeln!(out, "{login} → {user} at {address}: {}", summary(&steps, works))?;
    }
    let tried: Vec<_> = config.accounts.iter().map(|account| &account.upstream.name).collect();
    for upstream in &config.upstreams {
        if tried.contains(&&upstream.name) {
            continue;
        }
        let mut steps = Vec::new();
        let works = doctor.examine_upstream(upstream, &mut |step| steps.push(step)).await;
        failures += usize::from(!works);
        let outcome = if works {
            let answers = "ok, it answers (popgate did not log in: only devices have the passwords)";
            format!("{answers}{}", troubles(&steps))
        } else {
            summary(&steps, works)
        };
        writeln!(out, "upstream.{} at {}: {outcome}", upstream.name, address(upstream))?;
    }
    Ok(failures)
}

/// An account in one line, `ok` or `failed`; the steps that did not pass follow, a line each.
fn summary(steps: &[Step], works: bool) -> String {
    if !works {
        return format!("failed{}", troubles(steps));
    }
    let shown = steps
        .iter()
        .filter(|step| matches!(step.name.as_str(), "listing" | "delete"));
    let texts: Vec<_> = shown.map(|step| step.outcome.text()).collect();
    format!("ok, {}{}", texts.join("; "), troubles(steps))
}

/// One line for each step that did not pass, and its advice below.
fn troubles(steps: &[Step]) -> String {
    let mut text = String::new();
    for step in steps.iter().filter(|step| !matches!(step.outcome, Outcome::Passed(_))) {
        text += &format!("\n  {}: {}", step.name, step.outcome.text());
        if let Some(advice) = &step.advice {
            text += &format!("\n    help: {advice}");
        }
    }
    text
}
