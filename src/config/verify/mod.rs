//! From the shape of the file to final types: ranges, words, names, files, and what must not stand together.

mod account;
mod listener;
mod maildrop;
mod oauth2;
mod signing_key;
mod upstream;
mod value;
mod web;

use std::{ops::RangeInclusive, path::Path, time::Duration};

use super::{
    Certificate, Config, Limits, Loaded, Log, LogFormat, Secret, State,
    error::Error,
    file::{self, Document},
    nearest::nearest,
    source::Sources,
};

/// Longest time that a key may name: a year. Longer is a slip of the keyboard, and could overflow a clock.
const YEAR: u64 = 365 * 24 * 3600;

/// Octets of a key that seals; less could be guessed.
const LEAST_KEY: usize = 32;

/// Verifies a document that came from `sources`; relative paths in it are relative to `directory`.
pub(super) fn verify(document: Document, sources: &Sources, directory: &Path) -> Result<Loaded, Error> {
    let mut verifier = Verifier {
        sources,
        directory,
        warnings: Vec::new(),
        literal: Vec::new(),
    };
    let config = verifier.config(document)?;
    if !verifier.literal.is_empty() {
        verifier.warnings.push(format!(
            "{} holds passwords{} ({}): files named by `…_file` keep them apart",
            sources.file.display(),
            if value::world_readable(&sources.file) {
                " and may be read by every user of this machine"
            } else {
                ""
            },
            verifier.literal.join(", ")
        ));
    }
    verifier.warnings.extend(config.risks());
    Ok(Loaded {
        config,
        warnings: verifier.warnings,
    })
}

/// The way of one document through verification.
struct Verifier<'a> {
    sources: &'a Sources,
    directory: &'a Path,
    warnings: Vec<String>,
    /// Keys of secrets that stand in the file itself.
    literal: Vec<String>,
}

impl Verifier<'_> {
    fn config(&mut self, document: Document) -> Result<Config, Error> {
        let state = self.state(document.state)?;
        let web = self.web(document.web)?;
        let log = self.log(document.log)?;
        let limits = self.limits(&document.limits)?;
        let tls = match document.tls {
            Some(tls) => Some(self.certificate(&tls)?),
            None => None,
        };
        let listeners = self.listeners(document.listener, tls.is_some())?;
        let upstreams = self.upstreams(document.upstream, &state)?;
        let accounts = self.accounts(document.account, &upstreams)?;
        if accounts.is_empty() && upstreams.iter().all(|upstream| upstream.logins.is_empty()) {
            let what = "nobody could log in";
            let help = "give an upstream the logins that it takes, logins = [\"*@example.org\"], or add an [[account]]";
            let path = upstreams.first().map_or("upstream".into(), |upstream| {
                format!("upstream.{}.logins", upstream.name)
            });
            return Err(self.error(&path, what, help));
        }
        Ok(Config {
            state,
            log,
            limits,
            web,
            tls,
            listeners,
            upstreams,
            accounts,
        })
    }

    fn state(&mut self, state: file::State) -> Result<State, Error> {
        let dir = match state.dir {
            Some(dir) => Some(self.path("state.dir", &dir)?),
            None => None,
        };
        let key = match self.secret("state.key", state.key, state.key_file)? {
            Some(key) => Some(self.sealing_key(&key)?),
            None => None,
        };
        Ok(State { dir, key })
    }

    fn sealing_key(&self, key: &Secret) -> Result<Secret, Error> {
        let key = key.expose().trim_ascii();
        match key.len() < LEAST_KEY {
            true => {
                let help = "make one by: head -c 32 /dev/urandom | base64 > key";
                Err(self.error("state.key", format!("has less than {LEAST_KEY} octets"), help))
            }
            false => Ok(Secret::from(key.to_vec())),
        }
    }

    fn log(&self, log: file::Log) -> Result<Log, Error> {
        let format = self.word(
            "log.format",
            log.format,
            &[("text", LogFormat::Text), ("json", LogFormat::Json)],
        )?;
        let level = log.level.unwrap_or_else(|| "info".into());
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        // Targets would take the blank before a module for a part of its name.
        let directives: Vec<_> = level.split(',').map(str::trim).collect();
        for directive in &directives {
            // Targets would take a mistyped level for the name of a module, and log everything of it.
            let bare = !directive.contains(['=', '[']);
            if bare && !LEVELS.iter().any(|known| known.eq_ignore_ascii_case(directive)) {
                let help = match nearest(directive, LEVELS) {
                    Some(known) => format!("did you mean `{known}`?"),
                    None => format!("one of {}, or a filter such as info,popgate=debug", LEVELS.join(", ")),
                };
                return Err(self.error("log.level", format!("`{directive}` is no level"), help));
            }
        }
        let level = directives.join(",");
        if let Err(error) = level.parse::<tracing_subscriber::filter::Targets>() {
            return Err(self.error(
                "log.level",
                format!("no filter: {error}"),
                "write it like info,popgate::pop3=debug",
            ));
        }
        Ok(Log {
            format: format.unwrap_or(LogFormat::Text),
            level,
        })
    }

    fn limits(&self, limits: &file::Limits) -> Result<Limits, Error> {
        let number = |key: &str, value: Option<u64>, default: u64, range: RangeInclusive<u64>| {
            self.number(&format!("limits.{key}"), value, default, range)
        };
        let seconds = |key: &str, value: Option<u64>, default: u64, least: u64| {
            number(key, value, default, least..=YEAR).map(Duration::from_secs)
        };
        Ok(Limits {
            sessions: number("sessions", limits.sessions, 1000, 1..=1_000_000)? as usize,
            sessions_per_address: number("sessions_per_address", limits.sessions_per_address, 50, 1..=1_000_000)?
                as usize,
            login: seconds("login_seconds", limits.login_seconds, 60, 1)?,
            idle: seconds("idle_seconds", limits.idle_seconds, 600, 1)?,
            upstream: seconds("upstream_seconds", limits.upstream_seconds, 30, 1)?,
            bad_commands: number("bad_commands", limits.bad_commands, 20, 1..=1_000_000)? as u32,
            read_ahead: number("read_ahead_bytes", limits.read_ahead_bytes, 4 << 20, 0..=1 << 30)?,
            parked: seconds("parked_seconds", limits.parked_seconds, 900, 0)?,
            drain: seconds("drain_seconds", limits.drain_seconds, 20, 0)?,
        })
    }

    fn certificate(&self, tls: &file::Tls) -> Result<Certificate, Error> {
        let file = |key: &str, value: &Option<String>, help: &str| match value {
            Some(value) => self.readable(&format!("tls.{key}"), value),
            None => Err(self.error(&format!("tls.{key}"), "is missing", help)),
        };
        Ok(Certificate {
            certificate: file(
                "certificate",
                &tls.certificate,
                "name the PEM file of the certificate chain",
            )?,
            key: file("key", &tls.key, "name the PEM file of the private key")?,
        })
    }
}
