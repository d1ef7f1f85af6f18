//! `steer top`.

use super::ask::RunChoice;
use super::colour::Palette;
use super::output::{one_line, print};
use super::{explain, runtime, table};
use crate::control::Client;
use crate::control::query::{Explain, Nothing};
use crate::inspect::explain::Explanation;
use crate::inspect::usage::Usage;
use crate::top::draw::Look;
use crate::top::screen;
use crate::top::state::{Lane, Picture, Row, State};
use crate::words::{octets, span};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::io::{self, IsTerminal as _};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

pub(super) const EXAMPLES: &str = "\
Counted are octets of IP that leave the host or come from elsewhere, of containers and steered processes; to whom, only while
somebody watches. Addresses have names by the rules; what no rule speaks of is shown by its address.

Examples:
  steer top
  steer top --once
      what goes within a second, as text
  steer top --json --interval 10 | jq -r '.rows[] | select(.path == \"vpn\") | .label'
      the names that take the VPN within ten seconds";

/// Longer than it takes to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Flags of `steer top`.
#[derive(Clone, Debug, Args)]
pub struct TopArgs {
    /// Seconds from one sample to the next, 0.1 to 10
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub interval: Duration,

    /// Print what goes within one interval, and end
    #[arg(long)]
    pub once: bool,

    /// The same as JSON
    #[arg(long)]
    pub json: bool,

    /// Which run.
    #[command(flatten)]
    pub run: RunChoice,
}

/// Shows it until a key ends it, or prints one sample.
pub(super) fn top(args: &TopArgs) -> Result<()> {
    if args.once || args.json {
        let state = runtime()?.block_on(once(args))?;
        return if args.json {
            print(&[serde_json::to_string_pretty(&state.picture())?])
        } else {
            print(&lines(&state.picture()))
        };
    }
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        bail!("steer top needs a terminal; steer top --once prints one sample, --json for scripts");
    }
    let look = Look {
        coloured: Palette::of_stdout().0,
    };
    let runtime = runtime()?;
    runtime.block_on(async {
        let (sender, samples) = mpsc::channel(1);
        tokio::spawn(sample(args.run.clone(), args.interval, sender));
        let explain = |about: String| {
            let run = args.run.clone();
            async move {
                let asked = why(&run, &about).await;
                asked.unwrap_or_else(|error| vec![format!("{error:#}")])
            }
        };
        let shown = screen::show(samples, explain, look).await;
        shown.context("the terminal cannot be used")
    })
}

async fn once(args: &TopArgs) -> Result<State> {
    let mut source = Source::new(args.run.clone());
    let mut state = State::default();
    state.sample(source.usage().await?);
    sleep(args.interval).await;
    state.sample(source.usage().await?);
    Ok(state)
}

/// Asks again and again, also while nobody answers.
async fn sample(run: RunChoice, every: Duration, samples: mpsc::Sender<Result<Usage, String>>) {
    let mut source = Source::new(run);
    let mut tick = interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let asked = source.usage().await;
        let told =
            asked.map_err(|error| format!("{}; trying again", one_line(&format!("{error:#}"))));
        if samples.send(told).await.is_err() {
            return;
        }
    }
}

/// A run that is asked, and asked anew where it went away.
struct Source {
    run: RunChoice,
    client: Option<Client>,
}

impl Source {
    fn new(run: RunChoice) -> Self {
        Self { run, client: None }
    }

    async fn usage(&mut self) -> Result<Usage> {
        // One that was kept may have been closed meanwhile, by its patience or with its run.
        if let Some(client) = self.client.take()
            && let Ok(usage) = self.ask(client).await
        {
            return Ok(usage);
        }
        let client = self.run.running().await?;
        self.ask(client).await
    }

    async fn ask(&mut self, mut client: Client) -> Result<Usage> {
        let asked = timeout(PATIENCE, client.get("/v1/usage", &Nothing {})).await;
        let usage = asked.with_context(|| {
            format!("steer has not answered for {}", span(PATIENCE.as_secs()))
        })??;
        self.client = Some(client);
        Ok(usage)
    }
}

async fn why(run: &RunChoice, about: &str) -> Result<Vec<String>> {
    let mut client = run.running().await?;
    let query = Explain {
        to: about.to_owned(),
        from: None,
    };
    let explanation: Explanation = client.get("/v1/explain", &query).await?;
    Ok(explain::lines(&explanation, Palette(false)))
}

fn lines(picture: &Picture<'_>) -> Vec<String> {
    let lane = |name: &str, lane: &Lane| {
        let (rate, total) = (lane.rate, &lane.total);
        format!(
            "{name:<8} {} in, {} out; {} in, {} out in all",
            a_second(rate.down),
            a_second(rate.up),
            octets(total.bytes_in),
            octets(total.bytes_out)
        )
    };
    let vpns = picture.vpns.iter().map(|vpn| {
        let name = match picture.vpns.len() {
            1 => String::new(),
            _ => format!("{}: ", vpn.name),
        };
        format!("vpn      {name}{}", vpn.state())
    });
    let stopped: Vec<_> = picture
        .dropped
        .iter()
        .map(|(name, count)| format!("{count} × {name}"))
        .collect();
    let stopped = match stopped.as_slice() {
        [] => "nothing".to_owned(),
        some => some.join(", "),
    };
    let mut lines: Vec<_> = vpns.collect();
    lines.extend([
        lane("by vpn", picture.by_vpn),
        lane("direct", picture.direct),
        format!("stopped  {stopped}"),
    ]);
    if picture.rows.is_empty() {
        return lines;
    }
    lines.push(String::new());
    let titles = ["IN/S", "OUT/S", "PATH", "WHO", "NAME"].map(str::to_owned);
    let mut rows = vec![titles];
    rows.extend(picture.rows.iter().map(row));
    lines.extend(table::lines(&rows));
    lines
}

fn row(row: &Row) -> [String; 5] {
    let contested = if row.contested { " (contested)" } else { "" };
    [
        a_second(row.rate.down),
        a_second(row.rate.up),
        row.way(),
        row.who.clone(),
        format!("{}{contested}", row.label),
    ]
}

fn a_second(rate: u64) -> String {
    format!("{}/s", octets(rate))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let refuse = || "a number of seconds from 0.1 to 10 is needed, such as 2 or 0.5".to_owned();
    let seconds: f64 = text.parse().map_err(|_| refuse())?;
    if !(0.1..=10.0).contains(&seconds) {
        return Err(refuse());
    }
    Ok(Duration::from_secs_f64(seconds))
}
