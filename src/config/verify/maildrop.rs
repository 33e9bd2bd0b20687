//! Verifies `[upstream.NAME.maildrop]`, and `maildrop = { … }` of an account.

use std::sync::Arc;

use super::{
    Verifier,
    value::{Checked, Noted},
};
use crate::config::{
    OnDelete, Policy, Preset, Retention, UidlImport, View, key::Layer, keys::Maildrop, source::line_number,
    value::FileName,
};

/// The keys of a maildrop, and the tables that they come from.
pub(super) struct KeyPaths<'a> {
    /// The path of the account's or upstream's own table.
    path: String,
    own: &'a Layer<Maildrop>,
    /// The upstream's table, whose keys apply if `own` does not give them.
    below: Option<String>,
}

impl<'a> KeyPaths<'a> {
    pub(super) fn of_upstream(upstream: &str, own: &'a Layer<Maildrop>) -> Self {
        Self {
            path: format!("{upstream}.maildrop"),
            own,
            below: None,
        }
    }

    pub(super) fn of_account(account: &str, own: &'a Layer<Maildrop>, upstream: &str) -> Self {
        Self {
            path: format!("{account}.maildrop"),
            own,
            below: Some(format!("upstream.{upstream}.maildrop")),
        }
    }

    /// The path of the key that is in force.
    fn key(&self, name: &str) -> String {
        match &self.below {
            Some(below) if !self.own.gives(name) => format!("{below}.{name}"),
            _ => self.own_key(name),
        }
    }

    fn own_key(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }
}

/// The maildrop keys of the preset, which apply if the upstream does not give them.
pub(super) fn of_preset(preset: Option<&Preset>) -> Layer<Maildrop> {
    let on_delete = preset.and_then(|preset| preset.on_delete.as_deref());
    Layer::of(on_delete.map(|word| ("on_delete", word)))
}

impl Verifier<'_> {
    /// Verifies the policy of a maildrop. Each folder takes one of `connections`.
    pub(super) fn maildrop(&mut self, paths: &KeyPaths<'_>, maildrop: Maildrop, connections: usize) -> Checked<Policy> {
        let folders = maildrop.folder.0;
        let count = folders.len();
        if count > connections {
            let what =
                format!("{count} folders take {count} connections at once, and connections_per_user is {connections}");
            let help = "name fewer folders, or raise connections_per_user of the upstream";
            self.wrong(&paths.key("folder"), what, help);
        }
        let trash_folder = maildrop.trash_folder.map(|folder| folder.0);
        let target = match &maildrop.on_delete {
            OnDelete::MoveTo(folder) => Some(folder),
            OnDelete::Trash => trash_folder.as_ref(),
            OnDelete::Expunge | OnDelete::Hide => None,
        };
        if let Some(folder) = target.filter(|folder| folders.contains(folder)) {
            // Blames the key of this table that decides where deleted messages go. If the table has no such key,
            // `folder` is wrong.
            let decides: &[&str] = match maildrop.on_delete {
                OnDelete::MoveTo(_) => &["on_delete"],
                _ => &["trash_folder", "on_delete"],
            };
            let given = decides.iter().find(|name| paths.own.gives(name));
            let key = given.copied().unwrap_or("folder");
            let what = format!("deleted messages would move to {folder:?}, which is shown, and come back");
            let help = "move them to a folder that `folder` does not name, or set on_delete = \"expunge\"";
            self.wrong(&paths.own_key(key), what, help);
        }
        let retention = match (maildrop.delete_after_retrieve, maildrop.retain_days) {
            (true, Some(_)) => {
                let what = "delete_after_retrieve = true is given too, and keeps nothing";
                self.wrong(&paths.key("retain_days"), what, "give one of the two");
                Retention::Keep
            }
            (false, Some(days)) => Retention::Days(days.0),
            (true, None) => Retention::AfterRetrieve,
            (false, None) => Retention::Keep,
        };
        let import_key = paths.key("uidl_import");
        let uidl_import = maildrop
            .uidl_import
            .map(|file| self.uidl_import(&import_key, &file))
            .transpose()?;
        if count > 1 && uidl_import.as_ref().is_some_and(|import| !import.by_uid.is_empty()) {
            let what = "names messages by UID, and does not say in which of the folders";
            self.wrong(&import_key, what, "name them by Message-ID, or give one `folder`");
        }
        Ok(Policy {
            folders,
            folder_separator: maildrop.folder_separator.map(|separator| separator.0),
            on_retrieve: maildrop.on_retrieve,
            on_delete: maildrop.on_delete,
            trash_folder,
            retention,
            view: View {
                unseen_only: maildrop.unseen_only,
                within_days: maildrop.within_days.map(|days| days.0),
                newest: maildrop.newest,
                max_octets: maildrop.max_octets.map(|size| size.0),
                oversize: maildrop.oversize,
                order: maildrop.order,
            },
            nul: maildrop.nul,
            pad_header: maildrop.pad_header,
            uidl: maildrop.uidl,
            uidl_import,
            wait: maildrop.wait_seconds,
            fold_lines: Some(maildrop.fold_lines.0).filter(|&length| length > 0),
        })
    }

    /// Reads the file only once, even if several accounts share it.
    fn uidl_import(&mut self, path: &str, file: &FileName) -> Checked<Arc<UidlImport>> {
        let shown = self.directory.join(&file.0);
        if let Some(read) = self.imports.get(&shown) {
            return read.clone();
        }
        let read = self.read_import(path, file).map(Arc::new);
        self.imports.insert(shown, read.clone());
        read
    }

    fn read_import(&mut self, path: &str, file: &FileName) -> Checked<UidlImport> {
        let octets = self.read(path, file)?;
        let shown = self.directory.join(&file.0);
        let mut wrong = |line: usize, what: &str| -> Noted {
            let help = "each line is a UIDL, a tab, and the message's Message-ID or UID";
            self.wrong(path, format!("{}:{line}: {what}", shown.display()), help)
        };
        let text = std::str::from_utf8(&octets)
            .map_err(|error| wrong(line_number(&octets[..error.valid_up_to()]), "not UTF-8"))?;
        let (import, ambiguous) = UidlImport::parse(text).map_err(|(line, what)| wrong(line, &what))?;
        if ambiguous > 0 {
            let occur = match ambiguous {
                1 => "1 Message-ID occurs".to_owned(),
                count => format!("{count} Message-IDs occur"),
            };
            self.warnings.push(format!(
                "{} ({path}): {occur} more than once. Nobody can tell which message is meant, so these lines are left \
                 out, and devices will fetch those messages again",
                shown.display()
            ));
        }
        Ok(import)
    }
}
