//! What waits beside a parked connection: what the login's next session need not find out again.

use std::sync::Arc;

use super::snapshot::Snapshot;
use crate::{config::Policy, state::KeptDigest};

/// What a session leaves to the next one of its login.
#[derive(Debug, Clone)]
pub(super) struct Parked {
    /// What the mailbox held.
    pub(super) snapshot: Snapshot,
    /// State keeps nothing of what the login has done here: it need not be asked, since only the login adds to that.
    pub(super) is_unmarked: bool,
    /// What the records in a shared store were like: if they have changed, `is_unmarked` and what `snapshot` knows of the past do
    /// not hold any more.
    pub(super) digest: Option<KeptDigest>,
    /// The folder that deleted messages go to, as the server calls it; `None` if that has not been found out.
    pub(super) target: Option<Arc<str>>,
    /// What all this was found out for.
    pub(super) policy: Arc<Policy>,
}
