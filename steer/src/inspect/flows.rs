//! The flows of steered processes and containers, and which path each takes.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};
use steer_common::{
    dns,
    packet::{TCP, UDP},
    types::{self, Address, FlowEntry, FlowKey, ScopeEntry, TICK_SECONDS},
};

use super::{Error, Path, Snapshot, Ways, explain, newest_names};
use crate::{
    datapath::{Scopes, View},
    engine::sockets,
    events,
    host::{conntrack, docker, link, process},
    rules::Net,
    scope,
};

/// The answer to `steer flows`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Flows {
    /// Those on the VPN first, then by who has them.
    pub flows: Vec<Flow>,
    /// What could not be looked at, a sentence each.
    pub notes: Vec<String>,
}

/// A flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// Its path: `vpn` or `direct`.
    pub path: Path,
    /// The name of the VPN, where there are several.
    pub vpn: Option<String>,
    /// `tcp`, `udp`, or `protocol 47`.
    pub protocol: String,
    /// Who has it: `web` for a container, `dockerd[812]` for a process, or the bridge or cgroup that it is seen on.
    pub who: String,
    /// The near side, where it is known.
    pub from: Option<SocketAddr>,
    /// The far side.
    pub to: SocketAddr,
    /// The name that the far address was last learned by, if it has a rule.
    pub name: Option<String>,
    /// Seconds since its last packet, to within the ten that steer counts in; of flows on the VPN over a bridge.
    pub idle: Option<u64>,
    /// Octets sent, where the kernel counts them.
    pub sent: Option<u64>,
    /// Octets received, likewise.
    pub received: Option<u64>,
}

impl Flow {
    /// The path in a word: the VPN's name where there are several.
    pub fn way(&self) -> String {
        match (&self.vpn, self.path) {
            (Some(vpn), Path::Vpn) => vpn.clone(),
            (_, path) => path.to_string(),
        }
    }
}

/// Which flows are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Only those on this path.
    pub path: Option<Path>,
    /// Only those of whom this is found in the name.
    pub who: Option<String>,
    /// Only those to a name or an address in which this is found.
    pub to: Option<String>,
}

impl Wanted {
    /// Whether a flow is.
    pub fn has(&self, flow: &Flow) -> bool {
        let to = |text: &String| {
            flow.to.to_string().contains(text.as_str())
                || flow
                    .name
                    .as_ref()
                    .is_some_and(|name| name.contains(text.as_str()))
        };
        self.path.is_none_or(|path| path == flow.path)
            && self
                .who
                .as_ref()
                .is_none_or(|who| flow.who.contains(who.as_str()))
            && self.to.as_ref().is_none_or(to)
    }
}

/// Lists them.
///
/// # Errors
/// When the tables cannot be read.
pub async fn flows(snapshot: &Snapshot, view: &View, wanted: &Wanted) -> Result<Flows, Error> {
    let names = newest_names(view.names()?.iter());
    let name = |address: IpAddr| names.get(&address).map(|(_, name)| name.to_string());
    let containers = docker::containers(&snapshot.settings.docker.value).await;
    let mut found = Flows::default();
    let held: Vec<(FlowKey, FlowEntry)> = view.flows()?.iter().collect();
    let tracked = tracked(&mut found.notes);
    of_bridges(
        snapshot,
        &containers,
        &held,
        &tracked,
        view,
        &mut found.flows,
    )
    .await?;
    of_processes(snapshot, view, &held, &mut found);
    for flow in &mut found.flows {
        flow.name = name(flow.to.ip());
    }
    found.flows.retain(|flow| wanted.has(flow));
    found.flows.sort_by(|a, b| {
        let key = |flow: &Flow| (flow.path, flow.who.clone(), flow.to, flow.from);
        key(a).cmp(&key(b))
    });
    Ok(found)
}

type Tracked = HashMap<(u32, SocketAddr, SocketAddr), Option<(u64, u64)>>;

fn tracked(notes: &mut Vec<String>) -> Tracked {
    let listed = conntrack::connections().unwrap_or_else(|errno| {
        notes.push(format!(
            "containers' connections on the direct path are not listed: the kernel does not tell of tracked connections \
             ({errno}); modprobe nf_conntrack_netlink may help"
        ));
        Vec::new()
    });
    let each = listed.into_iter();
    each.map(|it| ((it.protocol, it.from, it.to), it.octets))
        .collect()
}

/// Those that the table holds on a path, and of the tracked ones those that begin on a steered bridge.
async fn of_bridges(
    snapshot: &Snapshot,
    containers: &[docker::Container],
    held: &[(FlowKey, FlowEntry)],
    tracked: &Tracked,
    view: &View,
    flows: &mut Vec<Flow>,
) -> Result<(), Error> {
    let tick = view.config().tick;
    let bridge = |index: u64| {
        snapshot
            .bridges
            .iter()
            .find(|it| u64::from(it.index.0) == index)
    };
    let mut known = HashSet::new();
    for (key, entry) in held {
        let Some(bridge) = bridge(key.origin) else {
            continue;
        };
        if entry.is_over(key.protocol, tick) {
            continue;
        }
        let from = SocketAddr::new(key.local.to_ip(), key.local_port.number());
        let to = SocketAddr::new(key.remote.to_ip(), key.remote_port.number());
        known.insert((key.protocol, from, to));
        let octets = tracked.get(&(key.protocol, from, to)).copied().flatten();
        flows.push(Flow {
            path: entry.path.into(),
            vpn: snapshot.vpn_name(entry.path),
            protocol: events::protocol(key.protocol),
            who: container(containers, from.ip()).unwrap_or_else(|| bridge.name.clone()),
            from: Some(from),
            to,
            name: None,
            idle: Some(u64::from(tick.saturating_sub(entry.seen)) * TICK_SECONDS),
            sent: octets.map(|(sent, _)| sent),
            received: octets.map(|(_, received)| received),
        });
    }
    let links = link::list().await?;
    let steered = links
        .iter()
        .filter(|link| bridge(link.index.0.into()).is_some());
    let nets: Vec<(&str, Net)> = steered
        .flat_map(|link| link.networks.iter().map(|net| (link.name.as_str(), *net)))
        .collect();
    let told: Scopes = match view.config().scopes {
        0 => Scopes::new(),
        _ => view.scopes()?.iter().collect(),
    };
    let scope_of = |address: IpAddr| {
        let link = links.iter().find(|link| {
            bridge(link.index.0.into()).is_some()
                && link.networks.iter().any(|net| net.contains(address))
        });
        match (view.config().scopes, link) {
            (0, _) | (_, None) => ScopeEntry::NONE,
            (_, Some(link)) => scope::entry(|key| told.get(key).copied(), link.index, address),
        }
    };
    let own: HashSet<IpAddr> = links.iter().flat_map(|link| link.addresses()).collect();
    for ((protocol, from, to), octets) in tracked {
        let on = |address: IpAddr| nets.iter().find(|(_, net)| net.contains(address));
        // Between containers, and from the host itself, there is nothing to steer.
        let Some((bridge, _)) = on(from.ip()).filter(|_| on(to.ip()).is_none()) else {
            continue;
        };
        if own.contains(&from.ip())
            || own.contains(&to.ip())
            || known.contains(&(*protocol, *from, *to))
        {
            continue;
        }
        let scope = scope_of(from.ip());
        let Some((path, by)) = path(snapshot, view, &scope, *protocol, *to)? else {
            continue;
        };
        flows.push(Flow {
            path,
            vpn: snapshot.vpn_name(by),
            protocol: events::protocol(*protocol),
            who: container(containers, from.ip()).unwrap_or_else(|| (*bridge).to_owned()),
            from: Some(*from),
            to: *to,
            name: None,
            idle: None,
            sent: octets.map(|(sent, _)| sent),
            received: octets.map(|(_, received)| received),
        });
    }
    Ok(())
}

/// The path of a tracked flow that the table does not hold, and its VPN; none where the programs let nothing of it out.
fn path(
    snapshot: &Snapshot,
    view: &View,
    scope: &ScopeEntry,
    protocol: u32,
    to: SocketAddr,
) -> Result<Option<(Path, types::Path)>, Error> {
    let tells_flow = matches!(protocol, TCP | UDP);
    // Questions to a scope's resolver are held by nobody.
    if tells_flow && scope.dns != 0 && to.port() == dns::PORT {
        let config = view.config();
        let vpn = config.meant(types::Verdict::VPN, scope.path);
        let ways = Ways::by(vpn, snapshot, config);
        let path = Path::of(types::Verdict::VPN, ways, Some(to.is_ipv4()));
        return Ok(Some((path, vpn)));
    }
    match scope.default {
        ScopeEntry::FREE if tells_flow => Ok(Some((Path::Direct, types::Path::DIRECT))),
        // What of a scope goes direct is held there.
        _ if tells_flow && Address::from(to.ip()).is_steerable() => Ok(None),
        // What tells no flow goes by its address alone.
        _ => explain::path_of(snapshot, view, scope, to.ip()),
    }
}

fn container(containers: &[docker::Container], address: IpAddr) -> Option<String> {
    docker::at(containers, address).map(|it| it.name.clone())
}

/// The sockets of the steered cgroups, connected ones and those that send datagrams by the VPN.
fn of_processes(
    snapshot: &Snapshot,
    view: &View,
    held: &[(FlowKey, FlowEntry)],
    found: &mut Flows,
) {
    // As the programs have it: of a killed run it may have been a flag.
    let config = view.config();
    let sockets = match sockets::connected() {
        Ok(sockets) => sockets,
        Err(errno) => {
            let why = format!(
                "processes' connections are not listed: the kernel does not tell of sockets ({errno})"
            );
            found.notes.push(why);
            return;
        }
    };
    let roots = snapshot.cgroups.iter().map(|it| it.path.clone());
    let cgroups: HashMap<u64, PathBuf> = process::cgroups_below(roots);
    let ours: Vec<_> = sockets
        .iter()
        .filter(|(_, socket)| socket.cgroup.is_some_and(|id| cgroups.contains_key(&id)))
        .filter(|(_, socket)| !socket.remote.ip().is_loopback())
        .collect();
    let inodes = ours.iter().map(|(_, socket)| socket.inode).collect();
    let holders = process::holders(cgroups.values(), &inodes);
    for (protocol, socket) in ours {
        let cgroup = socket.cgroup.and_then(|id| cgroups.get(&id));
        let by = sockets::path(socket, config);
        found.flows.push(Flow {
            path: by.into(),
            vpn: snapshot.vpn_name(by),
            protocol: events::protocol(*protocol),
            who: match (holders.get(&socket.inode), cgroup) {
                (Some(it), _) => format!("{}[{}]", it.name, it.pid),
                (None, Some(cgroup)) => cgroup.display().to_string(),
                (None, None) => "a process".to_owned(),
            },
            from: Some(socket.local),
            to: socket.remote,
            name: None,
            idle: None,
            sent: None,
            received: None,
        });
    }
    // Of a scope also connections and what goes direct are held so: their sockets are listed above.
    let datagrams = held.iter().filter(|(key, entry)| {
        key.protocol == UDP && key.local == Address::default() && entry.path.is_vpn()
    });
    found.flows.extend(datagrams.map(|(key, entry)| Flow {
        path: Path::Vpn,
        vpn: snapshot.vpn_name(entry.path),
        protocol: events::protocol(key.protocol),
        who: "a process".to_owned(),
        from: None,
        to: SocketAddr::new(key.remote.to_ip(), key.remote_port.number()),
        name: None,
        idle: None,
        sent: None,
        received: None,
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_are_found_by_path_by_whom_and_to_whom() {
        let flow = Flow {
            path: Path::Vpn,
            vpn: None,
            protocol: "tcp".to_owned(),
            who: "web".to_owned(),
            from: None,
            to: "203.0.113.7:443".parse().unwrap(),
            name: Some("hub.docker.com".to_owned()),
            idle: None,
            sent: None,
            received: None,
        };
        let wanted = |path, who: Option<&str>, to: Option<&str>| Wanted {
            path,
            who: who.map(str::to_owned),
            to: to.map(str::to_owned),
        };
        for (wanted, has) in [
            (wanted(None, None, None), true),
            (wanted(Some(Path::Vpn), Some("we"), Some("docker")), true),
            (wanted(Some(Path::Direct), None, None), false),
            (wanted(None, Some("db"), None), false),
            (wanted(None, None, Some("113.7")), true),
            (wanted(None, None, Some("gitlab")), false),
        ] {
            assert_eq!(wanted.has(&flow), has, "{wanted:?}");
        }
    }
}
