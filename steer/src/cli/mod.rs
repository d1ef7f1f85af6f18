//! The command line.

mod args;
mod ask;
mod check;
mod colour;
mod completions;
mod doctor;
mod explain;
mod flows;
mod init;
mod log;
mod output;
mod reload;
mod rules;
mod run;
mod saved;
mod status;
mod table;
mod top;

pub use args::{CheckArgs, CleanupArgs, Cli, Command, RoutingArgs, RunArgs, StateArgs};

use anyhow::{Context, Result};
use std::process::ExitCode;

/// Does what the command line asks for.
///
/// # Errors
/// What failed, why, and what to do about it, as one chain.
pub fn execute(cli: Cli) -> Result<ExitCode> {
    let done = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Cleanup(args) => run::cleanup(&args),
        Command::Check(args) => check::check(&args),
        Command::Doctor(args) => return doctor::doctor(&args),
        Command::Init(args) => init::init(&args),
        Command::Status(args) => return status::status(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Flows(args) => flows::flows(&args),
        Command::Top(args) => top::top(&args),
        Command::Log(args) => log::log(&args),
        Command::Rules(args) => rules::rules(&args),
        Command::Reload(args) => reload::reload(&args),
        Command::Completions(args) => completions::completions(&args),
        Command::Man(args) => completions::man(&args),
    };
    done.map(|()| ExitCode::SUCCESS)
}

pub use output::{error_line, set_up_log};

/// The event loop of a command.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")
}
