//! `popgate hash-password`

use std::io::{self, BufRead, IsTerminal, Write};

use super::Failure;
use crate::{accounts, config::Secret};

/// Reads one line from standard input and prints its hash.
pub(super) fn run() -> Result<(), Failure> {
    if io::stdin().is_terminal() {
        eprint!("Password (it shows while you type): ");
    }
    let mut line = Vec::new();
    io::stdin().lock().read_until(b'\n', &mut line)?;
    if line.ends_with(b"\n") {
        line.pop();
        if line.ends_with(b"\r") {
            line.pop();
        }
    }
    if line.is_empty() {
        return Err(Failure::wrong("no password on standard input"));
    }
    let hash = accounts::hash_password(&Secret::from(line)).map_err(|error| Failure::failed(error.to_string()))?;
    writeln!(io::stdout(), "{hash}")?;
    Ok(())
}
