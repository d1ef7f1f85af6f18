//! What is in each scope, where its ports lead, who waits; and what a scope makes of what begins now.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use steer_common::types::{Address, ScopeEntry, ScopeKey, Verdict};

use super::Snapshot;
use crate::{
    config::{At, Forward, Scope, Selector},
    datapath::Scopes,
    host::{Bridge, cgroup::Hierarchy, inventory::Inventory, process},
    route::IfIndex,
    scope::{Assignment, BridgeScope, ForwardTo, ScopeId, assign, may_leave, scope_id},
};

/// What a run knows of its scopes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scoped {
    /// What is in which; none while Docker has not told.
    pub assignment: Option<Assignment>,
    /// Who waits because nobody knows in which scope he is, and for how long where that is known.
    pub waiting: Vec<(ScopeKey, Option<Duration>)>,
    /// What VPNs' gateways assign.
    pub assigned: Vec<Assigned>,
}

/// A forwarded port that a VPN's gateway assigns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The scope that it is of.
    pub scope: ScopeId,
    /// What is to be forwarded.
    pub forward: Forward,
    /// The port that is assigned, if one is.
    pub port: Option<u16>,
    /// Why none is, or why it cannot be kept.
    pub trouble: Option<String>,
}

/// A scope, and what is in it now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScopeFact {
    /// What it is about: `network underbridge`.
    pub scope: String,
    /// Where the file has it.
    pub from: String,
    /// Where goes what no rule speaks of: `vpn`, `direct` or `block`.
    pub default: String,
    /// The VPN of that, and of rules that do not say which, where there are several.
    pub vpn: Option<String>,
    /// Who is asked its DNS questions; none: whom its containers ask.
    pub dns: Vec<IpAddr>,
    /// What becomes of it when steer is stopped: `keep` or `release`.
    pub on_stop: String,
    /// Docker's networks where it has containers, and those that it is about.
    pub networks: Vec<String>,
    /// The containers in it, by name.
    pub containers: Vec<String>,
    /// Its ports.
    pub forwards: Vec<ForwardFact>,
    /// How many processes are in it, if it is of processes and its cgroup is there.
    pub processes: Option<usize>,
}

/// A port of the VPN's address, and where it leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardFact {
    /// As the file has it: `4666/tcp -> torrent:4666`.
    pub forward: String,
    /// The port that the VPN's gateway has assigned; none where the file has the port.
    pub assigned: Option<u16>,
    /// The container that it leads to.
    pub container: Option<String>,
    /// Where that is, in either family.
    pub to: Vec<SocketAddr>,
    /// Why it leads nowhere.
    pub why_not: Option<String>,
}

/// Somebody of whom nobody knows in which scope he is, so that what he sends waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingFact {
    /// The bridge.
    pub bridge: String,
    /// Docker's network on it, where known.
    pub network: Option<String>,
    /// His address; none for all on the bridge.
    pub address: Option<IpAddr>,
    /// For how long; none of a run that was killed.
    pub seconds: Option<u64>,
}

/// The scopes of a run, in their order.
pub(super) fn facts(snapshot: &Snapshot) -> Vec<ScopeFact> {
    let nothing = Assignment::default();
    let assignment = snapshot.scoped.assignment.as_ref().unwrap_or(&nothing);
    let scopes = snapshot.settings.scopes.iter().enumerate();
    scopes
        .map(|(place, scope)| fact(snapshot, scope, ScopeId(place), assignment))
        .collect()
}

fn fact(snapshot: &Snapshot, scope: &Scope, id: ScopeId, assignment: &Assignment) -> ScopeFact {
    let vpn = scope.vpn.unwrap_or(snapshot.settings.default_vpn);
    let members = assignment.members.get(id.0);
    let whole = assignment.bridges.iter();
    let whole = whole.filter(|(_, of)| **of == BridgeScope::Known(Some(id)));
    let each = assignment.addresses.iter();
    let each = each.filter(|(_, of)| **of == Some(id));
    let bridges: BTreeSet<IfIndex> = whole
        .map(|(index, _)| *index)
        .chain(each.map(|((index, _), _)| *index))
        .collect();
    let used = bridges.iter().filter_map(|index| {
        let bridge = snapshot.bridges.iter().find(|it| it.index == *index)?;
        bridge.network.clone()
    });
    let selected = members.iter().flat_map(|it| it.networks.iter().cloned());
    let networks: BTreeSet<String> = used.chain(selected).collect();
    let containers = members.iter().flat_map(|it| it.containers.iter().cloned());
    let forwards = assignment.forwards.iter().filter(|it| it.scope == id);
    ScopeFact {
        scope: scope.selector.to_string(),
        from: scope.origin.to_string(),
        default: scope.default.to_string(),
        vpn: snapshot.settings.vpn_name(vpn).map(str::to_owned),
        dns: scope.dns.clone(),
        on_stop: scope.on_stop.to_string(),
        networks: networks.into_iter().collect(),
        containers: containers.collect(),
        forwards: forwards
            .map(|it| forward(it, &snapshot.scoped.assigned))
            .collect(),
        processes: processes(&scope.selector),
    }
}

fn processes(selector: &Selector) -> Option<usize> {
    let Selector::Cgroup(path) = selector else {
        return None;
    };
    let root = Hierarchy::read().ok()?.find(path)?;
    let cgroups = process::cgroups_below([root]).into_values();
    let listed = cgroups.map(|it| fs::read_to_string(it.join("cgroup.procs")).unwrap_or_default());
    Some(listed.map(|it| it.lines().count()).sum())
}

fn forward(it: &ForwardTo, assigned: &[Assigned]) -> ForwardFact {
    let is_it = |one: &&Assigned| one.scope == it.scope && one.forward == it.forward;
    let assigned = assigned.iter().find(is_it);
    let by_gateway = match it.forward.at {
        At::Port(_) => Ok(None),
        At::NatPmp => match assigned {
            Some(Assigned {
                port: Some(port), ..
            }) => Ok(Some(*port)),
            Some(Assigned {
                trouble: Some(why), ..
            }) => Err(why.clone()),
            _ => Err("the VPN's gateway has not assigned a port yet".to_owned()),
        },
    };
    let target = it.target.as_ref();
    let port = it.forward.to;
    let to = target.iter().flat_map(|target| {
        let v4 = target.v4.map(IpAddr::from);
        let v6 = target.v6.map(IpAddr::from);
        v4.into_iter().chain(v6)
    });
    ForwardFact {
        forward: it.forward.to_string(),
        assigned: by_gateway.as_ref().ok().copied().flatten(),
        container: target.ok().map(|target| target.container.clone()),
        to: to.map(|address| SocketAddr::new(address, port)).collect(),
        why_not: target.err().map(ToString::to_string).or(by_gateway.err()),
    }
}

/// Who waits.
pub(super) fn waiting(snapshot: &Snapshot) -> Vec<WaitingFact> {
    let fact = |(who, since): &(ScopeKey, Option<Duration>)| {
        let bridge = snapshot.bridges.iter().find(|it| it.index.0 == who.bridge);
        WaitingFact {
            bridge: bridge.map_or_else(
                || format!("interface {}", who.bridge),
                |bridge| bridge.name.clone(),
            ),
            network: bridge.and_then(|bridge| bridge.network.clone()),
            address: (who.address != Address::default()).then(|| who.address.to_ip()),
            seconds: since.map(|since| since.as_secs()),
        }
    };
    snapshot.scoped.waiting.iter().map(fact).collect()
}

/// What of the scopes is not as their user means it, and no matter of Docker's.
pub(super) fn troubles(snapshot: &Snapshot) -> Option<String> {
    let is_told = snapshot.scoped.assignment.is_some() || !snapshot.settings.scopes_containers();
    (!is_told && !snapshot.bridges.is_empty()).then(|| {
        "Docker has not said which containers there are, so nobody knows who is in a scope: what is not known already waits; \
         see that dockerd answers"
            .to_owned()
    })
}

/// Of a killed run: what its programs were told, as far as what Docker has now is the same.
pub(super) fn left(
    scopes: &[Scope],
    inventory: Option<&Inventory>,
    bridges: &[Bridge],
    told: &Scopes,
) -> Scoped {
    let waiting = told
        .iter()
        .filter(|(who, entry)| entry.default == ScopeEntry::UNKNOWN && may_leave(who))
        .map(|(who, _)| (*who, None));
    let nobody_renews = |(place, forward): (usize, &Forward)| {
        Assigned {
        scope: ScopeId(place),
        forward: forward.clone(),
        port: None,
        trouble: Some(
            "while no steer runs, nobody renews the port that the VPN's gateway assigned; steer run asks for it again"
                .to_owned(),
        ),
    }
    };
    let forwards = scopes.iter().enumerate().flat_map(|(place, scope)| {
        let assigned = scope.forward.iter().filter(|it| it.at == At::NatPmp);
        assigned.map(move |forward| (place, forward))
    });
    Scoped {
        assigned: forwards.map(nobody_renews).collect(),
        waiting: waiting.collect(),
        assignment: inventory.map(|inventory| in_force(scopes, inventory, bridges, told)),
    }
}

fn in_force(
    scopes: &[Scope],
    inventory: &Inventory,
    bridges: &[Bridge],
    told: &Scopes,
) -> Assignment {
    let named = |bridge: &Bridge| (bridge.index, bridge.name.clone());
    let all: Vec<_> = bridges.iter().map(named).collect();
    let now = assign(scopes, inventory, &all);
    let is_told = |bridge: IfIndex, address: Option<IpAddr>, of: Option<ScopeId>| {
        let key = ScopeKey {
            address: address.map(Address::from).unwrap_or_default(),
            ..ScopeKey::of_bridge(bridge.0)
        };
        told.get(&key)
            .is_some_and(|entry| entry.default != ScopeEntry::UNKNOWN && scope_id(entry) == of)
    };
    let is_whole = |(index, _): &&(IfIndex, String)| match now.bridges.get(index) {
        Some(BridgeScope::Known(of)) => is_told(*index, None, *of),
        Some(BridgeScope::Each) => true,
        None => false,
    };
    let bridges: Vec<_> = all.iter().filter(is_whole).cloned().collect();
    let mut inventory = inventory.clone();
    let on: Vec<(String, IfIndex)> = inventory
        .networks
        .iter()
        .filter_map(|network| {
            let name = network.bridge.as_ref()?;
            let (index, _) = bridges.iter().find(|(_, it)| it == name)?;
            Some((network.id.clone(), *index))
        })
        .collect();
    let endpoints = inventory.containers.iter_mut();
    for endpoint in endpoints.flat_map(|it| &mut it.endpoints) {
        let Some((_, bridge)) = on.iter().find(|(network, _)| *network == endpoint.network) else {
            continue;
        };
        if now.bridges.get(bridge) == Some(&BridgeScope::Each) {
            endpoint.addresses.retain(|address| {
                let of = now.addresses.get(&(*bridge, *address));
                of.is_some_and(|of| is_told(*bridge, Some(*address), *of))
            });
        }
    }
    assign(scopes, &inventory, &bridges)
}

/// What a scope makes of what begins now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// What becomes of it without a scope.
    Free,
    /// It waits, for nobody knows in which scope its sender is.
    Waits,
    /// It does not leave the host.
    Stays,
    /// What the rule for its address says.
    Rule,
    /// It takes the VPN.
    Vpn,
    /// It may not leave.
    Nowhere,
}

/// What becomes of what begins now, is no question of DNS, and goes to an address of which rules say this: as
/// [`steer_common::scope::outgoing`] does it.
pub(super) fn judge(
    scope: &ScopeEntry,
    remote: &Address,
    is_home: bool,
    verdict: Verdict,
) -> Judged {
    let waits = scope.default == ScopeEntry::UNKNOWN;
    if scope.default == ScopeEntry::FREE {
        return Judged::Free;
    }
    if !remote.is_steerable() {
        return match remote.is_link_local_v4() {
            true if waits => Judged::Waits,
            true => Judged::Nowhere,
            false => Judged::Stays,
        };
    }
    match (verdict, scope.default) {
        _ if is_home => Judged::Stays,
        (_, ScopeEntry::UNKNOWN) => Judged::Waits,
        (Verdict::NONE, ScopeEntry::BLOCK) => Judged::Nowhere,
        (Verdict::NONE, _) => Judged::Vpn,
        _ => Judged::Rule,
    }
}

/// The same of what a process sends, as [`steer_common::process::leaves`] does it: what is for its own link would leave the host.
pub(super) fn judge_process(
    scope: &ScopeEntry,
    remote: &Address,
    is_home: bool,
    verdict: Verdict,
) -> Judged {
    match scope.default {
        ScopeEntry::FREE => Judged::Free,
        _ if is_home || remote.is_loopback() => Judged::Stays,
        _ if !remote.is_steerable() => Judged::Nowhere,
        _ => judge(scope, remote, is_home, verdict),
    }
}

#[cfg(test)]
mod tests;
