//! What is wrong with the configuration: what, where, how to mend it.

use std::{fmt, path::PathBuf};

/// Something wrong with the configuration. Printed, it names the place (file, line and key, or environment
/// variable), shows the line with a caret where there is one, and says how to mend it. No secret is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    pub(super) place: Place,
    pub(super) key: Option<String>,
    pub(super) what: String,
    pub(super) help: Option<String>,
}

/// Where it is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A file as a whole.
    File(PathBuf),
    /// A line of a file.
    Line(Box<Line>),
    /// An environment variable.
    Variable(String),
    /// An option of the command line.
    Argument(&'static str),
}

/// A line with a part of it underlined; columns count characters from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) file: PathBuf,
    pub(super) number: usize,
    pub(super) text: String,
    pub(super) column: usize,
    pub(super) width: usize,
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File(file) => write!(f, "{}: ", file.display())?,
            Place::Line(line) => write!(f, "{}:{}: ", line.file.display(), line.number)?,
            Place::Variable(name) => write!(f, "environment variable {name}: ")?,
            Place::Argument(name) => write!(f, "{name}: ")?,
        }
        if let Some(key) = &self.key {
            write!(f, "`{key}`: ")?;
        }
        f.write_str(&self.what)?;
        if let Place::Line(line) = &self.place {
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
