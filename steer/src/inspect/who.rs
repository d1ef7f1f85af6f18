//! Who asks and who connects: containers, processes, bridges.

use std::{
    fmt, fs,
    net::IpAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use steer_common::types::Origin;

use super::{Error, Snapshot};
use crate::{
    events::STEER,
    host::{
        Bridge, Link,
        cgroup::Hierarchy,
        docker::{self, NetworkOf},
    },
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
    /// The steered bridges that it is on, and its addresses there.
    #[serde(skip)]
    pub(super) places: Vec<(String, Vec<IpAddr>)>,
    /// The cgroup of a process of the host.
    #[serde(skip)]
    pub(super) cgroup: Option<PathBuf>,
}

impl AskerFact {
    /// Of whom steer sees nothing.
    fn unseen(who: String, why: String) -> Self {
        Self {
            who,
            steered: false,
            why,
            bridge: None,
            addresses: Vec::new(),
            places: Vec::new(),
            cgroup: None,
        }
    }

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
    let docker = &snapshot.settings.docker.value;
    let containers = docker::containers(docker).await;
    let found = match asker {
        Asker::Process(pid) => {
            let process = Process::find(*pid)?;
            if process.is_here {
                return Ok(process.judge(snapshot));
            }
            // Below the container's own cgroup, whose name has its id.
            let path = process.cgroup.as_deref().unwrap_or(Path::new(""));
            let path = path.to_string_lossy();
            let container = containers.iter().find(|it| path.contains(&it.id));
            let Some(container) = container else {
                return Ok(process.elsewhere());
            };
            let fact = container_fact(snapshot, links, &containers, container).await;
            return Ok(AskerFact {
                who: format!("{} of {}", process.who(), fact.who),
                ..fact
            });
        }
        Asker::Container(name) => {
            let is_it = |it: &&docker::Container| {
                it.name == *name || name.len() >= 4 && it.id.starts_with(name.as_str())
            };
            containers.iter().find(is_it).ok_or_else(|| {
                let names = containers.iter().map(|it| it.name.as_str());
                let hint = match suggest::nearest(name, names) {
                    Some(near) => format!("did you mean {near}?"),
                    None if containers.is_empty() => {
                        "Docker does not answer, or runs none".to_owned()
                    }
                    None => "docker ps lists those that are".to_owned(),
                };
                Error::Unknown(format!("no container {name} runs; {hint}"))
            })?
        }
    };
    Ok(container_fact(snapshot, links, &containers, found).await)
}

async fn container_fact(
    snapshot: &Snapshot,
    links: &[Link],
    containers: &[docker::Container],
    found: &docker::Container,
) -> AskerFact {
    let who = format!("container {}", found.name);
    match &found.network {
        NetworkOf::Host => {
            let pid = docker::process_of(&snapshot.settings.docker.value, &found.id).await;
            let process = pid.and_then(|pid| Process::find(pid).ok());
            match process {
                Some(process) => AskerFact {
                    who: format!("{who}, on the host's network"),
                    ..process.judge(snapshot)
                },
                None => AskerFact::unseen(
                    who,
                    "it uses the host's network, and Docker does not tell its process".to_owned(),
                ),
            }
        }
        NetworkOf::Container(other) => {
            let is_it =
                |it: &&docker::Container| it.id.starts_with(other.as_str()) || it.name == *other;
            match containers.iter().find(is_it) {
                Some(other) => AskerFact {
                    who: format!("{who}, on the network of {}", other.name),
                    ..on_bridges(snapshot, links, other)
                },
                None => AskerFact::unseen(
                    who,
                    "the container whose network it uses does not run".to_owned(),
                ),
            }
        }
        NetworkOf::Own => on_bridges(snapshot, links, found),
    }
}

/// By the bridges that a container is on. Which of several a flow leaves by is the container's own routing; told is the
/// first that steer is attached to.
fn on_bridges(snapshot: &Snapshot, links: &[Link], found: &docker::Container) -> AskerFact {
    let bridges: Vec<(&str, Vec<IpAddr>)> = links
        .iter()
        .filter(|link| link.controller.is_none())
        .filter_map(|link| {
            let on = |address: &&IpAddr| link.networks.iter().any(|net| net.contains(**address));
            let addresses = found.addresses.iter().map(|(_, address)| address);
            let there: Vec<IpAddr> = addresses.filter(on).copied().collect();
            (!there.is_empty()).then_some((link.name.as_str(), there))
        })
        .collect();
    let is_attached = |bridge: &str| snapshot.bridges.iter().any(|it| it.name == bridge);
    let who = format!("container {}", found.name);
    let steered = bridges.iter().find(|(bridge, _)| is_attached(bridge));
    let Some((bridge, addresses)) = steered.or(bridges.first()) else {
        return AskerFact::unseen(who, "it is on no bridge of this host".to_owned());
    };
    let each = bridges.iter().map(|(bridge, _)| match is_attached(bridge) {
        true => format!("{bridge}, which steer is attached to"),
        false => format!("{bridge}, which steer is not attached to"),
    });
    AskerFact {
        who,
        steered: steered.is_some(),
        why: format!("it is on {}", each.collect::<Vec<_>>().join(" and on ")),
        bridge: Some((*bridge).to_owned()),
        addresses: addresses.clone(),
        places: bridges
            .iter()
            .filter(|(bridge, _)| is_attached(bridge))
            .map(|(bridge, addresses)| ((*bridge).to_owned(), addresses.clone()))
            .collect(),
        cgroup: None,
    }
}

/// A process that would connect.
struct Process {
    pid: u32,
    name: String,
    cgroup: Option<PathBuf>,
    /// Whether it is in the network namespace that steer is in.
    is_here: bool,
}

impl Process {
    fn find(pid: u32) -> Result<Self, Error> {
        let name = fs::read_to_string(format!("/proc/{pid}/comm"))
            .map_err(|_| Error::Unknown(format!("there is no process {pid}")))?;
        let netns = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
        Ok(Self {
            pid,
            name: name.trim_end().to_owned(),
            cgroup: Hierarchy::read()?.of_process(pid),
            is_here: netns("self") == netns(&pid.to_string()),
        })
    }

    fn who(&self) -> String {
        format!("process {} ({})", self.pid, self.name)
    }

    fn judge(&self, snapshot: &Snapshot) -> AskerFact {
        let attached = self.cgroup.as_ref().and_then(|cgroup| {
            let mut attached = snapshot.cgroups.iter();
            attached.find(|it| cgroup.starts_with(&it.path))
        });
        let why = match (attached, &self.cgroup) {
            (Some(it), _) => format!("it is in {}, which steer is attached to", it.path.display()),
            (None, Some(cgroup)) => format!(
                "its cgroup {} is none of those that steer is attached to",
                cgroup.display()
            ),
            (None, None) => "its cgroup is not below cgroup2".to_owned(),
        };
        AskerFact {
            steered: attached.is_some(),
            cgroup: self.cgroup.clone(),
            ..AskerFact::unseen(self.who(), why)
        }
    }

    fn elsewhere(&self) -> AskerFact {
        AskerFact::unseen(
            self.who(),
            "it is in another network namespace and in no container that Docker tells of: only its packets on a bridge are seen"
                .to_owned(),
        )
    }
}
