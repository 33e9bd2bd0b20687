//! The mail that all sessions share. It is in memory only: each start begins with the samples.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use memchr::memchr_iter;

use super::{
    flags::Flags,
    samples::{self, Sample},
};

/// One message. A clone shares the octets.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub uid: u32,
    pub flags: Flags,
    /// INTERNALDATE, without the quotes.
    pub received: &'static str,
    /// The message as it was sent, with its own line ends.
    pub octets: Bytes,
    /// The length of the header in `octets`, including the empty line after it.
    header: usize,
}

impl Message {
    fn new(uid: u32, Sample { received, octets }: Sample) -> Self {
        Self {
            uid,
            flags: Flags::NONE,
            received,
            header: header_length(&octets),
            octets,
        }
    }

    pub(super) fn header(&self) -> Bytes {
        self.octets.slice(..self.header)
    }

    pub(super) fn text(&self) -> Bytes {
        self.octets.slice(self.header..)
    }
}

/// The length up to and including the first empty line; the whole length if there is no empty line.
fn header_length(octets: &[u8]) -> usize {
    let mut line = 0;
    for end in memchr_iter(b'\n', octets) {
        if matches!(&octets[line..end], b"" | b"\r") {
            return end + 1;
        }
        line = end + 1;
    }
    octets.len()
}

/// The name of a folder. There are two, and clients can't create more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FolderName {
    Inbox,
    Trash,
}

impl FolderName {
    pub(super) const ALL: [Self; 2] = [Self::Inbox, Self::Trash];

    /// Parses a folder's name. INBOX may be in any case (RFC 3501 §5.1).
    pub(super) fn parse(name: &[u8]) -> Option<Self> {
        if name.eq_ignore_ascii_case(b"INBOX") {
            return Some(Self::Inbox);
        }
        (name == b"Trash").then_some(Self::Trash)
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Inbox => "INBOX",
            Self::Trash => "Trash",
        }
    }
}

/// A folder's messages, in ascending order of UID.
#[derive(Debug)]
pub(super) struct Folder {
    messages: Vec<Message>,
    uid_next: u32,
}

impl Folder {
    fn new(samples: Vec<Sample>) -> Self {
        let messages: Vec<Message> = (1..)
            .zip(samples)
            .map(|(uid, sample)| Message::new(uid, sample))
            .collect();
        Self {
            uid_next: messages.last().map_or(1, |last| last.uid + 1),
            messages,
        }
    }

    pub(super) fn messages(&self) -> &[Message] {
        &self.messages
    }

    pub(super) fn uid_next(&self) -> u32 {
        self.uid_next
    }

    pub(super) fn get(&self, uid: u32) -> Option<&Message> {
        let at = self.position(uid)?;
        self.messages.get(at)
    }

    pub(super) fn get_mut(&mut self, uid: u32) -> Option<&mut Message> {
        let at = self.position(uid)?;
        self.messages.get_mut(at)
    }

    fn position(&self, uid: u32) -> Option<usize> {
        self.messages.binary_search_by_key(&uid, |message| message.uid).ok()
    }

    /// Adds the message under a new UID of this folder; returns the UID.
    pub(super) fn append(&mut self, message: Message) -> u32 {
        let uid = self.uid_next;
        self.messages.push(Message { uid, ..message });
        self.uid_next += 1;
        uid
    }

    pub(super) fn remove(&mut self, doomed: impl Fn(&Message) -> bool) {
        self.messages.retain(|message| !doomed(message));
    }
}

/// All folders of the one user.
#[derive(Debug)]
pub(super) struct Store {
    uid_validity: u32,
    inbox: Folder,
    trash: Folder,
}

impl Store {
    /// The samples in INBOX, and an empty Trash. UIDVALIDITY is the time in seconds, so each start has a greater one.
    pub(super) fn with_samples() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            uid_validity: u32::try_from(now.as_secs()).unwrap_or(u32::MAX).max(1),
            inbox: Folder::new(samples::all()),
            trash: Folder::new(Vec::new()),
        }
    }

    pub(super) fn uid_validity(&self) -> u32 {
        self.uid_validity
    }

    pub(super) fn folder(&self, name: FolderName) -> &Folder {
        match name {
            FolderName::Inbox => &self.inbox,
            FolderName::Trash => &self.trash,
        }
    }

    pub(super) fn folder_mut(&mut self, name: FolderName) -> &mut Folder {
        match name {
            FolderName::Inbox => &mut self.inbox,
            FolderName::Trash => &mut self.trash,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_ends_with_its_empty_line() {
        assert_eq!(header_length(b"A: b\r\n\r\ntext"), 8);
        assert_eq!(header_length(b"A: b\n\ntext"), 6);
        assert_eq!(header_length(b"\r\ntext"), 2);
        assert_eq!(header_length(b"A: b\r\n"), 6);
        assert_eq!(header_length(b""), 0);
    }

    #[test]
    fn a_uid_is_never_given_twice() {
        let mut store = Store::with_samples();
        let inbox = store.folder_mut(FolderName::Inbox);
        let last = inbox.messages().last().unwrap().clone();
        inbox.remove(|message| message.uid == last.uid);
        assert!(inbox.get(last.uid).is_none());
        assert_eq!(inbox.append(last.clone()), last.uid + 1);
    }
}
