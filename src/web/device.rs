//! A sign-in by a device code: somebody types in the code elsewhere while a page waits.

use std::sync::{Arc, OnceLock};

use super::{AppState, pages::Flash};
use crate::{
    oauth::DeviceSignIn,
    sign_in::Candidate,
    state::{Consent, now},
};

/// A sign-in whose code has not been typed in yet, as the page shows it.
#[derive(Debug, Clone)]
pub(super) struct PendingSignIn(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    login: String,
    person: String,
    user: String,
    /// When the code expires, in seconds since 1970.
    until: u32,
    code: String,
    url: String,
    url_with_code: Option<String>,
    outcome: OnceLock<Flash>,
}

impl PendingSignIn {
    pub(super) fn new(candidate: Candidate<'_>, begun: &DeviceSignIn) -> Self {
        let lifetime = u32::try_from(begun.lifetime().as_secs()).unwrap_or(u32::MAX);
        Self(Arc::new(Inner {
            login: candidate.account.login.clone(),
            person: candidate.person().to_owned(),
            user: candidate.account.user.clone(),
            until: now().saturating_add(lifetime),
            code: begun.code().to_owned(),
            url: begun.url().to_owned(),
            url_with_code: begun.url_with_code().map(str::to_owned),
            outcome: OnceLock::new(),
        }))
    }

    pub(super) fn login(&self) -> &str {
        &self.0.login
    }

    /// The user as whom somebody must sign in.
    pub(super) fn person(&self) -> &str {
        &self.0.person
    }

    /// The user whose mailbox it is.
    pub(super) fn user(&self) -> &str {
        &self.0.user
    }

    pub(super) fn until(&self) -> u32 {
        self.0.until
    }

    pub(super) fn code(&self) -> &str {
        &self.0.code
    }

    /// The URL of the page where the code is typed in. The code is already filled in, if the provider has such a URL.
    pub(super) fn url(&self) -> &str {
        self.0.url_with_code.as_deref().unwrap_or(&self.0.url)
    }

    /// The URL of the page where the code is typed in, for people to read.
    pub(super) fn plain_url(&self) -> &str {
        &self.0.url
    }

    /// The result of the sign-in, once it is known.
    pub(super) fn outcome(&self) -> Option<Flash> {
        self.0.outcome.get().cloned()
    }
}

/// Waits until somebody has typed in the code, and completes the sign-in, even if the page is closed meanwhile.
pub(super) async fn finish(app: Arc<AppState>, consent: Consent, begun: DeviceSignIn, pending: PendingSignIn) {
    let finishing = async {
        let issued = app.tokens.finish_device(&consent, &begun).await;
        match app.candidate(pending.login()) {
            Ok(candidate) => app.complete(candidate, issued).await,
            Err(_) => Flash::failed(format!("{}: there is no such account.", pending.login())),
        }
    };
    let outcome = tokio::select! {
        outcome = finishing => outcome,
        () = app.shutdown.cancelled() => return,
    };
    // Only this function sets the outcome, and only once.
    let _ = pending.0.outcome.set(outcome);
}
