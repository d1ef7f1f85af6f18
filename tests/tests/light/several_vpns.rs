//! Two VPNs: what a rule sends by one leaves by that, with its address, and by no other.

use anyhow::{Result, ensure};
use steer_tests::{
    client::Ask,
    fixture::{Shared, lookup, open, resolve, server},
    lab::{HostSnapshot, plan::Path},
};

use crate::first_packet::{greet, http, request};

/// A second VPN, whose far end nobody is, and what is counted that leaves by it with its addresses.
const UP: &str = "ip link add vpn2 type veth peer name far2 && ip address add 10.41.0.2/24 dev vpn2
     ip -6 address add fd00:41::2/64 dev vpn2 nodad && ip link set far2 up
     ip link set vpn2 arp off up";
const COUNT: &str = "nft add table inet counted; nft add counter inet counted by_it
     nft 'add chain inet counted out { type filter hook postrouting priority 400; }'
     nft 'add rule inet counted out oifname vpn2 meta l4proto { tcp, udp } ip saddr 10.41.0.2 counter name by_it'
     nft 'add rule inet counted out oifname vpn2 meta l4proto { tcp, udp } ip6 saddr fd00:41::2 counter name by_it'";
const DOWN: &str = "nft delete table inet counted; ip link del vpn2";

/// A `config` with a second VPN, which has these keys too.
fn with_second(config: &str, keys: &str) -> String {
    let config = config.replacen("[vpn]\n", "[[vpn]]\nname = \"first\"\ndefault = true\n", 1);
    let second = format!("[[vpn]]\nname = \"second\"\ninterface = \"vpn2\"\n{keys}[attach]\n");
    config.replacen("[attach]\n", &second, 1).replacen(
        "vpn = [",
        "vpn = [{ rule = \".second.example\", vpn = \"second\" }, ",
        1,
    )
}

#[test]
fn each_rule_has_its_own() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    let before = HostSnapshot::take(&lab.lab)?;
    lab.in_box(UP)?;
    let config = with_second(&lab.config(), "");
    lab.start_with(&config)?;
    for line in ["vpn      first ", "vpn      second vpn2 (10.41.0.2"] {
        lab.wait_said(line)?;
    }
    lab.in_box(COUNT)?;
    let mut left = 0;
    let mut servers = Vec::new();
    for (who, client) in &mut lab.clients()? {
        for v6 in [false, true] {
            let number = lab.numbers(3)?;
            resolve(client, lookup(number, "fresh", v6))?;
            resolve(client, lookup(number + 1, "second", v6))?;
            for (number, right) in [(number, Path::Vpn), (number + 2, Path::Direct)] {
                let (_, path) = open(client, server(number, v6))?;
                assert_eq!(path, right, "{who}, v6 {v6}");
            }
            let first = server(number, v6);
            let server = server(number + 1, v6);
            servers.push(server);
            for connected in [true, false] {
                client.ask(&Ask::Send { server, connected })?;
                let now = by_second(&lab)?;
                ensure!(
                    now > left,
                    "{who}, v6 {v6}, connected {connected}: not by the second"
                );
                left = now;
            }
            for dissolved in [false, true] {
                let sent = client.ask(&Ask::SendPast {
                    first,
                    dissolved,
                    server,
                });
                // A guest's is judged where it comes to the bridge.
                let now = by_second(&lab)?;
                ensure!(
                    sent.is_ok() == (now > left) && sent.is_ok() == (*who == "a guest"),
                    "{who}, v6 {v6}, dissolved {dissolved}: {sent:?}, by the second {now} after {left}"
                );
                left = now;
            }
        }
    }
    lab.in_box("ip link set vpn2 down")?;
    lab.wait_said("second is down")?;
    for (_, client) in &mut lab.clients()? {
        for &server in &servers {
            for connected in [true, false] {
                // Some are told that it cannot be sent and some are told nothing.
                let _ = client.ask(&Ask::Send { server, connected });
            }
        }
    }
    let mut leaked = lab.contacts();
    leaked.retain(|one| servers.contains(&one.server));
    assert!(leaked.is_empty(), "these leaked: {leaked:?}");
    lab.stop()?;
    lab.in_box(DOWN)?;
    assert_eq!(before.diff(&HostSnapshot::take(&lab.lab)?), "");
    lab.done()
}

#[test]
fn a_scope_of_processes_has_its_own_for_the_names_that_connections_begin_with() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    let before = HostSnapshot::take(&lab.lab)?;
    lab.in_box(UP)?;
    let cgroup = lab.lab.box_cgroup("steered")?;
    let scope = format!(
        "[[scope]]\ncgroup = \"{}\"\ndefault = \"direct\"\nvpn = \"second\"\n",
        cgroup.display()
    );
    let config = with_second(&http(&lab, "reset"), "on_down = \"direct\"\n") + &scope;
    lab.start_with(&config)?;
    let [(_, mut process), _] = lab.clients()?;
    for up in [true, false] {
        if !up {
            lab.in_box("ip link set vpn2 down")?;
            lab.wait_said("second is down")?;
        }
        for v6 in [false, true] {
            for cut in [false, true] {
                let number = lab.numbers(1)?;
                let server = server(number, v6);
                let (connection, path) = open(&mut process, server)?;
                assert_eq!(path, Path::Direct, "nothing is known of {server}");
                let mut pieces = request(&format!("n{number}.fresh.example"), cut);
                if cut {
                    // User space is behind the packet, so it ends a little later.
                    pieces.extend(vec![b"more".to_vec(); 5]);
                }
                let went_on = greet(&mut process, connection, pieces)?;
                assert_eq!(went_on, !up, "second is up {up}, v6 {v6}, cut {cut}");
                if !up {
                    assert_eq!(open(&mut process, server)?.1, Path::Direct, "{server}");
                }
            }
        }
    }
    lab.stop()?;
    lab.in_box("ip link del vpn2")?;
    assert_eq!(before.diff(&HostSnapshot::take(&lab.lab)?), "");
    lab.done()
}

fn by_second(lab: &Shared) -> Result<u64> {
    let listed = lab.in_box("nft list counter inet counted by_it")?;
    let words: Vec<_> = listed.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "packets");
    let count = at.and_then(|at| words.get(at + 1));
    Ok(count.map_or(Ok(0), |count| count.parse())?)
}
