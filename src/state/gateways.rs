//! What gateways that share a store tell each other through it.

use std::time::Duration;

/// How long a gateway counts as alive after it was last heard of.
pub const ALIVE: Duration = Duration::from_secs(30);

/// The random name of a running gateway. A gateway that starts again has another name.
pub type GatewayName = [u8; 16];

/// What a gateway hears when it has its say: see [`StateStore::confer`](super::StateStore::confer).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    /// Up to where the gateway has heard the others.
    pub position: String,
    /// What other gateways have said, in the order in which they said it.
    pub words: Vec<Vec<u8>>,
    /// The gateways that are alive.
    pub alive: Vec<GatewayName>,
}

/// A user of an upstream, whose connections all gateways count together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamUser<'a> {
    /// The upstream's name, as in `[upstream.NAME]`.
    pub upstream: &'a str,
    /// The server that this upstream is, so that another server under the same name is another one.
    pub server: &'a str,
    /// The user there.
    pub user: &'a str,
}

/// The connections that a gateway has, or wants to have, as an upstream user.
#[derive(Debug, Clone, Copy)]
pub struct Seats<'a> {
    /// The user.
    pub user: UpstreamUser<'a>,
    /// The gateway.
    pub gateway: &'a GatewayName,
    /// How many connections the gateway has with those that it wants.
    pub count: usize,
    /// How many all gateways may have together.
    pub limit: usize,
    /// The gateways that are alive.
    pub alive: &'a [GatewayName],
    /// Whether all others are dead, so that their connections do not count.
    pub is_complete: bool,
}

/// Whether a gateway may have its [`Seats`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seated {
    /// It may.
    Yes,
    /// These gateways have the others.
    Full(Vec<GatewayName>),
    /// A gateway that is not in [`Seats::alive`] has some.
    Unknown,
}
