//! `popgate backup` and `popgate restore`: a copy of all state in a file.

use std::{
    fmt::Display,
    fs::{self, File},
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
};

use chrono::DateTime;
use tempfile::NamedTempFile;

use super::{Failure, directory_of};
use crate::{
    config::{Config, Log},
    state::{self, Backup, BackupWriter, Kind, StateStore, Tally},
    telemetry,
};

/// The file name that means standard output or input.
const STANDARD: &str = "-";

/// Writes a backup to `file`, which gets this name only once it is complete. With `force` it replaces a file that
/// exists.
pub(super) async fn save(config: &Config, file: &Path, force: bool) -> Result<(), Failure> {
    if config.state.shared.is_none() {
        directory(config)?;
    }
    may_be_written(file, force)?;
    // If the state cannot be read, the log says why.
    telemetry::init(&Log::for_people("warn"))?;
    if let Some(dir) = &config.state.dir
        && !state::has_file(dir).map_err(Failure::failed)?
    {
        let dir = dir.display();
        return Err(Failure::failed(format!(
            "{dir} holds no state: no gateway has run with this configuration yet, or the state is elsewhere"
        )));
    }
    let store = state::reach_configured(&config.state).map_err(Failure::failed)?;
    let saving = async {
        if file == Path::new(STANDARD) {
            return write(&*store, io::stdout()).await.map(|(_, tally)| tally);
        }
        let unwritable = |error: &dyn Display| Failure::failed(format!("cannot write {}: {error}", file.display()));
        let parent = directory_of(file);
        let unfinished = tempfile::Builder::new().prefix(".popgate-backup-").tempfile_in(parent);
        let unfinished = unfinished.map_err(|error| unwritable(&error))?;
        let (out, tally) = write(&*store, BufWriter::new(unfinished)).await?;
        let unfinished = out.into_inner().map_err(|error| unwritable(&error))?;
        unfinished.as_file().sync_all().map_err(|error| unwritable(&error))?;
        name(unfinished, file, force).map_err(|error| unwritable(&error))?;
        // The sync lets the name survive a power failure. Its error is ignored: not every system can sync a directory.
        let _ = File::open(parent).and_then(|parent| parent.sync_all());
        Ok(tally)
    };
    let tally = tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => return Err(Failure::failed("interrupted: no backup was made")),
        saved = saving => saved?,
    };
    if file == Path::new(STANDARD) {
        report_saved(config, &tally, "standard output", &mut io::stderr())
    } else {
        report_saved(config, &tally, &file.display().to_string(), &mut io::stdout())
    }
}

/// Replaces the records of `[state] dir` with those of the backup in `file`. If `[state]` has a `url` instead, writes
/// them to its servers, which must have no records.
pub(super) async fn restore(config: &Config, file: &Path) -> Result<(), Failure> {
    if let Some(shared) = &config.state.shared {
        // If the servers fail, the log says how.
        telemetry::init(&Log::for_people("warn"))?;
        let backup = read(file)?;
        let key = config.state.key.as_ref();
        state::restore_shared(shared, key, &backup)
            .await
            .map_err(Failure::failed)?;
        return report_restored(config, &shared.url, &backup, &[], &mut io::stdout());
    }
    let dir = directory(config)?;
    let backup = read(file)?;
    let earlier = state::restore(dir, &backup).map_err(|error| match error {
        state::Error::InUse { dir } => Failure::failed(format!(
            "a gateway is running with the state in {}: stop it, restore, and start it again; nothing was changed",
            dir.display()
        )),
        error => Failure::failed(error),
    })?;
    report_restored(config, &dir.display(), &backup, &earlier, &mut io::stdout())
}

fn read(file: &Path) -> Result<Backup, Failure> {
    let about = |what: &dyn Display| Failure::failed(format!("{} {what}; nothing was changed", file.display()));
    let input: Box<dyn BufRead> = if file == Path::new(STANDARD) {
        Box::new(io::stdin().lock())
    } else {
        let opened = File::open(file).map_err(|error| about(&format!("cannot be read: {error}")))?;
        Box::new(BufReader::new(opened))
    };
    Backup::read(input).map_err(|error| match error {
        state::NoBackup::Io(error) => about(&format!("cannot be read: {error}")),
        error => about(&error),
    })
}

fn directory(config: &Config) -> Result<&Path, Failure> {
    let message = "[state] has no `dir`: state is in the running gateway's memory only, until the gateway ends";
    config.state.dir.as_deref().ok_or_else(|| Failure::wrong(message))
}

/// Fails if `file` exists, unless it is a regular file and `force` is given.
fn may_be_written(file: &Path, force: bool) -> Result<(), Failure> {
    let shown = file.display();
    match fs::symlink_metadata(file) {
        Ok(_) if file == Path::new(STANDARD) => Ok(()),
        Ok(metadata) if !metadata.is_file() => Err(Failure::wrong(format!("{shown} is not a file: give another name"))),
        Ok(_) if !force => Err(Failure::wrong(format!(
            "{shown} is there already: give another name, or --force to replace it"
        ))),
        // Any other error shows when the file is written.
        _ => Ok(()),
    }
}

/// Writes all records of `store` to `out`; returns `out` and the tally of records.
async fn write<W: Write>(store: &dyn StateStore, out: W) -> Result<(W, Tally), Failure> {
    let unwritten = |error: io::Error| Failure::failed(format!("the backup cannot be written: {error}"));
    let mut parts = store.parts().await.map_err(Failure::failed)?;
    let mut writer = BackupWriter::begin(out, state::now()).map_err(unwritten)?;
    loop {
        let portion = parts.next().await.map_err(Failure::failed)?;
        if portion.is_empty() {
            return writer.end().map_err(unwritten);
        }
        for part in portion {
            writer.add(part).map_err(unwritten)?;
        }
    }
}

/// Renames the complete file to `file`. Fails if `file` exists, unless `force` is given.
fn name(unfinished: NamedTempFile, file: &Path, force: bool) -> io::Result<()> {
    if force {
        unfinished.persist(file)?;
    } else {
        unfinished.persist_noclobber(file)?;
    }
    Ok(())
}

fn report_saved(config: &Config, tally: &Tally, name: &str, out: &mut impl Write) -> Result<(), Failure> {
    writeln!(out, "{name}: {tally}")?;
    if let Some(key) = key(config) {
        writeln!(
            out,
            "The key that opens consents is not in the backup. Keep a copy of {key} in another place."
        )?;
    }
    warn_of_damage(tally);
    Ok(())
}

/// Warns on standard error, where the administrator of a nightly job sees it.
fn warn_of_damage(tally: &Tally) {
    if tally.damaged() > 0 {
        eprintln!(
            "warning: {} of these records are damaged, and are copied as they are; popgate state shows whose marks they are",
            tally.damaged()
        );
    }
}

/// Where the configuration keeps the key that opens consents, if there is one.
fn key(config: &Config) -> Option<String> {
    config.state.key.as_ref()?;
    Some(match &config.state.key_file {
        Some(file) => format!("{} (state.key_file)", file.display()),
        None => "`key` of [state]".to_owned(),
    })
}

fn report_restored(
    config: &Config,
    place: &dyn Display,
    backup: &Backup,
    earlier: &[PathBuf],
    out: &mut impl Write,
) -> Result<(), Failure> {
    let tally = backup.tally();
    let made = DateTime::from_timestamp(backup.made().into(), 0).unwrap_or_default();
    writeln!(
        out,
        "{place}: {tally}; as of {} UTC, saved by popgate {}",
        made.format("%Y-%m-%d %H:%M:%S"),
        backup.made_by()
    )?;
    for file in earlier {
        writeln!(out, "What was there before is now in {}.", file.display())?;
    }
    if tally.of(Kind::Token) > 0 {
        let key = key(config).unwrap_or_else(|| "`key_file` of [state], which is not set now".to_owned());
        writeln!(
            out,
            "The consents open only with the key of that time. It must be in {key}. popgate sign-in --list shows whether they open."
        )?;
    }
    warn_of_damage(&tally);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(state: &str, report: impl FnOnce(&Config, &Backup, &mut Vec<u8>)) -> String {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("sealing-key"), "0123456789abcdef0123456789abcdef").unwrap();
        let text = format!("[upstream.home]\nhost = \"imap.example.org\"\nlogins = [\"*\"]\n[state]\n{state}");
        let config = Config::parse(&text, dir.path()).unwrap();
        let mut writer = BackupWriter::begin(Vec::new(), 1_700_000_000).unwrap();
        let consent = state::Part {
            kind: Kind::Token,
            upstream: "home".into(),
            user: "eva".into(),
            folder: String::new(),
            login: String::new(),
            octets: b"sealed".to_vec(),
        };
        writer.add(consent).unwrap();
        let backup = Backup::read(&writer.end().unwrap().0[..]).unwrap();
        let mut out = Vec::new();
        report(&config, &backup, &mut out);
        String::from_utf8(out)
            .unwrap()
            .replace(&format!("{}/", dir.path().display()), "")
    }

    #[test]
    fn says_where_the_key_is() {
        let saved = |config: &Config, backup: &Backup, out: &mut Vec<u8>| {
            report_saved(config, &backup.tally(), "copy", out).unwrap();
        };
        assert_eq!(
            said("dir = \"kept\"\nkey_file = \"sealing-key\"", saved),
            "copy: 1 consent\nThe key that opens consents is not in the backup. Keep a copy of sealing-key (state.key_file) in \
             another place.\n"
        );
        let text = said("dir = \"kept\"\nkey = \"0123456789abcdef0123456789abcdef\"", saved);
        assert!(
            text.contains("Keep a copy of `key` of [state] in another place.") && !text.contains("0123"),
            "{text}"
        );
        assert_eq!(said("dir = \"kept\"", saved), "copy: 1 consent\n");
    }

    #[test]
    fn says_what_was_restored_and_what_was_set_aside() {
        let restored = |config: &Config, backup: &Backup, out: &mut Vec<u8>| {
            let aside = [PathBuf::from("kept/state.redb.before-7")];
            report_restored(config, &"kept", backup, &aside, out).unwrap();
        };
        let by = env!("CARGO_PKG_VERSION");
        assert_eq!(
            said("dir = \"kept\"", restored),
            format!(
                "kept: 1 consent; as of 2023-11-14 22:13:20 UTC, saved by popgate {by}\n\
                 What was there before is now in kept/state.redb.before-7.\n\
                 The consents open only with the key of that time. It must be in `key_file` of [state], which is not set now. \
                 popgate sign-in --list shows whether they open.\n"
            )
        );
    }
}
