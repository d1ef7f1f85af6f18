//! Ports that the VPN's gateway assigns lead to a container, and whoever asks there is seen as he is.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use steer_tests::{
    lab::{DockerVersion, Lab, Ns},
    pace::patience,
};

use crate::scopes::{QUIET, answer, asked, isolated, network};

/// Where the VPN's provider is reached, and who asks there.
const PROVIDER: [u8; 4] = [10, 40, 0, 1];
const CLIENT: &str = "10.40.0.254";

/// The ports that `steer status` tells for both protocols.
fn assigned(lab: &Lab) -> Result<[Option<u64>; 2]> {
    let status = lab.ask_steer(&["status", "--json"])?;
    let status: Value = serde_json::from_str(&status.stdout).with_context(|| status.said())?;
    let forwards = &status["scopes"][0]["forwards"];
    Ok([0, 1].map(|place| forwards[place]["assigned"].as_u64()))
}

/// Waits until both have one, and it is the same.
fn port(lab: &Lab) -> Result<u16> {
    let mut last = [None; 2];
    for _ in 0..patience(Duration::from_secs(60)).as_secs() {
        last = assigned(lab)?;
        if let [Some(tcp), Some(udp)] = last {
            ensure!(tcp == udp, "not one number for both: {last:?}");
            return Ok(u16::try_from(tcp)?);
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    anyhow::bail!("no port was assigned: {last:?}")
}

fn is_reached(lab: &Lab, port: u16) -> Result<()> {
    let server = SocketAddr::from((PROVIDER, port));
    for over_tcp in [true, false] {
        let mut said = asked(lab, server, over_tcp);
        for _ in 0..3 {
            if said.is_ok() {
                break;
            }
            said = asked(lab, server, over_tcp);
        }
        let said = said.with_context(|| format!("{server}, TCP {over_tcp}"))?;
        ensure!(said == CLIENT, "{server} saw {said}");
    }
    Ok(())
}

#[test]
fn a_port_that_the_gateway_assigns_leads_to_a_container() -> Result<()> {
    let mut lab = Lab::builder().docker(DockerVersion::Installed).up()?;
    lab.load_image()?;
    network(&lab, "under")?;
    let config = isolated("network = \"under\"")
        + "on_stop = \"release\"\n\
           forward = [\"nat-pmp/tcp -> torrent:4666\", \"nat-pmp/udp -> torrent:4666\"]\n";
    let steer = lab.steer(&config, &QUIET)?;
    lab.idle_container("torrent", "under")?;
    answer(&lab, "torrent", 4666)?;

    steer.wait_said("gives no answer by NAT-PMP")?;
    let status = lab.ask_steer(&["status"])?;
    println!("{}", status.said());
    ensure!(!status.ok() && status.said().contains("gives no answer by NAT-PMP"));

    let mapper = lab.mapper()?;
    let first = port(&lab)?;
    ensure!(
        first != 61_000,
        "the port that is sent to is no other than the assigned one"
    );
    steer.wait_said(&format!(
        "nat-pmp/udp -> torrent:4666: the VPN's gateway assigns the port {first}"
    ))?;
    println!("{}", lab.ask_steer(&["status"])?.said());
    is_reached(&lab, first).with_context(|| steer.output())?;
    let closed = asked(&lab, SocketAddr::from((PROVIDER, first + 1)), true);
    ensure!(closed.is_err(), "{closed:?}");

    // The VPN goes, and comes back with a gateway that has forgotten.
    drop(mapper);
    lab.tunnel_down()?;
    steer.wait_said("is down: what must take it")?;
    ensure!(assigned(&lab)? == [None; 2], "{:?}", assigned(&lab)?);
    lab.tunnel_up()?;
    let _mapper = lab.mapper()?;
    let second = port(&lab)?;
    is_reached(&lab, second).with_context(|| steer.output())?;
    ensure!(lab.mapped()?.contains("dnat"), "{}", lab.mapped()?);

    lab.docker(&["rm", "-f", "torrent"])?.stdout()?;
    steer.terminate()?;
    let mapped = lab.mapped()?;
    ensure!(!mapped.contains("dnat"), "not given back: {mapped}");
    // The tunnel is another than before, so the host as a whole cannot be compared.
    let left = lab.shell(Ns::Box, "nft list tables; ip rule; iptables -S")?;
    ensure!(
        !left.contains("steer") && !left.contains("lookup 7350"),
        "{left}"
    );
    Ok(())
}
