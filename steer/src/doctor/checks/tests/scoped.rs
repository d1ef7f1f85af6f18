use super::*;
use crate::{
    doctor::facts::{Assigner, Looked, Resolver},
    host::{
        cgroup::Daemon,
        docker::NetworkOf,
        inventory::{Inventory, Network, tests::container},
    },
    natpmp::Refusal,
    route::VpnId,
};

const UNDER: &str = "[[scope]]\nnetwork = \"under\"\ndns = \"1.1.1.1\"\n";

fn network(name: &str, bridge: &str) -> Network {
    Network {
        name: name.to_owned(),
        id: format!("id of {name}"),
        driver: "bridge".to_owned(),
        bridge: Some(bridge.to_owned()),
        internal: false,
        subnets: vec![],
    }
}

/// Networks bridge and under, with a container each.
fn scoped(text: &str, change: impl FnOnce(&mut Inventory)) -> Facts {
    with(|facts| {
        facts.settings = configured(text);
        let under = link(5, "br-under", Kind::Bridge, "172.19.0.1/16");
        facts.links.as_mut().unwrap().push(under);
        let mut inventory = Inventory {
            networks: vec![network("bridge", "docker0"), network("under", "br-under")],
            containers: vec![
                container("torrent", "under", "172.19.0.2"),
                container("web", "bridge", "172.17.0.2"),
            ],
        };
        change(&mut inventory);
        facts.docker.inventory = Ok(inventory);
    })
}

fn found(text: &str, change: impl FnOnce(&mut Inventory)) -> (State, String) {
    let finding = finding(&scoped(text, change), scopes::SCOPES);
    let told = finding.state >= State::Advice;
    assert!(!told || finding.mend.is_some_and(|mend| !mend.is_empty()));
    (finding.state, finding.found)
}

#[test]
fn what_a_scope_selects_and_leads_to_is_looked_at() {
    let none = |_: &mut Inventory| {};
    assert_eq!(
        found(UNDER, none),
        (State::Well, "1 scope with 1 container now".to_owned())
    );

    let (state, said) = found(&UNDER.replace("under", "uder"), none);
    assert_eq!(state, State::Advice);
    assert!(said.contains("did you mean \"under\"?"), "{said}");

    let forwards = |forward: &str| format!("{UNDER}forward = [\"{forward}\"]\n");
    assert_eq!(found(&forwards("80/tcp -> torrent"), none).0, State::Well);
    let (state, said) = found(&forwards("80/tcp -> web"), none);
    assert_eq!(state, State::Broken);
    assert!(said.contains("80/tcp -> web:80 leads nowhere"), "{said}");
    let (state, said) = found(&forwards("80/tcp -> torrent"), |inventory| {
        inventory.containers[0].running = false;
        inventory.containers[0].endpoints.clear();
    });
    assert_eq!(state, State::Advice);
    assert!(said.contains("\"torrent\" does not run"), "{said}");

    let (state, said) = found(UNDER, |inventory| inventory.networks[1].internal = true);
    assert_eq!(state, State::Broken);
    assert!(said.contains("the network under is internal"), "{said}");

    let label = "[[scope]]\ncontainer = \"web\"\ndns = \"1.1.1.1\"\n";
    let (state, said) = found(label, |inventory| {
        inventory.containers[1].network = NetworkOf::Host;
        inventory.containers[1].endpoints.clear();
    });
    assert_eq!(state, State::Advice);
    assert!(said.contains("uses the host's network"), "{said}");
}

#[test]
fn a_scope_of_processes_takes_no_docker_but_their_questions_must_be_dns() {
    const SCOPE: &str = "[[scope]]\ncgroup = \"app.slice\"\ndns = \"1.1.1.1\"\n";
    let mut facts = scoped(SCOPE, |_| {});
    facts.docker.inventory = Err("no answer within 2 s".to_owned());
    let found = finding(&facts, scopes::SCOPES);
    let well = (State::Well, "1 scope, of processes".to_owned());
    assert_eq!((found.state, found.found), well);
    facts.cgroups_awaited = vec!["there is no cgroup app.slice".to_owned()];
    assert_eq!(finding(&facts, scopes::SCOPES).state, State::Advice);

    facts.names.nsswitch = "hosts: files resolve [!UNAVAIL=return] dns".to_owned();
    facts.names.resolved = true;
    let found = finding(&facts, names::HIDDEN);
    assert_eq!(found.state, State::Broken);
    assert!(
        found.found.contains("leaves by the direct path"),
        "{found:?}"
    );
}

#[test]
fn without_docker_nobody_knows_who_is_in_a_scope() {
    let silent = |runs| {
        let mut facts = scoped(UNDER, |_| {});
        facts.docker.inventory = Err("no answer within 2 s".to_owned());
        facts.docker.runs = runs;
        finding(&facts, scopes::SCOPES).state
    };
    assert_eq!(silent(true), State::Broken);
    assert_eq!(silent(false), State::Unknown);
}

#[test]
fn a_start_with_scopes_waits_for_docker() {
    let of = |text: &str| {
        state(docker::CGROUP, |facts| {
            facts.settings = configured(text);
            facts.cgroups = Ok(vec![]);
            facts.docker.networks = Err("none".to_owned());
            facts.links.as_mut().unwrap().pop();
        })
    };
    assert_eq!(of(""), State::Broken);
    assert_eq!(of(UNDER), State::Advice);
}

#[test]
fn a_scopes_name_server_must_answer_through_the_vpn() {
    let server = "1.1.1.1".parse().unwrap();
    let of = |said, strict: u8| {
        let mut facts = scoped(UNDER, |_| {});
        facts.sysctls.rp_filter = BTreeMap::from([("tun0".to_owned(), strict)]);
        facts.resolvers = BTreeMap::from([((VpnId(0), server), said)]);
        let finding = finding(&facts, scopes::RESOLVERS);
        assert!(finding.state < State::Advice || finding.mend.is_some());
        finding.state
    };
    assert_eq!(of(Ok(Resolver::Answers), 1), State::Well);
    assert_eq!(of(Ok(Resolver::Silent), 2), State::Broken);
    assert_eq!(of(Ok(Resolver::Silent), 1), State::Unknown);
    assert_eq!(of(Err("no route".to_owned()), 0), State::Unknown);
}

#[test]
fn who_works_for_others_is_not_to_be_in_a_scope() {
    let of = |keys: &str, name: &str| {
        let text = format!("[[scope]]\ncgroup = \"app.slice\"\n{keys}");
        let mut facts = scoped(&text, |_| {});
        let daemon = Daemon {
            name: name.to_owned(),
            pid: 7,
        };
        facts.scoped_daemons = vec![(0, daemon)];
        let finding = finding(&facts, scopes::SCOPES);
        assert!(finding.state == State::Well || finding.mend.is_some());
        (finding.state, finding.found)
    };
    for name in ["dockerd", "containerd", "steer", "openvpn"] {
        let (state, found) = of("dns = \"1.1.1.1\"\n", name);
        assert_eq!(state, State::Broken);
        assert!(
            found.contains(&format!("{name} (process 7) is in its cgroup")),
            "{found}"
        );
    }
    let (state, _) = of("default = \"direct\"\n", "dockerd");
    assert_eq!(state, State::Well);
}

#[test]
fn a_gateway_that_is_to_assign_ports_must_answer() {
    let forward = format!("{UNDER}forward = [\"nat-pmp/tcp -> torrent:80\"]\n");
    let of = |text: &str, said: Looked<Assigner>, strict: u8| {
        let mut facts = scoped(text, |_| {});
        facts.sysctls.rp_filter = BTreeMap::from([("tun0".to_owned(), strict)]);
        let said = said.map(|said| ("10.8.0.1".parse().unwrap(), said));
        facts.gateways = BTreeMap::from([(VpnId(0), said)]);
        let finding = finding(&facts, scopes::GATEWAYS);
        assert!(finding.state < State::Advice || finding.mend.is_some());
        finding.state
    };
    assert_eq!(of(UNDER, Ok(Assigner::Silent), 0), State::Well, "not asked");
    assert_eq!(of(&forward, Ok(Assigner::Answers), 1), State::Well);
    assert_eq!(of(&forward, Ok(Assigner::Silent), 2), State::Broken);
    assert_eq!(of(&forward, Ok(Assigner::Silent), 1), State::Unknown);
    let refuses = Assigner::Refuses(Refusal::NotAuthorized);
    assert_eq!(of(&forward, Ok(refuses), 0), State::Broken);
    assert_eq!(of(&forward, Err("no route".to_owned()), 0), State::Unknown);
}
