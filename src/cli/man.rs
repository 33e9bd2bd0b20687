//! `popgate man`: the manual pages, of popgate and of each of its commands.

use std::{fs, io, path::Path};

use clap::CommandFactory;

use super::{Cli, Failure};

/// Writes `popgate.1`, `popgate-serve.1`, … into `directory`, which is made if it is missing.
pub(super) fn run(directory: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::failed(format!("{}: {error}", directory.display()));
    fs::create_dir_all(directory).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), directory).map_err(failed)
}
