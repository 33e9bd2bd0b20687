//! One folder of an upstream, selected on a connection of its own. A lost connection is replaced.

use std::sync::Arc;

use super::{Error, Reason, Refusal, parked::ParkedFolder, snapshot::Snapshot};
use crate::{
    accounts::Account,
    config::Policy,
    imap::{self, Connection, Connector, Listed, Mailbox, Pool, Selected, Selection, Slot, TrustLevel, UpstreamLogin},
    state::{MailboxState, StateStore},
    types::MailboxName,
};

/// A selected mailbox, and everything needed to connect to it again.
#[derive(Debug)]
pub(super) struct UpstreamFolder {
    account: Arc<Account>,
    name: Arc<MailboxName>,
    connector: Arc<Connector>,
    slot: Slot<ParkedFolder>,
    mailbox: Mailbox,
}

impl UpstreamFolder {
    /// The folder `name` of `account`, which is selected as `mailbox`. `slot` is the right to its connection.
    pub(super) fn new(
        account: Arc<Account>,
        name: Arc<MailboxName>,
        connector: Arc<Connector>,
        slot: Slot<ParkedFolder>,
        mailbox: Mailbox,
    ) -> Self {
        Self {
            account,
            name,
            connector,
            slot,
            mailbox,
        }
    }

    pub(super) fn account(&self) -> &Account {
        &self.account
    }

    pub(super) fn policy(&self) -> &Arc<Policy> {
        &self.account.policy
    }

    /// The mailbox's name in state.
    pub(super) fn name(&self) -> &Arc<MailboxName> {
        &self.name
    }

    /// The mailbox's state in `store` for this login. Reads nothing yet.
    pub(super) fn state(&self, store: Arc<dyn StateStore>) -> MailboxState {
        MailboxState::new(store, self.name.clone(), self.account.login.clone())
    }

    /// The mailbox. Its connection may be lost by now: see [`UpstreamFolder::connected`].
    pub(super) fn mailbox(&mut self) -> &mut Mailbox {
        &mut self.mailbox
    }

    /// What SELECT said of the mailbox.
    pub(super) fn selected(&self) -> Selected {
        self.mailbox.selected()
    }

    pub(super) fn is_lost(&self) -> bool {
        self.mailbox.is_broken()
    }

    /// Makes sure that there is a connection, and replaces a lost one. Returns whether the connection is new.
    ///
    /// Brings `snapshot` up to date with a new connection, for the next session: what this session shows does not
    /// change. If UIDVALIDITY has changed, this fails, because the session's UIDs mean nothing any more (RFC 3501
    /// §2.3.1.1).
    pub(super) async fn connected(&mut self, snapshot: &mut Snapshot) -> Result<bool, Error> {
        if !self.mailbox.is_broken() {
            return Ok(false);
        }
        // Boxed: only a lost connection needs this future, and an idle session should not hold memory for it.
        Box::pin(self.reconnect(snapshot)).await?;
        Ok(true)
    }

    async fn reconnect(&mut self, snapshot: &mut Snapshot) -> Result<(), Error> {
        let connection = log_in(&self.connector, &self.account, self.slot.trust_level()).await?;
        let policy = &self.account.policy;
        let reopening = snapshot.reopen(connection, self.login(), policy, &self.name.folder);
        let reopened = reopening.await.map_err(|error| self.failed(error))?;
        self.connector.note_success(&self.account.user);
        let Some(mailbox) = reopened else {
            tracing::warn!(mailbox = %self.name, "UIDVALIDITY changed");
            return Err(Refusal::Unavailable(Reason::Replaced).into());
        };
        self.mailbox = mailbox;
        Ok(())
    }

    /// Selects another folder of the same user on a connection of its own. If the user may not have one more
    /// connection, hangs up this one first. `None` if there is no such folder.
    pub(super) async fn select_other(&mut self, selection: Selection<'_>) -> Result<Option<OtherFolder>, Error> {
        let slot = self.slot.another(self.account.upstream.connections_per_user).await;
        if slot.is_none() {
            imap::hang_up(&mut self.mailbox).await;
        }
        let connection = log_in(&self.connector, &self.account, self.slot.trust_level()).await?;
        match connection.select(selection, self.login()).await {
            Ok((mailbox, listed)) => Ok(Some(OtherFolder {
                mailbox,
                listed,
                _slot: slot,
            })),
            Err(error) if error.is_no_such_folder() => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn login(&self) -> UpstreamLogin<'_> {
        login_of(&self.connector, &self.account, self.slot.trust_level())
    }

    /// The error for a failure of the upstream: see [`failed`].
    pub(super) fn failed(&self, error: imap::Error) -> Error {
        failed(self.login(), &self.account, error)
    }

    pub(super) fn slot(&self) -> &Slot<ParkedFolder> {
        &self.slot
    }

    pub(super) fn into_mailbox(self) -> (Mailbox, Slot<ParkedFolder>) {
        (self.mailbox, self.slot)
    }

    /// Parks the connection, with `parked`, for the login's next session.
    pub(super) fn park(self, pool: &Arc<Pool<ParkedFolder>>, parked: ParkedFolder) {
        let Self {
            account,
            name,
            slot,
            mailbox,
            ..
        } = self;
        pool.park(slot, &account.login, &name.folder, mailbox, parked);
    }
}

/// Another folder of the user, selected for a short time.
#[derive(Debug)]
pub(super) struct OtherFolder {
    pub(super) mailbox: Mailbox,
    /// The folder's messages, from the UID of the selection on.
    pub(super) listed: Listed,
    /// The right to the connection; `None` if the session's own folder has hung up to make room.
    _slot: Option<Slot<ParkedFolder>>,
}

impl OtherFolder {
    /// Logs out, and closes the connection.
    pub(super) async fn close(self) {
        imap::farewell(self.mailbox).await;
    }
}

/// The login of `account`. `trust`: whether its secret is proven or a guess.
pub(super) fn login_of<'a>(connector: &'a Connector, account: &'a Account, trust: TrustLevel) -> UpstreamLogin<'a> {
    UpstreamLogin {
        connector,
        user: &account.user,
        credential: &account.credential,
        trust,
    }
}

/// The error for a failure of the upstream after `login`, with the names for the log. If the upstream asks for a pause,
/// notes that.
pub(super) fn failed(login: UpstreamLogin<'_>, account: &Account, error: imap::Error) -> Error {
    login.connector.note_failure(login.user, login.trust, &error);
    Error::upstream(account, error)
}

pub(super) async fn log_in(connector: &Connector, account: &Account, trust: TrustLevel) -> Result<Connection, Error> {
    let connected = login_of(connector, account, trust).connect().await;
    connected.map_err(|error| Error::upstream(account, error))
}

#[cfg(test)]
mod tests {
    use super::{super::scene::play, *};
    use crate::imap::Wanted;

    #[tokio::test]
    async fn a_connection_that_stands_is_kept_and_a_lost_one_replaced_or_the_error_told() {
        let bye = |_: &str| "* BYE\r\n".to_owned();
        let (_, ()) = play("", "IMAP4rev1", bye, async |upstream| {
            let mut snapshot = Snapshot::of([1], []);
            assert!(!upstream.connected(&mut snapshot).await.unwrap());
            let lost = upstream.mailbox().noop().await.unwrap_err();
            let error = upstream.failed(lost);
            assert!(error.is_lost() && upstream.is_lost());
            assert_eq!(*error.refusal(), Refusal::Unavailable(Reason::Refused));
            // No server listens at port 1.
            let error = upstream.connected(&mut snapshot).await.unwrap_err();
            assert_eq!(*error.refusal(), Refusal::Unavailable(Reason::Refused));
            assert!(matches!(error.imap(), Some(imap::Error::Unreachable(_))), "{error:?}");
            assert!(
                snapshot.is_saved() && snapshot.contains(crate::types::Uid(1)),
                "it stays as it was"
            );
        })
        .await;
    }

    #[tokio::test]
    async fn another_folder_is_selected_on_a_connection_of_its_own() {
        let ok = |_: &str| "{tag} OK\r\n".to_owned();
        let (commands, error) = play("", "IMAP4rev1", ok, async |upstream| {
            let selection = Selection {
                folder: "Old",
                from: crate::types::Uid(1),
                wanted: Wanted::default(),
                resync: None,
            };
            upstream.select_other(selection).await.unwrap_err()
        })
        .await;
        assert!(matches!(error.imap(), Some(imap::Error::Unreachable(_))), "{error:?}");
        assert_eq!(commands, [""; 0], "this one is left alone");
    }
}
