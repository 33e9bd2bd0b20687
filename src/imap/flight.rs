//! Commands in flight together, and what they list: UIDs, sizes, what is found.

use super::{
    Mailbox,
    error::Error,
    fetch::{self, Fetch, Step},
    response::{self, Completion, Line, Status},
    uid::Uid,
};

/// What a listing asks of each message besides UID and size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// INTERNALDATE
    pub arrived: bool,
    /// EMAILID (RFC 8474): only of a server with OBJECTID.
    pub email_id: bool,
}

/// What a listing told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Listed {
    wanted: Wanted,
    /// UID and RFC822.SIZE, ascending by UID.
    pub sizes: Vec<(Uid, u32)>,
    /// INTERNALDATE of each, in seconds since 1970; empty where it was not wanted.
    pub arrived: Vec<u32>,
    /// EMAILID of each, empty for one without; none where they were not wanted.
    pub email_ids: Vec<Box<str>>,
    /// UIDs that bear `\Deleted`, ascending.
    pub deleted: Vec<Uid>,
}

/// One datum of a listing or search.
pub(super) enum Datum {
    Fetch(Fetch),
    Found(Uid),
}

/// What lists the messages from a UID on.
pub(super) fn listing(from: Uid, wanted: Wanted) -> [String; 2] {
    let arrived = if wanted.arrived { " INTERNALDATE" } else { "" };
    let email_id = if wanted.email_id { " EMAILID" } else { "" };
    [
        format!("UID FETCH {from}:* (UID RFC822.SIZE{arrived}{email_id})"),
        "UID SEARCH DELETED".to_owned(),
    ]
}

pub(super) fn require(command: &'static str, completion: Option<Completion>) -> Result<(), Error> {
    match completion {
        Some(completion) if completion.is_ok() => Ok(()),
        Some(completion) => Err(Error::refused(command, completion)),
        None => Err(Error::Protocol("a completion is missing")),
    }
}

impl Listed {
    pub(super) fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            ..Self::default()
        }
    }

    pub(super) fn take(&mut self, datum: Datum) {
        match datum {
            // A FETCH without size is news about flags, unasked.
            Datum::Fetch(Fetch {
                uid: Some(uid),
                size: Some(size),
                arrived,
                email_id,
                ..
            }) => {
                self.sizes.push((Uid(uid), size));
                if self.wanted.arrived {
                    self.arrived.push(arrived.unwrap_or(0));
                }
                if self.wanted.email_id {
                    self.email_ids.push(email_id.unwrap_or_default());
                }
            }
            Datum::Fetch(_) => {}
            Datum::Found(uid) => self.deleted.push(uid),
        }
    }

    fn take_event(&mut self, event: Event<'_>) {
        if let Event::Datum(datum) = event {
            self.take(datum);
        }
    }

    /// Ascending, each once, none below `from`: `9:*` names the last message even where its UID is 8 (RFC 3501 §6.4.8).
    pub(super) fn settle(&mut self, from: Uid) {
        let ascends = self.sizes.is_sorted_by(|a, b| a.0 < b.0);
        if !ascends || self.sizes.first().is_some_and(|&(uid, _)| uid < from) {
            let mut order: Vec<usize> = (0..self.sizes.len()).filter(|&at| self.sizes[at].0 >= from).collect();
            order.sort_by_key(|&at| self.sizes[at].0);
            order.dedup_by_key(|at| self.sizes[*at].0);
            self.arrived = order.iter().filter_map(|&at| self.arrived.get(at).copied()).collect();
            self.email_ids = order.iter().filter_map(|&at| self.email_ids.get(at).cloned()).collect();
            self.sizes = order.iter().map(|&at| self.sizes[at]).collect();
        }
        self.deleted.sort_unstable();
        self.deleted.dedup();
    }
}

/// What a flight hands to its taker, as it comes.
pub(super) enum Event<'a> {
    Datum(Datum),
    /// The command of that index is complete; so many messages exist by now.
    Tagged {
        index: usize,
        status: &'a Status<'a>,
        exists: u32,
    },
}

impl Mailbox {
    /// UID, size and what is `wanted` of everything from UID `from` on, and the UIDs that bear `\Deleted`: one round trip.
    pub async fn list(&mut self, from: Uid, wanted: Wanted) -> Result<Listed, Error> {
        let mut listed = Listed::new(wanted);
        if self.exists() == 0 {
            return Ok(listed);
        }
        let completions = self
            .flight(&listing(from, wanted), |event| listed.take_event(event))
            .await?;
        let mut completions = completions.into_iter();
        require("UID FETCH", completions.next())?;
        require("UID SEARCH", completions.next())?;
        listed.settle(from);
        Ok(listed)
    }

    /// The UIDs that exist up to `last`, ascending.
    pub async fn uids(&mut self, last: Uid) -> Result<Vec<Uid>, Error> {
        let mut uids = Vec::new();
        let completions = self
            .flight(&[format!("UID FETCH 1:{last} (UID)")], |event| match event {
                Event::Datum(Datum::Fetch(Fetch { uid: Some(uid), .. })) => uids.push(Uid(uid)),
                Event::Datum(_) | Event::Tagged { .. } => {}
            })
            .await?;
        require("UID FETCH", completions.into_iter().next())?;
        uids.sort_unstable();
        uids.dedup();
        Ok(uids)
    }

    /// The UIDs without `\Seen`, ascending.
    pub async fn search_unseen(&mut self) -> Result<Vec<Uid>, Error> {
        self.find("UID SEARCH UNSEEN").await
    }

    /// The UIDs that bear `\Deleted`, ascending.
    pub(super) async fn search_deleted(&mut self) -> Result<Vec<Uid>, Error> {
        self.find("UID SEARCH DELETED").await
    }

    /// Whether a message exists.
    pub async fn holds(&mut self, uid: Uid) -> Result<bool, Error> {
        let found = self.find(&format!("UID SEARCH UID {uid}")).await?;
        Ok(found.contains(&uid))
    }

    async fn find(&mut self, command: &str) -> Result<Vec<Uid>, Error> {
        let mut found = Vec::new();
        let completions = self
            .flight(&[command], |event| {
                if let Event::Datum(Datum::Found(uid)) = event {
                    found.push(uid);
                }
            })
            .await?;
        require("UID SEARCH", completions.into_iter().next())?;
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// Sends `commands` in one piece and reads until the last is complete. Data and completions go to `take` as they come.
    pub(super) async fn flight(
        &mut self,
        commands: &[impl AsRef<str>],
        mut take: impl FnMut(Event<'_>),
    ) -> Result<Vec<Completion>, Error> {
        self.settle().await?;
        self.broken = true;
        let mut text = String::new();
        let mut tags = Vec::with_capacity(commands.len());
        for command in commands {
            let tag = self.next_tag();
            text.extend([&tag, " ", command.as_ref(), "\r\n"]);
            tags.push(tag);
        }
        let wire = &mut self.wire;
        wire.send(text.as_bytes()).await?;
        let mut completions: Vec<Completion> = Vec::with_capacity(tags.len());
        let mut in_search = false;
        while completions.len() < tags.len() {
            let Some(span) = wire.buffered_response()? else {
                // One SEARCH line names every message that is found: it is taken as it comes.
                let head = if in_search { Some(0) } else { search_head(wire.buffer()) };
                if let Some(head) = head
                    && let Some(end) = memchr::memrchr(b' ', &wire.buffer()[head..])
                {
                    found(&wire.buffer()[head..head + end], |uid| {
                        take(Event::Datum(Datum::Found(uid)))
                    });
                    wire.consume(head + end + 1);
                    in_search = true;
                }
                wire.fill().await?;
                continue;
            };
            let exists = wire.seen().exists;
            let line = &wire.buffer()[..span.line];
            if let Some(head) = if in_search { Some(0) } else { search_head(line) } {
                found(&line[head..], |uid| take(Event::Datum(Datum::Found(uid))));
                in_search = false;
                wire.consume(span.total);
                continue;
            }
            match Line::parse(line) {
                Line::Tagged(tag, status) => {
                    let index = completions.len();
                    if tags.get(index).is_some_and(|next| next.as_bytes() == tag) {
                        take(Event::Tagged {
                            index,
                            status: &status,
                            exists,
                        });
                        completions.push(status.to_completion());
                    }
                    wire.consume(span.total);
                }
                Line::Untagged(data) => match fetch::data(data) {
                    Some(segment) => {
                        let mut fetch = Fetch::default();
                        let step = fetch.parse(segment).map_err(|_| Error::Protocol("FETCH data"))?;
                        wire.consume(span.total);
                        if let Step::Literal(_, octets) = step {
                            wire.skip_literal(octets);
                        }
                        wire.seen().flags |= fetch.deleted.is_some();
                        take(Event::Datum(Datum::Fetch(fetch)));
                    }
                    None => wire.note(span)?,
                },
                Line::Continue | Line::Other => wire.consume(span.total),
            }
        }
        wire.rest();
        self.broken = false;
        Ok(completions)
    }
}

/// The length of `* SEARCH ` where a response starts with it.
fn search_head(response: &[u8]) -> Option<usize> {
    const HEAD: &[u8] = b"* SEARCH ";
    response
        .get(..HEAD.len())
        .is_some_and(|head| head.eq_ignore_ascii_case(HEAD))
        .then_some(HEAD.len())
}

fn found(numbers: &[u8], mut take: impl FnMut(Uid)) {
    let mut words = numbers.split(|&b| b == b' ').filter(|word| !word.is_empty());
    // `SEARCH 2 5 (MODSEQ 9)` (RFC 7162 §3.1.5): what follows the numbers is not one.
    while let Some(uid) = words.next().and_then(response::number) {
        take(Uid(uid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_sorted_together() {
        let mut listed = Listed::new(Wanted {
            arrived: true,
            email_id: true,
        });
        for uid in [9, 4, 2, 7, 4] {
            let mut fetch = Fetch::default();
            (fetch.uid, fetch.size) = (Some(uid), Some(uid * 10));
            fetch.arrived = (uid != 7).then_some(uid * 100);
            fetch.email_id = (uid != 9).then(|| uid.to_string().into());
            listed.take(Datum::Fetch(fetch));
        }
        for uid in [7, 2, 7] {
            listed.take(Datum::Found(Uid(uid)));
        }
        listed.settle(Uid(3));
        assert_eq!(
            listed.sizes,
            [(Uid(4), 40), (Uid(7), 70), (Uid(9), 90)],
            "each once, none below 3"
        );
        assert_eq!(listed.arrived, [400, 0, 900]);
        assert_eq!(listed.email_ids, ["4".into(), "7".into(), "".into()]);
        assert_eq!(listed.deleted, [Uid(2), Uid(7)]);
    }

    #[test]
    fn what_ascends_stays_as_it_is() {
        let mut listed = Listed::new(Wanted::default());
        listed.sizes = vec![(Uid(3), 30), (Uid(4), 40)];
        listed.settle(Uid(3));
        assert_eq!(listed.sizes, [(Uid(3), 30), (Uid(4), 40)]);
        // `9:*` where the last UID is 8.
        listed.settle(Uid(5));
        assert_eq!(listed.sizes, []);
    }
}
