//! A real `docker pull`: the registry and its token service by the VPN, every byte of the layers
//! direct, with no configuration at all.

use anyhow::Result;
use steer_tests::lab::{
    DockerVersion, FILLING, Families, HostSnapshot, IMAGE, Lab, Tunnel, plan::Path,
};

/// What may come down the tunnel for some pages of JSON.
const PAGES: u64 = 50_000;

/// Pulls, and has the registry refuse it for where it comes from.
pub fn is_refused(lab: &Lab) -> Result<()> {
    let before = lab.seen()?.len();
    let said = lab.pull(IMAGE)?;
    assert!(!said.ok(), "a direct pull is not refused: {}", said.said());
    let seen = lab.seen()?.split_off(before);
    assert!(
        !seen.is_empty(),
        "the refusal was not the registry's: {}",
        said.said()
    );
    for seen in seen {
        assert_eq!((seen.path, seen.status), (Path::Direct, 403), "{seen:?}");
    }
    Ok(())
}

/// Pulls, and has the servers see layers on the direct path and all else on the VPN's, over the
/// `families` alone. `why` tells more where something is wrong.
pub fn takes_two_paths(lab: &Lab, families: Families, why: impl Fn() -> String) -> Result<()> {
    let (before, tunnel) = (lab.seen()?.len(), lab.tunnel_bytes()?.down);
    let pulled = lab.pull(IMAGE)?;
    assert!(pulled.ok(), "{}\n{}", pulled.said(), why());
    let tunnel = lab.tunnel_bytes()?.down - tunnel;
    assert!(
        tunnel < PAGES,
        "{tunnel} bytes came down the tunnel for some pages of JSON"
    );

    let seen = lab.seen()?.split_off(before);
    for seen in &seen {
        let right = if seen.layer { Path::Direct } else { Path::Vpn };
        assert_eq!(seen.path, right, "{seen:?}\n{}", why());
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
    let layers = seen.iter().filter(|seen| seen.layer);
    let layers: u64 = layers.map(|seen| seen.bytes).sum();
    assert!(layers > FILLING, "the layer host sent {layers} bytes only");
    Ok(())
}

fn steered(version: DockerVersion, families: Families, tunnel: Tunnel) -> Result<()> {
    let lab = Lab::builder()
        .docker(version)
        .families(families)
        .tunnel(tunnel)
        .up()?;
    is_refused(&lab)?;
    let before = HostSnapshot::take(&lab)?;
    let steer = lab.steer("", &["--no-resolve"])?;
    takes_two_paths(&lab, families, || {
        format!("steer said:\n{}", steer.output())
    })?;
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
    steered(DockerVersion::Installed, Families::V4, Tunnel::OpenVpn)
}

#[test]
fn docker_of_this_machine_over_ipv6() -> Result<()> {
    steered(DockerVersion::Installed, Families::V6, Tunnel::OpenVpn)
}

#[test]
fn docker_of_sid_through_wireguard() -> Result<()> {
    steered(DockerVersion::Sid, Families::Both, Tunnel::WireGuardGo)
}

#[test]
fn docker_of_sid_over_ipv6() -> Result<()> {
    steered(DockerVersion::Sid, Families::V6, Tunnel::OpenVpn)
}
