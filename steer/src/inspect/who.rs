//! Who asks and who connects: containers, processes, bridges.

use std::{fmt, net::IpAddr, path::PathBuf, str::FromStr};

use serde::{Deserialize, Serialize};
use steer_common::types::Origin;

use super::{Error, Snapshot};
use crate::{
    events::STEER,
    host::{Bridge, Link, cgroup::Hierarchy, docker},
    route::IfIndex,
    suggest,
};

/// Who would connect, as a user says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A container by its name, or the beginning of its id.
    Container(String),
    /// A process by its id.
    Process(u32),
}

impl Asker {
    /// From a kind and a name: `container web`, `process 812`.
    ///
    /// # Errors
    /// When there is no such kind, or the name cannot be one.
    pub fn new(kind: &str, name: &str) -> Result<Self, String> {
        match kind {
            "container" => Ok(Self::Container(name.to_owned())),
            "process" => name
                .parse()
                .map(Self::Process)
                .map_err(|_| format!("\"{name}\" is no process id; write --from process 812")),
            _ => Err(format!(
                "\"{kind}\" is nothing that connects; write --from container NAME or --from process PID"
            )),
        }
    }
}

impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container(name) => write!(f, "container {name}"),
            Self::Process(pid) => write!(f, "process {pid}"),
        }
    }
}

impl FromStr for Asker {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, name) = text.split_once(' ').unwrap_or((text, ""));
        Self::new(kind, name)
    }
}

/// Who would connect, as found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskerFact {
    /// `container web` or `process 812 (dockerd)`.
    pub who: String,
    /// Whether steer sees its packets.
    pub steered: bool,
    /// Why, or why not.
    pub why: String,
    /// The bridge that its packets come in by, and its addresses there.
    pub bridge: Option<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

impl AskerFact {
    /// Address and interface that its packets come from and in by; none for those of the host itself.
    pub(super) fn sender(&self, is_v4: bool, links: &[Link]) -> Option<(IpAddr, IfIndex)> {
        let bridge = self.bridge.as_ref()?;
        let link = links.iter().find(|link| link.name == *bridge)?;
        let address = self.addresses.iter().find(|it| it.is_ipv4() == is_v4)?;
        Some((*address, link.index))
    }
}

/// Whom an answer was for: a bridge goes by its index, a process by its socket's cookie.
pub(super) fn asked_by(origin: Origin, bridges: &[Bridge]) -> String {
    let bridge = bridges
        .iter()
        .find(|bridge| u64::from(bridge.index.0) == origin);
    match bridge {
        Some(bridge) => format!("somebody on {}", bridge.name),
        None if origin == STEER => "steer".to_owned(),
        None => "a process".to_owned(),
    }
}

/// Looks for whoever would connect, and whether steer sees it.
///
/// # Errors
/// When there is no such container or process.
pub(super) async fn find(
    snapshot: &Snapshot,
    links: &[Link],
    asker: &Asker,
) -> Result<AskerFact, Error> {
    match asker {
        Asker::Process(pid) => process(snapshot, *pid, &format!("process {pid}")),
        Asker::Container(name) => {
            let containers = docker::containers(&snapshot.settings.docker.value).await;
            let found = containers
                .iter()
                .find(|it| it.name == *name || name.len() >= 4 && it.id.starts_with(name.as_str()));
            let Some(found) = found else {
                let names = containers.iter().map(|it| it.name.as_str());
                let hint = match suggest::nearest(name, names) {
                    Some(near) => format!("did you mean {near}?"),
                    None if containers.is_empty() => {
                        "Docker does not answer, or runs none".to_owned()
                    }
                    None => "docker ps lists those that are".to_owned(),
                };
                return Err(Error::Unknown(format!("no container {name} runs; {hint}")));
            };
            Ok(container(snapshot, links, found))
        }
    }
}

fn container(snapshot: &Snapshot, links: &[Link], found: &docker::Container) -> AskerFact {
    let who = format!("container {}", found.name);
    let addresses: Vec<IpAddr> = found
        .addresses
        .iter()
        .map(|(_, address)| *address)
        .collect();
    let lies_on = |link: &&Link| {
        let nets = &link.networks;
        nets.iter()
            .any(|net| addresses.iter().any(|it| net.contains(*it)))
    };
    let bridge = links
        .iter()
        .filter(lies_on)
        .find(|link| link.controller.is_none())
        .map(|link| link.name.clone());
    let steered = bridge
        .as_ref()
        .is_some_and(|bridge| snapshot.bridges.iter().any(|it| it.name == *bridge));
    let why = match (&bridge, steered) {
        (Some(bridge), true) => format!("it is on {bridge}, which steer is attached to"),
        (Some(bridge), false) => format!("it is on {bridge}, which steer is not attached to"),
        (None, _) if found.on_host => {
            "it uses the host's network, and its cgroup is none of those that steer is attached to"
                .to_owned()
        }
        (None, _) => "it is on no bridge of this host".to_owned(),
    };
    AskerFact {
        who,
        steered,
        why,
        bridge,
        addresses,
    }
}

fn process(snapshot: &Snapshot, pid: u32, who: &str) -> Result<AskerFact, Error> {
    let comm = std::fs::read_to_string(format!("/proc/{pid}/comm"))
        .map_err(|_| Error::Unknown(format!("there is no process {pid}")))?;
    let cgroup: Option<PathBuf> = Hierarchy::read()?.of_process(pid);
    let attached = cgroup.as_ref().and_then(|cgroup| {
        let mut attached = snapshot.cgroups.iter();
        attached.find(|it| cgroup.starts_with(&it.path))
    });
    let why = match (attached, &cgroup) {
        (Some(it), _) => format!("it is in {}, which steer is attached to", it.path.display()),
        (None, Some(cgroup)) => format!(
            "its cgroup {} is none of those that steer is attached to",
            cgroup.display()
        ),
        (None, None) => "its cgroup is not below cgroup2".to_owned(),
    };
    Ok(AskerFact {
        who: format!("{who} ({})", comm.trim_end()),
        steered: attached.is_some(),
        why,
        bridge: None,
        addresses: Vec::new(),
    })
}
