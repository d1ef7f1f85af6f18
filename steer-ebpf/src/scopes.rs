//! In which scope a container is, as user space has said.

use aya_ebpf::bindings::__sk_buff;
use steer_common::{
    stats::Outcome,
    types::{PIECE, ScopeEntry, ScopeKey, Waits, event, piece},
};

use crate::{
    initials,
    maps::{EVENTS, SCOPES, Slot, config, count},
    names::{SERVER, Side},
    pieces::{self, What},
    skb::Skb,
    tables::NEW,
};

/// The scope of a container; unknown where user space has not said, which is then told once.
#[inline(always)]
pub fn of(mut key: ScopeKey) -> ScopeEntry {
    let address = core::mem::take(&mut key.address);
    let Some(bridge) = SCOPES.get_ptr(&key) else {
        return waits(&key);
    };
    // SAFETY: an element of a map stays readable until the program ends.
    let bridge = unsafe { *bridge };
    if bridge.default != ScopeEntry::EACH {
        return bridge;
    }
    key.address = address;
    match SCOPES.get_ptr(&key) {
        // SAFETY: as above.
        Some(container) => unsafe { *container },
        None => waits(&key),
    }
}

/// Noted as unknown, so that it is told once; without room it is not even told.
#[inline(always)]
fn waits(key: &ScopeKey) -> ScopeEntry {
    let unknown = ScopeEntry::default();
    if SCOPES.insert(key, unknown, NEW).is_err() {
        return unknown;
    }
    let Some(mut event) = EVENTS.reserve_untyped::<Waits>(0) else {
        count(Outcome::EventLost);
        return unknown;
    };
    event.write(Waits {
        kind: event::WAITS,
        zero: 0,
        who: *key,
    });
    event.submit(0);
    unknown
}

/// Gives user space a packet that waits, so that it goes on as soon as its sender is known. One of several datagrams or
/// segments is lost, as in a network that is full.
#[inline(always)]
pub fn keep(skb: Skb, slot: Slot) {
    copy(skb.context(), slot.0);
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn copy(skb: *mut __sk_buff, slot: u32) -> u32 {
    let slot = Slot(slot);
    let kept = Skb::at_hand(skb, slot).and_then(|skb| give(skb, slot));
    u32::from(kept.is_err())
}

#[inline(always)]
fn give(skb: Skb, slot: Slot) -> Result<(), Outcome> {
    let size = skb.size().wrapping_add(skb.before_ip());
    let fits = size <= PIECE as u32 && skb.part_size() == 0 && !skb.is_tagged();
    if !fits || !initials::is_heard(config()?) {
        return Ok(());
    }
    let rest = &mut slot.scratch()?.rest;
    rest.at.set(0u32.wrapping_sub(skb.before_ip()));
    rest.left.set(size);
    let what = What {
        origin: skb.ifindex().into(),
        kind: piece::WAITS,
        first: 0,
        by_vpn: 0,
    };
    pieces::copy(skb, slot, what)
}

/// The number of the VPN of the scope of whoever sends the packet at hand from behind a bridge; zero if it has none.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn vpn(slot: u32, bridge: u32) -> u32 {
    let (Ok(config), Ok(scratch)) = (config(), Slot(slot).scratch()) else {
        return 0;
    };
    if config.scopes == 0 {
        return 0;
    }
    let scope = of(ScopeKey {
        bridge,
        zero: 0,
        address: scratch.packet.source,
    });
    scope.path.number()
}

/// Whether the questions of the container at hand are led to a resolver of its scope. Its answers then come from whom it asked,
/// while with br_netfilter its questions are seen on their way to the resolver.
#[inline(always)]
pub fn leads(skb: Skb, slot: Slot, side: Side) -> bool {
    let scoped = config().is_ok_and(|config| config.scopes != 0);
    scoped && !skb.is_of_process() && led(slot.0, skb.ifindex(), side) != 0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn led(slot: u32, bridge: u32, side: Side) -> u32 {
    let Ok(scratch) = Slot(slot).scratch() else {
        return 0;
    };
    let packet = &scratch.packet;
    let client = if side == SERVER {
        packet.destination
    } else {
        packet.source
    };
    let scope = of(ScopeKey {
        bridge,
        zero: 0,
        address: client,
    });
    scope.dns
}
