//! Names that connections begin with: a connection for the VPN that goes direct is stopped before its name leaves.

use std::net::IpAddr;

use steer::events::Event;
use steer_common::{
    stats::Outcome,
    types::{Config, Verdict, piece},
};

use crate::{
    CLIENT, SERVER, flow,
    kernel::{DROP, Kernel, Lent, MARK, NEXT},
    packet::{ACK, FIN, SYN, Segment, tcp},
};

const SYN_SEQUENCE: u32 = u32::MAX - 2;
const PORT: u16 = 40_001;

fn server() -> IpAddr {
    SERVER.parse().unwrap()
}

/// A ClientHello in one record (RFC 8446 section 4.1.2), whose name stands behind so many octets of another extension.
pub fn hello(name: Option<&str>, before: usize) -> Vec<u8> {
    let short = |number: usize| (number as u16).to_be_bytes();
    let mut extensions = Vec::new();
    let mut extension = |kind: u16, data: &[u8]| {
        extensions.extend(kind.to_be_bytes());
        extensions.extend(short(data.len()));
        extensions.extend(data);
    };
    extension(0x0a0a, &vec![0; before]);
    if let Some(name) = name {
        let mut data = short(name.len() + 3).to_vec();
        data.push(0);
        data.extend(short(name.len()));
        data.extend(name.as_bytes());
        extension(0, &data);
    }
    extension(16, b"\x00\x03\x02h2");
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    body.extend(short(extensions.len()));
    body.extend(extensions);
    let mut record = vec![22, 3, 1];
    record.extend(short(body.len() + 4));
    record.extend([1, 0]);
    record.extend(short(body.len()));
    record.extend(body);
    record
}

/// What a container sends on one connection to [`SERVER`], so many octets behind its first.
fn sends(kernel: &mut Kernel, port: u16, from: u32, flags: u8, payload: &[u8]) -> (i32, u32) {
    let segment = Segment {
        source: CLIENT,
        source_port: PORT,
        destination: SERVER,
        destination_port: port,
        sequence: SYN_SEQUENCE.wrapping_add(from),
        flags,
        payload,
    };
    flow(kernel, &segment.frame())
}

fn begins(kernel: &mut Kernel, port: u16) -> (i32, u32) {
    sends(kernel, port, 0, SYN, &[])
}

/// A table with one name for each path.
fn kernel() -> Lent {
    let mut kernel = Kernel::new();
    kernel.blocks("vpn.example");
    kernel.rule("direct.example", Verdict::DIRECT);
    kernel
}

#[test]
fn a_late_connection_is_stopped_and_the_next_takes_the_vpn() {
    for (port, opening) in [
        (443, hello(Some("A.VPN.example"), 0)),
        (443, hello(Some("a.vpn.example"), 1700)),
        (
            80,
            b"GET / HTTP/1.1\r\nHost: a.vpn.example:80\r\n\r\n".to_vec(),
        ),
    ] {
        let mut kernel = kernel();
        assert_eq!(begins(&mut kernel, port), (NEXT, 0));
        assert_eq!(sends(&mut kernel, port, 1, ACK, &opening), (DROP, 0));
        assert_eq!(kernel.verdict(server()), Verdict::VPN);
        assert_eq!(kernel.learned_names(), ["a.vpn.example"]);
        assert_eq!(kernel.pieces().len(), 0);
        assert_eq!(
            sends(&mut kernel, port, 1, ACK, &opening),
            (DROP, 0),
            "sent again"
        );
        let kinds: Vec<_> = kernel.pieces().iter().map(|(p, _)| p.kind).collect();
        assert_eq!(kinds, [piece::STOPPED], "it may need another reset");
        assert_eq!(sends(&mut kernel, port, 1, FIN | ACK, &[]), (NEXT, 0));
        assert_eq!(begins(&mut kernel, port), (NEXT, MARK), "the next try");
        assert_eq!(sends(&mut kernel, port, 1, ACK, &opening), (NEXT, MARK));
    }
}

#[test]
fn a_late_connection_is_told_with_what_its_reset_needs() {
    let mut kernel = kernel();
    begins(&mut kernel, 443);
    kernel.events();
    sends(&mut kernel, 443, 1, ACK, &hello(Some("vpn.example"), 0));
    let late = kernel.events().into_iter().find_map(|event| match event {
        Event::Late(late) => Some(late),
        _ => None,
    });
    let late = late.unwrap();
    assert!(late.stopped);
    assert_eq!(late.name.to_string(), "vpn.example");
    assert_eq!(late.sequence, SYN_SEQUENCE.wrapping_add(1));
    assert_eq!(late.local, (CLIENT.parse().unwrap(), PORT));
    assert_eq!(late.remote, (server(), 443));
}

#[test]
fn a_connection_may_be_let_go_on_while_its_address_is_learned() {
    let mut kernel = kernel();
    kernel.configured(|config| Config { reset: 0, ..config });
    let opening = hello(Some("vpn.example"), 0);
    begins(&mut kernel, 443);
    let outcome = kernel.outcome(|kernel| {
        assert_eq!(sends(kernel, 443, 1, ACK, &opening), (NEXT, 0));
    });
    assert_eq!(outcome, Outcome::Late);
    assert_eq!(sends(&mut kernel, 443, 600, ACK, b"more"), (NEXT, 0));
    assert_eq!(kernel.verdict(server()), Verdict::VPN);
}

#[test]
fn names_of_the_direct_path_and_of_no_rule_change_nothing() {
    for opening in [
        hello(Some("direct.example"), 0),
        hello(Some("other.example"), 0),
        hello(None, 0),
        b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
    ] {
        let mut kernel = kernel();
        begins(&mut kernel, 443);
        assert_eq!(sends(&mut kernel, 443, 1, ACK, &opening), (NEXT, 0));
        assert_eq!(kernel.verdict(server()), Verdict::NONE);
        assert_eq!(kernel.counted(Outcome::InPieces), 0);
    }
}

#[test]
fn a_hello_in_pieces_is_not_one_without_a_name() {
    let mut kernel = kernel();
    let opening = hello(Some("vpn.example"), 1700);
    let (first, second) = opening.split_at(1400);
    begins(&mut kernel, 443);
    assert_eq!(sends(&mut kernel, 443, 1, ACK, first), (NEXT, 0));
    assert_eq!(sends(&mut kernel, 443, 1401, ACK, second), (NEXT, 0));
    assert_eq!(kernel.counted(Outcome::InPieces), 1);
    assert_eq!(kernel.counted(Outcome::Nameless), 0);
    let pieces = kernel.pieces();
    let joined: Vec<u8> = pieces
        .iter()
        .flat_map(|(_, octets)| octets.clone())
        .collect();
    assert_eq!(joined, opening);
    for (piece, _) in pieces {
        assert_eq!(piece.first, SYN_SEQUENCE.wrapping_add(1));
        assert_eq!(piece.by_vpn, 0);
    }
}

#[test]
fn a_rule_for_the_address_itself_is_above_the_name() {
    let mut kernel = kernel();
    kernel.net("203.0.113.0", 24, Verdict::DIRECT);
    begins(&mut kernel, 443);
    let opening = hello(Some("vpn.example"), 0);
    assert_eq!(sends(&mut kernel, 443, 1, ACK, &opening), (NEXT, 0));
}

#[test]
fn the_longest_prefix_wins_over_what_was_learned() {
    let mut kernel = Kernel::new();
    kernel.net("203.0.113.0", 24, Verdict::VPN);
    kernel.net("203.0.113.7", 32, Verdict::DIRECT);
    kernel.net("2001:db8::", 32, Verdict::VPN);
    kernel.net("0.0.0.0", 0, Verdict::DIRECT);
    kernel.knows("203.0.113.8", Verdict::DIRECT);
    kernel.knows("198.51.100.1", Verdict::VPN);
    for (server, mark) in [
        ("203.0.113.8", MARK),
        ("203.0.113.7", 0),
        ("198.51.100.1", 0),
        ("127.0.0.1", 0),
    ] {
        let begun = flow(&mut kernel, &tcp(CLIENT, PORT, server, 9, SYN));
        assert_eq!(begun, (NEXT, mark), "{server}");
    }
    for (server, mark) in [("2001:db8:1::1", MARK), ("2001:db9::1", 0)] {
        let begun = flow(&mut kernel, &tcp("2001:db8:172::2", PORT, server, 9, SYN));
        assert_eq!(begun, (NEXT, mark), "{server}");
    }
}

#[test]
fn names_on_the_vpn_that_are_not_for_it_are_told_as_contested() {
    for (name, verdict) in [
        ("direct.example", Verdict::DIRECT),
        ("other.example", Verdict::NONE),
    ] {
        let mut kernel = kernel();
        kernel.knows(SERVER, Verdict::VPN);
        for counted in [1, 1] {
            assert_eq!(begins(&mut kernel, 443), (NEXT, MARK));
            let opening = hello(Some(name), 0);
            assert_eq!(sends(&mut kernel, 443, 1, ACK, &opening), (NEXT, MARK));
            assert_eq!(kernel.counted(Outcome::Contested), counted, "{name}");
        }
        assert_eq!(kernel.names_of(server()), [(name.to_owned(), verdict)]);
        assert_eq!(kernel.verdict(server()), Verdict::VPN);
    }
}
