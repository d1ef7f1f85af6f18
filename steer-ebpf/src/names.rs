//! DNS questions remembered, and their answers learned before the client sees them.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use steer_common::{
    decide::Match,
    dns::{self, Hashed, Message, Role, Step},
    packet::{Packet, UDP},
    stats::Outcome,
    types::{
        AddrEntry, Address, Config, Learned, Origin, Port, QueryEntry, QueryKey, Verdict, event,
    },
};

use crate::{
    maps::{ADDRS, EVENTS, Lesson, QUERIES, RULES, Scratch, Slot, config, count},
    skb::Skb,
    tables::ANY,
};

/// Whether a packet may carry a DNS question.
#[inline(always)]
pub fn may_ask(packet: &Packet) -> bool {
    packet.protocol == UDP && packet.destination_port.number() == dns::PORT
}

/// Whether a packet may carry a DNS answer.
#[inline(always)]
pub fn may_answer(packet: &Packet) -> bool {
    packet.protocol == UDP && packet.source_port.number() == dns::PORT
}

/// Remembers the question in a packet, so that its answer is believed.
#[inline(always)]
pub fn ask(skb: Skb, slot: Slot, origin: Origin) -> Result<Outcome, Outcome> {
    let Scratch {
        message, packet, ..
    } = slot.scratch()?;
    skb.message(packet, message)?;
    if message.role() != Role::Question || read_question(slot.0) != DONE {
        return Err(Outcome::BadMessage);
    }
    let ends = (packet.source, packet.source_port, packet.destination);
    let key = query(skb, origin, ends, message.id());
    let entry = QueryEntry {
        name: hash_question(slot.0, 0),
        asked: config()?.tick,
        zero: 0,
    };
    QUERIES
        .insert(&key, entry, ANY)
        .map_err(|_| Outcome::Busy)?;
    Ok(Outcome::Asked)
}

/// Learns the addresses of the answer in a packet.
#[inline(always)]
pub fn learn(skb: Skb, slot: Slot, origin: Origin) -> Result<Outcome, Outcome> {
    let Scratch {
        message, packet, ..
    } = slot.scratch()?;
    skb.message(packet, message)?;
    if message.role() != Role::Answer {
        return Err(Outcome::BadMessage);
    }
    let ends = (packet.destination, packet.destination_port, packet.source);
    let key = query(skb, origin, ends, message.id());
    let query = QUERIES.get_ptr(&key).ok_or(Outcome::Unasked)?;
    // SAFETY: an element of a map stays readable until the program ends.
    let query = unsafe { *query };
    if !query.is_awaited(config()?.tick) {
        return Err(Outcome::Unasked);
    }
    if read_question(slot.0) != DONE {
        return Err(Outcome::BadMessage);
    }
    if hash_question(slot.0, 1) != query.name {
        return Err(Outcome::OtherName);
    }
    // One question teaches once; the entry may have made room for another already.
    let _ = QUERIES.remove(&key);
    let lesson = &mut slot.scratch()?.lesson;
    if lesson.matched.verdict == Verdict::NONE {
        return Ok(Outcome::NoRule);
    }
    lesson.origin = origin;
    // SAFETY: the helper has no arguments.
    lesson.now = unsafe { bpf_ktime_get_ns() };
    let for_vpn = lesson.matched.verdict == Verdict::VPN;
    match learn_addresses(slot.0) {
        DONE => Ok(Outcome::Learned),
        FULL => Err(Outcome::AddrsFull),
        _ if for_vpn => Err(Outcome::HeldBack),
        _ => Ok(Outcome::CutShort),
    }
}

/// What a question and its answer have in common: client, its port and server tell those on a bridge apart.
///
/// A process's are told by its socket alone. Its question is seen behind the host's address translation
/// (`ip_finish_output` comes after POSTROUTING) and the answer behind its undoing, so the two need not agree on an
/// end: a masquerade gives a question another port as soon as a container uses the same one.
#[inline(always)]
fn query(skb: Skb, origin: Origin, ends: (Address, Port, Address), id: u16) -> QueryKey {
    let key = QueryKey {
        origin,
        id,
        ..QueryKey::default()
    };
    if skb.is_of_process() {
        return key;
    }
    let (client, client_port, server) = ends;
    QueryKey {
        client,
        client_port,
        server,
        ..key
    }
}

// The loops are in global functions, which the verifier checks once each and not once for every path that leads to
// them. Before 5.12 such a function takes and returns numbers only.
const DONE: u32 = 0;
const FULL: u32 = 1;
const BAD: u32 = 2;
const MORE: u32 = 3;

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_question(slot: u32) -> u32 {
    match Slot(slot).scratch() {
        Ok(scratch) => scratch.message.begin(),
        Err(_) => return BAD,
    }
    for _ in 0..dns::LABELS {
        let status = read_label(slot);
        if status != MORE {
            return status;
        }
    }
    BAD
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_label(slot: u32) -> u32 {
    match Slot(slot).scratch().map(|s| s.message.read_label()) {
        Ok(Ok(true)) => DONE,
        Ok(Ok(false)) => MORE,
        _ => BAD,
    }
}

/// Hashes the name that was read, and if `matching` looks each suffix up in `RULES`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn hash_question(slot: u32, matching: u32) -> u64 {
    let Ok((config, message, lesson)) = at_hand(slot) else {
        return 0;
    };
    lesson.matched = Match::default();
    if message.begin_hash(&config.key) {
        for _ in 0..dns::LABELS {
            if hash_word(slot, matching) == DONE {
                break;
            }
        }
    }
    Slot(slot).scratch().map_or(0, |s| s.message.hash())
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn hash_word(slot: u32, matching: u32) -> u32 {
    let Ok((_, message, lesson)) = at_hand(slot) else {
        return DONE;
    };
    let hashed = message.hash_word();
    if hashed == Hashed::Word {
        return MORE;
    }
    let whole = hashed == Hashed::Name;
    let suffix = message.hash();
    if matching != 0
        && let Some(entry) = RULES.get_ptr(&suffix)
    {
        // SAFETY: an element of a map stays readable until the program ends; user space replaces elements and does not
        // write into them.
        lesson.matched.suffix(suffix, whole, unsafe { &*entry });
    }
    if whole { DONE } else { MORE }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn learn_addresses(slot: u32) -> u32 {
    for _ in 0..dns::STEPS {
        let status = learn_step(slot);
        if status != MORE {
            return status;
        }
    }
    BAD
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn learn_step(slot: u32) -> u32 {
    let Ok((_, message, lesson)) = at_hand(slot) else {
        return BAD;
    };
    match message.step(&mut lesson.found) {
        Ok(Step::On) => MORE,
        Ok(Step::End) => DONE,
        Ok(Step::Address) => learn_address(slot),
        Err(_) => BAD,
    }
}

/// Puts the address of the lesson at hand into `ADDRS`, in place where it is there: that costs 140 ns less.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn learn_address(slot: u32) -> u32 {
    let Ok((config, message, lesson)) = at_hand(slot) else {
        return BAD;
    };
    let Lesson {
        matched,
        now,
        found,
        ..
    } = *lesson;
    if !found.address.is_steerable() {
        return MORE;
    }
    let news = if let Some(entry) = ADDRS.get_ptr_mut(&found.address) {
        // SAFETY: an element of a map stays readable and writable until the program ends. User space removes only what
        // expired long ago, and looks again right before.
        unsafe { &mut *entry }.learn(&matched, found.ttl, config, now)
    } else {
        let mut entry = AddrEntry::default();
        entry.learn(&matched, found.ttl, config, now);
        if ADDRS.insert(&found.address, entry, ANY).is_err() {
            return if matched.verdict == Verdict::VPN {
                FULL
            } else {
                MORE
            };
        }
        true
    };
    if news {
        tell(message, lesson);
    }
    MORE
}

/// What a global function works with.
#[inline(always)]
fn at_hand(
    slot: u32,
) -> Result<(&'static Config, &'static mut Message, &'static mut Lesson), Outcome> {
    let Scratch {
        message, lesson, ..
    } = Slot(slot).scratch()?;
    Ok((config()?, message, lesson))
}

#[inline(always)]
fn tell(message: &Message, lesson: &Lesson) {
    let Some(mut entry) = EVENTS.reserve_untyped::<Learned>(0) else {
        count(Outcome::EventLost);
        return;
    };
    // Field by field: as a whole it would first stand on the stack, which has no room for it.
    let event = entry.as_mut_ptr();
    // SAFETY: the entry is exclusive until it is submitted, and each field is written.
    unsafe {
        (*event).kind = event::LEARNED;
        (*event).verdict = lesson.matched.verdict;
        (*event).origin = lesson.origin;
        (*event).rule = lesson.matched.rule;
        (*event).address = lesson.found.address;
        (*event).ttl = lesson.found.ttl;
        (*event).name_size = message.name_size();
        (*event).name = *message.name();
    }
    entry.submit(0);
}
