//! Parses the command line, runs it, and sets the exit code.

use std::process::ExitCode;

use clap::Parser;
use popgate::cli::{Cli, Failure};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("popgate: {failure}");
            failure.exit_code()
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(cli.run());
    // Whatever still runs holds no promise to a device: drained is drained.
    runtime.shutdown_background();
    result
}
