//! The text of a new configuration.

use std::fmt;

use toml::Value;

use super::questions::{Answers, Provider};

/// A configuration made of answers.
pub(super) struct Draft<'a> {
    pub(super) answers: &'a Answers,
    pub(super) key_file: &'a str,
    pub(super) password_file: &'a str,
    /// Of a login of the gateway's own.
    pub(super) password_hash: Option<&'a str>,
}

/// A string as TOML writes it.
fn quoted(text: &str) -> Value {
    Value::String(text.to_owned())
}

impl fmt::Display for Draft<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answers = self.answers;
        let name = match &answers.provider {
            Provider::Known(preset) => preset.name.as_str(),
            Provider::Host { .. } => "home",
        };
        writeln!(
            f,
            "# Written by `popgate init`. `popgate check --keys` tells all keys, `popgate check` what this means.\n\n\
             [[listener]]\naddress = \"0.0.0.0:{}\"\n\
             tls = \"off\" # for this machine and private networks; \"starttls\" and \"implicit\" need [tls]\n\n\
             [state]\ndir = \"state\"\nkey_file = {}\n\n[upstream.{name}]",
            answers.port,
            quoted(self.key_file)
        )?;
        match &answers.provider {
            Provider::Known(preset) => writeln!(f, "preset = {}", quoted(&preset.name))?,
            Provider::Host { name, port } => {
                writeln!(f, "host = {}", quoted(name))?;
                if let Some(port) = port {
                    writeln!(f, "port = {port}")?;
                }
                writeln!(f, "tls = \"implicit\"")?;
            }
        }
        if answers.own_login().is_none() {
            writeln!(f, "logins = [{}] # with its own password", quoted(&answers.address))?;
        }
        if let Some(client_id) = &answers.client_id {
            writeln!(f, "\n[upstream.{name}.oauth2]\nclient_id = {}", quoted(client_id))?;
        }
        writeln!(
            f,
            "\n[upstream.{name}.maildrop]\non_delete = {}",
            quoted(&answers.on_delete)
        )?;
        let Some(login) = answers.own_login() else {
            return Ok(());
        };
        writeln!(f, "\n[[account]]\nlogin = {}", quoted(login))?;
        if let Some(hash) = self.password_hash {
            writeln!(f, "password_hash = {}", quoted(hash))?;
        }
        writeln!(f, "upstream = {}\nuser = {}", quoted(name), quoted(&answers.address))?;
        if answers.upstream_password.is_some() {
            writeln!(f, "upstream_password_file = {}", quoted(self.password_file))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Credential, OnDelete, Preset};

    fn answers(provider: Provider, login: &str) -> Answers {
        Answers {
            address: "office@example.org".into(),
            provider,
            login: login.into(),
            upstream_password: None,
            client_id: None,
            port: 1110,
            on_delete: "move:Done \"now\"".into(),
        }
    }

    fn parsed(answers: &Answers, password_hash: Option<&str>) -> Config {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("key"), "0123456789abcdef0123456789abcdef").unwrap();
        std::fs::write(directory.path().join("password"), "p").unwrap();
        let text = Draft {
            answers,
            key_file: "key",
            password_file: "password",
            password_hash,
        }
        .to_string();
        Config::parse(&text, directory.path()).unwrap_or_else(|error| panic!("{text}\n{error}"))
    }

    #[test]
    fn each_kind_of_answer_makes_a_configuration() {
        let host = Provider::Host {
            name: "imap.example.org".into(),
            port: Some(1993),
        };
        let forwarded = parsed(&answers(host.clone(), "office@example.org"), None);
        assert_eq!(forwarded.upstreams[0].logins, ["office@example.org"]);
        assert_eq!(forwarded.upstreams[0].port, 1993);
        let on_delete = &forwarded.upstreams[0].maildrop.on_delete;
        assert!(matches!(on_delete, OnDelete::MoveTo(folder) if folder == "Done \"now\""));

        let hash = "$argon2id$v=19$m=19456,t=2,p=1$C3UeayebQZmFumdLvz7AwQ$wTnF3BQ6nftUUTC/JzyhOC5mqKt4gniXHxugoR5Xb6k";
        let own = Answers {
            upstream_password: Some("p".into()),
            ..answers(host, "fax")
        };
        let own = parsed(&own, Some(hash));
        assert_eq!(
            (&*own.accounts[0].login, &*own.accounts[0].user),
            ("fax", "office@example.org")
        );
        assert!(own.upstreams[0].logins.is_empty());

        let tokens = Answers {
            client_id: Some("id".into()),
            ..answers(Provider::Known(Preset::called("microsoft365").unwrap()), "fax")
        };
        let tokens = parsed(&tokens, Some(hash));
        assert!(matches!(tokens.accounts[0].credential, Credential::OAuth2 { .. }));
    }
}
