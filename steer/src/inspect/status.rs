//! Whether steer does what it is there for, and how much of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use steer_common::{
    stats::{Action, Outcome, Stats},
    types::Verdict,
};

use super::{
    Error, Snapshot,
    scopes::{self, ScopeFact, WaitingFact},
    usage::Totals,
    vpns::{self, VpnFact},
};
use crate::{datapath::View, engine::monotonic};

/// How steer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// All is well.
    Steering,
    /// It steers, and something is wrong: [`Status::troubles`] says what.
    Degraded,
    /// The run was killed, and its programs go on by themselves.
    Unattended,
}

/// The answer to `steer status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Of the binary that answers.
    pub version: String,
    /// How it is.
    pub state: State,
    /// What is wrong, a sentence each.
    pub troubles: Vec<String>,
    /// What the user should know and is no fault, a sentence each.
    pub notes: Vec<String>,
    /// The process of the run.
    pub pid: Option<u32>,
    /// Seconds since its start.
    pub uptime: Option<u64>,
    /// The configuration file, if there is one.
    pub config: Option<String>,
    /// The VPNs, in the order of the file.
    pub vpns: Vec<VpnFact>,
    /// The bridges attached to.
    pub bridges: Vec<BridgeFact>,
    /// The cgroups attached to.
    pub cgroups: Vec<String>,
    /// The scopes, in the order of the file.
    pub scopes: Vec<ScopeFact>,
    /// Who waits until it is known in which scope he is.
    pub waiting: Vec<WaitingFact>,
    /// Domains, ranges and words with a rule.
    pub rules: usize,
    /// What was learned.
    pub addresses: Addresses,
    /// Flows held on the VPN now: those of containers, and datagrams of processes. Connections of processes have their
    /// mark instead, and are counted in [`Status::steered`] alone.
    pub held: Room,
    /// Flows that were sent through the VPN since the start; none of a run that was killed.
    pub steered: Option<u64>,
    /// What was stopped since the start, by its counter; only those that are not zero.
    pub dropped: BTreeMap<String, u64>,
    /// What went each path since the start.
    pub traffic: Totals,
}

/// A bridge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeFact {
    /// Its name.
    pub interface: String,
    /// Docker's network on it, where known.
    pub network: Option<String>,
}

/// How full the table of addresses is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// Those that take the VPN.
    pub vpn: usize,
    /// Those that have a rule for the direct path alone.
    pub direct: usize,
    /// Those that are blocked.
    pub block: usize,
    /// Those that have names of several verdicts.
    pub contested: usize,
    /// How many there is room for.
    pub room: usize,
}

/// How full a table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// Entries in it.
    pub used: usize,
    /// Entries that it has room for.
    pub room: usize,
}

/// Takes stock.
///
/// # Errors
/// When the tables cannot be read.
pub fn status(snapshot: &Snapshot, view: &View) -> Result<Status, Error> {
    let since = snapshot.run.as_ref().map(|run| run.counted);
    let counted = since_start(&view.stats()?, &since.unwrap_or_default());
    let mut troubles = snapshot.troubles.clone();
    troubles.extend(vpns::troubles(snapshot, view.config()));
    troubles.extend(scopes::troubles(snapshot));
    if snapshot.bridges.is_empty() && snapshot.cgroups.is_empty() {
        troubles.push(
            "nothing is attached: neither dockerd's cgroup nor a bridge of Docker's is here; is Docker running?"
                .to_owned(),
        );
    }
    let state = match (&snapshot.run, troubles.is_empty()) {
        (None, _) => State::Unattended,
        (Some(_), true) => State::Steering,
        (Some(_), false) => State::Degraded,
    };
    Ok(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        state,
        troubles,
        notes: snapshot.notes.clone(),
        pid: snapshot.run.as_ref().map(|run| run.pid),
        uptime: snapshot.run.as_ref().map(|run| run.uptime.as_secs()),
        config: snapshot
            .settings
            .file
            .as_ref()
            .map(|file| file.display().to_string()),
        vpns: snapshot.vpn_facts(),
        bridges: snapshot
            .bridges
            .iter()
            .map(|bridge| BridgeFact {
                interface: bridge.name.clone(),
                network: bridge.network.clone(),
            })
            .collect(),
        cgroups: snapshot
            .cgroups
            .iter()
            .map(|cgroup| cgroup.path.display().to_string())
            .collect(),
        scopes: scopes::facts(snapshot),
        waiting: scopes::waiting(snapshot),
        rules: snapshot.rulebook.rules().count(),
        addresses: addresses(view)?,
        held: Room {
            used: view
                .flows()?
                .iter()
                .filter(|(_, it)| it.path.is_vpn())
                .count(),
            room: view.tables()?.flows as usize,
        },
        steered: snapshot.run.as_ref().map(|run| run.steered),
        dropped: dropped(&counted),
        traffic: view.traffic()?.into(),
    })
}

/// What was stopped, by its counter; only those that are not zero.
pub(super) fn dropped(counted: &Stats) -> BTreeMap<String, u64> {
    Outcome::ALL
        .iter()
        // What waits for its name or its scope, or has begun with a name, goes on afterwards; questions are asked.
        .filter(|outcome| {
            outcome.action() == Action::Drop
                && !matches!(
                    outcome,
                    Outcome::InitialHeld
                        | Outcome::LateStopped
                        | Outcome::ScopeUnknown
                        | Outcome::Relayed
                )
        })
        .map(|&outcome| (outcome.name().to_owned(), counted.counter(outcome)))
        .filter(|&(_, count)| count > 0)
        .collect()
}

fn addresses(view: &View) -> Result<Addresses, Error> {
    let now = monotonic();
    let mut count = Addresses {
        room: view.tables()?.addresses as usize,
        ..Addresses::default()
    };
    for (_, entry) in view.addresses()?.iter() {
        let verdict = entry.at(now).verdict;
        match verdict {
            verdict if verdict.is_vpn() => count.vpn += 1,
            Verdict::DIRECT => count.direct += 1,
            Verdict::BLOCK => count.block += 1,
            _ => continue,
        }
        count.contested += usize::from(entry.contested_by(verdict, now) != 0);
    }
    Ok(count)
}

pub(super) fn since_start(now: &Stats, start: &Stats) -> Stats {
    let mut since = *now;
    since.subtract(start);
    since
}
