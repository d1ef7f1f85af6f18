//! Frames: Ethernet, IP, TCP and UDP. Nobody checks sums on the way to the programs, so there are none.

use std::net::IpAddr;

/// Flags of TCP.
pub const SYN: u8 = 0x02;
/// That something is acknowledged.
pub const ACK: u8 = 0x10;

/// Octets of an Ethernet header.
pub const ETHERNET: usize = 14;
/// Octets of IPv4 before the addresses.
const BEFORE_V4: usize = 12;

/// Both ends of a flow.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// Who sends.
    pub near: IpAddr,
    /// From which port.
    pub near_port: u16,
    /// Who receives.
    pub far: IpAddr,
    /// On which port.
    pub far_port: u16,
}

impl Ends {
    /// The other direction.
    pub fn turned(self) -> Self {
        Self {
            near: self.far,
            near_port: self.far_port,
            far: self.near,
            far_port: self.near_port,
        }
    }

    /// A segment of TCP: the first, or what comes right behind it.
    pub fn tcp(&self, flags: u8, payload: &[u8]) -> Vec<u8> {
        let sequence = u8::from(flags & SYN == 0);
        let mut segment = self.ports();
        segment.extend([0, 0, 0, sequence, 0, 0, 0, 1]);
        segment.extend([0x50, flags, 2, 0, 0, 0, 0, 0]);
        segment.extend(payload);
        self.ip(6, &segment)
    }

    /// A datagram of UDP.
    pub fn udp(&self, payload: &[u8]) -> Vec<u8> {
        let mut datagram = self.ports();
        datagram.extend((8 + payload.len() as u16).to_be_bytes());
        datagram.extend([0, 0]);
        datagram.extend(payload);
        self.ip(17, &datagram)
    }

    /// Where the addresses and ports of a frame over IPv4 without options are.
    pub fn place_v4() -> std::ops::Range<usize> {
        let begin = ETHERNET + BEFORE_V4;
        begin..begin + 12
    }

    fn ports(&self) -> Vec<u8> {
        [self.near_port, self.far_port]
            .iter()
            .flat_map(|port| port.to_be_bytes())
            .collect()
    }

    /// Over IPv4 if both are of it; an IPv4 address beside one of IPv6 is written as mapped.
    fn ip(&self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let size = payload.len() as u16;
        if let (IpAddr::V4(near), IpAddr::V4(far)) = (self.near, self.far) {
            let mut packet = vec![0x45, 0];
            packet.extend((20 + size).to_be_bytes());
            packet.extend([0, 1, 0x40, 0, 64, protocol, 0, 0]);
            packet.extend(near.octets());
            packet.extend(far.octets());
            packet.extend(payload);
            return ethernet(0x0800, &packet);
        }
        let v6 = |address| match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend(size.to_be_bytes());
        packet.extend([protocol, 64]);
        packet.extend(v6(self.near).octets());
        packet.extend(v6(self.far).octets());
        packet.extend(payload);
        ethernet(0x86dd, &packet)
    }
}

/// A frame that carries this.
pub fn ethernet(protocol: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    frame.extend(protocol.to_be_bytes());
    frame.extend(payload);
    frame
}
