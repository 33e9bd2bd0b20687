//! The delete policy: what becomes of messages that are deleted (semantics of `on_delete`).

use std::sync::Arc;

use super::{Error, Reason, source::Source};
use crate::{
    config::OnDelete,
    imap::{self, Folder, Uid},
    state::Index,
};

/// Why a removal did not come to its end.
#[derive(Debug)]
pub(super) enum Trouble {
    Upstream(imap::Error),
    /// State can't keep what must not be forgotten.
    State,
    /// Written to the log already.
    Told(Error),
}

impl From<imap::Error> for Trouble {
    fn from(error: imap::Error) -> Self {
        Self::Upstream(error)
    }
}

impl From<crate::state::Unavailable> for Trouble {
    fn from(_: crate::state::Unavailable) -> Self {
        Self::State
    }
}

impl Trouble {
    /// What a device is told; an upstream's failure is written to the log.
    pub(super) fn told(self, account: &crate::accounts::Account) -> Error {
        match self {
            Self::Upstream(error) => super::source::report(account, &error),
            Self::State => Error::Unavailable(Reason::State),
            Self::Told(error) => error,
        }
    }
}

/// Folders that servers without SPECIAL-USE (RFC 6154) keep deleted messages in, less the prefix of their namespace.
const USUAL_TRASH: [&str; 10] = [
    "Trash",
    "Deleted Items",
    "Deleted Messages",
    "Deleted",
    "Bin",
    "Papierkorb",
    "Gelöschte Elemente",
    "Gelöschte Objekte",
    "Corbeille",
    "Papelera",
];
/// What `trash` makes where there is no such folder.
const NEW_TRASH: &str = "Trash";

impl Source {
    /// Applies the delete policy to `uids` (ascending); everything that is not among the returned is confirmed: by the
    /// tagged OK of each command, or kept by state.
    pub(super) async fn delete(&mut self, uids: &[Uid]) -> Result<Vec<Uid>, Error> {
        if uids.is_empty() {
            return Ok(Vec::new());
        }
        if self.account.policy.on_delete == OnDelete::Hide {
            return self.hide(uids).await.map(|()| Vec::new());
        }
        self.stop_ahead().await;
        let refused = loop {
            let is_new = self.reconnect_if_lost().await?;
            if self.mailbox.selected().read_only {
                return Err(Error::Misconfigured(Reason::ReadOnly));
            }
            match self.remove(uids).await {
                Ok(refused) => break refused,
                // What was removed already is not there any more: to remove the rest is to say it again.
                Err(Trouble::Upstream(error)) if error.is_lost() && !is_new => {}
                Err(trouble) => return Err(trouble.told(&self.account)),
            }
        };
        self.note_removed(uids, &refused);
        Ok(refused)
    }

    async fn remove(&mut self, uids: &[Uid]) -> Result<Vec<Uid>, Trouble> {
        let policy = self.account.policy.clone();
        let target = match &policy.on_delete {
            OnDelete::Expunge | OnDelete::Hide => None,
            OnDelete::MoveTo(folder) => Some(Arc::from(folder.as_str())),
            OnDelete::Trash => Some(self.trash().await?),
        };
        match target {
            // What lies in the trash is removed from there for good.
            Some(target) if *target != *self.name.folder => {
                if self.mailbox.has_move() {
                    Ok(self.mailbox.move_to(uids, &target).await?)
                } else {
                    self.copy_and_remove(uids, &target).await
                }
            }
            _ => Ok(self.mailbox.remove(uids).await?),
        }
    }

    /// The folder for deleted messages: the one with `\Trash` (RFC 6154 §2), else the configured one, else one that bears a
    /// usual name; `Trash` where there is none.
    async fn trash(&mut self) -> Result<Arc<str>, imap::Error> {
        if let Some(trash) = &self.view.trash {
            return Ok(trash.clone());
        }
        let folders = self.mailbox.folders().await?;
        let by_use = folders.iter().find(|folder| folder.is_trash);
        let usual = |depth| {
            let mut names = USUAL_TRASH.iter();
            names.find_map(|name| folders.iter().find(|folder| is_called(folder, name, depth)))
        };
        let name = match (by_use, &self.account.policy.trash_folder) {
            (Some(folder), _) => &folder.name,
            (None, Some(configured)) => configured,
            // At the top, else one below: `INBOX.Trash`, `[Gmail]/Trash`.
            (None, None) => usual(0).or_else(|| usual(1)).map_or(NEW_TRASH, |folder| &folder.name),
        };
        let trash: Arc<str> = Arc::from(name);
        self.view.trash = Some(trash.clone());
        Ok(trash)
    }

    /// The login sees `uids` (ascending) no more; nothing happens upstream.
    async fn hide(&mut self, uids: &[Uid]) -> Result<(), Error> {
        let mut marks = self.marks.clone();
        marks.hidden.extend(uids.iter().map(|uid| uid.0));
        marks.hidden.sort_unstable();
        marks.hidden.dedup();
        self.keep_marks(marks).await
    }

    /// Messages that were removed are known no more.
    pub(super) fn note_removed(&mut self, uids: &[Uid], refused: &[Uid]) {
        let is_gone = |uid: Uid| uids.binary_search(&uid).is_ok() && !refused.contains(&uid);
        self.retrieved.retain(|&uid| !is_gone(uid));
        let index: &mut Index = Arc::make_mut(&mut self.view.index);
        index.retain(|uid| !is_gone(Uid(uid)));
        self.is_saved = false;
        let news = self.mailbox.news();
        if news.expunged == (uids.len() - refused.len()) as u64 && !news.flags {
            self.mailbox.clear_news();
        }
    }
}

/// Whether `folder` bears this name, so many levels below the top.
fn is_called(folder: &Folder, name: &str, depth: usize) -> bool {
    match (folder.name.strip_suffix(name), folder.delimiter) {
        (Some(""), _) => depth == 0,
        (Some(prefix), Some(delimiter)) => prefix.ends_with(delimiter) && prefix.matches(delimiter).count() == depth,
        (Some(_), None) | (None, _) => false,
    }
}
