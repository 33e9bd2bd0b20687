//! Single values: numbers in a range, words of a list, files, secrets.

use std::{
    fs::File,
    io,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use super::Verifier;
use crate::config::{Secret, error::Error, nearest::nearest};

impl Verifier<'_> {
    /// Something wrong with the value of `path`, or with its absence.
    pub(super) fn error(&self, path: &str, what: impl Into<String>, help: impl Into<String>) -> Error {
        let help = help.into();
        self.sources.error(path, what, (!help.is_empty()).then_some(help))
    }

    pub(super) fn number(
        &self,
        path: &str,
        value: Option<u64>,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> Result<u64, Error> {
        match value.unwrap_or(default) {
            value if range.contains(&value) => Ok(value),
            value => {
                let what = format!("{value} is out of range");
                Err(self.error(path, what, format!("from {} to {}", range.start(), range.end())))
            }
        }
    }

    pub(super) fn word<T: Copy>(
        &self,
        path: &str,
        value: Option<String>,
        words: &[(&str, T)],
    ) -> Result<Option<T>, Error> {
        let Some(value) = value else { return Ok(None) };
        match words.iter().find(|(word, _)| *word == value) {
            Some((_, meaning)) => Ok(Some(*meaning)),
            None => {
                let known = words.iter().map(|(word, _)| *word);
                let help = match nearest(&value, known.clone()) {
                    Some(word) => format!("did you mean \"{word}\"?"),
                    None => format!(
                        "one of {}",
                        known.map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
                    ),
                };
                Err(self.error(path, format!("unknown value {value:?}"), help))
            }
        }
    }

    /// Text that must be there, is not empty and has no control characters.
    pub(super) fn text(&self, path: &str, value: Option<String>, missing: &str) -> Result<String, Error> {
        match value {
            None => Err(self.error(path, "is missing", missing)),
            Some(text) if text.is_empty() => Err(self.error(path, "is empty", missing)),
            Some(text) if text.chars().any(char::is_control) => Err(self.error(
                path,
                "holds a control character",
                "it must be a single line of visible characters",
            )),
            Some(text) => Ok(text),
        }
    }

    pub(super) fn path(&self, path: &str, value: &str) -> Result<PathBuf, Error> {
        match value {
            "" => Err(self.error(path, "is empty", "name a file, or leave the key out")),
            value => Ok(self.directory.join(value)),
        }
    }

    /// A file that can be opened.
    pub(super) fn readable(&self, path: &str, value: &str) -> Result<PathBuf, Error> {
        let file = self.path(path, value)?;
        match File::open(&file).and_then(|opened| opened.metadata()) {
            Ok(metadata) if metadata.is_dir() => Err(self.unreadable(path, &file, "is a directory")),
            Ok(_) => Ok(file),
            Err(error) => Err(self.unreadable(path, &file, &reason(&error))),
        }
    }

    /// The octets of a file.
    pub(super) fn read(&self, path: &str, value: &str) -> Result<Vec<u8>, Error> {
        let file = self.readable(path, value)?;
        std::fs::read(&file).map_err(|error| self.unreadable(path, &file, &reason(&error)))
    }

    fn unreadable(&self, path: &str, file: &Path, reason: &str) -> Error {
        let help = if file.is_absolute() {
            "check the path, and that popgate's user may read it"
        } else {
            "check the path (it is relative to the configuration's directory), and that popgate's user may read it"
        };
        self.error(path, format!("{}: {reason}", file.display()), help)
    }

    /// A secret from `path` itself or from the file that `path`_file names; both is an error, none is `None`.
    pub(super) fn secret(
        &mut self,
        path: &str,
        literal: Option<Secret>,
        file: Option<String>,
    ) -> Result<Option<Secret>, Error> {
        let file_path = format!("{path}_file");
        let secret = match (literal, file) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => {
                let key = path.rsplit('.').next().unwrap_or(path);
                return Err(self.error(&file_path, format!("`{key}` is given too"), "give one of the two"));
            }
            (Some(secret), None) => {
                if !self.sources.variables.contains_key(path) {
                    self.literal.push(path.to_owned());
                }
                secret
            }
            (None, Some(file)) => {
                let mut octets = self.read(&file_path, &file)?;
                // Editors and `echo` end the last line; nothing else is taken off: a space may be meant.
                if octets.ends_with(b"\n") {
                    octets.pop();
                    if octets.ends_with(b"\r") {
                        octets.pop();
                    }
                }
                if octets.is_empty() {
                    return Err(self.error(&file_path, format!("{file} is empty"), ""));
                }
                self.judge_file(&file_path, &file);
                Secret::from(octets)
            }
        };
        if secret.expose().is_empty() {
            return Err(self.error(path, "is empty", "give the password"));
        }
        Ok(Some(secret))
    }

    /// Warns where everybody may read a secret.
    pub(super) fn judge_file(&mut self, path: &str, file: &str) {
        let file = self.directory.join(file);
        // Container secrets are readable for all of the container's users by design.
        if world_readable(&file) && !file.starts_with("/run/secrets") {
            let file = file.display();
            self.warnings.push(format!(
                "{file} ({path}) may be read by every user of this machine: chmod 600"
            ));
        }
    }
}

/// "No such file or directory", without the "(os error 2)".
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
