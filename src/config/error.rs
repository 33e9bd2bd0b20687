//! Mistakes in the configuration: what is wrong, where, and how to mend it.

use std::{fmt, path::PathBuf};

/// All mistakes in a configuration, in the order of their lines. The printed error names the location of each mistake
/// (file, line and key, or environment variable), shows the line with a caret if there is one, and says how to mend it.
/// No secret is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    mistakes: Vec<Mistake>,
    /// The risks that were found in spite of the mistakes.
    warnings: Vec<String>,
    /// Files that popgate is not permitted to read.
    denied: Vec<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) location: Location,
    pub(super) key: Option<String>,
    pub(super) what: String,
    pub(super) help: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Location {
    /// A file as a whole.
    File(PathBuf),
    Line(Box<SourceLine>),
    /// An environment variable.
    Variable(String),
    /// An option of the command line.
    Argument(&'static str),
}

/// A line with a part of it underlined; columns count characters from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SourceLine {
    pub(super) file: PathBuf,
    pub(super) number: usize,
    pub(super) text: String,
    pub(super) column: usize,
    pub(super) width: usize,
}

impl Error {
    /// `mistakes` must have at least one entry.
    pub(super) fn new(mut mistakes: Vec<Mistake>, warnings: Vec<String>) -> Self {
        mistakes.sort_by_key(|mistake| match &mistake.location {
            Location::Argument(_) | Location::Variable(_) => (0, 0, 0),
            Location::Line(line) => (1, line.number, line.column),
            Location::File(_) => (2, 0, 0),
        });
        Self {
            mistakes,
            warnings,
            denied: Vec::new(),
        }
    }

    /// Files that popgate is not permitted to read.
    pub fn denied(&self) -> &[PathBuf] {
        &self.denied
    }

    pub(super) fn with_denied(self, denied: Vec<PathBuf>) -> Self {
        Self { denied, ..self }
    }
}

impl From<Mistake> for Error {
    fn from(mistake: Mistake) -> Self {
        Self::new(vec![mistake], Vec::new())
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.mistakes.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            mistake.fmt(f)?;
        }
        if self.mistakes.len() > 1 {
            write!(f, "\n\n{} mistakes", self.mistakes.len())?;
        }
        for warning in &self.warnings {
            write!(f, "\nwarning: {warning}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.location {
            Location::File(file) => write!(f, "{}: ", file.display())?,
            Location::Line(line) => write!(f, "{}:{}: ", line.file.display(), line.number)?,
            Location::Variable(name) => write!(f, "environment variable {name}: ")?,
            Location::Argument(name) => write!(f, "{name}: ")?,
        }
        if let Some(key) = &self.key {
            write!(f, "`{key}`: ")?;
        }
        f.write_str(&self.what)?;
        if let Location::Line(line) = &self.location {
            let number = line.number.to_string();
            let margin = " ".repeat(number.len());
            let indent = " ".repeat(line.column);
            let carets = "^".repeat(line.width.max(1));
            write!(f, "\n{margin} |\n{number} | {}\n{margin} | {indent}{carets}", line.text)?;
        }
        match &self.help {
            Some(help) => write!(f, "\nhelp: {help}"),
            None => Ok(()),
        }
    }
}
