//! What steer costs: against nothing at all, and against what people use instead. `cargo xtask bench` starts it, as root.

mod contender;
mod growth;
mod kernel;
mod load;
mod measure;
mod options;
mod programs;
mod report;
mod stage;
mod start;

use std::{fs, process::ExitCode};

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};

use options::Options;
use report::{
    machine::Machine,
    model::{Recorder, Report},
};

#[derive(Parser)]
#[command(name = "steer-bench")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Measures, and writes a report.
    Run(Options),
    /// In the lab's Internet: the servers.
    #[command(hide = true)]
    Serve(load::server::Options),
    /// In the lab's box or a guest of it: one load.
    #[command(hide = true)]
    Load {
        /// What to do, as JSON.
        ask: String,
    },
}

/// What is measured together.
struct Group {
    /// What `--only` can choose of it; it runs if one of them is wanted.
    names: &'static [&'static str],
    /// Measures what is wanted.
    run: fn(&Options, &mut Recorder) -> Result<()>,
}

/// All there is to measure, in the order of the report.
const GROUPS: &[Group] = &[
    Group {
        names: measure::NAMES,
        run: measure::run,
    },
    Group {
        names: programs::NAMES,
        run: programs::run,
    },
    Group {
        names: growth::NAMES,
        run: growth::run,
    },
    Group {
        names: start::NAMES,
        run: start::run,
    },
];

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Run(options) => run(&options),
        Task::Serve(options) => load::server::run(&options).map(|()| true),
        Task::Load { ask } => load::run(&ask).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the groups that are wanted and reports, also what failed; whether nothing did.
fn run(options: &Options) -> Result<bool> {
    let known: Vec<_> = GROUPS.iter().flat_map(|group| group.names).collect();
    for name in &options.only {
        ensure!(
            known.iter().any(|it| *it == name),
            "there is no group {name}: they are {}",
            known.iter().map(|it| **it).collect::<Vec<_>>().join(", ")
        );
    }
    let older = options.compare.as_deref().map(report::read).transpose()?;
    // Before anything is measured: a folder that cannot be made is known at once.
    fs::create_dir_all(&options.out)?;

    let date = jiff::Timestamp::now()
        .strftime("%Y-%m-%d %H:%M UTC")
        .to_string();
    let machine = Machine::here();
    let mut recorder = Recorder::default();
    for group in GROUPS {
        if !group.names.iter().any(|name| options.wants(name)) {
            continue;
        }
        if let Err(error) = (group.run)(options, &mut recorder) {
            recorder.fail(&error);
        }
    }
    let well = !recorder.failed;
    let report = Report {
        date,
        quick: options.quick,
        rounds: options.rounds(),
        machine,
        versions: recorder.versions,
        notes: recorder.notes,
        records: recorder.records,
    };
    for text in report::write(&report, older.as_ref(), &options.out)? {
        println!("{}", text.display());
    }
    Ok(well)
}
