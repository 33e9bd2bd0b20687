//! The `passwords_file` of an `[[account]]`, which is read again when it changes.

use std::{fs, io, path::PathBuf, sync::Mutex, time::SystemTime};

use arc_swap::ArcSwap;
use tokio::task;

use crate::{config::Passwords, types::read_file};

/// A file of password hashes. At each login it is checked whether the file has changed.
#[derive(Debug)]
pub(super) struct PasswordsFile {
    path: PathBuf,
    /// The domain that is added to logins that the file lists without one.
    default_domain: Option<String>,
    current: ArcSwap<Passwords>,
    /// Modification time and size of the file when it was last checked; `Some(None)` if the file was missing, `None`
    /// before the first check.
    seen: Mutex<Option<Option<Stamp>>>,
}

type Stamp = (Option<SystemTime>, u64);

impl PasswordsFile {
    pub(super) fn new(path: PathBuf, default_domain: Option<String>) -> Self {
        let file = Self {
            path,
            default_domain,
            current: ArcSwap::default(),
            seen: Mutex::default(),
        };
        file.read_if_changed();
        file
    }

    /// The hash of `login`. Reads the file again first if it has changed.
    pub(super) async fn hash(self: &std::sync::Arc<Self>, login: &str) -> Option<String> {
        let file = self.clone();
        // This fails only when the runtime shuts down.
        let _ = task::spawn_blocking(move || file.read_if_changed()).await;
        self.current.load().hash(login).map(str::to_owned)
    }

    pub(super) fn logins(&self) -> Vec<String> {
        self.current.load().logins().map(str::to_owned).collect()
    }

    /// The hash of some login of the file; which one does not matter.
    pub(super) fn any(&self) -> Option<String> {
        let current = self.current.load();
        let login = current.logins().next()?;
        current.hash(login).map(str::to_owned)
    }

    /// Reads the file if it has changed since the last check. Returns whether it has.
    fn read_if_changed(&self) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let stamp = fs::metadata(&self.path)
            .map(|file| (file.modified().ok(), file.len()))
            .ok();
        if *seen == Some(stamp) {
            return false;
        }
        let read = read_file(&self.path);
        let read = read.and_then(|octets| String::from_utf8(octets).map_err(io::Error::other));
        let parse = |text: String| Passwords::parse(&text, self.default_domain.as_deref());
        let parsed = read.and_then(|text| parse(text).map_err(io::Error::other));
        let file = self.path.display();
        match parsed {
            Ok(passwords) => {
                if seen.is_some() {
                    tracing::info!(%file, "passwords reloaded");
                }
                self.current.store(passwords.into());
            }
            // Logged once for each change of the file.
            Err(error) => tracing::error!(%file, %error, "passwords not reloaded, the old ones stay in use"),
        }
        *seen = Some(stamp);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So an error in the file is logged once, and not at each login.
    #[test]
    fn a_file_is_read_once_for_each_change() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("passwords");
        let file = PasswordsFile::new(path.clone(), None);
        assert!(!file.read_if_changed(), "it is missing still");
        fs::write(&path, "eva:$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo\n").unwrap();
        assert!(file.read_if_changed());
        assert_eq!(file.logins(), ["eva"]);
        assert!(!file.read_if_changed());
        fs::remove_file(&path).unwrap();
        assert!(file.read_if_changed());
        assert!(!file.read_if_changed());
        assert_eq!(file.logins(), ["eva"], "the old ones stay in use");
    }
}
