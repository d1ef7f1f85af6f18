//! A verdict is taken at a flow's first packet and held to its end.

use std::net::IpAddr;

use anyhow::Result;
use steer_tests::{
    fixture::{Fixture, Shared, exchange, fresh, lookup, open, resolve, server},
    lab::{Client, plan::Path},
};

const BYTES: usize = 30_000;
/// What may pass through the tunnel while nothing of ours does.
const NOISE: u64 = 5_000;

/// Sends and receives on a connection, and has the tunnel's count tell which path it is on.
fn is_on(lab: &Fixture, client: &mut Client, connection: usize) -> Result<Path> {
    let through = lab.through_tunnel(|| exchange(client, connection, BYTES))?;
    Ok(match through {
        0..NOISE => Path::Direct,
        _ if through > 2 * BYTES as u64 => Path::Vpn,
        _ => Path::Other,
    })
}

#[test]
fn a_flow_begun_before_its_address_was_learned_stays_direct() -> Result<()> {
    let mut lab = Shared::steered()?;
    for (who, client) in &mut lab.clients()? {
        for v6 in [false, true] {
            let number = lab.numbers(1)?;
            let (early, path) = open(client, server(number, v6))?;
            assert_eq!(path, Path::Direct, "{who}, v6 {v6}: nothing is learned yet");
            exchange(client, early, BYTES)?;
            let learned = resolve(client, lookup(number, "fresh", v6))?;
            assert_eq!(learned, [fresh(number, v6)]);
            let (late, path) = open(client, server(number, v6))?;
            assert_eq!(path, Path::Vpn, "{who}, v6 {v6}: the address is learned");

            assert_eq!(is_on(&lab, client, early)?, Path::Direct, "{who}, v6 {v6}");
            assert_eq!(is_on(&lab, client, late)?, Path::Vpn, "{who}, v6 {v6}");
        }
    }
    lab.done()
}

#[test]
fn a_flow_begun_before_steer_stays_direct() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    let number = lab.numbers(1)?;
    let mut clients = lab.clients()?;
    let mut early = Vec::new();
    for (_, client) in &mut clients {
        early.push(open(client, server(number, false))?.0);
    }
    lab.start()?;
    for ((who, client), early) in clients.iter_mut().zip(early) {
        resolve(client, lookup(number, "fresh", false))?;
        let (_, path) = open(client, server(number, false))?;
        assert_eq!(path, Path::Vpn, "{who}: a new flow");
        assert_eq!(is_on(&lab, client, early)?, Path::Direct, "{who}");
    }
    lab.done()
}

#[test]
fn a_flow_whose_entry_expires_stays_on_the_vpn() -> Result<()> {
    let mut lab = Shared::steered()?;
    for (who, client) in &mut lab.clients()? {
        for v6 in [false, true] {
            let number = lab.numbers(1)?;
            resolve(client, lookup(number, "fresh", v6))?;
            let (early, path) = open(client, server(number, v6))?;
            assert_eq!(path, Path::Vpn, "{who}, v6 {v6}");
            expire(&lab, fresh(number, v6))?;
            let (_, path) = open(client, server(number, v6))?;
            let what = "the entry did not expire";
            assert_eq!(path, Path::Direct, "{who}, v6 {v6}: {what}");

            assert_eq!(is_on(&lab, client, early)?, Path::Vpn, "{who}, v6 {v6}");
        }
    }
    lab.done()
}

/// Makes the entry of an address one that ended long ago, as waiting for its time would.
fn expire(fixture: &Fixture, address: IpAddr) -> Result<()> {
    let octets = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    let key = octets.map(|octet| format!("{octet:02x}")).join(" ");
    let value = ["00"; 56].join(" ");
    let map = fixture.lab.steer_bpffs().join("ADDRS");
    let line = format!(
        "bpftool map update pinned {} key hex {key} value hex {value} exist",
        map.display()
    );
    fixture.in_box(&line).map(drop)
}
