//! What all maildrops share.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use super::{parked::Parked, undelivered::Undelivered};
use crate::{
    imap::Pool,
    notify::Notices,
    state::{Leases, StateStore},
};

/// What a session needs beyond its own upstream. A reload of the configuration leaves it as it is.
#[derive(Debug)]
pub(super) struct Shared {
    /// Upstream connections that wait for the next session of their login.
    pub(super) pool: Arc<Pool<Parked>>,
    pub(super) state: Arc<dyn StateStore>,
    /// Who holds which maildrop.
    pub(super) leases: Leases,
    pub(super) undelivered: Undelivered,
    /// Who is told when somebody must act.
    pub(super) notices: Notices,
    /// Work that sessions leave to be finished behind them.
    pub(super) tasks: TaskTracker,
}
