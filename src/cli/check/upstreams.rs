//! `popgate check --connect`: tries each account and upstream with the steps of `popgate doctor`.

use std::{collections::BTreeSet, io::Write};

use super::{Failure, address};
use crate::{
    accounts::{Account, Accounts},
    config::Config,
    doctor::{Doctor, Outcome, Step},
    maildrop::Maildrops,
};

/// Tries the folders and delete targets of each account, and connects to every other upstream, including those whose
/// rules have no login yet. Returns how many failed.
pub(super) async fn run(config: &Config, maildrops: &Maildrops, out: &mut impl Write) -> Result<usize, Failure> {
    let doctor = Doctor::new(maildrops);
    let mut failures = 0;
    let mut tried = BTreeSet::new();
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
        tried.insert(&configured.upstream.name);
        let (login, user, address) = (&account.login, &account.user, address(&account.upstream));
        writeln!(out, "{login} → {user} at {address}: {}", summary(&steps, works))?;
    }
    for upstream in &config.upstreams {
        if tried.contains(&upstream.name) {
            continue;
        }
        let mut steps = Vec::new();
        let works = doctor.examine_upstream(upstream, &mut |step| steps.push(step)).await;
        failures += usize::from(!works);
        let outcome = if works {
            let has_rule = config.accounts.iter().any(|rule| rule.upstream.name == upstream.name);
            let why = if has_rule {
                "no login has a password in passwords_file yet"
            } else {
                "only devices have the passwords"
            };
            format!("ok, it answers (popgate did not log in: {why}){}", troubles(&steps))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_upstream_is_tried_even_if_no_login_of_its_rule_can_be() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("devices"), "").unwrap();
        // Nobody listens at port 1.
        let text = "[[account]]\nlogin = \"*@example.org\"\npasswords_file = \"devices\"\nupstream = \"home\"\n\
                    [upstream.home]\nhost = \"127.0.0.1\"\nport = 1\n\
                    [upstream.home.oauth2]\ngrant = \"client-credentials\"\nclient_id = \"i\"\nclient_secret = \"s\"\n\
                    token_url = \"https://x/t\"\n";
        let config = Config::parse(text, directory.path()).unwrap();
        let maildrops = Maildrops::in_memory(&config);
        let mut printed = Vec::new();
        let failures = run(&config, &maildrops, &mut printed).await.unwrap();
        let printed = String::from_utf8(printed).unwrap();
        assert_eq!(failures, 1, "{printed}");
        assert!(printed.contains("*@example.org: not tried"), "{printed}");
        assert!(printed.contains("upstream.home at 127.0.0.1:1 "), "{printed}");
    }
}
