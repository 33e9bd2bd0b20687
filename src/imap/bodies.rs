//! Fetching messages and parts of them: their octets stream from the wire to whoever reads.

use std::task::Poll;

use super::{
    command::UidSet,
    error::Error,
    fetch::Section,
    link::Link,
    mailbox::{Attributes, Mailbox},
    reader::{CommandId, Event, Expect},
};
use crate::types::Uid;

/// What of a message is fetched, never setting `\Seen`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// The whole message.
    Whole,
    /// The header, with the empty line.
    Header,
    /// The header, and so many octets of the text.
    Top(u32),
    /// Some octets of the text.
    Text {
        /// From this octet on.
        origin: u64,
        /// At most so many.
        octets: u32,
    },
}

/// The next thing that comes of a fetch.
#[derive(Debug)]
pub enum BodyStart {
    /// A content begins; its octets come from [`Mailbox::ready`] and [`Mailbox::take`].
    Content {
        /// Of which message, if the server has told it already (some send UID last).
        uid: Option<Uid>,
        /// What it is.
        section: Section,
        /// How many octets are to come; `None` for NIL.
        octets: Option<u64>,
    },
    /// One message's response is complete.
    End(Option<Uid>),
    /// A command is complete and was OK. Several may be so in another order than that of asking.
    Done(CommandId),
    /// A command was refused. The connection stays usable.
    Refused(CommandId, Error),
    /// No command is under way.
    Idle,
}

impl Item {
    /// Whether a content of `section` may be what was asked for, or its first part.
    pub fn begins_with(self, section: Section) -> bool {
        match self {
            Self::Whole => section == Section::Whole,
            Self::Header => section == Section::Header,
            Self::Top(_) => matches!(section, Section::Header | Section::Text),
            Self::Text { .. } => section == Section::Text,
        }
    }
}

impl Mailbox {
    /// Starts to fetch `item` of all messages of `set`; read the answer by [`Mailbox::next`] and [`Mailbox::ready`]. Several
    /// may be under way.
    pub async fn fetch(&mut self, set: &UidSet, item: Item) -> Result<CommandId, Error> {
        let what = match item {
            Item::Whole => "BODY.PEEK[]".to_owned(),
            Item::Header => "BODY.PEEK[HEADER]".to_owned(),
            Item::Top(octets) => format!("BODY.PEEK[HEADER] BODY.PEEK[TEXT]<0.{octets}>"),
            Item::Text { origin, octets } => format!("BODY.PEEK[TEXT]<{origin}.{octets}>"),
        };
        self.start_fetch(set, &what).await
    }

    /// Starts to fetch size, INTERNALDATE and some header fields (`FROM SUBJECT`) of all messages of `set`.
    pub(super) async fn fetch_fields(&mut self, set: &UidSet, fields: &str) -> Result<(), Error> {
        self.drain().await?;
        let what = format!("RFC822.SIZE INTERNALDATE BODY.PEEK[HEADER.FIELDS ({fields})]");
        self.start_fetch(set, &what).await.map(drop)
    }

    async fn start_fetch(&mut self, set: &UidSet, what: &str) -> Result<CommandId, Error> {
        if !self.quirks.takes_several() {
            self.link.set_one_at_a_time();
        }
        self.link.expect(Expect {
            content: true,
            ..Expect::default()
        });
        let ids = self.link.submit(&[format!("UID FETCH {set} (UID {what})")]).await?;
        ids.first().copied().ok_or(Error::Protocol("no command"))
    }

    /// Of the message whose response ended last.
    pub(super) fn attributes(&self) -> Attributes {
        self.attributes
    }

    /// Whether a fetch of bodies is under way.
    pub fn is_fetching(&self) -> bool {
        self.link.is_busy()
    }

    /// Octets of the current content that were not taken.
    pub fn left(&self) -> u64 {
        self.link.left()
    }

    /// Goes on to the next content, skipping what is left of this one. An error means that the connection is of no use any
    /// more.
    pub async fn next(&mut self) -> Result<BodyStart, Error> {
        while self.link.is_busy() {
            match self.link.event().await? {
                Event::Content { uid, section, octets } => {
                    return Ok(BodyStart::Content { uid, section, octets });
                }
                Event::Fetch(fetch) => {
                    self.attributes = Attributes {
                        size: fetch.size,
                        arrived: fetch.arrived,
                    };
                    return Ok(BodyStart::End(fetch.uid));
                }
                Event::Tagged(id, completion) if completion.is_ok() => return Ok(BodyStart::Done(id)),
                Event::Tagged(id, completion) => {
                    self.note_completions(std::slice::from_ref(&completion));
                    let error = Error::refused("UID FETCH", completion);
                    return match self.is_broken() {
                        true => Err(error),
                        false => Ok(BodyStart::Refused(id, error)),
                    };
                }
                Event::Continue(_) | Event::Status(_) | Event::Found(..) | Event::Data(_) => {}
            }
        }
        Ok(BodyStart::Idle)
    }

    /// Waits for octets of the current content. Returns whether there are any: `false` is its end.
    pub async fn ready(&mut self) -> Result<bool, Error> {
        self.link.ready().await
    }

    /// The octets of the current content that are here.
    pub fn peek(&self) -> &[u8] {
        self.link.peek()
    }

    /// Takes the first `count` octets that [`Mailbox::peek`] shows.
    pub fn take(&mut self, count: usize) -> &[u8] {
        self.link.take(count)
    }

    /// Whether the server has told by now whose content this is.
    pub fn has_uid(&self) -> bool {
        self.link.has_uid()
    }

    /// Leaves the connection to die with what is under way on it.
    pub fn give_up(&mut self) {
        self.link.give_up();
    }

    /// Ends the fetches under way, dropping what still comes of them.
    pub async fn drain(&mut self) -> Result<(), Error> {
        self.link.drain().await
    }

    /// The same as far as the answers are here already.
    pub async fn drain_at_once(&mut self) {
        /// Waits for nothing.
        async fn at_once(link: &mut Link) {
            let mut drain = std::pin::pin!(link.drain());
            std::future::poll_fn(|cx| {
                // An error is met again by whoever uses the mailbox next.
                let _ = drain.as_mut().poll(cx);
                Poll::Ready(())
            })
            .await;
        }
        at_once(&mut self.link).await;
    }
}
