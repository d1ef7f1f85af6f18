//! Frames: Ethernet, IPv4 and IPv6, TCP and UDP. The kernel checks no sums on the way to the programs, so there are none.

use std::net::IpAddr;

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const ACK: u8 = 0x10;

/// A UDP datagram to be.
#[derive(Clone, Copy)]
pub struct Udp<'a> {
    pub source: &'a str,
    pub source_port: u16,
    pub destination: &'a str,
    pub destination_port: u16,
    pub payload: &'a [u8],
}

impl Udp<'_> {
    pub fn frame(self) -> Vec<u8> {
        udp(
            self.source,
            self.source_port,
            self.destination,
            self.destination_port,
            self.payload,
        )
    }
}

pub fn udp(
    source: &str,
    source_port: u16,
    destination: &str,
    destination_port: u16,
    payload: &[u8],
) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(source_port.to_be_bytes());
    segment.extend(destination_port.to_be_bytes());
    segment.extend((8 + payload.len() as u16).to_be_bytes());
    segment.extend([0, 0]);
    segment.extend(payload);
    ip(source, destination, 17, &segment)
}

pub fn tcp(
    source: &str,
    source_port: u16,
    destination: &str,
    destination_port: u16,
    flags: u8,
) -> Vec<u8> {
    Segment {
        source,
        source_port,
        destination,
        destination_port,
        sequence: 0,
        flags,
        payload: &[],
    }
    .frame()
}

/// A TCP segment to be.
#[derive(Clone, Copy)]
pub struct Segment<'a> {
    pub source: &'a str,
    pub source_port: u16,
    pub destination: &'a str,
    pub destination_port: u16,
    pub sequence: u32,
    pub flags: u8,
    pub payload: &'a [u8],
}

impl Segment<'_> {
    pub fn frame(self) -> Vec<u8> {
        let mut segment = Vec::new();
        segment.extend(self.source_port.to_be_bytes());
        segment.extend(self.destination_port.to_be_bytes());
        segment.extend(self.sequence.to_be_bytes());
        segment.extend([0; 4]);
        segment.extend([0x50, self.flags]);
        segment.extend([0; 6]);
        segment.extend(self.payload);
        ip(self.source, self.destination, 6, &segment)
    }
}

/// The frame with VLAN tags of these kinds.
pub fn with_tags(frame: &[u8], kinds: &[u16]) -> Vec<u8> {
    let mut longer = frame[..12].to_vec();
    for kind in kinds {
        longer.extend(kind.to_be_bytes());
        longer.extend([0, 7]);
    }
    longer.extend(&frame[12..]);
    longer
}

pub fn ip(source: &str, destination: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
    match (source.parse().unwrap(), destination.parse().unwrap()) {
        (IpAddr::V4(_), IpAddr::V4(_)) => ipv4(source, destination, protocol, 0, payload),
        (IpAddr::V6(s), IpAddr::V6(d)) => {
            let mut packet = vec![0x60, 0, 0, 0];
            packet.extend((payload.len() as u16).to_be_bytes());
            packet.extend([protocol, 64]);
            packet.extend(s.octets());
            packet.extend(d.octets());
            packet.extend(payload);
            ethernet(0x86dd, &packet)
        }
        _ => panic!("{source} and {destination} are of two families"),
    }
}

/// `fragment` is the field of flags and offset.
pub fn ipv4(
    source: &str,
    destination: &str,
    protocol: u8,
    fragment: u16,
    payload: &[u8],
) -> Vec<u8> {
    let octets = |text: &str| text.parse::<std::net::Ipv4Addr>().unwrap().octets();
    let mut packet = vec![0x45, 0];
    packet.extend((20 + payload.len() as u16).to_be_bytes());
    packet.extend([0, 1]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(octets(source));
    packet.extend(octets(destination));
    packet.extend(payload);
    ethernet(0x0800, &packet)
}

pub fn ethernet(protocol: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    frame.extend(protocol.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The IPv4 frame with options between its header and what follows.
pub fn with_options(frame: &[u8], options: &[u8]) -> Vec<u8> {
    let mut longer = frame[..34].to_vec();
    longer[14] = 0x40 | (5 + options.len() as u8 / 4);
    longer.extend(options);
    longer.extend(&frame[34..]);
    let total = (longer.len() - 14) as u16;
    longer[16..18].copy_from_slice(&total.to_be_bytes());
    longer
}

/// The IPv6 frame with extension headers of eight octets, by their numbers.
pub fn with_extensions(frame: &[u8], kinds: &[u8]) -> Vec<u8> {
    let mut longer = frame[..54].to_vec();
    let last = longer[20];
    longer[20] = kinds[0];
    for index in 0..kinds.len() {
        let after = kinds.get(index + 1).copied().unwrap_or(last);
        longer.extend([after, 0, 0, 0, 0, 0, 0, 0]);
    }
    longer.extend(&frame[54..]);
    let total = (longer.len() - 54) as u16;
    longer[18..20].copy_from_slice(&total.to_be_bytes());
    longer
}
