//! `popgate sign-in --list`: the state of every account's consent.

use std::io::Write;

use chrono::{DateTime, SecondsFormat};
use serde::Serialize;

use super::{
    super::{Failure, tokens::kept},
    failed,
};
use crate::{
    config::Config,
    oauth::{ConsentState, ConsentStatus},
    sign_in::{Candidate, candidates},
    state,
};

/// An account as `--list --json` prints it. Times are in the format of RFC 3339.
#[derive(Serialize)]
struct ConsentReport<'a> {
    login: &'a str,
    upstream: &'a str,
    user: &'a str,
    host: &'a str,
    signed_in_as: &'a str,
    state: &'static str,
    /// Whether the gateway renews the token without anybody's help.
    renews: bool,
    signed_in: Option<String>,
    obtained: Option<String>,
    expires: Option<String>,
    /// When the consent ends, if the provider says so.
    ends: Option<String>,
    ended: Option<String>,
    why: Option<&'a str>,
    trouble: Option<&'a str>,
    trouble_since: Option<String>,
    unwritable_since: Option<String>,
}

impl<'a> ConsentReport<'a> {
    fn of(candidate: Candidate<'a>, status: &'a ConsentStatus) -> Self {
        let account = candidate.account;
        let (state, ended, why) = match &status.state {
            ConsentState::Missing => ("missing", None, None),
            ConsentState::Good => ("good", None, None),
            ConsentState::NotNeeded => ("not-needed", None, None),
            ConsentState::Ended { since, why } => ("ended", Some(*since), Some(why.as_str())),
            ConsentState::Unreadable(why) => ("unreadable", None, Some(why.as_str())),
        };
        Self {
            login: &account.login,
            upstream: &account.upstream.name,
            user: &account.user,
            host: &account.upstream.host,
            signed_in_as: candidate.person(),
            state,
            renews: status.renews,
            signed_in: status.signed_in.map(time),
            obtained: status.obtained.map(time),
            expires: status.expires.map(time),
            ends: status.ends.map(time),
            ended: ended.map(time),
            why,
            trouble: status.trouble.as_ref().map(|(_, why)| why.as_str()),
            trouble_since: status.trouble.as_ref().map(|(since, _)| time(*since)),
            unwritable_since: status.unwritable.map(time),
        }
    }
}

fn time(seconds: u32) -> String {
    let time = DateTime::from_timestamp(seconds.into(), 0).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

pub(super) async fn in_words(config: &Config, out: &mut impl Write) -> Result<(), Failure> {
    for (candidate, status) in standings(config).await? {
        let account = candidate.account;
        write!(
            out,
            "{} → {} at {}: {status}",
            account.login, account.user, account.upstream.host
        )?;
        if candidate.oauth2.needs_consent() && !status.is_good() {
            writeln!(out, " (popgate sign-in {})", account.login)?
        } else {
            writeln!(out)?
        }
    }
    Ok(())
}

/// Prints all accounts in JSON. Fails if a consent has ended or tokens cannot be written.
pub(super) async fn for_programs(config: &Config, out: &mut impl Write) -> Result<(), Failure> {
    let standings = standings(config).await?;
    let entries: Vec<_> = standings
        .iter()
        .map(|(candidate, status)| ConsentReport::of(*candidate, status))
        .collect();
    let json = serde_json::to_string_pretty(&entries).map_err(failed)?;
    writeln!(out, "{json}")?;
    alarm(&standings)
}

/// Fails if a consent has ended or tokens cannot be written.
pub(in crate::cli) async fn watch(config: &Config) -> Result<(), Failure> {
    alarm(&standings(config).await?)
}

async fn standings(config: &Config) -> Result<Vec<(Candidate<'_>, ConsentStatus)>, Failure> {
    let tokens = kept(config, state::reach)?;
    let mut standings = Vec::new();
    for candidate in candidates(&config.accounts) {
        let status = tokens.status(&candidate.consent(&tokens)).await.map_err(failed)?;
        standings.push((candidate, status));
    }
    Ok(standings)
}

fn alarm(standings: &[(Candidate<'_>, ConsentStatus)]) -> Result<(), Failure> {
    let alarming: Vec<String> = standings
        .iter()
        .filter(|(_, status)| status.is_alarming())
        .map(|(candidate, status)| format!("{}: {status}", candidate.account.login))
        .collect();
    if alarming.is_empty() {
        Ok(())
    } else {
        Err(failed(alarming.join("\n")))
    }
}
