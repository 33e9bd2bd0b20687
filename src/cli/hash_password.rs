//! `popgate hash-password`

use std::io::{self, IsTerminal, Write};

use super::{Failure, password};
use crate::{accounts, config::Secret};

/// Reads one line from standard input and prints its hash.
pub(super) fn run() -> Result<(), Failure> {
    let at_terminal = io::stdin().is_terminal();
    if at_terminal {
        eprint!("Password (it does not show while you type): ");
    }
    let line = password::read(&mut io::stdin().lock(), at_terminal)?.unwrap_or_default();
    if line.is_empty() {
        return Err(Failure::wrong("no password on standard input"));
    }
    let hash =
        accounts::hash_password(&Secret::from(line.to_vec())).map_err(|error| Failure::failed(error.to_string()))?;
    writeln!(io::stdout(), "{hash}")?;
    Ok(())
}
