//! RETR and TOP: a message on its way from the upstream to the device.

use super::{Error, Maildrop, MessageNumber, Octets, ahead, open::report, top::LineLimit};
use crate::imap::{self, BodyStart, Item, Uid, UidSet};

/// What a line of mail may measure, for a guess at how much of a text TOP needs.
const LINE_OCTETS: u64 = 80;
/// The least of a text that is asked for: fewer octets would not make the answer faster.
const LEAST_TEXT: u64 = 2048;

/// A message on its way, as the upstream sends it (line ends as they come, no dot-stuffing).
#[derive(Debug)]
pub struct Body<'a> {
    maildrop: &'a mut Maildrop,
    uid: Uid,
    listed: Octets,
    octets: Option<Octets>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// A whole message for RETR.
    Whole,
    /// A whole message, of which TOP shows a part.
    Cut(LineLimit),
    /// The header; then so many lines of a text, of which so many octets were asked for.
    Header { lines: u64, asked: u32 },
    /// The text, from `origin`, of which up to `asked` octets were asked for.
    Text {
        limit: LineLimit,
        origin: u64,
        asked: u32,
        sent: u64,
    },
    /// Nothing more.
    Done,
}

/// What is fetched for `lines` lines of a message of so many octets: only for many lines the whole of it.
fn item_for(lines: u64, octets: u64) -> Item {
    let text = lines.saturating_mul(LINE_OCTETS).max(LEAST_TEXT);
    match u32::try_from(text) {
        _ if lines == 0 => Item::Header,
        Ok(asked) if text < octets => Item::Top(asked),
        _ => Item::Whole,
    }
}

impl Maildrop {
    /// RETR: returns once the upstream's literal has begun; every error before that is a clean `-ERR`.
    pub async fn retrieve(&mut self, number: MessageNumber) -> Result<Body<'_>, Error> {
        let (uid, listed) = self.listing.get(number)?;
        let octets = self.begin(number, Item::Whole, |_| Item::Whole).await?;
        Ok(Body {
            maildrop: self,
            uid,
            listed,
            octets: Some(octets),
            stage: Stage::Whole,
        })
    }

    /// TOP: the header, the empty line and `lines` lines of the body. Never sets `\Seen`.
    pub async fn top(&mut self, number: MessageNumber, lines: u64) -> Result<Body<'_>, Error> {
        let (uid, listed) = self.listing.get(number)?;
        let item = item_for(lines, listed.0);
        let stage = match item {
            Item::Header => Stage::Header { lines, asked: 0 },
            Item::Top(asked) => Stage::Header { lines, asked },
            Item::Whole | Item::Text { .. } => Stage::Cut(LineLimit::message(lines)),
        };
        self.begin(number, item, |octets| item_for(lines, octets)).await?;
        Ok(Body {
            maildrop: self,
            uid,
            listed,
            octets: None,
            stage,
        })
    }

    /// Asks for `item` of a message, if that is not on its way already, and waits until its content begins. A connection
    /// that was lost while the device was silent is replaced once, without a word. `item_of` tells what the device
    /// would fetch of a message of so many octets, for reading ahead.
    async fn begin(
        &mut self,
        number: MessageNumber,
        item: Item,
        item_of: impl Fn(u64) -> Item,
    ) -> Result<Octets, Error> {
        let (uid, listed) = self.listing.get(number)?;
        let in_row = self.ahead.note_request(number.index(), item);
        if !in_row || !self.ahead.is_due(uid) {
            self.stop_ahead().await;
        }
        loop {
            let is_new = self.reconnect_if_lost().await?;
            match self.reach(number.index(), uid, item, &item_of).await {
                Ok(Some(octets)) => return Ok(Octets(octets)),
                Ok(None) if listed == Octets(0) => return Ok(Octets(0)),
                Ok(None) => return Err(report(&self.account, &imap::Error::NoData("UID FETCH"))),
                Err(error) if error.is_lost() && !is_new => {}
                // One message that the server can't deliver must not cost those that were asked for with it.
                Err(imap::Error::Refused { .. }) if self.ahead.command_refused() || self.ahead.is_due(uid) => {}
                Err(error) => return Err(report(&self.account, &error)),
            }
        }
    }

    /// Reads on until the content of `uid` begins. The octets of the content; `None` for NIL.
    async fn reach(
        &mut self,
        index: usize,
        uid: Uid,
        item: Item,
        item_of: impl Fn(u64) -> Item,
    ) -> Result<Option<u64>, imap::Error> {
        let Self {
            ahead,
            listing,
            mailbox,
            ..
        } = self;
        let asked = ahead.plan(index, uid, |from| {
            listing
                .following(from)
                .take_while(|&(_, _, octets)| item_of(octets) == item)
        });
        let mut rest = asked.as_slice();
        for set in UidSet::cover(&asked.iter().map(|&(uid, _)| uid).collect::<Vec<_>>()) {
            let (command, after) = rest.split_at(set.count());
            ahead.note_command(command);
            mailbox.fetch(&set, item).await?;
            rest = after;
        }
        loop {
            match mailbox.next().await? {
                BodyStart::Content {
                    uid: of,
                    octets,
                    is_text,
                } => match ahead.begun(of) {
                    Some(begun) if begun == uid && is_text => {
                        return Err(imap::Error::Protocol("BODY[TEXT] before BODY[HEADER]"));
                    }
                    // Where the server tells the UID last, it is compared then.
                    Some(begun) if begun == uid => return Ok(octets),
                    _ => ahead.note_wasted(octets.unwrap_or(0)),
                },
                BodyStart::End(_) => {}
                BodyStart::Done => {
                    ahead.command_done();
                    if !ahead.is_due(uid) {
                        return Err(imap::Error::NoData("UID FETCH"));
                    }
                }
            }
        }
    }

    /// What is on its way is not wanted: little is read and thrown away, for much the connection is given up.
    pub(super) async fn stop_ahead(&mut self) {
        if self.mailbox.is_fetching() {
            if self.ahead.due_octets() + self.mailbox.left() > ahead::WORTH_READING {
                self.mailbox.give_up();
            } else if let Err(error) = self.mailbox.settle().await {
                tracing::debug!(%error, "read-ahead ended");
            }
        }
        self.ahead.clear();
    }
}

impl Body<'_> {
    /// The size that RETR's `+OK` tells: the literal's own. `None` for TOP.
    pub fn octets(&self) -> Option<Octets> {
        self.octets
    }

    /// The next piece, never empty; `None` when the message is whole. An error means that it is not:
    /// the connection must be closed without the terminating dot.
    pub async fn chunk(&mut self) -> Result<Option<&[u8]>, Error> {
        match self.advance().await {
            Ok(0) => Ok(None),
            Ok(count) => {
                self.maildrop.ahead.note_delivered(count as u64);
                Ok(Some(self.maildrop.mailbox.take(count)))
            }
            Err(error) => Err(report(&self.maildrop.account, &error)),
        }
    }

    /// How many of the octets that are here go to the device next; 0 at the end.
    async fn advance(&mut self) -> Result<usize, imap::Error> {
        loop {
            let mailbox = &mut self.maildrop.mailbox;
            let ready = match self.stage {
                Stage::Done => return Ok(0),
                _ => mailbox.ready().await?,
            };
            let here = mailbox.peek();
            match &mut self.stage {
                Stage::Whole | Stage::Header { .. } if ready => return Ok(here.len()),
                Stage::Cut(limit) if ready => match limit.pass(here) {
                    0 => self.stage = Stage::Done,
                    count => return Ok(count),
                },
                Stage::Text { limit, sent, .. } if ready => match limit.pass(here) {
                    0 => self.stage = Stage::Done,
                    count => {
                        *sent += count as u64;
                        return Ok(count);
                    }
                },
                Stage::Done => return Ok(0),
                Stage::Whole => {
                    self.confirm().await?;
                    self.maildrop
                        .note_retrieved(self.uid, self.listed, self.octets.unwrap_or(self.listed));
                    self.stage = Stage::Done;
                }
                Stage::Cut(_) | Stage::Header { lines: 0, .. } => {
                    self.confirm().await?;
                    self.stage = Stage::Done;
                }
                Stage::Header { lines, asked } => {
                    let (limit, asked) = (LineLimit::text(*lines), *asked);
                    self.expect_text().await?;
                    self.stage = Stage::Text {
                        limit,
                        origin: 0,
                        asked,
                        sent: 0,
                    };
                }
                // A server that ignores the partial sends more; one that sends less has no more.
                Stage::Text { limit, asked, sent, .. } if *sent != u64::from(*asked) || limit.is_reached() => {
                    self.stage = Stage::Done;
                }
                Stage::Text {
                    origin, asked, sent, ..
                } => {
                    *origin += *sent;
                    *sent = 0;
                    *asked = asked.saturating_mul(2);
                    let (origin, asked) = (*origin, *asked);
                    self.more_text(origin, asked).await?;
                }
            }
        }
    }

    /// The message is whole, but is it the one that was asked for? Only where the server has not told before.
    async fn confirm(&mut self) -> Result<(), imap::Error> {
        match self.maildrop.mailbox.next().await? {
            BodyStart::End(Some(uid)) if uid == self.uid => Ok(()),
            _ => Err(imap::Error::Protocol("FETCH data without its UID")),
        }
    }

    async fn expect_text(&mut self) -> Result<(), imap::Error> {
        match self.maildrop.mailbox.next().await? {
            BodyStart::Content { is_text: true, .. } => Ok(()),
            _ => Err(imap::Error::NoData("UID FETCH (BODY[TEXT])")),
        }
    }

    /// A further part of the text, by a command of its own.
    async fn more_text(&mut self, origin: u64, asked: u32) -> Result<(), imap::Error> {
        self.maildrop.stop_ahead().await;
        let mailbox = &mut self.maildrop.mailbox;
        mailbox
            .fetch(&UidSet::from(self.uid), Item::Text { origin, octets: asked })
            .await?;
        loop {
            match mailbox.next().await? {
                // More than was asked for would be the text from its start.
                BodyStart::Content {
                    uid,
                    octets: Some(octets),
                    ..
                } if uid.is_none_or(|uid| uid == self.uid) && octets <= u64::from(asked) => {
                    return Ok(());
                }
                BodyStart::Done => return Err(imap::Error::NoData("UID FETCH (BODY[TEXT])")),
                BodyStart::Content { .. } | BodyStart::End(_) => {}
            }
        }
    }
}
