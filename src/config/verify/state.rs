//! Verifies `[state]`.

use std::collections::BTreeMap;

use super::{
    Verifier,
    value::{Checked, Noted},
};
use crate::config::{Secret, SharedState, State, keys, state::host_name};

/// The least octets of a key that seals tokens. A shorter key could be guessed.
const LEAST_KEY: usize = 32;

impl Verifier<'_> {
    pub(super) fn state(&mut self, mut state: keys::State) -> Checked<State> {
        let key_file = state.key_file.as_ref().map(|file| self.directory.join(&file.0));
        let key = self.secret("state.key", state.key.take(), state.key_file.take());
        let key = key.and_then(|key| key.map(|key| self.sealing_key(&key)).transpose());
        let dir = state.dir.take().map(|dir| self.directory.join(dir.0));
        if dir.is_some() && state.url.is_some() {
            let help = "state lies in a directory or in servers that several popgates share: give one of the two";
            self.wrong("state.url", "`dir` is given too", help);
        }
        let shared = self.shared_state(state);
        let (key, shared) = (key?, shared?);
        if shared.is_some() && key.is_none() && !self.sources.is_wrong("state.key") {
            let help = "state in servers is encrypted: make a key by `head -c 32 /dev/urandom | base64 > key`, and give the same key \
                        to all popgates";
            return Err(self.missing("state.key_file", help));
        }
        Ok(State {
            dir,
            shared,
            key,
            key_file,
        })
    }

    fn shared_state(&mut self, state: keys::State) -> Checked<Option<SharedState>> {
        let password = self.secret("state.password", state.password, state.password_file);
        let ca_file = state.ca_file.as_ref().map(|file| self.readable("state.ca_file", file));
        let (password, ca_file) = (password?, ca_file.transpose()?);
        let Some(url) = state.url else {
            if self.sources.is_wrong("state.url") {
                return Err(Noted);
            }
            if password.is_some() || ca_file.is_some() || state.replica.is_some() {
                let help = "the other keys say how servers of state are reached: give it, or leave them out";
                return Err(self.missing("state.url", help));
            }
            return Ok(None);
        };
        if url.user.is_some() && password.is_none() {
            let help = "the user in `url` needs a password: name its file by `password_file`";
            return Err(self.missing("state.password_file", help));
        }
        if password
            .as_ref()
            .is_some_and(|password| std::str::from_utf8(password.expose()).is_err())
        {
            let help = "servers of state get their password in UTF-8: set another one there, of ASCII characters";
            return Err(self.wrong("state.password_file", "the password is not in UTF-8", help));
        }
        if ca_file.is_some() && !url.is_tls {
            let help = "write rediss:// in `url` for TLS, or leave `ca_file` out";
            return Err(self.wrong("state.ca_file", "there are no certificates without TLS", help));
        }
        if let Some(brace) = state.prefix.chars().find(|c| matches!(c, '{' | '}')) {
            let help = "popgate sets braces itself, so that a cluster keeps together what belongs together";
            return Err(self.wrong("state.prefix", format!("a prefix can't contain {brace:?}"), help));
        }
        Ok(Some(SharedState {
            url,
            password,
            ca_file,
            prefix: state.prefix,
            replicas: state.replicas,
            fsync: state.fsync,
            lease: state.lease_seconds,
            replica: state.replica.unwrap_or_else(host_name),
            // Known once the upstreams are verified.
            upstreams: BTreeMap::new(),
        }))
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
}
