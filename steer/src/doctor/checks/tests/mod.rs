//! Hand-made hosts: one where all is well, and what a change of it comes to.

mod overlap;
mod scoped;
mod tunnel;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::Path,
};

use super::*;
use crate::{
    config::{ConfigFile, Overrides, Settings},
    doctor::{
        facts::{Docker, Echo, Names, Sysctls, System},
        finding::State,
        fix::Fix,
    },
    host::{Cgroup, Gauge, Kind, Link, docker::Ranges},
    route::{
        Family, Hop, IfIndex, Interface, KnownRoute, KnownRule, Priority, Route, Survey, TableId,
        Taken, Target,
    },
};

fn link(index: u32, name: &str, kind: Kind, address: &str) -> Link {
    let (host, _) = address.split_once('/').unwrap();
    let host: IpAddr = host.parse().unwrap();
    Link {
        index: IfIndex(index),
        name: name.to_owned(),
        kind,
        up: true,
        controller: None,
        v4: match host {
            IpAddr::V4(v4) => vec![v4],
            IpAddr::V6(_) => vec![],
        },
        v6: vec![],
        networks: vec![crate::doctor::daemon_json::around(address).unwrap()],
    }
}

fn route(to: &str, index: u32, table: u32) -> KnownRoute {
    KnownRoute {
        table: TableId(table),
        to: to.parse().unwrap(),
        interface: Some(IfIndex(index)),
        gateway: None,
        ours: false,
        text: format!("{to} dev {index}"),
    }
}

fn rule(priority: u32, text: &str) -> KnownRule {
    KnownRule {
        family: Family::V4,
        priority: Priority(priority),
        table: TableId(100),
        mark: None,
        inverted: false,
        ours: false,
        text: text.to_owned(),
    }
}

fn configured(text: &str) -> Settings {
    let file = ConfigFile::parse(Path::new("steer.toml"), text).unwrap();
    Settings::resolve(file, Overrides::default()).unwrap()
}

/// A network card, OpenVPN, Docker with its default network.
fn well() -> Facts {
    let gauge = |mtu| Gauge {
        mtu,
        received: 100,
        sent: 100,
    };
    let card = Kind::Other(String::new());
    let bridge = Ranges {
        network: "bridge".to_owned(),
        interface: Some("docker0".to_owned()),
        subnets: vec!["172.17.0.0/16".parse().unwrap()],
    };
    Facts {
        configuration: Ok(None),
        settings: configured(""),
        system: System {
            kernel: Ok("6.1".to_owned()),
            btf: Ok(()),
            bpf_fs: Ok(()),
            cgroup2: Ok(()),
            privileges: Ok(()),
        },
        cgroups: Ok(vec![Cgroup {
            path: "/sys/fs/cgroup/system.slice/docker.service".into(),
            id: 7,
            daemons: vec![],
        }]),
        cgroup_notes: vec![],
        cgroups_awaited: vec![],
        scoped_daemons: vec![],
        links: Ok(vec![
            link(2, "eth0", card, "192.0.2.2/24"),
            link(3, "tun0", Kind::Tun, "10.8.0.2/24"),
            link(4, "docker0", Kind::Bridge, "172.17.0.1/16"),
        ]),
        gauges: BTreeMap::from([2, 3, 4].map(|index| (IfIndex(index), gauge(1500)))),
        survey: Ok(Survey {
            rules: vec![],
            routes: vec![
                route("0.0.0.0/0", 2, 254),
                route("192.0.2.0/24", 2, 254),
                route("10.8.0.0/24", 3, 254),
                route("172.17.0.0/16", 4, 254),
            ],
            nft: None,
        }),
        taken: Ok(Taken::default()),
        echoes: BTreeMap::from([(IfIndex(3), Ok(Echo::Answered("10.8.0.1".parse().unwrap())))]),
        resolvers: BTreeMap::new(),
        gateways: BTreeMap::new(),
        sysctls: Sysctls {
            ip_forward: Ok(true),
            rp_filter: BTreeMap::from([("all".to_owned(), 0), ("tun0".to_owned(), 1)]),
            writable: true,
        },
        docker: Docker {
            socket: Some("/run/docker.sock".into()),
            inventory: Err("there are no scopes".to_owned()),
            networks: Ok(vec![bridge]),
            runs: true,
            arguments: vec![],
            daemon_json: "/etc/docker/daemon.json".into(),
            daemon_text: Ok(None),
        },
        names: Names {
            resolv_conf: Ok("nameserver 127.0.0.53\noptions edns0\n".to_owned()),
            nsswitch: "hosts: files dns\n".to_owned(),
            resolved: true,
            resolved_conf: String::new(),
            nscd: false,
        },
        processes: BTreeSet::from(["dockerd".to_owned()]),
        filters: Ok(String::new()),
    }
}

fn with(change: impl FnOnce(&mut Facts)) -> Facts {
    let mut facts = well();
    change(&mut facts);
    facts
}

fn finding(facts: &Facts, check: Check) -> Finding {
    let mut findings = examine(facts).into_iter();
    findings.find(|finding| finding.id == check.id).unwrap()
}

fn state(check: Check, change: impl FnOnce(&mut Facts)) -> State {
    finding(&with(change), check).state
}

fn routes(facts: &mut Facts) -> &mut Vec<KnownRoute> {
    &mut facts.survey.as_mut().unwrap().routes
}

#[test]
fn where_all_is_well_nothing_is_found() {
    for finding in examine(&well()) {
        assert_eq!(finding.state, State::Well, "{finding:?}");
        assert!(finding.fix.is_none() && !finding.found.is_empty());
    }
}

#[test]
fn ids_are_kept_apart_and_findings_complete() {
    let ids: BTreeSet<_> = all().map(|check| check.id).collect();
    assert_eq!(ids.len(), all().count());
    let broken = with(|facts| {
        facts.links = Ok(vec![]);
        facts.sysctls.ip_forward = Ok(false);
        facts.configuration = Err("steer.toml:1: wrong".to_owned());
        facts.system.kernel = Err("too old".to_owned());
        facts.cgroups = Ok(vec![]);
        facts.names.nscd = true;
    });
    for finding in examine(&broken) {
        assert!(
            finding
                .id
                .chars()
                .all(|c| c.is_ascii_lowercase() || c == '-' || c.is_ascii_digit())
        );
        let told = finding.state >= State::Advice;
        assert_eq!(told, !finding.matters.is_empty(), "{finding:?}");
        assert!(!told || finding.mend.is_some(), "{finding:?}");
    }
}

#[test]
fn what_cannot_be_looked_at_is_no_fault_of_the_hosts() {
    let blind = with(|facts| {
        let why = || "not permitted".to_owned();
        facts.links = Err(why());
        facts.survey = Err(why());
        facts.filters = Err(why());
        facts.taken = Err(why());
        facts.sysctls.ip_forward = Err(why());
        facts.docker.networks = Err(why());
        facts.docker.daemon_text = Err(why());
        facts.docker.socket = None;
        facts.names.resolv_conf = Err(why());
        facts.system.privileges = Err(why());
    });
    for finding in examine(&blind) {
        assert!(finding.state < State::Broken, "{finding:?}");
    }
}

#[test]
fn only_answers_that_do_not_come_by_dns_are_hidden() {
    // A stub on loopback that asks over TLS answers by DNS all the same.
    let encrypted =
        with(|facts| facts.names.resolved_conf = "[Resolve]\nDNSOverTLS=yes\n".to_owned());
    assert!(
        examine(&encrypted)
            .iter()
            .all(|finding| finding.state == State::Well)
    );
    let socket = |facts: &mut Facts| {
        facts.names.nsswitch = "hosts: files mdns4_minimal resolve [!UNAVAIL=return] dns".to_owned()
    };
    assert_eq!(state(names::HIDDEN, socket), State::Advice);
    let last = |facts: &mut Facts| facts.names.nsswitch = "hosts: files dns resolve".to_owned();
    assert_eq!(state(names::HIDDEN, last), State::Well);
    let steered = "[attach]\ncgroups = [\"auto\", \"system.slice/systemd-resolved.service\"]";
    let steered_too = |facts: &mut Facts| {
        socket(facts);
        facts.settings = configured(steered);
    };
    assert_eq!(state(names::HIDDEN, steered_too), State::Well);
    assert_eq!(
        state(names::HIDDEN, |facts| {
            steered_too(facts);
            facts.names.resolved_conf = "DNSOverTLS=no\nDNSOverTLS=opportunistic".to_owned();
        }),
        State::Advice
    );
    assert_eq!(
        state(names::CACHE, |facts| facts.names.nscd = true),
        State::Advice
    );
    let secret = with(|facts| {
        facts.processes.insert("dnscrypt-proxy".to_owned());
    });
    let told = finding(&secret, names::SERVERS);
    assert_eq!(told.state, State::Well);
    assert!(told.found.contains("dnscrypt-proxy"));
}

#[test]
fn numbers_of_others_are_told_as_a_start_tells_them() {
    let marked = with(|facts| {
        facts.survey.as_mut().unwrap().rules.push(KnownRule {
            mark: Some((0x1000, 0xff00)),
            ..rule(100, "100: from all fwmark 0x1000/0xff00 lookup 100")
        });
    });
    let found = finding(&marked, numbers::MARK);
    assert!(
        found.found.starts_with("the mark 0x1000/0x3000 is in use"),
        "{}",
        found.found
    );
    assert!(found.mend.unwrap().starts_with("mark = 0x1000000 "));
    let other = |facts: &mut Facts| {
        facts.survey.as_mut().unwrap().rules.push(KnownRule {
            mark: Some((0x80000, 0xff0000)),
            ..rule(5210, "5210: from all fwmark 0x80000/0xff0000 lookup main")
        });
    };
    assert_eq!(state(numbers::MARK, other), State::Well);

    let taken = with(|facts| {
        let survey = facts.survey.as_mut().unwrap();
        survey.rules.push(rule(7350, "7350: from all lookup 100"));
        survey.routes.push(route("192.0.2.0/24", 2, 7351));
    });
    let found = finding(&taken, numbers::PRIORITY);
    assert_eq!(found.state, State::Broken);
    assert_eq!(
        found.mend.unwrap(),
        "priority = 7400    # in [routing] of /etc/steer/steer.toml\ntable = 7352    # in [routing] of /etc/steer/steer.toml"
    );
}

#[test]
fn rules_that_take_very_much_are_told() {
    let by = |text: &str| with(|facts| facts.settings = configured(&format!("[rules]\n{text}")));
    assert_eq!(
        finding(&by("vpn = [\".com\"]"), rules::BROAD).state,
        State::Advice
    );
    assert_eq!(
        finding(&by("vpn = [\"11.0.0.0/8\"]"), rules::BROAD).state,
        State::Advice
    );
    assert_eq!(
        finding(&by("vpn = [\"11.0.0.0/9\", \"com\"]"), rules::BROAD).state,
        State::Well
    );
    assert_eq!(
        finding(&by("direct = [\".com\"]"), rules::BROAD).state,
        State::Well
    );
    let layers = finding(&by("presets = []\nvpn = [\".docker.com\"]"), rules::LAYERS);
    assert!(
        layers.found.contains("production.cloudfront.docker.com"),
        "{}",
        layers.found
    );
    // The preset's own rule about it is the narrower one.
    assert_eq!(
        finding(&by("vpn = [\".docker.com\"]"), rules::LAYERS).state,
        State::Well
    );
}

#[test]
fn who_may_not_see_processes_is_told_so() {
    let unprivileged = with(|facts| {
        facts.cgroups = Ok(vec![]);
        facts.system.privileges = Err("not root".to_owned());
    });
    assert_eq!(finding(&unprivileged, docker::CGROUP).state, State::Unknown);
    let lacks = finding(&unprivileged, system::CAPABILITIES);
    assert_eq!(lacks.state, State::Advice);
}

#[test]
fn a_host_without_docker_is_told_what_a_start_tells() {
    let none = with(|facts| {
        facts.cgroups = Ok(vec![]);
        facts.docker.runs = false;
        facts.docker.socket = None;
        facts.docker.networks = Err("none".to_owned());
        facts.links.as_mut().unwrap().pop();
    });
    assert_eq!(finding(&none, docker::CGROUP).state, State::Broken);
    assert_eq!(finding(&none, docker::SOCKET).state, State::Unknown);
    assert_eq!(finding(&none, docker::IP_FORWARD).state, State::Well);
}

#[test]
fn other_software_is_known_by_processes_and_interfaces() {
    let clash = with(|facts| {
        facts.processes.insert("mihomo".to_owned());
    });
    assert_eq!(finding(&clash, others::STEERING).state, State::Advice);
    let firewalld = with(|facts| {
        facts.processes.insert("firewalld".to_owned());
    });
    let found = finding(&firewalld, others::STEERING);
    assert_eq!(found.state, State::Well);
    assert!(found.found.starts_with("firewalld"));
}

/// The table of `docs/doctor.md` has a row for each check, in their order, and says of each whether `--fix` mends it.
#[test]
fn every_check_is_documented() {
    let text = include_str!("../../../../../docs/doctor.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    let rows: Vec<_> = rows
        .filter_map(|row| {
            let (id, rest) = row.split_once('`')?;
            let fixed = rest.trim_end_matches('|').rsplit('|').next()?.trim() == "yes";
            Some((id, fixed))
        })
        .collect();
    let checks: Vec<_> = all().map(|check| (check.id, check.fixes)).collect();
    assert_eq!(rows, checks);
}
