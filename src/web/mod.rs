//! The web page (`[web]`): shows the status of the gateway and its accounts, and lets somebody sign in for accounts at OAuth2
//! providers. The page works without JavaScript, and loads nothing from other sites. Its server also answers the probes of
//! monitoring programs.

mod device;
mod guard;
mod guesses;
mod overview;
mod pages;
mod probes;
mod server;
mod session;
#[cfg(test)]
mod tests;

use std::{io, net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use axum::{
    Extension, Form, Router,
    extract::{FromRef, Query, RawQuery, State},
    http::{HeaderMap, StatusCode, Uri, header},
    middleware,
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use maud::Markup;
use oauth2::url::Url;
use serde::Deserialize;
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use overview::{Account, Health, Overview};

use self::{
    device::Waiting,
    guard::Guard,
    guesses::{Guesses, Peer},
    pages::{Consent, Gateway, Notice, Row},
    session::{Entered, Sessions},
};
use crate::{
    config::{Grant, Secret, Web},
    oauth::{self, Issued, Tokens},
    sign_in::{Candidate, SignIns},
};

/// The web page, bound to its address.
pub struct Site {
    listener: std::net::TcpListener,
    current: Current,
}

/// What a request uses. A reload of the configuration puts another [`Shared`] in its place.
#[derive(Clone)]
struct Current(Arc<ArcSwap<Shared>>);

impl FromRef<Current> for Arc<Shared> {
    fn from_ref(current: &Current) -> Self {
        current.0.load_full()
    }
}

struct Shared {
    overview: Arc<dyn Overview>,
    sign_ins: SignIns,
    tokens: Arc<Tokens>,
    password: Secret,
    secure: bool,
    sessions: Arc<Sessions>,
    guesses: Arc<Guesses>,
    guard: Guard,
    /// The URL by which browsers reach the page, without a slash at the end.
    url: String,
    /// The path of `url`.
    prefix: String,
    /// Cancelled at shutdown: it ends the sign-ins that wait for somebody.
    shutdown: CancellationToken,
}

type Shown = State<Arc<Shared>>;

impl Site {
    /// Binds the page of `web`, which shows what `overview` knows of the gateway.
    pub fn bind(web: &Web, sign_ins: SignIns, tokens: Arc<Tokens>, overview: Arc<dyn Overview>) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(web.address)?;
        listener.set_nonblocking(true)?;
        let url = match &web.public_url {
            Some(url) => url.clone(),
            None => format!("http://{}", listener.local_addr()?),
        };
        let prefix = Url::parse(&url).map_or_else(|_| String::new(), |url| url.path().trim_end_matches('/').to_owned());
        let guard = Guard::new(web.public_url.as_deref(), &sign_ins);
        let secure = url.starts_with("https:");
        Ok(Self {
            listener,
            current: Current(Arc::new(ArcSwap::from_pointee(Shared {
                overview,
                sign_ins,
                tokens,
                password: web.admin_password.clone(),
                secure,
                sessions: Arc::new(Sessions::new(&prefix, secure)),
                guesses: Arc::new(Guesses::new(web.public_url.is_some())),
                guard,
                url,
                prefix,
                shutdown: CancellationToken::new(),
            }))),
        })
    }

    /// Applies a reloaded configuration to further requests; without a `password`, the old one stays. If the password changes,
    /// all browsers are logged out.
    pub fn change(&self, password: Option<&Secret>, sign_ins: SignIns, tokens: Arc<Tokens>) {
        let before = self.current.0.load_full();
        let password = password.unwrap_or(&before.password).clone();
        let is_same = password.expose().ct_eq(before.password.expose()).into();
        let sessions = if is_same {
            before.sessions.clone()
        } else {
            Arc::new(Sessions::new(&before.prefix, before.secure))
        };
        self.current.0.store(Arc::new(Shared {
            overview: before.overview.clone(),
            guard: before.guard.with(&sign_ins),
            sign_ins,
            tokens,
            password,
            secure: before.secure,
            sessions,
            guesses: before.guesses.clone(),
            url: before.url.clone(),
            prefix: before.prefix.clone(),
            shutdown: before.shutdown.clone(),
        }));
    }

    /// The bound address.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) {
        let shared = self.current.0.load_full();
        let (mut router, mut probes) = (Router::new(), Router::new());
        // A proxy in front may remove its own path from the request or leave it.
        let prefixes = [String::new(), shared.prefix.clone()];
        for prefix in &prefixes[..if shared.prefix.is_empty() { 1 } else { 2 }] {
            let at = |path: &str| format!("{prefix}{path}");
            router = router
                .route(&at("/"), get(accounts))
                .route(&at("/login"), get(login_form).post(login))
                .route(&at("/logout"), post(logout))
                .route(&at("/test"), post(test))
                .route(&at("/sign-in"), post(begin))
                .route(&at("/forget"), get(confirm).post(forget))
                .route(&at("/code"), get(code))
                .route(&at("/callback"), get(callback))
                .route(&at("/callback/{upstream}"), get(callback))
                .route(&at("/style.css"), get(style));
            probes = probes::routes(probes, prefix);
            if !prefix.is_empty() {
                // The path of the cookie ends with a slash, so browsers do not send the cookie here: they are redirected.
                router = router.route(prefix, get(home));
            }
        }
        let router = router
            .layer(middleware::from_fn_with_state(self.current.clone(), guard::guarded))
            // Monitoring programs may call the gateway by any name, so the probes are not guarded.
            .merge(probes)
            .with_state(self.current.clone());
        let listener = match self.listener.try_clone().and_then(TcpListener::from_std) {
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
            .field("url", &self.current.0.load().url)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn to(&self, path: &str) -> Response {
        Redirect::to(&format!("{}{path}", self.prefix)).into_response()
    }

    /// The URL that a provider sends browsers back to. Each upstream has a path of its own, unless its `redirect_url`
    /// is a URL of this page.
    fn callback(&self, candidate: Candidate<'_>) -> String {
        let ours = format!("{}/callback", self.url);
        match &candidate.oauth2.redirect_url {
            Some(url) if *url == ours || url.strip_prefix(&ours).is_some_and(|rest| rest.starts_with('/')) => {
                url.clone()
            }
            _ => {
                let Ok(mut url) = Url::parse(&ours) else {
                    return ours; // It was parsed before.
                };
                if let Ok(mut segments) = url.path_segments_mut() {
                    segments.push(&candidate.account.upstream.name);
                }
                url.into()
            }
        }
    }

    /// The session that the browser is logged in to; if there is none, a redirect to the login page.
    fn entered(&self, headers: &HeaderMap) -> Result<Entered, Refused> {
        let outside = || Refused::Outside(format!("{}/login", self.prefix));
        self.sessions.entered(headers).ok_or_else(outside)
    }

    /// Like [`Self::entered`], for a form, which must also contain the CSRF token of the session.
    fn asked(&self, headers: &HeaderMap, csrf: &str) -> Result<Entered, Refused> {
        let entered = self.entered(headers)?;
        if entered.csrf.as_bytes().ct_eq(csrf.as_bytes()).into() {
            Ok(entered)
        } else {
            Err(Refused::Foreign)
        }
    }

    fn candidate(&self, login: &str) -> Result<Candidate<'_>, Refused> {
        self.sign_ins
            .candidates()
            .find(|candidate| candidate.account.login == login)
            .ok_or(Refused::Unknown)
    }

    /// Tries the token that the provider issued, and keeps it if it opens the mailbox. Returns the notice for the next page.
    async fn complete(&self, candidate: Candidate<'_>, issued: Result<Issued, oauth::Error>) -> Notice {
        let login = &candidate.account.login;
        let opened = match issued {
            Ok(issued) => self.sign_ins.complete(&self.tokens, candidate, issued).await,
            Err(error) => Err(error.into()),
        };
        match opened {
            Ok(signed_in) => {
                tracing::info!(login, "somebody has signed in at the sign-in page");
                let (messages, octets) = signed_in.opened;
                let mut text = format!("{login} is signed in: {messages} messages of {} octets.", octets.0);
                for remark in signed_in.remarks() {
                    text.push(' ');
                    text.push_str(&remark);
                }
                Notice::good(text)
            }
            Err(error) => {
                tracing::warn!(login, %error, "a sign-in at the sign-in page failed");
                Notice::failed(format!("{login}: {error}"))
            }
        }
    }
}

/// Why the answer to a request is not a page.
enum Refused {
    /// The browser is not logged in. Holds the path of the login page.
    Outside(String),
    /// The CSRF token of the form is not that of this session.
    Foreign,
    /// There is no such account, or nobody signs in for it.
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

async fn login(
    State(shared): Shown,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    Form(form): Form<Login>,
) -> Response {
    let right = || shared.password.expose().ct_eq(form.password.as_bytes()).into();
    if !shared.guesses.is_right(peer, &headers, right).await {
        tracing::warn!("wrong password at the sign-in page");
        let page = pages::login(&shared.prefix, Some("Wrong password."));
        return (StatusCode::FORBIDDEN, page).into_response();
    }
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
    for account in shared.overview.accounts() {
        let candidate = shared
            .sign_ins
            .candidates()
            .find(|candidate| candidate.account.login == account.login);
        let consent = match candidate {
            Some(candidate) => {
                let status = shared.tokens.status(&candidate.consent(&shared.tokens)).await;
                Some(Consent::new(candidate, status))
            }
            None => None,
        };
        rows.push(Row::new(account, consent));
    }
    rows.extend(pages::forwarded(&rows));
    let gateway = Gateway {
        health: shared.overview.health().await,
        listeners: shared.overview.listeners().await,
    };
    let notice = entered.take_notice();
    Ok(pages::accounts(&shared.prefix, &entered.csrf, notice, &gateway, &rows))
}

/// Tries a login step by step.
async fn test(State(shared): Shown, headers: HeaderMap, Form(form): Form<Chosen>) -> Result<Markup, Refused> {
    shared.asked(&headers, &form.csrf)?;
    let steps = shared.overview.examine(&form.login).await.ok_or(Refused::Unknown)?;
    Ok(pages::steps(&shared.prefix, &form.login, &steps))
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
            let redirect = shared.callback(candidate);
            shared.tokens.begin_code(&consent, &redirect).map(|begun| {
                let to = Redirect::to(&begun.url).into_response();
                entered.send_away(form.login.clone(), begun);
                to
            })
        }
        Grant::Device { .. } => shared.tokens.begin_device(&consent).await.map(|begun| {
            let waiting = Waiting::new(candidate, &begun);
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

#[derive(Deserialize)]
struct Asked {
    login: String,
}

/// Shows a page that asks whether to forget a consent.
async fn confirm(
    State(shared): Shown,
    headers: HeaderMap,
    Query(Asked { login }): Query<Asked>,
) -> Result<Markup, Refused> {
    let entered = shared.entered(&headers)?;
    let candidate = shared.candidate(&login)?;
    Ok(pages::forget(&shared.prefix, &entered.csrf, candidate))
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

/// Shows the code that somebody must type in; once that is done, leads back to the accounts.
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

/// Finishes a sign-in when the browser comes back from the provider.
async fn callback(
    State(shared): Shown,
    uri: Uri,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Refused> {
    let entered = shared.entered(&headers)?;
    let query = query.unwrap_or_default();
    entered.tell(match entered.came_back(&query) {
        Some((login, begun)) => {
            let candidate = shared.candidate(&login)?;
            let consent = candidate.consent(&shared.tokens);
            // Each provider sends browsers back to an address of its own (RFC 9700 §4.4.2).
            let issued = if begun.comes_back_to(uri.path()) {
                shared.tokens.finish_code(&consent, &begun, &query).await
            } else {
                Err(oauth::Error::another_provider())
            };
            shared.complete(candidate, issued).await
        }
        None => Notice::failed("This is not the answer to a sign-in that was begun here: begin again.".to_owned()),
    });
    Ok(shared.to("/"))
}
