//! Headers of packets.

use std::net::IpAddr;

use steer_common::{
    packet::{Head, ICMP, ICMPV6, PLAIN_V4, PLAIN_V6, Packet, Place, SIZE, TCP, UDP, plain},
    types::Address,
};

/// The first octets of a packet, from its IP header on: what is read lies within them, is the same whatever stood in
/// the buffer behind them, is where RFC 791 and RFC 8200 put it, and is the same where it is read as plain headers.
pub fn check(octets: &[u8]) {
    let octets = &octets[..octets.len().min(SIZE)];
    let packet = parse(octets, 0);
    assert_eq!(packet, parse(octets, 0xff), "octets behind the packet tell");
    for is_v4 in [true, false] {
        let read = parse_plain(octets, is_v4);
        assert!(read.is_none() || read == packet, "plain: {read:?}");
    }
    let Some(packet) = packet else { return };
    let ends = match octets[0] >> 4 {
        4 => [v4(&octets[12..16]), v4(&octets[16..20])],
        6 => [v6(&octets[8..24]), v6(&octets[24..40])],
        version => panic!("a packet of IP version {version}"),
    };
    assert_eq!(
        [packet.source, packet.destination].map(Address::to_ip),
        ends
    );
    let has_ports = packet.source_port.number() != 0 || packet.destination_port.number() != 0;
    match packet.place {
        Place::First | Place::Last => {
            assert_ne!(packet.protocol, UDP, "UDP tells no place: {packet:?}")
        }
        Place::Stateless => assert!(!has_ports, "ports tell a flow: {packet:?}"),
        Place::Later | Place::Unknown => {}
    }
    // An error has the ports of the flow that it is about.
    let flow = match packet.quoted {
        0 => packet.protocol,
        quoted => {
            assert!([ICMP, ICMPV6].contains(&packet.protocol), "{packet:?}");
            quoted
        }
    };
    assert!(!has_ports || [TCP, UDP].contains(&flow), "{packet:?}");
    // TCP's options may lie beyond what is looked at.
    const OPTIONS: usize = 40;
    assert!(
        packet.payload as usize <= octets.len() + OPTIONS + 20,
        "{packet:?}"
    );
}

fn parse(octets: &[u8], leftover: u8) -> Option<Packet> {
    let mut head = Head::new();
    head.buffer().fill(leftover);
    head.buffer()[..octets.len()].copy_from_slice(octets);
    let mut packet = Packet::new(Address::default(), Address::default(), 0);
    head.parse(octets.len() as u32, &mut packet)
        .map(|()| packet)
}

fn parse_plain(octets: &[u8], is_v4: bool) -> Option<Packet> {
    let most = if is_v4 { PLAIN_V4 } else { PLAIN_V6 };
    let mut head = Head::new();
    head.buffer()[..octets.len()].copy_from_slice(octets);
    let mut packet = Packet::new(Address::default(), Address::default(), 0);
    let is_plain = octets.len() >= most as usize && plain(&head, is_v4, &mut packet);
    is_plain.then_some(packet)
}

fn v4(octets: &[u8]) -> IpAddr {
    <[u8; 4]>::try_from(octets).expect("four octets").into()
}

fn v6(octets: &[u8]) -> IpAddr {
    let address: IpAddr = <[u8; 16]>::try_from(octets).expect("sixteen octets").into();
    address.to_canonical()
}
