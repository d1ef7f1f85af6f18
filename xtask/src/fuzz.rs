//! Fuzzing of the parsers by cargo-fuzz: for a while each, with what came of it as a table.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{build_ebpf, setup::packages, step, system};

const VERSION: &str = "0.13.2";
/// Where everything but the seeds goes: below the workspace's own target folder.
const FOLDER: &str = "target/fuzz";

/// Has a compiler that is no nightly take a nightly's flags.
const BOOTSTRAP: &str = "RUSTC_BOOTSTRAP";

/// What to fuzz, and for how long.
#[derive(clap::Args)]
pub struct Arguments {
    /// The targets, each a parser; all of them if none is named.
    targets: Vec<String>,
    /// How long each is fuzzed.
    #[arg(long, default_value_t = 60, value_name = "N")]
    seconds: u32,
}

/// What came of one target.
struct Row {
    target: String,
    runs: String,
    /// Edges of the program that were reached.
    coverage: String,
    /// Inputs that broke the target's property.
    findings: Vec<PathBuf>,
}

/// Fuzzes, and prints a table; whether nothing was found.
///
/// # Errors
/// When there is no such target, cargo-fuzz cannot be had, or the targets do not compile.
pub fn run(arguments: &Arguments) -> Result<bool> {
    let root = system::workspace();
    let all = targets(&root)?;
    if let Some(unknown) = arguments.targets.iter().find(|name| !all.contains(name)) {
        bail!(
            "there is no fuzz target {unknown}: they are {}",
            all.join(", ")
        );
    }
    let chosen = if arguments.targets.is_empty() {
        &all
    } else {
        &arguments.targets
    };
    let cargo_fuzz = find().map_or_else(install, Ok)?;
    build_ebpf::run(None, false)?;
    let sanitizer = build(&cargo_fuzz, &root)?;
    let rows = chosen
        .iter()
        .map(|target| fuzz(&cargo_fuzz, &root, target, arguments.seconds, sanitizer))
        .collect::<Result<Vec<_>>>()?;
    println!(
        "\n{:<12} {:>12} {:>10} {:>10}   {} s each, sanitizer: {sanitizer}",
        "target", "runs", "coverage", "findings", arguments.seconds
    );
    for row in &rows {
        let Row {
            target,
            runs,
            coverage,
            findings,
        } = row;
        println!(
            "{target:<12} {runs:>12} {coverage:>10} {:>10}",
            findings.len()
        );
    }
    for finding in rows.iter().flat_map(|row| &row.findings) {
        println!("finding: {}", finding.display());
    }
    Ok(rows.iter().all(|row| row.findings.is_empty()))
}

/// The targets that there are.
fn targets(root: &Path) -> Result<Vec<String>> {
    let folder = root.join("fuzz/targets");
    let mut names = fs::read_dir(&folder)
        .and_then(|entries| entries.collect::<Result<Vec<_>, _>>())
        .with_context(|| format!("{} cannot be read", folder.display()))?
        .iter()
        .filter_map(|entry| Some(entry.path().file_stem()?.to_str()?.to_owned()))
        .collect::<Vec<_>>();
    names.sort();
    Ok(names)
}

fn find() -> Option<PathBuf> {
    Some(folder().join("bin/cargo-fuzz")).filter(|program| program.is_file())
}

fn folder() -> PathBuf {
    system::cache().join(format!("cargo-fuzz-{VERSION}"))
}

fn install() -> Result<PathBuf> {
    let folder = folder();
    let mut command = Command::new("cargo");
    system::clean_environment(&mut command)
        .args([
            "install",
            "cargo-fuzz",
            "--version",
            VERSION,
            "--locked",
            "--force",
            "--root",
        ])
        .arg(&folder)
        .env("CARGO_TARGET_DIR", folder.join("build"));
    step::run(
        &format!("building cargo-fuzz {VERSION} (about a minute)"),
        &mut command,
    )?;
    fs::remove_dir_all(folder.join("build"))
        .with_context(|| format!("{} cannot be removed", folder.join("build").display()))?;
    find().with_context(|| format!("cargo-fuzz was built, yet {} has none", folder.display()))
}

/// Compiles all targets, with the sanitizer of addresses where the toolchain has it; returns the sanitizer's name.
fn build(cargo_fuzz: &Path, root: &Path) -> Result<&'static str> {
    if system::find("c++").is_none() {
        ensure!(
            packages::has_apt(),
            "`c++` is missing, which libFuzzer is compiled by: install a compiler for C++"
        );
        packages::install(&["g++"])?;
    }
    let sanitizer = if links_with_sanitizer() {
        "address"
    } else {
        "none"
    };
    step::run(
        &format!("compiling the fuzz targets, sanitizer: {sanitizer}"),
        &mut cargo(cargo_fuzz, "build", root, sanitizer),
    )?;
    Ok(sanitizer)
}

/// Whether the compiler in use comes with the sanitizer's runtime: a distribution's may not.
fn links_with_sanitizer() -> bool {
    let Ok(folder) = tempfile::tempdir() else {
        return false;
    };
    let source = folder.path().join("main.rs");
    let mut command = Command::new("rustc");
    system::clean_environment(&mut command)
        .env(BOOTSTRAP, "1")
        .args(["-Zsanitizer=address", "-o"])
        .arg(folder.path().join("main"))
        .arg(&source);
    fs::write(source, "fn main() {}").is_ok() && system::output(&mut command).is_some()
}

fn fuzz(
    cargo_fuzz: &Path,
    root: &Path,
    target: &str,
    seconds: u32,
    sanitizer: &str,
) -> Result<Row> {
    // What is found on the way goes to the first folder; the seeds are only read.
    let found = root.join(FOLDER).join("corpus").join(target);
    fs::create_dir_all(&found).with_context(|| format!("{} cannot be made", found.display()))?;
    let artifacts = root.join("fuzz/artifacts").join(target);
    let before = files(&artifacts);
    let mut command = cargo(cargo_fuzz, "run", root, sanitizer);
    command
        .arg(target)
        .arg(&found)
        .arg(root.join("fuzz/corpus").join(target))
        .args(["--", "-print_final_stats=1", "-timeout=10"])
        .arg(format!("-max_total_time={seconds}"));
    let (status, tail) = step::attempt(&format!("fuzzing {target} for {seconds} s"), &mut command)?;
    let mut findings = files(&artifacts);
    findings.retain(|file| !before.contains(file));
    if !status.success() {
        eprintln!("{}", tail.join("\n"));
        ensure!(
            !findings.is_empty(),
            "the fuzzer of {target} ended with {status} and left no finding"
        );
    }
    let last = |prefix: &str| {
        let words = tail.iter().rev().filter_map(|line| line.split_once(prefix));
        words
            .map(|(_, rest)| {
                rest.split_whitespace()
                    .next()
                    .unwrap_or_default()
                    .to_owned()
            })
            .next()
    };
    Ok(Row {
        target: target.to_owned(),
        runs: last("stat::number_of_executed_units:").unwrap_or_else(|| "unknown".to_owned()),
        coverage: last(" cov: ").unwrap_or_else(|| "unknown".to_owned()),
        findings,
    })
}

/// cargo-fuzz on the workspace's targets. It wants a nightly compiler only for flags that any compiler takes when told so.
fn cargo(cargo_fuzz: &Path, what: &str, root: &Path, sanitizer: &str) -> Command {
    let mut command = Command::new(cargo_fuzz);
    system::clean_environment(&mut command)
        .current_dir(root)
        .env(BOOTSTRAP, "1")
        .args(["fuzz", what, "--sanitizer", sanitizer, "--target-dir"])
        .arg(root.join(FOLDER));
    command
}

fn files(folder: &Path) -> Vec<PathBuf> {
    // There is none until something was found.
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}
