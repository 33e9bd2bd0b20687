//! The `passwords_file` of an `[[account]]`, which is read again when it changes.

use std::{fs, io, path::PathBuf, sync::Mutex, time::SystemTime};

use arc_swap::ArcSwap;
use tokio::task;

use crate::config::Passwords;

/// A file of password hashes. Each login checks whether the file has changed.
#[derive(Debug)]
pub(super) struct PasswordsFile {
    path: PathBuf,
    /// The domain that is added to logins that the file lists without one.
    default_domain: Option<String>,
    current: ArcSwap<Passwords>,
    /// Modification time and size of the file when it was last read; `None` if the file was missing.
    seen: Mutex<Option<Stamp>>,
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

    /// All logins of the file.
    pub(super) fn logins(&self) -> Vec<String> {
        self.current.load().logins().map(str::to_owned).collect()
    }

    /// The hash of some login of the file; which one does not matter.
    pub(super) fn any(&self) -> Option<String> {
        let current = self.current.load();
        let login = current.logins().next()?;
        current.hash(login).map(str::to_owned)
    }

    fn read_if_changed(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let stamp = fs::metadata(&self.path)
            .map(|file| (file.modified().ok(), file.len()))
            .ok();
        if stamp.is_some() && *seen == stamp {
            return;
        }
        let read = fs::read_to_string(&self.path);
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
            // Logged once for each change of the file; at each login if the file is missing.
            Err(error) if *seen != stamp || seen.is_none() => {
                tracing::error!(%file, %error, "passwords not reloaded, the old ones stay in use");
            }
            Err(_) => {}
        }
        *seen = stamp;
    }
}
