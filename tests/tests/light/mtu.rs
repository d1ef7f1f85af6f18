//! A VPN with a smaller MTU than the way to it, whose far end does not say so.

use anyhow::Result;
use steer_tests::{
    fixture::{Shared, exchange, lookup, open, resolve, server},
    lab::{Ns, plan::Path},
};

const MTU: &str = "1280";

#[test]
fn connections_through_a_smaller_vpn_do_not_stall() -> Result<()> {
    let mut lab = Shared::steered()?;
    let tunnel = lab.lab.tunnel_interface();
    // As providers do: what would tell a server that its segments do not fit is lost.
    let smaller = format!(
        "ip link set {tunnel} mtu {MTU}
         nft add table inet mute
         nft add chain inet mute out '{{ type filter hook output priority 0; }}'
         nft add rule inet mute out icmp type destination-unreachable drop
         nft add rule inet mute out icmpv6 type packet-too-big drop"
    );
    lab.lab.shell(Ns::Vpn, &smaller)?;
    lab.in_box(&format!("ip link set {tunnel} mtu {MTU}"))?;
    for (who, client) in &mut lab.clients()? {
        for v6 in [false, true] {
            let number = lab.numbers(1)?;
            resolve(client, lookup(number, "fresh", v6))?;
            let (connection, path) = open(client, server(number, v6))?;
            assert_eq!(path, Path::Vpn, "{who}, v6 {v6}");
            exchange(client, connection, 100_000)?;
        }
    }
    lab.lab.shell(Ns::Vpn, "nft delete table inet mute")?;
    lab.stop()?;
    lab.lab.tunnel_down()?;
    lab.lab.tunnel_up()?;
    lab.done()
}
