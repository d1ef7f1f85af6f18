//! Addresses learned by a name, with what tells later where their verdict comes from.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use steer_common::{
    decide,
    dns::{self, Message},
    stats::Outcome,
    types::{Learned, NameEntry, NameKey, Origin, event},
};

use crate::{
    maps::{ADDRS, EVENTS, Lesson, NAMES, Scratch, Slot, config, count},
    tables::ANY,
};

impl Lesson {
    /// Begins a lesson about the name in a message, which was hashed and matched.
    #[inline(always)]
    pub fn begin(&mut self, message: &Message, name: u64, origin: Origin, source: u32) {
        self.name = name;
        // SAFETY: the helper has no arguments.
        self.by.learned = unsafe { bpf_ktime_get_ns() };
        self.by.rule = self.matched.rule;
        self.by.origin = origin;
        self.by.verdict = self.matched.verdict;
        self.by.source = source;
        self.by.size = message.name_size();
        self.by.name = *message.name();
    }
}

/// There was no room for the address.
pub const FULL: u32 = 1;
/// The address is learned, or one that is never steered.
pub const LEARNED: u32 = 3;

/// Puts the address of the lesson at hand into `ADDRS`, in place where it is there: that costs 140 ns less. Global, so
/// that the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn learn_address(slot: u32) -> u32 {
    let (Ok(config), Ok(Scratch { lesson, .. })) = (config(), Slot(slot).scratch()) else {
        return FULL;
    };
    let address = lesson.found.address;
    if !address.is_steerable() {
        return LEARNED;
    }
    let matched = lesson.matched;
    let now = lesson.by.learned;
    let until = decide::until(lesson.found.ttl, config, now);
    lesson.by.ttl = lesson.found.ttl;
    lesson.by.until = until;
    let mut contested_by = 0;
    let mut moved = false;
    let news = if let Some(entry) = ADDRS.get_ptr_mut(&address) {
        // SAFETY: an element of a map stays readable and writable until the program ends. User space removes only what
        // expired long ago, and looks again right before.
        let entry = unsafe { &mut *entry };
        contested_by = entry.contested_by(matched.verdict, now);
        moved = entry.is_of_another(matched.verdict, now);
        entry.learn(&matched, until, now)
    } else {
        lesson.fresh.begin(&matched, until);
        if ADDRS.insert(&address, &lesson.fresh, ANY).is_err() {
            return if matched.verdict.bars_direct() {
                FULL
            } else {
                LEARNED
            };
        }
        true
    };
    // Two names for different VPNs may take it from each other for ever: each tells so once.
    let by_new = record(lesson);
    if news || moved && by_new {
        if contested_by != 0 {
            count(Outcome::Contested);
        }
        tell(lesson, contested_by);
    }
    LEARNED
}

/// Notes that a flow of a name that no rule speaks of takes the VPN, because the address has it by another name. Told
/// once for each such name.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn note_stranger(slot: u32) -> u32 {
    let (Ok(config), Ok(Scratch { lesson, .. })) = (config(), Slot(slot).scratch()) else {
        return FULL;
    };
    let now = lesson.by.learned;
    lesson.by.ttl = 0;
    lesson.by.until = decide::until(0, config, now);
    let Some(entry) = ADDRS.get_ptr(&lesson.found.address) else {
        return LEARNED;
    };
    // SAFETY: an element of a map stays readable until the program ends.
    let holds = unsafe { (*entry).at(now) };
    if holds.verdict.is_vpn() && record(lesson) {
        count(Outcome::Contested);
        tell(lesson, holds.rule);
    }
    LEARNED
}

/// Writes down by which name an address was learned; whether that name is new.
#[inline(always)]
fn record(lesson: &Lesson) -> bool {
    let key = NameKey {
        address: lesson.found.address,
        name: lesson.name,
    };
    let by = &lesson.by;
    let Some(entry) = NAMES.get_ptr_mut(&key) else {
        let recorded = NAMES.insert(&key, by, ANY).is_ok();
        if !recorded {
            count(Outcome::NamesFull);
        }
        return recorded;
    };
    // SAFETY: an element of a map stays readable and writable until the program ends; user space removes only what
    // expired long ago.
    unsafe {
        let until = by.until.max((*entry).until);
        put_facts(entry, by);
        (*entry).until = until;
    }
    false
}

/// Writes part by part, for as a whole the compiler would move it octet by octet.
///
/// # Safety
/// `to` is valid for writes, and not within `by`.
#[inline(always)]
pub unsafe fn put(to: *mut NameEntry, by: &NameEntry) {
    const HALF: usize = size_of::<dns::Name>() / 2;
    // SAFETY: the caller's promise; the halves lie within the name.
    unsafe {
        put_facts(to, by);
        (*to).size = by.size;
        let to = (&raw mut (*to).name).cast::<[u64; HALF / 8]>();
        let from = (&raw const by.name).cast::<[u64; HALF / 8]>();
        to.copy_from_nonoverlapping(from, 1);
        to.add(1).copy_from_nonoverlapping(from.add(1), 1);
    }
}

/// Writes all but the name.
///
/// # Safety
/// `to` is valid for writes.
#[inline(always)]
unsafe fn put_facts(to: *mut NameEntry, by: &NameEntry) {
    // SAFETY: the caller's promise.
    unsafe {
        (*to).until = by.until;
        (*to).learned = by.learned;
        (*to).rule = by.rule;
        (*to).origin = by.origin;
        (*to).verdict = by.verdict;
        (*to).source = by.source;
        (*to).ttl = by.ttl;
    }
}

#[inline(always)]
fn tell(lesson: &Lesson, contested_by: u64) {
    let Some(mut entry) = EVENTS.reserve_untyped::<Learned>(0) else {
        count(Outcome::EventLost);
        return;
    };
    // Field by field: as a whole it would first stand on the stack, which has no room for it.
    let event = entry.as_mut_ptr();
    // SAFETY: the entry is exclusive until it is submitted, and each field is written.
    unsafe {
        (*event).kind = event::LEARNED;
        (*event).zero = 0;
        (*event).contested_by = contested_by;
        // Assigned, the compiler would call for it to be moved, which takes a frame of the stack.
        (&raw mut (*event).address).copy_from_nonoverlapping(&raw const lesson.found.address, 1);
        put(&raw mut (*event).by, &lesson.by);
    }
    entry.submit(0);
}
