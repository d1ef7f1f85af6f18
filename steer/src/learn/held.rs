//! UDP packets that wait until it is known where they belong.

use std::{collections::HashMap, hash::Hash};

use super::reinject::complete;

/// Octets of a flow that are kept: its client sends again what is beyond.
const MOST: usize = 16_384;
/// Octets of a UDP header.
const UDP_HEADER: usize = 8;

/// A packet of one datagram, or of several that a network card would have cut it into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// From its Ethernet header on, or from its IP header on.
    pub octets: Vec<u8>,
    /// Where what UDP carries begins.
    pub payload: usize,
    /// Octets that each datagram carries; zero if there is one.
    pub datagram: usize,
    /// Its mark.
    pub mark: u32,
}

/// Packets that wait, by their flows.
#[derive(Debug)]
pub struct Held<K> {
    flows: HashMap<K, Vec<Packet>>,
}

impl<K: Clone + Eq + Hash> Held<K> {
    /// None yet.
    pub fn new() -> Self {
        Self {
            flows: HashMap::new(),
        }
    }

    /// Keeps a packet; one too many is lost, as in a network that is full.
    pub fn keep(&mut self, flow: &K, packet: Packet) {
        let packets = self.flows.entry(flow.clone()).or_default();
        let kept: usize = packets.iter().map(|packet| packet.octets.len()).sum();
        if kept + packet.octets.len() <= MOST {
            packets.push(packet);
        }
    }

    /// A flow's packets, which wait no more.
    pub fn take(&mut self, flow: &K) -> Vec<Packet> {
        self.flows.remove(flow).unwrap_or_default()
    }
}

impl<K: Clone + Eq + Hash> Default for Held<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl Packet {
    /// What each of its datagrams carries.
    pub fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        let carried = self.octets.get(self.payload..).unwrap_or_default();
        carried.chunks(match self.datagram {
            0 => carried.len().max(1),
            size => size,
        })
    }

    /// The same as packets of one datagram each, with the checksums that were left to a network card. `ip` octets stand
    /// in front of the IP header.
    pub fn apart(&self, ip: usize) -> Vec<Vec<u8>> {
        let headers = self.octets.get(..self.payload).unwrap_or_default();
        let one = self.datagrams().nth(1).is_none();
        let apart = self.datagrams().zip(0u16..).map(|(carried, number)| {
            let mut packet = [headers, carried].concat();
            if !one {
                fit(&mut packet, ip, self.payload, number);
            }
            if let Some(packet) = packet.get_mut(ip..) {
                complete(packet);
            }
            packet
        });
        apart.collect()
    }
}

/// Makes the lengths, the ID and the checksum of the headers those of one datagram, of which so many came before.
fn fit(packet: &mut [u8], ip: usize, payload: usize, number: u16) {
    const V4_HEADER: usize = 20;
    const V6_HEADER: usize = 40;
    let (whole, carried) = (packet.len() - ip, packet.len() - payload + UDP_HEADER);
    if let Some(length) = packet.get_mut(payload - UDP_HEADER + 4..payload - UDP_HEADER + 6) {
        length.copy_from_slice(&short(carried));
    }
    let Some(header) = packet.get_mut(ip..payload - UDP_HEADER) else {
        return;
    };
    match header.first().map(|octet| octet >> 4) {
        Some(4) if header.len() >= V4_HEADER => {
            header[2..4].copy_from_slice(&short(whole));
            let id = u16::from_be_bytes([header[4], header[5]]).wrapping_add(number);
            header[4..6].copy_from_slice(&id.to_be_bytes());
            header[10..12].fill(0);
            let sum = super::raw::sum(header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        Some(6) if header.len() >= V6_HEADER => {
            header[4..6].copy_from_slice(&short(whole - V6_HEADER));
        }
        _ => {}
    }
}

fn short(number: usize) -> [u8; 2] {
    u16::try_from(number).unwrap_or(u16::MAX).to_be_bytes()
}

/// Where the IP header stands in a frame, behind its Ethernet header and the VLAN tags in it.
pub fn ip_in(frame: &[u8]) -> usize {
    const TYPE: usize = 12;
    const TAG: usize = 4;
    const TAGS: [[u8; 2]; 2] = [[0x81, 0x00], [0x88, 0xa8]];
    let mut at = TYPE;
    while frame
        .get(at..at + 2)
        .is_some_and(|kind| TAGS.iter().any(|tag| tag == kind))
    {
        at += TAG;
    }
    at + 2
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An IPv4 packet of UDP, behind so many octets.
    fn packet(before: usize, carried: &[u8], datagram: usize) -> Packet {
        let mut octets = vec![0; before];
        if before > 0 {
            octets[before - 2..].copy_from_slice(&[0x08, 0x00]);
        }
        let mut header = [
            0x45, 0, 0, 0, 0xff, 0xff, 0x40, 0, 64, 17, 0, 0, 172, 17, 0, 2, 203, 0, 113, 7,
        ];
        header[2..4].copy_from_slice(&short(28 + carried.len()));
        octets.extend(header);
        octets.extend([0x80, 0, 0x01, 0xbb]);
        octets.extend(short(8 + carried.len()));
        octets.extend([0xde, 0xad]);
        octets.extend(carried);
        Packet {
            payload: before + 28,
            octets,
            datagram,
            mark: 0,
        }
    }

    #[test]
    fn several_datagrams_become_packets_of_their_own() {
        let carried: Vec<u8> = (0..=250).cycle().take(2500).collect();
        for before in [0, 14] {
            let apart = packet(before, &carried, 1200).apart(before);
            assert_eq!(apart.len(), 3);
            for ((apart, carried), number) in apart.iter().zip(carried.chunks(1200)).zip(0u16..) {
                let ip = &apart[before..];
                assert_eq!(&ip[28..], carried);
                assert_eq!(ip[2..4], short(28 + carried.len()));
                assert_eq!(ip[4..6], 0xffffu16.wrapping_add(number).to_be_bytes());
                assert_eq!(
                    super::super::raw::sum(&ip[..20]),
                    0,
                    "the header's checksum"
                );
                assert_eq!(ip[24..26], short(8 + carried.len()));
                let [from, to] = [[172, 17, 0, 2], [203, 0, 113, 7]].map(std::net::IpAddr::from);
                let sum = super::super::raw::checksum(from, to, 17, &ip[20..]);
                assert_eq!(sum, 0, "the datagram's checksum");
            }
        }
    }

    #[test]
    fn one_datagram_stays_as_it_is_but_for_its_checksum() {
        let whole = packet(14, b"first", 0);
        let [apart] = &whole.apart(14)[..] else {
            panic!("it is one packet")
        };
        let checksum = 14 + 20 + 6;
        assert_eq!(apart[..checksum], whole.octets[..checksum]);
        assert_eq!(apart[checksum + 2..], whole.octets[checksum + 2..]);
        assert_ne!(apart[checksum..checksum + 2], [0xde, 0xad]);
        assert_eq!(whole.datagrams().collect::<Vec<_>>(), [b"first"]);
    }

    #[test]
    fn no_octets_are_no_datagram() {
        let none = Packet {
            octets: Vec::new(),
            payload: 9,
            datagram: 0,
            mark: 0,
        };
        assert_eq!(none.datagrams().count(), 0);
        assert!(none.apart(14).is_empty());
    }

    #[test]
    fn a_flow_keeps_so_much_and_gives_it_once() {
        let mut held = Held::new();
        for _ in 0..20 {
            held.keep(&1, packet(14, &[0; 1200], 0));
        }
        let kept = held.take(&1);
        assert_eq!(kept.len(), MOST / (14 + 28 + 1200));
        assert!(held.take(&1).is_empty() && held.take(&2).is_empty());
    }

    #[test]
    fn the_ip_header_is_found_behind_tags() {
        let mut frame = [0; 12].to_vec();
        frame.extend([0x08, 0x00]);
        assert_eq!(ip_in(&frame), 14);
        frame.splice(12..12, [0x81, 0x00, 0, 7]);
        assert_eq!(ip_in(&frame), 18);
        frame.splice(12..12, [0x88, 0xa8, 0, 9]);
        assert_eq!(ip_in(&frame), 22);
        assert_eq!(ip_in(&[]), 14);
    }
}
