//! RETR and TOP: a message on its way from the upstream to the device.

use std::sync::Arc;

use tracing::Instrument;

use super::{
    Error, Maildrop, MessageNumber, Octets,
    folder::{HeldFolder, NotBegun},
    listing::{LocatedRow, Row, Shows},
    own_mail::OwnMail,
    top::LineLimit,
};
use crate::imap::{self, BodyStart, Item, Section, UidSet};

/// The assumed length of a line of mail, in octets, for an estimate of how much text TOP needs.
const LINE_OCTETS: u64 = 80;
/// The smallest part of a text to ask for, in octets: a smaller one would not come faster.
const LEAST_TEXT: u64 = 2048;

/// A message on its way to the device. Its line ends are as the upstream sends them, and nothing is dot-stuffed.
#[derive(Debug)]
pub struct Body<'a>(BodySource<'a>);

#[derive(Debug)]
enum BodySource<'a> {
    Upstream(UpstreamBody<'a>),
    Notice(NoticeBody<'a>),
}

/// A notice in a message's place, or the gateway's own mail.
#[derive(Debug)]
struct NoticeBody<'a> {
    /// Set if it is the gateway's own mail.
    own: Option<&'a mut OwnMail>,
    text: Arc<[u8]>,
    /// How many octets of `text` the device gets.
    octets: usize,
    /// Whether the `+OK` line contains the size: for RETR, not for TOP.
    is_announced: bool,
    is_given_out: bool,
}

/// A message as the upstream sends it.
#[derive(Debug)]
struct UpstreamBody<'a> {
    folder: &'a mut HeldFolder,
    row: Row,
    /// The size of the literal; `None` for TOP.
    octets: Option<Octets>,
    stage: Stage,
    /// Whether all of the message has gone to the device.
    is_whole: bool,
}

#[derive(Debug)]
enum Stage {
    /// A whole message for RETR.
    Whole,
    /// A whole message, of which TOP shows a part.
    Cut(LineLimit),
    /// The header. `lines` lines of the text follow, of which `asked` octets were asked for.
    Header { lines: u64, asked: u32 },
    /// The text from the octet `origin` on. Up to `asked` octets of it were asked for, and `sent` of them have gone to
    /// the device.
    Text {
        limit: LineLimit,
        origin: u64,
        asked: u32,
        sent: u64,
    },
    /// Nothing follows.
    Done,
}

/// What to fetch for a TOP of `lines` lines, if the message has `octets`. This is the whole message only if the
/// estimated text is as large as the message.
fn item_for(lines: u64, octets: u64) -> Item {
    let text = lines.saturating_mul(LINE_OCTETS).max(LEAST_TEXT);
    match u32::try_from(text) {
        _ if lines == 0 => Item::Header,
        Ok(asked) if text < octets => Item::Top(asked),
        _ => Item::Whole,
    }
}

impl Maildrop {
    /// RETR: returns once the upstream's literal has begun. The device gets a `-ERR` for every error before that.
    pub async fn retrieve(&mut self, number: MessageNumber) -> Result<Body<'_>, Error> {
        let span = self.span.clone();
        self.begin_retrieval(number).instrument(span).await
    }

    async fn begin_retrieval(&mut self, number: MessageNumber) -> Result<Body<'_>, Error> {
        let LocatedRow { row, position } = self.listing.find(number)?;
        if self.notice(row).is_none() {
            let folder = &mut self.folders[usize::from(row.folder)];
            let begun = folder.begin(&self.listing, LocatedRow { row, position }, Item::Whole, |_| {
                Item::Whole
            });
            match begun.await {
                Ok(octets) => {
                    return Ok(Body(BodySource::Upstream(UpstreamBody {
                        folder: &mut self.folders[usize::from(row.folder)],
                        row,
                        octets: Some(octets),
                        stage: Stage::Whole,
                        is_whole: false,
                    })));
                }
                Err(failure) => self.replace_by_notice(row, failure).await?,
            }
        }
        Ok(self.body_of_notice(row, None))
    }

    /// TOP: the header, the empty line and `lines` lines of the body. Does not set `\Seen`, unless it shows the whole
    /// message.
    pub async fn top(&mut self, number: MessageNumber, lines: u64) -> Result<Body<'_>, Error> {
        let span = self.span.clone();
        self.begin_part(number, lines).instrument(span).await
    }

    async fn begin_part(&mut self, number: MessageNumber, lines: u64) -> Result<Body<'_>, Error> {
        let found = self.listing.find(number)?;
        let row = found.row;
        if self.notice(row).is_none() {
            match self.begin_top(found, lines).await {
                Ok(stage) => {
                    return Ok(Body(BodySource::Upstream(UpstreamBody {
                        folder: &mut self.folders[usize::from(row.folder)],
                        row,
                        octets: None,
                        stage,
                        is_whole: false,
                    })));
                }
                Err(failure) => self.replace_by_notice(row, failure).await?,
            }
        }
        Ok(self.body_of_notice(row, Some(lines)))
    }

    /// Puts a notice in the place of a message that was not delivered if it has failed often enough. Otherwise returns
    /// the failure's error.
    async fn replace_by_notice(&mut self, row: Row, failure: NotBegun) -> Result<(), Error> {
        let folder = &mut self.folders[usize::from(row.folder)];
        // Boxed: hardly any session needs this future, and an idle session should not hold memory for it.
        let notice = Box::pin(folder.notice_after(row, failure)).await?;
        self.notice_texts.insert((row.folder, row.uid), notice);
        Ok(())
    }

    /// The text of `row`, which the gateway wrote: whole for RETR, or with `lines` lines of its body for TOP.
    fn body_of_notice(&mut self, row: Row, lines: Option<u64>) -> Body<'_> {
        let text = self.notice(row).unwrap_or_default();
        let octets = lines.map_or(text.len(), |lines| LineLimit::message(lines).pass(&text));
        Body(BodySource::Notice(NoticeBody {
            own: self.own.as_deref_mut().filter(|_| row.shows == Shows::OwnMail),
            text,
            octets,
            is_announced: lines.is_none(),
            is_given_out: false,
        }))
    }

    async fn begin_top(&mut self, found: LocatedRow, lines: u64) -> Result<Stage, NotBegun> {
        let folder = &mut self.folders[usize::from(found.row.folder)];
        // If this server sends the text before the header, the whole message is fetched instead of the two parts.
        let in_parts = !folder.sends_text_first();
        let item_of = |octets| match item_for(lines, octets) {
            Item::Top(_) if !in_parts => Item::Whole,
            item => item,
        };
        let mut item = item_of(found.row.octets.into());
        let mut begun = folder.begin(&self.listing, found, item, item_of).await;
        let is_other_for_whole = match &begun {
            Ok(_) => false,
            // Perhaps the server can send the whole message, but not its parts.
            Err(failure) if failure.is_undelivered() && item != Item::Whole => true,
            Err(_) => in_parts && folder.sends_text_first(),
        };
        if is_other_for_whole {
            folder.stop_ahead().await;
            item = Item::Whole;
            begun = folder.begin(&self.listing, found, item, |_| Item::Whole).await;
        }
        begun?;
        Ok(match item {
            Item::Header => Stage::Header { lines, asked: 0 },
            Item::Top(asked) => Stage::Header { lines, asked },
            Item::Whole | Item::Text { .. } => Stage::Cut(LineLimit::message(lines)),
        })
    }
}

impl Body<'_> {
    /// The size for RETR's `+OK`: that of the literal. `None` for TOP.
    pub fn octets(&self) -> Option<Octets> {
        match &self.0 {
            BodySource::Upstream(body) => body.octets,
            BodySource::Notice(notice) => notice.is_announced.then_some(Octets(notice.octets as u64)),
        }
    }

    /// The next piece, never empty; `None` at the end. After an error the message is not whole: the device's connection
    /// must be closed without the terminating dot.
    pub async fn chunk(&mut self) -> Result<Option<&[u8]>, Error> {
        match &mut self.0 {
            BodySource::Upstream(body) => body.chunk().await,
            BodySource::Notice(notice) => {
                let is_new = !std::mem::replace(&mut notice.is_given_out, true);
                Ok((is_new && notice.octets > 0).then_some(&notice.text[..notice.octets]))
            }
        }
    }

    /// Notes that the body was sent to the device. If it was the whole message, the message counts as retrieved.
    /// `octets`: the size that was sent, which the next sessions list (RFC 1939 §11); `None` if folding has changed it.
    pub fn delivered(self, octets: Option<Octets>) {
        match self.0 {
            BodySource::Upstream(body) if body.is_whole => {
                body.folder.note_delivered(body.row.uid, octets);
            }
            BodySource::Notice(NoticeBody {
                own: Some(own),
                text,
                octets,
                ..
            }) if octets == text.len() => own.note_delivered(),
            BodySource::Upstream(_) | BodySource::Notice(_) => {}
        }
    }
}

impl UpstreamBody<'_> {
    async fn chunk(&mut self) -> Result<Option<&[u8]>, Error> {
        match self.advance().await {
            Ok(0) => Ok(None),
            Ok(count) => Ok(Some(self.folder.take(count))),
            Err(error) => Err(self.folder.note_broken_off(self.row.uid, error)),
        }
    }

    /// Reads on. Returns how many of the received octets go to the device next; 0 at the end.
    async fn advance(&mut self) -> Result<usize, imap::Error> {
        loop {
            let mailbox = self.folder.mailbox();
            let ready = match self.stage {
                Stage::Done => return Ok(0),
                _ => mailbox.ready().await?,
            };
            let here = mailbox.peek();
            match &mut self.stage {
                Stage::Whole | Stage::Header { .. } if ready => return Ok(here.len()),
                Stage::Cut(limit) if ready => match limit.pass(here) {
                    0 => self.end_early().await?,
                    count => return Ok(count),
                },
                Stage::Text { limit, sent, .. } if ready => match limit.pass(here) {
                    0 => self.end_early().await?,
                    count => {
                        *sent += count as u64;
                        return Ok(count);
                    }
                },
                Stage::Done => return Ok(0),
                Stage::Whole | Stage::Cut(_) => {
                    self.confirm().await?;
                    self.is_whole = true;
                    self.stage = Stage::Done;
                }
                Stage::Header { lines: 0, .. } => {
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
                // If the server sent fewer octets than asked for, the text is at its end. If it sent more, it ignores
                // partial fetches and has sent the whole text.
                Stage::Text { limit, asked, sent, .. } if *sent != u64::from(*asked) || limit.is_reached() => {
                    self.is_whole = *sent != u64::from(*asked);
                    self.end_early().await?;
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

    /// Stops here, because the device needs no more of the message. If the server has not sent the UID yet, first reads
    /// to the end of the response and verifies the UID.
    async fn end_early(&mut self) -> Result<(), imap::Error> {
        if !self.folder.mailbox().has_uid() {
            self.confirm().await?;
        }
        self.stage = Stage::Done;
        Ok(())
    }

    /// Reads to the end of the response and verifies the UID, which some servers send last.
    async fn confirm(&mut self) -> Result<(), imap::Error> {
        match self.folder.mailbox().next().await? {
            BodyStart::End(Some(uid)) if uid == self.row.uid => Ok(()),
            _ => Err(imap::Error::Protocol("FETCH data without its UID")),
        }
    }

    async fn expect_text(&mut self) -> Result<(), imap::Error> {
        match self.folder.mailbox().next().await? {
            BodyStart::Content {
                section: Section::Text, ..
            } => Ok(()),
            _ => Err(imap::Error::NoData("UID FETCH (BODY[TEXT])")),
        }
    }

    /// Fetches a further part of the text by a command of its own.
    async fn more_text(&mut self, origin: u64, asked: u32) -> Result<(), imap::Error> {
        self.folder.stop_ahead().await;
        let mailbox = self.folder.mailbox();
        mailbox
            .fetch(&UidSet::from(self.row.uid), Item::Text { origin, octets: asked })
            .await?;
        loop {
            match mailbox.next().await? {
                // A longer literal would be the text from its start, from a server that ignores partial fetches.
                BodyStart::Content {
                    uid,
                    octets: Some(octets),
                    ..
                } if uid.is_none_or(|uid| uid == self.row.uid) && octets <= u64::from(asked) => {
                    return Ok(());
                }
                BodyStart::Refused(_, error) => return Err(error),
                BodyStart::Done(_) | BodyStart::Idle => return Err(imap::Error::NoData("UID FETCH (BODY[TEXT])")),
                BodyStart::Content { .. } | BodyStart::End(_) => {}
            }
        }
    }
}
