//! Recognises the texts in which a server says that it gets too many requests.

use std::time::Duration;

use super::token::number;

/// How long a server that gets too many requests wants to be left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pause {
    /// For this long.
    For(Duration),
    /// It does not say.
    Unspecified,
}

impl Pause {
    /// The pause that a server's text asks for, in the words of Exchange, Gmail or Yahoo; `None` if it asks for none.
    pub(super) fn of(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        // `Request is throttled. Suggested Backoff Time: 299961 milliseconds`
        if let Some((_, rest)) = text.split_once("suggested backoff time:") {
            let mut words = rest.split_ascii_whitespace();
            let milliseconds = words.next().and_then(|word| number(word.as_bytes()));
            return Some(match (milliseconds, words.next()) {
                (Some(milliseconds), Some(unit)) if unit.starts_with("millisecond") => {
                    Self::For(Duration::from_millis(milliseconds.into()))
                }
                _ => Self::Unspecified,
            });
        }
        ["throttled", "rate limit", "too many simultaneous connections"]
            .iter()
            .any(|words| text.contains(words))
            .then_some(Self::Unspecified)
    }
}
