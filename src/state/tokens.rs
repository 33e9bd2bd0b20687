//! Sealed tokens in a file of their own beside the database: if the database is damaged, no consent is lost.
//!
//! One JSON object in each line: a head with the number of tokens, then a line for each token. The file is small, is
//! held in memory, and is replaced as a whole: written under another name, synced, renamed.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};
use tokio::task;

use super::{
    Consent, Error, Unavailable,
    database::{Owner, aside, copy_private, create_anew, hand_over, sync_names},
    envelope, now,
};

/// The file's name under `[state] dir`.
pub(super) const FILE: &str = "tokens.jsonl";
/// The name of a new file until it is complete.
const UNFINISHED: &str = "tokens.jsonl.new";
/// The format that this version writes.
const VERSION: u32 = 1;

pub(super) type Sealed = BTreeMap<Consent, Vec<u8>>;

/// The file of tokens, in a directory that no other process uses while this lives.
#[derive(Debug)]
pub(super) struct TokenFile {
    dir: PathBuf,
    /// The content of the file.
    tokens: Mutex<Sealed>,
    /// Held by the call that writes.
    writing: Mutex<()>,
    /// Since when the file cannot be written, in seconds since 1970; 0 if the last write succeeded.
    failed: AtomicU32,
}

/// The first line.
#[derive(Serialize, Deserialize)]
struct Head {
    version: u32,
    tokens: usize,
}

/// Each further line: a token. The checksum covers the names too.
#[derive(Serialize, Deserialize)]
struct Line {
    upstream: String,
    name: String,
    sealed: String,
    checksum: u32,
}

impl TokenFile {
    /// Reads the file in `dir`. If there is none, `earlier` gives the content. If the file is damaged and this process
    /// owns it, the intact lines are used, and a copy of the file is left beside it (logged). If it is damaged and
    /// another process owns it, this fails.
    pub(super) fn open(
        dir: &Path,
        owner: Owner,
        earlier: impl FnOnce() -> Result<Sealed, Error>,
    ) -> Result<Arc<Self>, Error> {
        let path = dir.join(FILE);
        let access = |source| Error::Access {
            path: path.clone(),
            source,
        };
        let opened = |tokens| {
            Arc::new(Self {
                dir: dir.to_owned(),
                tokens: Mutex::new(tokens),
                writing: Mutex::default(),
                failed: AtomicU32::new(0),
            })
        };
        let octets = match fs::read(&path) {
            Ok(octets) => octets,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let earlier = earlier()?;
                if owner == Owner::Us && !earlier.is_empty() {
                    replace(dir, &earlier).map_err(access)?;
                }
                return Ok(opened(earlier));
            }
            Err(error) => return Err(access(error)),
        };
        let (tokens, lost) = read(&octets);
        match (lost, owner) {
            (None, _) => {}
            (Some(reason), Owner::Another) => return Err(Error::Damaged { path, reason }),
            (Some(reason), Owner::Us) => {
                let aside = aside(&path);
                copy_private(dir, FILE, &aside).map_err(access)?;
                replace(dir, &tokens).map_err(access)?;
                tracing::error!(
                    file = %path.display(),
                    aside = %aside.display(),
                    reason,
                    kept = tokens.len(),
                    "the file of tokens is damaged: consents are lost; popgate sign-in --list shows for which accounts somebody must sign in"
                );
            }
        }
        Ok(opened(tokens))
    }

    pub(super) fn get(&self, consent: &Consent) -> Option<Vec<u8>> {
        self.tokens().get(consent).cloned()
    }

    pub(super) fn all(&self) -> Sealed {
        self.tokens().clone()
    }

    /// Since when the file cannot be written, in seconds since 1970; `None` if the last write succeeded.
    pub(super) fn unwritable_since(&self) -> Option<u32> {
        Some(self.failed.load(Ordering::Relaxed)).filter(|since| *since > 0)
    }

    /// See [`super::StateStore::set_token`]. A write that has begun is completed even if the caller goes away.
    pub(super) async fn set(
        self: &Arc<Self>,
        consent: &Consent,
        followed: Option<&[u8]>,
        token: Option<&[u8]>,
    ) -> Result<(), Unavailable> {
        let (file, consent) = (self.clone(), consent.clone());
        let (followed, token) = (followed.map(<[u8]>::to_vec), token.map(<[u8]>::to_vec));
        let writing = move || file.write(consent, followed.as_deref(), token);
        task::spawn_blocking(writing).await.unwrap_or(Err(Unavailable::Failed))
    }

    fn write(&self, consent: Consent, followed: Option<&[u8]>, token: Option<Vec<u8>>) -> Result<(), Unavailable> {
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tokens = self.tokens().clone();
        if tokens.get(&consent).map(Vec::as_slice) != followed {
            return Err(Unavailable::Changed);
        }
        match token {
            Some(token) => tokens.insert(consent, token),
            None => tokens.remove(&consent),
        };
        if let Err(error) = replace(&self.dir, &tokens) {
            let file = self.dir.join(FILE);
            if self.failed.swap(now().max(1), Ordering::Relaxed) == 0 {
                tracing::error!(file = %file.display(), %error, "tokens cannot be written: is the disk full? Consents may be lost at a restart");
            }
            return Err(Unavailable::Failed);
        }
        *self.tokens() = tokens;
        if self.failed.swap(0, Ordering::Relaxed) > 0 {
            tracing::info!(dir = %self.dir.display(), "tokens can be written again");
        }
        Ok(())
    }

    fn tokens(&self) -> MutexGuard<'_, Sealed> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn checksum(upstream: &str, name: &str, sealed: &[u8]) -> u32 {
    envelope::checksum(&["token", upstream, name], sealed)
}

/// The tokens of the intact lines, and what is wrong with the file; `None` if it is intact.
pub(super) fn read(octets: &[u8]) -> (Sealed, Option<String>) {
    let mut lines = octets.split(|octet| *octet == b'\n').filter(|line| !line.is_empty());
    let head = lines.next().and_then(|line| serde_json::from_slice::<Head>(line).ok());
    let token = |line: &[u8]| -> Option<(Consent, Vec<u8>)> {
        let Line {
            upstream,
            name,
            sealed,
            checksum: expected,
        } = serde_json::from_slice(line).ok()?;
        let sealed = BASE64.decode(sealed).ok()?;
        (checksum(&upstream, &name, &sealed) == expected).then_some((Consent { upstream, name }, sealed))
    };
    let tokens: Sealed = lines.filter_map(token).collect();
    let wrong = match head {
        Some(Head {
            version: VERSION,
            tokens: count,
        }) if count == tokens.len() => None,
        Some(Head {
            version: VERSION,
            tokens: count,
        }) => Some(format!("{} of {count} tokens can be read", tokens.len())),
        Some(Head { version, .. }) => Some(format!("it is of version {version}")),
        None => Some("its first line cannot be read".into()),
    };
    (tokens, wrong)
}

/// Replaces the file in `dir` by one that holds `tokens`. After a kill or a power failure the file holds either these
/// tokens or the earlier ones.
pub(super) fn replace(dir: &Path, tokens: &Sealed) -> io::Result<()> {
    let (path, unfinished) = (dir.join(FILE), dir.join(UNFINISHED));
    let head = Head {
        version: VERSION,
        tokens: tokens.len(),
    };
    let mut text = serde_json::to_string(&head)?;
    for (Consent { upstream, name }, sealed) in tokens {
        let line = Line {
            upstream: upstream.clone(),
            name: name.clone(),
            sealed: BASE64.encode(sealed),
            checksum: checksum(upstream, name, sealed),
        };
        text.push('\n');
        text.push_str(&serde_json::to_string(&line)?);
    }
    text.push('\n');
    let mut file = create_anew(&unfinished)?;
    file.write_all(text.as_bytes())?;
    hand_over(dir, FILE, &file)?;
    file.sync_all()?;
    fs::rename(&unfinished, &path)?;
    sync_names(dir);
    Ok(())
}
