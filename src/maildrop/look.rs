//! A look at a maildrop without a session: finds out what a login would see and could do, without taking the lock.
//! Removes, flags, moves and stores nothing, and does not disturb a session of the maildrop. (But SELECT clears
//! `\Recent`, as in each session.)

use std::sync::Arc;

use super::{
    Error, Listing, Maildrops, Reason, Refusal,
    delete_preview::{self, DeletePreview},
    folder::candidates,
    listing::{Row, Shows},
    marks::LoginMarks,
    open::secret_of,
    parked::ParkedFolder,
    resources::Resources,
    retention, selection,
    snapshot::Snapshot,
    upstream::{UpstreamFolder, failed, log_in, login_of},
};
use crate::{
    accounts::Account,
    config::OnDelete,
    imap::{self, Approach, BodyStart, Connection, Connector, Greeted, Item, Slot, UidSet, UserKey, farewell},
    oauth::AccessToken,
    state::now,
    types::{Octets, Uid},
};

/// A trial does not fetch a message of more octets than this, unless all messages are larger.
const LARGE: u32 = 1 << 20;

/// A look at the maildrop of one login. End it by [`Look::leave`].
#[derive(Debug)]
pub struct Look {
    account: Arc<Account>,
    connector: Arc<Connector>,
    shared: Arc<Resources>,
    /// The right to the first connection, until the first folder is selected and takes it.
    slot: Option<Slot<ParkedFolder>>,
    folders: Vec<SelectedFolder>,
    /// The messages that the login would see, after [`Look::list`].
    listing: Option<Listing>,
}

#[derive(Debug)]
struct SelectedFolder {
    upstream: UpstreamFolder,
    snapshot: Snapshot,
}

/// What a folder holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderSummary {
    /// How many messages it holds.
    pub messages: usize,
    /// The sum of their sizes.
    pub octets: Octets,
    /// Whether the folder is read-only: nothing can be flagged or removed in it.
    pub is_read_only: bool,
}

/// A message that was fetched and thrown away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetched {
    /// The message's UID.
    pub uid: Uid,
    /// How many octets came.
    pub octets: Octets,
    /// The size by which the server lists it.
    pub listed: Octets,
}

impl Maildrops {
    /// Begins a look at the maildrop of `account`: reserves one connection.
    pub async fn look(&self, account: &Account) -> Result<Look, Error> {
        let connector = self.connector(&account.upstream.name)?;
        let user = UserKey::new(&account.upstream, &account.user);
        let slot = self.reserve(account, &user, &secret_of(&account.credential)).await?;
        Ok(Look {
            account: Arc::new(account.clone()),
            connector,
            shared: self.shared.clone(),
            slot: Some(slot),
            folders: Vec::new(),
            listing: None,
        })
    }
}

impl Look {
    /// Makes the connection, one step at a time.
    pub fn approach(&self) -> Approach<'_> {
        self.connector.approach()
    }

    /// The error for the failure of a step, with advice.
    pub fn failed(&self, error: imap::Error) -> Error {
        Error::upstream(&self.account, error)
    }

    /// Logs in on the connection that has greeted. `token`: the access token, if the account uses OAuth2.
    pub async fn log_in(&mut self, greeted: Greeted, token: Option<AccessToken>) -> Result<Connection, Error> {
        let Some(slot) = &mut self.slot else {
            return Err(too_many());
        };
        let Account { user, credential, .. } = &*self.account;
        let approach = self.connector.approach();
        let login = approach.log_in(greeted, user, credential, token, slot.trust_level());
        match slot.unless_cut(login).await {
            Some(Ok(connection)) => {
                slot.mark_proven();
                Ok(connection)
            }
            Some(Err(error)) => {
                let error = Error::upstream(&self.account, error);
                if *error.refusal() == Refusal::Denied {
                    slot.refuse();
                }
                Err(error)
            }
            None => Err(too_many()),
        }
    }

    /// The folders that are yet to be selected.
    pub fn folders_left(&self) -> &[String] {
        self.account
            .policy
            .folders
            .get(self.folders.len()..)
            .unwrap_or_default()
    }

    /// Selects the first of [`Look::folders_left`] on `connection`, or on a new one, and lists it.
    pub async fn select(&mut self, connection: Option<Connection>) -> Result<FolderSummary, Error> {
        let account = self.account.clone();
        let Some(folder) = self.folders_left().first().cloned() else {
            return Err(Refusal::Misconfigured(Reason::Folder).into());
        };
        let slot = match self.slot.take() {
            Some(slot) => slot,
            None => self.another_slot().await.ok_or_else(too_many)?,
        };
        let connection = match connection {
            Some(connection) => connection,
            None => log_in(&self.connector, &account, slot.trust_level()).await?,
        };
        let name = account.mailbox(&folder);
        let known = self.shared.state.index(&name).await;
        let login = login_of(&self.connector, &account, slot.trust_level());
        let opened = Snapshot::open(connection, login, &account.policy, &folder, known).await;
        let (mailbox, snapshot) = opened.map_err(|error| failed(login, &account, error))?;
        let summary = FolderSummary {
            messages: snapshot.index().entries.len(),
            octets: Octets(
                snapshot
                    .index()
                    .entries
                    .iter()
                    .map(|(_, octets)| u64::from(octets))
                    .sum(),
            ),
            is_read_only: mailbox.selected().read_only,
        };
        let upstream = UpstreamFolder::new(account.clone(), name.into(), self.connector.clone(), slot, mailbox);
        self.folders.push(SelectedFolder { upstream, snapshot });
        Ok(summary)
    }

    async fn another_slot(&self) -> Option<Slot<ParkedFolder>> {
        let limit = self.account.upstream.connections_per_user;
        self.folders.first()?.upstream.slot().another(limit).await
    }

    /// How many messages the login would see in the selected folders, and how many octets they have.
    pub async fn list(&mut self) -> Result<(u32, Octets), Error> {
        let now = now();
        let policy = self.account.policy.clone();
        let mut all = Vec::with_capacity(self.folders.len());
        for SelectedFolder { upstream, snapshot } in &mut self.folders {
            let mut state = upstream.state(self.shared.state.clone());
            let mut marks = LoginMarks::unread(false);
            marks.read(&mut state, upstream, snapshot).await?;
            let mut candidates = candidates(upstream, snapshot, marks.get(), now).await?;
            // The next login removes these before it lists.
            let due = retention::due(&policy, marks.get(), snapshot.index(), now);
            let gone = if policy.hides() {
                &mut candidates.hidden
            } else {
                &mut candidates.deleted
            };
            gone.extend(due.uids());
            all.push(candidates);
        }
        let listing = match selection::rows(&all, &policy.view) {
            Some(rows) => Listing::chosen(rows, all.len()),
            None => Listing::whole(all.swap_remove(0).index),
        };
        let stat = listing.stat();
        self.listing = Some(listing);
        Ok(stat)
    }

    /// What a delete in the selected folders would do, and what would prevent it.
    pub async fn preview_delete(&mut self) -> Result<DeletePreview, Error> {
        let policy = self.account.policy.clone();
        if policy.on_delete == OnDelete::Hide {
            return Ok(DeletePreview::hidden());
        }
        let mut all = DeletePreview::default();
        for SelectedFolder { upstream, .. } in &mut self.folders {
            let is_read_only = upstream.selected().read_only;
            let preview = delete_preview::preview(upstream.mailbox(), &policy, is_read_only).await;
            all.add(preview.map_err(|error| upstream.failed(error))?);
        }
        Ok(all)
    }

    /// Fetches a message that the login would see, and throws it away: the first that is not large, else the smallest.
    /// Does not mark it as read. `None` if there is no message.
    pub async fn retrieve(&mut self) -> Result<Option<Fetched>, Error> {
        let Some(row) = self.listing.as_ref().and_then(sample) else {
            return Ok(None);
        };
        let Some(SelectedFolder { upstream, .. }) = self.folders.get_mut(usize::from(row.folder)) else {
            return Ok(None);
        };
        let fetched = fetch(upstream.mailbox(), row.uid).await;
        let octets = fetched.map_err(|error| upstream.failed(error))?;
        Ok(Some(Fetched {
            uid: row.uid,
            octets: Octets(octets),
            listed: Octets(row.octets.into()),
        }))
    }

    /// Logs out on each connection before giving back the right to it.
    pub async fn leave(self) {
        for SelectedFolder { upstream, .. } in self.folders {
            let (mailbox, slot) = upstream.into_mailbox();
            farewell(mailbox).await;
            drop(slot);
        }
    }
}

fn too_many() -> Error {
    Refusal::Unavailable(Reason::TooManyConnections).into()
}

/// The message that a trial fetches. An empty message is never chosen.
fn sample(listing: &Listing) -> Option<Row> {
    let rows = || {
        listing
            .numbers()
            .filter_map(|number| listing.get(number).ok())
            .filter(|row| row.shows == Shows::Message)
    };
    rows()
        .find(|row| (1..=LARGE).contains(&row.octets))
        .or_else(|| rows().filter(|row| row.octets > 0).min_by_key(|row| row.octets))
}

/// Fetches a message. Returns how many octets came.
async fn fetch(mailbox: &mut imap::Mailbox, uid: Uid) -> Result<u64, imap::Error> {
    mailbox.fetch(&UidSet::from(uid), Item::Whole).await?;
    let mut came = None;
    loop {
        match mailbox.next().await? {
            BodyStart::Content { section, .. } if Item::Whole.begins_with(section) => {
                let mut octets = 0;
                while mailbox.ready().await? {
                    let count = mailbox.peek().len();
                    octets += mailbox.take(count).len() as u64;
                }
                came = Some(octets);
            }
            BodyStart::Content { .. } | BodyStart::End(_) => {}
            BodyStart::Refused(_, error) => return Err(error),
            BodyStart::Done(_) | BodyStart::Idle => return came.ok_or(imap::Error::NoData("UID FETCH")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{config::Config, state::Index};

    #[tokio::test]
    async fn a_look_counts_among_the_connections_of_its_user() {
        let text = "[upstream.home]\nhost = \"127.0.0.1\"\nport = 1\ntls = \"off\"\nconnections_per_user = 1\n\
                    [[account]]\nlogin = \"pbx\"\npassword = \"p\"\nupstream = \"home\"\nuser = \"eva\"\n\
                    upstream_password = \"q\"\n";
        let config = Config::parse(text, Path::new("")).unwrap();
        let maildrops = Maildrops::in_memory(&config);
        let account = Account::from(&config.accounts[0]);
        let look = maildrops.look(&account).await.unwrap();
        let error = maildrops.look(&account).await.unwrap_err();
        assert_eq!(*error.refusal(), Refusal::Unavailable(Reason::TooManyConnections));
        assert!(error.advice().unwrap().contains("`connections_per_user`"));
        look.leave().await;
        maildrops.look(&account).await.unwrap().leave().await;
    }

    #[test]
    fn a_message_is_chosen_that_costs_little() {
        let chosen = |octets: &[u32]| {
            let mut index = Index::default();
            for (uid, &octets) in (1..).zip(octets) {
                index.push(Uid(uid), octets, None, None);
            }
            sample(&Listing::whole(Arc::new(index))).map(|row| row.uid.0)
        };
        assert_eq!(chosen(&[]), None);
        assert_eq!(chosen(&[0, 500, 400]), Some(2), "the first");
        assert_eq!(chosen(&[5 * LARGE, LARGE, 3]), Some(2), "the first that is not large");
        assert_eq!(chosen(&[5 * LARGE, 2 * LARGE, 3 * LARGE]), Some(2), "the smallest");
    }
}
