//! `popgate hash-password`: makes a value for `password_hash`.

use std::io::{self, Write};

use super::{Failure, password};
use crate::accounts;

/// Asks for a password and prints its hash.
pub(super) fn run() -> Result<(), Failure> {
    let password = password::ask("Password")?;
    let hash = accounts::hash_password(&password).map_err(|error| Failure::failed(error.to_string()))?;
    writeln!(io::stdout(), "{hash}")?;
    Ok(())
}
