//! Sessions of browsers at the page. A session begins with the administrator's password, and remembers the sign-ins that the
//! browser has begun.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_lc_rs::rand;
use axum::http::{HeaderMap, header};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use dashmap::DashMap;
use tokio::time::Instant;

use super::{device::Waiting, pages::Notice};
use crate::oauth::CodeSignIn;

/// How long a session lasts.
const LIFETIME: Duration = Duration::from_secs(3600);
/// The most sessions at once. Each began with the password.
const MOST: usize = 1000;
/// The most sign-ins in a browser that one session remembers.
const MOST_AWAY: usize = 16;
const COOKIE: &str = "popgate_session";

/// All sessions of the page.
pub(super) struct Sessions {
    sessions: DashMap<String, Arc<Session>>,
    attributes: String,
}

struct Session {
    csrf: String,
    until: Instant,
    progress: Mutex<Progress>,
}

#[derive(Default)]
struct Progress {
    notice: Option<Notice>,
    /// Sign-ins whose browser is at the provider, each with the login that it is for.
    away: Vec<(String, CodeSignIn)>,
    waiting: Option<Waiting>,
}

/// The session of a browser that is logged in.
pub(super) struct Entered {
    id: String,
    /// The token that the session's forms must contain.
    pub(super) csrf: String,
    session: Arc<Session>,
}

impl Sessions {
    /// Sessions of a page under `path`. If `secure`, browsers send the cookie over HTTPS only.
    pub(super) fn new(path: &str, secure: bool) -> Self {
        let secure = if secure { "; Secure" } else { "" };
        Self {
            sessions: DashMap::new(),
            // Lax, not Strict: a browser that comes back from a provider follows a link of another site, and must send the
            // cookie.
            attributes: format!("; Path={path}/; HttpOnly; SameSite=Lax{secure}"),
        }
    }

    /// Begins a session after the password was given. Returns the cookie to set; `None` if there are too many sessions,
    /// or no random numbers.
    pub(super) fn enter(&self) -> Option<String> {
        let now = Instant::now();
        self.sessions.retain(|_, session| session.until > now);
        if self.sessions.len() >= MOST {
            return None;
        }
        let id = unguessable()?;
        let session = Session {
            csrf: unguessable()?,
            until: now + LIFETIME,
            progress: Mutex::default(),
        };
        self.sessions.insert(id.clone(), Arc::new(session));
        Some(format!("{COOKIE}={id}{}", self.attributes))
    }

    pub(super) fn entered(&self, headers: &HeaderMap) -> Option<Entered> {
        let id = headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|cookies| cookies.split(';'))
            .find_map(|cookie| cookie.trim().strip_prefix(COOKIE)?.strip_prefix('='))?;
        let session = self.sessions.get(id)?.clone();
        (session.until > Instant::now()).then(|| Entered {
            id: id.to_owned(),
            csrf: session.csrf.clone(),
            session,
        })
    }

    /// Ends the session. Returns the cookie to set.
    pub(super) fn leave(&self, entered: &Entered) -> String {
        self.sessions.remove(&entered.id);
        format!("{COOKIE}=; Max-Age=0{}", self.attributes)
    }
}

impl Entered {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.session.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the notice that the next page shows.
    pub(super) fn tell(&self, notice: Notice) {
        self.progress().notice = Some(notice);
    }

    pub(super) fn take_notice(&self) -> Option<Notice> {
        self.progress().notice.take()
    }

    /// Remembers a sign-in whose browser goes to the provider. If there are too many, forgets the oldest.
    pub(super) fn send_away(&self, login: String, begun: CodeSignIn) {
        let away = &mut self.progress().away;
        if away.len() == MOST_AWAY {
            away.remove(0);
        }
        away.push((login, begun));
    }

    /// The sign-in that `query`, with which the browser came back, is the answer to. It is returned only once.
    pub(super) fn came_back(&self, query: &str) -> Option<(String, CodeSignIn)> {
        let away = &mut self.progress().away;
        let at = away.iter().position(|(_, begun)| begun.is_answered_by(query))?;
        Some(away.remove(at))
    }

    /// Remembers a sign-in whose code somebody must type in.
    pub(super) fn wait(&self, waiting: Waiting) {
        self.progress().waiting = Some(waiting);
    }

    pub(super) fn waiting(&self) -> Option<Waiting> {
        self.progress().waiting.clone()
    }

    pub(super) fn wait_no_more(&self) {
        self.progress().waiting = None;
    }
}

fn unguessable() -> Option<String> {
    let mut octets = [0; 32];
    rand::fill(&mut octets).ok()?;
    Some(BASE64URL.encode(octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookies(cookies: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::COOKIE, cookies.parse().unwrap())])
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_is_known_by_its_cookie_for_an_hour() {
        let sessions = Sessions::new("/mail", true);
        let set = sessions.enter().unwrap();
        assert!(set.ends_with("; Path=/mail/; HttpOnly; SameSite=Lax; Secure"), "{set}");
        let cookie = set.split(';').next().unwrap();
        assert!(sessions.entered(&cookies(&format!("other=1; {cookie}"))).is_some());
        assert!(sessions.entered(&cookies("popgate_session=guess")).is_none());
        assert!(sessions.entered(&HeaderMap::new()).is_none());
        tokio::time::advance(LIFETIME).await;
        assert!(sessions.entered(&cookies(cookie)).is_none());
    }

    #[tokio::test]
    async fn who_has_left_is_not_known_any_more() {
        let sessions = Sessions::new("", false);
        let set = sessions.enter().unwrap();
        let headers = cookies(set.split(';').next().unwrap());
        let entered = sessions.entered(&headers).unwrap();
        assert!(
            sessions
                .leave(&entered)
                .starts_with("popgate_session=; Max-Age=0; Path=/; ")
        );
        assert!(sessions.entered(&headers).is_none());
    }
}
