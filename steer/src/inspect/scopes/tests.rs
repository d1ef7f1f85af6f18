use std::path::Path;

use steer_common::{
    decide::{Match, Tables},
    packet::{Packet, Place, TCP},
    process, scope,
    stats::{Action, Outcome},
    types::{FlowEntry, FlowKey, Origin, Path as FlowPath, Port},
};

use super::*;
use crate::{
    config::{ConfigFile, Overrides, Settings},
    host::inventory::{Network, tests::container},
};

/// Somebody's address, and what the rules say of it.
struct Told {
    is_home: bool,
    verdict: Verdict,
}

impl Tables for Told {
    fn held(&self, _: &FlowKey, _: Place) -> Option<FlowEntry> {
        None
    }
    fn left(&self, _: &FlowKey) -> bool {
        false
    }
    fn address(&self, _: &Address, _: FlowPath) -> Match {
        Match {
            verdict: self.verdict,
            rule: 1,
        }
    }
    fn scope(&self, _: Origin, _: &Address) -> ScopeEntry {
        ScopeEntry::NONE
    }
    fn has_scopes(&self) -> bool {
        true
    }
    fn is_home(&self, _: &Address) -> bool {
        self.is_home
    }
    fn hold(&self, _: &FlowKey, _: FlowPath) -> bool {
        true
    }
    fn leave(&self, _: &FlowKey) {}
    fn release(&self, _: &FlowKey) {}
    fn tell(&self, _: &FlowKey, _: &Match, _: FlowPath, _: u32) {}
    fn refuse(&self, _: &FlowKey, _: &Match, _: u32) {}
}

#[test]
fn a_scope_is_judged_as_the_programs_do() {
    let addresses = ["203.0.113.7", "169.254.1.1", "127.0.0.1", "ff02::1"];
    let addresses = addresses.map(|it| Address::from(it.parse::<IpAddr>().unwrap()));
    for default in [ScopeEntry::UNKNOWN, ScopeEntry::VPN, ScopeEntry::BLOCK] {
        for verdict in [Verdict::NONE, Verdict::VPN, Verdict::DIRECT, Verdict::BLOCK] {
            for (remote, is_home) in addresses
                .into_iter()
                .flat_map(|it| [(it, false), (it, true)])
            {
                let entry = ScopeEntry {
                    default,
                    path: FlowPath::vpn(1),
                    ..ScopeEntry::default()
                };
                let packet = Packet {
                    place: Place::First,
                    destination_port: Port::new(443),
                    ..Packet::new(Address::v4([172, 19, 0, 2]), remote, TCP)
                };
                let key = FlowKey::of(5, &packet);
                let done = scope::outgoing(&Told { is_home, verdict }, &entry, &key, &packet);
                let action = match judge(&entry, &remote, is_home, verdict) {
                    Judged::Waits => {
                        assert_eq!(done.outcome, Outcome::ScopeUnknown);
                        Action::Drop
                    }
                    Judged::Nowhere => Action::Drop,
                    Judged::Vpn => Action::Steer,
                    Judged::Rule if verdict == Verdict::VPN => Action::Steer,
                    Judged::Rule if verdict == Verdict::BLOCK => Action::Drop,
                    Judged::Rule | Judged::Stays | Judged::Free => Action::Pass,
                };
                assert_eq!(
                    done.outcome.action(),
                    action,
                    "{default} {verdict:?} {remote:?} {is_home}"
                );
            }
        }
    }
    let free = ScopeEntry::NONE;
    assert_eq!(
        judge(&free, &addresses[0], false, Verdict::NONE),
        Judged::Free
    );
}

#[test]
fn a_process_is_judged_as_the_programs_do() {
    let vpn = FlowPath::vpn(1);
    for remote in [
        "203.0.113.7",
        "169.254.169.254",
        "224.0.0.251",
        "255.255.255.255",
        "fe80::1",
        "ff02::fb",
    ] {
        let remote = Address::from(remote.parse::<IpAddr>().unwrap());
        for default in [ScopeEntry::VPN, ScopeEntry::BLOCK] {
            for (verdict, is_home) in [
                Verdict::NONE,
                Verdict::by(vpn),
                Verdict::DIRECT,
                Verdict::BLOCK,
            ]
            .into_iter()
            .flat_map(|it| [(it, false), (it, true)])
            {
                let entry = ScopeEntry {
                    default,
                    path: vpn,
                    ..ScopeEntry::default()
                };
                let packet = Packet {
                    place: Place::First,
                    destination_port: Port::new(443),
                    ..Packet::new(Address::v4([192, 0, 2, 2]), remote, TCP)
                };
                let told = Told { is_home, verdict };
                let done = process::leaves(&told, &entry, 7, &packet, FlowPath::DIRECT).ok();
                let judged = match judge_process(&entry, &remote, is_home, verdict) {
                    Judged::Nowhere => None,
                    Judged::Vpn => Some(vpn),
                    Judged::Rule if verdict == Verdict::BLOCK => None,
                    Judged::Rule if verdict.is_vpn() => Some(vpn),
                    Judged::Rule | Judged::Stays => Some(FlowPath::DIRECT),
                    other => panic!("{remote:?}: {other:?}"),
                };
                assert_eq!(judged, done, "{default} {verdict:?} {remote:?} {is_home}");
            }
        }
    }
    let entry = ScopeEntry {
        default: ScopeEntry::VPN,
        ..ScopeEntry::default()
    };
    let loopback = Address::v4([127, 0, 0, 1]);
    let judged = judge_process(&entry, &loopback, false, Verdict::NONE);
    assert_eq!(judged, Judged::Stays, "what it sends there leaves no host");
}

const UNDER: IfIndex = IfIndex(6);
const WEB: IfIndex = IfIndex(5);

fn settings(text: &str) -> Settings {
    let file = ConfigFile::parse(Path::new("steer.toml"), text).unwrap();
    Settings::resolve(file, Overrides::default()).unwrap()
}

fn network(name: &str) -> Network {
    Network {
        name: name.to_owned(),
        id: format!("id of {name}"),
        driver: "bridge".to_owned(),
        bridge: Some(format!("br-{name}")),
        internal: false,
        subnets: Vec::new(),
    }
}

fn bridges() -> Vec<Bridge> {
    let bridge = |index, name: &str| Bridge {
        index,
        name: format!("br-{name}"),
        network: Some(name.to_owned()),
    };
    vec![bridge(WEB, "web"), bridge(UNDER, "under")]
}

fn docker() -> Inventory {
    Inventory {
        networks: vec![network("under"), network("web")],
        containers: vec![
            container("torrent", "under", "172.19.0.2"),
            container("web", "web", "172.18.0.2"),
        ],
    }
}

fn key(bridge: IfIndex, address: Option<&str>) -> ScopeKey {
    ScopeKey {
        address: address.map_or_else(Address::default, |it| it.parse::<IpAddr>().unwrap().into()),
        ..ScopeKey::of_bridge(bridge.0)
    }
}

fn told(default: u32, scope: u32) -> ScopeEntry {
    ScopeEntry {
        default,
        scope,
        ..ScopeEntry::default()
    }
}

const WHOLE: &str = "[[scope]]\nnetwork = \"under\"\ndns = \"1.1.1.1\"\nforward = [\"80/tcp -> torrent\", \"81/tcp -> web\"]\n";

#[test]
fn of_a_killed_run_counts_what_its_programs_know() {
    let scopes = settings(WHOLE).scopes;
    let left = |entries: &[(ScopeKey, ScopeEntry)]| {
        let told = entries.iter().copied().collect();
        left(&scopes, Some(&docker()), &bridges(), &told)
    };
    let free = (key(WEB, None), told(ScopeEntry::FREE, 0));
    let known = left(&[free, (key(UNDER, None), told(ScopeEntry::VPN, 1))]);
    let members = &known.assignment.as_ref().unwrap().members[0];
    assert!(members.containers.contains("torrent") && members.networks.contains("under"));
    assert!(known.waiting.is_empty());

    // A network that came since waits, and its container is in no scope yet.
    let unknown = (key(UNDER, None), ScopeEntry::default());
    let on_link = (key(WEB, Some("fe80::1")), ScopeEntry::default());
    let waits = left(&[free, unknown, on_link]);
    assert_eq!(waits.waiting, [(key(UNDER, None), None)]);
    let members = &waits.assignment.as_ref().unwrap().members[0];
    assert!(members.containers.is_empty() && members.networks.is_empty());
}

#[test]
fn of_a_killed_run_containers_count_one_by_one() {
    let scopes = settings("[[scope]]\ncontainer = \"torrent\"\ndns = \"1.1.1.1\"\n").scopes;
    let left = |entries: &[(ScopeKey, ScopeEntry)]| {
        let each = told(ScopeEntry::EACH, 0);
        let all = [(key(UNDER, None), each), (key(WEB, None), each)];
        let told = all.iter().chain(entries).copied().collect();
        let left = left(&scopes, Some(&docker()), &bridges(), &told);
        left.assignment.unwrap().members[0].containers.len()
    };
    let torrent = key(UNDER, Some("172.19.0.2"));
    assert_eq!(left(&[(torrent, told(ScopeEntry::VPN, 1))]), 1);
    assert_eq!(
        left(&[(torrent, told(ScopeEntry::FREE, 0))]),
        0,
        "by another configuration"
    );
    assert_eq!(left(&[]), 0, "it has started since");
}

#[test]
fn of_a_killed_run_no_port_is_said_to_be_awaited() {
    let keys = "forward = [\"nat-pmp/tcp -> torrent:80\"]\n";
    let text = format!("[[scope]]\nnetwork = \"under\"\ndns = \"1.1.1.1\"\n{keys}");
    let scopes = settings(&text).scopes;
    let left = left(&scopes, Some(&docker()), &bridges(), &Scopes::new());
    let [assigned] = &left.assigned[..] else {
        panic!("{:?}", left.assigned);
    };
    assert_eq!(assigned.port, None);
    let why = assigned.trouble.as_deref().unwrap();
    assert!(why.contains("nobody renews"), "{why}");
}

#[test]
fn a_bridge_or_an_address_on_it_tells_the_scope() {
    let map: Scopes = [
        (key(WEB, None), told(ScopeEntry::EACH, 0)),
        (key(WEB, Some("172.18.0.2")), told(ScopeEntry::BLOCK, 2)),
        (key(UNDER, None), told(ScopeEntry::VPN, 1)),
    ]
    .into();
    let of = |bridge, address: &str| {
        let found = crate::scope::entry(
            |key| map.get(key).copied(),
            bridge,
            address.parse().unwrap(),
        );
        (found.default, scope_id(&found))
    };
    assert_eq!(of(UNDER, "10.0.0.1"), (ScopeEntry::VPN, Some(ScopeId(0))));
    assert_eq!(of(WEB, "172.18.0.2"), (ScopeEntry::BLOCK, Some(ScopeId(1))));
    assert_eq!(of(WEB, "172.18.0.3"), (ScopeEntry::UNKNOWN, None));
    assert_eq!(of(IfIndex(9), "10.0.0.1"), (ScopeEntry::UNKNOWN, None));
}
