//! Packets of containers and processes: which take the VPN.

use std::net::IpAddr;

use steer_common::{
    stats::Outcome,
    types::{AddrEntry, Address, Config, FlowEntry, FlowKey, Path, Port, Verdict},
};

use crate::{
    CLIENT, RESOLVER, SERVER, flow,
    kernel::{DROP, Kernel, MARK, NEXT, VPN_IFINDEX},
    packet::{self, ACK, FIN, RST, SYN, tcp, udp},
};

#[test]
fn a_new_connection_goes_where_its_address_says() {
    for (client, server) in [(CLIENT, SERVER), ("fd00::2", "2001:db8:b10c::7")] {
        let mut kernel = Kernel::new();
        assert_eq!(
            flow(&mut kernel, &tcp(client, 1, server, 443, SYN)),
            (NEXT, 0),
            "unknown"
        );
        kernel.knows(server, Verdict::DIRECT);
        assert_eq!(
            flow(&mut kernel, &tcp(client, 2, server, 443, SYN)),
            (NEXT, 0),
            "direct"
        );
        kernel.knows(server, Verdict::VPN);
        assert_eq!(
            flow(&mut kernel, &tcp(client, 3, server, 443, SYN)),
            (NEXT, MARK),
            "vpn"
        );
        assert_eq!(
            flow(&mut kernel, &tcp(client, 3, server, 443, ACK)),
            (NEXT, MARK),
            "held"
        );
        assert_eq!(
            flow(&mut kernel, &tcp(client, 1, server, 443, ACK)),
            (NEXT, 0),
            "begun before"
        );
        assert_eq!(
            flow(&mut kernel, &udp(client, 3, server, 443, b"x")),
            (NEXT, MARK),
            "udp"
        );
    }
}

#[test]
fn a_flow_is_held_when_its_address_is_forgotten() {
    let mut kernel = Kernel::new();
    kernel.knows(SERVER, Verdict::VPN);
    let frames = [
        tcp(CLIENT, 1, SERVER, 443, ACK),
        udp(CLIENT, 1, SERVER, 443, b"x"),
    ];
    flow(&mut kernel, &tcp(CLIENT, 1, SERVER, 443, SYN));
    flow(&mut kernel, &frames[1]);
    kernel.forgets(SERVER);
    for frame in &frames {
        assert_eq!(flow(&mut kernel, frame), (NEXT, MARK));
    }
    assert_eq!(
        flow(&mut kernel, &tcp(CLIENT, 1, SERVER, 443, FIN | ACK)),
        (NEXT, MARK)
    );
    assert_eq!(
        flow(&mut kernel, &tcp(CLIENT, 1, SERVER, 443, SYN)),
        (NEXT, 0),
        "a new one"
    );
}

#[test]
fn a_direct_datagram_flow_stays_direct_when_its_address_is_learned() {
    let mut kernel = Kernel::new();
    let frame = udp(CLIENT, 1, SERVER, 443, b"x");
    assert_eq!(flow(&mut kernel, &frame), (NEXT, 0));
    kernel.knows(SERVER, Verdict::VPN);
    assert_eq!(flow(&mut kernel, &frame), (NEXT, 0));
}

#[test]
fn an_address_that_expired_is_unknown() {
    let mut kernel = Kernel::new();
    kernel.knows_until(
        SERVER,
        AddrEntry {
            vpn_until: 1,
            ..AddrEntry::default()
        },
    );
    let outcome = kernel.outcome(|kernel| {
        flow(kernel, &tcp(CLIENT, 1, SERVER, 443, SYN));
    });
    assert_eq!(outcome, Outcome::Unmatched);
}

#[test]
fn what_goes_direct_is_marked_where_a_vpn_has_the_default_route() {
    const BYPASS: u32 = 0x2000;
    let mut kernel = Kernel::new();
    kernel.configured(|config| Config {
        bypass: BYPASS,
        ..config
    });
    kernel.knows(SERVER, Verdict::VPN);
    for (number, (server, mark)) in [(SERVER, MARK), (RESOLVER, BYPASS)].into_iter().enumerate() {
        let port = 1 + number as u16;
        for frame in [
            tcp(CLIENT, port, server, 443, SYN),
            tcp(CLIENT, port, server, 443, ACK),
            udp(CLIENT, port, server, 8443, b"x"),
        ] {
            assert_eq!(flow(&mut kernel, &frame), (NEXT, mark), "{server}");
            assert_eq!(
                kernel.run_marked("bridge_ingress", &frame, 0, 0xca_3c6c),
                (NEXT, 0xca_0c6c | mark),
                "{server}: bits of others"
            );
        }
    }
    let answer = tcp(RESOLVER, 443, CLIENT, 2, ACK);
    assert_eq!(kernel.run("bridge_egress", &answer, 0), (NEXT, 0));
}

#[test]
fn the_mark_of_others_is_left_alone() {
    let mut kernel = Kernel::new();
    kernel.knows(SERVER, Verdict::VPN);
    let syn = tcp(CLIENT, 1, SERVER, 443, SYN);
    assert_eq!(
        kernel.run_marked("bridge_ingress", &syn, 0, 0xca_0c6c),
        (NEXT, 0xca_0c6c | MARK)
    );
    let other = tcp(CLIENT, 1, RESOLVER, 443, SYN);
    assert_eq!(
        kernel.run_marked("bridge_ingress", &other, 0, 0xca_0c6c),
        (NEXT, 0xca_0c6c)
    );
}

#[test]
fn packets_without_a_flow_go_by_their_address() {
    let mut kernel = Kernel::new();
    kernel.knows(SERVER, Verdict::VPN);
    let fragment = packet::ipv4(CLIENT, SERVER, 17, 0x00b9, &[0; 16]);
    let echo = packet::ipv4(CLIENT, SERVER, 1, 0, &[8, 0, 0, 0, 0, 1, 0, 1]);
    let echo_reply = packet::ipv4(CLIENT, SERVER, 1, 0, &[0, 0, 0, 0, 0, 1, 0, 1]);
    let unreachable = packet::ipv4(CLIENT, SERVER, 1, 0, &[3, 1, 0, 0, 0, 0, 0, 0]);
    for (frame, mark) in [
        (fragment, MARK),
        (echo, MARK),
        (echo_reply, 0),
        (unreachable, 0),
    ] {
        assert_eq!(flow(&mut kernel, &frame), (NEXT, mark));
    }
}

#[test]
fn an_error_goes_by_the_path_of_the_flow_that_it_is_about() {
    for (client, server, protocol, kinds) in [
        (CLIENT, SERVER, 1, [3, 11]),
        ("fd00::2", "2001:db8:b10c::7", 58, [1, 2]),
    ] {
        let mut kernel = Kernel::new();
        let error = |kind: u8, quoted: &[u8]| {
            // What the server sent is behind the Ethernet header.
            let message = [&[kind, 3, 0, 0, 0, 0, 0, 0], &quoted[14..]].concat();
            packet::ip(client, server, protocol, &message)
        };
        let answer = |port| udp(server, 443, client, port, b"an answer of some length");
        flow(&mut kernel, &udp(client, 1, server, 443, b"x"));
        kernel.knows(server, Verdict::VPN);
        flow(&mut kernel, &udp(client, 2, server, 443, b"x"));
        flow(&mut kernel, &tcp(client, 3, server, 443, SYN));
        for kind in kinds {
            for (quoted, mark, which) in [
                (answer(1), 0, "begun before its address was learned"),
                (answer(2), MARK, "of the VPN"),
                (answer(4), MARK, "forgotten, to an address of the VPN"),
                (
                    tcp(server, 443, client, 3, ACK),
                    MARK,
                    "a connection of the VPN",
                ),
            ] {
                let outcome = flow(&mut kernel, &error(kind, &quoted));
                assert_eq!(outcome, (NEXT, mark), "{server}, kind {kind}: {which}");
            }
        }
        kernel.forgets(server);
        assert_eq!(
            flow(&mut kernel, &error(kinds[0], &answer(2))),
            (NEXT, MARK)
        );
        assert_eq!(flow(&mut kernel, &error(kinds[0], &answer(4))), (NEXT, 0));
        let cut = error(kinds[0], &answer(2)[..30]);
        assert_eq!(
            flow(&mut kernel, &cut),
            (NEXT, 0),
            "it does not say of which"
        );
    }
}

#[test]
fn headers_of_any_length_are_read() {
    let mut kernel = Kernel::new();
    kernel.knows(SERVER, Verdict::VPN);
    kernel.knows("2001:db8:b10c::7", Verdict::VPN);
    let options = packet::with_options(&tcp(CLIENT, 1, SERVER, 443, SYN), &[1; 40]);
    assert_eq!(flow(&mut kernel, &options), (NEXT, MARK));
    let v6 = udp("fd00::2", 1, "2001:db8:b10c::7", 443, b"x");
    for (extensions, name) in [
        (vec![0], "hop-by-hop"),
        (vec![60, 43], "two"),
        (vec![44], "an atomic fragment"),
    ] {
        let frame = packet::with_extensions(&v6, &extensions);
        assert_eq!(flow(&mut kernel, &frame), (NEXT, MARK), "{name}");
    }
    let endless = packet::with_extensions(&v6, &[0, 60, 60, 60, 60, 60]);
    assert_eq!(
        flow(&mut kernel, &endless),
        (NEXT, MARK),
        "more than are looked at: by address"
    );
}

#[test]
fn what_is_not_ip_or_not_whole_passes() {
    let mut kernel = Kernel::new();
    let arp = packet::ethernet(0x0806, &[0; 28]);
    let outcome = kernel.outcome(|kernel| {
        assert_eq!(flow(kernel, &arp), (NEXT, 0));
    });
    assert_eq!(outcome, Outcome::NotIp);
    let syn = tcp(CLIENT, 1, SERVER, 443, SYN);
    let mut short_header = syn.clone();
    short_header[14] = 0x42;
    for frame in [&syn[..14 + 20 + 8], &short_header] {
        let outcome = kernel.outcome(|kernel| {
            assert_eq!(flow(kernel, frame), (NEXT, 0));
        });
        assert_eq!(outcome, Outcome::BadPacket, "{} octets", frame.len());
    }
}

#[test]
fn a_full_table_of_flows_stops_new_ones_and_holds_the_old() {
    let mut kernel = Kernel::new();
    kernel.knows(SERVER, Verdict::VPN);
    flow(&mut kernel, &tcp(CLIENT, 1, SERVER, 443, SYN));
    kernel.fill_flows();
    let outcome = kernel.outcome(|kernel| {
        assert_eq!(flow(kernel, &tcp(CLIENT, 2, SERVER, 443, SYN)), (DROP, 0));
    });
    assert_eq!(outcome, Outcome::FlowsFull);
    assert_eq!(
        flow(&mut kernel, &tcp(CLIENT, 1, SERVER, 443, ACK)),
        (NEXT, MARK)
    );
    assert_eq!(
        flow(&mut kernel, &tcp(CLIENT, 2, RESOLVER, 443, SYN)),
        (NEXT, 0)
    );
}

#[test]
fn requests_that_came_by_the_vpn_are_answered_by_it() {
    let mut kernel = Kernel::new();
    if !kernel.takes_ingress() {
        println!(
            "\nfact: left out requests_that_came_by_the_vpn_are_answered_by_it: this kernel's test runs take no ingress \
             interface; the end-to-end tests run it"
        );
        return;
    }
    let request = tcp(SERVER, 1, CLIENT, 80, SYN);
    assert_eq!(
        kernel.run("bridge_egress", &request, VPN_IFINDEX),
        (NEXT, 0)
    );
    assert_eq!(
        flow(&mut kernel, &tcp(CLIENT, 80, SERVER, 1, SYN | ACK)),
        (NEXT, MARK)
    );
    // Of a flow that nobody knows any more.
    kernel.run(
        "bridge_egress",
        &tcp(SERVER, 443, CLIENT, 2, ACK),
        VPN_IFINDEX,
    );
    assert_eq!(
        flow(&mut kernel, &tcp(CLIENT, 2, SERVER, 443, RST)),
        (NEXT, MARK)
    );
    kernel.run(
        "bridge_egress",
        &udp(SERVER, 1, CLIENT, 80, b"?"),
        VPN_IFINDEX,
    );
    assert_eq!(
        flow(&mut kernel, &udp(CLIENT, 80, SERVER, 1, b"!")),
        (NEXT, MARK)
    );
}

#[test]
fn requests_that_came_direct_are_answered_direct_whatever_their_address() {
    let mut kernel = Kernel::new();
    kernel.knows(SERVER, Verdict::VPN);
    kernel.run("bridge_egress", &tcp(SERVER, 1, CLIENT, 80, SYN), 0);
    assert_eq!(
        flow(&mut kernel, &tcp(CLIENT, 80, SERVER, 1, SYN | ACK)),
        (NEXT, 0)
    );
    kernel.run("bridge_egress", &udp(SERVER, 1, CLIENT, 80, b"?"), 0);
    assert_eq!(
        flow(&mut kernel, &udp(CLIENT, 80, SERVER, 1, b"!")),
        (NEXT, 0)
    );
}

#[test]
fn a_marked_packet_leaves_a_cgroup_by_the_vpn_alone() {
    // Of this thread alone; test runs look for interfaces in the namespace they are asked from.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    let made = std::process::Command::new("ip")
        .args(["link", "add", "other", "type", "bridge"])
        .status();
    assert!(made.is_ok_and(|made| made.success()), "no other interface");
    let other = nix::net::if_::if_nametoindex("other").unwrap();
    let mut kernel = Kernel::new();
    let packet = &tcp(CLIENT, 1, SERVER, 443, SYN);
    for (interface, mark, allowed) in [(other, MARK, 0), (other, 0x4000, 1), (VPN_IFINDEX, MARK, 1)]
    {
        let (result, _) = kernel.run_on("cgroup_egress", packet, interface, mark);
        assert_eq!(result, allowed, "interface {interface} mark {mark:#x}");
    }
}

#[test]
fn flows_of_one_bridge_are_no_flows_of_another() {
    let mut kernel = Kernel::new();
    let key = FlowKey {
        origin: 12345,
        local: Address::from(CLIENT.parse::<IpAddr>().unwrap()),
        remote: Address::from(SERVER.parse::<IpAddr>().unwrap()),
        local_port: Port::new(1),
        remote_port: Port::new(443),
        protocol: 6,
    };
    kernel.holds(key, FlowEntry::new(0, Path::vpn(1)));
    assert_eq!(
        flow(&mut kernel, &tcp(CLIENT, 1, SERVER, 443, ACK)),
        (NEXT, 0)
    );
}

#[test]
fn the_programs_load_with_their_log() {
    for level in [aya_log::Level::Warn, aya_log::Level::Debug] {
        let loaded = steer::datapath::Datapath::load(Some(level), steer::datapath::Room::default());
        loaded.unwrap_or_else(|error| panic!("{level:?}: {}", steer::error::sentence(&error)));
    }
}
