//! `popgate init`: a few questions, and a configuration that can be served.

mod draft;
mod questions;

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use aws_lc_rs::rand;
use base64::prelude::{BASE64_STANDARD, Engine};
use zeroize::Zeroizing;

use self::{draft::Draft, questions::Questions};
use super::{CONFIG, Failure};
use crate::{accounts, config::Config, types::RandomUnavailable};

/// What the tokens of `[state]` are encrypted with, beside the configuration.
const KEY_FILE: &str = "popgate.key";
/// The mailbox's password, beside the configuration.
const PASSWORD_FILE: &str = "upstream.password";
/// Octets of the key: [state] asks for 32 at least.
const KEY: usize = 32;
/// Characters of a device's password. Some devices take no more than 16.
const PASSWORD: usize = 16;
/// What a device's password is made of: nothing that looks like something else on a small display.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Asks, and writes the configuration to `file`; overwrites nothing.
pub(super) fn run(file: Option<PathBuf>) -> Result<(), Failure> {
    let file = file.unwrap_or_else(|| CONFIG.into());
    let directory = file.parent().unwrap_or(Path::new("")).to_owned();
    let beside = |name: &str| directory.join(name);
    for path in [&file, &beside(KEY_FILE), &beside(PASSWORD_FILE)] {
        if path.exists() {
            let path = path.display();
            return Err(Failure::wrong(format!(
                "{path} is there already, and popgate init overwrites nothing: move it away, or name another file by --config"
            )));
        }
    }
    let answers = Questions::new().ask()?;
    let mut written = Written(Vec::new());
    written.write(&beside(KEY_FILE), &key()?)?;
    if let Some(password) = &answers.upstream_password {
        written.write(&beside(PASSWORD_FILE), password.expose())?;
    }
    let device_password = answers.own_login().map(|_| password()).transpose()?;
    let hash = match &device_password {
        Some(password) => {
            let secret = password.as_bytes().to_vec().into();
            Some(accounts::hash_password(&secret).map_err(Failure::failed)?)
        }
        None => None,
    };
    let text = Draft {
        answers: &answers,
        key_file: KEY_FILE,
        password_file: PASSWORD_FILE,
        password_hash: hash.as_deref(),
    }
    .to_string();
    // What is written can be served.
    Config::parse(&text, &directory)?;
    written.write(&file, text.as_bytes())?;
    written.keep();
    say(
        &file,
        &answers,
        device_password.as_ref().map(|password| password.as_str()),
    )
}

/// What was written, and what to do next.
fn say(file: &Path, answers: &questions::Answers, password: Option<&str>) -> Result<(), Failure> {
    let mut out = io::stdout();
    let config = if file == Path::new(CONFIG) {
        String::new()
    } else {
        format!(" --config {}", file.display())
    };
    let login = &answers.login;
    writeln!(out, "\n{} is written.", file.display())?;
    match password {
        Some(password) => writeln!(
            out,
            "The device logs in as {login} with the password {password} (only its hash is kept: note it now)."
        )?,
        None => writeln!(out, "The device logs in as {login} with the mailbox's own password.")?,
    }
    writeln!(out, "Next:\n    popgate check --connect{config}")?;
    if answers.client_id.is_some() {
        writeln!(out, "    popgate sign-in {login}{config}")?;
    }
    writeln!(out, "    popgate serve{config}\n    popgate doctor {login}{config}")?;
    Ok(())
}

/// A line that no other program knows.
fn key() -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut octets = Zeroizing::new([0; KEY]);
    rand::fill(&mut *octets).map_err(|_| Failure::failed(RandomUnavailable))?;
    let mut line = BASE64_STANDARD.encode(*octets).into_bytes();
    line.push(b'\n');
    Ok(line.into())
}

/// A password for a device.
fn password() -> Result<Zeroizing<String>, Failure> {
    let mut octets = Zeroizing::new([0_u8; PASSWORD]);
    rand::fill(&mut *octets).map_err(|_| Failure::failed(RandomUnavailable))?;
    let letters = octets.iter().map(|octet| char::from(LETTERS[usize::from(octet % 32)]));
    Ok(Zeroizing::new(letters.collect()))
}

/// The files that were written; they go again unless all of them are.
struct Written(Vec<PathBuf>);

impl Written {
    /// Writes a file that only this user may read, and that must not be there yet.
    fn write(&mut self, path: &Path, octets: &[u8]) -> Result<(), Failure> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let failed = |error: io::Error| Failure::failed(format!("{}: {error}", path.display()));
        let mut file = options.open(path).map_err(failed)?;
        self.0.push(path.to_owned());
        file.write_all(octets).map_err(failed)
    }

    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        for path in &self.0 {
            // The failure that ended it is told.
            let _ = fs::remove_file(path);
        }
    }
}
