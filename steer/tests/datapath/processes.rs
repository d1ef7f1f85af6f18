//! Packets of processes in scopes, right before they leave. Test runs are of a socket that is in this process's own cgroup.

use std::{collections::BTreeSet, process::Command};

use steer::{
    datapath::{Processes, cgroup_id},
    host::cgroup::Hierarchy,
};
use steer_common::{
    stats::Outcome,
    types::{Address, Config, Path, ProcessScope, ScopeEntry, Verdict},
};

use crate::{
    CLIENT, RESOLVER, SERVER,
    kernel::{Kernel, Lent, MARK, OTHER_IFINDEX, vpns},
    packet::{ACK, SYN, ip, tcp, udp},
};

const LOOPBACK: u32 = 1;
const NOBODYS: u32 = 7_778;
const V6: [&str; 2] = ["fd00::2", "2001:db8:b10c::7"];

/// Programs that know this process to be in a scope, and an interface that is not the VPN's, in a namespace of this thread alone.
fn scoped(default: u32, dns: u32) -> (Lent, u32) {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    let other = ["link", "add", "other", "type", "bridge"];
    let made = Command::new("ip").args(other).status();
    assert!(made.is_ok_and(|made| made.success()), "no other interface");
    let other = nix::net::if_::if_nametoindex("other").unwrap();
    let mut kernel = Kernel::new();
    let own = Hierarchy::read().unwrap().own().unwrap();
    let scope = ProcessScope {
        entry: ScopeEntry {
            default,
            dns,
            scope: 1,
            path: Path::vpn(1),
        },
        v4: Address::default(),
        v6: Address::default(),
    };
    let scopes = Processes::from([(cgroup_id(&own).unwrap(), scope)]);
    let nobody = Processes::new();
    kernel.datapath.set_processes(&nobody, &scopes).unwrap();
    kernel.configured(|config| Config {
        processes: 1,
        vpns: vpns(NOBODYS, OTHER_IFINDEX),
        ..config
    });
    (kernel, other)
}

/// What is counted of a packet that leaves by an interface, and whether it does.
fn leaves(kernel: &mut Kernel, frame: &[u8], interface: u32, mark: u32) -> (Outcome, bool) {
    let mut result = 0;
    let outcome = kernel.outcome(|kernel| {
        (result, _) = kernel.run_on("cgroup_egress", frame, interface, mark);
    });
    (outcome, result == 1)
}

#[test]
fn what_is_isolated_leaves_by_the_vpn_or_not_at_all() {
    const STOPPED: (Outcome, bool) = (Outcome::Isolated, false);
    const LET_GO: (Outcome, bool) = (Outcome::Left, true);
    let (mut kernel, other) = scoped(ScopeEntry::VPN, 0);
    let kernel = &mut *kernel;
    for (client, server) in [(CLIENT, SERVER), (V6[0], V6[1])] {
        let packets = [
            tcp(client, 1, server, 443, SYN),
            tcp(client, 1, server, 443, ACK),
            udp(client, 1, server, 443, b"x"),
            ip(client, server, 132, &[0; 16]),
        ];
        for packet in &packets {
            assert_eq!(leaves(kernel, packet, other, 0), STOPPED);
            assert_eq!(leaves(kernel, packet, LOOPBACK, 0), LET_GO, "it stays");
        }
        kernel.knows(server, Verdict::DIRECT);
        for packet in &packets {
            assert_eq!(leaves(kernel, packet, other, 0), LET_GO, "an exception");
        }
    }
    for (far, left) in [
        ("172.17.0.9", LET_GO),
        ("224.0.0.251", STOPPED),
        ("169.254.169.254", STOPPED),
    ] {
        let home = BTreeSet::from(["172.17.0.0/16".parse().unwrap()]);
        kernel.datapath.set_home(&home).unwrap();
        let packet = udp(CLIENT, 1, far, 443, b"x");
        assert_eq!(leaves(kernel, &packet, other, 0), left, "{far}");
    }
    let packet = tcp(CLIENT, 1, "203.0.113.9", 443, SYN);
    assert_eq!(
        leaves(kernel, &packet, other, MARK),
        (Outcome::WrongPath, false)
    );
    kernel.configured(|config| Config {
        vpns: vpns(other, OTHER_IFINDEX),
        ..config
    });
    for mark in [0, MARK] {
        assert_eq!(leaves(kernel, &packet, other, mark), LET_GO, "{mark:#x}");
    }
    kernel.configured(|config| Config {
        vpns: vpns(NOBODYS, other),
        ..config
    });
    assert_eq!(leaves(kernel, &packet, other, 0), STOPPED, "another VPN");
    kernel.configured(|config| Config {
        processes: 0,
        ..config
    });
    assert_eq!(leaves(kernel, &packet, other, 0), LET_GO, "no scope");
}

#[test]
fn who_comes_from_outside_is_answered() {
    let (mut kernel, other) = scoped(ScopeEntry::VPN, 0);
    let kernel = &mut *kernel;
    for (host, comer) in [(CLIENT, SERVER), (V6[0], V6[1])] {
        let comes = tcp(comer, 9, host, 80, SYN);
        assert_eq!(kernel.run_on("cgroup_ingress", &comes, other, 0).0, 1);
        for (port, answered) in [(9, true), (10, false)] {
            // The listener's own port may be another outside.
            let answer = tcp(host, 8080, comer, port, SYN | ACK);
            assert_eq!(
                leaves(kernel, &answer, other, 0).1,
                answered,
                "to port {port}"
            );
        }
    }
}

#[test]
fn who_comes_by_an_interface_that_nobody_looked_at_is_not_answered_by_the_direct_path() {
    let (mut kernel, other) = scoped(ScopeEntry::VPN, 0);
    let comes = tcp(SERVER, 9, CLIENT, 80, SYN);
    let answer = tcp(CLIENT, 80, SERVER, 9, SYN | ACK);
    for (newest, answered) in [(other - 1, false), (other, true)] {
        kernel.configured(|config| Config { newest, ..config });
        assert_eq!(kernel.run_on("cgroup_ingress", &comes, other, 0).0, 1);
        let (_, left) = leaves(&mut kernel, &answer, other, 0);
        assert_eq!(left, answered, "{newest} was looked at, this is {other}");
    }
}

#[test]
fn what_comes_to_a_socket_older_than_its_scope_is_noted_of_nobody() {
    let (mut kernel, other) = scoped(ScopeEntry::VPN, 0);
    // Nobody saw how the socket of a test run was made.
    let answer = udp(SERVER, 443, CLIENT, 1, b"x");
    assert_eq!(kernel.run_on("cgroup_ingress", &answer, other, 0).0, 1);
    assert_eq!(kernel.datapath.flows().unwrap().keys().count(), 0);
    let comes = tcp(SERVER, 9, CLIENT, 80, SYN);
    assert_eq!(kernel.run_on("cgroup_ingress", &comes, other, 0).0, 1);
    assert_eq!(kernel.datapath.flows().unwrap().keys().count(), 1);
}

#[test]
fn a_scope_may_let_nothing_out() {
    let (mut kernel, other) = scoped(ScopeEntry::BLOCK, 0);
    let packet = tcp(CLIENT, 1, SERVER, 443, SYN);
    let blocked = leaves(&mut kernel, &packet, other, 0);
    assert_eq!(blocked, (Outcome::Blocked, false));
    kernel.knows(SERVER, Verdict::DIRECT);
    assert!(leaves(&mut kernel, &packet, other, 0).1);
}

#[test]
fn questions_go_to_the_scopes_resolver_alone() {
    for default in [ScopeEntry::VPN, ScopeEntry::FREE] {
        let (mut kernel, other) = scoped(default, 1);
        kernel.knows(RESOLVER, Verdict::DIRECT);
        for frame in [
            udp(CLIENT, 1, RESOLVER, 53, b"question"),
            tcp(CLIENT, 1, RESOLVER, 53, SYN),
        ] {
            for interface in [other, LOOPBACK] {
                let (left, _) = kernel.run_on("cgroup_egress", &frame, interface, 0);
                assert_eq!(left, 0, "by interface {interface}");
            }
            kernel.configured(|config| Config {
                vpns: vpns(other, OTHER_IFINDEX),
                ..config
            });
            let (left, _) = kernel.run_on("cgroup_egress", &frame, other, 0);
            assert_eq!(left, 1, "by the VPN");
            kernel.configured(|config| Config {
                vpns: vpns(NOBODYS, OTHER_IFINDEX),
                ..config
            });
        }
    }
}
