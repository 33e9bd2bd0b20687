//! `[upstream.NAME.maildrop]`, and `maildrop = { … }` of an account.

use std::sync::Arc;

use super::Verifier;
use crate::config::{
    OnDelete, OnRetrieve, Order, Oversize, Policy, Retention, UidlFormat, UidlImport, UidlTemplate, View, error::Error,
    file, nearest::nearest, policy::folder_name, preset::Preset,
};

/// A hundred years: longer is a slip of the keyboard.
const MOST_DAYS: u64 = 36_500;

/// What stands in for the keys that an upstream does not give.
pub(super) fn default_policy(preset: Option<&Preset>) -> Policy {
    Policy {
        on_delete: match preset.and_then(|preset| preset.on_delete.as_deref()) {
            Some("trash") => OnDelete::Trash,
            _ => OnDelete::Expunge,
        },
        ..Policy::default()
    }
}

impl Verifier<'_> {
    /// A maildrop's policy: the keys of `maildrop` over `inherited`. Each folder takes one of `connections`.
    pub(super) fn maildrop(
        &mut self,
        path: &str,
        maildrop: file::Maildrop,
        inherited: &Policy,
        connections: usize,
    ) -> Result<Policy, Error> {
        let key = |name: &str| format!("{path}.{name}");
        // Which of this table's keys decides where a delete moves to; where none does, its folder is what may be wrong.
        let target_key = match (&maildrop.on_delete, &maildrop.trash_folder) {
            (Some(word), _) if word.starts_with("move:") => "on_delete",
            (_, Some(_)) => "trash_folder",
            (Some(_), None) => "on_delete",
            (None, None) => "folder",
        };
        let folders = match maildrop.folder {
            Some(file::TextOrTexts(folders)) => self.folders(&key("folder"), folders, connections)?,
            None => inherited.folders.clone(),
        };
        let folder_separator = match maildrop.folder_separator {
            Some(separator) => Some(self.separator(&key("folder_separator"), separator)?),
            None => inherited.folder_separator.clone(),
        };
        let retrieve = [("mark-read", OnRetrieve::MarkRead), ("keep", OnRetrieve::Keep)];
        let on_retrieve = self.word(&key("on_retrieve"), maildrop.on_retrieve, &retrieve)?;
        let on_delete = match maildrop.on_delete {
            Some(word) => self.on_delete(&key("on_delete"), &word)?,
            None => inherited.on_delete.clone(),
        };
        let trash_folder = match maildrop.trash_folder {
            Some(folder) => Some(self.folder(&key("trash_folder"), folder)?),
            None => inherited.trash_folder.clone(),
        };
        let target = match &on_delete {
            OnDelete::MoveTo(folder) => Some(folder),
            OnDelete::Trash => trash_folder.as_ref(),
            OnDelete::Expunge | OnDelete::Hide => None,
        };
        if let Some(folder) = target.filter(|folder| folders.contains(folder)) {
            let what = format!("deleted messages would move to {folder:?}, which is shown, and come back");
            let help = "move them to a folder that `folder` does not name, or set on_delete = \"expunge\"";
            return Err(self.error(&key(target_key), what, help));
        }
        let retention = self.retention(
            path,
            maildrop.delete_after_retrieve,
            maildrop.retain_days,
            inherited.retention,
        )?;
        let limit = |name: &str, value: Option<u64>, most: u64| match value {
            Some(value) => self.number(&key(name), Some(value), 1, 1..=most).map(Some),
            None => Ok(None),
        };
        let within_days = limit("within_days", maildrop.within_days, MOST_DAYS)?.map(|days| days as u32);
        let newest = limit("newest", maildrop.newest, u32::MAX.into())?.map(|count| count as u32);
        let max_octets = limit("max_octets", maildrop.max_octets, i64::MAX as u64)?;
        let oversize = [("leave-out", Oversize::LeaveOut), ("notice", Oversize::Notice)];
        let oversize = self.word(&key("oversize"), maildrop.oversize, &oversize)?;
        let order = [
            ("oldest-first", Order::OldestFirst),
            ("newest-first", Order::NewestFirst),
        ];
        let order = self.word(&key("order"), maildrop.order, &order)?;
        let view = View {
            unseen_only: maildrop.unseen_only.unwrap_or(inherited.view.unseen_only),
            within_days: within_days.or(inherited.view.within_days),
            newest: newest.or(inherited.view.newest),
            max_octets: max_octets.or(inherited.view.max_octets),
            oversize: oversize.unwrap_or(inherited.view.oversize),
            order: order.unwrap_or(inherited.view.order),
        };
        let uidl = match maildrop.uidl {
            Some(text) => self.uidl(&key("uidl"), text)?,
            None => inherited.uidl.clone(),
        };
        let uidl_import = match maildrop.uidl_import {
            Some(file) => Some(Arc::new(self.uidl_import(&key("uidl_import"), &file)?)),
            None => inherited.uidl_import.clone(),
        };
        if folders.len() > 1 && uidl_import.as_ref().is_some_and(|import| !import.by_uid.is_empty()) {
            let what = "names messages by UID, and nobody could tell in which of the folders";
            let help = "name them by Message-ID, or give one `folder`";
            return Err(self.error(&key("uidl_import"), what, help));
        }
        Ok(Policy {
            folders,
            folder_separator,
            on_retrieve: on_retrieve.unwrap_or(inherited.on_retrieve),
            on_delete,
            trash_folder,
            retention,
            view,
            uidl,
            uidl_import,
        })
    }

    fn folder(&self, path: &str, folder: String) -> Result<String, Error> {
        let folder = self.text(path, Some(folder), "give the folder's name")?;
        Ok(folder_name(&folder))
    }

    fn folders(&self, path: &str, names: Vec<String>, connections: usize) -> Result<Vec<String>, Error> {
        let mut folders: Vec<String> = Vec::new();
        for name in names {
            let folder = self.folder(path, name)?;
            if folders.contains(&folder) {
                return Err(self.error(path, format!("{folder:?} stands there twice"), "name each folder once"));
            }
            folders.push(folder);
        }
        if folders.is_empty() {
            return Err(self.error(path, "is empty", "name a folder, or leave it out for INBOX"));
        }
        if folders.len() > connections {
            let what = format!(
                "{} folders take {0} connections at once, and connections_per_user is {connections}",
                folders.len()
            );
            return Err(self.error(
                path,
                what,
                "name fewer folders, or raise connections_per_user of the upstream",
            ));
        }
        Ok(folders)
    }

    fn separator(&self, path: &str, separator: String) -> Result<String, Error> {
        let separator = self.text(path, Some(separator), "such as \"+\"; leave it out for none")?;
        let refused = |c: &char| *c == '@' || *c == '*' || c.is_whitespace();
        match separator.chars().find(refused) {
            None => Ok(separator),
            // `*` stands for anything in `logins`.
            Some(refused) => Err(self.error(
                path,
                format!("{refused:?} can't separate login and folder"),
                "choose a character that stands in no login, such as \"+\"",
            )),
        }
    }

    fn on_delete(&self, path: &str, word: &str) -> Result<OnDelete, Error> {
        if let Some(folder) = word.strip_prefix("move:") {
            let help = "name the folder, such as \"move:Archive\"";
            let folder = self.text(path, Some(folder.to_owned()), help)?;
            return Ok(OnDelete::MoveTo(folder_name(&folder)));
        }
        let known = ["expunge", "trash", "move:FOLDER", "hide"];
        let help = match word.split_once(':') {
            Some((_, folder)) => format!("write \"move:{folder}\""),
            None => match nearest(word, ["expunge", "trash", "move", "hide"]) {
                Some("move") => "name the folder, such as \"move:Archive\"".to_owned(),
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("one of {}", known.map(|word| format!("\"{word}\"")).join(", ")),
            },
        };
        match word {
            "expunge" => Ok(OnDelete::Expunge),
            "trash" => Ok(OnDelete::Trash),
            "hide" => Ok(OnDelete::Hide),
            _ => Err(self.error(path, format!("unknown value {word:?}"), help)),
        }
    }

    /// What a table gives goes over what it inherits; only within one table do the two keys contradict each other.
    fn retention(
        &self,
        path: &str,
        at_once: Option<bool>,
        days: Option<u64>,
        inherited: Retention,
    ) -> Result<Retention, Error> {
        let path = format!("{path}.retain_days");
        match (at_once, days) {
            (Some(true), Some(_)) => {
                let what = "delete_after_retrieve = true is given too, and keeps nothing";
                Err(self.error(&path, what, "give one of the two"))
            }
            (_, Some(days)) => {
                let days = self.number(&path, Some(days), 1, 1..=MOST_DAYS)?;
                Ok(Retention::Days(days as u32))
            }
            (Some(true), None) => Ok(Retention::AfterRetrieve),
            (Some(false), None) if inherited == Retention::AfterRetrieve => Ok(Retention::Keep),
            (_, None) => Ok(inherited),
        }
    }

    fn uidl(&self, path: &str, text: String) -> Result<UidlFormat, Error> {
        if text.contains('%') {
            let template = UidlTemplate::parse(&text);
            return template
                .map(UidlFormat::Template)
                .map_err(|wrong| self.error(path, wrong.what, wrong.help));
        }
        let formats = [
            UidlFormat::ValidityUid,
            UidlFormat::EmailId,
            UidlFormat::Dovecot,
            UidlFormat::Cyrus,
            UidlFormat::Courier,
            UidlFormat::Uid,
        ]
        .map(|format| (format.to_string(), format));
        let words = formats.each_ref().map(|(word, format)| (word.as_str(), format));
        let format = self.word(path, Some(text), &words)?;
        Ok(format.cloned().unwrap_or(UidlFormat::ValidityUid))
    }

    fn uidl_import(&mut self, path: &str, file: &str) -> Result<UidlImport, Error> {
        let octets = self.read(path, file)?;
        let shown = self.directory.join(file);
        let wrong = |line: usize, what: &str| {
            let help = "each line is a UIDL, a tab, and the message's Message-ID or UID";
            self.error(path, format!("{}:{line}: {what}", shown.display()), help)
        };
        let text = std::str::from_utf8(&octets).map_err(|error| {
            let before = &octets[..error.valid_up_to()];
            wrong(1 + before.iter().filter(|octet| **octet == b'\n').count(), "not UTF-8")
        })?;
        let (import, ambiguous) = UidlImport::parse(text).map_err(|(line, what)| wrong(line, &what))?;
        if ambiguous > 0 {
            self.warnings.push(format!(
                "{} ({path}): {ambiguous} Message-IDs stand there more than once and are left out, \
                 for nobody can tell which message is meant: devices will fetch those again",
                shown.display()
            ));
        }
        Ok(import)
    }
}
