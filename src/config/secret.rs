//! Octets that must not be seen: redacted when printed, wiped when dropped.

use secrecy::{ExposeSecret, SecretSlice};
use subtle::ConstantTimeEq;

/// A password: any octets (RFC 1939 §7: the argument of PASS may hold spaces).
#[derive(Clone)]
pub struct Secret(SecretSlice<u8>);

impl Secret {
    /// The octets themselves; keep the borrow short.
    pub fn expose(&self) -> &[u8] {
        self.0.expose_secret()
    }
}

/// The time of a comparison reveals the lengths, but nothing of the contents.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose().ct_eq(other.expose()).into()
    }
}

impl Eq for Secret {}

impl From<Vec<u8>> for Secret {
    fn from(octets: Vec<u8>) -> Self {
        Self(octets.into())
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::from(text.as_bytes().to_vec())
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_octets_are_equal() {
        assert_eq!(Secret::from("hunter2"), Secret::from("hunter2"));
        for other in ["hunter3", "hunter", ""] {
            assert_ne!(Secret::from("hunter2"), Secret::from(other));
        }
    }

    #[test]
    fn never_printed() {
        assert_eq!(format!("{:?}", Secret::from("hunter2")), "Secret(…)");
    }
}
