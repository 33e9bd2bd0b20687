//! Fetching messages and parts of them: their octets stream from the wire to whoever reads.

use std::task::Poll;

use bytes::{Buf, Bytes};

use super::{
    Mailbox,
    error::Error,
    fetch::{self, Fetch, Section, Step},
    flight::require,
    response::Line,
    uid::{Uid, UidSet},
};

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
#[derive(Debug, PartialEq, Eq)]
pub enum BodyStart {
    /// A content begins; its octets come from [`Mailbox::ready`] and [`Mailbox::take`].
    Content {
        /// Of which message, if the server has told it already (some send UID last).
        uid: Option<Uid>,
        /// Whether it is the text, where header and text were asked for.
        is_text: bool,
        /// How many octets are to come; `None` for NIL.
        octets: Option<u64>,
    },
    /// One message's response is complete.
    End(Option<Uid>),
    /// The command is complete and was OK.
    Done,
}

/// Where in the answer to a fetch of bodies we are.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// The response being parsed, if we stand within one.
    response: Option<Fetch>,
    /// Octets of the current content that were not taken yet.
    left: u64,
    /// The current content, if it came as a quoted string; else it is in the wire's buffer.
    inline: Option<Bytes>,
    /// Octets that were taken, and that the caller has used up when it calls again.
    lent: usize,
    /// Of the response that ended last.
    attributes: Attributes,
}

/// What a FETCH response told of a message besides its content.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Attributes {
    /// RFC822.SIZE
    pub(super) size: Option<u32>,
    /// INTERNALDATE, in seconds since 1970.
    pub(super) arrived: Option<u32>,
}

impl Mailbox {
    /// Starts to fetch `item` of all messages of `set`; read the answer by [`Mailbox::next`] and [`Mailbox::ready`]. Several
    /// may be under way: they are answered one after the other.
    pub async fn fetch(&mut self, set: &UidSet, item: Item) -> Result<(), Error> {
        if self.broken {
            return Err(Error::Lost(std::io::ErrorKind::NotConnected.into()));
        }
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
        self.settle().await?;
        let what = format!("RFC822.SIZE INTERNALDATE BODY.PEEK[HEADER.FIELDS ({fields})]");
        self.start_fetch(set, &what).await
    }

    async fn start_fetch(&mut self, set: &UidSet, what: &str) -> Result<(), Error> {
        let tag = self.next_tag();
        let command = format!("{tag} UID FETCH {set} (UID {what})\r\n");
        self.fetches.push_back(tag);
        let sent = self.wire.send(command.as_bytes()).await;
        self.check(sent)
    }

    /// Of the message whose response ended last.
    pub(super) fn attributes(&self) -> Attributes {
        self.reading.attributes
    }

    /// Whether a fetch of bodies is under way.
    pub fn is_fetching(&self) -> bool {
        !self.fetches.is_empty()
    }

    /// Octets of the current content that were not taken.
    pub fn left(&self) -> u64 {
        self.reading.left
    }

    /// Goes on to the next content, skipping what is left of this one. `Done` ends each fetch.
    /// A NO or BAD ends it as an error; the connection stays usable.
    pub async fn next(&mut self) -> Result<BodyStart, Error> {
        let result = self.advance().await;
        self.check(result)
    }

    /// Waits for octets of the current content. Returns whether there are any: `false` is its end.
    pub async fn ready(&mut self) -> Result<bool, Error> {
        let result = self.have_octets().await;
        self.check(result)?;
        Ok(!self.peek().is_empty())
    }

    /// The octets of the current content that are here.
    pub fn peek(&self) -> &[u8] {
        let source = match &self.reading.inline {
            Some(inline) => &inline[self.reading.lent..],
            None => &self.wire.buffer()[self.reading.lent..],
        };
        &source[..usize::try_from(self.reading.left)
            .unwrap_or(usize::MAX)
            .min(source.len())]
    }

    /// Takes the first `count` octets that [`Mailbox::peek`] shows.
    pub fn take(&mut self, count: usize) -> &[u8] {
        let from = self.reading.lent;
        self.reading.lent += count;
        self.reading.left -= count as u64;
        match &self.reading.inline {
            Some(inline) => &inline[from..from + count],
            None => &self.wire.buffer()[from..from + count],
        }
    }

    /// Whether the server has told by now whose content this is.
    pub fn is_told(&self) -> bool {
        self.reading
            .response
            .as_ref()
            .is_some_and(|response| response.uid.is_some())
    }

    /// Leaves the connection to die with what is under way on it.
    pub fn give_up(&mut self) {
        self.broken = true;
    }

    /// Ends a fetch under way, dropping what still comes of it.
    pub async fn settle(&mut self) -> Result<(), Error> {
        if self.broken {
            return Err(Error::Lost(std::io::ErrorKind::NotConnected.into()));
        }
        while self.is_fetching() {
            match self.next().await {
                Ok(_) => {}
                Err(error) if self.broken => return Err(error),
                Err(error) => tracing::debug!(%error, "fetch ended"),
            }
        }
        Ok(())
    }

    /// The same as far as the answer is here already.
    pub async fn settle_at_once(&mut self) {
        let mut settle = std::pin::pin!(self.settle());
        std::future::poll_fn(|cx| {
            // An error is met again by whoever uses the mailbox next.
            let _ = settle.as_mut().poll(cx);
            Poll::Ready(())
        })
        .await;
    }

    async fn advance(&mut self) -> Result<BodyStart, Error> {
        let (wire, reading) = (&mut self.wire, &mut self.reading);
        let lent = std::mem::take(&mut reading.lent);
        if reading.inline.take().is_some() {
            reading.left = 0;
        } else {
            wire.consume(lent);
        }
        loop {
            let Some(tag) = self.fetches.front() else {
                return Ok(BodyStart::Done);
            };
            while reading.left > 0 {
                if wire.buffer().is_empty() {
                    wire.fill().await?;
                }
                let count = usize::try_from(reading.left)
                    .unwrap_or(usize::MAX)
                    .min(wire.buffer().len());
                wire.consume(count);
                reading.left -= count as u64;
            }
            let span = wire.next_response().await?;
            let line = &wire.buffer()[..span.line];
            let (mut response, segment) = match reading.response.take() {
                Some(response) => (response, line),
                None => match Line::parse(line) {
                    Line::Tagged(of, status) if of == tag.as_bytes() => {
                        let completion = status.to_completion();
                        wire.consume(span.total);
                        self.fetches.pop_front();
                        if self.fetches.is_empty() {
                            wire.rest();
                        }
                        return require("UID FETCH", Some(completion)).map(|()| BodyStart::Done);
                    }
                    Line::Untagged(data) => match fetch::data(data) {
                        Some(segment) => (Fetch::default(), segment),
                        None => {
                            wire.note(span)?;
                            continue;
                        }
                    },
                    Line::Tagged(..) | Line::Continue | Line::Other => {
                        wire.consume(span.total);
                        continue;
                    }
                },
            };
            let head = span.line - segment.len();
            let step = response.parse(segment).map_err(|_| Error::Protocol("FETCH data"))?;
            let uid = response.uid.map(Uid);
            let (section, octets) = match step {
                Step::End => {
                    wire.consume(span.total);
                    wire.seen().flags |= response.deleted.is_some();
                    reading.attributes = Attributes {
                        size: response.size,
                        arrived: response.arrived,
                    };
                    return Ok(BodyStart::End(uid));
                }
                Step::Literal(section, octets) => {
                    wire.consume(span.total);
                    reading.left = octets;
                    (section, Some(octets))
                }
                Step::Inline { section, content, rest } => {
                    wire.consume(head + rest);
                    let octets = content.as_ref().map(|content| content.len() as u64);
                    reading.left = octets.unwrap_or(0);
                    reading.inline = Some(Bytes::from(content.unwrap_or_default()));
                    (section, octets)
                }
            };
            reading.response = Some(response);
            if section != Section::Other {
                return Ok(BodyStart::Content {
                    uid,
                    is_text: section == Section::Text,
                    octets,
                });
            }
            if reading.inline.take().is_some() {
                reading.left = 0;
            }
        }
    }

    async fn have_octets(&mut self) -> Result<(), Error> {
        let (wire, reading) = (&mut self.wire, &mut self.reading);
        let lent = std::mem::take(&mut reading.lent);
        match &mut reading.inline {
            Some(inline) => inline.advance(lent),
            None => {
                wire.consume(lent);
                if reading.left > 0 && wire.buffer().is_empty() {
                    wire.fill().await?;
                }
            }
        }
        Ok(())
    }
}
