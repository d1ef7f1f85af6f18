//! DNS over TCP, large answers, and frames with VLAN tags.

use std::net::IpAddr;

use steer_common::{
    stats::Outcome,
    types::{Config, Verdict, piece},
};

use crate::{
    CLIENT, RESOLVER, SERVER,
    answers::resolve,
    flow,
    kernel::{Kernel, MARK, NEXT},
    message::{Answer, answer, question, with_length},
    packet::{ACK, SYN, Segment, tcp, with_options, with_tags},
};

const V6_CLIENT: &str = "2001:db8:172::2";
const V6_RESOLVER: &str = "2001:db8:53::1";

fn address(last: u8) -> IpAddr {
    [198, 51, 100, last].into()
}

fn segment<'a>(from_client: bool, ends: (&'a str, &'a str), payload: &'a [u8]) -> Segment<'a> {
    let (client, resolver) = ends;
    let (source, source_port, destination, destination_port) = if from_client {
        (client, 40_000, resolver, 53)
    } else {
        (resolver, 53, client, 40_000)
    };
    Segment {
        source,
        source_port,
        destination,
        destination_port,
        sequence: 1000,
        flags: ACK,
        payload,
    }
}

#[test]
fn answers_over_tcp_teach() {
    for ends in [(CLIENT, RESOLVER), (V6_CLIENT, V6_RESOLVER)] {
        let mut kernel = Kernel::new();
        kernel.blocks("blocked.example");
        let ask = with_length(&question(7, "blocked.example"));
        let reply = with_length(&answer(
            7,
            "blocked.example",
            &[Answer::Address(address(1), 60)],
        ));
        let asked = kernel.outcome(|kernel| {
            kernel.run("bridge_ingress", &segment(true, ends, &ask).frame(), 0);
        });
        assert_eq!(asked, Outcome::Asked);
        let learned = kernel.outcome(|kernel| {
            kernel.run("bridge_egress", &segment(false, ends, &reply).frame(), 0);
        });
        assert_eq!(learned, Outcome::Learned);
        assert_eq!(kernel.verdict(address(1)), Verdict::VPN);
    }
}

#[test]
fn each_message_of_a_segment_is_read() {
    let mut kernel = Kernel::new();
    kernel.blocks("blocked.example");
    let names = ["a.blocked.example", "other.example", "b.blocked.example"];
    let ids = 7u16..;
    let mut asks = Vec::new();
    let mut replies = Vec::new();
    for (id, name) in ids.zip(names) {
        asks.extend(with_length(&question(id, name)));
        let answers = [Answer::Address(address(id as u8), 60)];
        replies.extend(with_length(&answer(id, name, &answers)));
    }
    let ends = (CLIENT, RESOLVER);
    kernel.run("bridge_ingress", &segment(true, ends, &asks).frame(), 0);
    kernel.run("bridge_egress", &segment(false, ends, &replies).frame(), 0);
    assert_eq!(kernel.counted(Outcome::Asked), 3);
    for (id, verdict) in [(7, Verdict::VPN), (8, Verdict::NONE), (9, Verdict::VPN)] {
        assert_eq!(kernel.verdict(address(id)), verdict, "message {id}");
    }
}

/// The octets in segments, cut at these places, one behind the other.
fn in_segments<'a>(
    from_client: bool,
    octets: &'a [u8],
    cuts: &'a [usize],
) -> impl Iterator<Item = Vec<u8>> + 'a {
    let from = std::iter::once(0).chain(cuts.iter().copied());
    let to = cuts.iter().copied().chain([octets.len()]);
    from.zip(to).map(move |(from, to)| {
        let segment = segment(from_client, (CLIENT, RESOLVER), &octets[from..to]);
        Segment {
            sequence: segment.sequence + from as u32,
            ..segment
        }
        .frame()
    })
}

#[test]
fn a_message_behind_its_length_alone_is_read_in_the_kernel() {
    let mut kernel = Kernel::new();
    kernel.blocks("blocked.example");
    let answers = [Answer::Address(address(1), 60)];
    let ask = with_length(&question(7, "blocked.example"));
    let reply = with_length(&answer(7, "blocked.example", &answers));
    for frame in in_segments(true, &ask, &[2]) {
        kernel.run("bridge_ingress", &frame, 0);
    }
    for frame in in_segments(false, &reply, &[2]) {
        kernel.run("bridge_egress", &frame, 0);
    }
    assert_eq!(kernel.verdict(address(1)), Verdict::VPN);
}

#[test]
fn user_space_is_given_an_answer_in_pieces_and_the_next_is_read_in_the_kernel() {
    let mut kernel = Kernel::new();
    kernel.blocks("blocked.example");
    let names = ["a.blocked.example", "b.blocked.example"];
    let mut asks = Vec::new();
    let mut replies = Vec::new();
    let mut whole = Vec::new();
    for (id, name) in (7u16..).zip(names) {
        asks.extend(with_length(&question(id, name)));
        let answers = [Answer::Address(address(id as u8), 60)];
        let reply = with_length(&answer(id, name, &answers));
        whole.push(reply.clone());
        replies.extend(reply);
    }
    kernel.run(
        "bridge_ingress",
        &segment(true, (CLIENT, RESOLVER), &asks).frame(),
        0,
    );
    for frame in in_segments(false, &replies, &[20, 30]) {
        kernel.run("bridge_egress", &frame, 0);
    }
    assert_eq!(kernel.verdict(address(7)), Verdict::NONE);
    assert_eq!(kernel.verdict(address(8)), Verdict::VPN);
    let pieces = kernel.pieces();
    let joined: Vec<u8> = pieces
        .iter()
        .flat_map(|(_, octets)| octets.clone())
        .collect();
    assert_eq!(joined, whole[0]);
    for (piece, _) in pieces {
        assert_eq!((piece.kind, piece.first), (piece::STREAM, 1000));
    }
}

#[test]
fn user_space_is_given_answers_of_no_rule_if_it_has_rules_for_them() {
    for patterns in [0, 1] {
        let mut kernel = Kernel::new();
        kernel.blocks("blocked.example");
        kernel.configured(|config| Config { patterns, ..config });
        for name in ["blocked.example", "other.example"] {
            let octets = answer(7, name, &[Answer::Address(address(1), 60)]);
            resolve(&mut kernel, name, &octets);
            let given: Vec<_> = kernel
                .pieces()
                .into_iter()
                .map(|(_, octets)| octets)
                .collect();
            if patterns == 1 && name == "other.example" {
                assert_eq!(given, [octets]);
            } else {
                assert_eq!(given, [] as [Vec<u8>; 0]);
            }
        }
    }
}

#[test]
fn answers_over_tcp_that_nobody_asked_for_teach_nothing() {
    let mut kernel = Kernel::new();
    kernel.blocks("blocked.example");
    let reply = with_length(&answer(
        7,
        "blocked.example",
        &[Answer::Address(address(1), 60)],
    ));
    let frame = segment(false, (CLIENT, RESOLVER), &reply).frame();
    let outcome = kernel.outcome(|kernel| {
        kernel.run("bridge_egress", &frame, 0);
    });
    assert_eq!(outcome, Outcome::Unasked);
    assert_eq!(kernel.verdict(address(1)), Verdict::NONE);
}

#[test]
fn large_answers_are_learned_whole() {
    // A test run takes no packet larger than a page, less what the kernel adds.
    const LARGEST: usize = 3_400;
    let mut kernel = Kernel::new();
    kernel.blocks("blocked.example");
    let made = |count| {
        let all = (0..count).map(address);
        let answers: Vec<_> = all.map(|ip| Answer::Address(ip, 60)).collect();
        answer(7, "blocked.example", &answers)
    };
    let fits = |count: &u8| made(*count).len() <= LARGEST;
    let count = (1..=u8::MAX).take_while(fits).last().unwrap();
    let octets = made(count);
    assert!(octets.len() > LARGEST - 100);
    assert_eq!(
        resolve(&mut kernel, "blocked.example", &octets),
        Outcome::Learned
    );
    for ip in (0..count).map(address) {
        assert_eq!(kernel.verdict(ip), Verdict::VPN, "{ip}");
    }
}

#[test]
fn frames_with_vlan_tags_and_ip_options_are_read() {
    const VLAN: u16 = 0x8100;
    const SERVICE_VLAN: u16 = 0x88a8;
    let mut kernel = Kernel::new();
    kernel.blocks("blocked.example");
    let ends = (CLIENT, RESOLVER);
    let ask = with_length(&question(7, "blocked.example"));
    let server: IpAddr = SERVER.parse().unwrap();
    let reply = with_length(&answer(
        7,
        "blocked.example",
        &[Answer::Address(server, 60)],
    ));
    type Dress<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;
    let dresses: [(&str, Dress<'_>); 4] = [
        ("a tag", &|frame| with_tags(frame, &[VLAN])),
        ("two tags", &|frame| with_tags(frame, &[SERVICE_VLAN, VLAN])),
        ("options", &|frame| with_options(frame, &[1; 40])),
        ("a tag and options", &|frame| {
            with_tags(&with_options(frame, &[1; 4]), &[VLAN])
        }),
    ];
    for (what, dress) in dresses {
        kernel.run(
            "bridge_ingress",
            &dress(&segment(true, ends, &ask).frame()),
            0,
        );
        kernel.run(
            "bridge_egress",
            &dress(&segment(false, ends, &reply).frame()),
            0,
        );
        assert_eq!(kernel.verdict(server), Verdict::VPN, "{what}");
        let begun = flow(&mut kernel, &dress(&tcp(CLIENT, 1, SERVER, 443, SYN)));
        assert_eq!(begun, (NEXT, MARK), "{what}");
        kernel.forgets(SERVER);
    }
}
