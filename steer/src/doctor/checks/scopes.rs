//! Scopes: that they select what they mean, that their ports lead somewhere, and that somebody answers their questions.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use super::list;
use crate::{
    config::{Scope, Way},
    doctor::{
        facts::{Assigner, Facts, Looked, Resolver},
        finding::{Check, Finding},
    },
    host::{
        bridge,
        cgroup::Daemon,
        docker,
        inventory::{Container, Inventory},
    },
    route::{Vpn, VpnId},
    scope::{Assignment, NoTarget, assign},
    words::counted,
};

pub(super) const SCOPES: Check = Check::new("scopes", "the scopes of the configuration");
pub(super) const RESOLVERS: Check = Check::new("scope-resolvers", "the name servers of scopes");

pub(super) const GATEWAYS: Check = Check::new("nat-pmp", "the gateways that assign ports");

/// What is wrong with scopes, by what it takes to mend it.
#[derive(Default)]
struct Faults {
    broken: Vec<String>,
    advice: Vec<String>,
    mend: BTreeSet<&'static str>,
}

pub(super) fn scopes(facts: &Facts) -> Finding {
    let scopes = &facts.settings.scopes;
    if scopes.is_empty() {
        return SCOPES.well("the configuration has none");
    }
    let mut faults = Faults::default();
    faults.cgroups(&facts.cgroups_awaited);
    faults.daemons(scopes, &facts.scoped_daemons);
    let count = counted(scopes.len(), "scope");
    if !facts.settings.scopes_containers() {
        return faults.told(format!("{count}, of processes"));
    }
    let inventory = match &facts.docker.inventory {
        Ok(inventory) => inventory,
        Err(why) if why.contains("ermission denied") => return SCOPES.unknown(why),
        Err(why) if !facts.docker.runs => {
            return SCOPES.unknown(format!(
                "dockerd does not run, and it alone knows who is in a scope ({why}); containers wait until it tells"
            ));
        }
        Err(why) => {
            return SCOPES
                .broken(
                    format!("Docker does not say which containers there are: {why}"),
                    "it alone knows who is in a scope: whoever is not known yet waits until it answers",
                )
                .mend("systemctl status docker; ls -l /var/run/docker.sock");
        }
    };
    let assignment = assigned(facts, inventory);
    faults.notes(&assignment);
    faults.forwards(scopes, &assignment);
    faults.internal(scopes, inventory, &assignment);
    let members: BTreeSet<_> = assignment
        .members
        .iter()
        .flat_map(|members| &members.containers)
        .collect();
    faults.told(format!(
        "{count} with {} now",
        counted(members.len(), "container")
    ))
}

/// As a run would have it that started now.
fn assigned(facts: &Facts, inventory: &Inventory) -> Assignment {
    let networks = inventory.networks.iter().filter_map(|network| {
        Some(docker::Network {
            name: Some(network.name.clone()),
            interface: network.bridge.clone()?,
        })
    });
    let networks: Vec<_> = networks.collect();
    let links = facts.all_links();
    // A bridge that is named and not there is told by the start.
    let bridges = bridge::resolve(&facts.settings.bridges, links, &networks, &mut Vec::new());
    let bridges = bridges.unwrap_or_default().into_iter();
    let bridges: Vec<_> = bridges.map(|bridge| (bridge.index, bridge.name)).collect();
    assign(&facts.settings.scopes, inventory, &bridges)
}

impl Faults {
    fn cgroups(&mut self, awaited: &[String]) {
        self.advice.extend(awaited.iter().cloned());
        if !awaited.is_empty() {
            self.mend
                .insert("systemd-cgls    # against the cgroup of the [[scope]] that is told: it is awaited until its service starts");
        }
    }

    /// Whoever works for others is not to be judged as one of a scope.
    fn daemons(&mut self, scopes: &[Scope], within: &[(usize, Daemon)]) {
        for (place, Daemon { name, pid }) in within {
            let scope = &scopes[*place];
            if scope.default == Way::Direct && scope.dns.is_empty() {
                continue;
            }
            let why = match name.as_str() {
                "dockerd" | "containerd" => {
                    "and what it pulls, and asks for containers, goes as the scope has it"
                }
                "steer" => "and what it asks for others goes as the scope has it",
                _ => "and the VPN that it makes would have to go through itself",
            };
            self.broken.push(format!(
                "{}: {name} (process {pid}) is in its cgroup, {why}",
                scope.origin
            ));
            self.mend.insert("cgroup = \"app.slice\"    # in the [[scope]] that is told: one that the process is not in; or Slice=system.slice in [Service] of the process's unit, and restart it");
        }
    }

    fn notes(&mut self, assignment: &Assignment) {
        self.advice.extend(assignment.notes.iter().cloned());
        if !assignment.notes.is_empty() {
            self.mend
                .insert("docker ps -a --format '{{.Names}}: {{.Networks}}'; docker network ls    # against the [[scope]] that is told");
        }
    }

    fn forwards(&mut self, scopes: &[Scope], assignment: &Assignment) {
        for it in &assignment.forwards {
            let Err(why) = &it.target else {
                continue;
            };
            let origin = &scopes[it.scope.0].origin;
            let text = format!("{origin}: {} leads nowhere: {why}", it.forward);
            match why {
                NoTarget::Stopped(_) => {
                    self.advice.push(text);
                    self.mend.insert("docker start NAME");
                }
                _ => {
                    self.broken.push(text);
                    self.mend.insert("forward = [\"PORT/tcp -> CONTAINER:PORT\"]    # in the [[scope]] that the container is in");
                }
            }
        }
    }

    /// Docker 28 gives containers of such a network no default route, and 20.10 drops what they send to anybody outside.
    fn internal(&mut self, scopes: &[Scope], inventory: &Inventory, assignment: &Assignment) {
        let is_internal = |name: &&String| {
            let mut networks = inventory.networks.iter();
            networks.any(|network| network.name == **name && network.internal)
        };
        for (scope, members) in scopes.iter().zip(&assignment.members) {
            if scope.default != Way::Vpn {
                continue;
            }
            let shut_in = members.containers.iter();
            let shut_in = shut_in.filter_map(|name| inventory.container(name));
            let shut_in = shut_in.flat_map(|container| only_internal(inventory, container));
            let networks: BTreeSet<_> = members
                .networks
                .iter()
                .filter(is_internal)
                .chain(shut_in)
                .collect();
            for network in networks {
                self.broken.push(format!(
                    "{}: the network {network} is internal, so Docker lets nothing of its containers out, by the VPN neither",
                    scope.origin
                ));
                self.mend.insert("docker network rm NAME && docker network create NAME    # without --internal; in Compose without internal: true");
            }
        }
    }

    fn told(self, well: String) -> Finding {
        if self.broken.is_empty() && self.advice.is_empty() {
            return SCOPES.well(well);
        }
        let mend = self.mend.into_iter().collect::<Vec<_>>().join("\n");
        let is_broken = !self.broken.is_empty();
        let found: Vec<_> = self.broken.into_iter().chain(self.advice).collect();
        let found = found.join("; ");
        let matters = "who is in no scope sends by the rules alone, direct where none speaks; who is in one reaches the outside by the VPN or not at \
                       all; and what comes to a port that leads nowhere is lost";
        let finding = match is_broken {
            true => SCOPES.broken(found, matters),
            false => SCOPES.advice(found, matters),
        };
        finding.mend(mend)
    }
}

/// The networks of a container that is on internal ones alone.
fn only_internal<'a>(inventory: &'a Inventory, container: &Container) -> Vec<&'a String> {
    let endpoints = container.endpoints.iter();
    let networks = endpoints.filter_map(|endpoint| inventory.network(&endpoint.network));
    let networks: Vec<_> = networks.collect();
    match networks.iter().all(|network| network.internal) {
        true => networks.into_iter().map(|network| &network.name).collect(),
        false => Vec::new(),
    }
}

pub(super) fn resolvers(facts: &Facts) -> Finding {
    let servers = facts.settings.resolvers();
    if servers.is_empty() {
        return RESOLVERS.well("the configuration has none that are asked through the VPN");
    }
    let vpns = facts.vpns();
    let of_vpn = |id: VpnId| match vpns.get(&id) {
        None => RESOLVERS.unknown(super::vpn::NO_VPN),
        Some(vpn) => {
            let servers = servers.iter().filter(|(by, _)| *by == id);
            resolvers_by(facts, id, vpn, servers.map(|(_, server)| *server))
        }
    };
    let ids: BTreeSet<_> = servers.iter().map(|(id, _)| *id).collect();
    Finding::all(ids.into_iter().map(of_vpn), RESOLVERS)
}

/// Those that are asked through one VPN.
fn resolvers_by(
    facts: &Facts,
    id: VpnId,
    vpn: &Vpn,
    servers: impl Iterator<Item = IpAddr>,
) -> Finding {
    let strict = is_strict(facts, vpn);
    let (mut answered, mut silent, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    for server in servers {
        match facts.resolvers.get(&(id, server)) {
            Some(Ok(Resolver::Answers)) => answered.push(server.to_string()),
            Some(Ok(Resolver::Silent)) if strict => unknown.push(format!(
                "whether {server} answers: rp_filter of {} is strict while steer does not run",
                vpn.name
            )),
            Some(Ok(Resolver::Silent)) => silent.push(server.to_string()),
            Some(Err(why)) => unknown.push(format!("{server}: {why}")),
            None => unknown.push(format!("{server}: not asked")),
        }
    }
    if !silent.is_empty() {
        return RESOLVERS
            .broken(
                format!("no answer through {} from {}", vpn.name, list(&silent)),
                "containers of such a scope resolve no name: nobody else is asked",
            )
            .mend(format!(
                "dig +tries=1 @{} . NS -b {}    # while steer runs; then another dns in the [[scope]]: one that the VPN's provider names",
                silent[0],
                vpn.addresses()
                    .next()
                    .map_or_else(|| "VPN'S ADDRESS".to_owned(), |it: IpAddr| it.to_string())
            ));
    }
    if !unknown.is_empty() {
        return RESOLVERS.unknown(unknown.join("; "));
    }
    RESOLVERS.well(format!("{} answers through {}", list(&answered), vpn.name))
}

pub(super) fn gateways(facts: &Facts) -> Finding {
    let asked = facts.settings.assigned();
    let of_scope =
        asked.map(
            |(scope, id)| match (facts.gateways.get(&id), facts.vpns().get(&id)) {
                (Some(said), Some(vpn)) => assigns(facts, scope, vpn, said),
                _ => GATEWAYS.unknown(super::vpn::NO_VPN),
            },
        );
    let findings: Vec<_> = of_scope.collect();
    if findings.is_empty() {
        return GATEWAYS.well("the configuration has no port that one assigns");
    }
    Finding::all(findings, GATEWAYS)
}

fn assigns(
    facts: &Facts,
    scope: &Scope,
    vpn: &Vpn,
    said: &Looked<(Ipv4Addr, Assigner)>,
) -> Finding {
    const MATTERS: &str = "no port is assigned, so nobody outside reaches what the scope forwards";
    let name = &vpn.name;
    match said {
        Err(why) => GATEWAYS.unknown(why),
        Ok((gateway, Assigner::Answers)) => {
            GATEWAYS.well(format!("{gateway} answers by NAT-PMP through {name}"))
        }
        Ok((gateway, Assigner::Refuses(why))) => GATEWAYS
            .broken(
                format!("{}: {gateway} refuses by NAT-PMP through {name}: {why}", scope.origin),
                MATTERS,
            )
            .mend(format!("natpmpc -g {gateway}    # and switch port forwarding on at the provider, or take another of its servers")),
        Ok((gateway, Assigner::Silent)) if is_strict(facts, vpn) => GATEWAYS.unknown(format!(
            "whether {gateway} answers by NAT-PMP: rp_filter of {name} is strict while steer does not run"
        )),
        Ok((gateway, Assigner::Silent)) => GATEWAYS
            .broken(
                format!("{}: {gateway} gives no answer by NAT-PMP through {name}", scope.origin),
                MATTERS,
            )
            .mend("gateway = \"10.2.0.1\"    # in [vpn] of /etc/steer/steer.toml, as the provider says; and a server of its that forwards ports"),
    }
}

fn is_strict(facts: &Facts, vpn: &Vpn) -> bool {
    let value = |name: &str| facts.sysctls.rp_filter.get(name).copied();
    value(&vpn.name).max(value("all")) == Some(1)
}
