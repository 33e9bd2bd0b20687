//! What the page shows of its gateway, and asks of it.

use std::{collections::BTreeMap, fmt, time::Duration};

use async_trait::async_trait;

use crate::doctor::Step;

/// The gateway, as the page sees it.
#[async_trait]
pub trait Overview: Send + Sync + fmt::Debug {
    /// What does not work now.
    async fn health(&self) -> Health;
    /// Brings those metrics up to date that nobody counts.
    async fn measure(&self);
    /// The addresses of the listeners, and the `tls` of each.
    async fn listeners(&self) -> Vec<(String, String)>;
    /// The accounts of the configuration.
    fn accounts(&self) -> Vec<Account>;
    /// Tries the login of an account step by step; `None` if there is no such account, or if it takes its device's password.
    async fn examine(&self, login: &str) -> Option<Vec<Step>>;
}

/// What does not work now, by part, with the reason in words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// No device is served as it should be.
    pub failing: BTreeMap<String, String>,
    /// Some devices are not.
    pub degraded: BTreeMap<String, String>,
}

/// An account of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The login, or a pattern of logins.
    pub login: String,
    /// Whose mailbox, and where.
    pub mailbox: String,
    /// Whether the gateway can log in by itself.
    pub is_stored: bool,
    /// How long the upstream wants to be left alone; zero if it can be asked.
    pub pause: Duration,
}
