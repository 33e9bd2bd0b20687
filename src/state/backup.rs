//! A backup: all records of a store in a file, from which any store can be restored.
//!
//! One JSON object in each line. The first line says what the file is. Then comes a line for each part of a record, in
//! the form of [`Part`]. The last line has the number of parts, and the SHA-256 of all lines before it.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, BufRead, Read, Write},
};

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use super::{
    Index, MailboxName, envelope,
    part::{Kind, Part},
    table::Key,
};
use crate::types::hex;

/// The format that this version writes.
const VERSION: u32 = 1;
/// The longest line that is read: a part of a record has 3,800 octets, and names of mailboxes are short.
const LONGEST_LINE: u64 = 1024 * 1024;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    popgate_backup: u32,
    /// When the backup was made, in seconds since 1970.
    made: u32,
    /// The version of popgate that made the backup.
    by: String,
}

/// The last line.
#[derive(Serialize)]
struct Tail {
    parts: u64,
    sha256: String,
}

/// Writes a backup, part by part.
pub struct BackupWriter<W> {
    out: W,
    digest: Context,
    parts: u64,
    last: Option<Part>,
    /// The octets of the record that `last` belongs to, so far.
    record: Vec<u8>,
    tally: Tally,
}

impl<W: Write> BackupWriter<W> {
    /// Begins a backup that is made at `made`, in seconds since 1970.
    pub fn begin(out: W, made: u32) -> io::Result<Self> {
        let mut writer = Self {
            out,
            digest: Context::new(&SHA256),
            parts: 0,
            last: None,
            record: Vec::new(),
            tally: Tally::default(),
        };
        writer.line(&Head {
            popgate_backup: VERSION,
            made,
            by: env!("CARGO_PKG_VERSION").into(),
        })?;
        Ok(writer)
    }

    /// Adds a part. The parts of one record must follow each other.
    pub fn add(&mut self, part: Part) -> io::Result<()> {
        self.line(&part)?;
        self.parts += 1;
        if self.last.as_ref().is_some_and(|last| !last.is_of_record_of(&part)) {
            self.end_record();
        }
        self.record.extend_from_slice(&part.octets);
        self.last = Some(part);
        Ok(())
    }

    /// Ends the backup. Returns `out`, flushed, and the count of its records.
    pub fn end(mut self) -> io::Result<(W, Tally)> {
        self.end_record();
        let tail = tail(self.parts, self.digest.clone());
        self.out.write_all(tail.as_bytes())?;
        self.out.flush()?;
        Ok((self.out, self.tally))
    }

    fn end_record(&mut self) {
        if let Some(part) = self.last.take() {
            self.tally.count(&part, &self.record);
            self.record.clear();
        }
    }

    fn line<T: Serialize>(&mut self, value: &T) -> io::Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        self.digest.update(&line);
        self.out.write_all(&line)
    }
}

impl<W> fmt::Debug for BackupWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackupWriter")
            .field("tally", &self.tally)
            .finish_non_exhaustive()
    }
}

/// The last line of a backup of `parts` parts. `digest` has all lines before it.
fn tail(parts: u64, digest: Context) -> String {
    let tail = Tail {
        parts,
        sha256: hex(digest.finish().as_ref()),
    };
    // Writing to memory cannot fail.
    serde_json::to_string(&tail).unwrap_or_default() + "\n"
}

/// A backup that was read to its end, with a right checksum.
#[derive(Debug, PartialEq, Eq)]
pub struct Backup {
    head: Head,
    parts: Vec<Part>,
}

/// Why a file is not a backup to restore from.
#[derive(Debug, thiserror::Error)]
pub enum NoBackup {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("is not a backup that popgate has made")]
    Foreign,
    /// Another version of popgate has made it.
    #[error("has format {format}, which this popgate does not know: it was made by popgate {by}")]
    Version {
        /// The number of its format.
        format: u32,
        /// The version that made it, as the backup says.
        by: String,
    },
    /// Its end is missing.
    #[error("is not whole: its end is missing")]
    Cut,
    /// Its content has changed: the number of the first line that does not fit.
    #[error("is damaged: line {0} does not fit what stands before it")]
    Damaged(u64),
}

impl Backup {
    /// Reads a backup to the end of `input` and verifies its checksum.
    pub fn read(input: impl BufRead) -> Result<Self, NoBackup> {
        let mut lines = Lines {
            input,
            digest: Context::new(&SHA256),
            line: Vec::new(),
            number: 0,
        };
        let head = lines.head()?;
        let mut parts = Vec::new();
        while let Some(part) = lines.part(parts.len() as u64)? {
            parts.push(part);
        }
        Ok(Self { head, parts })
    }

    /// When the backup was made, in seconds since 1970.
    pub fn made(&self) -> u32 {
        self.head.made
    }

    /// The version of popgate that made the backup.
    pub fn made_by(&self) -> &str {
        &self.head.by
    }

    /// How many records of each kind the backup has.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for (part, record) in self.records() {
            tally.count(part, &record);
        }
        tally
    }

    /// The records: the first part of each, and the octets of the whole record.
    pub(super) fn records(&self) -> impl Iterator<Item = (&Part, Vec<u8>)> {
        let records = self.parts.chunk_by(|part, next| part.is_of_record_of(next));
        records.filter_map(|parts| {
            let record = parts.iter().flat_map(|part| &part.octets).copied().collect();
            Some((parts.first()?, record))
        })
    }
}

/// The lines of a backup as they are read.
struct Lines<R> {
    input: R,
    /// The digest of the lines before this one.
    digest: Context,
    line: Vec<u8>,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    fn head(&mut self) -> Result<Head, NoBackup> {
        if !self.advance()? {
            return Err(NoBackup::Foreign);
        }
        let head: Head = serde_json::from_slice(&self.line).map_err(|_| NoBackup::Foreign)?;
        if head.popgate_backup == VERSION {
            Ok(head)
        } else {
            Err(NoBackup::Version {
                format: head.popgate_backup,
                by: head.by,
            })
        }
    }

    /// Reads the next part, which follows `before` others. `None` at the last line, if it is right and nothing follows
    /// it.
    fn part(&mut self, before: u64) -> Result<Option<Part>, NoBackup> {
        self.digest.update(&self.line);
        if !self.advance()? {
            return Err(NoBackup::Cut);
        }
        if let Ok(part) = serde_json::from_slice(&self.line) {
            return Ok(Some(part));
        }
        let is_tail = self.line == tail(before, self.digest.clone()).as_bytes();
        if is_tail && !self.advance()? {
            Ok(None)
        } else if self.line.ends_with(b"\n") {
            Err(NoBackup::Damaged(self.number))
        } else {
            Err(NoBackup::Cut)
        }
    }

    /// Reads a line; `false` at the end of the input.
    fn advance(&mut self) -> io::Result<bool> {
        self.line.clear();
        self.number += 1;
        let octets = (&mut self.input).take(LONGEST_LINE).read_until(b'\n', &mut self.line)?;
        Ok(octets > 0)
    }
}

/// How many records of each kind there are, and how many are damaged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    kinds: BTreeMap<Kind, usize>,
    damaged: usize,
}

impl Tally {
    /// How many records of this kind there are.
    pub fn of(&self, kind: Kind) -> usize {
        self.kinds.get(&kind).copied().unwrap_or_default()
    }

    /// How many records are damaged: their checksum is wrong. Tokens are not checked.
    pub fn damaged(&self) -> usize {
        self.damaged
    }

    fn count(&mut self, part: &Part, record: &[u8]) {
        *self.kinds.entry(part.kind).or_default() += 1;
        if !is_intact(part, record) {
            self.damaged += 1;
        }
    }
}

impl fmt::Display for Tally {
    /// In words: `3 indexes, 1 consent`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (kind, count) in &self.kinds {
            let what = match kind {
                Kind::Index => ["index", "indexes"],
                Kind::Marks => ["record of what a login has done", "records of what logins have done"],
                Kind::Past => ["history of a mailbox", "histories of mailboxes"],
                Kind::Move => ["removal under way", "removals under way"],
                Kind::Token => ["consent", "consents"],
                Kind::Notice => ["notice to people", "notices to people"],
            };
            let what = if *count == 1 { what[0] } else { what[1] };
            write!(f, "{separator}{count} {what}")?;
            separator = ", ";
        }
        if separator.is_empty() {
            f.write_str("no records")?;
        }
        Ok(())
    }
}

/// Whether the checksum of `record` is right. `part`: one of its parts.
fn is_intact(part: &Part, record: &[u8]) -> bool {
    match part.kind {
        Kind::Index => {
            let mailbox = MailboxName {
                upstream: part.upstream.clone(),
                user: part.user.clone(),
                folder: part.folder.clone(),
            };
            Index::decode(&mailbox, record).is_ok()
        }
        // A sealed token can be checked only with the key.
        Kind::Token => true,
        Kind::Marks | Kind::Past | Kind::Move | Kind::Notice => {
            envelope::is_intact(&Key::of_part(part).names(), record)
        }
    }
}
