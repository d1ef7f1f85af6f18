//! `steer reload`.

use super::ask::RunChoice;
use super::output::print;
use super::runtime;
use crate::report::Reloaded;
use crate::words::counted;
use anyhow::Result;
use axum::http::Method;
use clap::Args;

pub(super) const EXAMPLES: &str = "\
A file that changes is taken over by itself within a second; this waits until it is, and says what it came to.

Examples:
  sudo cp steer.toml /etc/steer/ && sudo steer reload
  sudo steer reload --json | jq .rules";

/// Flags of `steer reload`.
#[derive(Clone, Debug, Default, Args)]
pub struct ReloadArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,

    /// Which run.
    #[command(flatten)]
    pub run: RunChoice,
}

/// Has the rules read again, and says what that came to.
pub(super) fn reload(args: &ReloadArgs) -> Result<()> {
    let reloaded: Reloaded = runtime()?.block_on(async {
        let mut client = args.run.running().await?;
        anyhow::Ok(client.act(Method::POST, "/v1/reload", &()).await?)
    })?;
    if args.json {
        return print(&[serde_json::to_string_pretty(&reloaded)?]);
    }
    print(&[line(&reloaded)])
}

/// What other rules came to.
pub(super) fn line(reloaded: &Reloaded) -> String {
    let Reloaded {
        before,
        rules,
        took,
        anew,
        gone,
    } = reloaded;
    let rules = counted(*rules, "rule");
    format!(
        "{rules} in force after {took} ms, {before} before; of the addresses known, {anew} decided anew and {gone} let go"
    )
}
