//! `popgate sign-in`: a person lets the gateway read mail at a provider that takes no passwords (OAuth2).

pub(super) mod list;

use std::{
    io::{self, IsTerminal, Write},
    thread,
    time::Duration,
};

use oauth2::url::Url;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};
use zeroize::Zeroizing;

use super::{
    Failure,
    tokens::{in_memory, kept},
};
use crate::{
    config::{self, Config, Grant, Log},
    oauth::{CodeSignIn, Issued, Tokens},
    sign_in::{self, Candidate, Opened, candidates},
    state, telemetry,
};

/// The longest request of a browser that comes back from the provider, in octets: a code, a state, and the browser's
/// own headers.
const LONGEST_REQUEST: u64 = 64 * 1024;
/// How long that request may take. A silent connection must not keep the next one waiting.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long to retry if a consent cannot be written.
const UNTIL_SAVED: Duration = Duration::from_secs(30);

/// Why nobody signs in for a rule, and how to try one.
const NOBODY_FOR_RULES: &str = "the provider trusts the application itself, so nobody needs to sign in\n\
                                help: popgate doctor LOGIN tries a login of the rule";

#[derive(Debug, Clone, Copy)]
pub(super) enum Action<'a> {
    /// Sign in for the account of this login. With `browser`, a browser is used even if a code would do.
    SignIn { login: &'a str, browser: bool },
    /// Forget the consent of this account.
    Forget { login: &'a str },
    /// List all accounts and their consents; as JSON for programs.
    List { json: bool },
}

pub(super) async fn run(config: &Config, action: Action<'_>) -> Result<(), Failure> {
    if candidates(&config.accounts).next().is_none() {
        return Err(without_candidates(config));
    }
    // The log shows what an upstream replies.
    telemetry::init(&Log::for_people("warn"))?;
    let mut out = io::stdout();
    match action {
        Action::List { json: false } => list::in_words(config, &mut out).await,
        Action::List { json: true } => list::for_programs(config, &mut out).await,
        Action::Forget { login } => {
            let tokens = kept(config, state::reach)?;
            let consent = candidate(config, login)?.consent(&tokens);
            let outcome = if tokens.forget(&consent).await.map_err(failed)? {
                "forgotten; you can also withdraw the consent at the provider"
            } else {
                "no consent was kept"
            };
            Ok(writeln!(out, "{login}: {outcome}")?)
        }
        Action::SignIn { login, browser } => sign_in(config, candidate(config, login)?, browser, &mut out).await,
    }
}

/// The failure if `config` has no account to sign in for.
fn without_candidates(config: &Config) -> Failure {
    // A rule is always at an upstream with OAuth2.
    if config.accounts.iter().any(config::Account::is_rule) {
        return Failure::wrong(format!("every [[account]] with OAuth2 is a rule: {NOBODY_FOR_RULES}"));
    }
    Failure::wrong(
        "no [[account]] is at an upstream with OAuth2: passwords need no sign-in\n\
         help: give [upstream.NAME] a `preset` and an [upstream.NAME.oauth2], see gateway.toml.example",
    )
}

fn candidate<'a>(config: &'a Config, login: &str) -> Result<Candidate<'a>, Failure> {
    if let Some(candidate) = candidates(&config.accounts).find(|candidate| candidate.account.login == login) {
        return Ok(candidate);
    }
    if let Some(account) = config.accounts.iter().find(|account| account.login == login) {
        return Err(Failure::wrong(if account.is_rule() {
            format!("{login} is a rule: {NOBODY_FOR_RULES}")
        } else {
            format!("{login} has a password for its upstream and needs no sign-in")
        }));
    }
    let known: Vec<_> = candidates(&config.accounts)
        .map(|candidate| candidate.account.login.as_str())
        .collect();
    Err(Failure::wrong(format!(
        "no [[account]] has the login {login}\nhelp: these sign in by OAuth2: {}",
        known.join(", ")
    )))
}

async fn sign_in(
    config: &Config,
    candidate: Candidate<'_>,
    browser: bool,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let (login, user) = (&candidate.account.login, &candidate.account.user);
    let asking = in_memory(config)?;
    let issued = match &candidate.oauth2.grant {
        Grant::ClientCredentials | Grant::ServiceAccount => {
            writeln!(
                out,
                "{login}: The application itself is trusted, nobody needs to sign in. Opening the mailbox of {user} …"
            )?;
            let opened = sign_in::open(config, asking, candidate).await;
            return report_opened(login, opened.map_err(failed)?, out);
        }
        grant => {
            // Opened first, to find out before somebody consents whether the consent can be kept.
            drop(kept(config, state::share)?);
            match grant {
                Grant::Device { .. } if !browser => by_device(&asking, candidate, out).await?,
                _ => by_browser(&asking, candidate, out).await?,
            }
        }
    };
    writeln!(out, "The provider has consented. Opening the mailbox of {user} …")?;
    // Opened only now: while this process has the state open, no gateway can start.
    let tokens = kept(config, state::share)?;
    let signed_in = sign_in::complete(config, &tokens, candidate, issued).await;
    let is_saved = timeout(UNTIL_SAVED, tokens.finish()).await.is_ok();
    let signed_in = signed_in.map_err(|error| failed(format!("{login}: {error}")))?;
    report_opened(login, signed_in.opened, out)?;
    if !is_saved {
        return Err(failed(format!(
            "{login}: the consent cannot be written, see the log: make room under [state] dir, and sign in again"
        )));
    }
    for remark in signed_in.remarks() {
        writeln!(out, "{login}: {remark}")?;
    }
    match signed_in.status {
        Some(status) => writeln!(out, "{login}: {status}")?,
        None => writeln!(out, "{login}: signed in; the status cannot be read now, see the log")?,
    }
    Ok(())
}

fn report_opened(login: &str, (messages, octets): Opened, out: &mut impl Write) -> Result<(), Failure> {
    Ok(writeln!(
        out,
        "{login}: the mailbox opens, {messages} messages of {} octets",
        octets.0
    )?)
}

async fn by_device(tokens: &Tokens, candidate: Candidate<'_>, out: &mut impl Write) -> Result<Issued, Failure> {
    let consent = candidate.consent(tokens);
    let begun = tokens.begin_device(&consent).await.map_err(failed)?;
    writeln!(out, "On any device, open  {}", begun.url())?;
    writeln!(out, "and enter the code   {}", begun.code())?;
    if let Some(url) = begun.url_with_code() {
        writeln!(out, "(or open {url})")?;
    }
    writeln!(
        out,
        "Sign in there {}. Waiting for up to {} minutes …",
        as_whom(candidate),
        begun.lifetime().as_secs().div_ceil(60)
    )?;
    out.flush()?;
    tokens.finish_device(&consent, &begun).await.map_err(failed)
}

/// `as anna@example.org`; also names the mailbox if it belongs to somebody else.
fn as_whom(candidate: Candidate<'_>) -> String {
    let (person, user) = (candidate.person(), &candidate.account.user);
    if person == user {
        format!("as {user}")
    } else {
        format!("as {person}, who may read the mailbox of {user}")
    }
}

/// The answer of the provider (RFC 6749 §4.1.2), as it comes back to popgate.
enum AuthorizationResponse {
    /// The query of the address that the provider sent the browser back to.
    Query(String),
    /// The code that somebody has copied from the provider's page.
    Code(Zeroizing<String>),
}

/// Signs in with a browser. The browser comes back to a port of this machine (RFC 8252 §7.3); or somebody pastes the
/// browser's last address, or the code that the provider's page shows.
async fn by_browser(tokens: &Tokens, candidate: Candidate<'_>, out: &mut impl Write) -> Result<Issued, Failure> {
    let consent = candidate.consent(tokens);
    let (listener, redirect) = match &candidate.oauth2.redirect_url {
        Some(url) => (listener_at(url).await?, url.clone()),
        None => {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
            // Microsoft accepts any port after this name; Google does so after this name and after the address.
            let redirect = format!("http://localhost:{}", listener.local_addr()?.port());
            (Some(listener), redirect)
        }
    };
    let begun = tokens.begin_code(&consent, &redirect).map_err(failed)?;
    writeln!(
        out,
        "Open this address in a browser, and sign in {}:\n\n{}\n",
        as_whom(candidate),
        begun.url
    )?;
    match listener {
        Some(_) => writeln!(
            out,
            "A browser on this machine comes back by itself. One elsewhere does not find {redirect}: copy the address that it \
             shows then, and paste it here:"
        )?,
        None => writeln!(
            out,
            "Then copy the code that the page shows, or the address that the browser ends at, and paste it here:"
        )?,
    }
    out.flush()?;
    let may_come = listener.is_some();
    let response = tokio::select! {
        query = answered(listener, &begun) => AuthorizationResponse::Query(query?),
        response = pasted(&begun, may_come) => response?,
    };
    let issued = match response {
        AuthorizationResponse::Query(query) => tokens.finish_code(&consent, &begun, &query).await,
        AuthorizationResponse::Code(code) => tokens.finish_with(&consent, &begun, &code).await,
    };
    issued.map_err(failed)
}

/// Listens at the port that `redirect` leads to; `None` if it does not lead to this machine.
async fn listener_at(redirect: &str) -> Result<Option<TcpListener>, Failure> {
    let Ok(url) = Url::parse(redirect) else {
        return Ok(None);
    };
    let is_here = matches!(url.host_str(), Some("localhost" | "127.0.0.1"));
    match (url.scheme(), url.port_or_known_default()) {
        ("http", Some(port)) if is_here => {
            let bound = TcpListener::bind(("127.0.0.1", port)).await;
            let bound = bound.map_err(|error| Failure::failed(format!("redirect_url {redirect}: {error}")))?;
            Ok(Some(bound))
        }
        _ => Ok(None),
    }
}

/// Waits for the first request that answers the sign-in, and returns its query.
async fn answered(listener: Option<TcpListener>, begun: &CodeSignIn) -> io::Result<String> {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    loop {
        let (mut stream, _) = listener.accept().await?;
        let Ok(Ok(target)) = timeout(PATIENCE, target(&mut stream)).await else {
            continue;
        };
        let query = target.split_once('?').map(|(_, query)| query.to_owned());
        if let Some(query) = query.filter(|query| begun.is_answered_by(query)) {
            respond(
                &mut stream,
                "200 OK",
                "popgate has its answer. You may close this page.",
            )
            .await;
            return Ok(query);
        }
        respond(&mut stream, "404 Not Found", "This is not what popgate waits for.").await;
    }
}

/// Reads a GET request and returns its target (path and query).
async fn target(stream: &mut TcpStream) -> io::Result<String> {
    let mut request = BufReader::new(stream.take(LONGEST_REQUEST));
    let mut first = String::new();
    request.read_line(&mut first).await?;
    // The headers must be read before the answer is written, or closing resets the connection.
    let mut line = String::new();
    while request.read_line(&mut line).await? > 0 && !line.trim_end().is_empty() {
        line.clear();
    }
    let target = first.strip_prefix("GET ").and_then(|rest| rest.split(' ').next());
    target
        .map(str::to_owned)
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

async fn respond(stream: &mut TcpStream, status: &str, text: &str) {
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    );
    // An error means that the browser has gone. Its request has been read all the same.
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// Waits until somebody has pasted an answer. `may_come` is whether a browser may still come back by itself.
async fn pasted(begun: &CodeSignIn, may_come: bool) -> io::Result<AuthorizationResponse> {
    // A thread of its own: a read in the runtime would keep the program from ending.
    let (sender, mut lines) = mpsc::unbounded_channel();
    thread::spawn(move || {
        for line in io::stdin().lines() {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    while let Some(line) = lines.recv().await {
        let line = Zeroizing::new(line?);
        let text = line.trim();
        let query = text.split_once('?').map(|(_, query)| query);
        let query = query.map(|query| query.split('#').next().unwrap_or(query));
        let is_code = !text.contains("://") && !text.contains(['?', '=', '&']) && !text.contains(char::is_whitespace);
        match query.filter(|query| begun.is_answered_by(query)) {
            Some(query) => return Ok(AuthorizationResponse::Query(query.to_owned())),
            None if text.is_empty() => {}
            None if is_code => return Ok(AuthorizationResponse::Code(Zeroizing::new(text.to_owned()))),
            None => eprintln!("That is not it: paste the whole address that the browser ends at, or the code alone."),
        }
    }
    // At a terminal the end of input means that the user has given up. Elsewhere nobody could paste, and the browser
    // may still come.
    if io::stdin().is_terminal() || !may_come {
        Err(io::ErrorKind::UnexpectedEof.into())
    } else {
        std::future::pending().await
    }
}

pub(super) fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::failed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_signs_in_for_a_rule() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("devices"), "").unwrap();
        let text = "[[account]]\nlogin = \"*@example.org\"\npasswords_file = \"devices\"\nupstream = \"home\"\n\
                    [upstream.home]\nhost = \"imap.example.org\"\n\
                    [upstream.home.oauth2]\ngrant = \"client-credentials\"\nclient_id = \"i\"\nclient_secret = \"s\"\n\
                    token_url = \"https://x/t\"\n";
        let config = Config::parse(text, directory.path()).unwrap();
        let failure = candidate(&config, "*@example.org").unwrap_err().to_string();
        assert!(failure.starts_with("*@example.org is a rule: "), "{failure}");
        let failure = without_candidates(&config).to_string();
        assert!(failure.contains(NOBODY_FOR_RULES), "{failure}");
    }
}
