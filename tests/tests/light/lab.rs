//! The judges of the lab without Docker: echo servers, the made-up name server, clients in a
//! cgroup and behind a bridge; snapshots, and what is left. Hand-made routes do here what steer
//! would do.

use anyhow::{Result, bail};
use steer_tests::{
    client::{Ask, Lookup, Told},
    fixture::{Forged, PORT, Shared, datagram, exchange, fresh, lookup, open, resolve, server},
    lab::{HostSnapshot, Lab, Ns, Resolver, plan::Path},
    pace::times,
};

#[test]
fn the_servers_tell_the_two_paths_apart_for_host_and_guest() -> Result<()> {
    const MUCH: u16 = 50_000;
    let mut lab = Shared::unsteered()?;
    let before = HostSnapshot::take(&lab.lab)?;
    let (direct, vpn) = (lab.numbers(1)?, lab.numbers(1)?);
    let dev = lab.lab.tunnel_interface();
    let (v4, v6) = (fresh(vpn, false), fresh(vpn, true));
    let filter = format!("/proc/sys/net/ipv4/conf/{dev}/rp_filter");
    lab.in_box(&format!(
        "echo 2 >{filter}; ip route add {v4} dev {dev}; ip -6 route add {v6} dev {dev}"
    ))?;
    let mut clients = lab.clients()?;
    for (who, client) in &mut clients {
        for v6 in [false, true] {
            for (number, right) in [(direct, Path::Direct), (vpn, Path::Vpn)] {
                let server = server(number, v6);
                let (connection, path) = open(client, server)?;
                assert_eq!(path, right, "{who}: TCP {server}");
                exchange(client, connection, 10_000)?;
                for connected in [false, true] {
                    let path = datagram(client, server, connected)?;
                    assert_eq!(path, right, "{who}: UDP {server}");
                }
                let last = lab.contacts().pop();
                assert!(
                    last.is_some_and(|last| last.udp
                        && last.server == server
                        && last.path() == right),
                    "{last:?}"
                );
            }
        }
    }
    let [(_, client), _] = &mut clients;
    let (connection, _) = open(client, server(vpn, false))?;
    let then = lab.lab.tunnel_bytes()?;
    exchange(client, connection, usize::from(MUCH))?;
    let now = lab.lab.tunnel_bytes()?;
    let (up, down) = (now.up - then.up, now.down - then.down);
    assert!(up.min(down) > u64::from(MUCH), "{up} up and {down} down");

    lab.in_box(&format!(
        "echo 1 >{filter}; ip route del {v4} dev {dev}; ip -6 route del {v6} dev {dev}"
    ))?;
    assert_eq!(before.diff(&HostSnapshot::take(&lab.lab)?), "");
    lab.done()
}

#[test]
fn the_name_server_answers_what_it_is_told_to() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    let number = lab.numbers(5)?;
    let [(_, client), _] = &mut lab.clients()?;
    let asked = lab.resolver.asked().len();
    for (resolver, v6, tcp) in [
        (Resolver::V4, false, false),
        (Resolver::V6, true, false),
        (Resolver::V4, true, true),
        (Resolver::V6, false, true),
    ] {
        let question = Lookup {
            resolver,
            name: format!("n{number}.forged.fresh.example"),
            v6,
            tcp,
        };
        // By UDP the client passes over what does not fit; by TCP it gets the last alone.
        let right = if tcp {
            Forged::Second.number(number)
        } else {
            number
        };
        let found = resolve(client, question)?;
        assert_eq!(found, [fresh(right, v6)], "by TCP: {tcp}");
    }
    let asked = lab.resolver.asked().len() - asked;
    assert_eq!(asked, 2, "the questions by UDP");

    let count = times(2000);
    let first = lab.numbers(count)?;
    let lookups = (first..first + count).map(|number| lookup(number, "fresh", false));
    match client.ask(&Ask::Reach {
        lookups: lookups.collect(),
        port: PORT,
    })? {
        Told::Reached(reached) => {
            assert_eq!(reached.len(), usize::from(count));
            assert!(reached.iter().all(|(_, seen)| seen.is_ok()), "{reached:?}");
        }
        other => bail!("a strange answer: {other:?}"),
    }
    lab.done()
}

#[test]
fn a_snapshot_is_the_same_until_something_changes() -> Result<()> {
    let lab = Shared::unsteered()?;
    let dev = lab.lab.tunnel_interface();
    let filter = format!("/proc/sys/net/ipv4/conf/{dev}/rp_filter");
    let pin = lab.lab.bpffs().join("trace").display().to_string();
    let before = HostSnapshot::take(&lab.lab)?;
    assert_eq!(before.diff(&HostSnapshot::take(&lab.lab)?), "");
    let changes = [
        (
            "ip rule add fwmark 1 lookup 77",
            "ip rule del fwmark 1 lookup 77",
            "fwmark 0x1",
        ),
        (
            "ip -6 route add unreachable default table 78",
            "ip -6 route flush table 78",
            "table 78",
        ),
        (
            "nft add table inet trace",
            "nft delete table inet trace",
            "table inet trace",
        ),
        (
            "tc qdisc add dev lo clsact",
            "tc qdisc del dev lo clsact",
            "qdisc clsact ffff: dev lo",
        ),
        (
            "tc qdisc add dev eth0 clsact
             tc filter add dev eth0 egress pref 7 protocol all u32 match u8 0 0",
            "tc qdisc del dev eth0 clsact",
            "pref 7",
        ),
        (
            &format!("echo 0 >{filter}"),
            &format!("echo 1 >{filter}"),
            &format!("{dev}/rp_filter:0"),
        ),
        (
            &format!("mkdir {pin}"),
            &format!("rmdir {pin}"),
            "bpf/trace",
        ),
    ];
    for (change, _, _) in changes {
        lab.in_box(change)?;
    }
    let diff = before.diff(&HostSnapshot::take(&lab.lab)?);
    for (change, back, trace) in changes {
        assert!(
            diff.contains(trace),
            "after `{change}` the snapshot shows: {diff}"
        );
        lab.in_box(back)?;
    }
    assert_eq!(before.diff(&HostSnapshot::take(&lab.lab)?), "");
    lab.done()
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
