//! Fetches messages and parts of them. Their octets are streamed: no message is ever held as a whole.

use std::task::Poll;

use super::{
    command::UidSet,
    error::Error,
    fetch::Section,
    mailbox::{Attributes, Mailbox},
    reader::{CommandId, Event, Expect},
};
use crate::types::Uid;

/// What to fetch of a message. No item sets `\Seen`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// The whole message.
    Whole,
    /// The header, with the empty line after it.
    Header,
    /// The header, and this many octets of the text.
    Top(u32),
    /// A range of the text.
    Text {
        /// The first octet, from 0.
        origin: u64,
        /// How many octets, at most.
        octets: u32,
    },
}

/// The next step of the fetches under way.
#[derive(Debug)]
pub enum BodyStart {
    /// The content of a section begins. Its octets come from [`Mailbox::ready`] and [`Mailbox::take`].
    Content {
        /// The message, if the server has sent its UID already (some servers send UID last).
        uid: Option<Uid>,
        /// Which part of the message the content is.
        section: Section,
        /// How many octets the content has; `None` for NIL.
        octets: Option<u64>,
    },
    /// The response of one message is complete. Holds the UID if the server has sent it.
    End(Option<Uid>),
    /// A command is complete, and the server said OK. Commands may complete in another order than they were sent.
    Done(CommandId),
    /// The server refused a command. The connection stays usable.
    Refused(CommandId, Error),
    /// No command is under way.
    Idle,
}

impl Item {
    /// Whether a content of `section` can be the answer to this item, or the first part of the answer.
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
    /// Starts to fetch `item` of all messages of `set`. Read the answer by [`Mailbox::next`] and [`Mailbox::ready`].
    /// Several fetches may be under way at once.
    pub async fn fetch(&mut self, set: &UidSet, item: Item) -> Result<CommandId, Error> {
        let what = match item {
            Item::Whole => "BODY.PEEK[]".to_owned(),
            Item::Header => "BODY.PEEK[HEADER]".to_owned(),
            Item::Top(octets) => format!("BODY.PEEK[HEADER] BODY.PEEK[TEXT]<0.{octets}>"),
            Item::Text { origin, octets } => format!("BODY.PEEK[TEXT]<{origin}.{octets}>"),
        };
        self.start_fetch(set, &what).await
    }

    /// Starts to fetch size, INTERNALDATE and the header fields `fields` (such as `FROM SUBJECT`) of all messages of
    /// `set`. First reads the answers to earlier fetches and drops them.
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

    /// The attributes of the message whose response ended last.
    pub(super) fn attributes(&self) -> Attributes {
        self.attributes
    }

    /// Whether a fetch of bodies is under way.
    pub fn is_fetching(&self) -> bool {
        self.link.is_busy()
    }

    /// How many octets of the current content have not been taken yet.
    pub fn left(&self) -> u64 {
        self.link.left()
    }

    /// Waits for the next step of the fetches under way, and skips what is left of the current content. After an error
    /// the connection can no longer be used.
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

    /// Waits for octets of the current content. Returns `false` at its end.
    pub async fn ready(&mut self) -> Result<bool, Error> {
        self.link.ready().await
    }

    /// The octets of the current content that have been received and not taken.
    pub fn peek(&self) -> &[u8] {
        self.link.peek()
    }

    /// Takes the first `count` octets that [`Mailbox::peek`] shows.
    pub fn take(&mut self, count: usize) -> &[u8] {
        self.link.take(count)
    }

    /// Whether the server has already sent the UID of the message whose content this is.
    pub fn has_uid(&self) -> bool {
        self.link.has_uid()
    }

    /// Gives the connection up, with all commands under way. It refuses further commands, and closing resets it.
    pub fn give_up(&mut self) {
        self.link.give_up();
    }

    /// Reads until no fetch is under way, and drops what the server sends.
    pub async fn drain(&mut self) -> Result<(), Error> {
        self.link.drain().await
    }

    /// Like [`Mailbox::drain`], but reads only what has been received already: it does not wait.
    pub async fn drain_at_once(&mut self) {
        let mut drain = std::pin::pin!(self.link.drain());
        std::future::poll_fn(|cx| {
            // An error needs no attention here: it marks the connection as broken, so the next command fails.
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

    /// Reads the current content to its end.
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
                // The second command is answered first.
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
