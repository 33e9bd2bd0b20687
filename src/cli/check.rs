//! `popgate check`: prints the configuration in words, its risks, and whether it can be served. `--connect` also tries
//! the upstreams; `--retention` lists what `retain_days` would remove.

mod retention;
mod trial;
mod upstreams;
mod words;

use std::{
    collections::BTreeSet,
    io::{self, Write},
    sync::Arc,
};

use super::{Failure, tokens};
use crate::{
    config::{
        self, ClientCertificates, Config, Credential, Listener, Loaded, Log, MaildropOptions, OAuthOptions,
        SharedMailbox, Upstream,
    },
    maildrop::Maildrops,
    oauth::Tokens,
    state::{self, MemoryStore},
    telemetry,
    tls::{Acceptor, Validity},
};

/// Prints all configuration keys with their values, defaults and meanings.
pub(super) fn keys(json: bool) -> Result<(), Failure> {
    let mut out = io::stdout();
    if json {
        writeln!(out, "{:#}", config::keys_as_json())?
    } else {
        write!(out, "{}", config::keys_as_text())?
    }
    Ok(())
}

/// Prints what the configuration means. Fails if anything is wrong, if `connect` finds an upstream that does not work,
/// or if `retention` cannot ask every account.
pub(super) async fn run(loaded: Loaded, connect: bool, retention: bool) -> Result<(), Failure> {
    let Loaded { config, warnings, .. } = loaded;
    let mistakes = mistakes(&config);
    let findings = trial::run(&config).await;
    let mut out = io::stdout();
    if !mistakes.is_empty() {
        // If there are mistakes, only what is wrong is printed.
        for finding in findings.iter().filter(|finding| finding.is_failure()) {
            writeln!(out, "{finding}")?;
        }
        return Err(Failure::wrong(listed(&mistakes)));
    }

    for line in describe(&config) {
        writeln!(out, "{line}")?;
    }
    for warning in &warnings {
        writeln!(out, "warning: {warning}")?;
    }
    for finding in &findings {
        writeln!(out, "{finding}")?;
    }
    if findings.iter().any(trial::Finding::is_failure) {
        return Err(Failure::failed("this configuration can't be served, see above"));
    }
    if !connect && !retention {
        writeln!(out, "The configuration is valid. (--connect tries the upstreams too.)")?;
        return Ok(());
    }

    telemetry::init(&Log::for_people("warn"))?;
    if retention && !config.state.is_kept() {
        return Err(Failure::wrong(
            "[state] has no `dir`: only the running gateway knows what was retrieved when, until it ends",
        ));
    }
    // Opened once for both options, and only after the trial: while this process has the state open, no other can open
    // it.
    let kept = state::reach_configured(&config.state).map_err(Failure::failed)?;
    let tokens = tokens::of(&config, kept.clone())?;
    let all_asked = if retention {
        retention::run(&config, kept.clone(), tokens.clone(), &mut out).await?
    } else {
        true
    };
    let mut failures = 0;
    if connect {
        let maildrops = Maildrops::new(&config, kept, tokens.clone()).map_err(Failure::wrong)?;
        failures = upstreams::run(&config, &maildrops, &mut out).await?;
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

/// Mistakes that parsing does not find: certificates, keys and roots that cannot be used. Each is listed once.
fn mistakes(config: &Config) -> Vec<String> {
    let mut mistakes = Vec::new();
    // Each certificate and each upstream is tried alone: otherwise the first mistake would hide the others.
    for files in &config.tls {
        for listener in &config.listeners {
            if let Err(error) = Acceptor::for_listener(std::slice::from_ref(files), listener, None) {
                mistakes.push(format!("[tls] {error}"));
            }
        }
        if let Err(error) = Validity::of(&files.certificate) {
            mistakes.push(format!("[tls] {error}"));
        }
    }
    for upstream in &config.upstreams {
        let state = Arc::new(MemoryStore::default());
        let alone = OAuthOptions {
            upstreams: std::slice::from_ref(upstream),
            ..OAuthOptions::from(config)
        };
        let tokens = match Tokens::new(alone, state.clone()) {
            Ok(tokens) => tokens,
            Err(error) => {
                mistakes.push(format!("[upstream.{}.oauth2] {error}", upstream.name));
                continue;
            }
        };
        let alone = MaildropOptions {
            upstreams: vec![upstream.clone()],
            ..MaildropOptions::from(config)
        };
        if let Err(error) = Maildrops::new(alone, state, tokens) {
            mistakes.push(format!("[upstream.{}] {error}", upstream.name));
        }
    }
    let mut seen = BTreeSet::new();
    mistakes.retain(|mistake| seen.insert(mistake.clone()));
    mistakes
}

/// Joins mistakes in the same form as those that parsing finds.
fn listed(mistakes: &[String]) -> String {
    match mistakes {
        [mistake] => mistake.clone(),
        mistakes => format!("{}\n\n{} mistakes", mistakes.join("\n\n"), mistakes.len()),
    }
}

/// Describes the configuration in sentences.
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
    lines.extend(config.shared_mailboxes().iter().map(SharedMailbox::to_string));
    for upstream in config.upstreams.iter().filter(|upstream| !upstream.logins.is_empty()) {
        let mut logins = format!("{}, each with its own password", upstream.logins.join(", "));
        if let Some(domain) = &upstream.default_domain {
            logins += &format!(" (a login without a domain is one of {domain})");
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
        balancers => format!(", also through load balancers at {balancers} (PROXY headers)"),
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
    format!(
        "{host}:{} ({})",
        upstream.port,
        upstream.describe_connection().join(", ")
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::accounts::Accounts;

    /// The login's domain may be written in another case, as when a device logs in.
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
            login = "tickets"
            password = "x"
            upstream = "home"
            user = "office"
            upstream_password = "y"
            maildrop = { folder = "Tickets", on_retrieve = "keep" }
        "#;
        let lines = describe(&Config::parse(text, Path::new("")).unwrap());
        assert_eq!(
            lines,
            [
                "listens at 0.0.0.0:110 (tls: off) for this machine and private networks",
                "tickets: sees Tickets of office at imap.example.org:993 (tls: implicit); \
                 retrieving changes nothing; a delete removes for good",
                "*@example.org, each with its own password: sees INBOX of the same user at imap.example.org:993 \
                 (tls: implicit); retrieving marks as read; a delete removes for good",
            ]
        );
    }
}
