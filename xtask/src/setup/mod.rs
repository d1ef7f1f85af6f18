//! Makes a machine able to build and test steer.

pub mod compiler;
mod linker;
pub mod packages;

use std::{path::PathBuf, process::Command, time::Instant};

use anyhow::{Context as _, Result, bail};

use crate::{step, system, vm::tools::Tools};
use compiler::{Compiler, Route};

/// What turns the eBPF sources into an object.
pub struct Toolchain {
    /// The compiler.
    pub compiler: Compiler,
    /// bpf-linker, for the same LLVM.
    pub linker: PathBuf,
}

/// Installs all that is missing, saying each step.
///
/// # Errors
/// When something cannot be installed: the message names it and what to do.
pub fn run(route: Option<Route>) -> Result<()> {
    let started = Instant::now();
    eprintln!("setup: {}", packages::distribution());
    programs()?;
    peers()?;
    Tools::install()?;
    host_components()?;
    toolchain(route)?.compiler.clippy_driver()?;
    eprintln!("setup: all is there ({})", step::seconds(started.elapsed()));
    Ok(())
}

/// Installs the lab's programs where they are missing.
///
/// # Errors
/// When they cannot be installed here: the message lists them.
pub fn programs() -> Result<()> {
    packages::ensure(packages::LAB, "the lab's")
}

/// Installs whom steer is compared to, where they are missing.
///
/// # Errors
/// When they cannot be installed here: the message lists them.
pub fn peers() -> Result<()> {
    packages::ensure(packages::BENCH, "the benchmarks'")
}

/// Adds rustfmt and clippy of the compiler in use, where rustup left them out.
///
/// # Errors
/// When they are missing and cannot be added.
pub fn host_components() -> Result<()> {
    for (program, component) in [("cargo-fmt", "rustfmt"), ("cargo-clippy", "clippy")] {
        let works = || {
            system::output(Command::new("cargo").args([&program["cargo-".len()..], "--version"]))
                .is_some()
        };
        if works() {
            continue;
        }
        if system::find("rustup").is_none() {
            bail!("`{program}` is missing: install {component} of the compiler in use");
        }
        step::run(
            &format!("rustup component add {component}"),
            Command::new("rustup").args(["component", "add", component]),
        )?;
    }
    Ok(())
}

/// Finds what compiles eBPF, and installs it where it is missing.
///
/// # Errors
/// When it cannot be had here.
pub fn toolchain(route: Option<Route>) -> Result<Toolchain> {
    let compiler = compiler::find(route).map_or_else(|| compiler::install(route), Ok)?;
    step::note(&format!("eBPF compiler: {compiler}"));
    let linker = linker::find(compiler.llvm)
        .map_or_else(|| linker::install(compiler.llvm), Ok)
        .context("no linker for eBPF")?;
    step::note(&format!(
        "bpf-linker for LLVM {}: {}",
        compiler.llvm,
        linker.display()
    ));
    Ok(Toolchain { compiler, linker })
}

/// Lists what is missing and changes nothing; whether all is there.
pub fn check(route: Option<Route>) -> bool {
    let mut complete = true;
    let mut missing = |line: String| {
        complete = false;
        println!("missing: {line}");
    };
    for table in [packages::LAB, packages::BENCH] {
        for line in packages::describe(&packages::missing(table)) {
            missing(line);
        }
    }
    for line in Tools::missing() {
        missing(line);
    }
    match compiler::find(route) {
        None => missing(
            "a compiler for eBPF: rustup's component rust-src, or the distribution's rustc with its standard library for BPF".to_owned(),
        ),
        Some(compiler) => {
            println!("eBPF compiler: {compiler}");
            match linker::find(compiler.llvm) {
                None => missing(format!("bpf-linker for LLVM {}: built by setup, with package {}", compiler.llvm, linker::package(compiler.llvm))),
                Some(linker) => println!("bpf-linker: {}", linker.display()),
            }
        }
    }
    if complete {
        println!("all is there");
    }
    complete
}
