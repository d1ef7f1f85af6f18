//! The `cargo xtask` command: everything that building and testing steer takes.

mod bench;
mod build_ebpf;
mod cross;
mod fuzz;
mod lab;
mod licences;
mod report;
mod setup;
mod soak;
mod stack;
mod stamp;
mod step;
mod system;
mod tally;
mod test;
mod vm;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};
use setup::compiler::Route;

/// Sets up, builds and tests steer.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Makes this machine able to build and test: compiler for eBPF, bpf-linker, the lab's programs.
    Setup {
        /// Change nothing; list what is missing, and fail if something is.
        #[arg(long)]
        check: bool,
        /// Take this way to an eBPF compiler and no other.
        #[arg(long)]
        route: Option<Route>,
    },
    /// Compiles the kernel programs to target/bpf/steer-ebpf.o, which the steer binary embeds.
    BuildEbpf {
        /// Show the compiler's output as it comes.
        #[arg(long)]
        log: bool,
        /// Compile anew by this way to an eBPF compiler.
        #[arg(long)]
        route: Option<Route>,
    },
    /// Runs every check and test there is, as root where they need it.
    Test {
        /// Only the tests whose name contains this; no lints, no other kernels.
        filter: Option<String>,
        /// Arguments for the test programs.
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Shows steer at work: a Docker host, a blocking Internet and a VPN, all on this machine.
    Lab(lab::Arguments),
    /// Measures what steer costs, against nothing and against what people use instead, and writes a report.
    Bench(bench::Arguments),
    /// Runs the tests on other kernels, each in a virtual machine: which of them passes where, as a table.
    Vm(vm::Arguments),
    /// Fuzzes the parsers, each for a while.
    Fuzz(fuzz::Arguments),
    /// Runs the tests that try for leaks and the like for as long as they are let.
    Soak(soak::Arguments),
    /// Inside such a machine: runs a plan.
    #[command(hide = true)]
    VmGuest { plan: PathBuf },
    /// Inside such a machine: starts steer.
    #[command(hide = true)]
    VmStart { steer: PathBuf, filter: Vec<String> },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Setup { check: true, route } => {
            return Ok(status(setup::check(route)));
        }
        Task::Setup {
            check: false,
            route,
        } => setup::run(route)?,
        Task::BuildEbpf { log, route } => {
            build_ebpf::run(route, log)?;
        }
        Task::Test { filter, arguments } => test::run(filter.as_deref(), &arguments)?,
        Task::Lab(arguments) => return lab::run(&arguments),
        Task::Bench(arguments) => return Ok(status(bench::run(&arguments)?)),
        Task::Vm(arguments) => return vm::run(&arguments),
        Task::Fuzz(arguments) => return Ok(status(fuzz::run(&arguments)?)),
        Task::Soak(arguments) => return Ok(status(soak::run(&arguments)?)),
        Task::VmGuest { plan } => vm::inside(&plan)?,
        Task::VmStart { steer, filter } => {
            return Ok(status(vm::start_checks(&steer, &filter)));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn status(well: bool) -> ExitCode {
    if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
