//! `steer explain`.

use super::ask::RunChoice;
use super::colour::{Palette, Tone};
use super::output::print;
use super::runtime;
use crate::control::query::Explain;
use crate::inspect::Path;
use crate::inspect::explain::{self, AddressFact, Because, Explanation, NameFact, Question};
use crate::inspect::vpns::the_vpn;
use crate::inspect::{Asker, RuleFact};
use crate::words::{counted, span};
use anyhow::{Result, anyhow, bail};
use clap::Args;

pub(super) const EXAMPLES: &str = "\
Works on what a killed run left as well, as root.

Examples:
  steer explain registry-1.docker.io
  steer explain 203.0.113.7
  steer explain https://hub.docker.com/v2/ --from container web
  steer explain --from process 812 --to registry-1.docker.io:443
  steer explain hub.docker.com --json | jq -r .because";

/// Addresses of a name that are told in full.
const SHOWN: usize = 4;

/// Flags of `steer explain`.
#[derive(Clone, Debug, Default, Args)]
pub struct ExplainArgs {
    /// A name or an address, with a port or without, or a URL
    #[arg(required_unless_present = "to")]
    pub target: Option<String>,

    /// The same
    #[arg(long, value_name = "TARGET", conflicts_with = "target")]
    pub to: Option<String>,

    /// Who would connect: "container NAME" or "process PID" [default: any steered process]
    #[arg(long, num_args = 2, value_names = ["KIND", "WHO"])]
    pub from: Vec<String>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,

    /// Which run.
    #[command(flatten)]
    pub run: RunChoice,
}

/// Says why.
pub(super) fn explain(args: &ExplainArgs) -> Result<()> {
    let to = args.target.as_ref().or(args.to.as_ref());
    let to = to.ok_or_else(|| anyhow!("nothing was asked about"))?;
    let from = match args.from.as_slice() {
        [kind, who] => Some(Asker::new(kind, who).map_err(|why| anyhow!("--from: {why}"))?),
        _ => None,
    };
    let Ok(question) = to.parse::<Question>().map(|question| Question {
        from: from.clone(),
        ..question
    }) else {
        bail!("{}", to.parse::<Question>().err().unwrap_or_default());
    };
    let query = Explain {
        to: to.clone(),
        from: from.as_ref().map(ToString::to_string),
    };
    let explanation: Explanation =
        runtime()?.block_on(args.run.ask("/v1/explain", &query, async |snapshot, view| {
            explain::explain(&snapshot, &view, &question).await
        }))?;
    if args.json {
        return print(&[serde_json::to_string_pretty(&explanation)?]);
    }
    print(&lines(&explanation, Palette::of_stdout()))
}

/// The answer in words.
pub(crate) fn lines(it: &Explanation, palette: Palette) -> Vec<String> {
    let row = |what: &str, text: String| format!("  {what:<9} {text}");
    let about = &it.about;
    let verdict = match it.path {
        Path::Vpn | Path::Direct => {
            palette.paint(Tone::Strong, &format!("{about} {}", way(it.path, &it.vpn)))
        }
        Path::Blocked if it.because == Because::Waits => {
            palette.paint(Tone::Bad, &format!("{about} waits"))
        }
        Path::Blocked => palette.paint(Tone::Bad, &format!("{about} is blocked")),
    };
    let mut lines = vec![verdict, row("because", it.why.clone())];
    if !it.attended {
        let told = "no steer runs: its programs go on alone, with what they knew";
        lines.push(row("note", told.to_owned()));
    }
    if let Some(from) = &it.from {
        let addresses: Vec<_> = from.addresses.iter().map(ToString::to_string).collect();
        let at = match addresses.as_slice() {
            [] => String::new(),
            some => format!(" ({})", some.join(", ")),
        };
        lines.push(row("from", format!("{}{at}: {}", from.who, from.why)));
    }
    if let Some(it) = &it.scope {
        lines.push(row("scope", it.means()));
        lines.extend(it.elsewhere.iter().map(|other| row("", other.clone())));
    }
    if let Some(it) = &it.rule {
        lines.push(row("rule", rule(it)));
    }
    lines.extend(it.passed_over.iter().map(|it| {
        row(
            "",
            format!("goes before {}, which is less specific", rule(it)),
        )
    }));
    for fact in it.addresses.iter().take(SHOWN) {
        lines.extend(
            address(fact, about)
                .into_iter()
                .map(|(what, text)| row(what, text)),
        );
    }
    if it.addresses.len() > SHOWN {
        let more = counted(it.addresses.len() - SHOWN, "more address");
        lines.push(row("address", format!("and {more}; --json lists them")));
    }
    lines.extend(it.changes.iter().enumerate().map(|(index, change)| {
        let what = if index == 0 { "to change" } else { "" };
        row(what, change.clone())
    }));
    lines
}

fn address(fact: &AddressFact, about: &str) -> Vec<(&'static str, String)> {
    let until = match fact.expires_in {
        Some(left) => format!(", for {} more", span(left)),
        None => String::new(),
    };
    let mut lines = vec![(
        "address",
        format!("{} {}{until}", fact.address, way(fact.path, &fact.vpn)),
    )];
    if let Some(by) = fact.rule.as_ref().filter(|_| fact.names.is_empty()) {
        lines.push(("", format!("by the rule {}", rule(by))));
    }
    lines.extend(fact.names.iter().map(|it| ("", name(it, about))));
    if fact.held > 0 {
        let flows = counted(fact.held, "flow");
        lines.push((
            "",
            format!("{flows} to it on the VPN now, and until they end"),
        ));
    }
    if let Some(route) = &fact.route {
        lines.push(("", format!("route {route}")));
    }
    lines
}

fn name(it: &NameFact, about: &str) -> String {
    let how = match it.how.as_str() {
        "answer" => format!("by an answer to {}", it.asked_by),
        "resolved" => "resolved by steer before its use".to_owned(),
        _ => format!("told by the first packet of {}", it.asked_by),
    };
    let ends = match it.expires_in {
        Some(left) => format!("for {} more", span(left)),
        None => "expired".to_owned(),
    };
    let by = match &it.rule {
        Some(rule) if it.name != about => format!(" by {}", self::rule(rule)),
        Some(_) => String::new(),
        None => " by no rule".to_owned(),
    };
    let says = match &it.rule {
        Some(rule) => rule.says(),
        None => it.verdict.clone(),
    };
    let ttl = match it.how.as_str() {
        // A first packet tells none.
        "first-packet" => String::new(),
        _ => format!(", ttl {} s", it.ttl),
    };
    format!(
        "{} → {says}{by}: {how} {} ago{ttl}, {ends}",
        it.name,
        span(it.seconds_ago),
    )
}

fn rule(it: &RuleFact) -> String {
    format!("{} → {} ({})", it.rule, it.says(), it.from)
}

fn way(path: Path, vpn: &Option<String>) -> String {
    match path {
        Path::Vpn => format!("takes {}", the_vpn(vpn.as_deref())),
        Path::Direct => "goes direct".to_owned(),
        Path::Blocked => "is blocked".to_owned(),
    }
}
