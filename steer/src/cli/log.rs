//! `steer log`.

use super::ask::RunChoice;
use super::output::print;
use super::runtime;
use crate::control::query::Events;
use crate::report::Told;
use crate::suggest;
use anyhow::{Result, bail};
use clap::Args;
use jiff::{Timestamp, tz::TimeZone};

pub(super) const EXAMPLES: &str = "\
The run keeps the last 1024 lines; what it told before is in the journal of its service, if it has one.

Examples:
  steer log
  steer log -n 100 --no-follow
  steer log --kind steered --kind late --kind warning
  steer log --json | jq -r 'select(.kind == \"contested\").address'";

/// The kinds of lines that there are.
const KINDS: [&str; 18] = [
    "blocked",
    "bridge",
    "cgroup",
    "contested",
    "detail",
    "direct",
    "ended",
    "late",
    "learned",
    "note",
    "ready",
    "reloaded",
    "resolved",
    "restored",
    "steered",
    "via vpn",
    "vpn",
    "warning",
];

/// Flags of `steer log`.
#[derive(Clone, Debug, Default, Args)]
pub struct LogArgs {
    /// How many lines from before come first
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 10)]
    pub lines: usize,

    /// Do not wait for more
    #[arg(long)]
    pub no_follow: bool,

    /// Only lines of this kind, such as learned, steered, late, contested, vpn, warning. Repeatable
    #[arg(long = "kind", value_name = "KIND")]
    pub kinds: Vec<String>,

    /// Print JSON, an object a line
    #[arg(long)]
    pub json: bool,

    /// Which run.
    #[command(flatten)]
    pub run: RunChoice,
}

/// Follows what the run tells.
pub(super) fn log(args: &LogArgs) -> Result<()> {
    for kind in &args.kinds {
        if !KINDS.contains(&kind.as_str()) {
            let hint = match suggest::nearest(kind, KINDS) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("those that there are: {}", KINDS.join(", ")),
            };
            bail!("--kind: there are no lines of the kind {kind}; {hint}");
        }
    }
    let query = Events {
        before: args.lines,
        follow: !args.no_follow,
        kinds: (!args.kinds.is_empty()).then(|| args.kinds.join(",")),
    };
    let zone = TimeZone::system();
    runtime()?.block_on(async {
        let mut client = args.run.running().await?;
        let mut failed = None;
        let read = client.lines("/v1/events", &query, |told: Told| {
            let line = if args.json {
                serde_json::to_string(&told).map_err(Into::into)
            } else {
                Ok(line(&told, &zone))
            };
            failed = line.and_then(|line| print(&[line])).err();
            failed.is_none()
        });
        read.await?;
        match failed {
            Some(error) => Err(error),
            None if args.no_follow => Ok(()),
            None => bail!("steer has ended"),
        }
    })
}

/// Time of day, kind and text.
fn line(told: &Told, zone: &TimeZone) -> String {
    let time = i64::try_from(told.time)
        .ok()
        .and_then(|time| Timestamp::from_millisecond(time).ok());
    let time = time.map_or_else(String::new, |time| {
        time.to_zoned(zone.clone())
            .strftime("%H:%M:%S%.3f")
            .to_string()
    });
    format!("{time} {:<9} {}", told.kind, told.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_time_of_day() {
        let told = Told {
            time: 1_700_000_000_123,
            kind: "vpn".to_owned(),
            text: "wg0 is up".to_owned(),
            facts: Default::default(),
        };
        assert_eq!(
            line(&told, &TimeZone::UTC),
            "22:13:20.123 vpn       wg0 is up"
        );
    }
}
