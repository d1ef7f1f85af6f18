//! A verdict is taken at a flow's first packet and held to its end.

use std::{fs, net::IpAddr, path::Path as FilePath};

use anyhow::Result;
use steer_tests::{
    fixture::{Fixture, exchange, fresh, lookup, open, resolve, server},
    lab::{Lab, Ns, plan::Path},
};

const BYTES: usize = 300_000;
/// What may pass through the tunnel while nothing of ours does.
const NOISE: u64 = 5_000;

#[test]
fn a_flow_begun_before_its_address_was_learned_stays_direct() -> Result<()> {
    let fixture = Fixture::up()?;
    let steer = fixture.steer()?;
    for (turn, (who, client)) in (1u16..).zip(&mut fixture.clients()?) {
        for v6 in [false, true] {
            let (early, path) = open(client, server(turn, v6))?;
            assert_eq!(path, Path::Direct, "{who}, v6 {v6}: nothing is learned yet");
            exchange(client, early, BYTES)?;
            assert_eq!(
                resolve(client, lookup(turn, "fresh", v6))?,
                [fresh(turn, v6)]
            );
            let (late, path) = open(client, server(turn, v6))?;
            assert_eq!(path, Path::Vpn, "{who}, v6 {v6}: the address is learned");

            let through = fixture.through_tunnel(|| exchange(client, early, BYTES))?;
            assert!(
                through < NOISE,
                "{who}, v6 {v6}: {through} bytes of it took the tunnel"
            );
            let through = fixture.through_tunnel(|| exchange(client, late, BYTES))?;
            assert!(
                through > 2 * BYTES as u64,
                "{who}, v6 {v6}: {through} bytes by the tunnel"
            );
        }
    }
    steer.terminate().map(drop)
}

#[test]
fn a_flow_begun_before_steer_stays_direct() -> Result<()> {
    let fixture = Fixture::up()?;
    let mut clients = fixture.clients()?;
    let mut early = Vec::new();
    for (_, client) in &mut clients {
        early.push(open(client, server(7, false))?.0);
    }
    let steer = fixture.steer()?;
    for ((who, client), connection) in clients.iter_mut().zip(early) {
        resolve(client, lookup(7, "fresh", false))?;
        assert_eq!(
            open(client, server(7, false))?.1,
            Path::Vpn,
            "{who}: a new flow"
        );
        let through = fixture.through_tunnel(|| exchange(client, connection, BYTES))?;
        assert!(
            through < NOISE,
            "{who}: {through} bytes of the old flow took the tunnel"
        );
    }
    steer.terminate().map(drop)
}

#[test]
fn a_flow_whose_entry_expires_stays_on_the_vpn() -> Result<()> {
    let fixture = Fixture::up()?;
    let steer = fixture.steer()?;
    for (turn, (who, client)) in (1u16..).zip(&mut fixture.clients()?) {
        for v6 in [false, true] {
            resolve(client, lookup(turn, "fresh", v6))?;
            let (early, path) = open(client, server(turn, v6))?;
            assert_eq!(path, Path::Vpn, "{who}, v6 {v6}");
            expire(&fixture.lab, &fixture.lab.steer_bpffs(), fresh(turn, v6))?;
            let (_, path) = open(client, server(turn, v6))?;
            assert_eq!(
                path,
                Path::Direct,
                "{who}, v6 {v6}: the entry did not expire"
            );

            let through = fixture.through_tunnel(|| exchange(client, early, BYTES))?;
            assert!(
                through > 2 * BYTES as u64,
                "{who}, v6 {v6}: it left the tunnel"
            );
        }
    }
    steer.terminate().map(drop)
}

/// Makes the entry of an address one that ended long ago, as waiting for its time would.
fn expire(lab: &Lab, bpffs: &FilePath, address: IpAddr) -> Result<()> {
    let octets = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    let key: String = octets.iter().map(|octet| format!("{octet:02x} ")).collect();
    let value = "00 ".repeat(32);
    let map = find(bpffs, "ADDRS")?;
    let line = format!(
        "bpftool map update pinned {} key hex {key} value hex {value} exist",
        map.display()
    );
    lab.run(Ns::Box, &["sh", "-c", &line])?.stdout().map(drop)
}

/// A pin by its name, wherever below `dir` it lies.
fn find(dir: &FilePath, name: &str) -> Result<std::path::PathBuf> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.ends_with(name) {
            return Ok(path);
        }
        if path.is_dir()
            && let Ok(found) = find(&path, name)
        {
            return Ok(found);
        }
    }
    anyhow::bail!("no pin {name} in {}", dir.display())
}
