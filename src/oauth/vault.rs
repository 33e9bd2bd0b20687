//! Seals the records of consents that state keeps. Each record is encrypted under a key from the configuration, and
//! bound to its consent.

use zeroize::Zeroizing;

use super::token::ConsentRecord;
use crate::{
    config::Secret,
    state::Consent,
    types::{RandomUnavailable, Sealer},
};

/// The first octet of a record that this version seals.
const VERSION: u8 = 2;
/// The first octet of a record that an earlier version has sealed. Such a record has no [`ConsentRecord::asked`].
const WITHOUT_ASKED: u8 = 1;
/// Keeps this key apart from other keys that are derived from the same secret.
const PURPOSE: &[u8] = b"popgate tokens";

/// Seals and opens the records of consents.
#[derive(Debug)]
pub(super) struct Vault(Sealer);

/// A record cannot be opened: it is damaged, or was sealed with another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Locked;

impl Vault {
    /// Seals under `key`. Without a key, only this process can open what it has sealed.
    pub(super) fn new(key: Option<&Secret>) -> Result<Self, RandomUnavailable> {
        Sealer::new(key.map(Secret::expose), &[PURPOSE]).map(Self)
    }

    pub(super) fn seal(&self, consent: &Consent, record: &ConsentRecord) -> Result<Vec<u8>, RandomUnavailable> {
        let plain = Zeroizing::new(postcard::to_stdvec(record).unwrap_or_default());
        let sealed = self.0.seal(&plain, &bound_to(VERSION, consent))?;
        Ok([&[VERSION][..], &sealed].concat())
    }

    pub(super) fn open(&self, consent: &Consent, sealed: &[u8]) -> Result<ConsentRecord, Locked> {
        let (&[version], rest) = sealed.split_first_chunk().ok_or(Locked)?;
        if version != VERSION && version != WITHOUT_ASKED {
            return Err(Locked);
        }
        let mut plain = self.0.open(rest, &bound_to(version, consent)).ok_or(Locked)?;
        if version == WITHOUT_ASKED {
            plain.push(0);
        }
        postcard::from_bytes(&plain).map_err(|_| Locked)
    }
}

/// The data that binds a sealed record to its consent: if somebody swaps records in the file, a record does not open
/// for another consent.
fn bound_to(version: u8, Consent { upstream, name }: &Consent) -> Vec<u8> {
    let version: &[u8] = if version == WITHOUT_ASKED { &[] } else { &[version] };
    [
        version,
        &(upstream.len() as u64).to_le_bytes()[..],
        upstream.as_bytes(),
        name.as_bytes(),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consent(upstream: &str, name: &str) -> Consent {
        Consent {
            upstream: upstream.into(),
            name: name.into(),
        }
    }

    fn vault(key: &str) -> Vault {
        Vault::new(Some(&Secret::from(key))).unwrap()
    }

    fn record() -> ConsentRecord {
        ConsentRecord {
            access: Zeroizing::new("the access token".into()),
            refresh: Some(Zeroizing::new("the refresh token".into())),
            expires: 7,
            ..ConsentRecord::default()
        }
    }

    #[test]
    fn opens_with_the_same_key_and_consent_only() {
        let (key, eva) = ("0123456789abcdef0123456789abcdef", consent("home", "eva"));
        let sealed = vault(key).seal(&eva, &record()).unwrap();
        assert_eq!(vault(key).open(&eva, &sealed), Ok(record()));
        assert_eq!(vault("another").open(&eva, &sealed), Err(Locked));
        for other in [consent("home", "adam"), consent("work", "eva"), consent("homee", "va")] {
            assert_eq!(vault(key).open(&other, &sealed), Err(Locked));
        }
        assert_ne!(sealed, vault(key).seal(&eva, &record()).unwrap(), "a nonce twice");
        let windows = |needle: &[u8]| sealed.windows(needle.len()).any(|window| window == needle);
        assert!(!windows(b"refresh") && !windows(b"access"));
    }

    #[test]
    fn every_cut_and_flip_is_noticed() {
        let (vault, eva) = (vault("key"), consent("home", "eva"));
        let sealed = vault.seal(&eva, &record()).unwrap();
        for length in 0..sealed.len() {
            assert_eq!(vault.open(&eva, &sealed[..length]), Err(Locked));
            let mut flipped = sealed.clone();
            flipped[length] ^= 1;
            assert_eq!(vault.open(&eva, &flipped), Err(Locked));
        }
    }

    /// Seals a record as an earlier version did.
    #[test]
    fn what_an_earlier_version_sealed_opens() {
        let (vault, eva) = (vault("key"), consent("home", "eva"));
        let plain = postcard::to_stdvec(&record()).unwrap();
        let (asked, plain) = plain.split_last().unwrap();
        assert_eq!(*asked, 0);
        let sealed = vault.0.seal(plain, &bound_to(WITHOUT_ASKED, &eva)).unwrap();
        let sealed = [&[WITHOUT_ASKED][..], &sealed].concat();
        assert_eq!(vault.open(&eva, &sealed), Ok(record()));
    }

    #[test]
    fn without_a_key_each_process_has_its_own() {
        let eva = consent("home", "eva");
        let sealed = Vault::new(None).unwrap().seal(&eva, &record()).unwrap();
        assert_eq!(Vault::new(None).unwrap().open(&eva, &sealed), Err(Locked));
    }
}
