//! The events that people are told of, each with a sentence that says what to do.

use std::{fmt, path::Path};

use chrono::DateTime;
use serde::{Deserialize, Serialize};

use crate::{
    state::Consent,
    types::{MailboxName, Uid, UidValidity},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum EventKind {
    /// A consent ends soon.
    ConsentEnding,
    /// A consent has ended.
    ConsentEnded,
    /// A certificate of a listener expires soon, or has expired.
    CertificateEnding,
    /// A login has been failing for an hour.
    LoginFailing,
    /// No login at an upstream has succeeded for an hour.
    UpstreamFailing,
    /// The upstream does not deliver a message.
    MessageUndelivered,
    /// State cannot be read or written.
    StateFailing,
}

/// Which of the gateways that share state notice an event, and so which of them begins, tells and ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SeenBy {
    /// All of them alike, because it follows from what they share. The gateway on duty begins and tells it, and whoever
    /// sees that it is over ends it for all.
    All,
    /// Any of them, perhaps one alone: it depends on the gateway's own devices, files or network. Whoever sees it begins
    /// it, and the gateway on duty tells it, so that it is told once even if several see it. Until it is told only
    /// those that see it may end it: otherwise a gateway where all is well would keep it from being told.
    Any,
    /// Each for itself: the shared store fails, so no other gateway can be asked. Each tells it, and the store does not
    /// hold it.
    Each,
}

impl EventKind {
    pub(super) fn seen_by(self) -> SeenBy {
        match self {
            Self::ConsentEnding | Self::ConsentEnded => SeenBy::All,
            Self::CertificateEnding | Self::LoginFailing | Self::UpstreamFailing | Self::MessageUndelivered => {
                SeenBy::Any
            }
            Self::StateFailing => SeenBy::Each,
        }
    }

    /// Whether the number of events of this kind depends on what devices do. Otherwise the configuration limits it.
    pub(super) fn is_of_devices(self) -> bool {
        matches!(self, Self::LoginFailing | Self::MessageUndelivered)
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ConsentEnding => "consent-ending",
            Self::ConsentEnded => "consent-ended",
            Self::CertificateEnding => "certificate-ending",
            Self::LoginFailing => "login-failing",
            Self::UpstreamFailing => "upstream-failing",
            Self::MessageUndelivered => "message-undelivered",
            Self::StateFailing => "state-failing",
        })
    }
}

/// Identifies an event. People are told of an event once, until it is over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct EventKey {
    pub(super) kind: EventKind,
    /// What the event concerns: a consent, a file, a login, an upstream or a message; empty for state.
    pub(super) subject: String,
}

impl EventKey {
    pub(super) fn new(kind: EventKind, subject: impl Into<String>) -> Self {
        Self {
            kind,
            subject: subject.into(),
        }
    }

    /// The key for a certificate, which its file identifies.
    pub(super) fn certificate(file: &Path) -> Self {
        Self::new(EventKind::CertificateEnding, file.display().to_string())
    }

    pub(super) fn login(login: &str) -> Self {
        Self::new(EventKind::LoginFailing, login)
    }

    pub(super) fn upstream(upstream: &str) -> Self {
        Self::new(EventKind::UpstreamFailing, upstream)
    }

    /// The key for a message, which mailbox, UIDVALIDITY (as state keeps it) and UID identify.
    pub(super) fn message(mailbox: &MailboxName, (uid_validity, uid): (u64, Uid)) -> Self {
        let uid_validity = UidValidity::of_state_or_zero(uid_validity);
        Self::new(EventKind::MessageUndelivered, format!("{mailbox} {uid_validity}.{uid}"))
    }

    pub(super) fn state() -> Self {
        Self::new(EventKind::StateFailing, "")
    }
}

impl fmt::Display for EventKey {
    /// Writes the key as state stores it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.subject)
    }
}

/// An event. Its text stays the same until the event is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Event {
    pub(super) key: EventKey,
    /// The name of the upstream (`[upstream.NAME]`), if the event concerns one.
    #[serde(default)]
    pub(super) upstream: Option<String>,
    /// The user as whom somebody must sign in, if the event is about a consent.
    #[serde(default)]
    pub(super) person: Option<String>,
    /// The logins that the event concerns, if they are known.
    #[serde(default)]
    pub(super) logins: Vec<String>,
    /// When the consent ends, in seconds since 1970, if it ends soon.
    #[serde(default)]
    pub(super) ends: Option<u32>,
    /// What has happened, and what to do.
    pub(super) text: String,
}

impl Event {
    fn new(key: EventKey, text: String) -> Self {
        Self {
            key,
            upstream: None,
            person: None,
            logins: Vec::new(),
            ends: None,
            text,
        }
    }

    fn of_consent(kind: EventKind, consent: &Consent, logins: &[String], text: String) -> Self {
        Self {
            upstream: Some(consent.upstream.clone()),
            person: Some(consent.name.clone()),
            logins: logins.to_vec(),
            ..Self::new(EventKey::new(kind, consent.to_string()), text)
        }
    }

    /// `consent`, which `logins` need to get their mail, ends at `ends` (seconds since 1970). `page` is where people
    /// sign in.
    pub(super) fn consent_ending(consent: &Consent, logins: &[String], ends: u32, page: Option<&str>) -> Self {
        let text = format!(
            "The consent of {} at [upstream.{}] ends on {}: from then on its devices get no mail. Sign in again before: {}.",
            shown(&consent.name),
            consent.upstream,
            time(ends),
            how_to_sign_in(logins, page)
        );
        Self {
            ends: Some(ends),
            ..Self::of_consent(EventKind::ConsentEnding, consent, logins, text)
        }
    }

    /// `consent`, which `logins` need to get their mail, has ended; `why` is the reason.
    pub(super) fn consent_ended(consent: &Consent, logins: &[String], why: &str, page: Option<&str>) -> Self {
        let text = format!(
            "The consent of {} at [upstream.{}] has ended, and its devices get no mail: {why}. Sign in again: {}.",
            shown(&consent.name),
            consent.upstream,
            how_to_sign_in(logins, page)
        );
        Self::of_consent(EventKind::ConsentEnded, consent, logins, text)
    }

    /// The certificate in `file` expires soon or has expired, as `what` says.
    pub(super) fn certificate_ending(file: &Path, what: &str) -> Self {
        Self::new(EventKey::certificate(file), format!("The {what}."))
    }

    /// `login` at `upstream` has been failing since `since` (seconds since 1970); `why` is the reason of the last
    /// failure.
    pub(super) fn login_failing(login: &str, upstream: Option<&str>, since: u32, why: &str) -> Self {
        let login_shown = shown(login);
        let text = format!(
            "No login as {login_shown} has succeeded since {}; the last one failed: {why}. Run `popgate doctor \
             {login_shown}` to see what is wrong.",
            time(since)
        );
        Self {
            upstream: upstream.map(str::to_owned),
            logins: vec![login.to_owned()],
            ..Self::new(EventKey::login(login), text)
        }
    }

    /// No login at `upstream` has succeeded since `since` (seconds since 1970); `why` is the reason of the last failure.
    pub(super) fn upstream_failing(upstream: &str, since: u32, why: &str) -> Self {
        let text = format!(
            "No login at [upstream.{upstream}] has succeeded since {}; the last one failed: {why}. Run `popgate check \
             --connect` to see what is wrong.",
            time(since)
        );
        Self {
            upstream: Some(upstream.to_owned()),
            ..Self::new(EventKey::upstream(upstream), text)
        }
    }

    /// The upstream does not deliver a message of `mailbox` to `login`. `message` is UIDVALIDITY, as state stores it,
    /// and UID.
    pub(super) fn message_undelivered(mailbox: &MailboxName, message: (u64, Uid), login: &str) -> Self {
        let text = format!(
            "[upstream.{}] does not deliver a message of {}: UID {} in the folder {}. The device gets a notice in its \
             place; the message stays there. Look at it by web mail or an IMAP program.",
            mailbox.upstream,
            shown(&mailbox.user),
            message.1,
            shown(&mailbox.folder)
        );
        Self {
            upstream: Some(mailbox.upstream.clone()),
            logins: vec![login.to_owned()],
            ..Self::new(EventKey::message(mailbox, message), text)
        }
    }

    pub(super) fn state_failing() -> Self {
        let text = "State cannot be read or written: is the disk full, or may popgate no longer write to `dir` of [state]? \
                    Meanwhile logins that hide or retain mail are refused, and consents may be lost at a restart. The log \
                    says more.";
        Self::new(EventKey::state(), text.to_owned())
    }
}

/// Says how to sign in: by a command for the first of `logins`, or at `page`.
fn how_to_sign_in(logins: &[String], page: Option<&str>) -> String {
    let login = logins.first().map(|login| shown(login)).unwrap_or_default();
    let command = format!("run `popgate sign-in {login}`");
    match page {
        Some(page) => format!("{command}, or open {page}"),
        None => command,
    }
}

/// How many characters of a name a text shows.
const SHOWN: usize = 128;

/// The start of a name, without control characters.
pub(super) fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(SHOWN).collect()
}

/// Formats a time (seconds since 1970) for people.
pub(super) fn time(seconds: u32) -> String {
    let time = DateTime::from_timestamp(seconds.into(), 0).unwrap_or_default();
    time.format("%-d %B %Y at %H:%M UTC").to_string()
}

/// Formats the day of a time (seconds since 1970) for people.
pub(super) fn day(seconds: u32) -> String {
    let time = DateTime::from_timestamp(seconds.into(), 0).unwrap_or_default();
    time.format("%-d %B %Y").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consent() -> Consent {
        Consent {
            upstream: "gmail".into(),
            name: "office@example.org".into(),
        }
    }

    #[test]
    fn texts_say_what_to_do() {
        let logins = ["pbx".to_owned(), "fax".to_owned()];
        let mailbox = MailboxName {
            upstream: "home".into(),
            user: "eva".into(),
            folder: "INBOX".into(),
        };
        let events = [
            Event::consent_ending(&consent(), &logins, 1_796_292_000, None),
            Event::consent_ended(
                &consent(),
                &logins,
                "the provider says invalid_grant",
                Some("https://x.example.org/p"),
            ),
            Event::certificate_ending(
                Path::new("/c.pem"),
                "certificate /c.pem expires on 2026-12-24, in 20 days: have it renewed",
            ),
            Event::login_failing("pbx", Some("home"), 1_796_292_000, "wrong login or password"),
            Event::upstream_failing("home", 1_796_292_000, "upstream not available, try later"),
            Event::message_undelivered(&mailbox, (7, Uid(3)), "pbx"),
            Event::state_failing(),
        ];
        let told: Vec<_> = events
            .iter()
            .map(|event| format!("{}\n{}\n", event.key, event.text))
            .collect();
        insta::assert_snapshot!(told.join("\n"));
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let event = Event::consent_ending(&consent(), &["pbx".to_owned()], 1_796_292_000, None);
        let kept = serde_json::to_vec(&event).unwrap();
        assert_eq!(serde_json::from_slice::<Event>(&kept).unwrap(), event);
    }

    #[test]
    fn no_name_makes_a_text_long_or_breaks_a_line() {
        let event = Event::login_failing(&"x\r\n".repeat(10_000), None, 0, "wrong");
        assert!(event.text.len() < 1000 && !event.text.contains('\n'), "{}", event.text);
    }
}
