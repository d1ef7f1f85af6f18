//! How much takes each path: sums that are always kept, and by far address while somebody watches.

use crate::{
    packet::Packet,
    types::{Address, Path},
};

/// Octets and packets, both ways. Octets are those of IP, from its header on; what the kernel handles as one large packet
/// and cuts up later counts once, with one header.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// Octets sent from here.
    pub bytes_out: u64,
    /// Octets that came.
    pub bytes_in: u64,
    /// Packets sent from here.
    pub packets_out: u64,
    /// Packets that came.
    pub packets_in: u64,
}

impl Volume {
    /// Adds another.
    pub fn add(&mut self, other: &Self) {
        self.bytes_out += other.bytes_out;
        self.bytes_in += other.bytes_in;
        self.packets_out += other.packets_out;
        self.packets_in += other.packets_in;
    }

    /// What it is more than it was; all of it where it was begun anew since.
    pub fn since(&self, before: &Self) -> Self {
        if self.packets_out < before.packets_out || self.packets_in < before.packets_in {
            return *self;
        }
        Self {
            bytes_out: self.bytes_out.saturating_sub(before.bytes_out),
            bytes_in: self.bytes_in.saturating_sub(before.bytes_in),
            packets_out: self.packets_out - before.packets_out,
            packets_in: self.packets_in - before.packets_in,
        }
    }

    /// Octets both ways.
    pub fn bytes(&self) -> u64 {
        self.bytes_out + self.bytes_in
    }
}

/// Room in `USAGE`.
pub const USES: usize = 16_384;

/// Room in `HOME`: the host's own addresses, and the networks of the bridges that are steered.
pub const HOME: usize = 4_096;

/// Value of `TRAFFIC`, one for each CPU: what went each path. An array of [`Volume`]s, of which [`Way::index`] says which.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Of processes, not by the VPN.
    pub processes_direct: Volume,
    /// Of processes, by the VPN.
    pub processes_vpn: Volume,
    /// Of containers, not by the VPN.
    pub containers_direct: Volume,
    /// Of containers, by the VPN.
    pub containers_vpn: Volume,
}

/// Volumes in [`Traffic`]; a power of two.
pub const VOLUMES: usize = 4;

impl Traffic {
    /// Adds another.
    pub fn add(&mut self, other: &Self) {
        self.processes_direct.add(&other.processes_direct);
        self.processes_vpn.add(&other.processes_vpn);
        self.containers_direct.add(&other.containers_direct);
        self.containers_vpn.add(&other.containers_vpn);
    }

    /// All that did not take the VPN.
    pub fn direct(&self) -> Volume {
        let mut sum = self.processes_direct;
        sum.add(&self.containers_direct);
        sum
    }

    /// All that took the VPN.
    pub fn vpn(&self) -> Volume {
        let mut sum = self.processes_vpn;
        sum.add(&self.containers_vpn);
        sum
    }
}

/// Key of `USAGE`: who had to do with whom, on which path.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct UsageKey {
    /// Index of the bridge that a container is behind; zero for processes.
    pub bridge: u32,
    /// By which VPN, if by one.
    pub path: Path,
    /// The container's address; unspecified for processes.
    pub near: Address,
    /// The far side.
    pub remote: Address,
}

/// Whose a packet is, which path it takes and which way it goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// Index of the bridge that its container is behind; zero for a process's.
    pub bridge: u32,
    /// By which VPN, if by one.
    pub path: Path,
    /// Not zero: it came from afar.
    pub came: u32,
}

impl Way {
    /// Which of the [`VOLUMES`] in [`Traffic`] it belongs to.
    #[inline(always)]
    pub const fn index(&self) -> u64 {
        (if self.bridge != 0 { 2 } else { 0 }) + (if self.path.is_vpn() { 1 } else { 0 })
    }

    /// The far side of a packet.
    #[inline(always)]
    pub const fn remote<'a>(&self, packet: &'a Packet) -> &'a Address {
        if self.came != 0 {
            &packet.source
        } else {
            &packet.destination
        }
    }

    /// Under what a packet is counted.
    #[inline(always)]
    pub fn key(&self, packet: &Packet) -> UsageKey {
        let near = match (self.bridge, self.came) {
            (0, _) => Address::default(),
            (_, 0) => packet.source,
            _ => packet.destination,
        };
        UsageKey {
            bridge: self.bridge,
            path: self.path,
            near,
            remote: *self.remote(packet),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::TCP;

    const NEAR: Address = Address::v4([172, 17, 0, 2]);
    const FAR: Address = Address::v4([203, 0, 113, 7]);

    #[test]
    fn both_ways_of_a_flow_have_one_key() {
        let sent = Packet::new(NEAR, FAR, TCP);
        let came = Packet::new(FAR, NEAR, TCP);
        for path in [Path::DIRECT, Path::vpn(1)] {
            for (bridge, near) in [(7, NEAR), (0, Address::default())] {
                let out = Way {
                    bridge,
                    path,
                    came: 0,
                };
                let key = UsageKey {
                    bridge,
                    path,
                    near,
                    remote: FAR,
                };
                assert_eq!(out.key(&sent), key);
                assert_eq!(Way { came: 1, ..out }.key(&came), key);
            }
        }
    }

    #[test]
    fn each_way_has_the_volume_of_its_name() {
        let volume = |bytes_out| Volume {
            bytes_out,
            ..Volume::default()
        };
        let traffic = Traffic {
            processes_direct: volume(0),
            processes_vpn: volume(1),
            containers_direct: volume(2),
            containers_vpn: volume(3),
        };
        assert_eq!(traffic.direct().bytes(), 2);
        assert_eq!(traffic.vpn().bytes(), 4);
        let index = |bridge, vpn| {
            let way = Way {
                bridge,
                path: Path::vpn(vpn),
                came: 0,
            };
            way.index()
        };
        let indices = [index(0, 0), index(0, 9), index(9, 0), index(9, 9)];
        assert_eq!(indices, [0, 1, 2, 3]);
    }

    #[test]
    fn what_was_forgotten_meanwhile_counts_from_nothing() {
        let volume = |packets, bytes| Volume {
            bytes_out: bytes,
            packets_out: packets,
            ..Volume::default()
        };
        assert_eq!(volume(3, 300).since(&volume(1, 100)), volume(2, 200));
        assert_eq!(volume(1, 50).since(&volume(3, 300)), volume(1, 50));
    }
}
