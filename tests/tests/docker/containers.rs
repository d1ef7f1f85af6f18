//! Containers' own requests: on the default bridge, on a network with embedded DNS, with a name
//! server of their own; whatever resolver the host has, and on a network that appears later.

use std::{thread, time::Duration};

use anyhow::Result;
use steer_tests::lab::{
    DockerVersion, Lab, Network, ResolverPlace,
    plan::{Path, RESOLVER_V4},
};

fn ask_for_both_kinds_of_name(version: DockerVersion, resolver: ResolverPlace) -> Result<()> {
    let lab = Lab::builder().docker(version).resolver(resolver).up()?;
    lab.load_image()?;
    let steer = lab.steer("", &["--no-resolve", "--vpn-domain", ".blocked.example"])?;
    let dns = RESOLVER_V4.to_string();
    let user_defined = Network::UserDefined.name();
    let places: [&[&str]; 3] = [
        &["--network", Network::DefaultBridge.name()],
        &["--network", user_defined],
        &["--network", user_defined, "--dns", &dns],
    ];
    for place in places {
        for family in ["v4", "v6"] {
            for (zone, right) in [("blocked", Path::Vpn), ("direct", Path::Direct)] {
                let name = format!("{family}.{zone}.example");
                let before = lab.seen()?.len();
                let url = format!("https://{name}/");
                let ran = lab.container_with(place, &["curl", "-sSm5", &url])?;
                let output = steer.output();
                assert!(
                    ran.ok(),
                    "{place:?} {name}: {}\nsteer said:\n{output}",
                    ran.said()
                );
                let seen = lab.seen()?.split_off(before);
                assert_eq!(seen.len(), 1, "{place:?} {name}: {seen:#?}");
                assert_eq!(seen[0].path, right, "{place:?} {name}: {seen:#?}");
            }
        }
    }
    assert_eq!(
        lab.blocked_by_isp()?,
        0,
        "packets for blocked sites reached the provider"
    );
    steer.terminate().map(drop)
}

#[test]
fn docker_of_this_machine() -> Result<()> {
    ask_for_both_kinds_of_name(DockerVersion::Installed, ResolverPlace::Internet)
}

#[test]
fn docker_of_this_machine_with_a_resolver_on_loopback() -> Result<()> {
    ask_for_both_kinds_of_name(DockerVersion::Installed, ResolverPlace::Loopback)
}

#[test]
fn docker_of_sid() -> Result<()> {
    ask_for_both_kinds_of_name(DockerVersion::Sid, ResolverPlace::Internet)
}

#[test]
fn docker_of_sid_with_a_resolver_on_loopback() -> Result<()> {
    ask_for_both_kinds_of_name(DockerVersion::Sid, ResolverPlace::Loopback)
}

#[test]
fn a_network_made_while_steer_runs_is_steered() -> Result<()> {
    let lab = Lab::builder().docker(DockerVersion::Installed).up()?;
    lab.load_image()?;
    let steer = lab.steer("", &["--no-resolve", "--vpn-domain", ".blocked.example"])?;
    lab.docker(&["network", "create", "later"])?.stdout()?;
    thread::sleep(Duration::from_secs(1));
    let before = lab.seen()?.len();
    for (name, path) in [
        ("v4.blocked.example", Path::Vpn),
        ("v4.direct.example", Path::Direct),
    ] {
        let url = format!("https://{name}/");
        let ran = lab.container_with(&["--network", "later"], &["curl", "-sSm5", &url])?;
        assert!(
            ran.ok(),
            "{name}: {}\nsteer said:\n{}",
            ran.said(),
            steer.output()
        );
        let seen = lab.seen()?;
        assert!(
            seen[before..].last().is_some_and(|seen| seen.path == path),
            "{seen:#?}"
        );
    }
    lab.docker(&["network", "rm", "later"])?.stdout()?;
    steer.terminate().map(drop)
}
