//! Replaces the records in a directory by those of a backup, or writes them to servers that have none.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    Backup, Consent, Error, Kind, ValkeyStore, database, now,
    table::{self, Key},
    tokens::{self, Sealed},
};
use crate::config::{Secret, SharedState};

/// Writes the records of `backup` to the servers of `config`, which must have no records under the prefix yet. Errors are written for the operator.
pub async fn restore_shared(config: &SharedState, key: Option<&Secret>, backup: &Backup) -> Result<(), Error> {
    let store = ValkeyStore::visit(config.clone())?;
    store.inspect(key).await?;
    store.fill(backup).await
}

/// The name of the new file until it is complete.
const UNFINISHED: &str = "state.redb.new";

/// Replaces the records in `dir`, which is made if it is missing, by those of `backup`. Returns the paths of copies of
/// the files that were there before. Fails with [`Error::InUse`] if another process has the directory. If this fails
/// before the new file is complete, the records are as they were.
pub fn restore(dir: &Path, backup: &Backup) -> Result<Vec<PathBuf>, Error> {
    let _claim = database::claim(dir)?;
    let mut earlier = Vec::new();
    let restored = replace(dir, backup, &mut earlier);
    if restored.is_err() {
        let _ = fs::remove_file(dir.join(UNFINISHED));
    }
    restored.map(|()| earlier)
}

fn replace(dir: &Path, backup: &Backup, earlier: &mut Vec<PathBuf>) -> Result<(), Error> {
    let mut tokens = Sealed::new();
    database::make(dir, UNFINISHED, |database| {
        table::create(database)?;
        table::transact(database, |table| {
            for (part, octets) in backup.records() {
                if part.kind == Kind::Token {
                    let (upstream, name) = (part.upstream.clone(), part.user.clone());
                    tokens.insert(Consent { upstream, name }, octets);
                } else {
                    table.put(Key::of_part(part), &octets)?;
                }
            }
            Ok(())
        })
    })?;
    let path = dir.join(database::FILE);
    for name in [database::FILE, tokens::FILE] {
        earlier.extend(set_aside(dir, name)?);
    }
    let access = |source| Error::Access {
        path: path.clone(),
        source,
    };
    tokens::replace(dir, &tokens).map_err(access)?;
    fs::rename(dir.join(UNFINISHED), &path).map_err(access)?;
    database::sync_names(dir);
    Ok(())
}

/// Copies the file of this name in `dir`, if there is one, to a new name in the same directory. Returns the new path.
fn set_aside(dir: &Path, name: &str) -> Result<Option<PathBuf>, Error> {
    let path = dir.join(name);
    let mut seconds = now();
    let mut aside = dir.join(format!("{name}.before-{seconds}"));
    // A link to a missing file has the name, too.
    while aside.symlink_metadata().is_ok() {
        seconds += 1;
        aside = dir.join(format!("{name}.before-{seconds}"));
    }
    match database::copy_private(dir, name, &aside) {
        Ok(()) => Ok(Some(aside)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => {
            let _ = fs::remove_file(&aside);
            Err(Error::Access { path, source })
        }
    }
}
