//! What a run is asked to do.

use std::{path::PathBuf, time::Duration};

use crate::contender::Contender;

/// What a run is asked to do.
#[derive(clap::Args)]
pub struct Options {
    /// Everything once, each for a moment: that it works, never how fast.
    #[arg(long)]
    pub quick: bool,
    /// An older report.json: what is different now.
    #[arg(long, value_name = "OLD.json")]
    pub compare: Option<PathBuf>,
    /// Only this group of measurements; repeatable.
    #[arg(long, value_name = "GROUP")]
    pub only: Vec<String>,
    /// Only this contender; repeatable.
    #[arg(long, value_name = "NAME")]
    pub contender: Vec<Contender>,
    /// The folder that the report is written to.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// How often everything is measured.
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// The steer that is measured.
    #[arg(long, value_name = "FILE")]
    pub steer: PathBuf,
}

impl Options {
    /// Whether this group was asked for.
    pub fn wants(&self, group: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == group)
    }

    /// Who is compared.
    pub fn contenders(&self) -> Vec<Contender> {
        let wanted = |one: &Contender| self.contender.is_empty() || self.contender.contains(one);
        Contender::ALL.into_iter().filter(wanted).collect()
    }

    /// How often everything is measured.
    pub fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 1 } else { 5 })
    }

    /// How long the machine is looked at before a contender is set up.
    pub fn looking(&self) -> Duration {
        self.warming() * 2
    }

    /// How long a load goes on before it is measured.
    pub fn warming(&self) -> Duration {
        Duration::from_millis(if self.quick { 50 } else { 200 })
    }

    /// How long a load is measured.
    pub fn measured(&self) -> Duration {
        Duration::from_millis(if self.quick { 200 } else { 1000 })
    }
}
