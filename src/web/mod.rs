//! The sign-in page (`[web]`): how the accounts at providers stand, and how somebody signs in for them. Works without
//! JavaScript, and loads nothing from elsewhere.

mod device;
mod pages;
mod server;
mod session;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Form, Router,
    extract::{RawQuery, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use maud::Markup;
use oauth2::url::Url;
use serde::Deserialize;
use subtle::ConstantTimeEq;
use tokio::{
    net::TcpListener,
    sync::Mutex,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use self::{
    device::Waiting,
    pages::{Notice, Row},
    session::{Entered, Sessions},
};
use crate::{
    config::{Config, Grant, Secret, Web},
    oauth::{self, Issued, Tokens},
    sign_in::{self, Candidate, candidates},
};

/// So long after a wrong password none is looked at, whoever gives it, and whether the giver of the wrong one has waited for
/// the answer or not: guesses come one at a time.
const PENALTY: Duration = Duration::from_secs(1);

/// A bound sign-in page.
pub struct Site {
    listener: std::net::TcpListener,
    shared: Arc<Shared>,
}

struct Shared {
    config: Arc<Config>,
    tokens: Arc<Tokens>,
    password: Secret,
    sessions: Sessions,
    /// When the next password is looked at.
    next_guess: Mutex<Instant>,
    /// What browsers call the page, without a slash at the end.
    url: String,
    /// The path of that.
    prefix: String,
    policy: HeaderValue,
    /// Ends what waits.
    shutdown: CancellationToken,
}

type Shown = State<Arc<Shared>>;

impl Site {
    /// Binds the page of `web`.
    pub fn bind(web: &Web, config: Arc<Config>, tokens: Arc<Tokens>) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(web.address)?;
        listener.set_nonblocking(true)?;
        let url = match &web.public_url {
            Some(url) => url.clone(),
            None => format!("http://{}", listener.local_addr()?),
        };
        let prefix = Url::parse(&url).map_or_else(|_| String::new(), |url| url.path().trim_end_matches('/').to_owned());
        let policy = content_security_policy(&config);
        let secure = url.starts_with("https:");
        Ok(Self {
            listener,
            shared: Arc::new(Shared {
                config,
                tokens,
                password: web.admin_password.clone(),
                sessions: Sessions::new(&prefix, secure),
                next_guess: Mutex::new(Instant::now()),
                url,
                prefix,
                policy,
                shutdown: CancellationToken::new(),
            }),
        })
    }

    /// The bound address.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut router = Router::new();
        // A proxy in front may take its own path away or leave it.
        let prefixes = [String::new(), self.shared.prefix.clone()];
        for prefix in &prefixes[..if self.shared.prefix.is_empty() { 1 } else { 2 }] {
            let at = |path: &str| format!("{prefix}{path}");
            router = router
                .route(&at("/"), get(accounts))
                .route(&at("/login"), get(login_form).post(login))
                .route(&at("/logout"), post(logout))
                .route(&at("/sign-in"), post(begin))
                .route(&at("/forget"), post(forget))
                .route(&at("/code"), get(code))
                .route(&at("/callback"), get(callback))
                .route(&at("/style.css"), get(style));
            if !prefix.is_empty() {
                // There the cookie does not count: its path ends with a slash.
                router = router.route(prefix, get(home));
            }
        }
        let shared = self.shared.clone();
        let router = router
            .layer(middleware::from_fn_with_state(shared.clone(), guarded))
            .with_state(shared.clone());
        let listener = match TcpListener::from_std(self.listener) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "the sign-in page is not served");
                return;
            }
        };
        let ended = async {
            shutdown.cancelled().await;
            shared.shutdown.cancel();
        };
        tokio::join!(server::serve(listener, router, shutdown.clone()), ended);
    }
}

impl std::fmt::Debug for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Site")
            .field("url", &self.shared.url)
            .finish_non_exhaustive()
    }
}

/// Nothing but our own style sheet; forms may lead to the providers (Chromium looks at redirects of forms too).
fn content_security_policy(config: &Config) -> HeaderValue {
    let mut origins: Vec<String> = candidates(config)
        .filter_map(|candidate| match &candidate.oauth2.grant {
            Grant::Code { authorize_url } => Url::parse(authorize_url).ok(),
            _ => None,
        })
        .map(|url| url.origin().ascii_serialization())
        .collect();
    origins.sort();
    origins.dedup();
    let policy = format!(
        "default-src 'none'; style-src 'self'; form-action 'self' {}; frame-ancestors 'none'; base-uri 'none'",
        origins.join(" ")
    );
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

/// What holds for every page: forms of other sites are refused, and browsers are told what not to do.
async fn guarded(State(shared): Shown, request: Request, next: Next) -> Response {
    let is_foreign = request
        .headers()
        .get("sec-fetch-site")
        .is_some_and(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"));
    let mut response = match is_foreign && request.method() != axum::http::Method::GET {
        true => StatusCode::FORBIDDEN.into_response(),
        false => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, shared.policy.clone());
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

impl Shared {
    fn to(&self, path: &str) -> Response {
        Redirect::to(&format!("{}{path}", self.prefix)).into_response()
    }

    /// Whoever has entered; else the way to the door.
    fn entered(&self, headers: &HeaderMap) -> Result<Entered, Refused> {
        let outside = || Refused::Outside(format!("{}/login", self.prefix));
        self.sessions.entered(headers).ok_or_else(outside)
    }

    /// The same for what a form asks for.
    fn asked(&self, headers: &HeaderMap, csrf: &str) -> Result<Entered, Refused> {
        let entered = self.entered(headers)?;
        match entered.csrf.as_bytes().ct_eq(csrf.as_bytes()).into() {
            true => Ok(entered),
            false => Err(Refused::Foreign),
        }
    }

    fn candidate(&self, login: &str) -> Result<Candidate<'_>, Refused> {
        candidates(&self.config)
            .find(|candidate| candidate.account.login == login)
            .ok_or(Refused::Unknown)
    }

    /// Tries and keeps what the provider gave; what is to be told of it.
    async fn complete(&self, candidate: Candidate<'_>, issued: Result<Issued, oauth::Error>) -> Notice {
        let login = &candidate.account.login;
        let opened = match issued {
            Ok(issued) => sign_in::complete(&self.config, &self.tokens, candidate, issued).await,
            Err(error) => Err(error.into()),
        };
        match opened {
            Ok(signed_in) => {
                tracing::info!(login, "signed in by the page");
                let (messages, octets) = signed_in.opened;
                let mut text = format!("{login} is signed in: {messages} messages of {} octets.", octets.0);
                for remark in signed_in.remarks() {
                    text.push(' ');
                    text.push_str(&remark);
                }
                Notice::good(text)
            }
            Err(error) => {
                tracing::warn!(login, %error, "sign-in by the page");
                Notice::failed(format!("{login}: {error}"))
            }
        }
    }
}

/// What is not answered by a page.
enum Refused {
    /// Nobody has entered in this browser; where one enters.
    Outside(String),
    /// A form that is not of this session.
    Foreign,
    /// No such account, or none that signs in.
    Unknown,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self {
            Self::Outside(door) => Redirect::to(&door).into_response(),
            Self::Foreign => {
                let text = "This form is not of this session: go back, and load the page anew.";
                (StatusCode::FORBIDDEN, text).into_response()
            }
            Self::Unknown => (StatusCode::NOT_FOUND, "There is no such account to sign in for.").into_response(),
        }
    }
}

async fn home(State(shared): Shown) -> Response {
    shared.to("/")
}

async fn style() -> Response {
    (
        [(header::CONTENT_TYPE, "text/css; charset=utf-8")],
        include_str!("style.css"),
    )
        .into_response()
}

async fn login_form(State(shared): Shown) -> Markup {
    pages::login(&shared.prefix, None)
}

#[derive(Deserialize)]
struct Login {
    password: String,
}

async fn login(State(shared): Shown, Form(form): Form<Login>) -> Response {
    let mut next_guess = shared.next_guess.lock().await;
    sleep_until(*next_guess).await;
    let right: bool = shared.password.expose().ct_eq(form.password.as_bytes()).into();
    if !right {
        tracing::warn!("wrong password at the sign-in page");
        *next_guess = Instant::now() + PENALTY;
        return (
            StatusCode::FORBIDDEN,
            pages::login(&shared.prefix, Some("That is not the password.")),
        )
            .into_response();
    }
    drop(next_guess);
    match shared.sessions.enter() {
        Some(cookie) => ([(header::SET_COOKIE, cookie)], shared.to("/")).into_response(),
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

#[derive(Deserialize)]
struct Plain {
    csrf: String,
}

async fn logout(State(shared): Shown, headers: HeaderMap, Form(form): Form<Plain>) -> Result<Response, Refused> {
    let entered = shared.asked(&headers, &form.csrf)?;
    let cookie = shared.sessions.leave(&entered);
    Ok(([(header::SET_COOKIE, cookie)], shared.to("/login")).into_response())
}

async fn accounts(State(shared): Shown, headers: HeaderMap) -> Result<Markup, Refused> {
    let entered = shared.entered(&headers)?;
    let mut rows = Vec::new();
    for candidate in candidates(&shared.config) {
        let status = shared.tokens.status(&candidate.consent(&shared.tokens)).await;
        rows.push(Row::new(candidate, status));
    }
    Ok(pages::accounts(
        &shared.prefix,
        &entered.csrf,
        entered.take_notice(),
        &rows,
    ))
}

#[derive(Deserialize)]
struct Chosen {
    csrf: String,
    login: String,
}

async fn begin(State(shared): Shown, headers: HeaderMap, Form(form): Form<Chosen>) -> Result<Response, Refused> {
    let entered = shared.asked(&headers, &form.csrf)?;
    let candidate = shared.candidate(&form.login)?;
    let consent = candidate.consent(&shared.tokens);
    let to = match &candidate.oauth2.grant {
        Grant::Code { .. } => {
            let redirect = format!("{}/callback", shared.url);
            shared.tokens.begin_code(&consent, &redirect).map(|begun| {
                let to = Redirect::to(&begun.url).into_response();
                entered.send_away(form.login.clone(), begun);
                to
            })
        }
        Grant::Device { .. } => shared.tokens.begin_device(&consent).await.map(|begun| {
            let waiting = Waiting::new(&form.login, &begun);
            entered.wait(waiting.clone());
            tokio::spawn(device::finish(shared.clone(), consent, begun, waiting));
            shared.to("/code")
        }),
        Grant::ClientCredentials | Grant::ServiceAccount => return Err(Refused::Unknown),
    };
    Ok(to.unwrap_or_else(|error| {
        entered.tell(Notice::failed(format!("{}: {error}", form.login)));
        shared.to("/")
    }))
}

async fn forget(State(shared): Shown, headers: HeaderMap, Form(form): Form<Chosen>) -> Result<Response, Refused> {
    let entered = shared.asked(&headers, &form.csrf)?;
    let (login, candidate) = (&form.login, shared.candidate(&form.login)?);
    entered.tell(match shared.tokens.forget(&candidate.consent(&shared.tokens)).await {
        Ok(_) => Notice::good(format!(
            "{login} is forgotten; the consent may be withdrawn at the provider too."
        )),
        Err(error) => Notice::failed(format!("{login}: {error}")),
    });
    Ok(shared.to("/"))
}

/// The code to type in, until somebody has.
async fn code(State(shared): Shown, headers: HeaderMap) -> Result<Response, Refused> {
    let entered = shared.entered(&headers)?;
    let Some(waiting) = entered.waiting() else {
        return Ok(shared.to("/"));
    };
    Ok(match waiting.outcome() {
        Some(notice) => {
            entered.tell(notice);
            entered.wait_no_more();
            shared.to("/")
        }
        None => pages::code(&shared.prefix, &waiting).into_response(),
    })
}

/// The browser comes back from the provider.
async fn callback(State(shared): Shown, headers: HeaderMap, RawQuery(query): RawQuery) -> Result<Response, Refused> {
    let entered = shared.entered(&headers)?;
    let query = query.unwrap_or_default();
    entered.tell(match entered.came_back(&query) {
        Some((login, begun)) => {
            let candidate = shared.candidate(&login)?;
            let consent = candidate.consent(&shared.tokens);
            let issued = shared.tokens.finish_code(&consent, &begun, &query).await;
            shared.complete(candidate, issued).await
        }
        None => Notice::failed("This is not the answer to a sign-in that was begun here: begin again.".to_owned()),
    });
    Ok(shared.to("/"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        time::timeout,
    };

    use super::*;

    fn site() -> Site {
        let config = Config::parse(
            "[upstream.home]\nhost = \"imap.example.org\"\nlogins = [\"*\"]\n[web]\naddress = \"127.0.0.1:0\"\n\
             admin_password = \"right\"",
            Path::new(""),
        );
        let config = Arc::new(config.unwrap());
        Site::bind(config.web.as_ref().unwrap(), config.clone(), Tokens::none()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn connections_left_open_keep_nobody_out() {
        let site = site();
        let (address, shutdown) = (site.address().unwrap(), CancellationToken::new());
        let serving = tokio::spawn(site.run(shutdown.clone()));
        let without_end = [
            "",
            "GET / HTTP/1.1\r\nHost: x\r\n",
            "POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: 100\r\n\r\npassword=",
        ];
        let mut left_open = Vec::new();
        for request in without_end.iter().cycle().take(150) {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            left_open.push(stream);
        }
        for mut stream in left_open {
            let mut answer = Vec::new();
            let closed = timeout(Duration::from_secs(3600), stream.read_to_end(&mut answer)).await;
            closed.expect("the connection is closed").ok();
        }
        shutdown.cancel();
        serving.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_wait_for_the_answer_guesses_no_faster() {
        let site = site();
        let guess = |password: &str| {
            let password = password.to_owned();
            login(State(site.shared.clone()), Form(Login { password }))
        };
        let begun = Instant::now();
        for _ in 0..5 {
            let _ = timeout(Duration::from_millis(1), guess("wrong")).await;
        }
        assert_eq!(guess("right").await.status(), StatusCode::SEE_OTHER);
        assert!(begun.elapsed() >= PENALTY, "{:?}", begun.elapsed());
    }
}
