//! Finds the folder to which `on_delete = "trash"` moves messages.

use std::sync::LazyLock;

use crate::imap::{Error, Folder, Mailbox, Namespace};

/// The usual names of the trash folder at servers without SPECIAL-USE (RFC 6154), the likeliest first.
static USUAL_TRASH: LazyLock<Vec<String>> = LazyLock::new(|| {
    let lines = include_str!("trash_names.txt").lines();
    let names = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    names.map(str::to_lowercase).collect()
});
/// The folder that is created if there is none.
const NEW_TRASH: &str = "Trash";

/// A folder for deleted messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Choice {
    /// A folder that exists, by its name on the server.
    Existing(String),
    /// A folder that need not exist yet, by its name in a configuration.
    Named(String),
}

/// The folder for deleted messages: the one with `\Trash` (RFC 6154 §2), else the configured one, else one with a usual
/// name, else `Trash`.
pub(super) async fn choose(mailbox: &mut Mailbox, configured: Option<&str>) -> Result<Choice, Error> {
    let folders = mailbox.folders().await?;
    if let Some(folder) = folders.iter().find(|folder| folder.is_trash) {
        return Ok(Choice::Existing(folder.name.clone()));
    }
    if let Some(configured) = configured {
        return Ok(Choice::Named(configured.to_owned()));
    }
    let namespace = mailbox.namespace().await?;
    Ok(match usual(&folders, &namespace) {
        Some(folder) => Choice::Existing(folder.name.clone()),
        None => Choice::Named(NEW_TRASH.to_owned()),
    })
}

/// Like [`choose`]. Returns the folder's name on the server, for moving messages there.
pub(super) async fn find(mailbox: &mut Mailbox, configured: Option<&str>) -> Result<String, Error> {
    match choose(mailbox, configured).await? {
        Choice::Existing(name) => Ok(name),
        Choice::Named(name) => mailbox.name_to_file_into(&name).await,
    }
}

/// The folder with the likeliest of the usual names.
fn usual<'a>(folders: &'a [Folder], namespace: &Namespace) -> Option<&'a Folder> {
    let own: Vec<String> = folders
        .iter()
        .map(|folder| own_name(folder, namespace).to_lowercase())
        .collect();
    let at = USUAL_TRASH
        .iter()
        .find_map(|name| own.iter().position(|own| own == name))?;
    Some(&folders[at])
}

/// Folders that servers put above the user's own folders.
const SHELVES: [&str; 3] = ["INBOX", "[Gmail]", "[Google Mail]"];

/// The name of a folder without the namespace's prefix and without a folder of [`SHELVES`] above it: `Trash` for
/// `INBOX.Trash` and for `[Gmail]/Trash`.
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
