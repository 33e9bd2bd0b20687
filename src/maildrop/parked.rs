//! The data that is parked with an upstream connection, so that the login's next session need not find it out again.

use std::sync::Arc;

use super::snapshot::Snapshot;
use crate::{config::Policy, state::KeptDigest};

/// What a session leaves for the next session of its login.
#[derive(Debug, Clone)]
pub(super) struct ParkedFolder {
    /// The snapshot of the mailbox at the session's end.
    pub(super) snapshot: Snapshot,
    /// Whether state had no marks of the login for this mailbox when the session ended. Then the next session does not
    /// ask state for them, because only the login itself adds marks.
    pub(super) is_unmarked: bool,
    /// The digest of the records in a shared store. If the records have changed, `is_unmarked` and the snapshot's
    /// earlier UIDs are out of date.
    pub(super) digest: Option<KeptDigest>,
    /// The folder that deleted messages go to, by its name on the server; `None` if it has not been looked up.
    pub(super) target: Option<Arc<str>>,
    /// The session's policy. A session with another policy does not use this data.
    pub(super) policy: Arc<Policy>,
}
