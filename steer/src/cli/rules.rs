//! `steer rules`.

use super::ask::RunChoice;
use super::output::print;
use super::{reload, runtime, saved, table};
use crate::config::edit;
use crate::control::query::Test;
use crate::inspect::rules::{self, Change, Rules, Tested, Wanted};
use crate::report::Reloaded;
use crate::rules::{Subject, SubjectError, Verdict};
use crate::words::{counted, parse_span, span};
use anyhow::{Result, anyhow, bail};
use axum::http::Method;
use clap::{Args, Subcommand, ValueEnum};
use std::time::Duration;

pub(super) const EXAMPLES: &str = "\
A rule that is added holds until it is taken away, its time is over, or steer ends; with --save it is written into the
configuration file, and stays.

Examples:
  steer rules list --verdict direct
  steer rules test cdn.example.com
  steer rules add vpn .example.com --for 1h
  steer rules add vpn .example.com --by us
  steer rules add block .dns.google
  sudo steer rules add vpn .example.com --save
  steer rules del .example.com";

/// Flags of `steer rules`.
#[derive(Clone, Debug, Args)]
pub struct RulesArgs {
    /// What to do with them.
    #[command(subcommand)]
    pub command: RulesCommand,
}

/// What to do with the rules.
#[derive(Clone, Debug, Subcommand)]
pub enum RulesCommand {
    /// Show the rules in force
    List(ListArgs),
    /// Say what the rules make of a name or an address, whatever was learned
    Test(TestArgs),
    /// Add a rule, which wins over all others about the same names
    Add(AddArgs),
    /// Take away a rule that was added
    #[command(visible_alias = "delete")]
    Del(DelArgs),
}

/// Flags of `steer rules list`.
#[derive(Clone, Debug, Default, Args)]
pub struct ListArgs {
    /// Those of lists too
    #[arg(long)]
    pub all: bool,

    /// Only those with this verdict
    #[arg(long, value_name = "PATH")]
    pub verdict: Option<VerdictArg>,

    /// Only those in which this is found
    #[arg(long, value_name = "TEXT")]
    pub find: Option<String>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,

    /// Which run.
    #[command(flatten)]
    pub run: RunChoice,
}

/// Flags of `steer rules test`.
#[derive(Clone, Debug, Default, Args)]
pub struct TestArgs {
    /// A name or an address
    pub about: String,

    /// Print JSON
    #[arg(long)]
    pub json: bool,

    /// Which run.
    #[command(flatten)]
    pub run: RunChoice,
}

/// Flags of `steer rules add`.
#[derive(Clone, Debug, Args)]
pub struct AddArgs {
    /// Its path
    pub verdict: VerdictArg,

    /// example.com (that name), *.example.com (the names below it), .example.com (both), 203.0.113.0/24 (these addresses),
    /// keyword:track or regex:^cdn[0-9]
    #[arg(value_parser = rule)]
    pub rule: String,

    /// By which VPN, where there are several [default: the scope's, else the default one]
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,

    /// For how long: 90s, 15m, 1h, 2d [default: until steer ends]
    #[arg(long = "for", value_name = "SPAN", value_parser = parse_span, conflicts_with = "save")]
    pub span: Option<Duration>,

    /// Write it into the configuration file, for good
    #[arg(long)]
    pub save: bool,

    /// Print JSON
    #[arg(long)]
    pub json: bool,

    /// Which run.
    #[command(flatten)]
    pub run: RunChoice,
}

/// Flags of `steer rules del`.
#[derive(Clone, Debug, Default, Args)]
pub struct DelArgs {
    /// As it was added
    #[arg(value_parser = rule)]
    pub rule: String,

    /// Take it out of the configuration file
    #[arg(long)]
    pub save: bool,

    /// Print JSON
    #[arg(long)]
    pub json: bool,

    /// Which run.
    #[command(flatten)]
    pub run: RunChoice,
}

/// Values of `--verdict`, and of what a rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum VerdictArg {
    /// Through the VPN
    Vpn,
    /// Past it
    Direct,
    /// Nowhere
    Block,
}

impl VerdictArg {
    fn word(self) -> String {
        Verdict::from(self).to_string()
    }
}

impl From<VerdictArg> for Verdict {
    fn from(verdict: VerdictArg) -> Self {
        match verdict {
            VerdictArg::Vpn => Self::Vpn,
            VerdictArg::Direct => Self::Direct,
            VerdictArg::Block => Self::Block,
        }
    }
}

/// Does what is to be done with the rules.
pub(super) fn rules(args: &RulesArgs) -> Result<()> {
    match &args.command {
        RulesCommand::List(args) => list(args),
        RulesCommand::Test(args) => test(args),
        RulesCommand::Add(AddArgs {
            verdict: VerdictArg::Direct | VerdictArg::Block,
            by: Some(_),
            ..
        }) => bail!("--by is for a rule for a VPN, of which it says which"),
        RulesCommand::Add(args) if args.save => {
            let (verdict, vpn) = (args.verdict.into(), args.by.as_deref());
            saved::save(&args.run, args.json, &args.rule, |text| {
                edit::with_rule(text, &args.rule, verdict, vpn)
            })
        }
        RulesCommand::Del(args) if args.save => {
            saved::save(&args.run, args.json, &args.rule, |text| {
                edit::without_rule(text, &args.rule)
            })
        }
        RulesCommand::Add(args) => {
            let change = Change {
                rule: args.rule.clone(),
                verdict: Some(args.verdict.word()),
                vpn: args.by.clone(),
                seconds: args.span.map(|span| span.as_secs()),
            };
            let until = match args.span {
                Some(time) => format!("for {}", span(time.as_secs())),
                None => "until steer ends".to_owned(),
            };
            let by = args.by.as_ref();
            let by = by.map_or_else(String::new, |name| format!(" {name}"));
            let told = format!("{} → {}{by} {until}", args.rule, args.verdict.word());
            act(&args.run, Method::POST, &change, args.json, told)
        }
        RulesCommand::Del(args) => {
            let change = Change {
                rule: args.rule.clone(),
                verdict: None,
                vpn: None,
                seconds: None,
            };
            let told = format!("{} is taken away", args.rule);
            act(&args.run, Method::DELETE, &change, args.json, told)
        }
    }
}

fn list(args: &ListArgs) -> Result<()> {
    let wanted = Wanted {
        all: args.all,
        verdict: args.verdict.map(VerdictArg::word),
        find: args.find.clone(),
    };
    let found: Rules =
        runtime()?.block_on(args.run.ask("/v1/rules", &wanted, async |snapshot, _| {
            Ok(rules::list(&snapshot, &wanted))
        }))?;
    if args.json {
        return print(&[serde_json::to_string_pretty(&found)?]);
    }
    let rows: Vec<_> = found
        .rules
        .iter()
        .map(|it| [it.says(), it.rule.clone(), it.from.clone()])
        .collect();
    let mut lines = table::lines(&rows);
    if !args.all {
        lines.extend(found.lists.iter().map(|list| {
            let rules = list["rules"].as_u64().unwrap_or_default();
            format!(
                "{}  {} of {}; --all shows them",
                list["verdict"].as_str().unwrap_or_default(),
                counted(usize::try_from(rules).unwrap_or(usize::MAX), "rule"),
                list["path"].as_str().unwrap_or_default(),
            )
        }));
    }
    lines.push(format!("{} shown, {} in all", rows.len(), found.count));
    print(&lines)
}

fn test(args: &TestArgs) -> Result<()> {
    let query = Test {
        about: args.about.clone(),
    };
    let path = "/v1/rules/test";
    let tested: Tested = runtime()?.block_on(args.run.ask(path, &query, async |snapshot, _| {
        rules::test(&snapshot, &args.about).map_err(crate::inspect::Error::Unknown)
    }))?;
    if args.json {
        return print(&[serde_json::to_string_pretty(&tested)?]);
    }
    let told = |it: &crate::inspect::RuleFact| format!("{} → {} ({})", it.rule, it.says(), it.from);
    let mut lines = vec![match &tested.rule {
        Some(rule) => format!("{}: {}, by {}", tested.about, rule.says(), told(rule)),
        None => format!("{}: no rule speaks of it, so it goes direct", tested.about),
    }];
    lines.extend(
        tested
            .passed_over
            .iter()
            .map(|rule| format!("  goes before {}", told(rule))),
    );
    print(&lines)
}

fn act(run: &RunChoice, method: Method, change: &Change, json: bool, told: String) -> Result<()> {
    let reloaded: Reloaded = runtime()?.block_on(async {
        let mut client = run.running().await?;
        anyhow::Ok(client.act(method, "/v1/rules", change).await?)
    })?;
    if json {
        return print(&[serde_json::to_string_pretty(&reloaded)?]);
    }
    print(&[told, reload::line(&reloaded)])
}

/// A rule that can be one.
fn rule(text: &str) -> Result<String, String> {
    let parsed: Result<Subject, SubjectError> = text.parse();
    match parsed {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(anyhow!(error).to_string()),
    }
}
