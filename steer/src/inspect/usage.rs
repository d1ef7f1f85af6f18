//! How much goes each path, and to whom, while somebody watches.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};
use steer_common::usage::{Traffic, UsageKey, Volume};

use super::{Error, Path, Snapshot, newest_names, status, vpns::VpnFact};
use crate::{datapath::View, engine::monotonic, host::docker};

/// The answer to `steer top`: counters that only grow, so that two of them tell what went between.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Milliseconds of the monotonic clock when it was read.
    pub at: u64,
    /// Seconds since the start of the run.
    pub uptime: u64,
    /// The VPNs, in the order of the configuration.
    pub vpns: Vec<VpnFact>,
    /// What went each path since the start.
    pub totals: Totals,
    /// What was stopped since the start, by its counter; only those that are not zero.
    pub dropped: BTreeMap<String, u64>,
    /// Who had to do with whom while somebody watched.
    pub uses: Vec<Use>,
}

/// What went each path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Of processes, by the VPN.
    pub processes_vpn: Count,
    /// Of processes, not by the VPN.
    pub processes_direct: Count,
    /// Of containers, by the VPN.
    pub containers_vpn: Count,
    /// Of containers, not by the VPN.
    pub containers_direct: Count,
}

impl Totals {
    /// All that took a path.
    pub fn of(&self, path: Path) -> Count {
        let (processes, containers) = match path {
            Path::Vpn => (self.processes_vpn, self.containers_vpn),
            Path::Direct => (self.processes_direct, self.containers_direct),
            Path::Blocked => Default::default(),
        };
        processes.plus(&containers)
    }
}

impl From<Traffic> for Totals {
    fn from(traffic: Traffic) -> Self {
        Self {
            processes_vpn: traffic.processes_vpn.into(),
            processes_direct: traffic.processes_direct.into(),
            containers_vpn: traffic.containers_vpn.into(),
            containers_direct: traffic.containers_direct.into(),
        }
    }
}

/// Octets of IP and packets, both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Octets sent.
    pub bytes_out: u64,
    /// Octets received.
    pub bytes_in: u64,
    /// Packets sent.
    pub packets_out: u64,
    /// Packets received.
    pub packets_in: u64,
}

impl Count {
    /// Both together.
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            bytes_out: self.bytes_out + other.bytes_out,
            bytes_in: self.bytes_in + other.bytes_in,
            packets_out: self.packets_out + other.packets_out,
            packets_in: self.packets_in + other.packets_in,
        }
    }

    /// What it is more than it was; all of it where it was begun anew since.
    pub fn since(&self, before: &Self) -> Self {
        Volume::from(*self).since(&Volume::from(*before)).into()
    }

    /// Octets both ways.
    pub fn bytes(&self) -> u64 {
        self.bytes_out + self.bytes_in
    }
}

impl From<Volume> for Count {
    fn from(volume: Volume) -> Self {
        let Volume {
            bytes_out,
            bytes_in,
            packets_out,
            packets_in,
        } = volume;
        Self {
            bytes_out,
            bytes_in,
            packets_out,
            packets_in,
        }
    }
}

impl From<Count> for Volume {
    fn from(count: Count) -> Self {
        let Count {
            bytes_out,
            bytes_in,
            packets_out,
            packets_in,
        } = count;
        Self {
            bytes_out,
            bytes_in,
            packets_out,
            packets_in,
        }
    }
}

/// What one container, or all processes, had to do with one far address on one path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    /// The path: `vpn` or `direct`.
    pub path: Path,
    /// The name of the VPN, where there are several.
    pub vpn: Option<String>,
    /// Who: `web` for a container, its address where Docker does not know it, or `processes`: all that are steered.
    pub who: String,
    /// The bridge that the container is behind.
    pub bridge: Option<String>,
    /// The container's address.
    pub near: Option<IpAddr>,
    /// The far address.
    pub address: IpAddr,
    /// The name that it was last learned by.
    pub name: Option<String>,
    /// Whether names of both paths have the address.
    pub contested: bool,
    /// How much.
    #[serde(flatten)]
    pub count: Count,
}

/// Reads it.
///
/// # Errors
/// When the maps cannot be read.
pub async fn usage(snapshot: &Snapshot, view: &View) -> Result<Usage, Error> {
    const MILLISECOND: u64 = 1_000_000;
    let run = snapshot.run.as_ref();
    let stats = view.stats()?;
    let counted = status::since_start(&stats, &run.map(|run| run.counted).unwrap_or_default());
    let traffic = view.traffic()?;
    let now = monotonic();
    let uses = view.usage()?;
    let names = newest_names(view.names()?.iter());
    let addresses = view.addresses()?;
    let containers = if uses.iter().any(|(key, _)| key.bridge != 0) {
        docker::containers(&snapshot.settings.docker.value).await
    } else {
        Vec::new()
    };
    let whose = |key: &UsageKey| {
        if key.bridge == 0 {
            return "processes".to_owned();
        }
        let near = key.near.to_ip();
        docker::at(&containers, near).map_or_else(|| near.to_string(), |it| it.name.clone())
    };
    let bridge = |index: u32| {
        let known = snapshot.bridges.iter().find(|it| it.index.0 == index);
        known.map_or_else(|| format!("interface {index}"), |it| it.name.clone())
    };
    let mut found = Vec::with_capacity(uses.len());
    for (key, volume) in uses {
        let address = key.remote.to_ip();
        let entry = addresses.get(&key.remote)?;
        let is_contested =
            entry.is_some_and(|entry| entry.contested_by(entry.at(now).verdict, now) != 0);
        found.push(Use {
            path: key.path.into(),
            vpn: snapshot.vpn_name(key.path),
            who: whose(&key),
            bridge: (key.bridge != 0).then(|| bridge(key.bridge)),
            near: (key.bridge != 0).then(|| key.near.to_ip()),
            address,
            name: names.get(&address).map(|(_, name)| name.to_string()),
            contested: is_contested,
            count: volume.into(),
        });
    }
    Ok(Usage {
        at: now / MILLISECOND,
        uptime: run.map_or(0, |run| run.uptime.as_secs()),
        vpns: snapshot.vpn_facts(),
        totals: traffic.into(),
        dropped: status::dropped(&counted),
        uses: found,
    })
}
