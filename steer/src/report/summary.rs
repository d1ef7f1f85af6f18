//! What is attached where and what goes where, in lines: as configured, and as found at the start.

use crate::config::{
    BridgeChoice, CgroupChoice, ListSummary, OnDown, OnStop, Scope, Settings, VpnChoice, Way,
};
use crate::host::{Bridge, Cgroup, Host, link};
use crate::origin::Origin;
use crate::route::{Vpn, VpnId};
use crate::rules::{RuleSet, Verdict};
use crate::words::counted;
use std::collections::BTreeMap;

/// More patterns than these are counted rather than listed.
const LISTED: usize = 12;
/// Where the text of a line begins, after the word for what it is about.
pub(super) const COLUMN: usize = 9;

/// What a configuration comes to before any host is looked at, without line ends.
pub fn configured(settings: &Settings) -> Vec<String> {
    let vpns = settings.vpns.iter().enumerate().map(|(place, vpn)| {
        let interface = match &vpn.interface.value {
            VpnChoice::Auto => "auto: the one tun, wireguard or ppp device that is up",
            VpnChoice::Named(name) => name,
        };
        of_vpn(settings, VpnId(place), interface, "when down")
    });
    let mut lines: Vec<_> = vpns.collect();
    lines.extend(settings.cgroups.iter().map(|choice| match &choice.value {
        CgroupChoice::Auto => row("cgroup", "auto: dockerd's and containerd's".to_owned()),
        CgroupChoice::Path(path) => row("cgroup", path.display().to_string()),
    }));
    lines.extend(settings.bridges.iter().map(|choice| match &choice.value {
        BridgeChoice::Auto => row(
            "bridge",
            "auto: docker0 and those of Docker's networks".to_owned(),
        ),
        BridgeChoice::Pattern(pattern) => row("bridge", pattern.clone()),
    }));
    lines.extend(settings.scopes.iter().map(scope));
    lines.extend(rules(settings));
    lines
}

/// The lines that tell the user what a run does, without line ends.
pub fn summary(settings: &Settings, host: &Host) -> Vec<String> {
    let vpns = host.vpns.iter().enumerate();
    let vpns = vpns.map(|(place, found)| match found {
        Some(it) => of_vpn(settings, VpnId(place), &vpn(it), "when down"),
        None => of_vpn(settings, VpnId(place), "awaited", "meanwhile"),
    });
    let mut lines: Vec<_> = vpns.collect();
    lines.extend(host.cgroups.iter().map(|it| row("cgroup", cgroup(it))));
    lines.extend(host.bridges.iter().map(|it| row("bridge", bridge(it))));
    lines.extend(settings.scopes.iter().map(scope));
    lines.extend(rules(settings));
    lines.extend(host.notes.iter().map(|note| row("note", note.clone())));
    lines
}

/// What a scope is about and what holds for it.
fn scope(scope: &Scope) -> String {
    let mut told = vec![format!(
        "{}: {}",
        scope.selector,
        match scope.default {
            Way::Vpn => "via vpn",
            Way::Direct => "direct",
            Way::Block => "blocked",
        }
    )];
    if !scope.dns.is_empty() {
        told.push(format!("dns {}", listed(&scope.dns)));
    }
    if !scope.forward.is_empty() {
        told.push(format!("forwards {}", listed(&scope.forward)));
    }
    told.push(match scope.on_stop {
        OnStop::Keep => "kept when steer stops".to_owned(),
        OnStop::Release => "released when steer stops".to_owned(),
    });
    row("scope", told.join("; "))
}

fn listed<T: ToString>(items: &[T]) -> String {
    let items: Vec<_> = items.iter().map(ToString::to_string).collect();
    items.join(", ")
}

/// What goes where.
fn rules(settings: &Settings) -> Vec<String> {
    let own = Verdict::ALL.into_iter().flat_map(|verdict| {
        let paths = paths(&settings.rules, verdict).into_iter();
        paths.map(move |it| row(way(verdict), it))
    });
    own.chain(settings.lists.iter().flat_map(list))
        .chain([row("direct", "everything else".to_owned())])
        .collect()
}

/// A VPN, by its name where there are several.
fn of_vpn(settings: &Settings, id: VpnId, what: &str, when: &str) -> String {
    let name = settings.vpn_name(id);
    let name = name.map_or_else(String::new, |name| format!("{name} "));
    let is_default = settings.vpns.len() > 1 && id == settings.default_vpn;
    let default = if is_default { "; the default one" } else { "" };
    let down = match settings.vpns[id.0].on_down.value {
        OnDown::Block => "blocked",
        OnDown::Direct => "direct",
    };
    row("vpn", format!("{name}{what}; {when}: {down}{default}"))
}

fn way(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Vpn => "via vpn",
        Verdict::Direct => "direct",
        Verdict::Block => "blocked",
    }
}

fn row(what: &str, text: String) -> String {
    format!("{what:<width$}{text}", width = COLUMN)
}

fn vpn(vpn: &Vpn) -> String {
    let addresses = link::in_a_line(vpn.addresses());
    let state = if vpn.up { "" } else { ", down" };
    format!("{} ({addresses}{state})", vpn.name)
}

fn cgroup(cgroup: &Cgroup) -> String {
    let path = cgroup.path.display();
    let daemons: Vec<_> = cgroup
        .daemons
        .iter()
        .map(|daemon| format!("{} {}", daemon.name, daemon.pid))
        .collect();
    if daemons.is_empty() {
        path.to_string()
    } else {
        format!("{path} ({})", daemons.join(", "))
    }
}

fn bridge(bridge: &Bridge) -> String {
    match &bridge.network {
        Some(network) => format!("{} (Docker's network {network})", bridge.name),
        None => bridge.name.clone(),
    }
}

/// What a list came to, and what is wrong with it.
pub fn list(list: &ListSummary) -> Vec<String> {
    let rules = counted(list.rules, "rule");
    let told = format!("{rules} ({}, {})", list.path.display(), list.format);
    let mut lines = vec![row(way(list.verdict), told)];
    let complaints = list.complaints.iter();
    lines.extend(complaints.map(|why| row("note", format!("passed over: {why}"))));
    let untold = list.skipped - list.complaints.len();
    if untold > 0 {
        let more = counted(untold, "more line");
        let path = list.path.display();
        lines.push(row("note", format!("passed over: {more} of {path}")));
    }
    lines
}

/// A line for each source of rules with that verdict.
fn paths(rules: &RuleSet, verdict: Verdict) -> Vec<String> {
    let mut sources: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (subject, judgement) in rules.own() {
        if judgement.verdict == verdict {
            sources
                .entry(source(&judgement.origin))
                .or_default()
                .push(subject.to_string());
        }
    }
    let line = |(source, patterns): (String, Vec<String>)| {
        let listed = if patterns.len() > LISTED {
            format!(
                "{}, … {} in all",
                patterns[..LISTED].join(", "),
                patterns.len()
            )
        } else {
            patterns.join(", ")
        };
        format!("{listed} ({source})")
    };
    sources.into_iter().map(line).collect()
}

fn source(origin: &Origin) -> String {
    match origin {
        Origin::Added => origin.to_string(),
        Origin::Flag(flag) => (*flag).to_owned(),
        Origin::File { path, .. } => path.display().to_string(),
        Origin::List { name, .. } => name.to_string(),
        Origin::Preset { name, .. } => format!("preset {name}"),
        Origin::Default => "default".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigFile, Overrides};
    use crate::host::cgroup::Daemon;
    use crate::route::IfIndex;
    use crate::rules::list::Format;
    use std::path::Path;

    #[test]
    fn the_start_says_what_is_attached_and_what_goes_where() {
        let text = "[rules]\nvpn = [\".both.example\", \"x.example\", \"203.0.113.0/24\", \"keyword:track\"]\n";
        let file = ConfigFile::parse(Path::new("steer.toml"), text).unwrap();
        let flags = Overrides {
            direct_domains: vec!["*.x.example".to_owned()],
            ..Overrides::default()
        };
        let mut settings = Settings::resolve(file, flags).unwrap();
        settings.lists = vec![
            ListSummary {
                path: "blocked.txt".into(),
                format: Format::Plain,
                verdict: Verdict::Vpn,
                rules: 7,
                skipped: 3,
                complaints: vec!["blocked.txt:3: why".to_owned()],
            },
            ListSummary {
                path: "geosite.dat".into(),
                format: Format::Geosite,
                verdict: Verdict::Direct,
                rules: 1,
                skipped: 0,
                complaints: Vec::new(),
            },
        ];
        let daemon = |name: &str, pid| Daemon {
            name: name.to_owned(),
            pid,
        };
        let host = Host {
            links: Vec::new(),
            vpns: vec![Some(Vpn {
                name: "wg0".to_owned(),
                index: IfIndex(4),
                up: true,
                v4: vec!["10.8.0.2".parse().unwrap()],
                v6: vec!["fd00::2".parse().unwrap()],
            })],
            cgroups: vec![Cgroup {
                path: "/sys/fs/cgroup/system.slice/docker.service".into(),
                id: 7,
                daemons: vec![daemon("dockerd", 812)],
            }],
            bridges: vec![
                Bridge {
                    index: IfIndex(5),
                    name: "docker0".to_owned(),
                    network: Some("bridge".to_owned()),
                },
                Bridge {
                    index: IfIndex(6),
                    name: "br-lan".to_owned(),
                    network: None,
                },
            ],
            netns: None,
            notes: vec!["something to know".to_owned()],
        };
        let expected = "\
vpn      wg0 (10.8.0.2, fd00::2); when down: blocked
cgroup   /sys/fs/cgroup/system.slice/docker.service (dockerd 812)
bridge   docker0 (Docker's network bridge)
bridge   br-lan
via vpn  api.docker.com, auth.docker.com, auth.docker.io, hub.docker.com, index.docker.io, login.docker.com, registry-1.docker.io, registry.hub.docker.com (preset docker-hub)
via vpn  .both.example, x.example, 203.0.113.0/24, keyword:track (steer.toml)
direct   *.x.example (--direct-domain)
direct   .cloudfront.net, production.cloudflare.docker.com, production.cloudfront.docker.com, .r2.cloudflarestorage.com (preset docker-hub)
via vpn  7 rules (blocked.txt, plain)
note     passed over: blocked.txt:3: why
note     passed over: 2 more lines of blocked.txt
direct   1 rule (geosite.dat, geosite)
direct   everything else
note     something to know";
        assert_eq!(summary(&settings, &host).join("\n"), expected);
    }
}
