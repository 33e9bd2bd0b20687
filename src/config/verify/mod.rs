//! From the keys of the file to final types: names, files, and what must not stand together.

mod account;
mod listener;
mod maildrop;
mod oauth2;
mod signing_key;
mod upstream;
mod value;
mod web;

use std::{collections::HashMap, path::Path, path::PathBuf, sync::Arc};

use self::value::Checked;
use super::{
    Certificate, Config, Error, Limits, Loaded, Log, Secret, State, UidlImport, keys, keys::Document, source::Sources,
};

/// Octets of a key that seals; less could be guessed.
const LEAST_KEY: usize = 32;

/// Verifies a document that came from `sources`; relative paths in it are relative to `directory`.
pub(super) fn verify(document: Document, sources: Sources, directory: &Path) -> Result<Loaded, Error> {
    let mut verifier = Verifier {
        sources,
        directory,
        warnings: Vec::new(),
        literal: Vec::new(),
        imports: HashMap::new(),
    };
    let config = verifier.config(document);
    let Verifier {
        sources,
        mut warnings,
        literal,
        ..
    } = verifier;
    if !literal.is_empty() && value::world_readable(&sources.file) {
        warnings.push(format!(
            "{} holds passwords and may be read by every user of this machine ({}): chmod 600, or files named by `…_file` \
             keep them apart",
            sources.file.display(),
            literal.join(", ")
        ));
    }
    match config {
        Ok(config) if sources.mistakes.is_empty() => {
            warnings.extend(config.risks());
            Ok(Loaded { config, warnings })
        }
        _ => Err(Error::new(sources.mistakes, warnings)),
    }
}

/// The way of one document through verification.
struct Verifier<'a> {
    sources: Sources,
    directory: &'a Path,
    warnings: Vec<String>,
    /// Keys of secrets that stand in the file itself.
    literal: Vec<String>,
    /// What was read for `uidl_import`, by file.
    imports: HashMap<PathBuf, Checked<Arc<UidlImport>>>,
}

impl Verifier<'_> {
    fn config(&mut self, document: Document) -> Checked<Config> {
        let state = self.state(document.state);
        let web = self.web(document.web);
        let has_tls = document.tls.is_some();
        let tls = document.tls.map(|tls| self.certificate(tls)).transpose();
        let listeners = self.listeners(document.listener, has_tls);
        let upstreams = self.upstreams(document.upstream, state.as_ref().ok());
        let accounts = self.accounts(document.account, &upstreams);
        let upstreams = upstreams.verified();
        // Reported only if nothing else is wrong: another mistake may be the cause.
        if self.sources.mistakes.is_empty() {
            self.somebody_can_log_in(
                upstreams.as_deref().unwrap_or_default(),
                accounts.as_deref().unwrap_or_default(),
            );
            self.challenges_can_be_answered(
                listeners.as_deref().unwrap_or_default(),
                accounts.as_deref().unwrap_or_default(),
            );
        }
        Ok(Config {
            state: state?,
            log: Log {
                format: document.log.format,
                level: document.log.level.0,
            },
            limits: limits(document.limits),
            web: web?,
            tls: tls?,
            listeners: listeners?,
            upstreams: upstreams?,
            accounts: accounts?.into(),
        })
    }

    fn somebody_can_log_in(&mut self, upstreams: &[Arc<super::Upstream>], accounts: &[super::Account]) {
        let Some(first) = upstreams.first() else {
            let help = "add [upstream.home] with host = \"imap.example.org\" and logins = [\"*\"]";
            self.wrong("upstream", "no upstream is configured", help);
            return;
        };
        if accounts.is_empty() && upstreams.iter().all(|upstream| upstream.logins.is_empty()) {
            let help = "give an upstream the logins that it takes, logins = [\"*@example.org\"], or add an [[account]]";
            self.wrong(&format!("upstream.{}.logins", first.name), "nobody could log in", help);
        }
    }

    fn state(&mut self, state: keys::State) -> Checked<State> {
        let key = self.secret("state.key", state.key, state.key_file)?;
        Ok(State {
            dir: state.dir.map(|dir| self.directory.join(dir.0)),
            key: key.map(|key| self.sealing_key(&key)).transpose()?,
        })
    }

    fn sealing_key(&mut self, key: &Secret) -> Checked<Secret> {
        let key = key.expose().trim_ascii();
        if key.len() < LEAST_KEY {
            let help = "make one by: head -c 32 /dev/urandom | base64 > key";
            Err(self.wrong("state.key", format!("has less than {LEAST_KEY} octets"), help))
        } else {
            Ok(Secret::from(key.to_vec()))
        }
    }

    fn certificate(&mut self, tls: keys::Tls) -> Checked<Certificate> {
        let certificate = self.required("tls.certificate", tls.certificate);
        let key = self.required("tls.key", tls.key);
        let certificate = certificate.and_then(|file| self.readable("tls.certificate", &file));
        let key = key.and_then(|file| self.readable("tls.key", &file));
        Ok(Certificate {
            certificate: certificate?,
            key: key?,
        })
    }
}

fn limits(limits: keys::Limits) -> Limits {
    Limits {
        sessions: limits.sessions,
        sessions_per_address: limits.sessions_per_address,
        login: limits.login_seconds,
        idle: limits.idle_seconds,
        upstream: limits.upstream_seconds,
        bad_commands: limits.bad_commands,
        read_ahead: limits.read_ahead_bytes.0,
        parked: limits.parked_seconds,
        drain: limits.drain_seconds,
    }
}
