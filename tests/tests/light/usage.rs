//! What is counted on each path is what went there.

use std::ops::RangeInclusive;

use anyhow::{Result, ensure};
use steer_tests::{
    client::Ask,
    fixture::{Shared, exchange, lookup, open, resolve, server},
};

const BY_VPN: usize = 600_000;
const DIRECT: usize = 200_000;

#[test]
fn each_path_counts_what_the_servers_echo() -> Result<()> {
    let mut lab = Shared::steered()?;
    for (who, client) in &mut lab.clients()? {
        let whose = if *who == "a guest" {
            "containers"
        } else {
            "processes"
        };
        for v6 in [false, true] {
            let number = lab.numbers(2)?;
            resolve(client, lookup(number, "fresh", v6))?;
            let paths = [("vpn", BY_VPN, number), ("direct", DIRECT, number + 1)];
            let volumes = || -> Result<Vec<u64>> {
                let mut volumes = Vec::new();
                for (path, ..) in paths {
                    for way in ["bytes_out", "bytes_in"] {
                        volumes.push(lab.traffic(&format!("{whose}_{path}"), way)?);
                    }
                }
                Ok(volumes)
            };
            let before = volumes()?;
            for (_, bytes, number) in paths {
                let (connection, _) = open(client, server(number, v6))?;
                exchange(client, connection, bytes)?;
            }
            let after = volumes()?;
            let went: Vec<_> = after.iter().zip(before).map(|(a, b)| a - b).collect();
            println!("{who}, v6 {v6}: by the VPN out and in, direct out and in: {went:?}");
            for (went, bytes) in went.iter().zip([BY_VPN, BY_VPN, DIRECT, DIRECT]) {
                ensure!(
                    with_headers(bytes).contains(went),
                    "{who}, v6 {v6}: {went} instead of {bytes}"
                );
            }
        }
    }
    lab.done()
}

#[test]
fn what_a_guest_and_its_host_have_between_them_is_not_counted() -> Result<()> {
    const MANY: u64 = 100;
    const HOST: &str = "172.30.1.1:9";
    const GUEST: &str = "172.30.1.2:9";
    let lab = Shared::steered()?;
    let [(_, mut process), (_, mut guest)] = lab.clients()?;
    let packets = || -> Result<u64> {
        let mut sum = 0;
        for whose in ["processes_direct", "containers_direct"] {
            for way in ["packets_out", "packets_in"] {
                sum += lab.traffic(whose, way)?;
            }
        }
        Ok(sum)
    };
    let before = packets()?;
    for (client, to) in [(&mut process, GUEST), (&mut guest, HOST)] {
        for _ in 0..MANY {
            // Nobody listens there, so each is answered by an error of ICMP.
            client.ask(&Ask::Send {
                server: to.parse()?,
                connected: false,
            })?;
        }
    }
    let counted = packets()? - before;
    ensure!(counted < MANY / 2, "{counted} packets");
    lab.done()
}

/// Octets of the packets that carry so many: headers, acknowledgments and a question of the DNS come to less than a fifth.
fn with_headers(bytes: usize) -> RangeInclusive<u64> {
    let bytes = bytes as u64;
    bytes..=bytes + bytes / 5
}
