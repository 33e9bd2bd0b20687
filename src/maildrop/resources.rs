//! What all sessions share.

use std::{collections::BTreeSet, sync::Arc};

use dashmap::DashMap;
use tokio_util::task::TaskTracker;

use super::{parked::ParkedFolder, undelivered::Undelivered};
use crate::{
    imap::Pool,
    notify::Notices,
    quotas::Quotas,
    state::{Leases, StateStore},
    types::MailboxName,
};

/// What sessions need besides their upstream. A reload of the configuration does not replace it.
#[derive(Debug)]
pub(super) struct Resources {
    /// The parked upstream connections.
    pub(super) pool: Arc<Pool<ParkedFolder>>,
    pub(super) state: Arc<dyn StateStore>,
    /// Who holds which maildrop.
    pub(super) leases: Leases,
    pub(super) undelivered: Undelivered,
    /// The logins and mailboxes whose marks this process has changed, of logins that read their marks only if there may
    /// be some. What a parked connection tells of these marks may be out of date.
    pub(super) marked: DashMap<MailboxName, BTreeSet<String>>,
    /// Counts together with other gateways; `None` if this gateway is alone.
    pub(super) quotas: Option<Quotas>,
    /// Tells people when they must act.
    pub(super) notices: Notices,
    /// The work that sessions leave to the background when they end.
    pub(super) tasks: TaskTracker,
}
