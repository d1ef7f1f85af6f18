//! Packets that QUIC begins with: they wait until user space has read the name in them, for they are encrypted.

use aya_ebpf::{bindings::__sk_buff, helpers::bpf_ktime_get_ns};
use steer_common::{
    packet::{Packet, UDP},
    quic,
    stats::Outcome,
    types::{Config, FlowKey, HelloEntry, Origin, piece},
};

use crate::{
    hellos,
    maps::{HELLOS, Scratch, Slot, config},
    pieces::{self, What},
    skb::Skb,
    tables::ANY,
};

/// Nanoseconds without a word of user space after which nothing is held for it any more.
const SILENCE: u64 = 4_000_000_000;

/// Whether user space is there, to do what it is given.
#[inline(always)]
pub fn is_heard(config: &Config) -> bool {
    // SAFETY: the helper has no arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    now <= config.heard.saturating_add(SILENCE)
}

/// A process is about to send datagrams to somebody of whom no rule speaks.
#[inline(always)]
pub fn begins(key: &FlowKey) {
    if hellos::is_tls(key.remote_port) && key.remote.is_steerable() {
        // Without room its name is not read, as if it had none.
        let _ = HELLOS.insert(key, HelloEntry::default(), ANY);
    }
}

/// A datagram that a client sends; an error if it must wait. It may be a flow's first, and take a VPN.
#[inline(always)]
pub fn see(
    skb: Skb,
    slot: Slot,
    packet: &Packet,
    origin: impl FnOnce() -> Origin,
    first: bool,
    by_vpn: bool,
) -> Result<(), Outcome> {
    if packet.protocol != UDP || !hellos::is_tls(packet.destination_port) {
        return Ok(());
    }
    let (first, by_vpn) = (u32::from(first), u32::from(by_vpn));
    slot.kept(datagram(skb.context(), slot.0, origin(), first, by_vpn))
}

/// Zero, or what [`Slot::kept`] takes.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn datagram(
    skb: *mut __sk_buff,
    slot: u32,
    origin: Origin,
    first: u32,
    by_vpn: u32,
) -> u32 {
    let slot = Slot(slot);
    slot.keep(Skb::at_hand(skb, slot).and_then(|skb| hold(skb, slot, origin, first, by_vpn)))
}

#[inline(always)]
fn hold(skb: Skb, slot: Slot, origin: Origin, first: u32, by_vpn: u32) -> Result<(), Outcome> {
    let Scratch { packet, rest, .. } = slot.scratch()?;
    let mut head = [0; quic::HEAD];
    let read = skb.octets(&mut head, packet.payload, quic::HEAD as u32);
    // All that a client sends before it has an answer has a long header.
    if read != Some(quic::HEAD as u32) || !quic::is_long(&head) {
        return Ok(());
    }
    let key = if skb.is_of_process() {
        FlowKey::of_datagrams(origin, packet.destination, packet.destination_port)
    } else {
        FlowKey::of(origin, packet)
    };
    let waits = match HELLOS.get_ptr(&key) {
        // SAFETY: an element of a map stays readable until the program ends.
        Some(entry) => unsafe { (*entry).state == HelloEntry::PIECES },
        None if first == 0 => return Ok(()),
        None => false,
    };
    let config = config()?;
    if !is_heard(config) || skb.is_tagged() {
        return Ok(());
    }
    if !waits {
        let begins = quic::is_initial(&head) && packet.payload_size >= quic::SMALLEST;
        if !begins || !packet.destination.is_steerable() {
            return Ok(());
        }
        let entry = HelloEntry {
            state: HelloEntry::PIECES,
            ..HelloEntry::default()
        };
        HELLOS.insert(&key, entry, ANY).map_err(|_| Outcome::Busy)?;
    }
    let end = packet.payload.wrapping_add(packet.payload_size);
    rest.at.set(0u32.wrapping_sub(skb.before_ip()));
    rest.left.set(end.wrapping_add(skb.before_ip()));
    let what = What {
        origin,
        kind: piece::INITIAL,
        first: packet.payload_size,
        by_vpn,
    };
    pieces::copy(skb, slot, what)?;
    if config.reset == 0 {
        return Ok(());
    }
    Err(Outcome::InitialHeld)
}
