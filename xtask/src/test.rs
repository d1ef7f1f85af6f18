//! Every check and test there is, phase by phase, with a summary that tells what ran and what did not.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    bench, build_ebpf, cross, licences, report::Report, setup, step, system, tally::Tally, vm,
};

/// What the tests need root for.
const PURPOSE: &str = "Loading programs and making network namespaces";

/// Runs everything, or with `filter` only the tests whose name contains it; `extra` goes to the test programs.
///
/// # Errors
/// When any phase failed or could not run.
pub fn run(filter: Option<&str>, extra: &[String]) -> Result<()> {
    let root = system::workspace();
    let started = Instant::now();
    let mut report = Report::default();

    // While somebody watches, for it may ask for a password.
    if let Err(error) = system::ensure_root(PURPOSE) {
        eprintln!("{error}: what needs it will not be run");
    }
    let prepared = report.phase("setup and build", || prepare(&root));
    let Some(toolchain) = prepared else {
        eprintln!("nothing else was run: no check and no test, on the host or as root");
        return report.finish(started.elapsed());
    };
    if filter.is_none() {
        lints(&mut report, &root, &toolchain);
    }

    let selection = Selection { filter, extra };
    for group in GROUPS {
        report.tests(group.name, |tally| selection.run(&root, group, tally));
    }
    if filter.is_none() {
        report.phase("benchmarks, quickly", bench::phase);
        report.tests("kernel matrix", vm::phase);
    }
    if let Some(filter) = filter
        && report.tally().total() == 0
    {
        report.fail("selection", format!("no test has `{filter}` in its name"));
    }
    report.finish(started.elapsed())
}

/// Tests that are run together.
struct Group {
    name: &'static str,
    /// What selects them, as arguments of `cargo test`.
    selection: &'static [&'static str],
    as_root: bool,
}

const GROUPS: &[Group] = &[
    Group {
        name: "parsers and decisions",
        selection: &[
            "-p",
            "steer-common",
            "-p",
            "xtask",
            "--lib",
            "--bins",
            "--tests",
        ],
        as_root: false,
    },
    Group {
        name: "units of steer",
        selection: &[
            "-p",
            "steer",
            "-p",
            "steer-tests",
            "-p",
            "steer-bench",
            "--lib",
            "--bins",
        ],
        as_root: false,
    },
    Group {
        name: "properties of parsers",
        selection: &["-p", "steer-properties", "--tests"],
        as_root: false,
    },
    Group {
        name: "examples in documentation",
        selection: &["--workspace", "--exclude", "steer-ebpf", "--doc"],
        as_root: false,
    },
    Group {
        name: "steer as root",
        selection: &["-p", "steer", "--test", "*"],
        as_root: true,
    },
    Group {
        name: "end to end as root",
        selection: &["-p", "steer-tests", "--test", "*"],
        as_root: true,
    },
];

/// Sets up and compiles what the tests need.
///
/// # Errors
/// When something cannot be had or does not compile.
pub fn prepare(root: &Path) -> Result<setup::Toolchain> {
    setup::programs()?;
    setup::host_components()?;
    let toolchain = setup::toolchain(None)?;
    build_ebpf::run(None, false)?;
    // The tests of `steer-tests` look for it beside themselves. A debug build, whose start can be made to fail.
    step::run(
        "compiling steer",
        cargo(root).args(["build", "--locked", "--package", "steer"]),
    )?;
    Ok(toolchain)
}

/// Builds the release binary of steer, and returns its path.
///
/// # Errors
/// When it does not compile.
pub fn build_steer(root: &Path) -> Result<PathBuf> {
    step::run(
        "compiling steer",
        cargo(root).args(["build", "--locked", "--release", "--package", "steer"]),
    )?;
    Ok(target_directory(root)?.join("release/steer"))
}

fn lints(report: &mut Report, root: &Path, toolchain: &setup::Toolchain) {
    let host = ["--workspace", "--exclude", "steer-ebpf", "--locked"];
    report.phase("format", || {
        step::run("cargo fmt", cargo(root).args(["fmt", "--all", "--check"]))
    });
    report.phase("clippy", || {
        step::run(
            "cargo clippy",
            cargo(root)
                .arg("clippy")
                .args(host)
                .args(["--all-targets", "--", "-D", "warnings"]),
        )
    });
    report.phase("clippy for BPF", || build_ebpf::clippy(toolchain, root));
    report.phase("documentation", || {
        step::run(
            "cargo doc",
            cargo(root)
                .arg("doc")
                .args(host)
                .arg("--no-deps")
                .env("RUSTDOCFLAGS", "-Dwarnings"),
        )
    });
    report.phase("licences and sources", || licences::check(root));
    report.phase("aarch64", || cross::check(toolchain, root));
}

struct Selection<'a> {
    filter: Option<&'a str>,
    extra: &'a [String],
}

impl Selection<'_> {
    /// Runs a group; compiles as the user, and runs as root where needed.
    fn run(&self, root: &Path, group: &Group, tally: &mut Tally) -> Result<()> {
        let mut command = cargo(root);
        command
            .args(["test", "--locked", "--no-fail-fast"])
            .args(group.selection);
        if group.as_root {
            as_root(&mut command)?;
        }
        command.args(self.filter).arg("--").args(self.extra);

        let status = step::stream(&mut command, |line| tally.read(line))?;
        ensure!(
            status.success(),
            "`{}` ended with {status}",
            step::render(&command)
        );
        Ok(())
    }
}

/// Has cargo run test programs as root.
///
/// # Errors
/// When this process cannot become root.
pub fn as_root(command: &mut Command) -> Result<()> {
    if !system::is_root() {
        system::ensure_root(PURPOSE)?;
        command.args([
            "--config",
            r#"target.'cfg(target_os = "linux")'.runner = ["sudo", "-n", "-E"]"#,
        ]);
    }
    Ok(())
}

/// Cargo in the workspace `root`, with an environment of its own.
pub fn cargo(root: &Path) -> Command {
    let mut command = Command::new("cargo");
    system::clean_environment(&mut command).current_dir(root);
    command
}

/// The folder of what cargo builds.
///
/// # Errors
/// When cargo does not tell.
pub fn target_directory(root: &Path) -> Result<PathBuf> {
    let text = system::output(cargo(root).args([
        "metadata",
        "--format-version",
        "1",
        "--no-deps",
        "--locked",
    ]))
    .context("`cargo metadata` failed: is Cargo.lock up to date?")?;
    let metadata: serde_json::Value =
        serde_json::from_str(&text).context("`cargo metadata` printed no JSON")?;
    let folder = metadata["target_directory"]
        .as_str()
        .context("`cargo metadata` names no target_directory")?;
    Ok(folder.into())
}
