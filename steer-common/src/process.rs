//! Scopes of processes: what their sockets turn to, and what of it leaves.
//!
//! A socket is told where it goes when it connects or sends a datagram. Whatever goes past that (a socket that is older than its
//! scope, one that is bound to a device, whole packets of a process's making) is judged once more right before it leaves.

use crate::{
    decide::{self, Course, Match, Tables},
    dns,
    packet::{Packet, Place, TCP, UDP},
    scope,
    stats::Outcome,
    types::{Address, FlowKey, Origin, Path, Port, ScopeEntry, Verdict},
};

/// The port of DNS over TLS and over QUIC (RFC 7858, RFC 9250).
const ENCRYPTED: u16 = 853;

/// Whether it takes more than rules to say what becomes of what a scope's processes send.
#[inline(always)]
pub const fn isolates(scope: &ScopeEntry) -> bool {
    scope.default != ScopeEntry::FREE
}

/// Whether what goes to a port is a question that goes to the scope's resolver instead, by its VPN.
#[inline(always)]
pub const fn is_led(scope: &ScopeEntry, port: Port) -> bool {
    scope.dns != 0 && port.number() == dns::PORT
}

/// Where what a process begins goes, and which rule says so. It is no question that is led.
#[inline(always)]
pub fn toward(
    tables: &impl Tables,
    scope: &ScopeEntry,
    remote: &Address,
    port: Port,
) -> (Match, Course) {
    let by_no_rule = |outcome: Outcome| (Match::default(), Course::from(outcome));
    if scope.dns != 0 && port.number() == ENCRYPTED {
        return by_no_rule(Outcome::Isolated);
    }
    // What is neither the host's nor to be steered is for its own link: it is judged where it leaves.
    if isolates(scope) && (!remote.is_steerable() || tables.is_home(remote)) {
        return by_no_rule(match port.number() == dns::PORT {
            true => Outcome::Isolated,
            false => Outcome::Left,
        });
    }
    let matched = tables.address(remote, scope.path);
    let path = match (matched.verdict, scope.default) {
        (Verdict::NONE, ScopeEntry::VPN) => scope.path,
        (Verdict::NONE, ScopeEntry::FREE) | (Verdict::DIRECT, _) => {
            return (matched, matched.left_alone().into());
        }
        (Verdict::NONE, _) => return by_no_rule(Outcome::Blocked),
        (Verdict::BLOCK, _) => return (matched, Outcome::Refused.into()),
        (verdict, _) => verdict.named(),
    };
    let outcome = Outcome::Begun;
    (matched, Course { outcome, path })
}

/// The path of an unconnected datagram of a process: the key's near side is unspecified.
#[inline(always)]
pub fn datagram(tables: &impl Tables, scope: &ScopeEntry, key: &FlowKey) -> Course {
    if let Some(kept) = decide::kept(tables, key, Place::Unknown) {
        return kept;
    }
    if !isolates(scope) {
        if scope.dns != 0 && key.remote_port.number() == ENCRYPTED {
            return Outcome::Isolated.into();
        }
        return decide::begin(tables, key, Place::Unknown, scope.path, 0);
    }
    let (matched, course) = toward(tables, scope, &key.remote, key.remote_port);
    if course.outcome == Outcome::Refused {
        tables.refuse(key, &matched, 0);
    }
    let held = matches!(course.outcome, Outcome::Begun | Outcome::Direct);
    if held && !tables.hold(key, course.path) {
        return Outcome::FlowsFull.into();
    }
    if course.path.is_vpn() {
        tables.tell(key, &matched, course.path, by_default(scope, &matched));
    }
    course
}

/// The scope whose default something takes; zero if it does by a rule.
#[inline(always)]
pub const fn by_default(scope: &ScopeEntry, matched: &Match) -> u32 {
    if matched.verdict.is_vpn() {
        0
    } else {
        scope.scope
    }
}

/// By which path a packet that a process sends must leave, where its mark says `marked`; an error if by none.
#[inline(always)]
pub fn leaves(
    tables: &impl Tables,
    scope: &ScopeEntry,
    socket: Origin,
    packet: &Packet,
    marked: Path,
) -> Result<Path, Outcome> {
    if scope.dns != 0 && scope::asks(packet) {
        return Ok(scope.path);
    }
    if marked.is_vpn() {
        return Ok(marked);
    }
    let remote = &packet.destination;
    if let Some(key) = held(socket, packet)
        && let Some(flow) = tables.held(&key, packet.place)
    {
        return Ok(flow.path);
    }
    if packet.protocol == TCP {
        let key = FlowKey::of_comer(*remote, packet.destination_port);
        if let Some(flow) = tables.held(&key, packet.place) {
            return Ok(flow.path);
        }
    }
    if tables.is_home(remote) && !scope::asks(packet) {
        return Ok(Path::DIRECT);
    }
    if !remote.is_steerable() || tables.is_home(remote) {
        return Err(Outcome::Isolated);
    }
    match (tables.address(remote, scope.path).verdict, scope.default) {
        (Verdict::DIRECT, _) => Ok(Path::DIRECT),
        (Verdict::BLOCK, _) => Err(Outcome::Refused),
        (Verdict::NONE, ScopeEntry::BLOCK) => Err(Outcome::Blocked),
        (Verdict::NONE, _) => Ok(scope.path),
        (verdict, _) => Ok(verdict.named()),
    }
}

/// The flow in `FLOWS` of a packet that a process sends: a connection by its socket alone, as its ends are translated on the way out.
#[inline(always)]
fn held(socket: Origin, packet: &Packet) -> Option<FlowKey> {
    match packet.protocol {
        TCP => Some(FlowKey::of_socket(socket)),
        UDP => Some(FlowKey::of_datagrams(
            socket,
            packet.destination,
            packet.destination_port,
        )),
        _ => None,
    }
}

/// The flow that a process begins by connecting, as [`leaves`] finds it again.
#[inline(always)]
pub fn connected(socket: Origin, protocol: u32, remote: Address, port: Port) -> FlowKey {
    match protocol {
        TCP => FlowKey::of_socket(socket),
        _ => FlowKey::of_datagrams(socket, remote, port),
    }
}

/// Notes who comes to a process from outside, by a path, so that he is answered by it; an error if there is no room.
#[inline(always)]
pub fn comes(
    tables: &impl Tables,
    socket: Origin,
    packet: &Packet,
    path: Path,
) -> Result<(), Outcome> {
    let (comer, port) = (packet.source, packet.source_port);
    let key = match (packet.protocol, packet.place) {
        (TCP, Place::First) => FlowKey::of_comer(comer, port),
        // An answer is the end of a question.
        (UDP, Place::Unknown) if port.number() != dns::PORT => {
            FlowKey::of_datagrams(socket, comer, port)
        }
        _ => return Ok(()),
    };
    if tables.is_home(&comer) {
        return Ok(());
    }
    let is_known = packet.protocol == UDP && tables.held(&key, packet.place).is_some();
    if is_known || tables.hold(&key, path) {
        return Ok(());
    }
    Err(Outcome::FlowsFull)
}
