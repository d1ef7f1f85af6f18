//! Overlaps, and ranges that are free.

use super::*;

#[test]
fn a_wide_route_of_the_vpn_over_docker_is_told_with_both_sides_and_a_fix() {
    let facts = with(|facts| routes(facts).push(route("172.16.0.0/12", 3, 254)));
    let found = finding(&facts, addresses::OVERLAP);
    assert_eq!(found.state, State::Broken);
    assert_eq!(
        found.found,
        "the route 172.16.0.0/12 of tun0 and Docker's network bridge (172.17.0.0/16, docker0) overlap"
    );
    assert!(
        found.matters.starts_with("what the VPN has"),
        "{}",
        found.matters
    );
    let Some(Fix::DaemonJson(_, keys)) = found.fix else {
        panic!("no fix");
    };
    let keys: Vec<_> = keys
        .iter()
        .map(|(key, value)| format!("{key} {value}"))
        .collect();
    assert_eq!(
        keys,
        [
            "bip \"10.201.0.1/24\"",
            "default-address-pools [{\"base\":\"10.200.0.0/16\",\"size\":24}]"
        ]
    );
}

#[test]
fn a_narrow_route_of_the_vpn_takes_the_answers_to_containers() {
    let facts = with(|facts| routes(facts).push(route("172.17.5.0/24", 3, 51820)));
    let found = finding(&facts, addresses::OVERLAP);
    assert!(
        found.matters.starts_with("answers to containers"),
        "{}",
        found.matters
    );
}

#[test]
fn the_default_route_meets_no_network() {
    let default = |facts: &mut Facts| {
        for to in ["0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1"] {
            routes(facts).push(route(to, 3, 254));
        }
    };
    assert_eq!(state(addresses::OVERLAP, default), State::Well);
    assert_eq!(state(addresses::POOLS, default), State::Well);
    // What steer has made itself is no conflict.
    let own = |facts: &mut Facts| {
        let route = route("172.16.0.0/12", 3, 7350);
        routes(facts).push(KnownRoute {
            ours: true,
            ..route
        });
    };
    assert_eq!(state(addresses::OVERLAP, own), State::Well);
}

#[test]
fn a_network_of_the_users_is_to_be_made_anew() {
    let facts = with(|facts| {
        routes(facts).push(route("10.77.0.0/16", 3, 254));
        facts.docker.networks.as_mut().unwrap().push(Ranges {
            network: "web".to_owned(),
            interface: Some("br-0123456789ab".to_owned()),
            subnets: vec!["10.77.3.0/24".parse().unwrap()],
        });
    });
    let found = finding(&facts, addresses::OVERLAP);
    assert!(found.mend.unwrap().contains("network web"));
    let Some(Fix::DaemonJson(_, keys)) = found.fix else {
        panic!("no fix");
    };
    // The default bridge is as good as it was.
    assert_eq!(keys.len(), 1);
}

#[test]
fn dockers_file_is_left_alone_where_docker_would_not_start_with_it() {
    let clash = |change: fn(&mut Docker)| {
        let facts = with(|facts| {
            routes(facts).push(route("172.16.0.0/12", 3, 254));
            change(&mut facts.docker);
        });
        let found = finding(&facts, addresses::OVERLAP);
        assert!(found.fix.is_none() && found.state == State::Broken);
        found.mend.unwrap()
    };
    let by_flag = clash(|docker| docker.arguments = vec!["--bip=172.17.0.1/16".to_owned()]);
    assert!(
        by_flag.contains("dockerd was started with --bip"),
        "{by_flag}"
    );
    let bridged = clash(|docker| docker.daemon_text = Ok(Some("{\"bridge\":\"br0\"}".to_owned())));
    assert!(bridged.contains("excludes"), "{bridged}");
    let wrong = clash(|docker| docker.daemon_text = Ok(Some("{,}".to_owned())));
    assert!(wrong.contains("no JSON"), "{wrong}");
}

#[test]
fn pools_that_meet_no_vpn_are_kept() {
    let facts = with(|facts| {
        routes(facts).push(route("10.50.0.0/16", 3, 254));
        let text = "{\"default-address-pools\":[{\"base\":\"10.50.0.0/16\",\"size\":24},{\"base\":\"10.60.0.0/16\",\"size\":24}]}";
        facts.docker.daemon_text = Ok(Some(text.to_owned()));
    });
    let found = finding(&facts, addresses::POOLS);
    assert_eq!(found.state, State::Advice);
    let Some(Fix::DaemonJson(_, keys)) = found.fix else {
        panic!("no fix");
    };
    let bases: Vec<_> = keys[0]
        .1
        .as_array()
        .unwrap()
        .iter()
        .map(|pool| pool["base"].clone())
        .collect();
    assert_eq!(bases, ["10.200.0.0/16", "10.60.0.0/16"]);
}

#[test]
fn where_nothing_is_free_there_is_no_fix() {
    let facts = with(|facts| {
        for to in ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"] {
            routes(facts).push(route(to, 3, 254));
        }
    });
    let found = finding(&facts, addresses::OVERLAP);
    assert!(found.fix.is_none());
    assert!(found.mend.unwrap().contains("route-nopull"));
}
