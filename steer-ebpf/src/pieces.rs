//! Octets of packets for user space, where the kernel cannot read on.

use aya_ebpf::bindings::__sk_buff;
use steer_common::{
    packet::UDP,
    stats::Outcome,
    types::{FlowKey, Origin, PIECE, Path, Piece},
};

use crate::{
    maps::{SEGMENTS, Scratch, Slot, count},
    processes,
    skb::Skb,
    turns::turns,
};

/// Pieces of a packet that user space is given.
const PIECES: u32 = 8;

/// What pieces are of.
#[repr(C)]
pub struct What {
    pub origin: Origin,
    pub kind: u32,
    pub first: u32,
    pub by_vpn: u32,
}

/// Gives user space the rest at hand of a packet.
#[inline(always)]
pub fn copy(skb: Skb, slot: Slot, what: What) -> Result<(), Outcome> {
    slot.scratch()?.what = what;
    for () in turns(PIECES) {
        if copy_piece(skb.context(), slot.0) == 0 {
            break;
        }
    }
    Ok(())
}

/// Zero when nothing is left, or can be given.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn copy_piece(skb: *mut __sk_buff, slot: u32) -> u32 {
    let slot = Slot(slot);
    let (Ok(skb), Ok(scratch)) = (Skb::at_hand(skb, slot), slot.scratch()) else {
        return 0;
    };
    let Scratch {
        packet, rest, what, ..
    } = scratch;
    let (at, left) = (rest.at.get(), rest.left.get());
    if left == 0 {
        return 0;
    }
    let Some(mut reserved) = SEGMENTS.reserve_untyped::<Copied>(0) else {
        count(Outcome::EventLost);
        return 0;
    };
    let copied = reserved.as_mut_ptr();
    // SAFETY: the entry is exclusive until it is submitted; any octets are what its buffer may hold.
    let octets = unsafe { &mut (*copied).octets };
    let Some(size) = skb.octets(octets, at, left.min(PIECE as u32)) else {
        reserved.discard(0);
        return 0;
    };
    let process = skb.is_of_process();
    let vpn = if process {
        processes::vpn_of(skb.context())
    } else {
        0
    };
    // SAFETY: as above, and each field is written.
    unsafe {
        let piece = &raw mut (*copied).piece;
        (*piece).flow = FlowKey::of(what.origin, packet);
        (*piece).kind = what.kind;
        (*piece).process = u32::from(process);
        (*piece).first = what.first;
        (*piece).sequence = packet
            .sequence
            .wrapping_add(at.wrapping_sub(packet.payload));
        (*piece).acknowledgment = packet.acknowledgment;
        (*piece).size = size;
        (*piece).by_vpn = what.by_vpn;
        (*piece).datagram = if packet.protocol == UDP {
            skb.part_size()
        } else {
            0
        };
        (*piece).mark = skb.mark();
        (*piece).vpn = Path::vpn(vpn);
    }
    reserved.submit(0);
    rest.at.set(at + size);
    rest.left.set(left.wrapping_sub(size));
    1
}

#[repr(C)]
struct Copied {
    piece: Piece,
    octets: [u8; PIECE],
}
