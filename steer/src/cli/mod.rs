//! The command line.

mod args;
mod check;
mod colour;
mod doctor;
mod output;
mod run;

pub use args::{CheckArgs, CleanupArgs, Cli, Command, RoutingArgs, RunArgs, StateArgs};
pub use doctor::DoctorArgs;

use anyhow::Result;

/// Does what the command line asks for.
///
/// # Errors
/// What failed, why, and what to do about it, as one chain.
pub fn execute(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Cleanup(args) => run::cleanup(&args),
        Command::Check(args) => check::check(&args),
        Command::Doctor(args) => doctor::doctor(&args),
    }
}

pub use output::{error_line, set_up_log};
