//! The web page (`[web]`): shows the status of the gateway and its accounts, and lets somebody sign in for accounts at
//! OAuth2 providers. The page works without JavaScript, and loads nothing from other sites. Its server also answers the
//! probes of monitoring programs.

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
use futures_util::{StreamExt, stream};
use maud::Markup;
use oauth2::url::Url;
use serde::Deserialize;
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub(crate) use overview::{AccountSummary, Health, Overview};

use self::{
    device::PendingSignIn,
    guard::Guard,
    guesses::{Guesses, Peer},
    pages::{AccountConsent, AccountStatus, Flash, GatewayStatus},
    probes::Liveness,
    session::{BrowserSession, BrowserSessions},
};
use crate::{
    config::{Grant, Secret, Web},
    oauth::{self, Issued, Tokens},
    sign_in::{Candidate, SignIns},
};

/// How many consents are read from state at the same time.
const AT_ONCE: usize = 64;

/// The web page, bound to its address.
pub(crate) struct Site {
    listener: std::net::TcpListener,
    current: Current,
}

/// The [`AppState`] that requests use. A reload of the configuration replaces it.
#[derive(Clone)]
struct Current(Arc<ArcSwap<AppState>>);

impl FromRef<Current> for Arc<AppState> {
    fn from_ref(current: &Current) -> Self {
        current.0.load_full()
    }
}

struct AppState {
    overview: Arc<dyn Overview>,
    liveness: Arc<Liveness>,
    sign_ins: SignIns,
    tokens: Arc<Tokens>,
    password: Secret,
    secure: bool,
    sessions: Arc<BrowserSessions>,
    guesses: Arc<Guesses>,
    guard: Guard,
    /// The URL by which browsers reach the page, without a slash at the end.
    url: String,
    /// The path of `url`.
    prefix: String,
    /// Cancelled at shutdown, so that sign-ins by a device code stop waiting.
    shutdown: CancellationToken,
}

type App = State<Arc<AppState>>;

impl Site {
    /// Binds the page of `web`, which shows what `overview` knows of the gateway.
    pub(crate) fn bind(
        web: &Web,
        sign_ins: SignIns,
        tokens: Arc<Tokens>,
        overview: Arc<dyn Overview>,
    ) -> io::Result<Self> {
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
            current: Current(Arc::new(ArcSwap::from_pointee(AppState {
                overview,
                liveness: Arc::default(),
                sign_ins,
                tokens,
                password: web.admin_password.clone(),
                secure,
                sessions: Arc::new(BrowserSessions::new(&prefix, secure)),
                guesses: Arc::new(Guesses::new(web.public_url.is_some())),
                guard,
                url,
                prefix,
                shutdown: CancellationToken::new(),
            }))),
        })
    }

    /// Applies a reloaded configuration to further requests; without a `password`, the old one stays. If the password
    /// changes, all browsers are logged out.
    pub(crate) fn change(&self, password: Option<&Secret>, sign_ins: SignIns, tokens: Arc<Tokens>) {
        let before = self.current.0.load_full();
        let password = password.unwrap_or(&before.password).clone();
        let sessions = if password == before.password {
            before.sessions.clone()
        } else {
            Arc::new(BrowserSessions::new(&before.prefix, before.secure))
        };
        self.current.0.store(Arc::new(AppState {
            overview: before.overview.clone(),
            liveness: before.liveness.clone(),
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

    /// Makes `/livez` say that the gateway ends, and waits a few seconds, so that load balancers can notice. If none asks
    /// for `/livez`, this does not wait.
    pub(crate) async fn announce_end(&self) {
        let liveness = self.current.0.load().liveness.clone();
        liveness.end().await;
    }

    /// The bound address.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown`.
    pub(crate) async fn run(&self, shutdown: CancellationToken) {
        let app = self.current.0.load_full();
        let (mut router, mut probes) = (Router::new(), Router::new());
        // A proxy in front may remove its own path from the request or leave it.
        let prefixes = [String::new(), app.prefix.clone()];
        for prefix in &prefixes[..if app.prefix.is_empty() { 1 } else { 2 }] {
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
                // The path of the cookie ends with a slash, so browsers do not send the cookie to `prefix`. They are
                // redirected.
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
            app.shutdown.cancel();
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

impl AppState {
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
    fn session(&self, headers: &HeaderMap) -> Result<BrowserSession, Rejection> {
        let not_logged_in = || Rejection::NotLoggedIn(format!("{}/login", self.prefix));
        self.sessions.find(headers).ok_or_else(not_logged_in)
    }

    /// Like [`Self::session`], for a form, which must also contain the CSRF token of the session.
    fn session_of_form(&self, headers: &HeaderMap, csrf: &str) -> Result<BrowserSession, Rejection> {
        let session = self.session(headers)?;
        if session.csrf.as_bytes().ct_eq(csrf.as_bytes()).into() {
            Ok(session)
        } else {
            Err(Rejection::WrongCsrf)
        }
    }

    fn candidate(&self, login: &str) -> Result<Candidate<'_>, Rejection> {
        self.sign_ins
            .candidates()
            .find(|candidate| candidate.account.login == login)
            .ok_or(Rejection::UnknownAccount)
    }

    /// The status of `account`, with that of its consent.
    async fn status(&self, account: AccountSummary) -> AccountStatus {
        let consent = match self.candidate(&account.login) {
            Ok(candidate) => {
                let status = self.tokens.status(&candidate.consent(&self.tokens)).await;
                Some(AccountConsent::new(candidate, status))
            }
            Err(_) => None,
        };
        AccountStatus::new(account, consent)
    }

    /// Completes a sign-in with what the provider issued, and logs the result. Returns the flash message of the next
    /// page.
    async fn complete(&self, candidate: Candidate<'_>, issued: Result<Issued, oauth::Error>) -> Flash {
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
                Flash::good(text)
            }
            Err(error) => {
                tracing::warn!(login, %error, "a sign-in at the sign-in page failed");
                Flash::failed(format!("{login}: {error}"))
            }
        }
    }
}

/// Why the answer to a request is not a page.
enum Rejection {
    /// The browser is not logged in. Holds the path of the login page.
    NotLoggedIn(String),
    /// The CSRF token of the form is not that of this session.
    WrongCsrf,
    /// There is no such account, or nobody signs in for it.
    UnknownAccount,
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        match self {
            Self::NotLoggedIn(login_page) => Redirect::to(&login_page).into_response(),
            Self::WrongCsrf => {
                let text = "This form is not of this session: go back, and load the page anew.";
                (StatusCode::FORBIDDEN, text).into_response()
            }
            Self::UnknownAccount => (StatusCode::NOT_FOUND, "There is no such account to sign in for.").into_response(),
        }
    }
}

async fn home(State(app): App) -> Response {
    app.to("/")
}

async fn style() -> Response {
    (
        [(header::CONTENT_TYPE, "text/css; charset=utf-8")],
        include_str!("style.css"),
    )
        .into_response()
}

async fn login_form(State(app): App) -> Markup {
    pages::login(&app.prefix, None)
}

#[derive(Deserialize)]
struct LoginForm {
    password: String,
}

async fn login(
    State(app): App,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    Form(form): Form<LoginForm>,
) -> Response {
    let right = || app.password.expose().ct_eq(form.password.as_bytes()).into();
    if !app.guesses.is_right(peer, &headers, right).await {
        tracing::warn!("wrong password at the sign-in page");
        let page = pages::login(&app.prefix, Some("Wrong password."));
        return (StatusCode::FORBIDDEN, page).into_response();
    }
    match app.sessions.begin() {
        Some(cookie) => ([(header::SET_COOKIE, cookie)], app.to("/")).into_response(),
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

#[derive(Deserialize)]
struct CsrfForm {
    csrf: String,
}

async fn logout(State(app): App, headers: HeaderMap, Form(form): Form<CsrfForm>) -> Result<Response, Rejection> {
    let session = app.session_of_form(&headers, &form.csrf)?;
    let cookie = app.sessions.end(&session);
    Ok(([(header::SET_COOKIE, cookie)], app.to("/login")).into_response())
}

async fn accounts(State(app): App, headers: HeaderMap) -> Result<Markup, Rejection> {
    let session = app.session(&headers)?;
    // Many at once: each takes long if the servers of state are away.
    let accounts = app.overview.accounts().into_iter();
    let reading: Vec<_> = accounts.map(|account| app.status(account)).collect();
    let mut statuses: Vec<_> = stream::iter(reading).buffered(AT_ONCE).collect().await;
    statuses.extend(pages::forwarded(&statuses));
    let gateway = GatewayStatus {
        health: app.overview.health().await,
        listeners: app.overview.listeners().await,
    };
    let flash = session.take_flash();
    Ok(pages::accounts(&app.prefix, &session.csrf, flash, &gateway, &statuses))
}

/// Tries a login step by step.
async fn test(State(app): App, headers: HeaderMap, Form(form): Form<AccountForm>) -> Result<Markup, Rejection> {
    app.session_of_form(&headers, &form.csrf)?;
    let steps = app
        .overview
        .examine(&form.login)
        .await
        .ok_or(Rejection::UnknownAccount)?;
    Ok(pages::steps(&app.prefix, &form.login, &steps))
}

#[derive(Deserialize)]
struct AccountForm {
    csrf: String,
    login: String,
}

async fn begin(State(app): App, headers: HeaderMap, Form(form): Form<AccountForm>) -> Result<Response, Rejection> {
    let session = app.session_of_form(&headers, &form.csrf)?;
    let candidate = app.candidate(&form.login)?;
    let consent = candidate.consent(&app.tokens);
    let to = match &candidate.oauth2.grant {
        Grant::Code { .. } => {
            let redirect = app.callback(candidate);
            app.tokens.begin_code(&consent, &redirect).map(|begun| {
                let to = Redirect::to(&begun.url).into_response();
                session.add_code_sign_in(form.login.clone(), begun);
                to
            })
        }
        Grant::Device { .. } => app.tokens.begin_device(&consent).await.map(|begun| {
            let pending = PendingSignIn::new(candidate, &begun);
            session.set_pending(pending.clone());
            tokio::spawn(device::finish(app.clone(), consent, begun, pending));
            app.to("/code")
        }),
        Grant::ClientCredentials | Grant::ServiceAccount => return Err(Rejection::UnknownAccount),
    };
    Ok(to.unwrap_or_else(|error| {
        session.flash(Flash::failed(format!("{}: {error}", form.login)));
        app.to("/")
    }))
}

#[derive(Deserialize)]
struct AccountQuery {
    login: String,
}

/// Shows a page that asks whether to forget a consent.
async fn confirm(
    State(app): App,
    headers: HeaderMap,
    Query(AccountQuery { login }): Query<AccountQuery>,
) -> Result<Markup, Rejection> {
    let session = app.session(&headers)?;
    let candidate = app.candidate(&login)?;
    Ok(pages::forget(&app.prefix, &session.csrf, candidate))
}

async fn forget(State(app): App, headers: HeaderMap, Form(form): Form<AccountForm>) -> Result<Response, Rejection> {
    let session = app.session_of_form(&headers, &form.csrf)?;
    let (login, candidate) = (&form.login, app.candidate(&form.login)?);
    session.flash(match app.tokens.forget(&candidate.consent(&app.tokens)).await {
        Ok(_) => Flash::good(format!(
            "{login} is forgotten; the consent may be withdrawn at the provider too."
        )),
        Err(error) => Flash::failed(format!("{login}: {error}")),
    });
    Ok(app.to("/"))
}

/// Shows the code that somebody must type in; once that is done, leads back to the accounts.
async fn code(State(app): App, headers: HeaderMap) -> Result<Response, Rejection> {
    let session = app.session(&headers)?;
    let Some(pending) = session.pending() else {
        return Ok(app.to("/"));
    };
    Ok(match pending.outcome() {
        Some(flash) => {
            session.flash(flash);
            session.clear_pending();
            app.to("/")
        }
        None => pages::code(&app.prefix, &pending).into_response(),
    })
}

/// Finishes a sign-in when the browser comes back from the provider.
async fn callback(
    State(app): App,
    uri: Uri,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Rejection> {
    let session = app.session(&headers)?;
    let query = query.unwrap_or_default();
    session.flash(match session.take_code_sign_in(&query) {
        Some((login, begun)) => {
            let candidate = app.candidate(&login)?;
            let consent = candidate.consent(&app.tokens);
            // Each provider sends browsers back to an address of its own (RFC 9700 §4.4.2).
            let issued = if begun.comes_back_to(uri.path()) {
                app.tokens.finish_code(&consent, &begun, &query).await
            } else {
                Err(oauth::Error::another_provider())
            };
            app.complete(candidate, issued).await
        }
        None => Flash::failed("This is not the answer to a sign-in that was begun here: begin again.".to_owned()),
    });
    Ok(app.to("/"))
}
