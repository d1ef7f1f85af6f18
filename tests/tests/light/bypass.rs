//! A VPN that has taken the host's default route, as most do unless they are told otherwise: what is steered and not for it
//! goes past it, and what is not steered is left alone.

use anyhow::Result;
use steer_tests::{
    fixture::{Fixture, datagram, lookup, open, resolve, server},
    lab::{Client, HostSnapshot, Lab, Tunnel, plan::Path},
};

/// Tells whether a client's flows take the path of their name, each of names that nobody asked for before.
fn goes_right(who: &str, client: &mut Client, number: &mut u16) -> Result<()> {
    for v6 in [false, true] {
        for (zone, right) in [("fresh", Path::Vpn), ("plain", Path::Direct)] {
            *number += 2;
            let (asked, unknown) = (*number, *number + 1);
            let context = format!("{who}, n{asked}.{zone}, v6 {v6}");
            resolve(client, lookup(asked, zone, v6))?;
            assert_eq!(open(client, server(asked, v6))?.1, right, "{context}");
            for connected in [true, false] {
                let path = datagram(client, server(asked, v6), connected)?;
                assert_eq!(path, right, "{context}, connected {connected}");
            }
            let (_, path) = open(client, server(unknown, v6))?;
            assert_eq!(path, Path::Direct, "{context}: of whom nobody knows");
        }
    }
    Ok(())
}

fn past(tunnel: Tunnel) -> Result<()> {
    let lab = Lab::builder().tunnel(tunnel).tunnel_takes_default().up()?;
    let lab = Fixture::up_in(lab)?;
    if tunnel == Tunnel::OpenVpn {
        // As firewalls do; wg-quick's own answers would not come through.
        lab.in_box(
            "nft add table inet fw; nft add chain inet fw in '{ type filter hook prerouting priority filter + 10; }'
             nft add rule inet fw in meta l4proto icmpv6 accept
             nft add rule inet fw in fib saddr . mark . iif oif missing drop",
        )?;
    }
    let before = HostSnapshot::take(&lab.lab)?;
    let mut number = 1000;
    let mut clients = lab.clients()?;
    let mut other = lab.lab.client_in(&lab.lab.box_cgroup("not-steered")?)?;
    for (who, client) in &mut clients {
        assert_eq!(open(client, server(1, false))?.1, Path::Vpn, "{who}");
        assert_eq!(open(client, server(1, true))?.1, Path::Vpn, "{who}");
    }
    let steer = lab.steer()?;
    steer.wait_said(&format!(
        "{} has the host's default route; what is steered and not for the VPN goes past it, by eth0",
        tunnel.interface()
    ))?;
    for (who, client) in &mut clients {
        goes_right(who, client, &mut number)?;
    }
    for v6 in [false, true] {
        let (_, path) = open(&mut other, server(2, v6))?;
        assert_eq!(path, Path::Vpn, "what is not steered, v6 {v6}");
    }
    steer.terminate()?;
    assert_eq!(before.diff(&HostSnapshot::take(&lab.lab)?), "");
    for (who, client) in &mut clients {
        assert_eq!(open(client, server(3, false))?.1, Path::Vpn, "{who}");
    }
    Ok(())
}

#[test]
fn that_redirects_the_gateway_as_openvpn_does() -> Result<()> {
    past(Tunnel::OpenVpn)
}

#[test]
fn that_has_all_addresses_as_wg_quick_does() -> Result<()> {
    past(Tunnel::best_wireguard())
}
