//! Finds out where deleted messages go, and what would prevent a delete, without deleting anything: by LIST, STATUS and
//! MYRIGHTS (RFC 4314 §3.5).

use super::trash::{self, Choice};
use crate::{
    config::{OnDelete, Policy},
    imap::{Error, Folder, Mailbox},
};

/// The effects that a delete would have, and the obstacles that it would meet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeletePreview {
    /// The effects on deleted messages, each once. There are several if the folders of a maildrop differ.
    pub effects: Vec<DeleteEffect>,
    /// The obstacles that would prevent the delete.
    pub obstacles: Vec<Obstacle>,
}

/// What becomes of a deleted message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeleteEffect {
    /// It is hidden from the login.
    Hidden,
    /// It is removed for good.
    Expunged,
    /// It stays: `on_delete` would move it to the folder that it is in.
    Kept,
    /// It moves to this folder, which exists. The name is the server's.
    Moved(String),
    /// It moves to this folder, which the first deletion creates.
    MovedToNew(String),
}

/// Why a message cannot be deleted in this way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// The folder is read-only.
    ReadOnly(String),
    /// The user may not remove messages from this folder.
    MayNotRemove(String),
    /// The user may not file messages into this folder.
    MayNotInsert(String),
    /// The first folder is missing and cannot be created below the second: the user may not, or the second can have no
    /// folders.
    CannotBeMade(String, String),
}

impl DeletePreview {
    /// The preview for `hide`, which needs nothing of the upstream.
    pub(super) fn hidden() -> Self {
        Self {
            effects: vec![DeleteEffect::Hidden],
            obstacles: Vec::new(),
        }
    }

    /// Adds the effects and obstacles of another folder.
    pub(super) fn add(&mut self, other: Self) {
        for effect in other.effects {
            if !self.effects.contains(&effect) {
                self.effects.push(effect);
            }
        }
        for obstacle in other.obstacles {
            if !self.obstacles.contains(&obstacle) {
                self.obstacles.push(obstacle);
            }
        }
    }
}

/// Where deleted messages of the selected `mailbox` go by `policy`, which is not `hide`. Creates no folder.
pub(super) async fn preview(
    mailbox: &mut Mailbox,
    policy: &Policy,
    is_read_only: bool,
) -> Result<DeletePreview, Error> {
    let source = mailbox.folder().to_owned();
    let mut obstacles = Vec::new();
    if is_read_only {
        obstacles.push(Obstacle::ReadOnly(source.clone()));
    } else if mailbox
        .rights(&source)
        .await?
        .is_some_and(|rights| !rights.may_remove())
    {
        obstacles.push(Obstacle::MayNotRemove(source.clone()));
    }
    let choice = match &policy.on_delete {
        OnDelete::Expunge | OnDelete::Hide => None,
        OnDelete::MoveTo(folder) => Some(Choice::Named(folder.clone())),
        OnDelete::Trash => Some(trash::choose(mailbox, policy.trash_folder.as_deref()).await?),
    };
    let effect = match choice {
        None => DeleteEffect::Expunged,
        Some(choice) => {
            let (name, exists) = match choice {
                Choice::Existing(name) => (name, true),
                Choice::Named(name) => {
                    let name = mailbox.name_on_server(&name).await?;
                    let exists = name == source || mailbox.status(&name).await?.is_some();
                    (name, exists)
                }
            };
            match policy.on_delete {
                OnDelete::Trash if name == source => DeleteEffect::Expunged,
                _ if name == source => DeleteEffect::Kept,
                _ if exists => {
                    if mailbox.rights(&name).await?.is_some_and(|rights| !rights.may_insert()) {
                        obstacles.push(Obstacle::MayNotInsert(name.clone()));
                    }
                    DeleteEffect::Moved(name)
                }
                _ => {
                    obstacles.extend(creation_obstacle(mailbox, &name).await?);
                    DeleteEffect::MovedToNew(name)
                }
            }
        }
    };
    Ok(DeletePreview {
        effects: vec![effect],
        obstacles,
    })
}

/// Why the folder `name` cannot be created, if the folder above it shows that.
async fn creation_obstacle(mailbox: &mut Mailbox, name: &str) -> Result<Option<Obstacle>, Error> {
    let folders = mailbox.folders().await?;
    let Some(above) = above(name, &folders) else {
        return Ok(None);
    };
    let may_not = mailbox
        .rights(&above.name)
        .await?
        .is_some_and(|rights| !rights.may_create_below());
    let cannot = above.is_childless || may_not;
    Ok(cannot.then(|| Obstacle::CannotBeMade(name.to_owned(), above.name.clone())))
}

/// The nearest of `folders` above the folder `name`.
fn above<'a>(name: &str, folders: &'a [Folder]) -> Option<&'a Folder> {
    let is_above = |folder: &&Folder| {
        let rest = name.strip_prefix(folder.name.as_str());
        rest.is_some_and(|rest| folder.delimiter.is_some_and(|delimiter| rest.starts_with(delimiter)))
    };
    folders.iter().filter(is_above).max_by_key(|folder| folder.name.len())
}

#[cfg(test)]
mod tests {
    use super::{super::scene::play, *};

    /// The preview with these keys, at a server with these folders, given as in LIST, and these rights. Returns the
    /// commands too.
    async fn previewed(keys: &str, folders: &[&str], rights: &[(&str, &str)]) -> (DeletePreview, Vec<String>) {
        let list: String = folders.iter().map(|folder| format!("* LIST {folder}\r\n")).collect();
        let answer = |command: &str| {
            let named = |name: &str| command.contains(&format!("\"{name}\"")) || command.ends_with(&format!(" {name}"));
            if command.starts_with("LIST") {
                format!("{list}{{tag}} OK\r\n")
            } else if command.starts_with("NAMESPACE") {
                "* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n{tag} OK\r\n".to_owned()
            } else if command.starts_with("STATUS") {
                let name = command.split('"').nth(1).unwrap_or_default();
                if folders.iter().any(|folder| folder.ends_with(&format!(" {name}"))) {
                    format!("* STATUS \"{name}\" (UIDVALIDITY 1 UIDNEXT 5)\r\n{{tag}} OK\r\n")
                } else {
                    "{tag} NO [NONEXISTENT] no\r\n".to_owned()
                }
            } else if let Some((name, rights)) = rights.iter().find(|(name, _)| named(name)) {
                format!("* MYRIGHTS {name} {rights}\r\n{{tag}} OK\r\n")
            } else {
                "{tag} NO [NOPERM] no\r\n".to_owned()
            }
        };
        let (commands, preview) = play(keys, "IMAP4rev1 NAMESPACE ACL", answer, async |upstream| {
            let policy = upstream.policy().clone();
            preview(upstream.mailbox(), &policy, false).await.unwrap()
        })
        .await;
        (preview, commands)
    }

    const ALL: &str = "lrswipkxte";

    #[tokio::test]
    async fn a_preview_creates_no_folder() {
        let (bin, old) = ("(\\Trash) \"/\" Bin", "() \"/\" Old");
        let inbox = "() \"/\" INBOX";
        for (keys, folders, rights, effect, obstacle) in [
            ("", &[inbox][..], &[("INBOX", ALL)][..], DeleteEffect::Expunged, None),
            (
                "",
                &[inbox],
                &[("INBOX", "lrs")],
                DeleteEffect::Expunged,
                Some(Obstacle::MayNotRemove("INBOX".into())),
            ),
            (
                "on_delete = \"trash\"",
                &[inbox, bin],
                &[("INBOX", ALL), ("Bin", ALL)],
                DeleteEffect::Moved("Bin".into()),
                None,
            ),
            (
                "on_delete = \"trash\"",
                &[inbox, bin],
                &[("INBOX", ALL), ("Bin", "lrs")],
                DeleteEffect::Moved("Bin".into()),
                Some(Obstacle::MayNotInsert("Bin".into())),
            ),
            (
                "on_delete = \"trash\"",
                &[inbox],
                &[],
                DeleteEffect::MovedToNew("Trash".into()),
                None,
            ),
            (
                "on_delete = \"move:Old\"",
                &[inbox, old],
                &[],
                DeleteEffect::Moved("Old".into()),
                None,
            ),
            (
                "on_delete = \"move:Old/Mail\"",
                &[inbox, old],
                &[("Old", "lrsi")],
                DeleteEffect::MovedToNew("Old/Mail".into()),
                Some(Obstacle::CannotBeMade("Old/Mail".into(), "Old".into())),
            ),
            (
                "on_delete = \"move:Old/Mail\"",
                &[inbox, "(\\Noinferiors) \"/\" Old"],
                &[],
                DeleteEffect::MovedToNew("Old/Mail".into()),
                Some(Obstacle::CannotBeMade("Old/Mail".into(), "Old".into())),
            ),
        ] {
            let (preview, commands) = previewed(keys, folders, rights).await;
            assert_eq!(preview.effects, [effect], "{keys}");
            assert_eq!(preview.obstacles, Vec::from_iter(obstacle), "{keys}");
            assert!(
                !commands.iter().any(|command| command.starts_with("CREATE")),
                "{commands:?}"
            );
        }
    }
}
