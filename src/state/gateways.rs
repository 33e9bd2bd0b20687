//! What gateways exchange through the store that they share.

use std::time::Duration;

/// How long a gateway counts as alive after its last call of [`StateStore::confer`](super::StateStore::confer).
pub const ALIVE: Duration = Duration::from_secs(30);

/// The random name of a running gateway. A gateway that starts again has another name.
pub type GatewayName = [u8; 16];

/// The answer to [`StateStore::confer`](super::StateStore::confer).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    /// The position up to which the gateway has received words.
    pub position: String,
    /// The words of the other gateways, in the order in which they were sent.
    pub words: Vec<Vec<u8>>,
    /// The gateways that are alive.
    pub alive: Vec<GatewayName>,
}

/// A user of an upstream, whose connections all gateways count together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamUser<'a> {
    /// The upstream's name, as in `[upstream.NAME]`.
    pub upstream: &'a str,
    /// The server, and how it is reached, as text. Gateways may have different servers under the same name.
    pub server: &'a str,
    /// The user as whom popgate logs in there.
    pub user: &'a str,
}

/// The connections that a gateway has, or wants to have, as an upstream user.
#[derive(Debug, Clone, Copy)]
pub struct Seats<'a> {
    /// Whose connections are counted.
    pub user: UpstreamUser<'a>,
    /// The gateway that has the connections.
    pub gateway: &'a GatewayName,
    /// How many connections the gateway has, including those that it wants.
    pub count: usize,
    /// How many connections all gateways may have together.
    pub limit: usize,
    /// The gateways that are alive.
    pub alive: &'a [GatewayName],
    /// Whether gateways that are not in `alive` are dead for certain. If so, their connections do not count; otherwise,
    /// the answer is [`Seated::Unknown`] if there are any.
    pub is_complete: bool,
}

/// Whether a gateway may have its [`Seats`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seated {
    /// It may, and the store counts them.
    Yes,
    /// It may not. These other gateways have connections.
    Full(Vec<GatewayName>),
    /// A gateway that is not in [`Seats::alive`] has connections.
    Unknown,
}
