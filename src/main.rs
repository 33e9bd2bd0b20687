//! Parses the command line, runs it, and sets the exit code.

use std::process::ExitCode;

use clap::Parser;
use popgate::cli::Cli;

/// glibc's keeps an arena for each thread, and in each the holes that a burst of logins leaves: 200 idle sessions took a
/// quarter of memory more, and mimalloc five times as much. One lock for all threads costs nothing measurable here, for what
/// is done per command and message allocates next to nothing.
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
