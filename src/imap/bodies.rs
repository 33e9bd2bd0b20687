//! Fetching messages and parts of them: their octets stream from the wire to whoever reads.

use std::task::Poll;

use super::{
    command::UidSet,
    error::Error,
    fetch::Section,
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
        self.link.submit(&format!("UID FETCH {set} (UID {what})")).await
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
                    return if self.is_broken() {
                        Err(error)
                    } else {
                        Ok(BodyStart::Refused(id, error))
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

    /// Ends the fetches under way as far as their answers are here already; waits for nothing.
    pub async fn drain_at_once(&mut self) {
        let mut drain = std::pin::pin!(self.link.drain());
        std::future::poll_fn(|cx| {
            // The next user of the mailbox meets an error again.
            let _ = drain.as_mut().poll(cx);
            Poll::Ready(())
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imap::scene::play;

    fn set(uid: u32) -> UidSet {
        UidSet::from(Uid(uid))
    }

    /// The whole of the content under way.
    async fn content(mailbox: &mut Mailbox) -> Vec<u8> {
        let mut octets = Vec::new();
        while mailbox.ready().await.unwrap() {
            let count = mailbox.peek().len();
            octets.extend_from_slice(mailbox.take(count));
        }
        octets
    }

    #[tokio::test]
    async fn two_fetches_under_way_are_told_apart_by_their_tags() {
        let mut first = String::new();
        let answer = |command: &str| {
            if command.contains("FETCH 1 ") {
                first = "* 1 FETCH (UID 1 BODY[] {3}\r\none)\r\nP1 OK\r\n".into();
                String::new()
            } else {
                // The second is answered first.
                format!("* 2 FETCH (UID 2 BODY[] {{3}}\r\ntwo)\r\n{{tag}} NO [LIMIT] enough\r\n{first}")
            }
        };
        let (commands, ()) = play("", 2, answer, async |mailbox| {
            let one = mailbox.fetch(&set(1), Item::Whole).await.unwrap();
            let two = mailbox.fetch(&set(2), Item::Header).await.unwrap();
            let BodyStart::Content { uid: Some(Uid(2)), .. } = mailbox.next().await.unwrap() else {
                panic!()
            };
            assert_eq!(content(mailbox).await, b"two");
            assert!(matches!(mailbox.next().await, Ok(BodyStart::End(Some(Uid(2))))));
            assert!(matches!(mailbox.next().await, Ok(BodyStart::Refused(id, Error::Refused { .. })) if id == two));
            // What is left of a content is skipped.
            assert!(matches!(
                mailbox.next().await,
                Ok(BodyStart::Content { octets: Some(3), .. })
            ));
            assert!(matches!(mailbox.next().await, Ok(BodyStart::End(Some(Uid(1))))));
            assert!(matches!(mailbox.next().await, Ok(BodyStart::Done(id)) if id == one));
            assert!(matches!(mailbox.next().await, Ok(BodyStart::Idle)));
            assert!(!mailbox.is_fetching() && !mailbox.is_broken());
        })
        .await;
        assert_eq!(
            commands,
            ["UID FETCH 1 (UID BODY.PEEK[])", "UID FETCH 2 (UID BODY.PEEK[HEADER])"]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_literal_that_ends_early_is_no_lost_connection() {
        let answer = |_: &str| "* 1 FETCH (UID 1 BODY[] {99}\r\none)\r\n{tag} OK\r\n".to_owned();
        let (_, error) = play("", 1, answer, async |mailbox| {
            mailbox.fetch(&set(1), Item::Whole).await.unwrap();
            assert!(matches!(mailbox.next().await, Ok(BodyStart::Content { .. })));
            while let Ok(true) = mailbox.ready().await {
                let count = mailbox.peek().len();
                mailbox.take(count);
            }
            assert!(mailbox.is_broken());
            mailbox.ready().await.unwrap_err()
        })
        .await;
        assert!(matches!(error, Error::ShortLiteral), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_chatters_instead_makes_no_progress() {
        let answer = |_: &str| "* OK still here\r\n".repeat(100);
        let begun = tokio::time::Instant::now();
        let (_, error) = play("", 1, answer, async |mailbox| {
            mailbox.fetch(&set(1), Item::Whole).await.unwrap();
            mailbox.next().await.unwrap_err()
        })
        .await;
        assert!(matches!(error, Error::Silent(_)), "{error}");
        assert!(begun.elapsed() <= 4 * crate::imap::scene::SILENCE);
    }

    #[tokio::test]
    async fn what_is_drained_costs_nothing_that_follows() {
        let answer = |command: &str| {
            if command.starts_with("NOOP") {
                "{tag} OK\r\n".to_owned()
            } else {
                "* 1 FETCH (UID 1 BODY[] {3}\r\none)\r\n{tag} BAD no\r\n".to_owned()
            }
        };
        let (commands, ()) = play("", 1, answer, async |mailbox| {
            mailbox.fetch(&set(1), Item::Whole).await.unwrap();
            mailbox.noop().await.unwrap();
            assert!(!mailbox.is_broken());
        })
        .await;
        assert_eq!(commands.len(), 2);
    }
}
