//! The one way to a packet.

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::{bpf_get_socket_cookie, bpf_skb_load_bytes},
};
use steer_common::{
    dns,
    dns::Message,
    packet::{self, PLAIN_V4, PLAIN_V6, Packet, Words},
    stats::Outcome,
    unaligned,
};

use crate::{
    maps::{OPENING, Scratch, Slot},
    turns::opaque,
};

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

/// A packet, and where its IP header begins.
#[derive(Clone, Copy)]
pub struct Skb {
    skb: *mut __sk_buff,
    ip: u32,
}

impl Skb {
    /// Seen from a cgroup: begins with its IP header.
    #[inline(always)]
    pub fn of_cgroup(skb: *mut __sk_buff) -> Self {
        Self { skb, ip: 0 }
    }

    /// Seen on a bridge: begins with its Ethernet header, and maybe VLAN tags that the kernel has left in it. Nothing if
    /// it is not IP.
    #[inline(always)]
    pub fn of_bridge(skb: *mut __sk_buff) -> Option<Self> {
        const VLAN: u16 = 0x8100;
        const SERVICE_VLAN: u16 = 0x88a8;
        const TAG: u32 = 4;
        const TAGS: u32 = 2;
        let mut skb = Self { skb, ip: 14 };
        // SAFETY: the kernel hands the program a valid context.
        let mut protocol = u16::from_be(unsafe { (*skb.skb).protocol } as u16);
        for _ in 0..TAGS {
            if protocol != VLAN && protocol != SERVICE_VLAN {
                break;
            }
            protocol = skb.short(2)? as u16;
            skb.ip += TAG;
        }
        matches!(protocol, IPV4 | IPV6).then_some(skb)
    }

    /// The packet at hand, whose headers were read.
    #[inline(always)]
    pub fn at_hand(skb: *mut __sk_buff, slot: Slot) -> Result<Self, Outcome> {
        let ip = slot.scratch()?.ip.get();
        Ok(Self { skb, ip })
    }

    /// What a global function is given of it; [`Self::at_hand`] has it again.
    #[inline(always)]
    pub fn context(self) -> *mut __sk_buff {
        self.skb
    }

    /// Octets in front of its IP header.
    #[inline(always)]
    pub fn before_ip(self) -> u32 {
        self.ip
    }

    /// Whether it has a VLAN tag that does not stand in its octets.
    #[inline(always)]
    pub fn is_tagged(self) -> bool {
        // SAFETY: the kernel hands the program a valid context.
        unsafe { (*self.skb).vlan_present != 0 }
    }

    /// Octets from its IP header on.
    #[inline(always)]
    pub fn size(self) -> u32 {
        // SAFETY: the kernel hands the program a valid context.
        unsafe { (*self.skb).len }.saturating_sub(self.ip)
    }

    /// Octets of each datagram or segment that it is to be sent as; zero if it is one.
    #[inline(always)]
    pub fn part_size(self) -> u32 {
        // SAFETY: the kernel hands the program a valid context.
        unsafe { (*self.skb).gso_size }
    }

    /// Whether a process sends or receives it.
    #[inline(always)]
    pub fn is_of_process(self) -> bool {
        self.ip == 0
    }

    /// The interface it is on: the one it leaves by, or came in by.
    #[inline(always)]
    pub fn ifindex(self) -> u32 {
        // SAFETY: the kernel hands the program a valid context.
        unsafe { (*self.skb).ifindex }
    }

    /// The interface by which it came into this network namespace; zero if it began here.
    #[inline(always)]
    pub fn ingress_ifindex(self) -> u32 {
        // SAFETY: the kernel hands the program a valid context.
        unsafe { (*self.skb).ingress_ifindex }
    }

    /// Its mark.
    #[inline(always)]
    pub fn mark(self) -> u32 {
        // SAFETY: the kernel hands the program a valid context.
        unsafe { (*self.skb).mark }
    }

    /// The number of its socket, unlike any other since boot; zero if it has none.
    #[inline(always)]
    pub fn cookie(self) -> u64 {
        // SAFETY: the helper takes the context it was handed.
        unsafe { bpf_get_socket_cookie(self.skb.cast()) }
    }

    /// Reads its headers: [`Scratch::packet`].
    #[inline(always)]
    pub fn read_packet(self, slot: Slot) -> Result<&'static Scratch, Outcome> {
        let scratch = slot.scratch()?;
        let Scratch {
            head, ip, packet, ..
        } = scratch;
        ip.set(self.ip);
        if self.is_plain(packet) {
            return Ok(scratch);
        }
        let size = self
            .read(self.ip, head.buffer(), packet::SIZE as u32)
            .ok_or(Outcome::BadPacket)?;
        if parse(slot.0, size) == 0 {
            return Err(Outcome::BadPacket);
        }
        Ok(scratch)
    }

    /// Reads the headers where they stand, if they are such as most have.
    #[inline(always)]
    fn is_plain(self, packet: &mut Packet) -> bool {
        // SAFETY: the kernel hands the program a valid context.
        let (begin, end, protocol) =
            unsafe { ((*self.skb).data, (*self.skb).data_end, (*self.skb).protocol) };
        let is_v4 = u16::from_be(protocol as u16) == IPV4;
        let most = if is_v4 { PLAIN_V4 } else { PLAIN_V6 };
        let head = begin as usize + self.ip as usize;
        if head + most as usize > end as usize {
            return false;
        }
        packet::plain(&There(head), is_v4, packet)
    }

    /// Reads a DNS message of that size, which stands so many octets behind the beginning of the IP header.
    #[inline(always)]
    pub fn message(self, message: &mut Message, at: u32, size: u32) -> Result<(), Outcome> {
        let most = size.min(dns::SIZE as u32);
        let size = self
            .read(self.ip + at, message.buffer(), most)
            .ok_or(Outcome::BadMessage)?;
        message.filled(size);
        Ok(())
    }

    /// Reads what its TCP segment carries, as far as there is room, as a connection's first octets.
    #[inline(always)]
    pub fn opening(self, slot: Slot) -> Result<(), Outcome> {
        let Scratch {
            packet, opening, ..
        } = slot.scratch()?;
        let most = packet.payload_size.min(OPENING as u32);
        let size = self
            .read(self.ip + packet.payload, opening.buffer(), most)
            .ok_or(Outcome::BadPacket)?;
        opening.filled(size);
        Ok(())
    }

    /// Reads at most `most` octets from so many behind where the IP header begins.
    #[inline(always)]
    pub fn octets(self, buffer: &mut [u8], at: u32, most: u32) -> Option<u32> {
        self.read(self.ip.wrapping_add(at), buffer, most)
    }

    /// A number of two octets in network order, so many octets behind where the IP header begins.
    #[inline(always)]
    pub fn short(self, at: u32) -> Option<u32> {
        let mut octets = [0; 2];
        self.read(self.ip + at, &mut octets, 2)
            .filter(|&size| size == 2)
            .map(|_| u32::from(u16::from_be_bytes(octets)))
    }

    /// Reads at most `most` octets from `offset` on, as many as there are and the buffer takes.
    #[inline(always)]
    fn read(self, offset: u32, buffer: &mut [u8], most: u32) -> Option<u32> {
        // SAFETY: the kernel hands the program a valid context.
        let size = unsafe { (*self.skb).len }.checked_sub(offset)?.min(most);
        // Counted from the last octet, for older verifiers learn a range from `<` but nothing from `!= 0`. None wraps.
        let last = opaque(u64::from(size).wrapping_sub(1));
        if last >= buffer.len() as u64 {
            return None;
        }
        let size = (last + 1) as u32;
        // SAFETY: the buffer has at least `size` octets.
        let result = unsafe {
            bpf_skb_load_bytes(self.skb.cast(), offset, buffer.as_mut_ptr().cast(), size)
        };
        (result == 0).then_some(size)
    }
}

/// Where the IP header stands in the packet itself, of which as much is there as is read.
struct There(usize);

impl Words for There {
    #[inline(always)]
    fn word(&self, at: u32) -> u32 {
        // SAFETY: the caller has compared with where the packet ends, or the verifier would refuse.
        unsafe { unaligned::four((self.0 + at as usize) as *const u8) }
    }
}

/// Reads the headers in a buffer; zero if they are bad. Global, so that the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn parse(slot: u32, size: u32) -> u32 {
    let Ok(scratch) = Slot(slot).scratch() else {
        return 0;
    };
    let parsed = scratch.head.parse(size, &mut scratch.packet);
    u32::from(parsed.is_some())
}
