//! `cargo xtask vm`: boots a list of kernels, each in a guest on this machine's own root, and runs the groups of tests there.
//!
//! virtme-ng makes the guest: the root is shared read-only, what is written is lost. In it this program runs itself again,
//! with a plan, and tells by lines what comes of it.

mod accel;
mod fleet;
mod groups;
mod guest;
mod interrupt;
pub mod kernels;
mod machine;
mod outcome;
mod protocol;
mod screen;
mod start;
mod table;
pub mod tools;

use std::{
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use serde::Serialize;

use self::{
    accel::Acceleration,
    fleet::Fleet,
    kernels::Wanted,
    outcome::Outcome,
    protocol::{Breakage, Plan},
    tools::Tools,
};
use crate::{build_ebpf, cross::NotHere, setup, step, system, tally::Tally, test};

pub use guest::run as inside;
pub use start::run as start_checks;

const EXAMPLES: &str = "\
Examples:
  cargo xtask vm
      every test on 5.10, 6.1, 6.12 and the newest kernel that the machine's package sources have
  cargo xtask vm --kernel 6.6 --kernel newest -- forged
      the tests with \"forged\" in their names, on two others
  cargo xtask vm --vmlinuz arch/x86/boot/bzImage --modules staging/lib/modules/6.19.0
      a kernel of your own";

/// Which kernels and tests, and how.
#[derive(Debug, Default, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Boot the newest of this series, such as 6.6, or this very version, or the newest of all. Repeatable [default: 5.10, 6.1,
    /// 6.12, newest]
    #[arg(long = "kernel", value_name = "SERIES")]
    kernels: Vec<Wanted>,
    /// Boot this kernel.
    #[arg(long, value_name = "FILE", requires = "modules")]
    vmlinuz: Option<PathBuf>,
    /// The folder of its modules: lib/modules/RELEASE.
    #[arg(long, value_name = "DIR", requires = "vmlinuz")]
    modules: Option<PathBuf>,
    /// How many guests run at a time [default: as many as there are processors].
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Run those tests as well that a kernel hardly makes a difference to and that take long.
    #[arg(long)]
    all: bool,
    /// Write what came of it as JSON; to standard output if it is -, and then the table to standard error.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Look for newer kernels than those in the cache.
    #[arg(long)]
    refresh: bool,
    /// Have every guest go wrong in this way, to try the harness.
    #[arg(long = "break", value_name = "HOW", hide = true)]
    fault: Option<Breakage>,
    /// Only the tests whose names contain one of these.
    #[arg(last = true)]
    filter: Vec<String>,
}

/// What came of all kernels.
#[derive(Serialize)]
struct Run {
    seconds: f64,
    acceleration: Acceleration,
    passed: bool,
    kernels: Vec<Outcome>,
    #[serde(skip)]
    groups: Vec<String>,
}

/// Runs the tests on the kernels that `arguments` names; fails when one of them did not pass.
///
/// # Errors
/// When something cannot be installed, built, fetched or started.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    eprintln!("setup");
    setup::programs()?;
    setup::toolchain(None)?;
    build_ebpf::run(None, false)?;
    let run = execute(arguments)?;
    Ok(if run.passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The default kernels as a phase of `cargo xtask test`, which has built everything; `tally` gets their tests.
///
/// # Errors
/// [`NotHere`] where kernels cannot come from; when a kernel did not pass; or as [`run`].
pub fn phase(tally: &mut Tally) -> Result<()> {
    kernels::ensure_source().map_err(|error| {
        NotHere(format!(
            "{error:#}; `cargo xtask vm --vmlinuz FILE --modules DIR` tries a kernel of your own"
        ))
    })?;
    let run = execute(&Arguments::default())?;
    *tally = run.kernels.iter().map(Outcome::tally).sum();
    let bad: Vec<_> = run
        .kernels
        .iter()
        .filter(|outcome| !outcome.passed())
        .map(|outcome| outcome.kernel.as_str())
        .collect();
    ensure!(bad.is_empty(), "not well on {}: see above", bad.join(", "));
    Ok(())
}

fn execute(arguments: &Arguments) -> Result<Run> {
    let started = Instant::now();
    if let Some(word) = arguments.filter.iter().find(|word| word.starts_with('-')) {
        bail!("after -- come parts of tests' names, and {word} is an option");
    }
    let root = system::workspace();
    // First, for a kernel that cannot be had is soon told.
    let kernels = kernels::fetch(&arguments.wanted(), arguments.refresh)?;
    let tools = Tools::install()?;
    let groups = groups::compile(
        &root,
        &arguments.filter,
        arguments.all,
        !(arguments.kernels.is_empty() && arguments.vmlinuz.is_none()),
    )?;
    let names = groups::names(&groups);
    let first = kernels.first().context("no kernel was asked for")?;
    let acceleration = Acceleration::find(&tools.qemu, &first.image);

    let folder = test::target_directory(&root)?.join("vm");
    fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let limits = match arguments.fault {
        Some(_) => acceleration.limits().impatient(),
        None => acceleration.limits(),
    };
    let fleet = Fleet {
        tools: &tools,
        acceleration,
        limits,
        folder: &folder,
        plan: Plan {
            groups,
            fault: arguments.fault,
        },
        filtered: !arguments.filter.is_empty(),
    };
    let jobs = arguments.jobs.or(thread::available_parallelism().ok());
    let outcomes = fleet.run(&kernels, jobs.map_or(1, NonZeroUsize::get))?;

    let tally: Tally = outcomes.iter().map(Outcome::tally).sum();
    let whole = outcomes.iter().all(|outcome| outcome.fault.is_none());
    ensure!(
        !whole || tally.total() > 0,
        "no test has `{}` in its name",
        arguments.filter.join("` or `")
    );
    let run = Run {
        seconds: started.elapsed().as_secs_f64(),
        acceleration,
        passed: outcomes.iter().all(Outcome::passed),
        kernels: outcomes,
        groups: names,
    };
    run.print(arguments.json.as_deref(), &folder)?;
    Ok(run)
}

impl Arguments {
    fn wanted(&self) -> Vec<Wanted> {
        let files = self.vmlinuz.iter().zip(&self.modules);
        let files = files.map(|(vmlinuz, modules)| Wanted::Files {
            vmlinuz: vmlinuz.clone(),
            modules: modules.clone(),
        });
        let wanted: Vec<_> = self.kernels.iter().cloned().chain(files).collect();
        if wanted.is_empty() {
            kernels::default()
        } else {
            wanted
        }
    }
}

impl Run {
    /// Prints the tables, the failures and the closing line, and writes the JSON.
    fn print(&self, json: Option<&Path>, folder: &Path) -> Result<()> {
        let mut text = format!("\n{}", table::render(&self.kernels, &self.groups));
        let failures = table::failures(&self.kernels);
        if !failures.is_empty() {
            text += &failures;
            text += &format!(
                "\nall that the guests printed: {}/*.log, *.console\n",
                folder.display()
            );
        }
        let tally: Tally = self.kernels.iter().map(Outcome::tally).sum();
        let bad = self.kernels.iter().filter(|it| !it.passed()).count();
        let count = self.kernels.len();
        let verdict = if bad == 0 {
            format!("all of {count} kernels are well")
        } else {
            format!("{bad} of {count} kernels are NOT well")
        };
        text += &format!(
            "\n{verdict}: {tally} in {}, by {}\n",
            step::seconds(Duration::from_secs_f64(self.seconds)),
            self.acceleration
        );

        let to_stdout = json == Some(Path::new("-"));
        if to_stdout {
            eprint!("{text}");
        } else {
            print!("{text}");
        }
        if let Some(file) = json {
            let json = serde_json::to_string_pretty(self)?;
            if to_stdout {
                println!("{json}");
            } else {
                fs::write(file, json + "\n")
                    .with_context(|| format!("{} cannot be written", file.display()))?;
            }
        }
        Ok(())
    }
}
