//! Lists what a mailbox holds: UIDs, sizes, flags. It fetches no messages.

use super::{
    command::UidSet,
    error::Error,
    fetch::{Fetch, Flags},
    mailbox::{Mailbox, require},
    reader::{Event, Expect},
    response::Completion,
};
use crate::types::{Uid, UidRanges};

/// The most octets of an EMAILID (RFC 8474 §4.3).
const LONGEST_EMAIL_ID: usize = 255;

/// What a listing asks of each message besides UID and size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// INTERNALDATE
    pub arrived: bool,
    /// EMAILID (RFC 8474). Only a server with OBJECTID can be asked for it.
    pub email_id: bool,
}

impl Wanted {
    fn items(self) -> String {
        let arrived = if self.arrived { " INTERNALDATE" } else { "" };
        let email_id = if self.email_id { " EMAILID" } else { "" };
        format!("(UID RFC822.SIZE{arrived}{email_id})")
    }
}

/// The result of a listing.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Listed {
    wanted: Wanted,
    /// UID and RFC822.SIZE, ascending by UID.
    pub sizes: Vec<(Uid, u32)>,
    /// INTERNALDATE of each message, in seconds since 1970 (0 if the server sent none); empty if it was not wanted.
    pub arrived: Vec<u32>,
    /// EMAILID of each message (an empty string if it has none); empty if it was not wanted.
    pub email_ids: Vec<Box<str>>,
    /// UIDs that bear `\Deleted`; sorted.
    pub deleted: UidRanges,
    /// Rows without a size: the server gave none, or the row is about flags only.
    sizeless: Vec<(Uid, Fetch)>,
}

impl Listed {
    pub(super) fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            ..Self::default()
        }
    }

    /// What the commands of [`listing`] bring: they ask for FLAGS only if the server does not answer SEARCH.
    pub(super) fn expect(has_search: bool) -> Expect {
        Expect {
            flags: !has_search,
            ..Expect::default()
        }
    }

    pub(super) fn take(&mut self, event: Event) {
        match event {
            Event::Found(low, high) => self.deleted.push(low.0, high.0),
            Event::Fetch(fetch) => self.take_fetch(fetch),
            _ => {}
        }
    }

    fn take_fetch(&mut self, fetch: Fetch) {
        let Some(uid) = fetch.uid else { return };
        if fetch.flags.is_some_and(|flags| flags.deleted) {
            self.deleted.push(uid.0, uid.0);
        }
        match fetch.size {
            Some(size) => self.push(uid, size, &fetch),
            None => self.sizeless.push((uid, fetch)),
        }
    }

    fn push(&mut self, uid: Uid, size: u32, fetch: &Fetch) {
        self.sizes.push((uid, size));
        if self.wanted.arrived {
            self.arrived.push(fetch.arrived.unwrap_or(0));
        }
        if self.wanted.email_id {
            let email_id = fetch.email_id.as_deref().unwrap_or_default();
            let is_valid = email_id.len() <= LONGEST_EMAIL_ID;
            self.email_ids.push(if is_valid { email_id.into() } else { "".into() });
        }
    }

    /// Sorts the rows by UID, removes duplicates, and removes rows below `from`: `9:*` names the last message even if
    /// its UID is 8 (RFC 3501 §6.4.8).
    pub(super) fn finish(&mut self, from: Uid) {
        let ascends = self.sizes.is_sorted_by(|a, b| a.0 < b.0);
        if !ascends || self.sizes.first().is_some_and(|&(uid, _)| uid < from) {
            let mut order: Vec<usize> = (0..self.sizes.len()).filter(|&at| self.sizes[at].0 >= from).collect();
            order.sort_by_key(|&at| self.sizes[at].0);
            order.dedup_by_key(|at| self.sizes[*at].0);
            self.arrived = order.iter().filter_map(|&at| self.arrived.get(at).copied()).collect();
            self.email_ids = order.iter().filter_map(|&at| self.email_ids.get(at).cloned()).collect();
            self.sizes = order.iter().map(|&at| self.sizes[at]).collect();
        }
        self.deleted.sort();
        let sizes = &self.sizes;
        let is_listed = |uid: Uid| sizes.binary_search_by_key(&uid, |&(uid, _)| uid).is_ok();
        self.sizeless.retain(|&(uid, _)| uid >= from && !is_listed(uid));
    }

    /// The UID at which an interrupted listing, which began at `from`, continues: after the last row if the rows
    /// ascend, else at `from`.
    pub(super) fn resume_from(&self, from: Uid) -> Uid {
        let ascends = self.sizes.is_sorted_by(|a, b| a.0 < b.0);
        match self.sizes.last() {
            Some(&(Uid(last), _)) if ascends => from.max(Uid(last.saturating_add(1))),
            _ => from,
        }
    }

    /// How many of `exists` messages have not been listed yet.
    pub(super) fn left(&self, exists: usize) -> u32 {
        u32::try_from(exists.saturating_sub(self.sizes.len())).unwrap_or(u32::MAX)
    }

    /// Forgets all rows, because they belong to another UIDVALIDITY.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.wanted);
    }
}

/// The two commands of a listing: one lists the messages from a UID on, the other finds those that bear `\Deleted`.
pub(super) fn listing(from: Uid, wanted: Wanted, has_search: bool) -> [String; 2] {
    let rows = format!("UID FETCH {from}:* {}", wanted.items());
    [rows, deleted(has_search)]
}

fn deleted(has_search: bool) -> String {
    if has_search {
        "UID SEARCH DELETED".to_owned()
    } else {
        ALL_FLAGS.to_owned()
    }
}

const ALL_FLAGS: &str = "UID FETCH 1:* (UID FLAGS)";

/// Whether a FETCH may have been refused because its set names no message. A temporary refusal says nothing of the set.
fn names_nothing(rows: &Completion) -> bool {
    !rows.is_ok() && !rows.will_pass()
}

impl Mailbox {
    /// Lists UID, size and what is `wanted` of every message from UID `from` on, and the UIDs of all messages that bear
    /// `\Deleted`. This takes one round trip, unless the server needs portions or leaves something out.
    pub async fn list(&mut self, from: Uid, wanted: Wanted) -> Result<Listed, Error> {
        let mut listed = Listed::new(wanted);
        if self.exists() == 0 {
            return Ok(listed);
        }
        if from == Uid(1)
            && let Some(portion) = self.quirks.portion()
        {
            self.list_in_portions(&mut listed, from, portion).await?;
        } else {
            let has_search = self.quirks.has_search();
            self.link.news().searched = false;
            let commands = listing(from, wanted, has_search);
            let expect = Listed::expect(has_search);
            let completions = self.flight(&commands, expect, |event| listed.take(event)).await?;
            self.end_listing(&mut listed, from, &completions, has_search).await?;
        }
        Ok(listed)
    }

    /// Checks how the two commands of a listing ended, and asks for what is still missing.
    pub(super) async fn end_listing(
        &mut self,
        listed: &mut Listed,
        from: Uid,
        completions: &[Completion],
        has_search: bool,
    ) -> Result<(), Error> {
        match completions.first() {
            // Some servers refuse `9:*` if there is nothing new.
            Some(rows) if names_nothing(rows) && from > Uid(1) => tracing::debug!(completion = %rows, "nothing new"),
            rows => require("UID FETCH", rows)?,
        }
        self.end_search(listed, completions.get(1), has_search).await?;
        self.complete(listed, from).await
    }

    /// If SEARCH was refused, or its response was not a valid answer, asks for flags instead.
    async fn end_search(
        &mut self,
        listed: &mut Listed,
        completion: Option<&Completion>,
        has_search: bool,
    ) -> Result<(), Error> {
        let is_answered = completion.is_some_and(Completion::is_ok) && (!has_search || self.link.news().searched);
        if is_answered {
            return Ok(());
        }
        if !has_search {
            return require("UID FETCH (FLAGS)", completion);
        }
        if let Some(completion) = completion.filter(|completion| !completion.is_ok() && completion.will_pass()) {
            return Err(Error::refused("UID SEARCH", completion.clone()));
        }
        tracing::info!("the upstream does not answer UID SEARCH: flags are asked for instead");
        self.quirks.set_no_search();
        self.find_by_flags(|flags| flags.deleted, &mut listed.deleted).await
    }

    /// Sorts the rows, and asks again for sizes that the server did not give: first for the size alone, then for
    /// BODYSTRUCTURE, whose parts are added up. If neither helps, the message is listed with 0 octets.
    async fn complete(&mut self, listed: &mut Listed, from: Uid) -> Result<(), Error> {
        listed.finish(from);
        if listed.sizeless.is_empty() {
            return Ok(());
        }
        let mut rows = std::mem::take(&mut listed.sizeless);
        rows.sort_by_key(|&(uid, _)| uid);
        rows.dedup_by_key(|&mut (uid, _)| uid);
        let first_of = |uid: Uid| {
            let at = rows.binary_search_by_key(&uid, |&(uid, _)| uid).ok()?;
            Some(&rows[at].1)
        };
        let mut uids: Vec<Uid> = rows.iter().map(|&(uid, _)| uid).collect();
        tracing::info!(
            messages = uids.len(),
            "the upstream gave no size of some messages: asking again"
        );
        for items in ["(UID RFC822.SIZE)", "(UID BODYSTRUCTURE)"] {
            let mut missing = Vec::new();
            for set in UidSet::cover(&uids) {
                let commands = [format!("UID FETCH {set} {items}")];
                let completions = self
                    .flight(&commands, Expect::default(), |event| {
                        let Event::Fetch(fetch) = event else { return };
                        let Some(uid) = fetch.uid.filter(|uid| uids.binary_search(uid).is_ok()) else {
                            return;
                        };
                        let first = first_of(uid).unwrap_or(&fetch);
                        match fetch.size.or(fetch.structure) {
                            Some(size) => listed.push(uid, size, first),
                            None => missing.push(uid),
                        }
                    })
                    .await?;
                // If the server refuses, these sizes are still missing.
                if completions.first().is_some_and(|completion| !completion.is_ok()) {
                    missing.extend(uids.iter().copied());
                }
            }
            listed.finish(from);
            missing.retain(|uid| listed.sizes.binary_search_by_key(uid, |&(uid, _)| uid).is_err());
            missing.sort_unstable();
            missing.dedup();
            uids = missing;
        }
        for uid in uids {
            if let Some(first) = first_of(uid) {
                listed.push(uid, 0, first);
            }
        }
        listed.finish(from);
        Ok(())
    }

    /// Lists in portions, for a server that hangs up on a long listing: in ascending order, about `portion` messages
    /// per command. Does not ask again for the rows that `listed` already has.
    pub(super) async fn list_in_portions(&mut self, listed: &mut Listed, from: Uid, portion: u32) -> Result<(), Error> {
        let mut low = listed.resume_from(from).0;
        let mut width = portion;
        loop {
            let left = self.at_most_left(listed, low);
            let is_last = left <= portion || low > u32::MAX - width;
            let high = if is_last {
                "*".to_owned()
            } else {
                (low + width - 1).to_string()
            };
            let commands = [format!("UID FETCH {low}:{high} {}", listed.wanted.items())];
            let before = listed.sizes.len();
            let completions = self
                .flight(&commands, Expect::default(), |event| listed.take(event))
                .await?;
            match completions.first() {
                // As with `9:*`: there may be no message in this range.
                Some(rows) if names_nothing(rows) && low > 1 => {
                    tracing::debug!(completion = %rows, "no such messages");
                }
                rows => require("UID FETCH", rows)?,
            }
            if is_last {
                break;
            }
            low += width;
            // If UIDs lie far apart, the next range is wider.
            let rows = u32::try_from(listed.sizes.len() - before).unwrap_or(u32::MAX);
            width = if rows == 0 || rows < portion / 2 {
                width.saturating_mul(2)
            } else {
                portion
            };
        }
        let has_search = self.quirks.has_search();
        self.link.news().searched = false;
        let commands = [deleted(has_search)];
        let completions = self
            .flight(&commands, Listed::expect(has_search), |event| listed.take(event))
            .await?;
        self.end_search(listed, completions.first(), has_search).await?;
        self.complete(listed, from).await
    }

    /// How many messages from UID `low` on may not be listed yet. EXISTS counts the messages below it too, so UIDNEXT
    /// is a second bound, unless it is too low for as many messages as there are.
    fn at_most_left(&self, listed: &Listed, low: u32) -> u32 {
        let exists = self.exists();
        let uid_next = self.link.news_so_far().uid_next;
        let by_uid = uid_next
            .filter(|&next| next as usize > exists)
            .map_or(u32::MAX, |next| next.saturating_sub(low));
        listed.left(exists).min(by_uid)
    }

    /// The UIDs up to `last` that exist, ascending.
    pub async fn uids(&mut self, last: Uid) -> Result<Vec<Uid>, Error> {
        self.uids_of(&format!("1:{last}")).await
    }

    async fn uids_of(&mut self, set: &str) -> Result<Vec<Uid>, Error> {
        let mut uids = Vec::new();
        let commands = [format!("UID FETCH {set} (UID)")];
        let completions = self
            .flight(&commands, Expect::default(), |event| {
                if let Event::Fetch(Fetch { uid: Some(uid), .. }) = event {
                    uids.push(uid);
                }
            })
            .await?;
        require("UID FETCH", completions.first())?;
        uids.sort_unstable();
        uids.dedup();
        Ok(uids)
    }

    /// The UIDs without `\Seen`.
    pub async fn search_unseen(&mut self) -> Result<UidRanges, Error> {
        self.find("UNSEEN", |flags| !flags.seen).await
    }

    /// The UIDs that bear `\Deleted`.
    pub(super) async fn search_deleted(&mut self) -> Result<UidRanges, Error> {
        self.find("DELETED", |flags| flags.deleted).await
    }

    /// The UIDs that SEARCH finds by `key`. If SEARCH is refused or not answered, the UIDs of the messages whose flags
    /// `has` accepts.
    async fn find(&mut self, key: &str, has: impl Fn(Flags) -> bool) -> Result<UidRanges, Error> {
        if self.quirks.has_search() {
            match self.search(key).await {
                Err(Error::Refused { completion, .. }) if !completion.will_pass() => self.quirks.set_no_search(),
                Ok(None) => self.quirks.set_no_search(),
                found => return Ok(found?.unwrap_or_default()),
            }
        }
        let mut found = UidRanges::default();
        if self.exists() == 0 {
            return Ok(found);
        }
        self.find_by_flags(has, &mut found).await?;
        found.sort();
        Ok(found)
    }

    /// Adds to `found` the UIDs of the messages whose flags `has` accepts.
    async fn find_by_flags(&mut self, has: impl Fn(Flags) -> bool, found: &mut UidRanges) -> Result<(), Error> {
        let commands = [ALL_FLAGS.to_owned()];
        let completions = self
            .flight(&commands, Listed::expect(false), |event| match event {
                Event::Fetch(Fetch {
                    uid: Some(Uid(uid)),
                    flags: Some(flags),
                    ..
                }) if has(flags) => found.push(uid, uid),
                _ => {}
            })
            .await?;
        require("UID FETCH (FLAGS)", completions.first())
    }

    /// The UIDs that SEARCH finds by `key`; `None` if the server says OK and sends no valid answer. Some servers send no
    /// answer if nothing was found, but a message must not count as removed only because an answer is missing.
    async fn search(&mut self, key: &str) -> Result<Option<UidRanges>, Error> {
        let mut found = UidRanges::default();
        self.link.news().searched = false;
        let commands = [format!("UID SEARCH {key}")];
        let completions = self
            .flight(&commands, Expect::default(), |event| {
                if let Event::Found(low, high) = event {
                    found.push(low.0, high.0);
                }
            })
            .await?;
        require("UID SEARCH", completions.first())?;
        found.sort();
        Ok(Some(found).filter(|_| self.link.news().searched))
    }

    /// Whether a message exists.
    pub async fn holds(&mut self, uid: Uid) -> Result<bool, Error> {
        Ok(!self.existing(&[uid]).await?.is_empty())
    }

    /// The UIDs of `uids` (ascending) that exist.
    pub async fn existing(&mut self, uids: &[Uid]) -> Result<Vec<Uid>, Error> {
        let mut existing = Vec::new();
        for (set, these) in UidSet::parts(uids) {
            let searched = if self.quirks.has_search() {
                match self.search(&format!("UID {set}")).await {
                    Err(Error::Refused { .. }) => None,
                    searched => {
                        let searched = searched?;
                        if searched.is_none() {
                            self.quirks.set_no_search();
                        }
                        searched
                    }
                }
            } else {
                None
            };
            let found = match searched {
                Some(found) => found,
                None => {
                    let found = match self.uids_of(&set.to_string()).await {
                        // Some servers refuse to fetch anything if one of the messages is gone.
                        Err(Error::Refused { .. }) => self.uids(these[these.len() - 1]).await,
                        found => found,
                    };
                    found?.into_iter().collect()
                }
            };
            existing.extend(these.iter().filter(|&&uid| found.contains(uid)));
        }
        Ok(existing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imap::scene::{is, play};

    /// A server with the messages `uids`, which finds none that bears `\Deleted`.
    fn holding(uids: &[u32]) -> impl Fn(&str) -> String {
        move |command| {
            let set = command
                .strip_prefix("UID FETCH ")
                .and_then(|rest| rest.split(' ').next());
            let Some((low, high)) = set.and_then(|set| set.split_once(':')) else {
                return "* SEARCH\r\n{tag} OK\r\n".to_owned();
            };
            let (low, high): (u32, u32) = (low.parse().unwrap(), high.parse().unwrap_or(u32::MAX));
            let rows = uids.iter().filter(|uid| (low..=high).contains(*uid));
            let rows: String = rows
                .map(|uid| format!("* 1 FETCH (UID {uid} RFC822.SIZE 9)\r\n"))
                .collect();
            format!("{rows}{{tag}} OK\r\n")
        }
    }

    #[tokio::test]
    async fn a_portion_of_one_message_does_not_mean_a_command_for_each_uid() {
        let uids = [1, 5000, 9000];
        let (commands, listed) = play("", 3, holding(&uids), async |mailbox| {
            let mut listed = Listed::default();
            mailbox.list_in_portions(&mut listed, Uid(1), 1).await.map(|()| listed)
        })
        .await;
        assert_eq!(listed.unwrap().sizes, uids.map(|uid| (Uid(uid), 9)));
        assert!(commands.len() < 40, "{} commands", commands.len());
    }

    #[tokio::test]
    async fn messages_that_are_known_already_are_not_waited_for() {
        for (uid_next, most) in [(None, 40), (Some(3), 40), (Some(1002), 2)] {
            let (commands, listed) = play("", 5, holding(&[1001]), async |mailbox| {
                mailbox.link.news().uid_next = uid_next;
                let mut listed = Listed::default();
                mailbox
                    .list_in_portions(&mut listed, Uid(1001), 1)
                    .await
                    .map(|()| listed)
            })
            .await;
            assert_eq!(listed.unwrap().sizes, [(Uid(1001), 9)]);
            assert!(commands.len() <= most, "{uid_next:?}: {} commands", commands.len());
        }
    }

    #[tokio::test]
    async fn a_refusal_that_will_pass_does_not_mean_that_there_is_nothing() {
        for (refusal, is_nothing) in [
            ("BAD Invalid messageset", true),
            ("NO no matching messages", true),
            ("NO [UNAVAILABLE] later", false),
            (
                "BAD Request is throttled. Suggested Backoff Time: 9 milliseconds",
                false,
            ),
        ] {
            let holds_one = holding(&[1]);
            let answer = |command: &str| match command {
                command if is(command, &["UID FETCH 1:1 ", "UID SEARCH"]) => holds_one(command),
                _ => format!("{{tag}} {refusal}\r\n"),
            };
            let (_, listed) = play("", 2, answer, async |mailbox| {
                let at_once = mailbox.list(Uid(2), Wanted::default()).await.is_ok();
                let mut listed = Listed::default();
                let in_portions = mailbox.list_in_portions(&mut listed, Uid(1), 1).await.is_ok();
                let mut nothing_new = Listed::default();
                let from_known = mailbox.list_in_portions(&mut nothing_new, Uid(2), 1).await.is_ok();
                [at_once, in_portions, from_known]
            })
            .await;
            assert_eq!(listed, [is_nothing; 3], "{refusal}");
        }
    }

    /// Answers to SEARCH that say nothing of what was found.
    const NO_ANSWERS: [&str; 4] = [
        "",
        "* SEARCH one and two\r\n",
        "* ESEARCH UID ALL\r\n",
        "* ESEARCH UID ALL x,1\r\n",
    ];

    #[tokio::test]
    async fn what_a_search_without_a_valid_answer_does_not_name_is_not_gone() {
        for no_answer in NO_ANSWERS {
            let holds_two = holding(&[2]);
            let answer = |command: &str| match command {
                command if is(command, &["UID SEARCH"]) => format!("{no_answer}{{tag}} OK\r\n"),
                _ => holds_two(&command.replace("UID FETCH 2,5 ", "UID FETCH 2:5 ")),
            };
            let (commands, existing) = play("", 2, answer, async |mailbox| {
                let both = mailbox.existing(&[Uid(2), Uid(5)]).await.unwrap();
                (both, mailbox.holds(Uid(2)).await.unwrap_or(false))
            })
            .await;
            assert_eq!(existing.0, [Uid(2)], "{no_answer:?}");
            assert_eq!(
                commands[..2],
                ["UID SEARCH UID 2,5", "UID FETCH 2,5 (UID)"],
                "{no_answer:?}"
            );
            assert!(
                !commands[2].starts_with("UID SEARCH"),
                "{no_answer:?}: it is remembered"
            );
        }
    }

    #[tokio::test]
    async fn what_is_gone_is_found_out_although_the_server_refuses_to_fetch_it() {
        let holds_two = holding(&[2]);
        let answer = |command: &str| match command {
            command if is(command, &["UID FETCH 1:"]) => holds_two(command),
            _ => "{tag} NO some of these messages do not exist\r\n".to_owned(),
        };
        let (commands, existing) = play("", 3, answer, async |mailbox| mailbox.existing(&[Uid(2), Uid(5)]).await).await;
        assert_eq!(existing.unwrap(), [Uid(2)], "{commands:?}");
    }

    #[tokio::test]
    async fn a_search_without_a_valid_answer_is_replaced_by_flags() {
        for no_answer in NO_ANSWERS {
            let answer = |command: &str| match command {
                command if is(command, &["UID SEARCH"]) => format!("{no_answer}{{tag}} OK\r\n"),
                _ => "* 1 FETCH (UID 4 FLAGS (\\Deleted))\r\n{tag} OK\r\n".to_owned(),
            };
            let (_, marked) = play("", 2, answer, async |mailbox| mailbox.search_deleted().await).await;
            assert_eq!(marked.unwrap(), [Uid(4)].into_iter().collect(), "{no_answer:?}");
        }
    }

    fn row(uid: u32, size: Option<u32>) -> Fetch {
        let mut fetch = Fetch::default();
        (fetch.uid, fetch.size) = (Some(Uid(uid)), size);
        fetch
    }

    #[test]
    fn columns_are_sorted_together() {
        let mut listed = Listed::new(Wanted {
            arrived: true,
            email_id: true,
        });
        for uid in [9, 4, 2, 7, 4] {
            let mut fetch = row(uid, Some(uid * 10));
            fetch.arrived = (uid != 7).then_some(uid * 100);
            fetch.email_id = (uid != 9).then(|| uid.to_string().into());
            listed.take(Event::Fetch(fetch));
        }
        for uid in [7, 2, 7] {
            listed.take(Event::Found(Uid(uid), Uid(uid)));
        }
        listed.finish(Uid(3));
        assert_eq!(
            listed.sizes,
            [(Uid(4), 40), (Uid(7), 70), (Uid(9), 90)],
            "each once, none below 3"
        );
        assert_eq!(listed.arrived, [400, 0, 900]);
        assert_eq!(listed.email_ids, ["4", "7", ""].map(Box::<str>::from));
        assert_eq!(listed.deleted, [Uid(2), Uid(7)].into_iter().collect());
    }

    #[test]
    fn what_ascends_stays_as_it_is() {
        let mut listed = Listed::new(Wanted::default());
        listed.sizes = vec![(Uid(3), 30), (Uid(4), 40)];
        listed.finish(Uid(3));
        assert_eq!(listed.sizes, [(Uid(3), 30), (Uid(4), 40)]);
        assert_eq!(listed.resume_from(Uid(3)), Uid(5));
        // `9:*` if the last UID is 8.
        listed.finish(Uid(5));
        assert_eq!(listed.sizes, []);
        assert_eq!(listed.resume_from(Uid(3)), Uid(3));
    }

    #[test]
    fn a_row_without_size_is_missing_unless_another_has_it() {
        let mut listed = Listed::new(Wanted::default());
        let mut deleted = row(2, None);
        deleted.flags = Some(super::super::fetch::Flags {
            deleted: true,
            seen: false,
        });
        for fetch in [
            row(1, None),
            row(3, Some(30)),
            deleted,
            row(3, None),
            row(4, None),
            Fetch::default(),
        ] {
            listed.take(Event::Fetch(fetch));
        }
        listed.finish(Uid(2));
        assert_eq!(listed.sizes, [(Uid(3), 30)]);
        let sizeless: Vec<_> = listed.sizeless.iter().map(|&(uid, _)| uid).collect();
        assert_eq!(sizeless, [Uid(2), Uid(4)]);
        assert_eq!(listed.deleted, [Uid(2)].into_iter().collect());
    }

    #[test]
    fn an_email_id_beyond_its_limit_is_none() {
        let mut listed = Listed::new(Wanted {
            arrived: false,
            email_id: true,
        });
        for length in [255, 256] {
            let mut fetch = row(length, Some(1));
            fetch.email_id = Some("x".repeat(length as usize).into());
            listed.take(Event::Fetch(fetch));
        }
        let lengths: Vec<_> = listed.email_ids.iter().map(|id| id.len()).collect();
        assert_eq!(lengths, [255, 0]);
    }
}
