//! Parses the command line, runs it, and sets the exit code.

use std::process::ExitCode;

use clap::Parser;
use popgate::cli::Cli;

/// The global allocator. glibc's malloc keeps an arena for each thread, and in each the holes that a burst of logins
/// leaves: 200 idle sessions took a quarter more memory with it, and five times as much with mimalloc. dlmalloc has one
/// lock for all threads. This costs nothing measurable, because commands and messages allocate next to nothing.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("popgate: {failure}");
            failure.exit_code()
        }
    }
}
