//! Mailboxes that several logins share by `hide`, and how many of their devices the upstream's connections can serve.

use std::{collections::BTreeMap, fmt};

use super::{Account, Config};
use crate::types::canonical;

/// A mailbox in which logins hide messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedMailbox {
    /// The NAME of `[upstream.NAME]`.
    upstream: String,
    user: String,
    /// The logins that hide messages there.
    pub(super) logins: Vec<String>,
    /// Whether one of the logins is a rule, so that the number of logins is not known.
    is_open: bool,
    /// `connections_per_user`
    connections: usize,
    /// How many connections a session takes, which is one for each folder. If logins differ, this is the highest
    /// number.
    per_session: usize,
}

impl Config {
    /// The mailboxes in which logins of `[[account]]` hide messages.
    pub fn shared_mailboxes(&self) -> Vec<SharedMailbox> {
        let mut shared: BTreeMap<(&str, String), SharedMailbox> = BTreeMap::new();
        let hiding = |account: &&Account| account.maildrop.hides() && !account.user.contains('*');
        for account in self.accounts.iter().filter(hiding) {
            let user = canonical(&account.user, None);
            let upstream = &account.upstream;
            let mailbox = shared
                .entry((&upstream.name, user.clone()))
                .or_insert_with(|| SharedMailbox {
                    upstream: upstream.name.clone(),
                    user,
                    logins: Vec::new(),
                    is_open: false,
                    connections: upstream.connections_per_user,
                    per_session: 1,
                });
            mailbox.logins.push(account.login.clone());
            mailbox.is_open |= account.is_rule();
            mailbox.per_session = mailbox.per_session.max(account.maildrop.folders.len());
        }
        shared.into_values().collect()
    }
}

impl SharedMailbox {
    /// How many devices can be served at once, if each takes `per_session` connections.
    fn served(&self) -> usize {
        self.connections / self.per_session
    }

    /// A sentence about what happens if there are more logins than can be served at once; `None` if there are not.
    pub(super) fn risk(&self) -> Option<String> {
        let count = self.logins.len();
        (count > self.served()).then(|| {
            format!(
                "{count} logins hide messages in the mailbox of {}, and connections_per_user of [upstream.{}] is enough for {} of \
                 them at once: the others get [SYS/TEMP] meanwhile; raise it if the server allows that",
                self.user,
                self.upstream,
                self.served()
            )
        })
    }
}

impl fmt::Display for SharedMailbox {
    /// A sentence for `popgate check`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at [upstream.{}]: ", self.user, self.upstream)?;
        match self.logins.len() {
            _ if self.is_open => f.write_str("any number of logins hide messages")?,
            1 => f.write_str("1 login hides messages")?,
            count => write!(f, "{count} logins hide messages")?,
        }
        write!(
            f,
            " there, and connections_per_user = {} is enough for ",
            self.connections
        )?;
        match self.served() {
            1 => f.write_str("1 device at a time")?,
            count => write!(f, "{count} devices at once")?,
        }
        match self.per_session {
            1 => Ok(()),
            count => write!(f, ", as each takes {count}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn shared(keys: &str, accounts: &[(&str, &str, &str)]) -> (Vec<String>, Vec<String>) {
        let accounts: String = accounts
            .iter()
            .map(|(login, user, maildrop)| {
                format!(
                    "[[account]]\nlogin = \"{login}\"\npassword = \"p\"\nupstream = \"home\"\nuser = \"{user}\"\n\
                     upstream_password = \"p\"\nmaildrop = {{ {maildrop} }}\n"
                )
            })
            .collect();
        let text = format!("[upstream.home]\nhost = \"a\"\n{keys}{accounts}");
        let shared = Config::parse(&text, Path::new("")).unwrap().shared_mailboxes();
        (
            shared.iter().map(SharedMailbox::to_string).collect(),
            shared.iter().filter_map(SharedMailbox::risk).collect(),
        )
    }

    #[test]
    fn says_how_many_devices_are_served() {
        let hide = "on_delete = \"hide\"";
        let two = "on_delete = \"hide\", folder = [\"A\", \"B\"]";
        let (said, risks) = shared(
            "",
            &[
                ("a", "office@example.org", hide),
                ("b", "office@EXAMPLE.org", hide),
                ("c", "office@example.org", ""),
                ("d", "eva", hide),
            ],
        );
        assert_eq!(
            said,
            [
                "eva at [upstream.home]: 1 login hides messages there, and connections_per_user = 8 is enough for 8 devices at once",
                "office@example.org at [upstream.home]: 2 logins hide messages there, and connections_per_user = 8 is enough for \
                 8 devices at once",
            ]
        );
        assert!(risks.is_empty(), "{risks:?}");
        let (said, risks) = shared(
            "connections_per_user = 3\n",
            &[("a", "office", hide), ("b", "office", two)],
        );
        assert!(
            said[0].ends_with("connections_per_user = 3 is enough for 1 device at a time, as each takes 2"),
            "{said:?}"
        );
        assert!(
            risks[0].starts_with("2 logins hide messages in the mailbox of office, and"),
            "{risks:?}"
        );
        assert_eq!(shared("", &[("a", "office", "")]), (Vec::new(), Vec::new()));
    }
}
