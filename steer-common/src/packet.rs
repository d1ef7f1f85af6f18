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
const EXTENSIONS: u32 = 4;

/// The first octets of a packet, from its IP header on, as words: the kernel's machine reads none from octets that may not be
/// aligned.
#[repr(C)]
pub struct Head {
    words: [u32; SIZE / 4],
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
            words: [0; SIZE / 4],
            header: Slot::zero(),
        }
    }

    /// Where the octets go.
    #[inline(always)]
    pub fn buffer(&mut self) -> &mut [u8] {
        // SAFETY: octets are aligned anywhere, any of them make a word, and these are borrowed as long as the words are.
        unsafe { core::slice::from_raw_parts_mut(self.words.as_mut_ptr().cast(), SIZE) }
    }

    /// Reads the headers in the first `size` octets into `packet`; `None` if they contradict themselves or are cut off.
    #[inline(always)]
    pub fn parse(&mut self, size: u32, packet: &mut Packet) -> Option<()> {
        match self.octet(0) >> 4 {
            4 => self.v4(size, packet),
            6 => self.v6(size, packet),
            _ => None,
        }
    }

    #[inline(always)]
    fn v4(&self, size: u32, packet: &mut Packet) -> Option<()> {
        const FRAGMENT_OFFSET: u32 = 0x1fff;
        let header = u32::from(self.octet(0) & 0x0f) * 4;
        if header < 20 || header > size {
            return None;
        }
        *packet = Packet::new(
            Address::of_v4_word(self.word(12)),
            Address::of_v4_word(self.word(16)),
            u32::from(self.octet(9)),
        );
        if self.number(4) & FRAGMENT_OFFSET != 0 {
            return Some(());
        }
        let total = self.number(0) & 0xffff;
        self.transport(packet, header, size, total)
    }

    #[inline(always)]
    fn v6(&mut self, size: u32, packet: &mut Packet) -> Option<()> {
        const FRAGMENT_OFFSET: u32 = 0xfff8;
        const HOP_BY_HOP: u32 = IpProto::HopOpt as u32;
        const ROUTING: u32 = IpProto::Ipv6Route as u32;
        const FRAGMENT: u32 = IpProto::Ipv6Frag as u32;
        const DESTINATION: u32 = IpProto::Ipv6Opts as u32;
        const HEADER: u32 = 40;
        if HEADER > size {
            return None;
        }
        self.header.set(HEADER);
        let total = match self.number(4) >> 16 {
            // Larger than it can say (RFC 2675): as large as it is.
            0 => u32::MAX,
            payload => HEADER + payload,
        };
        *packet = Packet::new(
            Address::of_words([8, 12, 16, 20].map(|at| self.word(at))),
            Address::of_words([24, 28, 32, 36].map(|at| self.word(at))),
            u32::from(self.octet(6)),
        );
        for _ in 0..EXTENSIONS {
            let header = self.header.get();
            if header + 8 > size {
                return Some(());
            }
            let octets = match packet.protocol {
                HOP_BY_HOP | ROUTING | DESTINATION => (u32::from(self.octet(header + 1)) + 1) * 8,
                FRAGMENT => {
                    if self.number(header) & FRAGMENT_OFFSET != 0 {
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
            TCP => tcp(self, packet, at, size, total),
            UDP => udp(self, packet, at, size),
            ICMP => self.icmp(packet, at, size, Icmpv4Type::Echo as u8),
            ICMPV6 => self.icmp(packet, at, size, Icmpv6Type::EchoRequest as u8),
            _ => {
                packet.place = Place::Unknown;
                Some(())
            }
        }
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
                let [destination, source] = self.halves(ports);
                packet.source_port = Port::new(source);
                packet.destination_port = Port::new(destination);
            }
        }
    }

    #[inline(always)]
    fn octet(&self, at: u32) -> u8 {
        // SAFETY: octets are aligned anywhere, and the mask keeps within.
        unsafe { *self.words.as_ptr().cast::<u8>().add((at & MASK) as usize) }
    }
}

impl Words for Head {
    #[inline(always)]
    fn word(&self, at: u32) -> u32 {
        self.words[((at & MASK) / 4) as usize]
    }
}

/// Octets from an IP header on, four at a time.
pub trait Words {
    /// Four octets at a multiple of four, as they stand in memory.
    fn word(&self, at: u32) -> u32;

    /// The number that they are.
    #[inline(always)]
    fn number(&self, at: u32) -> u32 {
        u32::from_be(self.word(at))
    }

    /// The two numbers that they are.
    #[inline(always)]
    fn halves(&self, at: u32) -> [u16; 2] {
        let number = self.number(at);
        [(number >> 16) as u16, number as u16]
    }
}

/// Octets that [`plain`] may read of a packet whose first nibble is a 4.
pub const PLAIN_V4: u32 = 40;
/// Octets that [`plain`] may read of all others.
pub const PLAIN_V6: u32 = 60;

/// Reads the headers of what most packets are: TCP or UDP right behind an IP header without options, and no fragment. Whether it
/// is such a packet; what it reads is then what [`Head::parse`] would.
#[inline(always)]
pub fn plain(words: &impl Words, is_v4: bool, packet: &mut Packet) -> bool {
    const FRAGMENT_OFFSET: u32 = 0x1fff;
    const NO_OPTIONS: u32 = 0x45;
    const HEADER4: u32 = 20;
    const HEADER6: u32 = 40;
    if is_v4 {
        let first = words.number(0);
        if first >> 24 != NO_OPTIONS || words.number(4) & FRAGMENT_OFFSET != 0 {
            return false;
        }
        *packet = Packet::new(
            Address::of_v4_word(words.word(12)),
            Address::of_v4_word(words.word(16)),
            words.number(8) >> 16 & 0xff,
        );
        return behind(words, packet, HEADER4, PLAIN_V4, first & 0xffff);
    }
    let size = words.number(4);
    if words.number(0) >> 28 != 6 || size >> 16 == 0 {
        return false;
    }
    *packet = Packet::new(
        Address::of_words([8, 12, 16, 20].map(|at| words.word(at))),
        Address::of_words([24, 28, 32, 36].map(|at| words.word(at))),
        size >> 8 & 0xff,
    );
    behind(words, packet, HEADER6, PLAIN_V6, HEADER6 + (size >> 16))
}

#[inline(always)]
fn behind(words: &impl Words, packet: &mut Packet, at: u32, size: u32, total: u32) -> bool {
    let read = match packet.protocol {
        TCP => tcp(words, packet, at, size, total),
        UDP => udp(words, packet, at, size),
        _ => None,
    };
    read.is_some()
}

#[inline(always)]
fn tcp(words: &impl Words, packet: &mut Packet, at: u32, size: u32, total: u32) -> Option<()> {
    const FIN: u32 = 0x01;
    const SYN: u32 = 0x02;
    const RST: u32 = 0x04;
    const ACK: u32 = 0x10;
    const HEADER: u32 = 20;
    if at + 14 > size {
        return None;
    }
    let word = words.number(at + 12);
    let (header, flags) = ((word >> 28) * 4, word >> 16);
    packet.place = if flags & (FIN | RST) != 0 {
        Place::Last
    } else if flags & (SYN | ACK) == SYN {
        Place::First
    } else {
        Place::Later
    };
    ports(words, packet, at);
    packet.sequence = words.number(at + 4);
    packet.acknowledgment = words.number(at + 8);
    if header < HEADER {
        return None;
    }
    packet.payload = at + header;
    packet.payload_size = total.saturating_sub(packet.payload);
    Some(())
}

#[inline(always)]
fn udp(words: &impl Words, packet: &mut Packet, at: u32, size: u32) -> Option<()> {
    const HEADER: u32 = 8;
    if at + HEADER > size {
        return None;
    }
    let octets = words.number(at + 4) >> 16;
    packet.place = Place::Unknown;
    ports(words, packet, at);
    packet.payload = at + HEADER;
    packet.payload_size = octets.saturating_sub(HEADER);
    Some(())
}

#[inline(always)]
fn ports(words: &impl Words, packet: &mut Packet, at: u32) {
    let [source, destination] = words.halves(at);
    packet.source_port = Port::new(source);
    packet.destination_port = Port::new(destination);
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
