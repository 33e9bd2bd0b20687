//! AUTHORIZATION: finds out who the device is (RFC 1939 §4, §7; RFC 5034; RFC 2595).

use std::pin::pin;

use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use super::{
    capabilities::Offer,
    command::{Command, DeviceMechanism, Syntax},
    connection::LineKind,
    reply::Reply,
    sasl::{self, Malformed},
    scram::{self, ClientFirst},
    session::Session,
    summary::End,
};
use crate::{
    accounts::{Account, Attempt, Denied, Response, Signature},
    config::Secret,
    maildrop::{Error, Maildrop, Reason, Refusal},
    notify::{Fault, TriedLogin},
    telemetry::trace::{self, Side},
};

/// How the state ended, if the session goes on.
pub(super) enum Next {
    /// The device has logged in; the reply is written.
    Transaction(Box<Maildrop>),
    /// The TLS handshake comes next; the reply is written.
    StartTls,
}

/// What [`run`] has to do after a command.
enum CommandOutcome {
    Reply(Reply),
    Capabilities,
    Languages(Option<Vec<u8>>),
    Mechanisms,
    Login(Box<Maildrop>),
    StartTls,
    Quit,
}

/// Reads commands until the device has logged in, asks for TLS, or leaves. Forgets the login of USER when it returns,
/// so that nothing from before TLS counts (RFC 2595 §4).
pub(super) async fn run<S>(session: &mut Session<S>) -> Result<Next, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut name = None;
    loop {
        let command = session.command().await?;
        let begun = session.begin();
        let (verb, outcome) = match command {
            Ok(command) => (command.verb(), execute(session, command, &mut name).await?),
            // A load balancer that is not in `proxy_protocol_from`: the address of the device is unknown.
            Err(Syntax::ProxyHeader) => return Err(End::ProxyHeader),
            Err(syntax) => ("?", CommandOutcome::Reply(Reply::Syntax(syntax))),
        };
        let mut next = None;
        let ok = match outcome {
            CommandOutcome::Reply(reply) => session.reply(&reply)?,
            CommandOutcome::Capabilities => session.list_capabilities()?,
            CommandOutcome::Languages(range) => session.language(range.as_deref())?,
            CommandOutcome::Mechanisms => {
                session.reply(&Reply::ListFollows)?;
                let capabilities = session.capabilities();
                let output = session.connection.output();
                capabilities.list_mechanisms(output);
                output.extend_from_slice(b".\r\n");
                true
            }
            CommandOutcome::Login(maildrop) => {
                session.expire = Some(maildrop.expire());
                let (messages, octets) = maildrop.listing().stat();
                next = Some(Ok(Next::Transaction(maildrop)));
                session.reply(&Reply::Messages(messages, octets))?
            }
            CommandOutcome::StartTls => {
                next = Some(Ok(Next::StartTls));
                session.reply(&Reply::BeginTls)?
            }
            CommandOutcome::Quit => {
                next = Some(Err(End::Quit));
                session.reply(&Reply::Farewell)?
            }
        };
        session.record(verb, ok, &begun);
        if let Some(next) = next {
            return next;
        }
        session.connection.send_blocks().await?;
    }
}

async fn execute<S>(
    session: &mut Session<S>,
    command: Command,
    name: &mut Option<Vec<u8>>,
) -> Result<CommandOutcome, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let capabilities = session.capabilities();
    let reply = match command {
        Command::Quit => return Ok(CommandOutcome::Quit),
        Command::Capa => return Ok(CommandOutcome::Capabilities),
        Command::Lang(range) => return Ok(CommandOutcome::Languages(range)),
        Command::Utf8 => Reply::Done,
        Command::Stls if capabilities.stls => return Ok(CommandOutcome::StartTls),
        Command::Stls => Reply::NoTls,
        Command::User(_) | Command::Pass(_) | Command::Apop(..) | Command::Mechanisms | Command::Auth(..)
            if !capabilities.login =>
        {
            Reply::TlsFirst
        }
        Command::User(login) => {
            *name = Some(login);
            Reply::SecretPlease
        }
        Command::Pass(secret) => match name.take() {
            Some(login) => return log_in(session, &login, Evidence::Secret(secret)).await,
            None => Reply::UserFirst,
        },
        Command::Apop(login, digest) => match session.timestamp.clone() {
            Some(challenge) => {
                let response = Response::Apop { challenge, digest };
                return log_in(session, &login, Evidence::Response(response)).await;
            }
            None => Reply::Syntax(Syntax::Unknown),
        },
        Command::Mechanisms => return Ok(CommandOutcome::Mechanisms),
        Command::Auth(mechanism, _) if capabilities.offer(mechanism) == Offer::No => Reply::Syntax(Syntax::Mechanism),
        Command::Auth(mechanism, initial) => match exchange(session, mechanism, initial).await? {
            Ok((login, evidence)) => return log_in(session, &login, evidence).await,
            Err(reply) => reply,
        },
        Command::Noop
        | Command::Stat
        | Command::List(_)
        | Command::Uidl(_)
        | Command::Retr(_)
        | Command::Top(..)
        | Command::Dele(_)
        | Command::Last
        | Command::Xlst(..)
        | Command::Rset => Reply::NotNow,
    };
    Ok(CommandOutcome::Reply(reply))
}

/// What a device proves its login with.
enum Evidence {
    Secret(Secret),
    Response(Response),
    /// An OAuth2 token.
    Token(Secret),
}

/// Runs the exchange of AUTH. Returns login and evidence, or the reply that says why there are none.
async fn exchange<S>(
    session: &mut Session<S>,
    mechanism: DeviceMechanism,
    initial: Option<Secret>,
) -> Result<Result<(Vec<u8>, Evidence), Reply>, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if mechanism == DeviceMechanism::CramMd5 {
        // The server speaks first (RFC 4422 §5).
        return match initial {
            Some(_) => Ok(Err(Reply::Sasl(Malformed::Form))),
            None => cram_md5(session).await,
        };
    }
    let first = match (initial, mechanism) {
        (Some(initial), _) => sasl::decode(initial.expose()),
        (None, DeviceMechanism::Login) => challenge(session, sasl::USERNAME).await?,
        (None, _) => challenge(session, b"").await?,
    };
    let first = match first {
        Ok(first) => first,
        Err(malformed) => return Ok(Err(Reply::Sasl(malformed))),
    };
    let by_secret = |(login, secret)| (login, Evidence::Secret(secret));
    let by_token = |(login, token)| (login, Evidence::Token(token));
    let given = match mechanism {
        DeviceMechanism::Plain => sasl::plain(&first).map(by_secret),
        DeviceMechanism::Login => {
            let second = challenge(session, sasl::PASSWORD).await?;
            second.and_then(|second| sasl::login(&first, &second)).map(by_secret)
        }
        DeviceMechanism::XOAuth2 => sasl::xoauth2(&first).map(by_token),
        DeviceMechanism::OAuthBearer => sasl::oauth_bearer(&first).map(by_token),
        DeviceMechanism::ScramSha256 | DeviceMechanism::CramMd5 => return scram(session, &first).await,
    };
    Ok(given.map_err(Reply::Sasl))
}

async fn cram_md5<S>(session: &mut Session<S>) -> Result<Result<(Vec<u8>, Evidence), Reply>, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Ok(timestamp) = sasl::timestamp() else {
        return Ok(Err(Reply::NoChallenge));
    };
    let response = challenge(session, sasl::encode(&timestamp).as_bytes()).await?;
    let given = response.and_then(|response| sasl::cram_md5(&response));
    Ok(given
        .map(|(login, digest)| {
            let challenge = timestamp;
            (login, Evidence::Response(Response::CramMd5 { challenge, digest }))
        })
        .map_err(Reply::Sasl))
}

async fn scram<S>(session: &mut Session<S>, first: &[u8]) -> Result<Result<(Vec<u8>, Evidence), Reply>, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let first = match ClientFirst::parse(first) {
        Ok(first) => first,
        Err(malformed) => return Ok(Err(Reply::Sasl(malformed))),
    };
    let Ok(nonce) = sasl::nonce() else {
        return Ok(Err(Reply::NoChallenge));
    };
    let login = first.login.clone();
    let asked = first.challenge(&nonce, &session.service.accounts.salt(&login));
    let answer = challenge(session, sasl::encode(asked.text()).as_bytes()).await?;
    Ok(answer
        .and_then(|answer| asked.response(&answer))
        .map(|response| (login, Evidence::Response(response)))
        .map_err(Reply::Sasl))
}

/// Sends a challenge and reads the response (RFC 5034 §4).
async fn challenge<S>(session: &mut Session<S>, text: &[u8]) -> Result<Result<Zeroizing<Vec<u8>>, Malformed>, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let output = session.connection.output();
    output.extend_from_slice(b"+ ");
    output.extend_from_slice(text);
    output.extend_from_slice(b"\r\n");
    session
        .connection
        .line(LineKind::Continuation, |line| {
            trace::received(Side::Device, || trace::hidden(line.trim_ascii_end().len()));
            sasl::decode(line.trim_ascii_end())
        })
        .await
}

/// Logs in. `+OK` follows only if the upstream has let the login in and the maildrop is locked and listed (RFC 1939
/// §4).
async fn log_in<S>(session: &mut Session<S>, login: &[u8], evidence: Evidence) -> Result<CommandOutcome, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let canonical = session.service.accounts.canonical_login(login);
    session.summary.set_login(login, &canonical);
    let is_token = matches!(evidence, Evidence::Token(_));
    session.note_trial(true);
    // An attempt that ends without a verdict counts as a failure. Otherwise a device could guess faster if it hangs up
    // instead of waiting for the answer.
    let mut upstream = None;
    // If `authenticate` were called within the `match`, its future would live until the `match` ends.
    let authenticated = authenticate(session, login, evidence).await?;
    let reply = match authenticated {
        Err(denied) => {
            note_failure(session, &canonical, None, &Reply::Denied(denied));
            Reply::Denied(denied)
        }
        Ok((account, attempt, signature)) => {
            upstream = Some(account.upstream.clone());
            if let Some(signature) = signature
                // The gateway proves that it knows the password too; the device's answer is empty (RFC 5802 §5).
                && let Err(malformed) = challenge(session, sasl::encode(&scram::server_final(&signature)).as_bytes()).await?
            {
                attempt.undecided();
                session.note_trial(false);
                return Ok(CommandOutcome::Reply(Reply::Sasl(malformed)));
            }
            match open(session, &account, attempt).await? {
                Ok(maildrop) => {
                    let notices = session.service.maildrops.notices();
                    notices.login_succeeded(tried(session, &canonical, Some(&account)));
                    session.fold_lines = account.policy.fold_lines;
                    session.summary.note_login(&account, maildrop.listing().stat());
                    return Ok(CommandOutcome::Login(Box::new(maildrop)));
                }
                Err(reply) => {
                    note_failure(session, &canonical, Some(&account), &reply);
                    reply
                }
            }
        }
    };
    session.note_trial(false);
    session.summary.count_refusal(
        &canonical,
        upstream.as_ref().map_or("", |upstream| &upstream.name),
        &reply,
    );
    if let Reply::Denied(denied) = reply {
        session.summary.note_refusal(denied);
    }
    if is_token && reply.is_refusal() {
        // RFC 7628 §3.2.2: the reason comes before the refusal, and the device acknowledges it. Any octets will do for
        // that.
        let _ = challenge(session, sasl::INVALID_TOKEN).await?;
    }
    Ok(CommandOutcome::Reply(reply))
}

/// Counts a login that failed with `reply`: if it goes on failing, somebody is notified. `canonical`: the login as
/// [`Accounts::canonical_login`](crate::accounts::Accounts::canonical_login) spells it.
fn note_failure<S>(session: &Session<S>, canonical: &str, account: Option<&Account>, reply: &Reply) {
    let is_proven = account.is_some_and(|account| !account.is_forwarded);
    if let Some(fault) = fault(reply, is_proven) {
        let notices = session.service.maildrops.notices();
        notices.login_failed(tried(session, canonical, account), fault);
    }
}

fn tried<'a, S>(session: &Session<S>, login: &'a str, account: Option<&'a Account>) -> TriedLogin<'a> {
    TriedLogin {
        login,
        upstream: account.map(|account| account.upstream.name.as_str()),
        peer: session.summary.address(),
    }
}

/// The fault that made a login fail with `reply`. `None` if nobody needs to hear of it. `is_proven`: the login's secret
/// was right.
fn fault(reply: &Reply, is_proven: bool) -> Option<Fault> {
    let own = |words: String| {
        if is_proven {
            Fault::Login(words)
        } else {
            Fault::Unproven(words)
        }
    };
    match reply {
        Reply::Denied(_) if is_proven => Some(Fault::Login(Refusal::Denied.to_string())),
        Reply::Denied(denied) => Some(Fault::Unproven(denied.to_string())),
        Reply::Maildrop(error) => match error.refusal() {
            Refusal::InUse => None,
            Refusal::Unavailable(Reason::State) => Some(Fault::State),
            Refusal::Unavailable(reason) | Refusal::Misconfigured(reason) if reason.is_of_upstream() => {
                Some(Fault::Upstream(reason.to_string()))
            }
            refusal => Some(own(refusal.to_string())),
        },
        _ => None,
    }
}

/// Finds the account that `login` leads to, and checks the evidence unless that is left to an upstream. Also returns
/// the gateway's own proof, if the mechanism has one.
async fn authenticate<S>(
    session: &mut Session<S>,
    login: &[u8],
    evidence: Evidence,
) -> Result<Result<(Account, Attempt, Option<Signature>), Denied>, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let peer = session.summary.address();
    let service = session.service.clone();
    let accounts = &service.accounts;
    let authentication = pin!(async {
        match evidence {
            Evidence::Secret(secret) => {
                let done = accounts.authenticate(login, secret, peer).await;
                done.map(|(account, attempt)| (account, attempt, None))
            }
            Evidence::Token(token) => {
                let done = accounts.authenticate_token(login, token, peer).await;
                done.map(|(account, attempt)| (account, attempt, None))
            }
            Evidence::Response(response) => accounts.authenticate_response(login, &response, peer).await,
        }
    });
    session.connection.meanwhile(authentication).await
}

/// Opens the maildrop of `account`, or returns the reply that says why not. Ends `attempt` with the upstream's verdict.
async fn open<S>(session: &mut Session<S>, account: &Account, attempt: Attempt) -> Result<Result<Maildrop, Reply>, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = session.service.clone();
    let mut denial = None;
    let opened = {
        let opening = pin!(async {
            let opened = service.maildrops.open(account).await;
            match opened.as_ref().map_err(Error::refusal) {
                // Only a login with the right secret learns that the maildrop is in use.
                Ok(_) | Err(Refusal::InUse) => attempt.succeeded(),
                Err(Refusal::Denied) => {
                    // The reply does not contain the error.
                    if let Err(error) = &opened {
                        error.log();
                        denial = Some(error.cause().to_string());
                    }
                    attempt.failed().await;
                    // The text is the same as if the gateway itself had refused the login.
                    return Err(Reply::Denied(Denied::Wrong));
                }
                // It is not known whether the upstream took the secret.
                Err(_) => attempt.undecided(),
            }
            opened.map_err(Reply::Maildrop)
        });
        session.connection.meanwhile(opening).await
    };
    if let Some(words) = denial {
        session.summary.note_denial(words);
    }
    opened
}
