//! What is counted of the packets that pass, and as whose.

use std::{collections::BTreeSet, net::IpAddr};

use steer_common::{
    types::{Address, Config, Path, Verdict},
    usage::{Traffic, UsageKey, Volume},
};

use crate::{
    CLIENT, RESOLVER, SERVER, flow,
    kernel::{DROP, Kernel, OTHER_IFINDEX, VPN_IFINDEX, vpns},
    packet::{ACK, SYN, ethernet, ipv4, tcp, udp, with_tags},
};

/// Octets of a segment of [`tcp`] without data, over IPv4, and of an Ethernet header.
const SEGMENT: u64 = 40;
const ETHERNET: usize = 14;

/// What is counted by what `work` does.
fn counted(kernel: &mut Kernel, work: impl FnOnce(&mut Kernel)) -> Traffic {
    let before = kernel.datapath.traffic().unwrap();
    work(kernel);
    let after = kernel.datapath.traffic().unwrap();
    Traffic {
        processes_direct: after.processes_direct.since(&before.processes_direct),
        processes_vpn: after.processes_vpn.since(&before.processes_vpn),
        containers_direct: after.containers_direct.since(&before.containers_direct),
        containers_vpn: after.containers_vpn.since(&before.containers_vpn),
    }
}

fn sent(packets: u64, bytes: u64) -> Volume {
    Volume {
        bytes_out: bytes,
        packets_out: packets,
        ..Volume::default()
    }
}

fn came(packets: u64, bytes: u64) -> Volume {
    Volume {
        bytes_in: bytes,
        packets_in: packets,
        ..Volume::default()
    }
}

fn address(text: &str) -> Address {
    text.parse::<IpAddr>().unwrap().into()
}

#[test]
fn a_containers_packets_are_counted_on_their_path() {
    let mut kernel = Kernel::new();
    let kernel = &mut *kernel;
    let direct = counted(kernel, |kernel| {
        flow(kernel, &tcp(CLIENT, 1, SERVER, 443, SYN));
        flow(kernel, &udp(CLIENT, 1, SERVER, 443, &[0; 100]));
        flow(
            kernel,
            &with_tags(&tcp(CLIENT, 1, SERVER, 443, ACK), &[0x8100]),
        );
    });
    let expected = Traffic {
        containers_direct: sent(3, SEGMENT + 128 + SEGMENT),
        ..Traffic::default()
    };
    assert_eq!(direct, expected);
    kernel.knows(SERVER, Verdict::VPN);
    let vpn = counted(kernel, |kernel| {
        flow(kernel, &tcp(CLIENT, 2, SERVER, 443, SYN));
        flow(kernel, &tcp(CLIENT, 2, SERVER, 443, ACK));
    });
    let expected = Traffic {
        containers_vpn: sent(2, 2 * SEGMENT),
        ..Traffic::default()
    };
    assert_eq!(vpn, expected);
    let answer = tcp(SERVER, 443, CLIENT, 1, SYN | ACK);
    let direct = counted(kernel, |kernel| {
        kernel.run("bridge_egress", &answer, 0);
    });
    let expected = Traffic {
        containers_direct: came(1, SEGMENT),
        ..Traffic::default()
    };
    assert_eq!(direct, expected);
    if kernel.takes_ingress() {
        let vpn = counted(kernel, |kernel| {
            kernel.run("bridge_egress", &answer, VPN_IFINDEX);
        });
        let expected = Traffic {
            containers_vpn: came(1, SEGMENT),
            ..Traffic::default()
        };
        assert_eq!(vpn, expected);
    }
}

#[test]
fn a_processs_packets_are_counted_by_their_interface() {
    let mut kernel = Kernel::new();
    let kernel = &mut *kernel;
    let both = |kernel: &mut Kernel| {
        kernel.run_on("cgroup_egress", &tcp(CLIENT, 1, SERVER, 443, SYN), 0, 0);
        let answer = tcp(SERVER, 443, CLIENT, 1, SYN | ACK);
        kernel.run_on("cgroup_ingress", &answer, 0, 0);
    };
    let mut volume = sent(1, SEGMENT);
    volume.add(&came(1, SEGMENT));
    let vpn = Traffic {
        processes_vpn: volume,
        ..Traffic::default()
    };
    assert_eq!(counted(kernel, both), vpn);
    for other in [0, VPN_IFINDEX + 1] {
        kernel.configured(|config| Config {
            vpns: vpns(other, OTHER_IFINDEX),
            ..config
        });
        let direct = Traffic {
            processes_direct: volume,
            ..Traffic::default()
        };
        assert_eq!(counted(kernel, both), direct);
    }
}

#[test]
fn what_stays_on_the_host_or_goes_nowhere_is_not_counted() {
    let mut kernel = Kernel::new();
    let kernel = &mut *kernel;
    let home = ["172.17.0.0/16", "203.0.113.0/24", "fd00::/8"];
    let home: BTreeSet<_> = home.iter().map(|net| net.parse().unwrap()).collect();
    kernel.datapath.set_home(&home).unwrap();
    let quiet = counted(kernel, |kernel| {
        for far in [SERVER, "127.0.0.1", "224.0.0.251", "169.254.169.254"] {
            let frame = udp(CLIENT, 1, far, 443, b"x");
            flow(kernel, &frame);
            kernel.run_on("cgroup_egress", &frame, 0, 0);
            let frame = udp(far, 443, CLIENT, 1, b"x");
            kernel.run("bridge_egress", &frame, 0);
            kernel.run_on("cgroup_ingress", &frame, 0, 0);
        }
        flow(kernel, &tcp("2001:db8::2", 1, "fd00::7", 443, SYN));
        flow(kernel, &ethernet(0x0806, &[0; 28]));
    });
    assert_eq!(quiet, Traffic::default());
    kernel.datapath.set_home(&BTreeSet::new()).unwrap();
    kernel.knows(SERVER, Verdict::VPN);
    kernel.fill_flows();
    let stopped = counted(kernel, |kernel| {
        let (result, _) = flow(kernel, &tcp(CLIENT, 1, SERVER, 443, SYN));
        assert_eq!(result, DROP);
        flow(kernel, &ipv4(CLIENT, SERVER, 6, 0, &[0; 4]));
    });
    assert_eq!(stopped, Traffic::default());
}

#[test]
fn who_has_to_do_with_whom_is_counted_while_somebody_watches() {
    let mut kernel = Kernel::new();
    let kernel = &mut *kernel;
    kernel.knows(SERVER, Verdict::VPN);
    let some = |kernel: &mut Kernel| {
        for far in [SERVER, RESOLVER] {
            flow(kernel, &udp(CLIENT, 1, far, 443, &[0; 72]));
            kernel.run_on("cgroup_egress", &udp(CLIENT, 1, far, 443, b""), 0, 0);
        }
        kernel.run("bridge_egress", &udp(RESOLVER, 443, CLIENT, 1, &[0; 72]), 0);
    };
    for watched in [0, 1] {
        kernel.configured(|config| Config { watched, ..config });
        some(kernel);
        assert_eq!(kernel.datapath.usage().unwrap(), [], "until {watched}");
    }
    kernel.configured(|config| Config {
        watched: u64::MAX,
        ..config
    });
    some(kernel);
    some(kernel);
    let key = |bridge, vpn, near, remote| UsageKey {
        bridge,
        path: Path::vpn(vpn),
        near,
        remote: address(remote),
    };
    let client = address(CLIENT);
    let mut both = sent(2, 200);
    both.add(&came(2, 200));
    // Test runs are on `lo`, which is the VPN's interface and the bridge.
    let mut expected = vec![
        (key(1, 1, client, SERVER), sent(2, 200)),
        (key(1, 0, client, RESOLVER), both),
        (key(0, 1, Address::default(), SERVER), sent(2, 56)),
        (key(0, 1, Address::default(), RESOLVER), sent(2, 56)),
    ];
    let mut usage = kernel.datapath.usage().unwrap();
    let order = |(key, _): &(UsageKey, Volume)| (key.bridge, *key.remote.octets());
    usage.sort_by_key(order);
    expected.sort_by_key(order);
    assert_eq!(usage, expected);
}

#[test]
fn the_many_are_read_at_once() {
    const MANY: u16 = 5_000;
    let mut kernel = Kernel::new();
    let kernel = &mut *kernel;
    kernel.configured(|config| Config {
        watched: u64::MAX,
        ..config
    });
    for number in 0..MANY {
        let [high, low] = number.to_be_bytes();
        let far = format!("198.18.{high}.{low}");
        kernel.run("bridge_egress", &tcp(&far, 443, CLIENT, 1, ACK), 0);
    }
    let usage = kernel.datapath.usage().unwrap();
    let far: BTreeSet<_> = usage.iter().map(|(key, _)| key.remote.to_ip()).collect();
    assert_eq!((usage.len(), far.len()), (MANY.into(), MANY.into()));
    let length = tcp(SERVER, 443, CLIENT, 1, ACK).len() - ETHERNET;
    assert!(
        usage
            .iter()
            .all(|(_, volume)| *volume == came(1, length as u64))
    );
}
