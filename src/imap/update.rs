//! Changes a mailbox: flags, removal, MOVE and COPY. Whatever is reported as done was confirmed by a tagged OK.
//!
//! If somebody else has removed a message meanwhile, it counts as removed.

use super::{
    command::UidSet,
    error::Error,
    mailbox::{Mailbox, require},
    reader::Expect,
    response::{Code, Completion},
};
use crate::types::{Uid, UidRanges, Uids};

/// Messages that the server refused to move, and that are still in the mailbox; ascending.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct NotMoved {
    /// The server may move them later.
    pub for_now: Vec<Uid>,
    /// The server will not move them; COPY may work.
    pub ever: Vec<Uid>,
}

/// Messages that the server did not remove, and that are still in the mailbox; ascending.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// The messages that are still there.
    pub uids: Vec<Uid>,
    /// Whether another try can't help; `false` if there are none.
    pub is_final: bool,
}

impl Refused {
    /// The messages of `uids` that are gone: those that were not refused.
    pub fn gone(&self, uids: &[Uid]) -> Uids {
        let refused: Uids = self.uids.iter().copied().collect();
        uids.iter().copied().filter(|&uid| !refused.contains(uid)).collect()
    }

    /// Adds `others`, whose UIDs are above these. The sum is final only if both refusals are.
    pub fn add(&mut self, others: Self) {
        self.is_final = match (self.uids.is_empty(), others.uids.is_empty()) {
            (_, true) => self.is_final,
            (true, false) => others.is_final,
            (false, false) => self.is_final && others.is_final,
        };
        self.uids.extend(others.uids);
    }
}

impl Mailbox {
    /// Sets `\Seen`. Selects the mailbox again if the server is of the old kind (see [`Mailbox::is_old`]).
    pub async fn mark_seen(&mut self, uids: &[Uid]) -> Result<(), Error> {
        for set in UidSet::cover(uids) {
            let mut commands = vec![format!("UID STORE {set} +FLAGS.SILENT (\\Seen)")];
            if self.is_old() {
                commands.push("CHECK".to_owned());
            }
            let completions = self.flight(&commands, Expect::default(), |_| {}).await?;
            require("UID STORE", completions.first())?;
        }
        // Some servers write flags only when the mailbox is left, and a parked connection does not leave it.
        self.refresh_if_old().await
    }

    /// Removes exactly `uids` (ascending), confirmed by the tagged OK of each command. Our `\Deleted` flag has been
    /// removed again from the messages that are still there, if the server allowed it. After an error the caller does
    /// not know which messages are gone. In most cases the connection is lost then, and the same call on a new
    /// connection is safe once UIDVALIDITY was compared.
    pub async fn remove(&mut self, uids: &[Uid]) -> Result<Refused, Error> {
        let mut refused = Refused::default();
        let mut rest = uids;
        while !rest.is_empty() {
            // UID EXPUNGE is given as many UIDs as one command holds; plain EXPUNGE removes all at once.
            let first = UidSet::parts(rest).next().filter(|_| self.capabilities.uid_plus);
            let (these, after) = rest.split_at(first.map_or(rest.len(), |(_, these)| these.len()));
            refused.add(self.remove_all(these).await?);
            rest = after;
        }
        Ok(refused)
    }

    /// Removes `uids` by one EXPUNGE. If the server refuses because some of them are gone, the others are removed.
    async fn remove_all(&mut self, uids: &[Uid]) -> Result<Refused, Error> {
        let mut left = uids.to_vec();
        loop {
            if left.is_empty() {
                return Ok(Refused::default());
            }
            let before = self.link.news_so_far().expunged;
            let removed = if self.capabilities.uid_plus {
                self.expunge_by_uid(&left).await
            } else {
                self.expunge_only(&left).await
            };
            let Err(error) = removed else {
                if self.are_gone(&left, before) {
                    return Ok(Refused::default());
                }
                // If the user has no right to expunge, a server may say OK and remove nothing.
                let here = self.existing(&left).await?;
                if !here.is_empty() {
                    tracing::warn!(
                        messages = here.len(),
                        "the upstream said OK to EXPUNGE, and removed nothing"
                    );
                    self.unmark(&here).await?;
                }
                let is_final = !here.is_empty();
                return Ok(Refused { uids: here, is_final });
            };
            if self.is_broken() {
                return Err(error);
            }
            let is_unknown =
                matches!(&error, Error::Refused { command: "UID EXPUNGE", completion } if completion.is_bad());
            if is_unknown && self.capabilities.uid_plus_implied {
                tracing::debug!(%error, "the server does not know UID EXPUNGE");
                self.capabilities.uid_plus = false;
                continue;
            }
            let here = self.existing(&left).await?;
            if here.len() < left.len() {
                left = here;
                continue;
            }
            tracing::warn!(%error, messages = left.len(), "messages not removed by the upstream");
            self.unmark(&left).await?;
            let is_final = error.is_final();
            return Ok(Refused { uids: left, is_final });
        }
    }

    /// Whether the server has said that `uids`, which it was told to remove, are gone: by VANISHED, which names them,
    /// or by as many EXPUNGE responses since there were `before`. If more have come, somebody else has removed messages
    /// too, and perhaps not all of ours are gone. Exactly as many count as ours, because to ask after every removal
    /// would cost a round trip.
    fn are_gone(&self, uids: &[Uid], before: u64) -> bool {
        let news = self.link.news_so_far();
        let expunged = news.expunged.saturating_sub(before);
        if expunged > 0 {
            return expunged == uids.len() as u64;
        }
        let mut vanished = news.vanished.clone();
        vanished.sort();
        uids.iter().all(|&uid| vanished.contains(uid))
    }

    /// Removes exactly `uids` by UID EXPUNGE (RFC 4315).
    async fn expunge_by_uid(&mut self, uids: &[Uid]) -> Result<(), Error> {
        for set in UidSet::cover(uids) {
            self.store(&set, "+FLAGS.SILENT (\\Deleted)").await?;
            self.run("UID EXPUNGE", &format!("UID EXPUNGE {set}")).await?;
        }
        Ok(())
    }

    /// Removes `uids` without UIDPLUS. Then there is only plain EXPUNGE, which removes all messages that bear
    /// `\Deleted`. So messages that others have marked are unmarked before it. They are marked again after it, even if
    /// it fails. If the connection is lost in between, they stay unmarked.
    async fn expunge_only(&mut self, uids: &[Uid]) -> Result<(), Error> {
        for set in UidSet::cover(uids) {
            self.store(&set, "+FLAGS.SILENT (\\Deleted)").await?;
        }
        let marked: UidRanges = self.search_deleted().await?;
        let foreign = UidSet::cover_ranges(&marked.without(uids));
        let mut result = Ok(());
        for set in &foreign {
            result = self.store(set, "-FLAGS.SILENT (\\Deleted)").await;
            if result.is_err() {
                break;
            }
        }
        if result.is_ok() {
            result = self.run("EXPUNGE", "EXPUNGE").await;
        }
        for set in &foreign {
            if let Err(error) = self.store(set, "+FLAGS.SILENT (\\Deleted)").await {
                tracing::warn!(%error, uids = %set, "messages that others had marked \\Deleted are no longer marked");
            }
        }
        result?;
        self.refresh_if_old().await
    }

    /// Removes our `\Deleted` flag, so that the next session shows the messages.
    async fn unmark(&mut self, uids: &[Uid]) -> Result<(), Error> {
        for set in UidSet::cover(uids) {
            if let Err(error) = self.store(&set, "-FLAGS.SILENT (\\Deleted)").await {
                if self.is_broken() {
                    return Err(error);
                }
                break;
            }
        }
        Ok(())
    }

    /// Moves `uids` (ascending) to the folder that the server calls `folder`, and makes the folder if it is missing
    /// (RFC 6851). After an error the caller does not know which messages were moved. In most cases the connection is
    /// lost then, and the same call on a new connection is safe once UIDVALIDITY was compared: messages that were moved
    /// are not there any more.
    pub async fn move_to(&mut self, uids: &[Uid], folder: &str) -> Result<NotMoved, Error> {
        let mut not_moved = NotMoved::default();
        for (_, these) in UidSet::parts(uids) {
            let mut here = these.to_vec();
            let mut moved = self.file_all("UID MOVE", &here, folder).await;
            while let Err(error) = moved {
                if self.is_broken() {
                    return Err(error);
                }
                let before = here.len();
                here = self.existing(&here).await?;
                if here.is_empty() {
                    break;
                }
                if here.len() == before {
                    tracing::info!(%error, folder, messages = before, "the upstream refuses to move");
                    match &error {
                        Error::Refused { completion, .. } if completion.will_pass() => {
                            not_moved.for_now.append(&mut here);
                        }
                        error => {
                            self.capabilities.moves &= !error.is_bad();
                            not_moved.ever.append(&mut here);
                        }
                    }
                    break;
                }
                // Some of the messages are gone: the others are tried once more.
                moved = self.file_all("UID MOVE", &here, folder).await;
            }
        }
        Ok(not_moved)
    }

    /// Copies `uids` (ascending) to the folder that the server calls `folder`, and makes the folder if it is missing.
    /// If one [`UidSet`] covers `uids`, the server copies all of them or none (RFC 3501 §6.4.7). If the connection is
    /// still usable after an error, the server has refused.
    pub async fn copy_to(&mut self, uids: &[Uid], folder: &str) -> Result<(), Error> {
        self.file_all("UID COPY", uids, folder).await
    }

    /// Moves or copies `uids` (as `verb` says) by as many commands as they need, up to the first that fails.
    async fn file_all(&mut self, verb: &'static str, uids: &[Uid], folder: &str) -> Result<(), Error> {
        for set in UidSet::cover(uids) {
            self.file_into(verb, &set, folder).await?;
        }
        Ok(())
    }

    async fn file_into(&mut self, verb: &'static str, set: &UidSet, folder: &str) -> Result<(), Error> {
        let command = format!("{verb} {set} {}", self.encoding.quoted(folder));
        match self.run(verb, &command).await {
            // A server should say `[TRYCREATE]`, but many say less.
            Err(Error::Refused { completion, .. })
                if completion.is_no() && !completion.will_pass() && self.make(folder, &completion).await? =>
            {
                self.run(verb, &command).await
            }
            result => result,
        }
    }

    /// Makes `folder` unless it exists; `refusal` may say that it is missing. Returns whether it was made. If the
    /// connection is still usable after an error, the folder can't be made.
    async fn make(&mut self, folder: &str, refusal: &Completion) -> Result<bool, Error> {
        if refusal.code() != Some(Code::NonExistent) {
            match self.status(folder).await {
                Ok(None) => {}
                Ok(Some(_)) | Err(Error::Refused { .. } | Error::NoData(_)) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        match self.create(folder).await {
            Ok(()) => Ok(true),
            Err(error @ Error::Refused { .. }) if !error.is_final() => {
                tracing::warn!(%error, folder, "the folder is missing upstream, and can't be made now");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    async fn store(&mut self, set: &UidSet, change: &str) -> Result<(), Error> {
        self.run("UID STORE", &format!("UID STORE {set} {change}")).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imap::scene::{is, play};

    const UIDS: [Uid; 3] = [Uid(1), Uid(2), Uid(3)];
    const FULL: &str = "IMAP4rev1 UIDPLUS MOVE NAMESPACE CONDSTORE";

    /// A server that answers OK to every command. Its UID SEARCH finds `uids`.
    fn left(uids: &str) -> impl Fn(&str) -> String {
        let uids = uids.to_owned();
        move |command| {
            if is(command, &["UID SEARCH UID"]) {
                format!("* SEARCH {uids}\r\n{{tag}} OK\r\n")
            } else {
                "{tag} OK\r\n".to_owned()
            }
        }
    }

    #[tokio::test]
    async fn what_is_confirmed_is_removed_and_what_is_here_still_is_not() {
        let (commands, refused) = play(FULL, 3, left(""), async |mailbox| mailbox.remove(&UIDS).await).await;
        assert_eq!(refused.unwrap(), Refused::default());
        assert_eq!(
            commands,
            [
                "UID STORE 1:3 +FLAGS.SILENT (\\Deleted)",
                "UID EXPUNGE 1:3",
                "UID SEARCH UID 1:3"
            ]
        );
        // The server says OK, and nothing has happened: our flag is removed again.
        let (commands, refused) = play(FULL, 3, left("2"), async |mailbox| mailbox.remove(&UIDS).await).await;
        assert_eq!(
            refused.unwrap(),
            Refused {
                uids: vec![Uid(2)],
                is_final: true
            },
            "nothing happens to who may not expunge"
        );
        assert_eq!(commands.last().unwrap(), "UID STORE 2 -FLAGS.SILENT (\\Deleted)");
        // The server has reported each EXPUNGE: no SEARCH is needed.
        let answer = |command: &str| {
            if is(command, &["UID EXPUNGE"]) {
                "* 1 EXPUNGE\r\n* 1 EXPUNGE\r\n* 1 EXPUNGE\r\n{tag} OK\r\n".to_owned()
            } else {
                "{tag} OK\r\n".to_owned()
            }
        };
        let (commands, refused) = play(FULL, 3, answer, async |mailbox| mailbox.remove(&UIDS).await).await;
        assert_eq!((refused.unwrap(), commands.len()), (Refused::default(), 2));
    }

    /// Somebody else removes messages meanwhile, and the server says OK to our command and keeps one of ours.
    #[tokio::test]
    async fn what_others_have_removed_does_not_count_as_ours() {
        for (with_store, with_expunge, is_asked) in [
            ("* 9 EXPUNGE\r\n", "* 1 EXPUNGE\r\n* 8 EXPUNGE\r\n* 7 EXPUNGE\r\n", true),
            ("", "* VANISHED 7:9\r\n", true),
            ("* VANISHED 7:9\r\n", "* VANISHED 1,3\r\n", true),
            // The usual cases need no further command. Some servers expunge upon STORE.
            ("", "* 1 EXPUNGE\r\n* 1 EXPUNGE\r\n* 1 EXPUNGE\r\n", false),
            ("* 1 EXPUNGE\r\n* 1 EXPUNGE\r\n* 1 EXPUNGE\r\n", "", false),
            ("", "* VANISHED 3,1:2,7\r\n", false),
        ] {
            for capabilities in [FULL, "IMAP4rev1 CONDSTORE"] {
                let answer = |command: &str| match command {
                    "UID SEARCH UID 1:3" => "* SEARCH 2\r\n{tag} OK\r\n".to_owned(),
                    "UID SEARCH DELETED" => "* SEARCH 1 2 3\r\n{tag} OK\r\n".to_owned(),
                    command if is(command, &["UID STORE 1:3 +"]) => format!("{with_store}{{tag}} OK\r\n"),
                    command if is(command, &["UID EXPUNGE", "EXPUNGE"]) => format!("{with_expunge}{{tag}} OK\r\n"),
                    _ => "{tag} OK\r\n".to_owned(),
                };
                let (commands, refused) =
                    play(capabilities, 9, answer, async |mailbox| mailbox.remove(&UIDS).await).await;
                let expected = if is_asked { vec![Uid(2)] } else { vec![] };
                assert_eq!(refused.unwrap().uids, expected, "{with_store}{with_expunge}");
                let asks = commands.iter().filter(|command| is(command, &["UID SEARCH UID"]));
                assert_eq!(asks.count(), usize::from(is_asked), "{commands:?}");
            }
        }
    }

    #[tokio::test]
    async fn one_that_is_gone_lets_the_others_go() {
        let mut times = 0;
        let answer = |command: &str| {
            times += usize::from(is(command, &["UID STORE"]));
            match command {
                "UID SEARCH UID 1:3" => "* SEARCH 1 3\r\n{tag} OK\r\n".to_owned(),
                "UID SEARCH UID 1,3" => "* SEARCH\r\n{tag} OK\r\n".to_owned(),
                command if times == 1 && is(command, &["UID STORE"]) => "{tag} NO [EXPUNGEISSUED] gone\r\n".to_owned(),
                _ => "{tag} OK\r\n".to_owned(),
            }
        };
        let (commands, refused) = play(FULL, 3, answer, async |mailbox| mailbox.remove(&UIDS).await).await;
        assert_eq!(refused.unwrap(), Refused::default());
        assert!(commands.contains(&"UID EXPUNGE 1,3".to_owned()), "{commands:?}");
    }

    #[tokio::test]
    async fn without_uidplus_foreign_marks_are_spared() {
        let answer = |command: &str| match command {
            "UID SEARCH DELETED" => "* ESEARCH (TAG \"x\") UID ALL 1:5,9\r\n{tag} OK\r\n".to_owned(),
            _ => "* SEARCH\r\n{tag} OK\r\n".to_owned(),
        };
        let (commands, refused) = play("IMAP4rev1 CONDSTORE", 9, answer, async |mailbox| {
            mailbox.remove(&UIDS).await
        })
        .await;
        assert_eq!(refused.unwrap(), Refused::default());
        assert_eq!(
            commands[..5],
            [
                "UID STORE 1:3 +FLAGS.SILENT (\\Deleted)",
                "UID SEARCH DELETED",
                "UID STORE 4:5,9 -FLAGS.SILENT (\\Deleted)",
                "EXPUNGE",
                "UID STORE 4:5,9 +FLAGS.SILENT (\\Deleted)",
            ]
        );
    }

    #[tokio::test]
    async fn a_uid_expunge_that_is_only_implied_may_be_missing() {
        let answer = |command: &str| {
            if is(command, &["UID EXPUNGE"]) {
                "{tag} BAD what?\r\n".to_owned()
            } else {
                "* SEARCH\r\n{tag} OK\r\n".to_owned()
            }
        };
        let (commands, refused) = play("IMAP4rev2 CONDSTORE", 3, answer, async |mailbox| {
            mailbox.remove(&UIDS).await
        })
        .await;
        assert_eq!(refused.unwrap(), Refused::default());
        assert!(commands.contains(&"EXPUNGE".to_owned()), "{commands:?}");
        // If UIDPLUS is offered by name, BAD is a refusal.
        let answer = |command: &str| match command {
            "UID EXPUNGE 1:3" => "{tag} BAD no\r\n".to_owned(),
            "UID SEARCH UID 1:3" => "* SEARCH 1 2 3\r\n{tag} OK\r\n".to_owned(),
            _ => "{tag} OK\r\n".to_owned(),
        };
        let (commands, refused) = play(FULL, 3, answer, async |mailbox| mailbox.remove(&UIDS).await).await;
        assert_eq!(refused.unwrap().uids, UIDS);
        assert!(!commands.contains(&"EXPUNGE".to_owned()), "{commands:?}");
    }

    #[tokio::test]
    async fn a_refused_move_tells_what_may_help() {
        for (refusal, for_now, ever) in [
            ("NO [OVERQUOTA] full", UIDS.to_vec(), vec![]),
            ("NO [CANNOT] not here", vec![], UIDS.to_vec()),
            ("BAD what?", vec![], UIDS.to_vec()),
        ] {
            let answer = |command: &str| match command {
                "UID SEARCH UID 1:3" => "* SEARCH 1 2 3\r\n{tag} OK\r\n".to_owned(),
                command if is(command, &["STATUS"]) => "* STATUS Old (UIDVALIDITY 1 UIDNEXT 2)\r\n{tag} OK\r\n".into(),
                command if is(command, &["UID MOVE"]) => format!("{{tag}} {refusal}\r\n"),
                _ => "{tag} OK\r\n".to_owned(),
            };
            let (_, not_moved) = play(FULL, 3, answer, async |mailbox| mailbox.move_to(&UIDS, "Old").await).await;
            assert_eq!(not_moved.unwrap(), NotMoved { for_now, ever }, "{refusal}");
        }
    }

    #[tokio::test]
    async fn a_missing_folder_is_made_whatever_is_said_of_it() {
        for refusal in ["NO [TRYCREATE] what?", "NO Mailbox does not exist"] {
            let mut is_made = false;
            let answer = |command: &str| {
                is_made |= is(command, &["CREATE"]);
                match command {
                    command if is(command, &["UID MOVE"]) && !is_made => format!("{{tag}} {refusal}\r\n"),
                    command if is(command, &["STATUS"]) && !is_made => "{tag} NO none\r\n".to_owned(),
                    _ => "{tag} OK\r\n".to_owned(),
                }
            };
            let (commands, moved) = play(FULL, 3, answer, async |mailbox| mailbox.move_to(&UIDS, "Old").await).await;
            assert_eq!(moved.unwrap(), NotMoved::default());
            assert!(commands.contains(&"CREATE \"Old\"".to_owned()), "{commands:?}");
        }
    }
}
