//! The tests that try for something for as long as they are let, in their long form.

use anyhow::{Context as _, Result, bail, ensure};

use crate::{step, system, tally::Tally, test};

/// How long, and which choices.
#[derive(clap::Args)]
pub struct Arguments {
    /// Those to run; all of them if none is named.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// How long each is to go on.
    #[arg(long, default_value_t = 10, value_name = "N")]
    minutes: u32,
    /// Repeats the choices of a run that printed it.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// A test with a long form.
struct Soak {
    name: &'static str,
    /// What selects it, as arguments of `cargo test`.
    selection: [&'static str; 5],
    /// What it takes its length from, and how much of that makes a minute.
    length: (&'static str, u32),
}

const SOAKS: [Soak; 4] = [
    Soak {
        name: "leaks",
        selection: ["-p", "steer-tests", "--test", "docker", "leaks::"],
        length: ("STEER_SECONDS", 60),
    },
    Soak {
        name: "restarts",
        selection: ["-p", "steer-tests", "--test", "docker", "restarts::"],
        length: ("STEER_RESTARTS", 3),
    },
    Soak {
        name: "transitions",
        selection: ["-p", "steer", "--test", "route", "transitions::"],
        length: ("STEER_TRANSITIONS", 600),
    },
    Soak {
        name: "flood",
        selection: ["-p", "steer-tests", "--test", "light", "flood::"],
        length: ("STEER_FLOWS", 100_000),
    },
];

/// Runs them, one after the other; whether all of them passed.
///
/// # Errors
/// When there is none of that name, or they do not compile.
pub fn run(arguments: &Arguments) -> Result<bool> {
    let known = SOAKS.map(|soak| soak.name);
    let unknown = |name: &&String| !known.contains(&name.as_str());
    if let Some(name) = arguments.names.iter().find(unknown) {
        bail!("there is no soak {name}: they are {}", known.join(", "));
    }
    let root = system::workspace();
    test::prepare(&root)?;
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    println!("soak: {} minutes each, --seed {seed}", arguments.minutes);
    let mut well = true;
    for soak in &SOAKS {
        let chosen = arguments.names.is_empty() || arguments.names.iter().any(|it| it == soak.name);
        if !chosen {
            continue;
        }
        let mut command = test::cargo(&root);
        command.args(["test", "--locked"]);
        test::as_root(&mut command)?;
        let (variable, each_minute) = soak.length;
        let length = each_minute
            .checked_mul(arguments.minutes)
            .context("so many minutes are too many")?;
        command
            .args(soak.selection)
            .args(["--", "--nocapture"])
            .env(variable, length.to_string())
            .env("STEER_SEED", seed.to_string());
        let mut tally = Tally::default();
        let status = step::stream(&mut command, |line| tally.read(line))?;
        ensure!(
            tally.total() > 0 || !status.success(),
            "`{}` ran no test",
            step::render(&command)
        );
        well &= status.success();
        let result = if status.success() { "ok" } else { "FAILED" };
        println!("soak: {}: {result}", soak.name);
    }
    Ok(well)
}
