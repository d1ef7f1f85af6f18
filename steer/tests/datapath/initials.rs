//! Packets that QUIC begins with: they wait for user space, as long as that is there.

use steer_common::{
    stats::Outcome,
    types::{Config, Verdict, piece},
};

use crate::{
    CLIENT, SERVER, flow,
    kernel::{DROP, Kernel, Lent, MARK, NEXT},
    packet::udp,
};

const PORT: u16 = 40_002;
pub const INITIAL: [u8; 5] = [0xc3, 0, 0, 0, 1];
const INITIAL_2: [u8; 5] = [0xd3, 0x6b, 0x33, 0x43, 0xcf];
const HANDSHAKE: [u8; 5] = [0xe3, 0, 0, 0, 1];
pub const SHORT: [u8; 5] = [0x43, 0, 0, 0, 1];

pub fn now() -> u64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    u64::try_from(time.tv_sec()).unwrap() * 1_000_000_000
}

/// User space is there.
fn kernel() -> Lent {
    let mut kernel = Kernel::new();
    kernel.configured(|config| Config {
        heard: now(),
        ..config
    });
    kernel
}

pub fn datagram(head: [u8; 5], size: usize, port: u16) -> Vec<u8> {
    let mut payload = head.to_vec();
    payload.resize(size, 0);
    udp(CLIENT, PORT, SERVER, port, &payload)
}

pub fn sends(kernel: &mut Kernel, head: [u8; 5]) -> (i32, u32) {
    flow(kernel, &datagram(head, 1200, 443))
}

fn kinds(kernel: &mut Kernel) -> Vec<u32> {
    kernel
        .pieces()
        .iter()
        .map(|(piece, _)| piece.kind)
        .collect()
}

#[test]
fn the_first_packets_of_quic_wait_with_all_their_octets() {
    for head in [INITIAL, INITIAL_2] {
        let mut kernel = kernel();
        let frame = datagram(head, 1200, 443);
        let outcome = kernel.outcome(|kernel| assert_eq!(flow(kernel, &frame), (DROP, 0)));
        assert_eq!(outcome, Outcome::InitialHeld);
        let pieces = kernel.pieces();
        let [(piece, octets)] = &pieces[..] else {
            panic!("{} pieces", pieces.len())
        };
        assert_eq!(*octets, frame);
        let headers = (frame.len() - 1200) as u32;
        assert_eq!(
            (piece.kind, piece.process, piece.first, piece.datagram),
            (piece::INITIAL, 0, 1200, 0)
        );
        assert_eq!(piece.sequence, headers.wrapping_neg());
        assert_eq!(
            (
                piece.flow.local_port.number(),
                piece.flow.remote_port.number()
            ),
            (PORT, 443)
        );
    }
}

#[test]
fn so_do_those_behind_them_until_user_space_lets_the_flow_go() {
    let mut kernel = kernel();
    assert_eq!(sends(&mut kernel, INITIAL), (DROP, 0));
    assert_eq!(sends(&mut kernel, INITIAL), (DROP, 0), "sent again");
    assert_eq!(
        sends(&mut kernel, HANDSHAKE),
        (DROP, 0),
        "0-RTT and the like"
    );
    let pieces = kernel.pieces();
    assert_eq!(pieces.len(), 3);
    kernel.forgets_hello(&pieces[0].0.flow);
    assert_eq!(sends(&mut kernel, INITIAL), (NEXT, 0));
    assert_eq!(sends(&mut kernel, HANDSHAKE), (NEXT, 0));
    assert_eq!(sends(&mut kernel, SHORT), (NEXT, 0));
    assert_eq!(kinds(&mut kernel), [0; 0]);
}

#[test]
fn a_flow_whose_name_is_the_vpns_takes_it_when_its_first_packet_comes_again() {
    let mut kernel = kernel();
    assert_eq!(sends(&mut kernel, INITIAL), (DROP, 0));
    let flow = kernel.pieces()[0].0.flow;
    kernel.knows(SERVER, Verdict::VPN);
    kernel.forgets_direct(&flow);
    kernel.forgets_hello(&flow);
    assert_eq!(sends(&mut kernel, INITIAL), (NEXT, MARK));
    assert_eq!(sends(&mut kernel, SHORT), (NEXT, MARK));
}

#[test]
fn nothing_else_waits() {
    for (what, frame) in [
        ("a datagram that is too small", datagram(INITIAL, 1199, 443)),
        ("another port", datagram(INITIAL, 1200, 8443)),
        ("no Initial", datagram(HANDSHAKE, 1200, 443)),
        ("a short header", datagram(SHORT, 1200, 443)),
        ("another version", datagram([0xc3, 0, 0, 0, 9], 1200, 443)),
        ("no QUIC", datagram([0; 5], 1200, 443)),
        ("hardly anything", udp(CLIENT, PORT, SERVER, 443, &[0xc3])),
    ] {
        let mut kernel = kernel();
        assert_eq!(flow(&mut kernel, &frame), (NEXT, 0), "{what}");
        assert_eq!(kinds(&mut kernel), [0; 0], "{what}");
        assert_eq!(
            sends(&mut kernel, INITIAL).0,
            if what == "another port" { DROP } else { NEXT },
            "{what}: a flow is decided at its first packet"
        );
    }
}

#[test]
fn what_a_rule_speaks_of_does_not_wait() {
    for (verdict, mark) in [(Verdict::VPN, MARK), (Verdict::DIRECT, 0)] {
        let mut kernel = kernel();
        kernel.knows(SERVER, verdict);
        assert_eq!(sends(&mut kernel, INITIAL), (NEXT, mark));
        assert_eq!(sends(&mut kernel, INITIAL), (NEXT, mark));
        assert_eq!(kinds(&mut kernel), [0; 0]);
    }
}

#[test]
fn nothing_waits_for_a_user_space_that_is_gone() {
    let mut kernel = kernel();
    assert_eq!(sends(&mut kernel, INITIAL), (DROP, 0));
    kernel.configured(|config| Config {
        heard: now() - 5_000_000_000,
        ..config
    });
    assert_eq!(sends(&mut kernel, INITIAL), (NEXT, 0), "one that waited");
    let other = udp(
        CLIENT,
        PORT + 1,
        SERVER,
        443,
        &datagram(INITIAL, 1200, 443)[42..],
    );
    assert_eq!(flow(&mut kernel, &other), (NEXT, 0), "one that begins");
}

#[test]
fn with_late_connections_let_go_on_they_are_read_and_not_held() {
    let mut kernel = kernel();
    kernel.configured(|config| Config { reset: 0, ..config });
    assert_eq!(sends(&mut kernel, INITIAL), (NEXT, 0));
    assert_eq!(kinds(&mut kernel), [piece::INITIAL]);
}

#[test]
fn a_processs_whose_connect_was_not_seen_do_not_wait() {
    let packet = &datagram(INITIAL, 1200, 443)[14..];
    let mut kernel = kernel();
    assert_eq!(kernel.run_on("cgroup_egress", packet, 1, 0).0, 1);
    assert_eq!(kinds(&mut kernel), [0; 0]);
}
