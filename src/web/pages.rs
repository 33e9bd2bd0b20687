//! The pages, in HTML.

use std::{
    cmp::Reverse,
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use maud::{DOCTYPE, Markup, html};

use super::{AccountSummary, Health, device::PendingSignIn};
use crate::{
    doctor::{Outcome, Step},
    oauth::{self, ConsentState, ConsentStatus, TextPart},
    sign_in::Candidate,
    telemetry::{Poll, polls, sessions},
    types::canonical,
};

/// A flash message: what has just happened, shown once on the next page.
#[derive(Debug, Clone)]
pub(super) struct Flash {
    text: String,
    is_good: bool,
}

impl Flash {
    pub(super) fn good(text: String) -> Self {
        Self { text, is_good: true }
    }

    pub(super) fn failed(text: String) -> Self {
        Self { text, is_good: false }
    }
}

/// The status of an account, or of a login that was forwarded.
pub(super) struct AccountStatus {
    login: String,
    mailbox: String,
    poll: Poll,
    pause: Duration,
    /// Whether the gateway can log in to the upstream without a device.
    is_stored: bool,
    /// Present if the account's upstream uses OAuth2.
    consent: Option<AccountConsent>,
}

/// The status of an account's consent.
pub(super) struct AccountConsent {
    status: Vec<TextPart>,
    is_good: bool,
    /// The user as whom somebody signs in; `None` if no sign-in is needed.
    person: Option<String>,
    /// Whether there is a consent to forget.
    is_kept: bool,
}

/// The status of the gateway itself.
pub(super) struct GatewayStatus {
    pub(super) health: Health,
    /// Address and `tls` of each listener.
    pub(super) listeners: Vec<(String, String)>,
}

impl AccountStatus {
    pub(super) fn new(account: AccountSummary, consent: Option<AccountConsent>) -> Self {
        Self {
            poll: polls().of(&canonical(&account.login, None)),
            login: account.login,
            mailbox: account.mailbox,
            pause: account.pause,
            is_stored: account.is_stored,
            consent,
        }
    }
}

impl AccountConsent {
    pub(super) fn new(candidate: Candidate<'_>, status: Result<ConsentStatus, oauth::Error>) -> Self {
        let (status, is_good, is_kept) = match status {
            Ok(status) => (status.parts(), status.is_good(), status.state != ConsentState::Missing),
            Err(error) => (vec![TextPart::Text(error.to_string())], false, false),
        };
        let needs_consent = candidate.oauth2.needs_consent();
        Self {
            is_good,
            status,
            person: needs_consent.then(|| candidate.person().to_owned()),
            is_kept: is_kept && needs_consent,
        }
    }
}

/// The most logins without an account in the configuration that the page shows.
const MOST_FORWARDED: usize = 100;

/// The logins of [`polls`] that are not in `statuses`: first those that fail, then the others, the most recent first.
pub(super) fn forwarded(statuses: &[AccountStatus]) -> Vec<AccountStatus> {
    let shown: BTreeSet<String> = statuses.iter().map(|status| canonical(&status.login, None)).collect();
    let mut others: Vec<_> = polls().all();
    others.retain(|(login, _)| !shown.contains(login));
    others.sort_by_key(|(_, poll)| (!poll.is_failing(), Reverse(poll.last())));
    let status = |(login, poll)| AccountStatus {
        login,
        mailbox: "by its own password".to_owned(),
        poll,
        pause: Duration::ZERO,
        is_stored: false,
        consent: None,
    };
    others.into_iter().take(MOST_FORWARDED).map(status).collect()
}

/// The result of a login's last polls, in words.
fn poll_result(poll: &Poll) -> Vec<TextPart> {
    let text = |text: &str| TextPart::Text(text.to_owned());
    let time = |at: SystemTime| {
        let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        TextPart::Time(u32::try_from(since.as_secs()).unwrap_or(u32::MAX))
    };
    let mut parts = Vec::new();
    if poll.is_failing()
        && let Some((at, reason)) = &poll.failure
    {
        parts.extend([text("failed at "), time(*at), text(&format!(": {reason}; "))]);
    }
    match poll.success {
        Some((at, 1)) => parts.extend([text("last polled at "), time(at), text(", 1 message")]),
        Some((at, messages)) => {
            parts.extend([
                text("last polled at "),
                time(at),
                text(&format!(", {messages} messages")),
            ]);
        }
        None if poll.is_failing() => parts.push(text("no success since the gateway started")),
        None => parts.push(text("not polled since the gateway started")),
    }
    parts
}

/// Renders `parts`. Each time has an element of its own, so that no line break falls inside it.
fn words(parts: &[TextPart]) -> Markup {
    html! {
        @for part in parts {
            @match part {
                TextPart::Text(text) => (text),
                TextPart::Time(_) => time { (part.to_string()) },
            }
        }
    }
}

fn page(prefix: &str, title: &str, refresh: Option<u32>, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="robots" content="noindex";
                @if let Some(seconds) = refresh {
                    meta http-equiv="refresh" content=(seconds);
                }
                title { (title) " – popgate" }
                link rel="stylesheet" href={ (prefix) "/style.css" };
            }
            body {
                main { (content) }
            }
        }
    }
}

pub(super) fn login(prefix: &str, wrong: Option<&str>) -> Markup {
    let content = html! {
        h1 { "popgate" }
        p { "How the accounts fare, and where to sign in to mail providers that take no passwords." }
        @if let Some(wrong) = wrong {
            p.notice.bad role="alert" { (wrong) }
        }
        form method="post" action={ (prefix) "/login" } {
            label for="password" { "Administrator password" }
            input type="password" id="password" name="password" autocomplete="current-password" required autofocus;
            button { "Log in" }
        }
        p.hint { "It is " code { "admin_password" } " of " code { "[web]" } " in the gateway's configuration." }
    };
    page(prefix, "Log in", None, &content)
}

/// After how many seconds browsers reload the page of the accounts.
const REFRESH: u32 = 60;

pub(super) fn accounts(
    prefix: &str,
    csrf: &str,
    flash: Option<Flash>,
    gateway: &GatewayStatus,
    statuses: &[AccountStatus],
) -> Markup {
    let content = html! {
        header {
            h1 { "Accounts" }
            form method="post" action={ (prefix) "/logout" } {
                input type="hidden" name="csrf" value=(csrf);
                button.plain { "Log out" }
            }
        }
        @if let Some(flash) = flash {
            p.notice.good[flash.is_good].bad[!flash.is_good] role="status" { (flash.text) }
        }
        (state(gateway))
        @if statuses.is_empty() {
            p { "There is no " code { "[[account]]" } ", and nobody has logged in since the gateway started." }
        }
        @for status in statuses {
            (account(prefix, csrf, status))
        }
    };
    page(prefix, "Accounts", Some(REFRESH), &content)
}

/// Shows what does not work, the listeners, and how many sessions each has.
fn state(gateway: &GatewayStatus) -> Markup {
    let sessions = sessions();
    let Health { failing, degraded } = &gateway.health;
    html! {
        ul.state {
            @for (part, reason) in failing.iter().chain(degraded) {
                li.bad { strong { (part) } ": " (reason) }
            }
            @for (address, tls) in &gateway.listeners {
                @let count = sessions.iter().filter(|session| session.listener == *address).count();
                li { code { (address) } " · tls " (tls) " · " (count) @if count == 1 { " session" } @else { " sessions" } }
            }
        }
    }
}

fn account(prefix: &str, csrf: &str, status: &AccountStatus) -> Markup {
    let person = status.consent.as_ref().and_then(|consent| consent.person.as_ref());
    html! {
        section {
            div {
                h2 { (status.login) }
                p.mailbox {
                    (status.mailbox)
                    @if let Some(person) = person {
                        " · sign in as " (person)
                    }
                }
                @if let Some(consent) = &status.consent {
                    p.status.good[consent.is_good].bad[!consent.is_good] { (words(&consent.status)) }
                }
                p.poll.bad[status.poll.is_failing()] { (words(&poll_result(&status.poll))) }
                @if !status.pause.is_zero() {
                    p.poll.bad { "the upstream wants to be left alone for " (status.pause.as_secs().max(1)) " seconds" }
                }
            }
            div.actions {
                @if let Some(consent) = status.consent.as_ref().filter(|consent| consent.person.is_some()) {
                    form method="post" action={ (prefix) "/sign-in" } {
                        (hidden(csrf, &status.login))
                        @let text = if consent.is_kept { "Sign in again" } else { "Sign in" };
                        button.plain[consent.is_good] aria-label={ (text) ": " (status.login) } { (text) }
                    }
                    @if consent.is_kept {
                        form method="get" action={ (prefix) "/forget" } {
                            input type="hidden" name="login" value=(status.login);
                            button.plain aria-label={ "Forget: " (status.login) } { "Forget" }
                        }
                    }
                }
                @if status.is_stored {
                    form method="post" action={ (prefix) "/test" } {
                        (hidden(csrf, &status.login))
                        button.plain aria-label={ "Test: " (status.login) } { "Test" }
                    }
                }
            }
        }
    }
}

/// The page with the results of a test, step by step.
pub(super) fn steps(prefix: &str, login: &str, steps: &[Step]) -> Markup {
    let is_good = !steps.iter().any(|step| step.outcome.is_failure());
    let content = html! {
        h1 { "Test of " (login) }
        p.notice.good[is_good].bad[!is_good] role="status" {
            @if is_good { "Everything works." } @else { "Something does not work." }
        }
        ol.steps {
            @for step in steps {
                @let is_bad = !matches!(step.outcome, Outcome::Passed(_));
                li {
                    strong { (step.name) }
                    " " span.hint { (step.took.as_millis()) " ms" }
                    p.bad[is_bad] { (step.outcome.text()) }
                    @if let Some(advice) = &step.advice {
                        p.hint { (advice) }
                    }
                }
            }
        }
        p { a href={ (prefix) "/" } { "Back to the accounts" } }
    };
    page(prefix, "Test", None, &content)
}

fn hidden(csrf: &str, login: &str) -> Markup {
    html! {
        input type="hidden" name="csrf" value=(csrf);
        input type="hidden" name="login" value=(login);
    }
}

/// The page that asks whether to forget a consent.
pub(super) fn forget(prefix: &str, csrf: &str, candidate: Candidate<'_>) -> Markup {
    let account = candidate.account;
    let content = html! {
        h1 { "Forget the consent for " (account.login) "?" }
        p {
            "Devices can no longer read the mail of " (account.user) " until somebody signs in again as "
            (candidate.person()) "."
        }
        div.actions {
            form method="post" action={ (prefix) "/forget" } {
                (hidden(csrf, &account.login))
                button.danger { "Forget" }
            }
            a.button href={ (prefix) "/" } { "Cancel" }
        }
    };
    page(prefix, "Forget", None, &content)
}

pub(super) fn code(prefix: &str, pending: &PendingSignIn) -> Markup {
    let content = html! {
        h1 { "Sign in for " (pending.login()) }
        p { "On any device, open " a href=(pending.url()) target="_blank" rel="noreferrer noopener" { (pending.plain_url()) } " and enter this code:" }
        p.code { (pending.code()) }
        p {
            "Sign in there as " strong { (pending.person()) }
            @if pending.person() != pending.user() { ", who may read the mailbox of " (pending.user()) }
            ". The code is good until " time { (TextPart::Time(pending.until()).to_string()) } "."
        }
        p.hint { "This page looks every few seconds whether that has been done." }
        p { a href={ (prefix) "/" } { "Back to the accounts" } }
    };
    page(prefix, "Sign in", Some(3), &content)
}
