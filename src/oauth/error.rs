//! Why there is no token, told apart by what helps.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::explanation::explain;

/// Why an upstream's provider gave no token. Display is for the log and for people at a terminal: it bears the provider's
/// words, never a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Error {
    /// Somebody must sign in: nobody has yet, or the provider takes the consent no more.
    #[error("{0} (somebody must sign in: popgate sign-in)")]
    SignIn(Refusal),
    /// The provider refuses the application, or what it asks for: somebody must mend the configuration, here or there.
    #[error("{0}")]
    Refused(Refusal),
    /// The provider can't be reached, or has troubles of its own. Passes by itself.
    #[error("the provider is not available: {reason}")]
    Unavailable {
        /// In what way.
        reason: String,
        /// How long it wants not to be asked; zero if it says nothing.
        retry_after: Duration,
        /// Whether it may have given a token that did not arrive.
        is_lost: bool,
    },
    /// What the gateway keeps can't be read or written (logged).
    #[error("the state cannot be read or written, see the log")]
    State,
    /// A gateway is running, and renews the token when it needs it: two must not.
    #[error("the token has expired; the gateway that is running renews it at the next login")]
    Elsewhere,
}

/// What a provider said when it refused (RFC 6749 §5.2), or what stands in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// `error`
    pub code: String,
    /// `error_description`, on one line.
    pub description: String,
}

impl Error {
    pub(super) fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable {
            reason: reason.into(),
            retry_after: Duration::ZERO,
            is_lost: false,
        }
    }

    /// A browser came back with an answer that another provider gave (RFC 9207, RFC 9700 §4.4).
    pub fn another_provider() -> Self {
        Self::Refused(Refusal::ours(
            "the answer is not of the provider that was asked: begin again, and if this happens again, tell the provider",
        ))
    }

    /// The same error, marked: the provider may have given a token that did not arrive.
    pub(super) fn lost(mut self) -> Self {
        if let Self::Unavailable { is_lost, .. } = &mut self {
            *is_lost = true;
        }
        self
    }

    pub(super) fn is_lost(&self) -> bool {
        matches!(self, Self::Unavailable { is_lost: true, .. })
    }
}

impl Refusal {
    pub(super) fn new(code: &str, description: Option<&str>) -> Self {
        Self {
            code: printable(code),
            description: printable(description.unwrap_or_default()),
        }
    }

    /// In words of our own: no provider was asked, or it said nothing of the kind.
    pub(super) fn ours(description: &str) -> Self {
        Self::new("", Some(description))
    }

    /// A sentence that says what it means and what to do, if that is known.
    pub fn explanation(&self) -> Option<&'static str> {
        explain(&self.code, &self.description)
    }

    /// Whether the consent is what is refused (RFC 6749 §5.2, and what providers have made of it), rather than the
    /// application.
    pub(super) fn concerns_consent(&self) -> bool {
        matches!(
            self.code.as_str(),
            "invalid_grant" | "interaction_required" | "consent_required" | "login_required"
        )
    }

    /// Whether it may be gone the next time (RFC 6749 §4.1.2.1).
    pub(super) fn will_pass(&self) -> bool {
        matches!(
            self.code.as_str(),
            "temporarily_unavailable" | "server_error" | "slow_down"
        )
    }
}

impl fmt::Display for Refusal {
    /// Explanation first: it is what helps.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = match (self.code.as_str(), self.description.as_str()) {
            ("", description) => return f.write_str(description),
            (code, "") => format!("the provider says {code}"),
            (code, description) => format!("the provider says {code}: {description}"),
        };
        match self.explanation() {
            Some(explanation) => write!(f, "{explanation} ({said})"),
            None => f.write_str(&said),
        }
    }
}

/// On one line, and not too long.
fn printable(text: &str) -> String {
    const LONGEST: usize = 400;
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        if !word.is_empty() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.extend(word.chars().take(LONGEST));
        }
        if line.len() > LONGEST {
            break;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_provider_says_stands_on_one_line() {
        let refusal = Refusal::new("invalid_grant", Some("gone\r\nTrace ID: 1\x1b[31m\n"));
        assert_eq!(refusal.description, "gone Trace ID: 1 [31m");
        let long = Refusal::new(&"x".repeat(10_000), Some(&"word ".repeat(10_000)));
        assert!(long.code.len() <= 400 && long.description.len() < 420);
    }
}
