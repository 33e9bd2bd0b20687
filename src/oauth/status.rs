//! The status of a consent, for people and for programs.

use std::fmt;

use chrono::DateTime;

use super::{NO_REFRESH_TOKEN, Refusal, token::Kept};

/// The status of a consent. All times are in seconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether the consent holds.
    pub standing: Standing,
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
pub enum Standing {
    /// Nobody has signed in yet.
    #[default]
    Missing,
    /// The consent holds.
    Good,
    /// The provider trusts the application itself: no consent is needed.
    NotNeeded,
    /// The consent has ended.
    Ended {
        /// Since when.
        since: u32,
        /// Why, and what to do.
        why: String,
    },
    /// The record of the consent cannot be opened. The text says why.
    Unreadable(String),
}

/// A piece of the text of a [`Status`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Some words.
    Text(String),
    /// A time, in seconds since 1970.
    Time(u32),
}

impl Status {
    pub(super) fn of(kept: &Kept, needs_consent: bool, now: u32) -> Self {
        let time = |time: u32| (time > 0).then_some(time);
        let renews = !needs_consent || kept.refresh.is_some();
        let standing = match &kept.lapsed {
            _ if !needs_consent => Standing::NotNeeded,
            Some((since, code, description)) => Standing::Ended {
                since: *since,
                why: Refusal::new(code, Some(description)).to_string(),
            },
            None if kept.access.is_empty() => Standing::Missing,
            None if !renews && kept.expires <= now => Standing::Ended {
                since: kept.expires,
                why: NO_REFRESH_TOKEN.to_owned(),
            },
            None if kept.ends > 0 && kept.ends <= now => Standing::Ended {
                since: kept.ends,
                why: "the provider had said that it would end then".to_owned(),
            },
            None => Standing::Good,
        };
        Self {
            standing,
            signed_in: time(kept.signed_in),
            obtained: time(kept.obtained),
            expires: time(kept.expires),
            renews,
            ends: time(kept.ends),
            trouble: kept.trouble.clone(),
            unwritable: None,
        }
    }

    pub(super) fn unreadable(why: &Refusal) -> Self {
        Self {
            standing: Standing::Unreadable(why.to_string()),
            ..Self::default()
        }
    }

    pub(super) fn unwritable_since(self, unwritable: Option<u32>) -> Self {
        Self { unwritable, ..self }
    }

    /// Whether a device can get its mail, for all that the gateway knows.
    pub fn is_good(&self) -> bool {
        matches!(self.standing, Standing::Good | Standing::NotNeeded)
    }

    /// Whether somebody must act, because a consent has ended or tokens may be lost at a restart.
    pub fn is_alarming(&self) -> bool {
        matches!(self.standing, Standing::Ended { .. } | Standing::Unreadable(_)) || self.unwritable.is_some()
    }

    /// The status in words, with each time as a part of its own.
    pub fn parts(&self) -> Vec<Part> {
        let mut parts = Parts::default();
        match (&self.standing, self.signed_in) {
            (Standing::Unreadable(why), _) => parts.text(&format!("needs a new sign-in: {why}")),
            (Standing::Ended { since, why }, _) => parts
                .text("needs a new sign-in since ")
                .time(*since)
                .text(&format!(": {why}")),
            (Standing::Missing, _) => parts.text("not signed in yet"),
            (Standing::NotNeeded, _) if self.obtained.is_none() => parts.text("no token yet"),
            (Standing::NotNeeded, _) => parts.text("needs no sign-in"),
            (Standing::Good, Some(at)) => parts.text("signed in on ").time(at),
            (Standing::Good, None) => parts.text("signed in"),
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
struct Parts(Vec<Part>);

impl Parts {
    fn text(&mut self, text: &str) -> &mut Self {
        self.0.push(Part::Text(text.to_owned()));
        self
    }

    fn time(&mut self, time: u32) -> &mut Self {
        self.0.push(Part::Time(time));
        self
    }
}

impl fmt::Display for Part {
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

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts().iter().try_for_each(|part| part.fmt(f))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_words() {
        let status = Status {
            standing: Standing::Good,
            signed_in: Some(1_700_000_000),
            obtained: Some(1_700_003_600),
            expires: Some(1_700_007_200),
            renews: true,
            ..Status::default()
        };
        assert_eq!(
            status.to_string(),
            "signed in on 2023-11-14 22:13 UTC; token of 2023-11-14 23:13 UTC, good until 2023-11-15 00:13 UTC, renewed by \
             itself"
        );
        let unrenewed = Status {
            renews: false,
            ..status.clone()
        };
        let words = unrenewed.to_string();
        assert!(
            words.contains("cannot be renewed") && words.contains("offline_access"),
            "{words}"
        );
        let ended = Status {
            standing: Standing::Ended {
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
        assert_eq!(Status::default().to_string(), "not signed in yet");
        assert!(!Status::default().is_good() && !Status::default().is_alarming());
    }

    #[test]
    fn what_cannot_be_renewed_ends_with_its_token() {
        let kept = Kept {
            access: zeroize::Zeroizing::new("a".into()),
            expires: 1_000,
            ..Kept::default()
        };
        assert_eq!(Status::of(&kept, true, 999).standing, Standing::Good);
        let ended = Status::of(&kept, true, 1_000);
        assert!(
            matches!(ended.standing, Standing::Ended { since: 1_000, .. }),
            "{ended:?}"
        );
        assert_eq!(Status::of(&kept, false, 1_000).standing, Standing::NotNeeded);
    }
}
