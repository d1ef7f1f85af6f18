//! `steer doctor`.

mod text;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde_json::json;

use self::text::{Page, told};
use super::{colour::Palette, output::print, runtime};
use crate::doctor::{
    Finding, Fix, Journal, JournalError, Places, STATE_DIR, State, all, collect, examine, mend,
};

pub(super) const EXAMPLES: &str = "\
Examples:
  sudo steer doctor
      what is broken, what could be better, and the commands that mend it
  sudo steer doctor --fix
      mend what can be mended safely; what was there is kept
  sudo steer doctor --undo
      take the last --fix back, byte for byte
  sudo steer doctor --only address-overlap --fix
      nothing but this
  steer doctor --json | jq -r '.findings[] | select(.state == \"broken\") | .id'
      for scripts

Exit status: 0 where nothing is broken (with --fix: any more), 1 where something is, 2 where the command line is wrong.
Nothing is changed without --fix. Every check: docs/doctor.md";

/// What `steer doctor` looks at and does.
#[derive(Clone, Debug, Args)]
pub struct DoctorArgs {
    /// Configuration file [default: /etc/steer/steer.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Docker's configuration file [default: the one that dockerd was told, or /etc/docker/daemon.json]
    #[arg(long, value_name = "FILE")]
    pub daemon_json: Option<PathBuf>,

    /// Directory in which what a fix changes is kept, to be put back by --undo
    #[arg(long, value_name = "DIR", default_value = STATE_DIR)]
    pub state_dir: PathBuf,

    /// Look at this alone. Repeatable
    #[arg(long, value_name = "ID", value_parser = id)]
    pub only: Vec<String>,

    /// Mend what can be mended safely: a sysctl, Docker's configuration file. No service is restarted
    #[arg(long)]
    pub fix: bool,

    /// Take back what the last --fix did; once more for the one before
    #[arg(long, conflicts_with_all = ["fix", "only"])]
    pub undo: bool,

    /// With --undo: also where a file was changed since, which loses that change
    #[arg(long, requires = "undo")]
    pub force: bool,

    /// Print JSON
    #[arg(long)]
    pub json: bool,

    /// Say what was found where all is well, too
    #[arg(short, long)]
    pub verbose: bool,
}

/// Looks, says, and mends or takes back where it is told to.
pub(super) fn doctor(args: &DoctorArgs) -> Result<ExitCode> {
    super::set_up_log(0);
    if args.undo {
        return undo(args).map(|()| ExitCode::SUCCESS);
    }
    let mut findings = look(args)?;
    let mut done = Vec::new();
    let mut failed = None;
    if args.fix {
        done = fixes(&findings);
        match mend(&args.state_dir, &done) {
            Ok(()) if done.is_empty() => {}
            Ok(()) => findings = look(args)?,
            Err(error) => {
                failed = Some(error);
                done.clear();
            }
        }
    }
    if args.json {
        print(&[format!("{:#}", as_json(&findings, &done))])?;
    } else {
        let page = Page {
            palette: Palette::of_stdout(),
            verbose: args.verbose,
            fixed: args.fix && failed.is_none(),
        };
        let mut lines = told(&page, &findings);
        lines.extend(page.done(&done, &args.state_dir));
        print(&lines)?;
    }
    if let Some(error) = failed {
        return match error {
            JournalError::HalfDone { .. } => Err(error.into()),
            _ => Err(error).context("nothing was changed"),
        };
    }
    let is_broken = |finding: &Finding| finding.state == State::Broken;
    Ok(if findings.iter().any(is_broken) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn look(args: &DoctorArgs) -> Result<Vec<Finding>> {
    let facts = runtime()?.block_on(collect(Places {
        config: args.config.as_deref(),
        daemon_json: args.daemon_json.as_deref(),
    }));
    let mut findings = examine(&facts);
    if !args.only.is_empty() {
        findings.retain(|finding| args.only.iter().any(|id| id == finding.id));
    }
    Ok(findings)
}

fn fixes(findings: &[Finding]) -> Vec<Fix> {
    let fixes = findings.iter().filter_map(|finding| finding.fix.clone());
    fixes.collect()
}

fn undo(args: &DoctorArgs) -> Result<()> {
    let undone = Journal::existing(&args.state_dir)?.undo(args.force)?;
    if args.state_dir == Path::new(STATE_DIR) {
        // Made along with it, and left where something else is in it.
        let _ = args.state_dir.parent().map(std::fs::remove_dir);
    }
    if args.json {
        let value = json!({ "restored": undone.restored, "left": undone.left });
        return print(&[format!("{value:#}")]);
    }
    let mut lines: Vec<_> = undone
        .restored
        .iter()
        .map(|path| format!("as it was: {}", path.display()))
        .collect();
    let is_dockers = |path: &PathBuf| path.extension().is_some_and(|it| it == "json");
    if undone.restored.iter().any(is_dockers) {
        lines.push(
            "dockerd must be restarted to read its file: systemctl restart docker. Where that has no bip, docker0 keeps the addresses that it had last; for Docker's usual ones write \"bip\": \"172.17.0.1/16\" there"
                .to_owned(),
        );
    }
    match undone.left {
        0 => {}
        1 => lines.push("one earlier fix can be undone as well: steer doctor --undo".to_owned()),
        left => lines.push(format!(
            "{left} earlier fixes can be undone as well: steer doctor --undo"
        )),
    }
    print(&lines)
}

fn as_json(findings: &[Finding], done: &[Fix]) -> serde_json::Value {
    let count = |state| {
        findings
            .iter()
            .filter(|finding| finding.state == state)
            .count()
    };
    json!({
        "broken": count(State::Broken),
        "advice": count(State::Advice),
        "unknown": count(State::Unknown),
        "well": count(State::Well),
        "findings": findings,
        "done": done,
    })
}

fn id(text: &str) -> Result<String> {
    let known = || all().map(|check| check.id);
    let near = crate::suggest::nearest(text, known());
    let hint = near.map_or_else(
        || format!("there are {}", known().collect::<Vec<_>>().join(", ")),
        |near| format!("did you mean \"{near}\"?"),
    );
    ensure!(
        known().any(|id| id == text),
        "there is no such check; {hint}"
    );
    Ok(text.to_owned())
}
