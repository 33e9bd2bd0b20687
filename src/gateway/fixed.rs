//! The keys that need a restart: a reload does not change them.

use std::{net::SocketAddr, path::PathBuf};

use crate::config::{Config, LogFormat, Notify, Secret, SharedState};

/// The values that these keys had when the gateway started.
#[derive(Debug)]
pub(super) struct Fixed {
    state_dir: Option<PathBuf>,
    state_shared: Option<SharedState>,
    state_key: Option<Secret>,
    web: Option<(SocketAddr, Option<String>)>,
    log_format: LogFormat,
    notify: Notify,
}

impl From<&Config> for Fixed {
    fn from(config: &Config) -> Self {
        Self {
            state_dir: config.state.dir.clone(),
            state_shared: config.state.shared.clone(),
            state_key: config.state.key.clone(),
            web: config.web.as_ref().map(|web| (web.address, web.public_url.clone())),
            log_format: config.log.format,
            notify: config.notify.clone(),
        }
    }
}

impl Fixed {
    /// A sentence for each of these keys that has another value in `config`.
    pub(super) fn changes(&self, config: &Config) -> Vec<String> {
        let Self {
            state_dir,
            state_shared,
            state_key,
            web,
            log_format,
            notify,
        } = Self::from(config);
        let (address, url) = web.unzip();
        let (our_address, our_url) = self.web.clone().unzip();
        [
            ("[state] dir", state_dir != self.state_dir),
            ("[state] url", !SharedState::is_same(&state_shared, &self.state_shared)),
            ("[state] key", state_key != self.state_key),
            ("[web] address", address != our_address),
            ("[web] public_url", url.flatten() != our_url.flatten()),
            ("[log] format", log_format != self.log_format),
            ("[notify]", notify != self.notify),
        ]
        .into_iter()
        .filter(|(_, is_changed)| *is_changed)
        .map(|(key, _)| format!("{key} has changed: this needs a restart, and until then the old value stays in force"))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(tables: &str) -> Config {
        let text = format!("[upstream.home]\nhost = \"imap.example.org\"\nlogins = [\"*\"]\n{tables}");
        Config::parse(&text, Path::new("/etc")).unwrap()
    }

    #[test]
    fn each_key_that_needs_a_restart_is_named() {
        let before = config("[web]\naddress = \"127.0.0.1:80\"\nadmin_password = \"one-password\"");
        let fixed = Fixed::from(&before);
        assert!(fixed.changes(&before).is_empty());
        let password = config(
            "[web]\naddress = \"127.0.0.1:80\"\nadmin_password = \"another-one\"\n[limits]\nsessions = 7\n\
             [log]\nlevel = \"debug\"",
        );
        assert!(fixed.changes(&password).is_empty());
        let all = config(&format!(
            "[notify]\nmail = true\n[web]\naddress = \"127.0.0.1:81\"\npublic_url = \"https://mail.example.org\"\n\
             admin_password = \"one-password\"\n[state]\ndir = \"x\"\nkey = \"{}\"\n[log]\nformat = \"json\"",
            "k".repeat(40)
        ));
        let changes = fixed.changes(&all).join("\n");
        for key in [
            "[state] dir",
            "[state] key",
            "[web] address",
            "[web] public_url",
            "[log] format",
            "[notify]",
        ] {
            assert!(changes.contains(key), "{changes}");
        }
        assert_eq!(fixed.changes(&config("")).len(), 1, "no page any more");
    }

    #[test]
    fn secrets_are_compared_too() {
        let key = "k".repeat(40);
        let with = |secret: &str| {
            config(&format!(
                "[notify]\nwebhook = \"https://alerts.example.org/{secret}\"\n\
                 [state]\nurl = \"redis://popgate@valkey\"\npassword = \"{secret}\"\nkey = \"{key}\""
            ))
        };
        let fixed = Fixed::from(&with("hunter2"));
        assert!(fixed.changes(&with("hunter2")).is_empty());
        let changes = fixed.changes(&with("hunter3")).join("\n");
        assert!(
            changes.contains("[state] url") && changes.contains("[notify]"),
            "{changes}"
        );
    }
}
