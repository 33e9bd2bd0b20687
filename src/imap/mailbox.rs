//! A selected mailbox on one authenticated connection. Every command is checked for its tagged status. If a command is
//! cut short, the connection is broken and refuses all further commands.

use std::{sync::Arc, time::Duration};

use super::{
    capability::Capabilities,
    error::Error,
    link::Link,
    namespace::Namespaces,
    news::News,
    quirks::{Pipelining, Quirks},
    reader::{Event, Expect},
    response::Completion,
    utf7::NameEncoding,
};
use crate::types::{UidRanges, UidValidity};

/// How long a server may say nothing while it is not known whether it takes several commands at once.
const FIRST_PATIENCE: Duration = Duration::from_secs(10);

/// What the server said of the mailbox upon SELECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selected {
    /// As long as this stays the same, UIDs mean the same messages.
    pub uid_validity: UidValidity,
    /// `[READ-ONLY]`: nothing can be flagged or removed.
    pub read_only: bool,
    /// `[UIDNOTSTICKY]`: UIDs mean nothing on another connection.
    pub uid_not_sticky: bool,
    /// HIGHESTMODSEQ, if the server keeps it (RFC 7162 §3.1.2.1).
    pub modseq: Option<u64>,
}

/// What has changed in the mailbox, as the server has reported without being asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changes {
    /// How many messages are gone.
    pub expunged: u64,
    /// Whether the flags of some messages have changed.
    pub flags: bool,
}

/// A selected mailbox.
#[derive(Debug)]
pub struct Mailbox {
    pub(super) link: Box<Link>,
    pub(super) capabilities: Capabilities,
    pub(super) quirks: Arc<Quirks>,
    pub(super) encoding: NameEncoding,
    pub(super) namespaces: Namespaces,
    pub(super) selected: Selected,
    /// The name that SELECT was given, which is the server's name of the folder.
    pub(super) folder: String,
    /// The attributes in the FETCH response that ended last.
    pub(super) attributes: Attributes,
}

/// What a FETCH response says of a message besides its content.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Attributes {
    /// RFC822.SIZE
    pub(super) size: Option<u32>,
    /// INTERNALDATE, in seconds since 1970.
    pub(super) arrived: Option<u32>,
}

impl Mailbox {
    /// What the server said of the mailbox upon SELECT.
    pub fn selected(&self) -> Selected {
        self.selected
    }

    /// The server's name of the selected folder.
    pub fn folder(&self) -> &str {
        &self.folder
    }

    /// How many messages the mailbox has, as far as the server has reported.
    pub fn exists(&self) -> usize {
        self.news().exists as usize
    }

    /// The changes, besides new messages, that the server has reported since [`Mailbox::clear_changes`].
    pub fn changes(&self) -> Changes {
        let news = self.news();
        Changes {
            expunged: news.expunged + news.vanished.count(),
            flags: news.flags,
        }
    }

    /// Forgets the changes that were reported so far.
    pub fn clear_changes(&mut self) {
        let news = self.link.news();
        (news.expunged, news.flags) = (0, false);
        news.vanished = UidRanges::default();
    }

    /// Takes the UIDs that are gone, sorted. Only a server with QRESYNC reports them.
    pub fn take_vanished(&mut self) -> UidRanges {
        let mut vanished = std::mem::take(&mut self.link.news().vanished);
        vanished.sort();
        vanished
    }

    /// Whether the server offers `MOVE` (RFC 6851).
    pub fn has_move(&self) -> bool {
        self.capabilities.moves
    }

    /// Whether this is a server of the old kind, with neither UIDPLUS nor CONDSTORE. Such a server (GNU mailutils) may
    /// show what is new, and keep what was changed, only when a mailbox is selected.
    pub fn is_old(&self) -> bool {
        !self.capabilities.uid_plus && !self.capabilities.condstore
    }

    /// Whether the server offers `OBJECTID` (RFC 8474).
    pub fn has_object_id(&self) -> bool {
        self.capabilities.object_id
    }

    fn news(&self) -> &News {
        self.link.news_so_far()
    }

    /// Sends NOOP, so that the server can report what is new.
    pub async fn noop(&mut self) -> Result<(), Error> {
        self.run("NOOP", "NOOP").await
    }

    /// Whether the connection can no longer be used.
    pub fn is_broken(&self) -> bool {
        self.link.is_broken()
    }

    /// Logs out. Waits for the server's answer, which shows that the server no longer counts the connection, but
    /// ignores what it says.
    pub async fn logout(mut self) {
        self.hang_up().await;
    }

    /// Logs out, for a mailbox that is kept until a new connection takes its place. The connection is broken
    /// afterwards.
    pub async fn hang_up(&mut self) {
        let expect = Expect {
            after_bye: true,
            ..Expect::default()
        };
        // If this future is dropped meanwhile, closing resets the connection.
        self.link.set_reset_on_close(true);
        if self.link.flight(&["LOGOUT"], expect, |_| {}).await.is_ok() {
            self.link.set_reset_on_close(false);
        }
        self.link.close();
    }

    /// Closes the connection at once. Commands that were not sent yet are dropped.
    pub fn cut(&mut self) {
        self.link.cut();
    }

    /// Prepares the connection for being parked. While it is parked, no task reads from it. If the server has closed
    /// the connection, the mailbox is broken.
    pub fn detach(&mut self) {
        self.link.detach();
    }

    /// Runs one command of which only the completion matters.
    pub(super) async fn run(&mut self, name: &'static str, command: &str) -> Result<(), Error> {
        let completions = self.link.flight(&[command], Expect::default(), |_| {}).await?;
        self.note_completions(&completions);
        require(name, completions.first())
    }

    /// Marks the connection as over if the server (Exchange) says that it can no longer reach the mailbox: no command
    /// will succeed on this connection any more.
    pub(super) fn note_completions(&mut self, completions: &[Completion]) {
        if completions
            .iter()
            .any(|completion| !completion.is_ok() && completion.tells_no_mailbox())
        {
            self.link.close();
        }
    }

    /// Sends `commands` in one piece, reads until all are complete, and gives other events to `take`. Until it is known
    /// whether the server takes several commands at once, each command that it refuses is sent once more, alone.
    /// Returns the completions in the order of the commands. If the last command is COMPRESS and succeeds, compression
    /// begins.
    pub(super) async fn flight(
        &mut self,
        commands: &[String],
        expect: Expect,
        mut take: impl FnMut(Event),
    ) -> Result<Vec<Completion>, Error> {
        let pipelining = self.quirks.pipelining();
        let is_trial = commands.len() > 1 && pipelining == Pipelining::Unknown;
        match pipelining {
            Pipelining::Suspect | Pipelining::Fails => self.link.set_one_at_a_time(),
            Pipelining::Unknown if is_trial => self.link.set_patience(FIRST_PATIENCE),
            Pipelining::Unknown | Pipelining::Works => {}
        }
        let flown = self.link.flight(commands, expect, &mut take).await;
        self.link.reset_patience();
        let exists = self.news().exists;
        let mut completions = flown.inspect_err(|error| match (error, pipelining) {
            // The server has said nothing of the mailbox yet: perhaps it does not take several commands at once.
            (Error::Silent(_) | Error::Bye(_) | Error::Lost(_), Pipelining::Unknown)
                if is_trial && exists == 0 && !error.asks_for_a_pause() =>
            {
                self.quirks.set_pipelining(Pipelining::Suspect);
            }
            (_, Pipelining::Suspect) => self.quirks.set_pipelining(Pipelining::Unknown),
            _ => {}
        })?;
        self.note_completions(&completions);
        let is_compressed =
            |(command, completion): (&String, &Completion)| command.starts_with("COMPRESS") && completion.is_ok();
        if commands.last().zip(completions.last()).is_some_and(is_compressed) {
            self.link.compress();
        }
        if pipelining == Pipelining::Suspect && commands.len() > 1 {
            tracing::info!("the upstream takes one command at a time");
            self.quirks.set_pipelining(Pipelining::Fails);
        }
        // Nothing depends on whether the server accepts these.
        let is_optional = |command: &str| command.starts_with("ID ") || command.starts_with("COMPRESS");
        let is_refused = |at: &usize| !completions[*at].is_ok() && !is_optional(&commands[*at]);
        let Some(first) = (0..commands.len())
            .find(is_refused)
            .filter(|_| is_trial && !self.is_broken())
        else {
            if is_trial {
                self.quirks.set_pipelining(Pipelining::Works);
            }
            return Ok(completions);
        };
        if completions[first].will_pass() {
            return Ok(completions);
        }
        let mut is_mended = false;
        for at in first..commands.len() {
            let is_over = completions[at].is_ok() || is_optional(&commands[at]);
            // In an empty mailbox `1:*` names nothing, and some servers answer that by BAD.
            if is_over || (commands[at].starts_with("UID FETCH") && self.news().exists == 0) {
                continue;
            }
            let alone = self.link.flight(&commands[at..=at], expect, &mut take).await?;
            let Some(alone) = alone.into_iter().next() else {
                continue;
            };
            is_mended |= alone.is_ok();
            completions[at] = alone;
        }
        if is_mended {
            tracing::info!("the upstream takes one command at a time");
            self.link.set_one_at_a_time();
            self.quirks.set_pipelining(Pipelining::Fails);
        }
        Ok(completions)
    }
}

/// Fails unless the command succeeded.
pub(super) fn require(command: &'static str, completion: Option<&Completion>) -> Result<(), Error> {
    match completion {
        Some(completion) if completion.is_ok() => Ok(()),
        Some(completion) => Err(Error::refused(command, completion.clone())),
        None => Err(Error::Protocol("a completion is missing")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imap::scene::{SILENCE, play};

    fn commands(commands: &[&str]) -> Vec<String> {
        commands.iter().map(|&command| command.to_owned()).collect()
    }

    #[tokio::test]
    async fn a_command_that_fails_only_in_a_flight_is_sent_alone() {
        let mut seen = Vec::new();
        let answer = |command: &str| {
            seen.push(command.to_owned());
            let times = seen.iter().filter(|seen| *seen == command).count();
            match (command, times) {
                ("B", 1) => "{tag} BAD one at a time\r\n".to_owned(),
                _ => "{tag} OK\r\n".to_owned(),
            }
        };
        let (sent, pipelining) = play("", 1, answer, async |mailbox| {
            let completions = mailbox
                .flight(&commands(&["A", "B"]), Expect::default(), |_| {})
                .await
                .unwrap();
            assert!(completions.iter().all(Completion::is_ok));
            mailbox.quirks.pipelining()
        })
        .await;
        assert_eq!((sent, pipelining), (commands(&["A", "B", "B"]), Pipelining::Fails));
    }

    #[tokio::test]
    async fn what_is_refused_alone_too_is_refused() {
        let answer = |command: &str| match command {
            "ID (x)" | "B" => "{tag} BAD what?\r\n".to_owned(),
            _ => "{tag} OK\r\n".to_owned(),
        };
        let (sent, ()) = play("", 1, answer, async |mailbox| {
            let all = commands(&["ID (x)", "A", "B"]);
            let completions = mailbox.flight(&all, Expect::default(), |_| {}).await.unwrap();
            assert!(completions[2].is_bad());
            assert_eq!(mailbox.quirks.pipelining(), Pipelining::Unknown);
            // Nothing depends on ID.
            mailbox.flight(&all[..2], Expect::default(), |_| {}).await.unwrap();
            assert_eq!(mailbox.quirks.pipelining(), Pipelining::Works);
        })
        .await;
        assert_eq!(sent, commands(&["ID (x)", "A", "B", "B", "ID (x)", "A"]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_falls_silent_upon_several_is_suspect_before_long() {
        let answer = |command: &str| match command {
            "A" => "{tag} OK\r\n".to_owned(),
            _ => String::new(),
        };
        let begun = tokio::time::Instant::now();
        let (_, ()) = play("", 0, answer, async |mailbox| {
            let flown = mailbox.flight(&commands(&["A", "B"]), Expect::default(), |_| {}).await;
            assert!(matches!(flown, Err(Error::Silent(_))));
            assert_eq!(mailbox.quirks.pipelining(), Pipelining::Suspect);
        })
        .await;
        assert!(begun.elapsed() < SILENCE);
    }

    #[tokio::test]
    async fn one_at_a_time_each_waits_for_the_one_before() {
        let answer = |_: &str| "{tag} OK\r\n".to_owned();
        let (_, ()) = play("", 1, answer, async |mailbox| {
            mailbox.quirks.set_pipelining(Pipelining::Fails);
            let completions = mailbox
                .flight(&commands(&["A", "B", "C"]), Expect::default(), |_| {})
                .await;
            assert_eq!(completions.unwrap().len(), 3);
            assert!(!mailbox.is_broken());
        })
        .await;
    }

    #[tokio::test]
    async fn a_connection_without_its_mailbox_is_of_no_use() {
        let answer = |_: &str| "{tag} BAD User is authenticated but not connected.\r\n".to_owned();
        let (_, ()) = play("", 1, answer, async |mailbox| {
            assert!(matches!(mailbox.noop().await, Err(Error::NoMailbox(_))));
            assert!(mailbox.is_broken());
            assert!(matches!(mailbox.noop().await, Err(Error::Lost(_))));
        })
        .await;
    }

    #[tokio::test]
    async fn a_good_bye_is_no_error() {
        let answer = |_: &str| "* BYE see you\r\n{tag} OK\r\n".to_owned();
        let (sent, ()) = play("", 1, answer, async |mailbox| {
            mailbox.hang_up().await;
            assert!(mailbox.is_broken());
        })
        .await;
        assert_eq!(sent, ["LOGOUT"]);
    }
}
