//! A real `docker pull`: the registry and its token service by the VPN, every byte of the layers
//! direct, with no configuration at all.

use anyhow::Result;
use steer_tests::lab::{
    DockerVersion, FILLING, Families, HostSnapshot, IMAGE, Lab, Tunnel, plan::Path,
};

fn pulls_on_two_paths(version: DockerVersion, families: Families, tunnel: Tunnel) -> Result<()> {
    let lab = Lab::builder()
        .docker(version)
        .families(families)
        .tunnel(tunnel)
        .up()?;
    let refused = lab.pull(IMAGE)?;
    assert!(
        !refused.ok(),
        "without steer the pull is not refused: {}",
        refused.said()
    );
    let refusals = lab.seen()?.len();
    assert!(
        refusals > 0,
        "the refusal was not the registry's: {}",
        refused.said()
    );

    let before = HostSnapshot::take(&lab)?;
    let steer = lab.steer("", &[])?;
    let tunnel = lab.tunnel_bytes()?.down;
    let pulled = lab.pull(IMAGE)?;
    let output = steer.output();
    assert!(pulled.ok(), "{}\nsteer said:\n{output}", pulled.said());

    let seen = lab.seen()?.split_off(refusals);
    for seen in &seen {
        let right = if seen.layer { Path::Direct } else { Path::Vpn };
        assert_eq!(seen.path, right, "{seen:?}\nsteer said:\n{output}");
        let v6 = seen.client.is_ipv6();
        assert!(
            families == Families::Both || v6 == (families == Families::V6),
            "{seen:?}"
        );
    }
    for host in ["registry-1.docker.io", "auth.docker.io"] {
        assert!(
            seen.iter().any(|seen| seen.host == host),
            "{host} saw nothing: {seen:#?}"
        );
    }
    let layers: u64 = seen
        .iter()
        .filter(|seen| seen.layer)
        .map(|seen| seen.bytes)
        .sum();
    assert!(layers > FILLING, "the layer host sent {layers} bytes only");
    let tunnel = lab.tunnel_bytes()?.down - tunnel;
    assert!(
        tunnel < 50_000,
        "{tunnel} bytes came down the tunnel for some pages of JSON"
    );

    steer.terminate()?;
    assert_eq!(
        before.diff(&HostSnapshot::take(&lab)?),
        "",
        "what steer left"
    );
    Ok(())
}

#[test]
fn docker_of_this_machine_over_ipv4() -> Result<()> {
    pulls_on_two_paths(DockerVersion::Installed, Families::V4, Tunnel::OpenVpn)
}

#[test]
fn docker_of_this_machine_over_ipv6() -> Result<()> {
    pulls_on_two_paths(DockerVersion::Installed, Families::V6, Tunnel::OpenVpn)
}

#[test]
fn docker_of_sid_through_wireguard() -> Result<()> {
    pulls_on_two_paths(DockerVersion::Sid, Families::Both, Tunnel::WireGuardGo)
}

#[test]
fn docker_of_sid_over_ipv6() -> Result<()> {
    pulls_on_two_paths(DockerVersion::Sid, Families::V6, Tunnel::OpenVpn)
}
