//! Tokens, and the record that state keeps of a consent.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::config::Secret;

/// How many seconds before its expiry an access token is renewed. A session that begins with a token must not outlive
/// it, and clocks differ.
const MARGIN: u32 = 300;
/// The lifetime of an access token in seconds if the provider does not say it (RFC 6749 §5.1: it should).
const LIFETIME: u32 = 3600;

/// An access token: it proves the user's identity to an upstream (RFC 6750), usually for an hour.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessToken(Secret);

impl From<Secret> for AccessToken {
    fn from(text: Secret) -> Self {
        Self(text)
    }
}

impl AccessToken {
    /// The text of the token. Keep the borrow short.
    pub fn expose(&self) -> &[u8] {
        self.0.expose()
    }
}

/// What a provider has issued (RFC 6749 §5.1).
#[derive(Clone)]
pub struct Issued {
    pub(super) access: Zeroizing<String>,
    /// The refresh token. If a renewal brings none, the old one stays valid (RFC 6749 §6).
    pub(super) refresh: Option<Zeroizing<String>>,
    /// For how many seconds the access token is valid, if the provider says so.
    pub(super) lifetime: Option<u32>,
    /// For how many seconds the consent lasts, if the provider says so.
    pub(super) consent_lifetime: Option<u32>,
    /// The scopes that were granted, if the provider says so.
    pub(super) granted: Option<Vec<String>>,
}

impl Issued {
    /// For tests: a token that no provider has issued.
    #[cfg(test)]
    pub(crate) fn invented() -> Self {
        Self {
            access: Zeroizing::new("access".into()),
            refresh: Some(Zeroizing::new("refresh".into())),
            lifetime: None,
            consent_lifetime: None,
            granted: None,
        }
    }

    /// The scopes of `asked` that were not granted; none if the provider does not list what it has granted. Scopes for
    /// a refresh token or an identity are left out, because not all providers list them, and they open no mailbox.
    pub fn missing<'a>(&self, asked: &'a [String]) -> Vec<&'a str> {
        const NOT_TOLD: [&str; 5] = ["offline_access", "openid", "profile", "email", "userinfo"];
        let Some(granted) = &self.granted else {
            return Vec::new();
        };
        // Microsoft lists some scopes without the URL of their service.
        let is_same = |asked: &str, granted: &str| {
            let short = asked.rsplit_once('/').map_or(asked, |(_, short)| short);
            granted.eq_ignore_ascii_case(asked) || (!short.is_empty() && granted.eq_ignore_ascii_case(short))
        };
        asked
            .iter()
            .map(String::as_str)
            .filter(|asked| !NOT_TOLD.contains(asked) && !asked.ends_with("/.default"))
            .filter(|asked| !granted.iter().any(|granted| is_same(asked, granted)))
            .collect()
    }
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("refresh", &self.refresh.is_some())
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

/// The record of a consent. All times are in seconds since 1970; 0 means that there is none.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ConsentRecord {
    pub(super) access: Zeroizing<String>,
    pub(super) refresh: Option<Zeroizing<String>>,
    /// When the access token was issued.
    pub(super) obtained: u32,
    /// When the access token expires.
    pub(super) expires: u32,
    /// When somebody signed in.
    pub(super) signed_in: u32,
    /// When the consent ends, if the provider says so.
    pub(super) ends: u32,
    /// Since when the provider refuses the consent, with its code and description.
    pub(super) lapsed: Option<(u32, String, String)>,
    /// When the last request for a token failed, and why.
    pub(super) trouble: Option<(u32, String)>,
    /// When the provider was asked for the next token, if no answer has come yet.
    pub(super) asked: u32,
}

impl ConsentRecord {
    /// This record after the provider has `issued` tokens; `now` in seconds since 1970.
    pub(super) fn renewed(&self, issued: Issued, now: u32) -> Self {
        let lifetime = issued.lifetime.unwrap_or(LIFETIME);
        Self {
            access: issued.access,
            refresh: issued.refresh.or_else(|| self.refresh.clone()),
            obtained: now,
            expires: now.saturating_add(lifetime),
            signed_in: self.signed_in,
            ends: match issued.consent_lifetime {
                Some(lifetime) => now.saturating_add(lifetime),
                None => self.ends,
            },
            lapsed: None,
            trouble: None,
            asked: 0,
        }
    }

    /// Whether the access token may still be used.
    pub(super) fn is_valid(&self, now: u32) -> bool {
        !self.access.is_empty() && now < self.expires && self.lapsed.is_none()
    }

    /// Whether the access token is valid for long enough for a new session.
    pub(super) fn is_fresh(&self, now: u32) -> bool {
        let margin = MARGIN.min(self.expires.saturating_sub(self.obtained) / 10);
        // If a clock was set back, this must not keep a token alive for ever.
        self.is_valid(now.saturating_add(margin)) && now >= self.obtained.saturating_sub(MARGIN)
    }

    pub(super) fn access(&self) -> AccessToken {
        AccessToken(self.access.as_str().into())
    }
}

impl fmt::Debug for ConsentRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsentRecord")
            .field("expires", &self.expires)
            .field("lapsed", &self.lapsed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issued(lifetime: Option<u32>, refresh: Option<&str>) -> Issued {
        Issued {
            access: Zeroizing::new("access".into()),
            refresh: refresh.map(|text| Zeroizing::new(text.into())),
            lifetime,
            consent_lifetime: None,
            granted: None,
        }
    }

    #[test]
    fn scopes_that_were_not_granted_are_named() {
        let asked = [
            "https://outlook.office.com/IMAP.AccessAsUser.All",
            "offline_access",
            "https://mail.google.com/",
        ]
        .map(str::to_owned);
        let of = |granted: Option<&[&str]>| {
            let granted = granted.map(|granted| granted.iter().map(|scope| (*scope).to_owned()).collect());
            let issued = Issued {
                granted,
                ..issued(None, None)
            };
            issued.missing(&asked).join(" ")
        };
        assert_eq!(of(None), "", "nothing is told");
        assert_eq!(of(Some(&["imap.accessasuser.all", "https://mail.google.com/"])), "");
        assert_eq!(of(Some(&["email", "https://mail.google.com/"])), asked[0]);
    }

    #[test]
    fn renewed_ahead_of_its_end() {
        let record = ConsentRecord::default().renewed(issued(Some(3600), None), 1_000_000);
        assert!(record.is_fresh(1_000_000) && record.is_fresh(1_003_299));
        assert!(!record.is_fresh(1_003_300) && record.is_valid(1_003_300));
        assert!(!record.is_valid(1_003_600));
        // A token with a short lifetime must not be renewed all the time.
        let short = ConsentRecord::default().renewed(issued(Some(60), None), 1_000_000);
        assert!(short.is_fresh(1_000_053) && !short.is_fresh(1_000_054));
        assert_eq!(ConsentRecord::default().renewed(issued(None, None), 7).expires, 3607);
        assert!(!ConsentRecord::default().is_valid(0));
        assert!(!record.is_fresh(900_000), "given in the future?");
    }

    #[test]
    fn a_refresh_token_goes_on_where_none_comes() {
        let record = ConsentRecord::default().renewed(issued(None, Some("first")), 1);
        let record = record.renewed(issued(None, None), 2);
        assert_eq!(record.refresh.as_ref().unwrap().as_str(), "first");
        let record = record.renewed(issued(None, Some("second")), 3);
        assert_eq!(record.refresh.as_ref().unwrap().as_str(), "second");
    }

    #[test]
    fn tokens_are_not_printed() {
        let record = ConsentRecord::default().renewed(issued(None, Some("refresh")), 1);
        let printed = format!("{record:?} {:?} {:?}", record.access(), issued(None, Some("refresh")));
        assert!(
            !printed.contains("\"access\"") && !printed.contains("\"refresh\""),
            "{printed}"
        );
    }
}
