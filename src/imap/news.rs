//! What a server says besides the answers to commands: untagged data that no command waits for (RFC 3501 §7).

use super::{
    capability::Capabilities,
    error::Error,
    response::{Status, StatusKind},
    token::{self, number, word},
};
use crate::types::{UidRanges, UidValidity};

/// What the server has said since the connection was made, or since the caller last took or cleared a field.
#[derive(Debug, Default)]
pub struct News {
    /// The newest CAPABILITY, as data or as response code.
    pub capabilities: Option<Capabilities>,
    /// BYE and its text: the server is about to close.
    pub bye: Option<String>,
    /// Messages in the selected mailbox: the last EXISTS, less the messages that were expunged or vanished since.
    pub exists: u32,
    /// How many EXPUNGE responses have come.
    pub expunged: u64,
    /// UIDs that are gone: VANISHED (RFC 7162 §3.2.10), which replaces EXPUNGE once QRESYNC is enabled.
    pub vanished: UidRanges,
    /// `[HIGHESTMODSEQ n]`
    pub modseq: Option<u64>,
    /// Whether a FETCH response came that nobody waited for: flags have changed.
    pub flags: bool,
    /// Whether a SEARCH or ESEARCH response has come.
    pub searched: bool,
    /// `[UIDVALIDITY n]`
    pub uid_validity: Option<UidValidity>,
    /// `[UIDNEXT n]`: when the mailbox was selected, every UID was below this.
    pub uid_next: Option<u32>,
    /// `[UIDNOTSTICKY]` (RFC 4315 §3): UIDs mean nothing in the next session.
    pub uid_not_sticky: bool,
}

impl News {
    /// Takes note of one untagged response, given without its star. Returns how many items it named, so that the reader
    /// can limit them.
    pub fn note(&mut self, data: &[u8]) -> usize {
        let (first, rest) = word(data);
        if let Some(number) = number(first) {
            let (kind, _) = word(rest);
            if kind.eq_ignore_ascii_case(b"EXISTS") {
                self.exists = number;
            } else if kind.eq_ignore_ascii_case(b"EXPUNGE") {
                self.exists = self.exists.saturating_sub(1);
                self.expunged += 1;
            }
        } else if first.eq_ignore_ascii_case(b"CAPABILITY") {
            self.capabilities = Some(Capabilities::parse(rest));
        } else if first.eq_ignore_ascii_case(b"SEARCH") || first.eq_ignore_ascii_case(b"ESEARCH") {
            self.searched = true;
        } else if first.eq_ignore_ascii_case(b"VANISHED") {
            return self.note_vanished(rest);
        } else if let Some(status) = Status::parse(data) {
            self.note_status(&status);
        }
        1
    }

    fn note_vanished(&mut self, rest: &[u8]) -> usize {
        let before = self.vanished.len();
        let mut count = 0;
        let (is_earlier, set) = match rest.strip_prefix(b"(") {
            Some(_) => (true, word(rest).1),
            None => (false, rest),
        };
        for (low, high) in token::ranges(set) {
            self.vanished.push(low, high);
            count += u64::from(high - low) + 1;
        }
        if !is_earlier {
            // If EARLIER is there, EXISTS did not count these messages.
            self.exists = self.exists.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
        }
        1 + self.vanished.len().saturating_sub(before)
    }

    /// Takes note of the codes of a status response, tagged or not.
    pub fn note_status(&mut self, status: &Status<'_>) {
        if let Some(words) = status.code_rest("CAPABILITY") {
            self.capabilities = Some(Capabilities::parse(words));
        }
        if let Some(number) = status.code_number("UIDVALIDITY") {
            self.uid_validity = Some(UidValidity::of_server(number));
        }
        if let Some(number) = status.code_number("UIDNEXT") {
            self.uid_next = u32::try_from(number).ok();
        }
        if let Some(number) = status.code_number("HIGHESTMODSEQ") {
            self.modseq = Some(number);
        }
        self.uid_not_sticky |= status.has_code("UIDNOTSTICKY");
        if status.kind == StatusKind::Bye {
            self.bye = Some(status.to_completion().text().to_owned());
        }
    }

    /// Forgets what was said about a mailbox, since another is about to be selected.
    pub fn begin_mailbox(&mut self) {
        let Self { capabilities, bye, .. } = std::mem::take(self);
        *self = Self {
            capabilities,
            bye,
            ..Self::default()
        };
    }

    /// Fails if the server has said that it is about to close.
    pub fn check_bye(&self) -> Result<(), Error> {
        match &self.bye {
            Some(text) => Err(Error::Bye(text.clone())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Uid;

    fn noted(lines: &[&str]) -> News {
        let mut news = News::default();
        for line in lines {
            news.note(line.as_bytes());
        }
        news
    }

    #[test]
    fn messages_come_and_go() {
        let news = noted(&["5 EXISTS", "2 EXPUNGE", "1 expunge", "0 RECENT", "* nonsense"]);
        assert_eq!((news.exists, news.expunged), (3, 2));
        assert_eq!(noted(&["1 EXPUNGE"]).exists, 0);
        // Two spaces, as Exchange sends them.
        assert_eq!(noted(&["522  EXISTS"]).exists, 522);
    }

    #[test]
    fn what_vanished_earlier_is_not_counted_twice() {
        let mut news = noted(&["9 EXISTS", "VANISHED (EARLIER) 4:5,7", "VANISHED 10:11"]);
        assert_eq!(news.exists, 7);
        news.vanished.sort();
        assert!(
            [4, 5, 7, 10, 11]
                .map(Uid)
                .iter()
                .all(|&uid| news.vanished.contains(uid))
        );
        assert_eq!(noted(&["2 EXISTS", "VANISHED 1:4294967295"]).exists, 0);
    }

    #[test]
    fn codes() {
        let news = noted(&[
            "OK [UIDVALIDITY 0] it is",
            "OK [UIDNEXT 9] next",
            "OK [HIGHESTMODSEQ 18446744073709551615]",
            "NO [UIDNOTSTICKY] sorry",
            "OK [CAPABILITY IMAP4rev1 MOVE] can",
            "BYE see you",
        ]);
        assert_eq!(news.uid_validity.map(UidValidity::number), Some(0));
        assert_eq!(news.uid_next, Some(9));
        assert_eq!((news.modseq, news.uid_not_sticky), (Some(u64::MAX), true));
        assert!(news.capabilities.is_some_and(|can| can.moves));
        assert_eq!(
            news.check_bye().unwrap_err().to_string(),
            "the server said BYE: see you"
        );
    }

    #[test]
    fn another_mailbox_begins_anew() {
        let mut news = noted(&["5 EXISTS", "OK [UIDVALIDITY 7] x", "CAPABILITY MOVE", "VANISHED 3"]);
        news.begin_mailbox();
        assert_eq!((news.exists, news.uid_validity), (0, None));
        assert!(news.vanished.is_empty() && news.capabilities.is_some());
    }
}
