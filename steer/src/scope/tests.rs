use super::*;
use crate::config::{ConfigFile, Overrides, Settings};
use crate::host::inventory::Endpoint;
use proptest::prelude::*;
use std::collections::HashMap;
use std::path::Path;

/// Scopes by their keys, each on a line of its own from 2 on.
fn scopes(written: &[&str]) -> Vec<Scope> {
    let lines = written
        .iter()
        .map(|keys| format!("{{ {keys}, dns = \"1.1.1.1\" }},\n"));
    let text = format!("scope = [\n{}]\n", lines.collect::<String>());
    let file = ConfigFile::parse(Path::new("steer.toml"), &text).unwrap();
    Settings::resolve(file, Overrides::default())
        .unwrap()
        .scopes
}

fn network(name: &str) -> Network {
    let id = format!(
        "{:0<12}",
        format!("{:x}", name.bytes().map(u64::from).sum::<u64>())
    );
    Network {
        name: name.to_owned(),
        driver: "bridge".to_owned(),
        bridge: Some(format!("br-{id}")),
        id,
        internal: false,
        subnets: Vec::new(),
    }
}

fn container(name: &str, labels: &[&str], on: &[(&str, &[&str])]) -> Container {
    let labels = labels.iter().map(|label| label.split_once('=').unwrap());
    let endpoints = on.iter().map(|(name, addresses)| Endpoint {
        network: network(name).id,
        addresses: addresses.iter().map(|it| it.parse().unwrap()).collect(),
    });
    Container {
        id: format!("id of {name}"),
        name: name.to_owned(),
        labels: labels
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
        running: true,
        network: NetworkOf::Own,
        endpoints: endpoints.collect(),
    }
}

fn sharing(name: &str, labels: &[&str], whose: &str) -> Container {
    Container {
        network: NetworkOf::Container(format!("id of {whose}")),
        ..container(name, labels, &[])
    }
}

/// Networks web, under and lan, and containers on them.
fn host() -> Inventory {
    let mut lan = network("lan");
    lan.driver = "macvlan".to_owned();
    lan.bridge = None;
    Inventory {
        networks: vec![lan, network("under"), network("web")],
        containers: vec![
            container(
                "app",
                &[
                    "com.docker.compose.project=media",
                    "com.docker.compose.service=front",
                ],
                &[("web", &["172.18.0.2", "fd00:d1::2"])],
            ),
            container(
                "torrent",
                &["steer.path=vpn"],
                &[("under", &["172.19.0.2", "fd00:d2::2"])],
            ),
            sharing("sidecar", &[], "torrent"),
        ],
    }
}

const WEB: IfIndex = IfIndex(5);
const UNDER: IfIndex = IfIndex(6);
const STRANGE: IfIndex = IfIndex(7);

fn bridges() -> Vec<(IfIndex, String)> {
    vec![
        (WEB, network("web").bridge.unwrap()),
        (UNDER, network("under").bridge.unwrap()),
        (STRANGE, "virbr0".to_owned()),
    ]
}

fn assigned(written: &[&str]) -> Assignment {
    assign(&scopes(written), &host(), &bridges())
}

fn notes(written: &[&str], change: impl FnOnce(&mut Inventory)) -> Vec<String> {
    let mut host = host();
    change(&mut host);
    assign(&scopes(written), &host, &bridges()).notes
}

/// The scopes of what is at these addresses, `None` for those of which nobody knows.
fn at(assignment: &Assignment, places: &[(IfIndex, &str)]) -> Vec<Option<Option<usize>>> {
    let found = places.iter().map(|(bridge, address)| {
        let key = (*bridge, address.parse().unwrap());
        let scope = assignment.addresses.get(&key)?;
        Some(scope.map(|id| id.0))
    });
    found.collect()
}

fn names<'a>(names: impl IntoIterator<Item = &'a String>) -> Vec<&'a str> {
    names.into_iter().map(String::as_str).collect()
}

#[test]
fn scopes_by_network_alone_are_told_by_the_bridge() {
    let assignment = assigned(&["network = \"und*\"", "network = \"*der\""]);
    assert_eq!(
        assignment.bridges,
        BTreeMap::from([
            (WEB, BridgeScope::Known(None)),
            (UNDER, BridgeScope::Known(Some(ScopeId(0)))),
            (STRANGE, BridgeScope::Known(None)),
        ])
    );
    assert!(assignment.addresses.is_empty());
    let [under, later] = &assignment.members[..] else {
        panic!()
    };
    assert_eq!(names(&under.networks), ["under"]);
    assert_eq!(names(&under.containers), ["sidecar", "torrent"]);
    assert_eq!(later, &Members::default());
    assert_eq!(assignment.notes, [""; 0]);
}

#[test]
fn a_bridge_of_which_docker_has_not_told_is_left_open() {
    let mut bridges = bridges();
    bridges.extend([
        (IfIndex(8), "br-aaaaaaaaaaaa".to_owned()),
        (IfIndex(9), "docker0".to_owned()),
    ]);
    for (written, are_open) in [("network = \"web\"", true), ("compose = \"media\"", true)] {
        let known = assign(&scopes(&[written]), &host(), &bridges).bridges;
        let open = [8, 9].map(|index| !known.contains_key(&IfIndex(index)));
        assert_eq!(open, [are_open; 2], "{written}");
        assert_eq!(known[&STRANGE], BridgeScope::Known(None));
    }
    // Without a scope nothing waits to be told.
    assert_eq!(assign(&[], &host(), &bridges).bridges.len(), 5);
}

#[test]
fn with_a_scope_by_what_containers_are_each_address_is_told() {
    let assignment = assigned(&["label = \"steer.path=vpn\"", "network = \"web\""]);
    assert_eq!(assignment.bridges[&WEB], BridgeScope::Each);
    assert_eq!(assignment.bridges[&STRANGE], BridgeScope::Known(None));
    let all = [
        (WEB, "172.18.0.2"),
        (WEB, "fd00:d1::2"),
        (UNDER, "172.19.0.2"),
        (UNDER, "fd00:d2::2"),
        (UNDER, "172.19.0.3"),
        (WEB, "172.19.0.2"),
    ];
    assert_eq!(
        at(&assignment, &all),
        [
            Some(Some(1)),
            Some(Some(1)),
            Some(Some(0)),
            Some(Some(0)),
            None,
            None
        ]
    );
    assert_eq!(assignment.addresses.len(), 4);
    let nobody = assigned(&["container = \"app\""]);
    assert_eq!(at(&nobody, &all[2..3]), [Some(None)]);
}

#[test]
fn the_narrower_selector_wins_and_then_the_first() {
    let app = [
        "network = \"web\"",
        "compose = \"media\"",
        "label = \"com.docker.compose.service\"",
        "label = \"com.docker.compose.service=front\"",
        "container = \"a*\"",
        "container = \"app\"",
    ];
    for (left_out, winner) in [(0, 4), (2, 2), (4, 1), (5, 0)] {
        let kept: Vec<_> = app[..6 - left_out].to_vec();
        let assignment = assigned(&[&kept[..], &["container = \"none\""]].concat());
        let scope = at(&assignment, &[(WEB, "172.18.0.2")]);
        assert_eq!(scope, [Some(Some(winner))], "{kept:?}");
    }
}

#[test]
fn a_container_on_several_networks_is_in_its_scope_on_all_of_them() {
    let mut host = host();
    let both: [(&str, &[&str]); 2] = [("web", &["172.18.0.9"]), ("under", &["172.19.0.9"])];
    host.containers.push(container("both", &["a=b"], &both));
    let places = [(WEB, "172.18.0.9"), (UNDER, "172.19.0.9")];
    let by_label = assign(&scopes(&["label = \"a\""]), &host, &bridges());
    assert_eq!(at(&by_label, &places), [Some(Some(0)); 2]);
    let written = ["network = \"under\"", "container = \"torrent\""];
    let by_network = assign(&scopes(&written), &host, &bridges());
    assert_eq!(at(&by_network, &places), [Some(None), Some(Some(0))]);
    assert_eq!(
        by_network.notes,
        [
            "steer.toml:2: the container \"both\" is on the network web as well, so what it sends there goes past the scope; take it off that network, or select it by container = \"both\""
        ]
    );
}

#[test]
fn what_is_selected_but_is_not_there_is_told_with_what_is() {
    let told = notes(
        &[
            "network = \"undre\"",
            "network = \"x*\"",
            "container = \"torent\"",
            "container = \"y*\"",
            "label = \"steer.path=vpm\"",
            "label = \"steer.paht\"",
            "compose = \"meda\"",
            "compose = \"others\"",
        ],
        |_| {},
    );
    assert_eq!(
        told,
        [
            "steer.toml:2: no network of Docker's is named \"undre\"; did you mean \"under\"?",
            "steer.toml:3: no network of Docker's matches \"x*\" yet; the networks are lan, under, web",
            "steer.toml:4: no container is named \"torent\"; did you mean \"torrent\"?",
            "steer.toml:5: no container matches \"y*\" yet",
            "steer.toml:6: no container has the label \"steer.path=vpm\"; did you mean \"steer.path=vpn\"?",
            "steer.toml:7: no container has the label \"steer.paht\"; did you mean \"steer.path\"?",
            "steer.toml:8: no container is of the Compose project \"meda\"; did you mean \"media\"?",
            "steer.toml:9: no container is of the Compose project \"others\" yet",
        ]
    );
}

#[test]
fn who_uses_the_network_of_another_is_where_that_one_is() {
    let told = |written: &[&str]| notes(written, |_| {});
    assert_eq!(
        told(&["container = \"sidecar\""]),
        [
            "steer.toml:2: the container \"sidecar\" uses the network of \"torrent\", which is not in the scope, so neither is it; select \"torrent\""
        ]
    );
    assert_eq!(told(&["container = \"*\""]), [""; 0]);
    let assignment = assigned(&["container = \"torrent\""]);
    assert_eq!(
        names(&assignment.members[0].containers),
        ["sidecar", "torrent"]
    );
    let host = "steer.toml:2: the container \"sidecar\" uses the host's network, so it is not in the scope; give it a network of Docker's";
    let on_host = |inventory: &mut Inventory| inventory.containers[2].network = NetworkOf::Host;
    assert_eq!(notes(&["container = \"sidecar\""], on_host), [host]);
    let by_another = |inventory: &mut Inventory| inventory.containers[1].network = NetworkOf::Host;
    assert_eq!(notes(&["container = \"sidecar\""], by_another), [host]);
    let stopped = |inventory: &mut Inventory| inventory.containers[2].running = false;
    assert_eq!(notes(&["container = \"sidecar\""], stopped), [""; 0]);
    let alone = |inventory: &mut Inventory| drop(inventory.containers.remove(1));
    assert_eq!(notes(&["container = \"sidecar\""], alone), [""; 0]);
}

#[test]
fn what_goes_past_a_scope_is_told() {
    let on_lan = |inventory: &mut Inventory| {
        let on: [(&str, &[&str]); 1] = [("lan", &["192.168.1.9"])];
        inventory.containers.push(container("far", &[], &on));
    };
    let told = "steer.toml:2: the container \"far\" is on the network lan of the driver macvlan, where nothing is steered, so what it sends there goes past the scope";
    assert_eq!(notes(&["network = \"lan\""], on_lan), [told]);
    assert_eq!(notes(&["container = \"far\""], on_lan), [told]);
    assert_eq!(
        notes(&["container = \"far\", default = \"direct\""], on_lan),
        [""; 0]
    );
    let bridges = &bridges()[..1];
    let bridge = network("under").bridge.unwrap();
    assert_eq!(
        assign(&scopes(&["network = \"under\""]), &host(), bridges).notes[0],
        format!(
            "steer.toml:2: the container \"torrent\" is on the network under, whose bridge {bridge} is not steered, so what it sends there goes past the scope; add it to attach.bridges"
        )
    );
}

#[test]
fn ports_lead_to_containers_in_the_scope() {
    let target = |container: &str, network: &str, change: fn(&mut Inventory)| {
        let mut host = host();
        change(&mut host);
        let keys = format!("network = \"{network}\", forward = [\"1/tcp -> {container}:2\"]");
        let mut forwards = assign(&scopes(&[&keys]), &host, &bridges()).forwards;
        let forward = forwards.remove(0);
        assert_eq!((forward.scope, forward.forward.to), (ScopeId(0), 2));
        forward.target.map_err(|why| why.to_string())
    };
    let torrent = |container: &str| Target {
        container: container.to_owned(),
        bridge: UNDER,
        v4: "172.19.0.2".parse().ok(),
        v6: "fd00:d2::2".parse().ok(),
    };
    assert_eq!(target("torrent", "under", |_| {}), Ok(torrent("torrent")));
    assert_eq!(target("sidecar", "under", |_| {}), Ok(torrent("sidecar")));
    assert_eq!(
        target("front", "web", |_| {}).map(|it| it.container),
        Ok("app".to_owned())
    );
    let said = |container, network, change| target(container, network, change).unwrap_err();
    assert_eq!(
        said("torent", "under", |_| {}),
        "there is no container and no Compose service \"torent\"; did you mean \"torrent\"?"
    );
    let elsewhere = "\"torrent\" is on no steered network in the scope; put it there, or forward the port in the scope that it is in";
    assert_eq!(said("torrent", "web", |_| {}), elsewhere);
    let stopped = |inventory: &mut Inventory| {
        inventory.containers[1].running = false;
        inventory.containers[1].endpoints[0].addresses.clear();
    };
    assert_eq!(
        said("torrent", "under", stopped),
        "\"torrent\" does not run"
    );
    let two = |inventory: &mut Inventory| {
        let on: [(&str, &[&str]); 1] = [("web", &["172.18.0.3"])];
        let label = "com.docker.compose.service=front";
        let once = [label, "com.docker.compose.oneoff=True"];
        inventory.containers.extend([
            container("app-2", &[label], &on),
            container("run", &once, &on),
        ]);
    };
    assert_eq!(
        said("front", "web", two),
        "the Compose service \"front\" has several containers, app, app-2; name one of them"
    );
}

#[test]
fn a_port_leads_by_the_network_that_answers_leave_by() {
    let mut host = host();
    let both: [(&str, &[&str]); 2] = [("under", &["172.19.0.9"]), ("web", &["172.18.0.9"])];
    host.containers.push(container("both", &[], &both));
    let scopes = scopes(&["container = \"both\", forward = [\"1/udp -> both\"]"]);
    let bridge = |host: &Inventory| {
        let mut forwards = assign(&scopes, host, &bridges()).forwards;
        forwards.remove(0).target.map(|target| target.bridge)
    };
    assert_eq!(bridge(&host), Ok(UNDER));
    host.networks[1].internal = true;
    assert_eq!(bridge(&host), Ok(WEB));
}

#[test]
fn of_two_with_one_address_the_scope_holds() {
    let mut host = host();
    let same: [(&str, &[&str]); 1] = [("web", &["172.18.0.2"])];
    host.containers.insert(0, container("aaa", &[], &same));
    host.containers.push(container("zzz", &["a=b"], &same));
    for written in ["label = \"a\"", "container = \"app\""] {
        let assignment = assign(&scopes(&[written]), &host, &bridges());
        assert_eq!(at(&assignment, &[(WEB, "172.18.0.2")]), [Some(Some(0))]);
    }
}

/// Networks a to d, the last without a bridge, and containers on any of them, no address twice.
fn inventories() -> impl Strategy<Value = Inventory> {
    let labels = prop::collection::hash_map("[kl]", "[vw]", 0..3);
    let one = (
        labels,
        prop::option::of("[pq]"),
        prop::collection::vec((0..4_usize, 0..3_usize), 0..4),
        any::<bool>(),
        prop::option::weighted(0.2, 0..6_usize),
    );
    prop::collection::vec(one, 0..6).prop_map(|made| {
        let mut networks: Vec<_> = ["a", "b", "c", "d"].map(network).into();
        networks[3].bridge = None;
        let mut address = 0x0a00_0000_u32;
        let mut containers = Vec::new();
        for (place, (labels, project, on, running, shares)) in made.into_iter().enumerate() {
            let name = format!("{}{place}", if place % 2 == 0 { "x" } else { "y" });
            let mut made = container(&name, &[], &[]);
            made.labels = labels;
            made.running = running;
            if let Some(project) = project {
                made.labels.insert(select::PROJECT.to_owned(), project);
            }
            if let Some(whose) = shares {
                let whose = format!("{}{whose}", if whose % 2 == 0 { "x" } else { "y" });
                made.network = NetworkOf::Container(format!("id of {whose}"));
            } else {
                let on: HashMap<_, _> = on.into_iter().collect();
                made.endpoints
                    .extend(on.into_iter().map(|(network, count)| {
                        let addresses = (0..count).map(|_| {
                            address += 1;
                            IpAddr::V4(address.into())
                        });
                        Endpoint {
                            network: networks[network].id.clone(),
                            addresses: addresses.collect(),
                        }
                    }));
            }
            containers.push(made);
        }
        Inventory {
            networks,
            containers,
        }
    })
}

/// What the documentation says of precedence, the long way.
fn expected(scopes: &[Scope], container: &Container, network: &Network) -> Option<ScopeId> {
    let mut found = None;
    // The strongest last, and of each kind the first last.
    for kind in ["network", "compose", "label", "container"] {
        for (place, scope) in scopes.iter().enumerate().rev() {
            let matches = match &scope.selector {
                Selector::Network(pattern) => pattern.matches(&network.name),
                Selector::Container(pattern) => pattern.matches(&container.name),
                Selector::Label { key, value } => match container.labels.get(key) {
                    Some(has) => value.is_none() || value.as_ref() == Some(has),
                    None => false,
                },
                Selector::Cgroup(_) => false,
                Selector::Compose(project) => {
                    container.labels.get("com.docker.compose.project") == Some(project)
                }
            };
            if scope.selector.key() == kind && matches {
                found = Some(ScopeId(place));
            }
        }
    }
    found
}

const WRITTEN: [&str; 11] = [
    "network = \"a\"",
    "network = \"?\"",
    "network = \"d\"",
    "container = \"x*\"",
    "container = \"y1\"",
    "container = \"x0\", forward = [\"1/tcp -> x0\"]",
    "label = \"k\"",
    "label = \"k=v\"",
    "label = \"l=w\", default = \"direct\"",
    "compose = \"p\", forward = [\"1/udp -> y1\"]",
    "compose = \"q\"",
];

proptest! {
    #[test]
    fn every_address_has_its_one_scope(
        inventory in inventories(),
        order in Just(WRITTEN.to_vec()).prop_shuffle(),
        count in 0..WRITTEN.len(),
        steered in prop::collection::vec(any::<bool>(), 4),
    ) {
        let scopes = scopes(&order[..count]);
        let all: Vec<_> = inventory.networks.iter().zip(1..).filter_map(|(network, index)| {
            Some((IfIndex(index), network.bridge.clone()?))
        }).collect();
        let mut bridges: Vec<_> = all.iter().zip(steered).filter(|(_, is)| *is).map(|(it, _)| it.clone()).collect();
        bridges.push((IfIndex(9), "br-aaaaaaaaaaaa".to_owned()));
        bridges.push((IfIndex(10), "virbr0".to_owned()));
        let assignment = assign(&scopes, &inventory, &bridges);

        let is_each = scopes.iter().any(|it| ["container", "label", "compose"].contains(&it.selector.key()));
        let is_any = !scopes.is_empty();
        prop_assert_eq!(assignment.bridges.contains_key(&IfIndex(9)), !is_any);
        prop_assert_eq!(assignment.bridges[&IfIndex(10)], BridgeScope::Known(None));
        let mut left = assignment.addresses.clone();
        for (index, bridge) in &bridges[..bridges.len() - 2] {
            let network = inventory.on_bridge(bridge).unwrap();
            let nobody = container("\u{1f}", &[], &[]);
            let known = BridgeScope::Known(expected(&scopes, &nobody, network));
            prop_assert_eq!(assignment.bridges[index], if is_each { BridgeScope::Each } else { known });
            for container in &inventory.containers {
                let on = container.endpoints.iter().filter(|it| it.network == network.id);
                for &address in on.flat_map(|it| &it.addresses) {
                    let scope = expected(&scopes, container, network);
                    if is_each {
                        prop_assert_eq!(left.remove(&(*index, address)), Some(scope));
                    }
                    if let Some(ScopeId(place)) = scope {
                        prop_assert!(assignment.members[place].containers.contains(&container.name));
                    }
                }
            }
        }
        prop_assert!(left.is_empty(), "{:?}", left);

        prop_assert_eq!(assignment.members.len(), scopes.len());
        let forwards: Vec<_> = scopes.iter().flat_map(|it| &it.forward).collect();
        prop_assert_eq!(assignment.forwards.iter().map(|it| &it.forward).collect::<Vec<_>>(), forwards);
        for forward in &assignment.forwards {
            let Ok(target) = &forward.target else { continue };
            prop_assert!(assignment.members[forward.scope.0].containers.contains(&target.container));
            let bridge = assignment.bridges[&target.bridge];
            let at = target.v4.map(|v4| assignment.addresses[&(target.bridge, v4.into())]);
            prop_assert!(bridge == BridgeScope::Each && at == Some(Some(forward.scope)));
        }
        for note in &assignment.notes {
            prop_assert!(note.starts_with("steer.toml:"), "{}", note);
        }
    }
}
