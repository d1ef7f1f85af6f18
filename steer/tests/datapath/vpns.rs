//! Several VPNs: which of them a flow takes.

use std::net::IpAddr;

use nix::{net::if_::if_nametoindex, sched::CloneFlags};
use steer::{datapath::Scopes, events::Event};
use steer_common::{
    stats::Outcome,
    types::{
        Address, Config, FlowEntry, FlowKey, Path, Port, RuleEntry, ScopeEntry, ScopeKey, Verdict,
        Vpn,
    },
};

use crate::{
    CLIENT, RESOLVER, SERVER, flow,
    kernel::{DROP, Kernel, MARK, NEXT, OTHER_MARK, VPN_IFINDEX, vpns},
    message::{Answer, answer, question},
    packet::{ACK, RST, SYN, tcp, udp},
};

const FIRST: Path = Path::vpn(1);
const SECOND: Path = Path::vpn(2);

fn address(text: &str) -> Address {
    text.parse::<IpAddr>().unwrap().into()
}

/// The container's scope, on the bridge that test runs are on.
fn scoped(kernel: &mut Kernel, default: u32, path: Path) {
    let key = ScopeKey::of_bridge(1);
    let entry = ScopeEntry {
        default,
        dns: 1,
        scope: 1,
        path,
    };
    let scopes = Scopes::from([(key, entry)]);
    kernel.datapath.set_scopes(&Scopes::new(), &scopes).unwrap();
    kernel.configured(|config| Config {
        scopes: 1,
        ..config
    });
}

/// Another interface than `lo`, in a namespace of this thread's: test runs look for interfaces where they are asked from.
fn other_interface() -> u32 {
    nix::sched::unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let made = std::process::Command::new("ip")
        .args(["link", "add", "other", "type", "bridge"])
        .status();
    assert!(made.is_ok_and(|made| made.success()), "no other interface");
    if_nametoindex("other").unwrap()
}

#[test]
fn a_rule_says_which_or_means_the_default_one() {
    for (client, server) in [(CLIENT, SERVER), ("fd00::2", "2001:db8:b10c::7")] {
        let mut kernel = Kernel::new();
        let mut port = 0;
        let mut begins = |kernel: &mut Kernel, verdict| {
            kernel.knows(server, verdict);
            port += 1;
            let mark = flow(kernel, &tcp(client, port, server, 443, SYN));
            kernel.forgets(server);
            let held = flow(kernel, &tcp(client, port, server, 443, ACK));
            assert_eq!(mark, held, "it keeps its path");
            mark
        };
        assert_eq!(begins(&mut kernel, Verdict::VPN), (NEXT, MARK));
        assert_eq!(begins(&mut kernel, Verdict::by(FIRST)), (NEXT, MARK));
        assert_eq!(begins(&mut kernel, Verdict::by(SECOND)), (NEXT, OTHER_MARK));
        kernel.configured(|config| Config {
            default: SECOND,
            ..config
        });
        assert_eq!(begins(&mut kernel, Verdict::VPN), (NEXT, OTHER_MARK));
        assert_eq!(begins(&mut kernel, Verdict::by(FIRST)), (NEXT, MARK));
        let told = kernel.events();
        let told = told.iter().filter_map(|event| match event {
            Event::Steered(steered) => Some(steered.path),
            _ => None,
        });
        let told: Vec<_> = told.collect();
        assert_eq!(told, [FIRST, FIRST, SECOND, SECOND, FIRST]);
    }
}

#[test]
fn a_rule_for_a_network_says_which() {
    let mut kernel = Kernel::new();
    kernel.net("203.0.113.0", 24, Verdict::by(SECOND));
    let echo = crate::packet::ipv4(CLIENT, SERVER, 1, 0, &[8, 0, 0, 0, 0, 1, 0, 1]);
    assert_eq!(flow(&mut kernel, &echo), (NEXT, OTHER_MARK), "by address");
    let datagram = udp(CLIENT, 1, SERVER, 8443, b"x");
    assert_eq!(flow(&mut kernel, &datagram), (NEXT, OTHER_MARK));
}

#[test]
fn a_scope_has_its_own() {
    for default in [ScopeEntry::FREE, ScopeEntry::VPN, ScopeEntry::BLOCK] {
        let mut kernel = Kernel::new();
        scoped(&mut kernel, default, SECOND);
        let unmatched = match default {
            ScopeEntry::FREE => (NEXT, 0),
            ScopeEntry::VPN => (NEXT, OTHER_MARK),
            _ => (DROP, 0),
        };
        let syn = |port| tcp(CLIENT, port, SERVER, 443, SYN);
        assert_eq!(flow(&mut kernel, &syn(1)), unmatched, "{default}");
        for (port, verdict, mark) in [
            (2, Verdict::VPN, OTHER_MARK),
            (3, Verdict::by(SECOND), OTHER_MARK),
            (4, Verdict::by(FIRST), MARK),
            (5, Verdict::DIRECT, 0),
        ] {
            kernel.knows(SERVER, verdict);
            assert_eq!(flow(&mut kernel, &syn(port)), (NEXT, mark), "{default}");
        }
        let asked = udp(CLIENT, 2, RESOLVER, 53, &question(7, "some.example"));
        assert_eq!(flow(&mut kernel, &asked), (NEXT, OTHER_MARK), "{default}");
    }
    let mut kernel = Kernel::new();
    scoped(&mut kernel, ScopeEntry::VPN, Path::DIRECT);
    let syn = tcp(CLIENT, 1, SERVER, 443, SYN);
    assert_eq!(flow(&mut kernel, &syn), (NEXT, MARK), "the default one");
}

#[test]
fn what_came_by_one_is_answered_by_it() {
    let other = other_interface();
    let mut kernel = Kernel::new();
    if !kernel.takes_ingress() {
        println!(
            "\nfact: left out what_came_by_one_is_answered_by_it: this kernel's test runs take no ingress interface; the \
             end-to-end tests run it"
        );
        return;
    }
    kernel.configured(|config| Config {
        vpns: vpns(VPN_IFINDEX, other),
        ..config
    });
    for (port, came_by, mark) in [(1, VPN_IFINDEX, MARK), (2, other, OTHER_MARK)] {
        let request = tcp(SERVER, port, CLIENT, 80, SYN);
        assert_eq!(kernel.run("bridge_egress", &request, came_by), (NEXT, 0));
        let answer = tcp(CLIENT, 80, SERVER, port, SYN | ACK);
        assert_eq!(flow(&mut kernel, &answer), (NEXT, mark));
        let late = tcp(SERVER, 443, CLIENT, port, ACK);
        kernel.run("bridge_egress", &late, came_by);
        let reset = tcp(CLIENT, port, SERVER, 443, RST);
        assert_eq!(flow(&mut kernel, &reset), (NEXT, mark));
        kernel.run(
            "bridge_egress",
            &udp(SERVER, port, CLIENT, 80, b"?"),
            came_by,
        );
        let answer = udp(CLIENT, 80, SERVER, port, b"!");
        assert_eq!(flow(&mut kernel, &answer), (NEXT, mark));
    }
}

#[test]
fn a_marked_packet_leaves_by_its_own_alone() {
    let other = other_interface();
    let mut kernel = Kernel::new();
    let packet = &tcp(CLIENT, 1, SERVER, 443, SYN);
    // Test runs are on `lo`, by which anything may leave.
    let nowhere = other + 1;
    for (first, second, mark, allowed) in [
        (nowhere, other, MARK, 0),
        (nowhere, other, OTHER_MARK, 1),
        (other, nowhere, MARK, 1),
        (other, nowhere, OTHER_MARK, 0),
        (nowhere, nowhere, 0x2000, 1),
    ] {
        kernel.configured(|config| Config {
            vpns: vpns(first, second),
            ..config
        });
        let (result, _) = kernel.run_on("cgroup_egress", packet, other, mark);
        assert_eq!(result, allowed, "{first} {second} {mark:#x}");
    }
    let mut open = vpns(nowhere, nowhere);
    open[1].open = 1;
    kernel.configured(|config| Config {
        vpns: open,
        ..config
    });
    for (mark, allowed) in [(MARK, 0), (OTHER_MARK, 1)] {
        let (result, _) = kernel.run_on("cgroup_egress", packet, other, mark);
        assert_eq!(result, allowed, "{mark:#x}");
    }
}

#[test]
fn one_that_is_down_and_open_lets_its_own_flows_go_direct() {
    let mut kernel = Kernel::new();
    kernel.configured(|mut config| {
        config.vpns[1].open = 1;
        config
    });
    for (port, verdict, mark) in [
        (1, Verdict::by(SECOND), 0),
        (2, Verdict::by(FIRST), MARK),
        (3, Verdict::VPN, MARK),
    ] {
        kernel.knows(SERVER, verdict);
        let syn = tcp(CLIENT, port, SERVER, 443, SYN);
        assert_eq!(flow(&mut kernel, &syn), (NEXT, mark));
    }
}

#[test]
fn a_flow_of_one_that_is_no_more_goes_nowhere() {
    let mut kernel = Kernel::new();
    let key = FlowKey {
        origin: 1,
        local: address(CLIENT),
        remote: address(SERVER),
        local_port: Port::new(1),
        remote_port: Port::new(443),
        protocol: 6,
    };
    kernel.holds(key, FlowEntry::new(0, SECOND));
    let packet = tcp(CLIENT, 1, SERVER, 443, ACK);
    assert_eq!(flow(&mut kernel, &packet), (NEXT, OTHER_MARK));
    kernel.configured(|mut config| {
        config.vpns[1] = Vpn::default();
        config
    });
    assert_eq!(flow(&mut kernel, &packet), (DROP, 0));
}

#[test]
fn names_for_different_ones_contest_an_address() {
    let mut kernel = Kernel::new();
    let rule = |name, verdict| {
        let entry = RuleEntry {
            exact: verdict,
            below: verdict,
        };
        (name, entry)
    };
    kernel.rules(&[
        rule("first.example", Verdict::by(FIRST)),
        rule("second.example", Verdict::by(SECOND)),
        rule("any.example", Verdict::VPN),
    ]);
    let server: IpAddr = SERVER.parse().unwrap();
    let learns = |kernel: &mut Kernel, name| {
        kernel.events();
        let before = kernel.counted(Outcome::Contested);
        let asked = udp(CLIENT, 40_000, RESOLVER, 53, &question(7, name));
        flow(kernel, &asked);
        let answer = answer(7, name, &[Answer::Address(server, 60)]);
        let answer = udp(RESOLVER, 53, CLIENT, 40_000, &answer);
        kernel.run("bridge_egress", &answer, 0);
        let told = kernel.events().len();
        (kernel.counted(Outcome::Contested) - before, told)
    };
    for (name, contested, told, verdict) in [
        ("first.example", 0, 1, Verdict::by(FIRST)),
        ("second.example", 1, 1, Verdict::by(SECOND)),
        // Told once by each name.
        ("first.example", 0, 0, Verdict::by(FIRST)),
        ("second.example", 0, 0, Verdict::by(SECOND)),
        // Who does not say which takes it from none.
        ("any.example", 1, 1, Verdict::by(SECOND)),
    ] {
        assert_eq!(learns(&mut kernel, name), (contested, told), "{name}");
        assert_eq!(kernel.verdict(server), verdict, "{name}");
    }
}
