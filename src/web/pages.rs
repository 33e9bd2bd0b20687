//! The pages of the sign-in, in HTML.

use maud::{DOCTYPE, Markup, html};

use super::device::Waiting;
use crate::{
    oauth::{self, Status},
    sign_in::Candidate,
};

/// What has just happened.
#[derive(Debug, Clone)]
pub(super) struct Notice {
    text: String,
    is_good: bool,
}

impl Notice {
    pub(super) fn good(text: String) -> Self {
        Self { text, is_good: true }
    }

    pub(super) fn failed(text: String) -> Self {
        Self { text, is_good: false }
    }
}

/// An account and how it stands.
pub(super) struct Row {
    login: String,
    mailbox: String,
    status: String,
    is_good: bool,
    /// Whether somebody can sign in, and whether somebody has.
    consent: Option<bool>,
}

impl Row {
    pub(super) fn new(candidate: Candidate<'_>, status: Result<Status, oauth::Error>) -> Self {
        let account = candidate.account;
        let (status, is_good, has_signed_in) = match status {
            Ok(status) => (status.to_string(), status.is_good(), status.signed_in.is_some()),
            Err(error) => (error.to_string(), false, false),
        };
        let needs_consent = candidate.oauth2.needs_consent();
        Self {
            login: account.login.clone(),
            mailbox: format!("{} at {}", account.user, account.upstream.host),
            // Where nobody signs in, the first device has the first token fetched.
            is_good: is_good || !needs_consent,
            status,
            consent: needs_consent.then_some(has_signed_in),
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
        p { "Here somebody lets the gateway read mail at providers that take no passwords." }
        @if let Some(wrong) = wrong {
            p.notice.bad role="alert" { (wrong) }
        }
        form method="post" action={ (prefix) "/login" } {
            label for="password" { "Password of this page" }
            input type="password" id="password" name="password" autocomplete="current-password" required autofocus;
            button { "Enter" }
        }
        p.hint { "It is " code { "admin_password" } " of " code { "[web]" } " in the gateway's configuration." }
    };
    page(prefix, "Enter", None, &content)
}

pub(super) fn accounts(prefix: &str, csrf: &str, notice: Option<Notice>, rows: &[Row]) -> Markup {
    let content = html! {
        header {
            h1 { "Accounts" }
            form method="post" action={ (prefix) "/logout" } {
                input type="hidden" name="csrf" value=(csrf);
                button.plain { "Leave" }
            }
        }
        @if let Some(notice) = notice {
            p.notice.good[notice.is_good].bad[!notice.is_good] role="status" { (notice.text) }
        }
        @if rows.is_empty() {
            p {
                "No account signs in by OAuth2. Give an upstream a " code { "preset" } " and an " code { "[upstream.NAME.oauth2]" }
                ", and an " code { "[[account]]" } " there."
            }
        }
        @for row in rows {
            section {
                div {
                    h2 { (row.login) }
                    p.mailbox { (row.mailbox) }
                    p.status.good[row.is_good].bad[!row.is_good] { (row.status) }
                }
                @if let Some(has_signed_in) = row.consent {
                    div.actions {
                        (action(prefix, "sign-in", csrf, &row.login, if has_signed_in { "Sign in again" } else { "Sign in" }, false))
                        @if has_signed_in {
                            (action(prefix, "forget", csrf, &row.login, "Forget", true))
                        }
                    }
                }
            }
        }
    };
    page(prefix, "Accounts", None, &content)
}

fn action(prefix: &str, path: &str, csrf: &str, login: &str, text: &str, is_plain: bool) -> Markup {
    html! {
        form method="post" action={ (prefix) "/" (path) } {
            input type="hidden" name="csrf" value=(csrf);
            input type="hidden" name="login" value=(login);
            button.plain[is_plain] aria-label={ (text) ": " (login) } { (text) }
        }
    }
}

pub(super) fn code(prefix: &str, waiting: &Waiting) -> Markup {
    let content = html! {
        h1 { "Sign in for " (waiting.login()) }
        p { "On any device, open " a href=(waiting.url()) target="_blank" rel="noreferrer noopener" { (waiting.plain_url()) } " and enter this code:" }
        p.code { (waiting.code()) }
        p.hint { "This page looks every few seconds whether that has been done." }
        p { a href={ (prefix) "/" } { "Back to the accounts" } }
    };
    page(prefix, "Sign in", Some(3), &content)
}
