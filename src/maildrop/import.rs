//! UIDLs of another server (`uidl_import`), so that devices that were moved here need not download everything again.

use std::collections::HashSet;

use super::{removal::Trouble, source::Source};
use crate::{config::UidlImport, types::Uid};

impl Source {
    /// Gives the messages that the file names the UIDLs that it has for them; once for each state of the file: what comes
    /// later keeps the name that devices know it by.
    pub(super) async fn import(&mut self) -> Result<(), Trouble> {
        let policy = self.account.policy.clone();
        let Some(import) = &policy.uidl_import else {
            return Ok(());
        };
        if self.marks.import == import.hash {
            return Ok(());
        }
        let uids: Vec<Uid> = self.view.index.entries.iter().map(|&(uid, _)| Uid(uid)).collect();
        let message_ids = if import.by_message_id.is_empty() {
            Vec::new()
        } else {
            self.mailbox.message_ids(&uids).await?
        };
        let mut marks = self.marks.clone();
        marks.import = import.hash;
        marks.imported = imported(import, &uids, &message_ids);
        tracing::info!(
            login = self.account.login,
            mailbox = %self.name,
            messages = uids.len(),
            imported = marks.imported.len(),
            "UIDLs of another server"
        );
        // They need not be retrieved here to be known again under another UIDVALIDITY.
        let named: Vec<Uid> = marks.imported.iter().map(|&(uid, _)| Uid(uid)).collect();
        if !named.is_empty() && !self.mailbox.selected().uid_not_sticky {
            self.identify(&named).await?;
        }
        self.keep_marks(marks).await.map_err(Trouble::Told)
    }
}

/// UID and UIDL of what the file names, ascending. Where two messages bear the same Message-ID, none is meant.
fn imported(import: &UidlImport, uids: &[Uid], message_ids: &[(Uid, Box<str>)]) -> Vec<(u32, String)> {
    let mut seen = HashSet::new();
    let twice: HashSet<&str> = message_ids
        .iter()
        .map(|(_, id)| &**id)
        .filter(|id| !seen.insert(*id))
        .collect();
    let by_message_id = message_ids.iter().filter(|(_, id)| !twice.contains(&**id));
    let mut names: Vec<(u32, String)> = by_message_id
        .filter_map(|(uid, id)| Some((uid.0, import.find(uid.0, Some(id))?.to_owned())))
        .collect();
    names.extend(
        uids.iter()
            .filter_map(|uid| Some((uid.0, import.find(uid.0, None)?.to_owned()))),
    );
    names.sort_unstable();
    names.dedup_by_key(|&mut (uid, _)| uid);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_message_id_and_by_uid() {
        let import = UidlImport {
            by_message_id: [("a@b", "A"), ("c@d", "C"), ("e@f", "E")]
                .map(|(id, uidl)| (id.to_owned(), uidl.to_owned()))
                .into(),
            by_uid: [(4, "four".to_owned()), (9, "nine".to_owned())].into(),
            hash: 1,
        };
        let ids = [(1, "<a@b>"), (2, "<c@d>"), (3, "<c@d>"), (5, "<x@y>")].map(|(uid, id)| (Uid(uid), id.into()));
        let uids = [1, 2, 3, 4, 5].map(Uid);
        assert_eq!(
            imported(&import, &uids, &ids),
            [(1, "A".to_owned()), (4, "four".to_owned())],
            "two bear <c@d>, nobody bears <e@f>, there is no 9"
        );
    }
}
