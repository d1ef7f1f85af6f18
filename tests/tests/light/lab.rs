//! The judges of the lab without Docker: echo servers, the made-up name server, clients in a
//! cgroup and behind a bridge; snapshots, and what is left. Hand-made routes do here what steer
//! would do.

use std::net::SocketAddr;

use anyhow::{Result, bail};
use steer_tests::{
    client::{Ask, Lookup, Told},
    fixture::{datagram, fresh, open},
    lab::{Answer, HostSnapshot, Lab, Ns, Resolver, plan::Path},
    pace::times,
};

#[test]
fn the_servers_tell_the_two_paths_apart_for_host_and_guest() -> Result<()> {
    let lab = Lab::builder().up()?;
    let servers = lab.listen(7)?;
    let guest = lab.guest("br-guest", 1)?;
    let dev = lab.tunnel_interface();
    let script = format!(
        "echo 2 > /proc/sys/net/ipv4/conf/{dev}/rp_filter
         ip route add 10.200.1.0/24 dev {dev}
         ip -6 route add 2001:db8:f5e5::100/120 dev {dev}"
    );
    lab.run(Ns::Box, &["sh", "-ec", &script])?.stdout()?;
    let mut clients = [
        lab.client_in(&lab.box_cgroup("steered")?)?,
        lab.client_behind(&guest)?,
    ];
    for client in &mut clients {
        for v6 in [false, true] {
            for (number, path) in [(0x001, Path::Direct), (0x101, Path::Vpn)] {
                let server = SocketAddr::new(fresh(number, v6), 7);
                let (connection, seen) = open(client, server)?;
                assert_eq!(seen, path, "TCP {server}");
                client.ask(&Ask::Exchange {
                    connection,
                    bytes: 100_000,
                })?;
                for connected in [false, true] {
                    assert_eq!(datagram(client, server, connected)?, path, "UDP {server}");
                }
                let last = servers.contacts().pop();
                assert!(
                    last.is_some_and(|last| last.udp
                        && last.server == server
                        && last.path() == path),
                    "{last:?}"
                );
            }
        }
    }
    let before = lab.tunnel_bytes()?;
    let (connection, _) = open(&mut clients[0], SocketAddr::new(fresh(0x102, false), 7))?;
    clients[0].ask(&Ask::Exchange {
        connection,
        bytes: 1 << 20,
    })?;
    let after = lab.tunnel_bytes()?;
    assert!(after.up - before.up > 1 << 20 && after.down - before.down > 1 << 20);
    Ok(())
}

#[test]
fn the_name_server_answers_what_it_is_told_to() -> Result<()> {
    let lab = Lab::builder().up()?;
    let resolver = lab.resolver(|question| {
        let number = question.name.trim_start_matches('n').split('.').next();
        let number = number.and_then(|digits| digits.parse().ok()).unwrap_or(9);
        let honest = Answer::honest([fresh(number, question.v6)]);
        let wrong = fresh(5, question.v6);
        vec![
            Answer {
                id_off: 1,
                ..Answer::honest([wrong])
            },
            Answer {
                name: Some("other.example".to_owned()),
                ..Answer::honest([wrong])
            },
            honest,
        ]
    })?;
    let mut client = lab.client_in(&lab.box_cgroup("steered")?)?;
    for (server, v6, tcp) in [
        (Resolver::V4, false, false),
        (Resolver::V6, true, false),
        (Resolver::V4, true, true),
        (Resolver::V6, false, true),
    ] {
        let name = "n1234.fresh.example".to_owned();
        match client.ask(&Ask::Resolve(Lookup {
            resolver: server,
            name,
            v6,
            tcp,
        }))? {
            Told::Addresses(found) => assert_eq!(found, [fresh(1234, v6)]),
            other => bail!("a strange answer: {other:?}"),
        }
    }
    assert_eq!(resolver.asked().len(), 2, "the questions by UDP");

    let _servers = lab.listen(80)?;
    let count = times(2000);
    let lookups = (0..count)
        .map(|number| Lookup {
            resolver: Resolver::V4,
            name: format!("n{number}.fresh.example"),
            v6: false,
            tcp: false,
        })
        .collect();
    match client.ask(&Ask::Reach { lookups, port: 80 })? {
        Told::Reached(reached) => {
            assert_eq!(reached.len(), usize::from(count));
            assert!(reached.iter().all(|(_, seen)| seen.is_ok()), "{reached:?}");
        }
        other => bail!("a strange answer: {other:?}"),
    }
    Ok(())
}

#[test]
fn a_snapshot_is_the_same_until_something_changes() -> Result<()> {
    let lab = Lab::builder().up()?;
    let dev = lab.tunnel_interface();
    let filter = format!("/proc/sys/net/ipv4/conf/{dev}/rp_filter");
    let before = HostSnapshot::take(&lab)?;
    assert_eq!(before.diff(&HostSnapshot::take(&lab)?), "");
    for (change, back, trace) in [
        (
            "ip rule add fwmark 1 lookup 77",
            "ip rule del fwmark 1 lookup 77",
            "fwmark 0x1",
        ),
        (
            "ip -6 route add unreachable default table 77",
            "ip -6 route flush table 77",
            "table 77",
        ),
        (
            "nft add table inet trace",
            "nft delete table inet trace",
            "table inet trace",
        ),
        (
            "tc qdisc add dev eth0 clsact",
            "tc qdisc del dev eth0 clsact",
            "clsact",
        ),
        (
            "tc qdisc add dev eth0 clsact; tc filter add dev eth0 egress pref 7 protocol all u32 match u8 0 0",
            "tc qdisc del dev eth0 clsact",
            "pref 7",
        ),
        (
            &format!("echo 0 >{filter}"),
            &format!("echo 1 >{filter}"),
            &format!("{dev}/rp_filter:0"),
        ),
    ] {
        lab.run(Ns::Box, &["sh", "-ec", change])?.stdout()?;
        let diff = before.diff(&HostSnapshot::take(&lab)?);
        assert!(
            diff.contains(trace),
            "after `{change}` the snapshot shows: {diff}"
        );
        lab.run(Ns::Box, &["sh", "-ec", back])?.stdout()?;
        assert_eq!(
            before.diff(&HostSnapshot::take(&lab)?),
            "",
            "after `{back}`"
        );
    }
    let pin = lab.bpffs().join("trace");
    std::fs::create_dir(&pin)?;
    assert!(
        before
            .diff(&HostSnapshot::take(&lab)?)
            .contains("bpf/trace")
    );
    Ok(())
}

#[test]
fn nothing_is_left_of_a_lab() -> Result<()> {
    let lab = Lab::builder().up()?;
    let (name, dir, cgroup) = (
        lab.name().to_owned(),
        lab.dir().to_owned(),
        lab.cgroup().to_owned(),
    );
    assert!(dir.exists() && cgroup.exists() && lab.netns(Ns::Box).exists());
    drop(lab);
    assert!(
        !dir.exists() && !cgroup.exists(),
        "{name} left files or cgroups"
    );
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    assert!(!mounts.contains(&name), "{name} left mounts: {mounts}");
    for entry in std::fs::read_dir("/run/netns")? {
        let netns = entry?.file_name().to_string_lossy().into_owned();
        assert!(!netns.starts_with(&format!("{name}-")), "{netns} is left");
    }
    Ok(())
}
