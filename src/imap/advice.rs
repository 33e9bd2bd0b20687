//! Advice for the operator if an upstream fails: what to do, and which key of the configuration to change. `doctor`,
//! `check` and the log all take their advice from here.

use super::{
    error::Error,
    response::{Closed, Code, Completion},
    unreachable::{NoWay, Unreachable},
};
use crate::{
    config::{Auth, Upstream, UpstreamTls},
    oauth,
    tls::{Disagreement, Distrust, Flaw},
    types::Spoken,
};

/// The connection that failed: to which upstream, and for whom.
#[derive(Debug, Clone, Copy)]
pub struct FailedConnection<'a> {
    /// The upstream. Its table of the configuration is named in the advice.
    pub upstream: &'a Upstream,
    /// The login of the device or account; `None` if nobody was to log in.
    pub login: Option<&'a str>,
    /// The user at the upstream; empty if there is none.
    pub user: &'a str,
    /// Whether the password comes from the device.
    pub is_forwarded: bool,
    /// The folders that the account is configured to read.
    pub folders: &'a [String],
}

/// What to do about `error`; `None` if nobody needs to do anything, or nothing is known to help.
pub fn advice(error: &Error, connection: FailedConnection<'_>) -> Option<String> {
    Some(match error {
        Error::Unreachable(why) => connection.unreachable(why),
        Error::Proxy(_) => format!(
            "check `proxy`, `host` and `port` of {}, and what the proxy allows",
            connection.table()
        ),
        Error::Connect(_) | Error::SilentTls(_) => format!(
            "check `port` and `tls` of {}: {USUAL}; or does a firewall stand between?",
            connection.table()
        ),
        Error::Certificate(distrust) => connection.untrusted(distrust),
        Error::Tls(why) => connection.no_tls(why),
        Error::Stranger(spoken) => connection.stranger(*spoken),
        Error::NoGreeting(_) => connection.no_greeting(),
        Error::Unwelcome(_) | Error::Bye(_) if error.asks_for_a_pause() => connection.asks_too_much(),
        Error::Unwelcome(_) => format!(
            "the server wants nobody from here, or not now: does it block this address, or do other programs use the same mailbox? \
             `connections_per_user` of {} bounds what popgate opens",
            connection.table()
        ),
        Error::Bye(_) => format!(
            "the server hung up: is IMAP switched on for {}, and do other programs use the same mailbox? \
             `connections_per_user` of {} bounds what popgate opens",
            connection.user(),
            connection.table()
        ),
        Error::NoStartTls => format!(
            "set `tls` of {} to \"implicit\" with `port` 993; \"off\" sends passwords unencrypted",
            connection.table()
        ),
        Error::LoginDisabled => connection.login_disabled(),
        Error::NoTokens => format!(
            "is `host` of {} the provider's IMAP server? If it takes passwords, leave [upstream.{}.oauth2] out",
            connection.table(),
            connection.upstream.name
        ),
        Error::Token(why) => return connection.no_token(why),
        Error::TokenRefused(_) => format!(
            "the provider gave a token, but the server does not take it for {}: is IMAP switched on there, and is `user` the \
             mailbox of whoever has signed in, or shared with them?",
            connection.user()
        ),
        Error::PreAuthenticated => format!(
            "set `host` and `port` of {} to where users log in: at this port the server asks for no login",
            connection.table()
        ),
        Error::Denied(_) => connection.denied(),
        Error::NoMailbox(completion) => connection.no_mailbox(completion),
        Error::Closed { closed, .. } => closed_words(*closed).to_owned(),
        Error::Paused(_) => connection.asks_too_much(),
        Error::Refused { .. } if error.asks_for_a_pause() => connection.asks_too_much(),
        Error::Refused { .. } if error.is_no_such_folder() => connection.no_folder(),
        Error::Refused { completion, .. } if completion.code() == Some(Code::NoPermission) => {
            format!("give {} the right to do this, at the server", connection.user())
        }
        Error::Silent(_) | Error::Endless | Error::Lost(_) => format!(
            "check whether a firewall stands between; if the server is slow, raise `upstream_seconds` of [limits]; if it can't \
             take several commands at once, set `pipelining` of {} to false",
            connection.table()
        ),
        Error::NoUidValidity => format!(
            "the server's mailbox is broken, or it is not made for what it is asked: tell who runs it, or choose another `host` \
             in {}",
            connection.table()
        ),
        Error::Sasl(_) => format!(
            "check `host` of {0}: the server may not be what it seems. If you know it, set `auth` of {0} to another way to log in, \
             such as \"login-command\"",
            connection.table()
        ),
        Error::Protocol(_) => format!("check `host` and `port` of {}: {USUAL}", connection.table()),
        Error::Refused { .. } | Error::ShortLiteral | Error::NoData(_) => return None,
    })
}

/// The usual pairs of `tls` and `port`.
const USUAL: &str = "usual are tls = \"implicit\" at port 993, and \"starttls\" at 143";

impl FailedConnection<'_> {
    /// The upstream's table in the configuration: `[upstream.NAME]`.
    fn table(self) -> String {
        format!("[upstream.{}]", self.upstream.name)
    }

    fn user(self) -> String {
        if self.user.is_empty() {
            "the user".to_owned()
        } else {
            self.user.to_owned()
        }
    }

    fn unreachable(self, why: &Unreachable) -> String {
        let table = self.table();
        match why.kind() {
            _ if self.upstream.proxy.is_some() => {
                format!("check `proxy` of {table}, whether the proxy is running, and `host` and `port`")
            }
            NoWay::NoSuchName => format!("check how `host` of {table} is spelled: DNS knows no such name"),
            NoWay::NoResolver => format!(
                "no DNS server answers here: check this machine's network and resolver (/etc/resolv.conf), then `host` of {table}"
            ),
            NoWay::ClosedPort => {
                format!("check `port` and `host` of {table}: nobody listens there, or a firewall refuses ({USUAL})")
            }
            NoWay::Silence => format!(
                "a firewall swallows the connection, or the host is down: check `host` and `port` of {table} and which ports may \
                 leave this network; `proxy` goes round about"
            ),
            NoWay::NoRoute => format!(
                "this machine has no way to that address: check its network (IPv6?), and `host` of {table}; `proxy` goes round about"
            ),
            NoWay::Forbidden => {
                format!("this machine forbids the connection: check its firewall or sandbox, and `port` of {table}")
            }
            NoWay::Other => {
                format!("check `host` and `port` of {table}, and whether a firewall stands between")
            }
        }
    }

    fn untrusted(self, distrust: &Distrust) -> String {
        let table = self.table();
        match distrust.flaw {
            Flaw::OtherName => format!(
                "set `host` of {table} to a name that the certificate is for; or, once you have compared it with what the server's \
                 owner says, name it by `fingerprint` or `ca_file`"
            ),
            Flaw::Expired | Flaw::NotYetValid => format!(
                "check this machine's clock; then whoever runs the server must renew its certificate. Until then `fingerprint` of \
                 {table} takes this one as it is, once you have compared it with what the server's owner says; so does `ca_file`"
            ),
            Flaw::UnknownIssuer => format!(
                "if the certificate is your own, name it or its root in `ca_file` of {table}, or the certificate alone by \
                 `fingerprint`, once you have compared the fingerprint with what the server shows you"
            ),
            Flaw::OtherFingerprint => format!(
                "was the server's certificate renewed? Compare the fingerprint with what the server shows you, then set \
                 `fingerprint` of {table}, or name the root in `ca_file` instead"
            ),
            Flaw::Signature => format!(
                "something between here and the server may pretend to be it: do not go on before you know; check `host` of {table}"
            ),
            Flaw::Other => format!(
                "have the server's owner mend its certificate; if you know it to be the server's own, name it by `ca_file` or \
                 `fingerprint` of {table}"
            ),
        }
    }

    fn no_tls(self, why: &Disagreement) -> String {
        let table = self.table();
        match why {
            Disagreement::NotTls(Spoken::Imap) => {
                format!("set `tls` of {table} to \"starttls\", or `port` to 993: this port begins without TLS")
            }
            Disagreement::NotTls(spoken) => self.stranger(*spoken),
            Disagreement::NothingInCommon(_) => format!(
                "the server must be updated, or reached at another `host` or `port`; if neither can be, set `tls` of {table} to \
                 \"legacy\" (TLS 1.0, not safe)"
            ),
            Disagreement::NothingOldInCommon(_) => {
                format!("check `port` and `tls` of {table}: {USUAL}; otherwise the server must be updated")
            }
            Disagreement::ClientCertificate(_) => format!(
                "popgate shows no certificate to an upstream: choose another `host` or `port` in {table}, or have the server ask for \
                 none"
            ),
            Disagreement::UnknownName => format!(
                "set `host` of {table} to the name that the server's owner gives, not to an address or another name of it"
            ),
            Disagreement::Rules(_) => format!("check `port` and `tls` of {table}: {USUAL}"),
        }
    }

    fn stranger(self, spoken: Spoken) -> String {
        let table = self.table();
        match spoken {
            Spoken::Pop3 => format!(
                "set `port` of {table} to that of IMAP (993, or 143 with tls = \"starttls\"): popgate serves POP3, and fetches by \
                 IMAP"
            ),
            Spoken::Tls => format!("set `tls` of {table} to \"implicit\": this port begins with TLS"),
            Spoken::Imap => format!("check `tls` of {table}: {USUAL}"),
            Spoken::Smtp | Spoken::Http | Spoken::Ssh | Spoken::Unknown => {
                format!("set `port` of {table} to that of IMAP (993, or 143 with tls = \"starttls\"), and check `host`")
            }
        }
    }

    fn no_greeting(self) -> String {
        let table = self.table();
        match self.upstream.tls {
            UpstreamTls::Off | UpstreamTls::StartTls => format!(
                "set `tls` of {table} to \"implicit\" if this port begins with TLS, as 993 does: then the server waits for TLS, and \
                 popgate for its greeting. Otherwise check `port` and `host`"
            ),
            UpstreamTls::Implicit | UpstreamTls::Legacy => format!(
                "check `port` and `host` of {table}: what answers there speaks TLS, but perhaps not IMAP, or it is overloaded"
            ),
        }
    }

    fn login_disabled(self) -> String {
        let table = self.table();
        let name = &self.upstream.name;
        match (self.upstream.tls, self.upstream.auth) {
            (UpstreamTls::Off, _) => {
                format!("set `tls` of {table} to \"starttls\" or \"implicit\": the server wants encryption")
            }
            (_, Auth::LoginCommand) => format!("set `auth` of {table} to \"auto\": the server does not take LOGIN"),
            _ => format!(
                "the server takes no passwords: give tokens in [upstream.{name}.oauth2], or the `preset` of the provider in {table}"
            ),
        }
    }

    fn no_token(self, why: &oauth::Error) -> Option<String> {
        let name = &self.upstream.name;
        Some(match why {
            oauth::Error::SignIn(_) => match self.login {
                Some(login) => format!("run popgate sign-in {login}"),
                None => "run popgate sign-in".to_owned(),
            },
            oauth::Error::Refused(_) => {
                format!(
                    "check `client_id`, its secret and `scopes` in [upstream.{name}.oauth2], and the application at the provider"
                )
            }
            oauth::Error::Unavailable { .. } => format!(
                "check whether this machine reaches the provider; `token_url` of [upstream.{name}.oauth2] says where"
            ),
            oauth::Error::State => "check `dir` and `key_file` of [state]".to_owned(),
            oauth::Error::Elsewhere => return None,
        })
    }

    fn denied(self) -> String {
        let usual = "many providers want IMAP to be switched on, and a password made for one application";
        let preset = self.upstream.preset.and_then(|preset| preset.passwords.as_deref());
        let provider = preset.unwrap_or(usual);
        match self.login {
            _ if self.is_forwarded => format!("check user and password of the device; {provider}"),
            Some(login) => format!("check `user` and `upstream_password` of {login}; {provider}"),
            None => provider.to_owned(),
        }
    }

    fn no_mailbox(self, completion: &Completion) -> String {
        if completion.text().to_ascii_lowercase().contains("unsafe login") {
            "the provider does not trust this way to log in: switch IMAP on in its web mail, and give the authorisation code that \
             it shows instead of the password"
                .to_owned()
        } else {
            format!(
                "has {} a licence with a mailbox, is IMAP switched on for it, and if the mailbox is shared, has whoever signed in \
                 full access to it?",
                self.user()
            )
        }
    }

    fn no_folder(self) -> String {
        format!("check `folder`: the server must have {}", self.folders.join(" and "))
    }

    fn asks_too_much(self) -> String {
        format!(
            "let the server be for some minutes. Do other programs use the same mailbox? `connections_per_user` of {} bounds what \
             popgate opens",
            self.table()
        )
    }
}

fn closed_words(closed: Closed) -> &'static str {
    match closed {
        Closed::ImapOff => "switch IMAP on for this user: in the settings of the web mail, or by the administrator",
        Closed::WantsWeb => "log in to the provider's web mail as this user once, and confirm what it asks",
        Closed::WantsAdministrator => "the provider's administrator or support must open the account",
    }
}

#[cfg(test)]
mod tests {
    use std::{io, path::Path, time::Duration};

    use super::*;
    use crate::config::Config;

    /// The advice about `error`, if the upstream is configured with `keys`.
    fn advised(keys: &str, error: &Error) -> String {
        let text = format!("[upstream.home]\nhost = \"imap.example.org\"\nlogins = [\"*\"]\n{keys}\n");
        let config = Config::parse(&text, Path::new("")).unwrap();
        let connection = FailedConnection {
            upstream: &config.upstreams[0],
            login: Some("fax"),
            user: "office",
            is_forwarded: false,
            folders: &["Faxes".to_owned()],
        };
        advice(error, connection).unwrap_or_default()
    }

    #[test]
    fn the_key_to_change_depends_on_what_is_configured() {
        let off = "tls = \"off\"";
        for (keys, error, part) in [
            (off, Error::LoginDisabled, "set `tls` of [upstream.home]"),
            ("", Error::LoginDisabled, "[upstream.home.oauth2]"),
            ("auth = \"login-command\"", Error::LoginDisabled, "set `auth`"),
            (
                off,
                Error::NoGreeting(Box::new(Error::Silent(Duration::from_secs(30)))),
                "set `tls` of [upstream.home] to \"implicit\"",
            ),
            (
                "",
                Error::NoGreeting(Box::new(Error::Silent(Duration::from_secs(30)))),
                "check `port` and `host`",
            ),
            ("", Error::NoStartTls, "`tls` of [upstream.home] to \"implicit\""),
            ("", Error::Stranger(Spoken::Pop3), "`port` of [upstream.home]"),
            (off, Error::Stranger(Spoken::Tls), "set `tls`"),
            ("", Error::PreAuthenticated, "`port` of [upstream.home]"),
            ("", Error::Tls(Disagreement::NotTls(Spoken::Imap)), "\"starttls\""),
            ("", Error::Tls(Disagreement::NotTls(Spoken::Pop3)), "set `port`"),
            (
                "",
                Error::Tls(Disagreement::NothingInCommon(String::new())),
                "set `tls` of [upstream.home] to \"legacy\"",
            ),
            (
                "proxy = \"socks5://127.0.0.1:1080\"",
                Error::Unreachable(Unreachable::Addresses(Vec::new())),
                "check `proxy`",
            ),
            ("", Error::Bye("bye".into()), "`connections_per_user`"),
            (
                "",
                Error::Unwelcome("too many simultaneous connections".into()),
                "some minutes",
            ),
        ] {
            let advice = advised(keys, &error);
            assert!(advice.contains(part), "{keys} {error}: {advice}");
        }
    }

    #[test]
    fn each_way_that_is_closed_has_advice_of_its_own() {
        let address = ([192, 0, 2, 1], 993).into();
        let mut seen = Vec::new();
        for kind in [
            io::ErrorKind::ConnectionRefused,
            io::ErrorKind::TimedOut,
            io::ErrorKind::NetworkUnreachable,
            io::ErrorKind::PermissionDenied,
            io::ErrorKind::OutOfMemory,
        ] {
            let error = Error::Unreachable(Unreachable::Addresses(vec![(address, kind.into())]));
            let advice = advised("", &error);
            assert!(advice.contains("[upstream.home]"), "{advice}");
            assert!(!seen.contains(&advice), "{advice}");
            seen.push(advice);
        }
    }
}
