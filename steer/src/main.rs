//! The `steer` command.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Clap ends the process with 2 where the command line is wrong.
    match steer::cli::execute(steer::cli::Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{}", steer::cli::error_line(&error));
            ExitCode::FAILURE
        }
    }
}
