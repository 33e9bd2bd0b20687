//! Read-ahead: asks the upstream for bodies before the device does, so that a device does not wait for a round trip at
//! each message.
//!
//! Bodies that the device does not want yet wait in the socket, not in our memory: TCP's window makes the server wait.
//! If the device wants another message, everything before that message must be read and thrown away. So the gateway
//! asks only for what the device is likely to fetch: as many messages as its last session fetched in a row, and beyond
//! these, a tenth of the octets that this session has fetched.

use std::collections::VecDeque;

use super::budget::BudgetShare;
use crate::{
    imap::{BodyStart, CommandId, Error, Item, Mailbox, Section, UidSet},
    types::Uid,
};

/// Beyond the expected run, the octets in flight are at most the delivered octets divided by this number.
const WASTE: u64 = 10;
/// At most this many unwanted octets are read and thrown away. If more are in flight, a new connection costs less.
const WORTH_READING: u64 = 1024 * 1024;

/// Plans and sends the fetches of a session, and counts what is in flight.
#[derive(Debug)]
pub(super) struct ReadAhead {
    limit: u64,
    /// What the device fetches of each message of the current run.
    item: Option<Item>,
    /// The commands in flight, in the order in which they were sent.
    in_flight: VecDeque<PendingFetch>,
    /// The octets of `in_flight`. They count in what all sessions together may read ahead.
    share: BudgetShare,
    /// The index of the first message that has not been asked for.
    next: usize,
    /// How many messages the device has fetched in a row so far.
    run: usize,
    /// The index of the message that would continue the run.
    next_in_run: Option<usize>,
    /// How many messages in a row this session is expected to fetch.
    expected: usize,
    /// The length of the session's first run, which the next session expects. `None` while that run goes on.
    first_run: Option<usize>,
    /// Whether the server has refused a set. From then on, messages are asked for one at a time.
    alone: bool,
    delivered: u64,
    wasted: u64,
    /// Whether the server, asked for header and text, has sent the text first. TOP cannot use that order.
    sends_text_first: bool,
}

/// How the answer to a request for a message begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FetchStart {
    /// The content begins. It has this many octets; `None` for NIL.
    Content(Option<u64>),
    /// The server refused to fetch a set. The message must be asked for again.
    Refused,
}

/// A fetch of one message or several.
#[derive(Debug)]
struct PendingFetch {
    id: CommandId,
    asked: usize,
    /// The messages whose content has not begun, with their octets.
    left: VecDeque<(Uid, u64)>,
}

impl ReadAhead {
    /// `limit`: how many octets may be in flight (`read_ahead_bytes`). `expected`: how many messages in a row the
    /// login's last session fetched. `share`: this session's part of what all sessions may read ahead.
    pub(super) fn new(limit: u64, expected: usize, share: BudgetShare) -> Self {
        Self {
            limit,
            item: None,
            in_flight: VecDeque::new(),
            share,
            next: 0,
            run: 0,
            next_in_run: None,
            expected,
            first_run: None,
            alone: false,
            delivered: 0,
            wasted: 0,
            sends_text_first: false,
        }
    }

    pub(super) fn sends_text_first(&self) -> bool {
        self.sends_text_first
    }

    /// Asks for one message alone, and reads on until its content begins. First ends everything that is in flight.
    pub(super) async fn begin_alone(
        &mut self,
        mailbox: &mut Mailbox,
        (uid, octets): (Uid, u64),
        item: Item,
    ) -> Result<FetchStart, Error> {
        self.stop(mailbox).await;
        let id = mailbox.fetch(&UidSet::from(uid), item).await?;
        self.note_command(id, &[(uid, octets)]);
        self.content(mailbox, uid, item).await
    }

    /// Asks for the message at `index` and for those that the device is expected to want next, unless they are in
    /// flight already, and reads on until its content begins. `candidates` gives index, UID and octets of the messages
    /// from an index on. It ends before the first message of which another item would be fetched.
    pub(super) async fn begin<I>(
        &mut self,
        mailbox: &mut Mailbox,
        index: usize,
        uid: Uid,
        item: Item,
        candidates: impl FnOnce(usize) -> I,
    ) -> Result<FetchStart, Error>
    where
        I: Iterator<Item = (usize, Uid, u64)>,
    {
        let asked = self.plan(index, uid, candidates);
        let mut rest = asked.as_slice();
        let uids: Vec<_> = asked.iter().map(|&(uid, _)| uid).collect();
        // Servers answer a set in ascending order. If the device reads in another order, several sets are needed.
        for set in uids.chunk_by(|a, b| a < b).flat_map(UidSet::cover) {
            let (command, after) = rest.split_at(set.count());
            let id = mailbox.fetch(&set, item).await?;
            self.note_command(id, command);
            rest = after;
        }
        self.content(mailbox, uid, item).await
    }

    /// Reads on until the content of `uid` begins. The message must have been asked for.
    async fn content(&mut self, mailbox: &mut Mailbox, uid: Uid, item: Item) -> Result<FetchStart, Error> {
        loop {
            match mailbox.next().await? {
                // A section that was not asked for.
                BodyStart::Content { section, .. } if !item.begins_with(section) => {}
                BodyStart::Content {
                    uid: of,
                    octets,
                    section,
                } => match self.begun(of) {
                    Some(begun) if begun == uid && section == Section::Text && matches!(item, Item::Top(_)) => {
                        self.sends_text_first = true;
                        return Err(Error::Protocol("BODY[TEXT] before BODY[HEADER]"));
                    }
                    // If the server sends the UID after the content, the UID is verified then.
                    Some(begun) if begun == uid => return Ok(FetchStart::Content(octets)),
                    _ => self.wasted += octets.unwrap_or(0),
                },
                BodyStart::End(_) => {}
                BodyStart::Done(id) => {
                    self.command_done(id);
                    if !self.is_in_flight(uid) {
                        return Err(Error::NoData("UID FETCH"));
                    }
                }
                // If the server cannot deliver one message of a set, the others of the set must not fail with it.
                BodyStart::Refused(id, error) => {
                    let was_set = self.command_refused(id);
                    if was_set {
                        return Ok(FetchStart::Refused);
                    }
                    if !self.is_in_flight(uid) {
                        return Err(error);
                    }
                }
                BodyStart::Idle => return Err(Error::NoData("UID FETCH")),
            }
        }
    }

    /// Ends all fetches in flight, because the device does not want them. If few octets are to come, reads them and
    /// throws them away; otherwise gives up the connection.
    pub(super) async fn stop(&mut self, mailbox: &mut Mailbox) {
        if mailbox.is_fetching() {
            if self.octets_in_flight() + mailbox.left() > WORTH_READING {
                mailbox.give_up();
            } else if let Err(error) = mailbox.drain().await {
                tracing::debug!(%error, "read-ahead ended");
            }
        }
        self.clear();
    }

    /// Notes that the device asks for `item` of the message at `index`. Returns whether this continues the run.
    pub(super) fn note_request(&mut self, index: usize, item: Item) -> bool {
        let continues_run = self.item == Some(item) && self.next_in_run.is_some_and(|next| next == index);
        if !continues_run {
            if self.run > 0 {
                self.first_run.get_or_insert(self.run);
                self.expected = 0;
            }
            self.run = 0;
            self.item = Some(item);
        }
        self.run += 1;
        self.next_in_run = Some(index + 1);
        continues_run
    }

    /// Whether the message is in flight: it was asked for and has not begun.
    pub(super) fn is_in_flight(&self, uid: Uid) -> bool {
        self.octets_in_flight_of(uid).is_some()
    }

    fn octets_in_flight_of(&self, uid: Uid) -> Option<u64> {
        self.left().find(|&(other, _)| other == uid).map(|(_, octets)| octets)
    }

    /// The messages that were asked for and have not begun, in the order in which they were asked for.
    fn left(&self) -> impl Iterator<Item = (Uid, u64)> {
        self.in_flight.iter().flat_map(|command| &command.left).copied()
    }

    fn octets_in_flight(&self) -> u64 {
        self.share.in_flight()
    }

    /// The messages to ask for next, with their octets: from `index` on if that message is not in flight, else from
    /// where the last command ended. Empty if enough is in flight. `candidates`: see [`ReadAhead::begin`].
    fn plan<I>(&mut self, index: usize, uid: Uid, candidates: impl FnOnce(usize) -> I) -> Vec<(Uid, u64)>
    where
        I: Iterator<Item = (usize, Uid, u64)>,
    {
        let on_its_way = self.octets_in_flight_of(uid);
        let wanted = on_its_way.is_none();
        // The message that is wanted now does not count as read ahead.
        let mut ahead = self.octets_in_flight() - on_its_way.unwrap_or(0);
        let limit = self.limit.min(ahead.saturating_add(self.share.left()));
        let sure_until = index + self.expected.saturating_sub(self.run) + 1;
        let spare = self.delivered / WASTE;
        let window = if self.next < sure_until {
            limit
        } else {
            limit.min(spare)
        };
        // Few large commands are better than one for each message.
        if !wanted && (self.alone || ahead > window / 2) {
            return Vec::new();
        }
        // Messages beyond the expected run are asked for only once the device itself has gone beyond it.
        let spare = if self.run > self.expected { spare } else { 0 };
        let mut asked = Vec::new();
        for (at, uid, octets) in candidates(if wanted { index } else { self.next }) {
            let first = wanted && asked.is_empty();
            let affordable = at < sure_until || ahead + octets <= spare;
            if !first && (self.alone || ahead >= limit || !affordable) {
                break;
            }
            asked.push((uid, octets));
            ahead += if first { 0 } else { octets };
            self.next = at + 1;
        }
        asked
    }

    fn note_command(&mut self, id: CommandId, asked: &[(Uid, u64)]) {
        self.share.add(asked.iter().map(|&(_, octets)| octets).sum());
        self.in_flight.push_back(PendingFetch {
            id,
            asked: asked.len(),
            left: asked.iter().copied().collect(),
        });
    }

    /// Notes that the content of `uid` begins, so the message is not in flight any more. If the server has not sent the
    /// UID, takes the next message in flight. Returns the UID if it was asked for.
    fn begun(&mut self, uid: Option<Uid>) -> Option<Uid> {
        let uid = uid.or_else(|| self.left().next().map(|(uid, _)| uid))?;
        for PendingFetch { left, .. } in &mut self.in_flight {
            if let Some(at) = left.iter().position(|&(other, _)| other == uid) {
                let (uid, octets) = left.remove(at)?;
                self.share.subtract(octets);
                return Some(uid);
            }
        }
        None
    }

    /// Notes that a command is complete: messages that it has not delivered will not come. Returns how many messages it
    /// asked for.
    fn command_done(&mut self, id: CommandId) -> usize {
        let at = self.in_flight.iter().position(|command| command.id == id);
        let Some(PendingFetch { asked, left, .. }) = at.and_then(|at| self.in_flight.remove(at)) else {
            return 0;
        };
        self.share.subtract(left.iter().map(|&(_, octets)| octets).sum());
        asked
    }

    /// Notes that a command was refused. Returns whether it asked for several messages: then it may help to ask for
    /// them one by one, which is done for the rest of the session.
    fn command_refused(&mut self, id: CommandId) -> bool {
        let was_set = self.command_done(id) > 1;
        self.alone |= was_set;
        was_set
    }

    /// Notes that nothing is in flight any more. What was in flight counts as wasted.
    pub(super) fn clear(&mut self) {
        self.wasted += self.octets_in_flight();
        self.in_flight.clear();
        self.share.subtract(self.octets_in_flight());
    }

    pub(super) fn note_delivered(&mut self, octets: u64) {
        self.delivered += octets;
    }

    /// How many octets were fetched and not sent to the device. Octets in flight count too.
    pub(super) fn wasted(&self) -> u64 {
        self.wasted + self.octets_in_flight()
    }

    /// The length of this session's first run; 0 if it fetched nothing.
    pub(super) fn first_run(&self) -> usize {
        self.first_run.unwrap_or(self.run)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::budget::Budget, *};
    use crate::imap::scene::play;

    const OCTETS: u64 = 1000;

    fn ahead(limit: u64, expected: usize) -> ReadAhead {
        ReadAhead::new(limit, expected, Budget::new(limit).share())
    }

    /// Messages of 1000 octets. The UID of each is its index plus one.
    fn candidates(count: usize) -> impl Fn(usize) -> Vec<(usize, Uid, u64)> {
        move |from| (from..count).map(|at| (at, uid(at), OCTETS)).collect()
    }

    fn uid(index: usize) -> Uid {
        Uid(u32::try_from(index).unwrap() + 1)
    }

    /// A RETR that is delivered whole. Returns how many messages were asked for because of it.
    fn retrieve(ahead: &mut ReadAhead, index: usize, count: usize) -> usize {
        ahead.note_request(index, Item::Whole);
        let asked = ahead.plan(index, uid(index), |from| candidates(count)(from).into_iter());
        if !asked.is_empty() {
            ahead.note_command(CommandId(index as u32), &asked);
        }
        loop {
            let Some(next) = ahead.begun(None) else {
                panic!("{index} was not asked for")
            };
            if next == uid(index) {
                break;
            }
            ahead.wasted += OCTETS;
        }
        ahead.note_delivered(OCTETS);
        asked.len()
    }

    #[test]
    fn without_experience_a_tenth_is_risked() {
        let mut ahead = ahead(1 << 20, 0);
        let mut delivered = 0;
        for index in 0..500 {
            retrieve(&mut ahead, index, 1000);
            delivered += OCTETS;
            assert!(ahead.octets_in_flight() <= delivered / WASTE, "{index}");
        }
        assert!(ahead.octets_in_flight() > 0, "it reads ahead");
        ahead.clear();
        assert!(ahead.wasted() * WASTE <= delivered);
        assert_eq!(ahead.first_run(), 500);
    }

    #[test]
    fn an_expected_run_is_asked_for_at_once() {
        let mut ahead = ahead(1 << 20, 300);
        assert_eq!(retrieve(&mut ahead, 0, 1000), 300);
        for index in 1..300 {
            retrieve(&mut ahead, index, 1000);
        }
        assert!(ahead.wasted() * WASTE <= 300 * OCTETS);
    }

    #[test]
    fn no_more_than_the_limit_and_one_message_is_on_its_way() {
        let mut ahead = ahead(10 * OCTETS, 300);
        for index in 0..300 {
            retrieve(&mut ahead, index, 1000);
            assert!(ahead.octets_in_flight() <= 10 * OCTETS);
        }
    }

    #[test]
    fn of_messages_beyond_the_limit_one_is_on_its_way() {
        let mut ahead = ahead(OCTETS / 2, 4);
        assert_eq!(retrieve(&mut ahead, 0, 4), 2);
        assert_eq!(ahead.octets_in_flight(), OCTETS);
        assert_eq!(retrieve(&mut ahead, 1, 4), 1);
        assert_eq!(retrieve(&mut ahead, 2, 4), 1);
        assert_eq!(retrieve(&mut ahead, 3, 4), 0);
    }

    #[test]
    fn what_others_have_on_their_way_is_not_asked_for_twice() {
        let budget = Budget::new(OCTETS);
        let session = || ReadAhead::new(100 * OCTETS, 300, budget.share());
        let mut first = session();
        assert_eq!(retrieve(&mut first, 0, 1000), 64 + 1);
        let mut second = session();
        for index in 0..3 {
            assert_eq!(
                retrieve(&mut second, index, 1000),
                1,
                "what is wanted comes all the same"
            );
        }
        drop(first);
        assert_eq!(retrieve(&mut second, 3, 1000), 64 + 1);
    }

    #[test]
    fn a_jump_ends_the_run_and_its_expectation() {
        let mut ahead = ahead(1 << 20, 20);
        for index in 0..5 {
            retrieve(&mut ahead, index, 1000);
        }
        assert!(!ahead.is_in_flight(uid(700)));
        ahead.clear();
        assert_eq!(ahead.wasted(), 15 * OCTETS);
        assert_eq!(retrieve(&mut ahead, 700, 1000), 1, "nothing is sure any more");
        assert_eq!(ahead.first_run(), 5);
    }

    #[test]
    fn what_a_command_did_not_deliver_is_not_in_flight() {
        let mut ahead = ahead(1 << 20, 3);
        ahead.note_request(0, Item::Whole);
        let asked = ahead.plan(0, uid(0), |from| candidates(10)(from).into_iter());
        assert_eq!(asked.len(), 3);
        ahead.note_command(CommandId(7), &asked);
        assert_eq!(ahead.begun(Some(uid(1))), Some(uid(1)), "out of order");
        assert_eq!(ahead.begun(Some(uid(7))), None, "unasked");
        assert_eq!(ahead.command_done(CommandId(8)), 0, "another command");
        assert!(ahead.command_refused(CommandId(7)));
        assert_eq!(ahead.octets_in_flight(), 0);
        assert!(!ahead.is_in_flight(uid(0)));
        let asked = ahead.plan(0, uid(0), |from| candidates(10)(from).into_iter());
        assert_eq!(asked, [(uid(0), OCTETS)], "a set was refused");
        ahead.note_command(CommandId(8), &asked);
        assert!(!ahead.command_refused(CommandId(8)), "there is nothing to take apart");
        let asked = ahead.plan(0, uid(0), |from| candidates(10)(from).into_iter());
        assert_eq!(asked, [(uid(0), OCTETS)], "for the rest of the session");
    }

    /// Asks a server that answers by `answer` for three messages in a row. Returns the commands, and how the first
    /// message began.
    async fn begin(answer: impl FnMut(&str) -> String, alone: bool) -> (Vec<String>, Result<FetchStart, Error>) {
        play("IMAP4rev1", 3, answer, async |mailbox| {
            let mut ahead = ahead(1 << 20, 3);
            ahead.note_request(0, Item::Whole);
            if alone {
                ahead.begin_alone(mailbox, (uid(0), OCTETS), Item::Whole).await
            } else {
                let candidates = |from| candidates(3)(from).into_iter();
                ahead.begin(mailbox, 0, uid(0), Item::Whole, candidates).await
            }
        })
        .await
    }

    #[tokio::test]
    async fn a_run_is_asked_for_at_once_and_a_suspect_alone() {
        let answer = |_: &str| "* 1 FETCH (UID 1 BODY[] {5}\r\nfirst)\r\n{tag} OK\r\n".to_owned();
        let (commands, begun) = begin(answer, false).await;
        assert_eq!(begun.unwrap(), FetchStart::Content(Some(5)));
        assert_eq!(commands, ["UID FETCH 1:3 (UID BODY.PEEK[])"]);
        let (commands, begun) = begin(answer, true).await;
        assert_eq!(begun.unwrap(), FetchStart::Content(Some(5)));
        assert_eq!(commands, ["UID FETCH 1 (UID BODY.PEEK[])"]);
    }

    #[tokio::test]
    async fn a_refused_set_is_told_apart_from_a_refused_message() {
        let no = |_: &str| "{tag} NO not that\r\n".to_owned();
        let (_, begun) = begin(no, false).await;
        assert_eq!(begun.unwrap(), FetchStart::Refused);
        let (_, begun) = begin(no, true).await;
        assert!(matches!(begun, Err(Error::Refused { .. })), "{begun:?}");
        let without = |_: &str| "{tag} OK\r\n".to_owned();
        let (_, begun) = begin(without, false).await;
        assert!(matches!(begun, Err(Error::NoData(_))), "{begun:?}");
    }
}
