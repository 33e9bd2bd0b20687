//! The status of a consent, for people and for programs.

use std::fmt;

use chrono::DateTime;

use super::{NO_REFRESH_TOKEN, TokenRefusal, token::ConsentRecord};

/// The status of a consent, as state knows it. All times are in seconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConsentStatus {
    /// Whether the consent holds.
    pub state: ConsentState,
    /// When somebody signed in; `None` if nobody has, or nobody needs to.
    pub signed_in: Option<u32>,
    /// When the last access token was issued.
    pub obtained: Option<u32>,
    /// When that access token expires.
    pub expires: Option<u32>,
    /// Whether the access token can be renewed without a new sign-in.
    pub renews: bool,
    /// When the consent ends, if the provider says so.
    pub ends: Option<u32>,
    /// When the last request for a token failed, and why.
    pub trouble: Option<(u32, String)>,
    /// Since when tokens cannot be written to state, if they cannot.
    pub unwritable: Option<u32>,
}

/// Whether the consent lets a device get its mail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ConsentState {
    /// Nobody has signed in yet.
    #[default]
    Missing,
    /// The consent holds.
    Good,
    /// The provider trusts the application itself: no consent is needed.
    NotNeeded,
    /// The consent has ended.
    Ended {
        /// Since when it has ended.
        since: u32,
        /// Why it has ended, and what to do.
        why: String,
    },
    /// The record of the consent cannot be opened. The text says why.
    Unreadable(String),
}

/// A part of a text about a consent or a login; times are parts of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextPart {
    /// Words, with the spaces before and after a time.
    Text(String),
    /// A time, in seconds since 1970.
    Time(u32),
}

impl ConsentStatus {
    pub(super) fn of(record: &ConsentRecord, needs_consent: bool, now: u32) -> Self {
        let time = |time: u32| (time > 0).then_some(time);
        let renews = !needs_consent || record.refresh.is_some();
        let state = match &record.lapsed {
            _ if !needs_consent => ConsentState::NotNeeded,
            Some((since, code, description)) => ConsentState::Ended {
                since: *since,
                why: TokenRefusal::new(code, Some(description)).to_string(),
            },
            None if record.access.is_empty() => ConsentState::Missing,
            None if !renews && record.expires <= now => ConsentState::Ended {
                since: record.expires,
                why: NO_REFRESH_TOKEN.to_owned(),
            },
            None if record.ends > 0 && record.ends <= now => ConsentState::Ended {
                since: record.ends,
                why: "the provider had said that it would end then".to_owned(),
            },
            None => ConsentState::Good,
        };
        Self {
            state,
            signed_in: time(record.signed_in),
            obtained: time(record.obtained),
            expires: time(record.expires),
            renews,
            ends: time(record.ends),
            trouble: record.trouble.clone(),
            unwritable: None,
        }
    }

    pub(super) fn unreadable(why: &TokenRefusal) -> Self {
        Self {
            state: ConsentState::Unreadable(why.to_string()),
            ..Self::default()
        }
    }

    pub(super) fn unwritable_since(self, unwritable: Option<u32>) -> Self {
        Self { unwritable, ..self }
    }

    /// Whether a device can get its mail, as far as the gateway knows.
    pub fn is_good(&self) -> bool {
        matches!(self.state, ConsentState::Good | ConsentState::NotNeeded)
    }

    /// Whether somebody must act, because a consent has ended or tokens may be lost at a restart.
    pub fn is_alarming(&self) -> bool {
        matches!(self.state, ConsentState::Ended { .. } | ConsentState::Unreadable(_)) || self.unwritable.is_some()
    }

    /// The status in words, with each time as a part of its own.
    pub fn parts(&self) -> Vec<TextPart> {
        let mut parts = TextParts::default();
        match (&self.state, self.signed_in) {
            (ConsentState::Unreadable(why), _) => parts.text(&format!("needs a new sign-in: {why}")),
            (ConsentState::Ended { since, why }, _) => parts
                .text("needs a new sign-in since ")
                .time(*since)
                .text(&format!(": {why}")),
            (ConsentState::Missing, _) => parts.text("not signed in yet"),
            (ConsentState::NotNeeded, _) if self.obtained.is_none() => parts.text("no token yet"),
            (ConsentState::NotNeeded, _) => parts.text("needs no sign-in"),
            (ConsentState::Good, Some(at)) => parts.text("signed in on ").time(at),
            (ConsentState::Good, None) => parts.text("signed in"),
        };
        if let (true, Some(obtained), Some(expires)) = (self.is_good(), self.obtained, self.expires) {
            parts
                .text("; token of ")
                .time(obtained)
                .text(", good until ")
                .time(expires);
            if self.renews {
                parts.text(", renewed by itself")
            } else {
                parts.text(&format!("; then it ends and cannot be renewed: {NO_REFRESH_TOKEN}"))
            };
        }
        if let (true, Some(ends)) = (self.is_good(), self.ends) {
            parts.text("; the consent ends on ").time(ends);
        }
        if let Some((at, why)) = &self.trouble {
            parts.text("; on ").time(*at).text(&format!(" there was none: {why}"));
        }
        if let Some(since) = self.unwritable {
            parts
                .text("; since ")
                .time(since)
                .text(" tokens cannot be written (is the disk full?)");
        }
        parts.0
    }
}

#[derive(Default)]
struct TextParts(Vec<TextPart>);

impl TextParts {
    fn text(&mut self, text: &str) -> &mut Self {
        self.0.push(TextPart::Text(text.to_owned()));
        self
    }

    fn time(&mut self, time: u32) -> &mut Self {
        self.0.push(TextPart::Time(time));
        self
    }
}

impl fmt::Display for TextPart {
    /// Writes a time for people, in UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Time(seconds) => {
                let time = DateTime::from_timestamp((*seconds).into(), 0).unwrap_or_default();
                write!(f, "{} UTC", time.format("%Y-%m-%d %H:%M"))
            }
        }
    }
}

impl fmt::Display for ConsentStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts().iter().try_for_each(|part| part.fmt(f))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_words() {
        let status = ConsentStatus {
            state: ConsentState::Good,
            signed_in: Some(1_700_000_000),
            obtained: Some(1_700_003_600),
            expires: Some(1_700_007_200),
            renews: true,
            ..ConsentStatus::default()
        };
        assert_eq!(
            status.to_string(),
            "signed in on 2023-11-14 22:13 UTC; token of 2023-11-14 23:13 UTC, good until 2023-11-15 00:13 UTC, renewed by \
             itself"
        );
        let unrenewed = ConsentStatus {
            renews: false,
            ..status.clone()
        };
        let words = unrenewed.to_string();
        assert!(
            words.contains("cannot be renewed") && words.contains("offline_access"),
            "{words}"
        );
        let ended = ConsentStatus {
            state: ConsentState::Ended {
                since: 1_700_000_000,
                why: "The consent has ended.".into(),
            },
            ..status
        };
        assert_eq!(
            ended.to_string(),
            "needs a new sign-in since 2023-11-14 22:13 UTC: The consent has ended."
        );
        assert!(!ended.is_good() && ended.is_alarming());
        assert_eq!(ConsentStatus::default().to_string(), "not signed in yet");
        assert!(!ConsentStatus::default().is_good() && !ConsentStatus::default().is_alarming());
    }

    #[test]
    fn what_cannot_be_renewed_ends_with_its_token() {
        let record = ConsentRecord {
            access: zeroize::Zeroizing::new("a".into()),
            expires: 1_000,
            ..ConsentRecord::default()
        };
        assert_eq!(ConsentStatus::of(&record, true, 999).state, ConsentState::Good);
        let ended = ConsentStatus::of(&record, true, 1_000);
        assert!(
            matches!(ended.state, ConsentState::Ended { since: 1_000, .. }),
            "{ended:?}"
        );
        assert_eq!(ConsentStatus::of(&record, false, 1_000).state, ConsentState::NotNeeded);
    }
}
