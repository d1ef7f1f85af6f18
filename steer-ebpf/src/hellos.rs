//! Names that connections begin with: they tell what no answer of the DNS could.

use aya_ebpf::bindings::__sk_buff;
use steer_common::{
    decide::Tables as _,
    http,
    opening::{Name, Step},
    packet::{Packet, Place, TCP},
    stats::Outcome,
    tls,
    types::{Config, FlowKey, HelloEntry, Late, Origin, Path, Port, Verdict, event, piece, source},
};

use crate::{
    lessons,
    maps::{EVENTS, HELLOS, Lesson, Scratch, Slot, config, count},
    names,
    pieces::{self, What},
    processes, scopes,
    skb::Skb,
    tables::{ANY, Maps},
    turns::{TURNS, repeated, turns},
};

/// Octets of a connection within which its name is looked for.
const FAR: u32 = 65_536;
/// More than a name in text form and a zero behind it have octets.
const TEXT: u32 = 256;

const NEITHER: u32 = 0;
const TLS: u32 = 1;
const HTTP: u32 = 2;

/// A process connects to a port.
#[inline(always)]
pub fn connects(cookie: Origin, port: Port) {
    if kind(port) != NEITHER {
        // Without room its name is not read, as if it had none.
        let _ = HELLOS.insert(&FlowKey::of_socket(cookie), HelloEntry::default(), ANY);
    }
}

/// A TCP segment that a client sends; an error if it must not go on. `by_vpn` says which way it goes.
#[inline(always)]
pub fn see(
    skb: Skb,
    slot: Slot,
    packet: &Packet,
    config: &Config,
    origin: impl FnOnce() -> Origin,
    by_vpn: bool,
) -> Result<(), Outcome> {
    let begins = packet.place == Place::First;
    if packet.protocol != TCP || !begins && packet.payload_size == 0 {
        return Ok(());
    }
    // Nearly always it is the first one.
    let kind = match packet.destination_port {
        port if port == config.tls_ports[0] => TLS,
        port => kind(port),
    };
    if kind == NEITHER {
        return Ok(());
    }
    let origin = origin();
    // Of most connections the name was read long ago.
    if !begins && HELLOS.get_ptr(&key(skb, origin, packet)).is_none() {
        return Ok(());
    }
    slot.kept(segment(
        skb.context(),
        slot.0,
        origin,
        u32::from(by_vpn),
        kind,
    ))
}

/// Zero, or what [`Slot::kept`] takes.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn segment(
    skb: *mut __sk_buff,
    slot: u32,
    origin: Origin,
    by_vpn: u32,
    kind: u32,
) -> u32 {
    let slot = Slot(slot);
    slot.keep(see_segment(skb, slot, origin, by_vpn, kind))
}

#[inline(always)]
fn see_segment(
    skb: *mut __sk_buff,
    slot: Slot,
    origin: Origin,
    by_vpn: u32,
    kind: u32,
) -> Result<(), Outcome> {
    let skb = Skb::at_hand(skb, slot)?;
    let packet = &slot.scratch()?.packet;
    let key = &key(skb, origin, packet);
    if packet.place == Place::First {
        begins(skb, key, packet.sequence.wrapping_add(1));
        return Ok(());
    }
    let Some(entry) = HELLOS.get_ptr_mut(key) else {
        return Ok(());
    };
    // SAFETY: an element of a map stays readable and writable until the program ends, and of one connection one segment
    // is sent at a time.
    let entry = unsafe { &mut *entry };
    let from = packet.sequence.wrapping_sub(entry.first);
    match entry.state {
        HelloEntry::STOPPED => {}
        // Far on, or an octet before the first: a probe that asks whether anybody is there.
        HelloEntry::BEGINS | HelloEntry::PIECES if from >= FAR => {
            if from < u32::MAX / 2 {
                return forget(key, Outcome::Nameless);
            }
            return Ok(());
        }
        HelloEntry::BEGINS | HelloEntry::PIECES => {}
        _ => return Ok(()),
    }
    if from == 0 && entry.state == HelloEntry::BEGINS {
        skb.opening(slot)?;
        match read(slot.0, kind) {
            NAME => match judge(skb.context(), slot.0, origin, by_vpn) {
                STOP => {
                    entry.state = HelloEntry::STOPPED;
                    return Err(Outcome::LateStopped);
                }
                REFUSE => {
                    entry.state = HelloEntry::STOPPED;
                    return Err(Outcome::Refused);
                }
                TOO_LATE => return forget(key, Outcome::Late),
                _ => return forget(key, Outcome::Named),
            },
            NONE => return forget(key, Outcome::Nameless),
            _ => {}
        }
    }
    to_user_space(skb, slot, key, entry, by_vpn)
}

#[inline(always)]
fn key(skb: Skb, origin: Origin, packet: &Packet) -> FlowKey {
    if skb.is_of_process() {
        FlowKey::of_socket(origin)
    } else {
        FlowKey::of(origin, packet)
    }
}

#[inline(always)]
fn begins(skb: Skb, key: &FlowKey, first: u32) {
    let entry = HelloEntry {
        state: HelloEntry::BEGINS,
        first,
        ..HelloEntry::default()
    };
    if !skb.is_of_process() {
        let _ = HELLOS.insert(key, entry, ANY);
    } else if let Some(known) = HELLOS.get_ptr_mut(key) {
        // SAFETY: as in `see`.
        unsafe { *known = entry };
    }
}

/// Whether a flow to a port begins with a ClientHello.
#[inline(always)]
pub fn is_tls(port: Port) -> bool {
    kind(port) == TLS
}

#[inline(always)]
fn kind(port: Port) -> u32 {
    kind_of(u32::from(port.number()))
}

/// Which kind of names connections to a port begin with. Global, so that the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn kind_of(number: u32) -> u32 {
    let Ok(config) = config() else {
        return NEITHER;
    };
    let port = Port::new(number as u16);
    if has(&config.tls_ports, port) {
        TLS
    } else if has(&config.http_ports, port) {
        HTTP
    } else {
        NEITHER
    }
}

#[inline(always)]
fn has(ports: &[Port], port: Port) -> bool {
    for &other in ports {
        if other == port {
            return true;
        }
        if other == Port::default() {
            break;
        }
    }
    false
}

/// Reads the opening at hand; a name is taken into the message at hand.
#[inline(always)]
fn read(slot: u32, kind: u32) -> u32 {
    let step = if kind == TLS {
        read_tls(slot)
    } else {
        read_http(slot)
    };
    if step == NAME {
        take_name(slot);
    }
    step
}

const PASS: u32 = 0;
const TOO_LATE: u32 = 1;
const STOP: u32 = 2;
const REFUSE: u32 = 3;

/// Acts on the name that a connection begins with, and says what becomes of the connection.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn judge(skb: *mut __sk_buff, slot: u32, origin: Origin, by_vpn: u32) -> u32 {
    let name = names::hash_name(slot, 1);
    let slot = Slot(slot);
    let (Ok(config), Ok(skb), Ok(scratch)) = (config(), Skb::at_hand(skb, slot), slot.scratch())
    else {
        return PASS;
    };
    let process = u32::from(skb.is_of_process());
    let Scratch {
        message,
        lesson,
        packet,
        ..
    } = scratch;
    let verdict = lesson.matched.verdict;
    let blocked = verdict == Verdict::BLOCK;
    if by_vpn == 0 && !verdict.bars_direct() {
        return PASS;
    }
    lesson.found.address = packet.destination;
    lesson.found.ttl = 0;
    lesson.begin(message, name, origin, source::HELLO);
    if verdict == Verdict::NONE {
        lessons::note_stranger(slot.0);
    } else {
        lessons::learn_address(slot.0);
    }
    if blocked {
        // A rule for networks goes before names. Of a shared address, this flow alone is what the rule is about.
        let by_network = (Maps { config }).network(&packet.destination).verdict;
        if by_network != Verdict::NONE && by_network != Verdict::BLOCK {
            return PASS;
        }
        tell_late(packet, lesson, config.reset, process);
        return if config.reset != 0 { REFUSE } else { TOO_LATE };
    }
    if by_vpn != 0 {
        return PASS;
    }
    // A rule for networks, or the user's choice while the VPN is down, may send the next try where this one goes.
    let vpn = if process == 0 {
        scopes::vpn(slot.0, origin as u32)
    } else {
        processes::vpn_of(skb.context())
    };
    let next = (Maps { config }).address(&packet.destination, Path::vpn(vpn));
    if !next.verdict.is_vpn() {
        return PASS;
    }
    tell_late(packet, lesson, config.reset, process);
    if config.reset != 0 { STOP } else { TOO_LATE }
}

/// Gives user space what the segment carries; an error if that must not go on.
#[inline(always)]
fn to_user_space(
    skb: Skb,
    slot: Slot,
    key: &FlowKey,
    entry: &mut HelloEntry,
    by_vpn: u32,
) -> Result<(), Outcome> {
    if entry.state == HelloEntry::BEGINS {
        entry.state = HelloEntry::PIECES;
        count(Outcome::InPieces);
    }
    let stopped = entry.state == HelloEntry::STOPPED;
    let Scratch { packet, rest, .. } = slot.scratch()?;
    rest.at.set(packet.payload);
    rest.left.set(packet.payload_size);
    let what = What {
        origin: key.origin,
        kind: if stopped {
            piece::STOPPED
        } else {
            piece::HELLO
        },
        first: entry.first,
        by_vpn,
    };
    pieces::copy(skb, slot, what)?;
    if stopped {
        return Err(Outcome::LateStopped);
    }
    Ok(())
}

#[inline(always)]
fn tell_late(packet: &Packet, lesson: &Lesson, stopped: u32, process: u32) {
    let Some(mut entry) = EVENTS.reserve_untyped::<Late>(0) else {
        count(Outcome::EventLost);
        return;
    };
    let told = entry.as_mut_ptr();
    // SAFETY: the entry is exclusive until it is submitted, and each field is written.
    unsafe {
        (*told).kind = event::LATE;
        (*told).stopped = stopped;
        (*told).process = process;
        (*told).zero = 0;
        (*told).flow = FlowKey::of(lesson.by.origin, packet);
        (*told).sequence = packet.sequence;
        (*told).acknowledgment = packet.acknowledgment;
        lessons::put(&raw mut (*told).by, &lesson.by);
    }
    entry.submit(0);
}

/// The name is not awaited any more.
#[inline(always)]
fn forget(key: &FlowKey, why: Outcome) -> Result<(), Outcome> {
    count(why);
    // Gone already is as good.
    let _ = HELLOS.remove(key);
    Ok(())
}

const ON: u32 = 0;
const NAME: u32 = 1;
const NONE: u32 = 2;
const MORE: u32 = 3;

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_tls(slot: u32) -> u32 {
    let Ok(Scratch { opening, hello, .. }) = Slot(slot).scratch() else {
        return NONE;
    };
    let mut step = number(slot, hello.begin(opening));
    for () in turns(tls::STEPS / TURNS) {
        if step != ON {
            return step;
        }
        step = steps_tls(slot);
    }
    if step == ON { MORE } else { step }
}

repeated!(steps_tls, step_tls while ON);

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn step_tls(slot: u32) -> u32 {
    let Ok(Scratch { opening, hello, .. }) = Slot(slot).scratch() else {
        return NONE;
    };
    number(slot, hello.step(opening))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_http(slot: u32) -> u32 {
    let Ok(Scratch { request, .. }) = Slot(slot).scratch() else {
        return NONE;
    };
    request.begin();
    for () in turns(http::STEPS / TURNS) {
        let step = steps_http(slot);
        if step != ON {
            return step;
        }
    }
    MORE
}

repeated!(steps_http, step_http while ON);

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn step_http(slot: u32) -> u32 {
    let Ok(Scratch {
        opening, request, ..
    }) = Slot(slot).scratch()
    else {
        return NONE;
    };
    number(slot, request.step(opening))
}

/// A step as a global function can return it; the name's place is kept aside.
#[inline(always)]
fn number(slot: u32, step: Step) -> u32 {
    match step {
        Step::On => ON,
        Step::Name(Name { at, size }) => {
            if let Ok(scratch) = Slot(slot).scratch() {
                scratch.rest.at.set(at);
                scratch.rest.left.set(size);
            }
            NAME
        }
        Step::NoName | Step::Foreign => NONE,
        Step::More | Step::Records => MORE,
    }
}

/// Takes the name that was found into the message at hand.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn take_name(slot: u32) -> u32 {
    let Ok(scratch) = Slot(slot).scratch() else {
        return NONE;
    };
    scratch.message.begin_text();
    for () in turns(TEXT / TURNS) {
        if take_octets(slot) != ON {
            break;
        }
    }
    NAME
}

repeated!(take_octets, take_octet while ON);

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn take_octet(slot: u32) -> u32 {
    let Ok(Scratch {
        message,
        opening,
        rest,
        ..
    }) = Slot(slot).scratch()
    else {
        return NONE;
    };
    let (at, left) = (rest.at.get(), rest.left.get());
    if left == 0 {
        message.take_octet(0);
        return NAME;
    }
    message.take_octet(opening.octet(at));
    rest.at.set(at + 1);
    rest.left.set(left - 1);
    ON
}
