//! `cargo xtask bench`: builds everything and has it measured, as root.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{build_ebpf, setup, step, system, test};

/// What is measured, and where it is written.
#[derive(Default, clap::Args)]
pub struct Arguments {
    /// Everything once, each for a moment: that it works, never how fast.
    #[arg(long)]
    quick: bool,
    /// An older report.json: what is different now.
    #[arg(long, value_name = "OLD.json")]
    compare: Option<PathBuf>,
    /// Only these groups of measurements.
    #[arg(long, value_name = "GROUP", num_args = 1..)]
    only: Vec<String>,
    /// Only these contenders: nothing, steer, nftset, squid.
    #[arg(long, value_name = "NAME", num_args = 1..)]
    contender: Vec<String>,
    /// The folder for the report: docs/benchmarks, or where only a part is measured or quickly, target/bench.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// How often everything is measured; 5 times, and once if quickly.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
}

/// Does what `arguments` say; whether all of it could be measured.
///
/// # Errors
/// When something cannot be built, or root cannot be had.
pub fn run(arguments: &Arguments) -> Result<bool> {
    let root = system::workspace();
    // First, so that the password is asked for while somebody watches.
    system::ensure_root("The benchmark")?;
    eprintln!("setup");
    setup::programs()?;
    setup::peers()?;
    setup::toolchain(None)?;
    build_ebpf::run(None, false)?;
    let steer = test::build_steer(&root)?;
    compile(&root, &["--release"])?;
    let out = match &arguments.out {
        Some(out) => out.clone(),
        None => default_out(arguments, &root)?,
    };
    let mut command = measuring(arguments, &steer, &out)?;
    let status = command
        .status()
        .with_context(|| format!("{} cannot be started", step::render(&command)))?;
    Ok(status.success())
}

/// The quick run as a phase of `cargo xtask test`, which has built steer, without what makes it fast: whether everything can be
/// measured.
///
/// # Errors
/// When something cannot.
pub fn phase() -> Result<()> {
    let root = system::workspace();
    system::ensure_root("The benchmark")?;
    setup::peers()?;
    compile(&root, &[])?;
    let arguments = Arguments {
        quick: true,
        ..Arguments::default()
    };
    let steer = test::target_directory(&root)?.join("debug/steer");
    let out = default_out(&arguments, &root)?;
    step::run(
        "everything measured once",
        &mut measuring(&arguments, &steer, &out)?,
    )
}

fn compile(root: &Path, profile: &[&str]) -> Result<()> {
    step::run(
        "compiling the benchmark",
        test::cargo(root)
            .args(["build", "--locked", "--package", "steer-bench"])
            .args(profile),
    )
}

/// What measures; it is beside the steer that it measures.
fn measuring(arguments: &Arguments, steer: &Path, out: &Path) -> Result<Command> {
    // By the user, whose it is to be.
    fs::create_dir_all(out)
        .with_context(|| format!("the folder {} cannot be made", out.display()))?;
    let mut command = system::as_root(steer.with_file_name("steer-bench"));
    command.args(words(arguments, steer, out));
    Ok(command)
}

/// A part or a quick run is nothing to keep.
fn default_out(arguments: &Arguments, root: &Path) -> Result<PathBuf> {
    if arguments.quick || !arguments.only.is_empty() || !arguments.contender.is_empty() {
        return Ok(test::target_directory(root)?.join("bench"));
    }
    Ok(root.join("docs/benchmarks"))
}

fn words(arguments: &Arguments, steer: &Path, out: &Path) -> Vec<OsString> {
    let mut words = vec!["run".into(), "--steer".into(), steer.into()];
    words.extend(["--out".into(), out.into()]);
    words.extend(arguments.quick.then(|| "--quick".into()));
    if let Some(older) = &arguments.compare {
        words.extend(["--compare".into(), older.into()]);
    }
    for group in &arguments.only {
        words.extend(["--only".into(), group.into()]);
    }
    for contender in &arguments.contender {
        words.extend(["--contender".into(), contender.into()]);
    }
    if let Some(rounds) = arguments.rounds {
        words.extend(["--rounds".into(), rounds.to_string().into()]);
    }
    words
}
