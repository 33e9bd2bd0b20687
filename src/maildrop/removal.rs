//! The delete policy: what becomes of messages that are deleted (semantics of `on_delete`).

use std::sync::{Arc, LazyLock};

use super::{Error, Reason, source::Source};
use crate::{
    config::OnDelete,
    imap::{self, Folder, Namespace, NotMoved},
    state::Index,
    types::Uid,
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

/// Folders that servers without SPECIAL-USE (RFC 6154) keep deleted messages in, the likeliest first.
static USUAL_TRASH: LazyLock<Vec<String>> = LazyLock::new(|| {
    let lines = include_str!("trash_names.txt").lines();
    let names = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    names.map(str::to_lowercase).collect()
});
/// What `trash` makes if there is no such folder.
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
            let refreshed = self.mailbox.refresh_if_old().await;
            match refreshed.map_err(Trouble::from) {
                Ok(()) => {}
                Err(Trouble::Upstream(error)) if error.is_lost() && !is_new => continue,
                Err(trouble) => return Err(trouble.told(&self.account)),
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
        match self.target().await? {
            // What lies in the trash is removed from there for good.
            Some(target) if *target != *self.mailbox.folder() => {
                let NotMoved { for_now, ever } = if self.mailbox.has_move() {
                    self.mailbox.move_to(uids, &target).await?
                } else {
                    NotMoved {
                        for_now: Vec::new(),
                        ever: uids.to_vec(),
                    }
                };
                let mut refused = for_now;
                if !ever.is_empty() {
                    refused.extend(self.copy_and_remove(&ever, &target).await?);
                    refused.sort_unstable();
                }
                Ok(refused)
            }
            _ => Ok(self.mailbox.remove(uids).await?),
        }
    }

    /// The folder that deleted messages go to, as the server calls it; `None` if they are removed for good.
    async fn target(&mut self) -> Result<Option<Arc<str>>, imap::Error> {
        if let Some(target) = &self.view.target {
            return Ok(Some(target.clone()));
        }
        let policy = self.account.policy.clone();
        let name = match &policy.on_delete {
            OnDelete::Expunge | OnDelete::Hide => return Ok(None),
            OnDelete::MoveTo(folder) => self.mailbox.name_to_file_into(folder).await?,
            OnDelete::Trash => self.trash(policy.trash_folder.as_deref()).await?,
        };
        let target: Arc<str> = Arc::from(name);
        self.view.target = Some(target.clone());
        Ok(Some(target))
    }

    /// The folder for deleted messages: the one with `\Trash` (RFC 6154 §2), else the configured one, else one that bears a
    /// usual name; `Trash` if there is none.
    async fn trash(&mut self, configured: Option<&str>) -> Result<String, imap::Error> {
        let folders = self.mailbox.folders().await?;
        if let Some(folder) = folders.iter().find(|folder| folder.is_trash) {
            return Ok(folder.name.clone());
        }
        if let Some(configured) = configured {
            return self.mailbox.name_to_file_into(configured).await;
        }
        let namespace = self.mailbox.namespace().await?;
        let own: Vec<String> = folders
            .iter()
            .map(|folder| own_name(folder, &namespace).to_lowercase())
            .collect();
        let mut usual = USUAL_TRASH
            .iter()
            .filter_map(|name| own.iter().position(|own| own == name));
        match usual.next() {
            Some(at) => Ok(folders[at].name.clone()),
            None => self.mailbox.name_to_file_into(NEW_TRASH).await,
        }
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
        let changes = self.mailbox.changes();
        if changes.expunged == (uids.len() - refused.len()) as u64 && !changes.flags {
            self.mailbox.clear_changes();
        }
    }
}

/// Folders that are but a shelf for a user's own.
const SHELVES: [&str; 3] = ["INBOX", "[Gmail]", "[Google Mail]"];

/// The name of a folder below the user's root, or below a shelf there: `Trash`, `INBOX.Trash`, `[Gmail]/Trash`.
fn own_name<'a>(folder: &'a Folder, namespace: &Namespace) -> &'a str {
    let name = namespace.without_prefix(&folder.name);
    let below = folder.delimiter.and_then(|delimiter| {
        let (shelf, below) = name.split_once(delimiter)?;
        SHELVES
            .iter()
            .any(|known| shelf.eq_ignore_ascii_case(known))
            .then_some(below)
    });
    below.unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn usual_names_are_there_once_each() {
        let names: BTreeSet<_> = USUAL_TRASH.iter().collect();
        assert_eq!(names.len(), USUAL_TRASH.len());
        for name in ["trash", "gelöschte elemente", "éléments supprimés", "корзина", "ゴミ箱"] {
            assert!(USUAL_TRASH.iter().any(|usual| usual == name), "{name}");
        }
        for junk in ["junk", "spam", "junk e-mail", "spamverdacht"] {
            assert!(!USUAL_TRASH.iter().any(|usual| usual == junk), "{junk}");
        }
    }
}
