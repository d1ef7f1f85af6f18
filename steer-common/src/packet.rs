//! IPv4 (RFC 791), IPv6 (RFC 8200), and what of TCP, UDP and ICMP tells one flow from another.

use network_types::{
    icmp::{Icmpv4Type, Icmpv6Type},
    ip::IpProto,
};

use crate::{
    slot::Slot,
    types::{Address, Port},
};

/// Octets from the IP header on that are looked at: the longest IPv4 header and TCP's flags behind it.
pub const SIZE: usize = 128;

const MASK: u32 = SIZE as u32 - 1;
/// A read at any masked offset stays within the buffer, an address of 16 octets too.
const SLACK: usize = 16;
const EXTENSIONS: u32 = 4;

/// The first octets of a packet, from its IP header on.
#[repr(C)]
pub struct Head {
    octets: [u8; SIZE + SLACK],
    header: Slot,
}

/// Where in a flow a packet stands, as far as the packet alone tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The first packet of a TCP connection.
    First,
    /// A later one.
    Later,
    /// A later one that ends its direction or the whole connection.
    Last,
    /// The protocol does not tell.
    Unknown,
    /// Nothing tells its flow (a later fragment, an echo request, headers beyond what is looked at): its address
    /// alone decides.
    Stateless,
}

/// What is needed to tell a packet's flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Who sends it.
    pub source: Address,
    /// Who is to get it.
    pub destination: Address,
    /// The sender's port; zero where there is none.
    pub source_port: Port,
    /// The receiver's port; zero where there is none.
    pub destination_port: Port,
    /// Protocol number of IP.
    pub protocol: u32,
    /// Where in its flow it stands.
    pub place: Place,
    /// Protocol of the flow that an error of ICMP is about, whose ports are then those above; zero if it is none.
    pub quoted: u32,
    /// Octets from the IP header to what TCP or UDP carries; zero if it is neither.
    pub payload: u32,
    /// Octets that they carry, as the headers have it.
    pub payload_size: u32,
    /// TCP's sequence number.
    pub sequence: u32,
    /// TCP's acknowledgment number.
    pub acknowledgment: u32,
}

impl Packet {
    /// A packet of which nothing tells its flow.
    #[inline(always)]
    pub const fn new(source: Address, destination: Address, protocol: u32) -> Self {
        Self {
            source,
            destination,
            source_port: Port::new(0),
            destination_port: Port::new(0),
            protocol,
            place: Place::Stateless,
            quoted: 0,
            payload: 0,
            payload_size: 0,
            sequence: 0,
            acknowledgment: 0,
        }
    }
}

/// TCP's protocol number.
pub const TCP: u32 = IpProto::Tcp as u32;
/// UDP's protocol number.
pub const UDP: u32 = IpProto::Udp as u32;

/// ICMP's protocol number.
pub const ICMP: u32 = IpProto::Icmp as u32;
/// ICMPv6's protocol number.
pub const ICMPV6: u32 = IpProto::Ipv6Icmp as u32;

impl Head {
    /// An empty head.
    pub const fn new() -> Self {
        Self {
            octets: [0; SIZE + SLACK],
            header: Slot::zero(),
        }
    }

    /// Where the octets go.
    #[inline(always)]
    pub fn buffer(&mut self) -> &mut [u8] {
        &mut self.octets[..SIZE]
    }

    /// Reads the headers in the first `size` octets into `packet`; `None` if they contradict themselves or are cut off.
    #[inline(always)]
    pub fn parse(&mut self, size: u32, packet: &mut Packet) -> Option<()> {
        match self.octets[0] >> 4 {
            4 => self.v4(size, packet),
            6 => self.v6(size, packet),
            _ => None,
        }
    }

    #[inline(always)]
    fn v4(&self, size: u32, packet: &mut Packet) -> Option<()> {
        const FRAGMENT_OFFSET: u16 = 0x1fff;
        let header = u32::from(self.octets[0] & 0x0f) * 4;
        if header < 20 || header > size {
            return None;
        }
        *packet = Packet::new(
            Address::v4(self.array(12)),
            Address::v4(self.array(16)),
            u32::from(self.octets[9]),
        );
        if u16::from_be_bytes(self.array(6)) & FRAGMENT_OFFSET != 0 {
            return Some(());
        }
        let total = u32::from(u16::from_be_bytes(self.array(2)));
        self.transport(packet, header, size, total)
    }

    #[inline(always)]
    fn v6(&mut self, size: u32, packet: &mut Packet) -> Option<()> {
        const FRAGMENT_OFFSET: u16 = 0xfff8;
        const HOP_BY_HOP: u32 = IpProto::HopOpt as u32;
        const ROUTING: u32 = IpProto::Ipv6Route as u32;
        const FRAGMENT: u32 = IpProto::Ipv6Frag as u32;
        const DESTINATION: u32 = IpProto::Ipv6Opts as u32;
        const HEADER: u32 = 40;
        if HEADER > size {
            return None;
        }
        self.header.set(HEADER);
        let total = match u16::from_be_bytes(self.array(4)) {
            // Larger than it can say (RFC 2675): as large as it is.
            0 => u32::MAX,
            payload => HEADER + u32::from(payload),
        };
        *packet = Packet::new(
            Address::new(self.array(8)),
            Address::new(self.array(24)),
            u32::from(self.octets[6]),
        );
        for _ in 0..EXTENSIONS {
            let header = self.header.get();
            if header + 8 > size {
                return Some(());
            }
            let octets = match packet.protocol {
                HOP_BY_HOP | ROUTING | DESTINATION => (u32::from(self.octet(header + 1)) + 1) * 8,
                FRAGMENT => {
                    if u16::from_be_bytes(self.array(header + 2)) & FRAGMENT_OFFSET != 0 {
                        return Some(());
                    }
                    8
                }
                _ => return self.transport(packet, header, size, total),
            };
            packet.protocol = u32::from(self.octet(header));
            self.header.set(header + octets);
        }
        Some(())
    }

    #[inline(always)]
    fn transport(&self, packet: &mut Packet, at: u32, size: u32, total: u32) -> Option<()> {
        match packet.protocol {
            TCP => self.tcp(packet, at, size, total),
            UDP => self.udp(packet, at, size),
            ICMP => self.icmp(packet, at, size, Icmpv4Type::Echo as u8),
            ICMPV6 => self.icmp(packet, at, size, Icmpv6Type::EchoRequest as u8),
            _ => {
                packet.place = Place::Unknown;
                Some(())
            }
        }
    }

    #[inline(always)]
    fn tcp(&self, packet: &mut Packet, at: u32, size: u32, total: u32) -> Option<()> {
        const FIN: u8 = 0x01;
        const SYN: u8 = 0x02;
        const RST: u8 = 0x04;
        const ACK: u8 = 0x10;
        const HEADER: u32 = 20;
        if at + 14 > size {
            return None;
        }
        let flags = self.octet(at + 13);
        packet.place = if flags & (FIN | RST) != 0 {
            Place::Last
        } else if flags & (SYN | ACK) == SYN {
            Place::First
        } else {
            Place::Later
        };
        self.ports(packet, at);
        packet.sequence = u32::from_be_bytes(self.array(at + 4));
        packet.acknowledgment = u32::from_be_bytes(self.array(at + 8));
        let header = u32::from(self.octet(at + 12) >> 4) * 4;
        if header < HEADER {
            return None;
        }
        packet.payload = at + header;
        packet.payload_size = total.saturating_sub(packet.payload);
        Some(())
    }

    #[inline(always)]
    fn udp(&self, packet: &mut Packet, at: u32, size: u32) -> Option<()> {
        const HEADER: u32 = 8;
        if at + HEADER > size {
            return None;
        }
        let octets = u32::from(u16::from_be_bytes(self.array(at + 4)));
        packet.place = Place::Unknown;
        self.ports(packet, at);
        packet.payload = at + HEADER;
        packet.payload_size = octets.saturating_sub(HEADER);
        Some(())
    }

    /// Only an echo request begins anything; its replies and all errors belong to flows of others.
    #[inline(always)]
    fn icmp(&self, packet: &mut Packet, at: u32, size: u32, echo: u8) -> Option<()> {
        const HEADER: u32 = 8;
        if at + HEADER > size {
            return None;
        }
        let kind = self.octet(at);
        if kind != echo {
            packet.place = Place::Later;
            if is_error(packet.protocol, kind) {
                self.quoted(packet, at + HEADER, size);
            }
        }
        Some(())
    }

    /// Reads of which flow the packet is that stands in an error (RFC 792, RFC 4443 section 2.4): one that its receiver
    /// sent, so that the ports change sides.
    #[inline(always)]
    fn quoted(&self, packet: &mut Packet, at: u32, size: u32) {
        const HEADER4: u32 = 20;
        const HEADER6: u32 = 40;
        const PORTS: u32 = 4;
        let first = self.octet(at);
        let (protocol, header) = match first >> 4 {
            4 => (self.octet(at + 9), u32::from(first & 0x0f) * 4),
            6 => (self.octet(at + 6), HEADER6),
            _ => return,
        };
        if header < HEADER4 {
            return;
        }
        let ports = at + header;
        if ports + PORTS <= size {
            packet.quoted = u32::from(protocol);
            if matches!(packet.quoted, TCP | UDP) {
                packet.source_port = Port::new(u16::from_be_bytes(self.array(ports + 2)));
                packet.destination_port = Port::new(u16::from_be_bytes(self.array(ports)));
            }
        }
    }

    #[inline(always)]
    fn ports(&self, packet: &mut Packet, at: u32) {
        packet.source_port = Port::new(u16::from_be_bytes(self.array(at)));
        packet.destination_port = Port::new(u16::from_be_bytes(self.array(at + 2)));
    }

    #[inline(always)]
    fn octet(&self, at: u32) -> u8 {
        self.octets[(at & MASK) as usize]
    }

    #[inline(always)]
    fn array<const N: usize>(&self, at: u32) -> [u8; N] {
        const { assert!(N <= SLACK) };
        let at = (at & MASK) as usize;
        core::array::from_fn(|i| self.octets[at + i])
    }
}

/// Whether a message of ICMP quotes a packet: unreachable, source quench, redirect, time exceeded, parameter problem; of
/// ICMPv6 all below 128.
#[inline(always)]
const fn is_error(protocol: u32, kind: u8) -> bool {
    if protocol == ICMP {
        matches!(kind, 3..=5 | 11 | 12)
    } else {
        kind < 128
    }
}

impl Default for Head {
    fn default() -> Self {
        Self::new()
    }
}
