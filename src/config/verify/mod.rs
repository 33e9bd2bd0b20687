//! Turns the keys of the file into final types: resolves names, reads files, and finds keys that contradict each other.

mod account;
mod listener;
mod maildrop;
mod notify;
mod oauth2;
mod signing_key;
mod state;
mod upstream;
mod value;
mod web;

use std::{
    collections::{HashMap, HashSet},
    fmt::Display,
    path::{Path, PathBuf},
    sync::Arc,
};

use self::value::Checked;
use super::{
    Certificate, Config, Error, HAS_LEGACY_TLS, Limits, Loaded, Log, UidlImport, keys, keys::Document, source::Sources,
};

/// Verifies a document that came from `sources`; relative paths in it are relative to `directory`.
pub(super) fn verify(document: Document, sources: Sources, directory: &Path) -> Result<Loaded, Error> {
    let mut verifier = Verifier {
        sources,
        directory,
        warnings: Vec::new(),
        files: Vec::new(),
        denied: Vec::new(),
        literal: Vec::new(),
        imports: HashMap::new(),
    };
    let config = verifier.config(document);
    let Verifier {
        sources,
        mut warnings,
        mut files,
        denied,
        literal,
        ..
    } = verifier;
    if !literal.is_empty() && value::world_readable(&sources.file) {
        warnings.push(format!(
            "{} holds passwords and may be read by every user of this machine ({}): chmod 600, or move those that have \
             a `…_file` key to files of their own",
            sources.file.display(),
            literal.join(", ")
        ));
    }
    match config {
        Ok(config) if sources.mistakes.is_empty() => {
            warnings.extend(config.risks());
            files.push(sources.file);
            Ok(Loaded {
                config,
                warnings,
                files,
            })
        }
        _ => Err(Error::new(sources.mistakes, warnings).with_denied(denied)),
    }
}

/// The findings of the verification of one document.
struct Verifier<'a> {
    sources: Sources,
    directory: &'a Path,
    warnings: Vec<String>,
    /// Every file that the configuration names.
    files: Vec<PathBuf>,
    /// Those of `files` that popgate is not permitted to read.
    denied: Vec<PathBuf>,
    /// Keys of secrets that are written in the file itself.
    literal: Vec<String>,
    /// What was read for `uidl_import`, by file name.
    imports: HashMap<PathBuf, Checked<Arc<UidlImport>>>,
}

impl Verifier<'_> {
    fn config(&mut self, document: Document) -> Checked<Config> {
        let state = self.state(document.state);
        let web = self.web(document.web);
        let notify = self.notify(document.notify);
        let tls = document.tls.by_path("tls");
        let certificates = self.certificates(&tls);
        let listeners = self.listeners(document.listener, &tls);
        let upstreams = self.upstreams(document.upstream, state.as_ref().ok());
        let accounts = self.accounts(document.account, &upstreams);
        let upstreams = upstreams.verified();
        // Checked only if nothing else is wrong, because another mistake may be the cause.
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
        let (mut state, upstreams) = (state?, upstreams?);
        if let Some(shared) = &mut state.shared {
            let hosts = upstreams
                .iter()
                .map(|upstream| (upstream.name.clone(), upstream.host.clone()));
            shared.upstreams = hosts.collect();
        }
        Ok(Config {
            state,
            log: Log {
                format: document.log.format,
                level: document.log.level.0,
            },
            limits: limits(document.limits),
            web: web?,
            notify: notify?,
            tls: certificates?,
            listeners: listeners?,
            upstreams,
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

    /// Notes a mistake if `value` at `path` asks for old TLS, but popgate was built without it.
    fn legacy_tls(&mut self, path: &str, value: impl Display) {
        if !HAS_LEGACY_TLS {
            let help = "take the container image, or build popgate by `cargo build --release --features legacy-tls` (it needs \
                        OpenSSL)";
            self.wrong(
                path,
                format!("\"{value}\" is not in this popgate: it was built without old TLS"),
                help,
            );
        }
    }

    fn certificates(&mut self, tls: &[(String, keys::Tls)]) -> Checked<Vec<Certificate>> {
        let mut taken = HashSet::new();
        let mut verified = Vec::new();
        for (path, tls) in tls {
            let key = |name: &str| format!("{path}.{name}");
            for name in tls.names.iter().flat_map(|names| &names.0) {
                if !taken.insert(name) {
                    let help = "a name has one certificate: give it to one [[tls]]";
                    self.wrong(&key("names"), format!("{name:?} is given twice"), help);
                }
            }
            verified.push(self.certificate(key, tls));
        }
        verified.into_iter().collect()
    }

    /// Verifies the files of one certificate. `key` gives the path of a key in its table.
    fn certificate(&mut self, key: impl Fn(&str) -> String, tls: &keys::Tls) -> Checked<Certificate> {
        let certificate = self.required(&key("certificate"), tls.certificate.as_ref());
        let private_key = self.required(&key("key"), tls.key.as_ref());
        let certificate = certificate.and_then(|file| self.readable(&key("certificate"), file));
        let private_key = private_key.and_then(|file| self.readable(&key("key"), file));
        let client_ca = tls.client_ca.as_ref();
        let client_ca = client_ca.map(|file| self.readable(&key("client_ca"), file));
        Ok(Certificate {
            certificate: certificate?,
            key: private_key?,
            names: tls.names.as_ref().map(|names| names.0.clone()),
            client_ca: client_ca.transpose()?,
        })
    }
}

fn limits(limits: keys::Limits) -> Limits {
    Limits {
        sessions: limits.sessions,
        sessions_per_address: limits.sessions_per_address,
        unauthenticated: limits.unauthenticated,
        unauthenticated_per_address: limits.unauthenticated_per_address,
        login: limits.login_seconds,
        idle: limits.idle_seconds,
        session: limits.session_seconds,
        upstream: limits.upstream_seconds,
        bad_commands: limits.bad_commands,
        read_ahead: limits.read_ahead_bytes.0,
        parked_for: limits.parked_seconds,
        parked: limits.parked,
        drain: limits.drain_seconds,
    }
}
