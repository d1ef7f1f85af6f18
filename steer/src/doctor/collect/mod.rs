//! Looking at the host. What cannot be looked at is a fact too.

mod docker;
mod echo;
mod gateway;
mod names;
mod resolver;
mod system;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

use futures_util::future::join_all;

use super::facts::{Assigner, Echo, Facts, Looked, Resolver};
use crate::{
    config::{ConfigFile, Overrides, Selector, Settings},
    error::sentence,
    host::{
        cgroup::{self, Daemon},
        gauge, link,
    },
    natpmp,
    route::{self, IfIndex, TableId, Vpn, VpnId},
};

/// Where to look.
#[derive(Clone, Copy, Debug)]
pub struct Places<'a> {
    /// The configuration file, if one was named.
    pub config: Option<&'a Path>,
    /// Docker's configuration file, if one was named.
    pub daemon_json: Option<&'a Path>,
}

/// Looks at everything, in the network namespace of this process. One echo request goes to the far end of each VPN, and a question to
/// each name server that is asked through one; nothing is changed.
pub async fn collect(places: Places<'_>) -> Facts {
    let (configuration, settings) = configuration(places.config);
    let links = looked(link::list().await);
    let gauges = gauge::gauges().await.unwrap_or_default();
    let survey = looked(route::survey().await);
    let mut cgroup_notes = Vec::new();
    let cgroups = cgroup::Hierarchy::read()
        .and_then(|hierarchy| hierarchy.resolve(&settings.cgroups, &mut cgroup_notes));
    let cgroups_awaited = cgroup::Hierarchy::read()
        .map(|hierarchy| awaited(&hierarchy, &settings))
        .unwrap_or_default();
    let scoped_daemons = cgroup::Hierarchy::read()
        .map(|hierarchy| scoped_daemons(&hierarchy, &settings))
        .unwrap_or_default();
    let has_scopes = settings.scopes_containers();
    let docker = docker::collect(&settings.docker.value, places.daemon_json, has_scopes).await;
    let mut facts = Facts {
        configuration,
        system: system::collect(&settings.bpffs),
        sysctls: system::sysctls(),
        settings,
        cgroups: looked(cgroups),
        cgroup_notes,
        cgroups_awaited,
        scoped_daemons,
        links,
        gauges,
        survey,
        taken: Err("there is no VPN to look for".to_owned()),
        echoes: BTreeMap::new(),
        resolvers: BTreeMap::new(),
        gateways: BTreeMap::new(),
        docker,
        names: names::collect(),
        processes: processes(),
        filters: system::filters(),
    };
    let vpns = facts.vpns();
    if !vpns.is_empty() {
        let indices: Vec<_> = vpns.values().map(|vpn| vpn.index).collect();
        facts.taken = looked(route::taken(&indices).await);
        let echoes = vpns.values().map(|vpn| echo(&facts, vpn));
        facts.echoes = join_all(echoes).await.into_iter().collect();
        facts.resolvers = resolvers(&facts, &vpns).await;
        facts.gateways = gateways(&facts, &vpns).await;
    }
    facts
}

/// What is said of cgroups of scopes that are not there.
fn awaited(hierarchy: &cgroup::Hierarchy, settings: &Settings) -> Vec<String> {
    let looked_for = settings.scoped_cgroups().map(|(_, choice)| {
        let found = hierarchy.resolve(&[choice], &mut Vec::new());
        found.err().map(|why| sentence(&why))
    });
    looked_for.flatten().collect()
}

/// Who is in the cgroup of a scope and ought not to be: those who work for others, and the VPNs' own programs. Of nested scopes the
/// inner one counts.
fn scoped_daemons(hierarchy: &cgroup::Hierarchy, settings: &Settings) -> Vec<(usize, Daemon)> {
    const NAMES: [&str; 5] = ["dockerd", "containerd", "steer", "openvpn", "wireguard-go"];
    let scopes = settings.scopes.iter().enumerate();
    let scopes = scopes.filter_map(|(place, scope)| match &scope.selector {
        Selector::Cgroup(path) => Some((place, hierarchy.find(path)?)),
        _ => None,
    });
    let scopes: Vec<_> = scopes.collect();
    if scopes.is_empty() {
        return Vec::new();
    }
    let found = hierarchy.named_processes(&NAMES).into_iter();
    let within = found.filter_map(|(process, cgroup)| {
        let of = scopes.iter().filter(|(_, path)| cgroup.starts_with(path));
        let (place, _) = of.max_by_key(|(_, path)| path.components().count())?;
        Some((*place, process))
    });
    within.collect()
}

/// What the far end of a VPN says.
async fn echo(facts: &Facts, vpn: &Vpn) -> (IfIndex, Looked<Echo>) {
    let routes = facts.survey.iter().flat_map(|survey| &survey.routes);
    let by_vpn = routes.filter(|route| route.interface == Some(vpn.index) && !route.ours);
    let gateways = by_vpn
        .filter(|route| route.table != TableId::LOCAL)
        .filter_map(|route| route.gateway);
    let networks = facts.link(vpn.index).map(|link| link.networks.as_slice());
    let said = match echo::target(vpn, gateways, networks.unwrap_or_default()) {
        Some(_) if !vpn.up => Err("it is down".to_owned()),
        Some(target) => echo::ask(&vpn.name, target).await,
        None => Err("nobody is known at its far end who could be asked".to_owned()),
    };
    (vpn.index, said)
}

/// What those say whom a run would ask through a VPN.
async fn resolvers(
    facts: &Facts,
    vpns: &BTreeMap<VpnId, Vpn>,
) -> BTreeMap<(VpnId, IpAddr), Looked<Resolver>> {
    let networks = facts.docker.networks.iter().flatten();
    let subnets: Vec<_> = networks.flat_map(|it| &it.subnets).collect();
    let ask = async |(id, server): (VpnId, IpAddr)| {
        let said = match vpns.get(&id) {
            _ if subnets.iter().any(|subnet| subnet.contains(server)) => {
                Err("it is a container, and not asked through a VPN".to_owned())
            }
            Some(vpn) if vpn.up => resolver::ask(&vpn.name, server).await,
            Some(vpn) => Err(format!("{} is down", vpn.name)),
            None => Err("its VPN is not there".to_owned()),
        };
        ((id, server), said)
    };
    let servers = facts.settings.resolvers();
    let said = join_all(servers.into_iter().map(ask)).await;
    said.into_iter().collect()
}

/// What those say whom a run would ask for ports.
async fn gateways(
    facts: &Facts,
    vpns: &BTreeMap<VpnId, Vpn>,
) -> BTreeMap<VpnId, Looked<(Ipv4Addr, Assigner)>> {
    let settings = &facts.settings;
    let ask = async |id: VpnId| {
        let Some(vpn) = vpns.get(&id).filter(|vpn| vpn.up) else {
            return (id, Err("its VPN is not up".to_owned()));
        };
        let by_link = || natpmp::by_network(facts.link(vpn.index)?, *vpn.v4.first()?);
        let said = match settings.vpns[id.0].gateway.or_else(by_link) {
            Some(gateway) => gateway::ask(&vpn.name, gateway).await,
            None => Err(format!("{} does not tell its gateway", vpn.name)),
        };
        (id, said)
    };
    let ids: BTreeSet<_> = settings.assigned().map(|(_, id)| id).collect();
    join_all(ids.into_iter().map(ask))
        .await
        .into_iter()
        .collect()
}

fn configuration(named: Option<&Path>) -> (Looked<Option<std::path::PathBuf>>, Settings) {
    let settings =
        ConfigFile::find(named).and_then(|file| Settings::resolve(file, Overrides::default()));
    match settings {
        Ok(settings) => (Ok(settings.file.clone()), settings),
        Err(error) => {
            let defaults = Settings::resolve(ConfigFile::default(), Overrides::default());
            let defaults = defaults.expect("the defaults are valid: a test resolves them");
            (Err(sentence(&error)), defaults)
        }
    }
}

fn processes() -> BTreeSet<String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let own = entries.filter(|entry| {
        let name = entry.file_name();
        name.to_str()
            .is_some_and(|name| name.parse::<u32>().is_ok())
    });
    let names = own.filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok());
    names.map(|name| name.trim_end().to_owned()).collect()
}

fn looked<T>(result: Result<T, impl std::error::Error + 'static>) -> Looked<T> {
    result.map_err(|error| sentence(&error))
}
