//! One folder of a maildrop, on an upstream connection of its own: what is read from it, and how it is reached again when
//! the connection was lost.

use std::sync::Arc;

use super::{
    Error, Listing, Octets, Reason,
    ahead::{self, Ahead},
    listing::Row,
    lock::Lock,
    open::{Shared, reported},
    removal::Trouble,
    sync::{View, opened},
};
use crate::{
    accounts::Account,
    imap::{self, BodyStart, Connection, Connector, Item, Login, Mailbox, Section, Slot, Standing, UidSet},
    state::{Index, MailboxName, Marks},
    types::{Uid, UidRanges},
};

/// One folder, exclusively held.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) account: Arc<Account>,
    pub(super) name: MailboxName,
    /// Which of the maildrop's it is.
    pub(super) number: u16,
    pub(super) connector: Arc<Connector>,
    /// The upstream; replaced by a new connection when it is lost.
    pub(super) mailbox: Mailbox,
    pub(super) ahead: Ahead,
    /// The server answers a request for header and text by the text first, which TOP can't use.
    pub(super) sends_text_first: bool,
    /// Delivered whole in this session, in the order of delivery.
    pub(super) retrieved: Vec<Uid>,
    /// So many of these the device has beyond doubt.
    pub(super) received: usize,
    /// The upstream did not deliver these, which this session was the first to ask for.
    pub(super) undelivered: Vec<Uid>,
    /// Delivered with another size than listed.
    pub(super) learned: Vec<(Uid, u32)>,
    /// What is known of the mailbox, for the next session.
    pub(super) view: View,
    /// State holds what `view` says.
    pub(super) is_saved: bool,
    /// What the login has done with its messages, as state holds it.
    pub(super) marks: Marks,
    /// UIDVALIDITY of what state held.
    pub(super) marks_followed: u64,
    pub(super) slot: Slot<View>,
    pub(super) shared: Arc<Shared>,
    /// Until the session ends.
    pub(super) lock: Option<Lock>,
}

impl Source {
    /// Asks for `item` of a message, if that is not on its way already, and waits until its content begins. A connection
    /// that was lost while the device was silent is replaced once, without a word. `item_of` tells what the device
    /// would fetch of a message of so many octets, for reading ahead. [`Trouble::Upstream`] is of a message that the
    /// upstream did not deliver when it was asked for it alone; it is the only error that is not in the log yet.
    pub(super) async fn begin(
        &mut self,
        listing: &Listing,
        place: usize,
        row: Row,
        item: Item,
        item_of: impl Fn(u64) -> Item,
    ) -> Result<Octets, Trouble> {
        let uid = row.uid;
        // What did not come before would only spoil a set.
        let mut alone = self.is_known_undelivered(uid);
        let in_row = self.ahead.note_request(place, item);
        if !in_row || !self.ahead.is_due(uid) {
            self.stop_ahead().await;
        }
        loop {
            let is_new = self.reconnect_if_lost().await.map_err(Trouble::Told)?;
            let reached = if alone {
                Box::pin(self.reach_alone(row, item)).await
            } else {
                self.reach(listing, place, uid, item, &item_of).await
            };
            match reached {
                // Nothing is no message, unless it was listed as empty.
                Ok(Reached::Content(content)) if row.octets == 0 => return Ok(Octets(content.unwrap_or(0))),
                Ok(Reached::Content(Some(octets))) if octets > 0 || item != Item::Whole => return Ok(Octets(octets)),
                // It may be a set's fault, or a moment's.
                Ok(Reached::Content(_)) if !alone => alone = true,
                Ok(Reached::Content(_)) => return Err(imap::Error::NoData("UID FETCH").into()),
                Ok(Reached::Refused) => {}
                Err(error) if error.is_lost() && !is_new => {}
                Err(error) if error.is_undelivered() && !alone => alone = true,
                Err(error) if error.is_undelivered() => return Err(error.into()),
                Err(error) => return Err(Trouble::Told(self.report(&error))),
            }
        }
    }

    /// Asks for one message by a command of its own, whatever else was asked for.
    async fn reach_alone(&mut self, row: Row, item: Item) -> Result<Reached, imap::Error> {
        self.stop_ahead().await;
        let id = self.mailbox.fetch(&UidSet::from(row.uid), item).await?;
        self.ahead.note_command(id, &[(row.uid, row.octets.into())]);
        self.content(row.uid, item).await
    }

    /// Asks for a message and for those that the device is expected to want next, and reads on until its content begins.
    async fn reach(
        &mut self,
        listing: &Listing,
        place: usize,
        uid: Uid,
        item: Item,
        item_of: impl Fn(u64) -> Item,
    ) -> Result<Reached, imap::Error> {
        let Self {
            ahead,
            mailbox,
            number,
            marks,
            ..
        } = self;
        let asked = ahead.plan(place, uid, |from| {
            listing
                .following(*number, from)
                .take_while(|&(_, _, octets)| item_of(octets) == item)
                .filter(|&(_, uid, _)| marks.undelivered.binary_search(&uid.0).is_err())
        });
        let mut rest = asked.as_slice();
        let uids: Vec<_> = asked.iter().map(|&(uid, _)| uid).collect();
        // A set is answered in ascending order: where the device reads in another, there are more of them.
        for set in uids.chunk_by(|a, b| a < b).flat_map(UidSet::cover) {
            let (command, after) = rest.split_at(set.count());
            let id = mailbox.fetch(&set, item).await?;
            ahead.note_command(id, command);
            rest = after;
        }
        self.content(uid, item).await
    }

    /// Reads on until the content of `uid`, which was asked for, begins.
    async fn content(&mut self, uid: Uid, item: Item) -> Result<Reached, imap::Error> {
        let Self {
            ahead,
            mailbox,
            sends_text_first,
            ..
        } = self;
        loop {
            match mailbox.next().await? {
                // Unasked, beside what was asked for.
                BodyStart::Content { section, .. } if !item.begins_with(section) => {}
                BodyStart::Content {
                    uid: of,
                    octets,
                    section,
                } => match ahead.begun(of) {
                    Some(begun) if begun == uid && section == Section::Text && matches!(item, Item::Top(_)) => {
                        *sends_text_first = true;
                        return Err(imap::Error::Protocol("BODY[TEXT] before BODY[HEADER]"));
                    }
                    // Where the server tells the UID last, it is compared then.
                    Some(begun) if begun == uid => return Ok(Reached::Content(octets)),
                    _ => ahead.note_wasted(octets.unwrap_or(0)),
                },
                BodyStart::End(_) => {}
                BodyStart::Done(id) => {
                    ahead.command_done(id);
                    if !ahead.is_due(uid) {
                        return Err(imap::Error::NoData("UID FETCH"));
                    }
                }
                // One message that the server can't deliver must not cost those that were asked for with it.
                BodyStart::Refused(id, error) => {
                    let was_set = ahead.command_refused(id);
                    if was_set {
                        return Ok(Reached::Refused);
                    }
                    if !ahead.is_due(uid) {
                        return Err(error);
                    }
                }
                BodyStart::Idle => return Err(imap::Error::NoData("UID FETCH")),
            }
        }
    }

    /// What is on its way is not wanted: little is read and thrown away, for much the connection is given up.
    pub(super) async fn stop_ahead(&mut self) {
        if self.mailbox.is_fetching() {
            if self.ahead.due_octets() + self.mailbox.left() > ahead::WORTH_READING {
                self.mailbox.give_up();
            } else if let Err(error) = self.mailbox.drain().await {
                tracing::debug!(%error, "read-ahead ended");
            }
        }
        self.ahead.clear();
    }

    /// A message was delivered whole.
    pub(super) fn note_retrieved(&mut self, row: Row, delivered: Option<Octets>) {
        self.retrieved.push(row.uid);
        self.note_delivered(row.uid);
        if let Some(octets) = delivered {
            self.note_octets(row, octets);
        }
    }

    /// A message has another size than is listed; replaces what was noted of it just before.
    pub(super) fn note_octets(&mut self, row: Row, Octets(octets): Octets) {
        self.learned.pop_if(|&mut (uid, _)| uid == row.uid);
        if let Ok(octets) = u32::try_from(octets)
            && octets != row.octets
        {
            self.learned.push((row.uid, octets));
        }
    }

    /// Makes sure that there is a connection, a new one if the last was lost; returns whether it is new.
    /// After that UIDs are worth nothing unless UIDVALIDITY is what it was (RFC 3501 §2.3.1.1).
    pub(super) async fn reconnect_if_lost(&mut self) -> Result<bool, Error> {
        if !self.mailbox.is_broken() {
            return Ok(false);
        }
        // On the heap: a session that waits for its device does not hold what only a lost connection needs.
        Box::pin(self.reconnect()).await?;
        Ok(true)
    }

    /// What the session shows stays; what is left for the next is brought up to date, for it must suit the connection.
    async fn reconnect(&mut self) -> Result<(), Error> {
        let connection = log_in(&self.connector, &self.account, self.slot.standing()).await?;
        let known = self.view.index.clone();
        let login = login_of(&self.connector, &self.account, self.slot.standing());
        let opened = opened(
            connection,
            login,
            &self.account.policy,
            &self.name.folder,
            Some(known.clone()),
        )
        .await;
        let (mailbox, index, hidden) = opened.map_err(|error| self.report(&error))?;
        self.connector.note_success(&self.account.user);
        if index.uid_validity != known.uid_validity || mailbox.selected().uid_not_sticky {
            tracing::warn!(mailbox = %self.name, "UIDVALIDITY changed");
            return Err(Error::Unavailable(Reason::Replaced));
        }
        self.is_saved &= is_same(&known, &index);
        self.view.modseq = mailbox.selected().modseq.unwrap_or(0);
        (self.view.index, self.view.hidden) = (index, hidden);
        self.mailbox = mailbox;
        self.ahead.clear();
        Ok(())
    }

    /// The UIDs without `\Seen`.
    pub(super) async fn unseen(&mut self) -> Result<UidRanges, Error> {
        let found = self.mailbox.search_unseen().await;
        found.map_err(|error| self.report(&error))
    }

    /// These header fields of messages, as the upstream sends them.
    pub(super) async fn headers(&mut self, uids: &[Uid], fields: &str) -> Result<Vec<(Uid, Vec<u8>)>, Error> {
        let headers = self.mailbox.headers(uids, fields).await;
        headers.map_err(|error| self.report(&error))
    }

    /// Writes an upstream's failure to the log, and turns it into what a device is told.
    pub(super) fn report(&self, error: &imap::Error) -> Error {
        self.connector
            .note_failure(&self.account.user, self.slot.standing(), error);
        report(&self.account, error)
    }
}

pub(super) fn is_same(a: &Arc<Index>, b: &Arc<Index>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

/// What a request for a message came to.
enum Reached {
    /// Its content begins. How many octets it has; `None` for NIL.
    Content(Option<u64>),
    /// The server refused the set that names the message: it must be asked for again.
    Refused,
}

/// How `account` logs in, with a secret of `standing`.
pub(super) fn login_of<'a>(connector: &'a Connector, account: &'a Account, standing: Standing) -> Login<'a> {
    Login {
        connector,
        user: &account.user,
        credential: &account.credential,
        standing,
    }
}

pub(super) async fn log_in(connector: &Connector, account: &Account, standing: Standing) -> Result<Connection, Error> {
    login_of(connector, account, standing)
        .connect()
        .await
        .map_err(|error| report(account, &error))
}

/// Writes an upstream's failure to the log, and turns it into what a device is told.
pub(super) fn report(account: &Account, error: &imap::Error) -> Error {
    reported(&account.upstream.name, &account.user, error)
}
