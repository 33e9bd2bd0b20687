//! `popgate check`: the configuration in words, its risks, whether it can be served, with `--connect` whether the upstreams
//! answer, and with `--retention` what would go.

mod retention;
mod trial;
mod words;

use std::{
    io::{self, Write},
    sync::Arc,
};

use super::{Failure, tokens};
use crate::{
    accounts::{Account, Accounts},
    config::{
        self, ClientCertificates, Config, Credential, Listener, Loaded, Log, LogFormat, Shared, Upstream, UpstreamTls,
    },
    maildrop::{Maildrops, Reason, Refusal},
    oauth::Tokens,
    state::{self, MemoryStore, StateStore},
    telemetry,
    tls::Acceptor,
    types::Octets,
};

/// Prints all keys.
pub(super) fn keys(json: bool) -> Result<(), Failure> {
    let mut out = io::stdout();
    if json {
        writeln!(out, "{:#}", config::keys_as_json())?
    } else {
        write!(out, "{}", config::keys_as_text())?
    }
    Ok(())
}

/// Prints what the configuration means; fails where `connect` finds an upstream that does not work.
pub(super) async fn run(loaded: Loaded, connect: bool, retention: bool) -> Result<(), Failure> {
    let Loaded { config, warnings, .. } = loaded;
    for listener in config.listeners.iter().filter(|_| !config.tls.is_empty()) {
        Acceptor::for_listener(&config.tls, listener).map_err(|error| Failure::wrong(format!("[tls] {error}")))?;
    }
    // What is wrong is told before anything else.
    maildrops(&config, &tokens::in_memory(&config)?)?;

    let mut out = io::stdout();
    for line in describe(&config) {
        writeln!(out, "{line}")?;
    }
    for warning in &warnings {
        writeln!(out, "warning: {warning}")?;
    }
    let findings = trial::run(&config)
        .await
        .map_err(|error| Failure::wrong(format!("[tls] {error}")))?;
    for finding in &findings {
        writeln!(out, "{finding}")?;
    }
    if findings
        .iter()
        .any(|finding| matches!(finding, trial::Finding::Failure(_)))
    {
        return Err(Failure::failed("this configuration can't be served, see above"));
    }
    if !connect && !retention {
        writeln!(out, "The configuration is valid. (--connect tries the upstreams too.)")?;
        return Ok(());
    }

    // An upstream's own words stand in the log.
    telemetry::init(&Log {
        format: LogFormat::Text,
        level: "warn".into(),
    })?;
    if retention && config.state.dir.is_none() {
        return Err(Failure::wrong(
            "[state] has no `dir`: what was retrieved when is known to the running gateway only, until it ends",
        ));
    }
    // Once for both, and not before the trial: as long as this process has it, no other can open it.
    let kept: Arc<dyn StateStore> = match &config.state.dir {
        Some(dir) => state::reach(dir).map_err(Failure::failed)?,
        None => Arc::new(MemoryStore::default()),
    };
    let tokens = tokens::of(&config, kept.clone())?;
    let all_asked = if retention {
        retention::run(&config, kept, tokens.clone(), &mut out).await?
    } else {
        true
    };
    let mut failures = 0;
    if connect {
        let maildrops = maildrops(&config, &tokens)?;
        failures = try_upstreams(&config, &maildrops, &mut out).await?;
        maildrops.finish().await;
    }
    tokens.finish().await;
    match failures {
        0 if all_asked => Ok(()),
        0 => Err(Failure::failed("not every account could be asked, see above")),
        1 => Err(Failure::failed("one upstream or account does not work, see above")),
        failures => Err(Failure::failed(format!(
            "{failures} upstreams or accounts do not work, see above"
        ))),
    }
}

/// With state of their own: a gateway may be running, and only its tokens are needed to try an upstream.
fn maildrops(config: &Config, tokens: &Arc<Tokens>) -> Result<Maildrops, Failure> {
    let state = Arc::new(MemoryStore::default());
    Maildrops::new(config, state, tokens.clone()).map_err(Failure::wrong)
}

/// Logs in for each account, and at least greets every other upstream; returns how many failed.
async fn try_upstreams(config: &Config, maildrops: &Maildrops, out: &mut impl Write) -> Result<usize, Failure> {
    let mut failures = 0;
    // A line is written once its outcome is known: what the upstream said, in the log, comes before it.
    let known = Accounts::new(config).map_err(Failure::failed)?.known();
    for configured in config.accounts.iter() {
        let account = if configured.is_rule() {
            // One is enough: the application is trusted with all of them, or with none.
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
        let upstream = &account.upstream;
        let outcome = match maildrops.open(&account).await {
            Ok(maildrop) => {
                let (messages, Octets(octets)) = maildrop.listing().stat();
                maildrop.abandon().await;
                let folders = account.policy.folders.join(" and ");
                format!("ok, {messages} messages of {octets} octets in {folders}")
            }
            Err(error) => {
                failures += 1;
                error.log();
                explain(error.refusal(), upstream, Some(&account))
            }
        };
        writeln!(
            out,
            "{} → {} at {}: {outcome}",
            account.login,
            account.user,
            address(upstream)
        )?;
    }
    let tried: Vec<_> = config.accounts.iter().map(|account| &account.upstream.name).collect();
    for upstream in config
        .upstreams
        .iter()
        .filter(|upstream| !tried.contains(&&upstream.name))
    {
        let outcome = match maildrops.probe(upstream).await {
            Ok(()) => "ok, it answers (logging in takes a password, which devices bring along)".to_owned(),
            Err(error) => {
                failures += 1;
                error.log();
                explain(error.refusal(), upstream, None)
            }
        };
        writeln!(out, "upstream.{} at {}: {outcome}", upstream.name, address(upstream))?;
    }
    Ok(failures)
}

/// A refusal with what to do about it.
fn explain(refusal: &Refusal, upstream: &Upstream, account: Option<&Account>) -> String {
    let name = &upstream.name;
    let advice = match refusal {
        Refusal::Denied => match account {
            Some(account) => {
                let usual = "many providers want IMAP to be switched on, and a password made for one application";
                let advice = upstream.preset.and_then(|preset| preset.passwords.as_deref());
                format!(
                    "check `user` and `upstream_password` of {}; {}",
                    account.login,
                    advice.unwrap_or(usual)
                )
            }
            None => String::new(),
        },
        Refusal::Unavailable(Reason::Refused | Reason::Silent | Reason::Lost) => {
            format!("check host, port and tls of [upstream.{name}], and whether a firewall stands between")
        }
        Refusal::Unavailable(Reason::Protocol) => {
            format!("check port and tls of [upstream.{name}]: implicit is usual at port 993, starttls at 143")
        }
        Refusal::Unavailable(Reason::Throttled) => {
            "let it be for some minutes; do other programs use the same mailbox?".to_owned()
        }
        Refusal::Misconfigured(Reason::NoMailbox) => {
            "has the user a licence with a mailbox, is IMAP switched on for it, and \
             where the mailbox is shared, has whoever signed in full access to it?"
                .to_owned()
        }
        Refusal::Misconfigured(Reason::Certificate) => {
            format!(
                "if the server's certificate is your own, name it or its root in `ca_file` of [upstream.{name}], or the \
                 certificate alone by `fingerprint`, once you have compared what the log says with what the server shows you"
            )
        }
        Refusal::Misconfigured(Reason::Tls) => {
            format!(
                "check port and tls of [upstream.{name}]: implicit is usual at port 993, starttls at 143; a server that knows \
                 only TLS 1.0 or 1.1, or only RSA key exchange, must be updated, or reached by tls = \"legacy\", which is not safe"
            )
        }
        Refusal::Misconfigured(Reason::Proxy) => {
            format!("check proxy, host and port of [upstream.{name}], and what the proxy allows")
        }
        Refusal::Misconfigured(Reason::NoPassword) => match upstream.tls {
            UpstreamTls::Off => format!("the server wants encryption: set tls of [upstream.{name}]"),
            _ if upstream.oauth2.is_some() => {
                format!("the server takes no tokens: is host of [upstream.{name}] the provider's IMAP server?")
            }
            _ => "the server offers no login by password here".to_owned(),
        },
        Refusal::Misconfigured(Reason::SignIn) => match account {
            Some(account) => format!("run popgate sign-in {}", account.login),
            None => String::new(),
        },
        Refusal::Misconfigured(Reason::Token) => match account {
            Some(account) => format!(
                "the provider gave a token, but the server does not take it for {}: is IMAP switched on there, and is it the \
                 mailbox of whoever has signed in, or shared with them?",
                account.user
            ),
            None => String::new(),
        },
        Refusal::Misconfigured(Reason::Folder) => match account {
            Some(account) => format!(
                "check `folder`: the server must have {}",
                account.policy.folders.join(" and ")
            ),
            None => String::new(),
        },
        Refusal::InUse => "another account of this configuration means the same mailbox".to_owned(),
        _ => String::new(),
    };
    match advice.as_str() {
        "" => format!("failed: {refusal}"),
        advice => format!("failed: {refusal}\n  {advice}"),
    }
}

/// The configuration in sentences.
fn describe(config: &Config) -> Vec<String> {
    let mut lines: Vec<String> = config.listeners.iter().map(listener).collect();
    for account in config.accounts.iter() {
        let by = match (&account.credential, &account.upstream.oauth2) {
            (Credential::OAuth2 { .. }, Some(oauth2)) if oauth2.needs_consent() => {
                format!(", by OAuth2 (popgate sign-in {})", account.login)
            }
            (Credential::OAuth2 { .. }, _) => ", by OAuth2 of the application itself".to_owned(),
            (Credential::Password(_) | Credential::Token(_), _) => String::new(),
        };
        let mailbox = format!("{} at {}{by}", account.user, address(&account.upstream));
        lines.push(words::explain(&account.login, &mailbox, &account.maildrop));
    }
    lines.extend(config.shared().iter().map(Shared::to_string));
    for upstream in config.upstreams.iter().filter(|upstream| !upstream.logins.is_empty()) {
        let mut logins = format!("{}, each with its own password", upstream.logins.join(", "));
        if let Some(domain) = &upstream.default_domain {
            logins += &format!(" (without a domain: of {domain})");
        }
        let mailbox = format!("the same user at {}", address(upstream));
        lines.push(words::explain(&logins, &mailbox, &upstream.maildrop));
    }
    lines
}

fn listener(listener: &Listener) -> String {
    let allow: Vec<_> = listener.allow.iter().map(ToString::to_string).collect();
    let allow = if listener.allow == Listener::everyone() {
        "everyone".to_owned()
    } else if listener.allow == Listener::private_networks() {
        "this machine and private networks".to_owned()
    } else {
        allow.join(", ")
    };
    let required = if listener.require_tls { ", required" } else { "" };
    let certificates = match listener.client_certificates {
        ClientCertificates::Off => "",
        ClientCertificates::Optional => ", client certificates if shown",
        ClientCertificates::Required => ", client certificates required",
    };
    let apop = if listener.apop { ", APOP" } else { "" };
    let balancers: Vec<_> = listener.proxy_protocol_from.iter().map(ToString::to_string).collect();
    let through = match balancers.join(", ") {
        balancers if balancers.is_empty() => balancers,
        balancers => format!(", told by PROXY headers from {balancers}"),
    };
    format!(
        "listens at {} (tls: {}{required}{certificates}{apop}) for {allow}{through}",
        listener.address, listener.tls
    )
}

fn address(upstream: &Upstream) -> String {
    let host = if upstream.host.contains(':') {
        format!("[{}]", upstream.host)
    } else {
        upstream.host.clone()
    };
    format!("{host}:{} ({})", upstream.port, upstream.reached().join(", "))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn advice_is_about_what_the_upstream_takes() {
        let of = |keys: &str| {
            let account = "[[account]]\nlogin = \"a\"\npassword = \"x\"\nupstream = \"home\"\n";
            let text = format!("{account}{keys}");
            let config = Config::parse(&text, Path::new("")).unwrap();
            explain(&Refusal::Misconfigured(Reason::NoPassword), &config.upstreams[0], None)
        };
        let home = "[upstream.home]\nhost = \"imap.example.org\"\n";
        assert!(of(&format!("upstream_password = \"y\"\n{home}")).contains("by password"));
        let tokens = of(&format!(
            "{home}[upstream.home.oauth2]\ngrant = \"client-credentials\"\nclient_id = \"i\"\nclient_secret = \"s\"\n\
             token_url = \"https://x/t\"\n"
        ));
        assert!(
            tokens.contains("takes no tokens") && !tokens.contains("password"),
            "{tokens}"
        );
    }

    /// Its domain may be written in another case, as when a device logs in.
    #[test]
    fn a_login_with_a_password_is_one_of_its_rule() {
        let directory = tempfile::tempdir().unwrap();
        let hash = "$argon2id$v=19$m=19456,t=2,p=1$C3UeayebQZmFumdLvz7AwQ$wTnF3BQ6nftUUTC/JzyhOC5mqKt4gniXHxugoR5Xb6k";
        std::fs::write(directory.path().join("devices"), format!("eva@EXAMPLE.org:{hash}\n")).unwrap();
        let rule = |login: &str| {
            format!("[[account]]\nlogin = \"{login}\"\npasswords_file = \"devices\"\nupstream = \"home\"\n")
        };
        let text = format!(
            "{}{}[upstream.home]\nhost = \"imap.example.org\"\n[upstream.home.oauth2]\ngrant = \"client-credentials\"\n\
             client_id = \"i\"\nclient_secret = \"s\"\ntoken_url = \"https://x/t\"\n",
            rule("*@example.org"),
            rule("*@example.net")
        );
        let config = Config::parse(&text, directory.path()).unwrap();
        let known = Accounts::new(&config).unwrap().known();
        let [eva] = &known[..] else { panic!("{known:?}") };
        assert!(eva.is_of(&config.accounts[0]) && !eva.is_of(&config.accounts[1]));
    }

    #[test]
    fn says_by_what_an_account_logs_in() {
        let of = |grant: &str| {
            let text = format!(
                "[state]\ndir = \"d\"\nkey = \"0123456789abcdef0123456789abcdef\"\n[[account]]\nlogin = \"pbx\"\npassword = \"x\"\n\
                 upstream = \"home\"\nuser = \"eva\"\n[upstream.home]\nhost = \"imap.example.org\"\n[upstream.home.oauth2]\n\
                 client_id = \"i\"\nclient_secret = \"s\"\ntoken_url = \"https://x/t\"\n{grant}"
            );
            describe(&Config::parse(&text, Path::new("")).unwrap()).remove(1)
        };
        let sees = "pbx: sees INBOX of eva at imap.example.org:993 (tls: implicit), by OAuth2";
        let does = "; retrieving marks as read; a delete removes for good";
        assert_eq!(
            of("device_url = \"https://x/d\""),
            format!("{sees} (popgate sign-in pbx){does}")
        );
        assert_eq!(
            of("grant = \"client-credentials\""),
            format!("{sees} of the application itself{does}")
        );
    }

    #[test]
    fn says_how_an_upstream_is_reached() {
        let text = "[upstream.home]\nhost = \"::1\"\nlogins = [\"*\"]\nauth = \"plain\"\npipelining = false\n\
                    proxy = \"socks5://joe:hunter2@127.0.0.1\"\n";
        let config = Config::parse(text, Path::new("")).unwrap();
        assert_eq!(
            address(&config.upstreams[0]),
            "[::1]:993 (tls: implicit, auth: plain, through the proxy 127.0.0.1:1080, one command at a time)"
        );
    }

    #[test]
    fn says_in_words_what_logins_see_and_do() {
        let text = r#"
            [upstream.home]
            host = "imap.example.org"
            logins = ["*@example.org"]
            [[account]]
            login = "scanner"
            password = "x"
            upstream = "home"
            user = "office"
            upstream_password = "y"
            maildrop = { folder = "Scans", on_retrieve = "keep" }
        "#;
        let lines = describe(&Config::parse(text, Path::new("")).unwrap());
        assert_eq!(
            lines,
            [
                "listens at 0.0.0.0:110 (tls: off) for this machine and private networks",
                "scanner: sees Scans of office at imap.example.org:993 (tls: implicit); \
                 retrieving changes nothing; a delete removes for good",
                "*@example.org, each with its own password: sees INBOX of the same user at imap.example.org:993 \
                 (tls: implicit); retrieving marks as read; a delete removes for good",
            ]
        );
    }
}
