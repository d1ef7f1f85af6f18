//! What a rule blocks: it goes nowhere, and user space is told in time to answer.

use steer::events::{Event, Refused};
use steer_common::{
    stats::Outcome,
    types::{Config, Verdict, piece},
};

use crate::{
    CLIENT, RESOLVER, SERVER, flow,
    hellos::hello,
    initials::{INITIAL, SHORT, datagram, now, sends},
    kernel::{DROP, Kernel, MARK, NEXT},
    message::{Answer, answer, question},
    packet::{ACK, RST, SYN, Segment, tcp, udp},
    scopes::isolated,
};

const SEQUENCE: u32 = 77;

fn segment(port: u16, from: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let segment = Segment {
        source: CLIENT,
        source_port: port,
        destination: SERVER,
        destination_port: 443,
        sequence: SEQUENCE.wrapping_add(from),
        flags,
        payload,
    };
    segment.frame()
}

fn refused(kernel: &mut Kernel) -> Vec<Refused> {
    let refused = |event| match event {
        Event::Refused(refused) => Some(refused),
        _ => None,
    };
    kernel.events().into_iter().filter_map(refused).collect()
}

#[test]
fn what_is_blocked_is_told_with_what_its_answer_needs() {
    let begins: [fn(&mut Kernel); 2] = [
        |kernel| kernel.knows(SERVER, Verdict::BLOCK),
        |kernel| kernel.net("203.0.113.0", 24, Verdict::BLOCK),
    ];
    for begin in begins {
        let mut kernel = Kernel::new();
        begin(&mut kernel);
        let outcome = kernel.outcome(|kernel| {
            assert_eq!(flow(kernel, &segment(1, 0, SYN, &[])), (DROP, 0));
        });
        assert_eq!(outcome, Outcome::Refused);
        let told = refused(&mut kernel);
        let [it] = told.as_slice() else {
            panic!("{told:?}")
        };
        assert_eq!((it.protocol, it.sequence), (6, SEQUENCE));
        assert_eq!(it.local.unwrap().to_string(), format!("{CLIENT}:1"));
        assert_eq!(it.remote.to_string(), format!("{SERVER}:443"));
        let later = segment(2, 1, ACK, b"x");
        assert_eq!(flow(&mut kernel, &later), (NEXT, 0), "begun before");
    }
}

#[test]
fn what_sends_on_is_told_once_in_a_while() {
    let mut kernel = Kernel::new();
    kernel.knows(SERVER, Verdict::BLOCK);
    let begins = udp(CLIENT, 5, SERVER, 9, b"x");
    for _ in 0..3 {
        assert_eq!(flow(&mut kernel, &begins), (DROP, 0));
    }
    assert_eq!(refused(&mut kernel).len(), 1);
    kernel.configured(|config| Config {
        tick: config.tick + 1,
        ..config
    });
    assert_eq!(flow(&mut kernel, &begins), (DROP, 0));
    assert_eq!(refused(&mut kernel).len(), 1, "ten seconds later");
    kernel.forgets(SERVER);
    assert_eq!(flow(&mut kernel, &begins), (NEXT, 0), "blocked no more");
    kernel.knows(SERVER, Verdict::BLOCK);
    assert_eq!(flow(&mut kernel, &begins), (NEXT, 0), "it keeps its path");
}

#[test]
fn an_answer_for_a_blocked_name_blocks_and_is_held_back_where_it_is_cut() {
    let mut kernel = Kernel::new();
    kernel.rule("doh.example", Verdict::BLOCK);
    let server = SERVER.parse().unwrap();
    let asked = udp(CLIENT, 40_000, RESOLVER, 53, &question(7, "doh.example"));
    assert_eq!(flow(&mut kernel, &asked), (NEXT, 0), "it may be asked for");
    let records = [
        Answer::Address(server, 60),
        Answer::Address("203.0.113.8".parse().unwrap(), 60),
    ];
    let mut octets = answer(7, "doh.example", &records);
    octets.pop();
    let cut = udp(RESOLVER, 53, CLIENT, 40_000, &octets);
    let outcome = kernel.outcome(|kernel| {
        assert_eq!(kernel.run("bridge_egress", &cut, 0).0, DROP);
    });
    assert_eq!(outcome, Outcome::HeldBack);
    assert_eq!(kernel.verdict(server), Verdict::BLOCK);
    assert_eq!(
        flow(&mut kernel, &tcp(CLIENT, 9, SERVER, 443, SYN)),
        (DROP, 0)
    );
}

#[test]
fn a_blocked_name_stops_its_flow_on_either_path_and_on_a_shared_address() {
    for (verdict, mark) in [
        (Verdict::NONE, 0),
        (Verdict::DIRECT, 0),
        (Verdict::VPN, MARK),
    ] {
        let mut kernel = Kernel::new();
        kernel.rule("doh.example", Verdict::BLOCK);
        if verdict != Verdict::NONE {
            kernel.knows(SERVER, verdict);
        }
        assert_eq!(flow(&mut kernel, &segment(3, 0, SYN, &[])), (NEXT, mark));
        kernel.events();
        let opening = hello(Some("doh.example"), 0);
        let outcome = kernel.outcome(|kernel| {
            assert_eq!(flow(kernel, &segment(3, 1, ACK, &opening)), (DROP, 0));
        });
        assert_eq!(outcome, Outcome::Refused, "{verdict:?}");
        let late = kernel.events().into_iter().find_map(|event| match event {
            Event::Late(late) => Some(late),
            _ => None,
        });
        let late = late.unwrap();
        assert_eq!((late.verdict, late.stopped), (Verdict::BLOCK, true));
        let holds = if verdict == Verdict::NONE {
            Verdict::BLOCK
        } else {
            verdict
        };
        assert_eq!(kernel.verdict(SERVER.parse().unwrap()), holds);
        assert_eq!(flow(&mut kernel, &segment(3, 1, ACK, &opening)), (DROP, 0));
        let kinds: Vec<_> = kernel.pieces().iter().map(|(it, _)| it.kind).collect();
        assert_eq!(kinds, [piece::STOPPED], "it may need another reset");
        assert_eq!(flow(&mut kernel, &segment(3, 1, RST, &[])), (NEXT, mark));
        let contested = u64::from(verdict != Verdict::NONE);
        assert_eq!(kernel.counted(Outcome::Contested), contested);
    }
}

#[test]
fn a_rule_for_the_address_itself_is_above_a_blocked_name() {
    for (verdict, mark) in [(Verdict::DIRECT, 0), (Verdict::VPN, MARK)] {
        let mut kernel = Kernel::new();
        kernel.rule("doh.example", Verdict::BLOCK);
        kernel.net("203.0.113.0", 24, verdict);
        let opening = hello(Some("doh.example"), 0);
        assert_eq!(flow(&mut kernel, &segment(3, 0, SYN, &[])), (NEXT, mark));
        let goes = flow(&mut kernel, &segment(3, 1, ACK, &opening));
        assert_eq!(goes, (NEXT, mark));
    }
}

#[test]
fn an_isolated_container_is_blocked_from_where_a_rule_says() {
    let mut kernel = Kernel::new();
    isolated(&mut kernel);
    kernel.knows(SERVER, Verdict::BLOCK);
    assert_eq!(flow(&mut kernel, &segment(1, 0, SYN, &[])), (DROP, 0));
    assert_eq!(refused(&mut kernel).len(), 1);
    // Its questions are led to its own resolver, whoever that is.
    let asked = udp(CLIENT, 2, SERVER, 53, &question(7, "some.example"));
    assert_eq!(flow(&mut kernel, &asked), (NEXT, MARK));
}

#[test]
fn what_quic_begins_with_waits_on_a_vpn_while_names_are_blocked() {
    for blocks in [0, 1] {
        let mut kernel = Kernel::new();
        isolated(&mut kernel);
        kernel.configured(|config| Config {
            heard: now(),
            blocks,
            ..config
        });
        if blocks == 0 {
            assert_eq!(sends(&mut kernel, INITIAL), (NEXT, MARK));
            assert_eq!(kernel.pieces().len(), 0);
            continue;
        }
        for _ in 0..2 {
            assert_eq!(sends(&mut kernel, INITIAL), (DROP, 0));
        }
        let pieces = kernel.pieces();
        assert_eq!(pieces.len(), 2);
        let piece = &pieces[0].0;
        assert_eq!((piece.kind, piece.by_vpn), (piece::INITIAL, 1));
        kernel.forgets_hello(&piece.flow);
        assert_eq!(sends(&mut kernel, INITIAL), (NEXT, MARK), "let go");
        assert_eq!(sends(&mut kernel, SHORT), (NEXT, MARK));

        assert_eq!(
            flow(&mut kernel, &datagram(INITIAL, 1200, 8443)),
            (NEXT, MARK),
            "another port"
        );
    }
}
