//! What changes a mailbox: flags, removal, MOVE and COPY. Whatever is said to be done was confirmed by a tagged OK.

use super::{
    Mailbox,
    error::Error,
    response::Code,
    uid::{Uid, UidSet},
};

impl Mailbox {
    /// Sets `\Seen`.
    pub async fn mark_seen(&mut self, uids: &[Uid]) -> Result<(), Error> {
        for set in UidSet::cover(uids) {
            self.store(&set, "+FLAGS.SILENT (\\Seen)").await?;
        }
        Ok(())
    }

    /// Removes exactly `uids` (ascending), confirmed by the tagged OK of each command. Returns those that were refused; these
    /// bear no `\Deleted` of ours, as far as the server lets us take it back. An error means that the connection is lost
    /// and that the caller does not know: the same call on a new connection, after UIDVALIDITY was compared, is safe.
    pub async fn remove(&mut self, uids: &[Uid]) -> Result<Vec<Uid>, Error> {
        if uids.is_empty() {
            return Ok(Vec::new()); // others' marks are left alone
        }
        if !self.capabilities.uid_plus {
            let sets = UidSet::cover(uids);
            let removed = self.expunge_only(uids, &sets).await;
            return match self.taken_back(removed, &sets).await? {
                true => Ok(Vec::new()),
                false => Ok(uids.to_vec()),
            };
        }
        let mut refused = Vec::new();
        for (set, these) in UidSet::parts(uids) {
            let mut removed = self.store(&set, "+FLAGS.SILENT (\\Deleted)").await;
            if removed.is_ok() {
                removed = self.run("UID EXPUNGE", &format!("UID EXPUNGE {set}")).await;
            }
            if !self.taken_back(removed, std::slice::from_ref(&set)).await? {
                refused.extend_from_slice(these);
            }
        }
        Ok(refused)
    }

    /// Moves `uids` (ascending) to `folder`, which is made if it is missing (RFC 6851). Returns those that were refused. An
    /// error means that the connection is lost and that the caller does not know: the same call on a new connection,
    /// after UIDVALIDITY was compared, is safe, for what was moved is not there any more.
    pub async fn move_to(&mut self, uids: &[Uid], folder: &str) -> Result<Vec<Uid>, Error> {
        let mut refused = Vec::new();
        for (set, these) in UidSet::parts(uids) {
            match self.file_into("UID MOVE", &set, folder).await {
                Ok(()) => {}
                Err(error) if self.broken => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, folder, messages = these.len(), "not moved");
                    refused.extend_from_slice(these);
                }
            }
        }
        Ok(refused)
    }

    /// Copies the messages of `set` to `folder`, which is made if it is missing: all of them or none (RFC 3501 §6.4.7). An
    /// error on a connection that stands is a refusal.
    pub async fn copy_to(&mut self, set: &UidSet, folder: &str) -> Result<(), Error> {
        self.file_into("UID COPY", set, folder).await
    }

    async fn file_into(&mut self, verb: &'static str, set: &UidSet, folder: &str) -> Result<(), Error> {
        let command = format!("{verb} {set} {}", self.names.quoted(folder));
        match self.run(verb, &command).await {
            // `[TRYCREATE]`
            Err(Error::Refused { completion, .. }) if completion.code() == Some(Code::NonExistent) => {
                self.create(folder).await?;
                self.run(verb, &command).await
            }
            result => result,
        }
    }

    /// Without UIDPLUS only plain EXPUNGE removes, and it removes whatever bears `\Deleted`: what others have marked is
    /// unmarked for that moment and marked again whatever happens.
    async fn expunge_only(&mut self, uids: &[Uid], sets: &[UidSet]) -> Result<(), Error> {
        for set in sets {
            self.store(set, "+FLAGS.SILENT (\\Deleted)").await?;
        }
        let mut marked = self.search_deleted().await?;
        marked.retain(|uid| uids.binary_search(uid).is_err());
        let foreign = UidSet::cover(&marked);
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
        result
    }

    /// Whether `sets` were removed; after a refusal the marks are taken back, so that the next session shows them.
    async fn taken_back(&mut self, removed: Result<(), Error>, sets: &[UidSet]) -> Result<bool, Error> {
        let Err(error) = removed else { return Ok(true) };
        if self.broken {
            return Err(error);
        }
        let messages = sets.iter().map(UidSet::count).sum::<usize>();
        tracing::warn!(%error, messages, "not removed");
        for set in sets {
            if let Err(error) = self.store(set, "-FLAGS.SILENT (\\Deleted)").await {
                if self.broken {
                    return Err(error);
                }
                break;
            }
        }
        Ok(false)
    }

    async fn store(&mut self, set: &UidSet, change: &str) -> Result<(), Error> {
        self.run("UID STORE", &format!("UID STORE {set} {change}")).await
    }
}
