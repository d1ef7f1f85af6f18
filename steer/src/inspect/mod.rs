//! Answers to "what is it doing, and why?": from what a run knows, and from what its programs remember.
//!
//! A run that goes on gives a [`Snapshot`] of itself; of one that was killed it is put together from what is pinned and from
//! the configuration. All else is the same in both cases, so that an answer does not depend on who works it out.

pub mod explain;
pub mod flows;
mod left;
pub mod rules;
pub mod scopes;
pub mod status;
pub mod usage;
pub mod vpns;
mod who;

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use steer_common::{
    stats::Stats,
    types::{self, NameEntry},
};

use crate::{
    config::Settings,
    datapath,
    engine::Rulebook,
    events::Name,
    host::{Bridge, Cgroup, HostError},
    route::{self, Vpn},
    rules::{Judgement, Subject},
};

pub use left::{is_left, left};
pub use scopes::{Assigned, Scoped};
pub use who::{Asker, AskerFact};

/// What a run knows that its maps do not tell.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The run; none where it was killed.
    pub run: Option<Run>,
    /// What it was told.
    pub settings: Settings,
    /// Its rules, by the hashes under which its maps have them.
    pub rulebook: Arc<Rulebook>,
    /// The interfaces of the VPNs, in the order of the settings, those that are there.
    pub vpns: Vec<Option<Vpn>>,
    /// The bridges that it is attached to.
    pub bridges: Vec<Bridge>,
    /// The cgroups that it is attached to.
    pub cgroups: Vec<Cgroup>,
    /// What is in its scopes, and who waits.
    pub scoped: Scoped,
    /// What is wrong, a sentence each.
    pub troubles: Vec<String>,
    /// What the user should know and is no fault, a sentence each.
    pub notes: Vec<String>,
}

/// A run that goes on.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its process.
    pub pid: u32,
    /// Since its start.
    pub uptime: Duration,
    /// The counters as they were at its start, for it may go on with another's.
    pub counted: Stats,
    /// Flows that it has told as sent through the VPN.
    pub steered: u64,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing steers here.
    #[error(
        "no steer runs here, and none has left programs in {}; start it with steer run", folder.display()
    )]
    Nothing {
        /// Where they would be pinned.
        folder: std::path::PathBuf,
    },
    /// One goes on, and did not answer where it was asked.
    #[error(
        "a steer runs here ({who}), but does not answer where it was asked; was it started with another --run-dir, or is it just beginning?"
    )]
    Elsewhere {
        /// Its process, as far as the kernel tells.
        who: String,
    },
    /// The maps.
    #[error(transparent)]
    Maps(#[from] datapath::Error),
    /// The routes.
    #[error(transparent)]
    Route(#[from] route::Error),
    /// The interfaces or cgroups.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The rules of the configuration cannot be hashed as the maps have them.
    #[error(transparent)]
    Engine(#[from] Box<crate::engine::Error>),
    /// Whoever was named is not there.
    #[error("{0}")]
    Unknown(String),
}

/// Which path something takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Path {
    /// Through the VPN.
    Vpn,
    /// The path that the host would take anyway.
    Direct,
    /// None: it must take the VPN, which is down, or may not leave at all, or a rule blocks it.
    Blocked,
}

impl Path {
    /// The path of a verdict, to an address of IPv4, of IPv6, or of either.
    pub fn of(verdict: types::Verdict, ways: Ways, is_v4: Option<bool>) -> Self {
        let is_there = match is_v4 {
            Some(true) => ways.v4,
            Some(false) => ways.v6,
            None => ways.v4 || ways.v6,
        };
        match (verdict, is_there) {
            (types::Verdict::BLOCK, _) => Self::Blocked,
            (verdict, true) if verdict.is_vpn() => Self::Vpn,
            (verdict, false) if verdict.is_vpn() && !ways.open => Self::Blocked,
            _ => Self::Direct,
        }
    }
}

impl From<types::Path> for Path {
    fn from(path: types::Path) -> Self {
        if path.is_vpn() {
            Self::Vpn
        } else {
            Self::Direct
        }
    }
}

/// Which ways there are now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ways {
    /// The VPN has an IPv4 address.
    pub v4: bool,
    /// The VPN has an IPv6 address.
    pub v6: bool,
    /// While it is down, what should take it goes direct.
    pub open: bool,
}

impl Ways {
    /// Those by a VPN, or past it while it is down.
    fn by(path: types::Path, snapshot: &Snapshot, config: &types::Config) -> Self {
        // Of a killed run the programs still have the addresses of a VPN that went since.
        let up = snapshot.run.is_some() || snapshot.vpn(path).is_some_and(|vpn| vpn.up);
        let vpn = config.vpn(path);
        Self {
            v4: up && vpn.v4 != [0; 4],
            v6: up && vpn.v6 != [0; 16],
            open: vpn.open != 0,
        }
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Vpn => "vpn",
            Self::Direct => "direct",
            Self::Blocked => "blocked",
        })
    }
}

/// A rule, and where it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleFact {
    /// As a user writes it.
    pub rule: String,
    /// `vpn`, `direct` or `block`.
    pub verdict: String,
    /// The name of the VPN, if the rule says which.
    pub vpn: Option<String>,
    /// File and line, preset or flag.
    pub from: String,
}

impl RuleFact {
    /// What it says, in words: `vpn`, `vpn us` or `direct`.
    pub fn says(&self) -> String {
        match &self.vpn {
            Some(vpn) => format!("{} {vpn}", self.verdict),
            None => self.verdict.clone(),
        }
    }
}

impl Snapshot {
    fn rule_fact(&self, subject: &Subject, judgement: &Judgement<'_>) -> RuleFact {
        RuleFact {
            rule: subject.to_string(),
            verdict: judgement.verdict.to_string(),
            vpn: self.named_vpn(judgement.kernel()),
            from: judgement.origin.to_string(),
        }
    }

    /// The rule with that hash and verdict, which may be one that the rules of now have not.
    fn rule_of(&self, hash: u64, verdict: types::Verdict) -> RuleFact {
        let written = self.rulebook.rules_of(hash);
        let found = written
            .iter()
            .find(|(_, judgement)| judgement.kernel() == verdict);
        found.map_or_else(
            || RuleFact {
                rule: format!("{hash:016x}"),
                verdict: verdict_name(verdict).to_owned(),
                vpn: self.named_vpn(verdict),
                from: "neither the configuration nor what was added has it now".to_owned(),
            },
            |(subject, judgement)| self.rule_fact(subject, judgement),
        )
    }
}

/// The word for a verdict of the maps.
fn verdict_name(verdict: types::Verdict) -> &'static str {
    match verdict {
        verdict if verdict.is_vpn() => "vpn",
        types::Verdict::DIRECT => "direct",
        types::Verdict::BLOCK => "block",
        _ => "none",
    }
}

/// The newest name of each address that has one with a verdict.
fn newest_names(
    names: impl Iterator<Item = (types::NameKey, NameEntry)>,
) -> HashMap<IpAddr, (u64, Name)> {
    let mut newest: HashMap<IpAddr, (u64, Name)> = HashMap::new();
    for (key, entry) in names {
        let at = newest
            .entry(key.address.to_ip())
            .or_insert((0, Name::from_text("")));
        if entry.learned >= at.0 {
            *at = (entry.learned, Name::of(&entry));
        }
    }
    newest
}

/// Seconds from one time of the monotonic clock to another, zero if that was before.
fn seconds(from: u64, to: u64) -> u64 {
    const SECOND: u64 = 1_000_000_000;
    to.saturating_sub(from) / SECOND
}
