//! DNS questions and answers: what they teach.

use std::net::IpAddr;

use steer_common::{
    stats::Outcome,
    types::{RuleEntry, Verdict},
};

use crate::{
    CLIENT, RESOLVER, SERVER, flow,
    kernel::{DROP, Kernel, MARK, NEXT},
    message::{Answer, answer, question},
    packet::{SYN, Udp, tcp, udp},
};

/// A container asks, and the answer comes back.
pub fn resolve(kernel: &mut Kernel, asked: &str, octets: &[u8]) -> Outcome {
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
                Answer::Alias("alias.test"),
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
            Outcome::HeldBack,
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
            let action = if expected == Outcome::HeldBack {
                DROP
            } else {
                NEXT
            };
            assert_eq!(
                kernel.run("bridge_egress", &frame, 0),
                (action, 0),
                "{what}"
            );
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
fn a_name_that_finds_no_room_is_counted_and_its_address_has_the_verdict() {
    let mut kernel = Kernel::new();
    kernel.blocks("blocked.example");
    kernel.fill_names();
    let server: IpAddr = SERVER.parse().unwrap();
    let octets = answer(7, "blocked.example", &[Answer::Address(server, 60)]);
    assert_eq!(
        resolve(&mut kernel, "blocked.example", &octets),
        Outcome::Learned
    );
    assert_eq!(kernel.verdict(server), Verdict::VPN);
    assert_eq!(kernel.counted(Outcome::NamesFull), 1);
}
