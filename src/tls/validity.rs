//! For which hosts and how long a certificate is valid.

use std::path::{Path, PathBuf};

use super::{
    leaf::{Leaf, day},
    pem::{self, Error},
};

/// How many days before a certificate expires popgate begins to warn. Certificates of public authorities are usually
/// renewed by then.
const SOON: i64 = 30;
const DAY: i64 = 24 * 3600;

/// For which hosts and how long a certificate is valid.
#[derive(Debug)]
pub(crate) struct Validity {
    file: PathBuf,
    leaf: Leaf,
}

/// Whether a certificate is valid at a given time, with a sentence that says so.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// The certificate is valid for 30 days or more.
    Valid(String),
    /// The certificate expires within 30 days.
    Ending(String),
    /// The certificate has expired, or is not valid yet.
    Invalid(String),
}

impl Validity {
    /// Reads the first certificate in `file`.
    pub(crate) fn of(file: &Path) -> Result<Self, Error> {
        let chain = pem::certificates(file)?;
        let leaf = chain.first().and_then(|leaf| Leaf::of(leaf));
        Ok(Self {
            file: file.to_owned(),
            leaf: leaf.ok_or_else(|| pem::unsuitable(file, "certificate"))?,
        })
    }

    /// When the certificate expires, in seconds since 1970.
    pub(crate) fn until(&self) -> i64 {
        self.leaf.until
    }

    /// The hosts of the certificate, or its subject if it names no hosts.
    pub(crate) fn names(&self) -> &[String] {
        &self.leaf.names
    }

    /// Whether the certificate has an RSA key, the only kind that old devices know.
    pub(crate) fn has_rsa_key(&self) -> bool {
        self.leaf.has_rsa_key
    }

    /// Whether the certificate is for the host `name`. A `name` that begins with `*.` stands for all hosts of a domain.
    pub(crate) fn covers(&self, name: &str) -> bool {
        let has = |name: &str| self.leaf.names.iter().any(|other| other.eq_ignore_ascii_case(name));
        has(name) || wildcard(name).is_some_and(|wildcard| has(&wildcard))
    }

    /// Whether the certificate is valid at `now`, in seconds since 1970.
    pub(crate) fn at(&self, now: i64) -> Expiry {
        let Leaf { names, from, until, .. } = &self.leaf;
        let (file, names) = (self.file.display(), names.join(", "));
        let (from, end) = (*from, *until);
        let until = day(end);
        let days = (end - now) / DAY;
        if end <= now {
            Expiry::Invalid(format!("certificate {file} expired on {until}: devices refuse it"))
        } else if from > now {
            let from = day(from);
            Expiry::Invalid(format!(
                "certificate {file} is valid from {from} only: devices refuse it"
            ))
        } else if days < SOON {
            Expiry::Ending(format!(
                "certificate {file} expires on {until}, in {days} days: have it renewed"
            ))
        } else {
            Expiry::Valid(format!("certificate of {names}: valid until {until}"))
        }
    }
}

/// The wildcard name that covers the host `name`, such as `*.example.org`. A star stands for one label (RFC 6125
/// §6.4.3).
pub(super) fn wildcard(name: &str) -> Option<String> {
    let (_, domain) = name.split_once('.')?;
    Some(format!("*.{domain}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_a_certificate_lives() {
        let validity = Validity {
            file: "c.pem".into(),
            leaf: Leaf {
                names: vec!["mail.example.org".into()],
                issuer: String::new(),
                from: 1_000 * DAY,
                until: 2_000 * DAY,
                has_rsa_key: true,
            },
        };
        let at = |days: i64, seconds: i64| validity.at(days * DAY + seconds);
        let invalid = |text: &str| Expiry::Invalid(format!("certificate c.pem {text}: devices refuse it"));
        let ending = |text: &str| {
            Expiry::Ending(format!(
                "certificate c.pem expires on 1975-06-24, {text}: have it renewed"
            ))
        };
        let valid = Expiry::Valid("certificate of mail.example.org: valid until 1975-06-24".into());
        assert_eq!(at(1_000, -1), invalid("is valid from 1972-09-27 only"));
        assert_eq!(at(1_000, 0), valid);
        assert_eq!(at(1_970, 0), valid);
        assert_eq!(at(1_970, 1), ending("in 29 days"));
        assert_eq!(at(2_000, -1), ending("in 0 days"));
        assert_eq!(at(2_000, 0), invalid("expired on 1975-06-24"));
    }
}
