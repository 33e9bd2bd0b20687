//! `popgate completions`: what a shell needs to complete the command line.

use std::io;

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Failure};

/// Prints the script for `shell`.
pub(super) fn run(shell: Shell) -> Result<(), Failure> {
    // In memory first: it panics if the output is closed.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "popgate", &mut script);
    io::Write::write_all(&mut io::stdout(), &script)?;
    Ok(())
}
