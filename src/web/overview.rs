//! What the page shows of the gateway, and what it asks the gateway to do.

use std::{collections::BTreeMap, fmt, time::Duration};

use async_trait::async_trait;

use crate::doctor::Step;

/// The part of the gateway that the page uses.
#[async_trait]
pub(crate) trait Overview: Send + Sync + fmt::Debug {
    /// What does not work now.
    async fn health(&self) -> Health;
    /// Updates the metrics that are measured when they are read, rather than counted.
    async fn measure(&self);
    /// The address and the `tls` of each listener.
    async fn listeners(&self) -> Vec<(String, String)>;
    /// The accounts of the configuration.
    fn accounts(&self) -> Vec<AccountSummary>;
    /// Tries the login of an account step by step; `None` if there is no such account, or if the login would need the
    /// device's password.
    async fn examine(&self, login: &str) -> Option<Vec<Step>>;
}

/// The parts of the gateway that do not work now, each with the reason in words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// Parts whose failure makes `/readyz` answer 503.
    pub failing: BTreeMap<String, String>,
    /// Parts whose failure makes only `/readyz?strict` answer 503.
    pub degraded: BTreeMap<String, String>,
}

/// An account of the configuration, as the page needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AccountSummary {
    /// The login, or a pattern of logins.
    pub login: String,
    /// The user of the mailbox, and the host of the upstream.
    pub mailbox: String,
    /// Whether the gateway can log in to the upstream without a device.
    pub is_stored: bool,
    /// How long the pause still lasts that the upstream has asked the account's user for; zero if there is none, or if
    /// the account is a rule for many users.
    pub pause: Duration,
}
