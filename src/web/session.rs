//! Sessions of browsers at the page. A session begins with the administrator's password, and remembers the sign-ins
//! that the browser has begun.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_lc_rs::rand;
use axum::http::{HeaderMap, header};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use dashmap::DashMap;
use tokio::time::Instant;

use super::{device::PendingSignIn, pages::Flash};
use crate::oauth::CodeSignIn;

/// How long a session lasts.
const LIFETIME: Duration = Duration::from_secs(3600);
/// The most sessions at once. Each has begun with the right password.
const MOST: usize = 1000;
/// The most sign-ins in a browser that one session remembers.
const MOST_CODE_SIGN_INS: usize = 16;
const COOKIE: &str = "popgate_session";

/// All sessions of the page.
pub(super) struct BrowserSessions {
    sessions: DashMap<String, Arc<SessionData>>,
    attributes: String,
}

struct SessionData {
    csrf: String,
    until: Instant,
    progress: Mutex<Progress>,
}

#[derive(Default)]
struct Progress {
    flash: Option<Flash>,
    /// Sign-ins whose browser is at the provider, each with the login that it is for.
    code_sign_ins: Vec<(String, CodeSignIn)>,
    pending: Option<PendingSignIn>,
}

/// The session of a browser that is logged in.
pub(super) struct BrowserSession {
    id: String,
    /// The token that the session's forms must contain.
    pub(super) csrf: String,
    data: Arc<SessionData>,
}

impl BrowserSessions {
    /// Sessions of a page under `path`. If `secure`, browsers send the cookie over HTTPS only.
    pub(super) fn new(path: &str, secure: bool) -> Self {
        let secure = if secure { "; Secure" } else { "" };
        Self {
            sessions: DashMap::new(),
            // Lax, not Strict: a browser that comes back from a provider follows a link of another site, and must send
            // the cookie.
            attributes: format!("; Path={path}/; HttpOnly; SameSite=Lax{secure}"),
        }
    }

    /// Begins a session after the password was given. Returns the cookie to set; `None` if there are too many sessions,
    /// or no random numbers.
    pub(super) fn begin(&self) -> Option<String> {
        let now = Instant::now();
        self.sessions.retain(|_, session| session.until > now);
        if self.sessions.len() >= MOST {
            return None;
        }
        let id = unguessable()?;
        let session = SessionData {
            csrf: unguessable()?,
            until: now + LIFETIME,
            progress: Mutex::default(),
        };
        self.sessions.insert(id.clone(), Arc::new(session));
        Some(format!("{COOKIE}={id}{}", self.attributes))
    }

    pub(super) fn find(&self, headers: &HeaderMap) -> Option<BrowserSession> {
        let id = headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|cookies| cookies.split(';'))
            .find_map(|cookie| cookie.trim().strip_prefix(COOKIE)?.strip_prefix('='))?;
        let data = self.sessions.get(id)?.clone();
        (data.until > Instant::now()).then(|| BrowserSession {
            id: id.to_owned(),
            csrf: data.csrf.clone(),
            data,
        })
    }

    /// Ends the session. Returns the cookie to set.
    pub(super) fn end(&self, session: &BrowserSession) -> String {
        self.sessions.remove(&session.id);
        format!("{COOKIE}=; Max-Age=0{}", self.attributes)
    }
}

impl BrowserSession {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.data.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the flash message that the next page shows.
    pub(super) fn flash(&self, flash: Flash) {
        self.progress().flash = Some(flash);
    }

    pub(super) fn take_flash(&self) -> Option<Flash> {
        self.progress().flash.take()
    }

    /// Remembers a sign-in whose browser goes to the provider. If there are too many, forgets the oldest.
    pub(super) fn add_code_sign_in(&self, login: String, begun: CodeSignIn) {
        let code_sign_ins = &mut self.progress().code_sign_ins;
        if code_sign_ins.len() == MOST_CODE_SIGN_INS {
            code_sign_ins.remove(0);
        }
        code_sign_ins.push((login, begun));
    }

    /// Returns the sign-in that `query`, with which the browser came back, is the answer to. Returns it only once.
    pub(super) fn take_code_sign_in(&self, query: &str) -> Option<(String, CodeSignIn)> {
        let code_sign_ins = &mut self.progress().code_sign_ins;
        let at = code_sign_ins
            .iter()
            .position(|(_, begun)| begun.is_answered_by(query))?;
        Some(code_sign_ins.remove(at))
    }

    /// Remembers a sign-in whose code somebody must type in.
    pub(super) fn set_pending(&self, pending: PendingSignIn) {
        self.progress().pending = Some(pending);
    }

    pub(super) fn pending(&self) -> Option<PendingSignIn> {
        self.progress().pending.clone()
    }

    pub(super) fn clear_pending(&self) {
        self.progress().pending = None;
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
        let sessions = BrowserSessions::new("/mail", true);
        let set = sessions.begin().unwrap();
        assert!(set.ends_with("; Path=/mail/; HttpOnly; SameSite=Lax; Secure"), "{set}");
        let cookie = set.split(';').next().unwrap();
        assert!(sessions.find(&cookies(&format!("other=1; {cookie}"))).is_some());
        assert!(sessions.find(&cookies("popgate_session=guess")).is_none());
        assert!(sessions.find(&HeaderMap::new()).is_none());
        tokio::time::advance(LIFETIME).await;
        assert!(sessions.find(&cookies(cookie)).is_none());
    }

    #[tokio::test]
    async fn who_has_left_is_not_known_any_more() {
        let sessions = BrowserSessions::new("", false);
        let set = sessions.begin().unwrap();
        let headers = cookies(set.split(';').next().unwrap());
        let session = sessions.find(&headers).unwrap();
        assert!(
            sessions
                .end(&session)
                .starts_with("popgate_session=; Max-Age=0; Path=/; ")
        );
        assert!(sessions.find(&headers).is_none());
    }
}
