//! What is parked with an upstream connection: what the login's next session need not find out again.

use std::sync::Arc;

use super::snapshot::Snapshot;
use crate::{config::Policy, state::KeptDigest};

/// What a session leaves to the next session of its login.
#[derive(Debug, Clone)]
pub(super) struct ParkedFolder {
    /// The snapshot of the mailbox at the session's end.
    pub(super) snapshot: Snapshot,
    /// Whether state has no marks of the login for this mailbox. Then state need not be asked for them, because only
    /// the login itself adds marks.
    pub(super) is_unmarked: bool,
    /// The digest of the records in a shared store. If the records have changed, `is_unmarked` and the snapshot's
    /// earlier UIDs do not hold any more.
    pub(super) digest: Option<KeptDigest>,
    /// The folder that deleted messages go to, by its name on the server; `None` if it has not been looked up.
    pub(super) target: Option<Arc<str>>,
    /// The policy for which all this was found out.
    pub(super) policy: Arc<Policy>,
}
