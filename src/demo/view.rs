//! A selected folder as one session sees it: the message numbers, and what the session has reported to its client.

use super::{
    fetch,
    flags::Flags,
    reply::{CommandError, Reply},
    search::SearchKey,
    sequence::{Numbering, SequenceSet},
    store::{FolderName, Message, Store},
};

/// Messages in the order of their numbers. They stay readable until their EXPUNGE has been sent (RFC 2180 §4.1.1).
#[derive(Debug)]
pub(super) struct MailboxView {
    pub folder: FolderName,
    pub read_only: bool,
    messages: Vec<Message>,
    /// Messages from this UID on have not been reported to the client.
    uid_next: u32,
}

impl MailboxView {
    pub(super) fn new(store: &Store, folder: FolderName, read_only: bool) -> Self {
        let contents = store.folder(folder);
        Self {
            folder,
            read_only,
            messages: contents.messages().to_vec(),
            uid_next: contents.uid_next(),
        }
    }

    /// Writes the responses of SELECT (RFC 3501 §6.3.1).
    pub(super) fn describe(&self, store: &Store, reply: &mut Reply) {
        let all = Flags::ALL;
        reply.line(format_args!("* FLAGS ({all})"));
        reply.line(format_args!("* {} EXISTS", self.messages.len()));
        reply.line(format_args!("* 0 RECENT"));
        if let Some(unseen) = self.messages.iter().position(|m| !m.flags.contains(Flags::SEEN)) {
            let number = unseen + 1;
            reply.line(format_args!("* OK [UNSEEN {number}] the first unread"));
        }
        let permanent = if self.read_only { Flags::NONE } else { all };
        reply.line(format_args!("* OK [PERMANENTFLAGS ({permanent})] these are kept"));
        reply.line(format_args!(
            "* OK [UIDVALIDITY {}] until the next start",
            store.uid_validity()
        ));
        reply.line(format_args!("* OK [UIDNEXT {}] or more", self.uid_next));
    }

    pub(super) fn writable(&self) -> Result<(), CommandError> {
        if self.read_only {
            return Err(CommandError::No("the mailbox is open for reading only"));
        }
        Ok(())
    }

    /// The greatest message number and the greatest UID, 0 without messages.
    fn greatest(&self) -> (u32, u32) {
        let count = u32::try_from(self.messages.len()).unwrap_or(u32::MAX);
        (count, self.messages.last().map_or(0, |last| last.uid))
    }

    fn numbered(&mut self) -> impl Iterator<Item = (u32, &mut Message)> {
        (1..).zip(&mut self.messages)
    }

    /// The messages of a set, with their numbers. UIDs that do not exist are ignored; message numbers that do not exist
    /// are an error.
    pub(super) fn chosen(
        &mut self,
        numbering: Numbering,
        set: &SequenceSet,
    ) -> Result<impl Iterator<Item = (u32, &mut Message)>, CommandError> {
        let greatest = self.greatest();
        if numbering == Numbering::Sequence && !set.within(greatest.0) {
            return Err(CommandError::Bad("no message bears that number"));
        }
        Ok(self.numbered().filter(move |(number, message)| match numbering {
            Numbering::Sequence => set.contains(*number, greatest.0),
            Numbering::Uid => set.contains(message.uid, greatest.1),
        }))
    }

    /// SEARCH: the numbers or UIDs of the messages for which all keys hold.
    pub(super) fn search(&mut self, numbering: Numbering, keys: &[SearchKey]) -> Result<Vec<u32>, CommandError> {
        let greatest = self.greatest();
        if keys
            .iter()
            .filter_map(SearchKey::sequence)
            .any(|set| !set.within(greatest.0))
        {
            return Err(CommandError::Bad("no message bears that number"));
        }
        let found = self
            .numbered()
            .filter(|(number, message)| keys.iter().all(|key| key.matches(*number, message, greatest)))
            .map(|(number, message)| match numbering {
                Numbering::Sequence => number,
                Numbering::Uid => message.uid,
            });
        Ok(found.collect())
    }

    /// Reports what has changed in the store since the last time, by this session or another. With `keep_numbers`,
    /// expunged messages keep their numbers and are not reported.
    pub(super) fn catch_up(&mut self, store: &Store, keep_numbers: bool, reply: &mut Reply) {
        let folder = store.folder(self.folder);
        if !keep_numbers {
            let mut number = 1;
            self.messages.retain(|message| {
                let stays = folder.get(message.uid).is_some();
                if stays {
                    number += 1;
                } else {
                    reply.line(format_args!("* {number} EXPUNGE"));
                }
                stays
            });
        }
        for (number, message) in (1..).zip(&mut self.messages) {
            if let Some(now) = folder.get(message.uid).filter(|now| now.flags != message.flags) {
                message.flags = now.flags;
                fetch::write(reply, number, message, fetch::flags_of(Numbering::Uid));
            }
        }
        if self.uid_next < folder.uid_next() {
            let news = folder.messages().iter().filter(|message| message.uid >= self.uid_next);
            self.messages.extend(news.cloned());
            self.uid_next = folder.uid_next();
            reply.line(format_args!("* {} EXISTS", self.messages.len()));
        }
    }
}
