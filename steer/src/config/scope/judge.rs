//! Scopes as the file has them become scopes that hold.

use super::{At, Forward, NAT_PMP, OnStop, Protocol, Scope, Selector, Way};
use crate::config::file::FileScope;
use crate::config::resolve::cgroup_path;
use crate::config::vpn::Vpns;
use crate::config::{ConfigError, DockerChoice, OnDown};
use crate::origin::{Origin, Sourced};
use crate::pattern::Pattern;
use crate::route::VpnId;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

/// Judges the scopes of a file, each by itself and all together.
pub(in crate::config) fn resolve(
    file: Vec<FileScope>,
    vpns: &Vpns,
    docker: &Sourced<DockerChoice>,
) -> Result<Vec<Scope>, ConfigError> {
    let mut scopes: Vec<Scope> = Vec::new();
    let mut forwarded = Vec::new();
    for file in file {
        let selector = selector(&file)?;
        let vpn = file.vpn.as_ref().map(|name| vpns.named(name)).transpose()?;
        let taken = vpn.unwrap_or(vpns.default);
        let scope = Scope {
            vpn,
            default: file.default.as_ref().map_or(Ok(Way::default()), way)?,
            dns: dns(&file.dns)?,
            forward: forwards(&file.forward, &selector.value, taken, &mut forwarded)?,
            on_stop: file.on_stop.as_ref().map_or(Ok(OnStop::default()), stop)?,
            origin: file.origin,
            selector: selector.value,
        };
        judge(&scope, &selector.origin, vpns, docker)?;
        if let Some(first) = scopes.iter().find(|it| it.selector == scope.selector) {
            return Err(ConfigError::invalid(
                &selector.origin,
                format!(
                    "{} is the scope at {} already; keep one of the two",
                    scope.selector, first.origin
                ),
            ));
        }
        scopes.push(scope);
    }
    Ok(scopes)
}

fn selector(file: &FileScope) -> Result<Sourced<Selector>, ConfigError> {
    let given = [
        ("network", &file.network),
        ("container", &file.container),
        ("label", &file.label),
        ("compose", &file.compose),
        ("cgroup", &file.cgroup),
    ];
    let given: Vec<_> = given
        .into_iter()
        .filter_map(|(key, value)| Some((key, value.as_ref()?)))
        .collect();
    let (key, Sourced { value, origin }) = match given.as_slice() {
        [] => {
            return Err(ConfigError::invalid(
                &file.origin,
                "a scope lacks what it is about; write one of network, container, label, compose and cgroup, such as network = \"web\"",
            ));
        }
        [one] => *one,
        [(first, _), (second, extra), ..] => {
            return Err(ConfigError::invalid(
                &extra.origin,
                format!(
                    "a scope is about one of network, container, label, compose and cgroup; this has {first} and {second}: write a [[scope]] for each"
                ),
            ));
        }
    };
    let refuse = |why| Err(ConfigError::invalid(origin, why));
    let selector = match key {
        "network" | "container" => {
            if value.is_empty() || value.contains(|c: char| c == '/' || is_blank(c)) {
                return refuse(format!(
                    "\"{value}\" cannot be a {key} of Docker's; write its name, or a pattern such as \"web-*\", without spaces and slashes"
                ));
            }
            let pattern = Pattern::new(value);
            match key {
                "network" => Selector::Network(pattern),
                _ => Selector::Container(pattern),
            }
        }
        "label" => {
            let (key, of_key) = match value.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (value.as_str(), None),
            };
            if key.is_empty() || key.contains(is_blank) {
                return refuse(format!(
                    "\"{value}\" cannot be a label; write \"steer.path=vpn\", or the key alone for any value of it, without spaces in the key"
                ));
            }
            Selector::Label {
                key: key.to_owned(),
                value: of_key.map(str::to_owned),
            }
        }
        "cgroup" => Selector::Cgroup(cgroup(value, origin)?),
        _ => {
            let is_known = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '_' | '-');
            if !value.starts_with(|c: char| c.is_ascii_alphanumeric())
                || !value.chars().all(is_known)
            {
                return refuse(format!(
                    "\"{value}\" cannot be a Compose project; names such as \"media\" have lower-case letters, digits, hyphens and underscores, and docker compose ls lists them"
                ));
            }
            Selector::Compose(value.clone())
        }
    };
    Ok(Sourced::new(selector, origin.clone()))
}

fn cgroup(value: &str, origin: &Origin) -> Result<PathBuf, ConfigError> {
    if value.is_empty() || value == "auto" {
        return Err(ConfigError::invalid(
            origin,
            format!(
                "\"{value}\" is no cgroup; write its path, such as cgroup = \"system.slice/app.service\""
            ),
        ));
    }
    cgroup_path(value, origin)
}

fn is_blank(c: char) -> bool {
    c.is_whitespace() || c.is_control()
}

fn way(Sourced { value, origin }: &Sourced<String>) -> Result<Way, ConfigError> {
    let ways = [Way::Vpn, Way::Direct, Way::Block];
    let found = ways.into_iter().find(|way| way.to_string() == *value);
    found.ok_or_else(|| {
        ConfigError::invalid(
            origin,
            format!("scope.default must be \"vpn\", \"direct\" or \"block\"; this is \"{value}\""),
        )
    })
}

fn stop(Sourced { value, origin }: &Sourced<String>) -> Result<OnStop, ConfigError> {
    let stops = [OnStop::Keep, OnStop::Release];
    let found = stops.into_iter().find(|stop| stop.to_string() == *value);
    found.ok_or_else(|| {
        ConfigError::invalid(
            origin,
            format!("scope.on_stop must be \"keep\" or \"release\"; this is \"{value}\""),
        )
    })
}

/// The addresses, each once.
pub(in crate::config) fn dns(values: &[Sourced<String>]) -> Result<Vec<IpAddr>, ConfigError> {
    let mut addresses = Vec::new();
    for Sourced { value, origin } in values {
        let address: IpAddr = value.parse().map_err(|_| {
            ConfigError::invalid(
                origin,
                format!(
                    "\"{value}\" is not the address of a DNS server; write one without a port, such as dns = \"1.1.1.1\""
                ),
            )
        })?;
        let address = address.to_canonical();
        if let Some(what) = unusable(address) {
            return Err(ConfigError::invalid(
                origin,
                format!(
                    "the DNS server {value} cannot be asked through the VPN: it is {what}; name a public one such as dns = \"1.1.1.1\", or one of the VPN's"
                ),
            ));
        }
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// Why no VPN leads to an address, if none can.
fn unusable(address: IpAddr) -> Option<&'static str> {
    let is_link_local = |it: Ipv6Addr| it.segments()[0] & 0xffc0 == 0xfe80;
    match address {
        _ if address.is_loopback() => {
            Some("on the loopback device, which every host has for itself")
        }
        _ if address.is_multicast() => Some("a multicast address"),
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some("an address of no host"),
        IpAddr::V4(v4) if v4.octets()[0] >= 240 => Some("an address of no host"),
        IpAddr::V4(v4) if v4.is_link_local() => Some("an address of the local link"),
        IpAddr::V6(v6) if v6.is_unspecified() => Some("an address of no host"),
        IpAddr::V6(v6) if is_link_local(v6) => Some("an address of the local link"),
        _ => None,
    }
}

fn forwards(
    values: &[Sourced<String>],
    selector: &Selector,
    vpn: VpnId,
    before: &mut Vec<(VpnId, Sourced<Forward>)>,
) -> Result<Vec<Forward>, ConfigError> {
    let mut forwards = Vec::new();
    for Sourced { value, origin } in values {
        if !selector.is_of_containers() {
            return Err(ConfigError::invalid(
                origin,
                format!(
                    "\"{value}\" cannot be forwarded to the scope of {selector}: its processes are on the host and listen at the VPN's address themselves; leave forward out"
                ),
            ));
        }
        let forward = forward(value).map_err(|why| {
            ConfigError::invalid(
                origin,
                format!(
                    "\"{value}\" cannot be forwarded: {why}; write \"4666/tcp -> torrent:4666\""
                ),
            )
        })?;
        let same = |(by, it): &&(VpnId, Sourced<Forward>)| {
            let (own, other) = (&forward, &it.value);
            let is_one_port = (vpn, own.protocol, own.at) == (*by, other.protocol, other.at);
            // Each has a port of its own that is assigned.
            is_one_port && (forward.at != At::NatPmp || it.value == forward)
        };
        if let Some((_, first)) = before.iter().find(same) {
            return Err(ConfigError::invalid(
                origin,
                format!(
                    "{}/{} is to go to {}:{} here and to {}:{} at {}; keep one of the two",
                    forward.at,
                    forward.protocol,
                    forward.container,
                    forward.to,
                    first.value.container,
                    first.value.to,
                    first.origin
                ),
            ));
        }
        before.push((vpn, Sourced::new(forward.clone(), origin.clone())));
        forwards.push(forward);
    }
    Ok(forwards)
}

fn forward(text: &str) -> Result<Forward, &'static str> {
    let (from, to) = text.split_once("->").ok_or("it lacks the arrow")?;
    let (port, protocol) = from
        .split_once('/')
        .ok_or("the port before the arrow lacks its protocol, /tcp or /udp")?;
    let protocol = match protocol.trim() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return Err("the protocol must be tcp or udp"),
    };
    let at = match port.trim() {
        NAT_PMP => At::NatPmp,
        port => At::Port(port_of(port)?),
    };
    let (container, to) = match (to.split_once(':'), at) {
        (Some((container, to)), _) => (container, port_of(to)?),
        (None, At::Port(port)) => (to, port),
        (None, At::NatPmp) => {
            return Err("after the container goes its port, for the other one is assigned");
        }
    };
    let container = container.trim();
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if container.is_empty() || !container.chars().all(is_name) {
        return Err("after the arrow goes the name of one container");
    }
    Ok(Forward {
        protocol,
        at,
        container: container.to_owned(),
        to,
    })
}

fn port_of(text: &str) -> Result<u16, &'static str> {
    let port = text.trim().parse().ok();
    port.filter(|&port| port != 0)
        .ok_or("a port is from 1 to 65535")
}

/// What no scope can be, or not together with other keys.
fn judge(
    scope: &Scope,
    selector: &Origin,
    vpns: &Vpns,
    docker: &Sourced<DockerChoice>,
) -> Result<(), ConfigError> {
    let refuse = |origin, why: String| Err(ConfigError::invalid(origin, why));
    if docker.value == DockerChoice::Off && scope.selector.is_of_containers() {
        return refuse(
            selector,
            format!(
                "Docker alone knows what is in the scope of {}, and is not to be asked: attach.docker is \"off\" ({}); write \"auto\" there, or leave the scope out",
                scope.selector, docker.origin
            ),
        );
    }
    if scope.default != Way::Vpn {
        return Ok(());
    }
    if scope.dns.is_empty() {
        return refuse(
            selector,
            format!(
                "the scope of {} lacks dns, and its questions would leave by the direct path; write whom they go to through the VPN, such as dns = \"1.1.1.1\"",
                scope.selector
            ),
        );
    }
    // Of any VPN, for rules may send there what the scope isolates.
    let mut on_down = vpns.all.iter().map(|vpn| &vpn.on_down);
    if let Some(open) = on_down.find(|it| it.value == OnDown::Direct) {
        return refuse(
            &open.origin,
            format!(
                "vpn.on_down is \"direct\", which would let out what the scope of {} ({}) isolates whenever the VPN is down; write \"block\" here, or default = \"direct\" there",
                scope.selector, scope.origin
            ),
        );
    }
    Ok(())
}
