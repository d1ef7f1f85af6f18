//! Addresses that the VPN and Docker both have.

use std::net::Ipv4Addr;

use serde_json::Value;

use super::docker::{bridges, has_flag};
use crate::{
    doctor::{
        daemon_json,
        facts::Facts,
        finding::{Check, Finding},
        fix::Fix,
        ranges::{self, Proposal},
    },
    host::{Kind, Link},
    rules::Net,
};

pub(super) const OVERLAP: Check = Check::new(
    "address-overlap",
    "addresses of the VPN and of Docker's networks",
)
.fixed();
pub(super) const POOLS: Check =
    Check::new("docker-pools", "what Docker makes new networks from").fixed();

/// What Docker cuts networks from by itself (`defaultAddressPool` of its libnetwork): 172.17.0.0/16 to 172.31.0.0/16, and
/// 192.168.0.0/16.
const DEFAULT_POOLS: [Net; 6] = [
    Net::v4(Ipv4Addr::new(172, 17, 0, 0), 16),
    Net::v4(Ipv4Addr::new(172, 18, 0, 0), 15),
    Net::v4(Ipv4Addr::new(172, 20, 0, 0), 14),
    Net::v4(Ipv4Addr::new(172, 24, 0, 0), 14),
    Net::v4(Ipv4Addr::new(172, 28, 0, 0), 14),
    Net::v4(Ipv4Addr::new(192, 168, 0, 0), 16),
];
/// The bridge of Docker's default network.
const DEFAULT_BRIDGE: &str = "docker0";
const RESTART: &str = "systemctl restart docker";

/// A network of Docker's.
struct Network {
    name: String,
    is_default: bool,
    net: Net,
}

/// Something that leads into a VPN.
struct Route {
    text: String,
    net: Net,
}

pub(super) fn overlap(facts: &Facts) -> Finding {
    if let (Err(why), _) | (_, Err(why)) = (
        facts.survey.as_ref().map(drop),
        facts.links.as_ref().map(drop),
    ) {
        return OVERLAP.unknown(why);
    }
    let networks = networks(facts);
    let routes = routes(facts);
    let pairs: Vec<_> = networks
        .iter()
        .flat_map(|network| routes.iter().map(move |route| (network, route)))
        .filter(|(network, route)| ranges::overlap(network.net, route.net))
        .collect();
    if pairs.is_empty() {
        return OVERLAP.well(format!(
            "no route of a VPN's meets one of {} networks of Docker's",
            networks.len()
        ));
    }
    let found: Vec<_> = pairs
        .iter()
        .map(|(network, route)| format!("{} and {} overlap", route.text, network.name))
        .collect();
    let into_vpn = pairs
        .iter()
        .any(|(network, route)| route.net.prefix() >= network.net.prefix());
    let matters = if into_vpn {
        "answers to containers go into the VPN, for its route is as narrow as Docker's or narrower: containers reach nothing, or what they reach changes with which came first"
    } else {
        "what the VPN has at these addresses cannot be reached, for Docker's route is the narrower one; and Docker finds fewer ranges for new networks, or none"
    };
    let own: Vec<_> = pairs
        .iter()
        .filter(|(network, _)| !network.is_default)
        .collect();
    let default = own.len() < pairs.len();
    let others = own.iter().map(|(network, _)| network.name.as_str());
    let anew = others
        .map(|name| format!("docker network rm, then create, or compose down and up:    {name}"));
    let mut anew: Vec<_> = anew.collect();
    anew.dedup();
    let broken = OVERLAP.broken(found.join("; "), matters);
    let path = facts.docker.daemon_json.display();
    if planned(facts, &routes, default) {
        let broken = Finding {
            found: format!(
                "{}; {path} already says other ranges, which hold from dockerd's next start",
                broken.found
            ),
            ..broken
        };
        let mut lines = vec![RESTART.to_owned()];
        lines.extend(anew);
        return broken.mend(lines.join("\n"));
    }
    propose(facts, broken, &routes, default, anew)
}

pub(super) fn pools(facts: &Facts) -> Finding {
    let text = match &facts.docker.daemon_text {
        Ok(text) => text.as_deref().unwrap_or_default(),
        Err(why) => return POOLS.unknown(why),
    };
    let Ok(object) = daemon_json::parse(text) else {
        return POOLS.unknown(format!("{} is no JSON", facts.docker.daemon_json.display()));
    };
    if !facts.docker.runs && facts.docker.socket.is_none() && bridges(facts).is_empty() {
        return POOLS.well("no Docker is here that would make networks");
    }
    let routes = routes(facts);
    let configured = daemon_json::pools(&object);
    let (pools, whose) = if configured.is_empty() {
        (DEFAULT_POOLS.to_vec(), "Docker's default ranges")
    } else {
        let nets = configured.iter().map(|(net, _)| *net).collect();
        (nets, "default-address-pools")
    };
    let met: Vec<_> = routes
        .iter()
        .filter(|route| pools.iter().any(|pool| ranges::overlap(*pool, route.net)))
        .map(|route| route.text.as_str())
        .collect();
    if met.is_empty() {
        return POOLS.well(format!("no route of a VPN's meets {whose}"));
    }
    let advice = POOLS.advice(
        format!("{} meet{} {whose}", super::list(&met), if met.len() == 1 { "s" } else { "" }),
        "a network that Docker makes while the VPN is away may get addresses of the VPN's; while it is there Docker runs out of ranges sooner",
    );
    propose(facts, advice, &routes, false, Vec::new())
}

/// Adds what to write, and the fix that writes it where that is safe.
fn propose(
    facts: &Facts,
    finding: Finding,
    routes: &[Route],
    default: bool,
    mut more: Vec<String>,
) -> Finding {
    let Some(proposal) = ranges::propose(&ranges::used(facts)) else {
        return finding.mend(
            "no private range is free that could be proposed: have the VPN push fewer routes (OpenVPN: route-nopull, and a route line for each network that is needed; WireGuard: a narrower AllowedIPs)",
        );
    };
    let keys = keys(facts, &proposal, routes, default);
    let path = facts.docker.daemon_json.display();
    let lines = keys
        .iter()
        .map(|(key, value)| format!("\"{key}\": {value}"));
    let mut mend = vec![format!(
        "{}    # in {path}, then {RESTART}",
        lines.collect::<Vec<_>>().join(", ")
    )];
    mend.append(&mut more);
    let refused = refused(facts, default);
    if let Some(why) = &refused {
        mend.push(format!("--fix does not do it: {why}"));
    }
    let fix = Fix::DaemonJson(facts.docker.daemon_json.clone(), keys);
    finding
        .mend(mend.join("\n"))
        .fix(refused.is_none().then_some(fix))
}

/// Why Docker's file is not for steer to edit.
fn refused(facts: &Facts, default: bool) -> Option<String> {
    let object = match &facts.docker.daemon_text {
        Err(why) => return Some(why.clone()),
        Ok(text) => match daemon_json::parse(text.as_deref().unwrap_or_default()) {
            Ok(object) => object,
            Err(error) => return Some(error.to_string()),
        },
    };
    let mut flags = vec!["--default-address-pool"];
    if default {
        flags.extend(["--bip", "--bridge", "-b"]);
        if object.contains_key("bridge") {
            return Some("\"bridge\" is set there, and excludes \"bip\"".to_owned());
        }
    }
    let flag = flags.into_iter().find(|flag| has_flag(facts, flag))?;
    Some(format!(
        "dockerd was started with {flag}, and does not start where its file says the same; change the flag in its unit"
    ))
}

fn keys(
    facts: &Facts,
    proposal: &Proposal,
    routes: &[Route],
    default: bool,
) -> Vec<(String, Value)> {
    let text = facts.docker.daemon_text.as_ref().ok();
    let text = text.and_then(Option::as_deref).unwrap_or_default();
    let object = daemon_json::parse(text).unwrap_or_default();
    let free = |net: &Net| !routes.iter().any(|route| ranges::overlap(*net, route.net));
    let kept = daemon_json::pools(&object)
        .into_iter()
        .filter(|(net, _)| free(net));
    let mut pools = vec![proposal.pool_json()];
    pools.extend(kept.map(|(_, pool)| pool));
    let mut keys = Vec::new();
    if default {
        keys.push(("bip".to_owned(), proposal.bip().into()));
    }
    keys.push(("default-address-pools".to_owned(), pools.into()));
    keys
}

/// Whether Docker's file already says ranges that meet no VPN.
fn planned(facts: &Facts, routes: &[Route], default: bool) -> bool {
    let Ok(Some(text)) = &facts.docker.daemon_text else {
        return false;
    };
    let object = daemon_json::parse(text).unwrap_or_default();
    let free = |net: Net| !routes.iter().any(|route| ranges::overlap(net, route.net));
    let bip = object.get("bip").and_then(Value::as_str);
    let bip = bip.and_then(daemon_json::around).is_some_and(free);
    let pools = daemon_json::pools(&object);
    (bip || !default) && !pools.is_empty() && pools.into_iter().all(|(net, _)| free(net))
}

/// Docker's networks: as its API tells, else by the addresses of its bridges.
fn networks(facts: &Facts) -> Vec<Network> {
    let mut networks = Vec::new();
    for network in facts.docker.networks.iter().flatten() {
        let interface = network.interface.as_deref();
        let behind = interface
            .map(|name| format!(", {name}"))
            .unwrap_or_default();
        networks.extend(network.subnets.iter().map(|net| Network {
            name: format!("Docker's network {} ({net}{behind})", network.network),
            is_default: interface == Some(DEFAULT_BRIDGE),
            net: *net,
        }));
    }
    let told: Vec<_> = networks.iter().map(|network| network.net).collect();
    for link in bridges(facts) {
        let own = link.networks.iter().filter(|net| !told.contains(net));
        networks.extend(own.map(|net| Network {
            name: format!("{} of Docker's ({net})", link.name),
            is_default: link.name == DEFAULT_BRIDGE,
            net: *net,
        }));
    }
    networks
}

/// What leads into a VPN's device, which the default route does not count for.
fn routes(facts: &Facts) -> Vec<Route> {
    let is_vpn = |link: &Link| {
        facts.is_vpn(link.index)
            || link.kind.may_be_vpn() && link.controller.is_none() && link.kind != Kind::Bridge
    };
    let mut routes: Vec<Route> = Vec::new();
    let survey = facts.survey.iter().flat_map(|survey| &survey.routes);
    for route in survey.filter(|route| !route.ours && !ranges::is_everywhere(route.to)) {
        let link = route.interface.and_then(|index| facts.link(index));
        if let Some(link) = link.filter(|link| is_vpn(link))
            && !is_of_one_link(route.to)
        {
            routes.push(Route {
                text: format!("the route {} of {}", route.to, link.name),
                net: route.to,
            });
        }
    }
    for link in facts.all_links().iter().filter(|link| is_vpn(link)) {
        for net in &link.networks {
            if !routes.iter().any(|route| route.net == *net) && !is_of_one_link(*net) {
                routes.push(Route {
                    text: format!("the network {net} of {}", link.name),
                    net: *net,
                });
            }
        }
    }
    routes
}

/// Link-local and multicast ranges, which every link has.
fn is_of_one_link(net: Net) -> bool {
    match net.address() {
        std::net::IpAddr::V4(v4) => v4.is_link_local() || v4.is_multicast(),
        std::net::IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_multicast(),
    }
}
