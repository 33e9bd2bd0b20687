//! Why there is no token. Each kind of error has its own remedy.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::explanation::explain;

/// Why an upstream's provider gave no token. `Display` is for the log and for people at a terminal: it has the
/// provider's words, but never a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Error {
    /// Somebody must sign in: nobody has signed in yet, or the provider does not accept the consent any more.
    #[error("{0} (somebody must sign in: popgate sign-in)")]
    SignIn(TokenRefusal),
    /// The provider refuses the application or what it asks for: somebody must correct the configuration of popgate or
    /// of the application at the provider.
    #[error("{0}")]
    Refused(TokenRefusal),
    /// The provider cannot be reached, or has a problem of its own. This passes without anybody's help.
    #[error("the provider is not available: {reason}")]
    Unavailable {
        /// What failed, in words for the log.
        reason: String,
        /// How long the provider does not want to be asked; zero if it does not say.
        retry_after: Duration,
        /// Whether the provider may have issued a token that did not arrive.
        is_lost: bool,
    },
    /// State cannot be read or written; the log says more.
    #[error("the state cannot be read or written, see the log")]
    State,
    /// The token has expired, and only the running gateway may renew it, because two processes must not both renew.
    #[error("the token has expired; the gateway that is running renews it at the next login")]
    Elsewhere,
}

/// A refusal, in the provider's words (RFC 6749 §5.2) or the gateway's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRefusal {
    /// `error`; empty if the words are the gateway's own.
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

    /// The error if a browser comes back with an answer that is from another provider (RFC 9207, RFC 9700 §4.4).
    pub fn another_provider() -> Self {
        Self::Refused(TokenRefusal::ours(
            "the answer is not of the provider that was asked: begin again, and if this happens again, tell the provider",
        ))
    }

    /// The same error, but marked: the provider may have issued a token that did not arrive.
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

impl TokenRefusal {
    pub(super) fn new(code: &str, description: Option<&str>) -> Self {
        Self {
            code: printable(code),
            description: printable(description.unwrap_or_default()),
        }
    }

    /// A refusal in the gateway's own words: no provider was asked, or it did not say this itself.
    pub(super) fn ours(description: &str) -> Self {
        Self::new("", Some(description))
    }

    /// A sentence that says what the refusal means and what to do, if that is known.
    pub fn explanation(&self) -> Option<&'static str> {
        explain(&self.code, &self.description)
    }

    /// Whether the provider refuses the consent and not the application (RFC 6749 §5.2, and codes that providers have
    /// added).
    pub(super) fn concerns_consent(&self) -> bool {
        matches!(
            self.code.as_str(),
            "invalid_grant" | "interaction_required" | "consent_required" | "login_required"
        )
    }

    /// Whether the same request may succeed later (RFC 6749 §4.1.2.1).
    pub(super) fn will_pass(&self) -> bool {
        matches!(
            self.code.as_str(),
            "temporarily_unavailable" | "server_error" | "slow_down"
        )
    }
}

impl fmt::Display for TokenRefusal {
    /// Writes the explanation first, because it helps most.
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

/// Puts `text` on one line and limits its length.
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
        let refusal = TokenRefusal::new("invalid_grant", Some("gone\r\nTrace ID: 1\x1b[31m\n"));
        assert_eq!(refusal.description, "gone Trace ID: 1 [31m");
        let long = TokenRefusal::new(&"x".repeat(10_000), Some(&"word ".repeat(10_000)));
        assert!(long.code.len() <= 400 && long.description.len() < 420);
    }
}
