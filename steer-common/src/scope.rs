//! Scopes: containers whose flows take the VPN or go nowhere, unless a rule says otherwise.
//!
//! What of theirs goes direct is what a rule sends there, what came in from outside, and what does not leave the host. Each
//! such flow is held in `FLOWS`, and a packet of no flow there goes nowhere.

use crate::{
    decide::{Course, Tables},
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
) -> Course {
    if let Some(outcome) = settled(tables, scope, packet) {
        return outcome.into();
    }
    let matched = tables.address(&packet.destination, scope.path);
    let path = match (matched.verdict, scope.default) {
        (Verdict::BLOCK, _) => {
            if packet.place != Place::Stateless {
                tables.refuse(key, &matched, packet.sequence);
            }
            return Outcome::Refused.into();
        }
        (Verdict::DIRECT, _) => Path::DIRECT,
        (Verdict::NONE, ScopeEntry::BLOCK) => return Outcome::Blocked.into(),
        (Verdict::NONE, _) => scope.path,
        (verdict, _) => verdict.named().or(scope.path),
    };
    if packet.place == Place::Stateless {
        let outcome = if path.is_vpn() {
            Outcome::Stateless
        } else {
            Outcome::Left
        };
        return Course { outcome, path };
    }
    if !tables.hold(key, path) {
        return Outcome::FlowsFull.into();
    }
    if !path.is_vpn() {
        return Outcome::Direct.into();
    }
    let scope = if matched.verdict.is_vpn() {
        0
    } else {
        scope.scope
    };
    tables.tell(key, &matched, path, scope);
    Course {
        outcome: Outcome::Begun,
        path,
    }
}

/// What becomes of a packet whose path no rule and no default has a say in.
#[inline(always)]
fn settled(tables: &impl Tables, scope: &ScopeEntry, packet: &Packet) -> Option<Outcome> {
    let remote = &packet.destination;
    if !remote.is_steerable() {
        return Some(match remote.is_link_local_v4() {
            true if scope.default == ScopeEntry::UNKNOWN => Outcome::ScopeUnknown,
            true => Outcome::Isolated,
            false => Outcome::Left,
        });
    }
    let is_home = tables.is_home(remote);
    if is_home && !asks(packet) {
        return Some(Outcome::Left);
    }
    if scope.default == ScopeEntry::UNKNOWN {
        return Some(Outcome::ScopeUnknown);
    }
    let began_before = matches!(packet.place, Place::Later | Place::Last) || packet.quoted != 0;
    (began_before || is_home).then_some(Outcome::Isolated)
}

/// Whether a packet is to a name server.
#[inline(always)]
pub fn asks(packet: &Packet) -> bool {
    packet.quoted == 0 && packet.destination_port.number() == dns::PORT
}

/// The path of a DNS question where the scope has a resolver of its own: the VPN, whomever it is to.
#[inline(always)]
pub fn question(tables: &impl Tables, key: &FlowKey, place: Place, vpn: Path) -> Course {
    let outcome = match place {
        Place::First if tables.hold(key, vpn) => Outcome::Begun,
        Place::First => return Outcome::FlowsFull.into(),
        // Of a connection that began before, to whom it was to.
        Place::Later | Place::Last => return Outcome::Isolated.into(),
        // A datagram's answer is the end of it.
        Place::Unknown | Place::Stateless => Outcome::Stateless,
    };
    Course { outcome, path: vpn }
}

/// Whether a flow that comes in on the direct path must be held, or its replies would go nowhere.
#[inline(always)]
pub fn notes(tables: &impl Tables, origin: Origin, packet: &Packet) -> bool {
    let ends = [&packet.destination, &packet.source];
    ends.iter().all(|end| end.is_steerable())
        && !tables.is_home(&packet.source)
        && tables.scope(origin, &packet.destination).default != ScopeEntry::FREE
}
