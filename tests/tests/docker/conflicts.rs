//! A VPN that pushes 172.16.0.0/12 over Docker's networks: `steer doctor` moves these out of its way, and back.

use std::{
    fs, io,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::Value;
use steer_tests::{
    lab::{DockerVersion, Families, IMAGE, Lab, Network, Ns},
    pace::patience,
};

use crate::pull::takes_two_paths;

const ID: &str = "address-overlap";
/// What the VPN has at an address of docker0's.
const BEHIND_VPN: &str = "172.17.0.99";

fn doctor(lab: &Lab, args: &[&str]) -> Result<Value> {
    let (state, file) = (lab.dir().join("doctor"), lab.daemon_json());
    let paths = [&state, &file].map(|path| path.to_str().context("not UTF-8"));
    let [state, file] = paths;
    let mut all = vec!["--state-dir", state?, "--daemon-json", file?];
    all.extend(args);
    let ran = lab.steer_doctor("mount -t bpf bpf /sys/fs/bpf", &all)?;
    serde_json::from_str(&ran.stdout).with_context(|| format!("no JSON: {}", ran.said()))
}

fn finding(said: &Value) -> Result<(&str, String)> {
    let mut findings = said["findings"].as_array().into_iter().flatten();
    let finding = findings.find(|finding| finding["id"] == ID);
    let finding = finding.with_context(|| format!("doctor has no check {ID}"))?;
    let state = finding["state"].as_str().unwrap_or_default();
    Ok((state, format!("{} {}", finding["found"], finding["mend"])))
}

/// Whether the VPN's host is reached: nothing listens there, so it refuses.
fn reaches_behind_vpn(lab: &Lab) -> Result<bool> {
    let host = SocketAddr::new(BEHIND_VPN.parse()?, 9);
    let limit = patience(Duration::from_secs(1));
    let tried = lab.within(Ns::Box, move || TcpStream::connect_timeout(&host, limit))?;
    Ok(tried.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused))
}

fn subnet(lab: &Lab, network: Network) -> Result<String> {
    let format = "{{range .IPAM.Config}}{{.Subnet}}\n{{end}}";
    let inspect = ["network", "inspect", network.name(), "--format", format];
    let subnets = lab.docker(&inspect)?.stdout()?;
    let v4 = subnets.lines().find(|subnet| subnet.contains('.'));
    Ok(v4.context("it has no IPv4")?.to_owned())
}

#[test]
fn docker_of_this_machine_moves_out_of_the_way_of_a_vpn_and_back() -> Result<()> {
    moves_and_comes_back(DockerVersion::Installed)
}

#[test]
fn docker_of_sid_moves_out_of_the_way_of_a_vpn_and_back() -> Result<()> {
    moves_and_comes_back(DockerVersion::Sid)
}

fn moves_and_comes_back(version: DockerVersion) -> Result<()> {
    let mut lab = Lab::builder().docker(version).up()?;
    lab.load_image()?;
    let before = "{ \"debug\":false }";
    fs::write(lab.daemon_json(), before)?;
    assert_eq!(finding(&doctor(&lab, &[])?)?.0, "well");

    // What OpenVPN does with a pushed "route 172.16.0.0 255.240.0.0".
    let dev = lab.tunnel_interface();
    lab.shell(Ns::Vpn, &format!("ip addr add {BEHIND_VPN}/32 dev lo"))?;
    lab.shell(
        Ns::Box,
        &format!("ip route add 172.16.0.0/12 via 10.8.0.1 dev {dev}"),
    )?;
    assert!(!reaches_behind_vpn(&lab)?);
    let said = doctor(&lab, &[])?;
    let (state, text) = finding(&said)?;
    assert_eq!(state, "broken", "{said}");
    for part in [
        "172.16.0.0/12 of",
        "172.17.0.0/16, docker0",
        "network lab (172.18.0.0/16",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }

    let (state, text) = finding(&doctor(&lab, &["--fix"])?).map(|(s, t)| (s.to_owned(), t))?;
    assert_eq!(state, "broken", "dockerd has not been restarted");
    assert!(text.contains("from dockerd's next start"), "{text}");
    lab.docker(&["network", "rm", Network::UserDefined.name()])?
        .stdout()?;
    lab.restart_docker()?;
    let said = doctor(&lab, &[])?;
    assert_eq!(finding(&said)?.0, "well", "{said}");
    assert_eq!(said["broken"], 0, "{said}");
    for network in [Network::DefaultBridge, Network::UserDefined] {
        let subnet = subnet(&lab, network)?;
        assert!(
            subnet.starts_with("10.20") && subnet.ends_with("/24"),
            "{subnet}"
        );
    }
    assert!(reaches_behind_vpn(&lab)?);
    lab.load_image()?;
    let get = ["curl", "-sSm5", "-o", "/dev/null", "http://direct.example/"];
    for network in [Network::DefaultBridge, Network::UserDefined] {
        lab.container(network, &get)?.stdout()?;
    }
    let steer = lab.steer("", &["--no-resolve"])?;
    takes_two_paths(&lab, Families::Both, || steer.output())?;
    steer.terminate()?;

    doctor(&lab, &["--undo"])?;
    assert_eq!(fs::read_to_string(lab.daemon_json())?, before);
    lab.shell(Ns::Box, "ip route del 172.16.0.0/12")?;
    lab.docker(&["network", "rm", Network::UserDefined.name()])?
        .stdout()?;
    lab.restart_docker()?;
    // Where its file says nothing, dockerd keeps the addresses that docker0 had last.
    assert_eq!(subnet(&lab, Network::DefaultBridge)?, "10.201.0.0/24");
    lab.docker(&["network", "rm", Network::UserDefined.name()])?
        .stdout()?;
    fs::write(lab.daemon_json(), "{ \"bip\": \"172.17.0.1/16\" }")?;
    lab.restart_docker()?;
    assert_eq!(subnet(&lab, Network::DefaultBridge)?, "172.17.0.0/16");
    assert_eq!(finding(&doctor(&lab, &[])?)?.0, "well");
    lab.docker(&["image", "inspect", IMAGE])?.stdout()?;
    Ok(())
}
