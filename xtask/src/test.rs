//! Every check and test there is, phase by phase, with a summary that tells what ran and what did not.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{build_ebpf, licences, setup, step, system, tally::Tally};

/// Runs everything, or with `filter` only the tests whose name contains it; `extra` goes to the test programs.
///
/// # Errors
/// When any phase failed or could not run.
pub fn run(filter: Option<&str>, extra: &[String]) -> Result<()> {
    let root = system::workspace();
    let started = Instant::now();
    let mut report = Report::default();

    let prepared = report.phase("setup and build", || prepare(&root));
    let Some(Prepared {
        toolchain,
        steer,
        debug_steer,
    }) = prepared
    else {
        return report.finish(started.elapsed());
    };
    if filter.is_none() {
        lints(&mut report, &root, &toolchain);
    }

    let selection = Selection {
        filter,
        extra,
        steer: &steer,
        debug_steer: &debug_steer,
    };
    report.tests("host tests", || {
        selection.run(
            &root,
            &[
                "-p",
                "steer-common",
                "-p",
                "xtask",
                "-p",
                "steer",
                "-p",
                "steer-tests",
                "--lib",
                "--bins",
            ],
            false,
        )
    });
    report.tests("documentation tests", || {
        selection.run(
            &root,
            &["--workspace", "--exclude", "steer-ebpf", "--doc"],
            false,
        )
    });
    for (name, package) in [
        ("tests of steer as root", "steer"),
        ("end-to-end tests as root", "steer-tests"),
    ] {
        let folder = if package == "steer" {
            "steer/tests"
        } else {
            "tests/tests"
        };
        if has_tests(&root.join(folder)) {
            report.tests(name, || {
                selection.run(&root, &["-p", package, "--test", "*"], true)
            });
        }
    }
    if let Some(filter) = filter
        && report.tally().total() == 0
    {
        report.fail(format!("no test has `{filter}` in its name"));
    }
    report.finish(started.elapsed())
}

struct Prepared {
    toolchain: setup::Toolchain,
    steer: std::path::PathBuf,
    debug_steer: std::path::PathBuf,
}

fn prepare(root: &Path) -> Result<Prepared> {
    setup::programs()?;
    setup::host_components()?;
    let toolchain = setup::toolchain(None)?;
    build_ebpf::run(None, false)?;
    let steer = build_steer(root)?;
    step::run(
        "compiling a debug build of steer, whose start can be made to fail",
        cargo(root).args(["build", "--locked", "--package", "steer"]),
    )?;
    let debug_steer = target_directory(root)?.join("debug/steer");
    Ok(Prepared {
        toolchain,
        steer,
        debug_steer,
    })
}

/// Builds the release binary of steer, and returns its path.
///
/// # Errors
/// When it does not compile.
pub fn build_steer(root: &Path) -> Result<std::path::PathBuf> {
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
}

struct Selection<'a> {
    filter: Option<&'a str>,
    extra: &'a [String],
    steer: &'a Path,
    debug_steer: &'a Path,
}

impl Selection<'_> {
    /// Runs `cargo test` on what `targets` selects; compiles as the user, and runs as root if asked to.
    fn run(&self, root: &Path, targets: &[&str], as_root: bool) -> Result<Tally> {
        let mut command = cargo(root);
        command
            .args(["test", "--locked", "--no-fail-fast"])
            .args(targets);
        command
            .env("STEER_BIN", self.steer)
            .env("STEER_DEBUG_BIN", self.debug_steer);
        if as_root && !system::is_root() {
            system::ensure_root("Loading programs and making network namespaces")?;
            command.args([
                "--config",
                r#"target.'cfg(target_os = "linux")'.runner = ["sudo", "-n", "-E"]"#,
            ]);
        }
        command.args(self.filter).arg("--").args(self.extra);

        let mut tally = Tally::default();
        let status = step::stream(&mut command, |line| tally.read(line))?;
        ensure!(
            status.success(),
            "`{}` ended with {status}: {tally}",
            step::render(&command)
        );
        Ok(tally)
    }
}

fn has_tests(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else {
        return false;
    };
    entries.flatten().any(|entry| {
        entry
            .path()
            .extension()
            .is_some_and(|extension| extension == "rs")
    })
}

fn cargo(root: &Path) -> Command {
    let mut command = Command::new("cargo");
    system::clean_environment(&mut command).current_dir(root);
    command
}

fn target_directory(root: &Path) -> Result<std::path::PathBuf> {
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

/// What each phase came to.
#[derive(Default)]
struct Report {
    phases: Vec<Phase>,
}

struct Phase {
    name: String,
    took: Duration,
    result: Result<Option<Tally>, Fault>,
}

struct Fault {
    /// What the summary calls it.
    word: &'static str,
    reason: String,
}

impl Report {
    fn phase<T>(&mut self, name: &str, body: impl FnOnce() -> Result<T>) -> Option<T> {
        self.record(name, body, |_| None)
    }

    fn tests(&mut self, name: &str, body: impl FnOnce() -> Result<Tally>) {
        self.record(name, body, |tally| Some(*tally));
    }

    fn record<T>(
        &mut self,
        name: &str,
        body: impl FnOnce() -> Result<T>,
        tally: impl FnOnce(&T) -> Option<Tally>,
    ) -> Option<T> {
        eprintln!("\n== {name}");
        let started = Instant::now();
        let result = body();
        let took = started.elapsed();
        let (value, result) = match result {
            Ok(value) => {
                let tally = tally(&value);
                (Some(value), Ok(tally))
            }
            Err(error) => {
                eprintln!("error: {error:#}");
                let word = if error.is::<system::NoRoot>() {
                    "NOT RUN"
                } else {
                    "FAILED"
                };
                (
                    None,
                    Err(Fault {
                        word,
                        reason: format!("{error:#}"),
                    }),
                )
            }
        };
        self.phases.push(Phase {
            name: name.to_owned(),
            took,
            result,
        });
        value
    }

    fn fail(&mut self, reason: String) {
        self.phases.push(Phase {
            name: "selection".to_owned(),
            took: Duration::ZERO,
            result: Err(Fault {
                word: "FAILED",
                reason,
            }),
        });
    }

    fn tally(&self) -> Tally {
        self.phases
            .iter()
            .filter_map(|phase| phase.result.as_ref().ok().copied().flatten())
            .sum()
    }

    fn finish(self, took: Duration) -> Result<()> {
        println!("\n== summary");
        for phase in &self.phases {
            let took = step::seconds(phase.took);
            let (word, detail) = match &phase.result {
                Ok(None) => ("ok", String::new()),
                Ok(Some(tally)) => ("ok", tally.to_string()),
                Err(fault) => (
                    fault.word,
                    fault.reason.lines().next().unwrap_or_default().to_owned(),
                ),
            };
            println!("{:<26} {word:<7} {took:>12}  {detail}", phase.name);
        }
        let failed: Vec<_> = self
            .phases
            .iter()
            .filter(|phase| phase.result.is_err())
            .map(|phase| phase.name.as_str())
            .collect();
        let tally = self.tally();
        let took = step::seconds(took);
        if failed.is_empty() {
            println!("test result: ok. {tally} in {took}");
            return Ok(());
        }
        println!("test result: FAILED. {tally} in {took}");
        bail!("not well: {}", failed.join(", "))
    }
}
