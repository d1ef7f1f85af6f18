//! The kernel programs, run by `BPF_PROG_TEST_RUN` on packets made here; needs root.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod kernel;
mod message;
mod packet;

use std::net::IpAddr;

use steer_common::{
    stats::Outcome,
    types::{AddrEntry, Address, FlowEntry, FlowKey, Port, RuleEntry, Verdict},
};

use self::{
    kernel::{DROP, Kernel, MARK, NEXT, VPN_IFINDEX},
    message::{Answer, answer, question},
    packet::{ACK, FIN, SYN, Udp, tcp, udp},
};

const CLIENT: &str = "172.17.0.2";
const SERVER: &str = "203.0.113.7";
const RESOLVER: &str = "192.0.2.53";

fn flow(kernel: &mut Kernel, frame: &[u8]) -> (i32, u32) {
    kernel.run("bridge_ingress", frame, 0)
}

/// A container asks, and the answer comes back.
fn resolve(kernel: &mut Kernel, asked: &str, octets: &[u8]) -> Outcome {
    let ask = udp(CLIENT, 40_000, RESOLVER, 53, &question(7, asked));
    assert_eq!(kernel.run("bridge_ingress", &ask, 0), (NEXT, 0));
    kernel.outcome(|kernel| {
        kernel.run(
            "bridge_egress",
            &udp(RESOLVER, 53, CLIENT, 40_000, octets),
            0,
        );
    })
}

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
    let request = tcp(SERVER, 1, CLIENT, 80, SYN);
    assert_eq!(
        kernel.run("bridge_egress", &request, VPN_IFINDEX),
        (NEXT, 0)
    );
    assert_eq!(
        flow(&mut kernel, &tcp(CLIENT, 80, SERVER, 1, SYN | ACK)),
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
fn answers_teach_by_the_most_specific_rule() {
    let mut kernel = Kernel::new();
    kernel.rules(&[
        (
            "both.example",
            RuleEntry {
                exact: Verdict::VPN,
                below: Verdict::VPN,
            },
        ),
        (
            "cdn.both.example",
            RuleEntry {
                exact: Verdict::DIRECT,
                below: Verdict::DIRECT,
            },
        ),
        (
            "exact.example",
            RuleEntry {
                exact: Verdict::VPN,
                below: Verdict::NONE,
            },
        ),
        (
            "below.example",
            RuleEntry {
                exact: Verdict::NONE,
                below: Verdict::VPN,
            },
        ),
    ]);
    for (index, (name, verdict)) in [
        ("both.example", Verdict::VPN),
        ("BOTH.Example", Verdict::VPN),
        ("a.both.example", Verdict::VPN),
        ("cdn.both.example", Verdict::DIRECT),
        ("x.cdn.both.example", Verdict::DIRECT),
        ("notboth.example", Verdict::NONE),
        ("exact.example", Verdict::VPN),
        ("a.exact.example", Verdict::NONE),
        ("below.example", Verdict::NONE),
        ("a.b.below.example", Verdict::VPN),
        ("example", Verdict::NONE),
    ]
    .into_iter()
    .enumerate()
    {
        let v4: IpAddr = [198, 51, 100, index as u8].into();
        let v6: IpAddr = [0x2001, 0xdb8, 0, 0, 0, 0, 0, index as u16].into();
        let octets = answer(
            7,
            name,
            &[
                Answer::Alias("alias.example"),
                Answer::Address(v4, 60),
                Answer::Address(v6, 60),
            ],
        );
        let outcome = resolve(&mut kernel, name, &octets);
        let expected = if verdict == Verdict::NONE {
            Outcome::NoRule
        } else {
            Outcome::Learned
        };
        assert_eq!(outcome, expected, "{name}");
        for address in [v4, v6] {
            assert_eq!(kernel.verdict(address), verdict, "{name} {address}");
        }
    }
}

#[test]
fn a_learned_address_steers_the_very_next_packet() {
    let mut kernel = Kernel::new();
    kernel.blocks("blocked.example");
    let server: IpAddr = SERVER.parse().unwrap();
    resolve(
        &mut kernel,
        "blocked.example",
        &answer(7, "blocked.example", &[Answer::Address(server, 60)]),
    );
    assert_eq!(
        flow(&mut kernel, &tcp(CLIENT, 1, SERVER, 443, SYN)),
        (NEXT, MARK)
    );
}

#[test]
fn only_an_answer_to_a_question_teaches() {
    let server: IpAddr = SERVER.parse().unwrap();
    let good = answer(7, "blocked.example", &[Answer::Address(server, 60)]);
    let reply = |udp: Udp<'_>| udp.frame();
    let right = Udp {
        source: RESOLVER,
        source_port: 53,
        destination: CLIENT,
        destination_port: 40_000,
        payload: &good,
    };
    let other_id = answer(8, "blocked.example", &[Answer::Address(server, 60)]);
    let other_name = answer(7, "other.blocked.example", &[Answer::Address(server, 60)]);
    let forgeries = [
        (
            "another id",
            reply(Udp {
                payload: &other_id,
                ..right
            }),
            Outcome::Unasked,
        ),
        (
            "another name",
            reply(Udp {
                payload: &other_name,
                ..right
            }),
            Outcome::OtherName,
        ),
        (
            "another server",
            reply(Udp {
                source: "192.0.2.54",
                ..right
            }),
            Outcome::Unasked,
        ),
        (
            "another client",
            reply(Udp {
                destination: "172.17.0.3",
                ..right
            }),
            Outcome::Unasked,
        ),
        (
            "another port of the client",
            reply(Udp {
                destination_port: 40_001,
                ..right
            }),
            Outcome::Unasked,
        ),
        (
            "a question",
            reply(Udp {
                payload: &question(7, "blocked.example"),
                ..right
            }),
            Outcome::BadMessage,
        ),
        (
            "cut off in the header",
            reply(Udp {
                payload: &good[..11],
                ..right
            }),
            Outcome::BadMessage,
        ),
        (
            "cut off in the name",
            reply(Udp {
                payload: &good[..20],
                ..right
            }),
            Outcome::BadMessage,
        ),
        (
            "cut off in the address",
            reply(Udp {
                payload: &good[..good.len() - 1],
                ..right
            }),
            Outcome::CutShort,
        ),
    ];
    for (what, frame, expected) in forgeries {
        let mut kernel = Kernel::new();
        kernel.blocks("blocked.example");
        kernel.rule("other.blocked.example", Verdict::VPN);
        flow(
            &mut kernel,
            &udp(
                CLIENT,
                40_000,
                RESOLVER,
                53,
                &question(7, "blocked.example"),
            ),
        );
        let outcome = kernel.outcome(|kernel| {
            assert_eq!(kernel.run("bridge_egress", &frame, 0), (NEXT, 0), "{what}");
        });
        assert_eq!(outcome, expected, "{what}");
        assert_eq!(kernel.verdict(server), Verdict::NONE, "{what}");
    }

    let mut kernel = Kernel::new();
    kernel.blocks("blocked.example");
    let unasked = kernel.outcome(|kernel| {
        kernel.run("bridge_egress", &reply(right), 0);
    });
    assert_eq!(unasked, Outcome::Unasked);
    assert_eq!(
        resolve(&mut kernel, "blocked.example", &good),
        Outcome::Learned
    );
    let again = kernel.outcome(|kernel| {
        kernel.run("bridge_egress", &reply(right), 0);
    });
    assert_eq!(again, Outcome::Unasked, "one question teaches once");
}

#[test]
fn addresses_of_the_host_itself_are_never_learned() {
    let mut kernel = Kernel::new();
    kernel.blocks("blocked.example");
    let never = [
        "0.0.0.0",
        "127.0.0.1",
        "169.254.1.1",
        "224.0.0.251",
        "::",
        "::1",
        "fe80::1",
        "ff02::1",
    ];
    let answers: Vec<_> = never
        .iter()
        .map(|a| Answer::Address(a.parse().unwrap(), 60))
        .collect();
    resolve(
        &mut kernel,
        "blocked.example",
        &answer(7, "blocked.example", &answers),
    );
    for address in never {
        assert_eq!(
            kernel.verdict(address.parse().unwrap()),
            Verdict::NONE,
            "{address}"
        );
    }
}

#[test]
fn many_records_are_all_learned_and_told() {
    let mut kernel = Kernel::new();
    kernel.blocks("blocked.example");
    let addresses: Vec<IpAddr> = (0..72).map(|i| [203, 0, 113, i].into()).collect();
    let answers: Vec<_> = addresses.iter().map(|&a| Answer::Address(a, 60)).collect();
    let octets = answer(7, "blocked.example", &answers);
    assert_eq!(
        resolve(&mut kernel, "blocked.example", &octets),
        Outcome::Learned
    );
    for &address in &addresses {
        assert_eq!(kernel.verdict(address), Verdict::VPN);
    }
    assert_eq!(
        kernel.learned_names(),
        vec!["blocked.example".to_owned(); 72]
    );
    resolve(&mut kernel, "blocked.example", &octets);
    assert!(kernel.learned_names().is_empty(), "known already");
}

#[test]
fn names_of_the_greatest_length_are_matched() {
    let deep = vec!["a"; 126].join(".") + ".b";
    let wide = [
        &*"x".repeat(63),
        &"y".repeat(63),
        &"z".repeat(63),
        &"w".repeat(61),
    ]
    .join(".");
    for name in [deep, wide] {
        let mut kernel = Kernel::new();
        kernel.blocks(&name);
        let server: IpAddr = SERVER.parse().unwrap();
        let octets = answer(7, &name, &[Answer::Address(server, 60)]);
        assert_eq!(
            resolve(&mut kernel, &name, &octets),
            Outcome::Learned,
            "{name}"
        );
        assert_eq!(kernel.verdict(server), Verdict::VPN, "{name}");
    }
}

#[test]
fn an_answer_that_finds_no_room_is_held_back() {
    let mut kernel = Kernel::new();
    kernel.blocks("blocked.example");
    kernel.rule("direct.example", Verdict::DIRECT);
    kernel.fill_addresses();
    for (name, result, outcome) in [
        ("blocked.example", DROP, Outcome::AddrsFull),
        ("direct.example", NEXT, Outcome::Learned),
    ] {
        let ask = udp(CLIENT, 40_000, RESOLVER, 53, &question(7, name));
        flow(&mut kernel, &ask);
        let octets = answer(7, name, &[Answer::Address(SERVER.parse().unwrap(), 60)]);
        let came = kernel.outcome(|kernel| {
            let frame = udp(RESOLVER, 53, CLIENT, 40_000, &octets);
            assert_eq!(
                kernel.run("bridge_egress", &frame, 0),
                (result, 0),
                "{name}"
            );
        });
        assert_eq!(came, outcome, "{name}");
    }
}

#[test]
fn a_marked_packet_leaves_a_cgroup_by_the_vpn_alone() {
    let mut kernel = Kernel::new();
    let packet = &tcp(CLIENT, 1, SERVER, 443, SYN);
    for (interface, mark, allowed) in [
        (kernel.other_ifindex(), MARK, 0),
        (kernel.other_ifindex(), 0x4000, 1),
        (VPN_IFINDEX, MARK, 1),
    ] {
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
    kernel.holds(key, FlowEntry::default());
    assert_eq!(
        flow(&mut kernel, &tcp(CLIENT, 1, SERVER, 443, ACK)),
        (NEXT, 0)
    );
}

/// Prints what each kind of packet costs and how much each program made the verifier work; asserts no figure.
#[test]
fn figures() {
    let mut kernel = Kernel::new();
    kernel.blocks("blocked.example");
    println!("{:<16} {:>8} instructions verified", "program", "");
    for (name, verified) in kernel.verified() {
        println!("{name:<16} {verified:>8}");
    }
    println!("{:<44} {:>8}", "packet", "ns");
    for (what, nanoseconds) in kernel.figures(CLIENT, SERVER) {
        println!("{what:<44} {nanoseconds:>8}");
    }
}
