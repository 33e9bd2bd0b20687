//! Certificates by the name that a device asks for (SNI, RFC 6066 §3), read again when their files change.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, TryLockError},
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwap;

use super::{
    pem::Error,
    validity::{Validity, wildcard},
};
use crate::config::Certificate;

/// The shortest time between two checks whether files have changed.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);

/// Makes a `T` from the files of one `[[tls]]`.
type Make<T> = dyn Fn(&Certificate) -> Result<T, Error> + Send + Sync;

/// A `T` for each `[[tls]]`, made again when its files change.
pub(super) struct Hosts<T> {
    files: Vec<Certificate>,
    make: Box<Make<T>>,
    current: ArcSwap<HostMap<T>>,
    loaded: Mutex<LoadedHosts<T>>,
}

/// The `T`s in use, by host name.
pub(super) struct HostMap<T> {
    by_name: HashMap<String, T>,
    default: T,
}

struct LoadedHosts<T> {
    checked: Instant,
    /// In the order of [`Hosts::files`].
    made: Vec<Made<T>>,
}

struct Made<T> {
    of: T,
    names: Vec<String>,
    modified: [Option<SystemTime>; 3],
}

impl<T: Clone> Hosts<T> {
    /// Reads all files. Errors name the file.
    pub(super) fn load(
        files: &[Certificate],
        make: impl Fn(&Certificate) -> Result<T, Error> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let made: Vec<_> = files
            .iter()
            .map(|files| Made::new(files, &make))
            .collect::<Result<_, _>>()?;
        let map = HostMap::of(&made).ok_or(Error::NoCertificate)?;
        Ok(Self {
            files: files.to_vec(),
            make: Box::new(make),
            current: ArcSwap::from_pointee(map),
            loaded: Mutex::new(LoadedHosts {
                checked: Instant::now(),
                made,
            }),
        })
    }

    /// The `T`s in use now. Reads files again first if they have changed.
    pub(super) fn current(&self) -> Arc<HostMap<T>> {
        self.reload_if_changed();
        self.current.load_full()
    }

    fn reload_if_changed(&self) {
        let mut loaded = match self.loaded.try_lock() {
            Ok(loaded) => loaded,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Another handshake is checking the files.
            Err(TryLockError::WouldBlock) => return,
        };
        if loaded.checked.elapsed() < RELOAD_INTERVAL {
            return;
        }
        loaded.checked = Instant::now();
        let mut is_new = false;
        for (files, made) in self.files.iter().zip(&mut loaded.made) {
            let modified = modified(files);
            if modified == made.modified {
                continue;
            }
            // A renewal may have written only one of its two files. Then the old pair stays in use until the next
            // change.
            made.modified = modified;
            match Made::new(files, &self.make) {
                Ok(new) => {
                    *made = new;
                    is_new = true;
                    tracing::info!(certificate = %files.certificate.display(), "certificate reloaded");
                }
                Err(error) => tracing::error!(%error, "certificate not reloaded, the old one stays in use"),
            }
        }
        if let Some(map) = is_new.then(|| HostMap::of(&loaded.made)).flatten() {
            self.current.store(Arc::new(map));
        }
    }
}

impl<T> Made<T> {
    fn new(files: &Certificate, make: impl Fn(&Certificate) -> Result<T, Error>) -> Result<Self, Error> {
        // Taken before the files are read: a change in between is then found at the next check.
        let modified = modified(files);
        let names = match &files.names {
            Some(names) => names.clone(),
            None => Validity::of(&files.certificate)?.names().to_vec(),
        };
        Ok(Self {
            of: make(files)?,
            names: names.iter().map(|name| name.to_ascii_lowercase()).collect(),
            modified,
        })
    }
}

impl<T: Clone> HostMap<T> {
    /// `None` if `made` is empty. If two certificates have the same name, the first one gets it.
    fn of(made: &[Made<T>]) -> Option<Self> {
        let mut by_name = HashMap::new();
        for made in made {
            for name in &made.names {
                by_name.entry(name.clone()).or_insert_with(|| made.of.clone());
            }
        }
        Some(Self {
            by_name,
            default: made.first()?.of.clone(),
        })
    }

    /// The `T` for a device that asks for `name`; the first `[[tls]]` if no name matches, or the device asks for none.
    pub(super) fn by_name(&self, name: Option<&str>) -> &T {
        name.and_then(|name| {
            let name = name.to_ascii_lowercase();
            let exact = self.by_name.get(&name);
            exact.or_else(|| self.by_name.get(&wildcard(&name)?))
        })
        .unwrap_or(&self.default)
    }
}

fn modified(files: &Certificate) -> [Option<SystemTime>; 3] {
    let modified = |path: &Path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    [
        modified(&files.certificate),
        modified(&files.key),
        files.client_ca.as_deref().and_then(modified),
    ]
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf, time::Duration};

    use super::*;

    /// The `T` of each `[[tls]]` is the text of its key file.
    fn hosts(directory: &Path) -> Hosts<String> {
        let files = ["a", "b"].map(|name| {
            let file = directory.join(name);
            fs::write(&file, name).unwrap();
            Certificate {
                certificate: file.clone(),
                key: file,
                names: Some(vec![name.to_owned()]),
                client_ca: None,
            }
        });
        let read = |files: &Certificate| {
            let text = fs::read_to_string(&files.key).unwrap();
            match text.as_str() {
                "broken" => Err(Error::NoCertificate),
                _ => Ok(text),
            }
        };
        Hosts::load(&files, read).unwrap()
    }

    /// Changes a file of `hosts`, with a later time of modification.
    fn change(hosts: &Hosts<String>, file: usize, text: &str) {
        let path: &PathBuf = &hosts.files[file].key;
        let later = fs::metadata(path).unwrap().modified().unwrap() + Duration::from_secs(5);
        fs::write(path, text).unwrap();
        fs::File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_modified(later)
            .unwrap();
    }

    fn shown(hosts: &Hosts<String>) -> [String; 3] {
        let current = hosts.current();
        [Some("a"), Some("b"), None].map(|name| current.by_name(name).clone())
    }

    /// Makes the next check of the files due.
    fn wait(hosts: &Hosts<String>) {
        let mut loaded = hosts.loaded.lock().unwrap();
        loaded.checked = Instant::now().checked_sub(RELOAD_INTERVAL).unwrap();
    }

    #[test]
    fn what_changes_is_read_again_and_what_is_broken_stays_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let hosts = hosts(directory.path());
        assert_eq!(shown(&hosts), ["a", "b", "a"]);
        change(&hosts, 0, "a2");
        assert_eq!(shown(&hosts), ["a", "b", "a"], "not yet");
        wait(&hosts);
        assert_eq!(shown(&hosts), ["a2", "b", "a2"]);
        change(&hosts, 0, "broken");
        change(&hosts, 1, "b2");
        wait(&hosts);
        assert_eq!(shown(&hosts), ["a2", "b2", "a2"]);
        change(&hosts, 0, "a3");
        wait(&hosts);
        assert_eq!(shown(&hosts), ["a3", "b2", "a3"]);
    }
}
