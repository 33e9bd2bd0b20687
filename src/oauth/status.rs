//! How a consent stands, for people.

use std::fmt;

use chrono::DateTime;

use super::{Refusal, token::Kept};

/// How a consent stands. All times in seconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// When somebody signed in; `None` where nobody has, or nobody needs to.
    pub signed_in: Option<u32>,
    /// When a token was given last.
    pub obtained: Option<u32>,
    /// When that ends.
    pub expires: Option<u32>,
    /// When the consent ends, where the provider tells.
    pub ends: Option<u32>,
    /// Since when the consent is not taken any more, and why.
    pub lapsed: Option<(u32, String)>,
    /// When the last try failed, and why.
    pub trouble: Option<(u32, String)>,
}

impl Status {
    pub(super) fn of(kept: &Kept) -> Self {
        let time = |time: u32| (time > 0).then_some(time);
        let why = |(since, code, description): &(u32, String, String)| {
            (*since, Refusal::new(code, Some(description)).to_string())
        };
        Self {
            signed_in: time(kept.signed_in),
            obtained: time(kept.obtained),
            expires: time(kept.expires),
            ends: time(kept.ends),
            lapsed: kept.lapsed.as_ref().map(why),
            trouble: kept.trouble.clone(),
        }
    }

    /// What is kept can't be opened.
    pub(super) fn unreadable(why: &Refusal) -> Self {
        Self {
            lapsed: Some((0, why.to_string())),
            ..Self::default()
        }
    }

    /// Whether a device can get its mail, as far as is known here.
    pub fn is_good(&self) -> bool {
        self.obtained.is_some() && self.lapsed.is_none()
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.lapsed, self.signed_in, self.obtained) {
            (Some((0, why)), ..) => write!(f, "needs a new sign-in: {why}")?,
            (Some((since, why)), ..) => write!(f, "needs a new sign-in since {}: {why}", Time(*since))?,
            (None, Some(at), _) => write!(f, "signed in on {}", Time(at))?,
            (None, None, Some(_)) => f.write_str("needs no sign-in")?,
            (None, None, None) => f.write_str("no token yet")?,
        }
        if let (None, Some(obtained), Some(expires)) = (&self.lapsed, self.obtained, self.expires) {
            write!(
                f,
                "; token of {}, good until {}, renewed by itself",
                Time(obtained),
                Time(expires)
            )?;
        }
        if let (None, Some(ends)) = (&self.lapsed, self.ends) {
            write!(f, "; the consent ends on {}", Time(ends))?;
        }
        if let Some((at, why)) = &self.trouble {
            write!(f, "; on {} there was none: {why}", Time(*at))?;
        }
        Ok(())
    }
}

/// A time as people read it, UTC.
struct Time(u32);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = DateTime::from_timestamp(self.0.into(), 0).unwrap_or_default();
        write!(f, "{} UTC", time.format("%Y-%m-%d %H:%M"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_words() {
        let status = Status {
            signed_in: Some(1_700_000_000),
            obtained: Some(1_700_003_600),
            expires: Some(1_700_007_200),
            ..Status::default()
        };
        assert_eq!(
            status.to_string(),
            "signed in on 2023-11-14 22:13 UTC; token of 2023-11-14 23:13 UTC, good until 2023-11-15 00:13 UTC, renewed by \
             itself"
        );
        let lapsed = Status {
            lapsed: Some((1_700_000_000, "The consent has ended.".into())),
            ..status
        };
        assert_eq!(
            lapsed.to_string(),
            "needs a new sign-in since 2023-11-14 22:13 UTC: The consent has ended."
        );
        assert!(!lapsed.is_good());
        assert_eq!(Status::default().to_string(), "no token yet");
    }
}
