//! The pages of the sign-in, in HTML.

use maud::{DOCTYPE, Markup, html};

use super::device::Waiting;
use crate::{
    oauth::{self, Part, Standing, Status},
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
    status: Vec<Part>,
    is_good: bool,
    /// As whom somebody signs in; `None` if nobody has to.
    person: Option<String>,
    /// Whether there is something to forget.
    is_kept: bool,
}

impl Row {
    pub(super) fn new(candidate: Candidate<'_>, status: Result<Status, oauth::Error>) -> Self {
        let account = candidate.account;
        let (status, is_good, is_kept) = match status {
            Ok(status) => (status.parts(), status.is_good(), status.standing != Standing::Missing),
            Err(error) => (vec![Part::Text(error.to_string())], false, false),
        };
        let needs_consent = candidate.oauth2.needs_consent();
        Self {
            login: account.login.clone(),
            mailbox: format!("{} at {}", account.user, account.upstream.host),
            is_good,
            status,
            person: needs_consent.then(|| candidate.person().to_owned()),
            is_kept: is_kept && needs_consent,
        }
    }
}

/// Times are not broken between lines.
fn words(parts: &[Part]) -> Markup {
    html! {
        @for part in parts {
            @match part {
                Part::Text(text) => (text),
                Part::Time(_) => time { (part.to_string()) },
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
        p { "Sign in here to mail providers that take no passwords." }
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

pub(super) fn accounts(prefix: &str, csrf: &str, notice: Option<Notice>, rows: &[Row]) -> Markup {
    let content = html! {
        header {
            h1 { "Accounts" }
            form method="post" action={ (prefix) "/logout" } {
                input type="hidden" name="csrf" value=(csrf);
                button.plain { "Log out" }
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
                    p.mailbox {
                        (row.mailbox)
                        @if let Some(person) = &row.person {
                            " · sign in as " (person)
                        }
                    }
                    p.status.good[row.is_good].bad[!row.is_good] { (words(&row.status)) }
                }
                @if row.person.is_some() {
                    div.actions {
                        form method="post" action={ (prefix) "/sign-in" } {
                            (hidden(csrf, &row.login))
                            @let text = if row.is_kept { "Sign in again" } else { "Sign in" };
                            button.plain[row.is_good] aria-label={ (text) ": " (row.login) } { (text) }
                        }
                        @if row.is_kept {
                            form method="get" action={ (prefix) "/forget" } {
                                input type="hidden" name="login" value=(row.login);
                                button.plain aria-label={ "Forget: " (row.login) } { "Forget" }
                            }
                        }
                    }
                }
            }
        }
    };
    page(prefix, "Accounts", None, &content)
}

fn hidden(csrf: &str, login: &str) -> Markup {
    html! {
        input type="hidden" name="csrf" value=(csrf);
        input type="hidden" name="login" value=(login);
    }
}

/// Asks whether a consent is to be forgotten.
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

pub(super) fn code(prefix: &str, waiting: &Waiting) -> Markup {
    let content = html! {
        h1 { "Sign in for " (waiting.login()) }
        p { "On any device, open " a href=(waiting.url()) target="_blank" rel="noreferrer noopener" { (waiting.plain_url()) } " and enter this code:" }
        p.code { (waiting.code()) }
        p {
            "Sign in there as " strong { (waiting.person()) }
            @if waiting.person() != waiting.user() { ", who may read the mailbox of " (waiting.user()) }
            ". The code is good until " time { (Part::Time(waiting.until()).to_string()) } "."
        }
        p.hint { "This page looks every few seconds whether that has been done." }
        p { a href={ (prefix) "/" } { "Back to the accounts" } }
    };
    page(prefix, "Sign in", Some(3), &content)
}
