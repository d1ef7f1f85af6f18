//! `steer flows`.

use super::ask::RunChoice;
use super::colour::{Palette, Tone};
use super::output::{clear, print};
use super::{runtime, table};
use crate::inspect::Path;
use crate::inspect::flows::{self, Flow, Flows, Wanted};
use crate::words::{octets, span};
use anyhow::Result;
use clap::{Args, ValueEnum};
use std::io::{IsTerminal as _, stdout};
use std::time::Duration;

pub(super) const EXAMPLES: &str = "\
On a terminal the list is shown anew every two seconds, until Ctrl-C; elsewhere, or with --once, it is printed once.

Examples:
  steer flows --once
  steer flows --path vpn --who web
  steer flows --to docker.io --json | jq -r '.flows[].who'";

/// From one list to the next.
const APART: Duration = Duration::from_secs(2);

/// Flags of `steer flows`.
#[derive(Clone, Debug, Default, Args)]
pub struct FlowsArgs {
    /// Print the list once
    #[arg(long)]
    pub once: bool,

    /// Only those on this path
    #[arg(long, value_name = "PATH")]
    pub path: Option<PathArg>,

    /// Only those of containers and processes with this in their names
    #[arg(long, value_name = "TEXT")]
    pub who: Option<String>,

    /// Only those to names or addresses with this in them
    #[arg(long, value_name = "TEXT")]
    pub to: Option<String>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,

    /// Which run.
    #[command(flatten)]
    pub run: RunChoice,
}

/// Values of `--path`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PathArg {
    /// Through the VPN
    Vpn,
    /// Past it
    Direct,
}

/// Lists flows.
pub(super) fn flows(args: &FlowsArgs) -> Result<()> {
    let wanted = Wanted {
        path: args.path.map(|path| match path {
            PathArg::Vpn => Path::Vpn,
            PathArg::Direct => Path::Direct,
        }),
        who: args.who.clone(),
        to: args.to.clone(),
    };
    let live = !args.once && !args.json && stdout().is_terminal();
    runtime()?.block_on(async {
        loop {
            let asked = args.run.ask("/v1/flows", &wanted, async |snapshot, view| {
                flows::flows(&snapshot, &view, &wanted).await
            });
            let found: Flows = asked.await?;
            if args.json {
                return print(&[serde_json::to_string_pretty(&found)?]);
            }
            if live {
                clear()?;
            }
            print(&lines(&found, Palette::of_stdout()))?;
            if !live {
                return Ok(());
            }
            tokio::time::sleep(APART).await;
        }
    })
}

fn lines(found: &Flows, palette: Palette) -> Vec<String> {
    let heads = [
        "PATH", "WHO", "PROTOCOL", "TO", "NAME", "SENT", "RECEIVED", "IDLE",
    ];
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(found.flows.iter().map(cells));
    let mut lines = table::lines(&rows);
    if let Some(head) = lines.first_mut() {
        *head = palette.paint(Tone::Strong, head);
    }
    let count = |path| found.flows.iter().filter(|flow| flow.path == path).count();
    lines.push(format!(
        "{} on the VPN, {} direct",
        count(Path::Vpn),
        count(Path::Direct)
    ));
    lines.extend(found.notes.iter().map(|note| format!("note: {note}")));
    lines
}

fn cells(flow: &Flow) -> [String; 8] {
    let or = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    [
        flow.way(),
        flow.who.clone(),
        flow.protocol.clone(),
        flow.to.to_string(),
        or(flow.name.clone()),
        or(flow.sent.map(octets)),
        or(flow.received.map(octets)),
        or(flow.idle.map(span)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_in_columns() {
        let flow = |path, who: &str, name: Option<&str>| Flow {
            path,
            vpn: None,
            protocol: "tcp".to_owned(),
            who: who.to_owned(),
            from: None,
            to: "203.0.113.7:443".parse().unwrap(),
            name: name.map(str::to_owned),
            idle: name.map(|_| 70),
            sent: None,
            received: Some(1_200_000),
        };
        let found = Flows {
            flows: vec![
                flow(Path::Vpn, "web", Some("hub.docker.com")),
                flow(Path::Direct, "dockerd[812]", None),
            ],
            notes: vec!["something".to_owned()],
        };
        let expected = "\
PATH    WHO           PROTOCOL  TO               NAME            SENT  RECEIVED  IDLE
vpn     web           tcp       203.0.113.7:443  hub.docker.com  -     1.2 MB    1 min 10 s
direct  dockerd[812]  tcp       203.0.113.7:443  -               -     1.2 MB    -
1 on the VPN, 1 direct
note: something";
        assert_eq!(lines(&found, Palette(false)).join("\n"), expected);
    }
}
