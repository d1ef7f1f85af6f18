//! DNS questions that user space asks in their client's place, by the VPN.

use aya_ebpf::bindings::__sk_buff;
use steer_common::{
    dns,
    packet::{Packet, UDP},
    stats::Outcome,
    types::{
        AskedEntry, AskedKey, Config, EMBEDDED as RESOLVER, EmbeddedKey, Origin, Port, QueryEntry,
        ScopeEntry, piece, relay,
    },
};

use crate::{
    initials,
    maps::{ASKED, ELSEWHERE, EMBEDDED, Scratch, Slot, config},
    names::{self, AT_EMBEDDED},
    pieces::{self, What},
    processes,
    skb::Skb,
    tables::ANY,
};

/// A process in another network namespace turns to somebody.
#[inline(always)]
pub fn elsewhere(cookie: Origin, port: Port) {
    let relays = config().is_ok_and(|config| config.relay != 0);
    if relays && port.number() == dns::PORT {
        // Without room a question of the socket's is relayed from where it is not seen, and asked again.
        let _ = ELSEWHERE.insert(&cookie, 1, ANY);
    }
}

/// Remembers what Docker's own resolver is asked by those who are not left alone; what is no whole question does not come to
/// it, for it could not be told what it asks on.
#[inline(always)]
pub fn at_embedded(skb: Skb, slot: Slot, packet: &Packet, config: &Config) -> Result<(), Outcome> {
    if config.relay & relay::EMBEDDED == 0 || packet.destination != RESOLVER {
        return Ok(());
    }
    names::read_messages(skb, slot, packet, 0, AT_EMBEDDED)
}

/// Remembers the question at hand, whose name was hashed.
#[inline(always)]
pub fn asked(slot: Slot, name: u64) -> Result<Outcome, Outcome> {
    let Scratch {
        packet, message, ..
    } = slot.scratch()?;
    let listener = EmbeddedKey {
        protocol: packet.protocol,
        port: packet.destination_port.number().into(),
    };
    let mut scope = 0;
    if let Some(entry) = EMBEDDED.get_ptr(&listener) {
        // SAFETY: an element of a map stays readable until the program ends.
        let entry = unsafe { *entry };
        if entry.default == ScopeEntry::FREE && entry.dns == 0 {
            return Ok(Outcome::Asked);
        }
        scope = entry.scope;
    }
    let entry = AskedEntry {
        scope,
        tick: config()?.tick,
    };
    let key = key(name, message.id());
    ASKED.insert(&key, entry, ANY).map_err(|_| Outcome::Busy)?;
    Ok(Outcome::Asked)
}

/// The question at hand leaves, and was remembered; an error if user space is to ask it.
#[inline(always)]
pub fn leaves(skb: Skb, slot: Slot, origin: Origin, entry: &QueryEntry) -> Result<(), Outcome> {
    if config()?.relay == 0 {
        return Ok(());
    }
    slot.kept(relayed(skb.context(), slot.0, origin, entry.name))
}

/// Zero, or what [`Slot::kept`] takes.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn relayed(skb: *mut __sk_buff, slot: u32, origin: Origin, name: u64) -> u32 {
    let slot = Slot(slot);
    slot.keep(Skb::at_hand(skb, slot).and_then(|skb| relay(skb, slot, origin, name)))
}

#[inline(always)]
fn relay(skb: Skb, slot: Slot, origin: Origin, name: u64) -> Result<(), Outcome> {
    let Scratch {
        packet,
        message,
        lesson,
        ..
    } = slot.scratch()?;
    if skb.is_of_process() && (ELSEWHERE.get_ptr(&origin).is_some() || processes::leads(skb)) {
        return Ok(());
    }
    let config = config()?;
    let verdict = lesson.matched.verdict;
    let by_name =
        config.relay & relay::NAMES != 0 && verdict.is_vpn() && initials::is_heard(config);
    let scope = match ASKED.get_ptr(&key(name, message.id())) {
        // SAFETY: an element of a map stays readable until the program ends.
        Some(asked) if skb.is_of_process() => unsafe { (*asked).scope },
        _ if by_name => 0,
        _ => return Ok(()),
    };
    if packet.protocol != UDP {
        return if by_name {
            Ok(())
        } else {
            Err(Outcome::Isolated)
        };
    }
    let Scratch { rest, place, .. } = slot.scratch()?;
    rest.at.set(place.at.get());
    rest.left.set(place.left.get());
    let what = What {
        origin,
        kind: piece::QUESTION,
        first: scope,
        by_vpn: if by_name { verdict.number() } else { 0 },
    };
    pieces::copy(skb, slot, what)?;
    Err(Outcome::Relayed)
}

#[inline(always)]
fn key(name: u64, id: u16) -> AskedKey {
    AskedKey {
        name,
        id: id.into(),
    }
}
