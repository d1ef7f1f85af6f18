//! Scopes: containers whose flows take the VPN or go nowhere, unless a rule says otherwise.
//!
//! What of theirs goes direct is what a rule sends there, what came in from outside, and what does not leave the host. Each
//! such flow is held in `FLOWS`, and a packet of no flow there goes nowhere.

use crate::{
    decide::Tables,
    dns,
    packet::{Packet, Place},
    stats::Outcome,
    types::{FlowKey, Origin, Path, ScopeEntry, Verdict},
};

/// The path of a packet of no flow that is held, which one of a scope sends.
///
/// DNS questions that are not the VPN's ([`question`]) do not even go to the host itself, which would ask on by the direct path.
#[inline(always)]
pub fn outgoing(
    tables: &impl Tables,
    scope: &ScopeEntry,
    key: &FlowKey,
    packet: &Packet,
) -> Outcome {
    let remote = &packet.destination;
    if !remote.is_steerable() {
        return match remote.is_link_local_v4() {
            true if scope.default == ScopeEntry::UNKNOWN => Outcome::ScopeUnknown,
            true => Outcome::Isolated,
            false => Outcome::Left,
        };
    }
    let is_home = tables.is_home(remote);
    if is_home && !asks(packet) {
        return Outcome::Left;
    }
    if scope.default == ScopeEntry::UNKNOWN {
        return Outcome::ScopeUnknown;
    }
    if matches!(packet.place, Place::Later | Place::Last) || packet.quoted != 0 {
        return Outcome::Isolated;
    }
    if is_home {
        return Outcome::Isolated;
    }
    let matched = tables.address(remote);
    let by_vpn = match (matched.verdict, scope.default) {
        (Verdict::DIRECT, _) => false,
        (Verdict::NONE, ScopeEntry::BLOCK) => return Outcome::Blocked,
        _ => true,
    };
    if packet.place == Place::Stateless {
        return if by_vpn {
            Outcome::Stateless
        } else {
            Outcome::Left
        };
    }
    if !by_vpn {
        return match hold(tables, key, Path::DIRECT) {
            Outcome::Begun => Outcome::Direct,
            full => full,
        };
    }
    let begun = hold(tables, key, Path::VPN);
    if begun == Outcome::Begun {
        let scope = match matched.verdict {
            Verdict::VPN => 0,
            _ => scope.scope,
        };
        tables.tell(key, &matched, scope);
    }
    begun
}

/// Whether a packet is to a name server.
#[inline(always)]
pub fn asks(packet: &Packet) -> bool {
    packet.quoted == 0 && packet.destination_port.number() == dns::PORT
}

/// The path of a DNS question where the scope has a resolver of its own: the VPN, whomever it is to.
#[inline(always)]
pub fn question(tables: &impl Tables, key: &FlowKey, place: Place) -> Outcome {
    match place {
        Place::First => hold(tables, key, Path::VPN),
        // Of a connection that began before, to whom it was to.
        Place::Later | Place::Last => Outcome::Isolated,
        // A datagram's answer is the end of it.
        Place::Unknown | Place::Stateless => Outcome::Stateless,
    }
}

#[inline(always)]
fn hold(tables: &impl Tables, key: &FlowKey, path: Path) -> Outcome {
    if tables.hold(key, path) {
        Outcome::Begun
    } else {
        Outcome::FlowsFull
    }
}

/// Whether a flow that comes in on the direct path must be held, or its replies would go nowhere.
#[inline(always)]
pub fn notes(tables: &impl Tables, origin: Origin, packet: &Packet) -> bool {
    let ends = [&packet.destination, &packet.source];
    ends.iter().all(|end| end.is_steerable())
        && !tables.is_home(&packet.source)
        && tables.scope(origin, &packet.destination).default != ScopeEntry::FREE
}
