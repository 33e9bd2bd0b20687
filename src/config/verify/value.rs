//! Checks that several keys need: required keys, files, secrets.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use super::Verifier;
use crate::{
    config::{Secret, keys::Document, value::FileName},
    types::read_file,
};

/// A value, or [`Noted`] if it has a mistake.
pub(super) type Checked<T> = Result<T, Noted>;

/// A mistake has been found, and noted in `Sources::mistakes`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Noted;

impl Verifier<'_> {
    /// Notes a mistake in the value of `path`. An empty `help` counts as none.
    pub(super) fn wrong(&mut self, path: &str, what: impl Into<String>, help: impl Into<String>) -> Noted {
        let help = help.into();
        self.sources.wrong(path, what, (!help.is_empty()).then_some(help));
        Noted
    }

    /// Notes that `path` is missing, unless a mistyped key was probably meant to be it.
    pub(super) fn missing(&mut self, path: &str, help: impl Into<String>) -> Noted {
        if self.sources.intended.iter().any(|intended| intended.starts_with(path)) {
            Noted
        } else {
            self.wrong(path, "is missing", help)
        }
    }

    /// The value of `path`, which must be given.
    pub(super) fn required<T>(&mut self, path: &str, value: Option<T>) -> Checked<T> {
        value.ok_or_else(|| {
            let help = Document::SHAPE.find(path).map_or("", |key| key.help);
            self.missing(path, help)
        })
    }

    /// The path of a file, which popgate must be able to open. A relative name starts at the configuration's directory.
    pub(super) fn readable(&mut self, path: &str, name: &FileName) -> Checked<PathBuf> {
        let file = self.directory.join(&name.0);
        self.files.push(file.clone());
        match File::open(&file).and_then(|opened| opened.metadata()) {
            Ok(metadata) if metadata.is_dir() => Err(self.unreadable(path, &file, "is a directory")),
            Ok(_) => Ok(file),
            Err(error) => {
                if error.kind() == io::ErrorKind::PermissionDenied {
                    self.denied.push(file.clone());
                }
                Err(self.unreadable(path, &file, &reason(&error)))
            }
        }
    }

    pub(super) fn read(&mut self, path: &str, name: &FileName) -> Checked<Vec<u8>> {
        let file = self.readable(path, name)?;
        read_file(&file).map_err(|error| self.unreadable(path, &file, &reason(&error)))
    }

    fn unreadable(&mut self, path: &str, file: &Path, reason: &str) -> Noted {
        let help = if file.is_absolute() {
            "check the path, and that popgate's user may read it"
        } else {
            "check the path (it is relative to the configuration's directory), and that popgate's user may read it"
        };
        self.wrong(path, format!("{}: {reason}", file.display()), help)
    }

    /// The secret that is given by `path` itself, or by the file that `path`_file names. Giving both is a mistake;
    /// `None` if neither is given.
    pub(super) fn secret(
        &mut self,
        path: &str,
        literal: Option<Secret>,
        file: Option<FileName>,
    ) -> Checked<Option<Secret>> {
        let file_path = format!("{path}_file");
        if self.sources.is_wrong(path) || self.sources.is_wrong(&file_path) {
            return Err(Noted);
        }
        match (literal, file) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => {
                let key = path.rsplit('.').next().unwrap_or(path);
                Err(self.wrong(&file_path, format!("`{key}` is given too"), "give one of the two"))
            }
            (Some(secret), None) => {
                self.note_literal(path);
                Ok(Some(secret))
            }
            (None, Some(file)) => {
                let mut octets = self.read(&file_path, &file)?;
                // Editors and `echo` add a line end, which is removed. Nothing else is removed, because a space may
                // belong to the secret.
                if octets.ends_with(b"\n") {
                    octets.pop();
                    if octets.ends_with(b"\r") {
                        octets.pop();
                    }
                }
                if octets.is_empty() {
                    return Err(self.wrong(&file_path, format!("{} is empty", file.0), ""));
                }
                self.warn_if_world_readable(&file_path, &file);
                Ok(Some(Secret::from(octets)))
            }
        }
    }

    /// Notes that the configuration file itself has the secret `path`, unless a variable gives it.
    pub(super) fn note_literal(&mut self, path: &str) {
        if !self.sources.variables.contains_key(path) {
            self.literal.push(path.to_owned());
        }
    }

    /// Warns if every user of this machine may read the file of a secret.
    pub(super) fn warn_if_world_readable(&mut self, path: &str, name: &FileName) {
        let file = self.directory.join(&name.0);
        // In containers, all users may read the files of secrets by design.
        if world_readable(&file) && !file.starts_with("/run/secrets") {
            let file = file.display();
            self.warnings.push(format!(
                "{file} ({path}) may be read by every user of this machine: chmod 600"
            ));
        }
    }
}

/// The text of an error without its number: "No such file or directory", not "… (os error 2)".
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

#[cfg(unix)]
pub(super) fn world_readable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

#[cfg(not(unix))]
pub(super) fn world_readable(_file: &Path) -> bool {
    false
}
