//! The flags of a message that the server stores.

use std::fmt;

/// A set of system flags (RFC 3501 §2.3.2). The server stores no keywords, and no message is ever `\Recent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Flags(u8);

const NAMES: [&str; 5] = [r"\Answered", r"\Flagged", r"\Deleted", r"\Seen", r"\Draft"];

impl Flags {
    pub(super) const NONE: Self = Self(0);
    pub(super) const ANSWERED: Self = Self(1);
    pub(super) const FLAGGED: Self = Self(1 << 1);
    pub(super) const DELETED: Self = Self(1 << 2);
    pub(super) const SEEN: Self = Self(1 << 3);
    pub(super) const DRAFT: Self = Self(1 << 4);
    pub(super) const ALL: Self = Self(0b1_1111);

    /// The flag of that name, in any case.
    pub(super) fn parse(name: &[u8]) -> Option<Self> {
        let at = NAMES
            .iter()
            .position(|known| known.as_bytes().eq_ignore_ascii_case(name))?;
        Some(Self(1 << at))
    }

    pub(super) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(super) fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// The names of the flags with spaces between them; the caller writes the parentheses.
impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut space = "";
        for (at, name) in NAMES.iter().enumerate() {
            if self.contains(Self(1 << at)) {
                write!(f, "{space}{name}")?;
                space = " ";
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_bits_agree() {
        assert_eq!(Flags::parse(br"\sEEN"), Some(Flags::SEEN));
        assert_eq!(Flags::parse(br"\Recent"), None);
        assert_eq!(Flags::ALL.to_string(), NAMES.join(" "));
        assert_eq!(Flags::DELETED.with(Flags::SEEN).to_string(), r"\Deleted \Seen");
        assert_eq!(Flags::ALL.without(Flags::ALL), Flags::NONE);
    }
}
