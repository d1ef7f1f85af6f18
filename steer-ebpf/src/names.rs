//! DNS questions remembered, and their answers learned before the client sees them.

use aya_ebpf::bindings::__sk_buff;
use steer_common::{
    decide::Match,
    dns::{self, Hashed, Message, Role, Step},
    packet::{Packet, TCP, UDP},
    stats::{Action, Outcome},
    types::{
        Address, Config, FlowKey, HelloEntry, Origin, Port, QueryEntry, QueryKey, Verdict, piece,
        relay::NAMES, source,
    },
};

use crate::{
    lessons::{self, FULL},
    maps::{HELLOS, Lesson, QUERIES, RULESETS, Scratch, Slot, config, count},
    pieces::{self, What},
    relay, scopes,
    skb::Skb,
    tables::ANY,
    turns::{TURNS, repeated, turns},
};

/// Messages of a TCP segment that are read.
const MESSAGES: u32 = 4;

/// Who sends a message, as a global function can be given it.
pub type Side = u32;
const CLIENT: Side = 0;
pub const SERVER: Side = 1;
/// A client of Docker's own resolver.
pub const AT_EMBEDDED: Side = 2;

/// Remembers the DNS questions in a packet, so that their answers are believed; only one that must not pass is an error.
#[inline(always)]
pub fn questions(
    skb: Skb,
    slot: Slot,
    packet: &Packet,
    origin: impl FnOnce() -> Origin,
) -> Result<(), Outcome> {
    if packet.destination_port.number() == dns::PORT {
        read_messages(skb, slot, packet, origin(), CLIENT)?;
    }
    Ok(())
}

/// Learns the addresses of the DNS answers in a packet, as [`questions`] does; whether there could be any.
#[inline(always)]
pub fn answers(
    skb: Skb,
    slot: Slot,
    packet: &Packet,
    origin: impl FnOnce() -> Origin,
) -> Result<bool, Outcome> {
    if packet.source_port.number() != dns::PORT {
        return Ok(false);
    }
    read_messages(skb, slot, packet, origin(), SERVER)?;
    Ok(true)
}

/// Octets of a message's length over TCP (RFC 1035 section 4.2.2).
const LENGTH: u32 = 2;

/// A datagram is a message; each message of a TCP segment has its length in front.
#[inline(always)]
pub fn read_messages(
    skb: Skb,
    slot: Slot,
    packet: &Packet,
    origin: Origin,
    side: Side,
) -> Result<(), Outcome> {
    let (at, size) = (packet.payload, packet.payload_size);
    match packet.protocol {
        _ if size == 0 => Ok(()),
        UDP => read_message(skb, slot, origin, side, at, size),
        TCP => read_segment(skb, slot, origin, side),
        _ => Ok(()),
    }
}

#[inline(always)]
fn read_segment(skb: Skb, slot: Slot, origin: Origin, side: Side) -> Result<(), Outcome> {
    let Scratch { packet, rest, .. } = slot.scratch()?;
    rest.at.set(packet.payload);
    rest.left.set(packet.payload_size);
    let mut without_length = 0;
    if side != AT_EMBEDDED {
        without_length = rest_of_message(skb.context(), slot.0, origin, side);
    }
    for () in turns(MESSAGES) {
        let rest = &mut slot.scratch()?.rest;
        let (mut at, mut left) = (rest.at.get(), rest.left.get());
        let size = if without_length != 0 {
            without_length
        } else if left >= LENGTH {
            let size = skb.short(at).ok_or(Outcome::BadPacket)?;
            if LENGTH + size > left && side == AT_EMBEDDED {
                return Err(Outcome::Isolated);
            }
            if LENGTH + size > left {
                let begins = message_begins(skb.context(), slot.0, origin, side, LENGTH + size);
                return slot.kept(begins);
            }
            at += LENGTH;
            left -= LENGTH;
            size
        } else {
            break;
        };
        without_length = 0;
        rest.at.set(at + size);
        rest.left.set(left.wrapping_sub(size));
        read_message(skb, slot, origin, side, at, size)?;
    }
    Ok(())
}

/// A segment may begin within a message. The size of what is left of it, if only its length came before; else user space
/// is given it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn rest_of_message(skb: *mut __sk_buff, slot: u32, origin: Origin, side: Side) -> u32 {
    let slot = Slot(slot);
    Skb::at_hand(skb, slot)
        .and_then(|skb| read_rest(skb, slot, origin, side))
        .unwrap_or(0)
}

#[inline(always)]
fn read_rest(skb: Skb, slot: Slot, origin: Origin, side: Side) -> Result<u32, Outcome> {
    let Scratch { packet, rest, .. } = slot.scratch()?;
    let key = &FlowKey::of(origin, packet);
    let Some(entry) = HELLOS.get_ptr(key) else {
        return Ok(0);
    };
    // SAFETY: an element of a map stays readable until the program ends.
    let HelloEntry { first, size, .. } = unsafe { *entry };
    let (at, left) = (rest.at.get(), rest.left.get());
    let from = packet.sequence.wrapping_sub(first);
    // The same segment again, or one of another message.
    if from == 0 || from >= size {
        return Ok(0);
    }
    let missing = size - from;
    if missing <= left {
        // Gone already is as good.
        let _ = HELLOS.remove(key);
        if from == LENGTH {
            return Ok(missing);
        }
        rest.left.set(missing);
    }
    to_user_space(skb, slot, side, origin, first)?;
    let rest = &mut slot.scratch()?.rest;
    rest.at.set(at + missing);
    rest.left.set(left.saturating_sub(missing));
    Ok(0)
}

/// A message begins that goes on beyond the segment; with its length it has `size` octets. Zero, or what [`Slot::kept`]
/// takes.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn message_begins(
    skb: *mut __sk_buff,
    slot: u32,
    origin: Origin,
    side: Side,
    size: u32,
) -> u32 {
    let slot = Slot(slot);
    let skb = Skb::at_hand(skb, slot);
    slot.keep(skb.and_then(|skb| await_rest(skb, slot, origin, side, size)))
}

#[inline(always)]
fn await_rest(skb: Skb, slot: Slot, origin: Origin, side: Side, size: u32) -> Result<(), Outcome> {
    let Scratch { packet, rest, .. } = slot.scratch()?;
    let first = packet
        .sequence
        .wrapping_add(rest.at.get().wrapping_sub(packet.payload));
    let entry = HelloEntry {
        state: HelloEntry::PIECES,
        first,
        size,
        zero: 0,
    };
    let key = FlowKey::of(origin, packet);
    HELLOS.insert(&key, entry, ANY).map_err(|_| Outcome::Busy)?;
    count(Outcome::InPieces);
    to_user_space(skb, slot, side, origin, first)
}

#[inline(always)]
fn to_user_space(
    skb: Skb,
    slot: Slot,
    side: Side,
    origin: Origin,
    first: u32,
) -> Result<(), Outcome> {
    let rest = &mut slot.scratch()?.rest;
    if side == SERVER {
        let what = What {
            origin,
            kind: piece::STREAM,
            first,
            by_vpn: 0,
        };
        pieces::copy(skb, slot, what)?;
    }
    rest.left.set(0);
    Ok(())
}

#[inline(always)]
fn read_message(
    skb: Skb,
    slot: Slot,
    origin: Origin,
    side: Side,
    at: u32,
    size: u32,
) -> Result<(), Outcome> {
    let place = &mut slot.scratch()?.place;
    place.at.set(at);
    place.left.set(size);
    slot.kept(message(skb.context(), slot.0, origin, side))
}

/// Reads the message at hand. Zero, or what [`Slot::kept`] takes.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn message(skb: *mut __sk_buff, slot: u32, origin: Origin, side: Side) -> u32 {
    let slot = Slot(slot);
    slot.keep(Skb::at_hand(skb, slot).and_then(|skb| count_message(skb, slot, origin, side)))
}

/// Counts what became of a message.
#[inline(always)]
fn count_message(skb: Skb, slot: Slot, origin: Origin, side: Side) -> Result<(), Outcome> {
    let Scratch { message, place, .. } = slot.scratch()?;
    let outcome = match skb.message(message, place.at.get(), place.left.get()) {
        Err(outcome) => outcome,
        Ok(()) if side != SERVER => either(ask(skb, slot, origin, side)),
        Ok(()) => either(learn(skb, slot, origin)),
    };
    if side == AT_EMBEDDED {
        return match outcome {
            Outcome::Asked => Ok(()),
            _ => Err(Outcome::Isolated),
        };
    }
    match outcome.action() {
        Action::Drop => Err(outcome),
        Action::Pass | Action::Steer => {
            count(outcome);
            Ok(())
        }
    }
}

#[inline(always)]
fn either(result: Result<Outcome, Outcome>) -> Outcome {
    match result {
        Ok(outcome) | Err(outcome) => outcome,
    }
}

#[inline(always)]
fn ask(skb: Skb, slot: Slot, origin: Origin, side: Side) -> Result<Outcome, Outcome> {
    let Scratch {
        message, packet, ..
    } = slot.scratch()?;
    if message.role() != Role::Question || read_question(slot.0) != DONE {
        return Err(Outcome::BadMessage);
    }
    let matching = config()?.relay & NAMES;
    let name = hash_name(slot.0, matching);
    if side == AT_EMBEDDED {
        return relay::asked(slot, name);
    }
    let ends = (packet.source, packet.source_port, packet.destination);
    let mut key = query(skb, origin, ends, message.id());
    if scopes::leads(skb, slot, side) {
        key.server = Address::default();
    }
    let entry = QueryEntry {
        name,
        asked: config()?.tick,
        zero: 0,
    };
    QUERIES
        .insert(&key, entry, ANY)
        .map_err(|_| Outcome::Busy)?;
    relay::leaves(skb, slot, origin, &entry)?;
    Ok(Outcome::Asked)
}

#[inline(always)]
fn learn(skb: Skb, slot: Slot, origin: Origin) -> Result<Outcome, Outcome> {
    let Scratch {
        message, packet, ..
    } = slot.scratch()?;
    if message.role() != Role::Answer {
        return Err(Outcome::BadMessage);
    }
    let ends = (packet.destination, packet.destination_port, packet.source);
    let mut key = query(skb, origin, ends, message.id());
    if scopes::leads(skb, slot, SERVER) {
        key.server = Address::default();
    }
    let query = QUERIES.get_ptr(&key).ok_or(Outcome::Unasked)?;
    // SAFETY: an element of a map stays readable until the program ends.
    let query = unsafe { *query };
    if !query.is_awaited(config()?.tick) {
        return Err(Outcome::Unasked);
    }
    if read_question(slot.0) != DONE {
        return Err(Outcome::BadMessage);
    }
    if hash_name(slot.0, 1) != query.name {
        return Err(Outcome::OtherName);
    }
    let outcome = learn_asked(slot, origin, query.name)?;
    if outcome == Outcome::NoRule && config()?.patterns != 0 {
        to_patterns(skb, slot, origin)?;
    }
    // One question teaches once; the entry may have made room for another already.
    let _ = QUERIES.remove(&key);
    Ok(outcome)
}

/// What must not pass is an error: its question stays, so that it does not pass either when it is sent again.
#[inline(always)]
fn learn_asked(slot: Slot, origin: Origin, name: u64) -> Result<Outcome, Outcome> {
    let read = if slot.scratch()?.lesson.matched.verdict == Verdict::NONE {
        find_alias(slot.0)
    } else {
        DONE
    };
    let Scratch {
        message, lesson, ..
    } = slot.scratch()?;
    let verdict = lesson.matched.verdict;
    if verdict == Verdict::NONE {
        return if read == DONE {
            Ok(Outcome::NoRule)
        } else {
            Err(Outcome::BadMessage)
        };
    }
    lesson.begin(message, name, origin, source::ANSWER);
    match learn_addresses(slot.0) {
        DONE => Ok(Outcome::Learned),
        FULL => Err(Outcome::AddrsFull),
        _ if verdict.bars_direct() => Err(Outcome::HeldBack),
        _ => Ok(Outcome::CutShort),
    }
}

/// Gives user space the message at hand, which may have rules that the kernel cannot read.
#[inline(always)]
fn to_patterns(skb: Skb, slot: Slot, origin: Origin) -> Result<(), Outcome> {
    let Scratch { rest, place, .. } = slot.scratch()?;
    let (at, left) = (rest.at.get(), rest.left.get());
    rest.at.set(place.at.get());
    rest.left.set(place.left.get());
    let what = What {
        origin,
        kind: piece::ANSWER,
        first: 0,
        by_vpn: 0,
    };
    pieces::copy(skb, slot, what)?;
    let rest = &mut slot.scratch()?.rest;
    rest.at.set(at);
    rest.left.set(left);
    Ok(())
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
// them. Before 5.12 such a function takes the packet and numbers, and returns numbers only.
const DONE: u32 = 0;
const BAD: u32 = 2;
const MORE: u32 = lessons::LEARNED;

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_question(slot: u32) -> u32 {
    match Slot(slot).scratch() {
        Ok(scratch) => scratch.message.begin_question(),
        Err(_) => return BAD,
    }
    if read_name(slot) != DONE {
        return BAD;
    }
    match Slot(slot).scratch().map(|s| s.message.end_question()) {
        Ok(Ok(())) => DONE,
        _ => BAD,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_name(slot: u32) -> u32 {
    for () in turns(dns::NAME_STEPS / TURNS) {
        let status = read_labels(slot);
        if status != MORE {
            return status;
        }
    }
    BAD
}

repeated!(read_labels, read_label while MORE);

#[inline(always)]
fn read_label(slot: u32) -> u32 {
    match Slot(slot).scratch().map(|s| s.message.read_label()) {
        Ok(Ok(true)) => DONE,
        Ok(Ok(false)) => MORE,
        _ => BAD,
    }
}

/// Hashes the name that was read, and if `matching` looks each suffix up in the rules.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn hash_name(slot: u32, matching: u32) -> u64 {
    let Ok((config, message, lesson)) = at_hand(slot) else {
        return 0;
    };
    lesson.matched = Match::default();
    if message.begin_hash(&config.key) {
        lesson.matching.set(matching);
        for () in turns(dns::LABELS / TURNS) {
            if hash_words(slot) == DONE {
                break;
            }
        }
    }
    Slot(slot).scratch().map_or(0, |s| s.message.hash())
}

repeated!(hash_words, hash_word while MORE);

#[inline(always)]
fn hash_word(slot: u32) -> u32 {
    let Ok((_, message, lesson)) = at_hand(slot) else {
        return DONE;
    };
    let hashed = message.hash_word();
    if hashed == Hashed::Word {
        return MORE;
    }
    let whole = hashed == Hashed::Name;
    let suffix = message.hash();
    if lesson.matching.get() != 0
        && let Some(rules) = RULESETS.get(0)
        && let Some(entry) = rules.get_ptr(&suffix)
    {
        // SAFETY: an element of a map stays readable until the program ends; user space replaces elements and does not
        // write into them.
        lesson.matched.suffix(suffix, whole, unsafe { &*entry });
    }
    if whole { DONE } else { MORE }
}

/// Goes through the names that the question's name leads to, up to the first that a rule speaks of.
#[inline(always)]
fn find_alias(slot: u32) -> u32 {
    match Slot(slot).scratch() {
        Ok(scratch) => scratch.message.begin_answers(),
        Err(_) => return BAD,
    }
    for () in turns(dns::STEPS / TURNS) {
        let status = alias_steps(slot);
        if status != MORE {
            return status;
        }
    }
    BAD
}

repeated!(alias_steps, alias_step while MORE);

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn alias_step(slot: u32) -> u32 {
    let Ok((_, message, lesson)) = at_hand(slot) else {
        return BAD;
    };
    match message.step(&mut lesson.found) {
        Ok(Step::On | Step::Address) => MORE,
        Ok(Step::End) => DONE,
        Ok(Step::Alias) => match_alias(slot),
        Err(_) => BAD,
    }
}

#[inline(always)]
fn match_alias(slot: u32) -> u32 {
    match Slot(slot).scratch() {
        Ok(scratch) => scratch.message.begin_alias(),
        Err(_) => return BAD,
    }
    if read_name(slot) != DONE {
        return BAD;
    }
    hash_name(slot, 1);
    match Slot(slot).scratch() {
        Ok(scratch) if scratch.lesson.matched.verdict == Verdict::NONE => MORE,
        Ok(_) => DONE,
        Err(_) => BAD,
    }
}

#[inline(always)]
fn learn_addresses(slot: u32) -> u32 {
    match Slot(slot).scratch() {
        Ok(scratch) => scratch.message.begin_answers(),
        Err(_) => return BAD,
    }
    for () in turns(dns::STEPS / TURNS) {
        let status = learn_steps(slot);
        if status != MORE {
            return status;
        }
    }
    BAD
}

repeated!(learn_steps, learn_step while MORE);

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn learn_step(slot: u32) -> u32 {
    let Ok((_, message, lesson)) = at_hand(slot) else {
        return BAD;
    };
    match message.step(&mut lesson.found) {
        Ok(Step::On | Step::Alias) => MORE,
        Ok(Step::End) => DONE,
        Ok(Step::Address) => lessons::learn_address(slot),
        Err(_) => BAD,
    }
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
